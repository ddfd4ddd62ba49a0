//! What reading costs over a data directory that nobody else has open: the index, the pages, and
//! decoding them, with everything in the cache. `cargo run --release -p storage --example
//! read_bench -- DIRECTORY TENANT HOURS 'NAME=~PATTERN'…`; times are those of this thread's processor.

#![expect(clippy::print_stdout, reason = "a command-line tool prints")]

use std::sync::Arc;

use model::{MatchOp, Matcher, OsRandom, SystemClock, TimeRange};
use storage::{Config, OsDisk, Parts, Select, Storage};
use tenancy::{Limits, ReadScope};

/// Series that are fetched and decoded at a time, as the engine does.
const MORSEL: usize = 256;

/// The median of so many rounds counts; the first fills the cache.
const ROUNDS: usize = 6;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, tenant, hours, patterns @ ..] = arguments.as_slice() else {
        return Err("usage: read_bench DIRECTORY TENANT HOURS 'NAME=~PATTERN'…".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let parts = Parts {
        disk: Arc::new(OsDisk::open(std::path::Path::new(directory))?),
        objects: None,
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(OsRandom),
    };
    let storage = runtime.block_on(Storage::open(Config::default(), parts))?;
    let limits =
        Limits { query_series_max: usize::MAX, query_samples_max: usize::MAX, ..Limits::default() };
    let scope = ReadScope::for_test(&[(tenant.parse()?, "bench")]).limited_for_test(limits);
    let newest = storage.blocks().iter().map(|(_, block)| block.range.end_ms).max();
    let end_ms = newest.ok_or("there are no blocks")?;
    let start_ms = end_ms - hours.parse::<i64>()? * 3_600_000;
    println!(
        "| question | series | samples | select ms | fetch ms | decode ms | ns a sample | liveness ms |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for pattern in patterns {
        let (name, value) = pattern.split_once("=~").ok_or("a pattern is NAME=~PATTERN")?;
        let matchers = vec![Matcher::new(MatchOp::Regex, name, value)?];
        let request = Select { matchers, range: TimeRange { start_ms, end_ms } };
        let rounds = (0..ROUNDS).map(|_| runtime.block_on(round(&storage, &scope, &request)));
        let rounds = rounds.collect::<Result<Vec<Round>, storage::Error>>()?;
        let median = |of: fn(&Round) -> f64| {
            let mut all: Vec<f64> = rounds.iter().skip(1).map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let last = rounds.last().ok_or("no round was run")?;
        println!(
            "| `{pattern}` | {} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {:.1} |",
            last.series,
            last.samples,
            median(|r| r.select_ms),
            median(|r| r.fetch_ms),
            median(|r| r.decode_ms),
            median(|r| r.decode_ms) * 1e6 / last.samples as f64,
            median(|r| r.liveness_ms),
        );
    }
    Ok(())
}

/// What one round took.
#[derive(Default)]
struct Round {
    series: usize,
    samples: usize,
    select_ms: f64,
    fetch_ms: f64,
    decode_ms: f64,
    liveness_ms: f64,
}

async fn round(
    storage: &Storage,
    scope: &ReadScope,
    request: &Select,
) -> Result<Round, storage::Error> {
    let begun = cpu_ms();
    let selection = storage.select(scope, request).await?;
    let mut round = Round { series: selection.len(), ..Round::default() };
    round.select_ms = cpu_ms() - begun;
    for start in (0..selection.len()).step_by(MORSEL) {
        let morsel = start..(start + MORSEL).min(selection.len());
        let begun = cpu_ms();
        let fetched = selection.fetch(morsel.clone()).await?;
        let fetched_at = cpu_ms();
        let decoded = fetched.decode()?;
        round.fetch_ms += fetched_at - begun;
        round.decode_ms += cpu_ms() - fetched_at;
        round.samples += decoded.iter().map(|series| series.values.len()).sum::<usize>();
        drop(decoded);
        let fetched = selection.fetch(morsel).await?;
        let begun = cpu_ms();
        std::hint::black_box(fetched.decode_liveness()?);
        round.liveness_ms += cpu_ms() - begun;
    }
    Ok(round)
}

/// Processor time of this thread.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|number| number.parse::<f64>().ok());
    first.unwrap_or(f64::NAN) / 1e6
}
