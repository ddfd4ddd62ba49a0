//! Tests of blocks: against a brute-force model, with damage, and with many small tenants.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    Buckets, Exemplar, Histogram, Labels, MatchOp, Matcher, Pace, ResetHint, SeriesId, Span,
    TimeRange, stale_nan,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use roaring::RoaringBitmap;
use tenancy::TenantId;

use super::{
    Block, BlockCache, BlockOptions, BlockSummary, BlockWriter, OBJECT_NAMES, SeriesInput,
};
use crate::codec::Effort;
use crate::{Error, SeriesSamples, Starts};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// A series as the model keeps it.
#[derive(Debug, Clone)]
struct Series {
    tenant: TenantId,
    id: SeriesId,
    labels: Labels,
    timestamps: Vec<i64>,
    values: Vec<f64>,
    histograms: Vec<(i64, Arc<Histogram>)>,
    starts: Starts,
    exemplars: Vec<Exemplar>,
}

impl Series {
    fn input(&self) -> SeriesInput<'_> {
        SeriesInput {
            tenant: self.tenant,
            id: self.id,
            labels: self.labels.clone(),
            timestamps: &self.timestamps,
            values: &self.values,
            histograms: &self.histograms,
            starts: &self.starts,
            exemplars: &self.exemplars,
        }
    }
}

fn histogram(n: u64) -> Arc<Histogram> {
    Arc::new(Histogram {
        reset_hint: ResetHint::No,
        schema: 3,
        zero_threshold: 1e-128,
        sum: n as f64 * 1.5,
        positive_spans: vec![Span { offset: -2, length: 3 + u32::from(n > 50) }],
        negative_spans: vec![],
        buckets: Buckets::Integer {
            count: n,
            zero_count: n / 7,
            positive_deltas: vec![n as i64, -1, 2, 0][..3 + usize::from(n > 50)].to_vec(),
            negative_deltas: vec![],
        },
        custom_values: vec![],
    })
}

const START_MS: i64 = 1_700_000_000_000;

/// Four tenants, five metrics, groups of series with shared timestamps, every kind of value.
fn generate(random: &mut Random) -> Vec<Series> {
    let mut all = Vec::new();
    for tenant in [1, 2, 7, 4_000_000_000] {
        for target in 0..3 + random.below(4) {
            let length = *random.pick(&[1usize, 40, 900, 2500]);
            let mut at = START_MS + random.below(5000) as i64;
            let timestamps: Vec<i64> = (0..length)
                .map(|_| {
                    at += 15_000 + random.below(9) as i64;
                    at
                })
                .collect();
            for metric in ["up", "http_requests_total", "temperature", "noise", "latency"] {
                let mut pairs = vec![
                    ("__name__", metric.to_owned()),
                    ("instance", format!("node-{target}:9100")),
                ];
                if target % 2 == 0 {
                    pairs.push(("zone", ["a", "b", "ü"][target as usize % 3].to_owned()));
                }
                all.push(series_of(random, tenant, metric, Labels::from_pairs(pairs), &timestamps));
            }
            for method in ["get", "put"] {
                all.extend(buckets_of(random, tenant, target, method, &timestamps));
            }
        }
    }
    all.sort_by(|a, b| a.tenant.cmp(&b.tenant).then_with(|| a.labels.stored_order(&b.labels)));
    all
}

/// A classic histogram. Its buckets do not always have the same samples, nor only grow.
fn buckets_of(
    random: &mut Random,
    tenant: u32,
    target: u64,
    method: &str,
    instants: &[i64],
) -> Vec<Series> {
    let mut totals = vec![0.0; instants.len()];
    let bounds = ["0.1", "0.5", "1", "2.5", "10", "+Inf"];
    let common = starts_of(random, instants);
    let bucket = |(at, le): (usize, &&str)| {
        let labels = Labels::from_pairs([
            ("__name__", "request_seconds_bucket".to_owned()),
            ("instance", format!("node-{target}:9100")),
            ("le", (*le).to_owned()),
            ("method", method.to_owned()),
        ]);
        let (mut state, share) = (0, [40, 9, 3, 0, 1, 2][at]);
        for total in &mut totals {
            state += random.below(share + 1);
            *total += state as f64;
        }
        let mut values = totals.clone();
        let mut timestamps = instants.to_vec();
        match random.below(12) {
            0 => values.fill(7.0),
            1 => values[instants.len() / 2] = stale_nan(),
            2 => values.iter_mut().for_each(|v| *v /= 3.0),
            3 => values.iter_mut().skip(30).for_each(|v| *v -= 1000.0),
            4 => {
                timestamps.pop();
                values.pop();
            }
            _ => {}
        }
        let starts = match random.below(6) {
            0 => starts_of(random, instants),
            _ => common.clone(),
        };
        let (id, tenant) = (labels.series_id(), TenantId(tenant));
        let (histograms, exemplars) = (vec![], vec![]);
        Series { tenant, id, labels, timestamps, values, histograms, starts, exemplars }
    };
    bounds.iter().enumerate().map(bucket).collect()
}

