//! Which series are alive, asked without their values: what the heads say of it, and what is said
//! of samples, against the map.

use std::collections::BTreeMap;

use ::model::{Clock, Labels, METRIC_NAME, Matcher, TENANT_LABEL, TimeRange, is_stale};
use storage::{CountLive, GroupBy, LiveGroups, Liveness, Select};
use tenancy::ReadScope;

use super::{World, scope_of};
use crate::store::labels_of;

impl World {
    /// Counts by random labels at an instant about now, if heads can tell.
    pub(super) fn count_live(&mut self) {
        let tenants: &[u32] = [&[1][..], &[2], &[1, 2]][self.below(3) as usize];
        let (scope, matchers) = (scope_of(tenants), self.matchers());
        let now = self.ground.clock.now_ms();
        let end_ms = now - 15_000 + self.below(20_000) as i64;
        let start_ms = end_ms - [3_000, 30_000, 300_000][self.below(3) as usize] + 1;
        let window = TimeRange { start_ms, end_ms };
        let sets =
            [&[][..], &["pod"], &["zone"], &["absent", "zone"], &[METRIC_NAME, TENANT_LABEL]];
        let labels = sets[self.below(sets.len() as u64) as usize];
        let labels = labels.iter().map(|name| (*name).to_owned()).collect();
        let by = GroupBy { labels, without: self.random.chance(40) };
        let request = CountLive { matchers: matchers.clone(), window, by: by.clone() };
        let counted = self.storage.count_live(&scope, &request, &Default::default());
        let Some(LiveGroups { groups, series }) = counted.expect("a sound disk") else { return };
        let mut expected: BTreeMap<Labels, u64> = BTreeMap::new();
        for (labels, samples) in self.rows_in(tenants, &matchers, window) {
            if samples.last().is_some_and(|(_, bits)| !is_stale(f64::from_bits(*bits))) {
                let keep = |name: &str| match by.without {
                    true => name != METRIC_NAME && !by.labels.iter().any(|l| l == name),
                    false => by.labels.iter().any(|l| l == name),
                };
                let group = Labels::from_pairs(labels.iter().filter(|(name, _)| keep(name)));
                *expected.entry(group).or_default() += 1;
            }
        }
        self.seen.counted_series += series;
        assert_eq!(series, expected.values().sum::<u64>());
        let expected: Vec<(Labels, u64)> = expected.into_iter().collect();
        assert_eq!(groups, expected, "{tenants:?} {matchers:?} {window:?} {by:?}");
    }

    /// Instants and stale markers are those of the samples.
    pub(super) async fn check_liveness(
        &self,
        scope: &ReadScope,
        matchers: &[Matcher],
        range: TimeRange,
    ) {
        let request = Select { matchers: matchers.to_vec(), range };
        let selection = self.storage.select(scope, &request).await.expect("a sound disk");
        let places = 0..selection.len();
        let samples = selection.fetch(places.clone()).await.expect("a sound disk").decode();
        let fetched = selection.fetch(places).await.expect("a sound disk");
        let liveness = fetched.decode_liveness().expect("sound blocks");
        for (samples, live) in samples.expect("sound blocks").into_iter().zip(liveness) {
            let Liveness::Floats { timestamps, stale } = live else {
                panic!("histograms out of floats")
            };
            assert_eq!(timestamps, samples.timestamps);
            let markers = (0u32..).zip(&samples.values).filter(|(_, value)| is_stale(**value));
            assert_eq!(stale, markers.map(|(at, _)| at).collect::<Vec<_>>());
        }
    }

    /// The rows of matching series, with their labels as a scope of these tenants shows them.
    fn rows_in(
        &self,
        tenants: &[u32],
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Vec<(Labels, Vec<(i64, u64)>)> {
        let mut rows: BTreeMap<(u32, u32), Vec<(i64, u64)>> = BTreeMap::new();
        for (&(tenant, series, ms), &bits) in &self.expected {
            if tenants.contains(&tenant) && range.contains(ms) {
                rows.entry((tenant, series)).or_default().push((ms, bits));
            }
        }
        let shown = |((tenant, series), samples): ((u32, u32), Vec<(i64, u64)>)| {
            let labels = labels_of(series);
            let all = matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")));
            let labels = match tenants.len() {
                1 => labels,
                _ => labels.to_builder().set(TENANT_LABEL, &format!("team-{tenant}")).build(),
            };
            all.then_some((labels, samples))
        };
        rows.into_iter().filter_map(shown).collect()
    }
}
