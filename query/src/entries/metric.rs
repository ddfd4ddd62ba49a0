//! LogQL's numbers over lines as they are: `count_over_time`, `rate`, `bytes_over_time` and
//! `bytes_rate`, aggregated and combined with constants. That is what bars of volume above logs
//! ask for; the rest of the language is refused by name and place until it is evaluated.
//!
//! A value at `t` over a range `r` counts what lies in `(t - r, t]`, as in Loki. It is put together
//! of disjoint buckets whose width divides both step and range, so every entry is counted once.

use std::collections::BTreeMap;

use model::Labels;
use tenancy::ReadScope;

use super::pipeline::not_yet;
use super::{
    CountEntries, Counted, Direction, Entries, EntrySelection, LEVEL_NAME, Pipeline, SelectEntries,
};
use crate::logql::{
    Aggregation, Binary, BinaryOp, Grouping, MetricExpr, MetricKind, RangeAggregation, RangeOp,
    VectorOp,
};
use crate::{Cancel, Error};

/// Buckets of one range, and of all its groups together: what they take is held in memory.
const BUCKETS_MAX: i64 = 200_000;
const CELLS_MAX: usize = 4_000_000;

/// The instants of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    /// The first one. Nanoseconds since the Unix epoch.
    pub(crate) start_ns: i64,
    /// Their distance.
    pub(crate) step_ns: i64,
    /// How many there are.
    pub(crate) count: usize,
}

/// Values of one group at all instants; those where there is none are NaN with nothing to show.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) values: Vec<Option<f64>>,
}

/// What an expression gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// A number, the same at all instants.
    Number(f64),
    /// Series in the order of their labels.
    Vector(Vec<Series>),
}

/// What an evaluation needs.
struct Evaluator<'a> {
    entries: &'a dyn Entries,
    scope: &'a ReadScope,
    text: &'a str,
    steps: Steps,
    cancel: &'a Cancel,
}

/// Evaluates an expression; `text` is the query's.
pub(crate) async fn evaluate(
    entries: &dyn Entries,
    scope: &ReadScope,
    (expr, text): (&MetricExpr, &str),
    steps: Steps,
    cancel: &Cancel,
) -> Result<Values, Error> {
    Evaluator { entries, scope, text, steps, cancel }.expression(expr).await
}

