//! What `anchored` and `smoothed` mean for native histograms: as for floats (`extended`), bucket by
//! bucket.

use query::FloatHistogram;
use query::promql::Edges;

use super::extended::Around;
use super::histograms::{HistogramSample, HistogramWindow, Reach};
use super::rate::Rate;
use crate::histogram::{Incompatible, Sum, Term, compact, divide, fell, scale};
use crate::notes::Remark;
use model::ResetHint;

/// A share of the way from one histogram to another.
pub(crate) fn between(
    from: &FloatHistogram,
    to: &FloatHistogram,
    share: f64,
    reset: bool,
) -> Result<FloatHistogram, Incompatible> {
    let mut h = to.clone();
    if reset {
        // The line begins at zero.
        scale(&mut h, share);
        return Ok(h);
    }
    let mut way = Sum::plain(h);
    way.add(from, Term::Minus)?;
    let mut way = way.total();
    scale(&mut way, share);
    let mut sum = Sum::plain(from.clone());
    sum.add(&way, Term::Plus)?;
    Ok(sum.total())
}

/// How far an instant is on the way from one sample to the next.
fn share(from: &HistogramSample, to: &HistogramSample, at_ms: i64) -> f64 {
    (at_ms - from.0) as f64 / (to.0 - from.0) as f64
}

/// The edges of a range, and what lies between them.
struct Inner {
    left: FloatHistogram,
    right: FloatHistogram,
    /// Whether the left edge lies between two samples.
    left_is_between: bool,
    /// The samples strictly inside.
    low: usize,
    high: usize,
}

impl HistogramWindow<'_> {
    /// `rate`, `increase`, `delta` without extrapolation.
    pub(crate) fn between_edges(
        &mut self,
        rate: Rate,
        edges: Edges,
        reach: Reach,
        timestamps: &[i64],
    ) -> Option<FloatHistogram> {
        let range = (reach.end_ms.saturating_sub(reach.range_ms), reach.end_ms);
        let around = Around::new(timestamps, self.low..self.high, edges, range)?;
        let counter = rate != Rate::Delta;
        self.remark_kinds(around, counter);
        let computed = self.computed(around, edges, range, counter);
        let Ok(mut h) = computed else {
            self.remarks.insert(Remark::MixedSchemas);
            return None;
        };
        h.reset_hint = ResetHint::Gauge;
        compact(&mut h);
        if rate == Rate::PerSecond {
            divide(&mut h, reach.range_ms as f64 / 1000.0);
        }
        Some(h)
    }

    fn remark_kinds(&mut self, Around { first, last }: Around, counter: bool) {
        let mut gauges =
            self.samples[first..=last].iter().map(|(_, h)| h.reset_hint == ResetHint::Gauge);
        if counter && gauges.any(|gauge| gauge) {
            self.remarks.insert(Remark::NotCounter);
        } else if !counter && !gauges.all(|gauge| gauge) {
            self.remarks.insert(Remark::NotGauge);
        }
    }

    fn computed(
        &self,
        around: Around,
        edges: Edges,
        range: (i64, i64),
        counter: bool,
    ) -> Result<FloatHistogram, Incompatible> {
        let inner = self.inner(around, edges, range, counter)?;
        let Inner { left, right, left_is_between, low, high } = inner;
        let mut sum = Sum::plain(right);
        sum.add(&left, Term::Minus)?;
        if !counter {
            return Ok(sum.total());
        }
        if low < high {
            let after_left = match left_is_between {
                true => fell(&self.samples[low].1, &left),
                false => low > around.first && self.resets.at(low),
            };
            if after_left {
                sum.add(&left, Term::Plus)?;
            }
            for at in (low + 1..high).filter(|at| self.resets.at(*at)) {
                sum.add(&self.samples[at - 1].1, Term::Plus)?;
            }
        }
        // From the last sample inside to the right edge.
        if high == around.last && high > around.first && self.resets.at(high) {
            if low < high {
                sum.add(&self.samples[high - 1].1, Term::Plus)?;
            } else if !left_is_between {
                sum.add(&left, Term::Plus)?;
            }
        }
        Ok(sum.total())
    }

    fn inner(
        &self,
        Around { first, last }: Around,
        edges: Edges,
        (start_ms, end_ms): (i64, i64),
        counter: bool,
    ) -> Result<Inner, Incompatible> {
        let smoothed = edges == Edges::Smoothed;
        let at = |i: usize| &self.samples[i];
        let on_the_way = |to: usize, at_ms: i64| {
            let (from, next) = (at(to - 1), at(to));
            let reset = counter && self.resets.at(to);
            between(&from.1, &next.1, share(from, next, at_ms), reset)
        };
        let left_is_between = smoothed && at(first).0 < start_ms && first < last;
        let left = match left_is_between {
            true => on_the_way(first + 1, start_ms)?,
            false => (*at(first).1).clone(),
        };
        let right = match smoothed && last > first && at(last).0 > end_ms {
            true => on_the_way(last, end_ms)?,
            false => (*at(last).1).clone(),
        };
        let low = if at(first).0 <= start_ms { first + 1 } else { first };
        let high = if at(last).0 >= end_ms { last } else { last + 1 };
        Ok(Inner { left, right, left_is_between, low, high })
    }

    /// The histogram at one instant on the line between those around it; after the last one, that
    /// one.
    pub(crate) fn at_instant(&mut self, at_ms: i64) -> Option<FloatHistogram> {
        let inside = &self.samples[self.low..self.high];
        let next = self.low + inside.partition_point(|(t, _)| *t < at_ms);
        if next < self.high && self.samples[next].0 == at_ms {
            return Some((*self.samples[next].1).clone());
        }
        let before = next.checked_sub(1).filter(|before| *before >= self.low)?;
        if next == self.high {
            return Some((*self.samples[before].1).clone());
        }
        let (from, to) = (&self.samples[before], &self.samples[next]);
        let counter = to.1.reset_hint != ResetHint::Gauge;
        if from.1.has_custom_bounds() != to.1.has_custom_bounds() {
            self.remarks.insert(Remark::MixedSchemas);
            return None;
        }
        let reset = counter && self.resets.at(next);
        between(&from.1, &to.1, share(from, to, at_ms), reset).ok()
    }
}
