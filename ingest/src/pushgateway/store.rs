//! The groups of all tenants: in memory, in the journal, and as the series that they are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::{Disk, Histogram, METRIC_NAME, MetricKind, Sample};
use parking_lot::Mutex;
use tenancy::TenantId;

use super::group::{Group, Grouping, Push, Replaces, family_of};
use super::journal::{Groups, Journal, JournalError, Key};
use crate::build::Values;
use crate::exposition::{Entry, Exposition, Format};
use crate::intake::Refusal;

/// What one tenant may push.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) groups_max: usize,
    pub(super) bytes_max: usize,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Store {
    state: Mutex<State>,
    journal: Mutex<Journal>,
    count: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    groups: Groups,
    /// Groups and bytes of each tenant.
    used: HashMap<TenantId, (usize, usize)>,
}

/// A group before and after a change: what it takes to undo it.
#[derive(Debug)]
pub(super) struct Changed {
    key: Key,
    pub(super) before: Option<Group>,
    pub(super) after: Option<Group>,
}

impl Store {
    /// Opens the journal; `count` shows how many groups there are.
    pub(super) fn open(disk: Arc<dyn Disk>, count: Arc<AtomicU64>) -> Result<Self, JournalError> {
        let (journal, groups) = Journal::open(disk)?;
        let mut state = State::default();
        for (key, group) in groups {
            state.put(key, Some(group));
        }
        count.store(state.groups.len() as u64, Relaxed);
        Ok(Self { state: Mutex::new(state), journal: Mutex::new(journal), count })
    }

    /// Changes a group in memory, within the tenant's bounds.
    pub(super) fn change(
        &self,
        key: &Key,
        bounds: Bounds,
        change: impl FnOnce(Option<&Group>) -> Option<Group>,
    ) -> Result<Changed, Refusal> {
        let mut state = self.state.lock();
        let before = state.groups.get(key).cloned();
        let after = change(before.as_ref());
        if let Some(after) = &after {
            let (groups, bytes) = state.used.get(&key.0).copied().unwrap_or_default();
            let more = after.bytes().saturating_sub(before.as_ref().map_or(0, Group::bytes));
            if before.is_none() && groups >= bounds.groups_max {
                let limit = bounds.groups_max;
                return Err(full(format!(
                    "{groups} groups are pushed and the limit is {limit} (pushgateway.groups_max)"
                )));
            }
            if more > 0 && bytes + more > bounds.bytes_max {
                let limit = bounds.bytes_max;
                return Err(full(format!(
                    "pushed groups would have {} bytes, the limit is {limit} (pushgateway.bytes_max)",
                    bytes + more
                )));
            }
        }
        state.put(key.clone(), after.clone());
        self.count.store(state.groups.len() as u64, Relaxed);
        Ok(Changed { key: key.clone(), before, after })
    }

    /// Takes a change back, unless the group was changed again since.
    pub(super) fn undo(&self, changed: Changed) {
        let mut state = self.state.lock();
        if state.groups.get(&changed.key) == changed.after.as_ref() {
            state.put(changed.key, changed.before);
            self.count.store(state.groups.len() as u64, Relaxed);
        }
    }

    /// Makes what a group is now durable. Blocks.
    pub(super) fn persist(&self, key: &Key) -> Result<(), JournalError> {
        let mut journal = self.journal.lock();
        let group = self.state.lock().groups.get(key).cloned();
        journal.append(key, group.as_ref(), || self.state.lock().groups.clone())
    }

    /// All groups, by tenant.
    pub(super) fn by_tenant(&self) -> HashMap<TenantId, Vec<(Grouping, Group)>> {
        let mut tenants: HashMap<TenantId, Vec<(Grouping, Group)>> = HashMap::new();
        for ((tenant, grouping), group) in &self.state.lock().groups {
            tenants.entry(*tenant).or_default().push((grouping.clone(), group.clone()));
        }
        tenants
    }

    /// The groups of one tenant, in order of their labels.
    pub(super) fn of_tenant(&self, tenant: TenantId) -> Vec<(Grouping, Group)> {
        let state = self.state.lock();
        let own = state.groups.iter().filter(|(key, _)| key.0 == tenant);
        let mut groups: Vec<_> = own.map(|(key, group)| (key.1.clone(), group.clone())).collect();
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        groups
    }

    /// Forgets the groups of a tenant that is no more. Blocks.
    pub(super) fn forget(&self, tenant: TenantId) -> Result<(), JournalError> {
        let mut state = self.state.lock();
        let keys: Vec<Key> = state.groups.keys().filter(|key| key.0 == tenant).cloned().collect();
        keys.iter().for_each(|key| state.put(key.clone(), None));
        state.used.remove(&tenant);
        self.count.store(state.groups.len() as u64, Relaxed);
        drop(state);
        keys.iter().try_for_each(|key| self.persist(key))
    }
}

fn full(text: String) -> Refusal {
    Refusal::Full(text)
}

impl State {
    fn put(&mut self, key: Key, group: Option<Group>) {
        let used = self.used.entry(key.0).or_default();
        let added = group.as_ref().map_or((0, 0), |group| (1, group.bytes()));
        let removed = match group {
            Some(group) => self.groups.insert(key, group),
            None => self.groups.remove(&key),
        };
        let removed = removed.map_or((0, 0), |group| (1, group.bytes()));
        *used = (used.0 + added.0 - removed.0, used.1 + added.1 - removed.1);
    }
}