fn series_of(
    random: &mut Random,
    tenant: u32,
    metric: &str,
    labels: Labels,
    instants: &[i64],
) -> Series {
    let mut state = 0.0;
    let mut value = |i: usize| {
        state += random.below(100) as f64;
        match metric {
            "up" if i % 701 == 700 => stale_nan(),
            "up" => 1.0,
            "http_requests_total" => state,
            "temperature" => (random.below(400) as f64 - 200.0) / 10.0,
            _ => f64::from_bits(random.next()),
        }
    };
    let mut values: Vec<f64> = (0..instants.len()).map(&mut value).collect();
    let mut timestamps = instants.to_vec();
    let mut histograms = Vec::new();
    if metric == "latency" {
        // Every third sample a float, the others histograms.
        histograms = (0..instants.len())
            .filter(|i| i % 3 != 0)
            .map(|i| (instants[i], histogram(i as u64)))
            .collect();
        timestamps = instants.iter().copied().step_by(3).collect();
        values.truncate(timestamps.len());
    }
    if metric == "noise" && random.below(2) == 0 {
        values.fill(-0.0);
    }
    let exemplars = if metric == "latency" {
        vec![Exemplar {
            labels: Labels::from_pairs([("trace_id", format!("{:x}", random.next()))]),
            value: -0.0,
            timestamp_ms: instants[0],
        }]
    } else {
        vec![]
    };
    let starts = starts_of(random, instants);
    // A sender whose label order was not ours has its own id.
    let id =
        if random.below(9) == 0 { SeriesId(u128::from(random.next())) } else { labels.series_id() };
    let tenant = TenantId(tenant);
    Series { tenant, id, labels, timestamps, values, histograms, starts, exemplars }
}

/// None, one for hours, those of delta points, or only some.
fn starts_of(random: &mut Random, instants: &[i64]) -> Starts {
    let kind = random.below(6);
    let start = |(i, at): (usize, i64)| match kind {
        0 => START_MS - 7_000,
        1 => at - 15_000,
        2 => START_MS + (i as i64 / 800) * 12_000_000,
        3 => (i as i64 / 1_100 % 2) * START_MS,
        _ => 0,
    };
    let samples = instants.iter().copied().enumerate();
    Starts::of_samples(samples.map(|(i, at)| (at, start((i, at)))).collect())
}

async fn write(store: &Arc<InMemory>, all: &[Series], options: BlockOptions) -> BlockSummary {
    let objects: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(store);
    let mut writer = BlockWriter::new(objects, Path::from("b/1"), options).expect("a new block");
    for series in all {
        writer.add(&series.input()).expect("series in order");
        writer.send_ready().await.expect("a store in memory");
    }
    writer.finish().await.expect("a store in memory")
}

async fn open(store: &Arc<InMemory>, cache_bytes: usize) -> Result<Block, Error> {
    let objects: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(store);
    Block::open(objects, Path::from("b/1"), BlockCache::new(cache_bytes)).await
}

