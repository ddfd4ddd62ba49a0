//! Many small tenants beside one large one, with as many series and samples: what tenants alone
//! cost in memory, at a start, and in objects of a flush. The large one is written twice: in requests
//! of its own size, and in requests as small as those of the many, so that what small requests cost
//! is not taken for what tenants cost.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::http::Connection;

use crate::load::progress;
use crate::scenario::fresh;
use crate::system::{Kind, System, files_below};
use crate::wire::{self, Request};

/// How many of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Tenants of the many.
    pub(crate) tenants: u64,
    /// Series of each of them; the one has all.
    pub(crate) series: u64,
    /// Samples of each series, 15 s apart.
    pub(crate) rounds: u64,
}

/// A port nobody else uses during a run.
const PORT: u16 = 19_560;

/// Series in one request, as Prometheus sends by default.
const SERIES_PER_REQUEST: u64 = 2_000;

/// What one of the two cost.
#[derive(Debug, Default)]
struct Cost {
    /// Anonymous memory once everything is in heads, in bytes.
    memory: u64,
    /// CPU seconds of the writes.
    cpu_seconds: f64,
    /// Objects that one flush of everything made.
    objects: u64,
    /// Their bytes.
    object_bytes: u64,
    /// From `kill -9` with everything in the log alone to the first right answer.
    replayed: Duration,
    /// The same with everything in blocks.
    started: Duration,
    /// Anonymous memory after that start.
    memory_started: u64,
}

/// A line of the table: what it is called, and the figure of a cost.
type Measure = (&'static str, fn(&Cost) -> f64);

/// Runs all three and gives the table.
pub(crate) fn table(dir: &Path, size: Size, start_ms: i64) -> Result<String> {
    let one = Size { tenants: 1, series: size.tenants * size.series, ..size };
    let large = cost(dir, "one", one, SERIES_PER_REQUEST, start_ms)?;
    let small = cost(dir, "one in small requests", one, size.series, start_ms)?;
    let many = cost(dir, "many", size, SERIES_PER_REQUEST, start_ms)?;
    let mut out = format!(
        "| measure | one tenant × {all} series | the same in requests of {series} | {} tenants × {series} series | ratio | in equal requests |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
        size.tenants,
        all = size.tenants * size.series,
        series = size.series,
    );
    let measures: [Measure; 7] = [
        ("anonymous memory, all in heads, MiB", |cost| mib(cost.memory)),
        ("remote write, CPU s", |cost| cost.cpu_seconds),
        ("objects of one flush", |cost| cost.objects as f64),
        ("bytes of one flush, MiB", |cost| mib(cost.object_bytes)),
        ("restart after `kill -9`, everything in the log, s", |cost| cost.replayed.as_secs_f64()),
        ("restart after `kill -9`, everything in blocks, s", |cost| cost.started.as_secs_f64()),
        ("anonymous memory after that start, MiB", |cost| mib(cost.memory_started)),
    ];
    for (measure, of) in measures {
        let [large, small, many] = [&large, &small, &many].map(of);
        let (ratio, equal) = (many / large, many / small);
        let _ = writeln!(
            out,
            "| {measure} | {large:.2} | {small:.2} | {many:.2} | {ratio:.2}× | {equal:.2}× |"
        );
    }
    Ok(out)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn cost(dir: &Path, name: &str, size: Size, request_series: u64, start_ms: i64) -> Result<Cost> {
    let data = fresh(dir.join(format!("tenants-{}", name.replace(' ', "-"))))?;
    let (system, _) = System::start(Kind::Taffrail, &data, PORT)?;
    let before = (system.cpu_seconds(), system.anonymous_bytes());
    for round in 0..size.rounds {
        write_round(size, request_series, start_ms, round)?;
        progress(name, round + 1, size.rounds);
    }
    system.settle();
    let (cpu_seconds, memory) =
        (system.cpu_seconds() - before.0, system.anonymous_bytes() - before.1);
    let data = system.kill()?;
    let (system, replayed) = restart(&data, size, start_ms)?;
    let stored = files_below(&data.join("objects"));
    system.must("POST", "/api/v1/admin/flush")?;
    let flushed = files_below(&data.join("objects"));
    let data = system.kill()?;
    let (system, started) = restart(&data, size, start_ms)?;
    system.settle();
    Ok(Cost {
        memory,
        cpu_seconds,
        objects: flushed.0 - stored.0,
        object_bytes: flushed.1 - stored.1,
        replayed,
        started,
        memory_started: system.anonymous_bytes(),
    })
}

fn restart(data: &Path, size: Size, start_ms: i64) -> Result<(System, Duration)> {
    let started = Instant::now();
    let (system, _) = System::start(Kind::Taffrail, data, PORT)?;
    let at_ms = start_ms + (size.rounds - 1) as i64 * 15_000;
    // The last series of the last tenant: a question that costs the same however many there are.
    let number = number_of(size.tenants - 1, size.series - 1);
    let query = format!("count({{pod=\"{}\"}})", pod(number));
    let tenant = tenant(size.tenants - 1);
    let took = system.wait_for_answer_of(&tenant, &query, at_ms, "1", started)?;
    Ok((system, took))
}

fn tenant(number: u64) -> String {
    format!("tenant-{number:05}")
}

/// One sample of every series of every tenant.
fn write_round(size: Size, request_series: u64, start_ms: i64, round: u64) -> Result<()> {
    let mut connection =
        Connection::open(([127, 0, 0, 1], PORT).into()).context("connect to Taffrail")?;
    let at_ms = start_ms + round as i64 * 15_000;
    for number in 0..size.tenants {
        let name = tenant(number);
        for first in (0..size.series).step_by(request_series as usize) {
            let mut request = Request::default();
            for series in first..(first + request_series).min(size.series) {
                let value = (round * (series % 50 + 1)) as f64;
                request.push(&labels(number, series), at_ms, value);
            }
            let (body, _) = request.take();
            let headers =
                [("Content-Type", "application/x-protobuf"), ("X-Scope-OrgID", name.as_str())];
            let answer = connection.call("POST", "/api/v1/write", &headers, &body)?;
            ensure!(answer.status == 204, "{name}: {}", answer.text());
        }
    }
    Ok(())
}

fn number_of(tenant: u64, series: u64) -> u64 {
    tenant * 1_000_000 + series
}

fn pod(number: u64) -> String {
    format!("workload-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// As many different label sets in all, however many tenants there are.
fn labels(tenant: u64, series: u64) -> Vec<u8> {
    let number = number_of(tenant, series);
    wire::labels(&mut [
        ("__name__", format!("small_metric_{:03}_total", series % 30)),
        ("job", "app".to_owned()),
        ("instance", format!("10.{}.{}.7:9100", number / 256 % 256, number % 256)),
        ("namespace", format!("team-{}", tenant % 40)),
        ("pod", pod(number)),
        ("container", "main".to_owned()),
    ])
}
