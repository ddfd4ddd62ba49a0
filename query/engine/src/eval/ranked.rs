//! Aggregations that need all values of a group at a step together: `topk`, `bottomk`, `limitk`,
//! `limit_ratio`, `quantile`, `count_values`.

use std::sync::Arc;

use hashbrown::HashMap;
use model::Labels;
use query::Error;
use query::promql::AggregateOp;

use super::Evaluator;
use super::keys::{Groups, group_labels};
use super::sampling::is_sampled;
use super::{points, sampling};
use crate::budget::{Budget, Reserved};
use crate::column::{Bitmap, Column};
use crate::frame::{Frame, Outcome, Series, Twins, mistyped};
use crate::functions::nan_last;
use crate::histogram::{go_g, text as histogram_text};
use crate::kernels::quantile::quantile;
use crate::plan::{Aggregation, Grouping, Kind, Node};

/// Points after which to ask whether anybody still waits.
const POINTS_BETWEEN_CHECKS: usize = 4_096;

/// The aggregation's word in the language.
pub(crate) fn word(op: AggregateOp) -> &'static str {
    match op {
        AggregateOp::Avg => "avg",
        AggregateOp::Bottomk => "bottomk",
        AggregateOp::Count => "count",
        AggregateOp::CountValues => "count_values",
        AggregateOp::Group => "group",
        AggregateOp::Limitk => "limitk",
        AggregateOp::LimitRatio => "limit_ratio",
        AggregateOp::Max => "max",
        AggregateOp::Min => "min",
        AggregateOp::Quantile => "quantile",
        AggregateOp::Stddev => "stddev",
        AggregateOp::Stdvar => "stdvar",
        AggregateOp::Sum => "sum",
        AggregateOp::Topk => "topk",
    }
}

impl Evaluator {
    pub(crate) async fn ranked(
        &self,
        aggregation: &Aggregation,
        node: &Node,
    ) -> Result<Outcome, Error> {
        let param = aggregation.param.as_deref().ok_or_else(|| mistyped("a parameter"))?;
        let op = aggregation.op;
        if op == AggregateOp::CountValues {
            let Kind::Text(label) = &param.kind else { return Err(mistyped("a string")) };
            return self.count_values(aggregation, label.clone(), node.grid.len).await;
        }
        let numbers = self.eval(param).await?.into_scalar()?;
        let frame = self.eval(&aggregation.input).await?.into_frame()?;
        self.check_param(op, &numbers, param)?;
        let floats_only =
            matches!(op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Quantile);
        if floats_only && frame.series.iter().any(|s| s.column.has_histograms()) {
            let text = format!("ignored histogram in {} aggregation", word(op));
            self.notes.info(&text, aggregation.input.span);
        }
        let grouping = Arc::clone(&aggregation.grouping);
        let instant = self.instant && node.grid.is_instant();
        let points = points(&frame);
        let budget = Arc::clone(&self.budget);
        self.compute(points, move || {
            let grouped = Grouped::new(frame, &grouping);
            let frame = match op {
                AggregateOp::Quantile => grouped.quantiles(&numbers, &budget),
                _ => grouped.chosen(op, &numbers, instant, &budget),
            };
            frame.map(Outcome::Vector)
        })
        .await
    }

    fn check_param(&self, op: AggregateOp, numbers: &[f64], param: &Node) -> Result<(), Error> {
        let failed = |text: String| Err(Error::Execution(text));
        let any_nan = numbers.iter().any(|n| n.is_nan());
        let max = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        match op {
            AggregateOp::Quantile => {
                if let Some(wrong) = numbers.iter().find(|phi| !(0.0..=1.0).contains(*phi)) {
                    let got = go_g(*wrong);
                    let text = format!("quantile value should be between 0 and 1, got {got}");
                    self.notes.warn(&text, param.span);
                }
            }
            AggregateOp::LimitRatio => {
                if any_nan {
                    return failed("Ratio value is NaN".to_owned());
                }
                for (value, limit) in [(max, 1.0), (min, -1.0)] {
                    if value.abs() > 1.0 && value.signum() == limit {
                        let got = go_g(value);
                        let text = format!(
                            "ratio value should be between -1 and 1, got {got}, capping to {limit}"
                        );
                        self.notes.warn(&text, param.span);
                    }
                }
            }
            _ if !any_nan && max < 1.0 => {}
            _ if any_nan => return failed("Parameter value is NaN".to_owned()),
            _ if max >= i64::MAX as f64 => {
                return failed(format!("Scalar value {} overflows int64", go_g(max)));
            }
            _ if min <= i64::MIN as f64 => {
                return failed(format!("Scalar value {} underflows int64", go_g(min)));
            }
            _ => {}
        }
        Ok(())
    }

