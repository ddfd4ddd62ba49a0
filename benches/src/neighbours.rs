//! One tenant that abuses the machine beside ninety-nine that do not: what these notice of it. Their
//! writes and questions come at fixed instants, whether or not earlier ones were answered; how long
//! one takes counts from its instant. Quiet stretches and abuses alternate.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::http::{Connection, escaped};

use crate::load::progress;
use crate::now_ms;
use crate::scenario::fresh;
use crate::system::{Configuration, Kind, System, instant};
use crate::wire::{self, Request};

/// A port nobody else uses during a run.
const PORT: u16 = 19_570;

/// Tenants that behave.
const TENANTS: u64 = 99;

/// Series of each.
const SERIES: u64 = 100;

/// Between two writes, and between two questions, of all of them together.
const PERIOD: Duration = Duration::from_millis(20);

/// Connections over which each kind of request comes, in turn.
const CONNECTIONS: u64 = 4;

/// How long a stretch is.
const STRETCH: Duration = Duration::from_secs(10);

/// A stretch ends after so long, even if requests of it have not been made yet: those count as
/// failed.
const STRETCH_MAX: Duration = Duration::from_secs(20);

/// Quiet stretch and abuse, so many times.
const TURNS: usize = 3;

/// Series the abuser has from the start, so that its questions are dear.
const ABUSER_SERIES: u64 = 100_000;

/// What the abuser may do, and what everybody may: a tenth of a core each, say.
const LIMITS: &str = "
[tenancy.limits.tenants.abuser]
samples_per_second = 20000
samples_burst = 200000
new_series_per_second = 1000
new_series_burst = 200000
active_series_max = 200000
queries_concurrent_max = 4
queries_waiting_max = 8
query_cpu_seconds_max = 10
query_memory_bytes_max = 268435456
";

/// What the abuser does, over and over, on each of its connections.
struct Abuse {
    name: &'static str,
    connections: usize,
    act: fn(&mut Connection, u64) -> Result<u16>,
}

const ABUSES: [Abuse; 4] = [
    Abuse {
        name: "far more samples than it may write",
        connections: 4,
        act: |connection, _| write(connection, "abuser", "abuse_total", 0..2_000),
    },
    Abuse {
        name: "a million new series",
        connections: 4,
        act: |connection, turn| {
            let first = ABUSER_SERIES + turn * 2_000;
            write(connection, "abuser", "abuse_total", first..first + 2_000)
        },
    },
    Abuse {
        name: "questions of death",
        connections: 8,
        act: |connection, turn| {
            let questions = [
                "sum by (pod) (rate({__name__=~\".+\"}[1h]))",
                "count({pod=~\".*(1|2|3).*(4|5|6).*(7|8|9).*\"})",
                "{__name__=~\".+\"} * on (pod, series) group_left {__name__=~\".+\"}",
                "quantile_over_time(0.9, {__name__=~\".+\"}[1h:1s])",
            ];
            let question = questions[turn as usize % questions.len()];
            let headers = [("X-Scope-OrgID", "abuser")];
            Ok(connection.call("GET", &instant(question, now_ms()), &headers, &[])?.status)
        },
    },
    Abuse {
        name: "listings of everything",
        connections: 8,
        act: |connection, _| {
            let headers = [("X-Scope-OrgID", "abuser")];
            let path = format!("/api/v1/series?match[]={}", escaped("{__name__=~\".+\"}"));
            Ok(connection.call("GET", &path, &headers, &[])?.status)
        },
    },
];

