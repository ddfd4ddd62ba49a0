//! Rows out: the series a question picks, joined over head and blocks, and their samples.
//!
//! ```text
//! select: scope + matchers ─► per tenant: heads (samples decoded at once, under the lock), then
//!         blocks (rows only) ─► joined by (tenant, series id) ─► sorted by labels
//! fetch:  up to some hundred series ─► pages of their blocks ─► decode ─► merge in log order
//! ```
//!
//! Rows that are flushed meanwhile are seen in both places, and merging keeps each instant once.

mod decode;
mod intern;
mod merge;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use model::{Labels, Pace, Resolution, SeriesId, TENANT_LABEL, TimeRange};
use tenancy::{ReadScope, TenantId, TenantRead};

use crate::block::Samples;
use crate::downsample::Windows;
use crate::head::{HeadCounts, SharedTimestamps};
use crate::look_up::{InBlock, InHead, Question};
use crate::place::Selectors;
use crate::tombstone::Ranges;
use crate::{Error, Select, SeriesSamples, Storage, block};
pub use decode::Liveness;
pub(crate) use intern::Interner;
pub(crate) use merge::merge as merge_samples;

/// Blocks that a fetch reads at a time. All pages of a fetch are in memory in the end; where blocks
/// are far away, most of the time is waiting.
const BLOCKS_AT_ONCE: usize = 16;

/// Series taken in at a time: of a head under one lock, in which they take a millisecond or less.
const SERIES_AT_ONCE: u64 = 256;

/// The series that match a question, in order of their labels.
#[derive(Debug)]
pub struct Selection {
    range: TimeRange,
    series: Vec<Selected>,
    /// Tables of the blocks that have some of the series, by number.
    blocks: HashMap<u32, Arc<Samples>>,
    /// What is hidden in rows of blocks; the first is nothing.
    hidden: Arc<[Ranges]>,
    interner: Arc<Interner>,
}

#[derive(Debug)]
struct Selected {
    /// Whose it is, and its id.
    key: (TenantId, SeriesId),
    labels: Labels,
    /// What blocks have.
    rows: Vec<BlockRow>,
    /// What the head has, frozen rows included.
    head: Option<SeriesSamples>,
}

/// What one block has of a series.
#[derive(Debug, Clone, Copy)]
struct BlockRow {
    block: u32,
    /// Its chunk rows there: the first, and the one behind the last.
    chunks: (u32, u32),
    /// What of it is hidden: a place in the selection's list.
    hidden: u32,
}

/// A selection being put together. Samples of heads are copied as they are found, so that the
/// answer is of one moment; those of blocks are read by [`Selection::fetch`].
#[derive(Debug)]
pub struct Selecting {
    request: Select,
    series: Vec<Selected>,
    by_id: HashMap<(TenantId, SeriesId), usize>,
    blocks: HashMap<u32, Arc<Samples>>,
    hidden: Vec<Ranges>,
    head_samples: usize,
    /// Timestamp vectors of what heads gave so far.
    shared: SharedTimestamps,
}

impl Select {
    /// The question which series there are, and where their samples lie.
    pub fn question(self) -> Selecting {
        Selecting {
            request: self,
            series: Vec::new(),
            by_id: HashMap::new(),
            blocks: HashMap::new(),
            hidden: vec![Ranges::default()],
            head_samples: 0,
            shared: SharedTimestamps::default(),
        }
    }
}

impl Storage {
    /// Finds the series a question picks. Takes CPU time in proportion to the series found: where
    /// there is a pool for it, [`Storage::begin`] takes [`Select::question`].
    pub async fn select(&self, scope: &ReadScope, request: &Select) -> Result<Selection, Error> {
        self.answer(scope, request.clone().question()).await
    }
}

impl Question for Selecting {
    type Answer = Selection;

    fn range(&self) -> TimeRange {
        self.request.range
    }

