//! The variance of observations, each taken to lie in the middle of its bucket.

use query::{Bucket, FloatHistogram};

use crate::kernels::sums::Sum;

/// The variance. Of custom buckets the middle is the arithmetic mean of their bounds, of
/// exponential ones the geometric mean, of the zero bucket zero.
pub(crate) fn variance(h: &FloatHistogram, scratch: &mut Vec<Bucket>) -> f64 {
    let mean = h.sum / h.count;
    h.buckets_into(scratch);
    let filled = scratch.iter().filter(|bucket| bucket.count != 0.0);
    let squares = filled.fold(Sum::default(), |sum, bucket| {
        let distance = middle(h, bucket) - mean;
        sum.add(bucket.count * distance * distance)
    });
    squares.total() / h.count
}

fn middle(h: &FloatHistogram, bucket: &Bucket) -> f64 {
    if h.has_custom_bounds() {
        return (bucket.upper + bucket.lower) / 2.0;
    }
    if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
        return 0.0;
    }
    (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::testing::{custom, exponential};

    #[track_caller]
    fn check(h: &FloatHistogram, sum: f64, expected: f64) {
        let found = variance(&FloatHistogram { sum, ..h.clone() }, &mut Vec::new());
        let close = (found - expected).abs() < 1e-9;
        assert!(close || found.is_nan() && expected.is_nan(), "{found} instead of {expected}");
    }

    #[test]
    fn observations_lie_in_the_middle() {
        check(&custom(&[0.0, 10.0, 20.0], &[0.0, 1.0, 1.0, 0.0]), 20.0, 25.0);
        check(&exponential(-1, 0.001, 2.0, &[(1, 2.0)], &[]), 4.0, 1.0);
        check(&exponential(-1, 0.001, 0.0, &[(1, 1.0)], &[(1, 1.0)]), 0.0, 4.0);
        check(&exponential(0, 0.001, 0.0, &[], &[]), 0.0, f64::NAN);
        check(&exponential(0, 0.001, 1.0, &[], &[]), f64::NAN, f64::NAN);
    }
}
