//! Entries on their way in: one request, taken apart but not copied.

use std::fmt;
use std::ops::Range;

use model::{Level, Position, Signal, SourceKind};

/// The entries of one request. Lines and values stay where they are in the request's body; what
/// did not lie there in one piece is in `spill`. Places from `body.len()` on mean the spill.
#[derive(Debug, Default)]
pub struct EntryRows<'a> {
    /// The decompressed body.
    pub body: &'a [u8],
    /// What was put together beside it.
    pub spill: Vec<u8>,
    /// The streams of the request, in its order; one may come twice.
    pub streams: Vec<StreamRows>,
    /// Entries of all streams.
    pub entries: Vec<Entry>,
    /// Fields of all entries.
    pub fields: Vec<Field>,
    /// Says which batch of its sender this is: one that comes again is not stored again. `None`
    /// where the protocol gives none; two equal lines may then both be real.
    pub batch: Option<u128>,
}

/// One stream of a request.
#[derive(Debug, Clone, Default)]
pub struct StreamRows {
    /// What its entries are.
    pub signal: Signal,
    /// What it comes from.
    pub kind: SourceKind,
    /// Its labels in canonical encoding (`model::Labels::encode`).
    pub labels: Range<u32>,
    /// In [`EntryRows::entries`].
    pub entries: Range<u32>,
}

/// One entry: an instant, a line, fields beside it.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// When it happened, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// Whether the sender said so; else it is when it was received, and two of equal content are
    /// two.
    pub has_own_time: bool,
    /// The line, any bytes. Of events and audits the object as JSON.
    pub line: Range<u32>,
    /// In [`EntryRows::fields`].
    pub fields: Range<u32>,
    /// What was found of how bad it is.
    pub level: Level,
    /// Whether the line was cut at the tenant's limit.
    pub is_truncated: bool,
}

/// A name and a value beside a line. UTF-8, not empty names; of a name that comes twice in one
/// entry the last counts.
#[derive(Debug, Clone, Default)]
pub struct Field {
    /// The name.
    pub name: Range<u32>,
    /// The value.
    pub value: Range<u32>,
}

impl EntryRows<'_> {
    /// What lies at a place; empty if there is no such place.
    #[inline]
    pub fn bytes(&self, place: &Range<u32>) -> &[u8] {
        let (start, end) = (place.start as usize, place.end as usize);
        let found = match start.checked_sub(self.body.len()) {
            None => self.body.get(start..end),
            Some(start) => {
                end.checked_sub(self.body.len()).and_then(|end| self.spill.get(start..end))
            }
        };
        found.unwrap_or_default()
    }

    /// Puts bytes beside the body and says where they lie; `None` if places run out.
    pub fn put(&mut self, bytes: &[u8]) -> Option<Range<u32>> {
        let start = u32::try_from(self.body.len() + self.spill.len()).ok()?;
        let end = u32::try_from(start as usize + bytes.len()).ok()?;
        self.spill.extend_from_slice(bytes);
        Some(start..end)
    }

    /// Bytes that count against the tenant's rate: lines and fields.
    pub fn counted_bytes(&self) -> u64 {
        let lines = self.entries.iter().map(|e| e.line.len());
        let fields = self.fields.iter().map(|f| f.name.len() + f.value.len());
        lines.chain(fields).map(|bytes| bytes as u64).sum()
    }
}

/// What became of the entries of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryOutcome {
    /// Entries stored, or of a batch that was stored before.
    pub entries: u64,
    /// Bytes of their lines and fields.
    pub bytes: u64,
    /// Streams that were new.
    pub streams_created: u64,
    /// Entries stored of which something was cut.
    pub truncated: u64,
    /// What was refused, by reason.
    pub rejected: Vec<EntryRejected>,
}

/// Entries that can be found and are in the log, but not necessarily on disk yet.
#[derive(Debug, Clone, PartialEq)]
pub struct EntriesAppended {
    /// What became of them.
    pub outcome: EntryOutcome,
    /// Wait for it with [`Storage::durable`](crate::Storage::durable) before telling the sender;
    /// `None` if there is nothing to wait for.
    pub position: Option<Position>,
}

/// Entries refused for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryRejected {
    /// Why.
    pub reason: EntryReason,
    /// How many entries.
    pub count: u64,
    /// The first of them, told with stream and value.
    pub example: String,
}

impl EntryOutcome {
    /// Counts refused entries; the text of the first is kept.
    pub fn reject(&mut self, reason: EntryReason, count: u64, example: impl FnOnce() -> String) {
        match self.rejected.iter_mut().find(|r| r.reason == reason) {
            Some(known) => known.count += count,
            None => self.rejected.push(EntryRejected { reason, count, example: example() }),
        }
    }
}

/// Why entries were refused; the words are those of the counter of refused entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words explain themselves")]
pub enum EntryReason {
    InvalidLabels,
    TooManyLabels,
    LabelNameTooLong,
    LabelValueTooLong,
    ActiveStreamLimit,
    TooOld,
    TooFarInFuture,
    InvalidTimestamp,
    TooManyFields,
    FieldsTooLong,
    InvalidField,
    InvalidEntry,
    EntriesRate,
    TenantSuspended,
}

impl EntryReason {
    /// The label value of the counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidLabels => "invalid_labels",
            Self::TooManyLabels => "too_many_labels",
            Self::LabelNameTooLong => "label_name_too_long",
            Self::LabelValueTooLong => "label_value_too_long",
            Self::ActiveStreamLimit => "active_stream_limit",
            Self::TooOld => "too_old",
            Self::TooFarInFuture => "too_far_in_future",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::TooManyFields => "too_many_fields",
            Self::FieldsTooLong => "fields_too_long",
            Self::InvalidField => "invalid_field",
            Self::InvalidEntry => "invalid_entry",
            Self::EntriesRate => "entries_rate",
            Self::TenantSuspended => "tenant_suspended",
        }
    }

    /// Whether the sender should slow down and try again (429) rather than give up (400).
    pub fn is_rate(self) -> bool {
        matches!(self, Self::ActiveStreamLimit | Self::EntriesRate)
    }
}

impl fmt::Display for EntryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_in_the_body_or_beside_it() {
        let mut rows = EntryRows { body: b"hello", ..EntryRows::default() };
        let beside = rows.put(b"world").expect("there is room");
        assert_eq!(rows.bytes(&(0..5)), b"hello");
        assert_eq!(rows.bytes(&beside), b"world");
        for nowhere in [3..7, 8..11, 10..11, 400..401] {
            assert_eq!(rows.bytes(&nowhere), b"", "{nowhere:?}");
        }
    }
}
