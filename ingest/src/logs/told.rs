//! What a sender is told of a write of entries that was carried out only in part.

use std::fmt::Write;
use std::time::Duration;

use axum::http::StatusCode;
use storage::entries::EntryOutcome;

/// How long a sender should wait where nothing better is known. Seconds.
const RETRY_SECONDS: u64 = 5;

/// Longest example in an answer, bytes: enough to recognise the stream, too little to fill a log.
const EXAMPLE_BYTES_MAX: usize = 512;

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// 400, or 429 if what was refused may fit later.
    pub(crate) status: StatusCode,
    /// When to come back.
    pub(crate) retry_after: Option<Duration>,
    /// An example for each reason, and how many were refused and stored.
    pub(crate) text: String,
}

/// What there is to tell of refused entries; `None` if all were stored.
///
/// Of a trusted writer that had something stored, no tenant's limit makes it repeat everything:
/// entries without a time of their own would be stored twice.
pub(crate) fn told(outcome: &EntryOutcome, is_routed: bool) -> Option<Told> {
    if outcome.rejected.is_empty() {
        return None;
    }
    let is_rate = outcome.rejected.iter().any(|rejected| rejected.reason.is_rate());
    let may_repeat = is_rate && !(is_routed && outcome.entries > 0);
    let (status, retry_after) = match may_repeat {
        true => (StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(RETRY_SECONDS))),
        false => (StatusCode::BAD_REQUEST, None),
    };
    let mut text = String::new();
    for rejected in &outcome.rejected {
        let example = &rejected.example[..rejected.example.floor_char_boundary(EXAMPLE_BYTES_MAX)];
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{example} ({}: {} entries)", rejected.reason, rejected.count);
    }
    let refused: u64 = outcome.rejected.iter().map(|rejected| rejected.count).sum();
    let _ = write!(text, "{refused} entries refused, {} stored", outcome.entries);
    Some(Told { status, retry_after, text })
}
