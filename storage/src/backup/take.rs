//! Taking a backup while the store runs.

use std::path::{Path as DiskPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use model::{Disk, OpenMode};
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};

use super::copy::{self, Writer};
use super::format::{Backup, Copied, path_of};
use super::{BackupInfo, Place, Progress, numbers};
use crate::block::object::Object;
use crate::entries::{EntryPartition, SegmentHandle, Whole};
use crate::ground::on_disk;
use crate::manifest::{BlockMeta, PartitionState, SegmentMeta};
use crate::partition::Partition;
use crate::{Error, Storage};

/// Blocks copied at a time.
const BLOCKS_AT_ONCE: usize = 4;

/// Bytes read at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// What of a data directory is not copied as it is: objects are, by name; the log is flushed; the
/// rest can be made anew.
const LEFT_OUT: [&str; 8] =
    ["log", "objects", "objects.tmp", "cache", "binding", "quarantine", "restore", "lock"];

/// A backup under way.
struct Run<'a> {
    storage: &'a Storage,
    to: &'a Arc<dyn ObjectStore>,
    progress: &'a Progress,
    /// What the newest backup has, by its name there.
    known: HashMap<String, Copied>,
    /// Lengths of what lies there.
    there: HashMap<String, u64>,
}

impl Storage {
    /// Copies everything to a place that holds nothing but backups of this store. Each partition
    /// is as of one moment, and all that was acknowledged before the call is in it. `disk` is the
    /// data directory.
    pub async fn back_up(
        &self,
        disk: &Arc<dyn Disk>,
        to: &Place,
        program: &str,
        progress: &Progress,
    ) -> Result<BackupInfo, Error> {
        let (to, _held) = (&to.objects, self.hold());
        let numbers = numbers(to.as_ref()).await?;
        let last = numbers.last().copied().unwrap_or(0);
        let now_ms = u64::try_from(self.clock.now_ms()).unwrap_or(0).max(last + 1);
        let run = Run::new(self, to, progress, &numbers).await?;
        let (mut objects, mut partitions) = (Vec::new(), Vec::new());
        for partition in &self.partitions {
            let (state, copied) = run.partition(partition, now_ms).await?;
            let bytes = state.blocks.iter().map(|block| block.bytes).sum();
            progress.expect(0, bytes);
            partitions.push(state);
            objects.extend(copied);
        }
        let mut entries = Vec::new();
        for partition in &self.entries.partitions {
            let state = run.entries(partition).await?;
            progress.expect(0, state.segments.iter().map(|segment| segment.bytes).sum());
            for meta in &state.segments {
                objects.extend(run.segment(meta).await?);
            }
            entries.push(state);
        }
        let blocks: Vec<BlockMeta> =
            partitions.iter().flat_map(|state: &PartitionState| state.blocks.clone()).collect();
        let copied = stream::iter(blocks).map(|meta| run.block(meta)).buffered(BLOCKS_AT_ONCE);
        let copied: Vec<Vec<Copied>> = copied.try_collect().await?;
        objects.extend(copied.into_iter().flatten());
        // After the rows: who they are of must be known as well.
        let files = run.files(disk, now_ms).await?;
        let (program, map) = (program.to_owned(), self.map.clone());
        let backup =
            Backup { created_ms: now_ms, program, map, partitions, entries, objects, files };
        let path = path_of(now_ms);
        let put = to.put_opts(&path, backup.encode()?.into(), PutMode::Create.into()).await;
        put.map_err(|source| Error::Objects { doing: format!("write {path}"), source })?;
        Ok(BackupInfo::of(&backup))
    }

    /// Has objects stay that no manifest names any more, as long as the result is held.
    fn hold(&self) -> impl Drop + '_ {
        self.holds.fetch_add(1, Ordering::AcqRel);
        Held(self)
    }
}

struct Held<'a>(&'a Storage);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<'a> Run<'a> {
    async fn new(
        storage: &'a Storage,
        to: &'a Arc<dyn ObjectStore>,
        progress: &'a Progress,
        numbers: &[u64],
    ) -> Result<Self, Error> {
        let mut known = HashMap::new();
        // A damaged one only costs that more is copied.
        for number in numbers.iter().rev() {
            if let Ok(backup) = Backup::read(to.as_ref(), *number).await {
                known = backup.objects.into_iter().map(|c| (c.stored.clone(), c)).collect();
                break;
            }
        }
        let mut there = HashMap::new();
        for kind in ["blocks", "snapshots", "segments"] {
            let mut listed = to.list(Some(&Path::from(kind)));
            let failed = |source| Error::Objects { doing: format!("list {kind}/"), source };
            while let Some(found) = listed.try_next().await.map_err(failed)? {
                there.insert(found.location.to_string(), found.size);
            }
        }
        Ok(Self { storage, to, progress, known, there })
    }