fn small_groups() -> BlockOptions {
    BlockOptions {
        tenant_chunks_min: 16,
        group_chunks_max: 40,
        label_columns_max: 2,
        ..BlockOptions::default()
    }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[track_caller]
fn check_samples(found: &SeriesSamples, series: &Series, range: TimeRange) {
    let kept: Vec<usize> =
        (0..series.timestamps.len()).filter(|i| range.contains(series.timestamps[*i])).collect();
    let timestamps: Vec<i64> = kept.iter().map(|i| series.timestamps[*i]).collect();
    let values: Vec<f64> = kept.iter().map(|i| series.values[*i]).collect();
    assert_eq!(&*found.timestamps, timestamps.as_slice(), "{}", series.labels);
    assert_eq!(bits(&found.values), bits(&values), "{}", series.labels);
    let histograms: Vec<_> =
        series.histograms.iter().filter(|(at, _)| range.contains(*at)).cloned().collect();
    assert_eq!(found.histograms, histograms, "{}", series.labels);
    for at in timestamps.into_iter().chain(histograms.iter().map(|(at, _)| *at)) {
        assert_eq!(found.starts.at(at), series.starts.at(at), "{} at {at}", series.labels);
    }
}

fn random_matcher(random: &mut Random) -> Matcher {
    let name = *random.pick(&["__name__", "instance", "zone", "nothing", "z"]);
    let op = *random.pick(&[MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]);
    let literals = ["up", "noise", "node-1:9100", "node-2:9100", "a", "ü", "", "b"];
    let patterns = [
        "",
        ".*",
        ".+",
        "up|noise",
        "node-.*",
        ".*e.*",
        "node-[0-3]:9100",
        "(?i)UP",
        "a|",
        "t.+|up",
        "x*",
    ];
    let value = if matches!(op, MatchOp::Equal | MatchOp::NotEqual) {
        *random.pick(&literals)
    } else {
        *random.pick(&patterns)
    };
    Matcher::new(op, name, value).expect("a valid pattern")
}

fn brute_force(all: &[Series], tenant: TenantId, matchers: &[Matcher]) -> RoaringBitmap {
    let matches =
        |s: &Series| matchers.iter().all(|m| m.matches(s.labels.get(m.name()).unwrap_or("")));
    (0..all.len())
        .filter(|i| all[*i].tenant == tenant && matches(&all[*i]))
        .map(|i| i as u32)
        .collect()
}

#[tokio::test]
async fn a_block_answers_like_the_model() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let all = generate(&mut random);
        let store = Arc::new(InMemory::new());
        let effort = [Effort::Young, Effort::Cold][seed as usize % 2];
        let summary = write(&store, &all, BlockOptions { effort, ..small_groups() }).await;
        let block =
            open(&store, [0, 20_000, 1 << 30][seed as usize % 3]).await.expect("a whole block");
        assert_eq!(summary.series, all.len() as u64);
        assert_eq!(summary.tenants, 4);
        assert_eq!(summary.samples, all.iter().map(|s| s.values.len() as u64).sum::<u64>());
        assert_eq!(block.range(), summary.range);
        for (row, series) in all.iter().enumerate() {
            assert_eq!(block.labels(row as u32).expect("labels"), series.labels);
            assert_eq!(block.id(row as u32).expect("id"), series.id);
        }
        for _ in 0..60 {
            let tenant = *random.pick(&[
                TenantId(1),
                TenantId(2),
                TenantId(7),
                TenantId(4_000_000_000),
                TenantId(3),
            ]);
            let matchers: Vec<Matcher> =
                (0..random.below(4)).map(|_| random_matcher(&mut random)).collect();
            let rows =
                block.select(tenant, &matchers, &mut Pace::default()).expect("a whole block");
            assert_eq!(rows, brute_force(&all, tenant, &matchers), "{tenant} {matchers:?}");
            check_label_answers(&block, &all, tenant, &rows);
            let from = START_MS + random.below(40_000_000) as i64 - 1_000_000;
            let length = random.below(9_000_000) as i64;
            let range = *random.pick(&[
                TimeRange::ALL,
                TimeRange { start_ms: from, end_ms: from + length },
                TimeRange { start_ms: from, end_ms: from },
                TimeRange { start_ms: 0, end_ms: 5 },
            ]);
            let mut rows: Vec<u32> = rows.iter().collect();
            let turn = random.below(rows.len().max(1) as u64) as usize;
            rows.rotate_left(turn);
            let fetched = block.fetch(&rows, range).await.expect("a whole block");
            let decoded = fetched.decode().expect("a whole block");
            assert_eq!(decoded.len(), rows.len());
            for (row, found) in rows.iter().zip(&decoded) {
                check_samples(found, &all[*row as usize], range);
            }
        }
        check_exemplars(&block, &all).await;
    }
}

