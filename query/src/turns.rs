//! Turns: how many questions run at a time, of one tenant and of all, and who is next.
//!
//! Questions over the same tenants stand in one line: an administrator's overview takes no
//! tenant's turns, a reader of two tenants takes none of the overview's, and whoever names a
//! tenant that does not exist waits only for others who do.
//!
//! A place that becomes free goes to the line that has the fewest running, and among those to the
//! one that has waited longest for its turn. Some places are kept for lines that run nothing, so
//! that a few busy tenants cannot keep the others out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tenancy::{Limits, ReadScope, TenantId};
use tokio::sync::oneshot;

use crate::Error;

/// Who stands in one line: tenants in order.
type Tenants = Arc<[TenantId]>;

/// Gives turns to questions.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    /// Questions that may run at a time, over all tenants.
    running_max: usize,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Only those with a question running or waiting.
    lines: HashMap<Tenants, Line>,
    /// Counts turns given, and questions that came to wait.
    clock: u64,
}

#[derive(Debug, Default)]
struct Line {
    running: usize,
    waiting: VecDeque<Waiter>,
    /// When it last got a turn.
    served: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    /// The limit its question came with.
    running_max: usize,
    wake: oneshot::Sender<Turn>,
}

/// A question's turn; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    tenants: Tenants,
}

/// Leaves the line when it is dropped before its turn.
struct Waiting<'a> {
    turns: &'a Turns,
    tenants: &'a Tenants,
    id: u64,
}

impl Turns {
    /// So many questions run at a time; at least one.
    pub(crate) fn new(running_max: usize) -> Self {
        Self { state: Mutex::default(), running_max: running_max.max(1) }
    }

    /// Waits for a turn, at most as long as the question may take.
    pub(crate) async fn take(
        self: &Arc<Self>,
        scope: &ReadScope,
        timeout: Duration,
    ) -> Result<Turn, Error> {
        let tenants: Tenants = scope.tenants().iter().map(|tenant| tenant.id).collect();
        let limits = scope.limits();
        let (receive, id) = match self.enter(&tenants, limits)? {
            Entered::Runs(turn) => return Ok(turn),
            Entered::Waits(receive, id) => (receive, id),
        };
        let _waiting = Waiting { turns: self, tenants: &tenants, id };
        match tokio::time::timeout(timeout, receive).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Error::Timeout(format!(
                "query timed out in query queue: {} queries of this tenant run at a time \
                 (limit queries_concurrent_max), {} of all tenants (running_max), and its turn did \
                 not come within {}; ask for less at a time",
                running_max(limits),
                self.running_max,
                seconds(timeout)
            ))),
        }
    }

    fn enter(self: &Arc<Self>, tenants: &Tenants, limits: &Limits) -> Result<Entered, Error> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let of_line = running_max(limits);
        let free = self.running_max.saturating_sub(state.running);
        let line = state.lines.entry(Arc::clone(tenants)).or_default();
        state.clock += 1;
        if line.waiting.is_empty() && line.running < of_line && self.has_place(free, line) {
            line.running += 1;
            line.served = state.clock;
            state.running += 1;
            drop(guard);
            return Ok(Entered::Runs(self.turn(tenants)));
        }
        let waiting_max = limits.queries_waiting_max;
        if line.waiting.len() >= waiting_max {
            let (running, waiting) = (line.running, line.waiting.len());
            if running == 0 && waiting == 0 {
                state.lines.remove(tenants);
            }
            return Err(Error::TooMany(format!(
                "{running} queries of this tenant run and {waiting} wait already, and at most \
                 {waiting_max} may wait (limit queries_waiting_max), {} more than that with this one; \
                 try again later or ask for less at a time",
                waiting + 1 - waiting_max
            )));
        }
        let (wake, receive) = oneshot::channel();
        let id = state.clock;
        line.waiting.push_back(Waiter { id, running_max: of_line, wake });
        Ok(Entered::Waits(receive, id))
    }

    /// Whether one of so many free places is for this line: the last quarter is for lines that run
    /// nothing.
    fn has_place(&self, free: usize, line: &Line) -> bool {
        let kept = if line.running == 0 { 0 } else { self.running_max / 4 };
        free > kept
    }

    fn turn(self: &Arc<Self>, tenants: &Tenants) -> Turn {
        Turn { turns: Arc::clone(self), tenants: Arc::clone(tenants) }
    }

    /// Gives the free places to those who wait.
    fn hand_out(self: &Arc<Self>) {
        while let Some((tenants, waiter)) = self.next() {
            // Given back at once if it waits no more; so this goes without the lock.
            drop(waiter.wake.send(self.turn(&tenants)));
        }
    }

    fn next(&self) -> Option<(Tenants, Waiter)> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let free = self.running_max.saturating_sub(state.running);
        let may_run = |line: &Line| {
            let first = line.waiting.front();
            first.is_some_and(|w| line.running < w.running_max) && self.has_place(free, line)
        };
        let ready = state.lines.iter_mut().filter(|(_, line)| may_run(line));
        let since = |line: &Line| line.waiting.front().map_or(0, |waiter| waiter.id);
        let order = |(_, line): &(&Tenants, &mut Line)| (line.running, line.served, since(line));
        let (tenants, line) = ready.min_by_key(order)?;
        let waiter = line.waiting.pop_front()?;
        state.clock += 1;
        line.served = state.clock;
        line.running += 1;
        state.running += 1;
        Some((Arc::clone(tenants), waiter))
    }
}

enum Entered {
    Runs(Turn),
    Waits(oneshot::Receiver<Turn>, u64),
}

fn running_max(limits: &Limits) -> usize {
    limits.queries_concurrent_max.max(1)
}

impl State {
    fn forget_if_idle(&mut self, tenants: &Tenants) {
        let idle = |line: &Line| line.running == 0 && line.waiting.is_empty();
        if self.lines.get(tenants).is_some_and(idle) {
            self.lines.remove(tenants);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.turns.state.lock();
            state.running -= 1;
            if let Some(line) = state.lines.get_mut(&self.tenants) {
                line.running -= 1;
            }
            state.forget_if_idle(&self.tenants);
        }
        self.turns.hand_out();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        if let Some(line) = state.lines.get_mut(self.tenants) {
            line.waiting.retain(|waiter| waiter.id != self.id);
        }
        state.forget_if_idle(self.tenants);
    }
}

/// A duration as a person writes it: `120s`, `0.5s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{}s", crate::number::value_text(duration.as_millis() as f64 / 1000.0))
}

#[cfg(test)]
mod tests;
