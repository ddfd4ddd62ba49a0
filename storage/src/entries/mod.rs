//! Entries: lines of logs, Kubernetes events and audit records, by stream and time.
//!
//! Never here: wire protocols, query languages.

mod rows;

pub use rows::{
    EntriesAppended, Entry, EntryOutcome, EntryReason, EntryRejected, EntryRows, Field, StreamRows,
};
