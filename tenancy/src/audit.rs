//! The record of administrative changes: who asked for what and when, and what it replaced.
//!
//! Lines of JSON in `audit/`, each behind its checksum, appended and synced before the change is
//! made: nothing is changed that is not on record. A file that has reached its size is followed by
//! the next; the oldest go once there are too many.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Clock, Disk, DiskFile, OpenMode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

const DIR: &str = "audit";
/// Length at which a file is followed by the next, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files that are kept: some hundred thousand changes.
const FILES_MAX: usize = 16;
/// Longest line, in bytes: a name and limits twice.
const LINE_BYTES_MAX: usize = 32 << 10;
/// Checksum in hexadecimal and a blank.
const PREFIX_BYTES: usize = 9;

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Name of the credential.
    pub principal: String,
    /// Address of the client; empty for what was asked for on this machine, by a signal or a tool.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// What was asked for, for instance `tenant.rename`.
    pub action: String,
    /// Of which tenant, by the name it had.
    pub tenant: String,
    /// Its number; 0 if it had none.
    pub tenant_id: u32,
    /// What was there before.
    pub old: Value,
    /// What was to be there.
    pub new: Value,
    /// Absent: it was asked for. Else why it came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Who asks for a change, as a record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Name of the credential, or of what stands for whoever runs this process.
    pub name: String,
    /// Address of the client, if it has one.
    pub from: Option<IpAddr>,
}

impl Actor {
    /// Whoever runs this process, by what reached us: `SIGHUP`, a tool.
    pub fn operator(by: &str) -> Self {
        Self { name: by.to_owned(), from: None }
    }
}

/// Some entries, newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Lines that cannot be read.
    pub damaged: u64,
    /// Whether there are older ones than asked for.
    pub more: bool,
}

/// Appends and reads entries.
#[derive(Debug)]
pub struct AuditLog {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
    /// Length at which a file is followed by the next.
    file_bytes_max: u64,
}

#[derive(Debug)]
struct Open {
    /// Numbers of the files, ascending; the last is written to.
    files: Vec<u64>,
    file: Box<dyn DiskFile>,
    end: u64,
    /// Why nothing more is written: after a failed sync nobody knows what is on the disk.
    failed: Option<String>,
}

impl AuditLog {
    /// Opens the records of a data directory, or begins them. Blocks.
    pub fn open(disk: &Arc<dyn Disk>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        disk.create_dir_all(Path::new(DIR))?;
        let mut files: Vec<u64> =
            disk.list(Path::new(DIR))?.iter().filter_map(|e| number_of(&e.name)).collect();
        files.sort_unstable();
        let open = match files.last() {
            None => Open::begin(disk.as_ref(), files, 1)?,
            Some(&newest) => {
                let file = disk.open(&path_of(newest), OpenMode::Write)?;
                let bytes = read_whole(file.as_ref())?;
                // What a crash left half-written was never answered.
                let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1) as u64;
                if end < bytes.len() as u64 {
                    warn!(bytes = bytes.len() as u64 - end, "cut a half-written audit record");
                    file.truncate(end)?;
                    file.sync()?;
                }
                Open { files, file, end, failed: None }
            }
        };
        let (disk, open) = (Arc::clone(disk), Mutex::new(open));
        Ok(Self { disk, clock, open, file_bytes_max: FILE_BYTES_MAX })
    }

    /// Reads all records, if there are any, and changes nothing; gives the files with lines that
    /// cannot be read, and how many. Blocks.
    pub fn check(disk: &Arc<dyn Disk>) -> io::Result<Vec<(String, u64)>> {
        let entries = match disk.list(Path::new(DIR)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed?,
        };
        let mut damaged = Vec::new();
        for number in entries.iter().filter_map(|e| number_of(&e.name)) {
            let bytes = read_whole(disk.open(&path_of(number), OpenMode::Read)?.as_ref())?;
            // What stands behind the last line break was never answered.
            let whole = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
            let lines = bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
            let wrong = lines.filter(|line| entry_of(line).is_none()).count() as u64;
            if wrong > 0 {
                damaged.push((path_of(number).display().to_string(), wrong));
            }
        }
        damaged.sort();
        Ok(damaged)
    }

    /// Writes one entry; its time is now. Returns once it is durable. Blocks.
    pub fn append(&self, entry: &AuditEntry) -> io::Result<()> {
        let entry = AuditEntry { at_ms: self.clock.now_ms(), ..entry.clone() };
        let json = serde_json::to_string(&entry).map_err(io::Error::other)?;
        if json.len() > LINE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "an audit record of {} bytes is longer than {LINE_BYTES_MAX}",
                json.len()
            )));
        }
        let line = format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
        let mut open = self.open.lock();
        if let Some(reason) = &open.failed {
            return Err(io::Error::other(reason.clone()));
        }
        if open.end >= self.file_bytes_max {
            self.next_file(&mut open)?;
        }
        open.file.write_all_at(line.as_bytes(), open.end)?;
        if let Err(error) = open.file.sync() {
            open.failed = Some(format!("audit records take no more until restart: {error}"));
            return Err(error);
        }
        open.end += line.len() as u64;
        Ok(())
    }

    fn next_file(&self, open: &mut Open) -> io::Result<()> {
        let (files, number) = (open.files.clone(), open.files.last().map_or(1, |n| n + 1));
        // What a failed write left behind it would be read as lines.
        open.file.truncate(open.end)?;
        *open = Open::begin(self.disk.as_ref(), files, number)?;
        while open.files.len() > FILES_MAX {
            if let Err(error) = self.disk.remove(&path_of(open.files[0])) {
                warn!(%error, "old audit records could not be removed");
                break;
            }
            open.files.remove(0);
        }
        Ok(())
    }

    /// The newest entries, up to `limit`, of one tenant if `tenant` is given, written before
    /// `before_ms`. Blocks: reads files.
    pub fn read(
        &self,
        limit: usize,
        tenant: Option<&str>,
        before_ms: i64,
    ) -> io::Result<AuditPage> {
        let (files, end) = {
            let open = self.open.lock();
            (open.files.clone(), open.end)
        };
        let newest = files.last().copied();
        let mut page = AuditPage::default();
        for number in files.into_iter().rev() {
            let file = match self.disk.open(&path_of(number), OpenMode::Read) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let mut bytes = read_whole(file.as_ref())?;
            if Some(number) == newest {
                bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
            }
            for line in bytes.split(|b| *b == b'\n').rev().filter(|line| !line.is_empty()) {
                let Some(entry) = entry_of(line) else {
                    page.damaged += 1;
                    continue;
                };
                if entry.at_ms >= before_ms || tenant.is_some_and(|t| t != entry.tenant) {
                    continue;
                }
                if page.entries.len() == limit {
                    page.more = true;
                    return Ok(page);
                }
                page.entries.push(entry);
            }
        }
        Ok(page)
    }
}

