//! Since when the rows of tenants have changed: whoever keeps answers learns which of them still hold.
//!
//! Invariant: a change is noted after readers see it and before it is acknowledged. So an answer that
//! was begun after generation `g` was read holds for all that is older than what
//! [`Storage::changed_since`] says of `g`, but for what nobody was told of yet.
//!
//! Kept are a few lines a tenant: what changed long ago is known roughly, and rather as too much
//! than as too little. Flushes and merges move rows and change none.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use model::Resolution;
use parking_lot::Mutex;
use tenancy::{ReadScope, TenantId};

use crate::Storage;

/// Lines kept of a tenant: with a third of their age between them, as many reach back for years.
const LINES_MAX: usize = 64;

/// Instants are noted as the start of such a stretch: rows that come as they are made add no line
/// with each request. Milliseconds.
const STRETCH_MS: i64 = 15_000;

/// What part of its age two lines lie apart at least, once there are too many.
const PARTS_OF_AGE: i64 = 3;

/// What changed in one process since its start.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Counts changes.
    generation: AtomicU64,
    /// The last change that may have been of anything.
    of_all: AtomicU64,
    tenants: Mutex<HashMap<TenantId, Vec<Line>>>,
}

/// Up to `generation` nothing later than the next line changed but from `lowest_ms` on. In order of
/// both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    generation: u64,
    lowest_ms: i64,
}

impl Changes {
    /// Rows of a tenant came or went, none of them older than this.
    pub(crate) fn note(&self, tenant: TenantId, lowest_ms: i64) {
        let lowest_ms = lowest_ms.saturating_sub(lowest_ms.rem_euclid(STRETCH_MS));
        let mut tenants = self.tenants.lock();
        let lines = tenants.entry(tenant).or_default();
        // Under the lock, so that the lines of a tenant are in order.
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        while lines.last().is_some_and(|line| line.lowest_ms >= lowest_ms) {
            lines.pop();
        }
        lines.push(Line { generation, lowest_ms });
        if lines.len() > LINES_MAX {
            thin(lines);
        }
    }

    /// Rows of any tenant may have gone.
    pub(crate) fn note_all(&self) {
        let _lines = self.tenants.lock();
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.of_all.store(generation, Ordering::Release);
    }

    fn now(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn since(&self, tenants: impl Iterator<Item = TenantId>, generation: u64) -> Option<i64> {
        let known = self.tenants.lock();
        if self.of_all.load(Ordering::Acquire) > generation {
            return Some(i64::MIN);
        }
        let lowest = |tenant: TenantId| {
            let lines = known.get(&tenant)?;
            let first = lines.partition_point(|line| line.generation <= generation);
            lines.get(first).map(|line| line.lowest_ms)
        };
        tenants.filter_map(lowest).min()
    }
}

/// Puts lines together that lie close for their age: the change of the newer one counts as of the
/// older one's instant.
fn thin(lines: &mut Vec<Line>) {
    let newest_ms = lines.last().map_or(0, |line| line.lowest_ms);
    let mut kept: Vec<Line> = Vec::with_capacity(LINES_MAX);
    for line in lines.drain(..) {
        if let Some(before) = kept.last_mut() {
            let age_ms = newest_ms.saturating_sub(before.lowest_ms);
            let apart_ms = line.lowest_ms.saturating_sub(before.lowest_ms);
            if apart_ms < age_ms / PARTS_OF_AGE {
                before.generation = line.generation;
                continue;
            }
        }
        kept.push(line);
    }
    // Only if they were spread over more than the age of anything.
    let beyond = kept.len().saturating_sub(LINES_MAX);
    if let (Some(oldest), 1..) = (kept.first().copied(), beyond) {
        kept.drain(..beyond);
        kept[0].lowest_ms = oldest.lowest_ms;
    }
    *lines = kept;
}

impl Storage {
    /// The generation of what is stored: answers begun from now on see all changes up to it.
    pub fn generation(&self) -> u64 {
        self.changes.now()
    }

    /// The lowest instant at which rows of the scope's tenants came or went since a generation; `None`
    /// if none did. What a tenant's retention hides as time goes by is not among it.
    pub fn changed_since(&self, scope: &ReadScope, generation: u64) -> Option<i64> {
        self.changes.since(scope.tenants().iter().map(|tenant| tenant.id), generation)
    }

    /// From when on the rows of all tenants of a scope are kept, now.
    pub fn kept_from_ms(&self, scope: &ReadScope) -> i64 {
        let now_ms = self.retention_now_ms();
        let oldest = scope.tenants().iter().map(|tenant| tenant.oldest_ms(Resolution::Raw, now_ms));
        oldest.max().unwrap_or(i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TenantId = TenantId(1);

    fn since(changes: &Changes, generation: u64) -> Option<i64> {
        changes.since([ONE].into_iter(), generation)
    }

    #[test]
    fn the_lowest_change_since_a_generation_is_known() {
        let changes = Changes::default();
        assert_eq!(since(&changes, changes.now()), None);
        for (at_ms, tenant) in [(60_000, 1), (90_000, 1), (30_000, 2), (75_001, 1), (105_000, 1)] {
            changes.note(TenantId(tenant), at_ms);
        }
        let expected =
            [Some(60_000), Some(75_000), Some(75_000), Some(75_000), Some(105_000), None];
        for (generation, expected) in (0..).zip(expected) {
            assert_eq!(since(&changes, generation), expected, "since {generation}");
        }
        let both = [ONE, TenantId(2)];
        assert_eq!(changes.since(both.into_iter(), 2), Some(30_000));
        assert_eq!(changes.since([TenantId(3)].into_iter(), 0), None);
        changes.note_all();
        assert_eq!((since(&changes, 5), since(&changes, 6)), (Some(i64::MIN), None));
    }

    /// Years of rows that come as they are made, with one late row in a thousand.
    #[test]
    fn few_lines_are_kept_and_they_never_say_too_little() {
        let changes = Changes::default();
        let mut noted: Vec<i64> = Vec::new();
        let mut state = 7u64;
        for request in 0..200_000i64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let late_ms =
                if (state >> 33).is_multiple_of(1_000) { (state >> 40) as i64 } else { 0 };
            let at_ms = request * 240_000 - late_ms;
            noted.push(at_ms);
            changes.note(ONE, at_ms);
            let lines = changes.tenants.lock().get(&ONE).map_or(0, Vec::len);
            assert!(lines <= LINES_MAX, "{lines}");
        }
        let mut lowest_ms = i64::MAX;
        for generation in (0..noted.len()).rev() {
            lowest_ms = lowest_ms.min(noted[generation]);
            let said = since(&changes, generation as u64).expect("something changed");
            assert!(said <= lowest_ms, "since {generation}: {said} is not before {lowest_ms}");
            let age_ms = noted.len() as i64 * 240_000 - lowest_ms;
            let rough_ms = lowest_ms - said;
            assert!(rough_ms <= 2 * age_ms + STRETCH_MS, "{rough_ms} too early for {age_ms}");
        }
    }
}
