//! Functions of the native histograms in one window: differences, rates, sums, means. Where a
//! counter was reset is found once per series, not once per window.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::ResetHint;
use query::FloatHistogram;

use super::rate::{Edge, Rate};
use crate::histogram::{Added, Incompatible, Mean, Sum, Term, compact, divide, fell, same, scale};
use crate::notes::Remark;

/// A histogram and its instant.
pub(crate) type HistogramSample = (i64, Arc<FloatHistogram>);

/// Whether each sample of a series comes after a counter reset.
#[derive(Debug)]
pub(crate) struct Resets(Vec<bool>);

/// How much the hints of samples are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hints {
    /// They speak of the sample before.
    Hold,
    /// Samples between were left out, as subqueries do.
    Void,
}

impl Resets {
    /// `known` says of a sample whether it is known by other means to follow a reset.
    pub(crate) fn new(
        samples: &[HistogramSample],
        hints: Hints,
        known: impl Fn(usize) -> bool,
    ) -> Self {
        let is_reset = |at: usize| {
            let (h, before) = (&samples[at].1, &samples[at - 1].1);
            known(at)
                || match h.reset_hint {
                    ResetHint::Yes if hints == Hints::Hold => true,
                    ResetHint::No if hints == Hints::Hold => false,
                    _ => fell(h, before),
                }
        };
        Self((0..samples.len()).map(|at| at > 0 && is_reset(at)).collect())
    }

    #[inline]
    pub(crate) fn at(&self, sample: usize) -> bool {
        self.0[sample]
    }
}

/// The samples of one series in one window, and what is said of them.
#[derive(Debug)]
pub(crate) struct HistogramWindow<'a> {
    pub(crate) samples: &'a [HistogramSample],
    pub(crate) resets: &'a Resets,
    /// The first in the window, and the first after it.
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) remarks: &'a mut BTreeSet<Remark>,
}

/// When a window ends, and how long it is. Milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) end_ms: i64,
    pub(crate) range_ms: i64,
}

