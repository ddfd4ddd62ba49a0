//! Rows out: the entries a question picks, newest or oldest first, merged over all places.
//!
//! ```text
//! begin: scope + matchers ─► streams of each place ─► its pages and groups, in the order in which
//!        they may hold the next entries
//! load (I/O): the next few; groups whose bloom says that nothing can be there are passed over
//! scans (CPU), side by side: page ─► rows of wanted streams and times ─► filter ─► those that pass
//! take: the best so far ─► again
//! ```
//!
//! Entries are in order of (instant, stream, tenant, signal, arrival). Two of one stream that are
//! equal in instant, line, fields and level are one, where the instant is the sender's own.

mod best;
mod looking;
mod scan;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Cancel, Labels, Level, Matcher, Pace, Signal, SourceKind, TENANT_LABEL};
use tenancy::{ReadScope, Retention, TenantId, TenantName, TenantRead};

use super::condition::EntryFilter;
use super::matching::StreamMatcher;
use super::partition::{EntryPartition, Place};
use super::streams::Stream;
use super::tally::StreamSpans;
use crate::{Error, Storage};
use best::{Best, Key};
use looking::{Looking, Unit, Wanted};
use scan::Passing;
pub use scan::{EntriesScanned, EntryScan};

const NS_PER_MS: i64 = 1_000_000;

/// Which entries come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The newest.
    #[default]
    Backward,
    /// The oldest.
    Forward,
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct SelectEntries {
    /// Of these signals.
    pub signals: Vec<Signal>,
    /// Of streams that match all of one of these lists; of all streams if there is none.
    pub selectors: Vec<Vec<Matcher>>,
    /// From this instant on, nanoseconds.
    pub start_ns: i64,
    /// Up to this instant, which is not inside.
    pub end_ns: i64,
    /// What else must hold.
    pub filter: EntryFilter,
    /// Which come first.
    pub direction: Direction,
    /// At most so many.
    pub limit: usize,
    /// Only what comes behind this one, in the same question's order.
    pub after: Option<EntryPlace>,
    /// Only these stretches of these streams.
    pub only: Option<Arc<StreamSpans>>,
}

/// Where an entry stands in the order of a question's answer, for the next page of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPlace {
    /// Its instant.
    pub at_ns: i64,
    /// The number of its tenant.
    pub tenant: u32,
    /// Its signal.
    pub signal: Signal,
    /// The id of its stream's labels.
    pub stream: u128,
    /// How many of that stream and instant come before it.
    pub nth: u32,
}

/// The stream of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryStream {
    /// Whose it is.
    pub tenant: TenantId,
    /// The same, by name.
    pub tenant_name: TenantName,
    /// What its entries are.
    pub signal: Signal,
    /// What it comes from.
    pub kind: SourceKind,
    /// Its labels, with `__tenant_id__` where the question is about several tenants.
    pub labels: Labels,
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundEntry {
    /// Its stream.
    pub stream: Arc<EntryStream>,
    /// When it happened, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// The line, byte by byte as it came.
    pub line: Vec<u8>,
    /// Its fields, in order of names.
    pub fields: Vec<(String, String)>,
    /// How bad what it tells is.
    pub level: Level,
    /// Whether the instant is the sender's own.
    pub has_own_time: bool,
    /// Whether the line was cut.
    pub is_truncated: bool,
    /// Where it stands in the answer.
    pub place: EntryPlace,
}

/// A search under way.
#[derive(Debug)]
pub struct EntrySearch {
    looking: Looking,
    best: Best,
}

impl Storage {
    /// Begins a search: looks at the streams there are. Takes CPU time in proportion to those.
    pub async fn begin_entries(
        &self,
        scope: &ReadScope,
        request: &SelectEntries,
        cancel: &Cancel,
    ) -> Result<EntrySearch, Error> {
        let place = |partition: &EntryPartition| {
            // Of one moment: what is flushed or deleted meanwhile is seen in one of the two.
            let head = partition.head.read();
            partition.place(&head)
        };
        let places = self.entries.partitions.iter().map(place).collect();
        self.begin_entries_in(scope, request, cancel, places).await
    }

    /// The same of what partitions had at some moment.
    pub(super) async fn begin_entries_in(
        &self,
        scope: &ReadScope,
        request: &SelectEntries,
        cancel: &Cancel,
        places: Vec<Place>,
    ) -> Result<EntrySearch, Error> {
        let range = clipped(request);
        let mut looking = Looking::begin(self, scope, request, range, cancel, places).await?;
        looking.order(request.direction);
        let best = Best::new(request.direction, request.limit, request.after);
        Ok(EntrySearch { looking, best })
    }

    /// The entries a question picks, at most as many as it wants.
    pub async fn select_entries(
        &self,
        scope: &ReadScope,
        request: &SelectEntries,
        cancel: &Cancel,
    ) -> Result<Vec<FoundEntry>, Error> {
        let mut search = self.begin_entries(scope, request, cancel).await?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        while search.load().await? {
            let mut running = VecDeque::new();
            loop {
                while running.len() < threads
                    && let Some(scan) = search.next_scan()
                {
                    running.push_back(tokio::task::spawn_blocking(move || scan.run()));
                }
                let Some(first) = running.pop_front() else { break };
                let scanned = first.await;
                let scanned =
                    scanned.map_err(|e| Error::Internal(format!("search entries: {e}")))??;
                search.take(&scanned)?;
            }
        }
        Ok(search.finish())
    }
}

