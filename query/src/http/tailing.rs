//! A live tail as its connection sees it: what comes, and when it has to end.
//!
//! It ends with the process, after a time that the configuration says, and once whoever asked may
//! read other things than when it began.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use tenancy::{Authenticator, ReadScope};
use tokio::time::Instant;
use tracing::warn;

use super::reply::chain;
use crate::entries::{EntryTail, Tailed};
use crate::{Error, Querier};

/// Between two looks at what the client may read.
const LOOK: Duration = Duration::from_secs(15);

/// A client that takes nothing for so long is gone.
pub(super) const STALLED: Duration = Duration::from_secs(60);

/// A tail at work.
pub(super) struct Tailing {
    tail: Box<dyn EntryTail>,
    authenticator: Arc<Authenticator>,
    /// The request, which says who asks.
    parts: Parts,
    scope: ReadScope,
    ends: Instant,
    look: Instant,
}

/// What is to be told next.
#[derive(Debug)]
pub(super) enum News {
    /// Something came.
    Came(Tailed),
    /// Nothing did, for so long as the caller waits.
    Nothing,
    /// The tail is over, and why.
    Over(Over),
}

/// Why a tail is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over {
    /// The process is to end.
    Stopping,
    /// It may not run any longer.
    Long,
    /// Whoever asked may read other things now, or nothing.
    Rights,
    /// It cannot go on.
    Failed(String),
}

impl Over {
    /// As clients are told, in Loki's words where it has some.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Stopping => "the server is shutting down",
            Self::Long => "reached tail max duration limit",
            Self::Rights => "what you may read has changed; ask again",
            Self::Failed(text) => text,
        }
    }
}

impl Tailing {
    pub(super) fn new(
        tail: Box<dyn EntryTail>,
        querier: &Querier,
        authenticator: &Arc<Authenticator>,
        parts: Parts,
        scope: ReadScope,
    ) -> Self {
        let now = Instant::now();
        let ends =
            now + Duration::from_secs(querier.config().tail_seconds_max.min(u64::from(u32::MAX)));
        let authenticator = Arc::clone(authenticator);
        Self { tail, authenticator, parts, scope, ends, look: now + LOOK }
    }

    /// Waits for something to be told, at most so long. May be given up at any time.
    pub(super) async fn next(&mut self, patience: Duration) -> News {
        let silent = Instant::now() + patience;
        loop {
            tokio::select! {
                // In this order: a tail over which much comes has to end, too.
                biased;
                () = tokio::time::sleep_until(self.ends) => return News::Over(Over::Long),
                () = tokio::time::sleep_until(self.look) => {
                    self.look = Instant::now() + LOOK;
                    if !self.may_read_the_same() {
                        return News::Over(Over::Rights);
                    }
                }
                came = self.tail.next() => return match came {
                    Ok(Some(came)) => News::Came(came),
                    Ok(None) => News::Over(Over::Stopping),
                    Err(error) => News::Over(Over::Failed(told(&error))),
                },
                () = tokio::time::sleep_until(silent) => return News::Nothing,
            }
        }
    }

    fn may_read_the_same(&self) -> bool {
        let Ok(now) = self.authenticator.read_scope(&self.parts) else { return false };
        let (before, now) = (self.scope.tenants(), now.tenants());
        let same = |(a, b): (&tenancy::TenantRead, &tenancy::TenantRead)| {
            (a.id, &a.name, &a.alternatives) == (b.id, &b.name, &b.alternatives)
        };
        before.len() == now.len() && before.iter().zip(now).all(same)
    }
}

/// A failure, told and logged where it is ours.
pub(super) fn told(error: &Error) -> String {
    match error {
        Error::Internal { doing, source } => {
            let text = chain(&**source);
            warn!(doing, error = text, "tail failed");
            format!("{error}: {text}")
        }
        other => other.to_string(),
    }
}
