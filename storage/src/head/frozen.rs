//! A generation on its way into a block: read without the head's lock.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use model::{BUCKET_LABEL, Exemplar, Labels, METRIC_NAME, SeriesId, TimeRange};
use tenancy::TenantId;

use super::Head;
use super::buffer::Buffer;
use super::generation::{Counts, Generation};
use super::identity::LabelStore;
use super::read::{Collected, SharedTimestamps};
use crate::SeriesSamples;

/// A generation that was cut off to be flushed: it no longer changes.
#[derive(Debug)]
pub struct Frozen {
    pub(super) generation: Generation,
    /// By series.
    pub(super) buffers: Vec<Buffer>,
    /// All its series in the order of a block, once that was asked for.
    pub(super) order: OnceLock<Vec<u32>>,
}

/// A series of a frozen generation, as a block needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenSeries {
    /// Its number in the head, for [`Frozen::read`]; valid until the thaw.
    pub series: u32,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its id.
    pub id: SeriesId,
    /// Its labels.
    pub labels: Labels,
}

impl Frozen {
    /// How much there is.
    pub fn counts(&self) -> Counts {
        self.generation.counts
    }

    /// Whether there is nothing to flush.
    pub fn is_empty(&self) -> bool {
        self.generation.is_empty()
    }

    /// Whether this series has anything to flush.
    pub fn has(&self, series: u32) -> bool {
        self.buffers.get(series as usize).is_some_and(|b| !b.is_empty())
            || self.generation.has(series)
    }

    /// The samples and histograms of one series, in order.
    pub fn read(
        &self,
        series: u32,
        range: TimeRange,
        shared: &mut SharedTimestamps,
    ) -> SeriesSamples {
        let mut out = Collected::default();
        let buffer = self.buffers.get(series as usize).copied().unwrap_or(Buffer::EMPTY);
        self.generation.collect(series, &buffer, range, &mut out);
        out.finish(shared)
    }

    /// The exemplars of one series, in order.
    pub fn exemplars(&self, series: u32) -> Vec<Exemplar> {
        self.generation.exemplars.of(series, TimeRange::ALL).cloned().collect()
    }
}

/// What a flush works from: the frozen rows and a copy of the identities of their series. Labels
/// are put together batch by batch: those of all series at once would take more memory than the
/// head itself.
#[derive(Debug)]
pub struct FlushView {
    frozen: Arc<Frozen>,
    labels: LabelStore,
    identities: Vec<(TenantId, SeriesId)>,
    /// The first series as the flush before sorted them.
    order_before: Vec<u32>,
}

impl Head {
    /// What is frozen, to be flushed without the lock; `None` if nothing is. Copies some 70 bytes
    /// a series.
    pub fn flush_view(&self) -> Option<FlushView> {
        let frozen = Arc::clone(self.frozen.as_ref()?);
        let series = self.series.all[..frozen.buffers.len()].iter();
        Some(FlushView {
            labels: self.labels.readable(),
            identities: series.map(|s| (s.tenant, s.id)).collect(),
            order_before: self.flush_order.clone(),
            frozen,
        })
    }
}

impl FlushView {
    /// The frozen rows.
    pub fn frozen(&self) -> &Arc<Frozen> {
        &self.frozen
    }

    /// Series in the order of a block (tenant, then [`Labels::stored_order`]), up to `limit` of those that
    /// have something to flush. `from` is 0 at first, then what the call before gave; `None` to
    /// go on from: that was all. The first call sorts.
    pub fn batch(&self, from: usize, limit: usize) -> (Vec<FrozenSeries>, Option<usize>) {
        let order = self.frozen.order.get_or_init(|| self.sort());
        let mut found = Vec::with_capacity(limit.min(order.len()));
        for (at, &series) in order.iter().enumerate().skip(from) {
            if found.len() == limit {
                return (found, Some(at));
            }
            if self.frozen.has(series) {
                let (tenant, id) = self.identities[series as usize];
                found.push(FrozenSeries { series, tenant, id, labels: self.labels.labels(series) });
            }
        }
        (found, None)
    }

    /// All series, sorted. Those the flush before knew come sorted, and the stable sort only
    /// merges the new ones in.
    fn sort(&self) -> Vec<u32> {
        let mut order = self.order_before.clone();
        order.extend(order.len() as u32..self.identities.len() as u32);
        let metric_name = self.labels.symbol_of_name(METRIC_NAME);
        let bucket = self.labels.symbol_of_name(BUCKET_LABEL);
        let name_of = |series| metric_name.and_then(|name| self.labels.value_of(series, name));
        order.sort_by(|&a, &b| {
            let tenants = self.identities[a as usize].0.cmp(&self.identities[b as usize].0);
            tenants
                .then_with(|| match (name_of(a), name_of(b)) {
                    (one, other) if one == other => Ordering::Equal,
                    (one, other) => {
                        let text =
                            |symbol: Option<u32>| symbol.map(|s| self.labels.symbols.text(s));
                        text(one).cmp(&text(other))
                    }
                })
                .then_with(|| self.labels.stored_order(a, b, bucket))
        });
        order
    }
}
