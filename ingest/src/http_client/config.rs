//! How we ask others, as Prometheus' `http_config` says it: credentials, TLS, proxies, headers.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::bounded_file;
use crate::yaml::{Fields, Node, YamlError};

/// A text that is nobody's business, or the file it is read from each time it is needed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Text(String),
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("<secret>"),
            Self::File(file) => write!(f, "<secret in {}>", file.display()),
        }
    }
}

impl Secret {
    /// The text as it is now; blanks around a file's content do not count.
    pub(crate) fn read(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(file) => {
                let text = bounded_file::read_text(file);
                let text =
                    text.map_err(|e| format!("unable to read file {}: {e}", file.display()))?;
                Ok(text.trim().to_owned())
            }
        }
    }
}

/// Who we say we are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Credentials {
    #[default]
    Nobody,
    Basic {
        username: Option<Secret>,
        password: Option<Secret>,
    },
    Authorization {
        /// The word before the credentials, `Bearer` unless said otherwise.
        kind: String,
        credentials: Option<Secret>,
    },
    OAuth2(Box<OAuth2>),
}

/// OAuth 2.0 client credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OAuth2 {
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<Secret>,
    pub(crate) token_url: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) endpoint_params: Vec<(String, String)>,
    pub(crate) tls: TlsConfig,
    pub(crate) proxy: ProxyConfig,
}

/// A version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    Tls12,
    Tls13,
}

/// Certificates and what is asked of the other side's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TlsConfig {
    pub(crate) ca: Option<Secret>,
    pub(crate) cert: Option<Secret>,
    pub(crate) key: Option<Secret>,
    pub(crate) server_name: String,
    pub(crate) insecure_skip_verify: bool,
    pub(crate) min_version: Option<TlsVersion>,
    pub(crate) max_version: Option<TlsVersion>,
}

/// The way through proxies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ProxyConfig {
    pub(crate) url: String,
    pub(crate) no_proxy: String,
    pub(crate) from_environment: bool,
    pub(crate) connect_headers: Vec<(String, Vec<String>)>,
}

/// One header with its values, which may lie in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) values: Vec<Secret>,
}

/// Everything about asking by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpConfig {
    pub(crate) credentials: Credentials,
    pub(crate) tls: TlsConfig,
    pub(crate) proxy: ProxyConfig,
    pub(crate) follow_redirects: bool,
    pub(crate) enable_http2: bool,
    pub(crate) headers: Vec<Header>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            credentials: Credentials::default(),
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            headers: Vec::new(),
        }
    }
}

/// Headers that are made otherwise (`common/config/headers.go`).
const RESERVED: [&str; 14] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
];

impl HttpConfig {
    /// Takes its fields out of those they stand among. Files are relative to `dir`.
    pub(crate) fn take(fields: &mut Fields<'_>, dir: &Path) -> Result<Self, YamlError> {
        let place = fields.place();
        let defaults = Self::default();
        Ok(Self {
            credentials: credentials(fields, dir)?,
            tls: fields.read("tls_config", |node| tls(node, dir))?.unwrap_or_default(),
            proxy: proxy(fields)?,
            follow_redirects: fields
                .read("follow_redirects", Node::switch)?
                .unwrap_or(defaults.follow_redirects),
            enable_http2: fields
                .read("enable_http2", Node::switch)?
                .unwrap_or(defaults.enable_http2),
            headers: fields.read("http_headers", |node| headers(node, dir))?.unwrap_or_default(),
        })
        .and_then(|config: Self| match config.tls.check() {
            Ok(()) => Ok(config),
            Err(what) => Err(YamlError::at(place, what)),
        })
    }
}

impl HttpConfig {
    /// Adds a header that every request has.
    pub(crate) fn add_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        if is_reserved(name) {
            return Err(format!("setting header {name:?} is not allowed"));
        }
        if reqwest::header::HeaderValue::from_str(value).is_err() {
            return Err(format!("header {name:?} has a value that cannot be sent"));
        }
        let values = vec![Secret::Text(value.to_owned())];
        self.headers.push(Header { name: name.to_owned(), values });
        Ok(())
    }

    /// The names of headers that every request has.
    pub(crate) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|header| header.name.as_str())
    }
}

