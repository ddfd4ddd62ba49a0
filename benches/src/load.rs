//! Loads: request bodies prepared beforehand, so that every system gets the same bytes and the
//! generator's own work is in nobody's figures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::{self, Jitter};
use crate::wire::{self, Request};

/// Series in one request, as Prometheus sends by default.
const SERIES_PER_REQUEST: u32 = 2_000;

/// Connections a load is split over. A series stays on one of them, so its samples stay in order.
pub(crate) const CONNECTIONS: usize = 2;

/// One file of prepared requests for each connection.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// Samples in all of them.
    pub(crate) samples: u64,
    /// Series in all of them.
    pub(crate) series: u64,
    /// The last timestamp. Milliseconds.
    pub(crate) end_ms: i64,
}

/// The requests of one file, in turn.
#[derive(Debug)]
pub(crate) struct Requests {
    file: std::io::BufReader<std::fs::File>,
    bytes: u64,
    read: u64,
}

impl Requests {
    /// Opens the file of one connection.
    #[expect(
        clippy::disallowed_methods,
        reason = "the benchmark's own files are not the product's data"
    )]
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        let bytes = file.metadata()?.len();
        Ok(Self { file: std::io::BufReader::with_capacity(1 << 20, file), bytes, read: 0 })
    }

    /// Puts the next body, compressed, in the place of the one before; the number of its samples,
    /// or `None` after the last one.
    pub(crate) fn next(&mut self, body: &mut Vec<u8>) -> Result<Option<u32>> {
        use std::io::Read;
        let mut header = [0u8; 8];
        if self.file.read_exact(&mut header).is_err() {
            return Ok(None);
        }
        let [l0, l1, l2, l3, s0, s1, s2, s3] = header;
        body.resize(u32::from_le_bytes([l0, l1, l2, l3]) as usize, 0);
        self.file.read_exact(body)?;
        self.read += (header.len() + body.len()) as u64;
        Ok(Some(u32::from_le_bytes([s0, s1, s2, s3])))
    }

    /// The part of the file that was read.
    pub(crate) fn progress(&self) -> f64 {
        self.read as f64 / self.bytes as f64
    }
}

struct Writer {
    out: std::io::BufWriter<std::fs::File>,
    request: Request,
    samples: u64,
}

impl Writer {
    fn create(path: &Path) -> Result<Self> {
        let file = create(path)?;
        Ok(Self {
            out: std::io::BufWriter::with_capacity(1 << 20, file),
            request: Request::default(),
            samples: 0,
        })
    }

    fn push(&mut self, labels: &[u8], timestamp_ms: i64, value: f64) -> Result<()> {
        self.request.push(labels, timestamp_ms, value);
        if self.request.samples == SERIES_PER_REQUEST { self.cut() } else { Ok(()) }
    }

    fn cut(&mut self) -> Result<()> {
        if self.request.samples == 0 {
            return Ok(());
        }
        let (body, samples) = self.request.take();
        self.put(&body, samples)
    }

    /// A whole request.
    fn put(&mut self, body: &[u8], samples: u32) -> Result<()> {
        use std::io::Write;
        self.samples += u64::from(samples);
        self.out.write_all(&(body.len() as u32).to_le_bytes())?;
        self.out.write_all(&samples.to_le_bytes())?;
        Ok(self.out.write_all(body)?)
    }

    fn finish(mut self) -> Result<u64> {
        use std::io::Write;
        self.cut()?;
        self.out.flush()?;
        Ok(self.samples)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark's own files are not the product's data"
)]
fn create(path: &Path) -> Result<std::fs::File> {
    std::fs::File::create(path).with_context(|| format!("create {}", path.display()))
}

/// Names the files of a load and opens a writer for each.
fn writers(dir: &Path, name: &str) -> Result<(Vec<PathBuf>, Vec<Writer>)> {
    std::fs::create_dir_all(dir)?;
    let files: Vec<_> = (0..CONNECTIONS).map(|i| dir.join(format!("{name}.{i}"))).collect();
    let writers = files.iter().map(|f| Writer::create(f)).collect::<Result<_>>()?;
    Ok((files, writers))
}

/// Bodies as they are to be sent, each with its connection and its samples.
pub(crate) fn prepared(
    dir: &Path,
    name: &str,
    bodies: impl Iterator<Item = (usize, Vec<u8>, u32)>,
    series: u64,
    end_ms: i64,
) -> Result<Load> {
    let (files, mut writers) = writers(dir, name)?;
    for (connection, body, samples) in bodies {
        writers[connection].put(&body, samples)?;
    }
    let samples = writers.into_iter().map(Writer::finish).sum::<Result<u64>>()?;
    Ok(Load { files, samples, series, end_ms })
}

