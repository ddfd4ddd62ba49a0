//! Restoring a backup into an empty place, or seeing whether it could be.

use std::path::{Path as DiskPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use model::{Disk, OpenMode};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::copy::{self, Writer};
use super::format::{Backup, Copied};
use super::{BackupInfo, Place, Progress, numbers};
use crate::ground::{RESTORING, local_objects, on_disk};
use crate::log::LocalLog;
use crate::manifest::{self, PartitionState};
use crate::objects::RESTORING_OBJECT;
use crate::{Config, Error, FarObjects};

/// Names told of what is damaged; the rest is counted.
const NAMED_MAX: usize = 10;

/// Where a backup goes.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The data directory, which must be empty.
    pub disk: Arc<dyn Disk>,
    /// Where objects go; `None`: below `objects/` of the data directory.
    pub objects: Option<FarObjects>,
    /// Settings of the store.
    pub config: Config,
}

/// Restores the backup named, or the newest one; without a place, only sees whether all of it is
/// there and whole.
pub async fn restore(
    from: &Place,
    backup: Option<u64>,
    to: Option<&Restore>,
    progress: &Progress,
) -> Result<BackupInfo, Error> {
    let from = from.objects.as_ref();
    let newest = match backup {
        Some(backup) => backup,
        None => {
            let newest = numbers(from).await?.last().copied();
            newest.ok_or_else(|| Error::Refused("there is no backup".to_owned()))?
        }
    };
    let backup = Backup::read(from, newest).await?;
    let copied = backup.objects.len() + backup.files.len();
    progress.expect(copied as u64, backup.bytes());
    let objects = match to {
        None => None,
        Some(to) => Some(to.begin().await?),
    };
    let mut damaged = Damaged::default();
    for object in &backup.objects {
        let verified = match &objects {
            Some(objects) => object_to(from, object, objects, progress).await,
            None => seen(from, object, progress).await,
        };
        damaged.note(verified)?;
    }
    for file in &backup.files {
        let verified = match to {
            Some(to) => file_to(from, file, &to.disk, progress).await,
            None => seen(from, file, progress).await,
        };
        damaged.note(verified)?;
    }
    damaged.tell()?;
    if let (Some(to), Some(objects)) = (to, &objects) {
        to.end(objects, &backup).await?;
    }
    Ok(BackupInfo::of(&backup))
}

impl Restore {
    /// Sees that nothing is there, and marks the place as not whole.
    async fn begin(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        on_disk(&self.disk, |disk| {
            let failed =
                |source| Error::Disk { doing: "look into the data directory".to_owned(), source };
            if let Some(entry) = disk.list(DiskPath::new("")).map_err(failed)?.first() {
                return Err(Error::Refused(format!(
                    "the data directory is not empty: it has {:?}",
                    entry.name
                )));
            }
            write_file(disk, DiskPath::new(RESTORING), &[])
        })
        .await?;
        let Some(far) = &self.objects else { return local_objects(&self.disk).await };
        let objects = &far.objects;
        let failed =
            |source| Error::Objects { doing: "look into the object store".to_owned(), source };
        if let Some(found) = objects.list(None).try_next().await.map_err(failed)? {
            return Err(Error::Refused(format!(
                "the object store is not empty below its prefix: it has {}",
                found.location
            )));
        }
        let mark = Path::from(RESTORING_OBJECT);
        let put = objects.put_opts(&mark, PutPayload::new(), PutMode::Create.into()).await;
        put.map_err(|source| Error::Objects { doing: format!("write object {mark}"), source })?;
        Ok(Arc::clone(objects))
    }

    /// Writes what makes objects a store, then takes the mark away.
    async fn end(&self, objects: &Arc<dyn ObjectStore>, backup: &Backup) -> Result<(), Error> {
        let states = || {
            let of_entries = backup.entries.iter().zip(backup.map.entry_numbers());
            backup.partitions.iter().zip(0u16..).chain(of_entries)
        };
        let covered = states().map(|(state, _)| state.covered).max().unwrap_or_default();
        for (state, partition) in states() {
            // The log begins anew there, for all of them.
            let state = PartitionState { covered, ..state.clone() };
            manifest::begin(objects.as_ref(), partition, state).await?;
        }
        backup.map.put(objects).await?;
        if self.objects.is_some() {
            // The first start on it is the first there ever was, and begins the log.
            let mark = Path::from(RESTORING_OBJECT);
            let removed = objects.delete(&mark).await;
            removed.map_err(|source| Error::Objects {
                doing: format!("delete object {mark}"),
                source,
            })?;
        } else {
            let log = self.config.log();
            on_disk(&self.disk, move |disk| LocalLog::begin_at(disk, covered, &log)).await?;
        }
        on_disk(&self.disk, |disk| {
            let removed = disk.remove(DiskPath::new(RESTORING)).and_then(|()| {
                disk.sync_dir(DiskPath::new(RESTORING).parent().unwrap_or(DiskPath::new("")))
            });
            removed.map_err(|source| Error::Disk { doing: "end a restore".to_owned(), source })
        })
        .await
    }
}

