//! Entries that were read together and are handed out one by one.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::{Entry, Exemplar};

/// Labels as they were written: in any order, maybe repeated.
pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// One entry with what belongs to it.
#[derive(Debug)]
pub(super) struct Queued<'a> {
    pub(super) entry: Entry<'a>,
    pub(super) labels: Pairs<'a>,
    pub(super) exemplars: Vec<Exemplar<'a>>,
    pub(super) start_ms: i64,
}

/// Entries that wait, and what belongs to the one that was handed out last.
#[derive(Debug, Default)]
pub(super) struct Queue<'a> {
    waiting: VecDeque<Queued<'a>>,
    pub(super) labels: Pairs<'a>,
    exemplars: Vec<Exemplar<'a>>,
    /// Since when the entry counts, milliseconds; 0 is unknown.
    pub(super) start_ms: i64,
}

impl<'a> Queue<'a> {
    pub(super) fn push(&mut self, queued: Queued<'a>) {
        self.waiting.push_back(queued);
    }

    /// Help, type or unit of a family.
    pub(super) fn declare(&mut self, entry: Entry<'a>) {
        self.push(Queued { entry, labels: Vec::new(), exemplars: Vec::new(), start_ms: 0 });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<Entry<'a>> {
        let next = self.waiting.pop_front()?;
        (self.labels, self.exemplars, self.start_ms) = (next.labels, next.exemplars, next.start_ms);
        Some(next.entry)
    }

    /// A second call gives none.
    pub(super) fn exemplars(&mut self) -> Vec<Exemplar<'a>> {
        std::mem::take(&mut self.exemplars)
    }
}
