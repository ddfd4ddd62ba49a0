//! Native histograms of a window, merged: what counters grew by, or the sum of gauges.
//!
//! Histograms of different resolution are brought to the coarser one, those with a wider zero
//! bucket take in what the others have there. Where custom bounds change, what was merged before
//! the change is left out: nothing can be said of it in the new ones.

use std::collections::BTreeMap;

use model::{Buckets, Histogram, ResetHint, Span};

/// The schema of custom bounds.
const CUSTOM: i32 = -53;

/// A histogram by bucket index, counts absolute.
#[derive(Debug, Clone, PartialEq)]
struct Counts {
    schema: i32,
    zero_threshold: f64,
    custom_values: Vec<f64>,
    count: f64,
    sum: f64,
    zero_count: f64,
    positive: BTreeMap<i32, f64>,
    negative: BTreeMap<i32, f64>,
}

/// What the histograms of a window make together.
#[derive(Debug)]
pub(super) struct Merged {
    is_gauge: bool,
    counts: Counts,
}

impl Merged {
    /// From the first one: of counters nothing yet.
    pub(super) fn new(first: &Histogram) -> Self {
        let is_gauge = first.reset_hint == ResetHint::Gauge;
        let mut counts = Counts::of(first);
        if !is_gauge {
            counts.scale(0.0);
        }
        Self { is_gauge, counts }
    }

    /// Adds the one after `before`; `None`: one that is known to have been zero since.
    pub(super) fn add(&mut self, before: Option<&Histogram>, histogram: &Histogram) {
        let mut growth = Counts::of(histogram);
        if let Some(before) = before.filter(|_| !self.is_gauge) {
            let mut before = Counts::of(before);
            if histogram.reset_hint != ResetHint::Yes && !growth.is_reset_after(&mut before) {
                before.scale(-1.0);
                growth.add(before);
            }
        }
        self.counts.add(growth);
    }

    pub(super) fn into_histogram(self) -> Histogram {
        let reset_hint = if self.is_gauge { ResetHint::Gauge } else { ResetHint::Unknown };
        self.counts.into_histogram(reset_hint)
    }
}

impl Counts {
    fn of(histogram: &Histogram) -> Self {
        let (count, zero_count, positive, negative) = match &histogram.buckets {
            Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => {
                let absolute = |deltas: &[i64]| -> Vec<f64> {
                    let sums = deltas.iter().scan(0i64, |sum, delta| {
                        *sum = sum.wrapping_add(*delta);
                        Some(*sum as f64)
                    });
                    sums.collect()
                };
                let (count, zero_count) = (*count as f64, *zero_count as f64);
                (count, zero_count, absolute(positive_deltas), absolute(negative_deltas))
            }
            Buckets::Float { count, zero_count, positive, negative } => {
                (*count, *zero_count, positive.clone(), negative.clone())
            }
        };
        Self {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            custom_values: histogram.custom_values.clone(),
            count,
            sum: histogram.sum,
            zero_count,
            positive: indexed(&histogram.positive_spans, &positive),
            negative: indexed(&histogram.negative_spans, &negative),
        }
    }

    fn sides(&mut self) -> [&mut BTreeMap<i32, f64>; 2] {
        [&mut self.positive, &mut self.negative]
    }

    fn scale(&mut self, factor: f64) {
        for value in [&mut self.count, &mut self.sum, &mut self.zero_count] {
            *value *= factor;
        }
        for side in self.sides() {
            side.values_mut().for_each(|count| *count *= factor);
        }
    }

    /// Whether both can be brought to one layout.
    fn fits(&self, other: &Self) -> bool {
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        (self.schema == CUSTOM) == (other.schema == CUSTOM)
            && bits(&self.custom_values) == bits(&other.custom_values)
    }

    /// Whether a counter that stood at `before` was reset to get here. Brings `before` to this
    /// layout if not.
    fn is_reset_after(&self, before: &mut Self) -> bool {
        if !self.fits(before)
            || self.count < before.count
            || self.schema > before.schema
            || self.zero_threshold < before.zero_threshold
        {
            return true;
        }
        before.coarsen(self.schema);
        before.widen(self.zero_threshold);
        let falls = |now: &BTreeMap<i32, f64>, before: &BTreeMap<i32, f64>| {
            before.iter().any(|(index, count)| now.get(index).copied().unwrap_or(0.0) < *count)
        };
        self.zero_count < before.zero_count
            || falls(&self.positive, &before.positive)
            || falls(&self.negative, &before.negative)
    }

    fn add(&mut self, mut other: Self) {
        if !self.fits(&other) {
            *self = other;
            return;
        }
        let schema = self.schema.min(other.schema);
        let threshold = self.zero_threshold.max(other.zero_threshold);
        for one in [&mut *self, &mut other] {
            one.coarsen(schema);
            one.widen(threshold);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.zero_count += other.zero_count;
        for (side, more) in self.sides().into_iter().zip([other.positive, other.negative]) {
            for (index, count) in more {
                *side.entry(index).or_default() += count;
            }
        }
    }

    /// Merges buckets until they are as wide as those of this schema.
    fn coarsen(&mut self, schema: i32) {
        let steps = self.schema.saturating_sub(schema);
        if steps <= 0 || self.schema == CUSTOM {
            return;
        }
        for side in self.sides() {
            let mut merged = BTreeMap::new();
            for (index, count) in std::mem::take(side) {
                let wide = (i64::from(index) - 1) >> steps.min(63);
                *merged.entry((wide + 1) as i32).or_default() += count;
            }
            *side = merged;
        }
        self.schema = schema;
    }

    /// Moves what lies within this threshold into the zero bucket.
    fn widen(&mut self, threshold: f64) {
        if self.schema == CUSTOM || threshold <= self.zero_threshold {
            return;
        }
        let schema = self.schema;
        let mut moved = 0.0;
        for side in self.sides() {
            // The lower bound of a bucket decides: one that the threshold cuts belongs to zero.
            side.retain(|index, count| {
                let stays = lower_bound(schema, *index) >= threshold;
                moved += if stays { 0.0 } else { *count };
                stays
            });
        }
        self.zero_count += moved;
        self.zero_threshold = threshold;
    }

    fn into_histogram(self, reset_hint: ResetHint) -> Histogram {
        let (positive_spans, positive) = spanned(&self.positive);
        let (negative_spans, negative) = spanned(&self.negative);
        let (count, zero_count) = (self.count, self.zero_count);
        Histogram {
            reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive_spans,
            negative_spans,
            buckets: Buckets::Float { count, zero_count, positive, negative },
            custom_values: self.custom_values,
        }
    }
}

/// Where a bucket of an exponential schema begins.
fn lower_bound(schema: i32, index: i32) -> f64 {
    ((f64::from(index) - 1.0) * (-f64::from(schema)).exp2()).exp2()
}

fn indexed(spans: &[Span], counts: &[f64]) -> BTreeMap<i32, f64> {
    let mut all = BTreeMap::new();
    let mut counts = counts.iter();
    let mut index = 0i32;
    for span in spans {
        index = index.wrapping_add(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            all.insert(index, *count);
            index = index.wrapping_add(1);
        }
    }
    all
}

fn spanned(counts: &BTreeMap<i32, f64>) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i32;
    for index in counts.keys() {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
        }
        next = index.wrapping_add(1);
    }
    (spans, counts.values().copied().collect())
}
