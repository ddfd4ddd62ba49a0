//! The metadata that a destination is told: of all families, again and again, although a record has
//! it only when it is news.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::Metadata;
use tenancy::TenantId;

/// Families remembered, over all tenants; beyond it all are forgotten and learnt anew as they are
/// told again. About 200 bytes each.
const FAMILIES_MAX: usize = 100_000;

/// Parts of a family that are series of their own.
const PARTS: [&str; 7] = ["_bucket", "_count", "_sum", "_total", "_gcount", "_gsum", "_info"];

/// The families of all tenants.
#[derive(Debug, Default)]
pub(super) struct Known {
    tenants: HashMap<TenantId, OfTenant>,
    count: usize,
}

#[derive(Debug, Default)]
struct OfTenant {
    families: BTreeMap<String, Metadata>,
    /// When all of them were told last, in monotonic time.
    told: Option<Duration>,
}

impl Known {
    pub(super) fn learn(&mut self, tenant: TenantId, family: &str, told: &Metadata) {
        if self.count >= FAMILIES_MAX {
            *self = Self::default();
        }
        let families = &mut self.tenants.entry(tenant).or_default().families;
        if families.get(family) != Some(told) {
            let before = families.insert(family.to_owned(), told.clone());
            self.count += usize::from(before.is_none());
        }
    }

    /// The metadata of a series: that of its name, or of the family it is a part of.
    pub(super) fn of_series(&self, tenant: TenantId, name: &str) -> Option<&Metadata> {
        let families = &self.tenants.get(&tenant)?.families;
        let of_part = || PARTS.iter().find_map(|part| families.get(name.strip_suffix(part)?));
        families.get(name).or_else(of_part)
    }

    /// All families of a tenant, if they were not told for so long; they count as told then.
    pub(super) fn due(
        &mut self,
        tenant: TenantId,
        interval: Duration,
        now: Duration,
    ) -> Vec<(String, Metadata)> {
        let Some(known) = self.tenants.get_mut(&tenant) else { return Vec::new() };
        if known.told.is_some_and(|told| now.saturating_sub(told) < interval) {
            return Vec::new();
        }
        known.told = Some(now);
        known.families.iter().map(|(family, told)| (family.clone(), told.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_find_the_family_they_are_a_part_of() {
        let mut known = Known::default();
        for family in ["h", "c_total", "c"] {
            let told = Metadata { help: family.to_owned(), ..Metadata::default() };
            known.learn(TenantId(1), family, &told);
        }
        for (name, family) in
            [("h", "h"), ("h_bucket", "h"), ("c_total", "c_total"), ("c_sum", "c"), ("x", "")]
        {
            let found = known.of_series(TenantId(1), name).map_or("", |told| &told.help);
            assert_eq!(found, family, "{name}");
        }
        assert!(known.of_series(TenantId(2), "h").is_none());
    }

    #[test]
    fn all_are_told_once_an_interval() {
        let (mut known, minute) = (Known::default(), Duration::from_secs(60));
        let due = |known: &mut Known, seconds| {
            known.due(TenantId(1), minute, Duration::from_secs(seconds)).len()
        };
        assert_eq!(due(&mut known, 0), 0);
        known.learn(TenantId(1), "h", &Metadata::default());
        known.learn(TenantId(1), "h", &Metadata::default());
        assert_eq!([due(&mut known, 5), due(&mut known, 64), due(&mut known, 65)], [1, 0, 1]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut known = Known::default();
        for i in 0..FAMILIES_MAX + 10 {
            known.learn(TenantId(1), &i.to_string(), &Metadata::default());
        }
        assert_eq!((known.count, known.tenants[&TenantId(1)].families.len()), (10, 10));
    }
}
