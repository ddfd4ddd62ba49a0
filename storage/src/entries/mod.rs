//! Entries: lines of logs, Kubernetes events and audit records, by stream and time.
//!
//! ```text
//! append ─► checked, shared out ─► log (synced) ─► head: pages in the order they came
//!                                                    │ flush
//!                                                    ├──────► tail: those who listen, as it comes
//! search ◄── newest or oldest first, merged ◄── segments: sorted by stream and time, with blooms
//! ```
//!
//! Entries have partitions of their own, numbered from 16384 on, with manifests and a share of the
//! log like those of metrics. Never here: wire protocols, query languages.

mod append;
mod batches;
mod condition;
mod config;
mod deletion;
mod flush;
mod generation;
mod head;
mod matching;
mod merge;
mod needs;
mod open;
mod overview;
mod page;
mod partition;
mod payload;
mod prepare;
mod retention;
mod rows;
mod search;
mod segment;
mod statistics;
mod streams;
mod tail;
mod tally;
mod tokens;
mod usage;

pub use condition::{EntryFilter, LineCondition, LineTest};
pub use config::Config;
pub use deletion::{DeleteEntries, EntriesDeleted, EntryTombstone};
pub use overview::EntryTotals;
pub use rows::{
    EntriesAppended, Entry, EntryOutcome, EntryReason, EntryRejected, EntryRows, Field, StreamRows,
};
pub use search::{
    Direction, EntriesScanned, EntryPlace, EntryScan, EntrySearch, EntryStream, FoundEntry,
    SelectEntries,
};
#[doc(hidden)]
pub use segment::lines;
pub use statistics::{EntrySource, HourVolume, SelectStreams, StreamVolume};
pub use tail::{Dropped, EntryTail, TailEntries, Tailed, TailedEntry, WaitingMax};
pub use tally::{EntryTally, StreamSpans, StreamTally, TallyEntries};

pub(crate) use deletion::stored_list;
pub(crate) use head::EntryHead;
pub(crate) use open::{RestoredEntries, affected, restore, what_is_missing};
pub(crate) use partition::EntryPartition;
pub(crate) use segment::{
    OBJECT_NAMES, STREAMS, SegmentHandle, SegmentIndex, VERSION as SEGMENT_VERSION, Whole,
    decode_any_terms,
};

use tail::Tails;
use usage::ActiveStreams;

/// Entries of an open data directory.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(crate) partitions: Vec<EntryPartition>,
    pub(crate) active: ActiveStreams,
    pub(crate) tails: Tails,
}

impl Entries {
    /// A partition by its number.
    pub(crate) fn of(&self, number: u16) -> Option<&EntryPartition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }
}
