//! The outer form of `index.bin`: header, section table, sections; every byte under a checksum.

use bytes::Bytes;

use crate::Error;

const MAGIC: &[u8; 8] = b"TFBLOCK\n";
/// Since 2 the buckets of a histogram follow one another and may share a payload.
const VERSION: u16 = 2;
/// Chunks or timestamp vectors may have the codecs of cold blocks: 5, 6 and mode 3.
pub(in crate::block) const FEATURE_COLD: u64 = 1;
/// Chunks may have start timestamps.
pub(in crate::block) const FEATURE_STARTS: u64 = 2;
/// The block holds windows, not rows as they came.
pub(in crate::block) const FEATURE_WINDOWS: u64 = 4;
const FEATURES_KNOWN: u64 = FEATURE_COLD | FEATURE_STARTS | FEATURE_WINDOWS;
const HEADER_BYTES: usize = 8 + 2 + 8 + 2;
const ENTRY_BYTES: usize = 2 + 1 + 1 + 8 + 8 + 8 + 4;

const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// Level of zstd for sections: as for Parquet pages.
const ZSTD_LEVEL: i32 = 3;

/// A section may grow to this many times its size, or to `RAW_BYTES_FREE`; what compresses
/// better is stored as it is. Keeps what a damaged or hostile index can make us allocate in
/// proportion to its size.
const RATIO_MAX: u64 = 256;
const RAW_BYTES_FREE: u64 = 1 << 20;

/// What a section holds; the numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(in crate::block) enum Section {
    Meta = 1,
    Tenants = 2,
    Symbols = 3,
    Labels = 4,
    LabelGroups = 5,
    ChunkCounts = 6,
    Fst = 7,
    Postings = 8,
    OddIds = 9,
    Resolution = 10,
}

/// All of them.
pub(super) const ALL: [Section; 10] = [
    Section::Meta,
    Section::Tenants,
    Section::Symbols,
    Section::Labels,
    Section::LabelGroups,
    Section::ChunkCounts,
    Section::Fst,
    Section::Postings,
    Section::OddIds,
    Section::Resolution,
];

/// Puts sections together.
pub(super) fn write(features: u64, sections: &[(Section, Vec<u8>)]) -> Result<Vec<u8>, Error> {
    let mut header = Vec::with_capacity(HEADER_BYTES + sections.len() * ENTRY_BYTES + 4);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&features.to_le_bytes());
    header.extend_from_slice(&(sections.len() as u16).to_le_bytes());
    let mut offset = (HEADER_BYTES + sections.len() * ENTRY_BYTES + 4) as u64;
    let mut body = Vec::new();
    for (section, raw) in sections {
        let (coding, stored) = compress(raw)?;
        header.extend_from_slice(&(*section as u16).to_le_bytes());
        header.extend_from_slice(&[coding, 0]);
        header.extend_from_slice(&offset.to_le_bytes());
        header.extend_from_slice(&(stored.len() as u64).to_le_bytes());
        header.extend_from_slice(&(raw.len() as u64).to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&stored).to_le_bytes());
        offset += stored.len() as u64;
        body.extend_from_slice(&stored);
    }
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header.extend_from_slice(&body);
    Ok(header)
}

fn compress(raw: &[u8]) -> Result<(u8, Vec<u8>), Error> {
    let packed = zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(|source| Error::Disk {
        doing: "compress a section of index.bin".to_owned(),
        source,
    })?;
    let allowed = raw_bytes_max(packed.len() as u64);
    if packed.len() * 10 < raw.len() * 9 && raw.len() as u64 <= allowed {
        return Ok((ZSTD, packed));
    }
    Ok((STORED, raw.to_vec()))
}

fn raw_bytes_max(stored: u64) -> u64 {
    stored.saturating_mul(RATIO_MAX).max(RAW_BYTES_FREE)
}

/// Sections taken apart, checked and decompressed.
#[derive(Debug)]
pub(super) struct Sections(Vec<(u16, Bytes)>);

/// The checksum that the head of an index ends with: it stands for the whole block, since the head
/// has the checksums of all sections, and the first section those of all other objects.
pub(in crate::block) fn checksum_of(index: &[u8]) -> Option<u32> {
    let count = index.get(HEADER_BYTES - 2..HEADER_BYTES)?;
    let at = HEADER_BYTES + usize::from(u16::from_le_bytes([count[0], count[1]])) * ENTRY_BYTES;
    let checksum = index.get(at..at + 4)?;
    Some(u32::from_le_bytes([checksum[0], checksum[1], checksum[2], checksum[3]]))
}

/// What the section table says of one section.
struct Entry {
    kind: u16,
    coding: u8,
    offset: u64,
    stored: u64,
    raw: u64,
    crc: [u8; 4],
}

impl Sections {
    /// Checks and reads all sections. `what` names the object in errors.
    pub(super) fn read(what: &str, bytes: &Bytes) -> Result<Self, Error> {
        let Some(table) = read_table(what, bytes)? else {
            return Err(damaged(what, "shorter than its header"));
        };
        let header_end = (HEADER_BYTES + 4) as u64;
        let end = table.last().map_or(header_end, |last| last.offset + last.stored);
        if end > bytes.len() as u64 {
            return Err(damaged(what, "sections do not fit the object"));
        }
        if end != bytes.len() as u64 {
            return Err(damaged(what, "bytes after the last section"));
        }
        let read = |entry: &Entry| Ok((entry.kind, take_section(what, entry, bytes)?));
        Ok(Self(table.iter().map(read).collect::<Result<_, Error>>()?))
    }

