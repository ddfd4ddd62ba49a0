//! `taffrail-bench`: Taffrail beside the packaged VictoriaMetrics and Prometheus, in turn, on the
//! same bytes; prints what each used and the ratios.
//!
//! ```text
//! cluster + signal ─► wire ─► load (files) ─► sender ─► system ─► scenario ─► report
//! ```

#![expect(clippy::print_stdout, reason = "a command-line tool prints")]

mod busy;
mod cluster;
mod codec;
mod cold;
mod compaction;
mod doors;
mod forward;
mod load;
mod log_bodies;
mod logs;
mod neighbours;
mod random;
mod report;
mod scenario;
mod scrape;
mod sender;
mod signal;
mod system;
mod tenants;
mod tsbs;
mod wire;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Parser;
use cluster::Jitter;
use scenario::Run;
use system::Kind;

/// Series of the scenario doors: as many as many senders share; bodies for all are prepared beforehand.
const DOOR_SERIES_MAX: u64 = 100_000;

/// Measures Taffrail beside its peers on the same bytes.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Systems to run, in this order.
    #[arg(long, value_delimiter = ',', default_value = "taffrail,victoria-metrics,prometheus")]
    systems: Vec<String>,
    /// What to measure: sim, sim0 (without jitter), wide, scrape, doors (remote write 1.0, 2.0 and OTLP, the whole
    /// way), forward, busy (writing while heavy questions run), tsbs (cpu-only, in PromQL and in SQL),
    /// logs (lines in, what they take, questions; Taffrail alone);
    /// or alone one of neighbours, what tenants notice of one that abuses the machine; cold, which
    /// reads from an S3
    /// service that takes 30 ms a request; tenants, many small ones beside a large one; compaction,
    /// what that costs questions and what it leaves, in this process; and codec,
    /// which runs no system: what the walks of the wire formats cost.
    #[arg(long, value_delimiter = ',', default_value = "sim,sim0,wide")]
    scenarios: Vec<String>,
    /// Hours of simulated cluster.
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// Series of the wide load.
    #[arg(long, default_value_t = 1_000_000)]
    series: u64,
    /// Rounds of 15 s of the wide load (120 are 30 minutes).
    #[arg(long, default_value_t = 120)]
    rounds: u64,
    /// Tenants of the tenants load.
    #[arg(long, default_value_t = 10_000)]
    tenants: u64,
    /// Series of each tenant of the tenants load.
    #[arg(long, default_value_t = 30)]
    tenant_series: u64,
    /// Targets of the scenario scrape. With a thousand series each 2,000 of them take Prometheus some 8 GiB.
    #[arg(long, default_value_t = 2_000)]
    targets: u64,
    /// Series of each of them.
    #[arg(long, default_value_t = 1_000)]
    target_series: u64,
    /// Megabytes of lines of the scenario logs.
    #[arg(long, default_value_t = 419)]
    megabytes: u64,
    /// Hosts of the scenario tsbs.
    #[arg(long, default_value_t = 100)]
    hosts: u64,
    /// Repetitions of each query, and intervals of 15 s that the scenario scrape looks at; the median counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Where loads and data go. Needs about 20 GB for a whole run; emptied afterwards.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let [name] = arguments.scenarios.as_slice()
        && let Some(table) = alone(name, &arguments)
    {
        println!("\n{}", table?);
        return empty(&arguments.dir);
    }
    let kinds = arguments.systems.iter().map(|s| kind(s)).collect::<Result<Vec<_>>>()?;
    let run = Run {
        kinds,
        dir: arguments.dir,
        hours: arguments.hours,
        wide_series: arguments.series,
        wide_rounds: arguments.rounds,
        repeats: arguments.repeats,
    };
    std::fs::create_dir_all(&run.dir)?;
    let mut figures = Vec::new();
    let start_ms = today_ms() - run.hours as i64 * 3_600_000;
    for name in &arguments.scenarios {
        match name.as_str() {
            "sim" | "sim0" => {
                let jitter = if name == "sim" { Jitter::Realistic } else { Jitter::None };
                let load = load::simulated(&run.dir, name, jitter, start_ms, run.hours)?;
                scenario::simulated(&run, name, &load, &mut figures)?;
            }
            "forward" => forward::measure(&run, today_ms, &mut figures)?,
            "busy" => busy::measure(&run, today_ms(), &mut figures)?,
            "tsbs" => tsbs::measure(&run, arguments.hosts, start_ms, &mut figures)?,
            "logs" => {
                let start_ns = (today_ms() - 180 * 60_000) * 1_000_000;
                logs::measure(&run, start_ns, arguments.megabytes, &mut figures)?;
            }
            "wide" => scenario::wide(&run, today_ms() - 1_800_000, &mut figures)?,
            "scrape" => {
                let (targets, series) = (arguments.targets, arguments.target_series);
                let scale = scrape::Scale { targets, series, rounds: arguments.repeats as u64 };
                scrape::measure(&run, scale, &mut figures)?;
            }
            "doors" => {
                let series = arguments.series.min(DOOR_SERIES_MAX) as usize;
                let scale = doors::Scale { series, rounds: arguments.rounds };
                let start_ms = today_ms() - (scale.rounds as i64 + 1) * 15_000;
                doors::measure(&run, scale, start_ms, &mut figures)?;
            }
            other => {
                bail!(
                    "unknown scenario {other:?}; there are sim, sim0, wide, scrape, doors, forward, busy, tsbs and logs"
                )
            }
        }
        eprint_table(&figures, &run);
    }
    for kind in &run.kinds {
        println!("{}", kind.version());
    }
    println!("\n{}", report::table(&figures, &run.kinds));
    empty(&run.dir)
}

