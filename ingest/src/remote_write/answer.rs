//! Answers of remote write: status, text, and how much was written, on success and failure alike.

use std::time::Duration;

use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use storage::AppendOutcome;

use crate::intake::{Refusal, seconds_of, told};

/// The answer to a request of which nothing was stored, or it is not known what was.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let (_, status) = refusal.kind();
    let wait = refusal.retry_after(status);
    let mut response = respond(status, refusal.to_string(), &AppendOutcome::default(), wait);
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("snappy, zstd"));
    }
    response
}

/// The answer to a request that was carried out, if only in part.
pub(super) fn carried_out(outcome: &AppendOutcome) -> Response {
    match told(outcome) {
        None => respond(StatusCode::NO_CONTENT, String::new(), outcome, None),
        Some(told) => respond(told.status, told.text, outcome, told.retry_after),
    }
}

fn respond(
    status: StatusCode,
    mut text: String,
    written: &AppendOutcome,
    wait: Option<Duration>,
) -> Response {
    if !text.is_empty() {
        text.push('\n');
    }
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_TYPE);
    }
    let counts = [
        ("x-prometheus-remote-write-samples-written", written.samples),
        ("x-prometheus-remote-write-histograms-written", written.histograms),
        ("x-prometheus-remote-write-exemplars-written", written.exemplars),
    ];
    for (name, count) in counts {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(count));
    }
    if let Some(wait) = wait {
        headers.insert(RETRY_AFTER, seconds_of(wait));
    }
    response
}
