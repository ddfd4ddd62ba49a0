//! Native histograms as queries see them: absolute float counts, whatever was stored.

use model::{Buckets, Histogram, ResetHint, Span};

/// The schema of histograms with bounds of their own.
pub const CUSTOM_BOUNDS_SCHEMA: i32 = -53;

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
