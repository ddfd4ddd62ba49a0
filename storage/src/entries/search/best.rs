//! The best entries so far: as many as the question wants, each once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use model::Signal;

use super::{Direction, EntryPlace, EntryStream, FoundEntry};
use crate::entries::page::{Fields, Mark, Row};

/// Memory of one kept entry beside its bytes.
const ENTRY_BYTES: usize = 200;

/// Entries are let go only beyond twice as many.
const TRIMMED_MIN: usize = 2_048;

/// The order of entries, and where each lies. Places of one stream are in the order of arrival:
/// `source` grows with it, as do pages and rows within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) at_ns: i64,
    pub(super) stream: u128,
    pub(super) tenant: u32,
    pub(super) signal: Signal,
    pub(super) source: u32,
    pub(super) page: u32,
    pub(super) row: u32,
}

impl Key {
    /// The first and the last that an entry of the same stream and instant may have.
    fn run(self) -> (Self, Self) {
        let at = |n: u32| Self { source: n, page: n, row: n, ..self };
        (at(0), at(u32::MAX))
    }

    fn is_run_of(&self, other: &Self) -> bool {
        self.run().0 == other.run().0
    }
}

#[derive(Debug)]
struct Kept {
    stream: Arc<EntryStream>,
    mark: Mark,
    line: Vec<u8>,
    fields: Vec<u8>,
}

impl Kept {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.line.len() + self.fields.len()
    }
}

/// What was found, in order of keys.
#[derive(Debug)]
pub(super) struct Best {
    direction: Direction,
    /// More than the question wants where it goes on behind an entry: what stands before that in
    /// its run is needed to find the place.
    limit: usize,
    after: Option<EntryPlace>,
    kept: BTreeMap<Key, Kept>,
    bytes: usize,
    /// Once there are as many as are wanted: the last of them. What is worse, and not of its stream
    /// and instant, is not among the best.
    last: Option<Key>,
}

impl Best {
    pub(super) fn new(direction: Direction, limit: usize, after: Option<EntryPlace>) -> Self {
        let before = after.map_or(0, |after| after.nth as usize + 1);
        let limit = if limit == 0 { 0 } else { limit.saturating_add(before) };
        Self { direction, limit, after, kept: BTreeMap::new(), bytes: 0, last: None }
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Memory taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing at an instant, or further on, can be among the best any more.
    pub(super) fn is_beyond(&self, at_ns: i64) -> bool {
        let is_further = |last: Key| match self.direction {
            Direction::Backward => at_ns < last.at_ns,
            Direction::Forward => at_ns > last.at_ns,
        };
        self.limit == 0 || self.last.is_some_and(is_further)
    }

    fn is_worse(&self, key: Key, than: Key) -> bool {
        match self.direction {
            Direction::Backward => key < than,
            Direction::Forward => key > than,
        }
    }

    /// Whether the answer before this one had it: it stands before the entry to go on behind.
    fn is_before(&self, key: Key) -> bool {
        let Some(after) = self.after else { return false };
        let (tenant, signal, stream) = (after.tenant, after.signal, after.stream);
        let (source, page, row) = (0, 0, 0);
        let run = Key { at_ns: after.at_ns, tenant, signal, stream, source, page, row };
        !key.is_run_of(&run) && !self.is_worse(key, run)
    }

    /// Keeps an entry if it is among the best.
    pub(super) fn offer(&mut self, key: Key, stream: &Arc<EntryStream>, row: Row<'_>) {
        if self.limit == 0 || self.is_before(key) {
            return;
        }
        if self.last.is_some_and(|last| self.is_worse(key, last) && !key.is_run_of(&last)) {
            return;
        }
        if let Some(same) = self.same(key, stream, row) {
            if same < key {
                return;
            }
            // The one that came first stays.
            self.remove(same);
        }
        let kept = Kept {
            stream: Arc::clone(stream),
            mark: row.mark,
            line: row.line.to_vec(),
            fields: row.fields.to_vec(),
        };
        self.bytes += kept.bytes();
        self.kept.insert(key, kept);
        if self.kept.len() / 2 > self.limit.max(TRIMMED_MIN) {
            self.trim();
        }
    }

    /// Lets go what is not among the best. Entries of one stream and instant stay or go together:
    /// some may turn out to be one.
    pub(super) fn trim(&mut self) {
        if self.limit == 0 || self.kept.len() < self.limit {
            return;
        }
        let mut keys = self.kept.keys();
        let last = match self.direction {
            Direction::Backward => keys.nth_back(self.limit - 1),
            Direction::Forward => keys.nth(self.limit - 1),
        };
        let Some(&last) = last else { return };
        let (first_of_run, last_of_run) = last.run();
        let gone = match self.direction {
            Direction::Backward => {
                let stays = self.kept.split_off(&first_of_run);
                std::mem::replace(&mut self.kept, stays)
            }
            Direction::Forward => {
                let gone = self.kept.range((Bound::Excluded(last_of_run), Bound::Unbounded));
                match gone.map(|(key, _)| *key).next() {
                    Some(first) => self.kept.split_off(&first),
                    None => BTreeMap::new(),
                }
            }
        };
        self.bytes -= gone.values().map(Kept::bytes).sum::<usize>();
        self.last = Some(last);
    }

    /// The entry that this one repeats.
    fn same(&self, key: Key, stream: &EntryStream, row: Row<'_>) -> Option<Key> {
        if !row.mark.has_own_time() {
            return None;
        }
        let (first, last) = key.run();
        let is_same = |kept: &Kept| {
            kept.mark == row.mark
                && kept.line == row.line
                && kept.fields == row.fields
                && kept.stream.labels == stream.labels
        };
        let found = self.kept.range(first..=last).find(|(_, kept)| is_same(kept));
        found.map(|(key, _)| *key)
    }

    fn remove(&mut self, key: Key) {
        if let Some(kept) = self.kept.remove(&key) {
            self.bytes -= kept.bytes();
        }
    }

    /// The answer, in its order.
    pub(super) fn finish(self) -> Vec<FoundEntry> {
        let wanted = self.limit - self.after.map_or(0, |a| (a.nth as usize + 1).min(self.limit));
        let after = self.after;
        let (mut last, mut nth): (Option<Key>, u32) = (None, 0);
        let mut out = Vec::with_capacity(self.kept.len());
        let mut add = |key: Key, kept: Kept| {
            nth = if last.is_some_and(|last| last.is_run_of(&key)) { nth + 1 } else { 0 };
            last = Some(key);
            let Key { at_ns, tenant, signal, stream, .. } = key;
            let place = EntryPlace { at_ns, tenant, signal, stream, nth };
            let is_before = after.is_some_and(|a| {
                EntryPlace { nth: 0, ..a } == EntryPlace { nth: 0, ..place } && nth <= a.nth
            });
            if !is_before && out.len() < wanted {
                out.push(found(kept, place));
            }
        };
        match self.direction {
            Direction::Backward => self.kept.into_iter().rev().for_each(|(k, v)| add(k, v)),
            Direction::Forward => self.kept.into_iter().for_each(|(k, v)| add(k, v)),
        }
        out
    }
}

fn found(kept: Kept, place: EntryPlace) -> FoundEntry {
    let fields = Fields(&kept.fields).map(|(n, v)| (n.to_owned(), v.to_owned()));
    FoundEntry {
        stream: kept.stream,
        at_ns: place.at_ns,
        fields: fields.collect(),
        level: kept.mark.level(),
        has_own_time: kept.mark.has_own_time(),
        is_truncated: kept.mark.is_truncated(),
        place,
        line: kept.line,
    }
}
