//! Quantities with units: durations of Prometheus and of Go, sizes in bytes; read and printed as
//! Loki does.

use std::fmt::Write;

use crate::promql::literals;

/// Go's units of time with their nanoseconds.
const GO_UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Powers of 1,000 and of 1,024.
const BYTE_PREFIXES: &str = "kmgtpe";

/// A duration in nanoseconds: as Prometheus writes them (`1d12h`), else as Go does (`1h0.5s`).
pub(crate) fn duration_ns(text: &str) -> Option<i64> {
    range_ns(text).ok().or_else(|| go_duration_ns(text))
}

/// A duration as Prometheus writes it, in nanoseconds.
pub(crate) fn range_ns(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Err(String::from("empty duration string"));
    }
    // The one number that needs no unit.
    if text == "0" {
        return Ok(0);
    }
    let ms = literals::duration(text)? * 1e3;
    Ok((ms.round() as i64).saturating_mul(1_000_000))
}

fn go_duration_ns(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total_ns = 0_i128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, unit_ns) = GO_UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction: f64 = format!("0.{fraction}0").parse().ok()?;
        total_ns = total_ns.checked_add(whole.checked_mul(*unit_ns as i128)?)?;
        total_ns += (fraction * unit_ns) as i128;
        rest = after;
    }
    i64::try_from(if negative { -total_ns } else { total_ns }).ok()
}

/// A duration as Go prints it: `1h15m0s`, `1.5ms`.
pub(super) fn go_duration_text(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let total = ns.unsigned_abs();
    if total == 0 {
        return String::from("0s");
    }
    let small = [("ns", 1_u64), ("µs", 1_000), ("ms", 1_000_000)];
    if total < 1_000_000_000 {
        let unit = small.iter().rev().find(|(_, unit_ns)| total >= *unit_ns);
        let (name, unit_ns) = unit.unwrap_or(&small[0]);
        return format!("{sign}{}{name}", decimal(total, *unit_ns));
    }
    let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
    let mut text = String::from(sign);
    if minutes >= 60 {
        let _ = write!(text, "{}h", minutes / 60);
    }
    if minutes > 0 {
        let _ = write!(text, "{}m", minutes % 60);
    }
    let _ = write!(text, "{}s", decimal(rest, 1_000_000_000));
    text
}

/// A count of units, its fraction without zeros at the end.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// A duration as Prometheus prints it: `1h15m`, `1w`.
pub(super) fn range_text(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ms = ns.unsigned_abs() / 1_000_000;
    format!("{sign}{}", literals::duration_text(ms as f64 / 1e3))
}

/// A size: `10KB`, `1.5MiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit = unit.to_ascii_lowercase();
    let (base, prefix) = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('i')) {
        Some(prefix) if !prefix.is_empty() => (1024_f64, prefix),
        Some(_) => return None,
        None => (1000_f64, unit.strip_suffix('b').unwrap_or(&unit)),
    };
    let power = match prefix {
        "" => 0,
        one if one.len() == 1 => BYTE_PREFIXES.find(one)? + 1,
        _ => return None,
    };
    let value = number * base.powi(i32::try_from(power).ok()?);
    (value < u64::MAX as f64).then_some(value as u64)
}

/// A size of at most three digits, rounded, in powers of 1,000.
pub(super) fn bytes_text(value: u64) -> String {
    if value < 10 {
        return format!("{value}B");
    }
    let power = value.ilog(1000);
    let unit = match power {
        0 => String::from("B"),
        1 => String::from("kB"),
        _ => {
            let prefix = BYTE_PREFIXES.as_bytes()[power as usize - 1].to_ascii_uppercase();
            format!("{}B", char::from(prefix))
        }
    };
    let scaled = (value as f64 / 1000_f64.powi(power as i32) * 10.0 + 0.5).floor() / 10.0;
    match scaled < 10.0 {
        true => format!("{scaled:.1}{unit}"),
        false => format!("{scaled:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed() {
        let cases = [
            ("5m", Some("5m0s")),
            ("1w", Some("168h0m0s")),
            ("1h15m30.918273645s", Some("1h15m30.918273645s")),
            ("1h0.0m0s", Some("1h0m0s")),
            ("-5m", Some("-5m0s")),
            ("1.5ms", Some("1.5ms")),
            ("3us", Some("3µs")),
            ("250ns", Some("250ns")),
            (".5s", Some("500ms")),
            ("0", Some("0s")),
            ("5", None),
            ("5.5y", None),
            ("1.2.3s", None),
            (".s", None),
            ("-", None),
            ("99999999999999999999h", None),
        ];
        for (text, printed) in cases {
            assert_eq!(duration_ns(text).map(go_duration_text).as_deref(), printed, "{text}");
        }
        assert_eq!(range_text(90_061_000_000_000), "1d1h1m1s");
    }

    #[test]
    fn sizes_are_read_and_printed() {
        let cases = [
            ("1B", Some((1, "1B"))),
            ("20k", Some((20_000, "20kB"))),
            ("1.5KB", Some((1500, "1.5kB"))),
            ("1KiB", Some((1024, "1.0kB"))),
            ("200MiB", Some((209_715_200, "210MB"))),
            ("10GB", Some((10_000_000_000, "10GB"))),
            ("2PiB", Some((2_251_799_813_685_248, "2.3PB"))),
            ("1i", None),
            ("1KK", None),
            ("99999999PB", None),
        ];
        for (text, expected) in cases {
            let found = bytes(text).map(|value| (value, bytes_text(value)));
            let found = found.as_ref().map(|(value, text)| (*value, text.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
