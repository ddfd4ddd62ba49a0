//! Looking through the places where entries are: pages of heads and groups of segments, in an
//! order, some at a time. Each that was loaded is looked at by a scan of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use model::{Cancel, Pace};
use tenancy::{Limits, ReadScope};

use super::scan::{EntryScan, Sought};
use super::{Direction, EntryStream, Seen, SelectEntries};
use crate::block::object::Stretch;
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
    sought: Arc<Sought>,
    pub(super) sources: Vec<Source>,
    /// What is to be looked at, the next one last.
    pub(super) units: Vec<Unit>,
    pub(super) limits: Arc<Limits>,
    /// Pages and groups to be loaded next.
    loads: usize,
    loaded: VecDeque<(Unit, Loaded)>,
    /// What entries must have to pass the filter.
    needs: Vec<Need>,
    /// Rows of groups and blocks that were passed over.
    rows_passed_over: u64,
    pace: Pace,
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
    blocks: Option<Arc<Blocks>>,
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
    pub(super) fn has(&self, at_ns: i64) -> bool {
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
            sought: Arc::new(Sought {
                filter,
                range,
                columns: Columns::ALL,
                bytes_max: scope.limits().query_bytes_max,
                bytes: AtomicUsize::new(0),
                cancel: cancel.clone(),
            }),
            sources: Vec::new(),
            units: Vec::new(),
            limits: Arc::clone(scope.limits()),
            loads: 1,
            loaded: VecDeque::new(),
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
        let named = looking.sought.filter.needs_named(|name| looking.has_label(name));
        looking.needs.extend(named);
        Ok(looking)
    }

    fn add_view(&mut self, seen: &Seen<'_>, view: View) -> Result<(), Error> {
        let range = self.sought.range;
        let wanted = seen.wanted(view.streams.iter().map(AsRef::as_ref), &mut self.pace)?;
        if wanted.iter().all(Option::is_none) {
            return Ok(());
        }
        let source = self.sources.len() as u32;
        for (page, at) in view.pages.iter().zip(0..) {
            if let Some((first_ns, last_ns)) = page.range()
                && first_ns < range.1
                && last_ns >= range.0
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
        let (source, range) = (self.sources.len() as u32, self.sought.range);
        let mut last = None;
        for (stream, wanted) in streams.iter().zip(&wanted) {
            let Some(wanted) = wanted else { continue };
            let counts = &stream.counts;
            let rows = counts.rows();
            let end = range.1.saturating_sub(1);
            let span = (counts.first_ns.max(range.0), counts.last_ns.min(end));
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
        let loaded = stream::iter(next).map(fetch).buffered(LOADED_MAX);
        self.loaded = loaded.try_collect::<Vec<_>>().await?.into();
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
            let blocks = blocks_with(handle, open, &self.needs, &mut self.pace).await?;
            source.blocks = Some(Arc::new(blocks));
        }
        let Some(Some(blocks)) = source.blocks.as_deref() else { return Ok(false) };
        let lacking = index.blocks_of(group).zip(0u64..).filter(|(b, _)| !blocks.contains(*b));
        let rows = lacking.map(|(_, at)| of_block.min(group.rows - at * of_block)).sum::<u64>();
        self.rows_passed_over += rows;
        Ok(rows == group.rows)
    }

    /// A scan of the next that was loaded; none of what comes behind what `is_beyond` says is.
    pub(super) fn next_scan(&mut self, is_beyond: impl Fn(Unit) -> bool) -> Option<EntryScan> {
        while let Some((unit, loaded)) = self.loaded.pop_front() {
            if is_beyond(unit) {
                continue;
            }
            let Source { wanted, hiding, blocks, .. } = &self.sources[unit.source as usize];
            return Some(EntryScan {
                sought: Arc::clone(&self.sought),
                unit,
                loaded,
                wanted: Arc::clone(wanted),
                hiding: Arc::clone(hiding),
                blocks: blocks.clone(),
            });
        }
        None
    }

    /// Rows of segments that were not looked at because their groups or blocks lack what the filter
    /// needs.
    pub(super) fn rows_passed_over(&self) -> u64 {
        self.rows_passed_over
    }

    /// Bytes of lines and fields that were looked at.
    pub(super) fn bytes_read(&self) -> usize {
        self.sought.bytes.load(Ordering::Relaxed)
    }
}