impl Evaluator<'_> {
    // Boxed because it calls itself; trees are at most `DEPTH_MAX` deep.
    fn expression<'e>(
        &'e self,
        expr: &'e MetricExpr,
    ) -> futures::future::BoxFuture<'e, Result<Values, Error>> {
        Box::pin(async move {
            match &expr.kind {
                MetricKind::Literal(value) => Ok(Values::Number(*value)),
                MetricKind::Vector(value) => {
                    let values = vec![Some(*value); self.steps.count];
                    Ok(Values::Vector(vec![Series { labels: Labels::empty(), values }]))
                }
                MetricKind::Range(range) => {
                    let all = Wanted::Everything;
                    Ok(Values::Vector(self.range(range, expr.at.0, all).await?))
                }
                MetricKind::Aggregate(one) => self.aggregation(one, expr.at.0).await,
                MetricKind::Binary(one) => self.binary(one, expr.at.0).await,
                MetricKind::LabelReplace(_) => Err(self.not_yet(expr.at.0, "label_replace")),
                MetricKind::Variants(_) => Err(self.not_yet(expr.at.0, "variants")),
            }
        })
    }

    fn not_yet(&self, at: usize, what: &str) -> Error {
        not_yet(self.text, at, what)
    }

    async fn aggregation(&self, one: &Aggregation, at: usize) -> Result<Values, Error> {
        let fold: fn(&[f64]) -> f64 = match one.op {
            VectorOp::Sum => |values| values.iter().sum(),
            VectorOp::Avg => |values| values.iter().sum::<f64>() / values.len() as f64,
            VectorOp::Count => |values| values.len() as f64,
            VectorOp::Min => |values| values.iter().copied().fold(f64::INFINITY, f64::min),
            VectorOp::Max => |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            other => return Err(self.not_yet(at, other.as_str())),
        };
        let inner = match &one.expr.kind {
            // What is only summed up need not be told apart first.
            MetricKind::Range(range) if one.op == VectorOp::Sum && !one.grouping.without => {
                let names = Wanted::Names(&one.grouping.labels);
                return Ok(Values::Vector(self.range(range, one.expr.at.0, names).await?));
            }
            _ => self.expression(&one.expr).await?,
        };
        match inner {
            Values::Number(_) => Err(self.not_yet(at, "an aggregation of a number")),
            Values::Vector(series) => {
                Ok(Values::Vector(grouped(&series, &one.grouping, self.steps.count, fold)))
            }
        }
    }

    async fn binary(&self, one: &Binary, at: usize) -> Result<Values, Error> {
        if one.op.is_set() {
            return Err(self.not_yet(at, one.op.as_str()));
        }
        let (left, right) = (self.expression(&one.lhs).await?, self.expression(&one.rhs).await?);
        let compute = |left: f64, right: f64| combine(one, left, right);
        match (left, right) {
            (Values::Number(left), Values::Number(right)) => {
                Ok(Values::Number(crate::logql::fold(one.op, left, right)))
            }
            (Values::Vector(mut series), Values::Number(right)) => {
                map(&mut series, |left| compute(left, right).map(|held| held.unwrap_or(left)));
                Ok(Values::Vector(series))
            }
            (Values::Number(left), Values::Vector(mut series)) => {
                map(&mut series, |right| compute(left, right).map(|held| held.unwrap_or(right)));
                Ok(Values::Vector(series))
            }
            (Values::Vector(left), Values::Vector(right)) => {
                self.both(one, at, left, &right).map(Values::Vector)
            }
        }
    }

    /// Series of both sides with the same labels.
    fn both(
        &self,
        one: &Binary,
        at: usize,
        left: Vec<Series>,
        right: &[Series],
    ) -> Result<Vec<Series>, Error> {
        if one.matching.is_some() {
            return Err(self.not_yet(at, "on, ignoring and grouping of an operation"));
        }
        let found: BTreeMap<&Labels, &Series> = right.iter().map(|s| (&s.labels, s)).collect();
        let mut joined = Vec::new();
        for mut series in left {
            let Some(other) = found.get(&series.labels) else { continue };
            for (value, right) in series.values.iter_mut().zip(&other.values) {
                let both = value.zip(*right);
                *value = both.and_then(|(left, right)| {
                    combine(one, left, right).map(|held| held.unwrap_or(left))
                });
            }
            joined.push(series);
        }
        Ok(joined.into_iter().filter(is_something).collect())
    }

    /// A range aggregation, by the wanted names.
    async fn range(
        &self,
        one: &RangeAggregation,
        at: usize,
        wanted: Wanted<'_>,
    ) -> Result<Vec<Series>, Error> {
        let seconds = one.range.range_ns as f64 / 1e9;
        let (counted, divisor) = match one.op {
            RangeOp::Count => (Counted::Entries, 1.0),
            RangeOp::Rate if one.range.unwrap.is_none() => (Counted::Entries, seconds),
            RangeOp::Bytes => (Counted::Bytes, 1.0),
            RangeOp::BytesRate => (Counted::Bytes, seconds),
            RangeOp::Rate => return Err(self.not_yet(at, "rate of unwrapped values")),
            other => return Err(self.not_yet(at, other.as_str())),
        };
        if one.range.range_ns <= 0 {
            return Err(Error::BadData("the range of an aggregation must be above 0".to_owned()));
        }
        let pipeline = Pipeline::of(&one.range.lines, self.text)?;
        let buckets = Buckets::of(self.steps, one.range.range_ns, one.range.offset_ns)?;
        let selection = EntrySelection {
            selectors: vec![one.range.lines.matchers.clone()],
            start_ns: buckets.start_ns,
            end_ns: buckets.end_ns(),
            filter: pipeline.filter.clone(),
            cancel: self.cancel.clone(),
            ..EntrySelection::default()
        };
        let groups = match wanted {
            Wanted::Names(names) if pipeline.is_filter() => {
                let request = CountEntries {
                    selection,
                    counted,
                    width_ns: buckets.width_ns,
                    buckets: buckets.count,
                    by: names.to_vec(),
                    groups_max: self.groups_max(&buckets),
                };
                let found = self.entries.count(self.scope, request).await?;
                found.into_iter().map(|group| (group.labels, group.counts)).collect()
            }
            wanted => self.count_rows(selection, &pipeline, counted, &buckets, wanted).await?,
        };
        let series = groups.into_iter().map(|(labels, counts)| {
            let values = buckets.windows(&counts, self.steps.count);
            let values = values.map(|sum| (sum > 0).then(|| sum as f64 / divisor));
            Series { labels, values: values.collect() }
        });
        Ok(series.filter(is_something).collect())
    }

    fn groups_max(&self, buckets: &Buckets) -> usize {
        self.scope.limits().query_series_max.min(CELLS_MAX / buckets.count.max(1)).max(1)
    }

    /// Counts what has to be looked at here.
    async fn count_rows(
        &self,
        selection: EntrySelection,
        pipeline: &Pipeline,
        counted: Counted,
        buckets: &Buckets,
        wanted: Wanted<'_>,
    ) -> Result<BTreeMap<Labels, Vec<u64>>, Error> {
        let request =
            SelectEntries { selection, direction: Direction::Forward, limit: None, after: None };
        let mut batches = self.entries.select(self.scope, request).await?;
        let (mut groups, groups_max) = (BTreeMap::new(), self.groups_max(buckets));
        while let Some(rows) = batches.next().await? {
            for row in rows.iter().filter(|row| pipeline.keeps(row)) {
                let labels = match wanted {
                    Wanted::Everything => all_labels(row),
                    Wanted::Names(names) => Labels::from_pairs(
                        names.iter().map(|name| (name.as_str(), row.named(name))),
                    ),
                };
                if groups.len() >= groups_max && !groups.contains_key(&labels) {
                    return Err(too_many_series(groups_max));
                }
                let counts = groups.entry(labels).or_insert_with(|| vec![0; buckets.count]);
                let bucket = (row.place.at_ns - buckets.start_ns) / buckets.width_ns;
                if let Some(count) = usize::try_from(bucket).ok().and_then(|at| counts.get_mut(at))
                {
                    *count += match counted {
                        Counted::Entries => 1,
                        Counted::Bytes => row.line.len() as u64,
                    };
                }
            }
        }
        Ok(groups)
    }
}

