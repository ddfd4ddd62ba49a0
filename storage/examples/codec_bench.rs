//! What codecs and blocks cost: speed and size by shape, bytes of whole blocks, and what a row
//! group for every tenant would take. `cargo run --release -p storage --example codec_bench`.

#![expect(clippy::print_stdout, reason = "a report")]

use std::hint::black_box;
use std::sync::Arc;

use model::{Labels, TimeRange, stale_nan};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use storage::Error;
use storage::block::{Block, BlockCache, BlockOptions, BlockWriter, OBJECT_NAMES, SeriesInput};
use storage::codec::{CHUNK_SAMPLES_MAX, Decoder, Effort, Encoder, timestamps};
use tenancy::TenantId;

/// CPU time of this thread in seconds: other work on the machine does not count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

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

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

const SHAPES: [&str; 10] = [
    "constant",
    "counter, idle",
    "counter, slow",
    "counter, busy",
    "gauge, small integers",
    "gauge, steps",
    "gauge, bytes in pages",
    "one decimal",
    "three decimals",
    "full mantissa",
];

fn values_of(shape: &str, random: &mut Random, count: usize) -> Vec<f64> {
    let mut state = random.below(100_000) as f64;
    let rate = 1 + random.below(200);
    let value = |i: usize| {
        match shape {
            "constant" => {}
            "counter, idle" => state += f64::from(u8::from(random.below(50) == 0)),
            "counter, slow" => state += random.below(4) as f64,
            "counter, busy" => state += (rate * 15 + random.below(rate)) as f64,
            "gauge, small integers" => state = random.below(30) as f64,
            "gauge, steps" if random.below(20) == 0 => state = random.below(1000) as f64,
            "gauge, steps" => {}
            "gauge, bytes in pages" => {
                state = (state + random.below(64) as f64 * 4096.0 - 31.0 * 4096.0).max(0.0)
            }
            "one decimal" => state = random.below(300) as f64 / 10.0,
            "three decimals" => state = (random.below(200) as f64 + 800.0) / 1000.0,
            _ => state += random.unit() - 0.5,
        }
        if shape != "constant" && i % 2000 == 1999 { stale_nan() } else { state }
    };
    (0..count).map(value).collect()
}

fn codecs() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:24} {:>10} {:>12} {:>12}", "shape", "bytes/smp", "encode M/s", "decode M/s");
    let mut random = Random(1);
    for shape in SHAPES {
        let chunks: Vec<Vec<f64>> =
            (0..64).map(|_| values_of(shape, &mut random, CHUNK_SAMPLES_MAX)).collect();
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let rounds = 40;
        let mut payloads = Vec::new();
        let started = cpu_seconds();
        for _ in 0..rounds {
            payloads.clear();
            for chunk in &chunks {
                let mut payload = Vec::new();
                let encoded = encoder.encode(black_box(chunk), &mut payload);
                payloads.push((encoded, payload));
            }
        }
        let encode = cpu_seconds() - started;
        let mut out = vec![0.0; CHUNK_SAMPLES_MAX];
        let started = cpu_seconds();
        for _ in 0..rounds * 4 {
            for (encoded, payload) in &payloads {
                decoder.decode(
                    encoded.codec,
                    encoded.constant.unwrap_or_default(),
                    black_box(payload),
                    &mut out,
                )?;
                black_box(&mut out);
            }
        }
        let decode = cpu_seconds() - started;
        let samples = (rounds * chunks.len() * CHUNK_SAMPLES_MAX) as f64;
        let bytes: usize = payloads.iter().map(|(_, p)| p.len()).sum();
        let per_sample = bytes as f64 / (chunks.len() * CHUNK_SAMPLES_MAX) as f64;
        println!(
            "{shape:24} {per_sample:10.3} {:12.0} {:12.0}",
            samples / encode / 1e6,
            4.0 * samples / decode / 1e6
        );
    }
    let instants = scrapes(&mut random, CHUNK_SAMPLES_MAX);
    let mut payload = Vec::new();
    timestamps::encode(&instants, Effort::Young, &mut payload);
    println!(
        "{:24} {:10.3}\n",
        "timestamps with jitter",
        payload.len() as f64 / instants.len() as f64
    );
    Ok(())
}

/// 55 % on a grid of 15 s, 38 % late by 3 to 7 ms, the rest by up to a second.
fn scrapes(random: &mut Random, count: usize) -> Vec<i64> {
    let late = |random: &mut Random| match random.below(100) {
        0..55 => 0,
        55..93 => 3 + random.below(5),
        _ => 8 + random.below(1000),
    };
    (0..count).map(|i| 1_700_000_000_000 + i as i64 * 15_000 + late(random) as i64).collect()
}

/// Shares of a Kubernetes cluster: constant 30 %, integers 53 %, decimals 11 %, rest full mantissas.
fn shape_of(metric: u64) -> &'static str {
    match metric % 100 {
        0..30 => "constant",
        30..45 => "counter, idle",
        45..55 => "counter, slow",
        55..65 => "counter, busy",
        65..72 => "gauge, small integers",
        72..79 => "gauge, steps",
        79..83 => "gauge, bytes in pages",
        83..90 => "one decimal",
        90..94 => "three decimals",
        _ => "full mantissa",
    }
}

