//! Grids: the instants at which an expression is evaluated.

use query::Error;

/// Evenly spaced instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Grid {
    /// The first instant.
    pub(crate) start_ms: i64,
    /// Between two instants; at least 1.
    pub(crate) step_ms: i64,
    /// How many there are.
    pub(crate) len: usize,
}

impl Grid {
    pub(crate) fn instant(at_ms: i64) -> Self {
        Self { start_ms: at_ms, step_ms: 1, len: 1 }
    }

    /// From the start up to and including the end; empty if the end comes first.
    pub(crate) fn new(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        let step_ms = step_ms.max(1);
        let len = match end_ms.checked_sub(start_ms) {
            Some(span @ 0..) => usize::try_from(span / step_ms + 1).unwrap_or(usize::MAX),
            _ => 0,
        };
        Self { start_ms, step_ms, len }
    }

    /// Refuses more instants than samples may be read: a single series would be too much. Memory is
    /// looked at later, when it is known how many series there are.
    pub(crate) fn check_len(&self, what: &str, steps_max: usize) -> Result<(), Error> {
        if self.len <= steps_max {
            return Ok(());
        }
        Err(Error::Execution(format!(
            "query processing would load too many samples into memory in query execution: {what} is evaluated at {} steps, the limit is {steps_max} (query_samples_max); ask for a longer step or a shorter range",
            self.len
        )))
    }

    #[inline]
    pub(crate) fn at(&self, i: usize) -> i64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(i as i64))
    }

    pub(crate) fn is_instant(&self) -> bool {
        self.len == 1
    }

    pub(crate) fn instants(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.len).map(|i| self.at(i))
    }

    /// The instants at which a subquery evaluates its expression: multiples of its step, in
    /// (first − range, last].
    pub(crate) fn of_subquery(first_ms: i64, last_ms: i64, range_ms: i64, step_ms: i64) -> Self {
        let step_ms = step_ms.max(1);
        let before = first_ms.saturating_sub(range_ms);
        let start_ms = before.div_euclid(step_ms).saturating_mul(step_ms).saturating_add(step_ms);
        Self::new(start_ms, last_ms, step_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(first: i64, last: i64, range: i64, step: i64, instants: &[i64]) {
        let grid = Grid::of_subquery(first, last, range, step);
        assert_eq!(grid.instants().collect::<Vec<_>>(), instants);
    }

    #[test]
    fn a_grid_has_as_many_steps_as_samples_may_be_read() {
        let day_ms = 86_400_000;
        for (grid, steps_max, allowed) in [
            (Grid::new(0, 11_000, 1), 11_001, true),
            (Grid::new(0, 11_001, 1), 11_001, false),
            (Grid::of_subquery(0, 0, 36_500 * day_ms, 1), 50_000_000, false),
            (Grid::of_subquery(i64::MIN, i64::MAX - 1, 1, 1), usize::MAX - 1, true),
        ] {
            assert_eq!(grid.check_len("the subquery", steps_max).is_ok(), allowed, "{grid:?}");
        }
    }

    #[test]
    fn subqueries_are_aligned_and_open_on_the_left() {
        check(100, 100, 30, 10, &[80, 90, 100]);
        check(105, 105, 30, 10, &[80, 90, 100]);
        check(0, 0, 30, 10, &[-20, -10, 0]);
        check(-5, -5, 10, 10, &[-10]);
        check(100, 120, 5, 10, &[100, 110, 120]);
        check(103, 103, 2, 10, &[]);
    }
}
