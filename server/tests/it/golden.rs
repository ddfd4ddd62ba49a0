//! The golden data directory: written by an earlier build, kept in the repository, opened and
//! questioned by this one. Whatever becomes of the formats, what is there must be read.
//!
//! `UPDATE_GOLDEN=1 cargo test -p server --test it golden` writes it anew, with its answers; only
//! for something that the old one does not have.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{
    Buckets, Clock, Exemplar, Histogram, Labels, Metadata, MetricKind, ResetHint, Span, SystemClock,
};
use serde_json::{Value, json};
use testkit::http::escaped;
use testkit::remote_write::Series;

use crate::process::{Program, free_address, run, taffrail, taffrail_at};
use crate::senders::{HEADERS, compressed};

/// Small files, and two levels of compaction at the first occasion.
const CONFIG: &str = "
[ingest.self_scrape]
enabled = false
[tenancy.limits.default]
metrics_raw_retention_seconds = 0
[storage]
partitions = 2
log_segment_bytes = 65536
flush_seconds = 86400
disk_reserve_bytes = 0
compaction = { fresh_blocks_max = 2 }
";

/// Bytes that all its files may have together.
const BYTES_MAX: u64 = 200_000;

/// The directory and its answers, one for each format that ever was.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden-1")
}

fn copy(from: &Path, to: &Path) -> u64 {
    fs::create_dir_all(to).expect("make a directory");
    let mut bytes = 0;
    for entry in fs::read_dir(from).expect("list a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            bytes += copy(&entry.path(), &target);
        } else if entry.file_name() != "lock" {
            bytes += fs::copy(entry.path(), target).expect("copy a file");
        }
    }
    bytes
}

/// A scrape of everything a sample can be.
fn scrape(at_ms: i64, round: i64) -> (Vec<Series>, Vec<(&'static str, Metadata)>) {
    let labels = |name: &str, instance: &str| {
        Labels::from_pairs([("__name__", name), ("instance", instance), ("job", "golden")])
    };
    let every = |n: i64| at_ms + n * 15_000;
    let mut series = Vec::new();
    for instance in ["a:1", "b:2"] {
        let points = |f: &dyn Fn(i64) -> f64| (0..12).map(|n| (every(n), f(n))).collect::<Vec<_>>();
        let step = |n: i64| (round * 12 + n) as f64;
        for (name, points) in [
            ("requests_total", points(&|n| step(n) * 7.0)),
            ("temperature_celsius", points(&|n| 20.0 + (step(n) / 3.0).sin())),
            ("constant", points(&|_| 42.0)),
            ("decimals", points(&|n| step(n) / 100.0)),
            ("large", points(&|n| 9_007_199_254_740_993.0 + step(n) * 2.0)),
            ("zeros", points(&|n| if n % 2 == 0 { 0.0 } else { -0.0 })),
            ("infinite", points(&|n| if n % 2 == 0 { f64::INFINITY } else { f64::NEG_INFINITY })),
            ("nans", points(&|n| f64::from_bits(0x7ff8_0000_0000_0000 | n as u64))),
            ("ends", points(&|n| if n % 10 == 9 { model::stale_nan() } else { step(n) })),
        ] {
            series.push(Series::new(&labels(name, instance), &points));
        }
        for (le, share) in [("0.1", 2.0), ("1", 5.0), ("+Inf", 6.0)] {
            let own = labels("latency_seconds_bucket", instance).to_builder().set("le", le).build();
            series.push(Series::new(&own, &points(&|n| step(n) * share)));
        }
        let own = labels("sizes_bytes", instance);
        let histograms = (0..4).map(|n| (every(n * 3), histogram(round * 4 + n))).collect();
        series.push(Series { histograms, ..Series::new(&own, &[]) });
        if let Some(first) =
            series.iter_mut().find(|s| s.labels.contains(&("instance".into(), instance.into())))
        {
            let trace = format!("{round:032x}");
            let labels = Labels::from_pairs([("trace_id", trace.as_str())]);
            first.exemplars = vec![Exemplar { labels, value: 0.5, timestamp_ms: every(3) }];
        }
    }
    let about = |kind, help: &str, unit: &str| Metadata {
        kind,
        help: help.to_owned(),
        unit: unit.to_owned(),
    };
    let metadata = vec![
        ("requests_total", about(MetricKind::Counter, "Requests.", "")),
        ("temperature_celsius", about(MetricKind::Gauge, "How warm it is, in \"°C\".", "celsius")),
        ("sizes_bytes", about(MetricKind::Histogram, "Sizes.", "bytes")),
    ];
    (series, metadata)
}

fn histogram(n: i64) -> Histogram {
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema: 2,
        zero_threshold: 0.001,
        sum: n as f64 * 10.5,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 3, length: 1 }],
        negative_spans: Vec::new(),
        buckets: Buckets::Integer {
            count: (n * 6 + 6) as u64,
            zero_count: 1,
            positive_deltas: vec![n + 1, 1, n * 3],
            negative_deltas: Vec::new(),
        },
        custom_values: Vec::new(),
    }
}

