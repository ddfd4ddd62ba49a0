//! Aggregations that fold series one by one. Over a selector, or a function of one, they take
//! columns as morsels come, so that memory is groups × steps; otherwise they fold a frame. Both
//! add in the order of series, so both give the same bits.

use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashSet;
use model::{Labels, TimeRange};
use query::Error;
use query::promql::{AggregateOp, Edges};

use super::Evaluator;
use super::fold_histograms::HistogramCells;
use super::keys::Groups;
use super::morsels::{Columns, Sink};
use super::points;
use super::series::Task;
use crate::budget::{Budget, Reserved};
use crate::column::{Bitmap, Column};
use crate::frame::{Frame, Outcome, Series, names_differ, same_labels, without_metadata};
use crate::kernels::aggregate::{Accumulators, Fold};
use crate::notes::{Notes, Remark};
use crate::phases::Phase;
use crate::plan::{Aggregation, Grouping, Kind, Node, RangeCall, RangeInput, Selector};
use crate::source::Selected;
use query::promql::Span;
use storage::{CountLive, GroupBy};

impl Evaluator {
    pub(crate) async fn aggregate(
        &self,
        aggregation: &Aggregation,
        node: &Node,
    ) -> Result<Outcome, Error> {
        let Some(fold) = fold_of(aggregation.op) else {
            return self.ranked(aggregation, node).await;
        };
        if self.options.fuse {
            match &aggregation.input.kind {
                Kind::Selector(selector) => {
                    let counts = matches!(fold, Fold::Count | Fold::Group);
                    if !counts || selector.edges != Edges::Plain {
                        return self.fused(aggregation, fold, selector, Task::Instant, None).await;
                    }
                    if let Some(counted) = self.counted(aggregation, fold, selector).await? {
                        return Ok(counted);
                    }
                    return self.fused(aggregation, fold, selector, Task::Presence, None).await;
                }
                Kind::Range(call) => {
                    if let RangeInput::Selector(selector) = &call.input {
                        let task = self.range_task(call).await?;
                        return self.fused(aggregation, fold, selector, task, Some(call)).await;
                    }
                }
                _ => {}
            }
        }
        let frame = self.eval(&aggregation.input).await?.into_frame()?;
        let grouping = Arc::clone(&aggregation.grouping);
        let (points, steps) = (points(&frame), node.grid.len);
        let notes = FoldNotes::new(self, aggregation);
        let budget = Arc::clone(&self.budget);
        self.compute(points, move || {
            let mut groups = Groups::default();
            let ids: Vec<u32> =
                frame.series.iter().map(|s| groups.id(&s.labels, &grouping)).collect();
            let mut folded = Folded::new(fold, groups.len(), steps, notes, &budget)?;
            for (series, group) in frame.series.iter().zip(&ids) {
                let metric = series.labels.metric_name();
                folded.add(*group as usize, &series.column, series.drop_name, metric)?;
            }
            folded.frame(&groups.labels, &budget).map(Outcome::Vector)
        })
        .await
    }

    /// Counts series at one instant without a look at their samples, if that can be done.
    async fn counted(
        &self,
        aggregation: &Aggregation,
        fold: Fold,
        selector: &Selector,
    ) -> Result<Option<Outcome>, Error> {
        let grid = selector.times.grid;
        if !grid.is_instant() {
            return Ok(None);
        }
        let end_ms = selector.times.end(0);
        // Open on the left.
        let start_ms = end_ms.saturating_sub(selector.reach_ms).saturating_add(1);
        let Grouping { labels, without } = &*aggregation.grouping;
        let request = CountLive {
            matchers: self.plan.selects[selector.select].matchers.clone(),
            window: TimeRange { start_ms, end_ms },
            by: GroupBy { labels: labels.clone(), without: *without },
        };
        let until = self.budget.cancel();
        let begun = Instant::now();
        let counted = self.source.count_live(&self.scope, request, &until).await;
        self.budget.phases.add(Phase::Count, begun);
        let Some(live) = counted.map_err(|error| self.budget.ended(error))? else {
            return Ok(None);
        };
        let series = usize::try_from(live.series).unwrap_or(usize::MAX);
        self.budget.take_series(series)?;
        self.budget.take_samples(series)?;
        self.budget.queryable.saw(&grid, live.series, std::iter::once((0, live.series)));
        let reserved = self.budget.reserve_columns(live.groups.len(), 1)?;
        let series = live.groups.into_iter().map(|(labels, count)| {
            let value = if fold == Fold::Count { count as f64 } else { 1.0 };
            Series { labels, drop_name: false, column: Column::full(vec![value]) }
        });
        Ok(Some(Outcome::Vector(Frame { reserved, ..Frame::new(series.collect()) })))
    }

