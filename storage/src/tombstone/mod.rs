//! Tombstones: what was deleted and is not yet physically gone.
//!
//! ```text
//! delete ─► log record (position) ─► head: its rows go at once ─► manifest with the next flush
//!                                └─► blocks: hidden when read ─► gone at compaction ─► dropped
//! ```
//!
//! Invariants: a tombstone hides what was acknowledged before it and nothing that came after. In
//! the head its rows are removed, so every block that is cut later never had them, and a block cut
//! before it is told by one comparison: its [`BlockMeta::deleted_to`] does not lie behind the
//! tombstone's position. Whoever makes a block from others leaves out what tombstones hide in each
//! of them and says up to where it did.

mod ranges;
mod set;
mod stored;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use model::{Labels, Matcher, Position, Resolution, TimeRange};
use tenancy::TenantId;

pub use ranges::Ranges;
pub use set::{BlockTombstones, Tombstones};
pub(crate) use stored::list as stored_list;

use crate::manifest::BlockMeta;

/// One deletion in one partition: rows of a tenant's matching series in a range of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The same in all partitions: one deletion.
    pub id: u64,
    /// Whose rows.
    pub tenant: TenantId,
    /// Series for which all of them hold; without any, all of the tenant's series.
    pub matchers: Vec<Matcher>,
    /// Which of their rows.
    pub range: TimeRange,
    /// Its place in the log: rows that came later stay.
    pub position: Position,
    /// When it was asked for, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Only rows of this resolution: the others are kept for another time.
    pub only: Option<Resolution>,
}

impl Tombstone {
    /// Whether a series of its tenant is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
    }

    /// Whether it may hide rows of a block.
    pub(crate) fn concerns(&self, block: &BlockMeta) -> bool {
        self.position >= block.deleted_to()
            && self.range.overlaps(block.range())
            && self.means(block.resolution)
    }

    /// Whether rows of a resolution are meant.
    pub(crate) fn means(&self, resolution: Resolution) -> bool {
        self.only.is_none_or(|only| only == resolution)
    }

    /// Whether it hides all that an earlier one hides.
    fn supersedes(&self, earlier: &Self) -> bool {
        self.tenant == earlier.tenant
            && (self.only.is_none() || self.only == earlier.only)
            && self.position >= earlier.position
            && self.range.start_ms <= earlier.range.start_ms
            && self.range.end_ms >= earlier.range.end_ms
            && (self.matchers.is_empty() || self.matchers == earlier.matchers)
    }
}

/// The stretches of time that some tombstones hide together.
pub(crate) fn ranges_of<'a>(tombstones: impl Iterator<Item = &'a Arc<Tombstone>>) -> Ranges {
    Ranges::of(tombstones.map(|t| t.range))
}
