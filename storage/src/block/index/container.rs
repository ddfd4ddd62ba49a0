//! The outer form of `index.bin`: header, section table, sections; every byte under a checksum.

use bytes::Bytes;

use crate::Error;

const MAGIC: &[u8; 8] = b"TFBLOCK\n";
const VERSION: u16 = 1;
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
}

/// Puts sections together.
pub(super) fn write(sections: &[(Section, Vec<u8>)]) -> Result<Vec<u8>, Error> {
    let mut header = Vec::with_capacity(HEADER_BYTES + sections.len() * ENTRY_BYTES + 4);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&0u64.to_le_bytes());
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

impl Sections {
    /// Checks and reads all sections. `what` names the object in errors.
    pub(super) fn read(what: &str, bytes: &Bytes) -> Result<Self, Error> {
        let damaged =
            |reason: &str| Error::Corrupt { what: what.to_owned(), reason: reason.to_owned() };
        let header = bytes.get(..HEADER_BYTES).ok_or_else(|| damaged("shorter than its header"))?;
        if header[..8] != *MAGIC {
            return Err(damaged("not an index of a block"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        let features = u64_at(header, 10);
        let count = usize::from(u16::from_le_bytes([header[18], header[19]]));
        let table_end = HEADER_BYTES + count * ENTRY_BYTES;
        let crc = bytes.get(table_end..table_end + 4);
        let crc_matches =
            crc.is_some_and(|c| c == crc32c::crc32c(&bytes[..table_end]).to_le_bytes());
        // A later version may have another header: only a matching one is known to be damaged.
        if !crc_matches && version == VERSION {
            return Err(damaged("checksum of the header does not match"));
        }
        if version != VERSION || features != 0 {
            let feature = if version == VERSION {
                format!("feature bits {features:#x}")
            } else {
                format!("block format version {version}")
            };
            return Err(Error::Unsupported { what: what.to_owned(), feature });
        }
        let mut sections = Vec::with_capacity(count);
        let mut expected = (table_end + 4) as u64;
        for entry in bytes[HEADER_BYTES..table_end].chunks_exact(ENTRY_BYTES) {
            let (offset, stored, raw) = (u64_at(entry, 4), u64_at(entry, 12), u64_at(entry, 20));
            let end = offset.checked_add(stored).filter(|end| *end <= bytes.len() as u64);
            let end = end
                .filter(|_| offset == expected)
                .ok_or_else(|| damaged("sections do not fit the object"))?;
            expected = end;
            let data = bytes.slice(offset as usize..end as usize);
            if crc32c::crc32c(&data).to_le_bytes() != entry[28..32] {
                return Err(damaged("checksum of a section does not match"));
            }
            let data = match entry[2] {
                STORED if raw == stored => data,
                ZSTD if raw <= raw_bytes_max(stored) => decompress(&data, raw as usize)
                    .map_err(|_| damaged("section does not decompress"))?,
                ZSTD | STORED => return Err(damaged("size of a section out of bounds")),
                other => {
                    return Err(Error::Unsupported {
                        what: what.to_owned(),
                        feature: format!("section coding {other}"),
                    });
                }
            };
            sections.push((u16::from_le_bytes([entry[0], entry[1]]), data));
        }
        if expected != bytes.len() as u64 {
            return Err(damaged("bytes after the last section"));
        }
        Ok(Self(sections))
    }

    /// One section; empty if it is not there.
    pub(super) fn get(&self, section: Section) -> Bytes {
        let found = self.0.iter().find(|(kind, _)| *kind == section as u16);
        found.map(|(_, data)| data.clone()).unwrap_or_default()
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