async fn block(
    samples: usize,
    targets: u64,
    metrics: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut random = Random(2);
    let instants: Vec<Vec<i64>> = (0..targets).map(|_| scrapes(&mut random, samples)).collect();
    let mut order: Vec<usize> = (0..instants.len()).collect();
    order.sort_by_cached_key(|target| labels_of(0, *target));
    let objects = Arc::new(InMemory::new());
    let store: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&objects);
    let mut series = Vec::new();
    for metric in 0..metrics {
        for &target in &order {
            let values = values_of(shape_of(metric), &mut random, samples);
            series.push((labels_of(metric, target), target, values));
        }
    }
    let started = cpu_seconds();
    let mut writer =
        BlockWriter::new(Arc::clone(&store), Path::from("b"), BlockOptions::default())?;
    for (labels, target, values) in &series {
        writer.add(&SeriesInput {
            tenant: TenantId(1),
            id: labels.series_id(),
            labels: labels.clone(),
            timestamps: &instants[*target],
            values,
            histograms: &[],
            starts: &storage::Starts::default(),
            exemplars: &[],
        })?;
    }
    let summary = writer.finish().await?;
    let write = cpu_seconds() - started;
    let count = summary.samples as f64;
    print!(
        "{samples:6} samples x {:6} series: {:.3} B/sample (",
        summary.series,
        summary.bytes as f64 / count
    );
    for name in OBJECT_NAMES {
        if let Ok(object) = objects.head(&Path::from("b").join(name)).await {
            print!(" {name} {:.3}", object.size as f64 / count);
        }
    }
    let per_series = write * 1e6 / summary.series as f64;
    println!(" ), written at {:.1} M samples/s, {per_series:.1} us a series", count / write / 1e6);
    read(store, count).await?;
    Ok(())
}

fn labels_of(metric: u64, target: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{metric:04}_total")),
        ("cluster", "prod-eu-1".to_owned()),
        ("container", format!("app-{}", target % 7)),
        ("endpoint", "http-metrics".to_owned()),
        ("instance", format!("10.0.{}.{}:9100", target / 250, target % 250)),
        ("job", format!("job-{}", target % 9)),
        ("namespace", format!("team-{}", target % 13)),
        ("node", format!("worker-{}", target % 31)),
        ("pod", format!("app-{}-{:08x}", target % 7, target.wrapping_mul(0x9e37_79b9) as u32)),
        ("service", format!("service-{}", target % 17)),
        ("zone", format!("eu-1{}", target % 3)),
    ])
}

async fn read(store: Arc<dyn ObjectStore>, count: f64) -> Result<(), Error> {
    let started = cpu_seconds();
    let block = Block::open(store, Path::from("b"), BlockCache::new(1 << 30)).await?;
    let open = cpu_seconds() - started;
    let rows: Vec<u32> = (0..block.series_count()).collect();
    let mut times = Vec::new();
    for _ in 0..3 {
        let started = cpu_seconds();
        let fetched = block.fetch(&rows, TimeRange::ALL).await?;
        let loaded = cpu_seconds() - started;
        black_box(fetched.decode()?);
        times.push((loaded, (cpu_seconds() - started) - loaded));
    }
    let (load, decode) = times[0];
    let warm = times[2];
    println!(
        "       open {:.1} ms, {:.0} B/series in memory; cold load {:.1} ms, decode {:.0} M/s; warm load {:.1} ms, decode {:.0} M/s",
        open * 1e3,
        block.resident_bytes() as f64 / rows.len() as f64,
        load * 1e3,
        count / decode / 1e6,
        warm.0 * 1e3,
        count / warm.1 / 1e6,
    );
    Ok(())
}

/// What ten thousand tenants with four series cost by the least size of a tenant's own row group.
async fn row_groups() -> Result<(), Box<dyn std::error::Error>> {
    let instants = scrapes(&mut Random(3), 20);
    for tenant_chunks_min in [1, 64, 1024, 4096] {
        let objects = Arc::new(InMemory::new());
        let options = BlockOptions { tenant_chunks_min, ..BlockOptions::default() };
        let store: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&objects);
        let started = cpu_seconds();
        let mut writer = BlockWriter::new(Arc::clone(&store), Path::from("b"), options)?;
        let mut random = Random(4);
        for tenant in 1..=10_000 {
            for metric in 0..4 {
                let values = values_of(shape_of(metric * 27), &mut random, instants.len());
                let labels = labels_of(metric, tenant as usize);
                writer.add(&SeriesInput {
                    tenant: TenantId(tenant),
                    id: labels.series_id(),
                    labels,
                    timestamps: &instants,
                    values: &values,
                    histograms: &[],
                    starts: &storage::Starts::default(),
                    exemplars: &[],
                })?;
            }
        }
        writer.finish().await?;
        let write = cpu_seconds() - started;
        let size = objects.head(&Path::from("b").join("chunks.parquet")).await?.size;
        let block = Block::open(store, Path::from("b"), BlockCache::new(1 << 30)).await?;
        let started = cpu_seconds();
        block.fetch(&[20_000], TimeRange::ALL).await?;
        let read = (cpu_seconds() - started) * 1e3;
        println!(
            "own row group from {tenant_chunks_min:5} chunks on: chunks.parquet {:8.1} B/tenant, write {write:.2} s, first read {read:.1} ms",
            size as f64 / 1e4
        );
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    codecs()?;
    block(5760, 20, 100).await?;
    block(240, 100, 400).await?;
    block(20, 100, 400).await?;
    row_groups().await
}