    /// The state of a partition after a flush, with its snapshots, which the next flush may remove.
    async fn partition(
        &self,
        partition: &Partition,
        now_ms: u64,
    ) -> Result<(PartitionState, Vec<Copied>), Error> {
        let losses = partition.losses();
        let lost = losses.blocks.first().map(|(meta, why)| format!("block {}: {why}", meta.name));
        if let Some(reason) = losses.incomplete.clone().or(lost) {
            let partition = partition.number;
            return Err(Error::Refused(format!(
                "partition {partition} is not whole, so a backup would not be either: {reason}"
            )));
        }
        self.storage.flush(partition).await?;
        let mut flush = partition.flush.lock().await;
        self.storage.settle(partition, &mut flush).await?;
        let state = flush.state.clone();
        let mut copied = Vec::new();
        self.progress.expect(
            state.snapshots.len() as u64,
            state.snapshots.iter().map(|snapshot| snapshot.bytes).sum(),
        );
        for snapshot in &state.snapshots {
            let path = Path::from(snapshot.name.as_str());
            let bytes = copy::read(self.storage.objects.as_ref(), &path).await?;
            let stored = format!("{}-{:08x}", snapshot.name, crc32c::crc32c(&bytes));
            copied.push(match self.kept(&stored) {
                Some(kept) => kept,
                None => self.put(&snapshot.name, stored, &bytes).await?,
            });
        }
        drop(flush);
        tracing::debug!(partition = partition.number, now_ms, "partition is in the backup");
        Ok((state, copied))
    }

    /// The state of a partition of entries after a flush.
    async fn entries(&self, partition: &EntryPartition) -> Result<PartitionState, Error> {
        let losses = &partition.losses;
        let lost = losses.segments.first();
        let lost = lost.map(|(meta, why)| format!("segment {}: {why}", meta.name));
        if let Some(reason) = losses.incomplete.clone().or(lost) {
            let partition = partition.number;
            return Err(Error::Refused(format!(
                "partition {partition} is not whole, so a backup would not be either: {reason}"
            )));
        }
        self.storage.flush_entries(partition).await?;
        Ok(partition.flush.lock().await.state.clone())
    }

    /// The objects of a segment, under a name that holds the sum of its table of streams, which has
    /// the sums of the others.
    async fn segment(&self, meta: &SegmentMeta) -> Result<Vec<Copied>, Error> {
        let handle = SegmentHandle::new(meta.clone(), &self.storage.objects, &self.storage.cache);
        let whole = handle.whole().await?;
        self.progress.expect(whole.len() as u64, 0);
        let in_backup = |path: &Path| {
            let object = path.filename().unwrap_or_default();
            format!("{}-{:08x}/{object}", meta.name, meta.index_checksum)
        };
        let mut copied = Vec::new();
        for object in whole {
            let path = match &object {
                Whole::Streams(path, _) => path.clone(),
                Whole::Other(object) => object.path.clone(),
            };
            let stored = in_backup(&path);
            if let Some(kept) = self.kept(&stored) {
                copied.push(kept);
                continue;
            }
            match object {
                Whole::Streams(path, bytes) => {
                    copied.push(self.put(path.as_ref(), stored, &bytes).await?);
                }
                Whole::Other(object) => copied.push(self.pieces(&object, stored).await?),
            }
        }
        Ok(copied)
    }

