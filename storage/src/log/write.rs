//! One batch of records onto the disk: segment by segment, each synced before the next is begun.
//!
//! A batch knows how far it got. A call that failed because the disk is full left nothing that
//! counts: the same bytes go to the same place again, a segment that was begun is begun anew. After
//! a failed sync that is not so, and nothing is tried again.

use std::io;
use std::path::Path;

use model::{DiskFile, OpenMode};

use super::commit::Shared;
use super::format::SEGMENT_HEADER_BYTES;
use super::segments::{DIR, path_of};

/// The segment being written; only the commit thread touches it.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) start: u64,
    /// Position at which the next byte goes.
    pub(super) end: u64,
    pub(super) file: Option<Box<dyn DiskFile>>,
}

/// Where a new segment begins within a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roll {
    pub(super) at: usize,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// What was appended while the batch before was written.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    rolls: Vec<Roll>,
    /// Segments of it that were begun, and bytes that are durable.
    begun: usize,
    done: usize,
}

impl Batch {
    pub(super) fn new(bytes: Vec<u8>, rolls: Vec<Roll>) -> Self {
        Self { bytes, rolls, begun: 0, done: 0 }
    }
}

/// A call on the disk that failed.
pub(super) struct Failure {
    /// The segment it was about.
    pub(super) segment: u64,
    pub(super) doing: &'static str,
    pub(super) source: io::Error,
    /// Whether it may be done again once there is room on the disk.
    pub(super) is_for_want_of_room: bool,
}

/// A call that can be made again.
fn repeatable(segment: u64, doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        Failure { segment, doing, is_for_want_of_room: full.contains(&source.kind()), source }
    }
}

/// A sync: after it failed nobody knows what is on the disk.
fn final_at(segment: u64, doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure { segment, doing, source, is_for_want_of_room: false }
}

impl Shared {
    /// Makes what is left of a batch durable.
    pub(super) fn commit(&self, active: &mut Active, batch: &mut Batch) -> Result<(), Failure> {
        while let Some(roll) = batch.rolls.get(batch.begun).copied() {
            self.write(active, &batch.bytes[batch.done..roll.at])?;
            batch.done = roll.at;
            let header = roll.at..roll.at + SEGMENT_HEADER_BYTES as usize;
            self.begin_segment(active, roll, &batch.bytes[header.clone()])?;
            batch.begun += 1;
            batch.done = header.end;
        }
        self.write(active, &batch.bytes[batch.done..])?;
        batch.done = batch.bytes.len();
        Ok(())
    }

    /// Makes a segment's file. The header alone first: a file that is found has its name for good.
    fn begin_segment(&self, active: &mut Active, roll: Roll, header: &[u8]) -> Result<(), Failure> {
        let path = path_of(roll.start);
        let file = self
            .disk
            .open(&path, OpenMode::CreateNew)
            .map_err(repeatable(roll.start, "creation"))?;
        let begun = file
            .allocate(roll.bytes)
            .map_err(repeatable(roll.start, "allocation"))
            .and_then(|()| file.write_all_at(header, 0).map_err(repeatable(roll.start, "write")));
        if let Err(failure) = begun {
            drop(file);
            if failure.is_for_want_of_room {
                self.disk
                    .remove(&path)
                    .map_err(final_at(roll.start, "removal of what was begun"))?;
            }
            return Err(failure);
        }
        if self.config.fsync {
            file.sync().map_err(final_at(roll.start, "sync"))?;
            self.note_sync();
            self.disk
                .sync_dir(Path::new(DIR))
                .map_err(final_at(roll.start, "syncing the directory"))?;
        }
        *active =
            Active { start: roll.start, end: roll.start + header.len() as u64, file: Some(file) };
        self.publish(active.end);
        // Known only now: what trim may delete instead of it is not needed any more.
        self.segments.lock().push(roll.start);
        Ok(())
    }

    fn write(&self, active: &mut Active, bytes: &[u8]) -> Result<(), Failure> {
        let Some(file) = active.file.as_ref().filter(|_| !bytes.is_empty()) else { return Ok(()) };
        file.write_all_at(bytes, active.end - active.start)
            .map_err(repeatable(active.start, "write"))?;
        if self.config.fsync {
            file.sync().map_err(final_at(active.start, "sync"))?;
            self.note_sync();
        }
        active.end += bytes.len() as u64;
        self.publish(active.end);
        Ok(())
    }
}
