//! Where the time of a question goes (`profile=1`), in the order in which work comes to a phase.
//!
//! Times are those of the clock, added up over threads: what several do side by side counts for each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use query::PhaseTime;

/// What is done for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// From expression to plan.
    Plan,
    /// Which series there are: indexes, and samples of the heads. Once for each selection.
    Select,
    /// Series counted without a look at their samples. Once for each such aggregation.
    Count,
    /// Pages of blocks, from the cache or the store. Once for each morsel of series.
    Fetch,
    /// Pages become samples. Once for each morsel.
    Decode,
    /// Samples become columns: functions of ranges. Once for each morsel.
    Compute,
    /// Columns are taken: aggregation. Once for each morsel.
    Take,
    /// The result becomes an answer.
    Answer,
}

/// All of them, with the names they are told by.
const ALL: [(Phase, &str); 8] = [
    (Phase::Plan, "plan"),
    (Phase::Select, "select"),
    (Phase::Count, "count"),
    (Phase::Fetch, "fetch"),
    (Phase::Decode, "decode"),
    (Phase::Compute, "compute"),
    (Phase::Take, "take"),
    (Phase::Answer, "answer"),
];

/// Times so far.
#[derive(Debug, Default)]
pub(crate) struct Phases([Sum; ALL.len()]);

#[derive(Debug, Default)]
struct Sum {
    nanoseconds: AtomicU64,
    times: AtomicU64,
}

impl Phases {
    /// Adds what has passed since a piece of work began.
    pub(crate) fn add(&self, phase: Phase, begun: Instant) {
        let sum = &self.0[phase as usize];
        let passed = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        sum.nanoseconds.fetch_add(passed, Ordering::Relaxed);
        sum.times.fetch_add(1, Ordering::Relaxed);
    }

    /// Phases that came up.
    pub(crate) fn told(&self) -> Vec<PhaseTime> {
        let told = ALL.iter().map(|(phase, name)| {
            let sum = &self.0[*phase as usize];
            let time = Duration::from_nanos(sum.nanoseconds.load(Ordering::Relaxed));
            PhaseTime { name, time, times: sum.times.load(Ordering::Relaxed) }
        });
        told.filter(|phase| phase.times > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_in_order_and_only_if_they_came_up() {
        let phases = Phases::default();
        let begun = Instant::now();
        for phase in [Phase::Take, Phase::Decode, Phase::Decode, Phase::Plan] {
            phases.add(phase, begun);
        }
        let told = phases.told();
        let told: Vec<(&str, u64)> = told.iter().map(|phase| (phase.name, phase.times)).collect();
        assert_eq!(told, [("plan", 1), ("decode", 2), ("take", 1)]);
        for (at, (phase, _)) in ALL.iter().enumerate() {
            assert_eq!(*phase as usize, at, "{phase:?} stands at its own place");
        }
    }
}
