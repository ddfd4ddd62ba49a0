//! Answers to expressions, before anybody prints them.

use std::sync::Arc;
use std::time::Duration;

use model::Labels;

use crate::FloatHistogram;

/// Distinct notes that an answer has of each kind; the first of them in order. A selector of many
/// names may cause one for each of them.
pub const NOTES_KEPT_MAX: usize = 1_000;

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The result.
    pub value: Value,
    /// What the asker should know because the result may be wrong. Whole texts, as
    /// `PromQL warning: … (1:6)`.
    pub warnings: Vec<String>,
    /// What the asker may want to know. Whole texts, as `PromQL info: … (1:6)`.
    pub infos: Vec<String>,
    /// What it cost.
    pub stats: Stats,
}

impl Answer {
    /// An answer without notes or statistics.
    pub fn new(value: Value) -> Self {
        Self { value, warnings: Vec::new(), infos: Vec::new(), stats: Stats::default() }
    }
}

/// A result. A range query always has a matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Scalar {
        /// When it was asked for.
        at_ms: i64,
        /// The number.
        value: f64,
    },
    /// A text.
    String {
        /// When it was asked for.
        at_ms: i64,
        /// The text.
        value: String,
    },
    /// One point of each series, in the order the expression gave (`sort()`, `topk()`).
    Vector(Vec<VectorPoint>),
    /// Several points of each series.
    Matrix(Vec<MatrixSeries>),
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorPoint {
    /// Whose it is.
    pub labels: Labels,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The value.
    pub value: PointValue,
}

/// A float or a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum PointValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// One series of a matrix. Both lists are in order of time and share no instant.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// Whose they are.
    pub labels: Labels,
    /// Floats, each with its time in milliseconds since the Unix epoch.
    pub floats: Vec<(i64, f64)>,
    /// Native histograms, each with its time.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// What an evaluation cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Series selected.
    pub series: u64,
    /// Samples read from storage, each counted once.
    pub samples_read: u64,
    /// Samples the steps looked at: one that lies in the windows of ten steps counts ten times
    /// (Prometheus' `totalQueryableSamples`).
    pub samples_queryable: u64,
    /// The same by instant of the question, if that was asked for.
    pub samples_per_step: Vec<(i64, u64)>,
    /// Most samples in memory at a time.
    pub samples_peak: u64,
    /// Time for planning and selecting series.
    pub prepare: Duration,
    /// Time for evaluating, selection not included.
    pub evaluate: Duration,
    /// Time for sorting the result.
    pub sort: Duration,
    /// Where the time went, in order.
    pub phases: Vec<PhaseTime>,
}

/// Time of one phase of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseTime {
    /// Which one.
    pub name: &'static str,
    /// By the clock, added up over threads.
    pub time: Duration,
    /// How often there was something to do for it.
    pub times: u64,
}
