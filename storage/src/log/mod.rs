//! The local log: one sequence of preallocated files, a checksum for every record, group commit.
//!
//! ```text
//! append ─► pending ─► commit thread: write, sync ─► wait returns
//! open:  segments ─► replay (torn tail cut, damage reported) ─► repair ─► append goes on
//! ```
//!
//! Invariants: `wait` returns once the record is on disk, and not before; the order of positions
//! is the order of `append`; after a failed write or sync nothing is accepted until restart, but
//! for a write that had no room on the disk, which is done once there is some; what was never synced is cut silently, what was synced and is damaged is always reported.
//! Byte layout: `docs/formats/log.md`.

mod commit;
mod format;
mod inspect;
mod quarantine;
mod recovery;
mod scan;
mod segments;
#[cfg(test)]
mod tests;
mod window;
mod write;

use std::fmt;
use std::future::{Future, ready};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use model::{Disk, Log, LogError, Position, Record};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::Error;
use commit::{Progress, Shared, Start};
use format::{RECORD_BYTES_MAX, RecordHeader};
use write::Active;

pub use inspect::{Entry, SegmentFacts, read_segment};
pub use quarantine::{Report, quarantine};
pub use recovery::{Damage, Recovery};

/// Reads all that a start would read, and changes nothing. Blocks.
pub(crate) fn replay_only(
    disk: &dyn Disk,
    from: Position,
    visit: &mut dyn FnMut(Found<'_>),
) -> Result<Recovery, Error> {
    Ok(recovery::replay(disk, from.0, visit)?.recovery)
}

/// Bytes of all segment files, what is reserved included.
pub(crate) fn segments_bytes(disk: &dyn Disk) -> Result<u64, Error> {
    let doing = "list the log's segments".to_owned();
    match disk.list(Path::new(segments::DIR)) {
        Ok(entries) => Ok(entries.iter().map(|e| e.bytes).sum()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(Error::Disk { doing, source }),
    }
}

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Length of one segment file in bytes, reserved when it is made. Whole files are deleted, so
    /// shorter ones give space back sooner; each costs two syncs more.
    pub segment_bytes: u64,
    /// Bytes that may wait to be written before `append` blocks.
    pub pending_bytes_max: u64,
    /// Bytes that must stay free on the disk: below, writes are refused, so that what was
    /// accepted can still be flushed.
    pub reserve_bytes: u64,
    /// Whether to sync. Off, a power cut loses acknowledged writes: for tests that prove this.
    pub fsync: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            pending_bytes_max: 64 << 20,
            reserve_bytes: 2 << 30,
            fsync: true,
        }
    }
}

/// Which part of the log a start needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replay {
    /// The lowest position any partition still needs.
    pub from: Position,
    /// The highest position any manifest calls covered. New records stand at or after it, even
    /// where the log's own end was lost: a replay would skip them otherwise.
    pub floor: Position,
}

/// What a replay finds, in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// A record.
    Record(Position, Record<'a>),
    /// Records were here once: damaged now, or given up by [`quarantine`].
    Gap {
        /// The partition they were of; `None` if that cannot be told: it may be any.
        partition: Option<u16>,
        /// Position after them.
        end: Position,
    },
}

/// The log in files of a [`Disk`].
pub struct LocalLog {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LocalLog {
    /// Hands every record at or after `replay.from` to `visit`, in order, then opens the log for
    /// more. Blocks.
    ///
    /// Damage does not stop it: `visit` is told in its place, later records are still handed over,
    /// and the caller makes the partitions named in [`Recovery::damaged`] read-only.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: Config,
        replay: Replay,
        visit: &mut dyn FnMut(Found<'_>),
    ) -> Result<(Self, Recovery), Error> {
        let mut replayed = recovery::replay(disk.as_ref(), replay.from.0, visit)?;
        let repaired = recovery::repair(disk.as_ref(), &mut replayed, &config);
        let tail = match recovery::readable(repaired)? {
            Ok(tail) => tail,
            Err(reason) => {
                replayed.recovery.damaged.push(recovery::unwritable(&replayed, reason));
                None
            }
        };
        let (start, active) = match tail {
            Some(tail) => (
                Start { end: tail.end, floor: replay.floor.0, segment_limit: tail.limit },
                Active { start: tail.start, end: tail.end, file: Some(tail.file) },
            ),
            None => {
                let end = replay.floor.max(replay.from).0;
                (
                    Start { end, floor: end, segment_limit: 0 },
                    Active { start: end, end, file: None },
                )
            }
        };
        let recovery = Recovery { end: Position(start.end), ..replayed.recovery };
        let shared = Arc::new(Shared::new(disk, config, start, replayed.segments));
        shared.check_space();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log-commit".to_owned())
            .spawn(move || of_thread.run(active));
        let thread = thread.map_err(|source| Error::Disk {
            doing: "start the log's commit thread".to_owned(),
            source,
        })?;
        Ok((Self { shared, thread: Mutex::new(Some(thread)) }, recovery))
    }