/// As Loki words it.
pub(crate) fn too_many_series(limit: usize) -> Error {
    Error::BadData(format!(
        "maximum number of series ({limit}) reached for a single query; consider reducing query \
         cardinality by adding more specific stream selectors, reducing the time range, or \
         aggregating results with functions like sum(), count() or topk()"
    ))
}

/// What series are told apart by.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    /// Stream labels, fields and the level.
    Everything,
    Names(&'a [String]),
}

/// Stream labels, fields and the level as one set.
pub(crate) fn all_labels(row: &super::EntryRow) -> Labels {
    let mut labels = row.stream.to_builder();
    for (name, value) in row.fields.iter() {
        if row.stream.get(name).is_none() {
            labels.set(name, value);
        }
    }
    if labels.get(LEVEL_NAME).is_none() {
        labels.set(LEVEL_NAME, row.level.as_str());
    }
    labels.build()
}

fn is_something(series: &Series) -> bool {
    series.values.iter().any(Option::is_some)
}

fn map(series: &mut Vec<Series>, change: impl Fn(f64) -> Option<f64>) {
    for value in series.iter_mut().flat_map(|series| &mut series.values) {
        *value = value.and_then(&change);
    }
    series.retain(is_something);
}

/// What an operation gives: `Some(Some(v))` a value, `Some(None)` that the vector's own value stays,
/// `None` nothing.
fn combine(one: &Binary, left: f64, right: f64) -> Option<Option<f64>> {
    let value = crate::logql::fold(one.op, left, right);
    if one.op.is_comparison() && !one.return_bool {
        return (value == 1.0).then_some(None);
    }
    debug_assert!(one.op != BinaryOp::And, "sets are refused before");
    Some(Some(value))
}

/// Values of groups of series, at each instant at which one has a value.
fn grouped(
    series: &[Series],
    grouping: &Grouping,
    steps: usize,
    fold: fn(&[f64]) -> f64,
) -> Vec<Series> {
    let mut groups: BTreeMap<Labels, Vec<&Series>> = BTreeMap::new();
    for one in series {
        let mut labels = one.labels.to_builder();
        let named = |name: &str| grouping.labels.iter().any(|label| label == name);
        labels.retain(|name| named(name) != grouping.without);
        groups.entry(labels.build()).or_default().push(one);
    }
    let fold_at = |members: &[&Series], at: usize| {
        let values: Vec<f64> = members.iter().filter_map(|series| series.values[at]).collect();
        (!values.is_empty()).then(|| fold(&values))
    };
    let groups = groups.into_iter().map(|(labels, members)| Series {
        labels,
        values: (0..steps).map(|at| fold_at(&members, at)).collect(),
    });
    groups.collect()
}

