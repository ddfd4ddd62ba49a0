//! The queue of one destination: segment files below `forward/<name>/`, written at the end, read
//! from a cursor, the oldest dropped when they are too many (docs/formats/forward.md).
//!
//! ```text
//! append ─► file (page cache) ─► synced, many at a time ─► the write is acknowledged
//!              │
//!              └─► read from the cursor ─► sent ─► cursor moves ─► whole segments go
//! ```
//!
//! Never refuses a row for the sake of forwarding: what cannot be queued is dropped and counted.

mod format;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Disk, DiskFile, OpenMode};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{error, warn};

use format::{Cursor, HEADER_BYTES, has_header, header, name_of, read_record, start_of};
pub(crate) use format::{Record, fuzz};

use super::record::{Counts, inflated_bytes};

/// Length at which a segment is followed by the next, bytes. What was sent is let go in whole
/// segments, and of too much the oldest go so.
const SEGMENT_BYTES: u64 = 16 << 20;

/// After a failed write or sync rows are dropped for so long before another file is tried.
/// Milliseconds.
const FAILED_PAUSE_MS: i64 = 10_000;

/// Some records in order, and where they end.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// With the position of each.
    pub(super) records: Vec<(u64, Record)>,
    pub(super) end: u64,
}

/// How much is read at a time; one record at least.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchMax {
    pub(super) rows: u64,
    /// Of payloads, decompressed.
    pub(super) bytes: usize,
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    /// Rows that wait to be sent.
    pub(super) pending: Counts,
    /// Bytes on disk.
    pub(super) bytes: u64,
    /// Rows dropped because there was no room.
    pub(super) dropped_full: Counts,
    /// Rows dropped because the disk failed or a file was damaged.
    pub(super) dropped_failed: Counts,
    /// Something was not read yet.
    pub(super) has_more: bool,
}

/// The queue of one destination.
#[derive(Debug)]
pub(super) struct Queue {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    /// One waits for a sync for all that was appended before it begins.
    turn: tokio::sync::Mutex<()>,
    /// One sync at a time, also when nobody waits for it any more.
    syncing: Mutex<()>,
    /// Something was appended.
    pub(super) arrived: Notify,
}

#[derive(Debug)]
struct State {
    segments: VecDeque<Segment>,
    /// Where the next record goes: a byte offset in the whole sequence.
    end: u64,
    /// Everything before this is on the disk.
    synced: u64,
    /// Everything before this was sent or given up.
    cursor: u64,
    /// The cursor as it was last written.
    written: Cursor,
    unsynced: Vec<Arc<dyn DiskFile>>,
    /// A file was made since the directory was synced.
    has_new_file: bool,
    /// The next record goes into a new file.
    is_sealed: bool,
    /// When the disk failed last.
    failed_at_ms: Option<i64>,
    dropped_full: Counts,
    dropped_failed: Counts,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    end: u64,
    file: Arc<dyn DiskFile>,
    /// Rows behind the cursor, to be sent.
    pending: Counts,
}

impl Segment {
    fn offset(&self, position: u64) -> u64 {
        HEADER_BYTES + (position - self.start)
    }
}

impl Queue {
    /// Opens the queue of a destination, or begins it. Blocks: what waits is read once.
    pub(super) fn open(disk: Arc<dyn Disk>, name: &str) -> io::Result<Self> {
        Self::with_segments(disk, name, SEGMENT_BYTES)
    }

    fn with_segments(disk: Arc<dyn Disk>, name: &str, segment_bytes: u64) -> io::Result<Self> {
        let dir = Path::new("forward").join(name);
        disk.create_dir_all(&dir)?;
        let state = State::read(&*disk, &dir)?;
        let (state, turn, syncing, arrived) =
            (Mutex::new(state), Default::default(), Mutex::default(), Notify::new());
        let queue = Self { disk, dir, segment_bytes, state, turn, syncing, arrived };
        queue.let_go(&mut queue.state.lock());
        Ok(queue)
    }

    /// Queues a record; what is too old for `bytes_max` goes. Blocks for a write to the page cache.
    pub(super) fn append(&self, record: &Record, bytes_max: u64) {
        let mut state = self.state.lock();
        let paused = state.failed_at_ms.is_some_and(|at_ms| {
            (0..FAILED_PAUSE_MS).contains(&record.at_ms.saturating_sub(at_ms))
        });
        let appended = if paused { Ok(false) } else { self.try_append(&mut state, record) };
        match appended {
            Ok(true) => self.bound(&mut state, bytes_max),
            Ok(false) => state.dropped_failed += record.payload.counts,
            Err(error) => {
                error!(%error, dir = %self.dir.display(), "queue cannot be written: rows to forward are dropped");
                state.fail(record.at_ms);
                state.dropped_failed += record.payload.counts;
            }
        }
        drop(state);
        self.arrived.notify_one();
    }

