//! One manifest object: what it holds and which features a reader of it must know.

use serde::{Deserialize, Serialize};

use super::{Edit, PartitionState};
use crate::Error;
use crate::checked_json::Kind;

/// The content has tombstones: whoever does not know them would show what is deleted.
const FEATURE_TOMBSTONES: u64 = 1;
/// Some blocks hold windows, or some tombstones mean only rows of one resolution: whoever does not
/// know them would take windows for rows, and show or hide the wrong ones.
const FEATURE_WINDOWS: u64 = 2;
/// The partition is one of entries and has segments.
const FEATURE_SEGMENTS: u64 = 4;
/// Entries were deleted: whoever does not know how would show them.
const FEATURE_ENTRY_TOMBSTONES: u64 = 8;
const MANIFEST: Kind = Kind {
    magic: *b"TAFFRMAN",
    version: 1,
    features_known: FEATURE_TOMBSTONES
        | FEATURE_WINDOWS
        | FEATURE_SEGMENTS
        | FEATURE_ENTRY_TOMBSTONES,
};

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
        MANIFEST.encode(self, self.features(), || format!("manifest {}", self.number))
    }

    /// What a reader must know to read this right.
    fn features(&self) -> u64 {
        let needs = |of_edit: fn(&Edit) -> bool, of_state: fn(&PartitionState) -> bool| {
            self.edit.as_ref().is_some_and(of_edit)
                || self.checkpoint.as_ref().is_some_and(of_state)
        };
        let tombstones = needs(Edit::needs_tombstones, |state| !state.tombstones.is_empty());
        let windows = needs(Edit::needs_windows, PartitionState::needs_windows);
        let segments = needs(Edit::needs_segments, |state| !state.segments.is_empty());
        let deletions =
            needs(Edit::needs_entry_tombstones, |state| !state.entry_tombstones.is_empty());
        let bit = |needed, bit| if needed { bit } else { 0 };
        bit(tombstones, FEATURE_TOMBSTONES)
            | bit(windows, FEATURE_WINDOWS)
            | bit(segments, FEATURE_SEGMENTS)
            | bit(deletions, FEATURE_ENTRY_TOMBSTONES)
    }

    /// Reads any JSON as if its header were right; for fuzzing.
    pub(super) fn decode_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(super) fn decode(bytes: &[u8], path: &str) -> Result<Self, Error> {
        MANIFEST.decode(bytes, || format!("manifest {path}"))
    }
}