    async fn count_values(
        &self,
        aggregation: &Aggregation,
        label: String,
        steps: usize,
    ) -> Result<Outcome, Error> {
        let frame = self.eval(&aggregation.input).await?.into_frame()?;
        let grouping = Arc::clone(&aggregation.grouping);
        let budget = Arc::clone(&self.budget);
        self.compute(points(&frame), move || {
            let mut counts: HashMap<Labels, Column> = HashMap::new();
            let mut reserved = Reserved::default();
            for series in &frame.series {
                budget.check()?;
                for step in series.column.occupied().ones() {
                    let labels = counted_labels(series, step, &label, &grouping);
                    if !counts.contains_key(&labels) {
                        // A value per point may mean a series per point: count them as they come.
                        budget.check()?;
                        budget.take_series(1)?;
                        reserved.absorb(budget.reserve_columns(1, steps)?);
                    }
                    let column = counts.entry(labels).or_insert_with(|| Column::empty(steps));
                    let count = column.get(step).unwrap_or(0.0);
                    column.set(step, count + 1.0);
                }
            }
            let series = |(labels, column)| Series { labels, drop_name: false, column };
            let mut series: Vec<Series> = counts.into_iter().map(series).collect();
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(Outcome::Vector(Frame { reserved, ..Frame::new(series) }))
        })
        .await
    }
}

fn counted_labels(series: &Series, step: usize, label: &str, grouping: &Grouping) -> Labels {
    let mut builder = series.labels.to_builder();
    let value = match series.column.histogram(step) {
        Some(histogram) => histogram_text(histogram),
        None => printed(series.column.values[step]),
    };
    builder.set(label, &value);
    group_labels(&builder.build(), grouping)
}

/// A value as a label: all its digits, no exponent.
fn printed(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { go_g(value) }
}

/// A frame and its groups.
struct Grouped {
    frame: Frame,
    groups: Groups,
    /// Places in the frame, by group.
    members: Vec<Vec<usize>>,
}

impl Grouped {
    fn new(frame: Frame, grouping: &Grouping) -> Self {
        let mut groups = Groups::default();
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (at, series) in frame.series.iter().enumerate() {
            let id = groups.id(&series.labels, grouping) as usize;
            if id == members.len() {
                members.push(Vec::new());
            }
            members[id].push(at);
        }
        Self { frame, groups, members }
    }

    fn quantiles(&self, phi: &[f64], budget: &Arc<Budget>) -> Result<Frame, Error> {
        let reserved = budget.reserve_columns(self.groups.len(), phi.len())?;
        let mut series = Vec::with_capacity(self.groups.len());
        let mut values = Vec::new();
        for (labels, members) in self.groups.labels.iter().zip(&self.members) {
            budget.check()?;
            let mut column = Column::empty(phi.len());
            for (step, phi) in phi.iter().enumerate() {
                values.clear();
                values.extend(
                    members.iter().filter_map(|at| self.frame.series[*at].column.get(step)),
                );
                if !values.is_empty() {
                    column.set(step, quantile(*phi, &mut values));
                }
            }
            let drop_name = members.iter().any(|at| self.frame.series[*at].drop_name);
            series.push(Series { labels: labels.clone(), drop_name, column });
        }
        series.retain(|s| s.column.any());
        Ok(Frame { reserved, ..Frame::new(series) })
    }

