//! Looking through the places where entries are: pages of heads and groups of segments, in an
//! order, some at a time. Who looks says what becomes of the rows that pass.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use model::{Cancel, Pace};
use tenancy::{Limits, ReadScope};

use super::{Direction, EntryStream, Seen, SelectEntries};
use crate::block::object::Stretch;
use crate::entries::condition::Filter;
use crate::entries::deletion::{Deletions, Hiding};
use crate::entries::generation::View;
use crate::entries::matching::StreamMatcher;
use crate::entries::needs::{Blocks, Need};
use crate::entries::page::Page;
use crate::entries::partition::Place;
use crate::entries::segment::{Columns, Open, SegmentHandle, blocks_with, prune};
use crate::entries::tally::meets;
use crate::{Error, Storage};

/// Pages and groups that are loaded at a time, at most: some two megabytes each once decoded. A
/// search begins with one: often that is enough.
const LOADED_MAX: usize = 16;

/// What is looked through.
#[derive(Debug)]
pub(super) struct Looking {
    pub(super) filter: Filter,
    /// Instants that the question is about, the second not inside.
    pub(super) range: (i64, i64),
    pub(super) sources: Vec<Source>,
    /// What is to be looked at, the next one last.
    pub(super) units: Vec<Unit>,
    pub(super) limits: Arc<Limits>,
    /// Columns of rows that are needed whatever the filter asks.
    pub(super) columns: Columns,
    bytes: usize,
    /// Pages and groups to be loaded next.
    loads: usize,
    loaded: Vec<(Unit, Loaded)>,
    /// What entries must have to pass the filter.
    needs: Vec<Need>,
    /// Rows of groups and blocks that were passed over.
    rows_passed_over: u64,
    pub(super) pace: Pace,
}

/// Somewhere entries are, with the table of their streams.
#[derive(Debug)]
pub(super) struct Source {
    /// By stream number; `None`: not asked for, or not to be seen.
    pub(super) wanted: Arc<[Option<Wanted>]>,
    /// What of it is deleted.
    hiding: Arc<Hiding>,
    pub(super) rows: Rows,
    /// Blocks of rows that may have what is needed, once that was asked.
    blocks: Option<Blocks>,
}

#[derive(Debug)]
pub(super) enum Rows {
    Pages(View),
    Segment(Arc<SegmentHandle>, Arc<Open>),
}

#[derive(Debug)]
pub(super) enum Loaded {
    Page(Arc<Page>),
    Group(Arc<Open>, Stretch),
}

#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) stream: Arc<EntryStream>,
    pub(super) id: u128,
    /// What is older is not kept.
    pub(super) oldest_ns: i64,
    /// If only these stretches of it are asked for.
    pub(super) spans: Option<Arc<[(i64, i64)]>>,
}

impl Wanted {
    /// Whether an entry of this instant is asked for, as far as the stream says.
    fn has(&self, at_ns: i64) -> bool {
        at_ns >= self.oldest_ns && self.meets((at_ns, at_ns))
    }

    /// Whether something between two instants, both inside, may be asked for.
    fn meets(&self, span: (i64, i64)) -> bool {
        self.spans.as_ref().is_none_or(|spans| meets(spans, span))
    }
}

/// A page or a group that may hold something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    pub(super) source: u32,
    pub(super) page: u32,
    pub(super) first_ns: i64,
    pub(super) last_ns: i64,
}

/// Rows of a page that pass.
pub(super) struct Passing {
    pub(super) page: Arc<Page>,
    /// Their numbers, in order.
    pub(super) rows: Vec<u32>,
}

