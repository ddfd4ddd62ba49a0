//! The pauses of one merge: what its budget asks for, unless somebody waits for the result.

use std::time::Duration;

use tokio::sync::watch;

use super::Extent;
use super::pace::{Activity, Pace, share};
use crate::Storage;

/// Tells a running merge to stop.
pub(crate) type Stop = watch::Receiver<bool>;

/// How a merge under way shares the machine with others.
pub(crate) struct Rest<'a> {
    storage: &'a Storage,
    extent: Extent,
    pub(crate) stop: Stop,
    pace: Pace,
    seen: Activity,
    /// Seconds of work so far.
    pub(crate) work_seconds: f64,
}

impl<'a> Rest<'a> {
    pub(crate) fn new(storage: &'a Storage, extent: Extent, stop: Stop) -> Self {
        let seen = storage.activity();
        Self { storage, extent, stop, pace: Pace::default(), seen, work_seconds: 0.0 }
    }

    /// Whether the merge has to end.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Pauses after some work; `fresh` is how many fresh blocks or segments there are.
    pub(crate) async fn after(&mut self, bytes: u64, work_seconds: f64, fresh: usize) {
        self.work_seconds += work_seconds;
        if self.extent == Extent::Everything {
            return;
        }
        let config = &self.storage.config.compaction;
        let now = self.storage.activity();
        let share = share(now.is_busy_since(&self.seen), fresh, config);
        self.seen = now;
        self.pace.spend(bytes, work_seconds, share, config);
        let pause = self.pace.pause_seconds();
        if pause > 0.0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs_f64(pause)) => {}
                _ = self.stop.wait_for(|stop| *stop) => {}
            }
        }
    }
}

impl Storage {
    /// What tells how busy the store is.
    pub(crate) fn activity(&self) -> Activity {
        let cache = self.cache.usage();
        Activity {
            at: self.clock.monotonic().as_secs_f64(),
            log_bytes: model::Log::end(self.log.as_ref()).0,
            look_ups: cache.hits + cache.misses,
        }
    }
}
