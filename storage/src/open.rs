//! Opening a data directory: manifests, snapshots, then the log from where they end.

use std::io;
use std::path::Path as DiskPath;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures::TryStreamExt;
use hashbrown::HashSet;
use model::{Clock, Disk, DiskLock, Log, Position, Random, Record, RecordKind, Resolution};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tenancy::TenantId;

use crate::block::{ALWAYS_THERE, BlockCache};
use crate::changes::Changes;
use crate::compact::Counters;
use crate::entries::{self, Entries, RestoredEntries};
use crate::error::error_text;
use crate::ground::{Claim, Ground, local_objects};
use crate::head::{self, Head};
use crate::log::{self, LocalLog, Recovery, Replay};
use crate::manifest::{BlockMeta, Found, ManifestStore, PartitionState};
use crate::partition::{FlushState, Losses, Partition, StoredBlock};
use crate::partition_map::{ENTRIES_FIRST, PartitionMap};
use crate::replay;
use crate::retention::ClockGuard;
use crate::tombstone::Tombstones;
use crate::usage::{Usage, tenant_series};
use crate::{Config, Error, FarObjects, Storage};

/// What the store stands on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Where blocks go; `None`: below `objects/` of the disk.
    pub objects: Option<FarObjects>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// A partition before the log was replayed.
pub(crate) struct Restored {
    pub(crate) head: Head,
    manifest: ManifestStore,
    state: PartitionState,
    blocks: Vec<StoredBlock>,
    /// Blocks that are not whole, and why.
    missing: Vec<(BlockMeta, String)>,
    /// What of it is lost or cannot be read; it then takes no writes.
    broken: Option<String>,
    /// Why nobody knows which blocks there are, if so.
    blocks_unknown: Option<String>,
    /// Damage that costs nothing.
    mended: Vec<String>,
    /// Whether it is accepted that a part of the log is gone.
    is_accepted: bool,
    /// Objects that are stored and that the manifest does not name.
    unnamed: Vec<Path>,
    /// Whether the log renumbered the series: the stored snapshots have other numbers.
    renumbered: bool,
    /// What was deleted, from the manifest and the log.
    tombstones: Tombstones,
    /// Metadata records in the log: the stored snapshots do not have them.
    metadata_changes: u64,
}

impl Storage {
    /// Opens a data directory, or makes a new one, and replays what was not flushed. Fails if
    /// another process has it open. Damage to single records does not stop it: see
    /// [`Storage::damage`].
    pub async fn open(config: Config, parts: Parts) -> Result<Arc<Self>, Error> {
        Self::open_accepting(config, parts, &[]).await
    }

    /// The same; in these partitions it is accepted that series are not known and that a part of
    /// the log is gone: they take writes.
    pub(crate) async fn open_accepting(
        config: Config,
        parts: Parts,
        accepted: &[u16],
    ) -> Result<Arc<Self>, Error> {
        let lock = lock(parts.disk.as_ref())?;
        let ground = Ground::open(&config, &parts).await?;
        let Ground { objects, far, map, claim } = ground;
        let cache = BlockCache::new(config.block_cache_bytes);
        let restored =
            restore_metrics(&objects, &cache, &map, claim.as_ref(), &parts, accepted).await?;
        let entries =
            restore_entries(&objects, &cache, &map, claim.as_ref(), &parts, &restored, accepted)
                .await?;
        let replayed = tokio::task::spawn_blocking({
            let (disk, config) = (Arc::clone(&parts.disk), config.clone());
            move || replay(disk, &config, restored, entries)
        });
        if let Some(claim) = &claim {
            claim.note(&parts.disk).await?;
        }
        let (log, recovery, mut restored, entries) =
            replayed.await.map_err(|e| Error::Internal(format!("replay the log: {e}")))??;
        let usage = Usage::new(Arc::clone(&parts.clock));
        let now = parts.clock.monotonic().as_secs_f64();
        let written = restored.iter().flat_map(|r| r.state.blocks.iter().map(|b| b.created_ms));
        let guard = ClockGuard::new(written.max(), parts.clock.now_ms(), now);
        let unnamed: Vec<Vec<Path>> = restored.iter_mut().map(Restored::take_unnamed).collect();
        let partitions =
            (0..).zip(restored).map(|(number, r)| r.finish(number, &usage, now)).collect();
        let mut all = Entries::default();
        let times = (parts.clock.now_ms(), now);
        let mut of_entries = Vec::new();
        for mut one in entries {
            of_entries.push(one.take_unnamed());
            all.partitions.push(one.finish(log.end(), &all.active, times));
        }
        let storage = Arc::new(Self {
            config,
            entries: all,
            clock: parts.clock,
            objects,
            far,
            requests: parts.objects.map(|far| far.counts),
            log: Arc::new(log),
            cache,
            map,
            partitions,
            usage,
            changes: Changes::default(),
            recovery,
            deleting: tokio::sync::Mutex::default(),
            rules: parking_lot::RwLock::default(),
            clock_guard: parking_lot::Mutex::new(guard),
            wake: tokio::sync::Notify::new(),
            compact: tokio::sync::Mutex::default(),
            graves: parking_lot::Mutex::default(),
            counters: Counters::default(),
            holds: AtomicUsize::new(0),
            _lock: lock,
        });
        for (partition, paths) in storage.partitions.iter().zip(unnamed) {
            storage.retire(partition, paths.into_iter());
        }
        for (partition, paths) in storage.entries.partitions.iter().zip(of_entries) {
            storage.retire_entries(partition, paths.into_iter());
        }
        Ok(storage)
    }
}

