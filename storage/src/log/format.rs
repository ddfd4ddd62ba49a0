//! The bytes of the log: headers of segment files and of records, both with checksums of their own.
//!
//! All numbers are little endian. `docs/formats/log.md` draws the tables.

use model::Record;

use crate::Error;

const MAGIC: &[u8; 8] = b"TAFFRLOG";
const VERSION: u32 = 1;
/// Feature bits this build knows: none so far.
const FEATURES_KNOWN: u64 = 0;

/// Bytes of a segment's header. The first record follows.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 64;

/// Bytes of a record's header. The payload follows.
pub(super) const RECORD_HEADER_BYTES: usize = 40;

/// Records start at multiples of this, so that a search for the next one is short.
pub(super) const ALIGNMENT: u64 = 8;

/// Largest payload. A request's body has at most 32 MiB; twice that leaves room for any encoding.
pub(super) const RECORD_BYTES_MAX: usize = 64 << 20;

/// Kind of a record that says: whatever lies here was given up. Its payload is not checked.
pub(super) const KIND_FILLER: u8 = 255;

/// The partition of a filler over records that may have been of any.
pub(super) const ANY_PARTITION: u16 = u16::MAX;

/// Flag of a segment: that records before it are missing is known and accepted.
const FLAG_GAP_ACCEPTED: u32 = 1;

/// The first bytes of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Position of the file's first byte; also its name.
    pub(super) start: u64,
    /// Where the records before this file end. All of them were synced before it was made.
    pub(super) previous_end: u64,
    /// What is missing before this file was given up by an operator.
    pub(super) gap_accepted: bool,
}

/// Why a segment's header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadSegment {
    /// Its bytes are not what was written.
    Damaged(&'static str),
    /// It is from a later version: the feature it asks for.
    Unsupported(String),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let flags = if self.gap_accepted { FLAG_GAP_ACCEPTED } else { 0 };
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&FEATURES_KNOWN.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.start.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous_end.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of the file that is named after `start`.
    pub(super) fn decode(bytes: &[u8], start: u64) -> Result<Self, BadSegment> {
        let fields = SegmentFields::read(bytes)?;
        if fields.start != start || fields.previous_end > start {
            return Err(BadSegment::Damaged(
                "the file's header belongs to another place in the log",
            ));
        }
        let SegmentFields { start, previous_end, gap_accepted, .. } = fields;
        Ok(Self { start, previous_end, gap_accepted })
    }
}

/// Everything the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentFields {
    pub(super) version: u32,
    pub(super) features: u64,
    pub(super) start: u64,
    pub(super) previous_end: u64,
    pub(super) gap_accepted: bool,
}

impl SegmentFields {
    /// Reads and checks it, whatever the name of the file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BadSegment> {
        let Some(bytes) = bytes.first_chunk::<{ SEGMENT_HEADER_BYTES as usize }>() else {
            return Err(BadSegment::Damaged("the file is shorter than its header"));
        };
        if bytes[..8] != MAGIC[..] {
            return Err(BadSegment::Damaged("the file does not start with TAFFRLOG"));
        }
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(BadSegment::Damaged("the checksum of the file's header is wrong"));
        }
        if u32_at(bytes, 8) != VERSION {
            return Err(BadSegment::Unsupported(format!("format version {}", u32_at(bytes, 8))));
        }
        let unknown = u64_at(bytes, 16) & !FEATURES_KNOWN;
        if unknown != 0 {
            return Err(BadSegment::Unsupported(format!(
                "feature bit {}",
                unknown.trailing_zeros()
            )));
        }
        Ok(Self {
            version: VERSION,
            features: u64_at(bytes, 16),
            start: u64_at(bytes, 24),
            previous_end: u64_at(bytes, 32),
            gap_accepted: u32_at(bytes, 12) & FLAG_GAP_ACCEPTED != 0,
        })
    }
}

impl BadSegment {
    /// As the error of a file.
    pub(super) fn of(self, file: &str) -> Error {
        let what = file.to_owned();
        match self {
            Self::Damaged(reason) => Error::Corrupt { what, reason: reason.to_owned() },
            Self::Unsupported(feature) => Error::Unsupported { what, feature },
        }
    }
}

