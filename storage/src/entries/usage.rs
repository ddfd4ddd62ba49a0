//! Streams of each tenant that had entries within the last hour: what their limit is about.

use hashbrown::HashMap;
use model::{SeriesId, Signal};
use parking_lot::Mutex;
use tenancy::TenantId;

/// How long after its last entry a stream counts as active.
pub(crate) const ACTIVE_MS: i64 = 3_600_000;

/// When each stream last had entries.
#[derive(Debug, Default)]
pub(crate) struct ActiveStreams(Mutex<HashMap<TenantId, OfTenant>>);

type OfTenant = HashMap<(Signal, SeriesId), i64>;

/// What asking for a stream found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It is active already.
    Known,
    /// It was not, and is now.
    New,
    /// The tenant has as many as it may have.
    TooMany,
}

impl ActiveStreams {
    /// Whether a stream is active. It stays so.
    pub(crate) fn touch(
        &self,
        tenant: TenantId,
        signal: Signal,
        id: SeriesId,
        now_ms: i64,
    ) -> bool {
        let mut all = self.0.lock();
        let Some(last) = all.get_mut(&tenant).and_then(|known| known.get_mut(&(signal, id))) else {
            return false;
        };
        let is_active = *last > now_ms - ACTIVE_MS;
        if is_active {
            *last = now_ms;
        }
        is_active
    }

    /// Makes a stream active, if the tenant may have one more.
    pub(crate) fn admit(
        &self,
        tenant: TenantId,
        signal: Signal,
        id: SeriesId,
        now_ms: i64,
        max: u64,
    ) -> Activity {
        let mut all = self.0.lock();
        let known = all.entry(tenant).or_default();
        if known.get(&(signal, id)).is_some_and(|last| *last > now_ms - ACTIVE_MS) {
            return Activity::Known;
        }
        if known.len() as u64 >= max {
            // Only here, where it matters, are those let go that went quiet.
            known.retain(|_, last| *last > now_ms - ACTIVE_MS);
            if known.len() as u64 >= max {
                return Activity::TooMany;
            }
        }
        known.insert((signal, id), now_ms);
        Activity::New
    }

    /// Lets go of streams that went quiet.
    pub(crate) fn forget_quiet(&self, now_ms: i64) {
        self.0.lock().retain(|_, known| {
            known.retain(|_, last| *last > now_ms - ACTIVE_MS);
            !known.is_empty()
        });
    }

    /// Active streams of all tenants.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().values().map(|known| known.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_went_quiet_make_room() {
        let streams = ActiveStreams::default();
        let admit = |tenant, id, now_ms| {
            streams.admit(TenantId(tenant), Signal::Logs, SeriesId(id), now_ms, 2)
        };
        assert_eq!((admit(1, 1, 0), admit(1, 2, 10)), (Activity::New, Activity::New));
        assert_eq!((admit(1, 1, 20), admit(1, 3, 20)), (Activity::Known, Activity::TooMany));
        assert_eq!(admit(2, 3, 20), Activity::New, "each tenant has a limit of its own");
        assert!(streams.touch(TenantId(1), Signal::Logs, SeriesId(2), ACTIVE_MS));
        assert!(!streams.touch(TenantId(1), Signal::Audits, SeriesId(2), ACTIVE_MS));
        assert_eq!(
            admit(1, 3, ACTIVE_MS),
            Activity::New,
            "the first went quiet, the second did not"
        );
        assert_eq!(admit(1, 1, ACTIVE_MS), Activity::TooMany);
        assert_eq!(streams.count(), 3);
        streams.forget_quiet(3 * ACTIVE_MS);
        assert_eq!(streams.count(), 0);
    }
}
