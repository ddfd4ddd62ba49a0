//! What a manifest says: the blocks and snapshots of a partition, and edits to them.
//!
//! Everything here is stored as JSON. A reader ignores fields it does not know: what must not be
//! ignored gets a required-feature bit in the envelope.

use std::sync::Arc;

use model::{Position, Resolution, Signal, TimeRange};
use serde::{Deserialize, Serialize};

use crate::entries::{EntryTombstone, stored_list as stored_entry_list};
use crate::tombstone::{Tombstone, stored_list};

/// What one partition consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionState {
    /// Number of the edit it results from; 0 before the first.
    pub number: u64,
    /// Everything before this log position is in the blocks and snapshots: replay starts here.
    #[serde(with = "position")]
    pub covered: Position,
    /// The covered position before the last edit. The log is kept from here: should the newest
    /// manifest be lost, the state before it and the log give the same rows.
    #[serde(with = "position", default)]
    pub covered_before: Position,
    /// The blocks, in the order they were added.
    pub blocks: Vec<BlockMeta>,
    /// The snapshots of the head's series a restart reads, oldest first.
    pub snapshots: Vec<SnapshotMeta>,
    /// The number the next object may take in its name: never given twice.
    pub next_object: u64,
    /// What was deleted and may still be in blocks, in order of positions.
    #[serde(with = "stored_list", default, skip_serializing_if = "Vec::is_empty")]
    pub tombstones: Vec<Arc<Tombstone>>,
    /// Of a partition of entries: its segments, in the order they were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentMeta>,
    /// What of them was deleted and may still be there, in order of positions.
    #[serde(with = "stored_entry_list", default, skip_serializing_if = "Vec::is_empty")]
    pub entry_tombstones: Vec<Arc<EntryTombstone>>,
}

/// One step from a state to the next: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Edit {
    /// Blocks that exist from now on.
    pub add_blocks: Vec<BlockMeta>,
    /// Names of blocks that no longer exist.
    pub remove_blocks: Vec<String>,
    /// The new covered position, if it changes. It never goes back.
    #[serde(with = "optional_position", default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Position>,
    /// All snapshots from now on, if they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Vec<SnapshotMeta>>,
    /// The next object number; a lower one than the state's changes nothing.
    pub next_object: u64,
    /// Deletions from now on.
    #[serde(with = "stored_list", default, skip_serializing_if = "Vec::is_empty")]
    pub add_tombstones: Vec<Arc<Tombstone>>,
    /// Ids of tombstones that hide nothing any more. Unknown ones are passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_tombstones: Vec<u64>,
    /// Segments that exist from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_segments: Vec<SegmentMeta>,
    /// Names of segments that no longer exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_segments: Vec<String>,
    /// Deletions of entries from now on.
    #[serde(with = "stored_entry_list", default, skip_serializing_if = "Vec::is_empty")]
    pub add_entry_tombstones: Vec<Arc<EntryTombstone>>,
    /// Ids of those that hide nothing any more. Unknown ones are passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_entry_tombstones: Vec<u64>,
}

/// One segment of entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMeta {
    /// The prefix its objects share.
    pub name: String,
    /// What its entries are.
    #[serde(with = "signal")]
    pub signal: Signal,
    /// How often its rows were compacted; 0 is fresh from the head.
    pub level: u8,
    /// First and last instant of its entries, nanoseconds.
    pub range_ns: (i64, i64),
    /// Log positions its rows came from: from the first up to, not including, the second. Of two
    /// entries with one instant and stream, that of the lower range came first.
    #[serde(with = "positions")]
    pub positions: (Position, Position),
    /// Streams in it.
    pub streams: u64,
    /// Entries in it.
    pub rows: u64,
    /// Bytes of their lines and fields.
    pub raw_bytes: u64,
    /// Bytes of all its objects.
    pub bytes: u64,
    /// When it was written, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Deletions before this position hide nothing in it: its rows are younger, or what was deleted
    /// is left out. Absent: the end of `positions`.
    #[serde(with = "optional_position", default, skip_serializing_if = "Option::is_none")]
    pub deleted_to: Option<Position>,
    /// The checksum of the head of its `streams.bin`, which has those of everything else.
    pub index_checksum: u32,
}

