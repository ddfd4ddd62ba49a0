//! Floats as label values: `le` and `quantile` are brought to one form when they are read, so that
//! `1`, `1.0` and `1e0` are the same bucket (`model/textparse`, `normalizeFloatsInLabelValues`).

use std::borrow::Cow;

use model::MetricKind;

/// A label's value in the one form, if it is a bound of a histogram or a quantile of a summary.
pub(super) fn normalized<'a>(kind: MetricKind, name: &str, value: Cow<'a, str>) -> Cow<'a, str> {
    let is_bound =
        matches!((kind, name), (MetricKind::Histogram, "le") | (MetricKind::Summary, "quantile"));
    if !is_bound {
        return value;
    }
    match super::text::number(value.as_bytes()) {
        Ok(number) => {
            let text = open_metrics_float(number);
            if text == value { value } else { Cow::Owned(text) }
        }
        Err(_) => value,
    }
}

/// A float as OpenMetrics writes it: as Go's `%g` does with as many digits as needed, and with a
/// point or an exponent in it.
pub fn open_metrics_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Rust writes the same digits, the exponent always and without padding: `1.5e-7`.
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) && value != 0.0 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_prometheus_writes_them() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (-1.0, "-1.0"),
            (0.5, "0.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123456.0, "123456.0"),
            (100000.0, "100000.0"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (1e100, "1e+100"),
            (1.5e-7, "1.5e-07"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(open_metrics_float(value), text);
        }
    }

    #[test]
    fn bounds_and_quantiles_are_brought_to_one_form() {
        let of =
            |kind, name, value: &'static str| normalized(kind, name, value.into()).into_owned();
        assert_eq!(of(MetricKind::Histogram, "le", "1"), "1.0");
        assert_eq!(of(MetricKind::Histogram, "le", "1e0"), "1.0");
        assert_eq!(of(MetricKind::Histogram, "le", "+Inf"), "+Inf");
        assert_eq!(of(MetricKind::Histogram, "le", "many"), "many");
        assert_eq!(of(MetricKind::Summary, "quantile", "0.990"), "0.99");
        assert_eq!(of(MetricKind::Gauge, "le", "1"), "1");
        assert_eq!(of(MetricKind::Summary, "le", "1"), "1");
        assert_eq!(of(MetricKind::Histogram, "other", "1"), "1");
    }
}
