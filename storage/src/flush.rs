//! Flush: a partition's buffered rows become a block, and the log before them can go.
//!
//! ```text
//! cut (head locked, milliseconds) ─► block objects ─► snapshot object ─► ONE manifest edit
//!                                                     ─► readers see the block ─► thaw ─► trim the log
//! ```
//!
//! A flush that fails leaves the frozen rows readable and is tried again under new object names.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use hashbrown::HashSet;
use model::{Log, Position, RecordKind, Resolution, TimeRange};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::block::{BlockOptions, BlockSummary, BlockWriter, SeriesInput};
use crate::head::{self, Frozen, FrozenSeries, SharedTimestamps};
use crate::manifest::{BlockMeta, Edit, SnapshotMeta};
use crate::partition::{FlushState, Partition, StoredBlock};
use crate::tombstone::Tombstone;
use crate::usage::tenant_series;
use crate::{Error, Storage};

/// Series whose identities are copied, or whose samples are encoded, in one go.
const BATCH_SERIES: usize = 4_096;

/// Snapshots a restart reads at most: then a full one is written instead of one more delta.
const SNAPSHOTS_MAX: usize = 16;

/// Rows on their way from head to block. Kept until they have arrived: a flush that is tried again
/// stores just the same.
#[derive(Debug, Clone)]
pub(crate) struct Freight {
    frozen: Option<Arc<Frozen>>,
    /// Everything the partition logged before is in `frozen`, in blocks or in the snapshot.
    until: Position,
    snapshot: Option<Snapshot>,
}

impl Freight {
    /// Everything the partition logged before is in it, in blocks or in its snapshot.
    pub(crate) fn until(&self) -> Position {
        self.until
    }
}

/// Head series to be stored, so that a restart does not need the log that named them.
#[derive(Debug, Clone)]
struct Snapshot {
    bytes: Bytes,
    full: bool,
    /// Series of the head with this snapshot.
    series: u32,
    /// How often metadata had changed with this snapshot.
    metadata: u64,
}

impl Storage {
    /// Flushes one partition. Does nothing if nothing came in since the last time.
    pub(crate) async fn flush(&self, partition: &Partition) -> Result<(), Error> {
        let mut flush = partition.flush.lock().await;
        partition.check_writable()?;
        self.settle(partition, &mut flush).await?;
        if flush.freight.is_none() {
            flush.freight = self.load_freight(partition, &mut flush)?;
        }
        let Some(freight) = flush.freight.clone() else {
            flush.flushed_at = self.clock.monotonic().as_secs_f64();
            return Ok(());
        };
        let mut put = Vec::new();
        let flushed = self.deliver(partition, &mut flush, freight, &mut put).await;
        flush.flushed_at = self.clock.monotonic().as_secs_f64();
        if let Err(error) = &flushed {
            match flush.manifest.broken() {
                // The manifest may or may not name what was put, so nobody may go on from it.
                Some(reason) => partition.make_read_only(&format!("its manifest: {reason}")),
                None if matches!(error, Error::Unsettled { .. }) => {}
                None => self.discard(put).await,
            }
        }
        flushed
    }

    /// Removes what a flush put before it failed: it is tried again under other names. What cannot
    /// be removed is left for the next start.
    pub(crate) async fn discard(&self, put: Vec<Path>) {
        for prefix in put {
            let inside = self.objects.list(Some(&prefix)).map_ok(|object| object.location);
            let inside: Vec<Path> = inside.try_collect().await.unwrap_or_default();
            for path in inside.iter().chain([&prefix]) {
                // A block is a directory of objects, a snapshot is one.
                let _ = self.objects.delete(path).await;
            }
        }
    }

