//! Durable rows: what was acknowledged is on disk, and every read takes a scope.
//!
//! ```text
//! append ─► log (synced) ─► head ─► flush ─► block (objects) ─► manifest
//!                             │                                    │
//! select ◄── merge ◄──────────┴────────────────────────────────────┘
//! ```
//!
//! Invariants: a write is acknowledged once its log record is synced; a block exists for readers
//! once a manifest names it; the answer does not depend on where the rows lie. Never here: wire
//! protocols, query languages, HTTP.

pub mod block;
pub mod codec;
mod disk;
mod error;
pub mod head;
pub mod log;
pub mod manifest;
mod objects;
mod rows;
mod samples;

pub use disk::OsDisk;
pub use error::Error;
pub use objects::LocalObjects;
pub use rows::{AppendOutcome, MetricRows, Reason, Rejected, SeriesRows};
pub use samples::{Select, SeriesSamples};
