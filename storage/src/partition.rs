//! One partition: a share of all series, with its head, its manifest and its blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::{Position, Resolution, TimeRange};
use object_store::ObjectStore;
use parking_lot::{Mutex, RwLock};

use crate::Error;
use crate::block::{BlockCache, BlockHandle};
use crate::compact::order_of;
use crate::flush::Freight;
use crate::head::{Head, HeadCounts, Payloads};
use crate::manifest::{BlockMeta, Edit, ManifestStore, PartitionState};
use crate::tombstone::{Tombstone, Tombstones};

/// A partition at work.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) number: u16,
    pub(crate) head: RwLock<Head>,
    /// What readers see beside the head. Replaced whole; taken after the head was looked at, so
    /// that rows on their way from head to block are seen at least once.
    blocks: RwLock<Blocks>,
    /// What was deleted and may still be in blocks. Changed under the head's lock, so that whoever
    /// holds that sees both as they belong together; taken before the blocks are, since one is
    /// dropped only after the blocks it concerns.
    tombstones: RwLock<Arc<Tombstones>>,
    /// Whether rows were deleted since the last snapshot: what that says of their series is wrong.
    deleted: AtomicBool,
    losses: Losses,
    /// Held while a flush runs: one at a time.
    pub(crate) flush: tokio::sync::Mutex<FlushState>,
    /// Why it no longer takes writes.
    read_only: RwLock<Option<String>>,
    /// How often metadata changed since the last flush before the start.
    metadata_changes: AtomicU64,
    /// What its newest manifest says of the log.
    marks: Mutex<Marks>,
}

/// The newest manifest of a partition, and what of the log it does without.
#[derive(Debug, Clone, Copy)]
struct Marks {
    manifest: u64,
    /// Position from which a restart would replay.
    covered: Position,
    /// Position from which the log is kept: from here it makes up for the newest manifest.
    needed: Position,
}

impl Marks {
    fn of(state: &PartitionState) -> Self {
        let PartitionState { number: manifest, covered, covered_before: needed, .. } = *state;
        Self { manifest, covered, needed }
    }
}

/// What of a partition could not be read when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Blocks that the manifest names and that are not whole, and why: questions about their time
    /// fail.
    pub(crate) blocks: Vec<(BlockMeta, String)>,
    /// Why rows that were acknowledged may be absent from answers, if so.
    pub(crate) incomplete: Option<String>,
    /// Why nobody knows which blocks there are and what of them was deleted, if so: questions
    /// that blocks may answer fail.
    pub(crate) blocks_unknown: Option<String>,
    /// Damage that costs nothing, for whoever looks after the disk.
    pub(crate) mended: Vec<String>,
}

/// A block of a manifest. What it holds is read when a question needs it.
#[derive(Debug, Clone)]
pub(crate) struct StoredBlock {
    pub(crate) meta: BlockMeta,
    pub(crate) block: Arc<BlockHandle>,
}

impl StoredBlock {
    pub(crate) fn new(
        meta: BlockMeta,
        objects: &Arc<dyn ObjectStore>,
        cache: &Arc<BlockCache>,
    ) -> Self {
        let block = BlockHandle::named(Arc::clone(objects), &meta, Arc::clone(cache));
        Self { meta, block }
    }
}

/// What readers see beside the head: rows as they came, and windows.
#[derive(Debug, Clone)]
struct Blocks {
    rows: Arc<[StoredBlock]>,
    windows: Arc<[StoredBlock]>,
}

impl Blocks {
    fn new(all: Vec<StoredBlock>) -> Self {
        let (rows, windows) = all.into_iter().partition(|b| b.meta.resolution == Resolution::Raw);
        Self { rows: in_order(rows), windows: in_order(windows) }
    }

    fn iter(&self) -> impl Iterator<Item = &StoredBlock> {
        self.rows.iter().chain(self.windows.iter())
    }
}

