//! One merge from start to end.
//!
//! ```text
//! open sources ─► for each window: cursors ─► merge ─► new blocks ─► ONE manifest edit ─► readers
//! ```
//!
//! Until the edit nothing is changed for anybody; what a merge that fails or is stopped has written
//! is removed, or swept at the next start.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use model::{Position, TimeRange};
use object_store::path::Path;
use tenancy::TenantId;

use super::Extent;
use super::merge::{KeptFrom, Outputs, merge, next_tenant};
use super::planner::{DAY, FRESH, Job, Makes};
use super::rest::{Rest, Stop};
use super::source::{Cursor, Source};
use super::windows;
use crate::block::{BlockCache, BlockOptions, BlockSummary};
use crate::codec::Effort;
use crate::manifest::{BlockMeta, Edit};
use crate::partition::{Partition, StoredBlock};
use crate::tombstone::Tombstones;
use crate::{Error, Storage};

/// Samples decoded and not yet merged, over all sources: some 64 MiB.
const SAMPLES_IN_MEMORY: u64 = 4 << 20;

/// Least samples a source decodes at a time, however many sources there are.
const BATCH_SAMPLES_MIN: u64 = 16_384;

/// Footers and pages of the sources in memory, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// Windows take about so much less than the rows they are made from.
const WINDOWS_PART: u64 = 16;

/// Sources read at a time.
const LOADS_AT_ONCE: usize = 4;

/// What a merge did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) blocks: usize,
    pub(super) bytes: u64,
    pub(super) samples: u64,
    pub(super) work_seconds: f64,
}

/// A merge under way.
struct Run<'a> {
    storage: &'a Storage,
    partition: &'a Partition,
    job: &'a Job,
    rest: Rest<'a>,
    done: Done,
    /// New blocks, whole.
    finished: Vec<(String, BlockSummary)>,
    /// Everything objects may have been written under.
    begun: Vec<String>,
    /// What is left out, and up to where the result says that it was.
    tombstones: Arc<Tombstones>,
    deleted_to: Position,
}

impl Storage {
    /// Does one merge. `Ok(None)`: stopped, or blocks it was about are gone.
    pub(super) async fn run_job(
        &self,
        partition: &Partition,
        job: &Job,
        extent: Extent,
        stop: Stop,
    ) -> Result<Option<Done>, Error> {
        let mut run = Run {
            storage: self,
            partition,
            job,
            rest: Rest::new(self, extent, stop),
            done: Done::default(),
            finished: Vec::new(),
            begun: Vec::new(),
            tombstones: partition.tombstones(),
            deleted_to: Position::default(),
        };
        let outcome = run.merge_and_commit().await;
        let Run { done, begun, rest, .. } = run;
        let done = Done { work_seconds: rest.work_seconds, ..done };
        match outcome {
            Ok(true) => return Ok(Some(done)),
            // Nobody may go on from a manifest that may or may not name what was written.
            Err(Error::Unsettled { .. }) => {}
            Err(_) if partition.read_only().is_some() => {}
            _ => self.discard(begun.iter().map(|name| Path::from(name.as_str())).collect()).await,
        }
        outcome.map(|_| None)
    }

    async fn take_names(&self, partition: &Partition, count: usize) -> Vec<String> {
        let mut flush = partition.flush.lock().await;
        let first = flush.state.next_object;
        flush.state.next_object += count as u64;
        let name = |n| format!("blocks/{:04}/{n:012}", partition.number);
        (first..first + count as u64).rev().map(name).collect()
    }
}

