//! How much there is: counts for flushing and metrics, cardinality for `/api/v1/status/tsdb`.

use std::collections::BTreeMap;

use model::{METRIC_NAME, Pace, Stopped, TimeRange};
use tenancy::TenantId;

use super::{Counts, Head};

/// How much a head holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadCounts {
    /// Series.
    pub series: u64,
    /// Since the last cut.
    pub open: Counts,
    /// Cut off and not yet flushed.
    pub frozen: Counts,
    /// Memory of what is open: what the next flush frees.
    pub open_bytes: usize,
}

impl Head {
    /// How much there is. Cheap: asked after every write.
    pub fn counts(&self) -> HeadCounts {
        HeadCounts {
            series: u64::from(self.series.len()),
            open: self.open.counts,
            frozen: self.frozen.as_deref().map(|f| f.counts()).unwrap_or_default(),
            open_bytes: self.open.heap_bytes(),
        }
    }

    /// Series of a tenant that were not deleted.
    pub fn tenant_series(&self, tenant: TenantId) -> u64 {
        self.tenant_series_held(tenant) - self.hidden_series(tenant)
    }

    /// Series of a tenant that take memory, deleted ones included.
    pub fn tenant_series_held(&self, tenant: TenantId) -> u64 {
        self.index.tenants.get(&tenant).map_or(0, |t| t.refs.len())
    }

    /// Float samples of a tenant, open and frozen.
    pub fn tenant_samples(&self, tenant: TenantId) -> u64 {
        self.index.tenants.get(&tenant).map_or(0, |t| t.samples_open + t.samples_frozen)
    }

    /// Tenants with series here.
    pub fn tenants(&self) -> impl Iterator<Item = TenantId> + '_ {
        self.index.tenants.keys().copied()
    }

    /// Memory of everything but what is frozen. Walks all postings.
    pub fn heap_bytes(&self) -> usize {
        self.series.heap_bytes()
            + self.labels.heap_bytes()
            + self.index.heap_bytes()
            + self.open.heap_bytes()
            + self.flushed_histograms.values().map(|(_, h)| h.len() + 48).sum::<usize>()
    }

    /// Rows of a tenant's series that lie together: those of a series since the last cut, and those
    /// that were cut off and are not flushed.
    fn buffered(&self, tenant: TenantId) -> u64 {
        let mut count = 0;
        let Some(held) = self.index.tenants.get(&tenant) else { return 0 };
        held.refs.for_each(|series| {
            let open = !self.series.all[series as usize].buffer.is_empty() || self.open.has(series);
            let frozen = self.frozen.as_deref().is_some_and(|frozen| frozen.has(series));
            count += u64::from(open) + u64::from(frozen);
        });
        count
    }

    /// Adds a tenant's cardinality to that of other partitions.
    pub fn add_cardinality(
        &self,
        tenant: TenantId,
        sum: &mut Cardinality,
        pace: &mut Pace,
    ) -> Result<(), Stopped> {
        sum.series += self.tenant_series(tenant);
        let buffered = self.buffered(tenant);
        if buffered > 0 {
            sum.buffered += buffered;
            let counts = self.counts();
            let held = [counts.open, counts.frozen].into_iter().filter_map(|c| c.time_range());
            sum.range = held.chain(sum.range).reduce(TimeRange::union);
        }
        for name in self.label_names(tenant, None, pace)? {
            let values = match sum.labels.get_mut(name) {
                Some(values) => values,
                None => sum.labels.entry(name.to_owned()).or_default(),
            };
            self.for_each_value(tenant, name, None, pace, |value, count| {
                match values.get_mut(value) {
                    Some(known) => *known += count,
                    None => {
                        values.insert(value.to_owned(), count);
                    }
                }
            })?;
        }
        Ok(())
    }
}

/// Series of a tenant by label and value, summed over partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// How many series.
    pub series: u64,
    /// How many of them have rows in memory, counted once more while some are being flushed.
    pub buffered: u64,
    /// Between which instants the rows in memory lie, those of other tenants in the same partitions
    /// included.
    pub range: Option<TimeRange>,
    /// Label name → value → how many series have it.
    pub labels: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Cardinality {
    /// Metric names with most series.
    pub fn top_metrics(&self, limit: usize) -> Vec<(&str, u64)> {
        let values = self.labels.get(METRIC_NAME).into_iter().flatten();
        top(values.map(|(value, count)| (value.as_str(), *count)), limit)
    }

    /// Label names with most distinct values.
    pub fn top_labels(&self, limit: usize) -> Vec<(&str, u64)> {
        top(self.labels.iter().map(|(name, values)| (name.as_str(), values.len() as u64)), limit)
    }

    /// Label names whose values take most memory: each value's length times its series, as
    /// Prometheus counts it.
    pub fn top_label_bytes(&self, limit: usize) -> Vec<(&str, u64)> {
        let bytes = |values: &BTreeMap<String, u64>| {
            values.iter().map(|(value, count)| value.len() as u64 * count).sum()
        };
        top(self.labels.iter().map(|(name, values)| (name.as_str(), bytes(values))), limit)
    }

    /// Pairs of name and value with most series, as `name=value`.
    pub fn top_pairs(&self, limit: usize) -> Vec<(String, u64)> {
        let pairs = self
            .labels
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |(v, c)| ((name, v), *c)));
        let named =
            |((name, value), count): ((&String, &String), u64)| (format!("{name}={value}"), count);
        top(pairs, limit).into_iter().map(named).collect()
    }
}

/// The largest first; of equal ones the first by name.
fn top<K: Ord>(all: impl Iterator<Item = (K, u64)>, limit: usize) -> Vec<(K, u64)> {
    let mut all: Vec<(K, u64)> = all.collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(limit);
    all
}
