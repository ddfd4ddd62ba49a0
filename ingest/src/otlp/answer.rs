//! Answers of OTLP over HTTP and gRPC.
//!
//! ```text
//! ExportMetricsServiceResponse { partial_success = 1 { rejected_data_points = 1, error_message = 2 } }
//! google.rpc.Status { code = 1, message = 2, details = 3 { type_url = 1, value = 2 } }
//! ```
//!
//! If anything was stored the answer is a success, with what was refused told in it: senders do not
//! repeat that. If nothing was, or the rest may fit later, it is an error.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use storage::AppendOutcome;

use crate::intake::{Refusal, seconds_of, told};

/// The form of a request's body, and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Protobuf,
    Json,
    Grpc,
}

/// What a request holds, by its name in JSON of how many were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    DataPoints,
    LogRecords,
}

impl Counted {
    fn refused(self) -> &'static str {
        match self {
            Self::DataPoints => "rejectedDataPoints",
            Self::LogRecords => "rejectedLogRecords",
        }
    }
}

/// What a sender is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Stored, but for some.
    Stored { refused: u64, message: String },
    /// Not stored, or not all of it.
    Failed { status: StatusCode, message: String, retry_after: Option<Duration> },
}

impl Answer {
    /// The answer to a request of which `points` came and `refused_points` were refused before
    /// they were stored. Rows that the store refused count as a point each: it does not know which
    /// of them belong together.
    pub(crate) fn to(outcome: &AppendOutcome, points: u64, refused_points: u64) -> Self {
        let Some(told) = told(outcome) else {
            return Self::Stored { refused: 0, message: String::new() };
        };
        let stored = outcome.samples + outcome.histograms;
        if stored == 0 || told.status == StatusCode::TOO_MANY_REQUESTS {
            let (status, message, retry_after) = (told.status, told.text, told.retry_after);
            return Self::Failed { status, message, retry_after };
        }
        let refused: u64 = outcome.rejected.iter().map(|r| r.count).sum();
        Self::Stored { refused: refused.max(refused_points).min(points), message: told.text }
    }

    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let (_, status) = refusal.kind();
        let retry_after = refusal.retry_after(status);
        Self::Failed { status, message: refusal.to_string(), retry_after }
    }

    /// The status by which it is counted.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Stored { .. } => 200,
            Self::Failed { status, .. } => status.as_u16(),
        }
    }

    pub(crate) fn into_response(self, form: Form, counted: Counted) -> Response {
        match (self, form) {
            (Self::Stored { refused, message }, Form::Protobuf) => {
                protobuf(StatusCode::OK, success(refused, &message))
            }
            (Self::Stored { refused, message }, Form::Json) => {
                let body = match (refused, message.is_empty()) {
                    (0, true) => serde_json::json!({}),
                    _ => serde_json::json!({ "partialSuccess": {
                        counted.refused(): refused.to_string(), "errorMessage": message } }),
                };
                json(StatusCode::OK, &body)
            }
            (Self::Stored { refused, message }, Form::Grpc) => {
                grpc_message(&success(refused, &message))
            }
            (Self::Failed { status, message, retry_after }, Form::Grpc) => {
                grpc_failure(status, &message, retry_after)
            }
            (Self::Failed { status, message, retry_after }, form) => {
                let code = grpc_code(status);
                let mut response = match form {
                    Form::Json => {
                        json(status, &serde_json::json!({ "code": code, "message": message }))
                    }
                    _ => protobuf(status, rpc_status(code, &message, None)),
                };
                if let Some(wait) = retry_after {
                    response.headers_mut().insert(RETRY_AFTER, seconds_of(wait));
                }
                response
            }
        }
    }
}

fn protobuf(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, "application/x-protobuf")], body).into_response()
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        model::varint::put(out, field << 3 | 2);
        model::varint::put(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        model::varint::put(out, field << 3);
        model::varint::put(out, number);
    }
}

