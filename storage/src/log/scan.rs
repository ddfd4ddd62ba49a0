//! Reading one segment: its records in order, and a verdict on whatever is not a record.
//!
//! A bad place is a torn tail if nothing proves that it was ever synced: no later record says
//! `durable` beyond it, no later segment was begun. Then it was never acknowledged, and the log
//! ends there. Otherwise it is damage: it is reported, and reading goes on behind it.

use model::{Disk, DiskFile, OpenMode, Position, Record, RecordKind};

use super::Found;
use super::format::{
    ALIGNMENT, ANY_PARTITION, KIND_FILLER, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES,
};
use super::recovery::{Damage, Fix, readable};
use super::segments::{self, failed};
use super::window::Window;
use crate::Error;

/// Gets every record that is replayed, and every gap between them.
pub(super) type Visit<'a> = &'a mut dyn FnMut(Found<'_>);

/// What follows a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub(super) start: u64,
    /// Where it says this segment ends; `None` if its header is damaged.
    pub(super) previous_end: Option<u64>,
}

/// What one segment holds.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Position after its last record.
    pub(super) end: u64,
    /// If what follows the last record is damaged: where that ends.
    pub(super) lost_end: Option<u64>,
    pub(super) records: u64,
    pub(super) torn_bytes: u64,
    /// Everything before this was synced for certain, as far as this segment's records tell.
    pub(super) proven: u64,
    pub(super) damaged: Vec<Damage>,
    /// The error of the system that ended reading, if one did.
    pub(super) unreadable: Option<String>,
}

struct Scan<'a> {
    window: Window<'a>,
    start: u64,
    next: Option<Next>,
    /// Records that end at or before this are not wanted.
    from: u64,
    /// Once known: everything before this was synced.
    synced: Option<u64>,
    scanned: &'a mut Scanned,
}

/// A place that is no record.
struct Bad {
    partition: Option<u16>,
    reason: &'static str,
    /// Where the next record must be, if the header is sound.
    end: Option<u64>,
}

/// Reads the segment that begins at `start` and is followed by `next`.
pub(super) fn scan(
    disk: &dyn Disk,
    start: u64,
    next: Option<Next>,
    from: u64,
    visit: Visit<'_>,
) -> Result<Scanned, Error> {
    let io = |source| failed("read", start, source);
    let mut scanned = Scanned { end: start + SEGMENT_HEADER_BYTES, ..Scanned::default() };
    let synced = next.map(|_| u64::MAX);
    let read = segments::open(disk, start, OpenMode::Read).and_then(|file| {
        let window = Window::new(file.as_ref(), start).map_err(io)?;
        Scan { window, start, next, from, synced, scanned: &mut scanned }.run(visit)
    });
    if let Err(reason) = readable(read)? {
        give_up(&mut scanned, start, next, reason, visit);
    }
    Ok(scanned)
}

/// What follows in a segment cannot be read: it is lost for this time, and may be there the next.
fn give_up(
    scanned: &mut Scanned,
    start: u64,
    next: Option<Next>,
    reason: String,
    visit: Visit<'_>,
) {
    let end = next.map(|next| next.previous_end.unwrap_or(next.start));
    let end = end.filter(|end| *end > scanned.end);
    visit(Found::Gap { partition: None, end: Position(end.unwrap_or(u64::MAX)) });
    scanned.lost_end = end;
    scanned.damaged.push(Damage {
        partition: None,
        segment: start,
        position: Position(scanned.end),
        // Nobody knows how much of the last segment was written.
        bytes: end.map_or(0, |end| end - scanned.end),
        reason: reason.clone(),
        fix: Fix::Unreadable,
    });
    scanned.unreadable = Some(reason);
}

/// The highest position that records of a segment prove to be synced.
pub(super) fn proven(file: &dyn DiskFile, start: u64) -> Result<u64, Error> {
    let io = |source| failed("read", start, source);
    Window::new(file, start).map_err(io)?.proven(start).map_err(io)
}

/// How much of a segment file is not zeros.
pub(super) fn content_bytes(file: &dyn DiskFile, start: u64) -> Result<u64, Error> {
    let io = |source| failed("read", start, source);
    Ok(Window::new(file, start).map_err(io)?.content_end(start).map_err(io)? - start)
}

