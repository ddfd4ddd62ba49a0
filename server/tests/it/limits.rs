//! What a tenant may write, from outside: the status, the text, what of a mixed request is kept,
//! and what is counted. And what is not a write at all.

use model::{Clock, SystemClock};
use testkit::http::{Response, escaped};
use testkit::remote_write::Series;

use crate::process::{Program, taffrail};
use crate::senders::{HEADERS, compressed};

const CONFIG: &str = "
[ingest.self_scrape]
enabled = false
[storage]
disk_reserve_bytes = 0
[tenancy.limits.tenants.rate]
samples_per_second = 0.1
samples_burst = 50.0
[tenancy.limits.tenants.active]
active_series_max = 3
[tenancy.limits.tenants.new]
new_series_per_second = 0.001
new_series_burst = 3.0
[tenancy.limits.tenants.labels]
labels_max = 3
label_name_bytes_max = 10
label_value_bytes_max = 20
[tenancy.limits.tenants.bytes]
body_bytes_max = 1000
body_decompressed_bytes_max = 5000
[tenancy.limits.tenants.times]
age_seconds_max = 3600
future_seconds_max = 60
";

/// Writes and says what came back.
struct Sender {
    server: Program,
    now_ms: i64,
    _dir: tempfile::TempDir,
}

impl Sender {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = taffrail(dir.path(), CONFIG);
        Self { server, now_ms: SystemClock::default().now_ms(), _dir: dir }
    }

    fn write(&self, tenant: &str, series: &[Series]) -> Response {
        self.server.remote_write(&[("X-Scope-OrgID", tenant)], series)
    }

    /// A series with a sample so many seconds from now.
    fn series(&self, labels: &[(&str, &str)], in_seconds: i64) -> Series {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let samples = vec![(self.now_ms + in_seconds * 1000, 1.0)];
        Series { labels, samples, ..Series::default() }
    }

    fn numbered(&self, name: &str, count: usize) -> Vec<Series> {
        (0..count).map(|i| self.series(&[("__name__", name), ("i", &i.to_string())], -1)).collect()
    }

    /// The request gets that status and a text with these parts, and so many series are kept.
    #[track_caller]
    fn check(&self, tenant: &str, series: &[Series], status: u16, texts: &[&str], kept: usize) {
        let answer = self.write(tenant, series);
        assert_eq!(answer.status, status, "{tenant}: {}", answer.text());
        for text in texts {
            assert!(answer.text().contains(text), "{text:?} is not in {:?}", answer.text());
        }
        let is_wait = answer.header("retry-after").is_some_and(|s| s.parse::<u64>().is_ok());
        assert_eq!(is_wait, status == 429, "{tenant}: Retry-After comes with 429 and only then");
        let path = format!("/api/v1/series?match[]={}", escaped("{__name__!=\"\"}"));
        let found = self.server.json(&path, Some(tenant));
        let found = found["data"].as_array().map_or(0, Vec::len);
        assert_eq!(found, kept, "{tenant}: series kept");
    }

    #[track_caller]
    fn check_counted(&self, family: &str, reason: &str, count: u64) {
        let text = self.server.call("GET", "/metrics", &[], &[]).text();
        let line = format!("taffrail_ingest_{family}{{reason=\"{reason}\"}} {count}");
        let similar: Vec<&str> = text.lines().filter(|l| l.contains(reason)).collect();
        assert!(text.lines().any(|l| l == line), "{line} is not among {similar:?}");
    }
}

#[test]
fn rows_over_a_limit_are_refused_alone() {
    let sender = Sender::start();
    let good = |name: &str| sender.series(&[("__name__", name)], -1);
    let long = "x".repeat(21);

    let too_many = sender.series(&[("__name__", "wide"), ("a", "1"), ("b", "2"), ("c", "3")], -1);
    sender.check("labels", &[good("a"), too_many], 400, &["too_many_labels", "wide", "4", "3"], 1);
    let name = sender.series(&[("__name__", "b"), ("name_of_12_b", "1")], -1);
    let texts = ["label_name_too_long", "name_of_12_b", "12", "10"];
    sender.check("labels", &[name, good("c")], 400, &texts, 2);
    let value = sender.series(&[("__name__", "d"), ("pod", &long)], -1);
    let texts = ["label_value_too_long", "\"pod\"", &long, "21", "20"];
    sender.check("labels", &[good("e"), value, good("f")], 400, &texts, 4);

    let old = sender.series(&[("__name__", "old"), ("pod", "p1")], -3_700);
    let young = sender.series(&[("__name__", "young"), ("pod", "p1")], 300);
    sender.check("times", &[good("a"), old], 400, &["too_old", "old", "p1", "1 stored"], 1);
    sender.check("times", &[good("b"), young], 400, &["too_far_in_future", "young", "p1"], 2);

    let nameless = sender.series(&[("pod", "p2")], -1);
    sender.check("names", &[good("a"), nameless], 400, &["missing_metric_name", "p2"], 1);
    let twice = sender.series(&[("__name__", "t"), ("a", "1"), ("a", "2")], -1);
    sender.check("names", &[twice, good("b")], 400, &["invalid_labels"], 2);
    let mut other = good("a");
    other.samples[0].1 = 2.0;
    sender.check("names", &[other, good("c")], 400, &["duplicate_timestamp", "1", "2"], 3);

    for reason in [
        "too_many_labels",
        "label_name_too_long",
        "label_value_too_long",
        "too_old",
        "too_far_in_future",
        "missing_metric_name",
        "invalid_labels",
        "duplicate_timestamp",
    ] {
        sender.check_counted("rows_rejected_total", reason, 1);
    }
}