impl Run<'_> {
    async fn merge_and_commit(&mut self) -> Result<bool, Error> {
        let Some(sources) = self.open_sources().await? else { return Ok(false) };
        let starts: BTreeSet<i64> =
            sources.iter().flat_map(|s| s.windows.keys().copied()).collect();
        let is_wanted = |start: &i64| match self.job.makes {
            Makes::Rows => true,
            Makes::Windows(_, day) => *start == day,
        };
        for start in starts.into_iter().filter(is_wanted).collect::<Vec<_>>() {
            let window = self.job.grid.window_of(start);
            if !self.merge_window(&sources, window).await? {
                return Ok(false);
            }
        }
        self.commit().await
    }

    /// All that is read, as it is now; `None` if one of them is gone.
    fn inputs(&self) -> Option<Vec<BlockMeta>> {
        let blocks: Vec<StoredBlock> = self.partition.all_blocks().collect();
        let of = |name: &String| blocks.iter().find(|b| b.meta.name == *name);
        let names = self.job.reads.iter().chain(&self.job.inputs);
        names.map(|name| of(name).map(|b| b.meta.clone())).collect()
    }

    async fn open_sources(&mut self) -> Result<Option<Vec<Source>>, Error> {
        let Some(inputs) = self.inputs() else { return Ok(None) };
        let cache = BlockCache::new(CACHE_BYTES);
        self.deleted_to = self.tombstones.deleted_to(inputs.iter());
        let mut sources = Vec::with_capacity(inputs.len());
        for meta in &inputs {
            if self.rest.is_stopped() {
                return Ok(None);
            }
            let started = self.storage.activity().at;
            let (objects, grid) = (&self.storage.objects, self.job.grid);
            let deleted = self.tombstones.of_block(meta);
            sources.push(Source::open(objects, &cache, meta, grid, deleted).await?);
            self.rest(0, self.storage.activity().at - started).await;
        }
        Ok(Some(sources))
    }

    /// Writes the blocks of one window; says whether it was not stopped.
    async fn merge_window(&mut self, sources: &[Source], window: TimeRange) -> Result<bool, Error> {
        let batch = (SAMPLES_IN_MEMORY / sources.len().max(1) as u64).max(BATCH_SAMPLES_MIN);
        let cursors = sources.iter().filter_map(|s| s.cursor(window, batch)).collect();
        let large = Arc::new(self.large_tenants(sources));
        let names = self.storage.take_names(self.partition, large.len() + 1).await;
        self.begun.extend(names.iter().cloned());
        let objects = Arc::clone(&self.storage.objects);
        // Days stay for years; windows are written once more before long.
        let effort = if self.job.level == DAY { Effort::Cold } else { Effort::Young };
        let resolution = self.job.makes.resolution();
        let options = BlockOptions { effort, resolution, ..BlockOptions::default() };
        let (rules, now_ms) = (self.storage.rules.read().clone(), self.storage.retention_now_ms());
        let kept_from: KeptFrom = Arc::new(move |tenant| {
            windows::kept_from(rules.as_ref().map(|r| r.rule_of(tenant)), resolution, now_ms)
        });
        let outputs = Outputs::new(objects, options, names, large, kept_from);
        let mut outputs = Some(outputs);
        let merged = self.merge_into(cursors, &mut outputs).await;
        let Some(mut outputs) = outputs else { return merged };
        if !matches!(merged, Ok(true)) {
            outputs.abandon().await;
        }
        self.finished.append(&mut outputs.finished);
        merged
    }

    /// `outputs` is empty afterwards only if merging panicked.
    async fn merge_into(
        &mut self,
        mut cursors: Vec<Cursor>,
        outputs: &mut Option<Outputs>,
    ) -> Result<bool, Error> {
        let per_sample = self.job.bytes as f64 / self.samples_in().max(1) as f64;
        loop {
            let started = self.storage.activity().at;
            cursors = refill(cursors).await?;
            let Some(tenant) = next_tenant(&cursors) else { break };
            let Some(mut open) = outputs.take() else { break };
            let turned = open.turn_to(tenant).await;
            let merging = tokio::task::spawn_blocking(move || {
                let merged = turned.and_then(|()| merge(&mut cursors, &mut open));
                (cursors, open, merged)
            });
            let (back, open, merged) =
                merging.await.map_err(|e| Error::Internal(format!("merge blocks: {e}")))?;
            cursors = back;
            let open = outputs.insert(open);
            let samples = merged?;
            open.send_ready().await?;
            self.done.samples += samples;
            let work = self.storage.activity().at - started;
            // Read once and written once.
            self.rest((2.0 * per_sample * samples as f64) as u64, work).await;
            if self.rest.is_stopped() {
                return Ok(false);
            }
        }
        if let Some(outputs) = outputs {
            if self.job.makes != Makes::Rows && !self.job.reads.is_empty() {
                outputs.begin_shared()?;
            }
            outputs.finish().await?;
        }
        Ok(true)
    }

    fn samples_in(&self) -> u64 {
        let inputs = self.inputs().unwrap_or_default();
        inputs.iter().map(|b| b.samples + b.histograms).sum()
    }

    /// Pauses as the budget asks for, unless somebody waits for the result.
    async fn rest(&mut self, bytes: u64, work_seconds: f64) {
        let fresh = self.partition.blocks().iter().filter(|b| b.meta.level == FRESH).count();
        self.rest.after(bytes, work_seconds, fresh).await;
    }

    /// Tenants that get a block of their own: going by their share of chunks, so much a day.
    fn large_tenants(&self, sources: &[Source]) -> HashSet<TenantId> {
        if self.job.level < DAY {
            return HashSet::new();
        }
        let mut bytes: HashMap<TenantId, u64> = HashMap::new();
        for source in sources {
            for tenant in source.block.tenants() {
                let chunks = tenant.chunks.len() as u128;
                let share =
                    u128::from(source.meta.bytes) * chunks / u128::from(source.meta.chunks.max(1));
                *bytes.entry(tenant.tenant).or_default() += share as u64;
            }
        }
        let mut least = self.storage.config.compaction.split_bytes;
        if self.job.makes != Makes::Rows {
            least = least.saturating_mul(WINDOWS_PART);
        }
        bytes.into_iter().filter(|(_, bytes)| *bytes >= least).map(|(tenant, _)| tenant).collect()
    }

    /// Nothing is given up for a result that cannot be right: it has at least as many rows as the
    /// largest input, if nothing was deleted, and never more than all of them.
    fn check_rows(&self, added: &[StoredBlock]) -> Result<(), Error> {
        if self.job.makes != Makes::Rows {
            return Ok(());
        }
        let inputs = self.inputs().unwrap_or_default();
        let rows = |b: &BlockMeta| b.samples + b.histograms;
        let kept: u64 = added.iter().map(|b| rows(&b.meta)).sum();
        let all: u64 = inputs.iter().map(rows).sum();
        let is_whole = |b: &&BlockMeta| self.tombstones.of_block(b).is_empty();
        let least = inputs.iter().filter(is_whole).map(rows).max().unwrap_or_default();
        if (least..=all).contains(&kept) {
            return Ok(());
        }
        Err(Error::Internal(format!(
            "merging {all} rows of partition {} gave {kept}, at least {least} were expected",
            self.partition.number
        )))
    }

    /// The one edit that puts the new blocks in place of the old; says whether it was made.
    async fn commit(&mut self) -> Result<bool, Error> {
        let now_ms = self.storage.clock.now_ms();
        let mut added = Vec::new();
        for (name, mut summary) in std::mem::take(&mut self.finished) {
            if let Makes::Windows(_, day) = self.job.makes {
                let of_day = TimeRange { start_ms: day, end_ms: day };
                summary.range = summary.range.or(Some(of_day));
            }
            let meta = BlockMeta {
                level: self.job.level,
                deleted_to: Some(self.deleted_to),
                resolution: self.job.makes.resolution(),
                ..crate::flush::meta_of(name, &summary, self.job.positions, now_ms)
            };
            added.push(self.storage.stored(meta));
        }
        self.check_rows(&added)?;
        let mut flush = self.partition.flush.lock().await;
        self.storage.settle(self.partition, &mut flush).await?;
        // Retention or a deletion may have taken some meanwhile.
        let exists = |name: &String| flush.state.blocks.iter().any(|b| b.name == *name);
        if !self.job.inputs.iter().chain(&self.job.reads).all(exists) {
            return Ok(false);
        }
        let edit = Edit {
            add_blocks: added.iter().map(|b| b.meta.clone()).collect(),
            remove_blocks: self.job.inputs.clone(),
            next_object: flush.state.next_object,
            ..Edit::default()
        };
        self.partition.commit(&mut flush, edit).await?;
        self.done.blocks = added.len();
        self.done.bytes = added.iter().map(|b| b.meta.bytes).sum();
        self.partition.replace(&self.job.inputs, added);
        Ok(true)
    }
}

/// Gives every dry cursor its next series, some at a time.
async fn refill(cursors: Vec<Cursor>) -> Result<Vec<Cursor>, Error> {
    stream::iter(cursors)
        .map(|mut cursor| async move {
            while cursor.is_dry() {
                let loaded = cursor.load().await?;
                let decoded = tokio::task::spawn_blocking(move || {
                    let decoded = cursor.decode(loaded);
                    (cursor, decoded)
                });
                let (back, decoded) =
                    decoded.await.map_err(|e| Error::Internal(format!("decode a block: {e}")))?;
                decoded?;
                cursor = back;
            }
            Ok::<_, Error>(cursor)
        })
        .buffered(LOADS_AT_ONCE)
        .try_collect()
        .await
}