impl Scan<'_> {
    fn run(mut self, visit: Visit<'_>) -> Result<(), Error> {
        let limit = self.next.and_then(|next| next.previous_end).unwrap_or(u64::MAX);
        let stop = limit.min(self.window.end());
        let mut position = self.start + SEGMENT_HEADER_BYTES;
        while position < stop {
            self.scanned.end = position;
            let bad = match self.record(position, stop, visit)? {
                Ok(after) => {
                    position = after;
                    continue;
                }
                Err(bad) => bad,
            };
            match self.judge(position, stop, bad, visit)? {
                Some(after) => position = after,
                None => break,
            }
        }
        self.scanned.end = position;
        Ok(())
    }

    /// Reads the record at a position and gives the place of the next one.
    fn record(
        &mut self,
        position: u64,
        stop: u64,
        visit: Visit<'_>,
    ) -> Result<Result<u64, Bad>, Error> {
        let io = |source| failed("read", self.start, source);
        let Some(header) = self.window.header(position).map_err(io)? else {
            return Ok(Err(Bad { partition: None, reason: "no record header", end: None }));
        };
        let after = position + header.record_bytes();
        if after > stop {
            // Whatever stood behind it is cut off as well.
            return Ok(Err(Bad { partition: None, reason: "the record is cut off", end: None }));
        }
        if header.kind != KIND_FILLER && after > self.from {
            let record = self
                .window
                .get(position, RECORD_HEADER_BYTES + header.payload_bytes as usize)
                .map_err(io)?;
            let payload = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
            if payload.len() != header.payload_bytes as usize
                || crc32c::crc32c(payload) != header.payload_checksum
            {
                return Ok(Err(Bad {
                    partition: Some(header.partition),
                    reason: "the checksum of the payload is wrong",
                    end: Some(after),
                }));
            }
            visit(Found::Record(Position(position), record_of(&header, payload)?));
            self.scanned.records += 1;
        }
        if header.kind == KIND_FILLER && after > self.from {
            let partition = (header.partition != ANY_PARTITION).then_some(header.partition);
            visit(Found::Gap { partition, end: Position(after) });
        }
        self.scanned.proven = self.scanned.proven.max(header.durable);
        Ok(Ok(after))
    }

    /// Decides about a bad place: where to go on, or that the log ends there.
    fn judge(
        &mut self,
        position: u64,
        stop: u64,
        bad: Bad,
        visit: Visit<'_>,
    ) -> Result<Option<u64>, Error> {
        let start = self.start;
        let io = |source| failed("read", start, source);
        let ends_here = self.next.is_none_or(|next| next.previous_end.is_none());
        if ends_here
            && bad.end.is_none()
            && self.window.content_end(position).map_err(io)? == position
        {
            return Ok(None);
        }
        let synced = match self.synced {
            Some(synced) => synced,
            None => *self
                .synced
                .insert(self.window.proven(position).map_err(io)?.max(self.scanned.proven)),
        };
        if position >= synced {
            self.scanned.torn_bytes = self.window.content_end(position).map_err(io)? - position;
            return Ok(None);
        }
        let after = match bad.end {
            Some(end) => Some(end),
            None => self
                .window
                .next_header(position + ALIGNMENT, stop)
                .map_err(io)?
                .map(|next| next.position),
        };
        let (end, fix) = match (after, self.next) {
            (None, Some(next)) => {
                let end = next.previous_end.unwrap_or(next.start);
                self.scanned.lost_end = Some(end);
                (end, Fix::Header { segment: next.start, previous_end: position })
            }
            (after, _) => (after.unwrap_or(stop), Fix::Fill),
        };
        if end > self.from {
            visit(Found::Gap { partition: bad.partition, end: Position(end) });
            let reason = bad.reason.to_owned();
            let place = Position(position);
            let damage = Damage {
                partition: bad.partition,
                segment: start,
                position: place,
                bytes: end - position,
                reason,
                fix,
            };
            self.scanned.damaged.push(damage);
        }
        Ok(after)
    }
}

fn record_of<'a>(header: &RecordHeader, payload: &'a [u8]) -> Result<Record<'a>, Error> {
    let kind = RecordKind::from_stored(header.kind).ok_or_else(|| Error::Unsupported {
        what: format!("log record at {}", header.position),
        feature: format!("record kind {}", header.kind),
    })?;
    Ok(Record { partition: header.partition, tenant: header.tenant, kind, payload })
}
