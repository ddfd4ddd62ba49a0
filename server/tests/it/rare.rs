//! What is not a plain float sample, and what becomes of everything at the end of a process:
//! histograms, exemplars, metadata and stale markers, buffered, in blocks and after a restart.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use model::{
    Buckets, Clock, Exemplar, Histogram, Labels, Metadata, MetricKind, ResetHint, Span,
    SystemClock, stale_nan,
};
use testkit::http::Connection;
use testkit::remote_write::Series;

use crate::process::{Program, free_address, taffrail_at};
use crate::senders::{HEADERS, compressed};

const CONFIG: &str = "
[ingest.self_scrape]
enabled = false
[storage]
disk_reserve_bytes = 0
";

fn histogram(float: bool) -> Histogram {
    let buckets = match float {
        false => Buckets::Integer {
            count: 6,
            zero_count: 1,
            positive_deltas: vec![2, 1],
            negative_deltas: vec![],
        },
        true => Buckets::Float {
            count: 6.5,
            zero_count: 1.5,
            positive: vec![2.0, 3.0],
            negative: vec![],
        },
    };
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema: 0,
        zero_threshold: 0.001,
        sum: 12.25,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        negative_spans: vec![],
        buckets,
        custom_values: vec![],
    }
}

fn written(now_ms: i64) -> Vec<u8> {
    let at = |seconds: i64| now_ms - 60_000 + seconds * 1000;
    let named = |name: &str| Series::new(&Labels::from_pairs([("__name__", name)]), &[]);
    let exemplar = Exemplar {
        labels: Labels::from_pairs([("trace_id", "abc123")]),
        value: 0.25,
        timestamp_ms: at(0),
    };
    let series = [
        Series { histograms: vec![(at(0), histogram(false))], ..named("latency") },
        Series { histograms: vec![(at(0), histogram(true))], ..named("latency_float") },
        Series {
            samples: vec![(at(0), 7.0)],
            exemplars: vec![exemplar],
            ..named("requests_total")
        },
        Series { samples: vec![(at(0), 1.0), (at(10), stale_nan())], ..named("gone") },
    ];
    let metadata = Metadata {
        kind: MetricKind::Counter,
        help: "Requests that came.".into(),
        unit: "requests".into(),
    };
    compressed(&series, &[("requests_total", metadata)])
}

/// All of it is there.
fn check_all(server: &Program, now_ms: i64, when: &str) {
    let found =
        |query: &str, at_ms: i64| server.instant(query, at_ms, None)["data"]["result"].clone();
    let buckets = |last: &str| {
        serde_json::json!([[3, "-0.001", "0.001", "1"], [0, "1", "2", "2"], [0, "2", "4", last]])
    };
    let integer = &found("latency", now_ms)[0]["histogram"][1];
    assert_eq!(integer["count"], "6", "{when}: {integer}");
    assert_eq!(integer["sum"], "12.25", "{when}");
    assert_eq!(integer["buckets"], buckets("3"), "{when}");
    let float = &found("latency_float", now_ms)[0]["histogram"][1];
    assert_eq!(float["count"], "6.5", "{when}: {float}");
    assert_eq!(float["buckets"][0][3], "1.5", "{when}");

    assert_eq!(found("gone", now_ms - 55_000)[0]["value"][1], "1", "{when}: before the marker");
    assert_eq!(found("gone", now_ms), serde_json::json!([]), "{when}: after the marker");

    let (start, end) = (now_ms / 1000 - 3600, now_ms / 1000 + 1);
    let path = format!("/api/v1/query_exemplars?query=requests_total&start={start}&end={end}");
    let exemplars = server.json(&path, None);
    let exemplar = &exemplars["data"][0]["exemplars"][0];
    assert_eq!(exemplars["data"][0]["seriesLabels"]["__name__"], "requests_total", "{when}");
    assert_eq!(exemplar["labels"]["trace_id"], "abc123", "{when}: {exemplars}");
    assert_eq!(exemplar["value"], "0.25", "{when}");

    let metadata = server.json("/api/v1/metadata", None);
    let expected = serde_json::json!(
        [{ "type": "counter", "help": "Requests that came.", "unit": "requests" }]
    );
    assert_eq!(metadata["data"]["requests_total"], expected, "{when}");
}

#[test]
fn everything_rare_lives_through_flush_and_restarts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let now_ms = SystemClock::default().now_ms();
    let mut server = taffrail_at(dir.path(), address, CONFIG);
    let answer = server.call("POST", "/api/v1/write", &HEADERS, &written(now_ms));
    assert_eq!(answer.status, 204, "{}", answer.text());
    check_all(&server, now_ms, "buffered");
    server.kill();
    let mut server = taffrail_at(dir.path(), address, CONFIG);
    check_all(&server, now_ms, "after a crash");
    assert_eq!(server.call("POST", "/api/v1/admin/flush", &[], &[]).status, 204);
    check_all(&server, now_ms, "in blocks");
    assert!(server.terminate(), "ends by itself:\n{}", server.output());
    let server = taffrail_at(dir.path(), address, CONFIG);
    check_all(&server, now_ms, "after a stop");
}

#[test]
fn sigterm_under_load_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let base_ms = SystemClock::default().now_ms() - 600_000;
    let mut server = taffrail_at(dir.path(), address, CONFIG);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let ended = thread::scope(|scope| {
        for writer in 0..3_i64 {
            let (stop, acknowledged) = (&stop, &acknowledged);
            scope.spawn(move || {
                let Ok(mut connection) = Connection::open(address) else { return };
                let labels = Labels::from_pairs([("__name__", "load"), ("w", &writer.to_string())]);
                for number in 0..600_000 {
                    let series = Series::new(&labels, &[(base_ms + number, number as f64)]);
                    let body = compressed(&[series], &[]);
                    match connection.call("POST", "/api/v1/write", &HEADERS, &body) {
                        Ok(answer) if answer.status == 204 => {
                            acknowledged.fetch_add(1, Ordering::Relaxed)
                        }
                        // A connection that ends between two requests is the usual goodbye.
                        _ => return,
                    };
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        thread::sleep(Duration::from_secs(1));
        let ended = server.terminate();
        stop.store(true, Ordering::Relaxed);
        ended
    });
    assert!(ended, "ends by itself with status 0:\n{}", server.output());
    let acknowledged = acknowledged.into_inner();
    assert!(acknowledged > 10, "only {acknowledged} writes were acknowledged");

    let server = taffrail_at(dir.path(), address, CONFIG);
    let text = server.call("GET", "/metrics", &[], &[]).text();
    assert!(
        text.lines().any(|line| line == "taffrail_storage_head_samples 0"),
        "nothing is left to be replayed after a proper end"
    );
    let answer = server.instant("sum(count_over_time(load[1h]))", base_ms + 600_000, None);
    let stored = answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
    let stored: u64 = stored.and_then(|s| s.parse().ok()).unwrap_or(0);
    // A request whose acknowledgement was lost may be stored as well: at most one a writer.
    assert!(
        (acknowledged..=acknowledged + 3).contains(&stored),
        "{acknowledged} acknowledged, {stored} stored"
    );
}
