//! From the tree of an expression to its plan.

use std::sync::Arc;

use model::{Labels, METRIC_NAME, MatchOp, Matcher, TimeRange};
use query::Error;
use query::promql::{
    Aggregate, AggregateOp, At, Binary, Call, Duration, Edges, Expr, ExprKind, MatrixSelector,
    QueryTimes, Sense, Sign, Subquery, VectorSelector,
};

use super::invariant::is_invariant;
use super::{
    Aggregation, Grouping, InfoCall, InfoLabels, InstantOf, Kind, Node, Operation, Plan, RangeCall,
    RangeInput, Selector, Selects,
};
use crate::eval::binary;
use crate::functions::{self, Implementation};
use crate::grid::Grid;
use crate::histogram::Shows;
use crate::kernels::window::Times;

/// When to evaluate, and the settings a plan depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) grid: Grid,
    /// As asked for; the last step of the grid may come before it.
    pub(crate) end_ms: i64,
    pub(crate) lookback_ms: i64,
    /// The step of subqueries that name none.
    pub(crate) subquery_step_ms: i64,
    /// Most steps of any part: samples that may be read.
    pub(crate) steps_max: usize,
}

/// Makes the plan.
pub(crate) fn lower(expr: &Expr, question: Question) -> Result<Plan, Error> {
    let instant = question.grid.is_instant() && question.end_ms == question.grid.start_ms;
    let times = QueryTimes {
        step_ms: if instant { 0 } else { question.grid.step_ms },
        range_ms: question.end_ms.saturating_sub(question.grid.start_ms),
    };
    let mut planner =
        Planner { question, times, selects: Selects::default(), detail: Detail::default() };
    let root = planner.node(expr, question.grid)?;
    Ok(Plan { root, selects: planner.selects.0 })
}

pub(crate) fn not_supported(what: &str) -> Error {
    Error::Execution(format!("not supported yet: {what}"))
}

struct Planner {
    question: Question,
    times: QueryTimes,
    selects: Selects,
    detail: Detail,
}

/// How much of native histograms is asked for. Prometheus reads less of them where only totals
/// are, and knows more of counter resets then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Detail {
    #[default]
    Unknown,
    /// Count and sum.
    Totals,
    /// Buckets, whatever is around.
    Buckets,
}

impl Detail {
    /// Inside of a call.
    fn within(self, function: &str) -> Self {
        match (self, function) {
            (Self::Buckets, _) => Self::Buckets,
            (_, "histogram_avg" | "histogram_count" | "histogram_sum") => Self::Totals,
            (_, "histogram_fraction" | "histogram_quantile" | "histogram_quantiles") => {
                Self::Buckets
            }
            (around, _) => around,
        }
    }

    fn shows(self) -> Shows {
        if self == Self::Totals { Shows::Resets } else { Shows::NoReset }
    }
}

impl Planner {
    /// Does something inside of a part that asks for so much.
    fn asking<T>(&mut self, detail: Detail, work: impl FnOnce(&mut Self) -> T) -> T {
        let around = std::mem::replace(&mut self.detail, detail);
        let done = work(self);
        self.detail = around;
        done
    }

    /// A part of the expression, at the steps of `grid`; at one step only if all are the same.
    fn node(&mut self, expr: &Expr, grid: Grid) -> Result<Node, Error> {
        let expr = unwrapped(expr);
        let literal = matches!(expr.kind, ExprKind::Number(_) | ExprKind::String(_));
        if grid.len > 1 && !literal && is_invariant(expr) {
            let first = self.at_each_step(expr, Grid::instant(grid.start_ms))?;
            if let Kind::Number(_) = first.kind {
                return Ok(Node { grid, ..first });
            }
            return Ok(Node { grid, span: expr.span, kind: Kind::Once(Box::new(first)) });
        }
        self.at_each_step(expr, grid)
    }

    fn boxed(&mut self, expr: &Expr, grid: Grid) -> Result<Box<Node>, Error> {
        self.node(expr, grid).map(Box::new)
    }

