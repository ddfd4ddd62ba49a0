//! Counter resets between two histograms of a series, and whether two are the same.

use model::Span;
use query::FloatHistogram;
use query::histogram::layout::{coarser_index, indexed_buckets};

use super::align::{common_bounds, rebounded, zero_bucket_to};

/// Whether anything fell that only grows in a counter: between two samples, the later one first.
pub(crate) fn fell(h: &FloatHistogram, before: &FloatHistogram) -> bool {
    if h.count < before.count || h.has_custom_bounds() != before.has_custom_bounds() {
        return true;
    }
    if h.has_custom_bounds() {
        return custom_fell(h, before);
    }
    // A counter gets coarser and its zero bucket wider to save buckets; back it goes by a reset.
    if h.schema > before.schema || h.zero_threshold < before.zero_threshold {
        return true;
    }
    let (zero_count, threshold) = zero_bucket_to(before, h.zero_threshold);
    if threshold != h.zero_threshold || h.zero_count < zero_count {
        return true;
    }
    let by = h.schema.abs_diff(before.schema);
    let widened = before.zero_threshold != h.zero_threshold;
    let side = |spans: &[Span], counts: &[f64], old_spans: &[Span], old: &[f64]| {
        if by == 0 && !widened {
            return buckets_fell((spans, counts), indexed_buckets(old_spans, old));
        }
        // Buckets that the wider zero bucket has swallowed are in its count already.
        let outside = |(index, _): &(i32, f64)| {
            query::bucket_bound(before.schema, index.wrapping_sub(1), &[]) >= h.zero_threshold
        };
        let mut rest = indexed_buckets(old_spans, old)
            .filter(outside)
            .map(|(index, count)| (coarser_index(index, by), count))
            .peekable();
        let reduced = std::iter::from_fn(move || {
            let (index, mut total) = rest.next()?;
            while let Some((_, count)) = rest.next_if(|(i, _)| *i == index) {
                total += count;
            }
            Some((index, total))
        });
        buckets_fell((spans, counts), reduced)
    };
    side(&h.positive_spans, &h.positive, &before.positive_spans, &before.positive)
        || side(&h.negative_spans, &h.negative, &before.negative_spans, &before.negative)
}

fn custom_fell(h: &FloatHistogram, before: &FloatHistogram) -> bool {
    if h.custom_values == before.custom_values {
        let old = indexed_buckets(&before.positive_spans, &before.positive);
        return buckets_fell((&h.positive_spans, &h.positive), old);
    }
    let bounds = common_bounds(&h.custom_values, &before.custom_values);
    let (spans, counts) = rebounded(h, &bounds);
    let (old_spans, old) = rebounded(before, &bounds);
    buckets_fell((&spans, &counts), indexed_buckets(&old_spans, &old))
}

/// Whether any bucket had more observations before. A bucket that is not there has none.
fn buckets_fell(
    (spans, counts): (&[Span], &[f64]),
    before: impl Iterator<Item = (i32, f64)>,
) -> bool {
    let mut now = indexed_buckets(spans, counts).peekable();
    for (index, count) in before.filter(|(_, count)| *count != 0.0) {
        while now.next_if(|(i, _)| *i < index).is_some() {}
        match now.next_if(|(i, _)| *i == index) {
            Some((_, now)) if now < count => return true,
            None => return true,
            Some(_) => {}
        }
    }
    false
}

