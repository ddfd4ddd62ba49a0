//! What is being asked: every question that runs or waits, so that it can be shown, ended by those
//! who may, and written to the log if it was slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use model::Clock;
use parking_lot::Mutex;
use tenancy::ReadScope;
use tokio::sync::Notify;
use tracing::info;

use crate::{Cancel, Error};

/// Bytes of a question's text that are kept: enough to recognise it.
const TEXT_BYTES_MAX: usize = 2 << 10;

/// What was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// The endpoint's word in metrics.
    pub(crate) handler: &'static str,
    /// Expression or selectors.
    pub(crate) text: String,
    /// First instant. Milliseconds since the Unix epoch.
    pub(crate) start_ms: i64,
    /// Last instant.
    pub(crate) end_ms: i64,
    /// Distance of instants; 0 where there are none between.
    pub(crate) step_ms: i64,
}

impl Asked {
    /// A question without times; of its text the beginning is kept.
    pub(crate) fn new(handler: &'static str, text: &str) -> Self {
        let mut kept = text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        if kept.len() < text.len() {
            kept.push('…');
        }
        Self { handler, text: kept, ..Self::default() }
    }
}

/// How a question stands or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Waits for its turn.
    Waiting,
    /// Is being answered.
    Running,
    /// Was answered.
    Answered,
    /// Got an error.
    Failed,
}

/// A question that runs or waits.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) scope: ReadScope,
    pub(crate) asked: Asked,
    pub(crate) cancel: Cancel,
    /// When it came, by the monotonic clock.
    pub(crate) came: Duration,
    /// Microseconds it waited; while it waits, 0.
    waited: AtomicU64,
    state: AtomicU8,
    ended: Notify,
}

impl Entry {
    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Waiting,
            1 => State::Running,
            2 => State::Answered,
            _ => State::Failed,
        }
    }

    /// How long it waited for its turn.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Relaxed))
    }

    /// Ends the question: its work stops, and whoever asked hears why.
    pub(crate) fn end(&self) {
        self.cancel.set();
        self.ended.notify_one();
    }

    /// Waits until somebody ends the question; what the asker then hears.
    pub(crate) async fn ended(&self) -> Error {
        self.ended.notified().await;
        Error::Canceled("query was canceled: an administrator ended it".to_owned())
    }

    /// Whether somebody of this scope may see it: of all its tenants the scope must allow
    /// everything, since the text tells names and values.
    fn is_visible(&self, scope: &ReadScope) -> bool {
        let known = |id| scope.tenants().binary_search_by_key(&id, |tenant| tenant.id).is_ok();
        let tenants = self.scope.tenants();
        !scope.is_restricted() && !tenants.is_empty() && tenants.iter().all(|t| known(t.id))
    }
}

/// All questions that run or wait.
#[derive(Debug, Default)]
pub(crate) struct Running {
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
    last: AtomicU64,
}

impl Running {
    /// Puts a question on the list; it leaves with the guard.
    pub(crate) fn enter<'a>(
        &'a self,
        scope: &ReadScope,
        asked: Asked,
        clock: &'a dyn Clock,
        slow: Duration,
    ) -> Listed<'a> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Arc::new(Entry {
            id,
            scope: scope.clone(),
            asked,
            cancel: Cancel::default(),
            came: clock.monotonic(),
            waited: AtomicU64::new(0),
            state: AtomicU8::new(State::Waiting as u8),
            ended: Notify::new(),
        });
        self.entries.lock().insert(id, Arc::clone(&entry));
        Listed { running: self, entry, clock, slow }
    }

    /// What somebody may see, the oldest first.
    pub(crate) fn visible(&self, scope: &ReadScope) -> Vec<Arc<Entry>> {
        let entries = self.entries.lock();
        entries.values().filter(|entry| entry.is_visible(scope)).cloned().collect()
    }

    /// A question that somebody may see.
    pub(crate) fn find(&self, scope: &ReadScope, id: u64) -> Option<Arc<Entry>> {
        let entry = self.entries.lock().get(&id).cloned();
        entry.filter(|entry| entry.is_visible(scope))
    }
}

/// A question's place on the list. When it goes, the question's work stops, and the log hears of it
/// if it was slow.
pub(crate) struct Listed<'a> {
    running: &'a Running,
    entry: Arc<Entry>,
    clock: &'a dyn Clock,
    slow: Duration,
}

impl Listed<'_> {
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// It is its turn; gives how long that took.
    pub(crate) fn begin(&self) -> Duration {
        let waited = self.age();
        let microseconds = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.entry.waited.store(microseconds, Ordering::Relaxed);
        self.now_is(State::Running);
        waited
    }

    pub(crate) fn now_is(&self, state: State) {
        self.entry.state.store(state as u8, Ordering::Relaxed);
    }

    /// Time since it came.
    pub(crate) fn age(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.entry.came)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.entry.cancel.set();
        self.running.entries.lock().remove(&self.entry.id);
        let wall = self.age();
        if wall >= self.slow {
            log(&self.entry, wall);
        }
    }
}

fn log(entry: &Entry, wall: Duration) {
    let names: Vec<&str> = entry.scope.tenants().iter().map(|t| t.name.as_str()).collect();
    let outcome = match entry.state() {
        State::Answered => "answered",
        State::Failed => "failed",
        State::Waiting | State::Running => "client gone",
    };
    let used = entry.cancel.usage().now();
    let Asked { handler, text, start_ms, end_ms, step_ms } = &entry.asked;
    info!(
        tenant = names.join("|"),
        handler,
        expr = text,
        start_ms,
        end_ms,
        step_ms,
        outcome,
        series = used.series,
        samples = used.samples,
        bytes = used.bytes,
        memory_bytes = used.memory_bytes_peak,
        cpu_seconds = used.cpu.as_secs_f64(),
        wall_seconds = wall.as_secs_f64(),
        waited_seconds = entry.waited().as_secs_f64(),
        "slow query"
    );
}