/// Instants that the question is about, the second not inside.
fn clipped(request: &SelectEntries) -> (i64, i64) {
    let (start, end) = (request.start_ns, request.end_ns);
    match (request.after, request.direction) {
        (None, _) => (start, end),
        (Some(after), Direction::Forward) => (start.max(after.at_ns), end),
        (Some(after), Direction::Backward) => (start, end.min(after.at_ns.saturating_add(1))),
    }
}

/// What decides which streams are looked at.
pub(super) struct Seen<'a> {
    pub(super) scope: &'a ReadScope,
    pub(super) matcher: &'a StreamMatcher<'a>,
    pub(super) now_ms: i64,
    pub(super) only: Option<&'a StreamSpans>,
}

impl Seen<'_> {
    /// The streams of a table that are asked for and may be seen, by number.
    fn wanted<'s>(
        &self,
        streams: impl Iterator<Item = &'s Stream>,
        pace: &mut Pace,
    ) -> Result<Vec<Option<Wanted>>, Error> {
        let mut oldest: HashMap<(TenantId, Signal), i64> = HashMap::new();
        let mut all = Vec::new();
        for stream in streams {
            pace.work(4)?;
            let Some(tenant) = self.matcher.tenant_of(stream, pace)? else {
                all.push(None);
                continue;
            };
            let spans = self.only.map(|only| only.of(stream));
            if spans.is_some_and(|spans| spans.is_none()) {
                all.push(None);
                continue;
            }
            let oldest_ns = oldest
                .entry((tenant.id, stream.signal))
                .or_insert_with(|| oldest_ns(tenant, stream.signal, self.now_ms));
            let stream_out = self.out(tenant, stream);
            all.push(Some(Wanted {
                stream: Arc::new(stream_out),
                id: stream.id.0,
                oldest_ns: *oldest_ns,
                spans: spans.flatten().cloned(),
            }));
        }
        Ok(all)
    }

    /// A stream as answers have it, and since when its entries are kept; `None` if it is not asked
    /// for or must not be seen.
    pub(super) fn one(
        &self,
        stream: &Stream,
        pace: &mut Pace,
    ) -> Result<Option<(EntryStream, i64)>, Error> {
        let tenant = self.matcher.tenant_of(stream, pace)?;
        let out = |t: &TenantRead| (self.out(t, stream), oldest_ns(t, stream.signal, self.now_ms));
        Ok(tenant.map(out))
    }

    fn out(&self, tenant: &TenantRead, stream: &Stream) -> EntryStream {
        let labels = match self.scope.is_labelled() {
            false => stream.labels.clone(),
            true => stream.labels.to_builder().set(TENANT_LABEL, tenant.name.as_str()).build(),
        };
        EntryStream {
            tenant: tenant.id,
            tenant_name: tenant.name.clone(),
            signal: stream.signal,
            kind: stream.kind,
            labels,
        }
    }
}

/// Entries of a signal that are older are not kept.
fn oldest_ns(tenant: &TenantRead, signal: Signal, now_ms: i64) -> i64 {
    let seconds = tenant.retention.entries_seconds(signal);
    Retention::oldest_ms(seconds, now_ms).saturating_mul(NS_PER_MS)
}

impl EntrySearch {
    /// Loads the next that may hold something of the answer; says whether there is something to be
    /// scanned.
    pub async fn load(&mut self) -> Result<bool, Error> {
        let best = &self.best;
        self.looking.load(|unit| is_beyond(best, unit)).await
    }

    /// Looks at what was loaded, one after the other. CPU work.
    pub fn scan(&mut self) -> Result<(), Error> {
        while let Some(scan) = self.next_scan() {
            self.take(&scan.run()?)?;
        }
        Ok(())
    }

    /// A scan of the next that was loaded. Several may run at a time; each holds a page of rows
    /// once it has run.
    pub fn next_scan(&mut self) -> Option<EntryScan> {
        let best = &self.best;
        self.looking.next_scan(|unit| is_beyond(best, unit))
    }

    /// Keeps the best of what a scan found. CPU work.
    pub fn take(&mut self, scanned: &EntriesScanned) -> Result<(), Error> {
        let unit = scanned.unit;
        let Some(Passing { page, rows }) = &scanned.passing else { return Ok(()) };
        let wanted = &self.looking.sources[unit.source as usize].wanted;
        for at in rows {
            let row = page.row(*at as usize);
            let Some(wanted) = &wanted[row.stream as usize] else { continue };
            let key = Key {
                at_ns: row.at_ns,
                tenant: wanted.stream.tenant.0,
                signal: wanted.stream.signal,
                stream: wanted.id,
                source: unit.source,
                page: unit.page,
                row: *at,
            };
            self.best.offer(key, &wanted.stream, row);
        }
        self.best.trim();
        let (bytes, limit) = (self.best.bytes(), self.looking.limits.query_memory_bytes_max);
        if bytes > limit {
            return Err(Error::Limit(format!(
                "the entries that were found take {bytes} bytes, the limit is {limit}; ask for fewer"
            )));
        }
        Ok(())
    }

    /// Rows of segments that were not looked at because their groups or blocks lack what the filter
    /// needs.
    pub fn rows_passed_over(&self) -> u64 {
        self.looking.rows_passed_over()
    }

    /// Bytes of lines and fields that were looked at.
    pub fn bytes_read(&self) -> usize {
        self.looking.bytes_read()
    }

    /// What was found.
    pub fn finish(self) -> Vec<FoundEntry> {
        self.best.finish()
    }
}

/// Whether nothing of a page, or of what comes behind it, can be in the answer.
fn is_beyond(best: &Best, unit: Unit) -> bool {
    best.is_beyond(match best.direction() {
        Direction::Backward => unit.last_ns,
        Direction::Forward => unit.first_ns,
    })
}
