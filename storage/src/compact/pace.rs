//! How fast compaction may go: a token bucket of bytes, and a share of one core that shrinks while
//! the store has other work.

use super::Config;

/// While writes or questions go on, compaction takes this part of its share.
const BUSY_PART: f64 = 0.2;

/// Bytes of log a second above which the store is busy with writes: some 500 thousand samples in a
/// minute.
const BUSY_LOG_BYTES: f64 = 16_384.0;

/// Look-ups in the block cache a second above which the store is busy with questions.
const BUSY_LOOK_UPS: f64 = 50.0;

/// Times `fresh_blocks_max` at which compaction has fallen behind.
const BEHIND: usize = 4;

/// Seconds of budget that may be used at once after a rest.
const BURST_SECONDS: f64 = 1.0;

/// Longest pause at a time, so that a stop or a change of load is noticed.
const PAUSE_SECONDS_MAX: f64 = 2.0;

/// What the store has done so far, as far as it tells how busy it is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Activity {
    /// Monotonic seconds.
    pub(crate) at: f64,
    /// End of the log.
    pub(crate) log_bytes: u64,
    /// Look-ups in the block cache.
    pub(crate) look_ups: u64,
}

impl Activity {
    /// Whether there was other work between two moments.
    pub(crate) fn is_busy_since(&self, before: &Self) -> bool {
        let seconds = (self.at - before.at).max(0.001);
        let log = self.log_bytes.saturating_sub(before.log_bytes) as f64 / seconds;
        let look_ups = self.look_ups.saturating_sub(before.look_ups) as f64 / seconds;
        log > BUSY_LOG_BYTES || look_ups > BUSY_LOOK_UPS
    }
}

/// The part of one core compaction may take now.
pub(crate) fn share(is_busy: bool, fresh_blocks: usize, config: &Config) -> f64 {
    if fresh_blocks >= config.fresh_blocks_max.saturating_mul(BEHIND) {
        return 1.0;
    }
    if is_busy { config.cpu_share * BUSY_PART } else { config.cpu_share }
}

/// What was used lately, paid back by pauses.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Seconds of pause owed for bytes moved and for work done. Negative: saved up.
    bytes_owed: f64,
    work_owed: f64,
}

impl Pace {
    /// Takes down what was done since the last pause.
    pub(crate) fn spend(&mut self, bytes: u64, work_seconds: f64, share: f64, config: &Config) {
        self.bytes_owed += bytes as f64 / config.bytes_per_second as f64 - work_seconds;
        self.work_owed += work_seconds * (1.0 / share.clamp(0.01, 1.0) - 1.0);
        self.bytes_owed = self.bytes_owed.max(-BURST_SECONDS);
        self.work_owed = self.work_owed.max(-BURST_SECONDS);
    }

    /// How long to pause now; the pause counts as made.
    pub(crate) fn pause_seconds(&mut self) -> f64 {
        let pause = self.bytes_owed.max(self.work_owed).clamp(0.0, PAUSE_SECONDS_MAX);
        self.bytes_owed -= pause;
        self.work_owed -= pause;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_work_is_noticed() {
        let check = |log_bytes: u64, look_ups: u64, busy: bool| {
            let before = Activity { at: 10.0, log_bytes: 5, look_ups: 7 };
            let now = Activity { at: 12.0, log_bytes: 5 + log_bytes, look_ups: 7 + look_ups };
            assert_eq!(now.is_busy_since(&before), busy, "{log_bytes} {look_ups}");
        };
        check(0, 0, false);
        check(32_000, 99, false);
        check(33_000, 0, true);
        check(0, 101, true);
    }

    #[test]
    fn the_share_shrinks_beside_other_work_unless_compaction_is_behind() {
        let config = Config::default();
        assert_eq!(share(false, 3, &config), 0.5);
        assert!((share(true, 3, &config) - 0.1).abs() < 1e-9);
        assert_eq!(share(true, 32, &config), 1.0);
    }

    #[test]
    fn bytes_and_work_are_paid_back() {
        let config = Config { bytes_per_second: 1_000_000, ..Config::default() };
        let total = |bytes: u64, work: f64, share: f64| {
            let mut pace = Pace::default();
            let mut paused = 0.0;
            for _ in 0..100 {
                pace.spend(bytes, work, share, &config);
                paused += pace.pause_seconds();
            }
            // The rest of long pauses.
            for _ in 0..1000 {
                paused += pace.pause_seconds();
            }
            paused
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 0.01, "{a} {b}");
        near(total(0, 0.01, 1.0), 0.0);
        near(total(0, 0.01, 0.5), 1.0);
        near(total(0, 0.01, 0.1), 9.0);
        near(total(1_000_000, 0.0, 1.0), 100.0);
        // The larger of the two counts; time spent working is no pause but moves bytes too.
        near(total(1_000_000, 0.25, 0.5), 75.0);
    }
}
