//! Histograms and floats as texts, as Prometheus writes them in labels and notes.

use std::fmt::Write;

use query::{Bucket, FloatHistogram};

/// Count, sum and the buckets that are not empty, from the lowest up.
pub(crate) fn text(h: &FloatHistogram) -> String {
    let mut text = format!("{{count:{}, sum:{}", go_g(h.count), go_g(h.sum));
    for Bucket { lower, upper, lower_inclusive, upper_inclusive, count } in
        h.buckets().into_iter().filter(|bucket| bucket.count != 0.0)
    {
        let open = if lower_inclusive { '[' } else { '(' };
        let close = if upper_inclusive { ']' } else { ')' };
        let (lower, upper, count) = (go_g(lower), go_g(upper), go_g(count));
        // Writing to a string cannot fail.
        let _ = write!(text, ", {open}{lower},{upper}{close}:{count}");
    }
    text.push('}');
    text
}

/// A float as Go's `%g` prints it: all its digits, with an exponent where that is below −4 or
/// above 5.
pub(crate) fn go_g(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::testing::{custom, exponential};

    #[test]
    fn floats_are_written_as_in_go() {
        for (value, expected) in [
            (0.0, "0"),
            (-2.5, "-2.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e-10, "1e-10"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (1e20, "1e+20"),
            (1.5e21, "1.5e+21"),
            (-1.5e-300, "-1.5e-300"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(go_g(value), expected);
        }
    }

    #[test]
    fn histograms_are_written_from_the_lowest_bucket_up() {
        let h = exponential(0, 0.001, 2.0, &[(0, 1.0), (1, 0.0), (2, 2.0)], &[(0, 1.0), (1, 2.0)]);
        assert_eq!(
            text(&h),
            "{count:8, sum:6, [-2,-1):2, [-1,-0.5):1, [-0.001,0.001]:2, (0.5,1]:1, (2,4]:2}"
        );
        assert_eq!(
            text(&custom(&[0.5], &[1.0, 2.0])),
            "{count:3, sum:3, [-Inf,0.5]:1, (0.5,+Inf]:2}"
        );
    }
}
