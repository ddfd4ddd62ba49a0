//! Segment files by name: `log/<position of the first byte, 20 digits>.log`.

use std::path::{Path, PathBuf};

use model::{Disk, DiskFile, OpenMode};

use super::format::{BadSegment, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::Error;

/// Where the log lies on its disk.
pub(super) const DIR: &str = "log";

/// Highest start of a segment: half of what fits, so that sums of positions never overflow. At
/// 1 GB/s that is reached after 290 years.
const START_MAX: u64 = i64::MAX as u64;

/// A segment as found on disk.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) start: u64,
    /// Its header, or what is wrong with it.
    pub(super) header: Result<SegmentHeader, &'static str>,
}

pub(super) fn path_of(start: u64) -> PathBuf {
    Path::new(DIR).join(format!("{start:020}.log"))
}

/// Start positions of all segments, ascending.
pub(super) fn list(disk: &dyn Disk) -> Result<Vec<u64>, Error> {
    let disk_error = |source| Error::Disk { doing: "list the log's segments".to_owned(), source };
    disk.create_dir_all(Path::new(DIR)).map_err(disk_error)?;
    let mut starts: Vec<u64> = disk
        .list(Path::new(DIR))
        .map_err(disk_error)?
        .into_iter()
        .filter_map(|entry| {
            entry.name.strip_suffix(".log").filter(|digits| digits.len() == 20)?.parse().ok()
        })
        .filter(|start| *start <= START_MAX)
        .collect();
    starts.sort_unstable();
    Ok(starts)
}

pub(super) fn open(
    disk: &dyn Disk,
    start: u64,
    mode: OpenMode,
) -> Result<Box<dyn DiskFile>, Error> {
    disk.open(&path_of(start), mode).map_err(|source| failed("open", start, source))
}

/// Reads the header of a segment; refuses one this build does not understand.
pub(super) fn read_header(file: &dyn DiskFile, start: u64) -> Result<Segment, Error> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    let read = file.read_at(&mut bytes, 0).map_err(|source| failed("read", start, source))?;
    let header = match SegmentHeader::decode(&bytes[..read], start) {
        Ok(header) => Ok(header),
        Err(BadSegment::Damaged(reason)) => Err(reason),
        Err(BadSegment::Unsupported(feature)) => {
            return Err(Error::Unsupported { what: format!("log segment {start:020}"), feature });
        }
    };
    Ok(Segment { start, header })
}

/// The error of a call on a segment.
pub(super) fn failed(verb: &str, start: u64, source: std::io::Error) -> Error {
    Error::Disk { doing: format!("{verb} log segment {start:020}"), source }
}