/// Whether a header is not for configurations to set, or cannot be.
fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name.to_ascii_lowercase().as_str())
        || reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err()
}

impl TlsConfig {
    fn check(&self) -> Result<(), &'static str> {
        match (&self.cert, &self.key) {
            (Some(_), None) => Err(
                "exactly one of key or key_file must be configured when a client certificate is configured",
            ),
            (None, Some(_)) => Err(
                "exactly one of cert or cert_file must be configured when a client key is configured",
            ),
            _ if self.min_version > self.max_version && self.max_version.is_some() => Err(
                "tls_config.max_version must be greater than or equal to tls_config.min_version",
            ),
            _ => Ok(()),
        }
    }
}

/// A secret from one of two fields: the text, or the file.
fn secret(
    fields: &mut Fields<'_>,
    dir: &Path,
    names: [&str; 2],
) -> Result<Option<Secret>, YamlError> {
    let place = fields.place();
    let text = fields.read(names[0], Node::text)?;
    let file = fields.read(names[1], Node::text)?.filter(|file| !file.is_empty());
    match (text.filter(|text| !text.is_empty()), file) {
        (Some(_), Some(_)) => {
            let what = format!("at most one of {} & {} must be configured", names[0], names[1]);
            Err(YamlError::at(place, what))
        }
        (Some(text), None) => Ok(Some(Secret::Text(text))),
        (None, Some(file)) => Ok(Some(Secret::File(dir.join(file)))),
        (None, None) => Ok(None),
    }
}

fn credentials(fields: &mut Fields<'_>, dir: &Path) -> Result<Credentials, YamlError> {
    let place = fields.place();
    let basic = fields.read("basic_auth", |node| {
        let mut fields = Fields::of(node, "basic_auth")?;
        let username = secret(&mut fields, dir, ["username", "username_file"])?;
        let password = secret(&mut fields, dir, ["password", "password_file"])?;
        fields.done()?;
        Ok(Credentials::Basic { username, password })
    })?;
    let authorization = fields.read("authorization", |node| {
        let mut fields = Fields::of(node, "authorization")?;
        let kind = fields.text("type")?.trim().to_owned();
        let credentials = secret(&mut fields, dir, ["credentials", "credentials_file"])?;
        fields.done()?;
        if kind.eq_ignore_ascii_case("basic") {
            let what = "authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
            return Err(YamlError::at(node.place, what));
        }
        let kind = if kind.is_empty() { "Bearer".to_owned() } else { kind };
        Ok(Credentials::Authorization { kind, credentials })
    })?;
    let oauth2 = fields.read("oauth2", |node| oauth2(node, dir))?;
    // The old way of saying `authorization`.
    let bearer = secret(fields, dir, ["bearer_token", "bearer_token_file"])?;
    let bearer = bearer.map(|token| Credentials::Authorization {
        kind: "Bearer".to_owned(),
        credentials: Some(token),
    });
    let mut given = [basic, authorization, oauth2, bearer].into_iter().flatten();
    match (given.next(), given.next()) {
        (one, None) => Ok(one.unwrap_or_default()),
        _ => Err(YamlError::at(
            place,
            "at most one of basic_auth, oauth2, authorization, bearer_token & bearer_token_file must be configured",
        )),
    }
}

fn oauth2(node: &Node, dir: &Path) -> Result<Credentials, YamlError> {
    let mut fields = Fields::of(node, "oauth2")?;
    let oauth2 = OAuth2 {
        client_id: fields.text("client_id")?,
        client_secret: secret(&mut fields, dir, ["client_secret", "client_secret_file"])?,
        token_url: fields.text("token_url")?,
        scopes: fields.read("scopes", Node::texts)?.unwrap_or_default(),
        endpoint_params: fields.read("endpoint_params", Node::text_map)?.unwrap_or_default(),
        tls: fields.read("tls_config", |node| tls(node, dir))?.unwrap_or_default(),
        proxy: proxy(&mut fields)?,
    };
    fields.done()?;
    let missing = [
        ("client_id", oauth2.client_id.is_empty()),
        ("client_secret", oauth2.client_secret.is_none()),
        ("token_url", oauth2.token_url.is_empty()),
    ];
    match missing.iter().find(|(_, is_missing)| *is_missing) {
        Some((name, _)) => {
            Err(YamlError::at(node.place, format!("oauth2 {name} must be configured")))
        }
        None => Ok(Credentials::OAuth2(Box::new(oauth2))),
    }
}