impl Open {
    fn begin(disk: &dyn Disk, mut files: Vec<u64>, number: u64) -> io::Result<Self> {
        let file = disk.open(&path_of(number), OpenMode::CreateNew)?;
        file.sync()?;
        disk.sync_dir(Path::new(DIR))?;
        files.push(number);
        Ok(Self { files, file, end: 0, failed: None })
    }
}

fn entry_of(line: &[u8]) -> Option<AuditEntry> {
    let (prefix, json) = line.split_at_checked(PREFIX_BYTES)?;
    let sum = std::str::from_utf8(prefix).ok()?.strip_suffix(' ')?;
    if u32::from_str_radix(sum, 16) != Ok(crc32c::crc32c(json)) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn path_of(number: u64) -> PathBuf {
    PathBuf::from(format!("{DIR}/{number:012}.jsonl"))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".jsonl").filter(|n| n.len() == 12)?.parse().ok()
}

fn read_whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let bytes = file.bytes()?.min(2 * FILE_BYTES_MAX);
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::{Fault, FaultyDisk, ManualClock};

    use super::*;

    fn entry(tenant: &str, n: u64) -> AuditEntry {
        AuditEntry {
            at_ms: 0,
            from: String::new(),
            principal: "platform".to_owned(),
            action: "tenant.rename".to_owned(),
            tenant: tenant.to_owned(),
            tenant_id: 7,
            old: json!({ "n": n }),
            new: json!("x".repeat(1_000)),
            failed: None,
        }
    }

    fn open(disk: &FaultyDisk) -> (AuditLog, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(1_000));
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        (AuditLog::open(&disk, Arc::<ManualClock>::clone(&clock)).unwrap(), clock)
    }

    fn numbers(page: &AuditPage) -> Vec<u64> {
        page.entries.iter().map(|e| e.old["n"].as_u64().unwrap()).collect()
    }

    #[test]
    fn entries_are_read_newest_first() {
        let disk = FaultyDisk::new();
        let (log, clock) = open(&disk);
        for n in 0..10 {
            log.append(&entry(if n % 2 == 0 { "a" } else { "b" }, n)).unwrap();
            clock.advance(std::time::Duration::from_millis(1));
        }
        let (log, _) = open(&disk.after_crash(1));
        let page = log.read(3, None, i64::MAX).unwrap();
        assert_eq!((numbers(&page), page.more), (vec![9, 8, 7], true));
        assert_eq!(numbers(&log.read(99, Some("a"), i64::MAX).unwrap()), [8, 6, 4, 2, 0]);
        assert_eq!(numbers(&log.read(2, None, 1_005).unwrap()), [4, 3]);
        assert_eq!(page.entries[0].at_ms, 1_009);
    }

    #[test]
    fn torn_and_damaged_lines_hurt_no_others() {
        let disk = FaultyDisk::new();
        let (log, _) = open(&disk);
        (0..3).for_each(|n| log.append(&entry("a", n)).unwrap());
        let path = "audit/000000000001.jsonl";
        disk.tamper(path, |bytes| {
            bytes[40] ^= 1;
            bytes.extend_from_slice(b"12345678 {\"half\":");
        })
        .unwrap();
        let (log, _) = open(&disk);
        log.append(&entry("a", 3)).unwrap();
        let page = log.read(99, None, i64::MAX).unwrap();
        assert_eq!((numbers(&page), page.damaged), (vec![3, 2, 1], 1));
    }

    #[test]
    fn after_a_failed_sync_nothing_is_written() {
        let disk = FaultyDisk::new();
        let (log, _) = open(&disk);
        disk.fail_at(disk.operations() + 2, Fault::Eio);
        assert!(log.append(&entry("a", 0)).is_err());
        let refused = log.append(&entry("a", 1)).unwrap_err().to_string();
        assert!(refused.starts_with("audit records take no more until restart"), "{refused}");
    }

    #[test]
    fn the_oldest_files_go() {
        let disk = FaultyDisk::new();
        let (log, _) = open(&disk);
        let log = AuditLog { file_bytes_max: 3_000, ..log };
        let written = 3 * (FILES_MAX as u64 + 2);
        (0..written).for_each(|n| log.append(&entry("a", n)).unwrap());
        let files = disk.files();
        assert_eq!(files.len(), FILES_MAX, "{files:?}");
        let left = numbers(&log.read(1_000, None, i64::MAX).unwrap());
        assert_eq!(left, (6..written).rev().collect::<Vec<_>>(), "all but the first two files");
    }
}
