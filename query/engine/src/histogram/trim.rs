//! Trimming: a histogram without the observations above, or below, a value.

use query::{Bucket, FloatHistogram};

use super::arithmetic::compact;
use super::quantile::{narrow_zero_bucket, share_below};
use crate::kernels::sums::Sum;

/// Which observations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Below,
    Above,
}

/// What a cut leaves of one bucket: how much, and where it lies on average.
struct Part {
    count: f64,
    middle: f64,
}

/// The observations on one side of a cut. Count and sum are those of what is left of the buckets,
/// unless nothing is lost.
pub(crate) fn trim(
    h: &FloatHistogram,
    cut: f64,
    kept: Kept,
    scratch: &mut Vec<Bucket>,
) -> FloatHistogram {
    h.buckets_into(scratch);
    let parts: Vec<Part> = scratch.iter().map(|bucket| part(h, bucket, cut, kept)).collect();
    if parts.iter().zip(&*scratch).all(|(part, bucket)| part.count == bucket.count) {
        return h.clone();
    }
    let mut trimmed = h.clone();
    // In the order of `buckets`: negative ones backwards, the zero bucket if it is not empty.
    let (mut at, zero) = (0, usize::from(h.zero_count > 0.0));
    for count in trimmed.negative.iter_mut().rev().take(parts.len()) {
        *count = parts.get(at).map_or(0.0, |part| part.count);
        at += 1;
    }
    if zero == 1 {
        trimmed.zero_count = parts.get(at).map_or(0.0, |part| part.count);
    }
    for (count, part) in trimmed.positive.iter_mut().zip(parts.iter().skip(at + zero)) {
        *count = part.count;
    }
    let filled = || parts.iter().filter(|part| part.count != 0.0);
    trimmed.count = filled().fold(Sum::default(), |sum, p| sum.add(p.count)).total();
    trimmed.sum = filled().fold(Sum::default(), |sum, p| sum.add(p.count * p.middle)).total();
    compact(&mut trimmed);
    trimmed
}

fn part(h: &FloatHistogram, bucket: &Bucket, cut: f64, kept: Kept) -> Part {
    let mut bucket = *bucket;
    let endless = narrowed(h, &mut bucket, cut);
    let nothing = Part { count: 0.0, middle: 0.0 };
    let Bucket { lower, upper, count, .. } = bucket;
    // On which scale they lie is that of the whole bucket, wherever it is cut.
    let linear = h.has_custom_bounds() || lower <= 0.0 && upper >= 0.0;
    let whole = Part { count, middle: middle(linear, lower, upper) };
    if cut.is_nan() {
        return nothing;
    }
    // What lies on the cut is above it, as it is for fractions.
    if lower >= cut {
        return if kept == Kept::Above { whole } else { nothing };
    }
    if upper <= cut {
        return if kept == Kept::Below { whole } else { nothing };
    }
    match (endless, kept) {
        // Nothing can be said about where in an endless bucket they lie: they stay if the cut is
        // on the endless side, as far from the other bound as it is.
        (Endless::Down, Kept::Below) | (Endless::Up, Kept::Above) => Part { count, middle: cut },
        (Endless::Down | Endless::Up | Endless::Both, _) => nothing,
        (Endless::No, Kept::Below) => {
            let share = share_below(h, &bucket, cut);
            Part { count: count * share, middle: middle(linear, lower, cut) }
        }
        (Endless::No, Kept::Above) => {
            let share = 1.0 - share_below(h, &bucket, cut);
            Part { count: count * share, middle: middle(linear, cut, upper) }
        }
    }
}

/// Whether a bucket has no bound where it would have to be divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endless {
    No,
    Up,
    Down,
    Both,
}

/// Narrows a bucket to where its observations can be.
fn narrowed(h: &FloatHistogram, bucket: &mut Bucket, cut: f64) -> Endless {
    if !h.has_custom_bounds() {
        narrow_zero_bucket(h, bucket);
        return Endless::No;
    }
    match (bucket.lower == f64::NEG_INFINITY, bucket.upper == f64::INFINITY) {
        (false, false) => Endless::No,
        (false, true) => Endless::Up,
        (true, true) => Endless::Both,
        // The first bucket begins at zero if it can; that is an assumption, which does not hold
        // against a cut below zero.
        (true, false) if bucket.upper > 0.0 && cut >= 0.0 => {
            bucket.lower = 0.0;
            Endless::No
        }
        (true, false) => Endless::Down,
    }
}

