//! Which requests are remote write 1.0.
//!
//! The content type alone selects the message. A missing one, and a missing encoding, mean 1.0 and
//! snappy: the first senders wrote neither reliably, and Prometheus takes them so. Everything else
//! is 415, which tells senders of 2.0 and of zstd to fall back.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};

/// Why the headers do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Another message.
    #[error("content type {0:?} is not accepted; send application/x-protobuf (remote write 1.0)")]
    Type(String),
    /// Another compression.
    #[error("content encoding {0:?} is not accepted; send snappy")]
    Encoding(String),
}

/// Checks content type and encoding.
pub(super) fn check(headers: &HeaderMap) -> Result<(), HeaderError> {
    let shown = |value: &axum::http::HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.chars().take(100).collect::<String>()
    };
    let content_type = headers.get(CONTENT_TYPE);
    if let Some(value) = content_type.filter(|v| !v.to_str().is_ok_and(is_write_request)) {
        return Err(HeaderError::Type(shown(value)));
    }
    let encoding = headers.get(CONTENT_ENCODING);
    if let Some(value) =
        encoding.filter(|v| !v.as_bytes().eq_ignore_ascii_case(b"snappy") && !v.is_empty())
    {
        return Err(HeaderError::Encoding(shown(value)));
    }
    Ok(())
}

fn is_write_request(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    let proto = parts.find_map(|p| p.strip_prefix("proto=")).map(|p| p.trim_matches('"'));
    match media {
        "" => proto.is_none(),
        _ => {
            media.eq_ignore_ascii_case("application/x-protobuf")
                && proto.is_none_or(|p| p == "prometheus.WriteRequest")
        }
    }
}
