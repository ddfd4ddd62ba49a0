//! Instants and durations in parameters: float seconds, RFC 3339, `1h30m`.

use model::Day;

/// Reads an instant as milliseconds since the Unix epoch: seconds as a float (to the nearest
/// millisecond) or RFC 3339 (what lies below a millisecond is cut off, as in Prometheus).
pub fn instant_ms(text: &str) -> Option<i64> {
    if let Some(seconds) = float(text) {
        let ms = (seconds * 1000.0).round();
        return (ms.abs() < i64::MAX as f64).then_some(ms as i64);
    }
    match text {
        // The bounds Go can express, which clients send for "always".
        "-292273086-05-16T16:47:06Z" => Some(i64::MIN),
        "292277025-08-18T07:12:54.999999999Z" | "+292277025-08-18T07:12:54.999999999Z" => {
            Some(i64::MAX)
        }
        _ => rfc3339_ms(text),
    }
}

/// A finite float as Go reads it, but for hexadecimal ones.
fn float(text: &str) -> Option<f64> {
    let numeric = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
    if !text.bytes().all(numeric) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// `2015-07-01T20:10:51.781Z`, `2015-07-01T22:10:51+02:00`.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    let month = number(literal(&mut rest, "-")?, 2)?;
    let day = number(literal(&mut rest, "-")?, 2)?;
    let hour = number(literal(&mut rest, "T")?, 2)?;
    let minute = number(literal(&mut rest, ":")?, 2)?;
    let second = number(literal(&mut rest, ":")?, 2)?;
    let fraction_ms = fraction_ms(&mut rest)?;
    let offset_minutes = offset_minutes(rest)?;
    let days = Day { year, month, day }.number()?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let minutes = (days * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + fraction_ms)
}

fn literal<'a, 'b>(rest: &'a mut &'b str, expected: &str) -> Option<&'a mut &'b str> {
    *rest = rest.strip_prefix(expected)?;
    Some(rest)
}

fn number(rest: &mut &str, digits: usize) -> Option<i64> {
    let (text, after) = rest.split_at_checked(digits)?;
    *rest = after;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `.5` or `,5`, if there is one.
fn fraction_ms(rest: &mut &str) -> Option<i64> {
    let Some(after) = rest.strip_prefix(['.', ',']) else { return Some(0) };
    let count = after.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = after.split_at(count);
    *rest = after;
    if digits.is_empty() {
        return None;
    }
    let padded = digits.bytes().chain([b'0'; 3]).take(3);
    Some(padded.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0')))
}

/// `Z` or `+01:00`.
fn offset_minutes(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let mut rest = text.strip_prefix(['+', '-'])?;
    let hours = number(&mut rest, 2)?;
    let minutes = number(literal(&mut rest, ":")?, 2)?;
    (rest.is_empty() && hours <= 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// An instant as `2015-07-01T20:10:51.781Z`, for the times the API prints.
pub fn rfc3339_text(ms: i64) -> String {
    let days = ms.div_euclid(86_400_000);
    let of_day = ms.rem_euclid(86_400_000);
    let Day { year, month, day } = Day::of_number(days);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    let millis = of_day % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Why a duration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DurationRefused {
    /// It is not one.
    Syntax,
    /// It does not fit Go's durations (nanoseconds in an `i64`, 292 years).
    Overflow,
}

/// Longest duration: 2^63 nanoseconds.
const NANOSECONDS_MAX: f64 = 9_223_372_036_854_775_807.0;

/// Reads a duration as milliseconds, cut off below: seconds as a float, or `1h30m`.
pub(super) fn read_duration_ms(text: &str) -> Result<i64, DurationRefused> {
    if let Some(seconds) = float(text) {
        let nanoseconds = seconds * 1e9;
        if nanoseconds.abs() > NANOSECONDS_MAX {
            return Err(DurationRefused::Overflow);
        }
        return Ok((nanoseconds as i64) / 1_000_000);
    }
    units_ms(text).ok_or(DurationRefused::Syntax)
}

/// The same; `None` for whatever is refused.
pub fn duration_ms(text: &str) -> Option<i64> {
    read_duration_ms(text).ok()
}

/// Units from the longest to the shortest; each may stand once, in this order. Milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

fn units_ms(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0i64;
    let mut units = &UNITS[..];
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let at = units.iter().position(|(name, _)| *name == &rest[..letters])?;
        total = total.checked_add(amount.checked_mul(units[at].1)?)?;
        rest = &rest[letters..];
        units = &units[at + 1..];
    }
    let fits = total as f64 * 1e6 <= NANOSECONDS_MAX;
    (!text.is_empty() && fits).then_some(total)
}

#[cfg(test)]
mod tests;
