//! What is told of targets: `/api/v1/targets` and the page are made of it.

use model::{Labels, MetricKind};
use tenancy::TenantId;

/// How the last scrape went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// There was none yet.
    #[default]
    Unknown,
    /// It was stored.
    Up,
    /// It failed.
    Down,
}

impl Health {
    /// The word in Prometheus' API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A target that is scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetStatus {
    /// Whose rows its samples are; `None` before the first was stored.
    pub tenant: Option<TenantId>,
    /// The job.
    pub pool: String,
    /// Labels as they were found.
    pub discovered: Labels,
    /// Labels of its series.
    pub labels: Labels,
    /// Where it is scraped.
    pub url: String,
    /// Why the last scrape failed; empty if it did not.
    pub last_error: String,
    /// When it was scraped last; 0 if never. Milliseconds since the epoch.
    pub last_scrape_ms: i64,
    /// How long that took.
    pub last_seconds: f64,
    /// How it went.
    pub health: Health,
    /// Milliseconds between two scrapes.
    pub interval_ms: i64,
    /// Milliseconds that a scrape may take.
    pub timeout_ms: i64,
}

/// A target that relabelling dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropped {
    /// The job.
    pub pool: String,
    /// Labels as they were found.
    pub discovered: Labels,
}

/// A family that a target exposes.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetFamily {
    /// Labels of the target.
    pub target: Labels,
    /// The family.
    pub family: String,
    /// Its type.
    pub kind: MetricKind,
    /// Its help.
    pub help: String,
    /// Its unit.
    pub unit: String,
}