/// The first bytes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) payload_checksum: u32,
    pub(super) payload_bytes: u32,
    pub(super) partition: u16,
    pub(super) kind: u8,
    pub(super) tenant: u32,
    /// Where the record stands: a header that was copied elsewhere is none.
    pub(super) position: u64,
    /// Everything before this was synced when the record was written.
    pub(super) durable: u64,
}

impl RecordHeader {
    /// The header of a record; its place is filled in when it is known.
    pub(super) fn of(record: &Record<'_>) -> Self {
        Self {
            payload_checksum: crc32c::crc32c(record.payload),
            payload_bytes: u32::try_from(record.payload.len()).unwrap_or(u32::MAX),
            partition: record.partition,
            kind: record.kind as u8,
            tenant: record.tenant,
            position: 0,
            durable: 0,
        }
    }

    /// Bytes from this record to the next.
    pub(super) fn record_bytes(&self) -> u64 {
        (RECORD_HEADER_BYTES as u64 + u64::from(self.payload_bytes)).next_multiple_of(ALIGNMENT)
    }

    pub(super) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.payload_checksum.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.partition.to_le_bytes());
        bytes[14] = self.kind;
        bytes[16..20].copy_from_slice(&self.tenant.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.to_le_bytes());
        bytes[32..].copy_from_slice(&self.durable.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header that stands at `position`; `None` if none does.
    pub(super) fn decode(bytes: &[u8; RECORD_HEADER_BYTES], position: u64) -> Option<Self> {
        let header = Self {
            payload_checksum: u32_at(bytes, 4),
            payload_bytes: u32_at(bytes, 8),
            partition: u16::from_le_bytes([bytes[12], bytes[13]]),
            kind: bytes[14],
            tenant: u32_at(bytes, 16),
            position: u64_at(bytes, 24),
            durable: u64_at(bytes, 32),
        };
        // The cheap checks first: a search comes by at every eighth byte.
        let sound = header.position == position
            && header.durable <= position
            && (header.payload_bytes as usize <= RECORD_BYTES_MAX || header.kind == KIND_FILLER)
            && u32_at(bytes, 0) == crc32c::crc32c(&bytes[4..]);
        sound.then_some(header)
    }
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_as_written_and_no_bit_may_change() {
        let segment =
            SegmentHeader { start: 1 << 40, previous_end: (1 << 40) - 8, gap_accepted: true };
        let bytes = segment.encode();
        assert_eq!(SegmentHeader::decode(&bytes, 1 << 40), Ok(segment));
        assert!(SegmentHeader::decode(&bytes, 0).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(SegmentHeader::decode(&flipped, 1 << 40), Err(BadSegment::Damaged(_))),
                "bit {bit}"
            );
        }

        let record = RecordHeader {
            payload_checksum: 1,
            payload_bytes: 13,
            partition: 7,
            kind: 3,
            tenant: 9,
            position: 4096,
            durable: 4000,
        };
        let bytes = record.encode();
        assert_eq!(RecordHeader::decode(&bytes, 4096), Some(record));
        assert_eq!(RecordHeader::decode(&bytes, 4104), None);
        assert_eq!(record.record_bytes(), 56);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&flipped, 4096), None, "bit {bit}");
        }
    }

    #[test]
    fn later_versions_are_refused_by_name() {
        let with = |at: usize, value: u8| {
            let mut bytes =
                SegmentHeader { start: 0, previous_end: 0, gap_accepted: false }.encode();
            bytes[at] = value;
            let checksum = crc32c::crc32c(&bytes[..60]);
            bytes[60..].copy_from_slice(&checksum.to_le_bytes());
            SegmentHeader::decode(&bytes, 0)
        };
        assert_eq!(with(8, 2), Err(BadSegment::Unsupported("format version 2".to_owned())));
        assert_eq!(with(17, 1), Err(BadSegment::Unsupported("feature bit 8".to_owned())));
    }
}
