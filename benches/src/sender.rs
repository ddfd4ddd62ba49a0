//! Sends a load, one thread for each connection, each request after the answer to the one before.
//! The connections keep pace with each other, as senders do that live by the same clock.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::load::{self, Load};
use testkit::http::Connection;

/// Where bodies go, and what is said of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    pub(crate) path: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

/// Remote write 1.0; every system has it at the same place.
pub(crate) const REMOTE_WRITE: Door = Door {
    path: "/api/v1/write",
    headers: &[
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ("User-Agent", "taffrail-bench"),
    ],
};

/// What sending took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Samples in acknowledged requests.
    pub(crate) samples: u64,
    /// From the first request to the last answer.
    pub(crate) wall: Duration,
}

/// How far a connection may be ahead of the slowest, in parts of its load. Half a percent of a day
/// is seven minutes: Prometheus refuses what is an hour behind the newest sample.
const LEAD: f64 = 0.005;

/// How far each connection is, so that none runs ahead of another.
struct Pace(Vec<AtomicU64>);

impl Pace {
    /// Connection `own` has sent that part of its load; returns when it may go on.
    fn keep(&self, own: usize, part: f64) {
        self.0[own].store(part.to_bits(), Ordering::Relaxed);
        let slowest = || {
            let parts = self.0.iter().map(|p| f64::from_bits(p.load(Ordering::Relaxed)));
            parts.fold(f64::INFINITY, f64::min)
        };
        while part > slowest() + LEAD {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Tells the others, however a connection ends, not to wait for it.
struct Leaves<'a>(&'a Pace, usize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.0[self.1].store(f64::INFINITY.to_bits(), Ordering::Relaxed);
    }
}

/// Sends everything; any answer but 2xx ends the run.
pub(crate) fn send(load: &Load, port: u16, door: &Door, what: &str) -> Result<Sent> {
    let started = Instant::now();
    let done = AtomicU64::new(0);
    let pace = Pace(load.files.iter().map(|_| AtomicU64::new(0)).collect());
    thread::scope(|scope| {
        let threads: Vec<_> = load
            .files
            .iter()
            .enumerate()
            .map(|(own, file)| {
                let (pace, done) = (&pace, &done);
                scope.spawn(move || {
                    let leaves = Leaves(pace, own);
                    one_connection(file, port, door, done, |part| leaves.0.keep(own, part))
                })
            })
            .collect();
        while threads.iter().any(|t| !t.is_finished()) {
            load::progress(what, done.load(Ordering::Relaxed), load.samples);
            thread::sleep(Duration::from_millis(200));
        }
        threads.into_iter().try_for_each(|t| t.join().expect("a sending thread does not panic"))
    })?;
    Ok(Sent { samples: done.into_inner(), wall: started.elapsed() })
}

fn one_connection(
    file: &Path,
    port: u16,
    door: &Door,
    done: &AtomicU64,
    keep_pace: impl Fn(f64),
) -> Result<()> {
    let mut requests = load::Requests::open(file)?;
    let mut connection = Connection::open(([127, 0, 0, 1], port).into())?;
    let mut body = Vec::new();
    while let Some(samples) = requests.next(&mut body)? {
        loop {
            let response = connection.call("POST", door.path, door.headers, &body)?;
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
        keep_pace(requests.progress());
    }
    Ok(())
}