fn tls(node: &Node, dir: &Path) -> Result<TlsConfig, YamlError> {
    let mut fields = Fields::of(node, "tls_config")?;
    let tls = TlsConfig {
        ca: secret(&mut fields, dir, ["ca", "ca_file"])?,
        cert: secret(&mut fields, dir, ["cert", "cert_file"])?,
        key: secret(&mut fields, dir, ["key", "key_file"])?,
        server_name: fields.text("server_name")?,
        insecure_skip_verify: fields.read("insecure_skip_verify", Node::switch)?.unwrap_or(false),
        min_version: fields.read("min_version", version)?,
        max_version: fields.read("max_version", version)?,
    };
    fields.done()?;
    tls.check().map_err(|what| YamlError::at(node.place, what))?;
    Ok(tls)
}

fn version(node: &Node) -> Result<TlsVersion, YamlError> {
    match node.text()?.as_str() {
        "TLS13" => Ok(TlsVersion::Tls13),
        "TLS12" => Ok(TlsVersion::Tls12),
        // No longer spoken by our side: what is at least asked for is more.
        "TLS11" | "TLS10" => Err(YamlError::at(
            node.place,
            "TLS10 and TLS11 are not spoken any more; use TLS12 or TLS13",
        )),
        other => Err(YamlError::at(node.place, format!("unknown TLS version: {other}"))),
    }
}

fn proxy(fields: &mut Fields<'_>) -> Result<ProxyConfig, YamlError> {
    let place = fields.place();
    let url_place = fields.place();
    let proxy = ProxyConfig {
        url: fields.text("proxy_url")?,
        no_proxy: fields.text("no_proxy")?,
        from_environment: fields.read("proxy_from_environment", Node::switch)?.unwrap_or(false),
        connect_headers: fields.read("proxy_connect_header", header_values)?.unwrap_or_default(),
    };
    let has_url = !proxy.url.is_empty();
    if has_url && reqwest::Proxy::all(&proxy.url).is_err() {
        let what = format!("proxy_url: {:?} is not the address of a proxy", proxy.url);
        return Err(YamlError::at(url_place, what));
    }
    let wrong = if proxy.from_environment && has_url {
        "if proxy_from_environment is configured, proxy_url must not be configured"
    } else if proxy.from_environment && !proxy.no_proxy.is_empty() {
        "if proxy_from_environment is configured, no_proxy must not be configured"
    } else if !proxy.no_proxy.is_empty() && !has_url {
        "if no_proxy is configured, proxy_url must also be configured"
    } else if !proxy.connect_headers.is_empty() && !has_url && !proxy.from_environment {
        "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured"
    } else {
        return Ok(proxy);
    };
    Err(YamlError::at(place, wrong))
}

fn header_values(node: &Node) -> Result<Vec<(String, Vec<String>)>, YamlError> {
    let one = |(key, node): &(crate::yaml::Key, Node)| Ok((key.name.clone(), node.texts()?));
    node.entries()?.iter().map(one).collect()
}

fn headers(node: &Node, dir: &Path) -> Result<Vec<Header>, YamlError> {
    let mut headers = Vec::new();
    for (key, node) in node.entries()? {
        let name = key.name.clone();
        if is_reserved(&name) {
            let what = format!("setting header {name:?} is not allowed");
            return Err(YamlError::at(key.place, what));
        }
        let mut fields = Fields::of(node, "http_headers")?;
        let mut values = Vec::new();
        for (field, of) in [("values", None), ("secrets", None), ("files", Some(dir))] {
            let texts = fields.read(field, Node::texts)?.unwrap_or_default();
            values.extend(texts.into_iter().map(|text| match of {
                None => Secret::Text(text),
                Some(dir) => Secret::File(dir.join(text)),
            }));
        }
        fields.done()?;
        headers.push(Header { name, values });
    }
    Ok(headers)
}
