//! Two histograms made alike before their buckets are added or compared: zero buckets of one
//! width, and custom bounds that both have.

use std::sync::Arc;

use model::Span;
use query::histogram::layout::{Buckets, buckets_from, indexed_buckets};
use query::{FloatHistogram, bucket_bound};

/// Count and width of the zero bucket if it were to reach to `threshold`. A bucket that would be
/// cut and is not empty cannot be divided, so the zero bucket then reaches to its far bound.
pub(super) fn zero_bucket_to(h: &FloatHistogram, mut threshold: f64) -> (f64, f64) {
    if threshold == h.zero_threshold {
        return (h.zero_count, threshold);
    }
    // Each turn widens it to another bound, so this ends.
    loop {
        let before = threshold;
        let mut count = h.zero_count;
        for (spans, counts) in [(&h.positive_spans, &h.positive), (&h.negative_spans, &h.negative)]
        {
            for (index, inside) in indexed_buckets(spans, counts) {
                if bucket_bound(h.schema, index.wrapping_sub(1), &[]) >= threshold {
                    break;
                }
                count += inside;
                let upper = bucket_bound(h.schema, index, &[]);
                if upper > threshold {
                    if inside != 0.0 {
                        threshold = upper;
                    }
                    break;
                }
            }
        }
        // By their bits: not a number is never equal to itself.
        if threshold.to_bits() == before.to_bits() {
            return (count, threshold);
        }
    }
}

/// Widens the zero bucket to a threshold that [`zero_bucket_to`] gave, together with its count.
pub(super) fn widen_zero_bucket(h: &mut FloatHistogram, (count, threshold): (f64, f64)) {
    h.zero_count = count;
    h.zero_threshold = threshold;
    let outside =
        |(index, _): &(i32, f64)| bucket_bound(h.schema, index.wrapping_sub(1), &[]) >= threshold;
    let rest = |spans: &[Span], counts: &[f64]| {
        buckets_from(indexed_buckets(spans, counts).filter(outside))
    };
    let (positive, negative) =
        (rest(&h.positive_spans, &h.positive), rest(&h.negative_spans, &h.negative));
    (h.positive_spans, h.positive) = positive;
    (h.negative_spans, h.negative) = negative;
}

/// Gives two histograms zero buckets of one width: the wider one's, or more where that would cut a
/// bucket of the other.
pub(super) fn equal_zero_buckets(a: &mut FloatHistogram, b: &mut FloatHistogram) {
    while a.zero_threshold != b.zero_threshold {
        let (narrow, wide) =
            if a.zero_threshold < b.zero_threshold { (&mut *a, &*b) } else { (&mut *b, &*a) };
        // Not a number cannot be reached; such a threshold is as good as none.
        if wide.zero_threshold.is_nan() || narrow.zero_threshold.is_nan() {
            return;
        }
        let widened = zero_bucket_to(narrow, wide.zero_threshold);
        widen_zero_bucket(narrow, widened);
    }
}

/// The bounds that both have; each list is in order.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    a.iter().copied().filter(|bound| b.binary_search_by(|x| x.total_cmp(bound)).is_ok()).collect()
}

/// The buckets of a histogram with custom bounds if it had fewer of them: each goes to the first
/// that ends where it ends or later.
pub(super) fn rebounded(h: &FloatHistogram, bounds: &[f64]) -> Buckets {
    let place = |index: i32| {
        let upper = bucket_bound(h.schema, index, &h.custom_values);
        bounds.partition_point(|bound| *bound < upper) as i32
    };
    let mut buckets = indexed_buckets(&h.positive_spans, &h.positive)
        .map(|(index, count)| (place(index), count))
        .peekable();
    buckets_from(std::iter::from_fn(move || {
        let (place, mut total) = buckets.next()?;
        while let Some((_, count)) = buckets.next_if(|(next, _)| *next == place) {
            total += count;
        }
        Some((place, total))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::testing::{custom, exponential};

    #[track_caller]
    fn widened(threshold: f64, count: f64, reached: f64) {
        let h = exponential(0, 0.001, 1.0, &[(0, 2.0), (1, 0.0), (2, 4.0)], &[(0, 8.0), (3, 16.0)]);
        assert_eq!(zero_bucket_to(&h, threshold), (count, reached));
    }

    #[test]
    fn zero_buckets_do_not_cut_others() {
        widened(0.001, 1.0, 0.001);
        widened(0.25, 1.0, 0.25);
        widened(0.5, 1.0, 0.5);
        widened(0.75, 11.0, 1.0);
        widened(1.0, 11.0, 1.0);
        // Inside an empty bucket it may end.
        widened(1.5, 11.0, 1.5);
        widened(3.0, 15.0, 4.0);
        // The negative bucket from 4 to 8 is cut, and reaches to 8.
        widened(5.0, 31.0, 8.0);
    }

    #[test]
    fn zero_buckets_become_equally_wide() {
        let mut a = exponential(0, 0.001, 1.0, &[(0, 2.0), (2, 4.0)], &[]);
        let mut b = exponential(2, 0.75, 5.0, &[(9, 1.0)], &[]);
        equal_zero_buckets(&mut a, &mut b);
        assert_eq!((a.zero_threshold, b.zero_threshold), (1.0, 1.0));
        assert_eq!(
            (a.zero_count, b.zero_count, a.positive.len(), b.positive.len()),
            (3.0, 5.0, 1, 1)
        );
        let mut nan = exponential(0, f64::NAN, 1.0, &[], &[]);
        equal_zero_buckets(&mut a, &mut nan);
        assert!(zero_bucket_to(&a, f64::NAN).1.is_nan());
    }

    #[test]
    fn custom_bounds_meet_where_both_have_them() {
        assert_eq!(*common_bounds(&[1.0, 2.0, 4.0], &[2.0, 3.0, 4.0]), [2.0, 4.0]);
        assert!(common_bounds(&[1.0], &[]).is_empty());
        let h = custom(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        let (spans, counts) = rebounded(&h, &[2.0, 4.0]);
        assert_eq!(
            indexed_buckets(&spans, &counts).collect::<Vec<_>>(),
            [(0, 3.0), (1, 7.0), (2, 5.0)]
        );
        assert_eq!(*rebounded(&h, &[]).1, [15.0]);
    }
}
