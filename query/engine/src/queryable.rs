//! Samples that steps look at, counted as Prometheus does (`totalQueryableSamples`): one that lies
//! in the windows of ten steps counts ten times, those inside a subquery only through the windows
//! over its result, and what is evaluated once for all steps at each of them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::grid::Grid;

/// Counts of one evaluation.
#[derive(Debug, Default)]
pub(crate) struct Queryable {
    total: AtomicU64,
    /// Subqueries around what is evaluated now; the parts of a plan are evaluated one by one.
    subqueries: AtomicUsize,
    by_step: OnceLock<ByStep>,
}

#[derive(Debug)]
struct ByStep {
    grid: Grid,
    counts: Box<[AtomicU64]>,
}

impl Queryable {
    /// Also counts by step of the question from now on.
    pub(crate) fn count_by_step(&self, grid: Grid) {
        let counts = || (0..grid.len).map(|_| AtomicU64::new(0)).collect();
        self.by_step.get_or_init(|| ByStep { grid, counts: counts() });
    }

    /// Counts samples; `counts` has the numbers by step of the grid.
    pub(crate) fn saw(&self, grid: &Grid, total: u64, counts: impl Iterator<Item = (usize, u64)>) {
        if self.subqueries.load(Ordering::Relaxed) > 0 {
            return;
        }
        self.total.fetch_add(total, Ordering::Relaxed);
        if let Some(by_step) = self.by_step.get() {
            counts.for_each(|(step, count)| by_step.add(grid.at(step), count));
        }
    }

    /// What is counted until [`Queryable::leave_subquery`] is inside a subquery.
    pub(crate) fn enter_subquery(&self) {
        self.subqueries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave_subquery(&self) {
        self.subqueries.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// What was counted since the total was `before` was for the first instant of a grid and stands
    /// for all of them.
    pub(crate) fn repeat(&self, grid: &Grid, before: u64) {
        let seen = self.total().saturating_sub(before);
        let others = grid.len.saturating_sub(1);
        self.saw(grid, seen.saturating_mul(others as u64), (1..grid.len).map(|step| (step, seen)));
    }

    /// The counts by instant, if they were wanted.
    pub(crate) fn by_step(&self) -> Vec<(i64, u64)> {
        let Some(ByStep { grid, counts }) = self.by_step.get() else { return Vec::new() };
        grid.instants().zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect()
    }
}

impl ByStep {
    fn add(&self, at_ms: i64, count: u64) {
        let step = at_ms.saturating_sub(self.grid.start_ms).max(0) / self.grid.step_ms.max(1);
        let last = self.counts.len().saturating_sub(1);
        let step = usize::try_from(step).unwrap_or(last).min(last);
        if let Some(counter) = self.counts.get(step) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Labels;
    use query::Evaluation;
    use query::promql::{Features, parse_with};
    use tenancy::ReadScope;

    use crate::{Engine, Options, Pool, Table, instant};

    /// Three series with a sample every 10 s from 0 to 600 s; steps at 300, 330 and 360 s.
    #[track_caller]
    fn check(question: &str, counts: [u64; 3]) {
        let mut table = Table::default();
        let samples: Vec<(i64, f64)> = (0..=60).map(|i| (i * 10_000, i as f64)).collect();
        for i in ["a", "b", "c"] {
            table.add(Labels::from_pairs([("__name__", "m"), ("i", i)]), &samples, Vec::new());
        }
        let expr = parse_with(question, Features::ALL).expect("a right question");
        let evaluation = Evaluation {
            end_ms: 360_000,
            step_ms: 30_000,
            per_step_stats: true,
            fresh: true,
            ..instant(expr, 300_000)
        };
        let engine = Engine::new(Arc::new(table), Pool::new(1), Options::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let scope = ReadScope::for_test(&[(1, "a")]);
        let answer = runtime.expect("a runtime").block_on(engine.evaluate(&scope, &evaluation));
        let stats = answer.expect("an answer").stats;
        let found: Vec<u64> = stats.samples_per_step.iter().map(|(_, count)| *count).collect();
        assert_eq!(found, counts, "{question}");
        assert_eq!(stats.samples_queryable, counts.iter().sum::<u64>(), "{question}");
        assert_eq!(stats.samples_per_step[1].0, 330_000, "{question}");
    }

    /// The numbers are those of Prometheus' rules, worked out by hand.
    #[test]
    fn steps_count_what_they_look_at() {
        check("m", [3, 3, 3]);
        check("m{i='a'} + m{i='b'}", [2, 2, 2]);
        check("sum(m)", [3, 3, 3]);
        check("rate(m[1m])", [18, 18, 18]);
        check("m offset 5m", [3, 3, 3]);
        check("m @ 100", [3, 3, 3]);
        check("m{i='a'} @ 100 + m{i='a'}", [2, 2, 2]);
        check("1", [0, 0, 0]);
        // Six steps of the subquery in each window; what is inside it counts through them alone.
        check("max_over_time(m[1m:10s])", [18, 18, 18]);
        check("max_over_time(sum_over_time(m[1m])[1m:10s])", [18, 18, 18]);
        check("sum_over_time(m[1m] @ 600)", [18, 18, 18]);
    }
}
