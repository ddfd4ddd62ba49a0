//! Evaluation: a plan run over all its steps at once. Each part becomes a frame (a column per
//! series), a number per step, or a text; the arithmetic runs on the pool, only waiting for
//! storage happens here.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use model::{Labels, is_stale};
use parking_lot::Mutex;
use query::promql::{Edges, Span};
use query::{Error, FloatHistogram};
use tenancy::ReadScope;
use tokio::sync::OnceCell;

use crate::budget::{Budget, Reserved};
use crate::column::Column;
use crate::frame::{Frame, Outcome, Series, Twins, mistyped, names_differ};
use crate::functions::{CallContext, DateFunction, MapFunction};
use crate::histogram::Shows;
use crate::kernels::window::Times;
use crate::notes::{Notes, Remark};
use crate::phases::Phase;
use crate::plan::{InstantOf, Kind, Node, Plan, RangeCall, RangeInput, Selector};
use crate::pool::Lane;
use crate::source::{Selected, Source};

mod aggregate;
mod answer;
pub(crate) mod binary;
mod fill;
mod fold_histograms;
mod info;
pub(crate) mod keys;
mod matching;
mod morsels;
mod operators;
mod ranked;
mod same_instants;
mod sampling;
mod series;
mod series_histograms;
#[cfg(test)]
mod tests;

use morsels::{Columns, Sink};
pub(crate) use series::decoded_bytes;
use series::{Samples, SeriesWork, Task, looks_like_counter, without_markers};

/// Settings of evaluation.
#[derive(Debug, Clone)]
pub struct Options {
    /// The step of subqueries that name none. Milliseconds; Prometheus' evaluation interval, 1 min.
    pub subquery_step_ms: i64,
    /// Whether names are dropped at the end of the evaluation (Prometheus' feature
    /// `promql-delayed-name-removal`) and not by each function.
    pub late_names: bool,
    /// Whether rates and resets look at start timestamps, and `start_timestamp` gives them
    /// (Prometheus' feature `use-start-timestamps`).
    pub start_timestamps: bool,
    /// Whether aggregations take columns as they are made, without keeping them. Off only to
    /// compare.
    pub fuse: bool,
    /// Series in one unit of work: small enough to end soon after a cancellation and to share a
    /// core fairly, large enough that handing it over does not show.
    pub morsel_series: usize,
    /// Memory for answers to range queries that are kept. Bytes; 0 keeps none.
    pub result_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            subquery_step_ms: 60_000,
            late_names: false,
            start_timestamps: false,
            fuse: true,
            morsel_series: 256,
            result_cache_bytes: 0,
        }
    }
}

/// One evaluation.
pub(crate) struct Evaluator {
    pub(crate) plan: Plan,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) scope: ReadScope,
    pub(crate) options: Options,
    pub(crate) lane: Lane,
    pub(crate) budget: Arc<Budget>,
    pub(crate) notes: Arc<Notes>,
    /// The memory of numbers per step. There are few, so they count until the end.
    pub(crate) numbers_reserved: Mutex<Reserved>,
    /// One per selection of the plan, made when first needed.
    pub(crate) selected: Vec<OnceCell<Arc<dyn Selected>>>,
    /// Whether the whole question is about one instant.
    pub(crate) instant: bool,
}