/// One series of a push.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pushed {
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Float(f64),
    Native(Box<Histogram>),
}

impl Value {
    pub(super) fn at(&self, timestamp_ms: i64) -> Values {
        match self {
            Self::Float(value) => Values::Sample(Sample { timestamp_ms, value: *value }),
            Self::Native(histogram) => Values::Histogram(timestamp_ms, (**histogram).clone()),
        }
    }

    /// The marker that the series has ended.
    pub(super) fn stale(&self, timestamp_ms: i64) -> Values {
        let value = model::stale_nan();
        match self {
            Self::Float(_) => Values::Sample(Sample { timestamp_ms, value }),
            Self::Native(histogram) => {
                let buckets = model::Buckets::Float {
                    count: 0.0,
                    zero_count: 0.0,
                    positive: vec![],
                    negative: vec![],
                };
                let (positive_spans, negative_spans) = (vec![], vec![]);
                let ended = Histogram {
                    sum: value,
                    buckets,
                    positive_spans,
                    negative_spans,
                    ..(**histogram).clone()
                };
                Values::Histogram(timestamp_ms, ended)
            }
        }
    }
}

/// Reads a body that was just pushed: its families and series. Pushed samples have no time of
/// their own, and no series comes twice.
pub(super) fn read_push(
    format: Format,
    body: &[u8],
    grouping: &Grouping,
) -> Result<(Push, Vec<Pushed>), Refusal> {
    let all = series_of(format, body, grouping)?;
    let families = all.iter().map(|(family, _)| family.clone()).collect();
    let series: Vec<Pushed> = all.into_iter().map(|(_, series)| series).collect();
    let mut seen = HashSet::new();
    if let Some(twice) = series.iter().find(|series| !seen.insert(&series.labels)) {
        let labels = model::Labels::from_pairs(twice.labels.iter().map(|(n, v)| (n, v)));
        return Err(Refusal::Parameter(format!("series {labels} comes twice in the push")));
    }
    Ok((Push { format, body: body.into(), families }, series))
}

/// The series of a group that still count.
pub(super) fn series_of_group(group: &Group, grouping: &Grouping) -> Vec<Pushed> {
    let series = |push| series_of_push(push, grouping).map(|(_, series)| series);
    group.pushes.iter().flat_map(series).collect()
}

/// The series of a push that still count, with their families.
pub(super) fn series_of_push(
    push: &Push,
    grouping: &Grouping,
) -> impl Iterator<Item = (String, Pushed)> {
    // It was read when it was pushed.
    let series = series_of(push.format, &push.body, grouping).unwrap_or_default();
    series.into_iter().filter(|(family, _)| push.families.contains(family))
}

/// Series with their families. Labels of the grouping win over those of the body.
fn series_of(
    format: Format,
    body: &[u8],
    grouping: &Grouping,
) -> Result<Vec<(String, Pushed)>, Refusal> {
    let mut exposition = Exposition::new(format, body);
    let (mut declared, mut found) = (BTreeSet::new(), Vec::new());
    while let Some(entry) = exposition.next_entry()? {
        let (value, timestamp_ms) = match entry {
            Entry::Type { family, kind } => {
                let adds = matches!(
                    kind,
                    MetricKind::Histogram | MetricKind::Summary | MetricKind::GaugeHistogram
                );
                if adds {
                    declared.insert(family.into_owned());
                }
                continue;
            }
            Entry::Help { .. } | Entry::Unit { .. } => continue,
            Entry::Sample { value, timestamp_ms, .. } => (Value::Float(value), timestamp_ms),
            Entry::Histogram { histogram, timestamp_ms, .. } => {
                (Value::Native(histogram), timestamp_ms)
            }
        };
        if timestamp_ms.is_some() {
            return Err(Refusal::Parameter("pushed metrics must not have timestamps".to_owned()));
        }
        let own = exposition.labels().iter().filter(|(name, value)| {
            !value.is_empty() && !grouping.0.iter().any(|(group, _)| group == name)
        });
        let own = own.map(|(name, value)| (name.to_string(), value.to_string()));
        let of_group = grouping.0.iter().filter(|(_, value)| !value.is_empty()).cloned();
        let mut labels: Vec<(String, String)> = own.chain(of_group).collect();
        labels.sort();
        let name = labels.iter().find(|(name, _)| name == METRIC_NAME).map_or("", |(_, v)| v);
        let family = family_of(name, &declared).to_owned();
        found.push((family, Pushed { labels, value }));
    }
    Ok(found)
}

/// What is told of every group: when it was pushed, and when a push failed, in seconds.
pub(super) fn about(group: &Group, grouping: &Grouping) -> [Pushed; 2] {
    let told =
        [("push_time_seconds", group.pushed_ms), ("push_failure_time_seconds", group.failed_ms)];
    told.map(|(name, at_ms)| {
        let mut labels: Vec<(String, String)> =
            grouping.0.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
        labels.push((METRIC_NAME.to_owned(), name.to_owned()));
        labels.sort();
        Pushed { labels, value: Value::Float(at_ms as f64 / 1e3) }
    })
}

/// A new push of a group, as a change.
pub(super) fn pushed(
    push: Push,
    replaces: Replaces,
    now_ms: i64,
) -> impl FnOnce(Option<&Group>) -> Option<Group> {
    move |before| Some(before.cloned().unwrap_or_default().after(push, replaces, now_ms))
}
