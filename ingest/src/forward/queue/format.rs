//! The bytes of a queue's files: header, records, cursor (docs/formats/forward.md).

use std::io;
use std::path::Path;

use model::{Disk, DiskFile, OpenMode};
use tenancy::TenantId;

use super::super::record::{Counts, Payload};

const MAGIC: &[u8; 8] = b"TAFFRFWD";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: u64 = 32;

/// Length, checksum, tenant, samples, histograms, exemplars, instant.
pub(super) const FRAME_BYTES: usize = 6 * 4 + 8;

/// Longest payload, compressed: snappy makes nothing much longer. Bytes.
const PAYLOAD_BYTES_MAX: usize = super::super::record::PAYLOAD_BYTES_MAX / 2 * 3;

/// Rows of one tenant, as they came at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) tenant: TenantId,
    /// When it was queued, milliseconds since the Unix epoch.
    pub(crate) at_ms: i64,
    pub(crate) payload: Payload,
}

impl Record {
    /// Its length in the file.
    pub(super) fn bytes(&self) -> u64 {
        (FRAME_BYTES + self.payload.bytes.len()) as u64
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Payload { counts, bytes: payload } = &self.payload;
        let mut bytes = Vec::with_capacity(FRAME_BYTES + payload.len());
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.tenant.0.to_le_bytes());
        for count in [counts.samples, counts.histograms, counts.exemplars] {
            bytes.extend_from_slice(&(count as u32).to_le_bytes());
        }
        bytes.extend_from_slice(&self.at_ms.to_le_bytes());
        bytes.extend_from_slice(payload);
        let sum = checksum(&bytes[..4], &bytes[8..]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

fn checksum(length: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), rest)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The record at a place of a file, of which `left` bytes follow; `None` if there is no sound one.
pub(super) fn read_record(
    file: &dyn DiskFile,
    offset: u64,
    left: u64,
) -> io::Result<Option<Record>> {
    if left < FRAME_BYTES as u64 {
        return Ok(None);
    }
    let mut frame = [0; FRAME_BYTES];
    file.read_exact_at(&mut frame, offset)?;
    let length = u32_at(&frame, 0) as usize;
    if length > PAYLOAD_BYTES_MAX || (FRAME_BYTES + length) as u64 > left {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset + FRAME_BYTES as u64)?;
    if crc32c::crc32c_append(checksum(&frame[..4], &frame[8..]), &bytes) != u32_at(&frame, 4) {
        return Ok(None);
    }
    let counts = Counts {
        samples: u64::from(u32_at(&frame, 12)),
        histograms: u64::from(u32_at(&frame, 16)),
        exemplars: u64::from(u32_at(&frame, 20)),
    };
    Ok(Some(Record {
        tenant: TenantId(u32_at(&frame, 8)),
        at_ms: u64_at(&frame, 24) as i64,
        payload: Payload { counts, bytes },
    }))
}

pub(super) fn header() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    // Four bytes for later, no required features, four for later.
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// Whether a file begins as ours do. A whole header of a later version is an error: what it holds
/// must not be taken for damaged.
pub(super) fn has_header(file: &dyn DiskFile, length: u64) -> io::Result<bool> {
    let mut found = [0; HEADER_BYTES as usize];
    if length < HEADER_BYTES {
        return Ok(false);
    }
    file.read_exact_at(&mut found, 0)?;
    if found[..8] != MAGIC[..] || u32_at(&found, 28) != crc32c::crc32c(&found[..28]) {
        return Ok(false);
    }
    let (version, features) = (u32_at(&found, 8), u64_at(&found, 16));
    if version != VERSION || features != 0 {
        let text = format!(
            "a queue file has version {version} and features {features:#x}, which this build does \
             not know; start a later one"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(true)
}

pub(super) fn name_of(start: u64) -> String {
    format!("{start:020}.queue")
}

/// Where the records of a file of that name start in the whole sequence.
pub(super) fn start_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".queue").filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}

const CURSOR: &str = "cursor";
const CURSOR_SLOT_BYTES: usize = 24;

/// Up to where records were sent, and how often that was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Cursor {
    pub(super) count: u64,
    pub(super) position: u64,
}

impl Cursor {
    /// Two slots, written in turn, so that one is always whole: count, position, checksum.
    pub(super) fn write(self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let path = dir.join(CURSOR);
        let file = match disk.open(&path, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.open(&path, OpenMode::CreateNew)?
            }
            opened => opened?,
        };
        let mut slot = Vec::with_capacity(CURSOR_SLOT_BYTES);
        slot.extend_from_slice(&self.count.to_le_bytes());
        slot.extend_from_slice(&self.position.to_le_bytes());
        slot.extend_from_slice(&u64::from(crc32c::crc32c(&slot)).to_le_bytes());
        file.write_all_at(&slot, self.count % 2 * CURSOR_SLOT_BYTES as u64)
    }

    /// The beginning if there is no sound one.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let file = match disk.open(&dir.join(CURSOR), OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened?,
        };
        let mut bytes = [0; 2 * CURSOR_SLOT_BYTES];
        let whole = (file.bytes()? as usize).min(bytes.len());
        file.read_exact_at(&mut bytes[..whole], 0)?;
        let slot = |slot: &[u8]| {
            let is_sound = u64_at(slot, 16) == u64::from(crc32c::crc32c(&slot[..16]));
            let cursor = Self { count: u64_at(slot, 0), position: u64_at(slot, 8) };
            (is_sound && cursor.count > 0).then_some(cursor)
        };
        Ok(bytes.chunks_exact(CURSOR_SLOT_BYTES).filter_map(slot).max().unwrap_or_default())
    }
}

/// Any bytes as a file of a queue, header left out: no panic, and what is read can be written.
pub(crate) fn fuzz(bytes: &[u8]) {
    let file = InMemory(bytes);
    let mut offset = 0;
    while let Ok(Some(record)) = read_record(&file, offset, bytes.len() as u64 - offset) {
        let end = offset + record.bytes();
        assert_eq!(record.encode(), bytes[offset as usize..end as usize]);
        offset = end;
    }
}

/// Bytes as a file that is only read.
#[derive(Debug)]
struct InMemory<'b>(&'b [u8]);

impl DiskFile for InMemory<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}
