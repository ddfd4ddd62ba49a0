//! Parts of objects as files of the local disk. They are never trusted: each says of which store,
//! object and part it is, and is summed up; what does not fit is removed and read anew.
//!
//! ```text
//! 0   "TAFFRPRT"      8  version u32    12  length of the name u32
//! 16  store u128      32 bytes of the object u64
//! 40  part u32        44 bytes of the part u32    48  crc32c of the part u32
//! 52  crc32c of the header before and the name u32       56  name       then the part
//! ```
//!
//! Numbers are little endian. Nothing is synced: what a crash tears is found by its sum.

use std::io;
use std::path::{Path as DiskPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use model::{Disk, OpenMode};
use object_store::path::Path;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use super::PART_BYTES;
use crate::lru::Lru;

const DIR: &str = "cache";
const MAGIC: &[u8; 8] = b"TAFFRPRT";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 56;

/// Parts that wait for a slow disk: beyond, they are not kept.
const PENDING_MAX: usize = 128;

/// Free disk that is left beside what the rest of the store keeps free.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// A part of an object, and how long the object is.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) bytes: Bytes,
    pub(super) object_bytes: u64,
}

/// What the cache has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheTotals {
    /// Bytes of disk it takes.
    pub bytes: u64,
    /// Parts that were there.
    pub hits: u64,
    /// Parts that were not.
    pub misses: u64,
    /// Files that were not what they should be.
    pub damaged: u64,
    /// Files that could not be written.
    pub failed_writes: u64,
}

/// The files.
#[derive(Debug)]
pub(super) struct PartFiles {
    disk: Arc<dyn Disk>,
    store: u128,
    reserve_bytes: u64,
    known: Mutex<Lru<u128, ()>>,
    /// Parts on their way to the disk.
    pending: Mutex<HashMap<u128, Part>>,
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    failed_writes: AtomicU64,
}

