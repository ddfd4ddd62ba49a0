//! Connections to services that speak S3.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::config::{Config, Credentials};
use super::counted::{Counted, RequestCounts};
use crate::Error;

/// First wait before a request is tried again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A place in an object store: a bucket and what stands before the names of objects in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    name: String,
    prefix: String,
}

impl Bucket {
    /// Fails with the key of the configuration that is wrong.
    pub fn new(name: &str, prefix: &str) -> Result<Self, String> {
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        if !(3..=63).contains(&name.len()) || !name.bytes().all(is_name) {
            return Err(format!(
                "bucket {name:?} is no name of a bucket: 3 to 63 of a-z, 0-9, '-', '.', '_'"
            ));
        }
        let is_part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        if prefix.len() > 512 || !(prefix.is_empty() || prefix.split('/').all(is_part)) {
            return Err(format!(
                "prefix {prefix:?} must be names of a-z, A-Z, 0-9, '-', '.', '_', with '/' between them only"
            ));
        }
        Ok(Self { name: name.to_owned(), prefix: prefix.to_owned() })
    }

    /// Whether one lies in the other.
    pub fn meets(&self, other: &Self) -> bool {
        let (own, theirs) = (format!("{self}/"), format!("{other}/"));
        let of = |text: &str| text.replace("//", "/");
        let (own, theirs) = (of(&own), of(&theirs));
        own.starts_with(&theirs) || theirs.starts_with(&own)
    }

    /// Reads `s3://BUCKET[/PREFIX]`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest =
            url.strip_prefix("s3://").ok_or_else(|| format!("{url:?} is not s3://BUCKET"))?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        Self::new(name, prefix.strip_suffix('/').unwrap_or(prefix))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.name, self.prefix)
    }
}

/// Connects to a bucket. Sends nothing yet.
pub fn connect(
    config: &Config,
    bucket: &Bucket,
    credentials: &Credentials,
    counts: &Arc<RequestCounts>,
) -> Result<Arc<dyn ObjectStore>, Error> {
    let client = ClientOptions::new()
        .with_timeout(Duration::from_secs_f64(config.request_seconds))
        .with_connect_timeout(Duration::from_secs_f64(config.connect_seconds))
        .with_pool_max_idle_per_host(config.requests_max);
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: BACKOFF.0, max_backoff: BACKOFF.1, base: 2.0 },
        max_retries: config.retries_max as usize,
        retry_timeout: Duration::from_secs_f64(config.retry_seconds),
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(client)
        .with_allow_http(config.allow_http)
        .with_retry(retry)
        .with_http_connector(Counted::new(counts, config.requests_max));
    if !config.endpoint.is_empty() {
        builder = builder.with_endpoint(config.endpoint.trim_end_matches('/'));
    }
    for (key, secret) in &credentials.0 {
        builder = builder.with_config(*key, secret.expose());
    }
    let doing = || format!("connect to {bucket}");
    let s3 = builder.build().map_err(|source| Error::Objects { doing: doing(), source })?;
    if bucket.prefix.is_empty() {
        return Ok(Arc::new(s3));
    }
    Ok(Arc::new(PrefixStore::new(s3, Path::from(bucket.prefix.as_str()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        match (Bucket::parse(url), expected) {
            (Ok(bucket), Ok(text)) => assert_eq!(bucket.to_string(), text),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (found, _) => panic!("{url}: {found:?}"),
        }
    }

    #[test]
    fn places_in_each_other_meet() {
        let meet = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|url| Bucket::parse(url).expect("a place"));
            assert_eq!(a.meets(&b), b.meets(&a));
            a.meets(&b)
        };
        for (a, b, expected) in [
            ("s3://rows", "s3://rows", true),
            ("s3://rows", "s3://rows/a", true),
            ("s3://rows/a", "s3://rows/a/b", true),
            ("s3://rows/a", "s3://rows/ab", false),
            ("s3://rows", "s3://rows2", false),
            ("s3://rows/a", "s3://other/a", false),
        ] {
            assert_eq!(meet(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn places_are_read() {
        check("s3://rows", Ok("s3://rows/"));
        check("s3://rows/", Ok("s3://rows/"));
        check("s3://rows/a/b/", Ok("s3://rows/a/b"));
        check("s3://r", Err("bucket"));
        check("s3://rows/a b", Err("prefix"));
        check("https://rows", Err("s3://"));
    }
}
