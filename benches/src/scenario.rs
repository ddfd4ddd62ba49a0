//! What is measured, and how: every system in turn, on the same bytes, caches off.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::load::{self, Load};
use crate::sender;
use crate::system::{Kind, System, instant};
use testkit::http::escaped;

/// One figure of one system.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What was measured, with its unit.
    pub(crate) measure: String,
    /// Which system.
    pub(crate) kind: Kind,
    /// The figure; `None` where the system refused.
    pub(crate) value: Option<f64>,
    /// Whether more is better.
    pub(crate) more_is_better: bool,
}

/// Everything a run needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Systems in turn.
    pub(crate) kinds: Vec<Kind>,
    /// Where loads and data directories go; emptied at the end.
    pub(crate) dir: PathBuf,
    /// Hours of SIM.
    pub(crate) hours: u64,
    /// Series of the wide load.
    pub(crate) wide_series: u64,
    /// Rounds of 15 s of the wide load; 120 are the 30 minutes of the memory figure.
    pub(crate) wide_rounds: u64,
    /// Repetitions of each query; the median counts.
    pub(crate) repeats: usize,
}

/// A port nobody else uses during a run.
pub(crate) const PORT: u16 = 19_550;

/// SIM or SIM0: ingest rate, stored size, queries.
pub(crate) fn simulated(
    run: &Run,
    name: &str,
    load: &Load,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    for &kind in &run.kinds {
        let mut put = |measure: String, value, more_is_better| {
            figures.push(Figure { measure, kind, value, more_is_better })
        };
        let data = fresh(run.dir.join(format!("{name}-{}", kind.name())))?;
        let (system, _) = System::start(kind, &data, PORT)?;
        let before = system.cpu_seconds();
        let sent =
            sender::send(load, PORT, &sender::REMOTE_WRITE, &format!("{name} → {}", kind.name()))?;
        let at_end = system.cpu_seconds() - before;
        system.settle();
        let cpu = system.cpu_seconds() - before;
        put(
            format!("{name}: remote write, M samples per CPU s"),
            Some(sent.samples as f64 / cpu / 1e6),
            true,
        );
        put(
            format!("{name}: the same until the last answer"),
            Some(sent.samples as f64 / at_end / 1e6),
            true,
        );
        put(
            format!("{name}: M samples per wall s, {} connections", load::CONNECTIONS),
            Some(sent.samples as f64 / sent.wall.as_secs_f64() / 1e6),
            true,
        );
        system.compact()?;
        put(
            format!("{name}: bytes per sample, index included"),
            Some(system.stored_bytes() as f64 / sent.samples as f64),
            false,
        );
        for query in queries(load.end_ms) {
            let (cpu_ms, wall_ms) = measure_query(&system, &query.path, run.repeats)?;
            put(format!("{name}: {}, CPU ms", query.name), cpu_ms, false);
            put(format!("{name}: {}, wall ms", query.name), wall_ms, false);
        }
        put(
            format!("{name}: anonymous memory after the queries, MiB"),
            Some(system.anonymous_bytes() as f64 / 1048576.0),
            false,
        );
        let data = system.kill()?;
        std::fs::remove_dir_all(data)?;
    }
    Ok(())
}

/// A million series: creation, memory, restart after `kill -9`.
pub(crate) fn wide(run: &Run, start_ms: i64, figures: &mut Vec<Figure>) -> Result<()> {
    let first = load::wide(&run.dir, "wide-first", run.wide_series, start_ms, 0..1)?;
    let rest = load::wide(&run.dir, "wide-rest", run.wide_series, start_ms, 1..run.wide_rounds)?;
    for &kind in &run.kinds {
        let mut put = |measure: &str, value: f64, more_is_better| {
            figures.push(Figure {
                measure: measure.to_owned(),
                kind,
                value: Some(value),
                more_is_better,
            });
        };
        let data = fresh(run.dir.join(format!("wide-{}", kind.name())))?;
        let (system, _) = System::start(kind, &data, PORT)?;
        let before = (system.cpu_seconds(), system.anonymous_bytes());
        let sent = sender::send(
            &first,
            PORT,
            &sender::REMOTE_WRITE,
            &format!("new series → {}", kind.name()),
        )?;
        system.settle();
        let cpu = system.cpu_seconds() - before.0;
        put("new series, thousand per CPU s", sent.samples as f64 / cpu / 1e3, true);
        let before_rest = system.cpu_seconds();
        let sent = sender::send(
            &rest,
            PORT,
            &sender::REMOTE_WRITE,
            &format!("30 minutes → {}", kind.name()),
        )?;
        // Read at once: a collector that empties the heap later was not there when memory was needed.
        let memory = system.anonymous_bytes().saturating_sub(before.1);
        put(
            "anonymous memory per series after 30 min, bytes",
            memory as f64 / rest.series as f64,
            false,
        );
        let cpu = system.cpu_seconds() - before_rest;
        put("wide: remote write, M samples per CPU s", sent.samples as f64 / cpu / 1e6, true);
        let (cpu_ms, _) = measure_query(
            &system,
            &instant("count by (__name__) ({__name__!=\"\"})", rest.end_ms),
            3,
        )?;
        put("count by (__name__) over all series, CPU ms", cpu_ms.unwrap_or(f64::NAN), false);
        let data = system.kill()?;
        put(
            "restart after kill -9 to right answers and writes, s",
            restart(kind, &data, &rest)?.as_secs_f64(),
            false,
        );
        std::fs::remove_dir_all(data)?;
    }
    Ok(())
}

