//! Rate limiters: token buckets, one pair for each tenant that writes.
//!
//! In any stretch of time a bucket lets through at most its burst and what the rate allows in that
//! time, to the last token: levels are integers, so nothing is gained or lost by rounding.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{Limits, TenantId};

/// One token in the unit levels are kept in: rates are whole thousandths of a token a second and
/// times whole nanoseconds, so that their product is exact.
const TOKEN: u128 = 1_000_000_000_000;

/// Tenants whose limiters are kept at a time unless they are all in use. A limiter takes some
/// 200 bytes.
const TENANTS_KEPT_MAX: usize = 100_000;

/// A token bucket. Time is passed in: [`model::Clock::monotonic`], always of the same clock.
#[derive(Debug)]
pub struct RateLimiter {
    /// Thousandths of a token a second.
    rate: u64,
    /// Most that can be in the bucket.
    burst: u128,
    state: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    level: u128,
    filled_at: Duration,
}

/// More was asked for than the bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateExceeded {
    /// When to try again; `None` if that many can never pass at once.
    pub retry_after: Option<Duration>,
}

impl RateLimiter {
    /// A full bucket. Negative numbers count as zero.
    pub fn new(per_second: f64, burst: f64) -> Self {
        let (rate, burst) = sizes(per_second, burst);
        Self { rate, burst, state: Mutex::new(Bucket { level: burst, filled_at: Duration::ZERO }) }
    }

    /// Takes `count` tokens, or none if there are fewer.
    pub fn take(&self, now: Duration, count: u64) -> Result<(), RateExceeded> {
        let wanted = u128::from(count) * TOKEN;
        let mut bucket = self.state.lock();
        self.fill(&mut bucket, now);
        if let Some(left) = bucket.level.checked_sub(wanted) {
            bucket.level = left;
            return Ok(());
        }
        let missing = wanted - bucket.level;
        drop(bucket);
        let possible = wanted <= self.burst && self.rate > 0;
        let nanoseconds = || missing.div_ceil(u128::from(self.rate));
        let retry_after = possible
            .then(|| Duration::from_nanos(u64::try_from(nanoseconds()).unwrap_or(u64::MAX)));
        Err(RateExceeded { retry_after })
    }

    /// Takes up to `count` tokens and says how many.
    pub fn take_up_to(&self, now: Duration, count: u64) -> u64 {
        let mut bucket = self.state.lock();
        self.fill(&mut bucket, now);
        let there = u64::try_from(bucket.level / TOKEN).unwrap_or(u64::MAX);
        let taken = there.min(count);
        bucket.level -= u128::from(taken) * TOKEN;
        taken
    }

    fn fill(&self, bucket: &mut Bucket, now: Duration) {
        let since = now.saturating_sub(bucket.filled_at).as_nanos();
        bucket.filled_at = bucket.filled_at.max(now);
        let added = since.saturating_mul(u128::from(self.rate));
        bucket.level = bucket.level.saturating_add(added).min(self.burst);
    }

    /// Whether it is as if it had never been used.
    fn is_full(&self, now: Duration) -> bool {
        let mut bucket = self.state.lock();
        self.fill(&mut bucket, now);
        bucket.level == self.burst
    }

    fn is_for(&self, per_second: f64, burst: f64) -> bool {
        (self.rate, self.burst) == sizes(per_second, burst)
    }
}

fn sizes(per_second: f64, burst: f64) -> (u64, u128) {
    // Casts from floats saturate and make 0 of what is negative or not a number.
    (
        (per_second * 1000.0).round() as u64,
        u128::from((burst * 1000.0).round() as u64) * (TOKEN / 1000),
    )
}

/// The rate limiters of one tenant.
#[derive(Debug)]
pub struct TenantRates {
    /// Samples.
    pub samples: RateLimiter,
    /// New series.
    pub new_series: RateLimiter,
    /// Bytes of entries.
    pub entry_bytes: RateLimiter,
}

impl TenantRates {
    /// Full buckets as the limits say.
    pub fn of(limits: &Limits) -> Self {
        Self {
            samples: RateLimiter::new(limits.samples_per_second, limits.samples_burst),
            new_series: RateLimiter::new(limits.new_series_per_second, limits.new_series_burst),
            entry_bytes: RateLimiter::new(limits.entry_bytes_per_second, limits.entry_bytes_burst),
        }
    }

    fn are_for(&self, limits: &Limits) -> bool {
        self.samples.is_for(limits.samples_per_second, limits.samples_burst)
            && self.new_series.is_for(limits.new_series_per_second, limits.new_series_burst)
            && self.entry_bytes.is_for(limits.entry_bytes_per_second, limits.entry_bytes_burst)
    }

    fn are_full(&self, now: Duration) -> bool {
        self.samples.is_full(now) && self.new_series.is_full(now) && self.entry_bytes.is_full(now)
    }
}

/// The limiters of all tenants that wrote lately. Bounded: limiters that are full again are
/// forgotten, which changes nothing, since a new one is full as well.
#[derive(Debug)]
pub(crate) struct RatesTable {
    tenants: Mutex<HashMap<TenantId, Arc<TenantRates>>>,
    kept_max: usize,
}

impl Default for RatesTable {
    fn default() -> Self {
        Self { tenants: Mutex::default(), kept_max: TENANTS_KEPT_MAX }
    }
}

