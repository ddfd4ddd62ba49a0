//! Metadata that was stored lately. Remote write 2.0, OTLP and scrapes repeat a family's metadata
//! with each request; here it is looked up without asking a partition, and dropped.
//!
//! A wrong "known" would only delay metadata until the entry ages out, so hashes are enough.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use model::{Clock, MetricKind};
use parking_lot::Mutex;
use tenancy::TenantId;

/// After this long metadata counts as news again, whatever became of it in storage.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Families remembered, over all tenants: 16 bytes each.
const FAMILIES_MAX: usize = 256 << 10;

/// The memory of all doors.
pub struct KnownFamilies {
    clock: Arc<dyn Clock>,
    /// Keyed by chance at each start: nobody can make up families that hide others'.
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    hashes: HashSet<u64>,
    /// How often what a tenant had told was forgotten: part of its hashes.
    forgotten: HashMap<TenantId, u64>,
    since: Duration,
}

impl std::fmt::Debug for KnownFamilies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownFamilies").finish_non_exhaustive()
    }
}

impl KnownFamilies {
    /// Knows nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, hasher: RandomState::new(), known: Mutex::default() }
    }

    /// Whether this is not known yet; it is from now on.
    pub(crate) fn is_news(
        &self,
        tenant: TenantId,
        family: &str,
        (kind, help, unit): (MetricKind, &str, &str),
    ) -> bool {
        let now = self.clock.monotonic();
        let mut known = self.known.lock();
        if now.saturating_sub(known.since) > REMEMBERED || known.hashes.len() >= FAMILIES_MAX {
            known.hashes.clear();
            known.since = now;
        }
        let forgotten = known.forgotten.get(&tenant).copied().unwrap_or(0);
        let told = (tenant, forgotten, family, kind as u8, help, unit);
        let hash = self.hasher.hash_one(told);
        known.hashes.insert(hash)
    }

    /// Forgets what a tenant told: what was taken for stored was not.
    pub(crate) fn forget(&self, tenant: TenantId) {
        *self.known.lock().forgotten.entry(tenant).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use testkit::ManualClock;

    use super::*;

    #[test]
    fn news_are_told_once_for_a_while() {
        let clock = Arc::new(ManualClock::new(0));
        let families = KnownFamilies::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let is_news = |tenant: u32, family: &str, help: &str| {
            families.is_news(TenantId(tenant), family, (MetricKind::Gauge, help, ""))
        };
        assert!(is_news(1, "up", "a"));
        assert!(!is_news(1, "up", "a"));
        assert!(is_news(2, "up", "a"), "tenants are apart");
        assert!(is_news(1, "up", "b") && is_news(1, "down", "a"));
        assert!(!is_news(1, "up", "a"));
        clock.advance(REMEMBERED + Duration::from_secs(1));
        assert!(is_news(1, "up", "a"), "it may be lost by now");
        families.forget(TenantId(1));
        assert!(is_news(1, "up", "a"));
        assert!(is_news(2, "up", "a") && !is_news(2, "up", "a"), "others are not concerned");
        families.forget(TenantId(1));
        assert!(!is_news(2, "up", "a"));
    }
}