fn success(refused: u64, message: &str) -> Vec<u8> {
    let (mut partial, mut out) = (Vec::new(), Vec::new());
    put_number(&mut partial, 1, refused);
    put_bytes(&mut partial, 2, message.as_bytes());
    put_bytes(&mut out, 1, &partial);
    out
}

/// `google.rpc.Status`; with a wait it says when to come back (`google.rpc.RetryInfo`).
fn rpc_status(code: u64, message: &str, wait: Option<Duration>) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 1, code);
    put_bytes(&mut out, 2, message.as_bytes());
    if let Some(wait) = wait {
        let (mut duration, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
        put_number(&mut duration, 1, wait.as_secs());
        put_number(&mut duration, 2, u64::from(wait.subsec_nanos()));
        put_bytes(&mut info, 1, &duration);
        put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        put_bytes(&mut any, 2, &info);
        put_bytes(&mut out, 3, &any);
    }
    out
}

/// gRPC's number for a status.
fn grpc_code(status: StatusCode) -> u64 {
    match status.as_u16() {
        400 | 413 => 3,
        401 => 16,
        403 => 7,
        408 => 4,
        415 => 12,
        429 => 8,
        503 => 14,
        _ => 13,
    }
}

const GRPC_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// One message and the trailers that say that it is all.
fn grpc_message(message: &[u8]) -> Response {
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers)];
    let frames = frames.map(Ok::<_, std::convert::Infallible>);
    let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC_TYPE);
    response
}

/// Failures have no message: their trailers are the headers.
fn grpc_failure(status: StatusCode, message: &str, wait: Option<Duration>) -> Response {
    use base64::Engine;
    let code = grpc_code(status);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC_TYPE);
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    // `grpc-message` is percent-encoded; headers have no room for long texts.
    let message = &message[..message.floor_char_boundary(1_024)];
    if let Ok(value) = HeaderValue::from_str(&percent_encoded(message)) {
        headers.insert(HeaderName::from_static("grpc-message"), value);
    }
    let details =
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(rpc_status(code, message, wait));
    if let Ok(value) = HeaderValue::from_str(&details) {
        headers.insert(HeaderName::from_static("grpc-status-details-bin"), value);
    }
    response
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use storage::Reason;

    use super::*;

    fn outcome(samples: u64, rejected: &[(Reason, u64)]) -> AppendOutcome {
        let mut outcome = AppendOutcome { samples, ..AppendOutcome::default() };
        for (reason, count) in rejected {
            outcome.reject(*reason, *count, || "example".to_owned());
        }
        outcome
    }

    #[track_caller]
    fn check(samples: u64, rejected: &[(Reason, u64)], status: u16, refused: u64) {
        let answer = Answer::to(&outcome(samples, rejected), 5, 0);
        let points = match &answer {
            Answer::Stored { refused, .. } => *refused,
            Answer::Failed { .. } => 0,
        };
        assert_eq!((answer.status(), points), (status, refused));
    }

    #[test]
    fn what_was_stored_in_part_is_a_success() {
        check(5, &[], 200, 0);
        check(4, &[(Reason::TooOld, 1)], 200, 1);
        check(4, &[(Reason::TooOld, 9)], 200, 5);
        check(0, &[(Reason::TooOld, 5)], 400, 0);
        check(4, &[(Reason::NewSeriesRate, 1)], 429, 0);
        check(4, &[(Reason::InvalidExemplar, 1)], 200, 0);
        check(0, &[], 200, 0);
    }

    #[test]
    fn messages_are_as_protobuf_writes_them() {
        assert_eq!(success(0, ""), b"");
        assert_eq!(success(3, "x"), [0x0a, 5, 0x08, 3, 0x12, 1, b'x']);
        assert_eq!(rpc_status(3, "x", None), [0x08, 3, 0x12, 1, b'x']);
        let wait = rpc_status(8, "", Some(Duration::from_secs(5)));
        assert!(wait.ends_with(&[0x12, 4, 0x0a, 2, 0x08, 5]), "{wait:?}");
        assert_eq!(percent_encoded("a b%\nä"), "a b%25%0A%C3%A4");
    }
}
