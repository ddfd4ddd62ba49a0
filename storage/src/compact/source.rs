//! A block on its way into another: its series in order, a batch at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use model::{Exemplar, Labels, Pace, Resolution, SeriesId, TimeRange};
use object_store::ObjectStore;
use roaring::RoaringBitmap;
use tenancy::TenantId;

use super::planner::Grid;
use crate::block::{Block, BlockCache, BlockHandle, Fetched};
use crate::downsample::Windows;
use crate::manifest::BlockMeta;
use crate::tombstone::BlockTombstones;
use crate::{Error, SeriesSamples};

/// Series whose chunks are looked at, or that are read, in one go.
const ROWS_AT_ONCE: usize = 4096;

/// Series whose exemplars are read in one go.
const EXEMPLAR_ROWS: u32 = 16_384;

/// A block to be merged.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) meta: BlockMeta,
    pub(super) block: Block,
    /// Which series have rows in which window, by the window's start.
    pub(super) windows: BTreeMap<i64, RoaringBitmap>,
    /// What is hidden of it, and so not taken over.
    deleted: Arc<BlockTombstones>,
}

impl Source {
    /// Opens a block and finds out which of its series have something in which window. What is
    /// read goes through a cache of its own: questions keep theirs.
    pub(super) async fn open(
        objects: &Arc<dyn ObjectStore>,
        cache: &Arc<BlockCache>,
        meta: &BlockMeta,
        grid: Grid,
        deleted: BlockTombstones,
    ) -> Result<Self, Error> {
        let block = BlockHandle::named(Arc::clone(objects), meta, Arc::clone(cache)).open().await?;
        let mut windows = BTreeMap::new();
        let rows: Vec<u32> = (0..block.series_count()).collect();
        for batch in rows.chunks(ROWS_AT_ONCE) {
            let plan = block.plan(batch, TimeRange::ALL).await?;
            for (i, row) in batch.iter().enumerate() {
                plan.chunks(i).for_each(|chunk| mark(&mut windows, grid, chunk.range, *row));
            }
        }
        for start in (0..block.series_count()).step_by(EXEMPLAR_ROWS as usize) {
            for found in
                block.exemplars(&stride(start), TimeRange::ALL, &mut Pace::endless()).await?
            {
                let at = found.exemplar.timestamp_ms;
                mark(&mut windows, grid, TimeRange { start_ms: at, end_ms: at }, found.row);
            }
        }
        Ok(Self { meta: meta.clone(), block, windows, deleted: Arc::new(deleted) })
    }

    /// A reader of what lies in one window; about so many samples are in memory at a time.
    pub(super) fn cursor(&self, window: TimeRange, batch_samples: u64) -> Option<Cursor> {
        let rows = self.windows.get(&window.start_ms)?;
        let per_row = (self.meta.samples + self.meta.histograms) / self.meta.series.max(1);
        let batch_rows = batch_samples / per_row.max(1);
        Some(Cursor {
            block: self.block.clone(),
            window,
            rows: rows.iter().collect::<Vec<u32>>().into(),
            batch_rows: batch_rows.clamp(1, ROWS_AT_ONCE as u64) as usize,
            ready: VecDeque::new(),
            exemplars: Vec::new(),
            exemplars_until: 0,
            deleted: Arc::clone(&self.deleted),
        })
    }
}

fn stride(start: u32) -> RoaringBitmap {
    let mut rows = RoaringBitmap::new();
    rows.insert_range(start..start.saturating_add(EXEMPLAR_ROWS));
    rows
}

/// Notes a row in all windows that a range touches.
fn mark(windows: &mut BTreeMap<i64, RoaringBitmap>, grid: Grid, range: TimeRange, row: u32) {
    let mut window = grid.window_of(range.start_ms);
    loop {
        windows.entry(window.start_ms).or_default().insert(row);
        if window.end_ms >= range.end_ms {
            return;
        }
        window = grid.window_of(window.end_ms + 1);
    }
}