impl Evaluator {
    /// Evaluates one part of the plan. Depth is bounded by the parser.
    pub(crate) fn eval<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(async move {
            self.budget.check()?;
            let mut outcome = self.eval_kind(node).await?;
            if let Outcome::Vector(frame) = &mut outcome {
                // Counted anew after every step; what the parts held is given back with them.
                frame.reserved = Reserved::default();
                frame.reserved = self.budget.reserve(frame.heap_bytes())?;
            }
            Ok(outcome)
        })
    }

    /// Evaluates what a subquery is over.
    pub(crate) async fn eval_inside(&self, node: &Node) -> Result<Outcome, Error> {
        self.budget.queryable.enter_subquery();
        let outcome = self.eval(node).await;
        self.budget.queryable.leave_subquery();
        outcome
    }

    /// Not async itself: each kind has its own future on the heap, so that a level of the
    /// expression takes the stack of its own kind and not of all of them.
    fn eval_kind<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, Result<Outcome, Error>> {
        let steps = node.grid.len;
        match &node.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Time | Kind::Matrix(_) => {
                Box::pin(async move { self.leaf(node) })
            }
            Kind::Selector(selector) => Box::pin(async move {
                let frame = self.select(selector, Task::Instant, None, (None, node.span)).await?;
                Ok(Outcome::Vector(frame))
            }),
            Kind::Info(call) => Box::pin(self.info(call, steps)),
            Kind::Timestamps(selector, of) => Box::pin(self.timestamps(selector, *of, node.span)),
            Kind::Range(call) => Box::pin(self.range(call)),
            Kind::Map { func, input, params } => Box::pin(self.map(*func, input, params)),
            Kind::Date { func, input } => Box::pin(self.date(*func, input)),
            Kind::Frame { .. } => Box::pin(self.frame_call(node)),
            Kind::Absent { labels, input } => Box::pin(async move {
                let frame = self.eval(input).await?.into_frame()?;
                let _reserved = self.budget.reserve_columns(1, steps)?;
                let mut column = Column::full(vec![1.0; steps]);
                let occupied = frame.occupied(steps);
                column.present.subtract(&occupied);
                let series = Series { labels: labels.clone(), drop_name: false, column };
                let series = Some(series).filter(|s| s.column.any()).into_iter().collect();
                Ok(Outcome::Vector(Frame::new(series)))
            }),
            Kind::Aggregate(aggregation) => Box::pin(self.aggregate(aggregation, node)),
            Kind::Binary(operation) => Box::pin(self.binary(operation, node)),
            Kind::Negate(input) => Box::pin(self.negate(input)),
            Kind::Once(inner) => Box::pin(async move {
                let before = self.budget.queryable.total();
                let outcome = self.eval(inner).await?;
                self.budget.queryable.repeat(&node.grid, before);
                self.repeated(outcome, steps)
            }),
        }
    }

    /// What needs no series.
    fn leaf(&self, node: &Node) -> Result<Outcome, Error> {
        let steps = node.grid.len;
        match &node.kind {
            Kind::Number(value) => {
                self.reserve_numbers(steps)?;
                Ok(Outcome::Scalar(vec![*value; steps]))
            }
            Kind::Text(text) => Ok(Outcome::Text(text.clone())),
            Kind::Time => {
                self.reserve_numbers(steps)?;
                Ok(Outcome::Scalar(node.grid.instants().map(|t| t as f64 / 1000.0).collect()))
            }
            _ => Err(mistyped("an instant vector or a scalar")),
        }
    }

    /// Accounts for a number per step before it is made.
    pub(crate) fn reserve_numbers(&self, steps: usize) -> Result<(), Error> {
        let reserved = self.budget.reserve(steps.saturating_mul(size_of::<f64>()))?;
        self.numbers_reserved.lock().absorb(reserved);
        Ok(())
    }

    /// What was evaluated at one step, at all of them.
    fn repeated(&self, outcome: Outcome, steps: usize) -> Result<Outcome, Error> {
        match outcome {
            Outcome::Scalar(values) => {
                self.reserve_numbers(steps)?;
                let value = values.first().copied().unwrap_or(f64::NAN);
                Ok(Outcome::Scalar(vec![value; steps]))
            }
            Outcome::Text(text) => Ok(Outcome::Text(text)),
            Outcome::Vector(mut frame) => {
                for series in &mut frame.series {
                    self.budget.check()?;
                    let pointers = if series.column.has_histograms() { steps } else { 0 };
                    let bytes = Column::bytes(steps)
                        .saturating_add(pointers.saturating_mul(size_of::<usize>()));
                    frame.reserved.absorb(self.budget.reserve(bytes)?);
                    series.column = series.column.repeated(steps);
                }
                Ok(Outcome::Vector(frame))
            }
        }
    }

    /// The series of a selection; the first that asks makes it.
    pub(crate) async fn selected(&self, select: usize) -> Result<&Arc<dyn Selected>, Error> {
        let cell = self.selected.get(select).ok_or_else(|| mistyped("a selection"))?;
        cell.get_or_try_init(|| async {
            let request = self.plan.selects[select].clone();
            let until = self.budget.cancel();
            let begun = Instant::now();
            let selected = self.source.select(&self.scope, request, &until);
            let selected = selected.await.map_err(|error| self.budget.ended(error))?;
            self.budget.phases.add(Phase::Select, begun);
            self.budget.take_series(selected.len())?;
            Ok(selected)
        })
        .await
    }

    pub(crate) fn work(&self, selector: &Selector, task: Task) -> SeriesWork {
        let Selector { times, reach_ms, edges, margin_ms, shows, .. } = *selector;
        let (budget, with_starts) = (Arc::clone(&self.budget), self.options.start_timestamps);
        let shared = Arc::default();
        SeriesWork { times, reach_ms, edges, margin_ms, shows, task, budget, with_starts, shared }
    }

    /// Work on samples that are just there.
    pub(crate) fn plain_work(&self, times: Times, reach_ms: i64, task: Task) -> SeriesWork {
        let (edges, budget) = (Edges::Plain, Arc::clone(&self.budget));
        let shows = Shows::NoReset;
        let (margin_ms, with_starts, shared) = (0, false, Arc::default());
        SeriesWork { times, reach_ms, edges, margin_ms, shows, task, budget, with_starts, shared }
    }

    async fn select(
        &self,
        selector: &Selector,
        task: Task,
        twins: Option<Twins>,
        (call, span): (Option<&RangeCall>, Span),
    ) -> Result<Frame, Error> {
        let selected = Arc::clone(self.selected(selector.select).await?);
        let work = self.work(selector, task);
        let collected = self.over_series(&selected, work, Collect::default()).await?;
        self.note_remarks(&collected.remarks, span, |place| selected.labels(place));
        let series = |(place, column): (usize, Column)| Series {
            labels: selected.labels(place).clone(),
            drop_name: false,
            column,
        };
        let mut frame = Frame::new(collected.columns.into_iter().map(series).collect());
        if let Some(call) = call {
            self.note_counters(call, names_of_floats(&frame));
        }
        if let Some(twins) = twins {
            self.drop_names(&mut frame, twins)?;
        }
        Ok(frame)
    }

    /// Says what there is to say of series, each by its name.
    pub(crate) fn note_remarks<'a>(
        &self,
        remarks: &[(usize, Remark)],
        span: Span,
        labels: impl Fn(usize) -> &'a Labels,
    ) {
        for (place, remark) in remarks {
            self.notes.remark(*remark, labels(*place).metric_name(), span);
        }
    }

    /// Drops names, now or later. If now, series may come to have the same labels.
    fn drop_names(&self, frame: &mut Frame, twins: Twins) -> Result<(), Error> {
        let may_meet =
            !self.options.late_names && names_differ(frame.series.iter().map(|s| &s.labels));
        frame.drop_names(self.options.late_names);
        if may_meet { frame.unify(twins) } else { Ok(()) }
    }

    async fn timestamps(
        &self,
        selector: &Selector,
        instant: InstantOf,
        span: Span,
    ) -> Result<Outcome, Error> {
        let task = match instant {
            InstantOf::Sample => Task::Timestamp,
            InstantOf::Start if !self.options.start_timestamps => {
                return Ok(Outcome::Vector(Frame::default()));
            }
            InstantOf::Start => Task::Start,
        };
        // The samples' own times, so that nothing is smoothed.
        let selector = Selector { edges: Edges::Plain, ..selector.clone() };
        let frame = self.select(&selector, task, Some(Twins::Merged), (None, span)).await?;
        Ok(Outcome::Vector(frame))
    }

    /// The scalar arguments of a range function at every step.
    pub(crate) async fn numbers(&self, params: &[Node]) -> Result<Arc<[Vec<f64>]>, Error> {
        let mut numbers = Vec::with_capacity(params.len());
        for param in params {
            numbers.push(self.eval(param).await?.into_scalar()?);
        }
        Ok(numbers.into())
    }

    async fn range(&self, call: &RangeCall) -> Result<Outcome, Error> {
        let task = self.range_task(call).await?;
        let twins = (!call.func.keeps_name).then_some(Twins::Refused);
        let frame = match &call.input {
            RangeInput::Selector(selector) => {
                self.select(selector, task, twins, (Some(call), call.input_span)).await?
            }
            RangeInput::Subquery { node, times, range_ms } => {
                let inner = self.eval_inside(node).await?.into_frame()?;
                let work = self.plain_work(*times, *range_ms, task);
                self.over_frame(inner, node, work, call).await?
            }
        };
        Ok(Outcome::Vector(frame))
    }

    /// The task of a range function, its numbers checked.
    pub(crate) async fn range_task(&self, call: &RangeCall) -> Result<Task, Error> {
        let params = self.numbers(&call.params).await?;
        let wrong = |values: &[f64]| values.iter().copied().find(|v| !(*v > 0.0 && *v < 1.0));
        match (call.name, &*params) {
            ("double_exponential_smoothing", [smoothing, trend]) => {
                if let Some(wrong) = wrong(smoothing) {
                    let text =
                        format!("invalid smoothing factor. Expected: 0 < sf < 1, got: {wrong:.6}");
                    return Err(Error::Execution(text));
                }
                if let Some(wrong) = wrong(trend) {
                    let text =
                        format!("invalid trend factor. Expected: 0 < tf < 1, got: {wrong:.6}");
                    return Err(Error::Execution(text));
                }
            }
            ("quantile_over_time", [phi]) => self.check_quantile(phi, &call.params),
            _ => {}
        }
        Ok(Task::Range { func: call.func, params })
    }

    fn check_quantile(&self, phi: &[f64], params: &[Node]) {
        if let Some(wrong) = phi.iter().find(|phi| !(0.0..=1.0).contains(*phi)) {
            let got = crate::histogram::go_g(*wrong);
            let span = params.first().map(|p| p.span).unwrap_or_default();
            self.notes.warn(&format!("quantile value should be between 0 and 1, got {got}"), span);
        }
    }

    /// Says so where a rate is taken of what does not look like a counter.
    pub(crate) fn note_counters<'a>(&self, call: &RangeCall, names: impl Iterator<Item = &'a str>) {
        if !call.func.of_counter {
            return;
        }
        for name in names.filter(|name| !name.is_empty() && !looks_like_counter(name)) {
            let text =
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
            self.notes.info(&format!("{text} {name:?}"), call.input_span);
        }
    }

    /// A range function over the columns of a subquery.
    async fn over_frame(
        &self,
        inner: Frame,
        node: &Node,
        work: SeriesWork,
        call: &RangeCall,
    ) -> Result<Frame, Error> {
        let _reserved = self.budget.reserve(samples_bytes(&inner, node.grid.len))?;
        let instants: Arc<[i64]> = node.grid.instants().collect();
        let mut labels = Vec::with_capacity(inner.series.len());
        let mut samples = Vec::with_capacity(inner.series.len());
        for series in inner.series {
            self.budget.check()?;
            labels.push((series.labels, series.drop_name));
            samples.push(samples_of(series.column, &instants));
        }
        let collected = self.over_samples(samples, work, Collect::default()).await?;
        self.note_remarks(&collected.remarks, call.input_span, |place| &labels[place].0);
        let series = |(place, column): (usize, Column)| {
            let (labels, drop_name) = labels[place].clone();
            Series { labels, drop_name, column }
        };
        let mut frame = Frame::new(collected.columns.into_iter().map(series).collect());
        self.note_counters(call, names_of_floats(&frame));
        if !call.func.keeps_name {
            self.drop_names(&mut frame, Twins::Refused)?;
        }
        Ok(frame)
    }

    async fn map(
        &self,
        func: MapFunction,
        input: &Node,
        params: &[Node],
    ) -> Result<Outcome, Error> {
        let mut frame = self.eval(input).await?.into_frame()?;
        let params = self.numbers(params).await?;
        let points = points(&frame);
        let mut frame = self
            .compute(points, move || {
                let mut numbers = [0.0; 4];
                let count = params.len().min(numbers.len());
                for series in &mut frame.series {
                    let column = &mut series.column;
                    column.histograms = None;
                    for step in 0..column.len() {
                        let Some(value) = column.get(step) else { continue };
                        numbers
                            .iter_mut()
                            .zip(&*params)
                            .for_each(|(number, param)| *number = param[step]);
                        match func(value, &numbers[..count]) {
                            Some(value) => column.values[step] = value,
                            None => column.present.clear(step),
                        }
                    }
                }
                frame.series.retain(|s| s.column.any());
                Ok(frame)
            })
            .await?;
        self.drop_names(&mut frame, Twins::Merged)?;
        Ok(Outcome::Vector(frame))
    }

    async fn date(&self, func: DateFunction, input: &Node) -> Result<Outcome, Error> {
        let mut frame = match self.eval(input).await? {
            Outcome::Scalar(times) => Frame::single(Column::full(times)),
            vector => vector.into_frame()?,
        };
        for series in &mut frame.series {
            series.column.histograms = None;
            series.column.values.iter_mut().for_each(|value| *value = func(*value));
        }
        frame.series.retain(|s| s.column.any());
        self.drop_names(&mut frame, Twins::Merged)?;
        Ok(Outcome::Vector(frame))
    }

    async fn frame_call(&self, node: &Node) -> Result<Outcome, Error> {
        let Kind::Frame { func, name, args } = &node.kind else { return Err(mistyped("a call")) };
        let context = CallContext {
            grid: node.grid,
            late_names: self.options.late_names,
            instant: self.instant,
            notes: Arc::clone(&self.notes),
            budget: Arc::clone(&self.budget),
            name,
            arg_spans: args.iter().map(|arg| arg.span).collect(),
        };
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(arg).await?);
        }
        let points =
            values.iter().map(|v| if let Outcome::Vector(f) = v { points(f) } else { 1 }).sum();
        let func = *func;
        // Of numbers one per step; functions that make more columns account for them by themselves.
        let reserved = self.budget.reserve_columns(1, node.grid.len)?;
        let outcome = self.compute(points, move || func(&context, values)).await?;
        if let Outcome::Scalar(_) = outcome {
            self.numbers_reserved.lock().absorb(reserved);
        }
        Ok(outcome)
    }

    async fn negate(&self, input: &Node) -> Result<Outcome, Error> {
        match self.eval(input).await? {
            Outcome::Scalar(values) => {
                Ok(Outcome::Scalar(values.into_iter().map(|v| -v).collect()))
            }
            Outcome::Text(_) => Err(mistyped("a vector or a scalar")),
            Outcome::Vector(mut frame) => {
                for series in &mut frame.series {
                    series.column.values.iter_mut().for_each(|v| *v = -*v);
                    for histogram in series.column.histograms.iter_mut().flat_map(|h| h.iter_mut())
                    {
                        let Some(histogram) = histogram else { continue };
                        let bytes = crate::column::histogram_bytes(histogram);
                        frame.reserved.absorb(self.budget.reserve(bytes)?);
                        crate::histogram::scale(Arc::make_mut(histogram), -1.0);
                    }
                }
                self.drop_names(&mut frame, Twins::Merged)?;
                Ok(Outcome::Vector(frame))
            }
        }
    }
}

