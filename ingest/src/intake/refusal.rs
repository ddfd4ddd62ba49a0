//! Why a whole request was refused, and what follows from it for the status.
//!
//! Senders repeat on 5xx and 429 and give up on every other 4xx, so the status decides whether
//! data is lost: 400 only for what can never be stored, 429 with `Retry-After` for what may fit
//! later, 503 when the disk is full or failing. Storing the same sample twice does nothing, so a
//! partly stored request may be repeated.

use std::fmt::Write;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use model::LogError;
use storage::{AppendOutcome, Reason};

use super::body::BodyError;
use super::inflate::InflateError;
use crate::admit::{EntryRateRefused, RateRefused};
use crate::caps::WalkError;
use crate::exposition::TextError;
use crate::metrics::RefusedRequest;
use crate::pushgateway::JournalError;

/// How long a sender should wait before it tries again when nothing better is known. Seconds.
const RETRY_SECONDS: u64 = 5;

/// What a sender is told whose tenant may write nothing at all: limits can be changed.
const NEVER: Duration = Duration::from_secs(3_600);

/// Longest example in an answer, bytes: enough to recognise the series, too little to fill a log.
const EXAMPLE_BYTES_MAX: usize = 512;

/// Why the headers do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Another message.
    #[error("content type {found:?} is not accepted; send {accepted}")]
    Type {
        /// What was sent, shortened.
        found: String,
        /// What may be sent.
        accepted: &'static str,
    },
    /// Another compression.
    #[error("content encoding {found:?} is not accepted; send {accepted}")]
    Encoding {
        /// What was sent, shortened.
        found: String,
        /// What may be sent.
        accepted: &'static str,
    },
}

/// A header as it may be repeated in an answer.
pub(crate) fn shown_header(value: Option<&HeaderValue>) -> String {
    let text = String::from_utf8_lossy(value.map_or(b"", HeaderValue::as_bytes));
    text.chars().take(100).collect::<String>()
}

/// Why a whole request was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sources explain themselves")]
pub enum Refusal {
    #[error(transparent)]
    Headers(#[from] HeaderError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Inflate(#[from] InflateError),
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Exposition(#[from] TextError),
    /// A parameter or a path that makes no sense.
    #[error("{0}")]
    Parameter(String),
    /// A bound of the tenant is reached; there may be room later.
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Rate(#[from] RateRefused),
    #[error(transparent)]
    EntryRate(#[from] EntryRateRefused),
    #[error("{}", storage_text(.0))]
    Storage(#[from] storage::Error),
    /// A bug: the worker ended without a result.
    #[error("the write was not carried out")]
    Lost,
}

impl Refusal {
    /// What is counted and which status is given.
    pub(crate) fn kind(&self) -> (RefusedRequest, StatusCode) {
        use RefusedRequest as Kind;
        match self {
            Self::Headers(HeaderError::Type { .. }) => {
                (Kind::UnsupportedType, StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::Headers(HeaderError::Encoding { .. }) => {
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
            Self::Inflate(InflateError::TooLarge { .. } | InflateError::Grows { .. }) => {
                (Kind::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Inflate(_)
            | Self::Exposition(_)
            | Self::Parameter(_)
            | Self::Walk(WalkError::Malformed(_) | WalkError::Wrong(_)) => {
                (Kind::Malformed, StatusCode::BAD_REQUEST)
            }
            Self::Walk(WalkError::TooMany { .. }) => {
                (Kind::TooManyRows, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Rate(refused) if refused.is_too_large() => {
                (Kind::TooManyRows, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::EntryRate(refused) if refused.is_too_large() => {
                (Kind::TooManyRows, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::EntryRate(_) => (Kind::EntriesRate, StatusCode::TOO_MANY_REQUESTS),
            Self::Full(_) => (Kind::TooManyRows, StatusCode::TOO_MANY_REQUESTS),
            Self::Journal(_) => (Kind::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::Rate(_) => (Kind::SamplesRate, StatusCode::TOO_MANY_REQUESTS),
            Self::Storage(storage::Error::Unavailable(LogError::TooLarge { .. })) => {
                (Kind::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Storage(
                storage::Error::Unavailable(_)
                | storage::Error::PartitionReadOnly { .. }
                | storage::Error::Backlog { .. }
                | storage::Error::LogBacklog { .. }
                | storage::Error::EntriesBacklog { .. }
                | storage::Error::Disk { .. }
                | storage::Error::Objects { .. },
            ) => (Kind::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::Storage(_) | Self::Lost => (Kind::Internal, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// When the sender should come back, if it should.
    pub(crate) fn retry_after(&self, status: StatusCode) -> Option<Duration> {
        match self {
            Self::Rate(_) | Self::EntryRate(_) if status == StatusCode::PAYLOAD_TOO_LARGE => None,
            Self::EntryRate(refused) => Some(refused.retry_after.unwrap_or(NEVER)),
            Self::Rate(refused) => Some(refused.retry_after.unwrap_or(NEVER)),
            Self::Body(BodyError::Busy) => Some(Duration::from_secs(1)),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                Some(Duration::from_secs(RETRY_SECONDS))
            }
            _ => None,
        }
    }
}

/// The sender learns the cause, which is often a full disk; paths stay in our log.
fn storage_text(error: &storage::Error) -> String {
    match error {
        storage::Error::Unavailable(cause) => format!("{error}: {cause}"),
        _ => error.to_string(),
    }
}

/// What a sender is told of a write that was carried out only in part.
#[derive(Debug)]
pub(crate) struct Told {
    /// 400, or 429 if what was refused may fit later.
    pub(crate) status: StatusCode,
    /// When to come back.
    pub(crate) retry_after: Option<Duration>,
    /// How many rows were refused and stored, and an example for each reason.
    pub(crate) text: String,
}

/// What there is to tell of refused rows; `None` if everything that matters was stored. Receivers
/// ignore bad exemplars (`storage/remote/write_handler.go`): with a 400 the sender would count
/// samples as lost that are stored.
pub(crate) fn told(outcome: &AppendOutcome) -> Option<Told> {
    let mut told =
        outcome.rejected.iter().filter(|r| r.reason != Reason::InvalidExemplar).peekable();
    told.peek()?;
    let (status, retry_after) = match outcome.rejected.iter().any(|r| r.reason.is_rate()) {
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
    Some(Told { status, retry_after, text })
}

/// Whole seconds, rounded up: a sender that comes too early is refused again.
pub(crate) fn seconds_of(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64)
}
