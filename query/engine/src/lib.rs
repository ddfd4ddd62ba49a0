//! Expressions evaluated over whole columns.
//!
//! ```text
//! Expr ─► plan ─► eval ─────────────► frames (a column per series, all steps) ─► Answer
//!                  │ select, fetch            ▲
//!                  ▼                          │ kernels, functions, on the pool
//!               source ─► morsels of series ──┘
//! ```
//!
//! Results equal Prometheus' to the last bit and depend neither on the number of threads nor on
//! how series are cut into morsels. Never here: HTTP, parsing, where rows lie.

mod budget;
mod column;
mod cpu;
mod drive;
mod engine;
mod entries;
mod eval;
mod exec;
mod exec_histograms;
mod executor;
mod frame;
mod functions;
mod grid;
mod histogram;
mod kernels;
mod notes;
mod phases;
mod plan;
mod pool;
mod queryable;
mod read;
mod results;
mod source;
mod sql;
mod table;

pub use engine::{Engine, instant};
pub use entries::{StorageEntries, stored_filter};
pub use eval::Options;
pub use exec::PromqlExec;
pub use executor::StorageExecutor;
pub use pool::Pool;
pub use results::ResultCacheUse;
pub use source::{Fetched, Selected, Source};
pub use table::Table;
