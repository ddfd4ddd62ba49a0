//! How the last reload of the configuration went: whoever reloads writes it down here, `/metrics`,
//! `status/runtimeinfo` and `notifications` tell it.

use parking_lot::RwLock;

/// How the last reloads went. A start counts as one.
#[derive(Debug)]
pub struct Reloads(RwLock<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    taken_over_ms: i64,
    failed_ms: Option<i64>,
}

impl Reloads {
    /// The process started with a good configuration.
    pub fn started(at_ms: i64) -> Self {
        Self(RwLock::new(State { taken_over_ms: at_ms, failed_ms: None }))
    }

    /// A configuration was taken over.
    pub fn succeeded(&self, at_ms: i64) {
        *self.0.write() = State { taken_over_ms: at_ms, failed_ms: None };
    }

    /// A configuration was refused; the one before stays.
    pub fn failed(&self, at_ms: i64) {
        self.0.write().failed_ms = Some(at_ms);
    }

    /// When the configuration in force was taken over. Milliseconds since the Unix epoch.
    pub fn taken_over_ms(&self) -> i64 {
        self.0.read().taken_over_ms
    }

    /// When the last reload failed; `None` if it did not.
    pub fn failed_ms(&self) -> Option<i64> {
        self.0.read().failed_ms
    }
}
