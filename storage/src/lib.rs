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

mod append;
pub mod backup;
pub mod block;
mod changes;
mod checked_json;
pub mod codec;
mod compact;
mod config;
mod delete;
mod disk;
mod downsample;
pub mod entries;
mod error;
mod export;
mod flush;
#[doc(hidden)]
pub mod fuzz;
mod give_up;
mod ground;
pub mod head;
mod hidden;
mod inspect;
mod listing;
mod live;
pub mod log;
mod look_up;
mod lru;
pub mod manifest;
pub mod objects;
mod open;
mod overview;
mod partition;
mod partition_map;
mod place;
mod replay;
pub mod retention;
mod rows;
mod samples;
mod select;
mod settle;
mod shares;
mod starts;
mod storage;
pub mod tombstone;
mod usage;
mod verify;

pub use append::Appended;
pub use compact::{CompactionTotals, Config as CompactionConfig, Extent};
pub use config::Config;
pub use delete::{Delete, Deleted, Preview};
pub use disk::OsDisk;
pub use downsample::{
    Config as DownsamplingConfig, FetchedWindows, HistogramWindow, SelectWindows, WindowSelection,
    Windows,
};
pub use error::{Error, error_text};
pub use export::{Export, ExportFormat, Exported};
pub use give_up::{Carry, GivenUp, LostBlock, LostSegment, give_up};
pub use head::check_histogram;
pub use inspect::{Sheet, Table, inspect};
pub use listing::{ListNames, ListSeries, ListValues};
pub use live::{CountLive, GroupBy, LiveGroups};
pub use look_up::{InBlock, InHead, LookUp, Question};
pub use lru::Lru;
pub use objects::{FarObjects, LocalObjects};
pub use open::{Parts, quarantine};
pub use overview::{PartitionOverview, TenantOverview, Totals};
pub use rows::{AppendOutcome, MetricRows, Reason, Rejected, SeriesRows};
pub use samples::{Select, SeriesSamples};
pub use select::{Fetched, Liveness, Selecting, Selection};
pub use shares::BlockShare;
pub use starts::Starts;
pub use storage::Storage;
pub use verify::{Finding, OnProgress, Severity, Verified, VerifyProgress, verify};