/// Buckets of which the windows of all instants can be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Buckets {
    start_ns: i64,
    width_ns: i64,
    count: usize,
    /// Buckets of a window.
    window: usize,
    /// Buckets from one instant to the next.
    step: usize,
}

impl Buckets {
    fn of(steps: Steps, range_ns: i64, offset_ns: i64) -> Result<Self, Error> {
        let step_ns = if steps.count > 1 { steps.step_ns } else { range_ns };
        let width_ns = greatest_common_divisor(range_ns, step_ns);
        let (window, step) = (range_ns / width_ns, step_ns / width_ns);
        let further = i64::try_from(steps.count).unwrap_or(i64::MAX).saturating_sub(1);
        let count = further.saturating_mul(step).saturating_add(window);
        if count > BUCKETS_MAX {
            return Err(Error::BadData(format!(
                "the range and the step of this query have so little in common that {count} \
                 buckets of time were needed, at most {BUCKETS_MAX} are allowed; choose a step that \
                 divides the range, or is a multiple of it"
            )));
        }
        // The window of the first instant begins after this nanosecond.
        let before_ns = steps.start_ns.saturating_sub(offset_ns).saturating_sub(range_ns);
        let start_ns = before_ns.saturating_add(1);
        let index = |buckets: i64| usize::try_from(buckets).unwrap_or(0);
        Ok(Self {
            start_ns,
            width_ns,
            count: index(count),
            window: index(window),
            step: index(step),
        })
    }

    fn end_ns(&self) -> i64 {
        let width_ns = self.width_ns.saturating_mul(i64::try_from(self.count).unwrap_or(i64::MAX));
        self.start_ns.saturating_add(width_ns)
    }

    /// The sums of the windows of some instants.
    fn windows(&self, counts: &[u64], instants: usize) -> impl Iterator<Item = u64> {
        let mut sums = Vec::with_capacity(counts.len() + 1);
        sums.push(0_u64);
        for count in counts {
            sums.push(sums.last().copied().unwrap_or(0).wrapping_add(*count));
        }
        let (window, step) = (self.window, self.step);
        (0..instants).map(move |at| {
            let first = at * step;
            let upto = |bucket: usize| sums.get(bucket).or(sums.last()).copied().unwrap_or(0);
            upto(first + window).wrapping_sub(upto(first))
        })
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.max(1), b.max(1));
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use testkit::SeededRandom;

    use super::*;

    /// Every window, put together of buckets, counts the instants that lie in it.
    #[test]
    fn windows_count_what_lies_in_them() {
        let random = SeededRandom::new(5);
        for _ in 0..300 {
            let below = |bound: u64| random.below(bound) as i64;
            let (start_ns, step_ns) = (below(50), 1 + below(20));
            let steps = Steps { start_ns, step_ns, count: 1 + random.below(6) as usize };
            let (range_ns, offset_ns) = (1 + below(40), below(10) - 5);
            let happened: Vec<i64> = (0..40).map(|_| below(200) - 50).collect();
            let buckets = Buckets::of(steps, range_ns, offset_ns).expect("few buckets");
            let mut counts = vec![0; buckets.count];
            for at_ns in &happened {
                let bucket = (at_ns - buckets.start_ns).div_euclid(buckets.width_ns);
                if let Some(count) = usize::try_from(bucket).ok().and_then(|at| counts.get_mut(at))
                {
                    *count += 1;
                }
            }
            let found: Vec<u64> = buckets.windows(&counts, steps.count).collect();
            let plain = (0..steps.count as i64).map(|at| {
                let end_ns = start_ns + at * step_ns - offset_ns;
                let inside = |at_ns: &&i64| **at_ns > end_ns - range_ns && **at_ns <= end_ns;
                happened.iter().filter(inside).count() as u64
            });
            assert_eq!(found, plain.collect::<Vec<_>>(), "{steps:?} {range_ns} {offset_ns}");
        }
    }

    #[test]
    fn ranges_and_steps_with_little_in_common_are_refused() {
        let steps = Steps { start_ns: 0, step_ns: 60_000_000_000, count: 100 };
        assert!(Buckets::of(steps, 300_000_000_000, 0).is_ok());
        let error = Buckets::of(steps, 300_000_000_001, 0).expect_err("a bucket a nanosecond");
        assert!(error.to_string().contains("choose a step that divides the range"), "{error}");
    }
}
