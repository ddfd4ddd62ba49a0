//! `info`: series get labels of the info series (`target_info` and its kind) of the same `instance`
//! and `job`. Which info series that is may change from step to step.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, METRIC_NAME, MatchOp, Matcher};
use query::Error;
use storage::Select;

use super::keys::key_of;
use super::series::Task;
use super::{Collect, Evaluator, points};
use crate::budget::{Budget, Reserved};
use crate::column::{Bitmap, Column};
use crate::frame::{Frame, Outcome, Series, Twins};
use crate::plan::{Grouping, InfoCall, InfoLabels};

/// The labels that say whose info it is.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Values of an identifying label that are asked for by name; of more, all series are looked at.
const VALUES_ASKED_FOR_MAX: usize = 256;

/// Stands for no info series at a step.
const NONE: u32 = u32::MAX;

impl Evaluator {
    pub(crate) async fn info(&self, call: &InfoCall, steps: usize) -> Result<Outcome, Error> {
        let base = self.eval(&call.input).await?.into_frame()?;
        let wanted = values_of(&base, &call.labels);
        let (infos, _reserved) = match wanted.iter().all(BTreeSet::is_empty) {
            true => (Vec::new(), Reserved::default()),
            false => self.info_series(call, &wanted).await?,
        };
        let labels = Arc::clone(&call.labels);
        let budget = Arc::clone(&self.budget);
        self.compute(points(&base).saturating_add(infos.len().saturating_mul(steps)), move || {
            let infos = Infos::new(&infos, steps, &budget)?;
            let enrich = Enrich { labels: &labels, infos, steps, budget: &budget };
            let mut frame = enrich.all(base)?;
            frame.unify(Twins::Merged)?;
            Ok(Outcome::Vector(frame))
        })
        .await
    }

    /// The info series that have the identifying labels of any series, and when their samples were
    /// taken.
    async fn info_series(
        &self,
        call: &InfoCall,
        wanted: &[BTreeSet<String>; 2],
    ) -> Result<(Vec<(Labels, Column)>, Reserved), Error> {
        let mut matchers = call.matchers.clone();
        for (label, values) in IDENTIFYING.iter().zip(wanted) {
            if (1..=VALUES_ASKED_FOR_MAX).contains(&values.len()) {
                let any: Vec<String> = values.iter().map(|value| regex::escape(value)).collect();
                // Too long a pattern only means that more is looked at.
                matchers.extend(Matcher::new(MatchOp::Regex, *label, any.join("|")));
            }
        }
        let select = Select { matchers, range: call.range };
        let until = self.budget.cancel();
        let selected = self.source.select(&self.scope, select, &until);
        let selected = selected.await.map_err(|error| self.budget.ended(error))?;
        self.budget.take_series(selected.len())?;
        let work = self.plain_work(call.times, call.lookback_ms, Task::InfoTime);
        let collected = self.over_series(&selected, work, Collect::default()).await?;
        let asked_for = |labels: &Labels| {
            let mut pairs = IDENTIFYING.iter().zip(wanted);
            pairs.all(|(label, values)| {
                values.is_empty() || labels.get(label).is_some_and(|v| values.contains(v))
            })
        };
        let infos = collected.columns.into_iter();
        let infos = infos.map(|(place, column)| (selected.labels(place).clone(), column));
        let infos: Vec<_> = infos.filter(|(labels, _)| asked_for(labels)).collect();
        if let Some((labels, _)) = infos.iter().find(|(_, column)| column.has_histograms()) {
            return Err(Error::Execution(format!(
                "this should be an info metric, with float samples: {labels}"
            )));
        }
        Ok((infos, collected.reserved))
    }
}

/// What the identifying labels of the series to be enriched say.
fn values_of(base: &Frame, labels: &InfoLabels) -> [BTreeSet<String>; 2] {
    let enriched = base.series.iter().filter(|s| !labels.is_info(&s.labels));
    let mut values: [BTreeSet<String>; 2] = Default::default();
    for series in enriched {
        for (label, values) in IDENTIFYING.iter().zip(&mut values) {
            if let Some(value) = series.labels.get(label).filter(|v| !values.contains(*v)) {
                values.insert(value.to_owned());
            }
        }
    }
    values
}

impl InfoLabels {
    /// Whether a series is an info series itself, which is left as it is. Names that info series
    /// must not have say nothing about which they are.
    fn is_info(&self, labels: &Labels) -> bool {
        let asks_for_names = |m: &Matcher| matches!(m.op(), MatchOp::Equal | MatchOp::Regex);
        self.names.iter().any(asks_for_names)
            && self.names.iter().all(|m| m.matches(labels.metric_name()))
    }

    /// Whether a label of an info series is one of those to take over.
    fn takes(&self, label: &str) -> bool {
        label != METRIC_NAME
            && (self.data.is_empty() || self.data.iter().any(|m| m.name() == label))
    }

    /// Whether series without any info series stay.
    fn keeps_bare(&self) -> bool {
        self.data.iter().all(Matcher::matches_empty)
    }
}

/// The info series of one metric and one pair of identifying labels: which of them holds at each
/// step.
struct Holder {
    /// Place in the list of info series, or [`NONE`].
    at_step: Vec<u32>,
}

