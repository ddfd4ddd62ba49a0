//! A whole data directory read and checked, while no server uses it: nothing is changed.
//!
//! ```text
//! lock ─► partitions.json ─► for each partition: manifests ─► snapshots ─► blocks
//!                        └─► log, replayed on the snapshots ─► files that belong to nothing
//! ```
//!
//! Whatever is wrong becomes a [`Finding`] that names the file and says what to do; only what
//! stops everything (the lock, the directory itself) is an error.

mod log;
mod partition;
mod stray;

use std::sync::Arc;

use model::Disk;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::open::lock;
use crate::partition_map::PartitionMap;
use crate::{Error, FarObjects, LocalObjects, error_text};
use partition::Survey;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is lost by it.
    Note,
    /// A file is not what was written.
    Damage,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file or object, below the data directory.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// What was read, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Partitions.
    pub partitions: u64,
    /// Manifests that were read.
    pub manifests: u64,
    /// Snapshots that were read.
    pub snapshots: u64,
    /// Blocks that were read.
    pub blocks: u64,
    /// Samples and histograms in them.
    pub block_samples: u64,
    /// Records of the log that were read.
    pub log_records: u64,
    /// Segments of entries that were read.
    pub segments: u64,
    /// Entries in them.
    pub segment_entries: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is not as it should be, in the order it was met.
    pub findings: Vec<Finding>,
}

impl Verified {
    /// Whether every file is what was written.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }

    fn note(&mut self, file: impl Into<String>, what: impl Into<String>, advice: &str) {
        self.add(Severity::Note, file.into(), what.into(), advice);
    }

    fn damage(&mut self, file: impl Into<String>, error: &Error, advice: &str) {
        let advice = match error {
            Error::Unsupported { .. } => "use the version of taffrail that wrote it",
            Error::Disk { .. } | Error::Objects { .. } => {
                "see to the disk or the object store, then verify again"
            }
            _ => advice,
        };
        self.add(Severity::Damage, file.into(), error_text(error), advice);
    }

    fn add(&mut self, severity: Severity, file: String, what: String, advice: &str) {
        self.findings.push(Finding { severity, file, what, advice: advice.to_owned() });
    }
}

/// How far a verification is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes there are to read, as far as manifests and names tell.
    pub bytes_all: u64,
    /// What is being read.
    pub at: String,
}

/// Told now and then how far it is.
pub type OnProgress<'a> = &'a mut (dyn FnMut(&VerifyProgress) + Send);

/// Reads and checks everything. `far` is where blocks are if not on the disk. Fails if another
/// process has the directory open.
pub async fn verify(
    disk: Arc<dyn Disk>,
    far: Option<&FarObjects>,
    on_progress: OnProgress<'_>,
) -> Result<Verified, Error> {
    let _lock = lock(disk.as_ref())?;
    let is_local = far.is_none();
    let objects: Arc<dyn ObjectStore> = match far {
        Some(far) => far.of_data_directory(&disk).await?,
        None => Arc::new(LocalObjects::existing(Arc::clone(&disk))),
    };
    let mut verified = Verified::default();
    let Some(map) = partition_map(objects.as_ref(), &mut verified).await else {
        return Ok(verified);
    };
    let mut surveys = Vec::new();
    for number in map.numbers() {
        surveys.push(Survey::take(&objects, number, &mut verified).await?);
    }
    verified.partitions = surveys.len() as u64;
    let blocks: u64 = surveys.iter().map(Survey::bytes).sum();
    let bytes_all = blocks + log::bytes(disk.as_ref())?;
    let mut progress = VerifyProgress { bytes: 0, bytes_all, at: String::new() };
    for survey in &mut surveys {
        survey.read(&objects, &mut verified, &mut progress, on_progress).await?;
    }
    // A partition of entries without manifest has nothing before those of metrics, where it is
    // younger than these.
    let begun = surveys.iter().map(Survey::covered).filter(|covered| covered.0 > 0).min();
    let is_young = map.is_older_than_entries();
    let heads = surveys.iter_mut().map(|s| s.take_replay(begun.filter(|_| is_young))).collect();
    progress.at = "log".to_owned();
    on_progress(&progress);
    let of_log = Arc::clone(&disk);
    let read = tokio::task::spawn_blocking(move || log::read(of_log.as_ref(), heads)).await;
    let (read, bytes) = read.map_err(|e| Error::Internal(format!("read the log: {e}")))??;
    verified.log_records = read.log_records;
    verified.findings.extend(read.findings);
    progress.bytes += bytes;
    stray::objects(&objects, &surveys, &mut verified).await?;
    stray::files(disk.as_ref(), is_local, &mut verified)?;
    verified.bytes = progress.bytes;
    on_progress(&progress);
    Ok(verified)
}

/// The map of partitions; without it nothing else can be found.
async fn partition_map(objects: &dyn ObjectStore, verified: &mut Verified) -> Option<PartitionMap> {
    const FILE: &str = "objects/partitions.json";
    let advice = "put it back from a backup; the server does not start without it";
    let path = object_store::path::Path::from("partitions.json");
    let read = async { objects.get(&path).await?.bytes().await };
    match read.await {
        Ok(bytes) => match PartitionMap::decode(&bytes) {
            Ok(map) => return Some(map),
            Err(error) => verified.damage(FILE, &error, advice),
        },
        Err(object_store::Error::NotFound { .. }) => {
            let reason = "it is missing: this is no data directory, or an empty one".to_owned();
            let error = Error::Corrupt { what: "partitions.json".to_owned(), reason };
            verified.damage(FILE, &error, advice);
        }
        Err(source) => {
            let error = Error::Objects { doing: "read partitions.json".to_owned(), source };
            verified.damage(FILE, &error, advice);
        }
    }
    None
}
