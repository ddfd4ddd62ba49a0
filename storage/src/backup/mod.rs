//! Backup and restore: a copy of everything a store consists of, taken while it runs.
//!
//! ```text
//! each partition: flush ─► its state, and its snapshots, under one lock ─► blocks, in peace
//! files beside the store ─► ONE manifest, last
//! restore: manifest ─► every byte checked ─► partitions as of the backup, a log that begins there
//! ```
//!
//! Invariants: a backup exists once its manifest does, and not before; what a backup holds is
//! never changed by a later one, which copies only what is not there yet; what is restored is what
//! was copied, or the restore fails and names what is damaged. Layout: `docs/formats/backup.md`.

mod copy;
mod format;
mod prune;
mod restore;
mod take;

use std::path::Path as DiskPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;
use model::{Disk, DiskLock};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::{Error, FarObjects, LocalObjects};
use format::{BACKUPS, Backup, number_of};

pub use prune::{Keep, Pruned, prune};
pub use restore::{Restore, restore};

/// How far a backup or a restore is. Read by others while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    objects: AtomicU64,
    objects_done: AtomicU64,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
    objects_kept: AtomicU64,
}

/// Figures of a backup or a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Objects and files there are, as far as is known.
    pub objects: u64,
    /// Those that are done.
    pub objects_done: u64,
    /// Those of them that were there from an earlier backup.
    pub objects_kept: u64,
    /// Bytes there are, as far as is known.
    pub bytes: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
}

impl Progress {
    /// The figures now.
    pub fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            objects: read(&self.objects),
            objects_done: read(&self.objects_done),
            objects_kept: read(&self.objects_kept),
            bytes: read(&self.bytes),
            bytes_done: read(&self.bytes_done),
        }
    }

    fn expect(&self, objects: u64, bytes: u64) {
        self.objects.fetch_add(objects, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn done_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn done_object(&self) {
        self.objects_done.fetch_add(1, Ordering::Relaxed);
    }

    fn kept(&self, objects: u64, bytes: u64) {
        self.objects_kept.fetch_add(objects, Ordering::Relaxed);
        self.objects_done.fetch_add(objects, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Where backups lie: a directory, or a prefix of a bucket, that holds nothing else.
#[derive(Debug, Clone)]
pub struct Place {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Held by who writes.
    _lock: Option<Arc<dyn DiskLock>>,
}

impl Place {
    /// A directory to write to; one process at a time. Blocks.
    pub fn to_directory(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let doing = "lock the directory of backups; is another backup being taken?".to_owned();
        let lock = disk.lock(DiskPath::new("lock"));
        let lock = lock.map_err(|source| Error::Disk { doing, source })?;
        Ok(Self { _lock: Some(lock.into()), ..Self::from_directory(disk)? })
    }

    /// A directory to read. Blocks.
    pub fn from_directory(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let opened = LocalObjects::open(disk, DiskPath::new("backup"));
        let doing = "open the directory of backups".to_owned();
        let objects = opened.map_err(|source| Error::Objects { doing, source })?;
        Ok(Self { objects: Arc::new(objects), _lock: None })
    }

    /// Somewhere else.
    pub fn far(far: &FarObjects) -> Self {
        Self { objects: Arc::clone(&far.objects), _lock: None }
    }
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupInfo {
    /// When it was taken, milliseconds since the Unix epoch; also its name.
    pub created_ms: u64,
    /// Objects and files in it.
    pub objects: u64,
    /// Their bytes; what several backups share counts in each.
    pub bytes: u64,
}

impl BackupInfo {
    fn of(backup: &Backup) -> Self {
        let objects = (backup.objects.len() + backup.files.len()) as u64;
        Self { created_ms: backup.created_ms, objects, bytes: backup.bytes() }
    }
}

/// The backups in a place, oldest first, with what is wrong with those that cannot be read.
pub async fn backups(from: &Place) -> Result<Vec<(u64, Result<BackupInfo, Error>)>, Error> {
    let (from, mut all) = (from.objects.as_ref(), Vec::new());
    for number in numbers(from).await? {
        all.push((number, Backup::read(from, number).await.map(|b| BackupInfo::of(&b))));
    }
    Ok(all)
}

/// Names of the backups in a place, ascending.
async fn numbers(from: &dyn ObjectStore) -> Result<Vec<u64>, Error> {
    let listed: Result<Vec<_>, _> = from.list(Some(&Path::from(BACKUPS))).try_collect().await;
    let listed =
        listed.map_err(|source| Error::Objects { doing: "list backups".to_owned(), source })?;
    let mut numbers: Vec<u64> =
        listed.iter().filter_map(|found| number_of(found.location.filename()?)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