/// Buckets of one histogram lie in one payload, and each is read without the others' being.
#[tokio::test]
async fn buckets_of_a_histogram_share_their_payload() {
    let mut random = Random(77);
    let instants: Vec<i64> = (0..2000).map(|i| START_MS + i * 15_000).collect();
    let mut all: Vec<Series> = ["get", "post", "put"]
        .iter()
        .flat_map(|method| buckets_of(&mut random, 1, 1, method, &instants))
        .collect();
    all.sort_by(|a, b| a.labels.stored_order(&b.labels));
    let mut bytes = [0; 2];
    for (effort, bytes) in [Effort::Young, Effort::Cold].into_iter().zip(&mut bytes) {
        let store = Arc::new(InMemory::new());
        let options = BlockOptions { effort, ..BlockOptions::default() };
        *bytes = write(&store, &all, options).await.bytes;
        let block = open(&store, 1 << 20).await.expect("a whole block");
        let mut by_label: Vec<u32> = (0..all.len() as u32).collect();
        by_label.sort_by(|a, b| all[*a as usize].labels.cmp(&all[*b as usize].labels));
        let whole = block.fetch(&by_label, TimeRange::ALL).await.expect("a whole block");
        let decoded = whole.decode().expect("a whole block");
        for (row, found) in by_label.iter().zip(&decoded) {
            let series = &all[*row as usize];
            check_samples(found, series, TimeRange::ALL);
            let range = TimeRange { start_ms: instants[900], end_ms: instants[1100] };
            let alone = block.fetch(&[*row], range).await.expect("a whole block");
            check_samples(&alone.decode().expect("a whole block")[0], series, range);
        }
    }
    assert!(bytes[1] * 10 < bytes[0] * 8, "{bytes:?}");
}

#[track_caller]
fn check_label_answers(block: &Block, all: &[Series], tenant: TenantId, rows: &RoaringBitmap) {
    let pairs: Vec<(&str, &str)> =
        rows.iter().flat_map(|r| all[r as usize].labels.iter()).collect();
    let names: BTreeSet<&str> = pairs.iter().map(|(n, _)| *n).collect();
    let found = block.label_names(tenant, Some(rows), &mut Pace::default()).expect("a whole block");
    assert_eq!(found, Vec::from_iter(names.iter().copied()));
    let values: BTreeSet<&str> =
        pairs.iter().filter(|(n, _)| *n == "instance").map(|(_, v)| *v).collect();
    assert_eq!(
        block
            .label_values(tenant, "instance", Some(rows), &mut Pace::default())
            .expect("a whole block"),
        Vec::from_iter(values)
    );
    let of_tenant = brute_force(all, tenant, &[]);
    if *rows == of_tenant {
        assert_eq!(
            block.label_names(tenant, None, &mut Pace::default()).expect("a whole block"),
            Vec::from_iter(names)
        );
    }
}

async fn check_exemplars(block: &Block, all: &[Series]) {
    let rows: RoaringBitmap = (0..all.len() as u32).filter(|r| r % 2 == 0).collect();
    let range = TimeRange { start_ms: START_MS, end_ms: START_MS + 17_000 };
    let found = block.exemplars(&rows, range, &mut Pace::default()).await.expect("a whole block");
    let found: Vec<_> = found.into_iter().map(|e| (e.row, e.exemplar)).collect();
    let inside = |e: &&Exemplar| range.contains(e.timestamp_ms);
    let of =
        |row: u32| all[row as usize].exemplars.iter().filter(inside).map(move |e| (row, e.clone()));
    let expected: Vec<_> = rows.iter().flat_map(of).collect();
    assert!(!expected.is_empty());
    assert_eq!(found, expected);
    assert!(found.iter().all(|(_, e)| e.value.to_bits() == (-0.0f64).to_bits()));
}

#[tokio::test]
async fn series_of_a_target_share_their_timestamps() {
    let mut random = Random(11);
    let all = generate(&mut random);
    let store = Arc::new(InMemory::new());
    write(&store, &all, BlockOptions::default()).await;
    let block = open(&store, 1 << 30).await.expect("a whole block");
    let labels = &all[0].labels;
    let instance = Matcher::equal("instance", labels.get("instance").unwrap_or_default());
    let matchers = [
        instance,
        Matcher::new(MatchOp::Regex, "__name__", "up|temperature|noise").expect("valid"),
    ];
    let rows: Vec<u32> = block
        .select(all[0].tenant, &matchers, &mut Pace::default())
        .expect("a whole block")
        .iter()
        .collect();
    assert_eq!(rows.len(), 3);
    for range in
        [TimeRange::ALL, TimeRange { start_ms: all[0].timestamps[0], end_ms: i64::MAX - 1 }]
    {
        let fetched = block.fetch(&rows, range).await.expect("a whole block");
        let (first, rest) =
            (fetched.decode_part(0..1).expect("whole"), fetched.decode_part(1..9).expect("whole"));
        assert!(rest.iter().all(|s| Arc::ptr_eq(&s.timestamps, &first[0].timestamps)), "{range:?}");
    }
    let plan = block.plan(&rows, TimeRange::ALL).await.expect("a whole block");
    assert_eq!(plan.samples(), 3 * all[0].timestamps.len() as u64);
}