    /// Whether there is anything of a log. Blocks.
    pub fn exists(disk: &dyn Disk) -> Result<bool, Error> {
        Ok(!segments::list(disk)?.is_empty())
    }

    /// Makes the log of a data directory that had none begin at a position, so that everything
    /// before counts as covered. What a start before this one began is begun anew. Blocks.
    pub fn begin_at(disk: &dyn Disk, start: Position, config: &Config) -> Result<(), Error> {
        recovery::begin_at(disk, start.0, config)
    }

    /// Makes everything appended durable and ends the commit thread. Later appends fail.
    pub fn close(&self) -> Result<(), LogError> {
        let Some(thread) = self.thread.lock().take() else { return Ok(()) };
        let end = self.shared.close();
        // The thread turns errors of the disk into a read-only log; it does not panic.
        drop(thread.join());
        if self.shared.durable() >= end { Ok(()) } else { self.shared.check_writable() }
    }

    /// Looks at the free space now; it is looked at every second anyway.
    pub fn look_at_disk(&self) {
        self.shared.check_space();
        self.shared.try_again();
    }

    /// The position of what was appended last, if it is not durable yet.
    pub fn not_durable(&self) -> Option<Position> {
        let end = self.shared.appended();
        (end > self.shared.durable()).then(|| Position(end - 1))
    }

    /// What the log is doing, for metrics.
    pub fn status(&self) -> Status {
        let segments = self.shared.segments.lock();
        let first = segments.first().copied();
        let count = segments.len() as u64;
        drop(segments);
        let end = self.shared.end();
        Status {
            end: Position(end),
            durable: Position(self.shared.durable()),
            segments: count,
            bytes: first.map_or(0, |first| end - first),
            free_bytes: self.shared.free_bytes(),
            syncs: self.shared.syncs(),
        }
    }
}

/// Figures of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Position after the last record.
    pub end: Position,
    /// Everything before this is durable.
    pub durable: Position,
    /// Segment files.
    pub segments: u64,
    /// Bytes from the first record to the last.
    pub bytes: u64,
    /// Free bytes of the disk, at most a second or so ago.
    pub free_bytes: u64,
    /// Syncs of segments since the log was opened.
    pub syncs: u64,
}

impl Log for LocalLog {
    fn append(&self, record: Record<'_>) -> Result<Position, LogError> {
        if record.payload.len() > RECORD_BYTES_MAX {
            return Err(LogError::TooLarge {
                bytes: record.payload.len(),
                limit_bytes: RECORD_BYTES_MAX,
            });
        }
        // The checksum of the payload is computed before the lock is taken.
        let header = RecordHeader::of(&record);
        self.shared.append(header, record.payload).map(Position)
    }

    fn wait(
        &self,
        position: Position,
    ) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + '_>> {
        if self.shared.durable() > position.0 {
            return Box::pin(ready(Ok(())));
        }
        Box::pin(async move {
            let mut progress = self.shared.subscribe();
            let is_decided = |p: &Progress| {
                p.durable > position.0 || p.readonly.is_some() || p.no_room.is_some()
            };
            match progress.wait_for(is_decided).await.as_deref() {
                Ok(progress) if progress.durable > position.0 => Ok(()),
                Ok(Progress { readonly: None, no_room: Some(reason), .. }) => {
                    Err(LogError::NoRoom(reason.to_string()))
                }
                Ok(progress) => Err(LogError::ReadOnly(
                    progress.readonly.as_deref().unwrap_or_default().to_owned(),
                )),
                Err(_) => Err(LogError::ReadOnly("it was closed".to_owned())),
            }
        })
    }

    fn ready(&self) -> Result<(), LogError> {
        self.shared.check_writable()?;
        self.shared.check_room()?;
        let (free_bytes, reserve_bytes) =
            (self.shared.free_bytes(), self.shared.config.reserve_bytes);
        if free_bytes < reserve_bytes {
            return Err(LogError::DiskFull { free_bytes, reserve_bytes });
        }
        Ok(())
    }

    fn end(&self) -> Position {
        Position(self.shared.end())
    }

    /// Removes whole segments. One that cannot be removed is tried again next time.
    fn trim(&self, before: Position) -> Result<(), LogError> {
        while let Some(start) = self.shared.first_before(before.0) {
            if let Err(error) = self.shared.disk.remove(&segments::path_of(start))
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(segment = start, %error, "log segment could not be removed");
                break;
            }
            self.shared.segments.lock().retain(|segment| *segment != start);
        }
        if let Err(error) = self.shared.disk.sync_dir(Path::new(segments::DIR)) {
            tracing::warn!(%error, "removal of log segments could not be synced");
        }
        Ok(())
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl fmt::Debug for LocalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLog").field("status", &self.status()).finish_non_exhaustive()
    }
}
