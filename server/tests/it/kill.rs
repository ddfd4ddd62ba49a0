//! `kill -9` under write load: whatever was acknowledged is there after the next start.
//!
//! `TAFFRAIL_SOAK_CYCLES=200 cargo test -p server --test it kill -- --nocapture` is the long run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use model::{Clock, Labels, SystemClock};
use testkit::S3Server;
use testkit::http::{Connection, escaped};
use testkit::remote_write::Series;

use crate::process::{Program, free_address, on_s3, taffrail_at};
use crate::senders::{HEADERS, compressed};

/// Small enough that every cycle flushes blocks and rolls log segments over.
const CONFIG: &str = "
[ingest.self_scrape]
enabled = false
[storage]
partitions = 4
flush_samples = 3000
flush_seconds = 1
log_segment_bytes = 262144
disk_reserve_bytes = 0
";

const WRITERS: u64 = 3;
const SERIES: u64 = 40;

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    check(4, CONFIG);
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_with_blocks_on_s3() {
    let Some(s3) = S3Server::start() else { return };
    check(2, &format!("{CONFIG}{}", on_s3(&s3, "kill")));
}

fn check(cycles: u64, config: &str) {
    let cycles: u64 =
        std::env::var("TAFFRAIL_SOAK_CYCLES").ok().and_then(|c| c.parse().ok()).unwrap_or(cycles);
    let seed: u64 = std::env::var("TAFFRAIL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let base_ms = SystemClock::default().now_ms() - 3_600_000;
    let mut acknowledged = vec![Vec::new(); WRITERS as usize];
    let mut restarts = Vec::new();
    for cycle in 0..cycles {
        let started = Instant::now();
        let mut server = taffrail_at(dir.path(), address, config);
        restarts.push(started.elapsed());
        let load = Duration::from_millis(300 + (seed * 7919 + cycle * 104_729) % 1700);
        write_until_killed(&mut server, address, base_ms, load, &mut acknowledged);
        println!(
            "cycle {cycle}: {} requests acknowledged so far",
            acknowledged.iter().map(Vec::len).sum::<usize>()
        );
    }
    let server = taffrail_at(dir.path(), address, config);
    for (writer, requests) in acknowledged.iter().enumerate() {
        assert!(requests.len() as u64 > cycles, "writer {writer} was hardly heard");
        check_writer(&server, writer as u64, requests, base_ms);
    }
    restarts.sort();
    println!(
        "{cycles} cycles, seed {seed}; restart median {:?}, longest {:?}",
        restarts[restarts.len() / 2],
        restarts[restarts.len() - 1]
    );
}

/// All writers write for a while, then the plug is pulled under them.
fn write_until_killed(
    server: &mut Program,
    address: SocketAddr,
    base_ms: i64,
    load: Duration,
    acknowledged: &mut [Vec<u64>],
) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, requests) in acknowledged.iter_mut().enumerate() {
            let stop = &stop;
            scope.spawn(move || write(address, writer as u64, base_ms, requests, stop));
        }
        thread::sleep(load);
        server.kill();
        stop.store(true, Ordering::Relaxed);
    });
}

/// Writes request after request; notes the numbers of those that were acknowledged. A request
/// without an answer is repeated by the next life, as a sender would.
fn write(
    address: SocketAddr,
    writer: u64,
    base_ms: i64,
    acknowledged: &mut Vec<u64>,
    stop: &AtomicBool,
) {
    let Ok(mut connection) = Connection::open(address) else { return };
    let headers = [HEADERS.as_slice(), &[("X-Scope-OrgID", "soak")]].concat();
    let mut number = acknowledged.last().map_or(0, |n| n + 1);
    while !stop.load(Ordering::Relaxed) {
        let body = compressed(&request(writer, number, base_ms), &[]);
        match connection.call("POST", "/api/v1/write", &headers, &body) {
            Ok(answer) if answer.status == 204 => acknowledged.push(number),
            Ok(answer) if answer.status == 503 => {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            Ok(answer) => panic!("write answered {}: {}", answer.status, answer.text()),
            Err(_) => return,
        }
        number += 1;
    }
}

/// One sample for each series of a writer; every fifth request brings a series nobody knew.
fn request(writer: u64, number: u64, base_ms: i64) -> Vec<Series> {
    let at = base_ms + number as i64;
    let labels = |series: String| {
        Labels::from_pairs([
            ("__name__", "soak"),
            ("writer", &writer.to_string()),
            ("series", &series),
        ])
    };
    let mut all: Vec<Series> = (0..SERIES)
        .map(|s| Series::new(&labels(s.to_string()), &[(at, value(s, number))]))
        .collect();
    if number.is_multiple_of(5) {
        all.push(Series::new(&labels(format!("once-{number}")), &[(at, value(SERIES, number))]));
    }
    all
}

fn value(series: u64, number: u64) -> f64 {
    (number * 1000 + series) as f64 / 7.0
}

/// Every acknowledged sample is there once, with its value; nothing else but what was sent is.
fn check_writer(server: &Program, writer: u64, requests: &[u64], base_ms: i64) {
    let newest = requests.last().copied().unwrap_or(0) + 1;
    for s in (0..SERIES).map(|s| s.to_string()) {
        let samples = samples_of(server, writer, &s, base_ms + newest as i64);
        let missing = requests.iter().find(|n| !samples.contains_key(&(base_ms + **n as i64)));
        assert_eq!(missing, None, "writer {writer}, series {s}: an acknowledged sample is gone");
        for (at, found) in &samples {
            let number = (at - base_ms) as u64;
            assert!(number <= newest, "a sample that was never sent");
            let sent = value(s.parse().expect("a number"), number);
            assert_eq!(
                found.parse::<f64>().map(f64::to_bits),
                Ok(sent.to_bits()),
                "writer {writer}, series {s}, request {number}"
            );
        }
    }
    // Series that came once, all in one listing: a long run has tens of thousands.
    let selector = escaped(&format!("soak{{writer=\"{writer}\"}}"));
    let known =
        server.json(&format!("/api/v1/label/series/values?match[]={selector}"), Some("soak"));
    let known: BTreeSet<&str> =
        known["data"].as_array().into_iter().flatten().filter_map(|v| v.as_str()).collect();
    let mut once = requests.iter().filter(|n| n.is_multiple_of(5)).map(|n| format!("once-{n}"));
    assert_eq!(once.find(|series| !known.contains(series.as_str())), None, "writer {writer}");
}

fn samples_of(server: &Program, writer: u64, series: &str, until_ms: i64) -> BTreeMap<i64, String> {
    let query = format!("soak{{writer=\"{writer}\",series=\"{series}\"}}[3h]");
    let time = format!("{}.{:03}", until_ms / 1000, until_ms % 1000);
    let answer =
        server.json(&format!("/api/v1/query?query={}&time={time}", escaped(&query)), Some("soak"));
    let values = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let sample = |v: &serde_json::Value| {
        let at_ms = (v[0].as_f64().unwrap_or(0.0) * 1000.0).round() as i64;
        (at_ms, v[1].as_str().unwrap_or("").to_owned())
    };
    values.iter().map(sample).collect()
}