#[tokio::test]
async fn chunk_statistics_describe_finite_values() {
    let labels = Labels::from_pairs([("__name__", "c")]);
    let mut values: Vec<f64> = (0..100).map(|i| f64::from(i % 60) * 2.0).collect();
    values[10] = f64::NAN;
    let series = Series {
        tenant: TenantId(1),
        id: labels.series_id(),
        labels,
        timestamps: (0..100).collect(),
        values,
        histograms: vec![],
        starts: Starts::default(),
        exemplars: vec![],
    };
    let store = Arc::new(InMemory::new());
    write(&store, &[series], BlockOptions::default()).await;
    let block = open(&store, 1 << 20).await.expect("a whole block");
    let plan = block.plan(&[0], TimeRange::ALL).await.expect("a whole block");
    let stats = plan.chunks(0).next().expect("one chunk").stats;
    assert_eq!((stats.min, stats.max), (Some(0.0), Some(118.0)));
    assert_eq!(stats.sum, Some(2.0 * (59.0 * 60.0 / 2.0 + 39.0 * 40.0 / 2.0 - 10.0)));
    assert_eq!(stats.increase, Some(118.0 + 78.0));
}

/// Flips bits all over every object: an open or a read fails naming the object, or all is right.
#[tokio::test]
async fn damage_is_found() {
    let mut random = Random(3);
    let all = generate(&mut random);
    let store = Arc::new(InMemory::new());
    write(&store, &all, small_groups()).await;
    let rows: Vec<u32> = (0..all.len() as u32).collect();
    for name in OBJECT_NAMES {
        let path = Path::from("b/1").join(name);
        let whole = store.get(&path).await.expect("written").bytes().await.expect("in memory");
        for i in 0..120 {
            let mut damaged = whole.to_vec();
            match i {
                0 => damaged.truncate(whole.len() / 2),
                1 => damaged.clear(),
                2 => damaged.push(0),
                _ => damaged[random.below(whole.len() as u64) as usize] ^= 1 << random.below(8),
            }
            store.put(&path, PutPayload::from(damaged)).await.expect("in memory");
            let error = match read_everything(&store, &all, &rows).await {
                Ok(()) => {
                    // The table for other engines is not read here, and a longer object is read only as far as it was written.
                    assert!(
                        name == "series.parquet" || i == 2,
                        "damage {i} in {name} passed unseen"
                    );
                    continue;
                }
                Err(error) => error.to_string(),
            };
            assert!(error.contains(name), "damage {i} in {name}: {error}");
        }
        store.delete(&path).await.expect("in memory");
        if name != "series.parquet" {
            let error =
                read_everything(&store, &all, &rows).await.expect_err("an object is missing");
            assert!(
                matches!(&error, Error::Corrupt { what, .. } if what.contains(name)),
                "{error}"
            );
        }
        store.put(&path, PutPayload::from(whole)).await.expect("in memory");
    }
    read_everything(&store, &all, &rows).await.expect("all is whole again");
}

async fn read_everything(store: &Arc<InMemory>, all: &[Series], rows: &[u32]) -> Result<(), Error> {
    let block = open(store, 0).await?;
    for (row, series) in all.iter().enumerate() {
        assert_eq!(block.labels(row as u32)?, series.labels);
    }
    let decoded = block.fetch(rows, TimeRange::ALL).await?.decode()?;
    for (found, series) in decoded.iter().zip(all) {
        check_samples(found, series, TimeRange::ALL);
    }
    let exemplars = block
        .exemplars(&rows.iter().copied().collect(), TimeRange::ALL, &mut Pace::default())
        .await?;
    assert_eq!(exemplars.len(), all.iter().map(|s| s.exemplars.len()).sum::<usize>());
    Ok(())
}

#[tokio::test]
async fn later_formats_are_refused_by_name() {
    let store = Arc::new(InMemory::new());
    write(&store, &[], BlockOptions::default()).await;
    let path = Path::from("b/1/index.bin");
    let whole = store.get(&path).await.expect("written").bytes().await.expect("in memory");
    let mut newer = whole.to_vec();
    newer[8] = 9;
    store.put(&path, PutPayload::from(newer)).await.expect("in memory");
    let error = open(&store, 0).await.expect_err("version 9").to_string();
    assert_eq!(
        error,
        "object b/1/index.bin needs block format version 9, which this version does not know"
    );
}