    fn try_append(&self, state: &mut State, record: &Record) -> io::Result<bool> {
        let bytes = record.encode();
        let is_full = |s: &Segment| s.end - s.start >= self.segment_bytes;
        if state.is_sealed || state.segments.back().is_none_or(is_full) {
            self.begin_segment(state)?;
        }
        let Some(segment) = state.segments.back_mut() else { return Ok(false) };
        segment.file.write_all_at(&bytes, segment.offset(state.end))?;
        segment.end += bytes.len() as u64;
        segment.pending += record.payload.counts;
        state.end = segment.end;
        if state.unsynced.last().is_none_or(|file| !Arc::ptr_eq(file, &segment.file)) {
            state.unsynced.push(Arc::clone(&segment.file));
        }
        state.failed_at_ms = None;
        Ok(true)
    }

    fn begin_segment(&self, state: &mut State) -> io::Result<()> {
        let start = state.end;
        let path = self.dir.join(name_of(start));
        // What a failed write left behind under this name holds nothing.
        if state.segments.back().is_some_and(|last| last.start == start) {
            state.segments.pop_back();
        }
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file: Arc<dyn DiskFile> = Arc::from(self.disk.open(&path, OpenMode::CreateNew)?);
        state.has_new_file = true;
        file.write_all_at(&header(), 0)?;
        state.segments.push_back(Segment { start, end: start, file, pending: Counts::default() });
        state.is_sealed = false;
        Ok(())
    }

    /// Drops the oldest segments, but never the one that is written.
    fn bound(&self, state: &mut State, bytes_max: u64) {
        while state.segments.len() > 1 && state.bytes() > bytes_max {
            let Some(oldest) = state.segments.pop_front() else { return };
            state.dropped_full += oldest.pending;
            state.cursor = state.cursor.max(oldest.end);
            self.remove(oldest.start);
        }
    }

    fn remove(&self, start: u64) {
        let path = self.dir.join(name_of(start));
        if let Err(error) = self.disk.remove(&path) {
            warn!(%error, file = %path.display(), "a queue file stays though it is not needed");
        }
    }

    /// Where the queue ends now, for [`durable`](Self::durable).
    pub(super) fn end(&self) -> u64 {
        self.state.lock().end
    }

    /// Waits until everything before `position` is on disk, or known not to be.
    pub(super) async fn durable(self: &Arc<Self>, position: u64) {
        if self.state.lock().synced >= position {
            return;
        }
        let _turn = self.turn.lock().await;
        if self.state.lock().synced >= position {
            return;
        }
        let this = Arc::clone(self);
        if let Err(error) = tokio::task::spawn_blocking(move || this.sync()).await {
            error!(%error, "a queue was not synced");
        }
    }

    fn sync(&self) {
        let _one = self.syncing.lock();
        let (files, end, has_new_file) = {
            let mut state = self.state.lock();
            let has_new_file = std::mem::take(&mut state.has_new_file);
            (std::mem::take(&mut state.unsynced), state.end, has_new_file)
        };
        let synced = files.iter().try_for_each(|file| file.sync());
        let synced = synced.and_then(|()| match has_new_file {
            true => self.disk.sync_dir(&self.dir),
            false => Ok(()),
        });
        let mut state = self.state.lock();
        state.synced = state.synced.max(end);
        if let Err(error) = synced {
            error!(%error, dir = %self.dir.display(), "queue could not be synced: rows to forward may be lost by a crash");
            // Files that a sync failed for are read and never written again.
            state.is_sealed = true;
            state.has_new_file |= has_new_file;
        }
    }

    /// Records from the cursor on, one at least, until there are enough; none if all was sent.
    /// Blocks.
    pub(super) fn read(&self, max: BatchMax) -> io::Result<Batch> {
        let mut batch = Batch { records: Vec::new(), end: self.state.lock().cursor };
        let (mut rows, mut bytes) = (0, 0);
        while rows < max.rows && bytes < max.bytes {
            let Some((start, file, offset, left)) = self.place_of(batch.end) else { break };
            match read_record(&*file, offset, left)? {
                Some(record) => {
                    rows += record.payload.counts.all();
                    bytes += inflated_bytes(&record.payload);
                    batch.end = start + record.bytes();
                    batch.records.push((start, record));
                }
                // Damaged since it was written: what follows in this file cannot be found.
                None => {
                    error!(position = start, dir = %self.dir.display(), "rest of a damaged queue file is given up");
                    batch.end = start + left;
                }
            }
        }
        Ok(batch)
    }

    /// Where the next record from a position on lies: its position, file, offset there, and how
    /// much follows. Records lie without gaps but for what was dropped.
    fn place_of(&self, position: u64) -> Option<(u64, Arc<dyn DiskFile>, u64, u64)> {
        let state = self.state.lock();
        let segment = state.segments.iter().find(|s| s.end > position && s.end > s.start)?;
        let position = position.max(segment.start);
        let file = Arc::clone(&segment.file);
        Some((position, file, segment.offset(position), segment.end - position))
    }