    fn selectors(&self) -> Selectors<'_> {
        std::slice::from_ref(&self.request.matchers)
    }

    fn concerns(&self, counts: &HeadCounts) -> bool {
        let overlaps = |held: TimeRange| held.overlaps(self.request.range);
        overlaps(counts.open.range) || overlaps(counts.frozen.range)
    }

    fn series_at_once(&self) -> u64 {
        SERIES_AT_ONCE
    }

    fn found(&self, scope: &ReadScope, series: u64) -> Result<(), Error> {
        check_series(scope, series)
    }

    fn head(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        InHead { head, series }: InHead<'_>,
        oldest_ms: i64,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        let TimeRange { start_ms, end_ms } = self.request.range;
        let range = TimeRange { start_ms: start_ms.max(oldest_ms), end_ms };
        for number in series {
            pace.work(100)?;
            let samples = head.read(number, range, &mut self.shared);
            if samples.values.is_empty() && samples.histograms.is_empty() {
                continue;
            }
            let read = samples.values.len() + samples.histograms.len();
            self.head_samples += read;
            pace.work(read)?;
            check_samples(scope, self.head_samples)?;
            let labels = || Ok(head.labels(number));
            let at = self.find_or_add(scope, tenant, head.id(number), labels)?;
            self.series[at].head = Some(samples);
        }
        Ok(())
    }

    fn block(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        InBlock { number, block, hidden, series }: InBlock<'_>,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        let own = block.range().unwrap_or(TimeRange::ALL);
        let asked = TimeRange {
            start_ms: own.start_ms.max(self.request.range.start_ms),
            end_ms: own.end_ms.min(self.request.range.end_ms),
        };
        block.for_each_encoded(series, pace, |row, id, encoded| {
            let ranges = hidden.ranges(row);
            if ranges.covers(asked) {
                return Ok(());
            }
            let at = self.find_or_add(scope, tenant, id, || block.decoded(encoded))?;
            let chunks = block.chunks_of(row);
            let chunks = (chunks.start, chunks.end);
            let hidden = self.note_hidden(ranges);
            self.series[at].rows.push(BlockRow { block: number, chunks, hidden });
            Ok(())
        })?;
        self.blocks.entry(number).or_insert_with(|| Arc::clone(block.samples()));
        Ok(())
    }

    fn finish(self, _scope: &ReadScope, pace: &mut Pace) -> Result<Selection, Error> {
        let Self { request, mut series, blocks, hidden, .. } = self;
        series.retain(|s| s.head.is_some() || !s.rows.is_empty());
        sort(&mut series, pace)?;
        let (hidden, interner) = (hidden.into(), Arc::default());
        Ok(Selection { range: request.range, series, blocks, hidden, interner })
    }
}

/// Series sorted at a time: a millisecond or two.
const SORTED_AT_A_TIME: usize = 4_096;

/// Sorts by labels, in pieces first and then, with looks at the clock between, into one another.
fn sort(series: &mut Vec<Selected>, pace: &mut Pace) -> Result<(), Error> {
    let by_labels = |a: &Selected, b: &Selected| a.labels.cmp(&b.labels);
    if series.len() <= SORTED_AT_A_TIME {
        series.sort_unstable_by(by_labels);
        return Ok(());
    }
    let mut pieces = VecDeque::new();
    while !series.is_empty() {
        let mut piece = series.split_off(series.len().saturating_sub(SORTED_AT_A_TIME));
        pace.look()?;
        piece.sort_unstable_by(by_labels);
        pieces.push_back(piece);
    }
    while let (Some(a), Some(b)) = (pieces.pop_front(), pieces.pop_front()) {
        let mut both = Vec::with_capacity(a.len() + b.len());
        let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
        loop {
            pace.work(20)?;
            let next = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) if y.labels < x.labels => b.next(),
                (Some(_), _) => a.next(),
                _ => b.next(),
            };
            let Some(next) = next else { break };
            both.push(next);
        }
        pieces.push_back(both);
        if let [_] = pieces.make_contiguous() {
            break;
        }
    }
    *series = pieces.pop_front().unwrap_or_default();
    Ok(())
}

impl Selecting {
    /// The place of hidden stretches in the list: neighbours mostly have the same.
    fn note_hidden(&mut self, ranges: Ranges) -> u32 {
        if ranges.is_empty() {
            return 0;
        }
        if self.hidden.last() != Some(&ranges) {
            self.hidden.push(ranges);
        }
        self.hidden.len() as u32 - 1
    }

    /// The place of a series that the scope may see.
    fn find_or_add(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        id: SeriesId,
        labels: impl FnOnce() -> Result<Labels, Error>,
    ) -> Result<usize, Error> {
        if let Some(&at) = self.by_id.get(&(tenant.id, id)) {
            return Ok(at);
        }
        let labels = labels()?;
        debug_assert!(tenant.allows(&labels), "{labels} is outside the scope");
        let labels = shown(scope, tenant, labels);
        let at = self.series.len();
        check_series(scope, at as u64 + 1)?;
        let key = (tenant.id, id);
        self.series.push(Selected { key, labels, rows: Vec::new(), head: None });
        self.by_id.insert(key, at);
        Ok(at)
    }
}

pub(crate) fn check_series(scope: &ReadScope, found: u64) -> Result<(), Error> {
    let limit = scope.limits().query_series_max;
    if found > limit as u64 {
        return Err(Error::Limit(format!(
            "the query touches more than {limit} series, the limit query_series_max; use narrower matchers"
        )));
    }
    Ok(())
}

