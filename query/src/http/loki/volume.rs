//! How much there is: `index/stats`, `index/volume`, `index/volume_range`, from what is kept of
//! each stream and hour, and so without reading a line.

use std::collections::BTreeMap;

use model::Labels;

use super::super::json::{comma, push_string};
use super::super::reply::Reply;
use super::Question;
use super::documents::{Cost, Matrix, vector, whole};
use super::listings::BACK_NS;
use super::params::Limits;
use crate::entries::{CountEntries, Counted, EntrySelection, Series, StreamFacts};
use crate::logql::LogExpr;
use crate::number::push_unsigned;
use crate::{Cancel, Error};

/// Groups of one answer: Loki's bound.
const GROUPS_MAX: usize = 1_000;

/// `index/stats`
pub(super) async fn stats(question: Question) -> Result<Reply, Error> {
    let limits = Limits::of(&question, BACK_NS)?;
    let (lines, _) = question.pipeline().await?;
    let found = streams(&question, lines, limits).await?;
    let sum = |of: fn(&StreamFacts) -> u64| found.0.iter().map(of).sum::<u64>();
    let counts = [
        ("streams", found.0.len() as u64),
        ("chunks", found.0.len() as u64),
        ("bytes", sum(|stream| stream.bytes)),
        ("entries", sum(|stream| stream.entries)),
    ];
    Ok(whole(|out| {
        out.push(b'{');
        for (at, (name, count)) in counts.iter().enumerate() {
            comma(out, at);
            push_string(out, name);
            out.push(b':');
            push_unsigned(out, *count);
        }
        out.push(b'}');
    }))
}

/// `index/volume`: bytes of the whole range.
pub(super) async fn volume(question: Question) -> Result<Reply, Error> {
    let limits = Limits::of(&question, BACK_NS)?;
    let (lines, _) = question.pipeline().await?;
    let grouping = Grouping::of(&question, &lines);
    let (found, cost) = streams(&question, lines, limits).await?;
    let mut volumes: BTreeMap<Labels, u64> = BTreeMap::new();
    for stream in &found {
        for labels in grouping.groups(&stream.labels) {
            *volumes.entry(labels).or_default() += stream.bytes;
        }
    }
    let series = volumes
        .into_iter()
        .map(|(labels, bytes)| Series { labels, values: vec![Some(bytes as f64)] });
    let kept = largest(series.collect(), limits.limit);
    Ok(vector(&kept, limits.end_ns, cost))
}

/// `index/volume_range`: bytes by step.
pub(super) async fn volume_range(question: Question) -> Result<Reply, Error> {
    let limits = Limits::of(&question, BACK_NS)?;
    let steps = limits.steps(&question)?;
    let (lines, _) = question.pipeline().await?;
    let grouping = Grouping::of(&question, &lines);
    let by = grouping.names();
    let found = question
        .run(async |cancel: Cancel| {
            let selection = EntrySelection {
                selectors: vec![lines.matchers],
                start_ns: limits.start_ns,
                end_ns: limits.end_ns,
                cancel: cancel.clone(),
                ..EntrySelection::default()
            };
            let request = CountEntries {
                selection,
                counted: Counted::Bytes,
                width_ns: steps.step_ns,
                buckets: steps.count,
                by,
                groups_max: question.scope.limits().query_series_max,
            };
            let found = question.entries.count(&question.scope, request).await?;
            Ok((found, cancel.usage().now()))
        })
        .await?;
    let cost = Cost::of(&found, 0);
    let mut volumes: BTreeMap<Labels, Vec<u64>> = BTreeMap::new();
    for group in &found.answer.0 {
        for labels in grouping.groups(&group.labels) {
            let sums = volumes.entry(labels).or_insert_with(|| vec![0; steps.count]);
            for (sum, count) in sums.iter_mut().zip(&group.counts) {
                *sum += count;
            }
        }
    }
    let series = volumes.into_iter().map(|(labels, sums)| {
        let values = sums.into_iter().map(|sum| (sum > 0).then_some(sum as f64));
        Series { labels, values: values.collect() }
    });
    Ok(Reply::document(Matrix::new(largest(series.collect(), limits.limit), steps, cost)))
}

/// The streams that match.
async fn streams(
    question: &Question,
    lines: LogExpr,
    limits: Limits,
) -> Result<(Vec<StreamFacts>, Cost), Error> {
    let found = question
        .run(async |cancel: Cancel| {
            let selection = EntrySelection {
                selectors: vec![lines.matchers],
                start_ns: limits.start_ns,
                end_ns: limits.end_ns,
                cancel: cancel.clone(),
                ..EntrySelection::default()
            };
            let found = question.entries.streams(&question.scope, selection, None).await?;
            Ok((found.items, cancel.usage().now()))
        })
        .await?;
    let cost = Cost::of(&found, 0);
    Ok((found.answer.0, cost))
}

/// By what volumes are told apart.
enum Grouping {
    /// By the values of these labels.
    Values(Vec<String>),
    /// By labels' names: of these, or of all.
    Names(Vec<String>),
}

impl Grouping {
    /// `targetLabels`, or the labels of the selector; `aggregateBy`.
    fn of(question: &Question, lines: &LogExpr) -> Self {
        let targets = question.params.get("targetLabels");
        let targets = targets.split(',').map(str::trim).filter(|name| !name.is_empty());
        let targets: Vec<String> = targets.map(str::to_owned).collect();
        if question.params.get("aggregateBy") == "labels" {
            return Self::Names(targets);
        }
        if !targets.is_empty() {
            return Self::Values(targets);
        }
        Self::Values(lines.matchers.iter().map(|matcher| matcher.name().to_owned()).collect())
    }

    /// The names to count by.
    fn names(&self) -> Vec<String> {
        match self {
            Self::Values(names) | Self::Names(names) => names.clone(),
        }
    }

    /// The groups that a stream with these labels is part of.
    fn groups(&self, labels: &Labels) -> Vec<Labels> {
        match self {
            Self::Values(names) => {
                let values = names.iter().map(|name| (name, labels.get(name).unwrap_or("")));
                vec![Labels::from_pairs(values)]
            }
            Self::Names(names) => {
                let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
                let names = labels.iter().map(|(name, _)| name).filter(|name| wanted(name));
                names.map(|name| Labels::from_pairs([("label", name)])).collect()
            }
        }
    }
}

/// The groups with most, in the order of how much they have.
fn largest(mut series: Vec<Series>, limit: usize) -> Vec<Series> {
    let total = |series: &Series| series.values.iter().flatten().sum::<f64>();
    series.sort_by(|a, b| total(b).total_cmp(&total(a)));
    series.truncate(limit.min(GROUPS_MAX));
    series
}
