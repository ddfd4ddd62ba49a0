//! The directory's file: a header, then records that are only ever appended.
//!
//! ```text
//! header   "TAFFRTEN"  version u32  0 u32  required features u64  0 u32  crc32c of these 28 bytes u32
//! record   payload bytes u32   crc32c of the length and the payload u32   payload
//! payload  kind u8   tenant id u32   milliseconds since the Unix epoch i64   text, to the end
//! ```
//!
//! Numbers are little-endian. One record is written and synced at a time, so what a crash leaves
//! half-written is no longer than one record and has none behind it; anything else that cannot be
//! read is damage and stops the start, since guessing could give a tenant's number to somebody
//! else.

use std::io;
use std::path::Path;
use std::sync::Arc;

use model::{Disk, DiskFile, OpenMode};

use crate::{TenantId, TenantName};

use super::DirectoryError;

const MAGIC: &[u8; 8] = b"TAFFRTEN";
const VERSION: u32 = 1;
/// Feature bits this build knows: none so far.
const FEATURES_KNOWN: u64 = 0;
const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 8;
const FIXED_BYTES: usize = 13;
/// The longest text: the limits of a tenant, as JSON.
pub(super) const TEXT_BYTES_MAX: usize = 4096;
/// The longest record.
const RECORD_BYTES_MAX: usize = FRAME_BYTES + FIXED_BYTES + TEXT_BYTES_MAX;
/// Largest file that is read: about 6 million records. Bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

pub(super) const DIR: &str = "tenants";
pub(super) const PATH: &str = "tenants/directory.log";
const NEW_PATH: &str = "tenants/directory.new";

/// What a record says of a tenant. Numbers are stored: they are never given to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// There is a tenant of this number and name.
    Created = 1,
    /// Its name from now on; the earlier ones stay aliases.
    Named = 2,
    /// It takes no rows. The text is empty, or `r` (it can be read) or `-`, and the reason.
    Suspended = 3,
    Resumed = 4,
    /// Numbers below this one have been used.
    NextId = 5,
    /// It is no more; the text is the name it had. Its names are free.
    Deleted = 6,
    /// The limits it has of its own, as a JSON object; all others follow the configuration.
    Limits = 7,
}

impl Kind {
    fn from_stored(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Created),
            2 => Some(Self::Named),
            3 => Some(Self::Suspended),
            4 => Some(Self::Resumed),
            5 => Some(Self::NextId),
            6 => Some(Self::Deleted),
            7 => Some(Self::Limits),
            _ => None,
        }
    }

    fn has_name(self) -> bool {
        matches!(self, Self::Created | Self::Named | Self::Deleted)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) id: TenantId,
    pub(super) at_ms: i64,
    /// Only where the kind has one.
    pub(super) name: Option<TenantName>,
    /// What else the kind says; empty if it has a name.
    pub(super) text: String,
}

impl Record {
    /// A record without name and text.
    pub(super) fn new(kind: Kind, id: TenantId, at_ms: i64) -> Self {
        Self { kind, id, at_ms, name: None, text: String::new() }
    }

    /// The same with a name.
    pub(super) fn named(self, name: &TenantName) -> Self {
        Self { name: Some(name.clone()), ..self }
    }

    /// The same with a text.
    pub(super) fn saying(self, text: String) -> Self {
        Self { text, ..self }
    }

