//! Settings of tenancy. `server` reads the files; here they are checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::NameError;
use crate::asked::CertificateName;
use crate::overrides::{LimitsConfig, LimitsError};
use crate::principal::{GrantConfig, GrantError, Principal};

/// Most tokens. Every request compares with all of them, 30 ns each.
const TOKENS_MAX: usize = 10_000;

/// Who may come in, and what tenants may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How clients prove who they are.
    pub mode: AuthenticationMode,
    /// The tenant of requests that name none, in mode `none`.
    pub default_tenant: String,
    /// Whether, in mode `none`, writes that name no tenant are routed by cluster and namespace rather
    /// than going to the default tenant. In mode `token` each token says so for itself.
    pub route_unnamed: bool,
    /// Tenants that may come into being because somebody writes under a new name. Bounds what
    /// a client that makes up names can use; tenants named in grants are not counted against it.
    pub tenants_max: usize,
    /// What tenants may use.
    pub limits: LimitsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: AuthenticationMode::None,
            default_tenant: "default".to_owned(),
            route_unnamed: false,
            tenants_max: 100_000,
            limits: LimitsConfig::default(),
        }
    }
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticationMode {
    /// Not at all: everybody who reaches the port may do everything, for any tenant.
    None,
    /// By a token from the token file.
    Token,
}

/// The content of the token file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenFile {
    /// The tokens.
    pub tokens: Vec<TokenConfig>,
    /// Client certificates, for those that show no token.
    pub certificates: Vec<CertificateConfig>,
}

/// One token. The file holds its hash, so that reading the file gives nobody access. Plain
/// SHA-256 is right here, and a slow password hash is not needed: tokens are random numbers of at
/// least 128 bits (`openssl rand -hex 32`), which nobody finds by trying.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Who holds it, for messages and audit records.
    pub name: String,
    /// Whether its writes that name no tenant are routed by cluster and namespace: a collector that is
    /// trusted to write for all.
    #[serde(default)]
    pub routed: bool,
    /// SHA-256 of the token, 64 hexadecimal digits (`printf %s TOKEN | sha256sum`).
    pub sha256: String,
    /// What it allows.
    pub grants: Vec<GrantConfig>,
}

/// Whoever shows a client certificate with this name. The certificate's signatures are checked by
/// the listener; here is only said what its holder may do. Exactly one of the names is given; of a
/// certificate that has several, URIs count first, then DNS names, addresses, the common name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// Who holds it, for messages and audit records.
    pub name: String,
    /// As for tokens.
    #[serde(default)]
    pub routed: bool,
    /// A URI among its alternative names, such as a SPIFFE identity.
    pub uri: Option<String>,
    /// A DNS name among its alternative names, written out.
    pub dns: Option<String>,
    /// A mail address among its alternative names.
    pub email: Option<String>,
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// What it allows.
    pub grants: Vec<GrantConfig>,
}

/// A setting that is wrong.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum ConfigError {
    #[error("default_tenant")]
    DefaultTenant(#[source] NameError),
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error("there are {0} tokens, at most {TOKENS_MAX} are taken")]
    TooManyTokens(usize),
    #[error("token number {0} has no name")]
    NoName(usize),
    #[error("two tokens or certificates have the name {0:?}")]
    NameTwice(String),
    #[error("token {0:?}: sha256 must be 64 hexadecimal digits")]
    Hash(String),
    #[error("tokens {0:?} and {1:?} are the same")]
    HashTwice(String, String),
    #[error("token {0:?}: sha256 is that of an empty text")]
    EmptyToken(String),
    #[error("token {name:?}")]
    Grant { name: String, source: GrantError },
    #[error("mode is \"token\", but there are no tokens and no certificates: nobody could come in")]
    NoTokens,
    #[error(
        "{0:?} is routed, so its rows may go to any tenant: grant it access \"write\" to tenant \"*\""
    )]
    Routed(String),
    #[error("certificate number {0} has no name")]
    NamelessCertificate(usize),
    #[error(
        "certificate {0:?}: give exactly one of uri, dns, email and common_name, and not as an empty text"
    )]
    CertificateNames(String),
    #[error("certificates {0:?} and {1:?} are the same")]
    CertificateTwice(String, String),
    #[error("certificate {name:?}")]
    CertificateGrant { name: String, source: GrantError },
}

