//! Batches of senders that were stored lately: one that comes again is not stored again.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use tenancy::TenantId;

use super::payload::SeenBatch;

/// How long a batch is remembered: senders that heard nothing try again within minutes.
const REMEMBERED_MS: i64 = 10 * 60 * 1000;

/// Batches of one tenant that one partition remembers: more than two dozen a second.
const PER_TENANT_MAX: usize = 16_384;

/// Batches by tenant.
#[derive(Debug, Default)]
pub(crate) struct Batches(HashMap<TenantId, OfTenant>);

#[derive(Debug, Default)]
struct OfTenant {
    ids: HashSet<u128>,
    /// In the order they came.
    order: VecDeque<SeenBatch>,
}

impl Batches {
    /// Whether a batch is remembered.
    pub(crate) fn has(&self, tenant: TenantId, id: u128, now_ms: i64) -> bool {
        self.0.get(&tenant).is_some_and(|known| {
            known.ids.contains(&id)
                && known.order.iter().any(|b| b.id == id && b.at_ms > now_ms - REMEMBERED_MS)
        })
    }

    /// Remembers a batch, and forgets what is too old or too much.
    pub(crate) fn note(&mut self, tenant: TenantId, batch: SeenBatch) {
        let known = self.0.entry(tenant).or_default();
        if !known.ids.insert(batch.id) {
            return;
        }
        known.order.push_back(batch);
        while known.order.len() > PER_TENANT_MAX
            || known.order.front().is_some_and(|b| b.at_ms <= batch.at_ms - REMEMBERED_MS)
        {
            let Some(old) = known.order.pop_front() else { break };
            known.ids.remove(&old.id);
        }
    }

    /// Forgets what is too old, of all tenants.
    pub(crate) fn forget_before(&mut self, now_ms: i64) {
        self.0.retain(|_, known| {
            while known.order.front().is_some_and(|b| b.at_ms <= now_ms - REMEMBERED_MS) {
                let Some(old) = known.order.pop_front() else { break };
                known.ids.remove(&old.id);
            }
            !known.order.is_empty()
        });
    }

    /// All that are remembered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, SeenBatch)> + '_ {
        self.0.iter().flat_map(|(tenant, known)| known.order.iter().map(|b| (tenant.0, *b)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_remembered_for_ten_minutes_and_not_without_bound() {
        let mut batches = Batches::default();
        let (a, b) = (TenantId(1), TenantId(2));
        batches.note(a, SeenBatch { id: 1, at_ms: 0 });
        batches.note(b, SeenBatch { id: 1, at_ms: 300_000 });
        assert!(batches.has(a, 1, 599_999) && !batches.has(a, 1, 600_000));
        assert!(!batches.has(a, 2, 0));
        batches.forget_before(600_000);
        assert_eq!(batches.iter().map(|(tenant, _)| tenant).collect::<Vec<_>>(), [2]);
        for id in 0..PER_TENANT_MAX as u128 + 5 {
            batches.note(a, SeenBatch { id, at_ms: 700_000 });
        }
        assert!(!batches.has(a, 4, 700_000) && batches.has(a, 5, 700_000));
        assert_eq!(batches.0[&a].order.len(), PER_TENANT_MAX);
        assert_eq!(batches.0[&a].ids.len(), PER_TENANT_MAX);
    }
}
