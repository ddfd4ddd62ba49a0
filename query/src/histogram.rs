//! Native histograms as queries see them: absolute float counts, whatever was stored.

mod bounds;

use model::{Buckets, Histogram, ResetHint, Span};

pub use bounds::{CUSTOM_BOUNDS_SCHEMA, bucket_bound};

/// A native histogram with absolute counts.
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
    pub positive_spans: Vec<Span>,
    /// Counts of the positive buckets.
    pub positive: Vec<f64>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Counts of the negative buckets.
    pub negative: Vec<f64>,
    /// Upper bounds of custom buckets, else empty.
    pub custom_values: Vec<f64>,
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
        for (index, count) in indexed(&self.negative_spans, &self.negative) {
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
        for (index, count) in indexed(&self.positive_spans, &self.positive) {
            buckets.push(if self.schema == CUSTOM_BOUNDS_SCHEMA {
                self.custom(index, count)
            } else {
                self.exponential(index, count)
            });
        }
        buckets
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

/// Each count with the index of its bucket. As many as there are counts, whatever the spans say.
fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add(span.length as i32);
        (0..span.length).map(move |i| first.wrapping_add(i as i32))
    });
    indexes.zip(counts.iter().copied())
}

impl From<&Histogram> for FloatHistogram {
    fn from(stored: &Histogram) -> Self {
        let (count, zero_count, positive, negative) = match &stored.buckets {
            Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => (
                *count as f64,
                *zero_count as f64,
                absolute(positive_deltas),
                absolute(negative_deltas),
            ),
            Buckets::Float { count, zero_count, positive, negative } => {
                (*count, *zero_count, positive.clone(), negative.clone())
            }
        };
        Self {
            reset_hint: stored.reset_hint,
            schema: stored.schema,
            zero_threshold: stored.zero_threshold,
            zero_count,
            count,
            sum: stored.sum,
            positive_spans: stored.positive_spans.clone(),
            positive,
            negative_spans: stored.negative_spans.clone(),
            negative,
            custom_values: stored.custom_values.clone(),
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
    fn custom_bounds_are_upper_bounds() {
        let mut histogram =
            FloatHistogram::from(&stored(CUSTOM_BOUNDS_SCHEMA, vec![1, 1, 1], vec![]));
        histogram.custom_values = vec![5.0, 10.0];
        histogram.zero_count = 0.0;
        check(&histogram, &["[-inf,5]:1", "(5,10]:2", "(10,inf]:3"]);
    }

    #[test]
    fn damaged_spans_give_no_more_buckets_than_counts() {
        let mut histogram = FloatHistogram::from(&stored(8, vec![1], vec![]));
        histogram.positive_spans = vec![Span { offset: i32::MAX, length: u32::MAX }; 3];
        assert_eq!(histogram.buckets().len(), 2, "the zero bucket and one more");
    }
}