    /// Freezes what is buffered and takes what must be stored beside it.
    fn load_freight(
        &self,
        partition: &Partition,
        flush: &mut FlushState,
    ) -> Result<Option<Freight>, Error> {
        let idle_ms =
            i64::try_from(self.config.idle_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let mut head = partition.head.write();
        let before = tenant_series(&head);
        let cut = head.cut(self.clock.now_ms(), idle_ms);
        // Where none are left, their number alone would not tell that series went.
        let mut lost_series = cut.renumbered.is_some();
        if let Some(payload) = cut.renumbered {
            self.log_one(partition, 0, RecordKind::Renumbered, &payload)?;
            self.usage.dropped(&before, &tenant_series(&head));
            flush.snapshot_series = 0;
        }
        let until = self.log.end();
        let series = head.series_count();
        let metadata = partition.metadata_changes();
        if partition.take_deleted() {
            flush.snapshot_series = 0;
            lost_series = true;
        }
        let is_saved =
            !lost_series && series == flush.snapshot_series && metadata == flush.saved_metadata;
        if cut.frozen.is_none()
            && is_saved
            && tombstones_unsaved(partition, flush).is_empty()
            && self.log_bytes_since(partition) < self.config.log_segment_bytes
        {
            return Ok(None);
        }
        let head = parking_lot::RwLockWriteGuard::downgrade(head);
        let full = flush.snapshot_series == 0 || flush.state.snapshots.len() >= SNAPSHOTS_MAX;
        let snapshot = (full || !is_saved).then(|| {
            let bytes = if full {
                head.snapshot_full()
            } else {
                head.snapshot_delta(flush.snapshot_series)
            };
            Snapshot { bytes: bytes.into(), full, series, metadata }
        });
        Ok(Some(Freight { frozen: cut.frozen, until, snapshot }))
    }

    async fn deliver(
        &self,
        partition: &Partition,
        flush: &mut FlushState,
        freight: Freight,
        put: &mut Vec<Path>,
    ) -> Result<(), Error> {
        let mut edit = Edit {
            covered: Some(freight.until),
            next_object: flush.state.next_object,
            ..Edit::default()
        };
        // One that is logged only now is named early, which does no harm: it concerns blocks that
        // were cut before it, and a restart finds it in the log as well.
        edit.add_tombstones = tombstones_unsaved(partition, flush);
        let tombstones = partition.tombstones();
        let gone = flush.state.tombstones.iter().filter(|t| !tombstones.has(t)).map(|t| t.id);
        edit.remove_tombstones = gone.collect();
        if let Some(snapshot) = &freight.snapshot {
            let meta = self.put_snapshot(partition, flush, snapshot, put).await?;
            let kept = if snapshot.full { Vec::new() } else { flush.state.snapshots.clone() };
            edit.snapshots = Some(kept.into_iter().chain([meta]).collect());
        }
        if freight.frozen.is_some() {
            let covered = (flush.state.covered, freight.until);
            edit.add_blocks.extend(self.put_block(partition, flush, covered, put).await?);
        }
        edit.next_object = flush.state.next_object;
        let added: Vec<_> = edit.add_blocks.iter().map(|meta| self.stored(meta.clone())).collect();
        let old_snapshots = flush.state.snapshots.clone();
        partition.commit(flush, edit).await?;
        added.into_iter().for_each(|block| partition.publish(block));
        flush.freight = None;
        self.arrived(partition, flush, freight, &old_snapshots).await;
        Ok(())
    }

    /// What was frozen is in a block that readers see, or in the snapshot.
    pub(crate) async fn arrived(
        &self,
        partition: &Partition,
        flush: &mut FlushState,
        freight: Freight,
        old_snapshots: &[SnapshotMeta],
    ) {
        partition.head.write().thaw();
        if let Some(snapshot) = freight.snapshot {
            flush.snapshot_series = snapshot.series;
            flush.saved_metadata = snapshot.metadata;
        }
        let named = &flush.state.snapshots;
        let gone = old_snapshots.iter().filter(|old| !named.iter().any(|n| n.name == old.name));
        self.retire(partition, gone.map(|old| Path::from(old.name.as_str())));
        self.trim_log();
    }

    async fn put_snapshot(
        &self,
        partition: &Partition,
        flush: &mut FlushState,
        snapshot: &Snapshot,
        put: &mut Vec<Path>,
    ) -> Result<SnapshotMeta, Error> {
        let name = format!("snapshots/{:04}/{:012}", partition.number, next_object(flush));
        let path = Path::from(name.as_str());
        put.push(path.clone());
        let payload = PutPayload::from_bytes(snapshot.bytes.clone());
        let stored = self.objects.put(&path, payload).await;
        stored
            .map_err(|source| Error::Objects { doing: format!("put snapshot {path}"), source })?;
        let (series, bytes) = (u64::from(snapshot.series), snapshot.bytes.len() as u64);
        let checksum = head::snapshot_checksum(&snapshot.bytes);
        Ok(SnapshotMeta { name, full: snapshot.full, series, bytes, checksum })
    }

    /// Writes the block of what is frozen; `None` if there is not even one series.
    async fn put_block(
        &self,
        partition: &Partition,
        flush: &mut FlushState,
        positions: (Position, Position),
        put: &mut Vec<Path>,
    ) -> Result<Option<BlockMeta>, Error> {
        // The view of the frozen rows: nothing else is frozen while this flush runs.
        let view = partition.head.read().flush_view().map(Arc::new);
        let Some(view) = view.filter(|view| !view.frozen().is_empty()) else { return Ok(None) };
        let name = format!("blocks/{:04}/{:012}", partition.number, next_object(flush));
        put.push(Path::from(name.as_str()));
        let mut writer = BlockWriter::new(
            Arc::clone(&self.objects),
            Path::from(name.as_str()),
            BlockOptions::default(),
        )?;
        let mut shared = SharedTimestamps::default();
        let mut from = Some(0);
        while let Some(start) = from {
            let view = Arc::clone(&view);
            let added = tokio::task::spawn_blocking(move || {
                let (batch, next) = view.batch(start, BATCH_SERIES);
                let added = add_all(&mut writer, view.frozen(), batch, &mut shared);
                added.map(|()| (writer, shared, next))
            });
            (writer, shared, from) =
                added.await.map_err(|e| Error::Internal(format!("encode a block: {e}")))??;
            writer.send_ready().await?;
        }
        let summary = writer.finish().await?;
        Ok(Some(meta_of(name, &summary, positions, self.clock.now_ms())))
    }

    /// A block that a manifest names.
    pub(crate) fn stored(&self, meta: BlockMeta) -> StoredBlock {
        StoredBlock::new(meta, &self.objects, &self.cache)
    }

    /// Lets go of the log that no partition would replay.
    pub(crate) fn trim_log(&self) {
        let Some(needing) = self.partitions.iter().min_by_key(|p| p.needed()) else { return };
        let of_entries = self.entries.partitions.iter().map(|p| p.needed()).min();
        let needed = needing.needed().min(of_entries.unwrap_or(needing.needed()));
        if let Err(error) = self.log.trim(needed) {
            tracing::warn!(%error, "log could not be trimmed");
        }
        if let Some(reason) = needing.read_only()
            && self.log_bytes_since(needing) >= self.config.log_flush_bytes()
        {
            tracing::error!(
                partition = needing.number,
                reason,
                bytes = self.log_bytes_since(needing),
                "the log grows because a partition that takes no writes needs it; \
                 see `taffrail tool wal quarantine`"
            );
        }
    }
}

/// Tombstones that only the log has.
fn tombstones_unsaved(partition: &Partition, flush: &FlushState) -> Vec<Arc<Tombstone>> {
    let known: HashSet<u64> = flush.state.tombstones.iter().map(|t| t.id).collect();
    let tombstones = partition.tombstones();
    tombstones.iter().filter(|t| !known.contains(&t.id)).cloned().collect()
}

/// The next number for an object name; used up whether or not the object comes to be.
fn next_object(flush: &mut FlushState) -> u64 {
    let number = flush.state.next_object;
    flush.state.next_object += 1;
    number
}

fn add_all(
    writer: &mut BlockWriter,
    frozen: &Frozen,
    series: Vec<FrozenSeries>,
    shared: &mut SharedTimestamps,
) -> Result<(), Error> {
    for one in series {
        let samples = frozen.read(one.series, TimeRange::ALL, shared);
        let exemplars = frozen.exemplars(one.series);
        writer.add(&SeriesInput {
            tenant: one.tenant,
            id: one.id,
            labels: one.labels,
            timestamps: &samples.timestamps,
            values: &samples.values,
            histograms: &samples.histograms,
            starts: &samples.starts,
            exemplars: &exemplars,
        })?;
    }
    Ok(())
}

pub(crate) fn meta_of(
    name: String,
    summary: &BlockSummary,
    positions: (Position, Position),
    created_ms: i64,
) -> BlockMeta {
    BlockMeta {
        name,
        level: 0,
        range: summary.range.unwrap_or(TimeRange { start_ms: 0, end_ms: -1 }),
        positions,
        series: summary.series,
        chunks: summary.chunks,
        samples: summary.samples,
        histograms: summary.histograms,
        bytes: summary.bytes,
        created_ms,
        deleted_to: None,
        index_checksum: summary.index_checksum,
        resolution: Resolution::Raw,
    }
}
