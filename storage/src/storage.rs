//! The store as the rest of the program sees it, and its background work.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use model::{Clock, DiskLock, Log};
use object_store::ObjectStore;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::block::BlockCache;
use crate::changes::Changes;
use crate::compact::{CompactState, Counters, Grave};
use crate::entries::Entries;
use crate::head::{Head, HeadCounts};
use crate::log::{Damage, LocalLog, Recovery};
use crate::manifest::BlockMeta;
use crate::objects::{CacheTotals, CachedObjects, RequestCounts, RequestTotals};
use crate::partition::Partition;
use crate::partition_map::PartitionMap;
use crate::retention::{ClockGuard, TenantRules};
use crate::usage::Usage;
use crate::{Config, Error};

/// How often partitions are looked at for a flush by age.
const FLUSH_CHECK: Duration = Duration::from_secs(5);

/// A partition takes no more once it has buffered so many times what a flush needs.
const BACKLOG_FLUSHES: u64 = 4;

/// Between two tries of a flush that failed.
const FLUSH_RETRY: Duration = Duration::from_secs(10);

/// An open data directory.
#[derive(Debug)]
pub struct Storage {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The same, if they are not on this machine.
    pub(crate) far: Option<Arc<CachedObjects>>,
    /// Counters of requests to it.
    pub(crate) requests: Option<Arc<RequestCounts>>,
    pub(crate) log: Arc<LocalLog>,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) map: PartitionMap,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) entries: Entries,
    pub(crate) usage: Usage,
    /// Which answers that somebody kept still hold.
    pub(crate) changes: Changes,
    pub(crate) recovery: Recovery,
    /// Held by a deletion until its records are in the log: one at a time, so that each has a
    /// number of its own.
    pub(crate) deleting: tokio::sync::Mutex<()>,
    /// What tenants may keep; without, everything is kept.
    pub(crate) rules: RwLock<Option<Arc<dyn TenantRules>>>,
    pub(crate) clock_guard: Mutex<ClockGuard>,
    /// Rung when a partition has enough for a flush.
    pub(crate) wake: Notify,
    /// Held while blocks are merged: one merge at a time.
    pub(crate) compact: tokio::sync::Mutex<CompactState>,
    /// Blocks that were merged and whose objects wait to be removed.
    pub(crate) graves: Mutex<Vec<Grave>>,
    pub(crate) counters: Counters,
    /// Backups that run: as long as one does, no object is removed.
    pub(crate) holds: AtomicUsize,
    pub(crate) _lock: Box<dyn DiskLock>,
}

impl Storage {
    /// What was found damaged when the log was replayed.
    pub fn damage(&self) -> &[Damage] {
        &self.recovery.damaged
    }

    /// Records in the log that could not be applied wholly, because one before them is lost.
    pub fn left_out(&self) -> u64 {
        let of_entries = self.entries.partitions.iter().map(|p| p.head.read().left_out());
        self.partitions.iter().map(|p| p.head.read().left_out()).chain(of_entries).sum()
    }

    /// Partitions whose answers may lack rows that were acknowledged, and why: what holds them
    /// could not be read at the start. They take no writes. Empty if all is there.
    pub fn incomplete(&self) -> Vec<(u16, String)> {
        let reason = |p: &Partition| Some((p.number, p.losses().incomplete.clone()?));
        let of_entries = self.entries.partitions.iter();
        let of_entries = of_entries.filter_map(|p| Some((p.number, p.losses.incomplete.clone()?)));
        self.partitions.iter().filter_map(reason).chain(of_entries).collect()
    }

    /// Damage that was found at the start and costs nothing, by partition.
    pub fn mended(&self) -> Vec<(u16, String)> {
        let of = |p: &Partition| {
            p.losses().mended.iter().map(|text| (p.number, text.clone())).collect::<Vec<_>>()
        };
        let of_entries = self.entries.partitions.iter();
        let of_entries =
            of_entries.flat_map(|p| p.losses.mended.iter().map(|text| (p.number, text.clone())));
        self.partitions.iter().flat_map(of).chain(of_entries).collect()
    }

    /// Blocks that are not whole, by partition and name, and why. Questions about their time fail.
    pub fn lost_blocks(&self) -> Vec<(u16, String, String)> {
        let of = |p: &Partition| {
            let lost = p.losses().blocks.iter();
            let named =
                |(meta, why): &(BlockMeta, String)| (p.number, meta.name.clone(), why.clone());
            lost.map(named).collect::<Vec<_>>()
        };
        let of_entries = self.entries.partitions.iter().flat_map(|p| {
            let lost = p.losses.segments.iter();
            lost.map(|(meta, why)| (p.number, meta.name.clone(), why.clone()))
        });
        self.partitions.iter().flat_map(of).chain(of_entries).collect()
    }

    /// Requests to the object store since the start, and what its cache has done; `None` if objects
    /// are files of the data directory.
    pub fn object_store(&self) -> Option<(RequestTotals, CacheTotals)> {
        let (requests, far) = (self.requests.as_ref()?, self.far.as_ref()?);
        Some((requests.totals(), far.totals()))
    }

