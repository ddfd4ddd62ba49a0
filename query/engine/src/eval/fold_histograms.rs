//! Sums and means of native histograms, a cell per group and step. Beside floats a group has
//! neither.

use std::sync::Arc;

use model::ResetHint;
use query::promql::Span;
use query::{Error, FloatHistogram};

use crate::budget::{Budget, Reserved};
use crate::column::{Column, histogram_bytes};
use crate::histogram::{Added, Incompatible, Mean, Sum, Term, compact};
use crate::kernels::aggregate::Fold;
use crate::notes::Notes;

/// The cells, and where to say what happened in them.
#[derive(Debug)]
pub(super) struct HistogramCells {
    fold: Fold,
    steps: usize,
    cells: Vec<Option<Box<Cell>>>,
    notes: Arc<Notes>,
    span: Span,
    budget: Arc<Budget>,
    reserved: Reserved,
}

#[derive(Debug)]
struct Cell {
    state: State,
    /// Some follow a reset, some do not.
    seen_reset: bool,
    seen_no_reset: bool,
    /// Exponential and custom buckets: there is no result.
    incompatible: bool,
}

#[derive(Debug)]
enum State {
    Sum(Sum),
    Mean(Mean),
}

impl HistogramCells {
    pub(super) fn new(
        fold: Fold,
        groups: usize,
        steps: usize,
        (notes, span): (Arc<Notes>, Span),
        budget: &Arc<Budget>,
    ) -> Result<Self, Error> {
        let count = groups.saturating_mul(steps);
        let reserved = budget.reserve(count.saturating_mul(size_of::<usize>()))?;
        let mut cells = Vec::new();
        cells.resize_with(count, || None);
        Ok(Self { fold, steps, cells, notes, span, budget: Arc::clone(budget), reserved })
    }

    /// Adds the histograms of the next series.
    pub(super) fn add(&mut self, group: usize, column: &Column, metric: &str) -> Result<(), Error> {
        for (step, h) in column.histograms.iter().flat_map(|all| all.iter().enumerate()) {
            if let Some(h) = h {
                self.add_one(group * self.steps + step, h, metric)?;
            }
        }
        Ok(())
    }

    fn add_one(&mut self, at: usize, h: &FloatHistogram, metric: &str) -> Result<(), Error> {
        let Some(cell) = &mut self.cells[at] else {
            // Beside its numbers a sum has what rounding lost of each.
            self.reserved.absorb(self.budget.reserve(2 * histogram_bytes(h))?);
            self.cells[at] = Some(Box::new(Cell::new(self.fold, h)));
            return Ok(());
        };
        cell.see(h.reset_hint);
        if cell.incompatible {
            return Ok(());
        }
        let before = histogram_bytes(cell.value());
        match cell.add(h) {
            Ok(Added { reconciled, .. }) => {
                if reconciled {
                    self.notes.reconciled("aggregation", self.span);
                }
                let grown = histogram_bytes(cell.value()).saturating_sub(before);
                if grown > 0 {
                    self.reserved.absorb(self.budget.reserve(2 * grown)?);
                }
            }
            Err(Incompatible) => {
                cell.incompatible = true;
                let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
                self.notes.warn(&format!("{text} {metric:?}"), self.span);
            }
        }
        Ok(())
    }

    /// Moves the results of a group into its column of floats; a step that has both has neither.
    pub(super) fn finish(&mut self, group: usize, column: &mut Column) {
        for step in 0..self.steps {
            let Some(cell) = self.cells[group * self.steps + step].take() else { continue };
            if column.present.get(step) {
                column.present.clear(step);
                let text = "encountered a mix of histograms and floats for aggregation";
                self.notes.warn(text, self.span);
                continue;
            }
            if cell.seen_reset && cell.seen_no_reset {
                let text = "conflicting counter resets during histogram aggregation";
                self.notes.warn(text, self.span);
            }
            if !cell.incompatible {
                let mut total = match cell.state {
                    State::Sum(sum) => sum.total(),
                    State::Mean(mean) => mean.total(),
                };
                compact(&mut total);
                column.set_histogram(step, Arc::new(total));
            }
        }
    }

    /// The memory of the results.
    pub(super) fn take_reserved(&mut self) -> Reserved {
        std::mem::take(&mut self.reserved)
    }
}

impl Cell {
    fn new(fold: Fold, h: &FloatHistogram) -> Self {
        let state = match fold {
            Fold::Avg => State::Mean(Mean::of(h.clone())),
            _ => State::Sum(Sum::compensated(h.clone())),
        };
        let mut cell = Self { state, seen_reset: false, seen_no_reset: false, incompatible: false };
        cell.see(h.reset_hint);
        cell
    }

    fn see(&mut self, hint: ResetHint) {
        self.seen_reset |= hint == ResetHint::Yes;
        self.seen_no_reset |= hint == ResetHint::No;
    }

    fn add(&mut self, h: &FloatHistogram) -> Result<Added, Incompatible> {
        match &mut self.state {
            State::Sum(sum) => sum.add(h, Term::Plus),
            State::Mean(mean) => mean.add(h),
        }
    }

    fn value(&self) -> &FloatHistogram {
        match &self.state {
            State::Sum(sum) => sum.value(),
            State::Mean(mean) => mean.value(),
        }
    }
}