    /// Folds columns as they come from the pipeline.
    async fn fused(
        &self,
        aggregation: &Aggregation,
        fold: Fold,
        selector: &Selector,
        task: Task,
        call: Option<&RangeCall>,
    ) -> Result<Outcome, Error> {
        let selected = Arc::clone(self.selected(selector.select).await?);
        let drops_names = call.is_some_and(|call| !call.func.keeps_name);
        let (grouping, late_names) = (Arc::clone(&aggregation.grouping), self.options.late_names);
        let series = Arc::clone(&selected);
        let steps = selector.times.grid.len;
        let (groups, ids, may_meet) = self
            .compute(selected.len(), move || {
                let early = drops_names && !late_names;
                let may_meet = early && names_differ((0..series.len()).map(|i| series.labels(i)));
                let mut groups = Groups::default();
                let id = |i: usize| match early {
                    true => groups.id(&without_metadata(series.labels(i)), &grouping),
                    false => groups.id(series.labels(i), &grouping),
                };
                let ids: Vec<u32> = (0..series.len()).map(id).collect();
                Ok((groups, ids, may_meet))
            })
            .await?;
        let folded = Folded::new(
            fold,
            groups.len(),
            steps,
            FoldNotes::new(self, aggregation),
            &self.budget,
        )?;
        let sink = FoldSink {
            folded,
            ids,
            selected: Arc::clone(&selected),
            without_names: drops_names && !late_names,
            drop_name: drops_names && late_names,
            with_points: Bitmap::none(selected.len()),
            with_floats: Bitmap::none(selected.len()),
            remarks: Vec::new(),
        };
        let sink = self.over_series(&selected, self.work(selector, task), sink).await?;
        let span = call.map_or(aggregation.input.span, |call| call.input_span);
        self.note_remarks(&sink.remarks, span, |place| selected.labels(place));
        if may_meet {
            check_unique(&*selected, &sink.with_points)?;
        }
        if let Some(call) = call {
            self.note_counters(
                call,
                sink.with_floats.ones().map(|i| selected.labels(i).metric_name()),
            );
        }
        sink.folded.frame(&groups.labels, &self.budget).map(Outcome::Vector)
    }
}

fn fold_of(op: AggregateOp) -> Option<Fold> {
    Some(match op {
        AggregateOp::Sum => Fold::Sum,
        AggregateOp::Avg => Fold::Avg,
        AggregateOp::Count => Fold::Count,
        AggregateOp::Group => Fold::Group,
        AggregateOp::Min => Fold::Min,
        AggregateOp::Max => Fold::Max,
        AggregateOp::Stddev => Fold::Stddev,
        AggregateOp::Stdvar => Fold::Stdvar,
        _ => return None,
    })
}

/// Series that differ in their name only are no vector once it is dropped.
fn check_unique(selected: &dyn Selected, with_points: &Bitmap) -> Result<(), Error> {
    let mut seen: HashSet<Labels> = HashSet::new();
    let mut labels = with_points.ones().map(|i| without_metadata(selected.labels(i)));
    if labels.all(|labels| seen.insert(labels)) { Ok(()) } else { Err(same_labels()) }
}

/// How an aggregation says what it left out.
#[derive(Debug, Clone)]
struct FoldNotes {
    notes: Arc<Notes>,
    op: AggregateOp,
    span: Span,
}