    /// An object, copied piece by piece, each of them checked.
    async fn pieces(&self, object: &Object, stored: String) -> Result<Copied, Error> {
        let path = Path::from(stored.as_str());
        let mut writer = Writer::new(self.to, path, self.progress);
        let mut at = 0;
        while at < object.sum.size {
            let end = object.sum.size.min(at + PIECE_BYTES);
            let written = match object.read(std::slice::from_ref(&(at..end))).await {
                Ok(read) => writer.write(read.first().map_or(&[], |piece| piece)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                writer.abandon().await;
                return Err(error);
            }
            at = end;
        }
        let (bytes, crc32c) = writer.finish().await?;
        Ok(Copied { name: object.path.to_string(), stored, bytes, crc32c })
    }

    /// The objects of a block. They are in the backup under a name that holds the sum of the
    /// index, which has the sums of the others: what is there under it is the same.
    async fn block(&self, meta: BlockMeta) -> Result<Vec<Copied>, Error> {
        let stored = self.storage.stored(meta.clone());
        let index_at = stored.block.index_object();
        let index = copy::read(self.storage.objects.as_ref(), &index_at).await?;
        let prefix = format!("{}-{:08x}", meta.name, crc32c::crc32c(&index));
        let block = stored.block.open().await?;
        let tables = block.tables();
        self.progress.expect(tables.len() as u64 + 1, 0);
        let in_backup = |name: &str| format!("{prefix}/{name}");
        let index_name = index_at.filename().unwrap_or_default();
        let mut copied = vec![match self.kept(&in_backup(index_name)) {
            Some(kept) => kept,
            None => self.put(index_at.as_ref(), in_backup(index_name), &index).await?,
        }];
        for table in tables {
            let stored = in_backup(table.name());
            if let Some(kept) = self.kept(&stored) {
                copied.push(kept);
                continue;
            }
            let path = Path::from(stored.as_str());
            let mut writer = Writer::new(self.to, path, self.progress);
            let mut at = 0;
            while at < table.bytes() {
                let end = table.bytes().min(at + PIECE_BYTES);
                let written = match table.read(at..end).await {
                    Ok(piece) => writer.write(&piece).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = written {
                    writer.abandon().await;
                    return Err(error);
                }
                at = end;
            }
            let (bytes, crc32c) = writer.finish().await?;
            copied.push(Copied { name: table.path().to_string(), stored, bytes, crc32c });
        }
        let bytes: u64 = copied.iter().map(|c| c.bytes).sum();
        if bytes != meta.bytes {
            return Err(Error::Corrupt {
                what: format!("block {}", meta.name),
                reason: format!("its objects have {bytes} bytes, the manifest says {}", meta.bytes),
            });
        }
        Ok(copied)
    }

    /// Files beside the store. What is written to meanwhile is appended to, or replaced whole, and
    /// its readers cut a torn end off.
    async fn files(&self, disk: &Arc<dyn Disk>, now_ms: u64) -> Result<Vec<Copied>, Error> {
        let found = on_disk(disk, |disk| {
            let mut found = Vec::new();
            walk(disk, DiskPath::new(""), &mut found).map_err(|source| Error::Disk {
                doing: "list files to back up".to_owned(),
                source,
            })?;
            Ok(found)
        });
        let mut copied = Vec::new();
        for (file, bytes) in found.await? {
            self.progress.expect(1, bytes);
            let name = file.to_string_lossy().into_owned();
            let stored = format!("files/{now_ms:016}/{name}");
            copied.extend(self.file(disk, &file, name, stored).await?);
        }
        Ok(copied)
    }

    /// One file, as long as it is now; `None` if it is gone.
    async fn file(
        &self,
        disk: &Arc<dyn Disk>,
        file: &DiskPath,
        name: String,
        stored: String,
    ) -> Result<Option<Copied>, Error> {
        let failed = {
            let name = name.clone();
            move |source| Error::Disk { doing: format!("read {name}"), source }
        };
        let opened = {
            let file = file.to_owned();
            on_disk(disk, move |disk| match disk.open(&file, OpenMode::Read) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                opened => opened
                    .and_then(|open| Ok((open.bytes()?, open)))
                    .map(Some)
                    .map_err(failed.clone()),
            })
        };
        let Some((length, open)) = opened.await? else { return Ok(None) };
        let open: Arc<dyn model::DiskFile> = open.into();
        let mut writer = Writer::new(self.to, Path::from(stored.as_str()), self.progress);
        let mut at = 0;
        while at < length {
            let (open, end) = (Arc::clone(&open), length.min(at + PIECE_BYTES));
            let name = name.clone();
            let piece = on_disk(disk, move |_| {
                let mut piece = vec![0; (end - at) as usize];
                let read = open.read_exact_at(&mut piece, at);
                read.map_err(|source| Error::Disk { doing: format!("read {name}"), source })?;
                Ok(piece)
            });
            writer.write(&piece.await?).await?;
            at = end;
        }
        let (bytes, crc32c) = writer.finish().await?;
        Ok(Some(Copied { name, stored, bytes, crc32c }))
    }

    /// What an earlier backup has under a name, if it is still there.
    fn kept(&self, stored: &str) -> Option<Copied> {
        let known = self.known.get(stored)?;
        if self.there.get(stored) != Some(&known.bytes) {
            return None;
        }
        self.progress.kept(1, known.bytes);
        Some(known.clone())
    }

    async fn put(&self, name: &str, stored: String, bytes: &[u8]) -> Result<Copied, Error> {
        let mut writer = Writer::new(self.to, Path::from(stored.as_str()), self.progress);
        writer.write(bytes).await?;
        let (bytes, crc32c) = writer.finish().await?;
        Ok(Copied { name: name.to_owned(), stored, bytes, crc32c })
    }
}

/// Files below a directory, with their lengths.
fn walk(disk: &dyn Disk, dir: &DiskPath, found: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    for entry in disk.list(dir)? {
        let path = dir.join(&entry.name);
        if dir.as_os_str().is_empty() && LEFT_OUT.contains(&entry.name.as_str()) {
            continue;
        }
        if entry.is_dir {
            walk(disk, &path, found)?;
        } else {
            found.push((path, entry.bytes));
        }
    }
    Ok(())
}