fn write(server: &Program, tenant: &str, at_ms: i64, round: i64) {
    let (series, metadata) = scrape(at_ms, round);
    let body = compressed(&series, &metadata);
    let headers = [HEADERS.as_slice(), &[("X-Scope-OrgID", tenant)]].concat();
    let answer = server.call("POST", "/api/v1/write", &headers, &body);
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn post(server: &Program, path: &str, tenant: Option<&str>) {
    let headers: Vec<(&str, &str)> = tenant.map(|t| ("X-Scope-OrgID", t)).into_iter().collect();
    let answer = server.call("POST", path, &headers, &[]);
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
}

fn storage_of(server: &Program) -> Value {
    server.json("/api/v1/admin/storage", Some("*"))["data"].clone()
}

/// Blocks of each level.
fn blocks(server: &Program) -> [u64; 3] {
    let data = storage_of(server);
    [0, 1, 2].map(|level: usize| data["levels"][level]["blocks"].as_u64().expect("a number"))
}

/// What was there at some time, asked of a server on a directory that is being made or was made.
fn questions(start_ms: i64, end_ms: i64) -> Vec<(&'static str, String)> {
    let range = format!("start={}&end={}", start_ms as f64 / 1000.0, end_ms as f64 / 1000.0);
    let minutes = (end_ms - start_ms) / 60_000 + 1;
    let at = end_ms as f64 / 1000.0;
    let mut all = Vec::new();
    let mut dump = |tenant, query: String| {
        all.push((tenant, format!("/api/v1/query?query={}&time={at}", escaped(&query))));
    };
    // Every sample of one tenant, and of the others what depends on every sample.
    dump("golden", format!("{{job=\"golden\"}}[{minutes}m]"));
    for tenant in ["second", "golden|second"] {
        dump(tenant, format!("last_over_time({{job=\"golden\"}}[{minutes}m])"));
        for name in ["constant", "decimals", "ends", "large", "requests_total", "sizes_bytes"] {
            for function in ["count_over_time", "sum_over_time"] {
                dump(tenant, format!("{function}({name}[{minutes}m])"));
            }
        }
    }
    for tenant in ["golden", "second", "golden|second"] {
        for query in [
            "sum by (instance) (rate(requests_total[5m]))",
            "histogram_quantile(0.9, sizes_bytes)",
            "histogram_quantile(0.9, rate(latency_seconds_bucket[5m]))",
            "count by (__name__) ({job=\"golden\"})",
        ] {
            all.push((
                tenant,
                format!("/api/v1/query_range?query={}&{range}&step=600", escaped(query)),
            ));
        }
        all.push((
            tenant,
            format!("/api/v1/series?match[]={}&{range}", escaped("{job=\"golden\"}")),
        ));
        all.push((tenant, format!("/api/v1/labels?{range}")));
        all.push((tenant, format!("/api/v1/label/instance/values?{range}")));
        all.push((tenant, format!("/api/v1/query_exemplars?query=requests_total&{range}")));
        all.push((tenant, "/api/v1/metadata".to_owned()));
    }
    all
}

fn ask(server: &Program, start_ms: i64, end_ms: i64) -> Value {
    let answer = |(tenant, path): (&'static str, String)| {
        let answer = server.json(&path, Some(tenant));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        json!({ "tenant": tenant, "path": path, "data": answer["data"] })
    };
    let answers: Vec<Value> = questions(start_ms, end_ms).into_iter().map(answer).collect();
    json!({ "start_ms": start_ms, "end_ms": end_ms, "answers": answers })
}

/// Writes the directory: blocks of all levels, a deletion that is not carried out, rows that only
/// the log has, tenants with a history.
fn generate(to: &Path) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = taffrail_at(dir.path(), free_address(), CONFIG);
    let end_ms = SystemClock::default().now_ms() / 60_000 * 60_000;
    let start_ms = end_ms - 50 * 60_000;
    let both = |round: i64| {
        for tenant in ["golden", "second"] {
            write(&server, tenant, start_ms + round * 300_000, round);
        }
    };
    both(0);
    both(1);
    post(&server, "/api/v1/admin/flush", None);
    post(&server, "/api/v1/admin/storage/compact", None);
    both(2);
    post(&server, "/api/v1/admin/flush", None);
    both(3);
    post(&server, "/api/v1/admin/flush", None);
    let started = Instant::now();
    while blocks(&server)[1] == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", blocks(&server));
        std::thread::sleep(Duration::from_millis(200));
    }
    let delete = escaped(r#"constant{instance="b:2"}"#);
    let end = (start_ms + 700_000) as f64 / 1000.0;
    let path = format!("/api/v1/admin/tsdb/delete_series?match[]={delete}&start=0&end={end}");
    post(&server, &path, Some("golden"));
    both(4);
    post(&server, "/api/v1/admin/flush", None);
    both(5);
    let rename =
        server.call("POST", "/api/v1/admin/tenants/second/rename", &[], br#"{"name":"renamed"}"#);
    assert_eq!(rename.status, 200, "{}", rename.text());
    assert!(blocks(&server).iter().all(|n| *n > 0), "{:?}", blocks(&server));
    let answers = ask(&server, start_ms, end_ms);
    server.kill();
    let _ = fs::remove_dir_all(to);
    let bytes = copy(&dir.path().join("data"), &to.join("data"));
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
    // A line for each answer, so that a difference can be looked at.
    let text = answers.to_string().replace("{\"data\":", "\n{\"data\":");
    assert!((text.len() as u64) < BYTES_MAX, "{} bytes of answers", text.len());
    fs::write(to.join("answers.json"), text + "\n").expect("write the answers");
}

/// A copy of the golden data directory below a directory of its own.
pub(crate) fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    copy(&golden().join("data"), &dir.path().join("data"));
    dir
}

