//! Quantiles of plain values.

use std::cmp::Ordering;

/// The φ-quantile, interpolated between neighbours. NaN counts as smaller than any number. Sorts
/// `values`.
pub(crate) fn quantile(phi: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(nan_first);
    let last = values.len() as f64 - 1.0;
    let rank = phi * last;
    let lower = rank.floor().max(0.0);
    let upper = last.min(lower + 1.0);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// The median of the distances from the median.
pub(crate) fn median_deviation(values: &mut [f64]) -> f64 {
    let median = quantile(0.5, values);
    for value in values.iter_mut() {
        *value = (*value - median).abs();
    }
    quantile(0.5, values)
}

/// By value, NaN before all numbers.
pub(crate) fn nan_first(a: &f64, b: &f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (a, b) => b.cmp(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(phi: f64, values: &[f64], expected: f64) {
        let found = quantile(phi, &mut values.to_vec());
        assert!(
            found == expected || found.is_nan() && expected.is_nan(),
            "{found} instead of {expected}"
        );
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values = [3.0, 1.0, 2.0, 5.0, 4.0];
        check(0.0, &values, 1.0);
        check(0.5, &values, 3.0);
        check(0.8, &values, 4.2);
        check(1.0, &values, 5.0);
        check(-0.1, &values, f64::NEG_INFINITY);
        check(1.1, &values, f64::INFINITY);
        check(f64::NAN, &values, f64::NAN);
        check(0.5, &[], f64::NAN);
        check(1.0, &[f64::NAN, 1.0], 1.0);
        check(0.0, &[1.0, f64::NAN], f64::NAN);
        assert_eq!(median_deviation(&mut [4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0]), 1.0);
    }
}
