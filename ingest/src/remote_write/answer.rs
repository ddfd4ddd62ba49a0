//! Answers: which status, which text, which headers.
//!
//! Senders repeat on 5xx and 429 and give up on every other 4xx, so the status decides whether
//! data is lost: 400 only for what can never be stored, 429 with `Retry-After` for what may fit
//! later, 503 when the disk is full or failing. Storing the same sample twice does nothing, so a
//! partly stored request may be repeated.

use std::fmt::Write;
use std::time::Duration;

use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use model::LogError;
use storage::{AppendOutcome, Reason};

use super::body::BodyError;
use super::headers::HeaderError;
use super::snappy::SnappyError;
use super::walk::WalkError;
use crate::admit::RateRefused;
use crate::metrics::RefusedRequest;

/// How long a sender should wait before it tries again when nothing better is known. Seconds.
const RETRY_SECONDS: u64 = 5;

/// What a sender is told whose tenant may write nothing at all: limits can be changed.
const NEVER: Duration = Duration::from_secs(3_600);

/// Longest example in an answer, bytes: enough to recognise the series, too little to fill a log.
const EXAMPLE_BYTES_MAX: usize = 512;

/// Why a whole request was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sources explain themselves")]
pub enum Refusal {
    #[error(transparent)]
    Headers(#[from] HeaderError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Snappy(#[from] SnappyError),
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Rate(#[from] RateRefused),
    #[error("{}", storage_text(.0))]
    Storage(#[from] storage::Error),
    /// A bug: the worker ended without a result.
    #[error("the write was not carried out")]
    Lost,
}

impl Refusal {
    /// What is counted and which status is given.
    pub(super) fn kind(&self) -> (RefusedRequest, StatusCode) {
        use RefusedRequest as Kind;
        match self {
            Self::Headers(HeaderError::Type(_)) => {
                (Kind::UnsupportedType, StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::Headers(HeaderError::Encoding(_)) => {
                (Kind::UnsupportedEncoding, StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::Body(BodyError::TooLarge { .. }) => {
                (Kind::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Body(BodyError::Busy) => (Kind::Busy, StatusCode::SERVICE_UNAVAILABLE),
            Self::Body(BodyError::Slow { .. }) => {
                (Kind::BodyIncomplete, StatusCode::REQUEST_TIMEOUT)
            }
            Self::Body(BodyError::Broken(_)) => (Kind::BodyIncomplete, StatusCode::BAD_REQUEST),
            Self::Snappy(SnappyError::TooLarge { .. }) => {
                (Kind::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Snappy(_) | Self::Walk(WalkError::Malformed(_)) => {
                (Kind::Malformed, StatusCode::BAD_REQUEST)
            }
            Self::Walk(WalkError::TooMany { .. }) => {
                (Kind::TooManyRows, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Rate(refused) if refused.is_too_large() => {
                (Kind::TooManyRows, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Rate(_) => (Kind::SamplesRate, StatusCode::TOO_MANY_REQUESTS),
            Self::Storage(storage::Error::Unavailable(LogError::TooLarge { .. })) => {
                (Kind::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Storage(
                storage::Error::Unavailable(_)
                | storage::Error::PartitionReadOnly { .. }
                | storage::Error::Backlog { .. }
                | storage::Error::LogBacklog { .. }
                | storage::Error::Disk { .. }
                | storage::Error::Objects { .. },
            ) => (Kind::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::Storage(_) | Self::Lost => (Kind::Internal, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn retry_after(&self, status: StatusCode) -> Option<Duration> {
        match self {
            Self::Rate(_) if status == StatusCode::PAYLOAD_TOO_LARGE => None,
            Self::Rate(refused) => Some(refused.retry_after.unwrap_or(NEVER)),
            Self::Body(BodyError::Busy) => Some(Duration::from_secs(1)),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                Some(Duration::from_secs(RETRY_SECONDS))
            }
            _ => None,
        }
    }

    /// The answer. Nothing was stored, or it is not known what was.
    pub(super) fn into_response(self) -> Response {
        let (_, status) = self.kind();
        let wait = self.retry_after(status);
        let mut response = respond(status, self.to_string(), &AppendOutcome::default(), wait);
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("snappy"));
        }
        response
    }
}

/// The sender learns the cause, which is often a full disk; paths stay in our log.
fn storage_text(error: &storage::Error) -> String {
    match error {
        storage::Error::Unavailable(cause) => format!("{error}: {cause}"),
        _ => error.to_string(),
    }
}

/// The answer to a request that was carried out, if only in part.
pub(super) fn carried_out(outcome: &AppendOutcome) -> Response {
    // Receivers ignore bad exemplars (`storage/remote/write_handler.go`): with a 400 the sender
    // would count samples as lost that are stored.
    let mut told =
        outcome.rejected.iter().filter(|r| r.reason != Reason::InvalidExemplar).peekable();
    if told.peek().is_none() {
        return respond(StatusCode::NO_CONTENT, String::new(), outcome, None);
    }
    let is_rate = outcome.rejected.iter().any(|r| r.reason.is_rate());
    let (status, wait) = match is_rate {
        true => (StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(RETRY_SECONDS))),
        false => (StatusCode::BAD_REQUEST, None),
    };
    let refused: u64 = outcome.rejected.iter().map(|r| r.count).sum();
    let stored = outcome.samples + outcome.histograms + outcome.exemplars;
    let mut text = format!("{refused} rows refused, {stored} stored");
    for rejected in told {
        let example = &rejected.example[..rejected.example.floor_char_boundary(EXAMPLE_BYTES_MAX)];
        let _ = write!(text, "\n{} {}: {example}", rejected.count, rejected.reason);
    }
    respond(status, text, outcome, wait)
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
        // Whole seconds, rounded up: a sender that comes too early is refused again.
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64));
    }
    response
}
