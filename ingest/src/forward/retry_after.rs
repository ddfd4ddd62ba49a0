//! `Retry-After`: how long a receiver asks to be left alone, in seconds or as a date (RFC 9110, 10.2.3).

use std::time::Duration;

use model::Day;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest pause a receiver can ask for.
const WAIT_MAX: Duration = Duration::from_secs(300);

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The pause asked for at the time `now_ms`. `None` if there is none, or it is over.
pub(super) fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait_ms = match text.parse::<u64>() {
        Ok(seconds) => seconds.saturating_mul(1_000),
        Err(_) => {
            u64::try_from(date_seconds(text)?.checked_mul(1_000)?.checked_sub(now_ms)?).ok()?
        }
    };
    (wait_ms > 0).then(|| Duration::from_millis(wait_ms).min(WAIT_MAX))
}

/// Seconds since the Unix epoch of a date in one of the three forms that HTTP has.
fn date_seconds(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split([' ', ',', '-']).filter(|part| !part.is_empty()).collect();
    let (day, month, year, time) = match parts[..] {
        // Sun, 06 Nov 1994 08:49:37 GMT; Sunday, 06-Nov-94 08:49:37 GMT
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        // Sun Nov  6 08:49:37 1994
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let (day, two_digits) = (number(day, 31)?, year.len() == 2);
    let year = match number(year, 9_999)? {
        // As Go reads them.
        year if two_digits && year < 69 => year + 2_000,
        year if two_digits => year + 1_900,
        year => year,
    };
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    // A leap second is the first of the next minute.
    let second = number(hour, 23)? * 3_600 + number(minute, 59)? * 60 + number(second, 60)?;
    Some(Day { year, month, day }.number()? * 86_400 + second)
}

/// A number of digits alone, up to `most`.
fn number(text: &str, most: i64) -> Option<i64> {
    let digits = Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits?.parse().ok().filter(|number| *number <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1994-11-06 08:49:30 UTC.
    const NOW_MS: i64 = 784_111_770_000;

    #[track_caller]
    fn check(text: &str, seconds: f64) {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a value"))]);
        let found = retry_after(&headers, NOW_MS).map_or(0.0, |wait| wait.as_secs_f64());
        assert_eq!(found, seconds, "{text:?}");
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        check("7", 7.0);
        check(" 7 ", 7.0);
        check("9999", 300.0);
        check("18446744073709551615", 300.0);
        check("0", 0.0);
        check("-3", 0.0);
        check("soon", 0.0);
        check("", 0.0);
        check("Sun, 06 Nov 1994 08:49:37 GMT", 7.0);
        check("Sunday, 06-Nov-94 08:49:37 GMT", 7.0);
        check("Sun Nov  6 08:49:37 1994", 7.0);
        check("Sun, 06 Nov 1994 08:49:60 GMT", 30.0);
        check("Sun, 06 Nov 1994 08:50:00 GMT", 30.0);
        check("Mon, 07 Nov 1994 00:00:00 GMT", 300.0);
        check("Sunday, 06-Nov-40 08:49:37 GMT", 300.0);
        check("Fri, 31 Dec 9999 23:59:59 GMT", 300.0);
        // Over already.
        check("Sun, 06 Nov 1994 08:49:30 GMT", 0.0);
        check("Sun, 06 Nov 1994 08:49:29 GMT", 0.0);
        check("Thu, 01 Jan 1970 00:00:00 GMT", 0.0);
        // None.
        check("Sun, 06 Nov 1994 08:49:37", 0.0);
        check("Sun, 06 Nov 1994 08:49:37 CET", 0.0);
        check("Sun, 06 Nov 2994 24:49:37 GMT", 0.0);
        check("Sun, 31 Nov 2994 08:49:37 GMT", 0.0);
        check("Sun, 00 Nov 2994 08:49:37 GMT", 0.0);
        check("Sun, 32 Nov 2994 08:49:37 GMT", 0.0);
        check("Sun, 06 Nox 2994 08:49:37 GMT", 0.0);
        check("Sun, 06 Nov +2994 08:49:37 GMT", 0.0);
        check("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", 0.0);
        check("Sun, 06 Nov 2994 08:49 GMT", 0.0);
    }
}
