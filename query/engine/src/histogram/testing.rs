//! Histograms for the tables of tests.

use std::sync::Arc;

use model::{ResetHint, Span};
use query::histogram::layout::buckets_from;
use query::{CUSTOM_BOUNDS_SCHEMA, FloatHistogram};

/// Of an exponential schema, from buckets by index. Every observation counts 1 towards the sum.
pub(crate) fn exponential(
    schema: i32,
    zero_threshold: f64,
    zero_count: f64,
    positive: &[(i32, f64)],
    negative: &[(i32, f64)],
) -> FloatHistogram {
    let observed = positive.iter().chain(negative).fold(0.0, |sum, (_, count)| sum + count);
    let (positive_spans, positive) = buckets_from(positive.iter().copied());
    let (negative_spans, negative) = buckets_from(negative.iter().copied());
    FloatHistogram {
        reset_hint: ResetHint::Unknown,
        schema,
        zero_threshold,
        zero_count,
        count: observed + zero_count,
        sum: observed,
        positive_spans,
        positive,
        negative_spans,
        negative,
        custom_values: Arc::default(),
    }
}

/// With custom bounds, from all buckets in order.
pub(crate) fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
    let observed: f64 = counts.iter().sum();
    FloatHistogram {
        schema: CUSTOM_BOUNDS_SCHEMA,
        custom_values: bounds.into(),
        positive_spans: [Span { offset: 0, length: counts.len() as u32 }].into(),
        positive: counts.to_vec(),
        count: observed,
        sum: observed,
        ..exponential(0, 0.0, 0.0, &[], &[])
    }
}
