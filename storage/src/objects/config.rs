//! `[storage.objects]`: where objects lie, and how they are reached.

use std::fmt;

use object_store::aws::AmazonS3ConfigKey;
use serde::{Deserialize, Serialize};

use super::s3::Bucket;

/// Where objects lie, and how they are reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// On which kind of store.
    pub kind: Kind,
    /// The bucket. It must exist.
    pub bucket: String,
    /// What stands before the names of all objects; one store for each prefix.
    pub prefix: String,
    /// URL of the service; empty: that of AWS for the region.
    pub endpoint: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Whether the bucket stands in the path of a request rather than in the host's name.
    pub path_style: bool,
    /// Whether an endpoint without TLS is taken.
    pub allow_http: bool,
    /// Where credentials come from.
    pub credentials: CredentialSource,
    /// Key of `credentials = "keys"`.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// File of `credentials = "file"`.
    pub credentials_file: String,
    /// Seconds that one request may take, its body included.
    pub request_seconds: f64,
    /// Seconds that a connection may take to come about.
    pub connect_seconds: f64,
    /// How often a request that failed is tried again.
    pub retries_max: u32,
    /// Seconds after which it is not tried again.
    pub retry_seconds: f64,
    /// Requests that run at a time.
    pub requests_max: usize,
    /// Bytes of local disk for parts of objects that were read.
    pub cache_bytes: u64,
}

/// Kinds of object stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Files below the data directory.
    #[default]
    Local,
    /// A service that speaks S3.
    S3,
}

/// Where credentials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialSource {
    /// The process's environment, as AWS' tools read it: keys, a web identity, a container's
    /// endpoint, or else the machine's own.
    #[default]
    Environment,
    /// A file with `aws_access_key_id` and `aws_secret_access_key`.
    File,
    /// The configuration itself.
    Keys,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What proves to a service who asks.
#[derive(Debug, Clone, Default)]
pub struct Credentials(pub(super) Vec<(AmazonS3ConfigKey, Secret)>);

impl Secret {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::Local,
            bucket: String::new(),
            prefix: String::new(),
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            path_style: true,
            allow_http: false,
            credentials: CredentialSource::Environment,
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            credentials_file: String::new(),
            request_seconds: 30.0,
            connect_seconds: 5.0,
            retries_max: 5,
            retry_seconds: 30.0,
            requests_max: 64,
            cache_bytes: 10 << 30,
        }
    }
}

/// Variables of the environment that hold credentials or say where they are.
const ENVIRONMENT: [&str; 12] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_IMDSV1_FALLBACK",
];

