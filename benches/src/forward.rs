//! Forwarding: what remote write that goes on costs the system in between. The destination is in this
//! process; it takes nothing until all has come in, so that the queue is measured too.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ingest::Caps;
use storage::MetricRows;
use tenancy::Limits;

use crate::load;
use crate::scenario::{Figure, PORT, Run, fresh};
use crate::sender;
use crate::system::{Configuration, Kind, System, files_below};

/// Series and rounds of 15 s. Prometheus forwards only what is newer than its start, and takes ten
/// minutes of future at most.
const SERIES: u64 = 40_000;
const ROUNDS: u64 = 28;

/// How long a destination may take to get everything.
const PATIENCE: Duration = Duration::from_secs(300);

/// Takes remote write 1.0 and 2.0 and counts samples.
#[derive(Debug, Default)]
struct Destination {
    is_open: AtomicBool,
    samples: AtomicU64,
    bytes: AtomicU64,
}

/// What one run took.
struct Cost {
    cpu_seconds: f64,
    samples: u64,
}

/// Every system in turn, without and with a destination.
pub(crate) fn measure(
    run: &Run,
    now_ms: impl Fn() -> i64,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    for &kind in run.kinds.iter().filter(|kind| **kind != Kind::VictoriaMetrics) {
        let alone = cost(run, kind, now_ms(), None, &mut |_, _, _| {})?;
        let (destination, port) = serve()?;
        let file = std::path::absolute(run.dir.join("forward.yml"))?;
        let url = format!("http://127.0.0.1:{port}/api/v1/write");
        std::fs::write(&file, format!("remote_write: [{{name: bench, url: '{url}'}}]\n"))?;
        let mut put = |measure: &str, value: f64, more_is_better| {
            let measure = format!("forward: {measure}");
            figures.push(Figure { measure, kind, value: Some(value), more_is_better });
        };
        let both = cost(run, kind, now_ms(), Some((&file, &destination)), &mut put)?;
        let more = both.cpu_seconds - alone.cpu_seconds;
        put(
            "M samples per CPU s, over what storing them costs",
            per_second(both.samples, more),
            true,
        );
        put(
            "CPU of storing and forwarding, times storing alone",
            both.cpu_seconds / alone.cpu_seconds,
            false,
        );
        let bytes = destination.bytes.load(Relaxed) as f64 / both.samples as f64;
        put("bytes of requests per sample", bytes, false);
    }
    Ok(())
}

/// Millions a second.
fn per_second(samples: u64, seconds: f64) -> f64 {
    samples as f64 / seconds / 1e6
}

fn cost(
    run: &Run,
    kind: Kind,
    now_ms: i64,
    to: Option<(&Path, &Destination)>,
    put: &mut dyn FnMut(&str, f64, bool),
) -> Result<Cost> {
    let start_ms = now_ms + 120_000;
    let load = load::wide(&run.dir, "forward", SERIES, start_ms, 0..ROUNDS)?;
    let data = fresh(run.dir.join(format!("forward-{}", kind.name())))?;
    let configuration = to.map_or(Configuration::Plain, |(file, _)| Configuration::Forward(file));
    let (system, _) = System::start_with(kind, &data, PORT, configuration)?;
    let before = system.cpu_seconds();
    sender::send(&load, PORT, &sender::REMOTE_WRITE, &format!("forward → {}", kind.name()))?;
    if let Some((_, destination)) = to {
        if kind == Kind::Taffrail {
            let queued = files_below(&data.join("forward")).1;
            println!("\nqueue on disk: {:.1} bytes a sample", queued as f64 / load.samples as f64);
        }
        let begun = Instant::now();
        destination.is_open.store(true, Relaxed);
        while destination.samples.load(Relaxed) < load.samples {
            if begun.elapsed() > PATIENCE {
                let got = destination.samples.load(Relaxed);
                bail!("{} forwarded {got} of {} samples", kind.name(), load.samples);
            }
            thread::sleep(Duration::from_millis(5));
        }
        put("M samples per wall s", per_second(load.samples, begun.elapsed().as_secs_f64()), true);
    }
    system.settle();
    let cpu_seconds = system.cpu_seconds() - before;
    let data: PathBuf = system.kill()?;
    std::fs::remove_dir_all(data)?;
    Ok(Cost { cpu_seconds, samples: load.samples })
}

fn serve() -> Result<(Arc<Destination>, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen for remote write")?;
    let port = listener.local_addr()?.port();
    let destination = Arc::new(Destination::default());
    let of_thread = Arc::clone(&destination);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let destination = Arc::clone(&of_thread);
            // A connection that ends is made anew by whoever sends.
            thread::spawn(move || drop(take_all(stream, &destination)));
        }
    });
    Ok((destination, port))
}

fn take_all(stream: TcpStream, destination: &Destination) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::with_capacity(1 << 18, stream.try_clone()?);
    let (mut out, mut line, mut body) = (stream, String::new(), Vec::new());
    loop {
        let (mut length, mut is_v2) = (0, false);
        loop {
            line.clear();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            is_v2 |= lower.starts_with("content-type:") && lower.contains("write.v2");
            if line == "\r\n" {
                break;
            }
        }
        body.resize(length, 0);
        requests.read_exact(&mut body)?;
        if !destination.is_open.load(Relaxed) {
            out.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        let samples = samples_of(&body, is_v2)?;
        let answer = format!(
            "HTTP/1.1 204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: {samples}\r\n\r\n"
        );
        out.write_all(answer.as_bytes())?;
        destination.bytes.fetch_add(length as u64, Relaxed);
        destination.samples.fetch_add(samples, Relaxed);
    }
}

fn samples_of(body: &[u8], is_v2: bool) -> Result<u64> {
    let body = snap::raw::Decoder::new().decompress_vec(body)?;
    let (mut rows, limits, caps) = (MetricRows::default(), Limits::default(), Caps::default());
    match is_v2 {
        true => ingest::remote_write::walk_v2(&body, &limits, &caps, None, &mut rows)?,
        false => ingest::remote_write::walk(&body, &limits, &caps, &mut rows)?,
    };
    Ok(rows.samples.len() as u64)
}
