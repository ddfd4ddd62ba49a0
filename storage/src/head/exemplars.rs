//! Exemplars since the last cut: the newest few of each series, a bounded number per tenant.

use std::collections::VecDeque;

use hashbrown::HashMap;
use model::{Exemplar, TimeRange};
use tenancy::TenantId;

/// Exemplars kept per series between two cuts; a series rarely sees more than one a scrape.
const PER_SERIES_MAX: usize = 32;
/// Exemplars kept per tenant and partition between two cuts: with 8 partitions about Prometheus'
/// default of 100,000.
const PER_TENANT_MAX: usize = 12_500;
/// Longest label set of an exemplar, names and values together, in characters (OpenMetrics).
pub(super) const LABEL_CHARS_MAX: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Exemplars {
    by_series: HashMap<u32, Vec<Stored>>,
    by_tenant: HashMap<TenantId, Arrivals>,
    arrived: u64,
    /// Kept, and entries of queues, of all tenants: asked for after every write.
    kept: usize,
    queued: usize,
}

#[derive(Debug)]
struct Stored {
    exemplar: Exemplar,
    /// Its number in the order of arrival.
    arrival: u64,
}

/// What a tenant sent, oldest first; entries whose exemplar has gone stay until swept.
#[derive(Debug, Default)]
struct Arrivals {
    queue: VecDeque<(u32, u64)>,
    kept: usize,
}

impl Exemplars {
    /// Adds one; `false` if it was there already.
    pub(super) fn insert(&mut self, tenant: TenantId, series: u32, exemplar: Exemplar) -> bool {
        let stored = self.by_series.entry(series).or_default();
        let at = stored.partition_point(|s| s.exemplar.timestamp_ms <= exemplar.timestamp_ms);
        let same = |s: &Stored| {
            s.exemplar.timestamp_ms == exemplar.timestamp_ms
                && s.exemplar.value.to_bits() == exemplar.value.to_bits()
                && s.exemplar.labels == exemplar.labels
        };
        if stored[..at].iter().rev().take(PER_SERIES_MAX).any(same) {
            return false;
        }
        self.arrived += 1;
        stored.insert(at, Stored { exemplar, arrival: self.arrived });
        let arrivals = self.by_tenant.entry(tenant).or_default();
        arrivals.queue.push_back((series, self.arrived));
        arrivals.kept += 1;
        (self.kept, self.queued) = (self.kept + 1, self.queued + 1);
        if stored.len() > PER_SERIES_MAX {
            stored.remove(0);
            arrivals.kept -= 1;
            self.kept -= 1;
        }
        self.evict(tenant);
        true
    }

    fn evict(&mut self, tenant: TenantId) {
        let Some(arrivals) = self.by_tenant.get_mut(&tenant) else { return };
        while arrivals.kept > PER_TENANT_MAX || arrivals.queue.len() > 2 * PER_TENANT_MAX {
            let Some((series, arrival)) = arrivals.queue.pop_front() else { return };
            self.queued -= 1;
            let Some(stored) = self.by_series.get_mut(&series) else { continue };
            let before = stored.len();
            stored.retain(|s| s.arrival != arrival);
            arrivals.kept -= before - stored.len();
            self.kept -= before - stored.len();
            if stored.is_empty() {
                self.by_series.remove(&series);
            }
        }
    }

    /// Removes those of a series in a range; says whether there were any.
    pub(super) fn remove(&mut self, tenant: TenantId, series: u32, range: TimeRange) -> bool {
        let Some(stored) = self.by_series.get_mut(&series) else { return false };
        let before = stored.len();
        stored.retain(|s| !range.contains(s.exemplar.timestamp_ms));
        let removed = before - stored.len();
        if stored.is_empty() {
            self.by_series.remove(&series);
        }
        if let Some(arrivals) = self.by_tenant.get_mut(&tenant) {
            arrivals.kept -= removed;
        }
        self.kept -= removed;
        removed > 0
    }

    /// The exemplars of a series in a range, in order.
    pub(super) fn of(&self, series: u32, range: TimeRange) -> impl Iterator<Item = &Exemplar> {
        let stored = self.by_series.get(&series).map_or(&[][..], Vec::as_slice);
        stored.iter().map(|s| &s.exemplar).filter(move |e| range.contains(e.timestamp_ms))
    }

    pub(super) fn has(&self, series: u32) -> bool {
        self.by_series.contains_key(&series)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_series.is_empty()
    }

    /// Series numbers after a renumbering; no series with exemplars is dropped.
    pub(super) fn renumber(&mut self, new_number: &[u32]) {
        let by_series = std::mem::take(&mut self.by_series);
        self.by_series = by_series.into_iter().map(|(s, v)| (new_number[s as usize], v)).collect();
        for arrivals in self.by_tenant.values_mut() {
            for (series, _) in &mut arrivals.queue {
                *series = new_number[*series as usize];
            }
        }
    }

    /// Memory taken.
    pub(super) fn heap_bytes(&self) -> usize {
        self.kept * 200 + self.queued * 16 + self.by_series.capacity() * 40
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    fn exemplar(at_ms: i64) -> Exemplar {
        Exemplar {
            labels: Labels::from_pairs([("trace_id", "a")]),
            value: 1.0,
            timestamp_ms: at_ms,
        }
    }

    fn instants(exemplars: &Exemplars, series: u32) -> Vec<i64> {
        exemplars.of(series, TimeRange::ALL).map(|e| e.timestamp_ms).collect()
    }

    #[test]
    fn the_newest_of_a_series_are_kept_in_order() {
        let mut exemplars = Exemplars::default();
        for at in (0..40).rev() {
            assert!(exemplars.insert(TenantId(1), 3, exemplar(at)));
        }
        assert!(!exemplars.insert(TenantId(1), 3, exemplar(39)), "the same again");
        assert_eq!(instants(&exemplars, 3), (8..40).collect::<Vec<_>>());
        assert_eq!(exemplars.by_tenant[&TenantId(1)].kept, PER_SERIES_MAX);
    }

    #[test]
    fn a_tenant_pushes_out_only_its_own() {
        let mut exemplars = Exemplars::default();
        exemplars.insert(TenantId(2), 0, exemplar(1));
        for i in 0..PER_TENANT_MAX as u32 + 10 {
            exemplars.insert(TenantId(1), 1 + i, exemplar(2));
        }
        assert_eq!(instants(&exemplars, 0), [1]);
        assert!(!exemplars.has(10) && exemplars.has(11), "the oldest ten have gone");
    }
}
