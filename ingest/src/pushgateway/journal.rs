//! The file that groups survive a restart in (docs/formats/pushgateway.md): a header, then one
//! record for each change of a group, which holds all of the group.
//!
//! ```text
//! header   "TAFFRPGW"  version u32  0 u32  required features u64  0 u32  crc32c of these 28 bytes u32
//! record   payload bytes u32   crc32c of the length and the payload u32   payload
//! ```
//!
//! A record is written and synced before its push is acknowledged. After a failure nothing more is
//! written until restart. What a crash leaves half-written at the end is cut off. When most of the
//! file is out of date it is written anew beside and moved over.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use model::{Disk, DiskFile, OpenMode, varint};
use tenancy::TenantId;

use super::group::{Group, Grouping, Push};
use crate::exposition::Format;

const MAGIC: &[u8; 8] = b"TAFFRPGW";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 8;
const DIR: &str = "pushgateway";
const PATH: &str = "pushgateway/groups.log";
const NEW_PATH: &str = "pushgateway/groups.new";

/// Bytes out of date below which the file is left alone.
const WASTE_BYTES_MIN: u64 = 16 << 20;

/// Bytes that are summed in search of a record behind a damaged place.
const FOLLOWED_BYTES_MAX: usize = 1 << 30;

/// Largest file that is read. Bytes.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// Whose group it is.
pub(super) type Key = (TenantId, Grouping);

/// Groups by tenant and labels.
pub(super) type Groups = HashMap<Key, Group>;

/// Why groups could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("{doing} {PATH}")]
    Disk {
        /// What we were doing.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not our file, or damaged before its end.
    #[error("{PATH} cannot be read: {0}")]
    Unreadable(String),
    /// A write failed before; the file must not be used any more.
    #[error("{PATH} takes no writes until restart: a write failed before")]
    Broken,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    bytes: u64,
    /// Bytes that a file without history would have.
    live_bytes: u64,
    is_broken: bool,
}

/// Reads the file, if there is one, and changes nothing.
pub(super) fn check(disk: &dyn Disk) -> Result<(), JournalError> {
    let failed = |source| JournalError::Disk { doing: "read", source };
    let file = match disk.open(Path::new(PATH), OpenMode::Read) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let bytes = file.bytes().map_err(failed)?;
    if bytes > FILE_BYTES_MAX {
        return Err(JournalError::Unreadable(format!("it has {bytes} bytes")));
    }
    let mut content = vec![0; bytes as usize];
    file.read_exact_at(&mut content, 0).map_err(failed)?;
    read(&content).map(drop).map_err(JournalError::Unreadable)
}