impl Looking {
    /// Looks at the streams there are. Takes CPU time in proportion to those.
    pub(super) async fn begin(
        storage: &Storage,
        scope: &ReadScope,
        request: &SelectEntries,
        range: (i64, i64),
        cancel: &Cancel,
        places: Vec<Place>,
    ) -> Result<Self, Error> {
        let filter = request.filter.compile()?;
        let matcher = StreamMatcher::new(scope, &request.signals, &request.selectors);
        let mut looking = Self {
            needs: filter.needs(),
            rows_passed_over: 0,
            filter,
            range,
            sources: Vec::new(),
            units: Vec::new(),
            limits: Arc::clone(scope.limits()),
            columns: Columns::ALL,
            bytes: 0,
            loads: 1,
            loaded: Vec::new(),
            pace: Pace::new(cancel),
        };
        let (now_ms, only) = (storage.retention_now_ms(), request.only.as_deref());
        let seen = Seen { scope, matcher: &matcher, now_ms, only };
        for (partition, place) in storage.entries.partitions.iter().zip(places) {
            partition.check_segments(&request.signals, range)?;
            let Place { views, segments, deletions } = place;
            for segment in segments.iter() {
                let (first_ns, last_ns) = segment.meta.range_ns;
                if request.signals.contains(&segment.meta.signal)
                    && first_ns < range.1
                    && last_ns >= range.0
                {
                    let open = segment.open().await?;
                    looking.add_segment(&seen, segment, open, &deletions)?;
                }
            }
            for view in views {
                looking.add_view(&seen, view)?;
            }
        }
        let named = looking.filter.needs_named(|name| looking.has_label(name));
        looking.needs.extend(named);
        Ok(looking)
    }

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
        // What is deleted is gone from there.
        let (wanted, hiding) = (wanted.into(), Arc::default());
        let rows = Rows::Pages(view);
        self.sources.push(Source { wanted, hiding, rows, blocks: None });
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
        for (stream, wanted) in streams.iter().zip(&wanted) {
            let Some(wanted) = wanted else { continue };
            let counts = &stream.counts;
            let rows = counts.rows();
            let span = (
                counts.first_ns.max(self.range.0),
                counts.last_ns.min(self.range.1.saturating_sub(1)),
            );
            if rows == 0 || span.0 > span.1 || !wanted.meets(span) {
                continue;
            }
            let groups = &open.index.groups;
            let behind = |row: u64| groups.partition_point(|g| g.first_row <= row);
            let first = behind(stream.first_row).saturating_sub(1);
            let end = behind(stream.first_row + rows - 1);
            for (group, at) in groups[first..end.max(first)].iter().zip(first..) {
                // Streams are in order of rows: only the last group may be there already.
                let is_new = last.is_none_or(|last| at > last);
                let own = (group.first_ns.max(span.0), group.last_ns.min(span.1));
                if is_new && own.0 <= own.1 && wanted.meets(own) {
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
            self.sources.push(Source { wanted: wanted.into(), hiding, rows, blocks: None });
        }
        Ok(())
    }

    /// Whether a stream that is looked at has such a label.
    fn has_label(&self, name: &str) -> bool {
        let streams = self.sources.iter().flat_map(|source| source.wanted.iter().flatten());
        streams.map(|wanted| &wanted.stream.labels).any(|labels| labels.get(name).is_some())
    }

    /// Puts what may hold the next entries last.
    pub(super) fn order(&mut self, direction: Direction) {
        match direction {
            Direction::Backward => self.units.sort_by_key(|unit| unit.last_ns),
            Direction::Forward => self.units.sort_by_key(|unit| std::cmp::Reverse(unit.first_ns)),
        }
    }

    /// Loads the next that may hold something; says whether there is something to be looked at.
    /// Nothing behind what `is_beyond` says is.
    pub(super) async fn load(
        &mut self,
        is_beyond: impl Fn(Unit) -> bool + Send,
    ) -> Result<bool, Error> {
        let mut next = Vec::new();
        while next.len() < self.loads {
            let Some(unit) = self.units.pop() else { break };
            if is_beyond(unit) {
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
            Rows::Pages(view) => {
                Ok::<_, Error>((unit, Loaded::Page(Arc::clone(&view.pages[unit.page as usize]))))
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

    /// Whether no row of a group has what the filter needs.
    async fn is_pruned(&mut self, unit: Unit) -> Result<bool, Error> {
        let source = &mut self.sources[unit.source as usize];
        let Rows::Segment(handle, open) = &source.rows else { return Ok(false) };
        let (index, number) = (&open.index, unit.page as usize);
        let Some(group) = index.groups.get(number).filter(|_| !self.needs.is_empty()) else {
            return Ok(false);
        };
        let Some(of_block) = index.block_rows else {
            let blooms = handle.blooms(open).await?;
            let is_pruned = prune(&blooms, open, number, &self.needs);
            self.rows_passed_over += if is_pruned { group.rows } else { 0 };
            return Ok(is_pruned);
        };
        if source.blocks.is_none() {
            source.blocks = Some(blocks_with(handle, open, &self.needs, &mut self.pace).await?);
        }
        let Some(Some(blocks)) = &source.blocks else { return Ok(false) };
        let lacking = index.blocks_of(group).zip(0u64..).filter(|(b, _)| !blocks.contains(*b));
        let rows = lacking.map(|(_, at)| of_block.min(group.rows - at * of_block)).sum::<u64>();
        self.rows_passed_over += rows;
        Ok(rows == group.rows)
    }

    /// What was loaded.
    pub(super) fn take_loaded(&mut self) -> Vec<(Unit, Loaded)> {
        std::mem::take(&mut self.loaded)
    }

    /// The rows of a page or group that are asked for and pass the filter; `None` if there is none.
    pub(super) fn passing(&mut self, unit: Unit, loaded: Loaded) -> Result<Option<Passing>, Error> {
        self.pace.look()?;
        let (page, mut rows, is_searched) = match loaded {
            Loaded::Page(page) => {
                let rows = (0..page.rows() as u32).collect();
                (page, rows, false)
            }
            Loaded::Group(open, stretch) => match self.open_group(unit, &open, &stretch)? {
                Some((page, rows)) => (Arc::new(page), rows, self.filter.finds_in_lines()),
                None => return Ok(None),
            },
        };
        let Source { wanted, hiding, .. } = &self.sources[unit.source as usize];
        let (wanted, hiding) = (Arc::clone(wanted), Arc::clone(hiding));
        let (start, end) = self.range;
        let is_asked = |row: &u32| {
            let at = page.instants()[*row as usize];
            let stream = page.streams()[*row as usize] as usize;
            (start..end).contains(&at)
                && wanted.get(stream).and_then(Option::as_ref).is_some_and(|w| w.has(at))
        };
        rows.retain(is_asked);
        self.pace.work(page.rows())?;
        if rows.is_empty() {
            return Ok(None);
        }
        let rows = match is_searched {
            true => {
                let rows = self.filter.keep_levels(&page, rows);
                self.filter.keep_fields(&page, rows, &mut self.pace)?
            }
            false => {
                self.count_read(page.raw_bytes())?;
                self.filter.keep(&page, rows, &mut self.pace)?
            }
        };
        let labels = |stream: u32| Some(&wanted.get(stream as usize)?.as_ref()?.stream.labels);
        let rows = self.filter.keep_named(&page, rows, labels, &mut self.pace)?;
        let rows = hiding.keep(&page, rows, labels, &mut self.pace)?;
        Ok((!rows.is_empty()).then_some(Passing { page, rows }))
    }

    /// Decodes a group as far as it is needed. Lines come first where the filter asks for what
    /// stands in them: mostly it stands in none, and nothing else need be decoded.
    fn open_group(
        &mut self,
        unit: Unit,
        open: &Open,
        stretch: &Stretch,
    ) -> Result<Option<(Page, Vec<u32>)>, Error> {
        let group = unit.page as usize;
        let hiding = &self.sources[unit.source as usize].hiding;
        let columns = self.columns.with(self.filter.columns()).with(hiding.columns());
        if !self.filter.finds_in_lines() {
            let page = open.decode(group, stretch, columns)?;
            let rows = (0..page.rows() as u32).collect();
            return Ok(Some((page, rows)));
        }
        let rows = self.rows_of(unit.source, open, group);
        if rows.is_empty() {
            return Ok(None);
        }
        let mut page = open.decode_lines(group, stretch)?;
        let span = rows.first().zip(rows.last()).map(|(first, last)| {
            page.place(*last as usize).end - page.place(*first as usize).start
        });
        self.count_read(span.unwrap_or(0))?;
        let rows = self.filter.keep_lines(&page, rows, &mut self.pace)?;
        if rows.is_empty() {
            return Ok(None);
        }
        open.decode_rest(group, stretch, columns, &mut page)?;
        Ok(Some((page, rows)))
    }

    /// The rows of a group that are of streams that are asked for, in blocks that may have what is
    /// needed.
    fn rows_of(&self, source: u32, open: &Open, group: usize) -> Vec<u32> {
        let Some(group) = open.index.groups.get(group) else { return Vec::new() };
        let (first, end) = (group.first_row, group.first_row + group.rows);
        let (wanted, streams) = (&self.sources[source as usize].wanted, &open.index.streams);
        let from = streams.partition_point(|s| s.first_row <= first).saturating_sub(1);
        let mut rows = Vec::with_capacity(group.rows as usize);
        let of_group = streams.iter().zip(wanted.iter()).skip(from);
        for (stream, _) in of_group
            .take_while(|(stream, _)| stream.first_row < end)
            .filter(|(_, wanted)| wanted.is_some())
        {
            let last = stream.first_row + stream.counts.rows();
            let (own, own_end) = (stream.first_row.max(first), last.clamp(first, end));
            rows.extend((own - first) as u32..(own_end - first) as u32);
        }
        let blocks = self.sources[source as usize].blocks.as_ref().and_then(Option::as_ref);
        if let Some((blocks, of_block)) = blocks.zip(open.index.block_rows) {
            let all = open.index.blocks_of(group);
            let may: Vec<bool> = all.map(|block| blocks.contains(block)).collect();
            rows.retain(|row| may[(u64::from(*row) / of_block) as usize]);
        }
        rows
    }

    /// Counts what is read against the limit of the question.
    fn count_read(&mut self, bytes: usize) -> Result<(), Error> {
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

    /// Rows of segments that were not looked at because their groups or blocks lack what the filter
    /// needs.
    pub(super) fn rows_passed_over(&self) -> u64 {
        self.rows_passed_over
    }

    /// Bytes of lines and fields that were looked at.
    pub(super) fn bytes_read(&self) -> usize {
        self.bytes
    }
}
