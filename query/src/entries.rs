//! Questions about entries (lines of logs, events, audit records), and the port to the rows that
//! answer them: `query` reads, limits, evaluates and prints; whoever implements [`Entries`] finds.
//!
//! ```text
//! LogQL ─► pipeline (what the rows' side can decide) ─► Entries ─► rows or counts ─► metric
//! ```

mod metric;
mod pipeline;

#[cfg(test)]
pub(crate) mod memory;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::{Labels, Level, Matcher, Signal, SourceKind, TailId};
use tenancy::ReadScope;

use crate::{Cancel, Error, Listing};

pub(crate) use metric::{Series, Steps, Values, all_labels, evaluate};
pub(crate) use pipeline::Pipeline;

/// The name under which an entry's level is matched, counted and shown, as in Loki.
pub const LEVEL_NAME: &str = "detected_level";

/// Runs questions about entries. `query/engine` implements it; `query` never sees storage.
///
/// Labels carry `__tenant_id__` if the scope says so, and matchers may name it. Every answer holds
/// only what the scope may read, counts and listings included.
///
/// A dropped future must free its core soon: work that was handed to other threads watches the
/// [`Cancel`] it was given, and counts there what it reads.
#[async_trait]
pub trait Entries: Debug + Send + Sync {
    /// Entries in the order of their places, newest or oldest first, some at a time. Whoever drops
    /// what it gives ends the work.
    async fn select(
        &self,
        scope: &ReadScope,
        request: SelectEntries,
    ) -> Result<Box<dyn EntryBatches>, Error>;

    /// How many entries, or how many bytes, there are in each bucket of time, by the values of
    /// some names; in the order of their labels. At most `groups_max` groups: more are an error.
    async fn count(
        &self,
        scope: &ReadScope,
        request: CountEntries,
    ) -> Result<Vec<EntryCounts>, Error>;

    /// The streams with entries in the range, in the order of their labels.
    async fn streams(
        &self,
        scope: &ReadScope,
        request: EntrySelection,
        limit: Option<usize>,
    ) -> Result<Listing<StreamFacts>, Error>;

    /// The names of the streams' labels, in order.
    async fn label_names(
        &self,
        scope: &ReadScope,
        request: EntrySelection,
    ) -> Result<Vec<String>, Error>;

    /// The values of one label of the streams, in order.
    async fn label_values(
        &self,
        scope: &ReadScope,
        name: &str,
        request: EntrySelection,
    ) -> Result<Vec<String>, Error>;

    /// What has ever sent entries, in order of signal, cluster and kind.
    async fn sources(&self, scope: &ReadScope, cancel: &Cancel) -> Result<Vec<SourceFacts>, Error>;

    /// Entries as they come, those that are stored first; none is lost or given twice in between.
    async fn tail(
        &self,
        scope: &ReadScope,
        request: TailEntries,
    ) -> Result<Box<dyn EntryTail>, Error>;
}

/// Which entries a question is about.
#[derive(Debug, Clone, Default)]
pub struct EntrySelection {
    /// Of which kind.
    pub signal: Signal,
    /// A stream counts if all matchers of one selector hold. Empty: every stream of the scope.
    pub selectors: Vec<Vec<Matcher>>,
    /// First nanosecond since the Unix epoch.
    pub start_ns: i64,
    /// The nanosecond after the last one.
    pub end_ns: i64,
    /// What must hold of each entry.
    pub filter: EntryFilter,
    /// Set when nobody waits for the answer any more.
    pub cancel: Cancel,
}

/// What must hold of an entry beside its stream and its instant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryFilter {
    /// All of these hold for its line.
    pub lines: Vec<LineCondition>,
    /// All of these hold for what it has under that name: its stream's label; if there is none,
    /// its field; if there is none, and the name is [`LEVEL_NAME`], its level's word; else nothing.
    pub named: Vec<Matcher>,
    /// It is at least as bad as this.
    pub level_min: Option<Level>,
}

/// A condition on lines: one of its tests holds, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineCondition {
    /// The tests.
    pub any: Vec<LineTest>,
    /// Whether it wants lines for which none of them holds.
    pub is_negative: bool,
    /// Whether large and small letters are the same.
    pub ignores_case: bool,
}

/// One way for a line to be what is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineTest {
    /// The text is somewhere in the line; the empty one is in every line.
    Contains(String),
    /// The same, and no letter, digit or underscore stands right before or behind it where it
    /// begins or ends with one.
    Words(String),
    /// The regular expression matches somewhere in the line. `.` matches no newline.
    Regex(String),
}

/// Which way entries are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    #[default]
    Backward,
}

/// Entries to be given.
#[derive(Debug, Clone, Default)]
pub struct SelectEntries {
    /// Which.
    pub selection: EntrySelection,
    /// In which order.
    pub direction: Direction,
    /// Most entries wanted; `None` for all.
    pub limit: Option<usize>,
    /// Only those beyond this place, in that direction.
    pub after: Option<Place>,
}

