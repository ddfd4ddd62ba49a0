//! The time by which rows expire: the clock's, unless it jumped ahead.
//!
//! A clock that is wrong by a year must not cost a year of rows. What no running process has seen
//! pass is believed only after a day in which somebody can set the clock right; until then rows
//! expire as if it had not jumped. A clock that goes back makes nothing expire.

/// A jump by more is not what clocks do by themselves, milliseconds.
const JUMP_MS: i64 = 3_600_000;

/// Longest stop of a store that needs no explanation, milliseconds: two weeks without writing
/// anything are a holiday, a year is a clock.
const STOP_MS: i64 = 14 * 24 * 3_600_000;

/// How long a jump is not believed, in seconds of the monotonic clock.
const DOUBT_SECONDS: f64 = 24.0 * 3600.0;

/// Follows the clock and notices jumps.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClockGuard {
    /// What was believed at an instant of the monotonic clock, seconds.
    believed: Option<(i64, f64)>,
    /// Since when the clock is ahead of it. Seconds of the monotonic clock.
    ahead_since: Option<f64>,
}

/// What time it is for retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionTime {
    /// Milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How far the clock is ahead of it, in milliseconds, if that is not believed.
    pub doubted_ms: Option<i64>,
}

impl ClockGuard {
    /// `last_ms` is when the store last wrote something before it was opened.
    pub(crate) fn new(last_ms: Option<i64>, wall_ms: i64, monotonic: f64) -> Self {
        let believed = match last_ms {
            Some(last_ms) if wall_ms.saturating_sub(last_ms) > STOP_MS => last_ms,
            _ => wall_ms,
        };
        Self { believed: Some((believed, monotonic)), ahead_since: None }
    }

    /// The time now.
    pub(crate) fn at(&mut self, wall_ms: i64, monotonic: f64) -> RetentionTime {
        let (then_ms, then) = self.believed.unwrap_or((wall_ms, monotonic));
        let expected = then_ms.saturating_add(((monotonic - then).max(0.0) * 1000.0) as i64);
        let ahead_ms = wall_ms.saturating_sub(expected);
        if ahead_ms > JUMP_MS {
            let since = *self.ahead_since.get_or_insert(monotonic);
            if monotonic - since < DOUBT_SECONDS {
                return RetentionTime { now_ms: expected, doubted_ms: Some(ahead_ms) };
            }
        }
        self.ahead_since = None;
        self.believed = Some((wall_ms, monotonic));
        RetentionTime { now_ms: wall_ms, doubted_ms: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    const NOW_MS: i64 = 1_800_000_000_000;

    /// The clock as it is looked at: hours passed, what it shows relative to the start in hours,
    /// and what is believed.
    #[track_caller]
    fn check(last_ms: Option<i64>, looks: &[(i64, i64, i64)]) {
        let mut guard = ClockGuard::new(last_ms, NOW_MS + looks[0].1 * HOUR_MS, 100.0);
        for &(passed, shown, believed) in looks {
            let monotonic = 100.0 + passed as f64 * 3600.0;
            let time = guard.at(NOW_MS + shown * HOUR_MS, monotonic);
            assert_eq!((time.now_ms - NOW_MS) / HOUR_MS, believed, "after {passed} h");
            let doubted = (shown - believed) * HOUR_MS;
            assert_eq!(time.doubted_ms, (doubted != 0).then_some(doubted), "after {passed} h");
        }
    }

    #[test]
    fn jumps_ahead_are_believed_after_a_day() {
        check(None, &[(0, 0, 0), (1, 1, 1), (2, 2, 2)]);
        check(Some(NOW_MS - DAY_MS), &[(0, 0, 0), (5, 5, 5)]);
        // A year ahead, and set right after some hours.
        check(None, &[(0, 0, 0), (1, 8_761, 1), (3, 8_763, 3), (4, 4, 4)]);
        // A year ahead, and that is so.
        check(None, &[(0, 0, 0), (1, 8_761, 1), (24, 8_784, 24), (25, 8_785, 8_785)]);
        // Back, and forth again: the way forth is a jump.
        check(None, &[(0, 0, 0), (1, -500, -500), (2, 2, -499), (26, 26, 26)]);
        // Small corrections.
        check(None, &[(0, 0, 0), (10, 11, 11), (11, 10, 10)]);
    }

    #[test]
    fn a_long_stop_is_not_believed_at_once() {
        let year = 365 * 24;
        let last = Some(NOW_MS - year * HOUR_MS);
        check(last, &[(0, 0, -year), (23, 23, 23 - year), (24, 24, 24)]);
        check(Some(NOW_MS - 13 * DAY_MS), &[(0, 0, 0)]);
        check(Some(NOW_MS + 900 * DAY_MS), &[(0, 0, 0)]); // written by a clock ahead
    }
}