/// Points of a frame, for judging how much work they are.
pub(crate) fn points(frame: &Frame) -> usize {
    frame.series.iter().map(|s| s.column.len()).sum()
}

/// The metrics of series that have floats.
fn names_of_floats(frame: &Frame) -> impl Iterator<Item = &str> {
    let floats = frame.series.iter().filter(|s| s.column.present.any());
    floats.map(|s| s.labels.metric_name())
}

/// What the points of a frame need as samples, beside their columns.
fn samples_bytes(frame: &Frame, steps: usize) -> usize {
    let histograms = |column: &Column| {
        let count = column.histograms.iter().flat_map(|h| h.iter()).flatten().count();
        count * size_of::<(i64, Arc<FloatHistogram>)>()
    };
    let column = |column: &Column| {
        // A full column gives its values away and shares the instants.
        let sparse = if column.present.is_full() { 0 } else { column.present.count() };
        sparse * size_of::<(i64, f64)>() + histograms(column)
    };
    let columns: usize = frame.series.iter().map(|s| column(&s.column)).sum();
    columns.saturating_add(steps.saturating_mul(size_of::<i64>()))
}

/// The points of a column as samples. Series that have a point at every step share the instants.
fn samples_of(column: Column, instants: &Arc<[i64]>) -> Samples {
    let histograms = column.histograms.as_ref().map_or_else(Vec::new, |all| {
        let some = all
            .iter()
            .zip(instants.iter())
            .filter_map(|(h, t)| Some((*t, Arc::clone(h.as_ref()?))));
        some.filter(|(_, h)| !is_stale(h.sum)).collect()
    });
    if column.present.is_full() {
        let timestamps = Arc::clone(instants);
        return Samples {
            timestamps,
            values: column.values,
            histograms,
            starts: None,
            thinned: true,
        };
    }
    let (timestamps, values): (Vec<i64>, Vec<f64>) =
        column.present.ones().map(|step| (instants[step], column.values[step])).unzip();
    Samples { timestamps: timestamps.into(), values, histograms, starts: None, thinned: true }
}

/// Keeps columns.
#[derive(Default)]
struct Collect {
    columns: Vec<(usize, Column)>,
    remarks: Vec<(usize, Remark)>,
    reserved: Reserved,
}

impl Sink for Collect {
    fn take(&mut self, mut columns: Columns) -> Result<(), Error> {
        self.remarks.append(&mut columns.remarks);
        self.reserved.absorb(columns.reserved);
        self.columns.extend(columns.list);
        Ok(())
    }
}
