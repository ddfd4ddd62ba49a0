//! The port between questions and the rows that answer them: `query` parses, limits and prints;
//! whoever implements [`Executor`] evaluates.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{Exemplar, Histogram, Labels, Matcher, Metadata, TimeRange};
use tenancy::ReadScope;

use crate::promql::Expr;
use crate::{Answer, Cancel, Error, Pieces, SqlRequest};

/// Runs questions. `query/engine` implements it; `query` never sees storage.
///
/// A scope over several tenants says whether answers carry `__tenant_id__`. If they do not, equal
/// label sets of two tenants are an error that names both.
///
/// A dropped future must free its core soon: work that was handed to other threads watches
/// the [`Cancel`] it was given.
#[async_trait]
pub trait Executor: Debug + Send + Sync {
    /// Evaluates an expression at one instant or over a range.
    async fn evaluate(&self, scope: &ReadScope, evaluation: Evaluation) -> Result<Answer, Error>;

    /// The label sets of the series that match, in order.
    async fn series(
        &self,
        scope: &ReadScope,
        request: SeriesRequest,
    ) -> Result<Listing<Labels>, Error>;

    /// The label names of the series that match, in order.
    async fn label_names(
        &self,
        scope: &ReadScope,
        request: SeriesRequest,
    ) -> Result<Listing<String>, Error>;

    /// The values of one label in the series that match, in order.
    async fn label_values(
        &self,
        scope: &ReadScope,
        name: &str,
        request: SeriesRequest,
    ) -> Result<Listing<String>, Error>;

    /// What metric families are: of one, or of all.
    async fn metadata(
        &self,
        scope: &ReadScope,
        metric: Option<&str>,
        cancel: &Cancel,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, Error>;

    /// Exemplars of the series that match one of the selectors.
    async fn exemplars(
        &self,
        scope: &ReadScope,
        selectors: Vec<Vec<Matcher>>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, Error>;

    /// The stored samples of the series that match, in the order of their labels, some series at a
    /// time. Whoever drops what it gives ends the work.
    async fn read(
        &self,
        scope: &ReadScope,
        request: ReadRequest,
    ) -> Result<Box<dyn Batches>, Error>;

    /// Answers a statement in SQL, piece by piece.
    async fn sql(&self, scope: &ReadScope, request: SqlRequest) -> Result<Box<dyn Pieces>, Error>;

    /// How many series there are and what they are made of; lists have at most `limit` entries.
    async fn statistics(
        &self,
        scope: &ReadScope,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<Statistics, Error>;

    /// The blocks that have rows of the scope's tenants, oldest first.
    async fn blocks(&self, scope: &ReadScope, cancel: &Cancel) -> Result<Vec<BlockFacts>, Error>;
}

/// An expression and when to evaluate it.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// What to evaluate.
    pub expr: Arc<Expr>,
    /// Its text, in which notes beside the answer tell line and column.
    pub text: Arc<str>,
    /// First instant. Milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// Last instant; equal to the first for an instant query.
    pub end_ms: i64,
    /// Distance of instants; 0 for an instant query.
    pub step_ms: i64,
    /// How long the last sample of a series stands in for a missing one.
    pub lookback_ms: i64,
    /// Wall time the evaluation may take. The caller also stops waiting by itself.
    pub timeout: Duration,
    /// Whether to count samples by step (`stats=all`).
    pub per_step_stats: bool,
    /// Whether nothing may be taken from answers that were kept.
    pub fresh: bool,
    /// Set when nobody waits for the answer any more.
    pub cancel: Cancel,
}

impl Evaluation {
    /// Whether it is about one instant.
    pub fn is_instant(&self) -> bool {
        self.step_ms == 0
    }

    /// How many instants are evaluated.
    pub fn steps(&self) -> usize {
        if self.is_instant() {
            return 1;
        }
        let span_ms = self.end_ms.saturating_sub(self.start_ms).max(0);
        usize::try_from(span_ms / self.step_ms + 1).unwrap_or(usize::MAX)
    }
}

/// Which series a listing is about.
#[derive(Debug, Clone, Default)]
pub struct SeriesRequest {
    /// A series counts if all matchers of one selector hold. Empty: everything the scope allows.
    pub selectors: Vec<Vec<Matcher>>,
    /// A series counts if it may have samples in here.
    pub range: TimeRange,
    /// Most items wanted; `None` for all.
    pub limit: Option<usize>,
    /// Set when nobody waits for the answer any more.
    pub cancel: Cancel,
}

/// Which stored samples are wanted.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// All must hold; without any everything the scope allows.
    pub matchers: Vec<Matcher>,
    /// Samples outside are left out.
    pub range: TimeRange,
    /// Set when nobody waits for the answer any more.
    pub cancel: Cancel,
}

/// Series, some at a time.
#[async_trait]
pub trait Batches: Send {
    /// The next series; `None` after the last. What is returned counts as the question's memory
    /// until the next call.
    async fn next(&mut self) -> Result<Option<Vec<RawSeries>>, Error>;
}

/// A series as it is stored, stale markers included.
#[derive(Debug, Clone, PartialEq)]
pub struct RawSeries {
    /// Whose samples they are.
    pub labels: Labels,
    /// Instants of the floats, in order. Milliseconds since the Unix epoch.
    pub timestamps: Arc<[i64]>,
    /// Floats at those instants.
    pub values: Vec<f64>,
    /// Native histograms with their instants, in order.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

impl RawSeries {
    /// A series without samples.
    pub fn bare(labels: Labels) -> Self {
        Self { labels, timestamps: Arc::default(), values: Vec::new(), histograms: Vec::new() }
    }

    /// Whether it has no samples.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.histograms.is_empty()
    }
}

/// A list in order, and whether the limit cut it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether there were more.
    pub truncated: bool,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { items: Vec::new(), truncated: false }
    }
}

/// What the tenants of a scope have in one block (`status/tsdb/blocks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// Tells blocks apart; the upper 48 bits are the milliseconds at which it was made.
    pub id: u128,
    /// How often its rows were merged.
    pub level: u8,
    /// First to last sample.
    pub range: TimeRange,
    /// Series.
    pub series: u64,
    /// Chunks.
    pub chunks: u64,
    /// Samples and histograms.
    pub samples: u64,
}

/// How many series there are now, and what they are made of (`status/tsdb`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Series in the head.
    pub series: u64,
    /// Different pairs of label name and value.
    pub label_pairs: u64,
    /// Runs of samples in the head.
    pub chunks: u64,
    /// Oldest and newest sample in the head; `None` if it is empty.
    pub range: Option<TimeRange>,
    /// Series by metric name, most first; so are the other lists.
    pub series_by_metric: Vec<(String, u64)>,
    /// Different values by label name.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of values by label name.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series by `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}
