//! Functions of one float.

use crate::kernels::over_time::Params;

/// Functions that only need the float.
macro_rules! plain {
    ($($name:ident = $function:expr;)*) => {
        $(pub(super) fn $name(value: f64, _: Params<'_>) -> Option<f64> {
            Some($function(value))
        })*
    };
}

plain! {
    abs = f64::abs;
    acos = f64::acos;
    acosh = f64::acosh;
    asin = f64::asin;
    asinh = f64::asinh;
    atan = f64::atan;
    atanh = f64::atanh;
    ceil = f64::ceil;
    cos = f64::cos;
    cosh = f64::cosh;
    deg = |value: f64| value * 180.0 / std::f64::consts::PI;
    exp = f64::exp;
    floor = f64::floor;
    ln = f64::ln;
    log10 = f64::log10;
    log2 = f64::log2;
    rad = |value: f64| value * std::f64::consts::PI / 180.0;
    sin = f64::sin;
    sinh = f64::sinh;
    sqrt = f64::sqrt;
    tan = f64::tan;
    tanh = f64::tanh;
    sgn = |value: f64| if value < 0.0 { -1.0 } else if value > 0.0 { 1.0 } else { value };
}

pub(super) fn clamp(value: f64, params: Params<'_>) -> Option<f64> {
    let (low, high) = (*params.first()?, *params.get(1)?);
    // Nothing fits between bounds that are the wrong way round.
    (low <= high || low.is_nan() || high.is_nan()).then(|| larger(low, smaller(high, value)))
}

pub(super) fn clamp_max(value: f64, params: Params<'_>) -> Option<f64> {
    Some(smaller(*params.first()?, value))
}

pub(super) fn clamp_min(value: f64, params: Params<'_>) -> Option<f64> {
    Some(larger(*params.first()?, value))
}

/// To the nearest multiple, halves up.
pub(super) fn round(value: f64, params: Params<'_>) -> Option<f64> {
    let inverse = 1.0 / params.first().copied().unwrap_or(1.0);
    Some((value * inverse + 0.5).floor() / inverse)
}

/// The larger one; NaN if either is, but nothing is larger than +Inf: Go's rule.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        return f64::INFINITY;
    }
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    if a == 0.0 && b == 0.0 {
        return if a.is_sign_negative() { b } else { a };
    }
    a.max(b)
}

/// The smaller one; NaN if either is, but nothing is smaller than -Inf: Go's rule.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    if a == 0.0 && b == 0.0 {
        return if a.is_sign_negative() { a } else { b };
    }
    a.min(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::MapFunction;

    #[track_caller]
    fn check(function: MapFunction, value: f64, params: &[f64], expected: Option<f64>) {
        assert_eq!(function(value, params).map(f64::to_bits), expected.map(f64::to_bits));
    }

    #[test]
    fn floats_are_mapped() {
        check(round, 2.5, &[], Some(3.0));
        check(round, -2.5, &[], Some(-2.0));
        check(round, 7.3, &[5.0], Some(5.0));
        check(clamp, 5.0, &[0.0, 3.0], Some(3.0));
        check(clamp, 5.0, &[3.0, 0.0], None);
        check(clamp, 5.0, &[f64::NAN, 0.0], Some(f64::NAN));
        check(clamp_min, f64::NAN, &[f64::INFINITY], Some(f64::INFINITY));
        check(clamp_max, f64::NAN, &[f64::NEG_INFINITY], Some(f64::NEG_INFINITY));
        check(clamp_min, f64::NAN, &[f64::NEG_INFINITY], Some(f64::NAN));
        check(clamp_min, -0.0, &[0.0], Some(0.0));
        check(clamp_max, 0.0, &[-0.0], Some(-0.0));
        check(sgn, -0.0, &[], Some(-0.0));
        check(sgn, -3.0, &[], Some(-1.0));
        check(deg, std::f64::consts::PI, &[], Some(180.0));
    }
}
