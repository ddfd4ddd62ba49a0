//! What waits to be taken by whoever listens, bounded in rows and bytes.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Dropped, Tailed, TailedEntry, WaitingMax};
use crate::Error;
use crate::entries::search::EntryStream;

/// Streams and instants of dropped entries that are told beside their number.
const DROPPED_TOLD: usize = 100;

#[derive(Debug)]
pub(super) struct Outbox {
    max: WaitingMax,
    state: Mutex<State>,
    /// Rung when something waits, or nothing will any more.
    filled: Notify,
    /// Rung when what waited was taken.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Tailed,
    bytes: usize,
    newest_ns: Option<i64>,
    ended: Option<Result<(), Error>>,
}

impl State {
    fn has_room(&self, bytes: usize, max: WaitingMax) -> bool {
        // One always fits, however long.
        let is_first = self.waiting.entries.is_empty();
        is_first || (self.waiting.entries.len() < max.rows && self.bytes + bytes <= max.bytes)
    }

    fn add(&mut self, entry: TailedEntry, bytes: usize) {
        self.bytes += bytes;
        self.waiting.entries.push(entry);
    }
}

fn bytes_of(entry: &TailedEntry) -> usize {
    let fields = entry.entry.fields.iter().map(|(name, value)| name.len() + value.len());
    entry.entry.line.len() + fields.sum::<usize>()
}

impl Outbox {
    pub(super) fn new(max: WaitingMax) -> Self {
        let state = Mutex::default();
        Self { max, state, filled: Notify::new(), emptied: Notify::new() }
    }

    /// Puts entries in as far as there is room. Once one is left out, so are all behind it until
    /// the others are taken: what is told to be missing is behind what is given.
    pub(super) fn put(&self, entries: Vec<TailedEntry>) {
        let mut state = self.state.lock();
        for entry in entries {
            let bytes = bytes_of(&entry);
            if state.waiting.dropped.count == 0 && state.has_room(bytes, self.max) {
                state.add(entry, bytes);
            } else {
                drop_one(&mut state.waiting.dropped, &entry.entry.stream, entry.entry.at_ns);
            }
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Puts entries in, each when there is room for it.
    pub(super) async fn put_all(&self, entries: Vec<TailedEntry>) {
        for entry in entries {
            let bytes = bytes_of(&entry);
            loop {
                let emptied = self.emptied.notified();
                {
                    let mut state = self.state.lock();
                    if state.has_room(bytes, self.max) {
                        state.add(entry, bytes);
                        break;
                    }
                }
                emptied.await;
            }
            self.filled.notify_one();
        }
    }

    /// Counts entries that nobody looked at.
    pub(super) fn drop_unseen(&self, count: u64) {
        self.state.lock().waiting.dropped.count += count;
        self.filled.notify_one();
    }

    /// Nothing comes any more.
    pub(super) fn end(&self, how: Result<(), Error>) {
        self.state.lock().ended.get_or_insert(how);
        self.filled.notify_one();
    }

    /// Notes the newest instant of what was given beside it.
    pub(super) fn note_newest(&self, at_ns: i64) {
        let mut state = self.state.lock();
        state.newest_ns = state.newest_ns.max(Some(at_ns));
    }

    /// The newest instant that was noted.
    pub(super) fn newest_ns(&self) -> Option<i64> {
        self.state.lock().newest_ns
    }

    /// Waits for something; `None` at the end.
    pub(super) async fn take(&self) -> Result<Option<Tailed>, Error> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state.lock();
                if !state.waiting.entries.is_empty() || state.waiting.dropped.count > 0 {
                    state.bytes = 0;
                    let taken = std::mem::take(&mut state.waiting);
                    drop(state);
                    self.emptied.notify_one();
                    return Ok(Some(taken));
                }
                match &mut state.ended {
                    None => {}
                    // Told once; later it has just ended.
                    Some(how) => return std::mem::replace(how, Ok(())).map(|()| None),
                }
            }
            filled.await;
        }
    }
}

fn drop_one(dropped: &mut Dropped, stream: &Arc<EntryStream>, at_ns: i64) {
    dropped.count += 1;
    if dropped.first.len() < DROPPED_TOLD {
        dropped.first.push((Arc::clone(stream), at_ns));
    }
}
