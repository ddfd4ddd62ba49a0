//! Questions in, answers out: languages, limits, HTTP.
//!
//! ```text
//! HTTP request ─► parameters ─► promql::parse ─► limits ─► Executor (query/engine) ─► Answer ─► JSON
//!                           └─► SQL ─────────► limits ─► Executor ─► pieces of JSON, CSV, Arrow
//! ```
//!
//! Never here: rows, blocks, how anything is stored or evaluated.

mod answer;
mod cancel;
mod config;
pub mod entries;
mod error;
mod executor;
pub mod histogram;
pub mod http;
pub mod logql;
mod metrics;
pub mod number;
pub mod promql;
mod querier;
mod reloads;
mod running;
mod sql;
mod targets;
mod turns;

pub use answer::{
    Answer, MatrixSeries, NOTES_KEPT_MAX, PhaseTime, PointValue, Stats, Value, VectorPoint,
};
pub use cancel::{Cancel, Usage, Used};
pub use config::Config;
pub use error::{Error, Place, Source};
pub use executor::{
    Batches, BlockFacts, Evaluation, Executor, Listing, RawSeries, ReadRequest, SeriesRequest,
    Statistics,
};
pub use histogram::{Bucket, CUSTOM_BOUNDS_SCHEMA, FINEST_SCHEMA, FloatHistogram, bucket_bound};
pub use metrics::{Metrics, OwnMetrics};
pub use model::CancelGuard;
pub use querier::{About, Querier};
pub use reloads::Reloads;
pub use sql::{Pieces, PromqlRules, SqlFormat, SqlParameter, SqlRequest};
pub use targets::{FamiliesAsked, Targets, TargetsAsked};
