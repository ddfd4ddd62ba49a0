//! Questions in, answers out: languages, limits, HTTP.
//!
//! ```text
//! HTTP request ─► parameters ─► promql::parse ─► limits ─► Executor (query/engine) ─► Answer ─► JSON
//! ```
//!
//! Never here: rows, blocks, how anything is stored or evaluated.

mod answer;
mod config;
mod error;
mod executor;
mod histogram;
pub mod http;
mod limits;
mod metrics;
pub mod number;
pub mod promql;
mod querier;

pub use answer::{Answer, MatrixSeries, PointValue, Stats, Value, VectorPoint};
pub use config::Config;
pub use error::{Error, Source};
pub use executor::{Cancel, CancelGuard, Evaluation, Executor, Listing, SeriesRequest, Statistics};
pub use histogram::{Bucket, CUSTOM_BOUNDS_SCHEMA, FloatHistogram, bucket_bound};
pub use metrics::Metrics;
pub use querier::{About, Querier};
