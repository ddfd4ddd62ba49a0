//! Deletions of entries: what was deleted and may still be in segments.
//!
//! ```text
//! delete ─► log record (position) ─► head: its rows go at once ─► manifest with the next flush
//!                                └─► segments: hidden when read ─► gone when they are merged
//! ```
//!
//! As for metrics (`crate::tombstone`): a deletion hides what was acknowledged before it and nothing
//! that came after. A segment says up to where deletions are carried out in it
//! ([`SegmentMeta::deleted_to`]); what is merged leaves out what they hide.

mod carry_out;
mod hiding;
mod stored;

use std::sync::Arc;

use model::{Matcher, Position, Signal};
use tenancy::TenantId;

use super::condition::{EntryFilter, Filter};
use super::streams::Stream;
use crate::Error;
use crate::manifest::SegmentMeta;

pub use carry_out::{DeleteEntries, EntriesDeleted};
pub(crate) use hiding::Hiding;
pub(crate) use stored::list as stored_list;

/// One deletion in one partition: entries of a tenant's matching streams, in a range of time, that
/// pass a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryTombstone {
    /// The same in all partitions: one deletion.
    pub id: u64,
    /// How it was asked for, for whoever asks what is pending.
    pub text: String,
    /// Whose entries.
    pub tenant: TenantId,
    /// Of these signals.
    pub signals: Vec<Signal>,
    /// Streams for which all of them hold; without any, all of the tenant's streams.
    pub matchers: Vec<Matcher>,
    /// Which of their entries.
    pub filter: EntryFilter,
    /// From the first instant up to the second, which is not inside. Nanoseconds.
    pub range_ns: (i64, i64),
    /// Its place in the log: entries that came later stay.
    pub position: Position,
    /// When it was asked for, milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// A deletion, ready to be used.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) tombstone: Arc<EntryTombstone>,
    filter: Filter,
}

impl EntryTombstone {
    /// Whether entries of a stream may be meant.
    pub(crate) fn matches(&self, stream: &Stream) -> bool {
        self.tenant == stream.tenant
            && self.signals.contains(&stream.signal)
            && self.matchers.iter().all(|m| m.matches(stream.labels.get(m.name()).unwrap_or("")))
    }

    /// Whether it may hide entries of a segment.
    pub(crate) fn concerns(&self, segment: &SegmentMeta) -> bool {
        self.position >= segment.deleted_to()
            && self.signals.contains(&segment.signal)
            && segment.range_ns.0 < self.range_ns.1
            && segment.range_ns.1 >= self.range_ns.0
    }

    /// Whether it hides all that an earlier one hides.
    fn supersedes(&self, earlier: &Self) -> bool {
        self.tenant == earlier.tenant
            && self.position >= earlier.position
            && earlier.signals.iter().all(|signal| self.signals.contains(signal))
            && self.range_ns.0 <= earlier.range_ns.0
            && self.range_ns.1 >= earlier.range_ns.1
            && (self.matchers.is_empty() || self.matchers == earlier.matchers)
            && (self.filter.is_empty() || self.filter == earlier.filter)
    }
}

impl Deletion {
    /// Compiles its filter. The error says which text is wrong.
    pub(crate) fn new(tombstone: EntryTombstone) -> Result<Arc<Self>, Error> {
        let filter = tombstone.filter.compile()?;
        Ok(Arc::new(Self { tombstone: Arc::new(tombstone), filter }))
    }

    fn is_inside(&self, at_ns: i64) -> bool {
        let (start, end) = self.tombstone.range_ns;
        (start..end).contains(&at_ns)
    }
}

/// The deletions of a partition, in order of positions. Cheap to copy; changed by making others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deletions(Arc<[Arc<Deletion>]>);

impl Deletions {
    /// A single one.
    pub(crate) fn only(deletion: &Arc<Deletion>) -> Self {
        Self([Arc::clone(deletion)].into())
    }

    /// From what a manifest says. The error says what of it cannot be used.
    pub(crate) fn of(tombstones: &[Arc<EntryTombstone>]) -> Result<Self, Error> {
        let all = tombstones.iter().map(|t| Deletion::new(EntryTombstone::clone(t)));
        Ok(Self(all.collect::<Result<Vec<_>, Error>>()?.into()))
    }

    /// With one more, and without those that it makes superfluous. One that is there already stays
    /// as it is.
    #[must_use]
    pub(crate) fn with(&self, new: Arc<Deletion>) -> Self {
        if self.0.iter().any(|known| known.tombstone.id == new.tombstone.id) {
            return self.clone();
        }
        let stays = |known: &&Arc<Deletion>| !new.tombstone.supersedes(&known.tombstone);
        let kept: Vec<_> = self.0.iter().filter(stays).cloned().collect();
        Self(kept.into_iter().chain([new]).collect())
    }

    /// Without those of these ids.
    #[must_use]
    pub(crate) fn without(&self, ids: &[u64]) -> Self {
        Self(self.0.iter().filter(|d| !ids.contains(&d.tombstone.id)).cloned().collect())
    }

    /// Those that may hide entries of a segment.
    pub(crate) fn of_segment(&self, segment: &SegmentMeta) -> Self {
        if self.0.iter().all(|d| !d.tombstone.concerns(segment)) {
            return Self::default();
        }
        Self(self.0.iter().filter(|d| d.tombstone.concerns(segment)).cloned().collect())
    }

    /// What a segment made from `inputs` says in [`SegmentMeta::deleted_to`] if all that these hide
    /// in each of them was left out.
    pub(crate) fn deleted_to<'a>(&self, inputs: impl Iterator<Item = &'a SegmentMeta>) -> Position {
        let newest = self.iter().map(|t| Position(t.position.0.saturating_add(1))).max();
        inputs.map(SegmentMeta::deleted_to).chain(newest).max().unwrap_or_default()
    }

    /// What is deleted, in order of positions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<EntryTombstone>> {
        self.0.iter().map(|d| &d.tombstone)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
