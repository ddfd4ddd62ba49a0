//! From what was appended to what a listener gets: waits until it is on disk, then looks it through.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{Cancel, Matcher, Pace, Position, Signal, TailId};
use parking_lot::Mutex;
use tenancy::ReadScope;

use super::listed::{Left, Listener, Record};
use super::outbox::Outbox;
use super::{TailEntries, TailedEntry};
use crate::entries::condition::Filter;
use crate::entries::matching::StreamMatcher;
use crate::entries::page::Fields;
use crate::entries::search::{EntryPlace, EntryStream, FoundEntry, Seen};
use crate::entries::streams::Stream;
use crate::{Error, Storage};

/// More bytes than this are looked through where processor time is taken, not where bytes are moved.
const INLINE_BYTES_MAX: usize = 16 << 10;

/// Streams that are remembered; beyond, all are matched anew.
const STREAMS_MAX: usize = 65_536;

/// The task behind a tail.
pub(super) struct Pump {
    pub(super) storage: Arc<Storage>,
    pub(super) listener: Arc<Listener>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) matching: Arc<Matching>,
    /// Records before were there when it began: they are never left out.
    pub(super) begun: Position,
    /// The newest instant given so far.
    pub(super) newest_ns: i64,
}

impl Pump {
    /// Runs until nobody listens, or it cannot go on.
    pub(super) async fn run(mut self) {
        let outbox = Arc::clone(&self.outbox);
        let ended = loop {
            match (self.listener.left(), self.listener.last()) {
                (Some(Left::Gone), _) => return,
                (_, Some(last)) => {
                    if let Err(error) = self.pass_on(last).await {
                        break Err(error);
                    }
                    continue;
                }
                (Some(Left::Ended), None) => break Ok(()),
                (None, None) => {}
            }
            self.listener.bell.notified().await;
        };
        outbox.end(ended);
    }

    async fn pass_on(&mut self, last: Position) -> Result<(), Error> {
        self.storage.durable(last).await?;
        // Whoever logged something before that may still be about to tell of it: it holds its head
        // until it has.
        for partition in &self.storage.entries.partitions {
            drop(partition.head.read());
        }
        let (records, lost) = self.listener.take(last);
        let bytes: usize = records.iter().map(|record| record.page.raw_bytes()).sum();
        let before = records.partition_point(|record| record.position < self.begun);
        let newest_ns = self.newest_ns.max(self.outbox.newest_ns().unwrap_or(i64::MIN));
        let now_ms = self.storage.retention_now_ms();
        let mut entries = if bytes <= INLINE_BYTES_MAX {
            self.matching.look_through(&records, now_ms)?
        } else {
            let matching = Arc::clone(&self.matching);
            let looking =
                tokio::task::spawn_blocking(move || matching.look_through(&records, now_ms));
            looking.await.map_err(|e| Error::Internal(format!("look entries through: {e}")))??
        };
        self.newest_ns = newest_ns;
        for entry in &mut entries {
            self.newest_ns = self.newest_ns.max(entry.entry.at_ns);
            entry.id.newest_ns = self.newest_ns;
        }
        if before > 0 {
            let first_new = entries.partition_point(|entry| entry.id.position < self.begun.0);
            let new = entries.split_off(first_new);
            self.put_all(entries).await;
            entries = new;
        }
        if !entries.is_empty() {
            self.outbox.put(entries);
        }
        if lost > 0 {
            self.outbox.drop_unseen(lost);
        }
        Ok(())
    }

    /// Gives all of them, as fast as they are taken.
    async fn put_all(&self, entries: Vec<TailedEntry>) {
        let gone = async {
            while self.listener.left().is_none() {
                self.listener.bell.notified().await;
            }
        };
        tokio::select! {
            () = self.outbox.put_all(entries) => {}
            () = gone => {}
        }
        // A ring that was heard here may have been for a record.
        self.listener.bell.notify_one();
    }
}

/// What is asked of entries, and what is known of the streams that came.
#[derive(Debug)]
pub(super) struct Matching {
    scope: ReadScope,
    signals: Vec<Signal>,
    selectors: Vec<Vec<Matcher>>,
    filter: Filter,
    known: Mutex<HashMap<usize, Known>>,
}