#[tokio::test]
async fn an_empty_block_and_series_out_of_order() {
    let store = Arc::new(InMemory::new());
    let summary = write(&store, &[], BlockOptions::default()).await;
    assert_eq!((summary.series, summary.range), (0, None));
    let block = open(&store, 0).await.expect("an empty block");
    assert!(block.select(TenantId(1), &[], &mut Pace::default()).expect("empty").is_empty());
    assert!(
        block.fetch(&[], TimeRange::ALL).await.expect("empty").decode().expect("empty").is_empty()
    );
    let all = generate(&mut Random(1));
    let mut writer =
        BlockWriter::new(Arc::new(InMemory::new()), Path::from("b"), BlockOptions::default())
            .expect("new");
    writer.add(&all[1].input()).expect("the first");
    assert!(writer.add(&all[0].input()).is_err());
    assert!(writer.add(&all[1].input()).is_err(), "the same again");
}

/// Larger than a part: sent in pieces while it is written, and read back whole.
#[tokio::test]
async fn a_large_block_goes_out_in_parts() {
    let mut random = Random(5);
    let timestamps: Vec<i64> = (0..200_000).map(|i| START_MS + i * 1000).collect();
    let series = |n: u64, random: &mut Random| {
        let labels = Labels::from_pairs([("__name__", format!("noise_{n:02}"))]);
        Series {
            tenant: TenantId(1),
            id: labels.series_id(),
            labels,
            timestamps: timestamps.clone(),
            values: timestamps.iter().map(|_| f64::from_bits(random.next())).collect(),
            histograms: vec![],
            starts: Starts::default(),
            exemplars: vec![],
        }
    };
    let all: Vec<Series> = (0..12).map(|n| series(n, &mut random)).collect();
    let store = Arc::new(InMemory::new());
    let options = BlockOptions { group_chunks_max: 300, ..BlockOptions::default() };
    let summary = write(&store, &all, options).await;
    assert!(summary.bytes > 2 * super::object::PART_BYTES as u64, "{} bytes", summary.bytes);
    let block = open(&store, 0).await.expect("a whole block");
    let rows: Vec<u32> = (0..12).collect();
    let fetched = block.fetch(&rows, TimeRange::ALL).await.expect("a whole block");
    for (found, series) in fetched.decode().expect("a whole block").iter().zip(&all) {
        check_samples(found, series, TimeRange::ALL);
    }
}

/// DESIGN: ten thousand tenants with a handful of series each are normal.
#[tokio::test]
async fn ten_thousand_small_tenants_stay_small() {
    let mut all = Vec::new();
    let instants: Vec<i64> = (0..20).map(|i| START_MS + i * 15_000).collect();
    for tenant in 1..=10_000u32 {
        for metric in ["a_total", "b_bytes", "c_seconds", "up"] {
            let labels = Labels::from_pairs([
                ("__name__", metric.to_owned()),
                ("instance", format!("app-{}", tenant % 50)),
                ("namespace", format!("ns-{tenant}")),
            ]);
            let values = (0..20).map(|i| f64::from(tenant % 100) + f64::from(i)).collect();
            all.push(Series {
                tenant: TenantId(tenant),
                id: labels.series_id(),
                labels,
                timestamps: instants.clone(),
                values,
                histograms: vec![],
                starts: Starts::default(),
                exemplars: vec![],
            });
        }
    }
    let store = Arc::new(InMemory::new());
    let summary = write(&store, &all, BlockOptions::default()).await;
    let block = open(&store, 1 << 30).await.expect("a whole block");
    for name in OBJECT_NAMES {
        if let Ok(object) = store.head(&Path::from("b/1").join(name)).await {
            println!("{name:20} {:6.1} bytes a tenant", object.size as f64 / 1e4);
        }
    }
    println!("in memory            {:6.1} bytes a tenant", block.resident_bytes() as f64 / 1e4);
    assert_eq!(summary.tenants, 10_000);
    assert!(summary.bytes < 10_000 * 200, "{} bytes", summary.bytes);
    for tenant in [1u32, 777, 10_000] {
        let rows = block
            .select(TenantId(tenant), &[Matcher::equal("__name__", "up")], &mut Pace::default())
            .expect("a whole block");
        let rows: Vec<u32> = rows.iter().collect();
        let decoded =
            block.fetch(&rows, TimeRange::ALL).await.expect("whole").decode().expect("whole");
        check_samples(&decoded[0], &all[(tenant as usize - 1) * 4 + 3], TimeRange::ALL);
    }
}
