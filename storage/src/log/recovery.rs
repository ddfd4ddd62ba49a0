//! Start-up: all segments in order, then a last segment that can be appended to.

use std::path::Path;

use model::{Disk, DiskFile, OpenMode, Position};

use super::Found;
use super::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::scan::{self, Next, Scanned, Visit};
use super::segments::{self, DIR, Segment, failed};
use crate::Error;

/// Bytes written at a time when a tail is made durable.
const REWRITE_BYTES: u64 = 1 << 20;

/// What was found when the log was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Position after the last record.
    pub end: Position,
    /// Records replayed.
    pub records: u64,
    /// Bytes cut off at the end: written but never acknowledged.
    pub torn_bytes: u64,
    /// What was acknowledged and cannot be read any more.
    pub damaged: Vec<Damage>,
}

/// A place in the log that was synced once and is no record any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The partition whose record it was; `None` if that cannot be told: it may be any.
    pub partition: Option<u16>,
    /// The segment file, by its start position.
    pub segment: u64,
    /// Where it begins.
    pub position: Position,
    /// How much of the log is affected, in bytes.
    pub bytes: u64,
    /// What was found.
    pub reason: String,
    pub(super) fix: Fix,
}

impl Damage {
    /// Whether the bytes may well be right: the system did not give them, or takes no more.
    pub fn is_unreadable(&self) -> bool {
        self.fix == Fix::Unreadable
    }
}

/// How quarantine makes a damaged place skippable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fix {
    /// A filler record over it.
    Fill,
    /// A new header for a segment, which says that what is missing before it was given up.
    Header { segment: u64, previous_end: u64 },
    /// None: the system did not give the bytes, which may well be right.
    Unreadable,
}

/// All that replay learns.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) recovery: Recovery,
    /// Start positions of all segments, ascending; the last one can be appended to.
    pub(super) segments: Vec<u64>,
    /// A last segment that holds nothing but a torn beginning.
    pub(super) torn_segment: Option<u64>,
    /// Whether something lies behind the end of the last segment that must go.
    pub(super) torn_tail: bool,
    /// Everything before this was synced for certain.
    pub(super) proven: u64,
    /// The first error of the system while it was read.
    pub(super) unreadable: Option<String>,
    /// Whether where the log ends could not be told for such an error.
    pub(super) is_end_unknown: bool,
}

/// Hands over every record at or after `from`, in order. Changes nothing.
pub(super) fn replay(disk: &dyn Disk, from: u64, visit: Visit<'_>) -> Result<Replayed, Error> {
    let mut segments = segments::list(disk)?;
    let mut replayed = Replayed::default();
    // A last segment that cannot be read is none: that comes to light below.
    replayed.torn_segment =
        readable(torn_beginning(disk, &segments, &mut replayed.recovery))?.ok().flatten();
    segments.truncate(segments.len() - usize::from(replayed.torn_segment.is_some()));
    // Earlier segments end where this one begins: they only wait to be trimmed.
    let first = segments.partition_point(|start| *start <= from).saturating_sub(1);
    // Where the records end, and where the damage behind them, which is reported already.
    let (mut end, mut seen) = (from, from);
    let mut next = None;
    for (index, start) in segments.iter().enumerate().skip(first) {
        let segment = match next.take() {
            Some(segment) => segment,
            None => header_of(disk, *start)?,
        };
        if let Some(start) = segments.get(index + 1) {
            next = Some(header_of(disk, *start)?);
        }
        let is_given_up = segment.header.is_ok_and(|header| header.gap_accepted);
        let damage = check_joint(&segment, end, seen);
        if segment.start > from && (is_given_up || damage.is_some()) {
            visit(Found::Gap { partition: None, end: Position(segment.start) });
        }
        replayed.recovery.damaged.extend(damage);
        let follower = next.as_ref().map(|next: &Segment| Next {
            start: next.start,
            previous_end: next.header.as_ref().ok().map(|header| header.previous_end),
        });
        let scanned = scan::scan(disk, segment.start, follower, from, visit)?;
        end = scanned.end;
        seen = scanned.lost_end.unwrap_or(end);
        replayed.add(&segment, scanned);
    }
    if segments.is_empty() && from > 0 {
        replayed.recovery.damaged.push(missing(from));
    }
    replayed.recovery.end = Position(end);
    replayed.segments = segments;
    Ok(replayed)
}

