//! The doors for metrics, each the whole way from an HTTP request to rows on disk: the same series by remote
//! write 1.0, by 2.0 and by OTLP, one sample of each a request. The series are there already: what counts is
//! what a sample costs.

use std::time::Instant;

use anyhow::{Context, Result};
use model::Labels;
use testkit::remote_write::{self, Series};
use testkit::remote_write_v2;

use crate::codec;
use crate::load::{self, CONNECTIONS, Load};
use crate::scenario::{Figure, PORT, Run, fresh};
use crate::sender::{self, Door};
use crate::system::{Kind, System};

/// Series of a request, as Prometheus sends by default.
const SERIES_PER_REQUEST: usize = 2_000;

/// Seconds between two samples of a series.
const INTERVAL_MS: i64 = 15_000;

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) series: usize,
    pub(crate) rounds: u64,
}

/// What a door takes, and how that is written.
struct Measured {
    name: &'static str,
    door: Door,
    body: fn(&[Labels], i64, f64) -> Vec<u8>,
    /// Whether the peers that are measured have it.
    of_peers: bool,
}

const DOORS: [Measured; 3] = [
    Measured {
        name: "remote write 1.0",
        door: sender::REMOTE_WRITE,
        body: |labels, at_ms, value| {
            compressed(&remote_write::body(&one_each(labels, at_ms, value), &[]))
        },
        of_peers: true,
    },
    Measured {
        name: "remote write 2.0",
        door: Door {
            path: "/api/v1/write",
            headers: &[
                ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
                ("Content-Encoding", "snappy"),
                ("X-Prometheus-Remote-Write-Version", "2.0.0"),
                ("User-Agent", "taffrail-bench"),
            ],
        },
        body: |labels, at_ms, value| {
            compressed(&remote_write_v2::body(&one_each(labels, at_ms, value), &[]))
        },
        of_peers: false,
    },
    Measured {
        name: "OTLP (protobuf, not compressed)",
        door: Door {
            path: "/v1/metrics",
            headers: &[
                ("Content-Type", "application/x-protobuf"),
                ("User-Agent", "taffrail-bench"),
            ],
        },
        body: codec::otlp,
        of_peers: false,
    },
];

/// Every system in turn; of each the doors it has.
pub(crate) fn measure(
    run: &Run,
    scale: Scale,
    start_ms: i64,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    for one in &DOORS {
        let labels: Vec<Labels> = (0..scale.series).map(codec::labels).collect();
        let file = one.name.replace([' ', '(', ')', ',', '.'], "-");
        let make = |name: &str, rounds| requests(run, name, one, &labels, (start_ms, rounds));
        let first = make(&format!("{file}-first"), 0..1)?;
        let rest = make(&format!("{file}-rest"), 1..scale.rounds + 1)?;
        for kind in run.kinds.iter().filter(|kind| **kind == Kind::Taffrail || one.of_peers) {
            let data = fresh(run.dir.join(format!("{file}-{}", kind.name())))?;
            let (system, _) = System::start(*kind, &data, PORT)?;
            let what = format!("{} → {}", one.name, kind.name());
            sender::send(&first, PORT, &one.door, &what)?;
            system.settle();
            let before = system.cpu_seconds();
            let sent = sender::send(&rest, PORT, &one.door, &what)?;
            system.settle();
            let cpu = system.cpu_seconds() - before;
            // Whoever answers well and stores nothing would look cheap.
            let count = "count({__name__=~\"container_cpu_usage_seconds_.*\"})";
            let expected = scale.series.to_string();
            system
                .wait_for_answer(count, rest.end_ms, &expected, Instant::now())
                .with_context(|| format!("{what}: not every series is there"))?;
            let mut put = |measure: &str, value: f64| {
                let measure = format!("{}: {measure}", one.name);
                figures.push(Figure {
                    measure,
                    kind: *kind,
                    value: Some(value),
                    more_is_better: true,
                });
            };
            put("M samples per CPU s, until idle again", sent.samples as f64 / cpu / 1e6);
            let wall = sent.wall.as_secs_f64();
            put(
                &format!("M samples per wall s, {CONNECTIONS} connections"),
                sent.samples as f64 / wall / 1e6,
            );
            std::fs::remove_dir_all(system.kill()?)?;
        }
    }
    Ok(())
}

/// One request after the other for all series, round after round. A series stays on one connection.
fn requests(
    run: &Run,
    name: &str,
    of: &Measured,
    labels: &[Labels],
    (start_ms, rounds): (i64, std::ops::Range<u64>),
) -> Result<Load> {
    let end_ms = start_ms + rounds.end as i64 * INTERVAL_MS;
    let bodies = rounds.flat_map(|round| {
        labels.chunks(SERIES_PER_REQUEST).enumerate().map(move |(i, chunk)| {
            let at_ms = start_ms + round as i64 * INTERVAL_MS + (i as i64 * 37) % INTERVAL_MS;
            (i % CONNECTIONS, (of.body)(chunk, at_ms, round as f64 * 1.5), chunk.len() as u32)
        })
    });
    load::prepared(&run.dir, name, bodies, labels.len() as u64, end_ms)
}

fn one_each(labels: &[Labels], at_ms: i64, value: f64) -> Vec<Series> {
    labels.iter().map(|labels| Series::new(labels, &[(at_ms, value)])).collect()
}

fn compressed(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).expect("a request is far below snappy's 4 GiB")
}