    fn at_each_step(&mut self, expr: &Expr, grid: Grid) -> Result<Node, Error> {
        let kind = match &expr.kind {
            ExprKind::Number(number) => Kind::Number(number.value),
            ExprKind::String(text) => Kind::Text(text.to_text().into_owned()),
            ExprKind::Vector(selector) => Kind::Selector(self.instant_selector(selector, grid)?),
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => {
                Kind::Matrix(self.range_input(expr, grid)?)
            }
            ExprKind::Call(call) => {
                let detail = self.detail.within(call.func.name);
                self.asking(detail, |planner| planner.call(call, expr, grid))?
            }
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, grid)?,
            ExprKind::Binary(binary) => {
                self.asking(Detail::Unknown, |planner| planner.binary(binary, grid))?
            }
            ExprKind::Unary(Sign::Plus, inner) => return self.node(inner, grid),
            ExprKind::Unary(Sign::Minus, inner) => match self.node(inner, grid)? {
                Node { kind: Kind::Number(value), .. } => Kind::Number(-value),
                inner => Kind::Negate(Box::new(inner)),
            },
            ExprKind::Paren(inner) => return self.node(inner, grid),
        };
        Ok(Node { grid, span: expr.span, kind })
    }

    fn duration_ms(&self, duration: &Duration, sense: Sense) -> Result<i64, Error> {
        duration.ms(self.times, sense).map_err(|e| Error::BadData(e.to_string()))
    }

    fn moved(&self, grid: Grid, offset: Option<&Duration>, at: Option<At>) -> Result<Times, Error> {
        let offset_ms = offset.map_or(Ok(0), |offset| self.duration_ms(offset, Sense::Any))?;
        let at_ms = at.map(|at| match at {
            At::Timestamp(ms) => ms,
            At::Start => self.question.grid.start_ms,
            At::End => self.question.end_ms,
        });
        Ok(Times { grid, offset_ms, at_ms })
    }

    fn selector(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
        reach_ms: i64,
    ) -> Result<Selector, Error> {
        let (edges, margin_ms) = (selector.edges, self.question.lookback_ms);
        let times = self.moved(grid, selector.offset.as_ref(), selector.at)?;
        let (first, last) = times.bounds();
        let before_ms = if edges == Edges::Plain { 0 } else { margin_ms };
        let after_ms = if edges == Edges::Smoothed { margin_ms } else { 0 };
        // Open on the left: a sample at the very start of the reach does not count.
        let start_ms = first.saturating_sub(reach_ms).saturating_sub(before_ms).saturating_add(1);
        let range = TimeRange { start_ms, end_ms: last.saturating_add(after_ms) };
        let select = self.selects.add(&selector.matchers, range);
        let shows = self.detail.shows();
        Ok(Selector { select, times, reach_ms, edges, margin_ms, shows })
    }

    fn instant_selector(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
    ) -> Result<Selector, Error> {
        let lookback_ms = self.question.lookback_ms;
        match selector.edges {
            // Only ranges have an anchor.
            Edges::Anchored => {
                let plain = VectorSelector { edges: Edges::Plain, ..selector.clone() };
                self.selector(&plain, grid, lookback_ms)
            }
            // All that may count lies in the margins.
            Edges::Smoothed => self.selector(selector, grid, 0),
            Edges::Plain => self.selector(selector, grid, lookback_ms),
        }
    }

    fn range_input(&mut self, expr: &Expr, grid: Grid) -> Result<RangeInput, Error> {
        match &unwrapped(expr).kind {
            ExprKind::Matrix(matrix) => self.matrix(matrix, grid).map(RangeInput::Selector),
            ExprKind::Subquery(subquery) => self.subquery(subquery, grid),
            _ => Err(Error::Execution("expected a range vector".to_owned())),
        }
    }

    fn matrix(&mut self, matrix: &MatrixSelector, grid: Grid) -> Result<Selector, Error> {
        let range_ms = self.duration_ms(&matrix.range, Sense::Positive)?;
        self.selector(&matrix.selector, grid, range_ms)
    }

    fn subquery(&mut self, subquery: &Subquery, grid: Grid) -> Result<RangeInput, Error> {
        let range_ms = self.duration_ms(&subquery.range, Sense::Positive)?;
        let step_ms = match &subquery.step {
            Some(step) => self.duration_ms(step, Sense::Positive)?,
            None => self.question.subquery_step_ms,
        };
        let times = self.moved(grid, subquery.offset.as_ref(), subquery.at)?;
        let (first, last) = times.bounds();
        let inner = Grid::of_subquery(first, last, range_ms, step_ms);
        inner.check_len("the subquery", self.question.steps_max)?;
        let node = self.asking(Detail::Buckets, |planner| planner.boxed(&subquery.expr, inner))?;
        Ok(RangeInput::Subquery { node, times, range_ms })
    }

    fn call(&mut self, call: &Call, expr: &Expr, grid: Grid) -> Result<Kind, Error> {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let name = call.func.name;
        match name {
            "time" => return Ok(Kind::Time),
            "start" => return Ok(Kind::Number(seconds(self.question.grid.start_ms))),
            "end" => return Ok(Kind::Number(seconds(self.question.end_ms))),
            "step" => return Ok(Kind::Number(seconds(self.times.step_ms))),
            "range" => return Ok(Kind::Number(seconds(self.times.range_ms))),
            "absent" | "absent_over_time" => {
                check_edges(call)?;
                return self.absent(call, expr, grid);
            }
            "info" => return self.info(call, grid),
            "timestamp" | "start_timestamp" => return self.timestamps(call, grid),
            _ => {}
        }
        check_edges(call)?;
        check_texts(call)?;
        let Some(implementation) = functions::find(name) else {
            return Err(not_supported(&format!("the function {name}()")));
        };
        match *implementation {
            Implementation::Number(value) => Ok(Kind::Number(value)),
            Implementation::Range(func) => self.range_call(name, func, call, grid),
            Implementation::Map(func) => {
                let mut args = self.args(call, grid)?;
                let input = Box::new(args.remove(0));
                Ok(Kind::Map { func, input, params: args })
            }
            Implementation::Date(func) => {
                let input = match call.args.first() {
                    Some(arg) => self.boxed(arg, grid)?,
                    None => Box::new(Node { grid, span: expr.span, kind: Kind::Time }),
                };
                Ok(Kind::Date { func, input })
            }
            Implementation::Frame(func) => {
                Ok(Kind::Frame { func, name, args: self.args(call, grid)? })
            }
        }
    }

    fn info(&mut self, call: &Call, grid: Grid) -> Result<Kind, Error> {
        let Some(base) = call.args.first() else { return Err(not_supported("info() of nothing")) };
        let given: &[Matcher] = match call.args.get(1).map(|arg| &unwrapped(arg).kind) {
            Some(ExprKind::Vector(selector)) => &selector.matchers,
            _ => &[],
        };
        let (mut names, data): (Vec<Matcher>, _) =
            given.iter().cloned().partition(|m| m.name() == METRIC_NAME);
        let mut matchers = given.to_vec();
        let usual = Matcher::equal(METRIC_NAME, "target_info");
        // Names that info series must not have do not say which they are.
        if !names.iter().any(|m| matches!(m.op(), MatchOp::Equal | MatchOp::Regex)) {
            matchers.push(usual.clone());
        }
        if call.args.len() == 1 {
            names.push(usual);
        }
        let times = Times { grid, offset_ms: 0, at_ms: None };
        let (range, lookback_ms) = (self.info_range(base, grid)?, self.question.lookback_ms);
        let (input, labels) = (self.boxed(base, grid)?, Arc::new(InfoLabels { names, data }));
        Ok(Kind::Info(Box::new(InfoCall { input, matchers, range, times, lookback_ms, labels })))
    }

    /// Info series are looked for about where the first selector of the expression looks, as in
    /// Prometheus (`promql/info.go`, `infoSelectHints`).
    fn info_range(&self, base: &Expr, grid: Grid) -> Result<TimeRange, Error> {
        let mut first = None;
        base.selectors(|selector, _| first = first.or(Some(selector)));
        let times = match first {
            Some(selector) => self.moved(grid, selector.offset.as_ref(), selector.at)?,
            None => Times { grid, offset_ms: 0, at_ms: None },
        };
        let (first, last) = times.bounds();
        let start_ms = first.saturating_sub(self.question.lookback_ms).saturating_add(1);
        Ok(TimeRange { start_ms, end_ms: last })
    }

    /// The samples' own times, if the argument is a selector: then nothing is smoothed.
    fn timestamps(&mut self, call: &Call, grid: Grid) -> Result<Kind, Error> {
        let of = if call.func.name == "timestamp" { InstantOf::Sample } else { InstantOf::Start };
        if let Some(ExprKind::Vector(selector)) = call.args.first().map(|arg| &unwrapped(arg).kind)
        {
            let plain = VectorSelector { edges: Edges::Plain, ..selector.clone() };
            let mut asked = self.instant_selector(&plain, grid)?;
            if asked.times.at_ms.is_some() {
                // As in Prometheus (`rangeEvalTimestampFunctionOverVectorSelector`): what is looked
                // at is the time after `@`, whatever the offset. The samples that are there for it
                // are still those the offset asks for.
                let offset_ms = asked.times.offset_ms;
                asked.times.offset_ms = offset_ms.max(0);
                asked.reach_ms = asked.reach_ms.saturating_sub(offset_ms.saturating_abs()).max(0);
            }
            return Ok(Kind::Timestamps(asked, of));
        }
        let (func, name) = match of {
            InstantOf::Sample => (functions::TIMESTAMP, "timestamp"),
            InstantOf::Start => (functions::START_TIMESTAMP, "start_timestamp"),
        };
        Ok(Kind::Frame { func, name, args: self.args(call, grid)? })
    }

    fn args(&mut self, call: &Call, grid: Grid) -> Result<Vec<Node>, Error> {
        call.args.iter().map(|arg| self.node(arg, grid)).collect()
    }

    fn range_call(
        &mut self,
        name: &'static str,
        func: functions::RangeFunction,
        call: &Call,
        grid: Grid,
    ) -> Result<Kind, Error> {
        let is_range = |arg: &&Expr| {
            matches!(unwrapped(arg).kind, ExprKind::Matrix(_) | ExprKind::Subquery(_))
        };
        let Some(range) = call.args.iter().find(is_range) else {
            return Err(Error::Execution(format!("expected a range vector in {name}()")));
        };
        let input = self.range_input(range, grid)?;
        let others = call.args.iter().filter(|arg| !is_range(arg));
        let params = others.map(|arg| self.node(arg, grid)).collect::<Result<_, _>>()?;
        Ok(Kind::Range(RangeCall { name, func, input, input_span: unwrapped(range).span, params }))
    }

    fn absent(&mut self, call: &Call, expr: &Expr, grid: Grid) -> Result<Kind, Error> {
        let Some(arg) = call.args.first() else { return Err(not_supported("absent() of nothing")) };
        let labels = match &unwrapped(arg).kind {
            ExprKind::Vector(selector) => labels_that_would_be(&selector.matchers),
            ExprKind::Matrix(matrix) => labels_that_would_be(&matrix.selector.matchers),
            _ => Labels::empty(),
        };
        if call.func.name == "absent" {
            return Ok(Kind::Absent { labels, input: self.boxed(arg, grid)? });
        }
        let kind = self.range_call("present_over_time", functions::PRESENT, call, grid)?;
        Ok(Kind::Absent { labels, input: Box::new(Node { grid, span: expr.span, kind }) })
    }

    fn aggregate(&mut self, aggregate: &Aggregate, grid: Grid) -> Result<Kind, Error> {
        let mut labels = aggregate.grouping.clone();
        let param = aggregate.param.as_ref().map(|param| self.boxed(param, grid)).transpose()?;
        if let (AggregateOp::CountValues, Some(Kind::Text(label))) =
            (aggregate.op, param.as_ref().map(|p| &p.kind))
        {
            if label.is_empty() {
                return Err(Error::Execution(format!("invalid label name {label:?}")));
            }
            if !aggregate.without {
                labels.push(label.clone());
            }
        }
        Ok(Kind::Aggregate(Aggregation {
            op: aggregate.op,
            grouping: Arc::new(Grouping::new(&labels, aggregate.without)),
            input: self.boxed(&aggregate.expr, grid)?,
            param,
        }))
    }

    fn binary(&mut self, binary: &Binary, grid: Grid) -> Result<Kind, Error> {
        let lhs = self.node(&binary.lhs, grid)?;
        let rhs = self.node(&binary.rhs, grid)?;
        if let (Kind::Number(a), Kind::Number(b)) = (&lhs.kind, &rhs.kind)
            && let Some(value) = binary::scalar(binary.op, *a, *b)
        {
            return Ok(Kind::Number(value));
        }
        Ok(Kind::Binary(Box::new(Operation {
            op: binary.op,
            lhs,
            rhs,
            return_bool: binary.return_bool,
            matching: binary.matching.clone().map(Arc::new),
        })))
    }
}