/// In order of log positions: of two samples at one instant readers keep that of the first block.
fn in_order(mut blocks: Vec<StoredBlock>) -> Arc<[StoredBlock]> {
    blocks.sort_by(|a, b| order_of(&a.meta).cmp(&order_of(&b.meta)));
    blocks.into()
}

/// What only flushes, and merges at their end, touch.
#[derive(Debug)]
pub(crate) struct FlushState {
    pub(crate) manifest: ManifestStore,
    pub(crate) state: PartitionState,
    /// Head series the stored snapshots hold.
    pub(crate) snapshot_series: u32,
    /// How often metadata had changed when the last snapshot was stored.
    pub(crate) saved_metadata: u64,
    /// Monotonic seconds of the last flush, or of the start.
    pub(crate) flushed_at: f64,
    /// What was cut off the head and has not arrived yet.
    pub(crate) freight: Option<Freight>,
}

impl Partition {
    pub(crate) fn new(
        number: u16,
        head: Head,
        blocks: Vec<StoredBlock>,
        losses: Losses,
        flush: FlushState,
        metadata_changes: u64,
        tombstones: Tombstones,
    ) -> Self {
        Self {
            number,
            tombstones: RwLock::new(Arc::new(tombstones)),
            deleted: AtomicBool::new(false),
            losses,
            head: RwLock::new(head),
            blocks: RwLock::new(Blocks::new(blocks)),
            marks: Mutex::new(Marks::of(&flush.state)),
            flush: tokio::sync::Mutex::new(flush),
            read_only: RwLock::new(None),
            metadata_changes: AtomicU64::new(metadata_changes),
        }
    }

    /// How much the head holds.
    pub(crate) fn counts(&self) -> HeadCounts {
        self.head.read().counts()
    }

    /// Fails if a block that may have rows of a resolution in a range is not there: an answer
    /// without them would be wrong.
    pub(crate) fn check_blocks(
        &self,
        range: TimeRange,
        resolution: Resolution,
    ) -> Result<(), Error> {
        if let Some(reason) = &self.losses.blocks_unknown {
            return Err(Error::Corrupt {
                what: format!("partition {}", self.number),
                reason: reason.clone(),
            });
        }
        let is_asked =
            |meta: &BlockMeta| meta.resolution == resolution && meta.range.overlaps(range);
        match self.losses.blocks.iter().find(|(meta, _)| is_asked(meta)) {
            None => Ok(()),
            Some((meta, reason)) => Err(Error::Corrupt {
                what: format!("block {} of partition {}", meta.name, self.number),
                reason: reason.clone(),
            }),
        }
    }

    /// What could not be read when it was opened.
    pub(crate) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// The blocks of rows as they came that readers see now.
    pub(crate) fn blocks(&self) -> Arc<[StoredBlock]> {
        Arc::clone(&self.blocks.read().rows)
    }

    /// The blocks of windows that readers see now.
    pub(crate) fn windows(&self) -> Arc<[StoredBlock]> {
        Arc::clone(&self.blocks.read().windows)
    }

    /// All blocks there are now.
    pub(crate) fn all_blocks(&self) -> impl Iterator<Item = StoredBlock> + use<> {
        let all: Vec<StoredBlock> = self.blocks.read().iter().cloned().collect();
        all.into_iter()
    }

    /// Makes one edit of the manifest. If it may or may not have been made, nobody may go on from
    /// what is known of it: the partition takes no writes any more.
    pub(crate) async fn commit(&self, flush: &mut FlushState, edit: Edit) -> Result<(), Error> {
        let committed = flush.manifest.commit(edit).await;
        if let (Err(_), Some(reason)) = (&committed, flush.manifest.broken()) {
            self.make_read_only(&format!("its manifest: {reason}"));
        }
        flush.state = committed?;
        self.note_state(&flush.state);
        Ok(())
    }

    /// Notes what its newest manifest says.
    pub(crate) fn note_state(&self, state: &PartitionState) {
        *self.marks.lock() = Marks::of(state);
    }