#[test]
fn what_an_earlier_build_wrote_is_read_and_goes_on() {
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        generate(&golden());
    }
    let expected: Value = serde_json::from_str(
        &fs::read_to_string(golden().join("answers.json")).expect("the golden answers"),
    )
    .expect("JSON");
    let time = |key: &str| expected[key].as_i64().expect("an instant");
    let (start_ms, end_ms) = (time("start_ms"), time("end_ms"));
    let dir = copied();
    let data = dir.path().join("data").to_string_lossy().into_owned();

    let verified = run(&["tool", "verify", &data, "--json"]);
    let report: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    assert!(verified.status.success() && report["sound"] == true, "{report:#}");
    assert!(report["blocks"].as_u64() > Some(3) && report["log_records"].as_u64() > Some(1));

    let mut server = taffrail(dir.path(), CONFIG);
    let compare = |server: &Program, when: &str| {
        let found = ask(server, start_ms, end_ms);
        let pairs = expected["answers"].as_array().expect("a list").iter();
        let pairs = pairs.zip(found["answers"].as_array().expect("a list"));
        for (expected, found) in pairs {
            assert_eq!(found, expected, "{when}");
        }
    };
    compare(&server, "opened");
    // What this build makes of it must be the same, too.
    post(&server, "/api/v1/admin/flush", None);
    compare(&server, "flushed");
    post(&server, "/api/v1/admin/storage/compact", None);
    compare(&server, "merged");
    post(&server, "/api/v1/admin/tsdb/clean_tombstones", None);
    compare(&server, "cleaned");
    assert!(server.terminate(), "{}", server.output());
    let verified = run(&["tool", "verify", &data]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
