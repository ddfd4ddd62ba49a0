//! What is told of groups to whoever asks: their families and series, by type.

use std::collections::{BTreeMap, HashMap};

use model::{Buckets, METRIC_NAME, MetricKind};
use tenancy::TenantId;

use super::Pushgateway;
use super::group::{Group, Grouping, Push};
use super::store::{self, Pushed, Value};
use crate::exposition::{Entry, Exposition};

/// Labels in order of their names.
pub type LabelPairs = Vec<(String, String)>;

/// One group as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct PushedGroup {
    /// The labels of the grouping.
    pub labels: LabelPairs,
    /// When it was pushed last, milliseconds.
    pub pushed_ms: i64,
    /// When a push failed last; 0 is never.
    pub failed_ms: i64,
    /// By name. The two that tell of pushes are among them.
    pub families: BTreeMap<String, PushedFamily>,
}

/// One metric family of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PushedFamily {
    /// Its type.
    pub kind: MetricKind,
    /// What it is.
    pub help: String,
    /// By their labels: without the name, and without those that tell parts apart.
    pub metrics: BTreeMap<LabelPairs, Vec<(Part, f64)>>,
}

/// What a number is of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// All there is.
    Value,
    /// Observations of a histogram or summary.
    Count,
    /// Their sum.
    Sum,
    /// A bucket by its bound, or a quantile.
    Of(f64),
}

impl Pushgateway {
    /// The groups of a tenant. Reads all that was pushed again, so it belongs on the blocking pool.
    pub fn groups(&self, tenant: TenantId) -> Vec<PushedGroup> {
        let of_tenant = self.store.of_tenant(tenant);
        of_tenant.into_iter().map(|(grouping, group)| told(grouping, &group)).collect()
    }
}

fn told(grouping: Grouping, group: &Group) -> PushedGroup {
    let mut families = BTreeMap::new();
    for push in &group.pushes {
        let about = about(push);
        for (family, series) in store::series_of_push(push, &grouping) {
            let of_family = families.entry(family).or_insert_with_key(|family| {
                let (kind, help) = about.get(family).cloned().unwrap_or_default();
                PushedFamily { kind, help, ..PushedFamily::default() }
            });
            add(of_family, series, &grouping);
        }
    }
    let times = [
        "Last Unix time when changing this group in the Pushgateway succeeded.",
        "Last Unix time when changing this group in the Pushgateway failed.",
    ];
    for (series, help) in store::about(group, &grouping).into_iter().zip(times) {
        let family = series.labels.iter().find(|(name, _)| name == METRIC_NAME);
        let Some((_, family)) = family.cloned() else { continue };
        let of_family = families.entry(family).or_default();
        (of_family.kind, of_family.help) = (MetricKind::Gauge, help.to_owned());
        add(of_family, series, &grouping);
    }
    PushedGroup {
        labels: grouping.0,
        pushed_ms: group.pushed_ms,
        failed_ms: group.failed_ms,
        families,
    }
}

/// Types and helps of the families of a push.
fn about(push: &Push) -> HashMap<String, (MetricKind, String)> {
    let mut exposition = Exposition::new(push.format, &push.body);
    let mut about: HashMap<String, (MetricKind, String)> = HashMap::new();
    // It was read when it was pushed.
    while let Ok(Some(entry)) = exposition.next_entry() {
        match entry {
            Entry::Type { family, kind } => about.entry(family.into_owned()).or_default().0 = kind,
            Entry::Help { family, text } => {
                about.entry(family.into_owned()).or_default().1 = text.into_owned();
            }
            _ => {}
        }
    }
    about
}

/// Adds a series as what it is of its metric. Labels of the grouping that are empty are told with it.
fn add(family: &mut PushedFamily, series: Pushed, grouping: &Grouping) {
    let tells = match family.kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => "le",
        MetricKind::Summary => "quantile",
        _ => "",
    };
    let (mut labels, mut name, mut bound) = (Vec::new(), String::new(), None);
    for (label, value) in series.labels {
        match label.as_str() {
            METRIC_NAME => name = value,
            label if label == tells => bound = value.parse().ok(),
            _ => labels.push((label, value)),
        }
    }
    labels.extend(grouping.0.iter().filter(|(_, value)| value.is_empty()).cloned());
    labels.sort();
    let parts = family.metrics.entry(labels).or_default();
    match series.value {
        Value::Native(histogram) => {
            let count = match histogram.buckets {
                Buckets::Integer { count, .. } => count as f64,
                Buckets::Float { count, .. } => count,
            };
            parts.extend([(Part::Count, count), (Part::Sum, histogram.sum)]);
        }
        Value::Float(value) => {
            let part = match bound {
                Some(bound) => Part::Of(bound),
                None if !tells.is_empty() && name.ends_with("count") => Part::Count,
                None if !tells.is_empty() && name.ends_with("sum") => Part::Sum,
                None => Part::Value,
            };
            parts.push((part, value));
        }
    }
}