impl PartFiles {
    /// Those that are there from earlier, as many as fit. Blocks.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        store: u128,
        bytes_max: u64,
        reserve_bytes: u64,
    ) -> Self {
        let mut known = Lru::new(bytes_max);
        let listed = disk
            .create_dir_all(DiskPath::new(DIR))
            .and_then(|()| disk.list(DiskPath::new(DIR)))
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "cache of objects begins empty");
                Vec::new()
            });
        for file in listed {
            match u128::from_str_radix(&file.name, 16) {
                Ok(key) => {
                    for (gone, ()) in known.put(key, (), file.bytes) {
                        drop(disk.remove(&path_of(gone)));
                    }
                }
                Err(_) => drop(disk.remove(&DiskPath::new(DIR).join(&file.name))),
            }
        }
        let (hits, misses, damaged, failed_writes) = Default::default();
        let (known, pending) = (Mutex::new(known), Mutex::default());
        Self { disk, store, reserve_bytes, known, pending, hits, misses, damaged, failed_writes }
    }

    pub(super) fn totals(&self) -> CacheTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheTotals {
            bytes: self.known.lock().bytes(),
            hits: read(&self.hits),
            misses: read(&self.misses),
            damaged: read(&self.damaged),
            failed_writes: read(&self.failed_writes),
        }
    }

    /// Whether a file of this part seems to be there.
    pub(super) fn has(&self, object: &Path, part: u32) -> bool {
        self.known.lock().has(&key_of(object, part))
    }

    /// A part that is not on the disk yet.
    pub(super) fn pending(&self, object: &Path, part: u32) -> Option<Part> {
        let found = self.pending.lock().get(&key_of(object, part)).cloned();
        self.hits.fetch_add(u64::from(found.is_some()), Ordering::Relaxed);
        found
    }

    /// Whether parts are on their way to the disk.
    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        !self.pending.lock().is_empty()
    }

    /// Counts parts that were looked for and are not there.
    pub(super) fn note_misses(&self, parts: usize) {
        self.misses.fetch_add(parts as u64, Ordering::Relaxed);
    }

    /// Reads a part. Blocks.
    pub(super) fn get(&self, object: &Path, part: u32) -> Option<Part> {
        let key = key_of(object, part);
        if self.known.lock().get(&key).is_none() {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let path = path_of(key);
        match self.read(&path).map(|bytes| self.decode(&bytes, object, part)) {
            Ok(Some(part)) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Some(part);
            }
            Ok(None) => tracing::warn!(%object, part, "cached part of an object is damaged"),
            // Let go of by another reader.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%object, part, %error, "cached part of an object cannot be read");
            }
        }
        self.damaged.fetch_add(1, Ordering::Relaxed);
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.remove(object, part);
        None
    }

    fn read(&self, path: &DiskPath) -> io::Result<Bytes> {
        let file = self.disk.open(path, OpenMode::Read)?;
        // Longer than any part with its header and the longest name: not ours.
        let bytes = file.bytes()?.min(2 * PART_BYTES);
        let mut content = vec![0; bytes as usize];
        file.read_exact_at(&mut content, 0)?;
        Ok(content.into())
    }

    /// Keeps parts, in the background; they can be had at once.
    pub(super) fn keep(self: &Arc<Self>, object: &Path, parts: impl Iterator<Item = (u32, Part)>) {
        let mut kept = Vec::new();
        let mut pending = self.pending.lock();
        for (number, part) in parts {
            if pending.len() < PENDING_MAX {
                pending.insert(key_of(object, number), part.clone());
                kept.push((number, part));
            }
        }
        drop(pending);
        let (files, object) = (Arc::clone(self), object.clone());
        drop(tokio::task::spawn_blocking(move || {
            for (number, part) in kept {
                files.put(&object, number, &part);
                files.pending.lock().remove(&key_of(&object, number));
            }
        }));
    }

    /// Keeps a part if there is room for it. Blocks.
    fn put(&self, object: &Path, part: u32, content: &Part) {
        let key = key_of(object, part);
        if self.known.lock().has(&key) {
            return;
        }
        let header = self.header(object, part, content);
        if let Err(error) = self.write(key, &header, &content.bytes) {
            drop(self.disk.remove(&path_of(key)));
            // The disk may stay full for hours: told by the counter, and once by a line.
            if self.failed_writes.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(%error, "parts of objects cannot be kept on the local disk");
            }
            return;
        }
        let bytes = (header.len() + content.bytes.len()) as u64;
        let gone = self.known.lock().put(key, (), bytes);
        for (key, ()) in gone {
            drop(self.disk.remove(&path_of(key)));
        }
    }

    fn write(&self, key: u128, header: &[u8], content: &[u8]) -> io::Result<()> {
        if self.disk.free_bytes()? < self.reserve_bytes.saturating_add(FREE_BYTES_MIN) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path = path_of(key);
        let file = match self.disk.open(&path, OpenMode::CreateNew) {
            // By another reader at the same moment, or left by one that failed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(&path)?;
                self.disk.open(&path, OpenMode::CreateNew)?
            }
            file => file?,
        };
        file.write_all_at(header, 0)?;
        file.write_all_at(content, header.len() as u64)
    }

    /// Forgets a part. Blocks.
    pub(super) fn remove(&self, object: &Path, part: u32) {
        let key = key_of(object, part);
        if self.known.lock().remove(&key).is_some() {
            drop(self.disk.remove(&path_of(key)));
        }
    }

    fn header(&self, object: &Path, part: u32, content: &Part) -> Vec<u8> {
        let name = object.as_ref().as_bytes();
        let mut header = Vec::with_capacity(HEADER_BYTES + name.len());
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(name.len() as u32).to_le_bytes());
        header.extend_from_slice(&self.store.to_le_bytes());
        header.extend_from_slice(&content.object_bytes.to_le_bytes());
        header.extend_from_slice(&part.to_le_bytes());
        header.extend_from_slice(&(content.bytes.len() as u32).to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&content.bytes).to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header), name);
        header.extend_from_slice(&sum.to_le_bytes());
        header.extend_from_slice(name);
        header
    }

    /// The part, if the file is what it should be.
    fn decode(&self, file: &Bytes, object: &Path, part: u32) -> Option<Part> {
        let name = object.as_ref().as_bytes();
        let header = file.get(..HEADER_BYTES)?;
        let content_at = HEADER_BYTES + name.len();
        let u32_at = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?))
        };
        let object_bytes = u64::from_le_bytes(header.get(32..40)?.try_into().ok()?);
        let expected =
            Part { bytes: file.get(content_at..).map(|c| file.slice_ref(c))?, object_bytes };
        // The name follows from the key, and everything else from the content: as it was written.
        let is_ours = u32_at(44)? as usize == expected.bytes.len()
            && self.header(object, part, &expected) == file[..content_at];
        is_ours.then_some(expected)
    }
}

/// Names of files, of which there may be more than objects of this store.
fn key_of(object: &Path, part: u32) -> u128 {
    let mut text = Vec::with_capacity(object.as_ref().len() + 4);
    text.extend_from_slice(&part.to_le_bytes());
    text.extend_from_slice(object.as_ref().as_bytes());
    xxh3_128(&text)
}

fn path_of(key: u128) -> PathBuf {
    DiskPath::new(DIR).join(format!("{key:032x}"))
}
