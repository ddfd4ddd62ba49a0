//! Compaction: many small blocks become few large ones, while nobody notices. Segments of entries
//! are merged in the same rounds, by `entries::merge`.
//!
//! ```text
//! planner (plain function) ─► job: sources ─► merge ─► new blocks ─► ONE manifest edit
//!                                                                      └─► graves ─► removed
//! ```
//!
//! Invariants: a reader sees a row in the old blocks or in the new ones, never in both or in none;
//! a merge that fails leaves everything as it was; objects of merged blocks stay for longer than
//! the longest question. One merge runs at a time, at a pace that leaves the machine to others.

mod config;
mod counters;
mod job;
mod merge;
mod pace;
mod planner;
mod rest;
mod source;
mod windows;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashMap;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::sync::watch;

use crate::block::OBJECT_NAMES;
use crate::entries::EntryPartition;
use crate::manifest::{BlockMeta, Edit};
use crate::partition::{Partition, StoredBlock};
use crate::{Error, Storage};

pub use config::Config;
pub use counters::CompactionTotals;
pub(crate) use counters::Counters;
use planner::{DAY, Job, Makes, Stock};
pub(crate) use planner::{day_of, order_of};
pub(crate) use rest::{Rest, Stop};

/// How often it is looked for what is due.
const CHECK: Duration = Duration::from_secs(10);

/// After a merge failed: first wait, and the longest.
const RETRY_SECONDS: f64 = 30.0;
const RETRY_SECONDS_MAX: f64 = 3600.0;

/// Blocks are written anew without what was deleted so long ago: it is gone within a day, and
/// several deletions cost one rewriting.
pub(crate) const STRIP_AFTER_MS: i64 = 12 * 3_600_000;

/// How long objects beyond their grace wait for a manifest that is written anyway.
const FOLLOWED_AFTER_SECONDS: f64 = 3600.0;

/// Merges a forced compaction may make in one partition before something must be wrong.
pub(crate) const ROUNDS_MAX: usize = 10_000;

/// How much is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What is due, at a pace that spares the machine.
    Due,
    /// Everything that can be, at once, as if all days were over: before sizes are measured, or
    /// to free space.
    Everything,
}

/// What is held while something is merged.
#[derive(Debug, Default)]
pub(crate) struct CompactState {
    /// When a merge that failed may be tried again, by its first input, and after which wait.
    failed: HashMap<String, (f64, f64)>,
}

impl CompactState {
    /// Whether a merge may be tried.
    pub(crate) fn is_ready(&self, key: &str, now: f64) -> bool {
        self.failed.get(key).is_none_or(|(until, _)| now >= *until)
    }

    /// Notes that a merge failed and gives the seconds until it is tried again.
    pub(crate) fn failed(&mut self, key: String, now: f64) -> f64 {
        let wait = self.failed.get(&key).map_or(RETRY_SECONDS, |(_, wait)| wait * 2.0);
        let wait = wait.min(RETRY_SECONDS_MAX);
        self.failed.insert(key, (now + wait, wait));
        wait
    }

    /// Notes that a merge was done.
    pub(crate) fn done(&mut self, key: &str) {
        self.failed.remove(key);
    }
}

/// An object that no manifest names any more.
#[derive(Debug)]
pub(crate) struct Grave {
    path: Path,
    partition: u16,
    /// The manifest that no longer names it. Should that one be lost, the one before it holds, so
    /// that the object stays until there is another.
    manifest: u64,
    /// Monotonic seconds.
    since: f64,
}