/// Info series by their identifying labels. Those of several metrics come in the order of names.
struct Infos<'a> {
    series: &'a [(Labels, Column)],
    by_identity: HashMap<Vec<u8>, Vec<Holder>>,
    _reserved: Reserved,
}

fn identity() -> Grouping {
    Grouping::new(&IDENTIFYING.map(str::to_owned), false)
}

impl<'a> Infos<'a> {
    fn new(
        series: &'a [(Labels, Column)],
        steps: usize,
        budget: &Arc<Budget>,
    ) -> Result<Self, Error> {
        let mut order: Vec<u32> = (0..series.len() as u32).collect();
        order.sort_by_key(|at| series[*at as usize].0.metric_name());
        let mut infos =
            Self { series, by_identity: HashMap::new(), _reserved: Reserved::default() };
        let (grouping, mut key, mut last) = (identity(), Vec::new(), HashMap::new());
        for at in order {
            budget.check()?;
            let labels = &series[at as usize].0;
            key_of(labels, &grouping, &mut key);
            let holders = infos.by_identity.entry_ref(key.as_slice()).or_default();
            let name = labels.metric_name();
            if last.get(&key) != Some(&name) {
                infos._reserved.absorb(budget.reserve(steps.saturating_mul(size_of::<u32>()))?);
                holders.push(Holder { at_step: vec![NONE; steps] });
                last.insert(key.clone(), name);
            }
            let Some(holder) = holders.last_mut() else { continue };
            holder.add(at, series)?;
        }
        Ok(infos)
    }
}

impl Holder {
    /// The newer sample holds; two of the same time contradict each other.
    fn add(&mut self, new: u32, series: &[(Labels, Column)]) -> Result<(), Error> {
        let (labels, times) = &series[new as usize];
        for step in times.present.ones() {
            let old = self.at_step[step];
            let Some((old_labels, old_times)) = series.get(old as usize).filter(|_| old != NONE)
            else {
                self.at_step[step] = new;
                continue;
            };
            let (old_s, new_s) = (old_times.values[step], times.values[step]);
            if old_s == new_s {
                let ms = |seconds: f64| (seconds * 1000.0).round() as i64;
                return Err(Error::Execution(format!(
                    "found duplicate series for info metric: existing {old_labels} @ {}, new {labels} @ {}",
                    ms(old_s),
                    ms(new_s)
                )));
            }
            if new_s > old_s {
                self.at_step[step] = new;
            }
        }
        Ok(())
    }
}

/// Gives labels to series.
struct Enrich<'a> {
    labels: &'a InfoLabels,
    infos: Infos<'a>,
    steps: usize,
    budget: &'a Arc<Budget>,
}

impl Enrich<'_> {
    fn all(&self, base: Frame) -> Result<Frame, Error> {
        let mut out = Frame { reserved: base.reserved, ..Frame::default() };
        let (grouping, mut key) = (identity(), Vec::new());
        for series in base.series {
            self.budget.check()?;
            if self.labels.is_info(&series.labels) {
                out.series.push(series);
                continue;
            }
            key_of(&series.labels, &grouping, &mut key);
            match self.infos.by_identity.get(key.as_slice()) {
                None if self.labels.keeps_bare() => out.series.push(series),
                None => {}
                Some(holders) => self.one(series, holders, &mut out)?,
            }
        }
        Ok(out)
    }

    /// A series becomes one for each set of info series that holds at some of its steps.
    fn one(&self, series: Series, holders: &[Holder], out: &mut Frame) -> Result<(), Error> {
        let mut steps_of: HashMap<Vec<u32>, Bitmap> = HashMap::new();
        let mut order: Vec<Vec<u32>> = Vec::new();
        let mut held: Vec<u32> = Vec::with_capacity(holders.len());
        for step in series.column.occupied().ones() {
            held.clear();
            held.extend(holders.iter().map(|holder| holder.at_step[step]));
            let steps = steps_of.entry_ref(held.as_slice()).or_insert_with(|| {
                order.push(held.clone());
                Bitmap::none(self.steps)
            });
            steps.set(step);
        }
        for held in &order {
            let Some(steps) = steps_of.get(held.as_slice()) else { continue };
            let infos: Vec<&Labels> = held
                .iter()
                .filter(|at| **at != NONE)
                .map(|at| &self.infos.series[*at as usize].0)
                .collect();
            if infos.is_empty() && !self.labels.keeps_bare() {
                continue;
            }
            let labels = self.enriched(&series.labels, &infos)?;
            out.reserved.absorb(self.budget.reserve_columns(1, self.steps)?);
            let mut column = series.column.clone();
            column.keep(steps);
            out.label_bytes += labels.heap_bytes();
            out.series.push(Series { labels, drop_name: series.drop_name, column });
        }
        Ok(())
    }

    /// What the series has already stays; what two info metrics say differently is an error.
    fn enriched(&self, base: &Labels, infos: &[&Labels]) -> Result<Labels, Error> {
        let mut builder = base.to_builder();
        let mut taken: HashMap<&str, &str> = HashMap::new();
        for info in infos {
            for (label, value) in info.iter().filter(|(label, _)| self.labels.takes(label)) {
                if taken.get(label).is_some_and(|known| *known != value) {
                    return Err(Error::Execution(format!("conflicting label: {label}")));
                }
                if base.get(label).is_none() {
                    taken.insert(label, value);
                    builder.set(label, value);
                }
            }
        }
        Ok(builder.build())
    }
}
