//! Quantiles and fractions. Within an exponential bucket observations are taken to lie evenly on a
//! logarithmic scale, within the zero bucket and between custom bounds evenly.

use query::{Bucket, FloatHistogram};

/// A quantile, and whether observations that are not numbers stand in its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Quantile {
    Found(f64),
    /// They push it up.
    Skewed(f64),
    /// It would be one of them.
    Lost,
}

/// The φ-quantile. `scratch` is for buckets.
pub(crate) fn quantile(phi: f64, h: &FloatHistogram, scratch: &mut Vec<Bucket>) -> Quantile {
    if phi < 0.0 {
        return Quantile::Found(f64::NEG_INFINITY);
    }
    if phi > 1.0 {
        return Quantile::Found(f64::INFINITY);
    }
    if h.count == 0.0 || phi.is_nan() {
        return Quantile::Found(f64::NAN);
    }
    h.buckets_into(scratch);
    // NaN counts but is in no bucket, so that ranks only hold from below.
    let has_nan = h.sum.is_nan();
    let upwards = has_nan || phi < 0.5;
    let rank = if upwards { phi * h.count } else { (1.0 - phi) * h.count };
    let mut reached = 0.0;
    let mut stop = |bucket: &&Bucket| {
        reached += bucket.count;
        bucket.count != 0.0 && reached >= rank
    };
    let found = match upwards {
        true => scratch.iter().find(&mut stop),
        false => scratch.iter().rev().find(&mut stop),
    };
    let Some(mut bucket) = found.copied() else {
        return if has_nan { Quantile::Lost } else { Quantile::Found(f64::NAN) };
    };
    if let Some(edge) = narrowed(h, &mut bucket) {
        return Quantile::Found(edge);
    }
    let reached = reached.min(h.count);
    let inside = if upwards { rank - (reached - bucket.count) } else { reached - rank };
    let value = at_fraction(h, &bucket, inside / bucket.count);
    if has_nan { Quantile::Skewed(value) } else { Quantile::Found(value) }
}

/// Narrows a bucket to where its observations can be. The result itself, if nothing can be said
/// but a bound.
fn narrowed(h: &FloatHistogram, bucket: &mut Bucket) -> Option<f64> {
    if !h.has_custom_bounds() {
        narrow_zero_bucket(h, bucket);
        return None;
    }
    if bucket.lower == f64::NEG_INFINITY {
        if bucket.upper <= 0.0 {
            return Some(bucket.upper);
        }
        bucket.lower = 0.0;
    }
    (bucket.upper == f64::INFINITY).then_some(bucket.lower)
}

