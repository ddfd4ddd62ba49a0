//! Admission: how many samples a second a tenant may write, and what it was refused.
//!
//! The whole request is admitted or refused before any of it is stored, so that a sender that
//! repeats it repeats all of it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use storage::entries::EntryOutcome;
use storage::{AppendOutcome, Reason};
use tenancy::{TenantId, WriteScope};

use crate::metrics::RefusedRequest;

/// A tenant has used up its samples for now.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "tenant {tenant} may write {per_second} samples a second (samples_per_second) and {burst} at once \
     (samples_burst); this request has {samples}"
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
    /// When the request would be admitted; `None` if never.
    pub retry_after: Option<Duration>,
}

impl RateRefused {
    /// Whether the request is larger than the burst: waiting does not help, parts would.
    pub(crate) fn is_too_large(&self) -> bool {
        self.samples as f64 > self.burst
    }
}

/// A tenant has used up its bytes of entries for now. The beginning is what Loki says, which
/// operators know.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "ingestion rate limit exceeded for user {tenant} (limit: {per_second} bytes/sec) while attempting to \
     ingest '{lines}' lines totaling '{bytes}' bytes; send less, or have entry_bytes_per_second or \
     entry_bytes_burst ({burst}) raised"
)]
pub struct EntryRateRefused {
    /// The tenant's name.
    pub tenant: String,
    /// The limit.
    pub per_second: f64,
    /// The limit for what comes at once.
    pub burst: f64,
    /// Entries in the request.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the request would be admitted; `None` if never.
    pub retry_after: Option<Duration>,
}

impl EntryRateRefused {
    /// Whether the request is larger than the burst: waiting does not help, parts would.
    pub(crate) fn is_too_large(&self) -> bool {
        self.bytes as f64 > self.burst
    }
}

/// What all tenants were refused: some 300 bytes for each that was refused anything.
#[derive(Debug, Default)]
pub struct Admission {
    refused: Mutex<HashMap<TenantId, Vec<(&'static str, u64)>>>,
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
        scope.rates().samples.take(now, samples).map_err(|exceeded| RateRefused {
            tenant: scope.name().to_string(),
            per_second: limits.samples_per_second,
            burst: limits.samples_burst,
            samples,
            retry_after: exceeded.retry_after,
        })
    }

    /// Admits entries of so many bytes at monotonic time `now`.
    pub(crate) fn admit_entries(
        &self,
        scope: &WriteScope,
        [lines, bytes]: [u64; 2],
        now: Duration,
    ) -> Result<(), EntryRateRefused> {
        let limits = scope.limits();
        scope.rates().entry_bytes.take(now, bytes).map_err(|exceeded| EntryRateRefused {
            tenant: scope.name().to_string(),
            per_second: limits.entry_bytes_per_second,
            burst: limits.entry_bytes_burst,
            lines,
            bytes,
            retry_after: exceeded.retry_after,
        })
    }

    /// Counts entries that were refused one by one.
    pub(crate) fn entries_rejected(&self, tenant: TenantId, outcome: &EntryOutcome) {
        for rejected in &outcome.rejected {
            self.count(tenant, rejected.reason.as_str(), rejected.count);
        }
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

    /// Requests of (second, samples) and what each is told.
    #[track_caller]
    fn check(per_second: f64, burst: f64, requests: &[(u64, u64, &str)]) {
        let limits =
            Limits { samples_per_second: per_second, samples_burst: burst, ..Limits::default() };
        let scope = WriteScope::for_test(1, "a", limits);
        for &(second, samples, told) in requests {
            let admitted = Admission::default().admit(&scope, samples, Duration::from_secs(second));
            let shown = match admitted {
                Ok(()) => "stored".to_owned(),
                Err(refused) if refused.is_too_large() => "too large".to_owned(),
                Err(RateRefused { retry_after, .. }) => format!("{retry_after:?}"),
            };
            assert_eq!(shown, told, "{samples} at {second} s");
        }
    }

    #[test]
    fn samples_are_admitted_by_rate_and_burst() {
        check(
            10.0,
            100.0,
            &[(0, 100, "stored"), (0, 20, "Some(2s)"), (2, 20, "stored"), (2, 1, "Some(100ms)")],
        );
        check(10.0, 100.0, &[(0, 101, "too large"), (0, 100, "stored")]);
        check(0.0, 5.0, &[(0, 5, "stored"), (9, 1, "None"), (9, 6, "too large")]);
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
             this request has 1"
        );
        admission.refused(a.tenant(), RefusedRequest::SamplesRate);
        let mut outcome = AppendOutcome::default();
        outcome.reject(Reason::TooOld, 3, String::new);
        admission.rejected(a.tenant(), &outcome);
        assert_eq!(admission.refusals(a.tenant()), [("samples_rate", 1), ("too_old", 3)]);
        assert_eq!(admission.refusals(b.tenant()), []);
    }
}
