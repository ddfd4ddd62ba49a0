//! What finding series costs, without their samples: a million series with eleven labels, in heads
//! and in blocks, of one tenant and of a thousand, by kind of matcher and of question. `cargo run
//! --release -p storage --example lookup_bench [SERIES]`; prints CPU time of the thread that asks,
//! the median of five rounds after one that fills the cache.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Cancel, Labels, MatchOp, Matcher, OsRandom, Sample, SystemClock, TimeRange};
use storage::{
    Config, ListNames, ListSeries, ListValues, MetricRows, OsDisk, Parts, Question, Select,
    SeriesRows, Storage,
};
use tenancy::{Limits, ReadScope, WriteScope};

type Failed = Box<dyn std::error::Error>;

/// A selector's namespace has one of a hundred of the series: 10,000 of a million.
const NAMESPACES: usize = 100;

/// Series of a scrape target.
const PER_POD: usize = 500;

/// Series of a request.
const REQUEST: usize = 2_000;

/// The median of so many rounds counts; the first fills the cache.
const ROUNDS: usize = 6;

/// How long a question is asked again in a round: the scheduler counts in milliseconds.
const ROUND: Duration = Duration::from_millis(60);

/// A matcher.
type Term = (MatchOp, &'static str, &'static str);

/// How the series are found.
const SELECTORS: &[(&str, &[Term])] = &[
    ("equal", &[(MatchOp::Equal, "namespace", "team-7")]),
    ("list of 20", &[(MatchOp::Regex, "pod", "PODS OF TEAM 7")]),
    ("prefix", &[(MatchOp::Regex, "pod", "app-111.*")]),
    ("suffix", &[(MatchOp::Regex, "instance", ".+\\.77:9100")]),
    ("case ignored", &[(MatchOp::Regex, "namespace", "(?i)TEAM-7")]),
    ("expression", &[(MatchOp::Regex, "pod", "app-[0-9]+7-[a-f0-9]*[05]")]),
    ("rare expression", &[(MatchOp::Regex, "id", "[0-9]+/[0-9]*7-(a|b)x?/13")]),
    (
        "equal, then others",
        &[
            (MatchOp::Equal, "namespace", "team-7"),
            (MatchOp::Regex, "pod", ".+"),
            (MatchOp::NotEqual, "code", ""),
            (MatchOp::NotRegex, "id", "[0-9]+1-[a-z]+/.*"),
        ],
    ),
];

fn main() -> Result<(), Failed> {
    let series = std::env::args().nth(1).map_or(Ok(1_000_000), |series| series.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let newest_ms = model::Clock::now_ms(&SystemClock::default());
    for tenants in [1, 1_000] {
        let directory = tempfile::tempdir()?;
        let storage = runtime.block_on(open(directory.path()))?;
        let at_ms = [newest_ms - 60_000, newest_ms - 30_000];
        for at_ms in at_ms {
            write(&storage, series, tenants, at_ms)?;
        }
        let bench = Bench { runtime: &runtime, tenants, newest_ms };
        bench.ask(&storage, "heads")?;
        runtime.block_on(storage.flush_all())?;
        bench.ask(&storage, "blocks")?;
        runtime.block_on(storage.close())?;
    }
    Ok(())
}

async fn open(directory: &Path) -> Result<Arc<Storage>, Failed> {
    let parts = Parts {
        disk: Arc::new(OsDisk::open(directory)?),
        objects: None,
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(OsRandom),
    };
    // Nothing is flushed unasked.
    let config = Config {
        fsync: false,
        flush_samples: u64::MAX,
        flush_bytes: u64::MAX,
        disk_reserve_bytes: 0,
        block_cache_bytes: 2 << 30,
        log_segment_bytes: 1 << 30,
        ..Config::default()
    };
    Ok(Storage::open(config, parts).await?)
}

/// Writes a sample of each series; those of each namespace belong to all tenants in equal parts.
fn write(storage: &Storage, series: usize, tenants: usize, at_ms: i64) -> Result<(), Failed> {
    let limits = Limits {
        active_series_max: u64::MAX,
        new_series_per_second: f64::INFINITY,
        new_series_burst: f64::INFINITY,
        ..Limits::default()
    };
    for tenant in 0..tenants {
        let scope = WriteScope::for_test(1 + tenant as u32, &name(tenant), limits.clone());
        let own: Vec<usize> = (tenant..series).step_by(tenants).collect();
        for some in own.chunks(REQUEST) {
            let mut rows = MetricRows::default();
            for &at in some {
                let labels = rows.spill.len() as u32;
                labels_of(at).encode(&mut rows.spill);
                let sample = rows.samples.len() as u32;
                rows.samples.push(Sample { timestamp_ms: at_ms, value: at as f64 });
                rows.series.push(SeriesRows {
                    labels: labels..rows.spill.len() as u32,
                    samples: sample..sample + 1,
                    ..SeriesRows::default()
                });
            }
            let outcome = storage.append(&scope, &rows)?.outcome;
            if outcome.samples != some.len() as u64 {
                return Err(format!("not all was taken: {outcome:?}").into());
            }
        }
    }
    Ok(())
}

fn name(tenant: usize) -> String {
    format!("tenant-{tenant:04}")
}

fn labels_of(series: usize) -> Labels {
    // Series of one pod are those of many tenants, where there are many.
    let (pod, own) = (series % (2 * 1_000), series / (2 * 1_000));
    let metric = own % 100;
    Labels::from_pairs([
        ("__name__", format!("metric_{metric}_total")),
        ("cluster", "production-eu-1".to_owned()),
        ("code", format!("{}", 200 + own / 100)),
        ("container", "application".to_owned()),
        ("id", format!("{pod}-{}/{}", ["a", "b", "cc", "ddd"][own % 4], own % 50)),
        ("instance", format!("10.0.{}.{}:9100", pod / 250, pod % 250)),
        ("job", format!("job-{}", pod % 20)),
        ("namespace", format!("team-{}", pod % NAMESPACES)),
        ("node", format!("node-{}", pod % 200)),
        ("pod", pod_name(pod)),
        ("shard", format!("{}", own % (PER_POD / 100))),
    ])
}

fn pod_name(pod: usize) -> String {
    format!("app-{pod}-{:x}", pod * 7919 % 65_521)
}

struct Bench<'a> {
    runtime: &'a tokio::runtime::Runtime,
    tenants: usize,
    newest_ms: i64,
}

