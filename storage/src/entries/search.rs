//! Rows out: the entries a question picks, newest or oldest first, merged over all places.
//!
//! ```text
//! begin: scope + matchers ─► streams of each place ─► its pages and groups, in the order in which
//!        they may hold the next entries
//! load (I/O): the next few; groups whose bloom says that nothing can be there are passed over
//! scan (CPU): page ─► rows of wanted streams and times ─► filter ─► the best so far ─► again
//! ```
//!
//! Entries are in order of (instant, stream, tenant, signal, arrival). Two of one stream that are
//! equal in instant, line, fields and level are one, where the instant is the sender's own.

mod best;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use model::{Cancel, Labels, Level, Matcher, Pace, Signal, SourceKind, TENANT_LABEL};
use tenancy::{Limits, ReadScope, Retention, TenantId, TenantName, TenantRead};

use super::condition::{EntryFilter, Filter};
use super::deletion::{Deletions, Hiding};
use super::generation::View;
use super::matching::StreamMatcher;
use super::page::Page;
use super::segment::{Open, SegmentHandle, prune};
use super::streams::Stream;
use crate::block::object::Stretch;
use crate::{Error, Storage};
use best::{Best, Key};

const NS_PER_MS: i64 = 1_000_000;

/// Pages and groups that are loaded at a time, at most: some two megabytes each once decoded. A
/// search begins with one: often that is enough.
const LOADED_MAX: usize = 16;

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
    filter: Filter,
    range: (i64, i64),
    sources: Vec<Source>,
    /// What is to be looked at, the next one last.
    units: Vec<Unit>,
    best: Best,
    limits: Arc<Limits>,
    bytes: usize,
    /// Pages and groups to be loaded next.
    loads: usize,
    loaded: Vec<(Unit, Loaded)>,
    /// Tokens that entries must have to pass the filter.
    required: Vec<Vec<Vec<u64>>>,
    pace: Pace,
}

/// Somewhere entries are, with the table of their streams.
#[derive(Debug)]
struct Source {
    /// By stream number; `None`: not asked for, or not to be seen.
    wanted: Arc<[Option<Wanted>]>,
    hiding: Arc<Hiding>,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Pages(Vec<Arc<Page>>),
    Segment(Arc<SegmentHandle>, Arc<Open>),
}

#[derive(Debug)]
enum Loaded {
    Page(Arc<Page>),
    Group(Arc<Open>, Stretch),
}

#[derive(Debug, Clone)]
struct Wanted {
    stream: Arc<EntryStream>,
    id: u128,
    /// What is older is not kept.
    oldest_ns: i64,
}

/// A page or a group that may hold something.
#[derive(Debug, Clone, Copy)]
struct Unit {
    source: u32,
    page: u32,
    first_ns: i64,
    last_ns: i64,
}

impl Storage {
    /// Begins a search: looks at the streams there are. Takes CPU time in proportion to those.
    pub async fn begin_entries(
        &self,
        scope: &ReadScope,
        request: &SelectEntries,
        cancel: &Cancel,
    ) -> Result<EntrySearch, Error> {
        let filter = request.filter.compile()?;
        let matcher = StreamMatcher::new(scope, &request.signals, &request.selectors);
        let mut search = EntrySearch {
            required: filter.required(),
            filter,
            range: clipped(request),
            sources: Vec::new(),
            units: Vec::new(),
            best: Best::new(request.direction, request.limit, request.after),
            limits: Arc::clone(scope.limits()),
            bytes: 0,
            loads: 1,
            loaded: Vec::new(),
            pace: Pace::new(cancel),
        };
        let seen = Seen { scope, matcher: &matcher, now_ms: self.retention_now_ms() };
        for partition in &self.entries.partitions {
            partition.check_segments(&request.signals, search.range)?;
            // Of one moment: what is flushed meanwhile is seen in one of the two.
            let (views, segments, deletions) = {
                let head = partition.head.read();
                (head.views(), partition.segments(), partition.deletions())
            };
            for segment in segments.iter() {
                let (first_ns, last_ns) = segment.meta.range_ns;
                if request.signals.contains(&segment.meta.signal)
                    && first_ns < search.range.1
                    && last_ns >= search.range.0
                {
                    let open = segment.open().await?;
                    search.add_segment(&seen, segment, open, &deletions)?;
                }
            }
            for view in views {
                search.add_view(&seen, view)?;
            }
        }
        search.order();
        let named = search.filter.required_named(|name| search.has_label(name));
        search.required.extend(named);
        Ok(search)
    }

