//! One partition of entries: a share of all streams, with its head, its manifest and its segments.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{Log, Position, Signal};
use parking_lot::{Mutex, RwLock};

use super::deletion::{Deletion, Deletions};
use super::flush::EntryFreight;
use super::generation::View;
use super::head::EntryHead;
use super::segment::SegmentHandle;
use crate::manifest::{Edit, ManifestStore, PartitionState, SegmentMeta};
use crate::{Error, Storage};

/// A partition takes no more once it has buffered so many times what a flush needs.
const BACKLOG_FLUSHES: u64 = 4;

/// A partition of entries at work.
#[derive(Debug)]
pub(crate) struct EntryPartition {
    pub(crate) number: u16,
    pub(crate) head: RwLock<EntryHead>,
    /// What readers see beside the head, in the order of log positions. Replaced whole, under the
    /// head's lock where rows of the head are in it from then on: a row is seen in one place.
    segments: RwLock<Arc<[Arc<SegmentHandle>]>>,
    /// What of the segments' rows is deleted. Replaced whole, under the head's lock.
    deletions: RwLock<Deletions>,
    /// Segments in which deletions before these positions hide nothing: somebody has looked.
    clean: Mutex<HashMap<String, Position>>,
    pub(crate) losses: EntryLosses,
    /// Held while a flush runs: one at a time.
    pub(crate) flush: tokio::sync::Mutex<EntryFlush>,
    /// Why it no longer takes writes.
    read_only: RwLock<Option<String>>,
    /// What its newest manifest says of the log.
    marks: Mutex<Marks>,
}

/// What of a partition could not be read when it was opened.
#[derive(Debug, Default)]
pub(crate) struct EntryLosses {
    /// Segments that are not whole, and why: questions about their time fail.
    pub(crate) segments: Vec<(SegmentMeta, String)>,
    /// Why nobody knows which segments there are, if so: all questions fail.
    pub(crate) segments_unknown: Option<String>,
    /// Why rows that were acknowledged may be absent from answers, if so.
    pub(crate) incomplete: Option<String>,
    /// Damage that costs nothing, for whoever looks after the disk.
    pub(crate) mended: Vec<String>,
}

/// What only one flush at a time may touch.
#[derive(Debug)]
pub(crate) struct EntryFlush {
    pub(crate) manifest: ManifestStore,
    pub(crate) state: PartitionState,
    /// What has to be stored before anything else is cut.
    pub(crate) freight: Option<EntryFreight>,
    /// Seconds of the monotonic clock at the end of the last one.
    pub(crate) flushed_at: f64,
}

#[derive(Debug, Clone, Copy)]
struct Marks {
    manifest: u64,
    covered: Position,
    needed: Position,
}

impl Marks {
    fn of(state: &PartitionState) -> Self {
        let PartitionState { number: manifest, covered, covered_before: needed, .. } = *state;
        Self { manifest, covered, needed }
    }
}

/// Where entries of a partition are at one moment, and which of them are deleted.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) views: Vec<View>,
    pub(crate) segments: Arc<[Arc<SegmentHandle>]>,
    pub(crate) deletions: Deletions,
}

impl EntryPartition {
    pub(crate) fn new(
        number: u16,
        head: EntryHead,
        segments: Vec<Arc<SegmentHandle>>,
        deletions: Deletions,
        flush: EntryFlush,
        losses: EntryLosses,
    ) -> Self {
        let marks = Mutex::new(Marks::of(&flush.state));
        Self {
            number,
            head: RwLock::new(head),
            segments: RwLock::new(in_order(segments)),
            deletions: RwLock::new(deletions),
            clean: Mutex::default(),
            flush: tokio::sync::Mutex::new(flush),
            read_only: RwLock::new(losses.incomplete.clone()),
            losses,
            marks,
        }
    }

    /// The segments that readers see now.
    pub(crate) fn segments(&self) -> Arc<[Arc<SegmentHandle>]> {
        Arc::clone(&self.segments.read())
    }

    /// Where its entries are, as long as its head is held.
    pub(crate) fn place(&self, head: &EntryHead) -> Place {
        let (views, segments, deletions) = (head.views(), self.segments(), self.deletions());
        Place { views, segments, deletions }
    }

    /// Puts segments in the place of others, at one moment.
    pub(crate) fn replace(&self, removed: &[String], added: Vec<Arc<SegmentHandle>>) {
        let mut segments = self.segments.write();
        let stays = |s: &&Arc<SegmentHandle>| !removed.contains(&s.meta.name);
        let new = |s: &Arc<SegmentHandle>| segments.iter().all(|k| k.meta.name != s.meta.name);
        let added: Vec<_> = added.into_iter().filter(new).collect();
        *segments = in_order(segments.iter().filter(stays).cloned().chain(added).collect());
    }

    /// What of the segments' rows is deleted now.
    pub(crate) fn deletions(&self) -> Deletions {
        self.deletions.read().clone()
    }

    /// Adds a deletion that is in the log. The head is locked: a question sees both without it or
    /// both with it.
    pub(crate) fn bury(&self, deletion: Arc<Deletion>) {
        let mut deletions = self.deletions.write();
        *deletions = deletions.with(deletion);
    }