/// The table of a scenario that is not run for each system in turn; `None` for another one.
fn alone(name: &str, arguments: &Arguments) -> Option<Result<String>> {
    let Arguments { dir, repeats, .. } = arguments;
    let table = match name {
        "codec" => Ok(codec::table(*repeats)),
        "compaction" => made(dir).and_then(|()| compaction::table(dir, arguments.hours)),
        "neighbours" => made(dir).and_then(|()| neighbours::table(dir)),
        "cold" => cold::cold(dir, today_ms() - 24 * 3_600_000, *repeats),
        "tenants" => {
            let (tenants, series) = (arguments.tenants, arguments.tenant_series);
            let size = tenants::Size { tenants, series, rounds: arguments.rounds.min(20) };
            tenants::table(dir, size, today_ms() - size.rounds as i64 * 15_000)
        }
        _ => return None,
    };
    Some(table)
}

fn made(dir: &Path) -> Result<()> {
    Ok(std::fs::create_dir_all(dir)?)
}

/// Takes away what a run left, if it made anything.
fn empty(dir: &Path) -> Result<()> {
    match dir.exists() {
        true => Ok(std::fs::remove_dir_all(dir)?),
        false => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "progress of a long run")]
fn eprint_table(figures: &[scenario::Figure], run: &Run) {
    eprintln!("\n\n{}", report::table(figures, &run.kinds));
}

fn kind(name: &str) -> Result<Kind> {
    match name {
        "taffrail" => Ok(Kind::Taffrail),
        "victoria-metrics" => Ok(Kind::VictoriaMetrics),
        "prometheus" => Ok(Kind::Prometheus),
        other => {
            bail!("unknown system {other:?}; there are taffrail, victoria-metrics and prometheus")
        }
    }
}

/// The last whole minute: peers refuse samples that are too old or in the future.
fn today_ms() -> i64 {
    now_ms() / 60_000 * 60_000
}

/// Now.
#[expect(clippy::disallowed_methods, reason = "the benchmark's samples lie around now")]
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as i64)
}