/// Hashes with the principals they stand for.
pub(crate) fn check_tokens(file: &TokenFile) -> Result<Vec<([u8; 32], Principal)>, ConfigError> {
    let tokens = &file.tokens;
    if tokens.is_empty() && file.certificates.is_empty() {
        return Err(ConfigError::NoTokens);
    }
    if tokens.len() > TOKENS_MAX {
        return Err(ConfigError::TooManyTokens(tokens.len()));
    }
    let (mut names, mut hashes) = (BTreeMap::new(), BTreeMap::new());
    let mut checked = Vec::with_capacity(tokens.len());
    for (i, token) in tokens.iter().enumerate() {
        let name = || token.name.clone();
        if token.name.trim().is_empty() {
            return Err(ConfigError::NoName(i + 1));
        }
        if names.insert(&token.name, ()).is_some() {
            return Err(ConfigError::NameTwice(name()));
        }
        let sha256 = from_hex(&token.sha256).ok_or_else(|| ConfigError::Hash(name()))?;
        if sha256 == EMPTY_SHA256 {
            return Err(ConfigError::EmptyToken(name()));
        }
        if let Some(other) = hashes.insert(sha256, &token.name) {
            return Err(ConfigError::HashTwice(other.clone(), name()));
        }
        let principal = Principal::new(&token.name, &token.grants)
            .map_err(|source| ConfigError::Grant { name: name(), source })?
            .routed(token.routed)
            .ok_or_else(|| ConfigError::Routed(name()))?;
        checked.push((sha256, principal));
    }
    Ok(checked)
}

/// Names of certificates with the principals they stand for.
pub(crate) fn check_certificates(
    file: &TokenFile,
) -> Result<HashMap<CertificateName, Principal>, ConfigError> {
    let tokens = file.tokens.iter().map(|token| token.name.as_str());
    let mut names: BTreeSet<&str> = tokens.collect();
    let mut checked: HashMap<CertificateName, Principal> = HashMap::new();
    for (i, certificate) in file.certificates.iter().enumerate() {
        let name = || certificate.name.clone();
        if certificate.name.trim().is_empty() {
            return Err(ConfigError::NamelessCertificate(i + 1));
        }
        if !names.insert(&certificate.name) {
            return Err(ConfigError::NameTwice(name()));
        }
        let CertificateConfig { uri, dns, email, common_name, grants, .. } = certificate;
        let given = [
            uri.clone().map(CertificateName::Uri),
            dns.as_ref().map(|dns| CertificateName::Dns(dns.to_ascii_lowercase())),
            email.clone().map(CertificateName::Email),
            common_name.clone().map(CertificateName::Common),
        ];
        let mut given = given.into_iter().flatten();
        let (Some(shown), None) = (given.next(), given.next()) else {
            return Err(ConfigError::CertificateNames(name()));
        };
        if shown.text().is_empty() {
            return Err(ConfigError::CertificateNames(name()));
        }
        let principal = Principal::new(&certificate.name, grants)
            .map_err(|source| ConfigError::CertificateGrant { name: name(), source })?
            .routed(certificate.routed)
            .ok_or_else(|| ConfigError::Routed(name()))?;
        if let Some(other) = checked.insert(shown, principal) {
            return Err(ConfigError::CertificateTwice(other.name().to_owned(), name()));
        }
    }
    Ok(checked)
}

