//! The bytes of one manifest object: a small checked header, then JSON.

use serde::{Deserialize, Serialize};

use super::{Edit, PartitionState};
use crate::Error;

const MAGIC: &[u8; 8] = b"TAFFRMAN";
const VERSION: u32 = 1;
/// The content has tombstones: whoever does not know them would show what is deleted.
const FEATURE_TOMBSTONES: u64 = 1;
/// Some blocks hold windows, or some tombstones mean only rows of one resolution: whoever does not
/// know them would take windows for rows, and show or hide the wrong ones.
const FEATURE_WINDOWS: u64 = 2;
/// Feature bits this build knows.
const FEATURES_KNOWN: u64 = FEATURE_TOMBSTONES | FEATURE_WINDOWS;
const HEADER_BYTES: usize = 32;

/// One manifest object: an edit, and now and then the whole state that it leads to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) partition: u16,
    pub(super) number: u64,
    /// Which start of which process wrote it, where more than one could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) writer: Option<String>,
    /// What the number before changed: should that one be lost, it is known from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Edit>,
    /// The step from the number before to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) edit: Option<Edit>,
    /// The whole state at this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint: Option<PartitionState>,
}

impl Stored {
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let corrupt =
            |reason: String| Error::Corrupt { what: format!("manifest {}", self.number), reason };
        let json = serde_json::to_vec(self).map_err(|error| corrupt(error.to_string()))?;
        let length = u32::try_from(json.len())
            .map_err(|_| corrupt(format!("{} bytes are too many", json.len())))?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + json.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.features().to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
        let header = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&header.to_le_bytes());
        bytes.extend_from_slice(&json);
        Ok(bytes)
    }

    /// What a reader must know to read this right.
    fn features(&self) -> u64 {
        let needs = |of_edit: fn(&Edit) -> bool, of_state: fn(&PartitionState) -> bool| {
            self.edit.as_ref().is_some_and(of_edit)
                || self.checkpoint.as_ref().is_some_and(of_state)
        };
        let tombstones = needs(Edit::needs_tombstones, |state| !state.tombstones.is_empty());
        let windows = needs(Edit::needs_windows, PartitionState::needs_windows);
        let bit = |needed, bit| if needed { bit } else { 0 };
        bit(tombstones, FEATURE_TOMBSTONES) | bit(windows, FEATURE_WINDOWS)
    }

    /// Reads any JSON as if its header were right; for fuzzing.
    pub(super) fn decode_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(super) fn decode(bytes: &[u8], path: &str) -> Result<Self, Error> {
        let what = || format!("manifest {path}");
        let corrupt = |reason: &str| Error::Corrupt { what: what(), reason: reason.to_owned() };
        let unsupported = |feature| Error::Unsupported { what: what(), feature };
        let Some((header, json)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt("it is shorter than its header"));
        };
        if header[..8] != MAGIC[..] {
            return Err(corrupt("it does not start with TAFFRMAN"));
        }
        if u32_at(header, 28) != crc32c::crc32c(&header[..28]) {
            return Err(corrupt("the checksum of its header is wrong"));
        }
        if u32_at(header, 8) != VERSION {
            return Err(unsupported(format!("format version {}", u32_at(header, 8))));
        }
        let unknown =
            (u64::from(u32_at(header, 16)) | u64::from(u32_at(header, 20)) << 32) & !FEATURES_KNOWN;
        if unknown != 0 {
            return Err(unsupported(format!("feature bit {}", unknown.trailing_zeros())));
        }
        if u32_at(header, 12) as usize != json.len() {
            return Err(corrupt("its length is not what its header says"));
        }
        if u32_at(header, 24) != crc32c::crc32c(json) {
            return Err(corrupt("its checksum is wrong"));
        }
        serde_json::from_slice(json).map_err(|error| corrupt(&error.to_string()))
    }
}

/// What the header of an object that was read says of its format.
pub(super) fn version_and_features(bytes: &[u8]) -> (u32, u64) {
    bytes.first_chunk::<HEADER_BYTES>().map_or((0, 0), |header| {
        (u32_at(header, 8), u64::from(u32_at(header, 16)) | u64::from(u32_at(header, 20)) << 32)
    })
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}