impl Journal {
    /// Opens or makes the file and reads the groups.
    pub(super) fn open(disk: Arc<dyn Disk>) -> Result<(Self, Groups), JournalError> {
        let failed = |doing| move |source| JournalError::Disk { doing, source };
        disk.create_dir_all(Path::new(DIR)).map_err(failed("make the directory of"))?;
        let file = match disk.open(Path::new(PATH), OpenMode::Write) {
            Ok(file) => file,
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                write_new(&*disk, &Groups::new()).map_err(failed("create"))?
            }
            Err(source) => return Err(JournalError::Disk { doing: "open", source }),
        };
        let bytes = file.bytes().map_err(failed("read"))?;
        if bytes > FILE_BYTES_MAX {
            return Err(JournalError::Unreadable(format!("it has {bytes} bytes")));
        }
        let mut content = vec![0; bytes as usize];
        file.read_exact_at(&mut content, 0).map_err(failed("read"))?;
        let (groups, whole) = read(&content).map_err(JournalError::Unreadable)?;
        if whole < content.len() {
            tracing::warn!(bytes = content.len() - whole, "cut a torn record off pushed groups");
            file.truncate(whole as u64).map_err(failed("cut"))?;
            file.sync().map_err(failed("sync"))?;
        }
        let live_bytes =
            groups.iter().map(|(key, group)| record(key, Some(group)).len() as u64).sum();
        Ok((Self { disk, file, bytes: whole as u64, live_bytes, is_broken: false }, groups))
    }

    /// Writes what became of a group; `None` if it is gone. `all` is asked for only when the file
    /// is written anew.
    pub(super) fn append(
        &mut self,
        key: &Key,
        group: Option<&Group>,
        all: impl FnOnce() -> Groups,
    ) -> Result<(), JournalError> {
        if self.is_broken {
            return Err(JournalError::Broken);
        }
        let record = record(key, group);
        let written = self.file.write_all_at(&record, self.bytes).and_then(|()| self.file.sync());
        if let Err(source) = written {
            self.is_broken = true;
            return Err(JournalError::Disk { doing: "write", source });
        }
        self.bytes += record.len() as u64;
        if self.bytes > WASTE_BYTES_MIN + 2 * self.live_bytes {
            self.write_anew(&all());
        }
        Ok(())
    }

    /// The old file goes on if the new one cannot be made: nothing is lost, only room.
    fn write_anew(&mut self, groups: &Groups) {
        match write_new(&*self.disk, groups).and_then(|file| Ok((file.bytes()?, file))) {
            Ok((bytes, file)) => {
                (self.file, self.bytes) = (file, bytes);
                self.live_bytes = bytes;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "write pushed groups anew"
                );
                // Not again with every push.
                self.live_bytes = self.bytes;
            }
        }
    }
}

/// Writes a file with these groups beside the old one and moves it over.
fn write_new(disk: &dyn Disk, groups: &Groups) -> io::Result<Box<dyn DiskFile>> {
    let _ = disk.remove(Path::new(NEW_PATH));
    let file = disk.open(Path::new(NEW_PATH), OpenMode::CreateNew)?;
    let mut content = header();
    for (key, group) in groups {
        content.extend(record(key, Some(group)));
    }
    file.write_all_at(&content, 0)?;
    file.sync()?;
    disk.rename(Path::new(NEW_PATH), Path::new(PATH))?;
    disk.sync_dir(Path::new(DIR))?;
    Ok(file)
}

fn header() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend([0; 16]);
    let crc = crc32c::crc32c(&out);
    out.extend(crc.to_le_bytes());
    out
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn record((tenant, grouping): &Key, group: Option<&Group>) -> Vec<u8> {
    let mut payload = vec![u8::from(group.is_some())];
    varint::put(&mut payload, u64::from(tenant.0));
    varint::put(&mut payload, grouping.0.len() as u64);
    for (name, value) in &grouping.0 {
        put_bytes(&mut payload, name.as_bytes());
        put_bytes(&mut payload, value.as_bytes());
    }
    if let Some(group) = group {
        varint::put_signed(&mut payload, group.pushed_ms);
        varint::put_signed(&mut payload, group.failed_ms);
        varint::put(&mut payload, group.pushes.len() as u64);
        for push in &group.pushes {
            payload.push(match push.format {
                Format::Text => 0,
                Format::OpenMetrics => 1,
                Format::Protobuf => 2,
                Format::OpenMetrics2 => 3,
            });
            varint::put(&mut payload, push.families.len() as u64);
            push.families.iter().for_each(|family| put_bytes(&mut payload, family.as_bytes()));
            put_bytes(&mut payload, &push.body);
        }
    }
    let length = (payload.len() as u32).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), &payload);
    [&length[..], &crc.to_le_bytes(), &payload].concat()
}

