//! Aggregations that take one series after the other: a cell per group and step, so that memory is
//! groups × steps however many series there are.

use crate::column::{Bitmap, Column};

use super::sums::{Mean, Sum};

/// What is computed of each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    Sum,
    Avg,
    Count,
    Group,
    Min,
    Max,
    Stddev,
    Stdvar,
}

/// The cells of all groups.
#[derive(Debug)]
pub(crate) struct Accumulators {
    fold: Fold,
    steps: usize,
    seen: Bitmap,
    /// By group: whether all its cells were seen at once.
    whole: Vec<bool>,
    /// Sum, mean or extreme.
    main: Vec<f64>,
    /// What the sum lost, or the squared distances. Empty where not needed.
    side: Vec<f64>,
    /// Points so far. Empty where not needed.
    count: Vec<f64>,
    /// Averages that went over to incremental means; made when the first one does.
    incremental: Option<Bitmap>,
}

impl Accumulators {
    pub(crate) fn new(fold: Fold, groups: usize, steps: usize) -> Self {
        let cells = groups.saturating_mul(steps);
        let when = |wanted: bool| if wanted { vec![0.0; cells] } else { Vec::new() };
        use Fold::{Avg, Count, Stddev, Stdvar, Sum};
        Self {
            fold,
            steps,
            seen: Bitmap::none(cells),
            whole: vec![false; groups],
            main: vec![0.0; cells],
            side: when(matches!(fold, Sum | Avg | Stddev | Stdvar)),
            count: when(matches!(fold, Avg | Count | Stddev | Stdvar)),
            incremental: None,
        }
    }

    /// Bytes that so many groups need.
    pub(crate) fn heap_bytes(fold: Fold, groups: usize, steps: usize) -> usize {
        let per_cell = match fold {
            Fold::Avg | Fold::Stddev | Fold::Stdvar => 24,
            Fold::Sum | Fold::Count => 16,
            Fold::Group | Fold::Min | Fold::Max => 8,
        };
        let cells = groups.saturating_mul(steps);
        cells.saturating_mul(per_cell).saturating_add(Bitmap::bytes(cells)).saturating_add(groups)
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// Adds the next series, whose group is known. The order of calls is the order of additions.
    pub(crate) fn add(&mut self, group: usize, column: &Column) {
        let base = group * self.steps;
        if matches!(self.fold, Fold::Count | Fold::Group) {
            for step in column.occupied().ones() {
                self.tally(base + step);
            }
            return;
        }
        if column.present.is_full() {
            if self.fold == Fold::Sum && self.whole[group] {
                let cells = base..base + self.steps;
                let sums = self.main[cells.clone()].iter_mut().zip(&mut self.side[cells]);
                for ((value, lost), term) in sums.zip(&column.values) {
                    let sum = Sum { value: *value, lost: *lost }.add(*term);
                    (*value, *lost) = (sum.value, sum.lost);
                }
                return;
            }
            self.whole[group] = true;
            for (step, value) in column.values.iter().enumerate() {
                self.put(base + step, *value);
            }
            return;
        }
        for step in column.present.ones() {
            self.put(base + step, column.values[step]);
        }
    }

    fn tally(&mut self, cell: usize) {
        self.seen.set(cell);
        if let Some(count) = self.count.get_mut(cell) {
            *count += 1.0;
        }
    }

    #[inline]
    fn put(&mut self, cell: usize, value: f64) {
        if !self.seen.get(cell) {
            self.seen.set(cell);
            self.start(cell, value);
            return;
        }
        match self.fold {
            Fold::Sum => {
                let sum = Sum { value: self.main[cell], lost: self.side[cell] }.add(value);
                (self.main[cell], self.side[cell]) = (sum.value, sum.lost);
            }
            Fold::Min if value < self.main[cell] || self.main[cell].is_nan() => {
                self.main[cell] = value
            }
            Fold::Max if value > self.main[cell] || self.main[cell].is_nan() => {
                self.main[cell] = value
            }
            Fold::Avg => self.put_mean(cell, value),
            Fold::Stddev | Fold::Stdvar => {
                self.count[cell] += 1.0;
                let delta = value - self.main[cell];
                self.main[cell] += delta / self.count[cell];
                self.side[cell] += delta * (value - self.main[cell]);
            }
            Fold::Min | Fold::Max | Fold::Count | Fold::Group => {}
        }
    }

    fn start(&mut self, cell: usize, value: f64) {
        self.main[cell] = value;
        match self.fold {
            Fold::Avg => self.count[cell] = 1.0,
            Fold::Stddev | Fold::Stdvar => {
                self.count[cell] = 1.0;
                self.side[cell] = if value.is_finite() { 0.0 } else { f64::NAN };
            }
            _ => {}
        }
    }

    fn mean(&self, cell: usize) -> Mean {
        Mean {
            sum: Sum { value: self.main[cell], lost: self.side[cell] },
            count: self.count[cell],
            incremental: self.incremental.as_ref().is_some_and(|i| i.get(cell)),
        }
    }

    fn put_mean(&mut self, cell: usize, value: f64) {
        let mut mean = self.mean(cell);
        mean.add(value);
        self.main[cell] = mean.sum.value;
        self.side[cell] = mean.sum.lost;
        self.count[cell] = mean.count;
        if mean.incremental {
            let cells = self.main.len();
            self.incremental.get_or_insert_with(|| Bitmap::none(cells)).set(cell);
        }
    }

    fn result(&self, cell: usize) -> f64 {
        match self.fold {
            Fold::Sum => self.main[cell] + self.side[cell],
            Fold::Avg => self.mean(cell).value(),
            Fold::Count => self.count[cell],
            Fold::Group => 1.0,
            Fold::Min | Fold::Max => self.main[cell],
            Fold::Stdvar => self.side[cell] / self.count[cell],
            Fold::Stddev => (self.side[cell] / self.count[cell]).sqrt(),
        }
    }

    /// The column of one group.
    pub(crate) fn column(&self, group: usize) -> Column {
        let mut column = Column::empty(self.steps);
        for step in 0..self.steps {
            let cell = group * self.steps + step;
            if self.seen.get(cell) {
                column.set(step, self.result(cell));
            }
        }
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fold: Fold, terms: &[f64], expected: f64) {
        let mut cells = Accumulators::new(fold, 2, 2);
        for term in terms {
            let mut column = Column::empty(2);
            column.set(1, *term);
            cells.add(1, &column);
        }
        assert!(!cells.column(0).any());
        let column = cells.column(1);
        assert_eq!(column.get(0), None);
        let found = column.get(1).expect("a point");
        assert!(found == expected || found.is_nan() && expected.is_nan(), "{fold:?}: {found}");
    }

    #[test]
    fn groups_are_summed_up() {
        let nan = f64::NAN;
        check(Fold::Sum, &[1.0, 1e100, 1.0, -1e100], 2.0);
        check(Fold::Sum, &[-0.0], -0.0);
        check(Fold::Avg, &[f64::MAX, f64::MAX], f64::MAX);
        check(Fold::Avg, &[1.0, 2.0, 6.0], 3.0);
        check(Fold::Count, &[nan, 2.0], 2.0);
        check(Fold::Group, &[nan, 2.0], 1.0);
        check(Fold::Min, &[nan, 2.0, 1.0, nan], 1.0);
        check(Fold::Max, &[nan, 2.0, 1.0, nan], 2.0);
        check(Fold::Max, &[nan, nan], nan);
        check(Fold::Stdvar, &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 4.0);
        check(Fold::Stddev, &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 2.0);
        check(Fold::Stddev, &[f64::INFINITY], nan);
    }
}
