//! Native histograms as queries see them: absolute float counts, whatever was stored.

mod bounds;
pub mod layout;

use std::sync::Arc;

use model::{Buckets, Histogram, ResetHint, Span};

pub use bounds::{CUSTOM_BOUNDS_SCHEMA, FINEST_SCHEMA, bucket_bound};
use layout::{indexed_buckets, reduced_buckets};

/// A native histogram with absolute counts. What says where buckets lie is shared: the histograms
/// of one series, and what is computed of them, mostly have the same buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatHistogram {
    /// What is known of a counter reset before it.
    pub reset_hint: ResetHint,
    /// Bucket growth is 2^(2^-schema); −53 means bounds of its own.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// Number of observations.
    pub count: f64,
    /// Sum of observations.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Arc<[Span]>,
    /// Counts of the positive buckets.
    pub positive: Vec<f64>,
    /// Where the negative buckets lie.
    pub negative_spans: Arc<[Span]>,
    /// Counts of the negative buckets.
    pub negative: Vec<f64>,
    /// Upper bounds of custom buckets, else empty.
    pub custom_values: Arc<[f64]>,
}

/// One bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to it.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to it.
    pub upper_inclusive: bool,
    /// Observations in it.
    pub count: f64,
}

impl FloatHistogram {
    /// Buckets from the lowest up, empty ones inside a span included; the zero bucket only if it
    /// is not empty.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = Vec::with_capacity(self.negative.len() + self.positive.len() + 1);
        self.buckets_into(&mut buckets);
        buckets
    }

    /// The same into a buffer, which is emptied before.
    pub fn buckets_into(&self, buckets: &mut Vec<Bucket>) {
        buckets.clear();
        for (index, count) in indexed_buckets(&self.negative_spans, &self.negative) {
            let mirrored = self.exponential(index, count);
            buckets.push(Bucket {
                lower: -mirrored.upper,
                upper: -mirrored.lower,
                lower_inclusive: mirrored.upper_inclusive,
                upper_inclusive: mirrored.lower_inclusive,
                count,
            });
        }
        buckets.reverse();
        if self.zero_count > 0.0 {
            let (lower, upper) = (-self.zero_threshold, self.zero_threshold);
            buckets.push(Bucket {
                lower,
                upper,
                lower_inclusive: true,
                upper_inclusive: true,
                count: self.zero_count,
            });
        }
        for (index, count) in indexed_buckets(&self.positive_spans, &self.positive) {
            buckets.push(if self.has_custom_bounds() {
                self.custom(index, count)
            } else {
                self.exponential(index, count)
            });
        }
    }

    /// Whether its buckets have bounds of their own.
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_BOUNDS_SCHEMA
    }

    /// A stored histogram. What it has in common with the one before it in its series is shared.
    pub fn of_stored(stored: &Histogram, before: Option<&Self>) -> Self {
        let (count, zero_count, positive, negative) = counts_of(&stored.buckets);
        let shared = |mine: &[Span], other: Option<&Arc<[Span]>>| match other {
            Some(other) if **other == *mine => Arc::clone(other),
            _ => Arc::from(mine),
        };
        let custom_values = match before {
            Some(before) if *before.custom_values == *stored.custom_values => {
                Arc::clone(&before.custom_values)
            }
            _ => Arc::from(stored.custom_values.as_slice()),
        };
        let mut histogram = Self {
            reset_hint: stored.reset_hint,
            schema: stored.schema,
            zero_threshold: stored.zero_threshold,
            zero_count,
            count,
            sum: stored.sum,
            positive_spans: shared(&stored.positive_spans, before.map(|b| &b.positive_spans)),
            positive,
            negative_spans: shared(&stored.negative_spans, before.map(|b| &b.negative_spans)),
            negative,
            custom_values,
        };
        if stored.schema > FINEST_SCHEMA {
            histogram.reduce_to(FINEST_SCHEMA);
        }
        histogram
    }

    /// Joins buckets until they are those of a coarser schema. Of custom bounds there is none.
    pub fn reduce_to(&mut self, schema: i32) {
        if self.has_custom_bounds() || self.schema <= schema {
            return;
        }
        let by = self.schema.abs_diff(schema);
        (self.positive_spans, self.positive) =
            reduced_buckets(&self.positive_spans, &self.positive, by);
        (self.negative_spans, self.negative) =
            reduced_buckets(&self.negative_spans, &self.negative, by);
        self.schema = schema;
    }

    /// A positive bucket. The part of it that the zero bucket covers is cut off.
    fn exponential(&self, index: i32, count: f64) -> Bucket {
        let lower = bucket_bound(self.schema, index.wrapping_sub(1), &[]);
        let upper = bucket_bound(self.schema, index, &[]);
        let covered = lower < self.zero_threshold && self.zero_threshold < upper;
        let lower = if covered { self.zero_threshold } else { lower };
        Bucket { lower, upper, lower_inclusive: false, upper_inclusive: true, count }
    }

    fn custom(&self, index: i32, count: f64) -> Bucket {
        Bucket {
            lower: bucket_bound(self.schema, index.wrapping_sub(1), &self.custom_values),
            upper: bucket_bound(self.schema, index, &self.custom_values),
            lower_inclusive: index == 0,
            upper_inclusive: true,
            count,
        }
    }
}

