//! Instants as senders write them, in nanoseconds since the Unix epoch.

use model::Day;

const SECOND_NS: i64 = 1_000_000_000;

/// An instant in RFC 3339 and what is close to it: a blank for the `T`, a comma for the point, no
/// colon in the offset, no offset at all (then it is UTC).
pub(crate) fn rfc3339_ns(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else { return None };
    let year = number(&[*y1, *y2, *y3, *y4])?;
    let day = Day { year, month: number(&[*m1, *m2])?, day: number(&[*d1, *d2])? };
    let days = day.number()?;
    let rest = match rest {
        [] => return days.checked_mul(86_400 * SECOND_NS),
        [b'T' | b't' | b' ', rest @ ..] => rest,
        _ => return None,
    };
    let (of_day_ns, zone) = time_of_day_ns(rest)?;
    let offset_seconds = offset_seconds(zone)?;
    days.checked_mul(86_400 * SECOND_NS)?
        .checked_add(of_day_ns)?
        .checked_sub(offset_seconds * SECOND_NS)
}

/// `15:04:05.678901`: nanoseconds since midnight, and what follows.
pub(crate) fn time_of_day_ns(text: &[u8]) -> Option<(i64, &[u8])> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else { return None };
    let (hour, minute) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
    // A leap second is the one after it, as in Go and POSIX.
    let second = number(&[*s1, *s2])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ns, rest) = match rest {
        [b'.' | b',', rest @ ..] => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            let shown = &rest[..digits.min(9)];
            let scale = 10_i64.pow(9 - shown.len() as u32);
            (number(shown)? * scale, &rest[digits..])
        }
        rest => (0, rest),
    };
    Some((((hour * 60 + minute) * 60 + second) * SECOND_NS + fraction_ns, rest))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    let zone = zone.trim_ascii_start();
    let (sign, digits) = match zone {
        [] | b"Z" | b"z" | b"UTC" => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [h1, h2] => (number(&[*h1, *h2])?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60)
}

/// A number of seconds, milliseconds, microseconds or nanoseconds: its size says which. Seconds
/// may have a fraction.
pub(crate) fn unix_ns(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if let Ok(whole) = text.parse::<i64>() {
        let scale = match whole.unsigned_abs() {
            0..100_000_000_000 => SECOND_NS,
            100_000_000_000..100_000_000_000_000 => 1_000_000,
            100_000_000_000_000..100_000_000_000_000_000 => 1_000,
            _ => 1,
        };
        return whole.checked_mul(scale);
    }
    // Digits, not floats: a float has no room for the nanoseconds of today.
    if let Some((whole, fraction)) = text.split_once('.')
        && !fraction.is_empty()
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && let Ok(seconds) = whole.parse::<i64>()
        && seconds.unsigned_abs() < 100_000_000_000
    {
        let shown = &fraction[..fraction.len().min(9)];
        let fraction_ns = number(shown.as_bytes())? * 10_i64.pow(9 - shown.len() as u32);
        let fraction_ns = if whole.starts_with('-') { -fraction_ns } else { fraction_ns };
        return seconds.checked_mul(SECOND_NS)?.checked_add(fraction_ns);
    }
    let value: f64 = text.parse().ok()?;
    let scale = match value.abs() {
        v if v < 1e11 => 1e9,
        v if v < 1e14 => 1e6,
        v if v < 1e17 => 1e3,
        _ => 1.0,
    };
    let ns = value * scale;
    (ns.is_finite() && ns.abs() < 9.2e18).then_some(ns as i64)
}

/// An instant however it is written.
pub(crate) fn instant_ns(text: &[u8]) -> Option<i64> {
    rfc3339_ns(text).or_else(|| unix_ns(text))
}

/// The day that an instant falls into.
pub(crate) fn day_of(ns: i64) -> Day {
    Day::of_number(ns.div_euclid(86_400 * SECOND_NS))
}

/// An instant as people read it.
pub(crate) fn shown(ns: i64) -> String {
    let Day { year, month, day } = day_of(ns);
    let seconds = ns.div_euclid(SECOND_NS).rem_euclid(86_400);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = match ns.rem_euclid(SECOND_NS) {
        0 => String::new(),
        fraction => format!(".{fraction:09}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, as_shown: Option<&str>) {
        let found = instant_ns(text.as_bytes()).map(shown);
        assert_eq!(found.as_deref(), as_shown, "{text}");
    }

    #[test]
    fn instants_are_read() {
        check("2026-11-21T12:32:17.053123456Z", Some("2026-11-21T12:32:17.053123456Z"));
        check("2026-11-21 12:32:17,5", Some("2026-11-21T12:32:17.5Z"));
        check("2026-11-21T12:32:17+08:00", Some("2026-11-21T04:32:17Z"));
        check("2026-11-21T12:32:17-0130", Some("2026-11-21T14:02:17Z"));
        check("2026-11-21T12:32:17.1234567891 +00", Some("2026-11-21T12:32:17.123456789Z"));
        check("2024-02-29", Some("2024-02-29T00:00:00Z"));
        check("1969-12-31T23:59:59.5Z", Some("1969-12-31T23:59:59.5Z"));
        check("1600-02-29T00:00:00Z", None);
        check("2023-02-29", None);
        check("2026-13-01T00:00:00Z", None);
        check("2026-11-21T24:00:00Z", None);
        check("2026-11-21T12:32Z", None);
        check("2026-11-21T12:32:17+0a:00", None);
        check("2026-11-21T12:32:17.Z", None);
        check("yesterday", None);
        check("", None);
    }

    #[test]
    fn numbers_say_their_unit_by_their_size() {
        check("1700000000", Some("2023-11-14T22:13:20Z"));
        check("1700000000.123456789", Some("2023-11-14T22:13:20.123456789Z"));
        check("-1.5", Some("1969-12-31T23:59:58.5Z"));
        check("1700000000123", Some("2023-11-14T22:13:20.123Z"));
        check("1700000000123456", Some("2023-11-14T22:13:20.123456Z"));
        check("1700000000123456789", Some("2023-11-14T22:13:20.123456789Z"));
        check("1.7e9", Some("2023-11-14T22:13:20Z"));
        check("99999999999999999999", None);
        check("1e300", None);
        check("NaN", None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_read_again(ns in i64::MIN / 2..i64::MAX / 2) {
            proptest::prop_assert_eq!(rfc3339_ns(shown(ns).as_bytes()), Some(ns));
        }

        #[test]
        fn any_text_does_no_harm(text in proptest::collection::vec(0u8..=255, 0..60)) {
            instant_ns(&text);
        }
    }
}