impl Storage {
    /// Merges what is due and removes what was merged, until `shutdown` says true.
    pub(crate) async fn run_compaction(&self, shutdown: watch::Receiver<bool>) {
        loop {
            self.compact_due(&shutdown).await;
            let mut stopping = shutdown.clone();
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(CHECK) => {}
            }
        }
    }

    /// Merges blocks, and removes what was merged long enough ago.
    pub async fn compact(&self, extent: Extent) -> Result<(), Error> {
        let (_keep, never) = watch::channel(false);
        match extent {
            Extent::Due => self.compact_due(&never).await,
            Extent::Everything => self.compact_all(&never).await?,
        }
        Ok(())
    }

    /// Failures are logged and tried again later.
    async fn compact_due(&self, stop: &watch::Receiver<bool>) {
        let mut state = self.compact.lock().await;
        self.remove_retired().await;
        for partition in &self.partitions {
            if let Err(error) = self.note_untouched(partition).await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    partition = partition.number,
                    error,
                    "blocks may be written anew for nothing"
                );
            }
            while !*stop.borrow() && partition.read_only().is_none() {
                let now = self.monotonic();
                let jobs = self.jobs(partition, Extent::Due);
                let ready = |job: &&Job| state.is_ready(&job.key(), now);
                let Some(job) = jobs.iter().find(ready) else { break };
                match self.compact_one(&mut state, partition, job, Extent::Due, stop).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => self.note_failure(&mut state, partition, job, &error),
                }
            }
        }
        self.merge_entries_due(&mut state, stop).await;
        self.note_backlog();
    }

    async fn compact_all(&self, stop: &watch::Receiver<bool>) -> Result<(), Error> {
        let mut state = self.compact.lock().await;
        for partition in &self.partitions {
            partition.check_writable()?;
            for _ in 0..ROUNDS_MAX {
                let jobs = self.jobs(partition, Extent::Everything);
                let Some(job) = jobs.first() else { break };
                self.compact_one(&mut state, partition, job, Extent::Everything, stop).await?;
            }
        }
        self.merge_all_entries(&mut state, stop).await?;
        self.note_backlog();
        Ok(())
    }

    /// Writes all blocks and segments anew in which something is deleted, at once.
    pub(crate) async fn strip_deleted(&self) -> Result<(), Error> {
        let (_keep, never) = watch::channel(false);
        let mut state = self.compact.lock().await;
        for partition in self.partitions.iter().filter(|p| p.read_only().is_none()) {
            for _ in 0..ROUNDS_MAX {
                self.note_untouched(partition).await?;
                let stock = self.stock(partition, 0);
                let is_stripped =
                    |job: &&Job| job.inputs.iter().any(|name| stock.stripped.contains(name));
                let jobs = self.plan(&stock, Extent::Due);
                let Some(job) = jobs.iter().find(is_stripped) else { break };
                if !self.compact_one(&mut state, partition, job, Extent::Everything, &never).await?
                {
                    break;
                }
            }
        }
        self.strip_deleted_entries(&mut state, &never).await
    }

    /// Removes the objects of all merged blocks now, though questions may still be reading them:
    /// for who knows that there are none.
    pub async fn remove_merged(&self) {
        self.graves.lock().iter_mut().for_each(|grave| grave.since = f64::NEG_INFINITY);
        self.remove_retired().await;
    }

    /// What the manifests say of all blocks that can be read, by partition and log position.
    pub fn blocks(&self) -> Vec<(u16, BlockMeta)> {
        let of = |p: &Partition| {
            p.all_blocks().map(|stored| (p.number, stored.meta)).collect::<Vec<_>>()
        };
        self.partitions.iter().flat_map(of).collect()
    }

    /// Figures of compaction since the start.
    pub fn compaction(&self) -> CompactionTotals {
        self.counters.totals()
    }

    fn jobs(&self, partition: &Partition, extent: Extent) -> Vec<Job> {
        self.plan(&self.stock(partition, STRIP_AFTER_MS), extent)
    }

    /// All that is to be done with what there is, the most urgent first.
    fn plan(&self, stock: &Stock, extent: Extent) -> Vec<Job> {
        let (now_ms, config) = (self.clock.now_ms(), &self.config);
        let mut jobs = planner::plan(stock, now_ms, extent, &config.compaction);
        jobs.extend(windows::plan(stock, &jobs, config.downsampling.resolutions()));
        jobs
    }

    /// What there is to merge; blocks with rows that were deleted so long ago must be.
    fn stock(&self, partition: &Partition, strip_after_ms: i64) -> Stock {
        let metas = |blocks: Arc<[StoredBlock]>| -> Vec<BlockMeta> {
            blocks.iter().map(|stored| stored.meta.clone()).collect()
        };
        let (blocks, windows) = (metas(partition.blocks()), metas(partition.windows()));
        let (tombstones, now_ms) = (partition.tombstones(), self.clock.now_ms());
        let is_stripped = |block: &&BlockMeta| {
            let oldest_ms = tombstones.of_block(block).oldest_ms();
            oldest_ms.is_some_and(|oldest| now_ms >= oldest.saturating_add(strip_after_ms))
        };
        let stripped = if tombstones.is_empty() {
            Vec::new()
        } else {
            let all = blocks.iter().chain(&windows);
            all.filter(is_stripped).map(|block| block.name.clone()).collect()
        };
        let unreadable = partition.unreadable().cloned().collect();
        Stock { blocks, unreadable, stripped, windows }
    }

    /// Does one merge; says whether it was done.
    async fn compact_one(
        &self,
        state: &mut CompactState,
        partition: &Partition,
        job: &Job,
        extent: Extent,
        stop: &watch::Receiver<bool>,
    ) -> Result<bool, Error> {
        let started = self.monotonic();
        let done = self.run_job(partition, job, extent, stop.clone()).await;
        let seconds = self.monotonic() - started;
        let Some(done) = done? else { return Ok(false) };
        self.retire_blocks(partition, &job.inputs);
        state.done(&job.key());
        // What deletions hid in the old blocks is gone.
        if let Err(error) = self.drop_spent(partition).await {
            tracing::warn!(partition = partition.number, %error, "tombstones could not be dropped");
        }
        self.counters.update(|totals| {
            match job.makes {
                Makes::Rows => totals.merges[usize::from(job.level == DAY)] += 1,
                Makes::Windows(..) => totals.downsamplings += 1,
            }
            totals.bytes_in += job.bytes;
            totals.bytes_out += done.bytes;
            totals.samples += done.samples;
            totals.work_seconds += done.work_seconds;
            totals.wall_seconds += seconds;
        });
        tracing::info!(
            partition = partition.number,
            level = job.level,
            resolution = %job.makes.resolution(),
            blocks_in = job.inputs.len() + job.reads.len(),
            blocks_out = done.blocks,
            bytes_in = job.bytes,
            bytes_out = done.bytes,
            samples = done.samples,
            work_seconds = done.work_seconds,
            seconds,
            "merged blocks"
        );
        Ok(true)
    }

    fn note_failure(
        &self,
        state: &mut CompactState,
        partition: &Partition,
        job: &Job,
        error: &Error,
    ) {
        self.counters.update(|totals| totals.failures += 1);
        let key = job.key();
        let wait = state.failed(key.clone(), self.monotonic());
        let error: &dyn std::error::Error = error;
        tracing::error!(
            partition = partition.number,
            level = job.level,
            job = key,
            blocks = job.inputs.len() + job.reads.len(),
            retry_seconds = wait,
            error,
            "merging blocks failed and will be tried again"
        );
    }

    /// Removes objects that went out of use long enough ago. What cannot be removed is tried
    /// again; what a stop leaves behind goes after the next start.
    async fn remove_retired(&self) {
        if self.holds.load(Ordering::Acquire) > 0 {
            return;
        }
        let (now, grace) = (self.monotonic(), self.config.compaction.grace_seconds as f64);
        let due = |grave: &mut Grave| now - grave.since >= grace;
        let old: Vec<Grave> = self.graves.lock().extract_if(.., due).collect();
        for partition in &self.partitions {
            let own = || old.iter().filter(|grave| grave.partition == partition.number);
            let waits = |grave: &Grave| grave.manifest >= partition.manifest_number();
            // Nothing has been written since, and disk space is not for ever.
            if own().any(|g| waits(g) && now - g.since >= grace + FOLLOWED_AFTER_SECONDS)
                && let Err(error) = self.follow_up(partition).await
            {
                tracing::warn!(partition = partition.number, %error, "merged blocks stay for now");
            }
        }
        for partition in &self.entries.partitions {
            let own = || old.iter().filter(|grave| grave.partition == partition.number);
            let waits = |grave: &Grave| grave.manifest >= partition.manifest_number();
            if own().any(|g| waits(g) && now - g.since >= grace + FOLLOWED_AFTER_SECONDS)
                && let Err(error) = self.follow_up_entries(partition).await
            {
                tracing::warn!(partition = partition.number, %error, "old segments stay for now");
            }
        }
        let mut stay = Vec::new();
        for grave in old {
            let manifest = match self.partitions.get(usize::from(grave.partition)) {
                Some(partition) => Some(partition.manifest_number()),
                None => self.entries.of(grave.partition).map(|p| p.manifest_number()),
            };
            let is_followed = manifest.is_some_and(|number| number > grave.manifest);
            if !is_followed || !self.remove(&grave.path).await {
                stay.push(grave);
            }
        }
        self.graves.lock().extend(stay);
    }

    /// A manifest that changes nothing: the one before it is then known from two.
    async fn follow_up(&self, partition: &Partition) -> Result<(), Error> {
        let mut flush = partition.flush.lock().await;
        partition.check_writable()?;
        let edit = Edit { next_object: flush.state.next_object, ..Edit::default() };
        partition.commit(&mut flush, edit).await
    }

    async fn follow_up_entries(&self, partition: &EntryPartition) -> Result<(), Error> {
        let mut flush = partition.flush.lock().await;
        partition.check_writable()?;
        let edit = Edit { next_object: flush.state.next_object, ..Edit::default() };
        partition.commit(&mut flush, edit).await
    }

    /// Has the objects of blocks removed that no manifest names any more, once all questions that
    /// may be reading them have ended.
    pub(crate) fn retire_blocks(&self, partition: &Partition, names: &[String]) {
        let objects = |name: &String| {
            let prefix = Path::from(name.as_str());
            OBJECT_NAMES.map(|object| prefix.clone().join(object))
        };
        self.retire(partition, names.iter().flat_map(objects));
    }

    /// Has objects removed that no manifest names any more.
    pub(crate) fn retire(&self, partition: &Partition, paths: impl Iterator<Item = Path>) {
        let (since, manifest) = (self.monotonic(), partition.manifest_number());
        let partition = partition.number;
        self.graves.lock().extend(paths.map(|path| Grave { path, partition, manifest, since }));
    }

    /// The same of a partition of entries.
    pub(crate) fn retire_entries(
        &self,
        partition: &EntryPartition,
        paths: impl Iterator<Item = Path>,
    ) {
        let (since, manifest) = (self.monotonic(), partition.manifest_number());
        let partition = partition.number;
        self.graves.lock().extend(paths.map(|path| Grave { path, partition, manifest, since }));
    }

    /// Removes an object; says whether it is gone.
    async fn remove(&self, path: &Path) -> bool {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => true,
            Err(error) => {
                tracing::warn!(%path, %error, "object that nothing names could not be removed");
                false
            }
        }
    }

    fn note_backlog(&self) {
        let waiting = self.graves.lock().len();
        let due: Vec<Job> =
            self.partitions.iter().flat_map(|p| self.jobs(p, Extent::Due)).collect();
        let (segments, segment_bytes) = self.entries_backlog();
        self.counters.update(|totals| {
            totals.backlog_blocks =
                due.iter().map(|job| (job.inputs.len() + job.reads.len()) as u64).sum();
            totals.backlog_bytes = due.iter().map(|job| job.bytes).sum();
            totals.backlog_segments = segments;
            totals.backlog_segment_bytes = segment_bytes;
            totals.removed_waiting = waiting as u64;
        });
    }

    pub(crate) fn monotonic(&self) -> f64 {
        self.clock.monotonic().as_secs_f64()
    }
}