    /// Why some partitions take no writes; empty if all do.
    pub fn read_only(&self) -> Vec<(u16, String)> {
        let of_entries = self.entries.partitions.iter();
        let of_entries = of_entries.filter_map(|p| Some((p.number, p.read_only()?)));
        self.partitions
            .iter()
            .filter_map(|p| p.read_only().map(|reason| (p.number, reason)))
            .chain(of_entries)
            .collect()
    }

    /// Whether writes are taken at all.
    pub fn ready(&self) -> Result<(), Error> {
        self.log.ready().map_err(Error::Unavailable)
    }

    /// Looks at the free space of the disk now; it is looked at every second anyway.
    pub fn look_at_disk(&self) {
        self.log.look_at_disk();
    }

    /// Flushes partitions as they fill and merges blocks, until `shutdown` says true.
    pub async fn run(self: Arc<Self>, shutdown: watch::Receiver<bool>) {
        let flushing = self.run_flushes(shutdown.clone());
        tokio::join!(flushing, self.run_compaction(shutdown));
    }

    async fn run_flushes(&self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let failed = self.flush_due().await;
            let pause = if failed { FLUSH_RETRY } else { FLUSH_CHECK };
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified(), if !failed => {}
            }
        }
    }

    /// Flushes what is due; says whether a flush failed.
    async fn flush_due(&self) -> bool {
        let mut failed = false;
        for partition in &self.partitions {
            if partition.read_only().is_none()
                && (self.is_full(&partition.counts())
                    || self.log_bytes_since(partition) >= self.config.log_flush_bytes()
                    || self.is_old(partition).await)
            {
                failed |= self.flush_logged(partition).await.is_err();
            }
        }
        failed | self.flush_entries_due(false).await.is_err()
    }

    async fn flush_logged(&self, partition: &Partition) -> Result<(), Error> {
        let flushed = self.flush(partition).await;
        if let Err(error) = &flushed {
            let error: &dyn std::error::Error = error;
            tracing::error!(
                partition = partition.number,
                error,
                "flush failed and will be tried again"
            );
        }
        flushed
    }

    /// Flushes everything, for instance before a planned stop: the next start replays nothing.
    pub async fn flush_all(&self) -> Result<(), Error> {
        let mut first = Ok(());
        for partition in self.partitions.iter().filter(|p| p.read_only().is_none()) {
            let flushed = self.flush_logged(partition).await;
            first = first.and(flushed);
        }
        let of_entries = self.flush_entries_due(true).await;
        first.and(of_entries)
    }

    /// Flushes and closes the log. Writes fail afterwards.
    pub async fn close(self: Arc<Self>) -> Result<(), Error> {
        let flushed = self.flush_all().await;
        let log = Arc::clone(&self.log);
        let closed = tokio::task::spawn_blocking(move || log.close()).await;
        let closed = closed.map_err(|e| Error::Internal(format!("close the log: {e}")))?;
        closed.map_err(Error::Unavailable).and(flushed)
    }

    /// Whether a partition has buffered enough.
    fn is_full(&self, counts: &HeadCounts) -> bool {
        counts.open.samples + counts.open.histograms >= self.config.flush_samples
            || counts.open_bytes as u64 >= self.config.flush_bytes
    }

    /// Whether its last flush was long ago, or failed.
    async fn is_old(&self, partition: &Partition) -> bool {
        let flush = partition.flush.lock().await;
        if flush.freight.is_some() || flush.manifest.is_unsettled() {
            return true;
        }
        let flushed_at = flush.flushed_at;
        self.clock.monotonic().as_secs_f64() - flushed_at >= self.config.flush_seconds as f64
    }

    /// Bytes of log that a restart would read for a partition.
    pub(crate) fn log_bytes_since(&self, partition: &Partition) -> u64 {
        self.log.end().0.saturating_sub(partition.covered().0)
    }

    /// Rings for the flush task if a partition is full; called after each append to its head.
    pub(crate) fn wake_if_full(&self, partition: &Partition, head: &Head) {
        if self.is_full(&head.counts())
            || self.log_bytes_since(partition) >= self.config.log_flush_bytes()
        {
            self.wake.notify_one();
        }
    }

    /// Fails if too much waits to be flushed: memory, and the log behind it, must not grow without
    /// bound while flushing fails.
    pub(crate) fn check_backlog(&self, partition: &Partition, head: &Head) -> Result<(), Error> {
        let (log_bytes, limit) = (
            self.log_bytes_since(partition),
            self.config.log_flush_bytes().saturating_mul(BACKLOG_FLUSHES),
        );
        if log_bytes >= limit {
            self.wake.notify_one();
            let partition = partition.number;
            return Err(Error::LogBacklog { partition, bytes: log_bytes, limit });
        }
        let counts = head.counts();
        let samples = [counts.open, counts.frozen].iter().map(|c| c.samples + c.histograms).sum();
        let limit = self.config.flush_samples.saturating_mul(BACKLOG_FLUSHES);
        let bytes_limit = self.config.flush_bytes.saturating_mul(BACKLOG_FLUSHES);
        if samples >= limit || counts.open_bytes as u64 >= bytes_limit {
            self.wake.notify_one();
            return Err(Error::Backlog { partition: partition.number, samples, limit });
        }
        Ok(())
    }
}
