//! What a backup says of itself: a small checked header, then JSON (`docs/formats/backup.md`).

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::checked_json::Kind;
use crate::manifest::PartitionState;
use crate::partition_map::PartitionMap;

/// There are entries: whoever does not know them would restore a store without them.
const FEATURE_ENTRIES: u64 = 1;

const BACKUP: Kind = Kind { magic: *b"TAFFRBAK", version: 1, features_known: FEATURE_ENTRIES };

/// Below which the manifests of backups lie.
pub(super) const BACKUPS: &str = "backups";

/// A whole backup: everything that makes up a store at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Backup {
    /// Milliseconds since the Unix epoch, and its name.
    pub(super) created_ms: u64,
    /// Version of the program that wrote it.
    pub(super) program: String,
    pub(super) map: PartitionMap,
    /// By number.
    pub(super) partitions: Vec<PartitionState>,
    /// The same of partitions of entries, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) entries: Vec<PartitionState>,
    /// Objects of the store.
    pub(super) objects: Vec<Copied>,
    /// Files of the data directory beside it.
    pub(super) files: Vec<Copied>,
}

/// Something that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copied {
    /// What it is called in the store or the data directory.
    pub(super) name: String,
    /// What it is called in the backup.
    pub(super) stored: String,
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
}

impl Backup {
    /// Bytes of everything in it.
    pub(super) fn bytes(&self) -> u64 {
        self.objects.iter().chain(&self.files).map(|copied| copied.bytes).sum()
    }

    /// What everything in it is called in the backup.
    pub(super) fn stored(self) -> impl Iterator<Item = String> {
        self.objects.into_iter().chain(self.files).map(|copied| copied.stored)
    }

    pub(super) fn encode(&self) -> Result<Bytes, Error> {
        let what = || path_of(self.created_ms).to_string();
        let has_entries = self.entries.iter().any(|state| !state.segments.is_empty());
        let features = if has_entries { FEATURE_ENTRIES } else { 0 };
        Ok(BACKUP.encode(self, features, what)?.into())
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        BACKUP.decode(bytes, || format!("backup manifest {path}"))
    }

    /// Reads one backup's manifest.
    pub(super) async fn read(from: &dyn ObjectStore, created_ms: u64) -> Result<Self, Error> {
        let path = path_of(created_ms);
        let read = async { from.get(&path).await?.bytes().await };
        let bytes = read.await.map_err(|source| match source {
            object_store::Error::NotFound { .. } => {
                Error::Refused(format!("there is no backup {created_ms}: {path} does not exist"))
            }
            source => Error::Objects { doing: format!("read backup manifest {path}"), source },
        })?;
        let backup = Self::decode(&bytes, &path)?;
        if backup.created_ms == created_ms {
            return Ok(backup);
        }
        let reason = format!("it says it is backup {}", backup.created_ms);
        Err(Error::Corrupt { what: format!("backup manifest {path}"), reason })
    }
}

pub(super) fn path_of(created_ms: u64) -> Path {
    Path::from(format!("{BACKUPS}/{created_ms:016}.json"))
}

/// The name of a backup, of the last part of a manifest's path.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json").filter(|digits| digits.len() == 16)?.parse().ok()
}
