//! Which rows a merge takes over: the one place where that is decided.

use std::sync::Arc;

use model::Signal;
use tenancy::{Retention, TenantId};

use crate::entries::page::Row;
use crate::entries::retention::oldest_ns;
use crate::entries::streams::Stream;
use crate::retention::{Rule, TenantRules};

/// Entries that are never over are a class of their own.
const FOR_EVER: u32 = u64::BITS;

/// What is kept, at one moment.
#[derive(Debug, Clone)]
pub(super) struct Keeps {
    /// Without rules everything is kept.
    pub(super) rules: Option<Arc<dyn TenantRules>>,
    pub(super) now_ms: i64,
}

/// The same for one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamKeeps {
    /// What is older is left out; `None`: all of it.
    oldest_ns: Option<i64>,
}

impl Keeps {
    pub(super) fn of(&self, stream: &Stream) -> StreamKeeps {
        let Some(rules) = &self.rules else { return StreamKeeps { oldest_ns: Some(i64::MIN) } };
        let oldest_ns = oldest_ns(rules.as_ref(), stream.tenant, stream.signal, self.now_ms);
        StreamKeeps { oldest_ns }
    }

    /// Tenants whose entries may share a segment: of the longer time they are kept for, the shorter
    /// is more than half, so that none stays twice as long as it has to.
    pub(super) fn class_of(&self, tenant: TenantId, signal: Signal) -> u32 {
        match self.rules.as_ref().map(|rules| rules.rule_of(tenant)) {
            Some(Rule::Keep(kept)) => class_of(kept, signal),
            Some(Rule::Gone) | None => FOR_EVER,
        }
    }
}

fn class_of(kept: Retention, signal: Signal) -> u32 {
    kept.entries_seconds(signal).checked_ilog2().unwrap_or(FOR_EVER)
}

impl StreamKeeps {
    /// Whether a row of the stream is taken over.
    pub(super) fn has(self, row: &Row<'_>) -> bool {
        self.oldest_ns.is_some_and(|oldest_ns| row.at_ns >= oldest_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_of_like_times() {
        let class = |logs_seconds: u64| {
            class_of(Retention { logs_seconds, ..Retention::default() }, Signal::Logs)
        };
        let day = 86_400;
        assert_eq!(class(0), FOR_EVER);
        assert_eq!(class(7 * day), class(10 * day));
        assert_ne!(class(7 * day), class(30 * day));
        assert_ne!(class(90 * day), class(365 * day));
    }
}
