//! What each tenant uses of the heads: counted here because a tenant's series are spread over all
//! partitions, while its limits hold for their sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use model::Clock;
use parking_lot::{Mutex, RwLock};
use tenancy::{Limits, TenantId};

use crate::Reason;
use crate::head::Head;

/// Usage of all tenants that ever wrote to this process.
#[derive(Debug)]
pub(crate) struct Usage {
    clock: Arc<dyn Clock>,
    tenants: RwLock<HashMap<TenantId, Arc<TenantUsage>>>,
}

/// Usage of one tenant.
#[derive(Debug, Default)]
pub(crate) struct TenantUsage {
    active_series: AtomicU64,
    new_series: Mutex<Bucket>,
}

/// Tokens for new series.
#[derive(Debug, Default)]
struct Bucket {
    /// Tokens left; `None` before the first use, when the bucket is full.
    tokens: Option<f64>,
    /// When they were counted. Seconds of the monotonic clock.
    counted_at: f64,
}

impl Usage {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tenants: RwLock::default() }
    }

    /// The counters of one tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> Arc<TenantUsage> {
        if let Some(known) = self.tenants.read().get(&tenant) {
            return Arc::clone(known);
        }
        Arc::clone(self.tenants.write().entry(tenant).or_default())
    }

    /// Takes one new series into account, if the tenant may have it.
    pub(crate) fn admit(&self, usage: &TenantUsage, limits: &Limits) -> Result<(), Reason> {
        if usage.active_series.load(Ordering::Relaxed) >= limits.active_series_max {
            return Err(Reason::ActiveSeriesLimit);
        }
        let now = self.clock.monotonic().as_secs_f64();
        if !usage.new_series.lock().take(now, limits) {
            return Err(Reason::NewSeriesRate);
        }
        usage.active_series.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes back the series that a head dropped, by its counts before and after.
    pub(crate) fn dropped(&self, before: &HashMap<TenantId, u64>, after: &HashMap<TenantId, u64>) {
        for (tenant, series) in before {
            let gone = series.saturating_sub(after.get(tenant).copied().unwrap_or(0));
            if gone > 0 {
                self.of(*tenant).subtract(gone);
            }
        }
    }

    /// Active series of all tenants.
    pub(crate) fn active_series(&self) -> u64 {
        self.tenants.read().values().map(|t| t.active_series.load(Ordering::Relaxed)).sum()
    }
}

/// Series of each tenant in one head.
pub(crate) fn tenant_series(head: &Head) -> HashMap<TenantId, u64> {
    head.tenants().map(|tenant| (tenant, head.tenant_series_held(tenant))).collect()
}

impl TenantUsage {
    /// Series that were not admitted one by one: found again at start.
    pub(crate) fn add(&self, series: u64) {
        self.active_series.fetch_add(series, Ordering::Relaxed);
    }

    /// Series that left the head.
    pub(crate) fn subtract(&self, series: u64) {
        let less = |n: u64| Some(n.saturating_sub(series));
        let _ = self.active_series.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

impl Bucket {
    fn take(&mut self, now: f64, limits: &Limits) -> bool {
        let full = limits.new_series_burst.max(1.0);
        let tokens = self.tokens.map_or(full, |tokens| {
            (tokens + (now - self.counted_at).max(0.0) * limits.new_series_per_second).min(full)
        });
        let allowed = tokens >= 1.0;
        (self.tokens, self.counted_at) = (Some(if allowed { tokens - 1.0 } else { tokens }), now);
        allowed
    }
}
