//! How the last reload of the configuration went: whoever reloads writes it down here, `/metrics`,
//! `status/runtimeinfo` and `notifications` tell it, and `notifications/live` as it happens.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How the last reloads went. A start counts as one.
#[derive(Debug)]
pub struct Reloads {
    state: watch::Sender<State>,
    places: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    taken_over_ms: i64,
    failed_ms: Option<i64>,
    has_ended: bool,
}

impl Reloads {
    /// The process started with a good configuration; so many may listen at a time.
    pub fn started(at_ms: i64, listeners_max: usize) -> Self {
        let state = State { taken_over_ms: at_ms, failed_ms: None, has_ended: false };
        let places = Arc::new(Semaphore::new(listeners_max.min(Semaphore::MAX_PERMITS)));
        Self { state: watch::Sender::new(state), places }
    }

    /// A configuration was taken over.
    pub fn succeeded(&self, at_ms: i64) {
        self.state.send_modify(|state| {
            (state.taken_over_ms, state.failed_ms) = (at_ms, None);
        });
    }

    /// A configuration was refused; the one before stays.
    pub fn failed(&self, at_ms: i64) {
        self.state.send_modify(|state| state.failed_ms = Some(at_ms));
    }

    /// The process is to end: whoever listens is let go.
    pub fn end(&self) {
        self.state.send_modify(|state| state.has_ended = true);
    }

    /// When the configuration in force was taken over. Milliseconds since the Unix epoch.
    pub fn taken_over_ms(&self) -> i64 {
        self.state.borrow().taken_over_ms
    }

    /// When the last reload failed; `None` if it did not.
    pub fn failed_ms(&self) -> Option<i64> {
        self.state.borrow().failed_ms
    }

    /// Somebody who is told what changes; `None` while as many listen as may.
    pub(crate) fn listen(&self) -> Option<Listener> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Listener { state: self.state.subscribe(), told_ms: None, _place: place })
    }
}

/// Somebody who is told of refused configurations.
#[derive(Debug)]
pub(crate) struct Listener {
    state: watch::Receiver<State>,
    /// The refusal that was told and stands.
    told_ms: Option<i64>,
    _place: OwnedSemaphorePermit,
}

/// A configuration was refused, or the refusal is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Milliseconds since the Unix epoch.
    pub(crate) at_ms: i64,
    pub(crate) stands: bool,
}

impl Listener {
    /// What is to be told next, beginning with a refusal that stands; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Refused> {
        loop {
            let State { failed_ms, has_ended, .. } = *self.state.borrow_and_update();
            if has_ended {
                return None;
            }
            let before = std::mem::replace(&mut self.told_ms, failed_ms);
            match (before, failed_ms) {
                (_, Some(at_ms)) if before != failed_ms => {
                    return Some(Refused { at_ms, stands: true });
                }
                (Some(at_ms), None) => return Some(Refused { at_ms, stands: false }),
                _ => self.state.changed().await.ok()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listeners_are_told_what_changes_and_let_go_at_the_end() {
        let reloads = Reloads::started(1, 1);
        reloads.failed(2);
        let mut listener = reloads.listen().expect("a place");
        assert!(reloads.listen().is_none(), "one at a time");
        let refused = |at_ms, stands| Some(Refused { at_ms, stands });
        assert_eq!(listener.next().await, refused(2, true));
        reloads.failed(3);
        assert_eq!(listener.next().await, refused(3, true));
        reloads.succeeded(4);
        assert_eq!(listener.next().await, refused(3, false));
        // What came and went while nobody looked is nobody's business.
        reloads.failed(5);
        reloads.succeeded(6);
        reloads.failed(7);
        assert_eq!(listener.next().await, refused(7, true));
        assert_eq!((reloads.taken_over_ms(), reloads.failed_ms()), (6, Some(7)));
        let waiting = tokio::spawn(async move { listener.next().await });
        reloads.end();
        assert_eq!(waiting.await.expect("no panic"), None);
        assert!(reloads.listen().is_some(), "the place is free again");
    }
}