/// The groups of a file and how many bytes of it are whole. What cannot be read must be the end: a
/// record that was being written. Anything behind it is damage, and stops the start.
fn read(content: &[u8]) -> Result<(Groups, usize), String> {
    let Some((header, mut rest)) = content.split_at_checked(HEADER_BYTES) else {
        return Err("its header is cut short".to_owned());
    };
    let crc = u32::from_le_bytes([header[28], header[29], header[30], header[31]]);
    if &header[..8] != MAGIC || crc != crc32c::crc32c(&header[..28]) {
        return Err("its header is damaged".to_owned());
    }
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if version != VERSION || header[16..24] != [0; 8] {
        return Err(format!("it has version {version} or features that this build does not know"));
    }
    let mut groups = Groups::new();
    while !rest.is_empty() {
        let start = content.len() - rest.len();
        match take_record(&mut rest) {
            Some(payload) => {
                let change = take_change(payload);
                let (key, group) =
                    change.ok_or_else(|| format!("record at byte {start} means nothing"))?;
                match group {
                    Some(group) => drop(groups.insert(key, group)),
                    None => drop(groups.remove(&key)),
                }
            }
            None if is_torn(rest) => return Ok((groups, start)),
            None => return Err(format!("record at byte {start} is damaged")),
        }
    }
    Ok((groups, content.len()))
}

/// Whether what cannot be read can be one record that was being written: it reaches to the end.
fn is_torn(rest: &[u8]) -> bool {
    let Some(length) = rest.first_chunk::<4>() else { return true };
    let length = u32::from_le_bytes(*length) as usize;
    let reaches_the_end = FRAME_BYTES.saturating_add(length) >= rest.len();
    (reaches_the_end && !is_followed(rest)) || rest.iter().all(|b| *b == 0)
}

/// Whether a whole record stands anywhere behind: then it is not the end that is damaged. Text of
/// pushes is hardly ever taken for a length; what is after all costs its checksum, of which only so
/// many are computed.
fn is_followed(rest: &[u8]) -> bool {
    let mut left = FOLLOWED_BYTES_MAX;
    for at in 1..rest.len() {
        let mut behind = &rest[at..];
        let Some(length) = behind.first_chunk::<4>() else { return false };
        let length = u32::from_le_bytes(*length) as usize;
        let fits = length > 1 && FRAME_BYTES.saturating_add(length) <= behind.len();
        if !fits || behind[FRAME_BYTES] > 1 {
            continue;
        }
        let Some(less) = left.checked_sub(length) else { return true };
        left = less;
        if take_record(&mut behind).is_some() {
            return true;
        }
    }
    false
}

fn take_record<'r>(rest: &mut &'r [u8]) -> Option<&'r [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (crc, after) = after.split_first_chunk::<4>()?;
    let (payload, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let is_whole =
        u32::from_le_bytes(*crc) == crc32c::crc32c_append(crc32c::crc32c(length), payload);
    if is_whole {
        *rest = after;
    }
    is_whole.then_some(payload)
}

fn take_text(from: &mut &[u8]) -> Option<String> {
    take_bytes(from).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
}

fn take_bytes<'b>(from: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(varint::take(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

/// A group and its key; no group if it was removed.
fn take_change(mut payload: &[u8]) -> Option<(Key, Option<Group>)> {
    let from = &mut payload;
    let (&is_there, rest) = from.split_first()?;
    *from = rest;
    let tenant = TenantId(u32::try_from(varint::take(from)?).ok()?);
    let labels = varint::take(from)?;
    let labels = (0..labels).map(|_| Some((take_text(from)?, take_text(from)?)));
    let key = (tenant, Grouping(labels.collect::<Option<_>>()?));
    if is_there == 0 {
        return Some((key, None));
    }
    let (pushed_ms, failed_ms) = (varint::take_signed(from)?, varint::take_signed(from)?);
    let mut pushes = Vec::new();
    for _ in 0..varint::take(from)? {
        let (&format, rest) = from.split_first()?;
        *from = rest;
        let format = match format {
            0 => Format::Text,
            1 => Format::OpenMetrics,
            2 => Format::Protobuf,
            3 => Format::OpenMetrics2,
            _ => return None,
        };
        let families = varint::take(from)?;
        let families = (0..families).map(|_| take_text(from)).collect::<Option<BTreeSet<_>>>()?;
        pushes.push(Push { format, families, body: take_bytes(from)?.into() });
    }
    Some((key, Some(Group { pushes, pushed_ms, failed_ms })))
}

