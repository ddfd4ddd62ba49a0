//! How far around a step an expression reads, told from its plan.

use model::TimeRange;
use query::promql::Edges;

use crate::plan::{Kind, Node, Plan, RangeInput, Selector};

/// What a step reads: samples from `before_ms` before it to `after_ms` after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    before_ms: i64,
    after_ms: i64,
}

/// Of what reads nothing.
const NOTHING: Reach = Reach { before_ms: i64::MIN, after_ms: i64::MIN };

impl Reach {
    /// Of a whole plan; `None` if it reads nothing, or something that does not move with the step.
    pub(crate) fn of(plan: &Plan) -> Option<Self> {
        Self::of_node(&plan.root).filter(|reach| *reach != NOTHING)
    }

    fn of_node(node: &Node) -> Option<Self> {
        match &node.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Time => Some(NOTHING),
            Kind::Selector(selector) | Kind::Timestamps(selector, _) => Self::of_selector(selector),
            // What it looks for, and where, is found while it is evaluated.
            Kind::Info(_) => None,
            Kind::Matrix(input) => Self::of_input(input),
            Kind::Range(call) => {
                Some(Self::of_all(&call.params)?.and(Self::of_input(&call.input)?))
            }
            Kind::Map { input, params, .. } => {
                Some(Self::of_all(params)?.and(Self::of_node(input)?))
            }
            Kind::Date { input, .. } | Kind::Absent { input, .. } => Self::of_node(input),
            Kind::Negate(input) | Kind::Once(input) => Self::of_node(input),
            Kind::Frame { args, .. } => Self::of_all(args),
            Kind::Aggregate(aggregation) => {
                let param = aggregation.param.as_deref().map_or(Some(NOTHING), Self::of_node)?;
                Some(param.and(Self::of_node(&aggregation.input)?))
            }
            Kind::Binary(operation) => {
                Some(Self::of_node(&operation.lhs)?.and(Self::of_node(&operation.rhs)?))
            }
        }
    }

    fn of_all(nodes: &[Node]) -> Option<Self> {
        nodes.iter().try_fold(NOTHING, |all, node| Some(all.and(Self::of_node(node)?)))
    }

    fn of_input(input: &RangeInput) -> Option<Self> {
        match input {
            RangeInput::Selector(selector) => Self::of_selector(selector),
            RangeInput::Subquery { node, times, range_ms } => {
                let inner = Self::of_node(node)?;
                if times.at_ms.is_some() {
                    return None;
                }
                if inner == NOTHING {
                    return Some(NOTHING);
                }
                Some(Self {
                    before_ms: inner
                        .before_ms
                        .saturating_add(*range_ms)
                        .saturating_add(times.offset_ms),
                    after_ms: inner.after_ms.saturating_sub(times.offset_ms),
                })
            }
        }
    }

    fn of_selector(selector: &Selector) -> Option<Self> {
        let Selector { times, reach_ms, edges, margin_ms, .. } = *selector;
        if times.at_ms.is_some() {
            return None;
        }
        let before_ms = if edges == Edges::Plain { 0 } else { margin_ms };
        let after_ms = if edges == Edges::Smoothed { margin_ms } else { 0 };
        Some(Self {
            before_ms: reach_ms.saturating_add(before_ms).saturating_add(times.offset_ms),
            after_ms: after_ms.saturating_sub(times.offset_ms),
        })
    }

    /// What reads what both read.
    fn and(self, other: Self) -> Self {
        Self {
            before_ms: self.before_ms.max(other.before_ms),
            after_ms: self.after_ms.max(other.after_ms),
        }
    }

    /// The instants whose steps still hold: they read nothing from `changed_ms` on, and nothing
    /// before `kept_from_ms`.
    pub(crate) fn holding(
        &self,
        range: TimeRange,
        changed_ms: Option<i64>,
        kept_from_ms: i64,
    ) -> TimeRange {
        let end_ms = match changed_ms {
            Some(ms) => ms.saturating_sub(1).saturating_sub(self.after_ms).min(range.end_ms),
            None => range.end_ms,
        };
        let start_ms = kept_from_ms.saturating_add(self.before_ms).max(range.start_ms);
        TimeRange { start_ms, end_ms }
    }
}
