//! A store for tests: on a disk in memory, with time set by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Clock, Labels, METRIC_NAME, Matcher, TimeRange};
use storage::retention::{Rule, TenantRules};
use storage::{
    Appended, Config, DownsamplingConfig, FarObjects, MetricRows, Parts, Select, Selection,
    SeriesRows, Storage,
};
use tenancy::{Limits, ReadScope, Retention, TenantId, WriteScope};
use testkit::{FaultyDisk, ManualClock, SeededRandom};

/// When tests happen. Milliseconds.
pub(crate) const NOW_MS: i64 = 1_800_000_000_000;

/// What a store stands on, to open it again.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) disk: FaultyDisk,
    pub(crate) clock: Arc<ManualClock>,
}

impl Default for Ground {
    fn default() -> Self {
        Self { disk: FaultyDisk::default(), clock: Arc::new(ManualClock::new(NOW_MS)) }
    }
}

/// Few partitions and small files: every border is crossed.
pub(crate) fn config() -> Config {
    // With windows, so that faults and crashes meet them as well.
    let downsampling = DownsamplingConfig { enabled: true };
    let storage = Config { downsampling, disk_reserve_bytes: 0, ..Config::default() };
    Config { partitions: 3, log_segment_bytes: 1 << 16, ..storage }
}

impl Ground {
    pub(crate) async fn open(&self) -> Result<Arc<Storage>, storage::Error> {
        self.open_with(config()).await
    }

    pub(crate) async fn open_with(&self, config: Config) -> Result<Arc<Storage>, storage::Error> {
        self.open_on(config, None, 7).await
    }

    /// Opens it over objects that lie elsewhere; what is made up differs by seed.
    pub(crate) async fn open_on(
        &self,
        config: Config,
        objects: Option<FarObjects>,
        seed: u64,
    ) -> Result<Arc<Storage>, storage::Error> {
        let parts = Parts {
            disk: Arc::new(self.disk.clone()),
            objects,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(seed)),
        };
        Storage::open(config, parts).await
    }
}

/// A sample to write: series number, instant, value.
pub(crate) type Row = (u32, i64, f64);

/// Series from this number on are buckets of classic histograms, five of each.
pub(crate) const BUCKETS: u32 = 1_000_000;

/// The labels of a numbered series.
pub(crate) fn labels_of(number: u32) -> Labels {
    if let Some(bucket) = number.checked_sub(BUCKETS) {
        let pod = format!("box-{}", bucket / 5);
        let le = ["+Inf", "0.1", "1", "10", "2.5"][bucket as usize % 5];
        let name = "seconds_bucket";
        return Labels::from_pairs([(METRIC_NAME, name), ("le", le), ("pod", &pod), ("zone", "a")]);
    }
    let (name, pod) = (format!("metric_{}", number % 5), format!("pod-{number}"));
    Labels::from_pairs([
        (METRIC_NAME, name.as_str()),
        ("pod", &pod),
        ("zone", ["a", "b"][number as usize % 2]),
    ])
}

/// Since when a sample of a numbered series counts: some series never say, the others not in every
/// minute, so that requests with and without start timestamps follow on each other.
pub(crate) fn start_ms(number: u32, timestamp_ms: i64) -> i64 {
    match number % 5 {
        _ if timestamp_ms / 60_000 % 2 == 0 => 0,
        1 => NOW_MS - 700_000,
        2 => timestamp_ms - 15_000,
        _ => 0,
    }
}

pub(crate) fn write_scope(tenant: u32) -> WriteScope {
    WriteScope::for_test(tenant, &format!("team-{tenant}"), Limits::default())
}

/// Writes samples, each as a series of its own in the request; not synced yet.
pub(crate) fn append(
    storage: &Storage,
    tenant: u32,
    rows: &[Row],
) -> Result<Appended, storage::Error> {
    let mut body = Vec::new();
    let mut request = MetricRows::default();
    for (i, &(series, timestamp_ms, value)) in (0u32..).zip(rows) {
        let start = body.len() as u32;
        labels_of(series).encode(&mut body);
        let sample = model::Sample { timestamp_ms, value };
        request.push_sample(sample, start_ms(series, timestamp_ms));
        let (labels, samples) = (start..body.len() as u32, i..i + 1);
        request.series.push(SeriesRows { labels, samples, ..SeriesRows::default() });
    }
    storage.append(&write_scope(tenant), &MetricRows { body: &body, ..request })
}

/// Writes samples and waits until they are durable.
pub(crate) async fn write(
    storage: &Storage,
    tenant: u32,
    rows: &[Row],
) -> Result<Appended, storage::Error> {
    let appended = append(storage, tenant, rows)?;
    if let Some(position) = appended.position {
        storage.durable(position).await?;
    }
    Ok(appended)
}

/// Everything a scope may read of matching series: labels, and samples as (instant, bits). Their
/// start timestamps must be what they were written with.
pub(crate) async fn read(
    storage: &Storage,
    scope: &ReadScope,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<Vec<(String, Vec<(i64, u64)>)>, storage::Error> {
    let selection = storage.select(scope, &Select { matchers: matchers.to_vec(), range }).await?;
    let mut all = Vec::new();
    for start in (0..selection.len()).step_by(3) {
        let part = start..(start + 3).min(selection.len());
        let decoded = selection.fetch(part.clone()).await?.decode()?;
        for (i, samples) in part.zip(decoded) {
            let points =
                samples.timestamps.iter().copied().zip(samples.values.iter().map(|v| v.to_bits()));
            let points: Vec<_> = points.collect();
            let pod = selection.labels(i).get("pod").and_then(|pod| pod.strip_prefix("pod-"));
            if let Some(number) = pod.and_then(|number| number.parse().ok()) {
                for at in samples.timestamps.iter() {
                    assert_eq!(
                        samples.starts.at(*at),
                        start_ms(number, *at),
                        "pod-{number} at {at}"
                    );
                }
            }
            if !points.is_empty() {
                all.push((selection.labels(i).to_string(), points));
            }
        }
    }
    Ok(all)
}

/// A question for all series of a tenant whose samples were not read yet.
pub(crate) async fn begin(storage: &Storage, tenant: u32) -> Selection {
    let scope = ReadScope::for_test(&[(tenant, &format!("team-{tenant}"))]);
    let request = Select { matchers: Vec::new(), range: TimeRange::ALL };
    storage.select(&scope, &request).await.expect("series")
}

/// Rules by tenant; the others keep everything.
#[derive(Debug, Default)]
pub(crate) struct Rules(pub(crate) BTreeMap<u32, Rule>);

impl TenantRules for Rules {
    fn rule_of(&self, tenant: TenantId) -> Rule {
        self.0.get(&tenant.0).copied().unwrap_or(Rule::Keep(Retention::default()))
    }

    fn deleted(&self) -> Vec<TenantId> {
        self.0.iter().filter(|(_, rule)| **rule == Rule::Gone).map(|(t, _)| TenantId(*t)).collect()
    }
}