    /// The entries a question picks, at most as many as it wants.
    pub async fn select_entries(
        &self,
        scope: &ReadScope,
        request: &SelectEntries,
        cancel: &Cancel,
    ) -> Result<Vec<FoundEntry>, Error> {
        let mut search = self.begin_entries(scope, request, cancel).await?;
        while search.load().await? {
            let scanned = tokio::task::spawn_blocking(move || search.scan().map(|()| search));
            search =
                scanned.await.map_err(|e| Error::Internal(format!("search entries: {e}")))??;
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
            let oldest_ns = oldest
                .entry((tenant.id, stream.signal))
                .or_insert_with(|| oldest_ns(tenant, stream.signal, self.now_ms));
            let stream_out = self.out(tenant, stream);
            let id = stream.id.0;
            all.push(Some(Wanted { stream: Arc::new(stream_out), id, oldest_ns: *oldest_ns }));
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
    fn add_view(&mut self, seen: &Seen<'_>, view: View) -> Result<(), Error> {
        let wanted = seen.wanted(view.streams.iter().map(AsRef::as_ref), &mut self.pace)?;
        if wanted.iter().all(Option::is_none) {
            return Ok(());
        }
        let source = self.sources.len() as u32;
        for (page, at) in view.pages.iter().zip(0..) {
            if let Some((first_ns, last_ns)) = page.range()
                && first_ns < self.range.1
                && last_ns >= self.range.0
            {
                self.units.push(Unit { source, page: at, first_ns, last_ns });
            }
        }
        self.sources.push(Source {
            wanted: wanted.into(),
            // What is deleted is gone from there.
            hiding: Arc::default(),
            rows: Rows::Pages(view.pages),
        });
        Ok(())
    }

    fn add_segment(
        &mut self,
        seen: &Seen<'_>,
        handle: &Arc<SegmentHandle>,
        open: Arc<Open>,
        deletions: &Deletions,
    ) -> Result<(), Error> {
        let streams = &open.index.streams;
        let wanted = seen.wanted(streams.iter().map(|s| s.stream.as_ref()), &mut self.pace)?;
        let source = self.sources.len() as u32;
        let mut last = None;
        for (_, stream) in wanted.iter().zip(streams).filter(|(wanted, _)| wanted.is_some()) {
            let counts = &stream.counts;
            let rows = counts.rows();
            if rows == 0 || counts.first_ns >= self.range.1 || counts.last_ns < self.range.0 {
                continue;
            }
            let groups = &open.index.groups;
            let behind = |row: u64| groups.partition_point(|g| g.first_row <= row);
            let first = behind(stream.first_row).saturating_sub(1);
            let end = behind(stream.first_row + rows - 1);
            for (group, at) in groups[first..end.max(first)].iter().zip(first..) {
                // Streams are in order of rows: only the last group may be there already.
                let is_new = last.is_none_or(|last| at > last);
                if is_new && group.first_ns < self.range.1 && group.last_ns >= self.range.0 {
                    last = Some(at);
                    let (first_ns, last_ns) = (group.first_ns, group.last_ns);
                    self.units.push(Unit { source, page: at as u32, first_ns, last_ns });
                }
            }
        }
        if last.is_some() {
            let own = streams.iter().map(|s| s.stream.as_ref());
            let deletions = deletions.of_segment(&handle.meta);
            let hiding = Arc::new(Hiding::of(&deletions, own, &mut self.pace)?);
            let rows = Rows::Segment(Arc::clone(handle), open);
            self.sources.push(Source { wanted: wanted.into(), hiding, rows });
        }
        Ok(())
    }

    /// Whether a stream that is looked at has such a label.
    fn has_label(&self, name: &str) -> bool {
        let streams = self.sources.iter().flat_map(|source| source.wanted.iter().flatten());
        streams.map(|wanted| &wanted.stream.labels).any(|labels| labels.get(name).is_some())
    }

    /// Puts what may hold the next entries last.
    fn order(&mut self) {
        match self.best.direction() {
            Direction::Backward => self.units.sort_by_key(|unit| unit.last_ns),
            Direction::Forward => self.units.sort_by_key(|unit| std::cmp::Reverse(unit.first_ns)),
        }
    }

    /// Loads the next that may hold something of the answer; says whether there is something to be
    /// scanned.
    pub async fn load(&mut self) -> Result<bool, Error> {
        let mut next = Vec::new();
        while next.len() < self.loads {
            let Some(unit) = self.units.pop() else { break };
            if self.is_beyond(unit) {
                self.units.clear();
                break;
            }
            self.pace.look()?;
            if !self.is_pruned(unit).await? {
                next.push(unit);
            }
        }
        self.loads = (self.loads * 2).min(LOADED_MAX);
        let fetch = async |unit: Unit| match &self.sources[unit.source as usize].rows {
            Rows::Pages(pages) => {
                Ok::<_, Error>((unit, Loaded::Page(Arc::clone(&pages[unit.page as usize]))))
            }
            Rows::Segment(_, open) => {
                let stretch = open.fetch(unit.page as usize).await?;
                Ok((unit, Loaded::Group(Arc::clone(open), stretch)))
            }
        };
        let loaded = stream::iter(next).map(fetch).buffered(LOADED_MAX).try_collect().await?;
        self.loaded = loaded;
        Ok(!self.loaded.is_empty())
    }

    /// Whether nothing of a page, or of what comes behind it, can be in the answer.
    fn is_beyond(&self, unit: Unit) -> bool {
        self.best.is_beyond(match self.best.direction() {
            Direction::Backward => unit.last_ns,
            Direction::Forward => unit.first_ns,
        })
    }

    /// Whether no row of a group has the tokens that the filter requires.
    async fn is_pruned(&self, unit: Unit) -> Result<bool, Error> {
        match &self.sources[unit.source as usize].rows {
            Rows::Segment(handle, open) if !self.required.is_empty() => {
                let blooms = handle.blooms(open).await?;
                Ok(prune(&blooms, open, unit.page as usize, &self.required))
            }
            _ => Ok(false),
        }
    }

    /// Looks at what was loaded. CPU work.
    pub fn scan(&mut self) -> Result<(), Error> {
        for (unit, loaded) in std::mem::take(&mut self.loaded) {
            if self.is_beyond(unit) {
                continue;
            }
            self.pace.look()?;
            let page = match loaded {
                Loaded::Page(page) => page,
                Loaded::Group(open, stretch) => Arc::new(open.decode(unit.page as usize, stretch)?),
            };
            self.scan_page(unit, &page)?;
        }
        Ok(())
    }

    fn scan_page(&mut self, unit: Unit, page: &Page) -> Result<(), Error> {
        let Source { wanted, hiding, .. } = &self.sources[unit.source as usize];
        let (wanted, hiding) = (Arc::clone(wanted), Arc::clone(hiding));
        let (start, end) = self.range;
        let is_asked = |row: &u32| {
            let at = page.instants()[*row as usize];
            let stream = page.streams()[*row as usize] as usize;
            (start..end).contains(&at)
                && wanted.get(stream).and_then(Option::as_ref).is_some_and(|w| at >= w.oldest_ns)
        };
        let rows: Vec<u32> = (0..page.rows() as u32).filter(is_asked).collect();
        self.pace.work(page.rows())?;
        if rows.is_empty() {
            return Ok(());
        }
        self.read(page.raw_bytes())?;
        let rows = self.filter.keep(page, rows, &mut self.pace)?;
        let labels = |stream: u32| Some(&wanted.get(stream as usize)?.as_ref()?.stream.labels);
        let rows = self.filter.keep_named(page, rows, labels, &mut self.pace)?;
        let rows = hiding.keep(page, rows, labels, &mut self.pace)?;
        for at in rows {
            let row = page.row(at as usize);
            let Some(wanted) = &wanted[row.stream as usize] else { continue };
            let key = Key {
                at_ns: row.at_ns,
                tenant: wanted.stream.tenant.0,
                signal: wanted.stream.signal,
                stream: wanted.id,
                source: unit.source,
                page: unit.page,
                row: at,
            };
            self.best.offer(key, &wanted.stream, row);
        }
        self.best.trim();
        let (bytes, limit) = (self.best.bytes(), self.limits.query_memory_bytes_max);
        if bytes > limit {
            return Err(Error::Limit(format!(
                "the entries that were found take {bytes} bytes, the limit is {limit}; ask for fewer"
            )));
        }
        Ok(())
    }

    /// Counts what is read against the limit of the question.
    fn read(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        let limit = self.limits.query_bytes_max;
        if self.bytes > limit {
            let bytes = self.bytes;
            return Err(Error::Limit(format!(
                "the question reads more than {bytes} bytes of entries, the limit is {limit}; \
                 ask for fewer streams or less time"
            )));
        }
        Ok(())
    }

    /// Bytes of lines and fields that were looked at.
    pub fn bytes_read(&self) -> usize {
        self.bytes
    }

    /// What was found.
    pub fn finish(self) -> Vec<FoundEntry> {
        self.best.finish()
    }
}
