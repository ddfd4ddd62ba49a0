//! Scraping: 2,000 targets of 1,000 series each, every 15 s. The targets are in this process; what
//! counts is the processor time that the system under test takes for it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::random::SplitMix;
use crate::scenario::{Figure, PORT, Run, fresh, median};
use crate::system::{Configuration, Kind, System};

/// Seconds between two scrapes of a target.
const INTERVAL_SECONDS: u64 = 15;

/// Rounds that are left out: connections are made, series created.
const WARM_UP_ROUNDS: u64 = 3;

/// Expositions that targets answer with in turn: values change from scrape to scrape.
const BODIES: usize = 8;

/// A thread of a connection does not need more. Bytes.
const STACK_BYTES: usize = 128 << 10;

/// How much is scraped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) targets: u64,
    pub(crate) series: u64,
    pub(crate) rounds: u64,
}

/// Every system in turn scrapes the same targets.
pub(crate) fn measure(run: &Run, scale: Scale, figures: &mut Vec<Figure>) -> Result<()> {
    let served = Arc::new(AtomicU64::new(0));
    let port = serve(bodies(scale.series), &served)?;
    let file = std::path::absolute(run.dir.join("scrape.yml"))?;
    std::fs::write(&file, configuration(scale.targets, port))?;
    for &kind in &run.kinds {
        measure_one(run, kind, scale, &file, &served, figures)?;
    }
    Ok(())
}

fn measure_one(
    run: &Run,
    kind: Kind,
    scale: Scale,
    file: &Path,
    served: &AtomicU64,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let data = fresh(run.dir.join(format!("scrape-{}", kind.name())))?;
    let (system, _) = System::start_with(kind, &data, PORT, Configuration::Scrape(file))?;
    thread::sleep(Duration::from_secs(WARM_UP_ROUNDS * INTERVAL_SECONDS));
    let (mut shares, mut scraped) = (Vec::new(), 0);
    for _ in 0..scale.rounds {
        let before = (system.cpu_seconds(), served.load(Relaxed));
        thread::sleep(Duration::from_secs(INTERVAL_SECONDS));
        shares.push((system.cpu_seconds() - before.0) / INTERVAL_SECONDS as f64);
        scraped += served.load(Relaxed) - before.1;
    }
    // A system that leaves targets out would look cheap.
    let due = scale.targets * scale.rounds;
    if scraped < due * 95 / 100 {
        bail!("{} made {scraped} of {due} scrapes", kind.name());
    }
    is_stored(&system, scale)?;
    let cores = median(&mut shares);
    let samples = (scale.targets * scale.series / INTERVAL_SECONDS) as f64;
    let what = format!(
        "scrape, {} targets × {} series / {INTERVAL_SECONDS} s",
        scale.targets, scale.series
    );
    let mut put = |measure: String, value: f64, more_is_better| {
        figures.push(Figure { measure, kind, value: Some(value), more_is_better });
    };
    put(format!("{what}: cores"), cores, false);
    put(format!("{what}: M samples per CPU s"), samples / cores / 1e6, true);
    put(
        format!("{what}: anonymous memory, MiB"),
        system.anonymous_bytes() as f64 / 1048576.0,
        false,
    );
    let data: PathBuf = system.kill()?;
    Ok(std::fs::remove_dir_all(data)?)
}

/// Whether every target was scraped well and all of it was stored.
fn is_stored(system: &System, scale: Scale) -> Result<()> {
    let all = scale.targets * scale.series;
    for (query, expected) in [
        ("sum(up{job=\"bench\"})", scale.targets),
        ("sum(scrape_samples_post_metric_relabeling{job=\"bench\"})", all),
        ("count({__name__=~\"bench_family_.*\"})", all),
    ] {
        let never = || format!("{}: {query} is not {expected}", system.kind.name());
        let now_ms = crate::now_ms();
        system
            .wait_for_answer(query, now_ms, &expected.to_string(), Instant::now())
            .with_context(never)?;
    }
    Ok(())
}

/// A job whose targets are told apart by their paths.
fn configuration(targets: u64, port: u16) -> String {
    let mut text = format!(
        "global: {{scrape_interval: {INTERVAL_SECONDS}s, scrape_timeout: 10s}}
scrape_configs:
- job_name: bench
  static_configs:
"
    );
    for i in 0..targets {
        let _ = writeln!(
            text,
            "  - {{targets: ['127.0.0.1:{port}'], labels: {{__metrics_path__: /t/{i}, instance: 't{i:05}'}}}}"
        );
    }
    text
}

/// Expositions as a client library writes them: histograms, counters, gauges.
fn bodies(series: u64) -> Vec<String> {
    let mut random = SplitMix::new(11);
    let mut counts: Vec<u64> = (0..series).map(|_| random.below(1 << 24)).collect();
    (0..BODIES).map(|_| body(&mut counts, &mut random)).collect()
}

const BOUNDS: [&str; 8] = ["0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "+Inf"];

fn body(counts: &mut [u64], random: &mut SplitMix) -> String {
    let mut text = String::new();
    for (i, count) in counts.iter_mut().enumerate() {
        *count += random.below(50);
        let (family, member) = (i / 20, i % 20);
        let of = format!("method=\"GET\",route=\"/api/v1/resource/{family}\",code=\"200\"");
        if member == 0 {
            let kind = ["counter", "gauge", "histogram"][family % 3];
            let _ = write!(
                text,
                "# HELP bench_family_{family} What family {family} counts.\n# TYPE bench_family_{family} {kind}\n"
            );
        }
        let _ = match family % 3 {
            2 => writeln!(
                text,
                "bench_family_{family}_bucket{{{of},shard=\"{}\",le=\"{}\"}} {count}",
                member / 8,
                BOUNDS[member % 8]
            ),
            1 => writeln!(
                text,
                "bench_family_{family}{{{of},shard=\"{member}\"}} {}",
                *count as f64 / 8.0
            ),
            _ => writeln!(text, "bench_family_{family}{{{of},shard=\"{member}\"}} {count}"),
        };
    }
    text
}

/// Answers every path with the next exposition; gives the port.
fn serve(bodies: Vec<String>, served: &Arc<AtomicU64>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen for scrapes")?;
    let port = listener.local_addr()?.port();
    let answers: Arc<Vec<Vec<u8>>> = Arc::new(bodies.iter().map(|body| answer(body)).collect());
    let served = Arc::clone(served);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answers, served) = (Arc::clone(&answers), Arc::clone(&served));
            let connection = thread::Builder::new().stack_size(STACK_BYTES);
            // A connection that ends is made anew by whoever scrapes.
            let started = connection.spawn(move || drop(answer_all(stream, &answers, &served)));
            if started.is_err() {
                return;
            }
        }
    });
    Ok(port)
}

fn answer(body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn answer_all(stream: TcpStream, answers: &[Vec<u8>], served: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream.try_clone()?);
    let (mut out, mut line, mut count) = (stream, String::new(), 0);
    loop {
        loop {
            line.clear();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
        }
        out.write_all(&answers[count % answers.len()])?;
        count += 1;
        served.fetch_add(1, Relaxed);
    }
}
