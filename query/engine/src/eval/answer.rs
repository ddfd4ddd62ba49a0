//! From outcomes to answers.

use std::sync::Arc;
use std::time::Instant;

use query::promql::Edges;
use query::{Answer, Error, MatrixSeries, PointValue, Stats, Value, VectorPoint};

use super::series::{Samples, decoded_bytes};
use super::{Evaluator, mistyped};
use crate::budget::Reserved;
use crate::frame::{Frame, Outcome, Series, Twins, without_metadata};
use crate::grid::Grid;
use crate::kernels::extended::{Around, at_edges};
use crate::kernels::window::Windows;
use crate::phases::Phase;
use crate::plan::{Kind, Node, RangeInput, Selector, not_supported};

impl Evaluator {
    /// Evaluates the whole plan.
    pub(crate) async fn answer(&self) -> Result<Answer, Error> {
        let started = Instant::now();
        let value = match &self.plan.root {
            Node { kind: Kind::Matrix(input), .. } if self.instant => {
                Value::Matrix(self.matrix(input).await?)
            }
            root => self.value(root).await?,
        };
        let (warnings, infos) = self.notes.take();
        let (series, samples_read, samples_queryable, samples_peak) = self.budget.used();
        let evaluate = started.elapsed();
        let stats = Stats {
            series,
            samples_read,
            samples_queryable,
            samples_peak,
            samples_per_step: self.budget.queryable.by_step(),
            evaluate,
            phases: self.budget.phases.told(),
            ..Stats::default()
        };
        Ok(Answer { value, warnings, infos, stats })
    }

    async fn value(&self, root: &Node) -> Result<Value, Error> {
        let grid = root.grid;
        match self.eval(root).await? {
            Outcome::Text(value) => Ok(Value::String { at_ms: grid.start_ms, value }),
            Outcome::Scalar(values) if self.instant => {
                let value = values.first().copied().ok_or_else(|| mistyped("a step"))?;
                Ok(Value::Scalar { at_ms: grid.start_ms, value })
            }
            Outcome::Scalar(values) => {
                let _reserved = self.budget.reserve(values.len().saturating_mul(POINT_BYTES))?;
                let column = crate::column::Column::full(values);
                Ok(Value::Matrix(matrix_of(Frame::single(column), grid)))
            }
            Outcome::Vector(frame) => {
                let frame = self.finished(frame)?;
                let points = super::points(&frame);
                let instant = self.instant;
                let _reserved = self.budget.reserve(answer_bytes(&frame))?;
                let begun = Instant::now();
                let value = self.compute(points, move || {
                    Ok(if instant {
                        Value::Vector(vector_of(frame, grid))
                    } else {
                        Value::Matrix(matrix_of(frame, grid))
                    })
                });
                let value = value.await?;
                self.budget.phases.add(Phase::Answer, begun);
                Ok(value)
            }
        }
    }