/// What `sha256sum` prints when the variable with the token was empty: a common slip.
const EMPTY_SHA256: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = toml::from_str::<TokenFile>(text)
            .map_err(|e| e.message().to_owned())
            .and_then(|file| {
                let tokens = check_tokens(&file).map_err(|e| full(&e));
                tokens.and_then(|_| check_certificates(&file).map_err(|e| full(&e)))
            })
            .map(drop)
            .expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }

    fn full(error: &dyn std::error::Error) -> String {
        error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
    }

    fn token(name: &str, digit: char) -> String {
        let sha256 = digit.to_string().repeat(64);
        format!(
            "[[tokens]]\nname = {name:?}\nsha256 = {sha256:?}\ngrants = [{{ tenant = \"a\", access = \"read\" }}]\n"
        )
    }

    #[test]
    fn wrong_token_files_are_refused_by_name() {
        refused("", "there are no tokens");
        refused(&token(" ", '1'), "token number 1 has no name");
        refused(
            &(token("x", '1') + &token("x", '2')),
            "two tokens or certificates have the name \"x\"",
        );
        refused(&(token("x", '1') + &token("y", '1')), "tokens \"x\" and \"y\" are the same");
        refused(&token("x", 'g'), "token \"x\": sha256 must be 64 hexadecimal digits");
        refused(&token("x", 'é'), "token \"x\": sha256 must be 64 hexadecimal digits");
        refused(&token("x", '1').replace("read", "own"), "unknown variant `own`");
        refused(
            &token("x", '1').replace("\"a\"", "\"a b\""),
            "token \"x\": tenant name \"a b\" contains ' '",
        );
        refused(&token("x", '1').replace("grants", "grant"), "unknown field `grant`");
        let routed = token("x", '1') + "routed = true\n";
        refused(&routed, "\"x\" is routed, so its rows may go to any tenant");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        refused(
            &token("x", '1').replace(&"1".repeat(64), empty),
            "sha256 is that of an empty text",
        );
    }

    #[test]
    fn wrong_certificates_are_refused_by_name() {
        let grants = "grants = [{ tenant = \"a\", access = \"read\" }]";
        let one = |rest: &str| format!("[[certificates]]\n{rest}\n{grants}\n");
        refused(&one("name = \"\"\nuri = \"u\""), "certificate number 1 has no name");
        refused(&one("name = \"c\""), "certificate \"c\": give exactly one of");
        refused(&one("name = \"c\"\nuri = \"u\"\ndns = \"d\""), "give exactly one of");
        refused(&one("name = \"c\"\nemail = \"\""), "give exactly one of");
        refused(&one("name = \"c\"\nserial = \"1\""), "unknown field `serial`");
        let (c, d) = (one("name = \"c\"\ndns = \"x.y\""), one("name = \"d\"\ndns = \"X.y\""));
        refused(&(c.clone() + &d), "certificates \"c\" and \"d\" are the same");
        refused(&(c.clone() + &c), "two tokens or certificates have the name \"c\"");
        refused(&(token("c", '1') + &c), "two tokens or certificates have the name \"c\"");
        refused(&c.replace("\"read\"", "\"own\""), "unknown variant `own`");
        let none = c.replace("{ tenant = \"a\", access = \"read\" }", "");
        refused(&none, "certificate \"c\": no grants");
    }

    #[test]
    fn good_token_files_are_taken() {
        let file: TokenFile = toml::from_str(&(token("x", 'a') + &token("y", 'B'))).unwrap();
        let checked = check_tokens(&file).unwrap();
        assert_eq!(
            checked.iter().map(|(hash, p)| (hash[31], p.name())).collect::<Vec<_>>(),
            [(0xaa, "x"), (0xbb, "y")]
        );
        assert!(
            toml::from_str::<Config>("mode = \"token\"\nlimits.default.labels_max = 3").is_ok()
        );
        assert!(toml::from_str::<Config>("modus = \"token\"").is_err());
    }
}