impl SegmentMeta {
    /// Deletions before this position hide nothing in it.
    pub fn deleted_to(&self) -> Position {
        self.deleted_to.unwrap_or(self.positions.1)
    }
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlockMeta {
    /// The prefix its objects share.
    pub name: String,
    /// How often its rows were compacted; 0 is fresh from the head.
    pub level: u8,
    /// First and last instant of its samples.
    #[serde(with = "range")]
    pub range: TimeRange,
    /// Log positions its rows came from: from the first up to, not including, the second. Of two
    /// samples with one timestamp, that of the lower range stays.
    #[serde(with = "positions")]
    pub positions: (Position, Position),
    /// Series in it.
    pub series: u64,
    /// Chunk rows in it.
    pub chunks: u64,
    /// Float samples in it.
    pub samples: u64,
    /// Native histograms in it.
    pub histograms: u64,
    /// Bytes of all its objects.
    pub bytes: u64,
    /// When it was written, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Tombstones before this position hide nothing in it: its rows are younger, or what was
    /// deleted is left out. Absent: the end of `positions`.
    #[serde(with = "optional_position", default, skip_serializing_if = "Option::is_none")]
    pub deleted_to: Option<Position>,
    /// The checksum of the head of its `index.bin`, which has those of everything else: only the
    /// block that was written is this block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_checksum: Option<u32>,
    /// What its rows are.
    #[serde(with = "resolution", default, skip_serializing_if = "is_raw")]
    pub resolution: Resolution,
}

fn is_raw(resolution: &Resolution) -> bool {
    *resolution == Resolution::Raw
}

impl BlockMeta {
    /// From the first to the last instant its rows are about: of windows `range` says only where
    /// they begin.
    pub fn range(&self) -> TimeRange {
        let end_ms = match is_raw(&self.resolution) || self.range.start_ms > self.range.end_ms {
            true => self.range.end_ms,
            false => self.resolution.window_of(self.range.end_ms).end_ms,
        };
        TimeRange { end_ms, ..self.range }
    }

    /// Tombstones before this position hide nothing in it.
    pub fn deleted_to(&self) -> Position {
        self.deleted_to.unwrap_or(self.positions.1)
    }
}

/// One snapshot of a head's series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Its object.
    pub name: String,
    /// Whether it holds all series, or only those new since the one before.
    pub full: bool,
    /// Series in it.
    pub series: u64,
    /// Bytes of its object.
    pub bytes: u64,
    /// The checksum its object ends with: only the snapshot that was written is this snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u32>,
}

impl Edit {
    /// Whether a reader that knows nothing of segments would take the partition for an empty one.
    pub(super) fn needs_segments(&self) -> bool {
        !self.add_segments.is_empty() || !self.remove_segments.is_empty()
    }

    /// Whether a reader that knows nothing of deleted entries would show them.
    pub(super) fn needs_entry_tombstones(&self) -> bool {
        !self.add_entry_tombstones.is_empty()
    }

    /// Whether a reader that knows nothing of tombstones would show what is deleted.
    pub(super) fn needs_tombstones(&self) -> bool {
        !self.add_tombstones.is_empty() || !self.remove_tombstones.is_empty()
    }

    /// Whether a reader that knows nothing of windows would take them for rows.
    pub(super) fn needs_windows(&self) -> bool {
        self.add_blocks.iter().any(|b| !is_raw(&b.resolution))
            || self.add_tombstones.iter().any(|t| t.only.is_some())
    }
}