/// What of a backup is not as it was written.
#[derive(Debug, Default)]
struct Damaged {
    names: Vec<String>,
    count: usize,
}

impl Damaged {
    /// Goes on after damage, so that all of it is known; other errors end it.
    fn note(&mut self, verified: Result<(), Error>) -> Result<(), Error> {
        match verified {
            Err(Error::Corrupt { what, reason }) => {
                self.count += 1;
                if self.names.len() < NAMED_MAX {
                    self.names.push(format!("{what}: {reason}"));
                }
                Ok(())
            }
            other => other,
        }
    }

    fn tell(self) -> Result<(), Error> {
        if self.count == 0 {
            return Ok(());
        }
        let more = self.count - self.names.len();
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        Err(Error::Corrupt {
            what: "the backup".to_owned(),
            reason: format!("{}{more}", self.names.join("; ")),
        })
    }
}

/// Hands a copied object on piece by piece; fails if it is not what was copied.
async fn each(
    from: &dyn ObjectStore,
    copied: &Copied,
    mut take: impl AsyncFnMut(Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    let path = Path::from(copied.stored.as_str());
    let damaged = |reason: String| Error::Corrupt { what: format!("object {path}"), reason };
    let (mut bytes, mut sum) = (0, 0);
    let read = copy::each_piece(from, &path, async |piece: Bytes| {
        bytes += piece.len() as u64;
        sum = crc32c::crc32c_append(sum, &piece);
        take(piece).await
    });
    match read.await {
        Err(Error::Objects { source: StoreError::NotFound { .. }, .. }) => {
            return Err(damaged("it is missing".to_owned()));
        }
        read => read?,
    }
    if bytes != copied.bytes {
        return Err(damaged(format!("it has {bytes} bytes, {} were written", copied.bytes)));
    }
    if sum != copied.crc32c {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    Ok(())
}

async fn seen(from: &dyn ObjectStore, copied: &Copied, progress: &Progress) -> Result<(), Error> {
    each(from, copied, async |piece| {
        progress.done_bytes(piece.len() as u64);
        Ok(())
    })
    .await?;
    progress.done_object();
    Ok(())
}

async fn object_to(
    from: &dyn ObjectStore,
    copied: &Copied,
    to: &Arc<dyn ObjectStore>,
    progress: &Progress,
) -> Result<(), Error> {
    let mut writer = Writer::new(to, Path::from(copied.name.as_str()), progress);
    let read = each(from, copied, async |piece| writer.write(&piece).await).await;
    if let Err(error) = read {
        writer.abandon().await;
        return Err(error);
    }
    writer.finish().await.map(drop)
}

/// Files beside the store are small: they are read whole.
async fn file_to(
    from: &dyn ObjectStore,
    copied: &Copied,
    disk: &Arc<dyn Disk>,
    progress: &Progress,
) -> Result<(), Error> {
    let mut content = Vec::new();
    each(from, copied, async |piece| {
        progress.done_bytes(piece.len() as u64);
        content.extend_from_slice(&piece);
        Ok(())
    })
    .await?;
    let path = PathBuf::from(&copied.name);
    on_disk(disk, move |disk| write_file(disk, &path, &content)).await?;
    progress.done_object();
    Ok(())
}

fn write_file(disk: &dyn Disk, path: &DiskPath, content: &[u8]) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(DiskPath::new(""));
    let write = || {
        disk.create_dir_all(dir)?;
        let file = disk.open(path, OpenMode::CreateNew)?;
        file.write_all_at(content, 0)?;
        file.sync()?;
        disk.sync_dir(dir)
    };
    write().map_err(|source| Error::Disk { doing: format!("write {}", path.display()), source })
}