impl HistogramWindow<'_> {
    pub(crate) fn len(&self) -> usize {
        self.high - self.low
    }

    fn inside(&self) -> &[HistogramSample] {
        &self.samples[self.low..self.high]
    }

    fn remark(&mut self, remark: Remark) {
        self.remarks.insert(remark);
    }

    /// `rate`, `increase`, `delta`: extrapolated to the window's edges. A counter that is known to
    /// have begun inside the window was zero then.
    pub(crate) fn extrapolated(
        &mut self,
        rate: Rate,
        reach: Reach,
        began_ms: Option<i64>,
    ) -> Option<FloatHistogram> {
        if self.len() < 2 && began_ms.is_none() {
            return None;
        }
        let ((first_ms, first), (last_ms, _)) = (self.inside().first()?, self.inside().last()?);
        let first_count = if began_ms.is_some() { 0.0 } else { first.count };
        let start_ms = reach.end_ms.saturating_sub(reach.range_ms);
        let edge = match began_ms {
            Some(began_ms) => Edge::begun((began_ms, *last_ms)),
            None => Edge::new((*first_ms, *last_ms), self.len(), (start_ms, reach.end_ms)),
        };
        let mut difference = self.difference(rate != Rate::Delta, began_ms.is_some())?;
        let mut to_start = edge.to_start;
        if rate != Rate::Delta && difference.count > 0.0 && first_count >= 0.0 {
            // A counter cannot have been below zero.
            let to_zero = edge.sampled * (first_count / difference.count);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        let mut factor = (edge.sampled + to_start + edge.to_end) / edge.sampled;
        if rate == Rate::PerSecond {
            factor /= reach.range_ms as f64 / 1000.0;
        }
        scale(&mut difference, factor);
        Some(difference)
    }

    /// From the first to the last sample, with what a counter had counted before each reset.
    fn difference(&mut self, counter: bool, from_zero: bool) -> Option<FloatHistogram> {
        let (first, last) = (Arc::clone(&self.inside().first()?.1), self.high - 1);
        let last_h = Arc::clone(&self.samples[last].1);
        let is_gauge = |h: &FloatHistogram| h.reset_hint == ResetHint::Gauge;
        let both_gauges = is_gauge(&first) && is_gauge(&last_h);
        if !counter && !both_gauges {
            self.remark(Remark::NotGauge);
        }
        if counter && self.inside().iter().any(|(_, h)| is_gauge(h)) {
            self.remark(Remark::NotCounter);
        }
        // Before a reset the buckets of the first sample do not matter, whatever they are.
        let skips_first = counter && !from_zero && self.resets.at(self.low + 1);
        let from = if skips_first { self.low + 1 } else { self.low };
        let relevant = if counter { from..self.high } else { self.low..self.low };
        let layouts = self.samples[relevant].iter().map(|(_, h)| h).chain([&last_h]);
        let mut schema = last_h.schema.min(self.samples[from].1.schema);
        for h in layouts {
            if h.has_custom_bounds() != self.samples[from].1.has_custom_bounds() {
                self.remark(Remark::MixedSchemas);
                return None;
            }
            schema = schema.min(h.schema);
        }
        let mut h = (*last_h).clone();
        h.reduce_to(schema);
        let mut sum = Sum::plain(h);
        if !skips_first && !from_zero {
            self.add(&mut sum, &first, Term::Minus)?;
        }
        if counter {
            let second = if from_zero { self.low + 1 } else { self.low + 2 };
            for at in (second..self.high).filter(|at| self.resets.at(*at)) {
                self.remarks_of(sum.add(&self.samples[at - 1].1, Term::Plus), Term::Plus)?;
            }
        }
        let mut h = sum.total();
        h.reset_hint = ResetHint::Gauge;
        compact(&mut h);
        Some(h)
    }

    fn add(&mut self, sum: &mut Sum, h: &FloatHistogram, term: Term) -> Option<()> {
        self.remarks_of(sum.add(h, term), term)
    }

    /// Remembers what is worth saying. That hints of resets contradict each other is not, where
    /// resets are looked at one by one.
    fn remarks_of(&mut self, added: Result<Added, Incompatible>, term: Term) -> Option<()> {
        match added {
            Ok(Added { reconciled, .. }) => {
                if reconciled {
                    self.remark(match term {
                        Term::Minus => Remark::ReconciledInSubtraction,
                        Term::Plus | Term::Divided(_) => Remark::ReconciledInAddition,
                    });
                }
                Some(())
            }
            Err(Incompatible) => {
                self.remark(Remark::MixedSchemas);
                None
            }
        }
    }

    /// `irate` and `idelta`: between the last two samples.
    pub(crate) fn instant(&mut self, per_second: bool) -> Option<FloatHistogram> {
        let [.., (before_ms, before), (last_ms, last)] = self.inside() else { return None };
        let apart_ms = last_ms - before_ms;
        let (before, last) = (Arc::clone(before), Arc::clone(last));
        if apart_ms == 0 {
            return None;
        }
        let gauges = [&before, &last].map(|h| h.reset_hint == ResetHint::Gauge);
        if per_second && gauges.contains(&true) {
            self.remark(Remark::NotCounter);
        }
        if !per_second && gauges.contains(&false) {
            self.remark(Remark::NotGauge);
        }
        let mut sum = Sum::plain((*last).clone());
        // After a reset the counter has counted from zero.
        if !(per_second && self.resets.at(self.high - 1)) {
            self.add(&mut sum, &before, Term::Minus)?;
        }
        let mut h = sum.total();
        h.reset_hint = ResetHint::Gauge;
        compact(&mut h);
        if per_second {
            divide(&mut h, apart_ms as f64 / 1000.0);
        }
        Some(h)
    }

    /// `sum_over_time`
    pub(crate) fn sum(&mut self) -> Option<FloatHistogram> {
        let (first, rest) = self.samples[self.low..self.high].split_first()?;
        let mut sum = Sum::compensated((*first.1).clone());
        for (_, h) in rest {
            let added = sum.add(h, Term::Plus);
            self.aggregated(added)?;
        }
        self.note_collision();
        let mut total = sum.total();
        compact(&mut total);
        Some(total)
    }

    /// `avg_over_time`
    pub(crate) fn avg(&mut self) -> Option<FloatHistogram> {
        let (first, rest) = self.samples[self.low..self.high].split_first()?;
        let mut mean = Mean::of((*first.1).clone());
        for (_, h) in rest {
            let added = mean.add(h);
            self.aggregated(added)?;
        }
        self.note_collision();
        let mut total = mean.total();
        compact(&mut total);
        Some(total)
    }

    fn aggregated(&mut self, added: Result<Added, Incompatible>) -> Option<()> {
        match added {
            Ok(Added { reconciled: true, .. }) => self.remark(Remark::ReconciledInAggregation),
            Ok(_) => {}
            Err(Incompatible) => {
                self.remark(Remark::MixedSchemas);
                return None;
            }
        }
        Some(())
    }

    fn note_collision(&mut self) {
        let has = |hint| self.inside().iter().any(|(_, h)| h.reset_hint == hint);
        if has(ResetHint::Yes) && has(ResetHint::No) {
            self.remark(Remark::ConflictingResets);
        }
    }
}

/// A sample of either kind, for functions that look at each next to the one before it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Either {
    Float(f64),
    /// The place of a histogram in its series.
    Histogram(usize),
}

/// How many of the samples differ from the one before them by what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Changes,
    Resets,
}

impl Counted {
    /// Counts in a sequence of floats and histograms.
    pub(crate) fn count(
        self,
        sequence: impl Iterator<Item = Either>,
        samples: &[HistogramSample],
        resets: &Resets,
    ) -> f64 {
        let mut before = None;
        let mut count = 0.0;
        for now in sequence {
            let counts = before.is_some_and(|before| match (before, now) {
                (Either::Float(a), Either::Float(b)) => match self {
                    Self::Changes => a != b && !(a.is_nan() && b.is_nan()),
                    Self::Resets => b < a,
                },
                (Either::Histogram(a), Either::Histogram(b)) => match self {
                    Self::Changes => !same(&samples[a].1, &samples[b].1),
                    Self::Resets => resets.at(b),
                },
                _ => true,
            });
            count += f64::from(u8::from(counts));
            before = Some(now);
        }
        count
    }
}

/// Floats and histograms of one window in order of time.
pub(crate) fn in_order<'a>(
    floats: (&'a [i64], &'a [f64]),
    samples: &'a [HistogramSample],
    low: usize,
    high: usize,
) -> impl Iterator<Item = Either> + 'a {
    let (mut float, mut histogram) = (0, low);
    std::iter::from_fn(move || {
        let next_ms = floats.0.get(float).copied();
        let next_histogram_ms = (histogram < high).then(|| samples[histogram].0);
        match (next_ms, next_histogram_ms) {
            (Some(t), other) if other.is_none_or(|h| t < h) => {
                float += 1;
                Some(Either::Float(floats.1[float - 1]))
            }
            (_, Some(_)) => {
                histogram += 1;
                Some(Either::Histogram(histogram - 1))
            }
            _ => None,
        }
    })
}