/// Sets damaged records of the log aside, so that the next start takes writes everywhere. The
/// data directory must not be in use. `far` is where its objects lie, if not in it.
pub async fn quarantine(
    disk: Arc<dyn Disk>,
    far: Option<&FarObjects>,
) -> Result<log::Report, Error> {
    let lock = lock(disk.as_ref())?;
    let objects = match far {
        Some(far) => far.of_data_directory(&disk).await?,
        None => local_objects(&disk).await?,
    };
    let map = PartitionMap::load(&objects, Config::default().counts()).await?;
    let mut from = None;
    for number in map.numbers() {
        let (_, state) = ManifestStore::load(Arc::clone(&objects), number).await?;
        if state.number == 0 && number >= ENTRIES_FIRST && map.is_older_than_entries() {
            continue;
        }
        from = Some(from.map_or(state.covered, |f: Position| f.min(state.covered)));
    }
    let work = tokio::task::spawn_blocking(move || {
        log::quarantine(disk.as_ref(), from.unwrap_or_default())
    });
    let report = work.await.map_err(|e| Error::Internal(format!("quarantine: {e}")))?;
    drop(lock);
    report
}

pub(crate) fn lock(disk: &dyn Disk) -> Result<Box<dyn DiskLock>, Error> {
    disk.lock(DiskPath::new("lock")).map_err(|source| {
        let doing = match source.kind() {
            io::ErrorKind::WouldBlock => "lock the data directory, which another process has open",
            _ => "lock the data directory",
        };
        Error::Disk { doing: doing.to_owned(), source }
    })
}

/// Manifests, blocks and heads of all partitions of metrics, each on its own task: a restart is the
/// time the slowest core takes.
async fn restore_metrics(
    objects: &Arc<dyn ObjectStore>,
    cache: &Arc<BlockCache>,
    map: &PartitionMap,
    claim: Option<&Claim>,
    parts: &Parts,
    accepted: &[u16],
) -> Result<Vec<Restored>, Error> {
    let restoring: Vec<_> = (0..map.partitions())
        .map(|number| {
            let (objects, cache) = (Arc::clone(objects), Arc::clone(cache));
            let (hash_key, claim) = (parts.random.next_u64(), claim.cloned());
            let is_accepted = accepted.contains(&number);
            tokio::spawn(async move {
                let restored = restore(number, &objects, &cache, hash_key, claim.as_ref());
                let mut restored = restored.await?;
                if is_accepted {
                    restored.is_accepted = true;
                    restored.head.note_gap();
                }
                Ok::<_, Error>(restored)
            })
        })
        .collect();
    let mut restored = Vec::with_capacity(restoring.len());
    for one in restoring {
        let joined = one.await;
        restored.push(joined.map_err(|e| Error::Internal(format!("restore a partition: {e}")))??);
    }
    Ok(restored)
}

/// The same of entries. Where the map is older than these, their part of the log begins where that
/// of metrics does.
async fn restore_entries(
    objects: &Arc<dyn ObjectStore>,
    cache: &Arc<BlockCache>,
    map: &PartitionMap,
    claim: Option<&Claim>,
    parts: &Parts,
    metrics: &[Restored],
    accepted: &[u16],
) -> Result<Vec<RestoredEntries>, Error> {
    let first = metrics.iter().map(|r| r.state.covered).min();
    let first = first.filter(|_| map.is_older_than_entries());
    let mut restored = Vec::new();
    for number in map.entry_numbers() {
        let key = parts.random.next_u64();
        let mut one = entries::restore(number, objects, cache, key, claim, first).await?;
        if accepted.contains(&number) {
            one.accept();
        }
        restored.push(one);
    }
    Ok(restored)
}