/// A data directory without what an earlier run may have left.
pub(crate) fn fresh(dir: PathBuf) -> Result<PathBuf> {
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
    }
    Ok(dir)
}

/// Starts again over what `kill -9` left and waits for a right answer over one metric, whose series
/// lie in all partitions; then the whole is counted, without the clock.
fn restart(kind: Kind, data: &Path, load: &Load) -> Result<Duration> {
    let since = Instant::now();
    let (system, _) = System::start(kind, data, PORT)?;
    let never = || format!("{} never gave the whole answer again", kind.name());
    let one_metric = "count(wide_metric_007_total)";
    let of_metric = (load.series / load::WIDE_METRICS).to_string();
    let took =
        system.wait_for_answer(one_metric, load.end_ms, &of_metric, since).with_context(never)?;
    let everything = "count({__name__=~\"wide_metric_.*\"})";
    system
        .wait_for_answer(everything, load.end_ms, &load.series.to_string(), Instant::now())
        .with_context(never)?;
    Ok(took)
}

/// CPU and wall milliseconds of one query, medians; `None` if it was refused.
pub(crate) fn measure_query(
    system: &System,
    path: &str,
    repeats: usize,
) -> Result<(Option<f64>, Option<f64>)> {
    let mut connection = system.connect()?;
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        // CPU time comes in ticks of 10 ms: short queries are repeated until ticks mean something.
        let (before, started, mut runs) = (system.cpu_seconds(), Instant::now(), 0u32);
        while runs == 0 || (started.elapsed() < Duration::from_millis(400) && runs < 2_000) {
            let response = connection.call("GET", path, &[], &[])?;
            if response.status != 200 {
                return Ok((None, None));
            }
            runs += 1;
        }
        wall.push(started.elapsed().as_secs_f64() * 1e3 / f64::from(runs));
        cpu.push((system.cpu_seconds() - before) * 1e3 / f64::from(runs));
    }
    Ok((Some(median(&mut cpu)), Some(median(&mut wall))))
}

/// The middle one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Paths of dear questions of the query set, each over a day and over series of SIM alone.
pub(crate) fn heavy(end_ms: i64) -> Vec<String> {
    let all = queries(end_ms).into_iter();
    all.filter(|q| ["R1", "R2"].contains(&&q.name[..2])).map(|q| q.path).collect()
}

struct Query {
    name: &'static str,
    path: String,
}

/// The query set, over the last day before `end_ms`.
fn queries(end_ms: i64) -> Vec<Query> {
    let end_s = end_ms / 1000;
    let range = |name, query: &str, hours: i64, step_s: i64| Query {
        name,
        path: format!(
            "/api/v1/query_range?query={}&start={}&end={end_s}&step={step_s}&nocache=1",
            escaped(query),
            end_s - hours * 3600
        ),
    };
    let now = |name, query: &str| Query { name, path: instant(query, end_ms - 15_000) };
    vec![
        range(
            "R1 sum by(namespace)(rate(container_cpu[5m])) 24 h",
            "sum by(namespace)(rate(container_cpu_usage_seconds_total[5m]))",
            24,
            60,
        ),
        range(
            "R2 sum by(le,job)(rate(bucket[5m])) 24 h",
            "sum by(le,job)(rate(http_request_duration_seconds_bucket[5m]))",
            24,
            60,
        ),
        range(
            "R3 the same, 1 h",
            "sum by(le,job)(rate(http_request_duration_seconds_bucket[5m]))",
            1,
            15,
        ),
        range(
            "R4 rate of all _total 24 h",
            "sum by(job)(rate({__name__=~\".+_total\"}[5m]))",
            24,
            300,
        ),
        range("R5 raw, 30 series 24 h", "go_goroutines", 24, 15),
        range("R7 sum of all _total 24 h", "sum by(job)({__name__=~\".+_total\"})", 24, 300),
        range("R8 count of everything 24 h", "count by(job)({__name__=~\".+\"})", 24, 300),
        now(
            "I2 instant sum by(namespace)",
            "sum by(namespace)(rate(container_cpu_usage_seconds_total[5m]))",
        ),
        now(
            "I3 instant topk(10,count by(__name__))",
            "topk(10,count by(__name__)({__name__!=\"\"}))",
        ),
        now("I4 instant, one series", "go_goroutines{instance=\"10.1.0.0:8080\"}"),
    ]
}
