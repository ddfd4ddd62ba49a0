//! Giving up what cannot be read: its partition is whole and writable again, without those rows.
//!
//! ```text
//! names ─► what they are ─► unreadable indeed? ─► what goes with each (a preview ends here)
//!       ─► copies to objects/quarantine/, a record to quarantine/ ─► ONE manifest ─► originals go
//!       ─► where series or positions are not known any more: the log replayed as far as it goes,
//!          and flushed
//! ```
//!
//! Invariant: nothing that can be read is given up, and nothing goes before a copy and a record of
//! it are on the disk.

mod plan;
mod segments;

use std::path::{Path as DiskPath, PathBuf};
use std::sync::Arc;

use model::{Disk, Log, OpenMode, SystemClock};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Serialize;

use crate::ground::local_objects;
use crate::manifest::{Edit, ManifestStore, PartitionState};
use crate::open::lock;
use crate::partition_map::PartitionMap;
use crate::{Config, Error, Parts, Storage};
use plan::Plan;

/// Where records of what was given up are kept.
const RECORDS: &str = "quarantine";

/// Below this prefix the object store keeps what was given up.
pub(crate) const OBJECTS: &str = "quarantine";

/// Something that is given up, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GivenUp {
    /// The objects, by name or common prefix.
    pub objects: Vec<String>,
    /// Of which partition.
    pub partition: u16,
    /// `block`, `segment`, `snapshot` or `manifest`.
    pub kind: &'static str,
    /// What is wrong with it.
    pub reason: String,
    /// Blocks whose rows go, as far as anybody knows them.
    pub blocks: Vec<LostBlock>,
    /// Segments whose entries go, as far as anybody knows them.
    pub segments: Vec<LostSegment>,
    /// What else is lost.
    pub also: Vec<String>,
}

/// A block whose rows go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostBlock {
    /// Its name.
    pub name: String,
    /// Series in it; `None` if not even that can be read.
    pub series: Option<u64>,
    /// Samples and histograms in it.
    pub samples: Option<u64>,
    /// Its first and last instant, milliseconds since the Unix epoch.
    pub range_ms: Option<(i64, i64)>,
    /// Numbers of the tenants that have rows in it, if that can be read.
    pub tenants: Option<Vec<u32>>,
}

/// A segment whose entries go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostSegment {
    /// Its name.
    pub name: String,
    /// What its entries are; `None` if not even that can be read.
    pub signal: Option<String>,
    /// Streams in it.
    pub streams: Option<u64>,
    /// Entries in it.
    pub entries: Option<u64>,
    /// Its first and last instant, nanoseconds since the Unix epoch.
    pub range_ns: Option<(i64, i64)>,
    /// Numbers of the tenants that have entries in it, if that can be read.
    pub tenants: Option<Vec<u32>>,
}

/// Whether to do it or only to say what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// Change nothing.
    Preview,
    /// Do it.
    Out,
}

/// Gives up objects of a store on this machine's disk that cannot be read. The data directory must not be in use. Fails, and changes
/// nothing, if one of them can be read.
pub async fn give_up(
    disk: Arc<dyn Disk>,
    config: Config,
    names: &[String],
    carry: Carry,
) -> Result<Vec<GivenUp>, Error> {
    let held = lock(disk.as_ref())?;
    let store = local_objects(&disk).await?;
    let map = PartitionMap::load(&store, config.counts()).await?;
    let mut plans = Vec::new();
    for plan in plan::plans(names, &map)? {
        plans.push(plan.work_out(&store).await?);
    }
    let report: Vec<GivenUp> = plans.iter().map(|plan| plan.given_up.clone()).collect();
    if carry == Carry::Preview {
        return Ok(report);
    }
    write_record(&disk, &report).await?;
    let mut accepted = Vec::new();
    for plan in plans {
        if carry_out(&store, &plan).await? {
            accepted.push(plan.given_up.partition);
        }
    }
    // The store takes the lock itself.
    drop(held);
    if !accepted.is_empty() {
        settle(disk, config, &accepted).await?;
    }
    Ok(report)
}

