//! Parameters as Loki reads them: instants in seconds or nanoseconds, steps, limits.

use super::super::times::instant_ms;
use super::Question;
use crate::Error;
use crate::entries::{Direction, Steps};
use crate::logql::{duration_ns, range_ns};

/// An hour in nanoseconds: how far back a query looks if nothing is said.
pub(super) const HOUR_NS: i64 = 3_600_000_000_000;

/// Entries of one answer: Loki's default of `max_entries_limit_per_query`.
const ENTRIES_MAX: usize = 5_000;

/// Points of one series: Loki's and Prometheus' bound.
const POINTS_MAX: i64 = 11_000;

/// What is asked for beside the query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// First nanosecond since the Unix epoch.
    pub(super) start_ns: i64,
    /// The one after the last.
    pub(super) end_ns: i64,
    /// Most entries, or elements.
    pub(super) limit: usize,
    /// Which way.
    pub(super) direction: Direction,
}

impl Limits {
    /// Of a request; without a start the range reaches back so far.
    pub(super) fn of(question: &Question, back_ns: i64) -> Result<Self, Error> {
        let params = &question.params;
        let now_ns = now_ns(question);
        let end_ns = instant_or(question, "end", now_ns)?;
        let since_ns = match params.get("since") {
            "" => back_ns,
            text => range_ns(text).map_err(|reason| {
                Error::BadData(format!("could not parse 'since' parameter: {reason}"))
            })?,
        };
        // What is to come is not looked back from.
        let start_ns = instant_or(question, "start", end_ns.min(now_ns).saturating_sub(since_ns))?;
        if end_ns <= start_ns {
            let text = "end timestamp must not be before or equal to start time";
            return Err(Error::BadData(text.to_owned()));
        }
        let direction = match params.get("direction").to_ascii_lowercase().as_str() {
            "" | "backward" => Direction::Backward,
            "forward" => Direction::Forward,
            _ => {
                let text = params.get("direction");
                return Err(Error::BadData(format!("invalid direction '{text}'")));
            }
        };
        Ok(Self { start_ns, end_ns, limit: limit(question)?, direction })
    }

    /// The instants of a range of numbers.
    pub(super) fn steps(&self, question: &Question) -> Result<Steps, Error> {
        let range_ns = self.end_ns.saturating_sub(self.start_ns);
        let step_ns = match question.params.get("step") {
            "" => (range_ns / 250_000_000_000).max(1) * 1_000_000_000,
            text => duration(text).ok_or_else(|| {
                Error::BadData(format!("cannot parse {text:?} to a valid duration"))
            })?,
        };
        if step_ns <= 0 {
            let text = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(Error::BadData(text.to_owned()));
        }
        if range_ns / step_ns > POINTS_MAX {
            let text = "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter";
            return Err(Error::BadData(text.to_owned()));
        }
        let count = usize::try_from(range_ns / step_ns + 1).unwrap_or(usize::MAX);
        Ok(Steps { start_ns: self.start_ns, step_ns, count })
    }
}

/// `limit`, at most as many as an answer may have.
pub(super) fn limit(question: &Question) -> Result<usize, Error> {
    let text = question.params.get("limit");
    let limit = match text {
        "" => 100,
        _ => text.parse::<i64>().map_err(|_| {
            Error::BadData(format!("could not parse 'limit' parameter: {text:?} is no number"))
        })?,
    };
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    let limit = limit.ok_or_else(|| Error::BadData("limit must be a positive value".to_owned()))?;
    if limit > ENTRIES_MAX {
        return Err(Error::BadData(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {ENTRIES_MAX})"
        )));
    }
    Ok(limit)
}

pub(super) fn now_ns(question: &Question) -> i64 {
    question.querier.clock().now_ms().saturating_mul(1_000_000)
}

/// An instant that may be left out.
pub(super) fn instant_or(question: &Question, name: &str, default_ns: i64) -> Result<i64, Error> {
    match question.params.get(name) {
        "" => Ok(default_ns),
        text => instant_ns(text).ok_or_else(|| {
            Error::BadData(format!(
                "could not parse '{name}' parameter: {text:?} is neither seconds, nor nanoseconds, nor RFC 3339"
            ))
        }),
    }
}

/// An instant: a number with a point is seconds, to the nearest millisecond; one of up to ten
/// digits is seconds; a longer one nanoseconds; else it is RFC 3339.
pub(in crate::http) fn instant_ns(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return match text.len() <= 10 {
            true => number.checked_mul(1_000_000_000),
            false => Some(number),
        };
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) {
        return instant_ms(text)?.checked_mul(1_000_000);
    }
    // What lies below a millisecond, which the other API cuts off.
    let ms = instant_ms(text)?;
    let below = text.split_once('.').map_or(0, |(_, fraction)| {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit);
        let padded = digits.chain([b'0'; 9]).skip(3).take(6);
        padded.fold(0_i64, |ns, digit| ns * 10 + i64::from(digit - b'0'))
    });
    ms.checked_mul(1_000_000)?.checked_add(below)
}

/// A duration: seconds as a number, or `1h30m`. Nanoseconds.
pub(in crate::http) fn duration(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds.abs() < 9e9 => Some((seconds * 1e9) as i64),
        Ok(_) => None,
        Err(_) => duration_ns(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_loki_reads_them() {
        let cases = [
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500_000_000)),
            ("1700000000.0005", Some(1_700_000_000_001_000_000)),
            ("1700000000000000001", Some(1_700_000_000_000_000_001)),
            ("4000000000", Some(4_000_000_000_000_000_000)),
            ("0", Some(0)),
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000_000_000)),
            ("2023-11-14T22:13:20.123456789Z", Some(1_700_000_000_123_456_789)),
            ("2023-11-14T23:13:20.1+01:00", Some(1_700_000_000_100_000_000)),
            ("99999999999999999999", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(instant_ns(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_numbers_or_words() {
        let cases = [
            ("15", Some(15_000_000_000)),
            ("0.5", Some(500_000_000)),
            ("15000ms", Some(15_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("-5", Some(-5_000_000_000)),
            ("1e300", None),
            ("soon", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