#[cfg(test)]
mod tests {
    use testkit::{Fault, FaultyDisk};

    use super::*;

    fn key(job: &str) -> Key {
        (TenantId(7), Grouping(vec![("job".to_owned(), job.to_owned())]))
    }

    fn group(body: &str) -> Group {
        let families = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let push = Push { format: Format::Text, body: body.as_bytes().into(), families };
        Group { pushes: vec![push], pushed_ms: 7, failed_ms: -1 }
    }

    fn open(disk: &FaultyDisk) -> (Journal, Groups) {
        Journal::open(Arc::new(disk.clone())).expect("opens")
    }

    #[test]
    fn groups_survive_a_power_cut_and_a_torn_record_is_cut() {
        let disk = FaultyDisk::new();
        let (mut journal, groups) = open(&disk);
        assert!(groups.is_empty());
        journal.append(&key("x"), Some(&group("1")), Groups::new).expect("written");
        journal.append(&key("y"), Some(&group("2")), Groups::new).expect("written");
        journal.append(&key("x"), Some(&group("3")), Groups::new).expect("written");
        journal.append(&key("y"), None, Groups::new).expect("written");
        let expected = Groups::from([(key("x"), group("3"))]);
        let (_, groups) = open(&disk.after_kill());
        assert_eq!(groups, expected);
        let file = disk.open(Path::new(PATH), OpenMode::Write).expect("opens");
        let whole = file.bytes().expect("a length");
        let torn = record(&key("z"), Some(&group("4")));
        for cut in [1, 5, FRAME_BYTES, torn.len() - 1] {
            file.truncate(whole).expect("cuts");
            file.write_all_at(&torn[..cut], whole).expect("writes");
            let (journal, groups) = open(&disk);
            assert_eq!((groups, journal.bytes), (expected.clone(), whole), "cut at {cut}");
        }
    }

    #[test]
    fn damage_before_the_end_stops_the_start() {
        let disk = FaultyDisk::new();
        let (mut journal, _) = open(&disk);
        journal.append(&key("x"), Some(&group("1")), Groups::new).expect("written");
        journal.append(&key("y"), Some(&group("2")), Groups::new).expect("written");
        let file = disk.open(Path::new(PATH), OpenMode::Write).expect("opens");
        for (at, told) in [
            (0, "its header is damaged"),
            (HEADER_BYTES as u64 + 10, "record at byte 32 is damaged"),
        ] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("reads");
            file.write_all_at(&[byte[0] ^ 0x55], at).expect("writes");
            let error = Journal::open(Arc::new(disk.clone())).expect_err("damaged");
            assert_eq!(error.to_string(), format!("{PATH} cannot be read: {told}"));
            file.write_all_at(&byte, at).expect("writes");
        }
        open(&disk);
    }

    #[test]
    fn a_failed_write_is_the_last() {
        let disk = FaultyDisk::new();
        let (mut journal, _) = open(&disk);
        disk.fail_from(disk.operations() + 1, Fault::Eio);
        let failed = journal.append(&key("x"), Some(&group("1")), Groups::new);
        assert!(matches!(failed, Err(JournalError::Disk { .. })), "{failed:?}");
        let again = journal.append(&key("x"), Some(&group("1")), Groups::new);
        assert!(matches!(again, Err(JournalError::Broken)), "{again:?}");
    }

    #[test]
    fn a_file_of_old_records_is_written_anew() {
        let disk = FaultyDisk::new();
        let (mut journal, _) = open(&disk);
        let large = group(&"x".repeat(1 << 20));
        for _ in 0..40 {
            journal
                .append(&key("x"), Some(&large), || Groups::from([(key("x"), large.clone())]))
                .expect("written");
        }
        assert!(journal.bytes < 24 << 20, "{} bytes", journal.bytes);
        let (_, groups) = open(&disk.after_kill());
        assert_eq!(groups, Groups::from([(key("x"), large)]));
    }
}
