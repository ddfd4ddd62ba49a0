//! Questions in, answers out: languages, limits, HTTP.
//!
//! ```text
//! HTTP request ─► parameters ─► promql::parse ─► limits ─► Executor (query/engine) ─► Answer ─► JSON
//! ```
//!
//! Never here: rows, blocks, how anything is stored or evaluated.

mod answer;
mod error;
mod executor;
mod histogram;
pub mod promql;

pub use answer::{Answer, MatrixSeries, PointValue, Stats, Value, VectorPoint};
pub use error::{Error, Source};
pub use executor::{Cancel, CancelGuard, Evaluation, Executor, Listing, SeriesRequest, Statistics};
pub use histogram::{CUSTOM_BOUNDS_SCHEMA, FloatHistogram};