/// Manifest, blocks and head of one partition, as of its last flush.
async fn restore(
    number: u16,
    objects: &Arc<dyn ObjectStore>,
    cache: &Arc<BlockCache>,
    hash_key: u64,
    claim: Option<&Claim>,
) -> Result<Restored, Error> {
    let (mut manifest, mut state, found) =
        ManifestStore::load_intact(Arc::clone(objects), number).await?;
    let (mut mended, mut blocks_unknown) = (Vec::new(), None);
    match found {
        Found::Whole(errors) => mended.extend(errors.iter().map(|e| mended_text(number, e))),
        Found::WithoutNewest(error) => mended.push(mended_text(number, &error)),
        Found::Lost(error) => {
            let left = format!(
                "its blocks after manifest {}, and what of them was deleted, are not known, and questions about them fail",
                state.number
            );
            blocks_unknown = Some(lost(number, error, &left)?);
        }
    }
    if let (Some(claim), None) = (claim, &blocks_unknown) {
        state = claim.partition(&mut manifest, None).await?;
    }
    let mut broken = blocks_unknown.clone();
    let (mut head, damage) = restore_head(objects, &state, hash_key).await;
    if let Some(error) = damage {
        let left = "samples in the log of series that it names are not served";
        broken.get_or_insert(lost(number, error, left)?);
    }
    if broken.is_some() {
        head.note_gap();
    }
    let stored = list_stored(number, objects).await;
    let (mut blocks, mut missing) = (Vec::new(), Vec::new());
    for meta in &state.blocks {
        match stored.as_ref().ok().and_then(|stored| what_is_missing(meta, stored)) {
            None => blocks.push(StoredBlock::new(meta.clone(), objects, cache)),
            // The rest stays readable, and writing goes on; the error names the object.
            Some(reason) => {
                let block = &meta.name;
                tracing::error!(
                    partition = number,
                    block,
                    reason,
                    "block is not whole; questions about its time range fail"
                );
                missing.push((meta.clone(), reason));
            }
        }
    }
    let stored = stored.unwrap_or_default();
    // What lies there under a name that nothing gave is removed later: nobody else gets the name.
    let numbers = stored.iter().filter_map(|(path, _)| number_of(path));
    state.next_object = numbers.map(|n| n + 1).max().unwrap_or(0).max(state.next_object);
    let unnamed = unnamed(&state, &stored);
    let tombstones = Tombstones::new(state.tombstones.iter().cloned());
    // When series had their last sample is in the snapshots: it may have been deleted since.
    for deleted in tombstones.iter().filter(|t| t.means(Resolution::Raw)) {
        head.delete(deleted.tenant, &deleted.matchers, deleted.range);
    }
    Ok(Restored {
        head,
        tombstones,
        manifest,
        state,
        blocks,
        missing,
        broken,
        blocks_unknown,
        mended,
        is_accepted: false,
        unnamed,
        renumbered: false,
        metadata_changes: 0,
    })
}

/// The head as its snapshots have it: up to the first one that cannot be read, and why not.
pub(crate) async fn restore_head(
    objects: &Arc<dyn ObjectStore>,
    state: &PartitionState,
    hash_key: u64,
) -> (Head, Option<Error>) {
    let mut head = Head::new(hash_key);
    let mut whole: Vec<Bytes> = Vec::new();
    for snapshot in &state.snapshots {
        let path = Path::from(snapshot.name.as_str());
        let read = async { objects.get(&path).await?.bytes().await };
        let restored = match read.await {
            Ok(bytes)
                if snapshot
                    .checksum
                    .is_some_and(|c| head::snapshot_checksum(&bytes) != Some(c)) =>
            {
                Err(Error::Corrupt {
                    what: format!("snapshot {path}"),
                    reason: "it is not the one that the manifest names, or it is cut short"
                        .to_owned(),
                })
            }
            Ok(bytes) => head.restore(&bytes).map(|()| bytes).map_err(|error| match error {
                Error::Corrupt { reason, .. } => {
                    Error::Corrupt { what: format!("snapshot {path}"), reason }
                }
                error => error,
            }),
            Err(object_store::Error::NotFound { .. }) => Err(Error::Corrupt {
                what: format!("snapshot {path}"),
                reason: "the object is missing".to_owned(),
            }),
            Err(source) => Err(Error::Objects { doing: format!("read snapshot {path}"), source }),
        };
        match restored {
            Ok(bytes) => whole.push(bytes),
            Err(error) => {
                // It may have been taken in by half; those before it went in once already.
                let mut head = Head::new(hash_key);
                let sound = whole.iter().try_for_each(|bytes| head.restore(bytes));
                return (if sound.is_ok() { head } else { Head::new(hash_key) }, Some(error));
            }
        }
    }
    (head, None)
}