/// Where observations between two bounds lie on average.
fn middle(linear: bool, lower: f64, upper: f64) -> f64 {
    if lower == f64::NEG_INFINITY {
        return if upper == f64::INFINITY {
            0.0
        } else if upper > 0.0 {
            upper / 2.0
        } else {
            upper
        };
    }
    if upper == f64::INFINITY {
        return lower;
    }
    if linear {
        return (lower + upper) / 2.0;
    }
    (lower * upper).sqrt().copysign(upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::testing::{custom, exponential};
    use crate::histogram::text;

    #[track_caller]
    fn check(h: &FloatHistogram, kept: Kept, cut: f64, expected: &str) {
        assert_eq!(text(&trim(h, cut, kept, &mut Vec::new())), expected, "{kept:?} {cut}");
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn custom_buckets_are_cut_evenly() {
        let h = custom(&[5.0, 10.0], &[1.0, 6.0, 3.0]);
        check(&h, Kept::Below, INF, "{count:10, sum:10, [-Inf,5]:1, (5,10]:6, (10,+Inf]:3}");
        check(&h, Kept::Above, 0.0, "{count:10, sum:10, [-Inf,5]:1, (5,10]:6, (10,+Inf]:3}");
        check(&h, Kept::Below, 10.0, "{count:7, sum:47.5, [-Inf,5]:1, (5,10]:6}");
        check(&h, Kept::Below, 20.0, "{count:7, sum:47.5, [-Inf,5]:1, (5,10]:6}");
        check(&h, Kept::Below, 7.5, "{count:4, sum:21.25, [-Inf,5]:1, (5,10]:3}");
        check(&h, Kept::Above, 7.5, "{count:6, sum:56.25, (5,10]:3, (10,+Inf]:3}");
        check(&h, Kept::Above, 20.0, "{count:3, sum:60, (10,+Inf]:3}");
        check(&h, Kept::Above, -1.0, "{count:9, sum:75, (5,10]:6, (10,+Inf]:3}");
        check(&h, Kept::Below, -INF, "{count:0, sum:0}");
        check(&h, Kept::Above, INF, "{count:0, sum:0}");
        let below = custom(&[-5.0], &[1.0, 2.0]);
        check(&below, Kept::Below, -10.0, "{count:1, sum:-10, [-Inf,-5]:1}");
        check(&below, Kept::Above, -10.0, "{count:2, sum:-10, (-5,+Inf]:2}");
        check(&custom(&[], &[9.0]), Kept::Below, 3.0, "{count:0, sum:0}");
        check(&custom(&[], &[9.0]), Kept::Above, -INF, "{count:9, sum:9, [-Inf,+Inf]:9}");
    }

    #[test]
    fn exponential_buckets_are_cut_on_a_logarithmic_scale() {
        let h = exponential(-1, 0.5, 2.0, &[(1, 4.0)], &[]);
        check(&h, Kept::Below, 2.0, "{count:4, sum:3.3284271247461903, [-0.5,0.5]:2, (1,4]:2}");
        check(&h, Kept::Above, 0.25, "{count:5, sum:8.375, [-0.5,0.5]:1, (1,4]:4}");
        check(&h, Kept::Below, 0.0, "{count:0, sum:0}");
        check(&h, Kept::Above, 0.0, "{count:6, sum:4, [-0.5,0.5]:2, (1,4]:4}");
        let mirrored = exponential(-1, 0.5, 2.0, &[], &[(1, 4.0)]);
        check(
            &mirrored,
            Kept::Above,
            -2.0,
            "{count:4, sum:-3.3284271247461903, [-4,-1):2, [-0.5,0.5]:2}",
        );
        check(&exponential(0, 0.0, 0.0, &[], &[]), Kept::Below, 1.0, "{count:0, sum:0}");
    }
}