    /// Moves the cursor behind a batch; segments before it go.
    pub(super) fn sent(&self, batch: &Batch) {
        let mut state = self.state.lock();
        if batch.end <= state.cursor {
            return;
        }
        for (position, record) in &batch.records {
            let holds = |s: &&mut Segment| (s.start..s.end).contains(position);
            if let Some(segment) = state.segments.iter_mut().find(holds) {
                segment.pending -= record.payload.counts;
            }
        }
        state.cursor = batch.end;
        self.let_go(&mut state);
    }

    /// Lets go of segments before the cursor. Rows that were never read out of them are lost.
    fn let_go(&self, state: &mut State) {
        while state.segments.len() > 1 && state.segments[0].end <= state.cursor {
            let Some(done) = state.segments.pop_front() else { return };
            state.dropped_failed += done.pending;
            self.remove(done.start);
        }
    }

    /// Writes the cursor down, if it moved: a restart goes on from there. Not synced: after a power
    /// failure a little is sent twice. Blocks.
    pub(super) fn keep_cursor(&self) {
        let cursor = {
            let state = self.state.lock();
            if state.cursor == state.written.position {
                return;
            }
            Cursor { position: state.cursor, count: state.written.count + 1 }
        };
        match cursor.write(&*self.disk, &self.dir) {
            Ok(()) => self.state.lock().written = cursor,
            Err(error) => warn!(%error, "the cursor of a queue was not written"),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let state = self.state.lock();
        Totals {
            pending: state.segments.iter().map(|segment| segment.pending).sum(),
            bytes: state.bytes(),
            dropped_full: state.dropped_full,
            dropped_failed: state.dropped_failed,
            has_more: state.cursor < state.end,
        }
    }
}

impl State {
    /// What is on disk. A torn end is cut off, what was sent is not looked at.
    fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let mut starts: Vec<u64> =
            disk.list(dir)?.iter().filter_map(|entry| start_of(&entry.name)).collect();
        starts.sort_unstable();
        let written = Cursor::read(disk, dir)?;
        let mut state = Self {
            segments: VecDeque::new(),
            end: 0,
            synced: 0,
            cursor: written.position,
            written,
            unsynced: Vec::new(),
            has_new_file: false,
            is_sealed: true,
            failed_at_ms: None,
            dropped_full: Counts::default(),
            dropped_failed: Counts::default(),
        };
        for (i, start) in starts.iter().copied().enumerate() {
            let path = dir.join(name_of(start));
            let next = starts.get(i + 1).copied();
            if next.is_some_and(|next| next <= state.cursor) {
                disk.remove(&path)?;
                continue;
            }
            let file: Arc<dyn DiskFile> = Arc::from(disk.open(&path, OpenMode::Write)?);
            let bytes_max = next.map_or(u64::MAX, |next| next - start);
            match scan(&*file, (start, bytes_max), state.cursor)? {
                Some((end, pending)) => {
                    state.end = state.end.max(end);
                    state.segments.push_back(Segment { start, end, file, pending });
                }
                None => {
                    // A crash while it was made: nothing in it was acknowledged.
                    warn!(file = %path.display(), "removed a queue file without a sound header");
                    disk.remove(&path)?;
                    state.end = state.end.max(start);
                }
            }
        }
        // A cursor behind the end was ahead of what a power failure left: positions are never used
        // twice, so that it stays true.
        state.end = state.end.max(state.cursor);
        state.synced = state.end;
        let first = state.segments.front().map_or(state.end, |segment| segment.start);
        state.cursor = state.cursor.clamp(first, state.end);
        Ok(state)
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.end - s.start).sum()
    }

    /// The file is not written again; another is tried some time later.
    fn fail(&mut self, at_ms: i64) {
        self.failed_at_ms = Some(at_ms);
        self.is_sealed = true;
    }
}

/// Where the sound records of a file end, and how many of its rows are behind the cursor; a torn
/// end is cut off, and so is what lies where the next file begins: its write failed. `None`: no
/// sound header.
fn scan(
    file: &dyn DiskFile,
    (start, bytes_max): (u64, u64),
    cursor: u64,
) -> io::Result<Option<(u64, Counts)>> {
    let length = file.bytes()?;
    if !has_header(file, length)? {
        return Ok(None);
    }
    let (mut offset, mut pending) = (HEADER_BYTES, Counts::default());
    let end = length.min(bytes_max.saturating_add(HEADER_BYTES));
    while let Some(record) = read_record(file, offset, end - offset)? {
        if start + (offset - HEADER_BYTES) >= cursor {
            pending += record.payload.counts;
        }
        offset += record.bytes();
    }
    if offset < length {
        warn!(bytes = length - offset, "cut a half-written record off a queue file");
        file.truncate(offset)?;
    }
    Ok(Some((start + (offset - HEADER_BYTES), pending)))
}

#[cfg(test)]
mod tests;