/// Whether two histograms count the same. Empty buckets do not matter, nor what is known of
/// resets; not a number is the same as itself.
pub(crate) fn same(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let equal = |x: f64, y: f64| x.to_bits() == y.to_bits() || x == y || x.is_nan() && y.is_nan();
    let side = |a_spans: &[Span], a: &[f64], b_spans: &[Span], b: &[f64]| {
        let filled = |(_, count): &(i32, f64)| *count != 0.0;
        let mut b = indexed_buckets(b_spans, b).filter(filled);
        let mut a = indexed_buckets(a_spans, a).filter(filled);
        a.all(|(i, x)| b.next().is_some_and(|(j, y)| i == j && equal(x, y))) && b.next().is_none()
    };
    a.schema == b.schema
        && equal(a.count, b.count)
        && equal(a.sum, b.sum)
        && (a.has_custom_bounds()
            || a.zero_threshold == b.zero_threshold && equal(a.zero_count, b.zero_count))
        && (!a.has_custom_bounds() || a.custom_values == b.custom_values)
        && side(&a.positive_spans, &a.positive, &b.positive_spans, &b.positive)
        && side(&a.negative_spans, &a.negative, &b.negative_spans, &b.negative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::testing::{custom, exponential};

    #[track_caller]
    fn check(before: &FloatHistogram, h: &FloatHistogram, reset: bool) {
        assert_eq!(fell(h, before), reset, "{before:?}\n{h:?}");
    }

    #[test]
    fn counters_only_grow() {
        let h = |buckets: &[(i32, f64)]| exponential(0, 0.001, 1.0, buckets, &[]);
        check(&h(&[(0, 1.0)]), &h(&[(0, 1.0)]), false);
        check(&h(&[(0, 1.0)]), &h(&[(0, 1.0), (1, 1.0)]), false);
        check(&h(&[(0, 1.0), (1, 0.0)]), &h(&[(0, 1.0)]), false);
        check(&h(&[(0, 1.0), (1, 1.0)]), &h(&[(0, 5.0)]), true);
        check(&h(&[(0, 2.0)]), &h(&[(0, 1.0), (1, 5.0)]), true);
        check(&h(&[]), &exponential(0, 0.001, 0.0, &[(0, 2.0)], &[]), true);
        check(
            &exponential(0, 0.0, 0.0, &[], &[(1, 2.0)]),
            &exponential(0, 0.0, 0.0, &[], &[(1, 1.0), (2, 3.0)]),
            true,
        );
    }

    #[test]
    fn counters_may_become_coarser() {
        let fine = exponential(1, 0.001, 1.0, &[(1, 1.0), (2, 2.0)], &[]);
        let coarse = |count| exponential(0, 0.001, 1.0, &[(1, count)], &[]);
        check(&fine, &coarse(3.0), false);
        check(&fine, &coarse(2.5), true);
        check(&coarse(3.0), &fine, true);
        let wide = |zero| exponential(0, 1.0, zero, &[(1, 3.0)], &[]);
        check(&exponential(0, 0.001, 1.0, &[(0, 4.0), (1, 3.0)], &[]), &wide(5.0), false);
        check(&exponential(0, 0.001, 1.0, &[(0, 4.0), (1, 3.0)], &[]), &wide(4.5), true);
        check(&wide(5.0), &coarse(99.0), true);
        // Into the middle of a bucket with observations it cannot have grown.
        check(&coarse(3.0), &exponential(0, 1.5, 9.0, &[(1, 9.0)], &[]), true);
    }

    #[test]
    fn custom_bounds_may_change() {
        let before = custom(&[2.0, 4.0, 6.0], &[1.0, 2.0, 5.0, 7.0]);
        check(&before, &custom(&[2.0, 3.0, 4.0, 6.0], &[1.0, 1.0, 1.0, 5.0, 8.0]), false);
        check(&before, &custom(&[2.0, 3.0, 4.0, 6.0], &[1.0, 0.0, 1.0, 5.0, 8.0]), true);
        check(&before, &custom(&[2.0, 4.0, 6.0], &[1.0, 2.0, 5.0, 9.0]), false);
        check(&before, &exponential(0, 0.0, 99.0, &[], &[]), true);
    }

    #[test]
    fn sameness_is_about_observations() {
        let a = exponential(0, 0.001, 1.0, &[(0, 1.0), (1, 0.0), (2, 3.0)], &[]);
        let b = exponential(0, 0.001, 1.0, &[(0, 1.0), (2, 3.0)], &[(7, 0.0)]);
        let nan = FloatHistogram { sum: f64::NAN, ..a.clone() };
        assert!(same(&a, &b) && same(&nan, &nan) && !same(&a, &nan));
        assert!(!same(&a, &exponential(0, 0.001, 1.0, &[(0, 1.0), (2, 3.0)], &[(7, 1.0)])));
        assert!(!same(&custom(&[1.0], &[4.0]), &custom(&[2.0], &[4.0])));
    }
}
