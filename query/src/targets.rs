//! What is scraped, as whoever scrapes tells it: the port behind the endpoints about targets.

use model::{Labels, Matcher};
use serde_json::Value;
use tenancy::ReadScope;

/// Which lists of targets are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsAsked {
    /// Those that are scraped.
    pub active: bool,
    /// Those that relabelling dropped.
    pub dropped: bool,
    /// Of one job; empty for all.
    pub pool: String,
}

/// Which families of targets are asked for.
#[derive(Debug)]
pub struct FamiliesAsked {
    /// What the targets' labels match; none for all targets.
    pub matchers: Vec<Matcher>,
    /// One family; empty for all.
    pub family: String,
    /// How many at most.
    pub limit: usize,
}

/// Tells what is scraped, as far as a scope may see it. Answers are `data` of Prometheus' documents.
pub trait Targets: Send + Sync {
    /// `/api/v1/targets`
    fn targets(&self, scope: &ReadScope, asked: &TargetsAsked) -> Value;

    /// `/api/v1/scrape_pools`
    fn pools(&self, scope: &ReadScope) -> Value;

    /// `/api/v1/targets/metadata`
    fn families(&self, scope: &ReadScope, asked: &FamiliesAsked) -> Value;

    /// `/api/v1/targets/relabel_steps`; `None` if there is no such job.
    fn relabel_steps(&self, scope: &ReadScope, pool: &str, labels: &Labels) -> Option<Value>;
}