impl Bench<'_> {
    fn ask(&self, storage: &Storage, place: &str) -> Result<(), Failed> {
        println!("\n{} tenants, series in {place}; ms of CPU\n", self.tenants);
        println!("| matcher | found | series | names | values of pod | values of id | select |");
        println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
        let range = TimeRange { start_ms: self.newest_ms - 3_600_000, end_ms: self.newest_ms };
        let scope = self.scope();
        for (what, terms) in SELECTORS {
            let list: Vec<String> = (7..2_000).step_by(NAMESPACES).map(pod_name).collect();
            let matcher = |(op, name, value): &Term| {
                Matcher::new(*op, *name, value.replace("PODS OF TEAM 7", &list.join("|")))
            };
            let matchers = terms.iter().map(matcher).collect::<Result<Vec<_>, _>>()?;
            let select = || vec![matchers.clone()];
            let (found, series) =
                self.time(storage, &scope, || ListSeries::new(select(), range), |all| all.len())?;
            let (_, names) =
                self.time(storage, &scope, || ListNames::new(select(), range), |all| all.len())?;
            let (_, pods) = self.time(
                storage,
                &scope,
                || ListValues::new("pod", select(), range),
                |v| v.len(),
            )?;
            let (_, ids) =
                self.time(storage, &scope, || ListValues::new("id", select(), range), |v| v.len())?;
            let request = || Select { matchers: matchers.clone(), range }.question();
            let (_, selected) = self.time(storage, &scope, request, |all| all.len())?;
            println!(
                "| {what} | {found} | {series:.2} | {names:.2} | {pods:.2} | {ids:.2} | {selected:.2} |"
            );
        }
        Ok(())
    }

    fn scope(&self) -> ReadScope {
        let names: Vec<String> = (0..self.tenants).map(name).collect();
        let tenants: Vec<(u32, &str)> = (1..).zip(names.iter().map(String::as_str)).collect();
        let limits = Limits { query_series_max: usize::MAX, ..Limits::default() };
        ReadScope::for_test(&tenants).limited_for_test(limits)
    }

    /// How many there are, and how long the answer took.
    fn time<Q: Question>(
        &self,
        storage: &Storage,
        scope: &ReadScope,
        question: impl Fn() -> Q,
        count: impl Fn(&Q::Answer) -> usize,
    ) -> Result<(usize, f64), Failed> {
        let (mut found, mut all) = (0, Vec::new());
        for _ in 0..ROUNDS {
            let (begun, begun_ms) = (Instant::now(), cpu_ms());
            let mut times = 0;
            while begun.elapsed() < ROUND {
                let mut look_up = storage.begin(scope, question(), &Cancel::default());
                let answer = loop {
                    while !look_up.go_on(storage)? {}
                    if !self.runtime.block_on(look_up.open_next())? {
                        break look_up.finish()?;
                    }
                };
                found = count(&answer);
                times += 1;
            }
            all.push((cpu_ms() - begun_ms) / f64::from(times));
        }
        let mut all: Vec<f64> = all.split_off(1);
        all.sort_by(f64::total_cmp);
        Ok((found, all.get(all.len() / 2).copied().unwrap_or(f64::NAN)))
    }
}

/// Processor time of this thread.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|number| number.parse::<f64>().ok());
    first.unwrap_or(f64::NAN) / 1e6
}