/// A series' rows of one window from one block.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) tenant: TenantId,
    pub(super) id: SeriesId,
    pub(super) labels: Labels,
    pub(super) samples: SeriesSamples,
    /// In place of samples, from a block of windows.
    pub(super) windows: Windows,
    pub(super) exemplars: Vec<Exemplar>,
}

impl Row {
    /// Whether it comes before another in the order of blocks.
    pub(super) fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.tenant.cmp(&other.tenant).then_with(|| self.labels.stored_order(&other.labels))
    }
}

/// Reads the series of one block that have something in one window.
#[derive(Debug)]
pub(super) struct Cursor {
    block: Block,
    window: TimeRange,
    rows: VecDeque<u32>,
    batch_rows: usize,
    pub(super) ready: VecDeque<Row>,
    /// Exemplars of series rows below `exemplars_until` that were not given out yet.
    exemplars: Vec<(u32, Exemplar)>,
    exemplars_until: u32,
    deleted: Arc<BlockTombstones>,
}

/// Pages of the next series, to be decoded.
#[derive(Debug)]
pub(super) struct Loaded {
    rows: Vec<u32>,
    fetched: Fetched,
    exemplars: Vec<(u32, Exemplar)>,
}

impl Cursor {
    /// Whether it must be given more before it can be merged on.
    pub(super) fn is_dry(&self) -> bool {
        self.ready.is_empty() && !self.rows.is_empty()
    }

    /// Reads the pages of the next series.
    pub(super) async fn load(&mut self) -> Result<Loaded, Error> {
        let batch = self.rows.len().min(self.batch_rows);
        let rows: Vec<u32> = self.rows.drain(..batch).collect();
        let fetched = self.block.fetch(&rows, self.window).await?;
        let last = rows.last().copied().unwrap_or_default();
        if self.exemplars_until <= last {
            let end = last.saturating_add(EXEMPLAR_ROWS);
            let mut wanted = RoaringBitmap::new();
            wanted.insert_range(self.exemplars_until..end);
            let found = self.block.exemplars(&wanted, self.window, &mut Pace::endless()).await?;
            self.exemplars.extend(found.into_iter().map(|e| (e.row, e.exemplar)));
            self.exemplars_until = end;
        }
        let now = self.exemplars.partition_point(|(row, _)| *row <= last);
        let exemplars = self.exemplars.drain(..now).collect();
        Ok(Loaded { rows, fetched, exemplars })
    }

    /// Decodes what was loaded. CPU work.
    pub(super) fn decode(&mut self, loaded: Loaded) -> Result<(), Error> {
        let Loaded { rows, fetched, exemplars } = loaded;
        let resolution = self.block.resolution();
        let (mut samples, mut windows) = match resolution {
            Resolution::Raw => (fetched.decode()?.into_iter(), Vec::new().into_iter()),
            _ => (Vec::new().into_iter(), fetched.decode_windows()?.into_iter()),
        };
        let mut exemplars = exemplars.into_iter().peekable();
        let (block, ready, deleted) = (&self.block, &mut self.ready, &self.deleted);
        let tenants = block.tenants();
        block.for_each_series(rows, &mut Pace::endless(), |row, id, labels| {
            let at = tenants.partition_point(|t| t.series.end <= row);
            let mut samples = samples.next().unwrap_or_default();
            let mut windows = windows.next().unwrap_or_default();
            let mut own = Vec::new();
            while let Some((_, exemplar)) = exemplars.next_if(|(of, _)| *of <= row) {
                own.push(exemplar);
            }
            let Some(tenant) = tenants.get(at).map(|t| t.tenant) else { return };
            if !deleted.of(tenant).is_empty() {
                let hidden = deleted.hidden(tenant, &labels);
                hidden.strip(&mut samples, |instants| instants.into());
                windows.strip(&hidden, resolution);
                own.retain(|exemplar: &Exemplar| !hidden.contains(exemplar.timestamp_ms));
            }
            let has_samples = !samples.values.is_empty() || !samples.histograms.is_empty();
            if has_samples || !windows.is_empty() || !own.is_empty() {
                ready.push_back(Row { tenant, id, labels, samples, windows, exemplars: own });
            }
        })
    }
}
