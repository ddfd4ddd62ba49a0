//! What the head costs: a million series with 11 labels over 8 heads, 20 samples each with
//! millisecond jitter, in requests of 2,000 one-sample series. `cargo run --release -p storage
//! --example head_bench`; prints CPU time of the one thread, requests' making included.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;

use model::{Labels, MatchOp, Matcher, Pace, RecordKind, Sample, SeriesId, TimeRange};
use storage::head::{Append, Head, Payloads, SharedTimestamps};
use storage::{AppendOutcome, MetricRows, SeriesRows};
use tenancy::{Limits, TenantId};

const TENANT: TenantId = TenantId(1);
const HEADS: usize = 8;
const TARGETS: usize = 1_000;
const PER_TARGET: usize = 1_000;
const SAMPLES: usize = 20;
const REQUEST: usize = 2_000;
const RUNS: u32 = 100;

fn main() {
    let wires: Vec<Vec<u8>> =
        (0..TARGETS).flat_map(|t| (0..PER_TARGET).map(move |s| wire(t, s))).collect();
    let ids: Vec<SeriesId> = wires.iter().map(|w| SeriesId::of_encoded(w)).collect();
    let mut bench = Bench {
        heads: (0..HEADS as u64).map(|p| Head::new(p + 99)).collect(),
        logs: vec![Vec::new(); HEADS],
        wires,
        ids,
    };
    let rss_before = rss_bytes();

    let series = bench.ids.len() as f64;
    let started = CpuTime::now();
    bench.scrape(0);
    println!("new series           {:7.0} ns", started.elapsed().as_nanos() as f64 / series);
    let started = CpuTime::now();
    for scrape in 1..SAMPLES {
        bench.scrape(scrape);
    }
    let samples = series * (SAMPLES - 1) as f64;
    println!("sample               {:7.1} ns", started.elapsed().as_nanos() as f64 / samples);
    let bytes: usize = bench.heads.iter().map(Head::heap_bytes).sum();
    let open: usize = bench.heads.iter().map(|h| h.counts().open_bytes).sum();
    println!(
        "memory per series    {:7.0} B, of it samples {:.0} B",
        bytes as f64 / series,
        open as f64 / series
    );
    let log: usize = bench.logs.iter().flatten().map(Vec::len).sum();
    let first: usize =
        bench.logs.iter().map(|l| l[..l.len() / SAMPLES].iter().map(Vec::len).sum::<usize>()).sum();
    println!("log per new series   {:7.1} B", first as f64 / series);
    println!("log per sample       {:7.2} B", (log - first) as f64 / samples);
    println!(
        "resident, logs apart {:7.0} B",
        (rss_bytes().saturating_sub(rss_before + log)) as f64 / series
    );
    bench.read();
    bench.replay();
    bench.cut();
}

/// Time this thread was on a core: other work on the machine does not count.
struct CpuTime(u64);

impl CpuTime {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Self(stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
    }

    fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(Self::now().0.saturating_sub(self.0))
    }
}

fn ms(since: &CpuTime) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Mean of many runs, in microseconds: the scheduler counts in steps of milliseconds.
fn repeated(mut run: impl FnMut()) -> f64 {
    let started = CpuTime::now();
    (0..RUNS).for_each(|_| run());
    started.elapsed().as_nanos() as f64 / 1e3 / f64::from(RUNS)
}

struct Bench {
    heads: Vec<Head>,
    logs: Vec<Vec<Vec<u8>>>,
    wires: Vec<Vec<u8>>,
    ids: Vec<SeriesId>,
}

impl Bench {
    fn scrape(&mut self, scrape: usize) {
        let limits = Limits::default();
        let (mut payloads, mut outcome) = (Payloads::default(), AppendOutcome::default());
        for start in (0..self.ids.len()).step_by(REQUEST) {
            let (rows, batches) = self.request(start, scrape);
            for (partition, batch) in batches.iter().enumerate() {
                self.heads[partition].append(&mut Append {
                    tenant: TENANT,
                    limits: &limits,
                    rows: &rows,
                    batch,
                    oldest_ms: 0,
                    newest_ms: i64::MAX,
                    admit_series: &mut |_| Ok(()),
                    owns: &|_| true,
                    misplaced: &mut Vec::new(),
                    payloads: &mut payloads,
                    outcome: &mut outcome,
                });
                self.logs[partition]
                    .extend(payloads.records().map(|(_, payload)| payload.to_vec()));
            }
        }
        assert_eq!(outcome.samples as usize, self.ids.len());
    }

    fn request(
        &self,
        start: usize,
        scrape: usize,
    ) -> (MetricRows<'static>, Vec<Vec<(SeriesId, u32)>>) {
        let (mut rows, mut batches) = (MetricRows::default(), vec![Vec::new(); HEADS]);
        for at in start..(start + REQUEST).min(self.ids.len()) {
            let labels = rows.spill.len() as u32;
            rows.spill.extend_from_slice(&self.wires[at]);
            let sample = rows.samples.len() as u32;
            rows.samples.push(sample_of(at, scrape));
            batches[self.ids[at].0 as usize % HEADS].push((self.ids[at], rows.series.len() as u32));
            rows.series.push(SeriesRows {
                labels: labels..rows.spill.len() as u32,
                samples: sample..sample + 1,
                ..SeriesRows::default()
            });
        }
        (rows, batches)
    }