/// With buckets on one side only, the zero bucket is taken to have observations on that side.
pub(super) fn narrow_zero_bucket(h: &FloatHistogram, bucket: &mut Bucket) {
    if bucket.lower < 0.0 && bucket.upper > 0.0 {
        match (h.negative.is_empty(), h.positive.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }
}

fn at_fraction(h: &FloatHistogram, bucket: &Bucket, fraction: f64) -> f64 {
    let Bucket { lower, upper, .. } = *bucket;
    if h.has_custom_bounds() || lower <= 0.0 && upper >= 0.0 {
        return lower + (upper - lower) * fraction;
    }
    let (log_lower, log_upper) = (lower.abs().log2(), upper.abs().log2());
    if lower > 0.0 {
        (log_lower + (log_upper - log_lower) * fraction).exp2()
    } else {
        -(log_upper + (log_lower - log_upper) * (1.0 - fraction)).exp2()
    }
}

/// The share of a bucket below a value inside of it.
pub(super) fn share_below(h: &FloatHistogram, bucket: &Bucket, value: f64) -> f64 {
    let Bucket { lower, upper, .. } = *bucket;
    if h.has_custom_bounds() || lower <= 0.0 && upper >= 0.0 {
        return (value - lower) / (upper - lower);
    }
    let (log_lower, log_upper) = (lower.abs().log2(), upper.abs().log2());
    let log_value = value.abs().log2();
    if value > 0.0 {
        (log_value - log_lower) / (log_upper - log_lower)
    } else {
        1.0 - (log_value - log_upper) / (log_lower - log_upper)
    }
}

/// The share of observations between two values. NaN lies nowhere.
pub(crate) fn fraction(
    lower: f64,
    upper: f64,
    h: &FloatHistogram,
    scratch: &mut Vec<Bucket>,
) -> f64 {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    h.buckets_into(scratch);
    let count = match h.sum.is_nan() {
        true => scratch.iter().fold(0.0, |sum, bucket| sum + bucket.count),
        false => h.count,
    };
    let below_upper = rank_of(upper, h, scratch, count);
    (below_upper - rank_of(lower, h, scratch, count)) / h.count
}

/// How many observations lie below a value.
fn rank_of(value: f64, h: &FloatHistogram, buckets: &[Bucket], count: f64) -> f64 {
    let mut rank = 0.0f64;
    for bucket in buckets {
        let mut bucket = *bucket;
        if !h.has_custom_bounds() {
            narrow_zero_bucket(h, &mut bucket);
        } else if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
            // As everywhere with custom bounds: the first bucket begins at zero if it can.
            bucket.lower = 0.0;
        }
        if bucket.lower >= value {
            return rank.min(count);
        }
        if bucket.upper > value {
            if bucket.lower == f64::NEG_INFINITY {
                // Nothing can be said about where in an endless bucket they lie.
                return bucket.count.min(count);
            }
            if bucket.upper == f64::INFINITY {
                return rank.min(count);
            }
            return (rank + bucket.count * share_below(h, &bucket, value)).min(count);
        }
        rank += bucket.count;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::testing::{custom, exponential};

    #[track_caller]
    fn check(phi: f64, h: &FloatHistogram, expected: f64) {
        let Quantile::Found(found) = quantile(phi, h, &mut Vec::new()) else { panic!("NaN in it") };
        let close = (found - expected).abs() <= 1e-12 * expected.abs();
        assert!(close || found == expected || found.is_nan() && expected.is_nan(), "{found}");
    }

    #[track_caller]
    fn share(lower: f64, upper: f64, h: &FloatHistogram, expected: f64) {
        let found = fraction(lower, upper, h, &mut Vec::new());
        let close = (found - expected).abs() < 1e-12;
        assert!(close || found.is_nan() && expected.is_nan(), "{found} instead of {expected}");
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn exponential_buckets_are_divided_on_a_logarithmic_scale() {
        let h = exponential(0, 0.5, 0.0, &[(0, 1.0), (1, 2.0), (2, 1.0)], &[]);
        check(0.5, &h, 2f64.sqrt());
        check(-1.0, &h, -INF);
        check(1.5, &h, INF);
        check(0.0, &h, 0.5);
        check(1.0, &h, 4.0);
        check(f64::NAN, &h, f64::NAN);
        check(0.5, &exponential(0, 0.5, 0.0, &[], &[(0, 1.0), (1, 2.0), (2, 1.0)]), -(2f64.sqrt()));
        share(1.0, 2f64.sqrt(), &h, 0.25);
        share(0.0, INF, &h, 1.0);
        share(3.0, 1.0, &h, 0.0);
        share(1.0, f64::NAN, &h, f64::NAN);
        share(1.0, 2.0, &exponential(0, 0.0, 0.0, &[], &[]), f64::NAN);
    }

    #[test]
    fn the_zero_bucket_leans_to_where_buckets_are() {
        let positive = exponential(0, 0.5, 4.0, &[(0, 4.0)], &[]);
        let negative = exponential(0, 0.5, 4.0, &[], &[(0, 4.0)]);
        let both = exponential(0, 0.5, 4.0, &[(0, 4.0)], &[(0, 4.0)]);
        check(0.25, &positive, 0.25);
        check(0.75, &negative, -0.25);
        check(0.5, &both, 0.0);
        check(0.5, &exponential(0, 0.5, 4.0, &[], &[]), 0.0);
        share(-0.25, 0.25, &positive, 0.25);
        share(-0.25, 0.25, &both, 2.0 / 12.0);
    }

    #[test]
    fn custom_buckets_are_divided_evenly() {
        let h = custom(&[5.0, 10.0], &[1.0, 2.0, 1.0]);
        check(0.5, &h, 7.5);
        check(0.0, &h, 0.0);
        check(1.0, &h, 10.0);
        check(0.1, &custom(&[-5.0, 10.0], &[1.0, 2.0]), -5.0);
        check(0.9, &custom(&[], &[1.0]), 0.0);
        share(5.0, 10.0, &h, 0.5);
        share(2.5, 99.0, &h, 0.625);
        share(-INF, INF, &h, 1.0);
        share(-INF, -7.0, &custom(&[-5.0, 10.0], &[1.0, 3.0]), 0.25);
        share(-5.0, 2.5, &custom(&[-5.0, 10.0], &[1.0, 3.0]), 0.375);
    }

    #[test]
    fn what_is_not_a_number_lies_nowhere() {
        let h = FloatHistogram {
            count: 15.0,
            sum: f64::NAN,
            ..exponential(0, 0.0, 0.0, &[(0, 12.0)], &[])
        };
        assert_eq!(quantile(0.8, &h, &mut Vec::new()), Quantile::Skewed(1.0));
        assert_eq!(quantile(0.81, &h, &mut Vec::new()), Quantile::Lost);
        share(-INF, INF, &h, 0.8);
    }
}
