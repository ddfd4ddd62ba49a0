//! A clock that stands still until a test moves it.

use std::time::Duration;

use model::Clock;
use parking_lot::Mutex;

/// Time set by hand. Wall time may jump either way; monotonic time only goes forward.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now_ms: i64,
    monotonic: Duration,
}

impl ManualClock {
    /// A clock that shows `now_ms` (milliseconds since the Unix epoch) and has run for no time.
    pub fn new(now_ms: i64) -> Self {
        Self { state: Mutex::new(State { now_ms, monotonic: Duration::ZERO }) }
    }

    /// Lets time pass: both clocks go forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock();
        state.now_ms += i64::try_from(by.as_millis()).expect("a test's interval fits into 64 bits");
        state.monotonic += by;
    }

    /// Sets the wall clock alone, as an administrator or NTP does.
    pub fn jump_to(&self, now_ms: i64) {
        self.state.lock().now_ms = now_ms;
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.state.lock().now_ms
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_jumps_and_the_other_does_not() {
        let clock = ManualClock::new(1_000);
        clock.advance(Duration::from_millis(500));
        assert_eq!((clock.now_ms(), clock.monotonic()), (1_500, Duration::from_millis(500)));
        clock.jump_to(10);
        assert_eq!((clock.now_ms(), clock.monotonic()), (10, Duration::from_millis(500)));
    }
}
