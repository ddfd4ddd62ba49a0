//! Giving up what is damaged: afterwards the log opens as sound, without those records.
//!
//! The damaged bytes are copied to `quarantine/` first. A record in the middle is then covered by
//! a filler record, which replay skips; where the end or the beginning of a segment is damaged,
//! the header of the segment behind it is written anew and says that the gap is accepted.

use std::io;
use std::path::{Path, PathBuf};

use model::{Disk, OpenMode, Position};

use super::format::{ANY_PARTITION, KIND_FILLER, RECORD_HEADER_BYTES, RecordHeader, SegmentHeader};
use super::recovery::{Damage, Fix, replay};
use super::segments::{self, failed};
use crate::Error;

/// Where the damaged bytes are kept.
const DIR: &str = "quarantine";

/// Bytes copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// What was given up.
#[derive(Debug)]
pub struct Report {
    /// The damaged places.
    pub damaged: Vec<Damage>,
    /// Copies of their bytes, as far as there were any.
    pub copies: Vec<PathBuf>,
    /// Records that are still there.
    pub records: u64,
}

/// Makes damaged places of the log skippable. `from` is the lowest position any partition still
/// needs: what lies before is not looked at. The data directory must not be in use. Blocks.
pub fn quarantine(disk: &dyn Disk, from: Position) -> Result<Report, Error> {
    let replayed = replay(disk, from.0, &mut |_| {})?;
    if let Some(reason) = replayed.unreadable {
        // What cannot be read is not known to be damaged, and could not be kept.
        let source = io::Error::other(reason);
        return Err(Error::Disk {
            doing: "read all of the log; see to the disk".to_owned(),
            source,
        });
    }
    let replayed = replayed.recovery;
    let mut report =
        Report { damaged: replayed.damaged, copies: Vec::new(), records: replayed.records };
    if report.damaged.is_empty() {
        return Ok(report);
    }
    let kept =
        |source| Error::Disk { doing: format!("keep damaged bytes of the log in {DIR}"), source };
    disk.create_dir_all(Path::new(DIR)).map_err(kept)?;
    for damage in &report.damaged {
        report.copies.extend(keep(disk, damage).map_err(kept)?);
    }
    disk.sync_dir(Path::new(DIR)).map_err(kept)?;
    for damage in &report.damaged {
        let (segment, offset, bytes) = match damage.fix {
            Fix::Fill => {
                (damage.segment, damage.position.0 - damage.segment, filler(damage)?.to_vec())
            }
            Fix::Unreadable => continue,
            Fix::Header { segment, previous_end } => {
                let header = SegmentHeader { start: segment, previous_end, gap_accepted: true };
                (segment, 0, header.encode().to_vec())
            }
        };
        // Only a log that is missing as a whole has no such segment.
        let mode = if segments::list(disk)?.contains(&segment) {
            OpenMode::Write
        } else {
            OpenMode::CreateNew
        };
        let file = segments::open(disk, segment, mode)?;
        let written = file
            .write_all_at(&bytes, offset)
            .and_then(|()| file.sync())
            .and_then(|()| disk.sync_dir(Path::new(segments::DIR)));
        written.map_err(|source| failed("quarantine a part of", segment, source))?;
    }
    Ok(report)
}

/// The header of a filler record over a damaged place. What follows the header stays as it is:
/// nobody reads the payload of a filler.
fn filler(damage: &Damage) -> Result<[u8; RECORD_HEADER_BYTES], Error> {
    let payload = damage
        .bytes
        .checked_sub(RECORD_HEADER_BYTES as u64)
        .and_then(|bytes| u32::try_from(bytes).ok());
    let payload_bytes = payload.ok_or_else(|| Error::Corrupt {
        what: format!("log segment {:020}", damage.segment),
        reason: format!(
            "{} bytes at {} cannot be covered by a filler",
            damage.bytes, damage.position.0
        ),
    })?;
    let position = damage.position.0;
    let (partition, tenant) = (damage.partition.unwrap_or(ANY_PARTITION), 0);
    let header = RecordHeader {
        payload_checksum: 0,
        payload_bytes,
        partition,
        kind: KIND_FILLER,
        tenant,
        position,
        durable: position,
    };
    Ok(header.encode())
}

/// Copies what is left of a damaged place; `None` if nothing is.
fn keep(disk: &dyn Disk, damage: &Damage) -> io::Result<Option<PathBuf>> {
    let Some(start) = damage.position.0.checked_sub(damage.segment) else { return Ok(None) };
    let file = match disk.open(&segments::path_of(damage.segment), OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let end = file.bytes()?.min(start.saturating_add(damage.bytes));
    if start >= end {
        return Ok(None);
    }
    let path = Path::new(DIR).join(format!("{:020}.bin", damage.position.0));
    let copy = match disk.open(&path, OpenMode::CreateNew) {
        // Left by a run that did not get to its end, or by an earlier one at the same place.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.open(&path, OpenMode::Write)?
        }
        copy => copy?,
    };
    copy.truncate(0)?;
    let (mut at, mut buffer) = (start, Vec::new());
    while at < end {
        buffer.resize(COPY_BYTES.min(end - at) as usize, 0);
        file.read_exact_at(&mut buffer, at)?;
        copy.write_all_at(&buffer, at - start)?;
        at += buffer.len() as u64;
    }
    copy.sync()?;
    Ok(Some(path))
}

/// For whoever ran the tool.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.damaged.is_empty() {
            return write!(f, "the log is sound: {} records, nothing to set aside", self.records);
        }
        writeln!(
            f,
            "{} damaged places set aside, {} records left",
            self.damaged.len(),
            self.records
        )?;
        for damage in &self.damaged {
            let of =
                damage.partition.map_or("any partition".to_owned(), |p| format!("partition {p}"));
            writeln!(
                f,
                "  at {} in segment {}, of {of}: {}",
                damage.position.0, damage.segment, damage.reason
            )?;
        }
        self.copies.iter().try_for_each(|copy| writeln!(f, "  bytes kept in {}", copy.display()))
    }
}
