//! Admission: how many samples a second a tenant may write, and what it was refused.
//!
//! The whole request is admitted or refused before any of it is stored, so that a sender that
//! repeats it repeats all of it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use storage::{AppendOutcome, Reason};
use tenancy::{TenantId, WriteScope};

use crate::metrics::RefusedRequest;

/// A tenant has used up its samples for now.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "tenant {tenant} may write {per_second} samples a second (samples_per_second) and {burst} at once \
     (samples_burst); this request of {samples} came too early"
)]
pub struct RateRefused {
    /// The tenant's name.
    pub tenant: String,
    /// The limit.
    pub per_second: f64,
    /// The limit for what comes at once.
    pub burst: f64,
    /// Samples in the request.
    pub samples: u64,
    /// When the request would be admitted.
    pub retry_after: Duration,
}

/// Rates and refusals of all tenants. One entry per tenant that has written: about 100 bytes, and
/// 300 more once something was refused.
#[derive(Debug, Default)]
pub struct Admission {
    rates: Mutex<HashMap<TenantId, Bucket>>,
    refused: Mutex<HashMap<TenantId, Vec<(&'static str, u64)>>>,
}

/// Samples a tenant may still write, as of some moment.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Negative after a request larger than what was left of the burst.
    samples: f64,
    as_of: Duration,
}

impl Bucket {
    /// Takes `samples` or says how long to wait. A request above the burst is admitted when the
    /// bucket is full, and paid for afterwards: it could never be sent otherwise.
    fn take(
        &mut self,
        samples: f64,
        per_second: f64,
        burst: f64,
        now: Duration,
    ) -> Result<(), Duration> {
        let elapsed = now.saturating_sub(self.as_of).as_secs_f64();
        self.samples = (self.samples + elapsed * per_second).min(burst);
        self.as_of = self.as_of.max(now);
        let missing = samples.min(burst) - self.samples;
        if missing > 0.0 {
            // Rates near zero would give a time that no duration holds.
            let wait = (missing / per_second.max(1e-9)).clamp(0.001, 3_600.0);
            return Err(Duration::from_secs_f64(wait));
        }
        self.samples -= samples;
        Ok(())
    }
}

impl Admission {
    /// Admits a request of `samples` at monotonic time `now`.
    pub fn admit(
        &self,
        scope: &WriteScope,
        samples: u64,
        now: Duration,
    ) -> Result<(), RateRefused> {
        let limits = scope.limits();
        let (per_second, burst) = (limits.samples_per_second, limits.samples_burst);
        let mut rates = self.rates.lock();
        let bucket = rates.entry(scope.tenant()).or_insert(Bucket { samples: burst, as_of: now });
        bucket.take(samples as f64, per_second, burst, now).map_err(|retry_after| RateRefused {
            tenant: scope.name().to_string(),
            per_second,
            burst,
            samples,
            retry_after,
        })
    }

    /// Counts a request that was refused whole.
    pub(crate) fn refused(&self, tenant: TenantId, why: RefusedRequest) {
        self.count(tenant, why.as_str(), 1);
    }

    /// Counts rows that were refused one by one.
    pub(crate) fn rejected(&self, tenant: TenantId, outcome: &AppendOutcome) {
        for rejected in &outcome.rejected {
            self.count(tenant, Reason::as_str(rejected.reason), rejected.count);
        }
    }

    fn count(&self, tenant: TenantId, reason: &'static str, count: u64) {
        let mut refused = self.refused.lock();
        let counts = refused.entry(tenant).or_default();
        match counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, known)) => *known += count,
            None => counts.push((reason, count)),
        }
    }

    /// What one tenant was refused since the start: requests and rows, by reason.
    pub fn refusals(&self, tenant: TenantId) -> Vec<(&'static str, u64)> {
        self.refused.lock().get(&tenant).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use tenancy::Limits;

    use super::*;

    /// Requests of (second, samples) and whether each is admitted, or for how many seconds not.
    #[track_caller]
    fn check(per_second: f64, burst: f64, requests: &[(f64, u64, f64)]) {
        let limits =
            Limits { samples_per_second: per_second, samples_burst: burst, ..Limits::default() };
        let scope = WriteScope::for_test(1, "a", limits);
        let admission = Admission::default();
        for &(second, samples, wait) in requests {
            let admitted = admission.admit(&scope, samples, Duration::from_secs_f64(second));
            let waited =
                admitted.map_or_else(|refused| refused.retry_after.as_secs_f64(), |()| 0.0);
            assert!(
                (waited - wait).abs() < 1e-6,
                "{samples} at {second} s: {waited} s, expected {wait} s"
            );
        }
    }

    #[test]
    fn samples_are_admitted_by_rate_and_burst() {
        check(
            10.0,
            100.0,
            &[(0.0, 100, 0.0), (0.0, 1, 0.1), (0.1, 1, 0.0), (0.1, 50, 5.0), (5.1, 50, 0.0)],
        );
        check(10.0, 100.0, &[(0.0, 60, 0.0), (1000.0, 100, 0.0), (1000.0, 100, 10.0)]);
        check(10.0, 100.0, &[(0.0, 300, 0.0), (20.0, 1, 0.1), (20.1, 1, 0.0)]);
        check(10.0, 100.0, &[(0.0, 1, 0.0), (0.0, 300, 0.1), (0.1, 300, 0.0)]);
        check(0.0, 5.0, &[(0.0, 5, 0.0), (9.0, 1, 3_600.0)]);
        check(10.0, 5.0, &[(9.0, 5, 0.0), (8.0, 5, 0.5), (9.5, 5, 0.0)]); // a clock that goes back gives nothing
    }

    #[test]
    fn tenants_are_apart_and_refusals_counted() {
        let limits = Limits { samples_per_second: 1.0, samples_burst: 1.0, ..Limits::default() };
        let (a, b) =
            (WriteScope::for_test(1, "a", limits.clone()), WriteScope::for_test(2, "b", limits));
        let admission = Admission::default();
        assert!(admission.admit(&a, 1, Duration::ZERO).is_ok());
        assert!(admission.admit(&b, 1, Duration::ZERO).is_ok());
        let refused = admission.admit(&a, 1, Duration::ZERO).expect_err("the second sample");
        assert_eq!(
            refused.to_string(),
            "tenant a may write 1 samples a second (samples_per_second) and 1 at once (samples_burst); \
             this request of 1 came too early"
        );
        admission.refused(a.tenant(), RefusedRequest::SamplesRate);
        let mut outcome = AppendOutcome::default();
        outcome.reject(Reason::TooOld, 3, String::new);
        admission.rejected(a.tenant(), &outcome);
        assert_eq!(admission.refusals(a.tenant()), [("samples_rate", 1), ("too_old", 3)]);
        assert_eq!(admission.refusals(b.tenant()), []);
    }
}
