//! Parts of a point in time, in UTC.

use model::{Day, days_in_month as days_of};

const DAY_SECONDS: u64 = 86_400;

/// Seconds from Go's first day, the first of January of a year 292 milliards ago, to the epoch.
const EPOCH_SECONDS: u64 = 9_223_372_028_715_321_600;

/// Whole seconds since that first day. What is no date, NaN, infinities and what 64 bits do not
/// hold, becomes the smallest integer as in Go's conversion, and wraps around as there.
fn whole(seconds: f64) -> u64 {
    let inside = seconds >= i64::MIN as f64 && seconds < -(i64::MIN as f64);
    let whole = if inside { seconds as i64 } else { i64::MIN };
    whole.cast_unsigned().wrapping_add(EPOCH_SECONDS)
}

/// The number of the day of a number of seconds since the epoch.
fn number(seconds: f64) -> i64 {
    let days = |seconds: u64| (seconds / DAY_SECONDS).cast_signed();
    days(whole(seconds)) - days(EPOCH_SECONDS)
}

fn of_day(seconds: f64, part: impl Fn(Day) -> i64) -> f64 {
    part(Day::of_number(number(seconds))) as f64
}

/// How many days a month has; of a day that there is, there is the month.
fn month_days(year: i64, month: i64) -> i64 {
    days_of(year, month).unwrap_or_default()
}

pub(super) fn day_of_month(seconds: f64) -> f64 {
    of_day(seconds, |d| d.day)
}

/// 0 is Sunday.
pub(super) fn day_of_week(seconds: f64) -> f64 {
    (number(seconds) + 4).rem_euclid(7) as f64
}

pub(super) fn day_of_year(seconds: f64) -> f64 {
    of_day(seconds, |d| (1..d.month).map(|month| month_days(d.year, month)).sum::<i64>() + d.day)
}

pub(super) fn days_in_month(seconds: f64) -> f64 {
    of_day(seconds, |d| month_days(d.year, d.month))
}

pub(super) fn month(seconds: f64) -> f64 {
    of_day(seconds, |d| d.month)
}

pub(super) fn year(seconds: f64) -> f64 {
    of_day(seconds, |d| d.year)
}

pub(super) fn hour(seconds: f64) -> f64 {
    (whole(seconds) % DAY_SECONDS / 3_600) as f64
}

pub(super) fn minute(seconds: f64) -> f64 {
    (whole(seconds) % 3_600 / 60) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: f64, expected: [f64; 8]) {
        let parts =
            [year, month, day_of_month, hour, minute, day_of_week, day_of_year, days_in_month];
        assert_eq!(parts.map(|part| part(seconds)), expected, "{seconds}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        check(0.0, [1970.0, 1.0, 1.0, 0.0, 0.0, 4.0, 1.0, 31.0]);
        check(-1.0, [1969.0, 12.0, 31.0, 23.0, 59.0, 3.0, 365.0, 31.0]);
        check(951_782_400.0, [2000.0, 2.0, 29.0, 0.0, 0.0, 2.0, 60.0, 29.0]);
        check(1_136_239_445.0, [2006.0, 1.0, 2.0, 22.0, 4.0, 1.0, 2.0, 31.0]);
        check(4_107_542_400.0, [2100.0, 3.0, 1.0, 0.0, 0.0, 1.0, 60.0, 31.0]);
    }

    #[test]
    fn what_is_no_date_wraps_as_in_go() {
        for wild in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN] {
            let parts = [292_277_026_596.0, 12.0, 4.0, 15.0, 30.0, 0.0, 339.0, 31.0];
            check(wild, parts);
        }
    }
}