fn check_samples(scope: &ReadScope, found: usize) -> Result<(), Error> {
    let limit = scope.limits().query_samples_max;
    if found > limit {
        return Err(Error::Limit(format!(
            "query processing would load too many samples into memory in query execution: more than {limit}, the limit query_samples_max"
        )));
    }
    Ok(())
}

/// A series' labels as the asker sees them.
pub(crate) fn shown(scope: &ReadScope, tenant: &TenantRead, labels: Labels) -> Labels {
    if scope.is_labelled() { labels.with(TENANT_LABEL, tenant.name.as_str()) } else { labels }
}

impl Selection {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether nothing matches.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The labels of the `i`th series.
    pub fn labels(&self, i: usize) -> &Labels {
        &self.series[i].labels
    }

    /// Whose the `i`th series is, and its id.
    pub(crate) fn key(&self, i: usize) -> (TenantId, SeriesId) {
        self.series[i].key
    }

    /// Loads what blocks hold of some series.
    pub async fn fetch(&self, series: Range<usize>) -> Result<Fetched, Error> {
        let picked: Vec<&Selected> = self.series.get(series).unwrap_or_default().iter().collect();
        self.fetch_picked(&picked).await
    }

    /// Loads what blocks hold of the series at these places.
    pub(crate) async fn fetch_some(&self, series: &[usize]) -> Result<Fetched, Error> {
        let picked: Vec<&Selected> = series.iter().filter_map(|i| self.series.get(*i)).collect();
        self.fetch_picked(&picked).await
    }

    async fn fetch_picked(&self, picked: &[&Selected]) -> Result<Fetched, Error> {
        let mut by_block: HashMap<u32, Vec<(Range<u32>, Piece)>> = HashMap::new();
        for (i, one) in picked.iter().enumerate() {
            for at in &one.rows {
                let piece = Piece { series: i, hidden: at.hidden };
                by_block.entry(at.block).or_default().push((at.chunks.0..at.chunks.1, piece));
            }
        }
        let fetch = |(number, rows): (u32, Vec<(Range<u32>, Piece)>)| async move {
            let Some(block) = self.blocks.get(&number) else { return Ok(None) };
            let (rows, pieces): (Vec<Range<u32>>, Vec<Piece>) = rows.into_iter().unzip();
            let plan = block.plan(&rows, self.range).await?;
            let fetched = block.load(plan).await?;
            Ok::<_, Error>(Some(Part { number, pieces, fetched }))
        };
        let fetched = stream::iter(by_block).map(fetch).buffer_unordered(BLOCKS_AT_ONCE);
        let fetched: Vec<Option<Part>> = fetched.try_collect().await?;
        let mut parts: Vec<Part> = fetched.into_iter().flatten().collect();
        // The numbers of blocks are in the order of their log positions within a partition.
        parts.sort_unstable_by_key(|part| part.number);
        let heads = picked.iter().map(|one| one.head.clone()).collect();
        let (hidden, interner) = (Arc::clone(&self.hidden), Arc::clone(&self.interner));
        Ok(Fetched { parts, heads, hidden, interner })
    }
}

/// Pages of some series, in memory.
#[derive(Debug)]
pub struct Fetched {
    parts: Vec<Part>,
    heads: Vec<Option<SeriesSamples>>,
    hidden: Arc<[Ranges]>,
    interner: Arc<Interner>,
}

#[derive(Debug)]
struct Part {
    number: u32,
    /// By row.
    pieces: Vec<Piece>,
    fetched: block::Fetched,
}

/// What a row of a block is part of.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Which of the fetched series.
    series: usize,
    /// What of it is hidden: a place in the selection's list.
    hidden: u32,
}

impl Fetched {
    /// Bytes of the pages they lie in and of what is in the heads. The same whether or not a page
    /// was cached.
    pub fn bytes(&self) -> usize {
        let pages: usize = self.parts.iter().map(|part| part.fetched.bytes()).sum();
        pages + self.heads.iter().flatten().map(SeriesSamples::bytes).sum::<usize>()
    }

    /// The windows of the fetched series, in their order, from blocks of windows. CPU work.
    pub(crate) fn decode_windows(self, resolution: Resolution) -> Result<Vec<Windows>, Error> {
        let mut all = vec![Windows::default(); self.heads.len()];
        for part in self.parts {
            for (piece, mut windows) in part.pieces.iter().zip(part.fetched.decode_windows()?) {
                windows.strip(&self.hidden[piece.hidden as usize], resolution);
                let known = std::mem::take(&mut all[piece.series]);
                all[piece.series] = known.or_more(windows);
            }
        }
        Ok(all)
    }
}
