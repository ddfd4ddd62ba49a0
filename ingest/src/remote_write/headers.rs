//! Which message a request holds, and how it is compressed.
//!
//! The content type alone selects the message. A missing one, and a missing encoding, mean 1.0 and
//! snappy: the first senders wrote neither reliably, and Prometheus takes them so. Everything else
//! is 415, which tells senders to fall back.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::intake::{Encoding, HeaderError, shown_header};

/// Content types as told to whoever sends another.
const ACCEPTED: &str = "application/x-protobuf (remote write 1.0) or \
                        application/x-protobuf;proto=io.prometheus.write.v2.Request (2.0)";

/// The messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

/// Reads content type and encoding.
pub(super) fn read(headers: &HeaderMap) -> Result<(Message, Encoding), HeaderError> {
    let content_type = headers.get(CONTENT_TYPE);
    let message = match content_type.map(|v| v.to_str().ok().and_then(message_of)) {
        None => Message::V1,
        Some(Some(message)) => message,
        Some(None) => {
            let found = shown_header(content_type);
            return Err(HeaderError::Type { found, accepted: ACCEPTED });
        }
    };
    let encoding = Encoding::of(headers, &[Encoding::Snappy, Encoding::Zstd]);
    let encoding = encoding.ok_or_else(|| HeaderError::Encoding {
        found: shown_header(headers.get(CONTENT_ENCODING)),
        accepted: "snappy or zstd",
    })?;
    Ok((message, encoding))
}

fn message_of(content_type: &str) -> Option<Message> {
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    let proto = parts.find_map(proto_of);
    if media.is_empty() {
        return proto.is_none().then_some(Message::V1);
    }
    if !media.eq_ignore_ascii_case("application/x-protobuf") {
        return None;
    }
    match proto {
        None | Some("prometheus.WriteRequest") => Some(Message::V1),
        Some("io.prometheus.write.v2.Request") => Some(Message::V2),
        Some(_) => None,
    }
}

/// The value of the parameter `proto`; names of parameters know no case.
fn proto_of(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
}
