//! Segments: immutable objects under one prefix with entries of one signal and a stretch of time.
//!
//! ```text
//! rows, sorted ─► write ─► entries.parquet   lines, in groups of up to 8,192 rows
//!                          bloom.bin         tokens of each group, of fresh segments
//!                          terms.bin         blocks of rows of each term, of those that stay
//!                          streams.bin       streams with counts by hour, groups, checksums of all
//! handle ─► open: streams.bin, from the cache or the store ─► groups ─► pages
//! ```
//!
//! Rows are in order of (tenant, labels, instant, arrival): those of a stream follow one another.
//! Invariants: a segment never changes; nobody reads one that no manifest names; every byte is
//! checked before it is decoded. Formats: `docs/formats/segment.md`.

mod bloom;
mod group;
mod index;
pub mod lines;
mod read;
mod terms;
mod verify;
mod write;

use group::Form;
pub(crate) use index::{SegmentIndex, VERSION};
pub(crate) use read::{Columns, Open, SegmentHandle, prune};
pub(crate) use terms::{TERM_BYTES_MAX, blocks_with, decode_any as decode_any_terms, field_term};
pub(crate) use verify::Whole;
pub(crate) use write::{Closed, SegmentWriter, Written, write};

pub(crate) const ENTRIES: &str = "entries.parquet";
const BLOOM: &str = "bloom.bin";
const TERMS: &str = "terms.bin";
pub(crate) const STREAMS: &str = "streams.bin";

/// Objects a segment may have under its prefix, in the order in which they are written: blooms or
/// terms, and the others.
pub(crate) const OBJECT_NAMES: [&str; 4] = [ENTRIES, BLOOM, TERMS, STREAMS];

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// It is soon merged: quick to write, with blooms.
    Young,
    /// It stays for a day or for good: small, with an index over terms.
    Kept,
}

impl Style {
    /// How its rows are stored.
    fn form(self) -> Form {
        match self {
            Self::Young => Form::Quick,
            Self::Kept => Form::Packed,
        }
    }
}

/// The object of a segment that is not there, if one is not; `has` says which are. Which of blooms
/// and terms it should have, its table of streams alone knows.
pub(crate) fn missing_object(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    let tokens = if has(TERMS) { TERMS } else { BLOOM };
    [ENTRIES, tokens, STREAMS].into_iter().find(|name| !has(name))
}

/// Rows of a group: what is fetched, decoded and pruned as one.
const GROUP_ROWS_MAX: usize = 8_192;

/// The same in bytes of lines and fields.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Rows from which on a tenant's last group is not shared with the next tenant. A group costs some
/// hundred bytes whatever it holds, so small tenants share one (docs/decisions/0003-row-groups.md).
const GROUP_ROWS_MIN: usize = 1_024;
