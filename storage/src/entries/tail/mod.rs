//! Live tail: what is stored first, then entries as they are appended, each of them once.
//!
//! ```text
//! begin (all heads held at one moment): what is stored ─► a search of it
//!                                       who listens    ─► listed
//! append (head held) ─► records of its tenant ─► intake ─► pump: durable? ─► filter ─► outbox ─► next
//! ```
//!
//! A record is either in what was stored at that moment or comes to the intake, never both: both
//! happen under the head's lock. What is given stands in the order of the log, and only once it is
//! on disk. Whoever is slow loses entries, counted and told; appends never wait.

mod listed;
mod outbox;
mod pump;

use std::sync::Arc;

use model::{Cancel, Log, Matcher, Position, Signal, TailId};
use tenancy::ReadScope;

use super::condition::EntryFilter;
use super::head::EntryHead;
use super::partition::Place;
use super::search::{Direction, EntrySearch, EntryStream, FoundEntry, SelectEntries};
use crate::{Error, Storage};
use listed::Listener;
pub(crate) use listed::{Record, Tails};
use outbox::Outbox;
use pump::{Matching, Pump};

/// How far before the last entry that a client knows it begins again, where nobody knows any more
/// what came after it. A minute: collectors send what they gather within seconds.
const AGAIN_NS: i64 = 60_000_000_000;

/// What is listened to.
#[derive(Debug, Clone, Default)]
pub struct TailEntries {
    /// Of these signals.
    pub signals: Vec<Signal>,
    /// Of streams that match all of one of these lists; of all streams if there is none.
    pub selectors: Vec<Vec<Matcher>>,
    /// What else must hold.
    pub filter: EntryFilter,
    /// Of what is stored: what happened from this instant on, nanoseconds.
    pub start_ns: i64,
    /// The newest so many of it.
    pub stored_max: usize,
    /// Instead of that: what was appended behind this one.
    pub after: Option<TailId>,
    /// What may wait for whoever listens.
    pub waiting: WaitingMax,
}

/// What may wait to be taken; what comes beyond is left out and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingMax {
    /// Entries.
    pub rows: usize,
    /// Bytes of their lines and fields.
    pub bytes: usize,
}

impl Default for WaitingMax {
    /// As many as an answer may have, and what they usually take.
    fn default() -> Self {
        Self { rows: 5_000, bytes: 4 << 20 }
    }
}

/// A tail that has begun. Dropping it ends it.
#[derive(Debug)]
pub struct EntryTail {
    outbox: Arc<Outbox>,
    /// Everything stored before this one is in the search that it began with.
    upto: TailId,
    /// Whether entries may come again that were given before.
    repeats: bool,
    _listening: Listening,
}

/// What came.
#[derive(Debug, Default)]
pub struct Tailed {
    /// In the order of the log.
    pub entries: Vec<TailedEntry>,
    /// What came after these and was left out, because they were not taken in time.
    pub dropped: Dropped,
}

/// An entry that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailedEntry {
    /// To go on behind it.
    pub id: TailId,
    /// The entry. Its place counts equal instants from the first that came.
    pub entry: FoundEntry,
}

/// Entries that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// Streams and instants of the first of them.
    pub first: Vec<(Arc<EntryStream>, i64)>,
}

/// Ends listening when it goes.
#[derive(Debug)]
struct Listening {
    storage: Arc<Storage>,
    listener: Arc<Listener>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.storage.entries.tails.remove(&self.listener);
    }
}

