//! From a document to a response: status, headers, body in pieces, compression.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::warn;

use super::documents::Document;
use super::encoding::{Encoder, Encoding};
use super::{json, routes};
use crate::Error;

/// What an endpoint answers.
pub(super) enum Reply {
    /// A document.
    Document(Box<dyn Document>),
    /// A document of another type than JSON.
    Typed(Box<dyn Document>, String),
    /// A whole response.
    Ready(Response),
    /// Nothing to say: 204.
    Nothing,
}

impl Reply {
    /// A document.
    pub(super) fn document(document: impl Document + 'static) -> Self {
        Self::Document(Box::new(document))
    }
}

/// Size of a piece of a body. Bytes: written in well under half a millisecond, so that a large
/// answer does not hold up an I/O thread.
const PIECE_BYTES: usize = 64 << 10;

/// A good answer.
pub(super) fn success(reply: Reply, asked: &HeaderMap) -> Response {
    match reply {
        Reply::Nothing => StatusCode::NO_CONTENT.into_response(),
        Reply::Document(document) => respond(StatusCode::OK, document, asked),
        Reply::Typed(document, kind) => {
            let mut response = respond(StatusCode::OK, document, asked);
            let kind = HeaderValue::from_str(&kind).expect("types are written in ASCII");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Reply::Ready(response) => response,
    }
}

/// An error, in Prometheus' envelope.
pub(super) fn failure(error: &Error, asked: &HeaderMap) -> Response {
    let mut text = error.to_string();
    if let Error::Internal { source, .. } = error {
        text = format!("{text}: {}", chain(&**source));
    }
    let mut out = b"{\"status\":\"error\",\"errorType\":".to_vec();
    json::push_string(&mut out, error.kind());
    out.extend_from_slice(b",\"error\":");
    json::push_string(&mut out, &text);
    if let Error::Statement { place: Some(place), .. } = error {
        let place =
            format!(",\"position\":{{\"line\":{},\"column\":{}}}", place.line, place.column);
        out.extend_from_slice(place.as_bytes());
    }
    out.push(b'}');
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, Box::new(Whole(out)), asked);
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An error in plain text, where that is what clients expect.
pub(super) fn plain(status: u16, error: &Error) -> Reply {
    let mut text = error.to_string();
    if let Error::Internal { source, .. } = error {
        text = format!("{text}: {}", chain(&**source));
        warn!(error = text, "question failed");
    }
    text.push('\n');
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, text).into_response();
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Reply::Ready(response)
}

/// An error and what caused it, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A document that is there already.
struct Whole(Vec<u8>);

impl Document for Whole {
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        out.append(&mut self.0);
        false
    }
}

fn respond(status: StatusCode, document: Box<dyn Document>, asked: &HeaderMap) -> Response {
    let wanted = Encoding::of_request(asked);
    let mut pieces = Pieces { document: Some(document), encoder: None };
    let mut first = Vec::with_capacity(4 << 10);
    let whole = !pieces.write(&mut first);
    let encoding =
        if whole && first.len() < Encoding::WORTH_BYTES { Encoding::Identity } else { wanted };
    let mut encoder = Encoder::new(encoding);
    let first = encoder.encode(first, whole);
    let body = if whole {
        Body::from(first)
    } else {
        pieces.encoder = Some(encoder);
        // An encoder may have kept all of the first piece; an empty chunk would end the body.
        let first = Some(Bytes::from(first)).filter(|first| !first.is_empty());
        let rest = first.into_iter().chain(pieces);
        Body::from_stream(futures::stream::iter(rest.map(Ok::<_, std::convert::Infallible>)))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(name) = encoding.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// The rest of a body.
struct Pieces {
    /// Gone once it is written.
    document: Option<Box<dyn Document>>,
    encoder: Option<Encoder>,
}

impl Pieces {
    /// Writes one piece; says whether there is more.
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(document) = &mut self.document else { return false };
        while out.len() < PIECE_BYTES {
            if !document.write_some(out) {
                self.document = None;
                return false;
            }
        }
        true
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        // An encoder may swallow a piece whole; an empty chunk would end the body.
        while self.document.is_some() {
            let mut out = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
            let more = self.write(&mut out);
            let encoded =
                self.encoder.as_mut().map_or_else(Vec::new, |encoder| encoder.encode(out, !more));
            if !encoded.is_empty() {
                return Some(encoded.into());
            }
        }
        None
    }
}

/// 405, as Go's router says it.
pub(super) fn method_not_allowed(path: &str) -> Response {
    let plain = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let allow = [(header::ALLOW, routes::allowed(path))];
    (StatusCode::METHOD_NOT_ALLOWED, plain, allow, "Method Not Allowed\n").into_response()
}
