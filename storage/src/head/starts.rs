//! Since when samples count that came in since the last cut: kept beside them, so that those without
//! a start cost nothing.
//!
//! Of each series a step function of instants: what was noted last before a sample is its own. A
//! counter takes one entry as long as it does not start anew.

use std::collections::BTreeMap;

use super::Head;
use super::series::{Flags, GONE};
use crate::Starts;

/// Start timestamps of all series' samples.
#[derive(Debug, Default)]
pub(super) struct HeadStarts(BTreeMap<(u32, i64), i64>);

/// Memory of an entry: 24 bytes in nodes that are two thirds full.
const ENTRY_BYTES: usize = 36;

impl HeadStarts {
    /// Notes when a new sample starts; `is_newest` if the series has none behind it.
    fn note(&mut self, series: u32, at_ms: i64, start_ms: i64, is_newest: bool) {
        let before = self.0.range((series, i64::MIN)..=(series, at_ms)).next_back();
        let before = before.map_or(0, |(_, start_ms)| *start_ms);
        if before == start_ms {
            return;
        }
        self.0.insert((series, at_ms), start_ms);
        if !is_newest && let Some(next_ms) = at_ms.checked_add(1) {
            // What lies behind it keeps what it had.
            self.0.entry((series, next_ms)).or_insert(before);
        }
    }

    /// Those of one series.
    pub(super) fn of(&self, series: u32) -> Starts {
        let mut starts = Starts::default();
        if !self.0.is_empty() {
            let all = self.0.range((series, i64::MIN)..=(series, i64::MAX));
            all.for_each(|((_, from_ms), start_ms)| starts.push(*from_ms, *start_ms));
        }
        starts
    }

    /// Series numbers after a renumbering.
    pub(super) fn renumber(&mut self, new_number: &[u32]) {
        let all = std::mem::take(&mut self.0).into_iter();
        let renumbered =
            all.map(|((series, ms), start)| ((new_number[series as usize], ms), start));
        self.0 = renumbered.filter(|((series, _), _)| *series != GONE).collect();
    }

    /// Memory taken.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.len() * ENTRY_BYTES
    }
}

impl Head {
    /// Notes since when a sample or histogram counts that was just added; 0 is unknown.
    pub(super) fn note_start(&mut self, number: u32, at_ms: i64, start_ms: i64) {
        let newest_ms = self.last_ms(number);
        let flags = &mut self.series.all[number as usize].flags;
        if start_ms == 0 && !flags.has(Flags::STARTS) {
            return;
        }
        flags.set(Flags::STARTS);
        self.open.starts.note(number, at_ms, start_ms, newest_ms == Some(at_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of series 1 in the order in which they came: instant and start.
    #[track_caller]
    fn check(samples: &[(i64, i64)], entries: usize) {
        let mut starts = HeadStarts::default();
        // Neighbours keep what is theirs.
        starts.note(0, i64::MAX, 77, true);
        starts.note(2, i64::MIN + 1, 99, true);
        let mut newest_ms = i64::MIN;
        for (at_ms, start_ms) in samples {
            newest_ms = newest_ms.max(*at_ms);
            starts.note(1, *at_ms, *start_ms, newest_ms == *at_ms);
        }
        let of = starts.of(1);
        for (at_ms, start_ms) in samples {
            assert_eq!(of.at(*at_ms), *start_ms, "at {at_ms} of {samples:?}");
        }
        assert_eq!(starts.0.len() - 2, entries, "{samples:?}");
        assert_eq!((starts.of(0).at(i64::MAX), starts.of(2).at(0)), (77, 99));
    }

    #[test]
    fn samples_keep_their_starts_in_whatever_order_they_come() {
        check(&[(10, 0), (20, 0)], 0);
        check(&[(10, 5), (20, 5), (30, 5)], 1);
        check(&[(10, 5), (20, 5), (30, 25), (40, 25)], 2);
        check(&[(10, 5), (20, 15), (30, 25)], 3);
        check(&[(10, 5), (20, 0), (30, 5)], 3);
        // A late one within a run, beside its neighbours, and before all.
        check(&[(10, 5), (30, 5), (20, 5)], 1);
        check(&[(10, 5), (30, 5), (20, 7)], 3);
        check(&[(10, 5), (12, 5), (11, 7)], 3);
        check(&[(10, 5), (5, 2)], 3);
        check(&[(10, 5), (9, 2)], 2);
        check(&[(10, 5), (11, 6), (9, 0), (8, 3)], 4);
        check(&[(i64::MAX, 5), (3, 1)], 3);
    }
}
