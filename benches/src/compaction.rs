//! What compaction costs and what it leaves, in this process: a day of the simulated cluster goes
//! into a store; questions run in a loop, first alone and then beside compaction at its own pace.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use model::{Clock, Matcher, OsRandom, Resolution, SystemClock, TimeRange};
use storage::{Config, Extent, MetricRows, OsDisk, Parts, Select, Storage};
use tenancy::{Limits, ReadScope, WriteScope};

use crate::cluster::Jitter;
use crate::load::{self, Load};

const DAY_MS: i64 = 24 * 3_600_000;

/// How long questions run alone before compaction begins.
const ALONE: Duration = Duration::from_secs(20);

/// Requests between two flushes: some ten minutes of the cluster.
const REQUESTS_PER_FLUSH: usize = 280;

/// Samples a second of the rate that compaction's share is told for.
const RATE: f64 = 100_000.0;

/// The machine's clock, as if it were later: days that are over are merged at once.
#[derive(Debug)]
struct Later {
    clock: SystemClock,
    ahead_ms: i64,
}

impl Clock for Later {
    fn now_ms(&self) -> i64 {
        self.clock.now_ms() + self.ahead_ms
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// Lines of a table: what was measured, and the figure.
pub(crate) fn table(dir: &Path, hours: u64) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let now_ms = SystemClock::default().now_ms();
    let start_ms = now_ms - now_ms.rem_euclid(DAY_MS) - DAY_MS;
    let hours = hours.min(24);
    let load = load::simulated(dir, "compaction", Jitter::Realistic, start_ms, hours)?;
    runtime.block_on(measure(&dir.join("store"), &load))
}

async fn measure(dir: &Path, load: &Load) -> Result<String> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    let storage = open(dir).await?;
    feed(&storage, load).await?;
    let mut out = String::from("| in one process, all cores | |\n| --- | ---: |\n");
    let mut line = |what: &str, figure: String| out.push_str(&format!("| {what} | {figure} |\n"));
    line("samples, million", format!("{:.1}", load.samples as f64 / 1e6));
    line("fresh blocks, bytes a sample", per_sample(&storage, Resolution::Raw, load));
    let until = Instant::now() + ALONE;
    let mut alone = ask(&storage, load, || Instant::now() < until).await?;
    let compacting = tokio::spawn({
        let storage = Arc::clone(&storage);
        async move { storage.compact(Extent::Due).await }
    });
    let started = Instant::now();
    let mut beside = ask(&storage, load, || !compacting.is_finished()).await?;
    compacting.await.context("compact")??;
    let seconds = started.elapsed().as_secs_f64();
    let totals = storage.compaction();
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (before, during) = (quantile(&mut alone, share), quantile(&mut beside, share));
        line(
            &format!("questions, {name} alone, beside compaction, ms; ratio"),
            format!("{before:.2}, {during:.2}; {:.2}", during / before),
        );
    }
    line("questions alone, beside compaction", format!("{}, {}", alone.len(), beside.len()));
    line("compaction, wall s", format!("{seconds:.1}"));
    let nanoseconds = totals.work_seconds * 1e9 / load.samples as f64;
    line("compaction and downsampling, ns of work a sample", format!("{nanoseconds:.0}"));
    line(
        "the same, part of a core at 100,000 samples/s",
        format!("{:.4}", nanoseconds * RATE / 1e9),
    );
    for resolution in Resolution::ALL {
        line(
            &format!("merged blocks, {resolution}, bytes a sample"),
            per_sample(&storage, resolution, load),
        );
    }
    Ok(out)
}

async fn open(dir: &Path) -> Result<Arc<Storage>> {
    let parts = Parts {
        disk: Arc::new(OsDisk::open(dir)?),
        objects: None,
        clock: Arc::new(Later { clock: SystemClock::default(), ahead_ms: 2 * 3_600_000 }),
        random: Arc::new(OsRandom),
    };
    Ok(Storage::open(Config::default(), parts).await?)
}

async fn feed(storage: &Storage, load: &Load) -> Result<()> {
    let limits = Limits { age_seconds_max: 4 * 86_400, ..Limits::default() };
    let scope = WriteScope::for_test(1, "bench", limits.clone());
    let mut files =
        load.files.iter().map(|f| load::Requests::open(f)).collect::<Result<Vec<_>>>()?;
    let (mut sent, mut body) = (0, Vec::new());
    loop {
        let mut is_done = true;
        for file in &mut files {
            if file.next(&mut body)?.is_none() {
                continue;
            }
            is_done = false;
            let raw = snap::raw::Decoder::new().decompress_vec(&body)?;
            let mut rows = MetricRows::default();
            ingest::remote_write::walk(&raw, &limits, &ingest::Caps::default(), &mut rows)
                .map_err(|e| anyhow::anyhow!("{e}"))?;
            rows.body = &raw;
            storage.append(&scope, &rows)?;
            sent += 1;
            if sent % REQUESTS_PER_FLUSH == 0 {
                storage.flush_all().await?;
                load::progress("storing", sent as u64 * 2_000, load.samples);
            }
        }
        if is_done {
            break;
        }
    }
    Ok(storage.flush_all().await?)
}

/// Runs questions one after the other while `goes_on`; the milliseconds each took.
async fn ask(storage: &Storage, load: &Load, goes_on: impl Fn() -> bool) -> Result<Vec<f64>> {
    let limits = Limits { query_samples_max: usize::MAX, ..Limits::default() };
    let scope = ReadScope::for_test(&[(1, "bench")]).limited_for_test(limits);
    let ranges = [3_600_000, 6 * 3_600_000, DAY_MS];
    let names = [
        "container_cpu_usage_seconds_total",
        "go_goroutines",
        "http_request_duration_seconds_count",
    ];
    let mut took = Vec::new();
    while goes_on() {
        let (name, length) = (names[took.len() % 3], ranges[took.len() / 3 % 3]);
        let started = Instant::now();
        let range = TimeRange { start_ms: load.end_ms - length, end_ms: load.end_ms };
        let request = Select { matchers: vec![Matcher::equal("__name__", name)], range };
        let selection = storage.select(&scope, &request).await?;
        let fetched = selection.fetch(0..selection.len()).await?;
        let decoded = tokio::task::spawn_blocking(move || fetched.decode()).await??;
        anyhow::ensure!(!decoded.is_empty(), "{name} has no series");
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

fn quantile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn per_sample(storage: &Storage, resolution: Resolution, load: &Load) -> String {
    let blocks = storage.blocks();
    let of = blocks.iter().filter(|(_, b)| b.resolution == resolution);
    format!("{:.4}", of.map(|(_, b)| b.bytes).sum::<u64>() as f64 / load.samples as f64)
}