    fn read(&self) {
        let time = |what: &str, matchers: &[Matcher]| {
            let found: u64 = self
                .heads
                .iter()
                .map(|h| {
                    h.select(TENANT, matchers, &mut Pace::default()).expect("nobody stops it").len()
                })
                .sum();
            let spent = repeated(|| {
                self.heads
                    .iter()
                    .for_each(|h| drop(h.select(TENANT, matchers, &mut Pace::default())))
            });
            println!("select {what:<14}{spent:7.0} µs, {found} series");
        };
        let name = Matcher::equal("__name__", "metric_7_total");
        let pods = Matcher::new(MatchOp::Regex, "pod", "app-7.*").expect("a valid pattern");
        time("one metric", std::slice::from_ref(&name));
        time("metric, pods", &[name, pods.clone()]);
        time("pods", &[pods]);
        let spent = repeated(|| {
            self.heads.iter().for_each(|h| {
                let _ = h.for_each_value(TENANT, "__name__", None, &mut Pace::default(), |_, n| {
                    black_box(n);
                });
            })
        });
        println!("count by name        {spent:7.0} µs");
        let started = CpuTime::now();
        let (mut samples, mut shared) = (0, SharedTimestamps::default());
        for head in &self.heads {
            for series in 0..head.series_count() {
                samples += head.read(series, TimeRange::ALL, &mut shared).values.len();
            }
        }
        println!(
            "read                 {:7.1} ns a sample",
            started.elapsed().as_nanos() as f64 / samples as f64
        );
    }

    fn replay(&self) {
        let started = CpuTime::now();
        for (partition, log) in self.logs.iter().enumerate() {
            let mut head = Head::new(partition as u64);
            for payload in log {
                head.replay(RecordKind::Samples, TENANT, payload).expect("a payload of ours");
            }
        }
        println!("replay, all of it    {:7.0} ms", started.elapsed().as_secs_f64() * 1e3);
    }

    fn cut(&mut self) {
        let started = CpuTime::now();
        self.heads.iter_mut().for_each(|h| drop(h.cut(0, i64::MAX)));
        println!(
            "cut, one head        {:7.2} ms",
            started.elapsed().as_secs_f64() * 1e3 / HEADS as f64
        );
        let started = CpuTime::now();
        let snapshots: Vec<Vec<u8>> = self.heads.iter().map(Head::snapshot_full).collect();
        let bytes: usize = snapshots.iter().map(Vec::len).sum();
        let spent_ms = started.elapsed().as_secs_f64() * 1e3;
        println!(
            "snapshot, 8 heads    {spent_ms:7.0} ms, {:.0} B a series",
            bytes as f64 / self.ids.len() as f64
        );
        let started = CpuTime::now();
        for snapshot in &snapshots {
            Head::new(5).restore(snapshot).expect("a snapshot of ours");
        }
        println!("restore, 8 heads     {:7.0} ms", started.elapsed().as_secs_f64() * 1e3);
        let spent_us = repeated(|| drop(self.heads[0].flush_view()));
        println!("flush view, one head {:7.2} ms", spent_us / 1e3);
        let view = self.heads[0].flush_view().expect("something is frozen");
        let started = CpuTime::now();
        drop(view.batch(0, 1));
        println!("sort, one head       {:7.1} ms the first time", ms(&started));
        let started = CpuTime::now();
        let mut next = Some(0);
        while let Some(from) = next {
            next = view.batch(from, 4_096).1;
        }
        println!("list, one head       {:7.1} ms", ms(&started));
        self.heads.iter_mut().for_each(Head::thaw);
        let started = CpuTime::now();
        let cut = self.heads[0].cut(i64::MAX, 0);
        assert!(cut.renumbered.is_some());
        println!("renumber to none     {:7.2} ms", started.elapsed().as_secs_f64() * 1e3);
    }
}

fn wire(target: usize, series: usize) -> Vec<u8> {
    let (name, pod) = (
        format!("metric_{}_total", series % 250),
        format!("app-{target}-7d9f8b6c5-x{}", target * 7919 % 99_991),
    );
    let (instance, node) = (
        format!("10.{}.{}.{}:9100", target / 250, target % 250, 17),
        format!("node-{}", target % 100),
    );
    let (code, namespace) = (format!("{}", 200 + series / 250), format!("team-{}", target % 40));
    let mut encoded = Vec::new();
    Labels::from_pairs([
        ("__name__", name.as_str()),
        ("cluster", "production-eu-1"),
        ("code", &code),
        ("container", "application"),
        ("endpoint", "metrics"),
        ("instance", &instance),
        ("job", "kubernetes-pods"),
        ("namespace", &namespace),
        ("node", &node),
        ("pod", &pod),
        ("prometheus", "monitoring/k8s"),
    ])
    .encode(&mut encoded);
    encoded
}

/// A third constant, half counters, the rest decimals, as in the workload SIM.
fn sample_of(at: usize, scrape: usize) -> Sample {
    let mix = (at * 2_654_435_761 + scrape * 40_503) >> 7;
    let jitter = [0, 0, 0, 3, 5, 7, 4, 90][(at / PER_TARGET * 31 + scrape * 17) % 8];
    let value = match at % 6 {
        0 | 1 => (at % 100) as f64,
        2..=4 => (at * 1_000 + scrape * 180 + mix % 64) as f64,
        _ => (mix % 100_000) as f64 / 1_000.0,
    };
    Sample { timestamp_ms: 1_700_000_000_000 + scrape as i64 * 15_000 + jitter, value }
}

fn rss_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