    fn stored_text(&self) -> &str {
        self.name.as_ref().map_or(&self.text, TenantName::as_str)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let text = self.stored_text();
        let start = out.len();
        out.extend_from_slice(&((FIXED_BYTES + text.len()) as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.push(self.kind as u8);
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        let crc = checksum(&out[start..start + 4], &out[start + FRAME_BYTES..]);
        out[start + 4..start + FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// Takes one record off the front: `None` if there is none that is whole, an error if it is
    /// whole and means nothing.
    fn take(bytes: &mut &[u8]) -> Result<Option<Self>, DirectoryError> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let Some((crc, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let payload_bytes = u32::from_le_bytes(*length) as usize;
        if !(FIXED_BYTES..=RECORD_BYTES_MAX - FRAME_BYTES).contains(&payload_bytes) {
            return Ok(None);
        }
        let Some((payload, rest)) = rest.split_at_checked(payload_bytes) else { return Ok(None) };
        if u32::from_le_bytes(*crc) != checksum(length, payload) {
            return Ok(None);
        }
        *bytes = rest;
        Self::decode(payload).map(Some)
    }

    fn decode(payload: &[u8]) -> Result<Self, DirectoryError> {
        let [kind, a, b, c, d, rest @ ..] = payload else {
            return Err(damaged("a record is too short"));
        };
        let Some((at, text)) = rest.split_first_chunk::<8>() else {
            return Err(damaged("a record is too short"));
        };
        let unknown = || DirectoryError::Unsupported(format!("record kind {kind}"));
        let kind = Kind::from_stored(*kind).ok_or_else(unknown)?;
        let text = std::str::from_utf8(text).map_err(|_| damaged("a text is not UTF-8"))?;
        let id = TenantId(u32::from_le_bytes([*a, *b, *c, *d]));
        let record = Self::new(kind, id, i64::from_le_bytes(*at));
        if !kind.has_name() {
            return Ok(record.saying(text.to_owned()));
        }
        let name = TenantName::new(text).map_err(|e| damaged(&e.to_string()))?;
        Ok(record.named(&name))
    }
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), payload)
}

fn damaged(reason: &str) -> DirectoryError {
    DirectoryError::Damaged(reason.to_owned())
}

fn header() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&FEATURES_KNOWN.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn check_header(header: &[u8; HEADER_BYTES]) -> Result<(), DirectoryError> {
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if header[..8] != MAGIC[..] {
        return Err(damaged("it does not start with TAFFRTEN"));
    }
    if u32_at(28) != crc32c::crc32c(&header[..28]) {
        return Err(damaged("the checksum of its header is wrong"));
    }
    if u32_at(8) != VERSION {
        return Err(DirectoryError::Unsupported(format!("format version {}", u32_at(8))));
    }
    let features = u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32;
    let unknown = features & !FEATURES_KNOWN;
    if unknown != 0 {
        return Err(DirectoryError::Unsupported(format!(
            "feature bit {}",
            unknown.trailing_zeros()
        )));
    }
    Ok(())
}

/// The open file. Appends go to `end`, so that what a failed write left behind is overwritten.
#[derive(Debug)]
pub(super) struct RecordFile {
    file: Box<dyn DiskFile>,
    end: u64,
    /// Why nothing more is written: after a failed sync nobody knows what is on the disk.
    failed: Option<String>,
}

/// What a file held.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) records: Vec<Record>,
    /// Where the last whole record ends.
    pub(super) end: u64,
    /// Bytes after it that are no record.
    pub(super) torn_bytes: u64,
}

/// Reads what a whole file says. Never panics, whatever the bytes are.
pub(super) fn parse(bytes: &[u8]) -> Result<Content, DirectoryError> {
    let Some((header, mut rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged("it is shorter than its header"));
    };
    check_header(header)?;
    let mut records = Vec::new();
    while let Some(record) = Record::take(&mut rest)? {
        records.push(record);
    }
    let end = bytes.len() - rest.len();
    // Behind what a crash left half-written there is nothing.
    let is_followed =
        (1..rest.len()).any(|at| Record::take(&mut &rest[at..]).is_ok_and(|r| r.is_some()));
    if rest.len() > RECORD_BYTES_MAX || is_followed {
        return Err(damaged(&format!(
            "the record at byte {end} cannot be read and more follows it"
        )));
    }
    Ok(Content { records, end: end as u64, torn_bytes: rest.len() as u64 })
}

/// Reads the file and changes nothing; `None` if there is none.
pub(super) fn read(disk: &Arc<dyn Disk>) -> Result<Option<Content>, DirectoryError> {
    match disk.open(Path::new(PATH), OpenMode::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DirectoryError::Disk { doing: format!("open {PATH}"), source }),
        Ok(file) => read_file(file.as_ref()).map(Some),
    }
}

fn read_file(file: &dyn DiskFile) -> Result<Content, DirectoryError> {
    let reading = |source| DirectoryError::Disk { doing: format!("read {PATH}"), source };
    let length = file.bytes().map_err(reading)?;
    if length > FILE_BYTES_MAX {
        return Err(damaged(&format!("it has {length} bytes, more than any directory")));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(reading)?;
    parse(&bytes)
}

impl RecordFile {
    /// Opens the file, or makes it. What a crash left half-written is reported, not yet removed.
    pub(super) fn open(disk: &Arc<dyn Disk>) -> Result<(Self, Content), DirectoryError> {
        let file = match disk.open(Path::new(PATH), OpenMode::Write) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Self::create(disk),
            opened => opened
                .map_err(|source| DirectoryError::Disk { doing: format!("open {PATH}"), source })?,
        };
        let content = read_file(file.as_ref())?;
        Ok((Self { file, end: content.end, failed: None }, content))
    }

    fn create(disk: &Arc<dyn Disk>) -> Result<(Self, Content), DirectoryError> {
        let making =
            |source| DirectoryError::Disk { doing: format!("make directory {DIR}"), source };
        disk.create_dir_all(Path::new(DIR)).map_err(making)?;
        let file = Self::replace(disk, &[])?;
        Ok((file, Content::default()))
    }

    /// Writes a new file with these records and puts it in the place of the old one, which stays
    /// as it was until the rename.
    pub(super) fn replace(
        disk: &Arc<dyn Disk>,
        records: &[Record],
    ) -> Result<Self, DirectoryError> {
        let doing = |what: &str| {
            let doing = format!("{what} {NEW_PATH}");
            move |source| DirectoryError::Disk { doing, source }
        };
        let new = Path::new(NEW_PATH);
        match disk.remove(new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(doing("remove")(e)),
            _ => {}
        }
        let mut bytes = header();
        records.iter().for_each(|record| record.encode(&mut bytes));
        let file = disk.open(new, OpenMode::CreateNew).map_err(doing("create"))?;
        file.write_all_at(&bytes, 0).map_err(doing("write"))?;
        file.sync().map_err(doing("sync"))?;
        let placing = |source| DirectoryError::Placing { source };
        disk.rename(new, Path::new(PATH)).map_err(placing)?;
        disk.sync_dir(Path::new(DIR)).map_err(placing)?;
        Ok(Self { file, end: bytes.len() as u64, failed: None })
    }

    /// Writes one record and makes it durable.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), DirectoryError> {
        if let Some(reason) = &self.failed {
            return Err(DirectoryError::ReadOnly(reason.clone()));
        }
        let mut bytes = Vec::with_capacity(RECORD_BYTES_MAX);
        record.encode(&mut bytes);
        let failed =
            |what: &str, source| DirectoryError::Disk { doing: format!("{what} {PATH}"), source };
        self.file.write_all_at(&bytes, self.end).map_err(|e| failed("write", e))?;
        if let Err(error) = self.file.sync() {
            self.failed = Some(format!("syncing {PATH} failed: {error}"));
            return Err(failed("sync", error));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Removes what lies after the last record.
    pub(super) fn cut(&mut self) -> Result<(), DirectoryError> {
        let failed = |source| DirectoryError::Disk { doing: format!("cut {PATH}"), source };
        self.file.truncate(self.end).map_err(failed)?;
        self.file.sync().map_err(failed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }
}

/// Most records that torn bytes can have been: those of the shortest names.
pub(super) fn records_in(torn_bytes: u64) -> u32 {
    u32::try_from(torn_bytes.div_ceil((FRAME_BYTES + FIXED_BYTES + 1) as u64)).unwrap_or(u32::MAX)
}

/// Bytes of a file with these records.
pub(super) fn encoded_bytes(records: &[Record]) -> u64 {
    let record_bytes = |record: &Record| FRAME_BYTES + FIXED_BYTES + record.stored_text().len();
    let all: usize = records.iter().map(record_bytes).sum();
    (HEADER_BYTES + all) as u64
}
