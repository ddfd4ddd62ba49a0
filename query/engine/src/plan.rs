//! Plans: an expression with everything known that does not depend on data: which series to
//! select, over which time, at which steps each part is evaluated, which parts are constant.

use std::sync::Arc;

use model::{Labels, Matcher, TimeRange};
use query::promql::{AggregateOp, BinaryOp, Edges, Matching, Span};
use storage::Select;

use crate::functions::{DateFunction, FrameFunction, MapFunction, RangeFunction};
use crate::grid::Grid;
use crate::histogram::Shows;
use crate::kernels::window::Times;

mod invariant;
mod lower;

pub(crate) use lower::{Question, lower, not_supported};

/// An expression ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Node,
    /// Selections, each made once however many parts of the expression read it.
    pub(crate) selects: Vec<Select>,
}

/// A part of an expression and the steps it is evaluated at.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) grid: Grid,
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

/// What a node does.
#[derive(Debug)]
pub(crate) enum Kind {
    /// The same number at every step.
    Number(f64),
    /// A text.
    Text(String),
    /// The step's time in seconds.
    Time,
    /// The last sample of each series.
    Selector(Selector),
    /// When the last sample of each series was taken, or began to count.
    Timestamps(Selector, InstantOf),
    /// `info`: series with labels of the info series that belong to them.
    Info(Box<InfoCall>),
    /// A range selected by itself: the answer to `x[5m]` at one instant.
    Matrix(RangeInput),
    /// A function of each series' samples before a step.
    Range(RangeCall),
    /// A function of single floats.
    Map { func: MapFunction, input: Box<Node>, params: Vec<Node> },
    /// A function of points in time.
    Date { func: DateFunction, input: Box<Node> },
    /// A function of whole vectors.
    Frame { func: FrameFunction, name: &'static str, args: Vec<Node> },
    /// `absent`: a point where the vector has none.
    Absent { labels: Labels, input: Box<Node> },
    /// An aggregation.
    Aggregate(Aggregation),
    /// An operator between two parts.
    Binary(Box<Operation>),
    /// `-x`
    Negate(Box<Node>),
    /// The same at every step, so evaluated at the first one only.
    Once(Box<Node>),
}

/// Samples of series, and how they relate to steps.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    /// Index into [`Plan::selects`].
    pub(crate) select: usize,
    pub(crate) times: Times,
    /// How far a step looks back: the look-back, or the range.
    pub(crate) reach_ms: i64,
    /// `anchored` or `smoothed`.
    pub(crate) edges: Edges,
    /// How far beside the reach those look: the look-back.
    pub(crate) margin_ms: i64,
    /// What native histograms show of counter resets.
    pub(crate) shows: Shows,
}

/// Of which instant of a sample the time is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstantOf {
    Sample,
    Start,
}

/// Which series get labels of which info series.
#[derive(Debug)]
pub(crate) struct InfoCall {
    pub(crate) input: Box<Node>,
    /// Of the info series.
    pub(crate) matchers: Vec<Matcher>,
    /// When their samples may be taken.
    pub(crate) range: TimeRange,
    pub(crate) times: Times,
    pub(crate) lookback_ms: i64,
    pub(crate) labels: Arc<InfoLabels>,
}

/// Which labels of info series are taken over.
#[derive(Debug, Default)]
pub(crate) struct InfoLabels {
    /// Conditions on names: a series that satisfies them is an info series itself.
    pub(crate) names: Vec<Matcher>,
    /// Conditions on the labels to take over; without any, all are.
    pub(crate) data: Vec<Matcher>,
}

/// What a range function works on.
#[derive(Debug)]
pub(crate) enum RangeInput {
    Selector(Selector),
    Subquery { node: Box<Node>, times: Times, range_ms: i64 },
}

/// A function of ranges and its numbers.
#[derive(Debug)]
pub(crate) struct RangeCall {
    pub(crate) name: &'static str,
    pub(crate) func: RangeFunction,
    pub(crate) input: RangeInput,
    pub(crate) input_span: Span,
    pub(crate) params: Vec<Node>,
}

/// An aggregation over groups.
#[derive(Debug)]
pub(crate) struct Aggregation {
    pub(crate) op: AggregateOp,
    pub(crate) grouping: Arc<Grouping>,
    pub(crate) input: Box<Node>,
    pub(crate) param: Option<Box<Node>>,
}

/// `by (…)` or `without (…)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grouping {
    /// In order, each once.
    pub(crate) labels: Vec<String>,
    pub(crate) without: bool,
}

impl Grouping {
    pub(crate) fn new(labels: &[String], without: bool) -> Self {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        labels.dedup();
        Self { labels, without }
    }
}

/// An operator and its sides.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) op: BinaryOp,
    pub(crate) lhs: Node,
    pub(crate) rhs: Node,
    pub(crate) return_bool: bool,
    /// There if, and only if, both sides are vectors.
    pub(crate) matching: Option<Arc<Matching>>,
}

/// The selections of a plan: equal ones over about the same time are one.
#[derive(Debug, Default)]
pub(crate) struct Selects(Vec<Select>);

impl Selects {
    fn add(&mut self, matchers: &[Matcher], range: TimeRange) -> usize {
        let near = |known: &Select| known.matchers == matchers && nearly_same(known.range, range);
        if let Some(at) = self.0.iter().position(near) {
            self.0[at].range = self.0[at].range.union(range);
            return at;
        }
        self.0.push(Select { matchers: matchers.to_vec(), range });
        self.0.len() - 1
    }
}

/// Whether reading the union costs neither side more than a quarter extra.
fn nearly_same(a: TimeRange, b: TimeRange) -> bool {
    let span = |r: TimeRange| i128::from(r.end_ms) - i128::from(r.start_ms) + 1;
    span(a.union(b)) * 4 <= span(a).min(span(b)) * 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_over_about_the_same_time_are_one() {
        let mut selects = Selects::default();
        let up = [Matcher::equal("__name__", "up")];
        let range = |start_ms, end_ms| TimeRange { start_ms, end_ms };
        assert_eq!(selects.add(&up, range(0, 100)), 0);
        assert_eq!(selects.add(&up, range(10, 110)), 0);
        assert_eq!(selects.add(&up, range(0, 1000)), 1);
        assert_eq!(selects.add(&[Matcher::equal("__name__", "down")], range(0, 100)), 2);
        assert_eq!(selects.0[0].range, range(0, 110));
    }
}
