//! Group commit: one thread writes and syncs whatever was appended while it was busy.
//!
//! ```text
//! append ─► Pending (short lock) ─► commit thread: write ─► sync ─► publish ─► waiters
//! ```
//!
//! There is no timer: the next batch gathers while the last one is synced. An error of the disk
//! ends the thread and the log stays read-only: after a failed sync nobody knows what is on disk.
//! Only a disk without room for a write is waited for: what was not written can be written again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::{Disk, LogError};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::Config;
use super::format::{ALIGNMENT, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::write::{Active, Batch, Failure, Roll};

/// How often free space is looked at, and a write tried again for which there was none.
const SPACE_CHECK_EVERY: Duration = Duration::from_secs(1);

/// A buffer that grew beyond this is given back after use.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

/// What appenders, waiters and the commit thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) disk: Arc<dyn Disk>,
    pending: Mutex<Pending>,
    /// Something is pending, or the log closes.
    work: Condvar,
    /// Pending bytes were taken.
    room: Condvar,
    /// Everything before this is durable.
    durable: AtomicU64,
    is_readonly: AtomicBool,
    has_no_room: AtomicBool,
    progress: watch::Sender<Progress>,
    free_bytes: AtomicU64,
    syncs: AtomicU64,
    /// Segments that are complete or being written, ascending.
    pub(super) segments: Mutex<Vec<u64>>,
}

/// What waiters wait for.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) durable: u64,
    /// Why nothing more will become durable.
    pub(super) readonly: Option<Arc<str>>,
    /// What has no room on the disk at the moment.
    pub(super) no_room: Option<Arc<str>>,
}

/// What was appended and not taken yet.
#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    /// Places in `bytes` where a new segment begins.
    rolls: Vec<Roll>,
    /// Position after the last record.
    end: u64,
    /// The next record stands at this position or later.
    floor: u64,
    segment_limit: u64,
    closing: bool,
}

