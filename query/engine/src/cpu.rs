//! Processor time of a thread, so that a question is charged what it computed and not how long it
//! was kept from computing.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

thread_local! {
    #[expect(clippy::disallowed_methods, reason = "no file of ours: what the system says of this thread")]
    /// What Linux accounts for this thread: nanoseconds on a processor, nanoseconds it waited for
    /// one, turns. Kept open: reading it again takes about a microsecond.
    static SCHEDULED: Option<File> = File::open("/proc/thread-self/schedstat").ok();

    /// The measurement of the job that this thread runs.
    static JOB: RefCell<Option<Meter>> = const { RefCell::new(None) };
}

/// Runs a job and says what processor time it took.
pub(crate) fn measured<T>(job: impl FnOnce() -> T) -> (T, Duration) {
    let outer = JOB.replace(Some(Meter::start()));
    let result = job();
    let meter = JOB.replace(outer);
    (result, meter.map_or(Duration::ZERO, |meter| meter.so_far()))
}

/// What the job that this thread runs has taken so far.
pub(crate) fn of_job() -> Duration {
    JOB.with_borrow(|meter| meter.as_ref().map_or(Duration::ZERO, Meter::so_far))
}

/// At least as much as that: what has passed by the clock, which costs far less to ask.
pub(crate) fn of_job_at_most() -> Duration {
    JOB.with_borrow(|meter| meter.as_ref().map_or(Duration::ZERO, |meter| meter.begun.elapsed()))
}

/// A measurement that has begun on this thread.
#[derive(Debug)]
struct Meter {
    scheduled: Option<Duration>,
    begun: Instant,
}

impl Meter {
    fn start() -> Self {
        Self { scheduled: scheduled(), begun: Instant::now() }
    }

    /// Processor time since the start; where the system does not tell, time by the clock.
    fn so_far(&self) -> Duration {
        let elapsed = self.begun.elapsed();
        match (self.scheduled, scheduled()) {
            // The system counts in ticks of some milliseconds, so a short piece of work may be
            // charged a whole one, and the next none: never more than passed by the clock.
            (Some(before), Some(now)) => now.saturating_sub(before).min(elapsed),
            _ => elapsed,
        }
    }
}

fn scheduled() -> Option<Duration> {
    let mut text = [0u8; 64];
    let length = SCHEDULED.with(|file| file.as_ref()?.read_at(&mut text, 0).ok())?;
    let first = text.get(..length)?.split(|b| *b == b' ').next()?;
    std::str::from_utf8(first).ok()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_is_charged_and_sleeping_is_not() {
        let meter = Meter::start();
        std::thread::sleep(Duration::from_millis(60));
        let slept = meter.so_far();
        let (meter, begun) = (Meter::start(), Instant::now());
        let mut x = 1u64;
        while begun.elapsed() < Duration::from_millis(120) {
            x = std::hint::black_box(x.wrapping_mul(31));
        }
        let computed = meter.so_far();
        if scheduled().is_some() {
            assert!(slept < Duration::from_millis(30), "{slept:?}");
        }
        // The machine may have been busy with others.
        assert!(computed > Duration::from_millis(5), "{computed:?}");
        assert_eq!(of_job(), Duration::ZERO, "no job runs here");
        let (inside, told) = measured(|| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(60) {
                x = std::hint::black_box(x.wrapping_mul(31));
            }
            assert!(of_job() <= of_job_at_most());
            of_job()
        });
        assert!(inside > Duration::ZERO && told >= inside, "{inside:?} {told:?}");
        assert_eq!(of_job(), Duration::ZERO, "it is over");
    }
}