impl FoldNotes {
    fn new(evaluator: &Evaluator, aggregation: &Aggregation) -> Self {
        Self {
            notes: Arc::clone(&evaluator.notes),
            op: aggregation.op,
            span: aggregation.input.span,
        }
    }
}

/// Accumulators, and what a group's result is besides its value.
#[derive(Debug)]
struct Folded {
    fold: Fold,
    cells: Accumulators,
    /// Made when the first histogram comes.
    histograms: Option<HistogramCells>,
    drop_name: Vec<bool>,
    notes: FoldNotes,
    budget: Arc<Budget>,
    _reserved: Reserved,
}

impl Folded {
    fn new(
        fold: Fold,
        groups: usize,
        steps: usize,
        notes: FoldNotes,
        budget: &Arc<Budget>,
    ) -> Result<Self, Error> {
        // Before they are allocated.
        let reserved = budget.reserve(Accumulators::heap_bytes(fold, groups, steps))?;
        let cells = Accumulators::new(fold, groups, steps);
        Ok(Self {
            fold,
            cells,
            histograms: None,
            drop_name: vec![false; groups],
            notes,
            budget: Arc::clone(budget),
            _reserved: reserved,
        })
    }

    fn add(
        &mut self,
        group: usize,
        column: &Column,
        drop_name: bool,
        metric: &str,
    ) -> Result<(), Error> {
        if column.has_histograms() {
            match self.fold {
                Fold::Sum | Fold::Avg => self.histograms()?.add(group, column, metric)?,
                Fold::Count | Fold::Group => {}
                _ => {
                    let word = super::ranked::word(self.notes.op);
                    let text = format!("ignored histogram in {word} aggregation");
                    self.notes.notes.info(&text, self.notes.span);
                }
            }
        }
        self.drop_name[group] |= drop_name;
        self.cells.add(group, column);
        Ok(())
    }

    fn histograms(&mut self) -> Result<&mut HistogramCells, Error> {
        let (groups, steps) = (self.drop_name.len(), self.cells.steps());
        let cells = match self.histograms.take() {
            Some(cells) => cells,
            None => {
                let notes = (Arc::clone(&self.notes.notes), self.notes.span);
                HistogramCells::new(self.fold, groups, steps, notes, &self.budget)?
            }
        };
        Ok(self.histograms.insert(cells))
    }

    fn frame(mut self, labels: &[Labels], budget: &Arc<Budget>) -> Result<Frame, Error> {
        let mut reserved = budget.reserve_columns(labels.len(), self.cells.steps())?;
        let series = labels.iter().enumerate().map(|(group, labels)| {
            let mut column = self.cells.column(group);
            if let Some(histograms) = &mut self.histograms {
                histograms.finish(group, &mut column);
            }
            Series { labels: labels.clone(), drop_name: self.drop_name[group], column }
        });
        let mut series: Vec<Series> = series.filter(|s| s.column.any()).collect();
        if matches!(self.fold, Fold::Count | Fold::Group) {
            // As they come where no series is looked at.
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        if let Some(histograms) = &mut self.histograms {
            reserved.absorb(histograms.take_reserved());
        }
        Ok(Frame { reserved, ..Frame::new(series) })
    }
}

/// Folds columns as morsels deliver them.
struct FoldSink {
    folded: Folded,
    /// Groups by series.
    ids: Vec<u32>,
    selected: Arc<dyn Selected>,
    /// Names were dropped before.
    without_names: bool,
    drop_name: bool,
    with_points: Bitmap,
    with_floats: Bitmap,
    remarks: Vec<(usize, Remark)>,
}

impl Sink for FoldSink {
    fn take(&mut self, columns: Columns) -> Result<(), Error> {
        self.remarks.extend(columns.remarks);
        for (place, column) in columns.list {
            self.with_points.set(place);
            if column.present.any() {
                self.with_floats.set(place);
            }
            let metric = match self.without_names {
                true => "",
                false => self.selected.labels(place).metric_name(),
            };
            self.folded.add(self.ids[place] as usize, &column, self.drop_name, metric)?;
        }
        Ok(())
    }
}