    /// Forgets deletions that hide nothing any more, once no manifest names them.
    pub(crate) fn drop_deletions(&self, ids: &[u64]) {
        let mut deletions = self.deletions.write();
        *deletions = deletions.without(ids);
    }

    /// Deletions before this position hide nothing in a segment.
    pub(crate) fn deleted_to(&self, segment: &SegmentMeta) -> Position {
        let cleaned = self.clean.lock().get(&segment.name).copied().unwrap_or_default();
        cleaned.max(segment.deleted_to())
    }

    /// Notes that deletions before a position hide nothing in a segment.
    pub(crate) fn note_clean(&self, segment: &str, to: Position) {
        let segments = self.segments();
        let mut clean = self.clean.lock();
        clean.retain(|name, _| segments.iter().any(|s| s.meta.name == *name));
        clean.insert(segment.to_owned(), to);
    }

    /// Fails if a segment that may have entries of a signal and time is not there: an answer
    /// without them would be wrong.
    pub(crate) fn check_segments(
        &self,
        signals: &[Signal],
        (start_ns, end_ns): (i64, i64),
    ) -> Result<(), Error> {
        if let Some(reason) = self.losses.segments_unknown.clone() {
            return Err(Error::Corrupt { what: format!("partition {}", self.number), reason });
        }
        let is_asked = |meta: &SegmentMeta| {
            signals.contains(&meta.signal)
                && meta.range_ns.0 < end_ns
                && meta.range_ns.1 >= start_ns
        };
        match self.losses.segments.iter().find(|(meta, _)| is_asked(meta)) {
            None => Ok(()),
            Some((meta, reason)) => Err(Error::Corrupt {
                what: format!("segment {} of partition {}", meta.name, self.number),
                reason: reason.clone(),
            }),
        }
    }

    /// Notes what its newest manifest says.
    pub(crate) fn note_state(&self, state: &PartitionState) {
        *self.marks.lock() = Marks::of(state);
    }

    /// The number of its newest manifest.
    pub(crate) fn manifest_number(&self) -> u64 {
        self.marks.lock().manifest
    }

    /// Where a restart would begin to replay.
    pub(crate) fn covered(&self) -> Position {
        self.marks.lock().covered
    }

    /// Where the log that it needs begins.
    pub(crate) fn needed(&self) -> Position {
        self.marks.lock().needed
    }

    /// Makes one edit of the manifest. If it may or may not have been made, nobody may go on from
    /// what is known of it: the partition takes no writes any more.
    pub(crate) async fn commit(&self, flush: &mut EntryFlush, edit: Edit) -> Result<(), Error> {
        let committed = flush.manifest.commit(edit).await;
        if let (Err(_), Some(reason)) = (&committed, flush.manifest.broken()) {
            self.make_read_only(&format!("its manifest: {reason}"));
        }
        flush.state = committed?;
        self.note_state(&flush.state);
        Ok(())
    }

    /// Refuses writes from now on; the first reason stays.
    pub(crate) fn make_read_only(&self, reason: &str) {
        let mut read_only = self.read_only.write();
        if read_only.is_none() {
            let partition = self.number;
            tracing::error!(partition, reason, "partition is read-only until restart");
            *read_only = Some(reason.to_owned());
        }
    }

    /// Why it does not take writes, if so.
    pub(crate) fn read_only(&self) -> Option<String> {
        self.read_only.read().clone()
    }

    /// Fails if it does not take writes.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        match self.read_only() {
            None => Ok(()),
            Some(reason) => Err(Error::PartitionReadOnly { partition: self.number, reason }),
        }
    }
}

fn in_order(mut segments: Vec<Arc<SegmentHandle>>) -> Arc<[Arc<SegmentHandle>]> {
    segments.sort_by(|a, b| {
        let key = |s: &SegmentHandle| (s.meta.positions.0, s.meta.range_ns.0);
        key(a).cmp(&key(b)).then_with(|| a.meta.name.cmp(&b.meta.name))
    });
    segments.into()
}

impl Storage {
    /// Bytes of log that a restart would read for a partition.
    pub(crate) fn entry_log_bytes(&self, partition: &EntryPartition) -> u64 {
        self.log.end().0.saturating_sub(partition.covered().0)
    }

    /// Whether a partition has buffered enough for a flush.
    pub(crate) fn has_enough_entries(&self, partition: &EntryPartition, head: &EntryHead) -> bool {
        head.size().open_bytes >= self.config.entries.flush_bytes
            || self.entry_log_bytes(partition) >= self.config.log_flush_bytes()
    }

    /// Fails if too much waits to be flushed: memory, and the log behind it, must not grow without
    /// bound while flushing fails.
    pub(crate) fn check_entries_backlog(
        &self,
        partition: &EntryPartition,
        head: &EntryHead,
    ) -> Result<(), Error> {
        let size = head.size();
        let (bytes, limit) = (
            size.open_bytes + size.frozen_bytes,
            self.config.entries.flush_bytes.saturating_mul(BACKLOG_FLUSHES),
        );
        if bytes < limit {
            return Ok(());
        }
        self.wake.notify_one();
        Err(Error::EntriesBacklog { partition: partition.number, bytes, limit })
    }
}