/// Where a log begins to be appended to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) end: u64,
    pub(super) floor: u64,
    /// Position at which the active segment is full; 0 if there is none.
    pub(super) segment_limit: u64,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        config: Config,
        start: Start,
        segments: Vec<u64>,
    ) -> Self {
        // Nothing fits before the floor: the first record begins a new segment there.
        let segment_limit = if start.end < start.floor { 0 } else { start.segment_limit };
        let Start { end, floor, .. } = start;
        let pending = Pending {
            bytes: Vec::new(),
            rolls: Vec::new(),
            end,
            floor,
            segment_limit,
            closing: false,
        };
        Self {
            config,
            disk,
            pending: Mutex::new(pending),
            work: Condvar::new(),
            room: Condvar::new(),
            durable: AtomicU64::new(end),
            is_readonly: AtomicBool::new(false),
            has_no_room: AtomicBool::new(false),
            progress: watch::Sender::new(Progress { durable: end, ..Progress::default() }),
            free_bytes: AtomicU64::new(u64::MAX),
            syncs: AtomicU64::new(0),
            segments: Mutex::new(segments),
        }
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn end(&self) -> u64 {
        let pending = self.pending.lock();
        pending.end.max(pending.floor)
    }

    /// Position after the last record.
    pub(super) fn appended(&self) -> u64 {
        self.pending.lock().end
    }

    /// Fails if nothing more can be written until restart.
    pub(super) fn check_writable(&self) -> Result<(), LogError> {
        if !self.is_readonly.load(Ordering::Acquire) {
            return Ok(());
        }
        let reason =
            self.progress.borrow().readonly.as_deref().unwrap_or("it was closed").to_owned();
        Err(LogError::ReadOnly(reason))
    }

    /// Fails while what was appended before waits for room on the disk.
    pub(super) fn check_room(&self) -> Result<(), LogError> {
        if !self.has_no_room.load(Ordering::Acquire) {
            return Ok(());
        }
        match &self.progress.borrow().no_room {
            Some(reason) => Err(LogError::NoRoom(reason.to_string())),
            None => Ok(()),
        }
    }

    /// Puts a record behind the others and gives its position. While the disk has no room it does
    /// not wait for any here: nobody new is let in then, and the others have to come to an end.
    pub(super) fn append(&self, mut header: RecordHeader, payload: &[u8]) -> Result<u64, LogError> {
        let bytes = header.record_bytes();
        let mut pending = self.pending.lock();
        while !pending.bytes.is_empty()
            && !self.has_no_room.load(Ordering::Acquire)
            && pending.bytes.len() as u64 + bytes > self.config.pending_bytes_max
        {
            self.check_writable()?;
            self.room.wait(&mut pending);
        }
        self.check_writable()?;
        if pending.end + bytes > pending.segment_limit {
            pending.begin_segment(self.config.segment_bytes.max(SEGMENT_HEADER_BYTES + bytes));
        }
        let position = pending.end;
        header.position = position;
        header.durable = self.durable();
        let length = pending.bytes.len() + bytes as usize;
        pending.bytes.extend_from_slice(&header.encode());
        pending.bytes.extend_from_slice(payload);
        pending.bytes.resize(length, 0);
        pending.end += bytes;
        drop(pending);
        self.work.notify_one();
        Ok(position)
    }

    /// Lets the commit thread finish what is pending and end; gives the position it will reach.
    pub(super) fn close(&self) -> u64 {
        let mut pending = self.pending.lock();
        pending.closing = true;
        let end = pending.end;
        drop(pending);
        self.work.notify_one();
        end
    }

    /// Syncs of segments so far.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(super) fn note_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    /// Has a write be tried again for which there was no room.
    pub(super) fn try_again(&self) {
        drop(self.pending.lock());
        self.work.notify_one();
    }

    /// The first segment, if all of it lies before a position and another one follows.
    pub(super) fn first_before(&self, position: u64) -> Option<u64> {
        match self.segments.lock().as_slice() {
            [first, second, ..] if *second <= position => Some(*first),
            _ => None,
        }
    }

    /// Nothing more is accepted; whoever waits for it hears why.
    fn make_readonly(&self, reason: &str) {
        self.progress.send_modify(|progress| {
            progress.readonly.get_or_insert_with(|| reason.into());
            // Before anybody is told: whoever hears of it finds writes refused.
            self.is_readonly.store(true, Ordering::Release);
        });
        // Under the lock: an appender is either before its check or already waits.
        drop(self.pending.lock());
        self.room.notify_all();
    }

    /// What cannot be written for want of room, or that it could.
    fn note_room(&self, no_room: Option<Arc<str>>) {
        let has_no_room = no_room.is_some();
        self.progress.send_modify(|progress| {
            progress.no_room = no_room;
            self.has_no_room.store(has_no_room, Ordering::Release);
        });
        // As above: whoever waits for room here learns of it.
        drop(self.pending.lock());
        self.room.notify_all();
    }

    pub(super) fn publish(&self, durable: u64) {
        self.durable.store(durable, Ordering::Release);
        self.progress.send_modify(|progress| progress.durable = durable);
    }

    pub(super) fn check_space(&self) {
        match self.disk.free_bytes() {
            Ok(free) => self.free_bytes.store(free, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "free space of the log's disk is unknown"),
        }
    }

    /// Waits for work; `None` once the log closes and nothing is left. Looks at the disk's free
    /// space at most every so often, busy or not.
    fn take(&self, spare: Vec<u8>, space_checked: &mut Instant) -> Option<Batch> {
        loop {
            if space_checked.elapsed() >= SPACE_CHECK_EVERY {
                self.check_space();
                *space_checked = Instant::now();
            }
            let mut pending = self.pending.lock();
            if pending.bytes.is_empty() && !pending.closing {
                self.work.wait_for(&mut pending, SPACE_CHECK_EVERY);
            }
            if !pending.bytes.is_empty() {
                let bytes = std::mem::replace(&mut pending.bytes, spare);
                let rolls = std::mem::take(&mut pending.rolls);
                drop(pending);
                self.room.notify_all();
                return Some(Batch::new(bytes, rolls));
            }
            if pending.closing {
                return None;
            }
        }
    }

    /// Waits before a write is tried again; says whether the log is to be closed.
    fn wait_for_room(&self) -> bool {
        let mut pending = self.pending.lock();
        if !pending.closing {
            self.work.wait_for(&mut pending, SPACE_CHECK_EVERY);
        }
        let closing = pending.closing;
        drop(pending);
        self.check_space();
        closing
    }

    /// Makes a batch durable. As long as the disk has no room for it, it is tried again and again,
    /// once more when the log closes.
    fn commit_when_there_is_room(
        &self,
        active: &mut Active,
        batch: &mut Batch,
    ) -> Result<(), Failure> {
        let mut is_last = false;
        loop {
            let failure = match self.commit(active, batch) {
                Ok(()) => break,
                Err(failure) if failure.is_for_want_of_room && !is_last => failure,
                Err(failure) => return Err(failure),
            };
            if self.check_room().is_ok() {
                let Failure { segment, doing, source, .. } = &failure;
                tracing::error!(error = %source, doing, segment, "no room for the log; writes are refused until there is");
                self.note_room(Some(
                    format!("{doing} of log segment {segment:020} failed: {source}").into(),
                ));
            }
            is_last = self.wait_for_room();
        }
        if self.check_room().is_err() {
            tracing::info!(segment = active.start, "room for the log again; writes are taken");
            self.note_room(None);
        }
        Ok(())
    }

    /// The commit thread.
    pub(super) fn run(&self, mut active: Active) {
        let _ends = ReadonlyOnDrop(self);
        let (mut spare, mut space_checked) = (Vec::new(), Instant::now());
        while let Some(mut batch) = self.take(std::mem::take(&mut spare), &mut space_checked) {
            let committed = self.commit_when_there_is_room(&mut active, &mut batch);
            if let Err(Failure { segment, doing, source, .. }) = committed {
                tracing::error!(error = %source, doing, segment, "log is read-only until restart");
                self.make_readonly(&format!(
                    "{doing} of log segment {segment:020} failed: {source}"
                ));
                return;
            }
            spare = batch.bytes;
            spare.clear();
            spare.shrink_to(BUFFER_KEPT_BYTES);
        }
    }
}

impl Pending {
    /// Begins a segment of so many bytes at the end, or at the floor if that lies further on.
    fn begin_segment(&mut self, bytes: u64) {
        let start = self.end.max(self.floor).next_multiple_of(ALIGNMENT);
        self.rolls.push(Roll { at: self.bytes.len(), start, bytes });
        let header = SegmentHeader { start, previous_end: self.end, gap_accepted: false };
        self.bytes.extend_from_slice(&header.encode());
        self.end = start + SEGMENT_HEADER_BYTES;
        self.segment_limit = start + bytes;
    }
}

/// Whatever ends the commit thread, nobody waits for it in vain.
struct ReadonlyOnDrop<'a>(&'a Shared);

impl Drop for ReadonlyOnDrop<'_> {
    fn drop(&mut self) {
        self.0.make_readonly("it was closed");
    }
}