/// The place of an entry in the order of all: by time, then by stream, then as they came. It stays
/// the same however often the entry is moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// When it happened. Nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// Tells streams apart: of the tenant and the labels.
    pub stream: u128,
    /// Tells entries of one stream at one instant apart.
    pub sequence: u64,
}

/// An entry.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryRow {
    /// When it happened, and where it stands among others.
    pub place: Place,
    /// Of which stream.
    pub stream: Arc<Labels>,
    /// The line, any bytes.
    pub line: Bytes,
    /// Names and values beside the line, in order of names.
    pub fields: Arc<[(String, String)]>,
    /// How bad what it tells is.
    pub level: Level,
}

impl EntryRow {
    /// What it has under a name, as [`EntryFilter::named`] looks at it.
    pub fn named(&self, name: &str) -> &str {
        if let Some(value) = self.stream.get(name) {
            return value;
        }
        match self.fields.iter().find(|(field, _)| field == name) {
            Some((_, value)) => value,
            None if name == LEVEL_NAME => self.level.as_str(),
            None => "",
        }
    }

    /// Bytes it counts for: of the line and of the fields.
    pub fn counted_bytes(&self) -> u64 {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        (self.line.len() + fields) as u64
    }
}

/// Entries, some at a time.
#[async_trait]
pub trait EntryBatches: Send {
    /// The next entries, never none; `None` after the last. What is returned counts as the
    /// question's memory until the next call.
    async fn next(&mut self) -> Result<Option<Vec<EntryRow>>, Error>;
}

/// What a tail gives. The selection's end does not count.
#[derive(Debug, Clone, Default)]
pub struct TailEntries {
    /// Which entries. Of what is stored those from its start on; of what comes all, however old.
    pub selection: EntrySelection,
    /// The newest so many of what is stored.
    pub stored_max: usize,
    /// Instead of what is stored: what came behind this one.
    pub after: Option<TailId>,
}

/// Entries as they come.
#[async_trait]
pub trait EntryTail: Send {
    /// Waits for the next entries; first, at once, it gives those that are stored. `None` once the
    /// process is to end; an error ends it, too. May be given up at any time and called again.
    async fn next(&mut self) -> Result<Option<Tailed>, Error>;
}

/// What came to a tail.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tailed {
    /// Entries that are stored, oldest first, or those that came, in the order in which they came.
    pub rows: Vec<TailedRow>,
    /// Of what is stored: behind this one everything comes that is not in it.
    pub upto: Option<TailId>,
    /// Whether some of it may have been given before: nobody knows any more what came behind the
    /// entry that it went on behind.
    pub repeats: bool,
    /// What came after these and was left out, because they were not taken in time.
    pub dropped: Dropped,
}

/// An entry that came to a tail.
#[derive(Debug, Clone, PartialEq)]
pub struct TailedRow {
    /// To go on behind it; what is stored has none.
    pub id: Option<TailId>,
    /// The entry.
    pub row: EntryRow,
}

/// Entries that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// Streams and instants of the first of them.
    pub first: Vec<(Arc<Labels>, i64)>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Counted {
    /// Entries.
    #[default]
    Entries,
    /// Bytes of their lines.
    Bytes,
}

/// Entries to be counted: in `buckets` buckets of equal width from the selection's start on.
#[derive(Debug, Clone, Default)]
pub struct CountEntries {
    /// Which. Its end is that of the last bucket, or before.
    pub selection: EntrySelection,
    /// What of them.
    pub counted: Counted,
    /// Width of a bucket. Nanoseconds, above 0.
    pub width_ns: i64,
    /// How many buckets.
    pub buckets: usize,
    /// By what they have under these names, as [`EntryFilter::named`] looks at them.
    pub by: Vec<String>,
    /// Most groups.
    pub groups_max: usize,
}

/// The counts of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryCounts {
    /// What its entries have under the names they are counted by; what is empty is not here.
    pub labels: Labels,
    /// Counts by bucket.
    pub counts: Vec<u64>,
}

/// A stream, and what it has in a range of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    /// Its labels.
    pub labels: Labels,
    /// What it comes from.
    pub kind: SourceKind,
    /// Entries. At the edges of the range whole hours may count.
    pub entries: u64,
    /// Bytes of their lines and fields.
    pub bytes: u64,
}

/// What sends entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// The tenant's name.
    pub tenant: String,
    /// What it sends.
    pub signal: Signal,
    /// From which cluster; empty if nothing says so.
    pub cluster: String,
    /// What it is.
    pub kind: SourceKind,
    /// Its oldest entry that is kept. Nanoseconds since the Unix epoch.
    pub first_ns: i64,
    /// Its newest entry.
    pub last_ns: i64,
    /// Entries kept.
    pub entries: u64,
    /// Bytes of their lines and fields.
    pub bytes: u64,
}