    /// What was deleted and may still be in blocks.
    pub(crate) fn tombstones(&self) -> Arc<Tombstones> {
        Arc::clone(&self.tombstones.read())
    }

    /// Adds a tombstone that is in the log.
    pub(crate) fn bury(&self, tombstone: Arc<Tombstone>) {
        let mut tombstones = self.tombstones.write();
        *tombstones = Arc::new(Tombstones::clone(&tombstones).with(tombstone));
        self.deleted.store(true, Ordering::Relaxed);
    }

    /// Whether rows were deleted since this was last asked. Asked under the head's lock.
    pub(crate) fn take_deleted(&self) -> bool {
        self.deleted.swap(false, Ordering::Relaxed)
    }

    /// Forgets tombstones that hide nothing any more, once no manifest names them.
    pub(crate) fn drop_tombstones(&self, ids: &[u64]) {
        let mut tombstones = self.tombstones.write();
        *tombstones = Arc::new(Tombstones::clone(&tombstones).without(ids));
    }

    /// Adds a block that a manifest names.
    pub(crate) fn publish(&self, block: StoredBlock) {
        self.replace(&[], vec![block]);
    }

    /// Puts blocks in the place of others, at one moment.
    pub(crate) fn replace(&self, removed: &[String], added: Vec<StoredBlock>) {
        let mut blocks = self.blocks.write();
        let stay = |b: &&StoredBlock| !removed.contains(&b.meta.name);
        let all = blocks.iter().filter(stay).cloned().chain(added);
        *blocks = Blocks::new(all.collect());
    }

    /// Notes that tombstones before a position hide nothing in a block.
    pub(crate) fn note_clean(&self, name: &str, deleted_to: Position) {
        let mut blocks = self.blocks.write();
        let clean = |stored: &StoredBlock| match stored.meta.name == name {
            true => {
                let meta = BlockMeta { deleted_to: Some(deleted_to), ..stored.meta.clone() };
                StoredBlock { meta, ..stored.clone() }
            }
            false => stored.clone(),
        };
        *blocks = Blocks::new(blocks.iter().map(clean).collect());
    }

    /// What manifests say of the blocks of rows as they came that could not be opened.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = &BlockMeta> {
        let rows = |meta: &&BlockMeta| meta.resolution == Resolution::Raw;
        self.losses.blocks.iter().map(|(meta, _)| meta).filter(rows)
    }

    /// Counts a change of metadata, which the next snapshot must hold.
    pub(crate) fn note_metadata(&self, payloads: &Payloads) {
        if !payloads.is_empty() {
            self.note_metadata_change();
        }
    }

    /// Counts a change of metadata, which the next snapshot must hold.
    pub(crate) fn note_metadata_change(&self) {
        self.metadata_changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often metadata changed since the start.
    pub(crate) fn metadata_changes(&self) -> u64 {
        self.metadata_changes.load(Ordering::Relaxed)
    }

    /// Where a restart would begin to replay.
    pub(crate) fn covered(&self) -> Position {
        self.marks.lock().covered
    }

    /// Where the log that it needs begins.
    pub(crate) fn needed(&self) -> Position {
        self.marks.lock().needed
    }

    /// The number of its newest manifest.
    pub(crate) fn manifest_number(&self) -> u64 {
        self.marks.lock().manifest
    }

    /// Refuses writes from now on; the first reason stays.
    pub(crate) fn make_read_only(&self, reason: &str) {
        let mut read_only = self.read_only.write();
        if read_only.is_none() {
            tracing::error!(
                partition = self.number,
                reason,
                "partition is read-only until restart"
            );
            *read_only = Some(reason.to_owned());
        }
    }

    /// Why it does not take writes, if so.
    pub(crate) fn read_only(&self) -> Option<String> {
        self.read_only.read().clone()
    }

    /// Fails if it does not take writes.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        match &*self.read_only.read() {
            None => Ok(()),
            Some(reason) => {
                Err(Error::PartitionReadOnly { partition: self.number, reason: reason.clone() })
            }
        }
    }
}
