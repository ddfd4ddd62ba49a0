//! `streams.bin`: which streams a segment has, how its rows are grouped, and the checksums of its
//! other objects.

use std::ops::Range;
use std::sync::Arc;

use model::{Labels, SeriesId, Signal, SourceKind, varint};
use tenancy::TenantId;

use super::group::Form;
use super::{BLOOM, TERMS};
use crate::Error;
use crate::block::object::{STRIPE_BYTES, Sum};
use crate::entries::streams::{HourCount, Stream, StreamCounts};

const MAGIC: &[u8; 8] = b"TFSEGMNT";
pub(crate) const VERSION: u16 = 1;
/// There is an index over terms in place of blooms.
const FEATURE_TERMS: u64 = 1;
/// Instants and lines are packed.
const FEATURE_PACKED: u64 = 1 << 1;
/// Features this build knows.
const FEATURES_KNOWN: u64 = FEATURE_TERMS | FEATURE_PACKED;
const HEADER_BYTES: usize = 8 + 2 + 8 + 8 + 8 + 4 + 4;
const ZSTD_LEVEL: i32 = 3;

/// Rows a block may have.
const BLOCK_ROWS_MAX: u64 = 1 << 16;

/// A body may grow to this many times its size, or to `RAW_BYTES_FREE`: what a damaged index can
/// make us allocate stays in proportion to its size. What compresses better is stored as it is.
const RATIO_MAX: u64 = 256;
const RAW_BYTES_FREE: u64 = 1 << 20;

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    pub(crate) signal: Signal,
    pub(crate) form: Form,
    pub(crate) rows: u64,
    /// Of lines and fields.
    pub(crate) raw_bytes: u64,
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
    pub(crate) groups: Vec<Group>,
    /// In order of rows.
    pub(crate) streams: Vec<SegmentStream>,
    pub(crate) entries: Sum,
    /// Of `bloom.bin`, or of `terms.bin` where there are blocks.
    pub(crate) tokens: Sum,
    /// Rows of a block, if there is an index over terms.
    pub(crate) block_rows: Option<u64>,
}

/// Some thousand rows: a row group of `entries.parquet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
    /// Where its bloom filter begins, and how long it is.
    pub(crate) bloom_at: u64,
    pub(crate) bloom_bytes: u64,
    /// The first of its blocks, if it has any.
    pub(crate) first_block: u64,
}

/// A stream with what the segment has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentStream {
    pub(crate) stream: Arc<Stream>,
    pub(crate) first_row: u64,
    pub(crate) counts: StreamCounts,
}

impl SegmentIndex {
    /// The object that tells which rows may have a token.
    pub(crate) fn tokens_object(&self) -> &'static str {
        if self.block_rows.is_some() { TERMS } else { BLOOM }
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> u32 {
        self.groups.last().map_or(0, |last| self.blocks_of(last).end)
    }

    /// The blocks of a group.
    pub(crate) fn blocks_of(&self, group: &Group) -> Range<u32> {
        let count = self.block_rows.map_or(0, |rows| group.rows.div_ceil(rows));
        // A reader has checked that there are not more.
        group.first_block as u32..(group.first_block + count) as u32
    }