/// Runs all abuses and gives the table.
pub(crate) fn table(dir: &Path) -> Result<String> {
    let data = fresh(dir.join("neighbours"))?;
    let (system, _) = System::start_with(Kind::Taffrail, &data, PORT, Configuration::Also(LIMITS))?;
    prepare().context("write what is there from the start")?;
    system.settle();
    let mut out = String::from(
        "| abuse | others' writes p99, ms: quiet | beside it | ratio | others' questions p99, ms: quiet | beside it | ratio | errors | abuser's requests (refused) |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let steps = (ABUSES.len() * TURNS) as u64;
    for (i, abuse) in ABUSES.iter().enumerate() {
        let (mut quiet, mut loud) = (Others::default(), Others::default());
        let (done, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        for turn in 0..TURNS {
            quiet.add(others()?);
            loud.add(beside(abuse, &done, &refused)?);
            progress(abuse.name, (i * TURNS + turn + 1) as u64, steps);
            // What it left behind is nobody's neighbour.
            system.settle();
        }
        let [writes, asked] = [(&quiet.writes, &loud.writes), (&quiet.questions, &loud.questions)]
            .map(|(quiet, loud)| (p99(quiet), p99(loud)));
        let _ = writeln!(
            out,
            "| {} | {:.2} | {:.2} | {:.2}× | {:.2} | {:.2} | {:.2}× | {} | {} ({}) |",
            abuse.name,
            writes.0,
            writes.1,
            writes.1 / writes.0,
            asked.0,
            asked.1,
            asked.1 / asked.0,
            quiet.errors + loud.errors,
            done.into_inner(),
            refused.into_inner(),
        );
    }
    std::fs::remove_dir_all(system.kill()?)?;
    Ok(out)
}

/// How long requests of those that behave took, in milliseconds.
#[derive(Debug, Default)]
struct Others {
    writes: Vec<f64>,
    questions: Vec<f64>,
    errors: u64,
}

impl Others {
    fn add(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.questions.extend(other.questions);
        self.errors += other.errors;
    }
}

fn p99(took_ms: &[f64]) -> f64 {
    let mut sorted = took_ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(f64::NAN)
}

fn connect() -> Result<Connection> {
    Connection::open(([127, 0, 0, 1], PORT).into()).context("connect to Taffrail")
}

/// A write of one sample of each series; the status of the answer.
fn write(
    connection: &mut Connection,
    tenant: &str,
    metric: &str,
    series: std::ops::Range<u64>,
) -> Result<u16> {
    let (mut request, at_ms) = (Request::default(), now_ms());
    for number in series {
        let labels = wire::labels(&mut [
            ("__name__", metric.to_owned()),
            ("job", "app".to_owned()),
            ("series", number.to_string()),
            ("pod", format!("workload-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        ]);
        request.push(&labels, at_ms, number as f64);
    }
    let (body, _) = request.take();
    let headers = [("Content-Type", "application/x-protobuf"), ("X-Scope-OrgID", tenant)];
    Ok(connection.call("POST", "/api/v1/write", &headers, &body)?.status)
}

fn tenant(number: u64) -> String {
    format!("tenant-{:02}", number % TENANTS)
}

fn steady_write(connection: &mut Connection, number: u64) -> Result<u16> {
    write(connection, &tenant(number), "steady_total", 0..SERIES)
}

fn steady_question(connection: &mut Connection, number: u64) -> Result<u16> {
    let path = instant("sum by (job) (rate(steady_total[5m]))", now_ms());
    let tenant = tenant(number);
    Ok(connection.call("GET", &path, &[("X-Scope-OrgID", tenant.as_str())], &[])?.status)
}

/// What is there before anything is measured.
fn prepare() -> Result<()> {
    let mut connection = connect()?;
    for number in 0..TENANTS {
        let status = steady_write(&mut connection, number)?;
        ensure!(status == 204, "{}: {status}", tenant(number));
    }
    for first in (0..ABUSER_SERIES).step_by(2_000) {
        let status = write(&mut connection, "abuser", "abuse_total", first..first + 2_000)?;
        ensure!(status == 204, "abuser: {status}");
    }
    Ok(())
}

/// One stretch of those that behave.
fn others() -> Result<Others> {
    thread::scope(|scope| {
        let run = |act: fn(&mut Connection, u64) -> Result<u16>| {
            (0..CONNECTIONS).map(move |own| scope.spawn(move || paced(own, act)))
        };
        let writes: Vec<_> = run(steady_write).collect();
        let questions: Vec<_> = run(steady_question).collect();
        let mut all = Others::default();
        for (threads, of) in [(writes, &mut all.writes), (questions, &mut all.questions)] {
            for thread in threads {
                let (took, errors) = thread.join().expect("a client does not panic")?;
                of.extend(took);
                all.errors += errors;
            }
        }
        Ok(all)
    })
}

/// Every so many requests of a stretch, at their instants; what they took, and how many failed.
fn paced(own: u64, act: fn(&mut Connection, u64) -> Result<u16>) -> Result<(Vec<f64>, u64)> {
    let mut connection = connect()?;
    let (begun, mut took, mut errors) = (Instant::now(), Vec::new(), 0);
    for number in (own..).step_by(CONNECTIONS as usize) {
        let due = PERIOD * u32::try_from(number)?;
        if due >= STRETCH {
            break;
        }
        if begun.elapsed() > STRETCH_MAX {
            errors += 1;
            continue;
        }
        thread::sleep(due.saturating_sub(begun.elapsed()));
        errors += u64::from(act(&mut connection, number)? >= 300);
        took.push((begun.elapsed() - due).as_secs_f64() * 1e3);
    }
    Ok((took, errors))
}

/// One stretch of those that behave while the abuser does what it does.
fn beside(abuse: &Abuse, done: &AtomicU64, refused: &AtomicU64) -> Result<Others> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let abusers: Vec<_> = (0..abuse.connections)
            .map(|_| {
                let stop = &stop;
                scope.spawn(move || -> Result<()> {
                    let mut connection = connect()?;
                    while !stop.load(Ordering::Relaxed) {
                        let turn = done.fetch_add(1, Ordering::Relaxed);
                        let status = (abuse.act)(&mut connection, turn)?;
                        refused.fetch_add(u64::from(status >= 300), Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let measured = others();
        stop.store(true, Ordering::Relaxed);
        abusers.into_iter().try_for_each(|t| t.join().expect("the abuser does not panic"))?;
        measured
    })
}