impl RatesTable {
    /// The limiters of a tenant: the same for all its writers while its limits stay.
    pub(crate) fn of(&self, tenant: TenantId, limits: &Limits, now: Duration) -> Arc<TenantRates> {
        let mut tenants = self.tenants.lock();
        if let Some(known) = tenants.get(&tenant).filter(|rates| rates.are_for(limits)) {
            return Arc::clone(known);
        }
        if tenants.len() >= self.kept_max {
            tenants.retain(|_, rates| Arc::strong_count(rates) > 1 || !rates.are_full(now));
        }
        if tenants.len() >= self.kept_max {
            // All in use: room is made for a tenth at a time, so that not every write pays for it.
            let leaving: Vec<TenantId> =
                tenants.keys().copied().take(self.kept_max.div_ceil(10)).collect();
            leaving.iter().for_each(|tenant| drop(tenants.remove(tenant)));
        }
        let rates = Arc::new(TenantRates::of(limits));
        tenants.insert(tenant, Arc::clone(&rates));
        rates
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bursts_are_exact_and_waits_are_told() {
        let limiter = RateLimiter::new(10.0, 5.0);
        assert_eq!(
            limiter.take(ms(0), 6),
            Err(RateExceeded { retry_after: None }),
            "more than the burst"
        );
        assert_eq!(limiter.take(ms(0), 5), Ok(()));
        assert_eq!(limiter.take(ms(0), 1), Err(RateExceeded { retry_after: Some(ms(100)) }));
        assert_eq!(limiter.take(ms(99), 1), Err(RateExceeded { retry_after: Some(ms(1)) }));
        assert_eq!(limiter.take(ms(100), 1), Ok(()));
        assert_eq!(
            limiter.take(ms(50), 1),
            Err(RateExceeded { retry_after: Some(ms(100)) }),
            "time goes back"
        );
        assert_eq!(limiter.take_up_to(ms(350), 9), 2);
        assert_eq!(limiter.take_up_to(ms(400), 9), 1, "the half token was kept");
        assert_eq!(limiter.take_up_to(Duration::MAX, 9), 5, "never more than the burst");
    }

    #[test]
    fn odd_rates_are_harmless() {
        let never = RateLimiter::new(0.0, 1.0);
        assert_eq!(never.take(ms(0), 1), Ok(()));
        assert_eq!(never.take(Duration::MAX, 1), Err(RateExceeded { retry_after: None }));
        for odd in [f64::NAN, -1.0, f64::NEG_INFINITY] {
            assert_eq!(RateLimiter::new(odd, odd).take_up_to(ms(1), 1), 0);
        }
        let endless = RateLimiter::new(f64::INFINITY, f64::INFINITY);
        assert_eq!(endless.take(ms(1), u64::from(u32::MAX)), Ok(()));
    }

    proptest! {
        /// Whatever is asked for and when: in no window does more pass than burst plus rate times
        /// the window's length, and one that asks for single tokens as fast as it can gets all of it.
        #[test]
        fn no_window_passes_more(
            rate in 1_u64..5_000,
            burst in 1_u64..1_000,
            asks in prop::collection::vec((0_u64..50_000_000, 1_u64..200), 1..120),
        ) {
            let limiter = RateLimiter::new(rate as f64, burst as f64);
            let (mut now, mut passed) = (Duration::ZERO, Vec::new());
            for (i, (pause_ns, count)) in asks.iter().enumerate() {
                now += Duration::from_nanos(*pause_ns);
                let taken = if i % 2 == 0 {
                    limiter.take_up_to(now, *count)
                } else {
                    limiter.take(now, *count).map_or(0, |()| *count)
                };
                passed.push((now, taken));
                let mut sum = 0;
                for (then, taken) in passed.iter().rev() {
                    sum += taken;
                    let allowed = u128::from(burst) * 1_000_000_000 + u128::from(rate) * (now - *then).as_nanos();
                    prop_assert!(u128::from(sum) * 1_000_000_000 <= allowed);
                }
            }
        }

        #[test]
        fn waiting_as_told_is_enough_and_needed(rate in 1_u64..3_000_000, burst in 1_u64..100) {
            let limiter = RateLimiter::new(rate as f64, burst as f64);
            limiter.take(ms(7), burst).unwrap();
            let wait = limiter.take(ms(7), 1).unwrap_err().retry_after.unwrap();
            prop_assert!(limiter.take(ms(7) + wait - Duration::from_nanos(1), 1).is_err());
            prop_assert!(limiter.take(ms(7) + wait, 1).is_ok());
        }
    }

    #[test]
    fn the_table_is_bounded_and_forgets_only_what_is_idle() {
        let table = RatesTable { tenants: Mutex::default(), kept_max: 10 };
        let limits = Limits { samples_per_second: 1.0, samples_burst: 10.0, ..Limits::default() };
        let busy = table.of(TenantId(1), &limits, ms(0));
        busy.samples.take(ms(0), 10).unwrap();
        drop(busy);
        (2..10).for_each(|id| drop(table.of(TenantId(id), &limits, ms(0))));
        (10..15).for_each(|id| drop(table.of(TenantId(id), &limits, ms(0))));
        assert!(table.tenants.lock().len() <= 10);
        assert!(
            table.of(TenantId(1), &limits, ms(0)).samples.take(ms(0), 1).is_err(),
            "the busy one was kept"
        );
        let more = Limits { samples_burst: 20.0, ..limits };
        assert!(
            table.of(TenantId(1), &more, ms(0)).samples.take(ms(0), 20).is_ok(),
            "new limits, new bucket"
        );
        for id in 100..200 {
            table.of(TenantId(id), &more, ms(0)).samples.take(ms(0), 1).unwrap();
            assert!(table.tenants.lock().len() <= 10, "bounded though none is idle");
        }
    }
}