impl Replayed {
    fn add(&mut self, segment: &Segment, scanned: Scanned) {
        // A segment is begun once everything before it is synced.
        let begun = segment.header.map_or(0, |header| header.previous_end);
        self.proven = self.proven.max(scanned.proven).max(begun);
        self.recovery.records += scanned.records;
        self.recovery.torn_bytes += scanned.torn_bytes;
        self.torn_tail |= scanned.torn_bytes > 0;
        self.recovery.damaged.extend(scanned.damaged);
        self.is_end_unknown = scanned.unreadable.is_some();
        self.unreadable = self.unreadable.take().or(scanned.unreadable);
    }
}

/// Takes an error of the system apart from those that end a start.
pub(super) fn readable<T>(read: Result<T, Error>) -> Result<Result<T, String>, Error> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(Error::Disk { doing, source }) => Ok(Err(format!("{doing}: {source}"))),
        Err(other) => Err(other),
    }
}

fn header_of(disk: &dyn Disk, start: u64) -> Result<Segment, Error> {
    let file = segments::open(disk, start, OpenMode::Read);
    let read = file.and_then(|file| segments::read_header(file.as_ref(), start));
    let unreadable = Segment { start, header: Err("its header cannot be read") };
    Ok(readable(read)?.unwrap_or(unreadable))
}

/// Whether the last segment is one that was being made when the power went: its header is not
/// there, and no record in it proves that it ever was.
fn torn_beginning(
    disk: &dyn Disk,
    segments: &[u64],
    recovery: &mut Recovery,
) -> Result<Option<u64>, Error> {
    let Some(&start) = segments.last() else { return Ok(None) };
    let file = segments::open(disk, start, OpenMode::Read)?;
    if segments::read_header(file.as_ref(), start)?.header.is_ok()
        || scan::proven(file.as_ref(), start)? > start
    {
        return Ok(None);
    }
    recovery.torn_bytes += scan::content_bytes(file.as_ref(), start)?;
    Ok(Some(start))
}

/// Whether a segment follows on the records that ended at `end`, and on what was `seen`.
fn check_joint(segment: &Segment, end: u64, seen: u64) -> Option<Damage> {
    let damage = |position, bytes, reason: String| Damage {
        partition: None,
        segment: segment.start,
        position: Position(position),
        bytes,
        reason,
        fix: Fix::Header { segment: segment.start, previous_end: end.min(segment.start) },
    };
    match segment.header {
        Err(reason) => Some(damage(segment.start, SEGMENT_HEADER_BYTES, reason.to_owned())),
        Ok(header) if header.gap_accepted || header.previous_end <= seen => None,
        Ok(header) => {
            let bytes = header.previous_end - seen;
            Some(damage(seen, bytes, format!("the {bytes} bytes before this segment are missing")))
        }
    }
}

/// The damage of a log that should hold something and is not there at all.
fn missing(from: u64) -> Damage {
    Damage {
        partition: None,
        segment: from,
        position: Position(from),
        bytes: 0,
        reason: "the log has no segments, though blocks were made from it".to_owned(),
        fix: Fix::Header { segment: from, previous_end: from },
    }
}

/// The damage of a log that was read and cannot be made ready for more.
pub(super) fn unwritable(replayed: &Replayed, reason: String) -> Damage {
    let end = replayed.recovery.end;
    let segment = replayed.segments.last().copied().unwrap_or(end.0);
    let reason = format!("it cannot be written: {reason}");
    Damage { partition: None, segment, position: end, bytes: 0, reason, fix: Fix::Unreadable }
}

