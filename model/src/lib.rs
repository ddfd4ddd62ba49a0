//! The vocabulary every other crate speaks: what a series, a sample and a matcher are, and the
//! parts (clock, randomness, disk, log) that come in from outside the process.
//!
//! ```text
//! labels ─► series_id          sample, histogram, exemplar, metadata
//! signal, source kind, level   matcher, time, calendar, resolution, cancel, tail id
//! clock  random  disk  log     traits; the real disk and log live in `storage`, faulty twins in `testkit`
//! ```
//!
//! Never here: I/O, threads, tenants, anything that knows who asks.

mod calendar;
mod cancel;
mod clock;
mod disk;
mod exemplar;
mod histogram;
mod labels;
mod log;
mod matcher;
mod metadata;
mod pattern;
mod random;
mod resolution;
mod sample;
mod series_id;
mod signal;
mod since;
mod tail_id;
mod time;
pub mod varint;

pub use calendar::{Day, days_in_month};
pub use cancel::{Cancel, CancelGuard, Pace, Stopped, Watch};
pub use clock::{Clock, SystemClock};
pub use disk::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
pub use exemplar::Exemplar;
pub use histogram::{Buckets, Histogram, ResetHint, Span};
pub use labels::{BUCKET_LABEL, Labels, LabelsBuilder, LabelsError, METRIC_NAME, TENANT_LABEL};
pub use log::{Log, LogError, Position, Record, RecordKind};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use metadata::{Metadata, MetricKind};
pub use pattern::{Beginning, PatternBudget};
pub use random::{OsRandom, Random};
pub use resolution::Resolution;
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_nan};
pub use series_id::SeriesId;
pub use signal::{Level, Signal, SourceKind};
pub use since::Since;
pub use tail_id::{NoTailId, TailId};
pub use time::TimeRange;