/// What is said of a partition of which a part is lost. A format of a later version is no damage:
/// the start ends there.
fn lost(number: u16, error: Error, left: &str) -> Result<String, Error> {
    if matches!(error, Error::Unsupported { .. }) {
        return Err(error);
    }
    let error = error_text(&error);
    tracing::error!(partition = number, error, "a part of a partition cannot be read");
    Ok(format!(
        "{error}; {left}; stop, put the object back from a backup or give it up with \
         `taffrail tool quarantine`, and start again"
    ))
}

/// What is said of a manifest whose content is known from elsewhere.
fn mended_text(number: u16, error: &Error) -> String {
    let error = error_text(error);
    tracing::error!(
        partition = number,
        error,
        "a manifest is damaged; what it said is known from elsewhere"
    );
    format!("{error}; what it said is known from the next one or from the log")
}

/// Names and sizes of the objects a partition has: those of its blocks, snapshots and segments.
pub(crate) async fn list_stored(
    number: u16,
    objects: &Arc<dyn ObjectStore>,
) -> Result<Vec<(Path, u64)>, object_store::Error> {
    let mut stored = Vec::new();
    for kind in ["blocks", "snapshots", "segments"] {
        let dir = Path::from(format!("{kind}/{number:04}"));
        let mut found = objects.list(Some(&dir));
        while let Some(object) = found.try_next().await? {
            stored.push((object.location, object.size));
        }
    }
    stored.sort_unstable();
    Ok(stored)
}