impl Storage {
    /// Begins to listen. What is stored is for the caller to search; it gives the newest first, to
    /// be turned around. Entries that come from now on wait in the tail.
    pub async fn tail_entries(
        self: &Arc<Self>,
        scope: &ReadScope,
        request: &TailEntries,
        cancel: &Cancel,
    ) -> Result<(EntryTail, Option<EntrySearch>), Error> {
        let matching = Arc::new(Matching::new(scope, request)?);
        let listener = Arc::new(Listener::new(scope));
        let begun = self.begin_tail(scope, request, &listener)?;
        let listening = Listening { storage: Arc::clone(self), listener: Arc::clone(&listener) };
        if let Some(last) = self.log.not_durable() {
            // What is searched may not be on disk yet, and then nobody was told that it is stored.
            self.durable(last).await?;
        }
        let search = match begun.stored {
            None => None,
            Some((places, start_ns, limit)) => {
                let select = SelectEntries {
                    signals: request.signals.clone(),
                    selectors: request.selectors.clone(),
                    start_ns,
                    end_ns: i64::MAX,
                    filter: request.filter.clone(),
                    direction: Direction::Backward,
                    limit,
                    after: None,
                    only: None,
                };
                Some(self.begin_entries_in(scope, &select, cancel, places).await?)
            }
        };
        let outbox = Arc::new(Outbox::new(request.waiting));
        let newest_ns = request.after.map_or(i64::MIN, |after| after.newest_ns);
        let pump = Pump {
            storage: Arc::clone(self),
            listener,
            outbox: Arc::clone(&outbox),
            matching,
            begun: begun.end,
            newest_ns,
        };
        tokio::spawn(pump.run());
        let last = begun.end.0.saturating_sub(1);
        let upto = TailId { position: last, row: u32::MAX, newest_ns };
        let repeats = begun.repeats;
        Ok((EntryTail { outbox, upto, repeats, _listening: listening }, search))
    }

    /// The moment that divides what is stored from what comes. Takes no time but for copies of
    /// what is open in the heads.
    fn begin_tail(
        &self,
        scope: &ReadScope,
        request: &TailEntries,
        listener: &Arc<Listener>,
    ) -> Result<Begun, Error> {
        let partitions = &self.entries.partitions;
        let heads: Vec<_> = partitions.iter().map(|p| p.head.read()).collect();
        let end = self.log.end();
        self.entries.tails.add(listener, scope.limits(), self.config.entries.tails_max)?;
        let places = || -> Vec<Place> {
            let both = partitions.iter().zip(&heads);
            both.map(|(partition, head)| partition.place(head)).collect()
        };
        let Some(after) = request.after else {
            let stored = Some((places(), request.start_ns, request.stored_max));
            return Ok(Begun { end, stored, repeats: false });
        };
        // What came later is in the heads, if all that is not is older. An id may say that nothing
        // of its record is missing.
        let first = after.position.saturating_add(u64::from(after.row == u32::MAX));
        let is_known = partitions.iter().all(|p| p.covered().0 <= first);
        if is_known && after.position < end.0 {
            let records = heads.iter().flat_map(|head| since(head, after, scope));
            records.for_each(|record| listener.offer(&Arc::new(record)));
            return Ok(Begun { end, stored: None, repeats: false });
        }
        let start_ns = after.newest_ns.saturating_sub(AGAIN_NS);
        Ok(Begun { end, stored: Some((places(), start_ns, request.waiting.rows)), repeats: true })
    }

    /// Ends all tails: the process is to end.
    pub fn end_tails(&self) {
        self.entries.tails.end();
    }

    /// How many listen.
    pub fn tails(&self) -> usize {
        self.entries.tails.count()
    }
}

/// How a tail begins.
struct Begun {
    /// Where the log ended.
    end: Position,
    /// What is to be searched: where, since when, how much of it.
    stored: Option<(Vec<Place>, i64, usize)>,
    repeats: bool,
}

/// Records of a head behind an entry, of the tenants of a scope.
fn since(
    head: &EntryHead,
    after: TailId,
    scope: &ReadScope,
) -> impl Iterator<Item = Record> + use<> {
    let of = |tenant| scope.tenants().binary_search_by_key(&tenant, |read| read.id).is_ok();
    let mut all = Vec::new();
    for generation in head.generations() {
        for mut record in generation.records_from(after.position, of) {
            if record.position.0 == after.position {
                record.first_row = after.row.saturating_add(1);
            }
            all.push(record);
        }
    }
    all.into_iter()
}

impl EntryTail {
    /// To go on behind everything that was stored when it began.
    pub fn upto(&self) -> TailId {
        self.upto
    }

    /// Whether what it begins with may hold entries that the client has: nobody knows any more
    /// what came after the one that it went on behind.
    pub fn repeats(&self) -> bool {
        self.repeats
    }

    /// Notes the newest instant of what was stored, which ids from now on tell.
    pub fn note_newest(&mut self, at_ns: i64) {
        self.upto.newest_ns = self.upto.newest_ns.max(at_ns);
        self.outbox.note_newest(at_ns);
    }

    /// Waits for what comes next; `None` once the process is to end.
    pub async fn next(&mut self) -> Result<Option<Tailed>, Error> {
        self.outbox.take().await
    }
}