/// Smallest cache: a few questions' worth.
const CACHE_BYTES_MIN: u64 = 16 << 20;

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Result<(), String> {
        if self.kind == Kind::S3 || !self.bucket.is_empty() {
            self.bucket()?;
        }
        self.check_endpoint()?;
        if self.region.is_empty() || !self.region.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("region {:?} is no name of a region", self.region));
        }
        self.check_credentials()?;
        let seconds = [
            ("request_seconds", self.request_seconds, 0.1, 300.0),
            ("connect_seconds", self.connect_seconds, 0.1, 60.0),
            // Requests are signed once for all their tries: a signature holds for minutes.
            ("retry_seconds", self.retry_seconds, 0.0, 240.0),
        ];
        for (key, value, least, most) in seconds {
            if !(least..=most).contains(&value) {
                return Err(format!("{key} must be {least} to {most}, it is {value}"));
            }
        }
        if self.retries_max > 20 {
            return Err(format!("retries_max must be at most 20, it is {}", self.retries_max));
        }
        if !(1..=1_024).contains(&self.requests_max) {
            return Err(format!("requests_max must be 1 to 1024, it is {}", self.requests_max));
        }
        if self.cache_bytes != 0 && self.cache_bytes < CACHE_BYTES_MIN {
            return Err(format!(
                "cache_bytes must be 0 for none or at least {CACHE_BYTES_MIN}, it is {}",
                self.cache_bytes
            ));
        }
        Ok(())
    }

    /// Where the store lies.
    pub fn bucket(&self) -> Result<Bucket, String> {
        Bucket::new(&self.bucket, &self.prefix)
    }

    fn check_endpoint(&self) -> Result<(), String> {
        if self.endpoint.is_empty() {
            return Ok(());
        }
        let wrong = |why: &str| Err(format!("endpoint {:?} {why}", self.endpoint));
        let (scheme, rest) = self.endpoint.split_once("://").unwrap_or_default();
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(['/', '?', '@'])
        {
            return wrong("is not http(s)://HOST[:PORT]");
        }
        if scheme == "http" && !self.allow_http {
            return wrong("has no TLS; use https, or consent with allow_http = true");
        }
        Ok(())
    }

    fn check_credentials(&self) -> Result<(), String> {
        let has_keys = !self.access_key_id.is_empty() || !self.secret_access_key.0.is_empty();
        match self.credentials {
            CredentialSource::Keys
                if self.access_key_id.is_empty() || self.secret_access_key.0.is_empty() =>
            {
                Err("credentials = \"keys\" needs access_key_id and secret_access_key".to_owned())
            }
            CredentialSource::File if self.credentials_file.is_empty() => {
                Err("credentials = \"file\" needs credentials_file".to_owned())
            }
            source if source != CredentialSource::Keys && has_keys => Err(
                "access_key_id and secret_access_key are used with credentials = \"keys\" alone"
                    .to_owned(),
            ),
            source if source != CredentialSource::File && !self.credentials_file.is_empty() => {
                Err("credentials_file is used with credentials = \"file\" alone".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The credentials, read through functions that get a variable of the environment and the
    /// text of a file.
    pub fn credentials(
        &self,
        variable: impl Fn(&str) -> Option<String>,
        file: impl FnOnce(&str) -> Result<String, String>,
    ) -> Result<Credentials, String> {
        let pair = |key, text: &str| (key, Secret::from(text));
        let keys = match self.credentials {
            CredentialSource::Keys => vec![
                pair(AmazonS3ConfigKey::AccessKeyId, &self.access_key_id),
                (AmazonS3ConfigKey::SecretAccessKey, self.secret_access_key.clone()),
            ],
            CredentialSource::File => {
                let read = file(&self.credentials_file).and_then(|text| of_profile(&text));
                read.map_err(|why| format!("credentials_file {}: {why}", self.credentials_file))?
            }
            CredentialSource::Environment => {
                let of = |name: &&str| {
                    let value = variable(name).filter(|value| !value.is_empty())?;
                    Some(pair(name.to_ascii_lowercase().parse().ok()?, &value))
                };
                ENVIRONMENT.iter().filter_map(of).collect()
            }
        };
        Ok(Credentials(keys))
    }
}

/// Keys of the first profile of a file as AWS' tools have it: `name = value` below `[default]`, or
/// below nothing.
fn of_profile(text: &str) -> Result<Vec<(AmazonS3ConfigKey, Secret)>, String> {
    let mut keys = Vec::new();
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', ';']));
    for line in lines {
        if line.starts_with('[') {
            if !keys.is_empty() {
                break;
            }
            continue;
        }
        let (name, value) = line.split_once('=').ok_or("a line is not NAME = VALUE")?;
        let key = match name.trim() {
            "aws_access_key_id" => AmazonS3ConfigKey::AccessKeyId,
            "aws_secret_access_key" => AmazonS3ConfigKey::SecretAccessKey,
            "aws_session_token" => AmazonS3ConfigKey::Token,
            _ => continue,
        };
        keys.push((key, Secret::from(value.trim())));
    }
    let has = |wanted: AmazonS3ConfigKey| keys.iter().any(|(key, _)| *key == wanted);
    if has(AmazonS3ConfigKey::AccessKeyId) && has(AmazonS3ConfigKey::SecretAccessKey) {
        return Ok(keys);
    }
    Err("it has no aws_access_key_id with an aws_secret_access_key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3() -> Config {
        Config { kind: Kind::S3, bucket: "rows".to_owned(), ..Config::default() }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Config), error: &str) {
        let mut config = s3();
        change(&mut config);
        match config.check() {
            Ok(()) => assert_eq!(error, "", "{config:?}"),
            Err(found) => assert!(!error.is_empty() && found.contains(error), "{found}"),
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_key() {
        check(|_| {}, "");
        check(|c| c.bucket.clear(), "bucket");
        check(|c| c.bucket = "Rows".to_owned(), "bucket");
        check(|c| c.prefix = "/a".to_owned(), "prefix");
        check(|c| c.prefix = "a//b".to_owned(), "prefix");
        check(|c| c.prefix = "a/../b".to_owned(), "prefix");
        check(|c| c.prefix = "a/b".to_owned(), "");
        check(|c| c.endpoint = "127.0.0.1:9000".to_owned(), "endpoint");
        check(|c| c.endpoint = "http://127.0.0.1:9000".to_owned(), "allow_http");
        check(|c| c.endpoint = "https://s3.example.com".to_owned(), "");
        check(|c| c.endpoint = "https://s3.example.com/rows".to_owned(), "endpoint");
        check(|c| c.region.clear(), "region");
        check(|c| c.credentials = CredentialSource::Keys, "access_key_id");
        check(|c| c.credentials = CredentialSource::File, "credentials_file");
        check(|c| c.access_key_id = "a".to_owned(), "credentials");
        check(|c| c.credentials_file = "a".to_owned(), "credentials_file");
        check(|c| c.request_seconds = 0.0, "request_seconds");
        check(|c| c.request_seconds = f64::NAN, "request_seconds");
        check(|c| c.connect_seconds = 61.0, "connect_seconds");
        check(|c| c.retry_seconds = 1e9, "retry_seconds");
        check(|c| c.retries_max = 21, "retries_max");
        check(|c| c.requests_max = 0, "requests_max");
        check(|c| c.cache_bytes = 1, "cache_bytes");
        check(|c| c.cache_bytes = 0, "");
    }

    #[track_caller]
    fn credentials(
        config: &Config,
        file: &str,
    ) -> Result<Vec<(AmazonS3ConfigKey, String)>, String> {
        let variable = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("from-environment".to_owned()),
            "AWS_SESSION_TOKEN" => Some(String::new()),
            "AWS_REGION" => Some("elsewhere".to_owned()),
            _ => None,
        };
        let found = config.credentials(variable, |_| Ok(file.to_owned()))?;
        Ok(found.0.into_iter().map(|(key, secret)| (key, secret.0)).collect())
    }

    #[test]
    fn credentials_come_from_where_the_configuration_says() {
        let key = |key: &str| (AmazonS3ConfigKey::AccessKeyId, key.to_owned());
        assert_eq!(credentials(&s3(), ""), Ok(vec![key("from-environment")]));
        let keys = Config {
            credentials: CredentialSource::Keys,
            access_key_id: "a".to_owned(),
            secret_access_key: "b".into(),
            ..s3()
        };
        let secret = (AmazonS3ConfigKey::SecretAccessKey, "b".to_owned());
        assert_eq!(credentials(&keys, ""), Ok(vec![key("a"), secret.clone()]));
        assert!(!format!("{keys:?}").contains("\"b\""), "secrets are not shown");
        let file = Config {
            credentials: CredentialSource::File,
            credentials_file: "f".to_owned(),
            ..s3()
        };
        let text = "# ours\n[default]\naws_access_key_id = a\naws_secret_access_key=b\nregion=x\n\n[other]\naws_access_key_id = c\n";
        assert_eq!(credentials(&file, text), Ok(vec![key("a"), secret]));
        for wrong in ["", "[default]\naws_access_key_id = a", "nonsense"] {
            let error = credentials(&file, wrong).expect_err("no key");
            assert!(error.starts_with("credentials_file f: "), "{error}");
        }
    }
}
