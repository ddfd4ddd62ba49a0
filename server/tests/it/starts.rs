//! Start timestamps from remote write 2.0 to the answer: buffered, after a crash, in blocks, after a
//! restart; and not looked at unless that is switched on.

use model::{Buckets, Clock, Histogram, ResetHint, Span, SystemClock};
use testkit::remote_write_v2::{Request, Sample, Series};

use crate::process::{Program, free_address, taffrail_at};

fn config(start_timestamps: bool) -> String {
    format!(
        "[ingest.self_scrape]\nenabled = false\n[storage]\ndisk_reserve_bytes = 0\n\
         [query]\nexperimental_promql = true\nstart_timestamps = {start_timestamps}\n"
    )
}

const HEADERS: [(&str, &str); 2] = [
    ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("Content-Encoding", "snappy"),
];

/// Milliseconds between two samples.
const STEP_MS: i64 = 15_000;

fn histogram(count: u64) -> Histogram {
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema: 0,
        zero_threshold: 0.001,
        sum: 1.0,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        negative_spans: vec![],
        buckets: Buckets::Integer {
            count,
            zero_count: 0,
            positive_deltas: vec![count as i64],
            negative_deltas: vec![],
        },
        custom_values: vec![],
    }
}

/// Twenty samples that each count since the one before, the same as a native histogram, and a
/// counter that began with its tenth sample and says so.
fn written(last_ms: i64) -> Vec<u8> {
    let mut request = Request::default();
    let instants = || (0..20).map(|i| last_ms - (19 - i) * STEP_MS);
    let mut series = |name: &str, samples: Vec<Sample>| {
        let labels_refs = ["__name__", name].map(|text| request.symbol(text)).to_vec();
        Series { labels_refs, samples, ..Series::default() }
    };
    let sample = |timestamp_ms, start_timestamp_ms, value| Sample {
        value,
        timestamp_ms,
        start_timestamp_ms,
    };
    let deltas =
        series("delta_total", instants().map(|at| sample(at, at - STEP_MS, 60.0)).collect());
    let began_ms = last_ms - 10 * STEP_MS - 5_000;
    let counter = instants().enumerate().map(|(i, at)| {
        let start_ms = if at > began_ms { began_ms } else { 0 };
        sample(at, start_ms, i as f64)
    });
    let counter = series("began_total", counter.collect());
    let plain = series("plain_total", instants().map(|at| sample(at, 0, 60.0)).collect());
    let mut native = series("delta_native", vec![]);
    native.histograms = instants().map(|at| (at, at - STEP_MS, histogram(60))).collect();
    request.series = vec![deltas, counter, plain, native];
    snap::raw::Encoder::new().compress_vec(&request.body()).expect("a small body")
}

/// The single value of an instant query.
fn value(server: &Program, question: &str, at_ms: i64) -> String {
    let answer = server.instant(question, at_ms, None);
    let value = &answer["data"]["result"][0]["value"][1];
    value.as_str().map_or_else(|| answer.to_string(), str::to_owned)
}

fn check(server: &Program, last_ms: i64, when: &str, expected: &[(&str, &str)]) {
    for (question, expected) in expected {
        assert_eq!(value(server, question, last_ms), *expected, "{question} {when}");
    }
}

#[test]
fn start_timestamps_reach_the_answer_from_wherever_they_lie() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let last_ms = SystemClock::default().now_ms() / 1_000 * 1_000;
    let start = format!("{}", (last_ms - STEP_MS) / 1_000);
    let seen = [
        ("increase(delta_total[1m])", "240"),
        ("increase(plain_total[1m])", "0"),
        ("resets(began_total[5m])", "1"),
        ("resets(began_total[1m])", "0"),
        ("histogram_count(increase(delta_native[1m]))", "240"),
        ("start_timestamp(delta_total)", start.as_str()),
    ];
    let mut server = taffrail_at(dir.path(), address, &config(true));
    let answer = server.call("POST", "/api/v1/write", &HEADERS, &written(last_ms));
    assert_eq!(answer.status, 204, "{}", answer.text());
    check(&server, last_ms, "buffered", &seen);
    server.kill();
    let mut server = taffrail_at(dir.path(), address, &config(true));
    check(&server, last_ms, "after a crash", &seen);
    assert_eq!(server.call("POST", "/api/v1/admin/flush", &[], &[]).status, 204);
    check(&server, last_ms, "in blocks", &seen);
    assert!(server.terminate(), "ends by itself:\n{}", server.output());
    let mut server = taffrail_at(dir.path(), address, &config(true));
    check(&server, last_ms, "after a stop", &seen);
    assert!(server.terminate(), "ends by itself:\n{}", server.output());
    let server = taffrail_at(dir.path(), address, &config(false));
    let unseen = [
        ("increase(delta_total[1m])", "0"),
        ("resets(began_total[5m])", "0"),
        ("histogram_count(increase(delta_native[1m]))", "0"),
    ];
    check(&server, last_ms, "switched off", &unseen);
}