    /// Checks and reads some sections of an object that begins with `bytes`; `None` if they go on
    /// behind these.
    pub(super) fn read_some(
        what: &str,
        bytes: &Bytes,
        wanted: &[Section],
    ) -> Result<Option<Self>, Error> {
        let Some(table) = read_table(what, bytes)? else { return Ok(None) };
        let is_wanted = |entry: &&Entry| wanted.iter().any(|w| *w as u16 == entry.kind);
        let mut sections = Vec::with_capacity(wanted.len());
        for entry in table.iter().filter(is_wanted) {
            if entry.offset + entry.stored > bytes.len() as u64 {
                return Ok(None);
            }
            sections.push((entry.kind, take_section(what, entry, bytes)?));
        }
        Ok(Some(Self(sections)))
    }

    /// One section; empty if it is not there.
    pub(super) fn get(&self, section: Section) -> Bytes {
        let found = self.0.iter().find(|(kind, _)| *kind == section as u16);
        found.map(|(_, data)| data.clone()).unwrap_or_default()
    }
}

/// What the head of an index says of one section, for tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SectionFacts {
    /// Its number.
    pub(crate) kind: u16,
    /// What that stands for; `unknown` if this build does not know.
    pub(crate) name: String,
    /// `stored` or `zstd`.
    pub(crate) coding: &'static str,
    /// Bytes in the object.
    pub(crate) stored_bytes: u64,
    /// Bytes without compression.
    pub(crate) raw_bytes: u64,
    /// CRC32C of the stored bytes.
    pub(crate) checksum: u32,
}

/// Version, required features and sections of a whole index.
pub(super) fn facts(what: &str, bytes: &[u8]) -> Result<(u16, u64, Vec<SectionFacts>), Error> {
    let table = read_table(what, bytes)?.ok_or_else(|| damaged(what, "shorter than its header"))?;
    let section = |entry: &Entry| SectionFacts {
        kind: entry.kind,
        name: ALL
            .iter()
            .find(|known| **known as u16 == entry.kind)
            .map_or_else(|| "unknown".to_owned(), |known| format!("{known:?}").to_lowercase()),
        coding: if entry.coding == ZSTD { "zstd" } else { "stored" },
        stored_bytes: entry.stored,
        raw_bytes: entry.raw,
        checksum: u32::from_le_bytes(entry.crc),
    };
    Ok((VERSION, u64_at(bytes, 10), table.iter().map(section).collect()))
}

fn damaged(what: &str, reason: &str) -> Error {
    Error::Corrupt { what: what.to_owned(), reason: reason.to_owned() }
}

/// Checks and reads the header and the section table; `None` if they go on behind `bytes`.
fn read_table(what: &str, bytes: &[u8]) -> Result<Option<Vec<Entry>>, Error> {
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Ok(None) };
    if header[..8] != *MAGIC {
        return Err(damaged(what, "not an index of a block"));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    let features = u64_at(header, 10);
    let count = usize::from(u16::from_le_bytes([header[18], header[19]]));
    let table_end = HEADER_BYTES + count * ENTRY_BYTES;
    let crc = bytes.get(table_end..table_end + 4);
    let crc_matches = crc.is_some_and(|c| c == crc32c::crc32c(&bytes[..table_end]).to_le_bytes());
    // A later version may have another header: only a matching one is known to be damaged.
    if !crc_matches && version == VERSION {
        return match crc {
            Some(_) => Err(damaged(what, "checksum of the header does not match")),
            None => Ok(None),
        };
    }
    if version != VERSION || features & !FEATURES_KNOWN != 0 {
        let feature = if version == VERSION {
            format!("feature bits {:#x}", features & !FEATURES_KNOWN)
        } else {
            format!("block format version {version}")
        };
        return Err(Error::Unsupported { what: what.to_owned(), feature });
    }
    let mut table = Vec::with_capacity(count);
    let mut expected = (table_end + 4) as u64;
    for entry in bytes[HEADER_BYTES..table_end].chunks_exact(ENTRY_BYTES) {
        let (offset, stored, raw) = (u64_at(entry, 4), u64_at(entry, 12), u64_at(entry, 20));
        let end = offset.checked_add(stored).filter(|_| offset == expected);
        expected = end.ok_or_else(|| damaged(what, "sections do not fit the object"))?;
        table.push(Entry {
            kind: u16::from_le_bytes([entry[0], entry[1]]),
            coding: entry[2],
            offset,
            stored,
            raw,
            crc: [entry[28], entry[29], entry[30], entry[31]],
        });
    }
    Ok(Some(table))
}

/// The raw bytes of a section that lies within `bytes`, in memory of their own: what is kept of an
/// index must not hold on to the whole object.
fn take_section(what: &str, entry: &Entry, bytes: &[u8]) -> Result<Bytes, Error> {
    let data = &bytes[entry.offset as usize..(entry.offset + entry.stored) as usize];
    if crc32c::crc32c(data).to_le_bytes() != entry.crc {
        return Err(damaged(what, "checksum of a section does not match"));
    }
    match entry.coding {
        STORED if entry.raw == entry.stored => Ok(Bytes::copy_from_slice(data)),
        ZSTD if entry.raw <= raw_bytes_max(entry.stored) => decompress(data, entry.raw as usize)
            .map_err(|()| damaged(what, "section does not decompress")),
        ZSTD | STORED => Err(damaged(what, "size of a section out of bounds")),
        other => Err(Error::Unsupported {
            what: what.to_owned(),
            feature: format!("section coding {other}"),
        }),
    }
}

fn decompress(data: &[u8], raw: usize) -> Result<Bytes, ()> {
    let bytes = zstd::bulk::decompress(data, raw).map_err(|_| ())?;
    if bytes.len() == raw { Ok(bytes.into()) } else { Err(()) }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