/// Does what a plan says; says whether what the partition needs of the log is not known any more.
async fn carry_out(store: &Arc<dyn ObjectStore>, plan: &Plan) -> Result<bool, Error> {
    for path in &plan.aside {
        let kept = Path::from(format!("{OBJECTS}/{path}"));
        let doing = |source| Error::Objects { doing: format!("keep a copy of {path}"), source };
        match store.copy(path, &kept).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => return Err(doing(source)),
        }
    }
    let number = plan.given_up.partition;
    match &plan.anew {
        // Nobody knows what the last manifest said: all of the state is written again.
        Some(state) => {
            let state = PartitionState::clone(state);
            ManifestStore::begin_anew(Arc::clone(store), number, state).await?;
        }
        None => {
            let (mut manifest, state) = ManifestStore::load(Arc::clone(store), number).await?;
            let edit = Edit {
                remove_blocks: plan.remove_blocks.clone(),
                remove_segments: plan.remove_segments.clone(),
                snapshots: plan.forgets_series.then(Vec::new),
                next_object: state.next_object,
                ..Edit::default()
            };
            manifest.commit(edit).await?;
        }
    }
    for path in &plan.aside {
        match store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => return Err(Error::Objects { doing: format!("remove {path}"), source }),
        }
    }
    Ok(plan.forgets_series)
}

/// Replays the log as far as it fits, and flushes: from then on nothing of it is needed.
async fn settle(disk: Arc<dyn Disk>, config: Config, accepted: &[u16]) -> Result<(), Error> {
    let clock = Arc::new(SystemClock::default());
    let parts = Parts { disk, objects: None, clock, random: Arc::new(model::OsRandom) };
    let storage = Storage::open_accepting(config, parts, accepted).await?;
    storage.flush_all().await?;
    for partition in storage.partitions.iter().filter(|p| accepted.contains(&p.number)) {
        let end = storage.log.end();
        if partition.covered() < end {
            // There was nothing to flush.
            let mut flush = partition.flush.lock().await;
            partition.check_writable()?;
            let next_object = flush.state.next_object;
            let edit = Edit { covered: Some(end), next_object, ..Edit::default() };
            partition.commit(&mut flush, edit).await?;
        }
    }
    for partition in storage.entries.partitions.iter().filter(|p| accepted.contains(&p.number)) {
        let end = storage.log.end();
        if partition.covered() < end {
            let mut flush = partition.flush.lock().await;
            partition.check_writable()?;
            let next_object = flush.state.next_object;
            let edit = Edit { covered: Some(end), next_object, ..Edit::default() };
            partition.commit(&mut flush, edit).await?;
        }
    }
    storage.close().await
}

/// Puts on record what goes, before anything does.
async fn write_record(disk: &Arc<dyn Disk>, report: &[GivenUp]) -> Result<PathBuf, Error> {
    use model::Clock;
    let path =
        DiskPath::new(RECORDS).join(format!("given-up-{}.json", SystemClock::default().now_ms()));
    let doing = format!("write {}", path.display());
    let json = serde_json::to_vec_pretty(report)
        .map_err(|e| Error::Internal(format!("write what is given up as JSON: {e}")))?;
    let (disk, own) = (Arc::clone(disk), path.clone());
    let written = tokio::task::spawn_blocking(move || {
        disk.create_dir_all(DiskPath::new(RECORDS))?;
        let file = disk.open(&own, OpenMode::CreateNew)?;
        file.write_all_at(&json, 0)?;
        file.sync()?;
        disk.sync_dir(DiskPath::new(RECORDS))
    });
    let written = written.await.map_err(|e| Error::Internal(format!("{doing}: {e}")))?;
    written.map_err(|source| Error::Disk { doing, source })?;
    Ok(path)
}
