//! Scraping: of targets that Prometheus' `scrape_configs` find, and of this process itself.
//!
//! ```text
//! config (YAML) ─► Scraper ─► a pool for each job ─► discovery ─► relabelling ─► a loop for each target
//! tick (aligned) ─► fetch ─► exposition ─► series (known by their bytes) ─┐
//!                                         vanished ─► stale markers ──────┼─► one append
//!                                         up, scrape_* ───────────────────┘
//! ```
//!
//! Invariant: a scrape is stored whole or not at all; after a failed one all of the target's series
//! have ended.

mod batch;
pub(crate) mod config;
mod dcgm;
mod families;
mod fetched;
mod histograms;
mod own;
mod pool;
mod runner;
mod scraped;
mod scraper;
mod series;
mod status;
mod target;
mod time;
mod treatment;

#[cfg(test)]
mod tests;

pub use config::{ScrapeFile, ScrapeFileError};
pub use own::{ScopeOf, SelfScraper, Target};
pub use scraper::{Defaults, PreparedJobs, RowsOf, ScopeOfRows, ScrapeConfig, Scraper};
pub use status::{Dropped, Health, TargetFamily, TargetStatus};

pub use crate::yaml::shown_duration;

use crate::exposition::TextError;
use crate::http_client::FetchError;

/// Why a scrape failed. All of the target's series end then, and `up` is 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScrapeError {
    /// There is no answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An answer in no format that is read.
    #[error("{0}")]
    ContentType(String),
    /// Not what the format allows.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A label set that names a label twice.
    #[error("label {label:?} occurs twice in {series:?}")]
    Repeated {
        /// The label.
        label: String,
        /// The series as written.
        series: String,
    },
    /// No name is left after relabelling.
    #[error("metric name label is mandatory")]
    NoName,
    /// A name that the job does not allow.
    #[error("invalid metric name or label names: {series}")]
    InvalidName {
        /// The labels.
        series: String,
    },
    /// Too many samples.
    #[error("sample limit exceeded: more than {limit} samples")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// A native histogram that makes no sense.
    #[error("invalid native histogram: {0}")]
    Histogram(String),
    /// Too many buckets, however coarse.
    #[error("histogram bucket limit exceeded: more than {limit} buckets")]
    TooManyBuckets {
        /// The limit.
        limit: u64,
    },
    /// Labels beyond the job's limits.
    #[error("{0}")]
    LabelLimit(String),
    /// More targets than the job may have.
    #[error("{0}")]
    TargetLimit(String),
    /// What was scraped could not be stored.
    #[error("{0}")]
    Stored(String),
}