    /// The series that are chosen at each step, with their own labels.
    fn chosen(
        self,
        op: AggregateOp,
        numbers: &[f64],
        instant: bool,
        budget: &Arc<Budget>,
    ) -> Result<Frame, Error> {
        let ordered = instant && matches!(op, AggregateOp::Topk | AggregateOp::Bottomk);
        let bitmaps = self.frame.series.len().saturating_mul(Bitmap::bytes(numbers.len()));
        // Places by `limit_ratio`, and what is chosen from and chosen at one step.
        let each = size_of::<f64>() + size_of::<(f64, usize)>() + size_of::<usize>();
        let places = self.frame.series.len().saturating_mul(each);
        let _reserved = budget.reserve(bitmaps.saturating_add(places))?;
        let mut kept: Vec<Bitmap> = vec![Bitmap::none(numbers.len()); self.frame.series.len()];
        let places: Vec<f64> = match op {
            AggregateOp::LimitRatio => {
                self.frame.series.iter().map(|s| sampling::place(&s.labels)).collect()
            }
            _ => Vec::new(),
        };
        let (mut order, mut chosen) = (Vec::new(), Chosen::default());
        let mut looked_at = 0;
        for members in &self.members {
            for (step, number) in numbers.iter().enumerate() {
                looked_at += members.len();
                if looked_at >= POINTS_BETWEEN_CHECKS {
                    budget.check()?;
                    looked_at = 0;
                }
                self.choose(op, members, step, *number, &places, &mut chosen);
                chosen.places.iter().for_each(|at| kept[*at].set(step));
                if ordered {
                    order.extend_from_slice(&chosen.places);
                }
            }
        }
        let Frame { series, reserved, label_bytes, .. } = self.frame;
        let mut series: Vec<Option<Series>> = series.into_iter().map(Some).collect();
        for (series, kept) in series.iter_mut().flatten().zip(&kept) {
            series.column.keep(kept);
        }
        let series: Vec<Series> = match ordered {
            true => order.into_iter().filter_map(|at| series[at].take()).collect(),
            false => series.into_iter().flatten().collect(),
        };
        let mut frame = Frame { series, ordered, label_bytes, reserved };
        frame.series.retain(|s| s.column.any());
        Ok(frame)
    }

    /// Chooses members at one step, best first.
    fn choose(
        &self,
        op: AggregateOp,
        members: &[usize],
        step: usize,
        number: f64,
        places: &[f64],
        chosen: &mut Chosen,
    ) {
        let Chosen { places: chosen, ranked } = chosen;
        chosen.clear();
        let column = |at: &usize| &self.frame.series[*at].column;
        let occupied =
            |at: &&usize| column(at).get(step).is_some() || column(at).histogram(step).is_some();
        if op == AggregateOp::LimitRatio {
            let sampled = |at: &&usize| is_sampled(number, places[**at]);
            return chosen.extend(members.iter().filter(occupied).filter(sampled));
        }
        if number.is_nan() || number < 1.0 {
            return;
        }
        let count = (number as usize).min(members.len());
        if op == AggregateOp::Limitk {
            return chosen.extend(members.iter().filter(occupied).take(count));
        }
        let value = |at: &usize| column(at).get(step);
        ranked.clear();
        ranked.extend(members.iter().filter_map(|at| Some((value(at)?, *at))));
        let largest_first = |a: f64, b: f64| b.total_cmp(&a);
        let smallest_first = |a: f64, b: f64| a.total_cmp(&b);
        let order = if op == AggregateOp::Topk { largest_first } else { smallest_first };
        // Of equal values the earlier series stays.
        let by_rank = |a: &(f64, usize), b: &(f64, usize)| {
            nan_last(zero(a.0), zero(b.0), order).then(a.1.cmp(&b.1))
        };
        if count < ranked.len() {
            ranked.select_nth_unstable_by(count, by_rank);
            ranked.truncate(count);
        }
        ranked.sort_unstable_by(by_rank);
        chosen.extend(ranked.iter().map(|(_, at)| *at));
    }
}

/// What was chosen at one step; its memory is used again at the next.
#[derive(Default)]
struct Chosen {
    /// Places in the frame, best first.
    places: Vec<usize>,
    /// The values to choose from, with their places.
    ranked: Vec<(f64, usize)>,
}

/// Both zeros are the same value.
fn zero(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

impl Frame {
    /// Merges series with equal labels where names are already dropped.
    pub(crate) fn unify_unless(&mut self, late_names: bool) -> Result<(), Error> {
        if late_names { Ok(()) } else { self.unify(Twins::Merged) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_labels_have_all_digits() {
        assert_eq!(printed(1e21), "1000000000000000000000");
        assert_eq!([printed(-0.5), printed(f64::INFINITY)], ["-0.5", "+Inf"]);
    }
}
