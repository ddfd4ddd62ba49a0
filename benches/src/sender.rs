//! Sends a load, one thread for each connection, each request after the answer to the one before.

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::load::{self, Load};
use testkit::http::Connection;

/// What a remote-write 1.0 sender says of its body.
const WRITE_HEADERS: &[(&str, &str)] = &[
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ("User-Agent", "taffrail-bench"),
];

/// What sending took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Samples in acknowledged requests.
    pub(crate) samples: u64,
    /// From the first request to the last answer.
    pub(crate) wall: Duration,
}

/// Sends everything; any answer but 2xx ends the run.
pub(crate) fn send(load: &Load, port: u16, path: &str, what: &str) -> Result<Sent> {
    let started = Instant::now();
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = load
            .files
            .iter()
            .map(|file| scope.spawn(|| one_connection(file, port, path, &done)))
            .collect();
        while threads.iter().any(|t| !t.is_finished()) {
            load::progress(what, done.load(Ordering::Relaxed), load.samples);
            thread::sleep(Duration::from_millis(200));
        }
        threads.into_iter().try_for_each(|t| t.join().expect("a sending thread does not panic"))
    })?;
    Ok(Sent { samples: done.into_inner(), wall: started.elapsed() })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark's own files are not the product's data"
)]
fn one_connection(file: &Path, port: u16, path: &str, done: &AtomicU64) -> Result<()> {
    let file_handle =
        std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
    let mut file = BufReader::with_capacity(1 << 20, file_handle);
    let mut connection = Connection::open(([127, 0, 0, 1], port).into())?;
    let mut header = [0u8; 8];
    let mut body = Vec::new();
    while file.read_exact(&mut header).is_ok() {
        let (length, samples) = header.split_at(4);
        let length = u32::from_le_bytes(length.try_into()?);
        let samples = u32::from_le_bytes(samples.try_into()?);
        body.resize(length as usize, 0);
        file.read_exact(&mut body)?;
        loop {
            let response = connection.call("POST", path, WRITE_HEADERS, &body)?;
            match response.status {
                200..=299 => break,
                // A full queue asks us to come back: that is part of how fast a system is.
                429 | 503 => thread::sleep(Duration::from_millis(20)),
                status => {
                    bail!("write answered {status}: {}", String::from_utf8_lossy(&response.body))
                }
            }
        }
        done.fetch_add(u64::from(samples), Ordering::Relaxed);
    }
    Ok(())
}