/// Functions that have a meaning with `anchored`, and with `smoothed`.
const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

fn check_edges(call: &Call) -> Result<(), Error> {
    let edges = call.args.iter().find_map(|arg| match &unwrapped(arg).kind {
        ExprKind::Matrix(matrix) => Some(matrix.selector.edges),
        _ => None,
    });
    let (word, allowed): (_, &[&str]) = match edges {
        None | Some(Edges::Plain) => return Ok(()),
        Some(Edges::Anchored) => ("anchored", &ANCHORED),
        Some(Edges::Smoothed) => ("smoothed", &SMOOTHED),
    };
    let name = call.func.name;
    if allowed.contains(&name) {
        return Ok(());
    }
    let allowed = allowed.join(", ");
    Err(Error::Execution(format!(
        "{word} modifier can only be used with: {allowed} - not with {name}"
    )))
}

/// Texts that name labels, or become their values, must be UTF-8.
fn check_texts(call: &Call) -> Result<(), Error> {
    for arg in &call.args {
        if let ExprKind::String(text) = &unwrapped(arg).kind
            && text.as_str().is_none()
        {
            let (name, text) = (call.func.name, text.to_text());
            return Err(Error::Execution(format!("invalid label name in {name}(): {text}")));
        }
    }
    Ok(())
}

fn unwrapped(mut expr: &Expr) -> &Expr {
    while let ExprKind::Paren(inner) = &expr.kind {
        expr = inner;
    }
    expr
}

/// The labels that an absent series would have had: of `=` matchers, one for each label.
fn labels_that_would_be(matchers: &[Matcher]) -> Labels {
    let mut builder = Labels::empty().to_builder();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|m| m.name() != METRIC_NAME) {
        if matcher.op() == MatchOp::Equal && !seen.contains(&matcher.name()) {
            builder.set(matcher.name(), matcher.value());
            seen.push(matcher.name());
        } else {
            builder.remove(matcher.name());
        }
    }
    builder.build()
}
