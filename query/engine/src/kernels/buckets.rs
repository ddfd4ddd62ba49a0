//! Quantiles and fractions of classic histograms.

/// One bucket: how many observations were at most `upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) upper: f64,
    pub(crate) count: f64,
}

/// Counts that differ by less than this share are taken as equal: what is left of float addition
/// after an aggregation.
const TOLERANCE: f64 = 1e-12;

/// A quantile, and whether counts that fall with the bound had to be lifted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantile {
    pub(crate) value: f64,
    pub(crate) lifted: bool,
}

/// The φ-quantile, interpolated inside its bucket. Sorts and changes the buckets.
pub(crate) fn quantile(phi: f64, buckets: &mut Vec<Bucket>) -> Quantile {
    let plain = |value| Quantile { value, lifted: false };
    if phi.is_nan() {
        return plain(f64::NAN);
    }
    if phi < 0.0 {
        return plain(f64::NEG_INFINITY);
    }
    if phi > 1.0 {
        return plain(f64::INFINITY);
    }
    if !complete(buckets) {
        return plain(f64::NAN);
    }
    let lifted = lift(buckets);
    Quantile { value: interpolated(phi, buckets), lifted }
}

fn interpolated(phi: f64, buckets: &[Bucket]) -> f64 {
    let [.., before_last, last] = buckets else { return f64::NAN };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let mut rank = phi * last.count;
    let inner = buckets.len() - 1;
    let at =
        buckets[..inner].partition_point(|b| b.count < rank || b.count.is_nan() || rank.is_nan());
    if at == inner {
        return before_last.upper;
    }
    let Bucket { upper, mut count } = buckets[at];
    if at == 0 && upper <= 0.0 {
        return upper;
    }
    let mut lower = 0.0;
    if at > 0 {
        lower = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    lower + (upper - lower) * (rank / count)
}

/// The share of observations between two values.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !complete(buckets) {
        return f64::NAN;
    }
    let count = buckets.last().map_or(0.0, |b| b.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below_upper = rank_of(upper, buckets, count);
    (below_upper - rank_of(lower, buckets, count)) / count
}

/// How many observations lie below a value.
fn rank_of(value: f64, buckets: &[Bucket], count: f64) -> f64 {
    let (mut rank, mut lower) = (0.0f64, f64::NEG_INFINITY);
    for (i, bucket) in buckets.iter().enumerate() {
        if i == 0 && bucket.upper > 0.0 {
            // As everywhere with classic histograms: the first bucket begins at zero if it can.
            lower = 0.0;
        }
        if lower >= value {
            return rank.min(count);
        }
        if lower < value && bucket.upper > value {
            if lower == f64::NEG_INFINITY {
                // Nothing can be said about where in an endless bucket they lie.
                return bucket.count.min(count);
            }
            let inside = rank + (bucket.count - rank) * (value - lower) / (bucket.upper - lower);
            return inside.min(count);
        }
        rank = bucket.count;
        lower = bucket.upper;
    }
    count
}

/// Sorts by bound and adds up equal bounds. False if nothing counts all observations.
fn complete(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

/// Makes counts grow with the bound, as they must. True if that changed more than rounding.
fn lift(buckets: &mut [Bucket]) -> bool {
    let mut lifted = false;
    let Some(mut before) = buckets.first().map(|b| b.count) else { return false };
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if nearly_equal(before, count) {
            bucket.count = before;
        } else if count < before {
            bucket.count = before;
            lifted = true;
        } else {
            before = count;
        }
    }
    lifted
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(upper, count)| Bucket { upper: *upper, count: *count }).collect()
    }

    #[track_caller]
    fn check(phi: f64, pairs: &[(f64, f64)], value: f64, lifted: bool) {
        let found = quantile(phi, &mut buckets(pairs));
        assert!(found.value == value || found.value.is_nan() && value.is_nan(), "{found:?}");
        assert_eq!(found.lifted, lifted);
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let three = [(0.1, 50.0), (0.2, 70.0), (INF, 110.0)];
        check(0.0, &three, 0.0, false);
        check(55.0 / 110.0, &three, 0.125, false);
        check(1.0, &three, 0.2, false);
        check(0.5, &three[..2], f64::NAN, false);
        check(0.5, &[(INF, 10.0)], f64::NAN, false);
        check(0.5, &[(1.0, 0.0), (INF, 0.0)], f64::NAN, false);
        check(0.25, &[(-1.0, 10.0), (INF, 20.0)], -1.0, false);
        check(0.5, &[(1.0, 10.0), (2.0, 5.0), (INF, 10.0)], 0.5, true);
        check(0.5, &[(1.0, 5.0), (1.0, 5.0), (INF, 10.0)], 0.5, false);
    }

    #[test]
    fn fractions_count_what_lies_between() {
        let three = [(0.1, 50.0), (0.2, 70.0), (INF, 110.0)];
        let share = |lower, upper| fraction(lower, upper, &mut buckets(&three));
        assert_eq!(share(0.0, 0.1), 50.0 / 110.0);
        assert_eq!(share(-INF, INF), 1.0);
        assert_eq!(share(1.0, 1.0), 0.0);
        assert_eq!(share(0.05, 0.1), 25.0 / 110.0);
        assert!(share(f64::NAN, 1.0).is_nan());
    }
}