/// The segment that takes the next records.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Position at which the file ends.
    pub(super) limit: u64,
    pub(super) file: Box<dyn DiskFile>,
}

/// Makes what was replayed durable and the last segment ready for more. `None` for a log that is
/// missing: beginning it anew would hide that.
pub(super) fn repair(
    disk: &dyn Disk,
    replayed: &mut Replayed,
    config: &super::Config,
) -> Result<Option<Tail>, Error> {
    if replayed.is_end_unknown {
        return Ok(None);
    }
    if let Some(start) = replayed.torn_segment {
        disk.remove(&segments::path_of(start))
            .map_err(|source| failed("remove torn", start, source))?;
    }
    let tail = match replayed.segments.last() {
        Some(&start) => Some(extend(disk, start, replayed, config)?),
        None if replayed.recovery.damaged.is_empty() => {
            replayed.segments.push(0);
            Some(begin(disk, 0, config)?)
        }
        None => None,
    };
    if config.fsync {
        let synced = disk.sync_dir(Path::new(DIR));
        synced.map_err(|source| Error::Disk {
            doing: "sync the log's directory".to_owned(),
            source,
        })?;
    }
    Ok(tail)
}

fn extend(
    disk: &dyn Disk,
    start: u64,
    replayed: &Replayed,
    config: &super::Config,
) -> Result<Tail, Error> {
    let file = segments::open(disk, start, OpenMode::Write)?;
    let end = replayed.recovery.end.0.max(start + SEGMENT_HEADER_BYTES);
    let limit = end.max(start.saturating_add(config.segment_bytes));
    let io = |source| failed("repair", start, source);
    if replayed.torn_tail {
        file.truncate(end - start).map_err(io)?;
    }
    if config.fsync {
        rewrite(file.as_ref(), replayed.proven.clamp(start, end) - start, end - start)
            .map_err(io)?;
    }
    file.allocate(limit - start).map_err(io)?;
    if config.fsync {
        file.sync().map_err(io)?;
    }
    Ok(Tail { start, end, limit, file })
}

/// The first segment of a new log. From now on a log without segments is a log that got lost.
fn begin(disk: &dyn Disk, start: u64, config: &super::Config) -> Result<Tail, Error> {
    let file = segments::open(disk, start, OpenMode::CreateNew)?;
    let limit = config.segment_bytes.max(SEGMENT_HEADER_BYTES);
    let header = SegmentHeader { start, previous_end: start, gap_accepted: false };
    let made = file
        .allocate(limit)
        .and_then(|()| file.write_all_at(&header.encode(), 0))
        .and_then(|()| if config.fsync { file.sync() } else { Ok(()) });
    made.map_err(|source| failed("make", start, source))?;
    let (end, limit) = (start + SEGMENT_HEADER_BYTES, start + limit);
    Ok(Tail { start, end, limit, file })
}

/// Begins a log at a position in the place of what lies there.
pub(super) fn begin_at(disk: &dyn Disk, start: u64, config: &super::Config) -> Result<(), Error> {
    for old in segments::list(disk)? {
        let removed = disk.remove(&segments::path_of(old));
        removed.map_err(|source| failed("remove", old, source))?;
    }
    begin(disk, start, config)?;
    let synced = disk.sync_dir(Path::new(DIR));
    synced.map_err(|source| Error::Disk { doing: "sync the log's directory".to_owned(), source })
}

/// Writes a part of a file over itself. If an earlier process failed to sync it, the system may
/// show it, call it clean and yet never have written it: only writing it again helps.
fn rewrite(file: &dyn DiskFile, from: u64, end: u64) -> std::io::Result<()> {
    let mut at = if from <= SEGMENT_HEADER_BYTES { 0 } else { from };
    let mut buffer = Vec::new();
    while at < end {
        buffer.resize(REWRITE_BYTES.min(end - at) as usize, 0);
        file.read_exact_at(&mut buffer, at)?;
        file.write_all_at(&buffer, at)?;
        at += buffer.len() as u64;
    }
    Ok(())
}
