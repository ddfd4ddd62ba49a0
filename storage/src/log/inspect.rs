//! One segment read for itself, whatever state it is in: for tools.

use model::DiskFile;

use super::format::{
    ALIGNMENT, KIND_FILLER, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentFields,
};
use super::segments::failed;
use super::window::Window;
use crate::Error;

/// What the header of a segment says, and where its records end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Format version.
    pub version: u32,
    /// Required-feature bits.
    pub features: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Position of its first byte.
    pub start: u64,
    /// Where the records before it end.
    pub previous_end: u64,
    /// Whether what is missing before it was given up.
    pub gap_accepted: bool,
    /// Position behind its last record.
    pub end: u64,
    /// Records in it.
    pub records: u64,
}

/// What stands at a place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A record, by its header.
    Record {
        /// Where it stands.
        position: u64,
        /// Whose it is.
        partition: u16,
        /// Of which tenant.
        tenant: u32,
        /// Its kind, as stored; 255 is a filler over what was given up.
        kind: u8,
        /// Bytes of its payload.
        bytes: u64,
        /// Everything before this was synced when it was written.
        durable: u64,
        /// Whether its payload has the right checksum.
        is_sound: bool,
    },
    /// No record, though something is written there.
    Bad {
        /// Where.
        position: u64,
        /// Where the next record stands, if there is one.
        until: Option<u64>,
    },
}

/// Reads a segment from beginning to end. `name` names the file in errors. Blocks.
pub fn read_segment(
    file: &dyn DiskFile,
    name: &str,
    visit: &mut dyn FnMut(Entry),
) -> Result<SegmentFacts, Error> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    let io = |source| Error::Disk { doing: format!("read {name}"), source };
    let read = file.read_at(&mut bytes, 0).map_err(io)?;
    let fields = SegmentFields::read(&bytes[..read]).map_err(|error| error.of(name))?;
    let start = fields.start;
    let failed = |source| failed("read", start, source);
    let mut window = Window::new(file, start).map_err(failed)?;
    let (mut position, mut records) = (start + SEGMENT_HEADER_BYTES, 0);
    loop {
        if let Some(header) = window.header(position).map_err(failed)? {
            let after = position + header.record_bytes();
            let is_filler = header.kind == KIND_FILLER;
            let is_sound = is_filler || {
                let whole = RECORD_HEADER_BYTES + header.payload_bytes as usize;
                let record = window.get(position, whole).map_err(failed)?;
                let payload = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
                record.len() == whole && crc32c::crc32c(payload) == header.payload_checksum
            };
            let (partition, tenant, kind) = (header.partition, header.tenant, header.kind);
            let (bytes, durable) = (u64::from(header.payload_bytes), header.durable);
            visit(Entry::Record { position, partition, tenant, kind, bytes, durable, is_sound });
            records += 1;
            position = after;
            continue;
        }
        if window.content_end(position).map_err(failed)? <= position {
            break;
        }
        let end = window.end();
        let next = window.next_header(position + ALIGNMENT, end).map_err(failed)?;
        let until = next.map(|header| header.position);
        visit(Entry::Bad { position, until });
        match until {
            Some(next) => position = next,
            None => break,
        }
    }
    Ok(SegmentFacts {
        version: fields.version,
        features: fields.features,
        file_bytes: file.bytes().map_err(failed)?,
        start,
        previous_end: fields.previous_end,
        gap_accepted: fields.gap_accepted,
        end: position,
        records,
    })
}
