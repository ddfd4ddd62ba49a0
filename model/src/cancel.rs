//! Stopping: how work learns that nobody waits for it any more.
//!
//! Invariant: between two looks at a [`Cancel`] lie some milliseconds of work at most, so that a
//! question that was cancelled frees its core within ten.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What making automata's states may cost all regular expressions of one question. A unit is a
/// byte of a state, some nanoseconds: with all of them a core is busy for less than a second.
/// Expressions that people write need a hundredth.
const EFFORT_MAX: u64 = 200 << 20;

/// A shared flag, set when the client is gone or the answer is there, a deadline, and what is left
/// of the work that the question's regular expressions may take.
#[derive(Debug, Clone)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
    effort: Arc<AtomicU64>,
    watch: Option<Arc<dyn Watch>>,
}

/// Who else may end work: asked at every look, on the thread that does the work.
pub trait Watch: Debug + Send + Sync {
    /// Fails if the work should not go on.
    fn check(&self) -> Result<(), Stopped>;
}

impl Default for Cancel {
    fn default() -> Self {
        Self::with_effort(EFFORT_MAX)
    }
}

/// Why work stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Nobody waits for the answer.
    #[error("canceled")]
    Canceled,
    /// The deadline has passed.
    #[error("timed out")]
    Late,
    /// Regular expressions took more work than those of one request may.
    #[error(
        "the regular expressions of the request take too long to compare with the values that are there; \
         use simpler ones, or add matchers that leave fewer values"
    )]
    Laborious,
    /// The processor time that the question may take is used up.
    #[error("too much processor time")]
    Costly,
}

impl Cancel {
    pub(crate) fn with_effort(units: u64) -> Self {
        let effort = Arc::new(AtomicU64::new(units));
        Self { flag: Arc::default(), deadline: None, effort, watch: None }
    }

    /// The same flag, with a deadline; the earlier one of two counts.
    pub fn until(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |known| known.min(deadline));
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// The same, with somebody who may end the work as well.
    pub fn watched(&self, watch: Arc<dyn Watch>) -> Self {
        Self { watch: Some(watch), ..self.clone() }
    }

    /// Tells everyone who holds the flag to stop.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Fails if there is no reason to go on.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_set() {
            return Err(Stopped::Canceled);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Stopped::Late);
        }
        self.watch.as_ref().map_or(Ok(()), |watch| watch.check())
    }

    fn spend(&self, units: usize) -> Result<(), Stopped> {
        let spend = |left: u64| left.checked_sub(units as u64);
        let spent = self.effort.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        spent.map(drop).map_err(|_| Stopped::Laborious)
    }

    /// A guard that sets the flag when it is dropped: kept in a future, it ends the work of that
    /// future however the future ends.
    pub fn guard(&self) -> CancelGuard {
        CancelGuard(self.clone())
    }
}

/// Sets its [`Cancel`] on drop.
#[derive(Debug)]
pub struct CancelGuard(Cancel);

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Units of work between two looks: a fifth of a millisecond in an optimised build.
const UNITS_BETWEEN_LOOKS: usize = 20_000;

/// Looks at a [`Cancel`] now and then while work goes on. The default one is never stopped.
#[derive(Debug, Default)]
pub struct Pace {
    cancel: Cancel,
    /// Units done since the last look.
    done: usize,
    endless: bool,
}

impl Pace {
    /// For work that `cancel` may stop.
    pub fn new(cancel: &Cancel) -> Self {
        Self { cancel: cancel.clone(), ..Self::default() }
    }

    /// For work that must be done, however long it takes: not even the effort of regular
    /// expressions is limited.
    pub fn endless() -> Self {
        Self { endless: true, ..Self::default() }
    }

    /// Whether nothing stops the work.
    pub(crate) fn is_endless(&self) -> bool {
        self.endless
    }

    /// Counts work, a unit of which takes about ten nanoseconds, and fails if it should not go on.
    #[inline]
    pub fn work(&mut self, units: usize) -> Result<(), Stopped> {
        self.done = self.done.saturating_add(units);
        if self.done < UNITS_BETWEEN_LOOKS {
            return Ok(());
        }
        self.look()
    }

    /// Counts what making states of automata takes: that all expressions of a question share.
    pub(crate) fn labor(&mut self, units: usize) -> Result<(), Stopped> {
        self.cancel.spend(units)?;
        self.work(units)
    }

    /// Fails if work should not go on; for between large pieces.
    pub fn look(&mut self) -> Result<(), Stopped> {
        self.done = 0;
        self.cancel.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stops_soon_after_the_flag_and_at_the_deadline() {
        let cancel = Cancel::default();
        let mut pace = Pace::new(&cancel);
        assert_eq!(pace.work(1), Ok(()));
        drop(cancel.guard());
        let done = (0..).take_while(|_| pace.work(10).is_ok()).count();
        assert!(done <= UNITS_BETWEEN_LOOKS / 10, "{done}");
        assert_eq!(pace.look(), Err(Stopped::Canceled));

        let now = Instant::now();
        let late = Cancel::default().until(now);
        assert_eq!(late.check(), Err(Stopped::Late));
        let later = now + std::time::Duration::from_secs(60);
        assert_eq!(late.until(later).check(), Err(Stopped::Late), "the earlier one counts");
        assert_eq!(Cancel::default().until(later).check(), Ok(()));
        late.set();
        assert_eq!(late.check(), Err(Stopped::Canceled), "the flag says more than the clock");
        assert_eq!(Pace::default().work(usize::MAX), Ok(()));
    }

    #[test]
    fn who_watches_may_end_work() {
        #[derive(Debug)]
        struct Three(AtomicU64);
        impl Watch for Three {
            fn check(&self) -> Result<(), Stopped> {
                let asked = self.0.fetch_add(1, Ordering::Relaxed);
                if asked < 3 { Ok(()) } else { Err(Stopped::Costly) }
            }
        }
        let watched = Cancel::default().watched(Arc::new(Three(AtomicU64::new(0))));
        let mut pace = Pace::new(&watched);
        let looks = (0..).take_while(|_| pace.work(UNITS_BETWEEN_LOOKS).is_ok()).count();
        assert_eq!(looks, 3);
        assert_eq!(watched.check(), Err(Stopped::Costly));
    }
}