impl PartitionState {
    /// Whether a reader that knows nothing of windows would take them for rows.
    pub(super) fn needs_windows(&self) -> bool {
        self.blocks.iter().any(|b| !is_raw(&b.resolution))
            || self.tombstones.iter().any(|t| t.only.is_some())
    }

    /// The state after one edit, or why the edit does not fit.
    pub(super) fn after(mut self, edit: &Edit) -> Result<Self, String> {
        self.covered_before = self.covered;
        for name in &edit.remove_blocks {
            let at = self.blocks.iter().position(|block| block.name == *name);
            self.blocks.remove(
                at.ok_or_else(|| format!("it removes block {name:?}, which does not exist"))?,
            );
        }
        for block in &edit.add_blocks {
            if self.blocks.iter().any(|known| known.name == block.name) {
                return Err(format!("it adds block {:?} a second time", block.name));
            }
            self.blocks.push(block.clone());
        }
        for name in &edit.remove_segments {
            let at = self.segments.iter().position(|segment| segment.name == *name);
            self.segments.remove(
                at.ok_or_else(|| format!("it removes segment {name:?}, which does not exist"))?,
            );
        }
        for segment in &edit.add_segments {
            if self.segments.iter().any(|known| known.name == segment.name) {
                return Err(format!("it adds segment {:?} a second time", segment.name));
            }
            self.segments.push(segment.clone());
        }
        if let Some(covered) = edit.covered {
            if covered < self.covered {
                return Err(format!(
                    "its covered position {} lies before {}",
                    covered.0, self.covered.0
                ));
            }
            self.covered = covered;
        }
        if let Some(snapshots) = &edit.snapshots {
            self.snapshots.clone_from(snapshots);
        }
        self.next_object = self.next_object.max(edit.next_object);
        self.tombstones.retain(|t| !edit.remove_tombstones.contains(&t.id));
        for new in &edit.add_tombstones {
            if self.tombstones.iter().any(|known| known.id == new.id) {
                return Err(format!("it adds tombstone {} a second time", new.id));
            }
            self.tombstones.push(Arc::clone(new));
        }
        self.entry_tombstones.retain(|t| !edit.remove_entry_tombstones.contains(&t.id));
        for new in &edit.add_entry_tombstones {
            if self.entry_tombstones.iter().any(|known| known.id == new.id) {
                return Err(format!("it adds the deletion {} a second time", new.id));
            }
            self.entry_tombstones.push(Arc::clone(new));
        }
        self.number += 1;
        Ok(self)
    }
}

/// Positions as plain numbers.
mod position {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(position: &Position, to: S) -> Result<S::Ok, S::Error> {
        position.0.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Position, D::Error> {
        u64::deserialize(from).map(Position)
    }
}

mod optional_position {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        position: &Option<Position>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        position.map(|position| position.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Position>, D::Error> {
        Option::<u64>::deserialize(from).map(|position| position.map(Position))
    }
}

mod positions {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        positions: &(Position, Position),
        to: S,
    ) -> Result<S::Ok, S::Error> {
        (positions.0.0, positions.1.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<(Position, Position), D::Error> {
        <(u64, u64)>::deserialize(from).map(|(first, end)| (Position(first), Position(end)))
    }
}

/// By name.
mod signal {
    use super::*;
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(one: &Signal, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(one.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Signal, D::Error> {
        let name = String::deserialize(from)?;
        let known = Signal::ALL.into_iter().find(|signal| signal.as_str() == name);
        known.ok_or_else(|| D::Error::custom(format!("unknown signal {name:?}")))
    }
}

/// By name.
mod resolution {
    use super::*;
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(one: &Resolution, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(one.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Resolution, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A time range as `[start_ms, end_ms]`.
mod range {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(range: &TimeRange, to: S) -> Result<S::Ok, S::Error> {
        (range.start_ms, range.end_ms).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TimeRange, D::Error> {
        <(i64, i64)>::deserialize(from).map(|(start_ms, end_ms)| TimeRange { start_ms, end_ms })
    }
}