impl From<&Histogram> for FloatHistogram {
    fn from(stored: &Histogram) -> Self {
        Self::of_stored(stored, None)
    }
}

/// Count, zero count, positive and negative buckets.
fn counts_of(buckets: &Buckets) -> (f64, f64, Vec<f64>, Vec<f64>) {
    match buckets {
        Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => (
            *count as f64,
            *zero_count as f64,
            absolute(positive_deltas),
            absolute(negative_deltas),
        ),
        Buckets::Float { count, zero_count, positive, negative } => {
            (*count, *zero_count, positive.clone(), negative.clone())
        }
    }
}

/// Counts from differences to the bucket before. Stored histograms were checked when they came;
/// wrapping keeps a damaged one from panicking.
fn absolute(deltas: &[i64]) -> Vec<f64> {
    let mut count = 0i64;
    let add = |delta: &i64| {
        count = count.wrapping_add(*delta);
        count as f64
    };
    deltas.iter().map(add).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(schema: i32, positive: Vec<i64>, negative: Vec<i64>) -> Histogram {
        let span = |deltas: &Vec<i64>| vec![Span { offset: 0, length: deltas.len() as u32 }];
        Histogram {
            reset_hint: ResetHint::Unknown,
            schema,
            zero_threshold: 0.75,
            sum: 3.0,
            positive_spans: span(&positive),
            negative_spans: span(&negative),
            buckets: Buckets::Integer {
                count: 9,
                zero_count: 2,
                positive_deltas: positive,
                negative_deltas: negative,
            },
            custom_values: Vec::new(),
        }
    }

    #[track_caller]
    fn check(histogram: &FloatHistogram, shown: &[&str]) {
        let show = |b: &Bucket| {
            let open = if b.lower_inclusive { '[' } else { '(' };
            let close = if b.upper_inclusive { ']' } else { ')' };
            format!("{open}{},{}{close}:{}", b.lower, b.upper, b.count)
        };
        assert_eq!(histogram.buckets().iter().map(show).collect::<Vec<_>>(), shown);
    }

    #[test]
    fn buckets_come_from_the_lowest_up() {
        let histogram = FloatHistogram::from(&stored(0, vec![1, 1, -2], vec![3, -1]));
        // The zero bucket reaches to 0.75 and cuts what lies next to it.
        let shown =
            ["[-2,-1):2", "[-1,-0.75):3", "[-0.75,0.75]:2", "(0.75,1]:1", "(1,2]:2", "(2,4]:0"];
        check(&histogram, &shown);
    }

    #[test]
    fn schemas_finer_than_the_finest_are_reduced() {
        // Steps of 2^(2^-10): four of them make one of schema 8.
        let histogram = FloatHistogram::from(&stored(10, vec![1; 9], vec![]));
        assert_eq!((histogram.schema, &*histogram.positive), (8, &[1.0, 14.0, 30.0][..]));
        let again = FloatHistogram::of_stored(&stored(10, vec![2; 9], vec![]), Some(&histogram));
        assert_eq!(again.positive_spans, histogram.positive_spans);
    }

    #[test]
    fn custom_bounds_are_upper_bounds() {
        let mut histogram =
            FloatHistogram::from(&stored(CUSTOM_BOUNDS_SCHEMA, vec![1, 1, 1], vec![]));
        histogram.custom_values = [5.0, 10.0].into();
        histogram.zero_count = 0.0;
        check(&histogram, &["[-inf,5]:1", "(5,10]:2", "(10,inf]:3"]);
    }

    #[test]
    fn damaged_spans_give_no_more_buckets_than_counts() {
        let mut histogram = FloatHistogram::from(&stored(8, vec![1], vec![]));
        histogram.positive_spans = [Span { offset: i32::MAX, length: u32::MAX }; 3].into();
        assert_eq!(histogram.buckets().len(), 2, "the zero bucket and one more");
    }
}