/// A stream that came.
#[derive(Debug, Clone)]
struct Known {
    /// Kept, so that its address, by which it is found, stays its own.
    _stream: Arc<Stream>,
    /// As answers have it; `None` if it is not asked for, or not to be seen.
    out: Option<Arc<EntryStream>>,
    id: u128,
    /// The last instant that came, and how many entries came of it.
    last: (i64, u32),
}

impl Matching {
    pub(super) fn new(scope: &ReadScope, request: &TailEntries) -> Result<Self, Error> {
        Ok(Self {
            scope: scope.clone(),
            signals: request.signals.clone(),
            selectors: request.selectors.clone(),
            filter: request.filter.compile()?,
            known: Mutex::default(),
        })
    }

    /// The entries of records that are asked for.
    fn look_through(
        &self,
        records: &[Arc<Record>],
        now_ms: i64,
    ) -> Result<Vec<TailedEntry>, Error> {
        let mut known = self.known.lock();
        if known.len() > STREAMS_MAX {
            known.clear();
        }
        let mut pace = Pace::new(&Cancel::default());
        let mut found = Vec::new();
        for record in records {
            let keys = self.meet(&mut known, record, now_ms, &mut pace)?;
            let out = |stream: u32| known.get(keys.get(stream as usize)?)?.out.as_ref();
            let page = &record.page;
            let rows = (record.first_row..page.rows() as u32)
                .filter(|row| out(page.streams()[*row as usize]).is_some());
            let rows = self.filter.keep(page, rows.collect(), &mut pace)?;
            let labels = |stream: u32| out(stream).map(|stream| &stream.labels);
            let rows = self.filter.keep_named(page, rows, labels, &mut pace)?;
            for row in rows {
                let key = keys[page.streams()[row as usize] as usize];
                let Some(stream) = known.get_mut(&key) else { continue };
                found.extend(stream.entry(record, row));
            }
        }
        Ok(found)
    }

    /// Makes the streams of a record known; their keys by number.
    fn meet(
        &self,
        known: &mut HashMap<usize, Known>,
        record: &Record,
        now_ms: i64,
        pace: &mut Pace,
    ) -> Result<Vec<usize>, Error> {
        let mut matcher = None;
        let mut keys = Vec::with_capacity(record.streams.len());
        for stream in &*record.streams {
            let key = Arc::as_ptr(stream).addr();
            keys.push(key);
            if known.contains_key(&key) {
                continue;
            }
            let matcher = matcher.get_or_insert_with(|| {
                StreamMatcher::new(&self.scope, &self.signals, &self.selectors)
            });
            let seen = Seen { scope: &self.scope, matcher, now_ms, only: None };
            let out = seen.one(stream, pace)?.map(|(stream, _)| Arc::new(stream));
            let (id, last) = (stream.id.0, (i64::MIN, 0));
            known.insert(key, Known { _stream: Arc::clone(stream), out, id, last });
        }
        Ok(keys)
    }
}

impl Known {
    fn entry(&mut self, record: &Record, row: u32) -> Option<TailedEntry> {
        let stream = Arc::clone(self.out.as_ref()?);
        let found = record.page.row(row as usize);
        let nth = if self.last.0 == found.at_ns { self.last.1 + 1 } else { 0 };
        self.last = (found.at_ns, nth);
        let place = EntryPlace {
            at_ns: found.at_ns,
            tenant: record.tenant.0,
            signal: stream.signal,
            stream: self.id,
            nth,
        };
        let fields = Fields(found.fields).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let entry = FoundEntry {
            stream,
            at_ns: found.at_ns,
            line: found.line.to_vec(),
            fields: fields.collect(),
            level: found.mark.level(),
            has_own_time: found.mark.has_own_time(),
            is_truncated: found.mark.is_truncated(),
            place,
        };
        let id = TailId { position: record.position.0, row, newest_ns: found.at_ns };
        Some(TailedEntry { id, entry })
    }
}