/// The object that a stored one is, or is part of: `<kind>/<partition>/<number>`.
pub(crate) fn owner_of(object: &Path) -> String {
    object.as_ref().splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

/// The number in the name of the object that a stored one is, or is part of.
pub(crate) fn number_of(object: &Path) -> Option<u64> {
    owner_of(object).rsplit('/').next()?.parse().ok()
}

/// Why a block cannot be whole, going by the objects that are stored. Reads none of them: a start
/// takes no longer because there are many blocks.
pub(crate) fn what_is_missing(meta: &BlockMeta, stored: &[(Path, u64)]) -> Option<String> {
    let mut bytes = 0;
    let mut names = Vec::new();
    let prefix = format!("{}/", meta.name);
    let from = stored.partition_point(|(path, _)| path.as_ref() < prefix.as_str());
    for (path, size) in &stored[from..] {
        let Some(name) = path.as_ref().strip_prefix(&prefix) else { break };
        names.push(name);
        bytes += size;
    }
    if let Some(absent) = ALWAYS_THERE.iter().find(|name| !names.contains(name)) {
        return Some(format!("object {prefix}{absent} is missing"));
    }
    (bytes != meta.bytes).then(|| {
        format!(
            "the objects {prefix}* have {bytes} bytes together, the manifest says {}",
            meta.bytes
        )
    })
}

/// Objects that a flush or a merge left behind without reaching its manifest edit, or that went
/// out of use before a stop.
fn unnamed(state: &PartitionState, stored: &[(Path, u64)]) -> Vec<Path> {
    let blocks = state.blocks.iter().map(|b| b.name.as_str());
    let named: HashSet<&str> =
        blocks.chain(state.snapshots.iter().map(|s| s.name.as_str())).collect();
    let is_unnamed = |path: &&Path| !named.contains(owner_of(path).as_str());
    stored.iter().map(|(path, _)| path).filter(is_unnamed).cloned().collect()
}

/// The log, what was found in it, and what it was applied to.
type Replayed = (LocalLog, Recovery, Vec<Restored>, Vec<RestoredEntries>);

/// Opens the log and applies what the heads do not have yet.
fn replay(
    disk: Arc<dyn Disk>,
    config: &Config,
    mut restored: Vec<Restored>,
    mut entries: Vec<RestoredEntries>,
) -> Result<Replayed, Error> {
    let of_entries = entries.iter().map(|r| r.state.covered);
    let covered: Vec<Position> =
        restored.iter().map(|r| r.state.covered).chain(of_entries).collect();
    let wanted = Replay {
        from: covered.iter().copied().min().unwrap_or_default(),
        floor: covered.iter().copied().max().unwrap_or_default(),
    };
    let (log, recovery) = replay::spread(&mut restored, &mut entries, |apply| {
        LocalLog::open(disk, config.log(), wanted, apply)
    })?;
    for damage in &recovery.damaged {
        // A log that is missing as a whole is a place without length.
        let bytes = if damage.bytes == 0 { u64::MAX } else { damage.bytes };
        let end = Position(damage.position.0.saturating_add(bytes));
        for partition in affected(&mut restored, damage.partition, end) {
            if partition.is_accepted && damage.partition.is_none() {
                continue;
            }
            let kept = partition.state.covered;
            partition.broken.get_or_insert_with(|| damaged_text(damage, kept));
        }
        for partition in entries::affected(&mut entries, damage.partition, end) {
            if partition.is_accepted && damage.partition.is_none() {
                continue;
            }
            let kept = partition.state.covered;
            partition.broken.get_or_insert_with(|| damaged_text(damage, kept));
        }
    }
    for (number, partition) in restored.iter().enumerate() {
        let records = partition.head.left_out();
        if records > 0 {
            tracing::error!(
                partition = number,
                records,
                "log records could not be applied wholly because one before them is lost"
            );
        }
    }
    Ok((log, recovery, restored, entries))
}

fn damaged_text(damage: &log::Damage, kept: Position) -> String {
    let (at, reason) = (damage.position.0, &damage.reason);
    if damage.is_unreadable() {
        return format!("the log at {at}: {reason}; see to the disk, then start again");
    }
    format!(
        "the log is damaged at {at}: {reason}; the log from {} on is kept until \
         `taffrail tool wal quarantine` gives the damaged records up",
        kept.0
    )
}

/// The partitions that may have had records in a part of the log that is lost and ends at `end`.
/// What lies before the covered position is in blocks.
pub(crate) fn affected(
    restored: &mut [Restored],
    partition: Option<u16>,
    end: Position,
) -> impl Iterator<Item = &mut Restored> {
    let numbered = restored.iter_mut().zip(0u16..);
    let hit =
        numbered.filter(move |(r, n)| partition.is_none_or(|p| p == *n) && end > r.state.covered);
    hit.map(|(restored, _)| restored)
}

impl Restored {
    /// Applies a record that neither blocks nor snapshots hold.
    pub(crate) fn replay(&mut self, position: Position, record: Record<'_>) {
        if position < self.state.covered {
            return;
        }
        match record.kind {
            RecordKind::Metadata | RecordKind::Forgotten => self.metadata_changes += 1,
            RecordKind::Renumbered => self.renumbered = true,
            _ => {}
        }
        let tenant = TenantId(record.tenant);
        if let Err(reason) = self.head.replay(record.kind, tenant, record.payload) {
            self.broken.get_or_insert(format!("log record at {}: {reason}", position.0));
            // What follows builds on it.
            self.head.note_gap();
        } else if record.kind == RecordKind::Tombstone
            && let Some(tombstone) = head::tombstone_of(record.payload, position)
        {
            let known = std::mem::take(&mut self.tombstones);
            self.tombstones = known.with(Arc::new(tombstone));
        }
    }

    /// Objects that may be removed: nothing is lost that they could be needed for.
    fn take_unnamed(&mut self) -> Vec<Path> {
        let is_whole = self.broken.is_none() && self.missing.is_empty();
        let unnamed = std::mem::take(&mut self.unnamed);
        if is_whole { unnamed } else { Vec::new() }
    }

    fn finish(mut self, number: u16, usage: &Usage, now: f64) -> Partition {
        for (tenant, series) in tenant_series(&self.head) {
            usage.of(tenant).add(series);
        }
        let snapshots = self.state.snapshots.last().filter(|_| !self.renumbered);
        let snapshot_series = snapshots.map_or(0, |s| u32::try_from(s.series).unwrap_or(u32::MAX));
        let flush = FlushState {
            manifest: self.manifest,
            state: self.state,
            snapshot_series,
            saved_metadata: 0,
            flushed_at: now,
            freight: None,
        };
        let losses = Losses {
            blocks: self.missing,
            incomplete: self.broken.clone(),
            blocks_unknown: self.blocks_unknown,
            mended: self.mended,
        };
        // Of rows that were flushed before the start nobody remembers which series they are of.
        let in_blocks = self.blocks.iter().map(|stored| stored.meta.range.end_ms).max();
        self.head.note_restored(in_blocks);
        let partition = Partition::new(
            number,
            self.head,
            self.blocks,
            losses,
            flush,
            self.metadata_changes,
            self.tombstones,
        );
        if let Some(reason) = self.broken {
            partition.make_read_only(&reason);
        }
        partition
    }
}
