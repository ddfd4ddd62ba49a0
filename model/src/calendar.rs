//! Days of the calendar that always was Gregorian, and their numbers from 1970-01-01 on.
//!
//! Years begin in March inside: the leap day is the last one, and 153 days are in any five months
//! from then on.

/// From the first of March of the year 0 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// A day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// The year; 0 is the one before 1.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
}

impl Day {
    /// The day with this number; 1970-01-01 has 0.
    pub fn of_number(number: i64) -> Self {
        let shifted = number.saturating_add(EPOCH_DAYS);
        let (era, of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
        let of_400 = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * of_400 + of_400 / 4 - of_400 / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + of_400 + i64::from(month <= 2);
        Self { year, month, day: of_year - (153 * from_march + 2) / 5 + 1 }
    }

    /// Its number; `None` if there is no such day, or one so far off that no instant lies in it.
    pub fn number(self) -> Option<i64> {
        let Self { year, month, day } = self;
        let is_in_month = (1..=days_in_month(year, month)?).contains(&day);
        if !is_in_month || year.unsigned_abs() > YEAR_MAX {
            return None;
        }
        let year = if month <= 2 { year - 1 } else { year };
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        Some(365 * year + leap_days + of_year - EPOCH_DAYS)
    }
}

/// Years further off have no milliseconds in 64 bits.
const YEAR_MAX: u64 = 300_000_000;

/// How many days a month has; `None` if there is no such month.
pub fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => Some(28 + i64::from(is_leap)),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_over_leap_years() {
        for ((year, month, day), number) in [
            ((1970, 1, 1), 0),
            ((1969, 12, 31), -1),
            ((1972, 2, 29), 789),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2100, 3, 1), 47_541),
            ((2026, 11, 22), 20_779),
            ((0, 3, 1), -719_468),
            ((-1, 12, 31), -719_529),
        ] {
            let date = Day { year, month, day };
            assert_eq!((date.number(), Day::of_number(number)), (Some(number), date));
        }
        for number in (-1_000_000..1_000_000).step_by(97) {
            assert_eq!(Day::of_number(number).number(), Some(number));
        }
    }

    #[test]
    fn what_is_no_day_has_no_number() {
        for (year, month, day) in [
            (2026, 0, 1),
            (2026, 13, 1),
            (2026, 1, 0),
            (2026, 1, 32),
            (2026, 2, 29),
            (1900, 2, 29),
            (2026, 4, 31),
            (i64::MAX, 1, 1),
            (i64::MIN, 1, 1),
        ] {
            assert_eq!(Day { year, month, day }.number(), None, "{year}-{month}-{day}");
        }
        assert_eq!(days_in_month(2000, 2), Some(29));
        Day::of_number(i64::MAX);
        Day::of_number(i64::MIN);
    }
}