    /// Memory taken, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let of_stream = |s: &SegmentStream| {
            s.stream.labels.heap_bytes()
                + size_of::<SegmentStream>()
                + size_of::<Stream>()
                + s.counts.hours.len() * size_of::<HourCount>()
        };
        let streams: usize = self.streams.iter().map(of_stream).sum();
        let stripes = self.entries.stripes.len() + self.tokens.stripes.len();
        streams + self.groups.len() * size_of::<Group>() + stripes * 4 + 256
    }

    /// The object, and the checksum that stands for the whole segment.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, u32), Error> {
        let raw = self.raw();
        let packed = zstd::bulk::compress(&raw, ZSTD_LEVEL).map_err(|source| Error::Disk {
            doing: "compress a table of streams".to_owned(),
            source,
        })?;
        let fits = raw.len() as u64 <= raw_bytes_max(packed.len() as u64);
        let stored = if packed.len() < raw.len() && fits { &packed } else { &raw };
        let mut out = Vec::with_capacity(HEADER_BYTES + stored.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.features().to_le_bytes());
        out.extend_from_slice(&(raw.len() as u64).to_le_bytes());
        out.extend_from_slice(&(stored.len() as u64).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(stored).to_le_bytes());
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(stored);
        Ok((out, checksum))
    }

    fn raw(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(self.signal as u8);
        varint::put(&mut out, self.rows);
        varint::put(&mut out, self.raw_bytes);
        put_span(&mut out, self.first_ns, self.last_ns);
        for sum in [&self.entries, &self.tokens] {
            varint::put(&mut out, sum.size);
            varint::put(&mut out, sum.tail_start);
            sum.stripes.iter().for_each(|crc| out.extend_from_slice(&crc.to_le_bytes()));
        }
        if let Some(rows) = self.block_rows {
            varint::put(&mut out, rows);
        }
        varint::put(&mut out, self.groups.len() as u64);
        for group in &self.groups {
            varint::put(&mut out, group.rows);
            put_span(&mut out, group.first_ns, group.last_ns);
            if self.block_rows.is_none() {
                varint::put(&mut out, group.bloom_bytes);
            }
        }
        varint::put(&mut out, self.streams.len() as u64);
        let mut labels = Vec::new();
        for SegmentStream { stream, counts, .. } in &self.streams {
            varint::put(&mut out, u64::from(stream.tenant.0));
            out.push(stream.kind as u8);
            labels.clear();
            stream.labels.encode(&mut labels);
            varint::put(&mut out, labels.len() as u64);
            out.extend_from_slice(&labels);
            put_span(&mut out, counts.first_ns, counts.last_ns);
            varint::put(&mut out, counts.hours.len() as u64);
            let mut last = 0;
            for hour in &counts.hours {
                varint::put_signed(&mut out, hour.hour - last);
                last = hour.hour;
                varint::put(&mut out, hour.rows);
                varint::put(&mut out, hour.bytes);
            }
        }
        out
    }

    /// Reads the object `name` without a manifest; gives its checksum as well.
    pub(crate) fn inspect(bytes: &[u8], name: &str) -> Result<(Self, u32), Error> {
        let own = bytes.first_chunk::<HEADER_BYTES>().map_or(0, |header| u32_at(header, 38));
        Ok((Self::decode(bytes, name, own)?, own))
    }

    /// The required features that its object names.
    pub(crate) fn features(&self) -> u64 {
        let bit = |needed, bit| if needed { bit } else { 0 };
        bit(self.block_rows.is_some(), FEATURE_TERMS)
            | bit(self.form == Form::Packed, FEATURE_PACKED)
    }

    /// Reads the object `name`; `checksum` is the one that the manifest knows.
    pub(crate) fn decode(bytes: &[u8], name: &str, checksum: u32) -> Result<Self, Error> {
        let corrupt =
            |reason: &str| Error::Corrupt { what: name.to_owned(), reason: reason.to_owned() };
        let Some((header, stored)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt("it is shorter than its header"));
        };
        if header[..8] != *MAGIC {
            return Err(corrupt("it is no table of streams"));
        }
        if u32_at(header, 38) != crc32c::crc32c(&header[..38]) {
            return Err(corrupt("the checksum of its header is wrong"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        let features = u64_at(header, 10);
        let unknown = features & !FEATURES_KNOWN;
        if version != VERSION || unknown != 0 {
            let feature = match version {
                VERSION => format!("feature bit {}", unknown.trailing_zeros()),
                other => format!("segment format version {other}"),
            };
            return Err(Error::Unsupported { what: name.to_owned(), feature });
        }
        if u32_at(header, 38) != checksum {
            return Err(corrupt("it is not the one that the manifest names"));
        }
        let (raw_bytes, stored_bytes) = (u64_at(header, 18), u64_at(header, 26));
        if stored_bytes != stored.len() as u64 {
            return Err(corrupt("its length is not what its header says"));
        }
        if u32_at(header, 34) != crc32c::crc32c(stored) {
            return Err(corrupt("its checksum is wrong"));
        }
        let unpacked;
        let raw = if raw_bytes == stored_bytes {
            stored
        } else if raw_bytes <= raw_bytes_max(stored_bytes) {
            let raw = zstd::bulk::decompress(stored, raw_bytes as usize);
            unpacked = raw.map_err(|_| corrupt("it does not decompress"))?;
            &unpacked
        } else {
            return Err(corrupt("its size is out of bounds"));
        };
        let form = if features & FEATURE_PACKED == 0 { Form::Quick } else { Form::Packed };
        let read = Self::read(raw, form, features & FEATURE_TERMS != 0)
            .filter(|_| raw.len() as u64 == raw_bytes);
        read.ok_or_else(|| corrupt("it is cut short or malformed"))
    }

    fn read(mut raw: &[u8], form: Form, has_terms: bool) -> Option<Self> {
        let from = &mut raw;
        let signal = Signal::from_stored(take_byte(from)?)?;
        let (rows, raw_bytes) = (varint::take(from)?, varint::take(from)?);
        let (first_ns, last_ns) = take_span(from)?;
        let (entries, tokens) = (take_sum(from)?, take_sum(from)?);
        let block_rows = if has_terms { Some(varint::take(from)?) } else { None };
        if block_rows.is_some_and(|rows| rows == 0 || rows > BLOCK_ROWS_MAX) {
            return None;
        }
        let mut groups = Vec::new();
        let (mut first_row, mut bloom_at, mut first_block) = (0u64, 0u64, 0u64);
        for _ in 0..varint::take(from)? {
            let rows = varint::take(from)?;
            let (first_ns, last_ns) = take_span(from)?;
            let bloom_bytes = if has_terms { 0 } else { varint::take(from)? };
            let group =
                Group { first_row, rows, first_ns, last_ns, bloom_at, bloom_bytes, first_block };
            groups.push(group);
            let blocks = block_rows.map_or(0, |of_block| rows.div_ceil(of_block));
            first_block =
                first_block.checked_add(blocks).filter(|end| *end <= u64::from(u32::MAX))?;
            first_row = first_row.checked_add(rows)?;
            bloom_at = bloom_at.checked_add(bloom_bytes)?;
        }
        if first_row != rows || (bloom_at != tokens.size && !has_terms) {
            return None;
        }
        let (mut streams, mut first_row) = (Vec::new(), 0u64);
        for _ in 0..varint::take(from)? {
            let tenant = TenantId(u32::try_from(varint::take(from)?).ok()?);
            let kind = SourceKind::from_stored(take_byte(from)?)?;
            let length = usize::try_from(varint::take(from)?).ok()?;
            let (encoded, rest) = from.split_at_checked(length)?;
            *from = rest;
            let (id, labels) = (SeriesId::of_encoded(encoded), Labels::from_wire(encoded).ok()?);
            let counts = take_counts(from)?;
            let rows =
                counts.hours.iter().try_fold(0u64, |sum, hour| sum.checked_add(hour.rows))?;
            let stream = Arc::new(Stream { tenant, signal, kind, id, labels });
            streams.push(SegmentStream { stream, first_row, counts });
            first_row = first_row.checked_add(rows)?;
        }
        let is_whole = from.is_empty() && first_row == rows;
        let index = Self {
            signal,
            form,
            rows,
            raw_bytes,
            first_ns,
            last_ns,
            groups,
            streams,
            entries,
            tokens,
            block_rows,
        };
        is_whole.then_some(index)
    }
}

fn take_counts(from: &mut &[u8]) -> Option<StreamCounts> {
    let (first_ns, last_ns) = take_span(from)?;
    let (mut hours, mut hour) = (Vec::new(), 0i64);
    for _ in 0..varint::take(from)? {
        hour = hour.checked_add(varint::take_signed(from)?)?;
        hours.push(HourCount { hour, rows: varint::take(from)?, bytes: varint::take(from)? });
    }
    Some(StreamCounts { first_ns, last_ns, hours })
}

fn take_sum(from: &mut &[u8]) -> Option<Sum> {
    let (size, tail_start) = (varint::take(from)?, varint::take(from)?);
    let count = usize::try_from(size.div_ceil(STRIPE_BYTES)).ok()?;
    let (stripes, rest) = from.split_at_checked(count.checked_mul(4)?)?;
    *from = rest;
    let crc = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    Some(Sum { size, tail_start, stripes: stripes.chunks_exact(4).map(crc).collect() })
}

/// A first instant, and how much later the last one is, modulo 2^64.
fn put_span(out: &mut Vec<u8>, first_ns: i64, last_ns: i64) {
    varint::put_signed(out, first_ns);
    varint::put(out, last_ns.wrapping_sub(first_ns) as u64);
}

fn take_span(from: &mut &[u8]) -> Option<(i64, i64)> {
    let first_ns = varint::take_signed(from)?;
    let last_ns = first_ns.wrapping_add(varint::take(from)? as i64);
    (first_ns <= last_ns).then_some((first_ns, last_ns))
}

fn take_byte(from: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = from.split_first()?;
    *from = rest;
    Some(byte)
}

fn raw_bytes_max(stored: u64) -> u64 {
    stored.saturating_mul(RATIO_MAX).max(RAW_BYTES_FREE)
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn u64_at(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(header, at)) | u64::from(u32_at(header, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(streams: u64, block_rows: Option<u64>) -> SegmentIndex {
        let stream = |n: u64| {
            let labels = Labels::from_pairs([("app", format!("app-{n}"))]);
            let (tenant, signal, kind) =
                (TenantId(n as u32 / 3), Signal::Events, SourceKind::Events);
            let id = labels.series_id();
            let mut counts = StreamCounts::default();
            counts.add(-5, 10);
            counts.add(1 << 60, 20);
            let stream = Arc::new(Stream { tenant, signal, kind, id, labels });
            SegmentStream { stream, first_row: 2 * n, counts }
        };
        let sum = |size: u64| Sum {
            size,
            tail_start: size / 2,
            stripes: (0..size.div_ceil(STRIPE_BYTES) as u32).collect(),
        };
        let group = |n: u64| Group {
            first_row: 2 * n,
            rows: 2,
            first_ns: i64::MIN,
            last_ns: i64::MAX,
            bloom_at: if block_rows.is_some() { 0 } else { n * 100 },
            bloom_bytes: if block_rows.is_some() { 0 } else { 100 },
            first_block: block_rows.map_or(0, |rows| n * 2u64.div_ceil(rows)),
        };
        SegmentIndex {
            signal: Signal::Events,
            form: if streams > 1 { Form::Packed } else { Form::Quick },
            rows: 2 * streams,
            raw_bytes: 30 * streams,
            first_ns: -5,
            last_ns: 1 << 60,
            groups: (0..streams).map(group).collect(),
            streams: (0..streams).map(stream).collect(),
            entries: sum(100_000),
            tokens: sum(100 * streams),
            block_rows,
        }
    }

    #[test]
    fn tables_of_streams_survive() {
        for streams in [0, 1, 50, 2_000] {
            for block_rows in [None, Some(1), Some(1_024)] {
                let index = index(streams, block_rows);
                let (bytes, checksum) = index.encode().expect("it is encoded");
                assert_eq!(SegmentIndex::decode(&bytes, "x", checksum).expect("it is read"), index);
                let other = SegmentIndex::decode(&bytes, "x", checksum ^ 1);
                assert_eq!(
                    other.expect_err("another one").to_string(),
                    "x is damaged: it is not the one that the manifest names"
                );
            }
        }
    }

    #[test]
    fn damage_is_seen_and_later_versions_are_told() {
        let (bytes, checksum) = index(5, Some(1)).encode().expect("it is encoded");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(SegmentIndex::decode(&changed, "x", checksum).is_err(), "{at}");
            assert!(SegmentIndex::decode(&bytes[..at], "x", checksum).is_err(), "{at}");
        }
        for (at, byte, needs) in [(8, 2, "segment format version 2"), (17, 0x80, "feature bit 63")]
        {
            let mut later = bytes.clone();
            later[at] = byte;
            let crc = crc32c::crc32c(&later[..38]);
            later[38..42].copy_from_slice(&crc.to_le_bytes());
            let refused = SegmentIndex::decode(&later, "x", crc).expect_err("a later version");
            let text = format!("x needs {needs}, which this version does not know");
            assert_eq!(refused.to_string(), text);
        }
    }
}