    /// Drops the names that were to be dropped at the end, and puts series in order.
    pub(crate) fn finished(&self, mut frame: Frame) -> Result<Frame, Error> {
        if self.options.late_names {
            for series in frame.series.iter_mut().filter(|s| s.drop_name) {
                series.labels = without_metadata(&series.labels);
            }
            frame.unify(Twins::Merged)?;
        }
        frame.series.retain(|s| s.column.any());
        if !(frame.ordered && self.instant) {
            frame.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        Ok(frame)
    }

    /// The samples themselves: what a range selector or a subquery gives at one instant.
    async fn matrix(&self, input: &RangeInput) -> Result<Vec<MatrixSeries>, Error> {
        match input {
            RangeInput::Selector(selector) => self.raw(selector).await,
            RangeInput::Subquery { node, times, range_ms } => {
                let frame = self.finished(self.eval_inside(node).await?.into_frame()?)?;
                let _reserved = self.budget.reserve(answer_bytes(&frame))?;
                let start_ms = times.end(0).saturating_sub(*range_ms);
                let mut series = matrix_of(frame, node.grid);
                for series in &mut series {
                    series.floats.retain(|(t, _)| *t > start_ms);
                    series.histograms.retain(|(t, _)| *t > start_ms);
                }
                Ok(series)
            }
        }
    }

    async fn raw(&self, selector: &Selector) -> Result<Vec<MatrixSeries>, Error> {
        let selected = Arc::clone(self.selected(selector.select).await?);
        let end_ms = selector.times.end(0);
        let inside = |t: i64| t > end_ms.saturating_sub(selector.reach_ms) && t <= end_ms;
        let mut out = Vec::new();
        let mut reserved = Reserved::default();
        let step = self.options.morsel_series.max(1);
        for start in (0..selected.len()).step_by(step) {
            self.budget.check()?;
            let end = (start + step).min(selected.len());
            let fetched = selected.fetch(start..end).await?;
            self.budget.take_bytes(fetched.bytes())?;
            let samples = self.lane.run(move || fetched.decode()).await?;
            // Kept: the answer is made of them, and an instant and a value are as large.
            reserved.absorb(self.budget.reserve(decoded_bytes(&samples))?);
            for (place, samples) in (start..end).zip(samples) {
                let samples = super::without_markers(Samples::from(samples));
                self.budget.take_samples(samples.count())?;
                let floats = match selector.edges {
                    Edges::Plain => {
                        let times = samples.timestamps.iter().copied();
                        times.zip(samples.values).filter(|(t, _)| inside(*t)).collect()
                    }
                    _ if !samples.histograms.is_empty() => {
                        return Err(not_supported(
                            "native histograms in a range with anchored or smoothed",
                        ));
                    }
                    _ => with_edges(&samples, selector),
                };
                let histograms =
                    samples.histograms.into_iter().filter(|(t, _)| inside(*t)).collect();
                out.push(MatrixSeries {
                    labels: selected.labels(place).clone(),
                    floats,
                    histograms,
                });
            }
        }
        out.retain(|s| !(s.floats.is_empty() && s.histograms.is_empty()));
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }
}

/// The floats of a range with `anchored` or `smoothed`: a point at either edge, and what lies
/// strictly between them.
fn with_edges(samples: &Samples, selector: &Selector) -> Vec<(i64, f64)> {
    let Samples { timestamps, values, .. } = samples;
    let Selector { times, reach_ms, edges, margin_ms, .. } = *selector;
    let end_ms = times.end(0);
    let range = (end_ms.saturating_sub(reach_ms), end_ms);
    let window = Windows::of_edges(timestamps, &times, reach_ms, edges, margin_ms).at(0);
    let Some(around) = Around::new(timestamps, window, edges, range) else { return Vec::new() };
    let (left, right) = at_edges(timestamps, values, around, edges, range, false);
    let between = timestamps.iter().zip(values).filter(|(t, _)| **t > range.0 && **t < range.1);
    let mut points = vec![(range.0, left)];
    points.extend(between.map(|(t, value)| (*t, *value)));
    points.push((range.1, right));
    points
}

/// An instant and a value in an answer.
const POINT_BYTES: usize = size_of::<(i64, f64)>();

/// Bytes of the points of a frame in an answer.
fn answer_bytes(frame: &Frame) -> usize {
    let points: usize = frame.series.iter().map(|s| s.column.occupied().count()).sum();
    points.saturating_mul(POINT_BYTES)
}

fn vector_of(frame: Frame, grid: Grid) -> Vec<VectorPoint> {
    let point = |series: Series| {
        let float = series.column.get(0).map(PointValue::Float);
        let histogram = || series.column.histogram(0).map(|h| PointValue::Histogram(Arc::clone(h)));
        let value = float.or_else(histogram)?;
        Some(VectorPoint { labels: series.labels, at_ms: grid.start_ms, value })
    };
    frame.series.into_iter().filter_map(point).collect()
}

fn matrix_of(frame: Frame, grid: Grid) -> Vec<MatrixSeries> {
    let series = |series: Series| {
        let column = series.column;
        let floats =
            column.present.ones().map(|step| (grid.at(step), column.values[step])).collect();
        let histograms = column.histograms.iter().flat_map(|h| h.iter().enumerate());
        let histograms =
            histograms.filter_map(|(step, h)| Some((grid.at(step), Arc::clone(h.as_ref()?))));
        MatrixSeries { labels: series.labels, floats, histograms: histograms.collect() }
    };
    frame.series.into_iter().map(series).collect()
}