/// SIM or SIM0: the cluster from `start_ms` on, for so many hours.
pub(crate) fn simulated(
    dir: &Path,
    name: &str,
    jitter: Jitter,
    start_ms: i64,
    hours: u64,
) -> Result<Load> {
    let (files, mut writers) = writers(dir, name)?;
    let mut targets = cluster::targets(42);
    let ticks = (hours * 3600 / 15) as i64;
    for tick in 0..ticks {
        for (i, target) in targets.iter_mut().enumerate() {
            if tick * 15_000 % target.interval_ms != 0 {
                continue;
            }
            let mut result = Ok(());
            let writer = &mut writers[i % CONNECTIONS];
            target.scrape(start_ms + tick * 15_000, jitter, |labels, at, value| {
                if result.is_ok() {
                    result = writer.push(labels, at, value);
                }
            });
            result?;
        }
        if tick % 240 == 0 {
            progress(&format!("preparing {name}"), tick as u64, ticks as u64);
        }
    }
    let series = targets.iter().map(|t| t.series() as u64).sum();
    let samples = writers.into_iter().map(Writer::finish).sum::<Result<u64>>()?;
    Ok(Load { files, samples, series, end_ms: start_ms + ticks * 15_000 })
}

/// Many series with eleven labels, each with one sample every 15 s for `rounds` rounds.
pub(crate) fn wide(
    dir: &Path,
    name: &str,
    series: u64,
    start_ms: i64,
    rounds: std::ops::Range<u64>,
) -> Result<Load> {
    let (files, mut writers) = writers(dir, name)?;
    let labels: Vec<_> = (0..series).map(wide_labels).collect();
    for round in rounds.clone() {
        for (i, labels) in labels.iter().enumerate() {
            let target = i as u64 / WIDE_METRICS;
            let at = start_ms + round as i64 * 15_000 + (target * 7919 % 15_000) as i64;
            // A third constant, the rest counting at their own pace.
            let value =
                if i % 3 == 0 { (i % 100) as f64 } else { (round * (i as u64 % 50 + 1)) as f64 };
            writers[target as usize % CONNECTIONS].push(labels, at, value)?;
        }
        progress(&format!("preparing {name}"), round - rounds.start, rounds.end - rounds.start);
    }
    let samples = writers.into_iter().map(Writer::finish).sum::<Result<u64>>()?;
    Ok(Load { files, samples, series, end_ms: start_ms + rounds.end as i64 * 15_000 })
}

/// What puts a sample into the requests of a connection.
pub(crate) type Push<'a> = &'a mut dyn FnMut(usize, &[u8], i64, f64) -> Result<()>;

/// So many ticks from `start_ms` on, an interval in milliseconds apart; `tick` says what comes at each.
pub(crate) fn ticks(
    dir: &Path,
    name: &str,
    series: u64,
    start_ms: i64,
    (ticks, interval_ms): (i64, i64),
    mut tick: impl FnMut(i64, Push<'_>) -> Result<()>,
) -> Result<Load> {
    let (files, mut writers) = writers(dir, name)?;
    for i in 0..ticks {
        let mut push = |connection: usize, labels: &[u8], at_ms: i64, value: f64| {
            writers[connection].push(labels, at_ms, value)
        };
        tick(start_ms + i * interval_ms, &mut push)?;
        if i % 360 == 0 {
            progress(&format!("preparing {name}"), i as u64, ticks as u64);
        }
    }
    let samples = writers.into_iter().map(Writer::finish).sum::<Result<u64>>()?;
    Ok(Load { files, samples, series, end_ms: start_ms + ticks * interval_ms })
}

/// Metrics of each target of the wide load.
pub(crate) const WIDE_METRICS: u64 = 500;

fn wide_labels(i: u64) -> Vec<u8> {
    let (target, metric) = (i / WIDE_METRICS, i % WIDE_METRICS);
    wire::labels(&mut [
        ("__name__", format!("wide_metric_{metric:03}_total")),
        ("job", format!("job-{}", target % 20)),
        ("instance", format!("10.{}.{}.7:9100", target / 256, target % 256)),
        ("namespace", format!("team-{}", target % 40)),
        (
            "pod",
            format!("workload-{}-{:08x}", target % 100, target.wrapping_mul(2_654_435_761) as u32),
        ),
        ("container", format!("main-{}", target % 10)),
        ("node", format!("node-{:03}", target % 100)),
        ("cluster", "production-eu-1".to_owned()),
        ("environment", "production".to_owned()),
        ("service", format!("service-{}", target % 100)),
        ("endpoint", "http-metrics".to_owned()),
    ])
}

/// One line of progress on standard error, rewritten in place.
pub(crate) fn progress(what: &str, done: u64, of: u64) {
    use std::io::Write;
    let _ = write!(std::io::stderr(), "\r{what}: {}%   ", done * 100 / of.max(1));
}
