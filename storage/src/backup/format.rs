//! What a backup says of itself: a small checked header, then JSON (`docs/formats/backup.md`).

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::manifest::PartitionState;
use crate::partition_map::PartitionMap;

const MAGIC: &[u8; 8] = b"TAFFRBAK";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;

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

    pub(super) fn encode(&self) -> Result<Bytes, Error> {
        let what = || path_of(self.created_ms).to_string();
        let corrupt = |reason: String| Error::Corrupt { what: what(), reason };
        let json = serde_json::to_vec(self).map_err(|error| corrupt(error.to_string()))?;
        let length = u32::try_from(json.len())
            .map_err(|_| corrupt(format!("{} bytes are too many", json.len())))?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + json.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&0u64.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
        let header = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&header.to_le_bytes());
        bytes.extend_from_slice(&json);
        Ok(bytes.into())
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let what = || format!("backup manifest {path}");
        let corrupt = |reason: &str| Error::Corrupt { what: what(), reason: reason.to_owned() };
        let Some((header, json)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt("it is shorter than its header"));
        };
        let u32_at = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[..8] != MAGIC[..] || u32_at(28) != crc32c::crc32c(&header[..28]) {
            return Err(corrupt("its header is wrong"));
        }
        if u32_at(8) != VERSION {
            let feature = format!("format version {}", u32_at(8));
            return Err(Error::Unsupported { what: what(), feature });
        }
        if header[16..24] != [0; 8] {
            let feature = "a feature bit".to_owned();
            return Err(Error::Unsupported { what: what(), feature });
        }
        if u32_at(12) as usize != json.len() || u32_at(24) != crc32c::crc32c(json) {
            return Err(corrupt("its checksum is wrong"));
        }
        serde_json::from_slice(json).map_err(|error| corrupt(&error.to_string()))
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