#[test]
fn series_and_samples_over_a_rate_may_come_later() {
    let sender = Sender::start();
    let texts = ["active_series_limit", "{__name__=\"a\", i=\"", "3 active series"];
    sender.check("active", &sender.numbered("a", 5), 429, &texts, 3);
    // The series that are known by now are not new.
    sender.check("active", &sender.numbered("a", 5), 429, &["2 rows refused, 3 stored"], 3);
    let texts = ["new_series_rate", "{__name__=\"a\", i=\"", "0.001 new series a second"];
    sender.check("new", &sender.numbered("a", 4), 429, &texts, 3);

    sender.check("rate", &sender.numbered("a", 40), 204, &[], 40);
    let texts = ["tenant rate may write 0.1 samples a second", "50 at once", "has 20"];
    sender.check("rate", &sender.numbered("b", 20), 429, &texts, 40);
    sender.check("rate", &sender.numbered("c", 51), 413, &["50 at once", "has 51"], 40);
    // Whoever is refused takes nothing from others.
    sender.check("another", &sender.numbered("a", 20), 204, &[], 20);

    sender.check_counted("rows_rejected_total", "active_series_limit", 4);
    sender.check_counted("rows_rejected_total", "new_series_rate", 1);
    sender.check_counted("requests_refused_total", "samples_rate", 1);
    sender.check_counted("requests_refused_total", "too_many_rows", 1);
}

#[test]
fn bodies_over_a_limit_are_refused_whole() {
    let sender = Sender::start();
    sender.check("bytes", &sender.numbered("a", 10), 204, &[], 10);
    let mut state = 1_u32;
    let noise: String = (0..1_500)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 24) as u8 % 26)
        })
        .collect();
    let large = sender.series(&[("__name__", "large"), ("noise", &noise)], -1);
    sender.check("bytes", &[large], 413, &["1000", "body_bytes_max"], 10);
    let plain = sender.series(&[("__name__", "large"), ("plain", &"a".repeat(6_000))], -1);
    sender.check("bytes", &[plain], 413, &["5000", "body_decompressed_bytes_max"], 10);
    sender.check_counted("requests_refused_total", "body_too_large", 2);
}

#[test]
fn what_is_no_write_or_no_route() {
    let sender = Sender::start();
    let body = compressed(&[], &[]);
    let call = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        sender.server.call(method, path, headers, body).status
    };
    let (kind, encoding) = ("Content-Type", "Content-Encoding");
    let protobuf = "application/x-protobuf";
    let statuses: [(&[(&str, &str)], u16); 8] = [
        (&[(kind, protobuf), (encoding, "snappy")], 204),
        (&[(kind, "application/x-protobuf;proto=prometheus.WriteRequest")], 204),
        (&[(kind, "application/x-protobuf;proto=io.prometheus.write.v2.Request")], 204),
        (&[(kind, "application/json")], 415),
        (&[(kind, "text/plain")], 415),
        (&[(kind, protobuf), (encoding, "gzip")], 415),
        (&[(kind, protobuf), (encoding, "zstd")], 400),
        (&[(kind, protobuf), (encoding, "identity")], 415),
    ];
    for path in ["/api/v1/write", "/api/v1/push", "/prometheus/api/v1/write"] {
        for (headers, status) in statuses {
            assert_eq!(call("POST", path, headers, &body), status, "{path} {headers:?}");
        }
        assert_eq!(call("POST", path, &HEADERS, b"\xff\xff not snappy"), 400, "{path}");
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            assert_eq!(call(method, path, &HEADERS, &body), 405, "{method} {path}");
        }
    }
    for path in ["/nowhere", "/api/v1/nowhere", "/api/v2/query", "/prometheus/nowhere", "/metrics/"]
    {
        assert_eq!(call("GET", path, &[], &[]), 404, "{path}");
        assert_eq!(call("POST", path, &HEADERS, &body), 404, "{path}");
    }
    assert_eq!(call("DELETE", "/api/v1/query", &[], &[]), 405);
    assert_eq!(call("POST", "/-/healthy", &[], &[]), 405);
    sender.check_counted("requests_refused_total", "unsupported_type", 6);
    sender.check_counted("requests_refused_total", "unsupported_encoding", 6);
    sender.check_counted("requests_refused_total", "malformed", 6);
}
