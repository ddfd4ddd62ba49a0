//! What a store stands on: its objects, here or far away, ready to be written to by this process
//! alone.

use std::io;
use std::path::Path as DiskPath;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use model::{Disk, OpenMode, Position};
use object_store::ObjectStore;

use crate::log::LocalLog;
use crate::manifest::{ManifestStore, PartitionState};
use crate::objects::{Binding, CachedObjects, Claimed};
use crate::open::Parts;
use crate::partition_map::PartitionMap;
use crate::{Config, Error, FarObjects, LocalObjects};

/// There while a backup is restored: until it is gone, nothing here is whole.
pub(crate) const RESTORING: &str = "restore/incomplete";

/// Manifests that are read at a time.
const LOADS_AT_ONCE: usize = 16;

/// Objects that may be written to.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The same, if they are not on this machine.
    pub(crate) far: Option<Arc<CachedObjects>>,
    pub(crate) map: PartitionMap,
    /// How partitions are taken over, if others could write to them.
    pub(crate) claim: Option<Claim>,
}

/// Taking partitions over for this start.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    claimed: Claimed,
    /// Where the log of a new data directory begins: everything before counts as covered.
    covered: Option<Position>,
}

impl Ground {
    /// Opens the objects, and claims them if they are far away.
    pub(crate) async fn open(config: &Config, parts: &Parts) -> Result<Self, Error> {
        on_disk(&parts.disk, check_restored).await?;
        match &parts.objects {
            Some(far) => Self::open_far(config, parts, far).await,
            None => Self::open_local(config, parts).await,
        }
    }

    async fn open_local(config: &Config, parts: &Parts) -> Result<Self, Error> {
        let objects = local_objects(&parts.disk).await?;
        let map = PartitionMap::load(&objects, config.counts()).await?;
        sync_manifests(&parts.disk, map.numbers()).await?;
        Ok(Self { objects, far: None, map, claim: None })
    }

    async fn open_far(config: &Config, parts: &Parts, far: &FarObjects) -> Result<Self, Error> {
        if on_disk(&parts.disk, has_local_rows).await? {
            return Err(Error::Refused(format!(
                "the data directory holds rows of its own (log/, objects/), but objects are to be in {}; \
                 start with an empty data directory, after a backup and a restore if its rows are to move",
                far.place
            )));
        }
        let (random, now_ms) = (parts.random.as_ref(), parts.clock.now_ms());
        let opened = far.open(&parts.disk, random, config.disk_reserve_bytes, now_ms).await?;
        let (far, claimed) = (opened.objects, opened.claimed);
        let objects = Arc::clone(&far) as Arc<dyn ObjectStore>;
        let map = PartitionMap::load(&objects, config.counts()).await?;
        let mut covered = None;
        if claimed.is_new {
            let start = covered_by_all(&objects, map.numbers()).await?;
            let log = config.log();
            on_disk(&parts.disk, move |disk| LocalLog::begin_at(disk, start, &log)).await?;
            covered = Some(start);
        }
        let claim = Claim { claimed, covered };
        Ok(Self { objects, far: Some(far), map, claim: Some(claim) })
    }
}

impl Claim {
    /// Takes one partition over. Everything before `covered` counts as covered.
    pub(crate) async fn partition(
        &self,
        manifest: &mut ManifestStore,
        covered: Option<Position>,
    ) -> Result<PartitionState, Error> {
        manifest.mark(format!("start {}", self.claimed.epoch));
        manifest.claim(self.covered.max(covered)).await
    }

    /// Notes that all partitions were taken over. A start that ends before begins anew.
    pub(crate) async fn note(&self, disk: &Arc<dyn Disk>) -> Result<(), Error> {
        if self.covered.is_none() {
            return Ok(());
        }
        self.claimed.note_begun(disk).await
    }
}

/// The highest position that any partition covers.
async fn covered_by_all(
    objects: &Arc<dyn ObjectStore>,
    partitions: impl Iterator<Item = u16>,
) -> Result<Position, Error> {
    let survey = |number| ManifestStore::survey(objects.as_ref(), number);
    let surveys = stream::iter(partitions).map(survey).buffered(LOADS_AT_ONCE);
    surveys
        .map_ok(|survey| survey.state.covered)
        .try_fold(Position(0), async |a, b| Ok(a.max(b)))
        .await
}

/// Fails if a restore was interrupted.
fn check_restored(disk: &dyn Disk) -> Result<(), Error> {
    match disk.open(DiskPath::new(RESTORING), OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Disk { doing: format!("look for {RESTORING}"), source }),
        Ok(_) => Err(Error::Refused(format!(
            "a restore into the data directory did not end ({RESTORING} is there); empty the directory, \
             and restore again"
        ))),
    }
}

/// Whether there are objects or a log of a store that is not far away.
fn has_local_rows(disk: &dyn Disk) -> Result<bool, Error> {
    if Binding::read(disk)?.is_some() {
        return Ok(false);
    }
    let has_objects = match disk.open(DiskPath::new("objects/partitions.json"), OpenMode::Read) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(source) => {
            let doing = "look for objects in the data directory".to_owned();
            return Err(Error::Disk { doing, source });
        }
    };
    Ok(has_objects || LocalLog::exists(disk)?)
}

/// Objects below the data directory, unless it belongs to a store that is far away.
pub(crate) async fn local_objects(disk: &Arc<dyn Disk>) -> Result<Arc<dyn ObjectStore>, Error> {
    if on_disk(disk, Binding::read).await?.is_some() {
        return Err(Error::Refused(
            "the data directory belongs to a store on S3 (binding/store.json), but objects are looked for in \
             objects/; configure [storage.objects] as it was (of the tools, `verify` and `wal quarantine` take it with --config)"
                .to_owned(),
        ));
    }
    let own = Arc::clone(disk);
    let objects = on_disk(disk, move |_| {
        LocalObjects::open(own, DiskPath::new("objects"))
            .map_err(|source| Error::Objects { doing: "open the object store".to_owned(), source })
    });
    Ok(Arc::new(objects.await?))
}

/// Makes the names of all manifests durable. A process that died between giving a manifest its
/// name and syncing that name leaves one that is seen and that a power cut would take back, when
/// the log it covers may be trimmed already.
async fn sync_manifests(
    disk: &Arc<dyn Disk>,
    partitions: impl Iterator<Item = u16> + Send + 'static,
) -> Result<(), Error> {
    on_disk(disk, move |disk| {
        let dirs = partitions.map(|number| format!("objects/manifest/{number:04}"));
        for dir in ["objects".to_owned(), "objects/manifest".to_owned()].into_iter().chain(dirs) {
            match disk.sync_dir(DiskPath::new(&dir)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Disk { doing: format!("sync {dir}"), source: error });
                }
                _ => {}
            }
        }
        Ok(())
    })
    .await
}

/// Runs file calls on the blocking pool.
pub(crate) async fn on_disk<T: Send + 'static>(
    disk: &Arc<dyn Disk>,
    work: impl FnOnce(&dyn Disk) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let disk = Arc::clone(disk);
    let done = tokio::task::spawn_blocking(move || work(disk.as_ref())).await;
    done.map_err(|error| Error::Internal(format!("a file call: {error}")))?
}
