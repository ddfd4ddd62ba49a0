//! The same instruments by every door end as the same rows: scraped in each format, imported, by remote write 1.0
//! and 2.0, and by OTLP. What a format cannot say is left out of the comparison, by name.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use ingest::import::Import;
use ingest::otlp::{Otlp, OtlpConfig};
use ingest::remote_write::RemoteWrite;
use ingest::scrape::{Defaults, ScopeOfRows, ScrapeFile, Scraper};
use ingest::{Appender, Config, Intake, Metrics};
use model::{
    Buckets, Cancel, Clock, Exemplar, Histogram, Labels, MatchOp, Matcher, Metadata, MetricKind,
    ResetHint, Span, SystemClock, TimeRange,
};
use storage::{Select, Storage};
use tenancy::{ReadScope, TenantName};
use testkit::remote_write::Series;
use testkit::{FaultyDisk, remote_write, remote_write_v2};

use super::{open, scope};

/// When everything was measured, and since when it counts: whole seconds, which every format can say.
fn times() -> (i64, i64) {
    static NOW_MS: OnceLock<i64> = OnceLock::new();
    let now_ms = *NOW_MS.get_or_init(|| SystemClock::default().now_ms());
    (now_ms / 1_000 * 1_000, now_ms / 1_000 * 1_000 - 60_000)
}

/// One way in, with a store of its own.
struct Way {
    storage: Arc<Storage>,
    intake: Arc<Intake>,
}

impl Way {
    async fn new() -> Self {
        let storage = open(&FaultyDisk::new()).await;
        let appender: Arc<dyn Appender> = Arc::<Storage>::clone(&storage);
        let clock = Arc::new(SystemClock::default());
        let metrics = Arc::new(Metrics::default());
        let intake = Intake::new(appender, Arc::default(), metrics, clock, &Config::default());
        Self { storage, intake: Arc::new(intake) }
    }

    /// Everything of the job: labels, and of each what was stored.
    async fn rows(&self) -> BTreeMap<String, Row> {
        let matchers = vec![Matcher::new(MatchOp::Equal, "job", "j").expect("a matcher")];
        let request = Select { matchers, range: TimeRange::ALL };
        let of = ReadScope::for_test(&[(1, "team-a")]);
        let found = self.storage.select(&of, &request).await.expect("selects");
        let fetched = found.fetch(0..found.len()).await.expect("fetches");
        let samples = fetched.decode().expect("decodes");
        let rows = samples.into_iter().enumerate().map(|(i, samples)| {
            let floats = samples.timestamps.iter().zip(&samples.values);
            let row = Row {
                floats: floats.map(|(at, value)| (*at, value.to_bits())).collect(),
                histograms: samples
                    .histograms
                    .iter()
                    .map(|(at, h)| (*at, h.as_ref().clone()))
                    .collect(),
                starts: samples.starts.each(samples.timestamps.iter().copied()),
            };
            (found.labels(i).to_string(), row)
        });
        let about_scrapes = ["up\"", "scrape_"].map(|name| format!("{{__name__=\"{name}"));
        rows.filter(|(labels, _)| !about_scrapes.iter().any(|s| labels.starts_with(s))).collect()
    }

    /// Exemplars of the counter: labels, value, time.
    async fn exemplars(&self) -> Vec<String> {
        let matcher = Matcher::new(MatchOp::Equal, "__name__", "requests_total");
        let of = ReadScope::for_test(&[(1, "team-a")]);
        let selectors = [vec![matcher.expect("a matcher")]];
        let cancel = Cancel::default();
        let found = self.storage.exemplars(&of, &selectors, TimeRange::ALL, &cancel).await;
        let found = found.expect("reads");
        let all = found.values().flatten();
        all.map(|e| format!("{} {} @{}", e.labels, e.value, e.timestamp_ms)).collect()
    }

    /// Posts a body to a door.
    async fn post(&self, door: &str, query: &str, headers: &[(&str, &str)], body: Vec<u8>) {
        let mut request = Request::post(format!("/{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).expect("a request");
        let intake = Arc::clone(&self.intake);
        let answer = match door {
            "import" => Import::new(intake).handle(0, scope(), request).await,
            "otlp" => {
                Arc::new(Otlp::new(intake, OtlpConfig::default())).handle(0, scope(), request).await
            }
            _ => Arc::new(RemoteWrite::new(intake)).handle(0, scope(), request).await,
        };
        let status = answer.status();
        let text = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a short body");
        assert!(status.is_success(), "{door}: {status} {}", String::from_utf8_lossy(&text));
    }
}

/// What is stored of one series.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    /// With the bits of the values.
    floats: Vec<(i64, u64)>,
    histograms: Vec<(i64, Histogram)>,
    /// Of the floats.
    starts: Vec<i64>,
}

/// An exposition in OpenMetrics 2.0.
fn openmetrics2() -> String {
    let (at_ms, start_ms) = times();
    let (at, start) = (at_ms / 1_000, start_ms / 1_000);
    format!(
        "# TYPE requests_total counter
# HELP requests_total Requests.
requests_total{{method=\"GET\"}} 3 {at} st@{start} # {{trace_id=\"t1\"}} 0.5 {at}
# TYPE temperature gauge
temperature{{room=\"a\"}} 21.5 {at}
# TYPE duration histogram
duration{{route=\"/\"}} {{count:3,sum:4.25,bucket:[0.5:1,2.5:2,+Inf:3]}} {at} st@{start}
# TYPE pause summary
pause {{count:2,sum:0.75,quantile:[0.5:0.25,0.99:0.5]}} {at} st@{start}
# TYPE size histogram
size {{count:6,sum:12.5,schema:3,zero_threshold:1e-128,zero_count:2,positive_spans:[1:2],positive_buckets:[1,3]}} {at} st@{start}
# EOF
"
    )
}

/// The same in 1.0, which has neither native histograms nor starts.
fn openmetrics1() -> String {
    let at = times().0 / 1_000;
    format!(
        "# TYPE requests counter
# HELP requests Requests.
requests_total{{method=\"GET\"}} 3 {at} # {{trace_id=\"t1\"}} 0.5 {at}
# TYPE temperature gauge
temperature{{room=\"a\"}} 21.5 {at}
{}# EOF
",
        classic(&at.to_string())
    )
}

/// The same in text 0.0.4, which has no exemplars either.
fn text() -> String {
    let at = times().0;
    format!(
        "# TYPE requests_total counter
# HELP requests_total Requests.
requests_total{{method=\"GET\"}} 3 {at}
# TYPE temperature gauge
temperature{{room=\"a\"}} 21.5 {at}
{}",
        classic(&at.to_string())
    )
}

/// The histogram and the summary, as both older formats write them. Bounds have a fraction: the others are
/// `1.0` wherever they are read and `1` by OTLP, as in Prometheus.
fn classic(at: &str) -> String {
    format!(
        "# TYPE duration histogram
duration_bucket{{route=\"/\",le=\"0.5\"}} 1 {at}
duration_bucket{{route=\"/\",le=\"2.5\"}} 2 {at}
duration_bucket{{route=\"/\",le=\"+Inf\"}} 3 {at}
duration_sum{{route=\"/\"}} 4.25 {at}
duration_count{{route=\"/\"}} 3 {at}
# TYPE pause summary
pause{{quantile=\"0.5\"}} 0.25 {at}
pause{{quantile=\"0.99\"}} 0.5 {at}
pause_sum 0.75 {at}
pause_count 2 {at}
"
    )
}

/// The series as a sender of remote write has them.
fn series() -> (Vec<Series>, Vec<(&'static str, Metadata)>) {
    let at_ms = times().0;
    let of = |labels: &[(&str, &str)], value: f64| {
        let of_target = [("instance", "i"), ("job", "j")];
        let labels = Labels::from_pairs(labels.iter().copied().chain(of_target));
        Series::new(&labels, &[(at_ms, value)])
    };
    let mut all = vec![
        of(&[("__name__", "requests_total"), ("method", "GET")], 3.0),
        of(&[("__name__", "temperature"), ("room", "a")], 21.5),
        of(&[("__name__", "duration_bucket"), ("le", "0.5"), ("route", "/")], 1.0),
        of(&[("__name__", "duration_bucket"), ("le", "2.5"), ("route", "/")], 2.0),
        of(&[("__name__", "duration_bucket"), ("le", "+Inf"), ("route", "/")], 3.0),
        of(&[("__name__", "duration_sum"), ("route", "/")], 4.25),
        of(&[("__name__", "duration_count"), ("route", "/")], 3.0),
        of(&[("__name__", "pause"), ("quantile", "0.5")], 0.25),
        of(&[("__name__", "pause"), ("quantile", "0.99")], 0.5),
        of(&[("__name__", "pause_sum")], 0.75),
        of(&[("__name__", "pause_count")], 2.0),
        of(&[("__name__", "size")], 0.0),
    ];
    let trace = Labels::from_pairs([("trace_id", "t1")]);
    all[0].exemplars = vec![Exemplar { labels: trace, value: 0.5, timestamp_ms: at_ms }];
    all[11].samples.clear();
    all[11].histograms = vec![(at_ms, native())];
    let counter =
        Metadata { kind: MetricKind::Counter, help: "Requests.".to_owned(), unit: String::new() };
    (all, vec![("requests_total", counter)])
}

fn native() -> Histogram {
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema: 3,
        // What OTLP says by saying nothing, as in Prometheus.
        zero_threshold: 1e-128,
        sum: 12.5,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        negative_spans: vec![],
        buckets: Buckets::Integer {
            count: 6,
            zero_count: 2,
            positive_deltas: vec![1, 2],
            negative_deltas: vec![],
        },
        custom_values: vec![],
    }
}

/// A body of 2.0 with the start of everything but the gauge.
fn version_2() -> Vec<u8> {
    let (series, _) = series();
    let mut request = remote_write_v2::Request::default();
    for one in &series {
        let refs = one.labels.iter().flat_map(|(n, v)| [request.symbol(n), request.symbol(v)]);
        let labels_refs: Vec<u32> = refs.collect();
        let is_gauge = one.labels.iter().any(|(_, value)| value == "temperature");
        let start_ms = if is_gauge { 0 } else { times().1 };
        let mut sent = remote_write_v2::Series { labels_refs, ..Default::default() };
        for (timestamp_ms, value) in &one.samples {
            let (timestamp_ms, value, start_timestamp_ms) = (*timestamp_ms, *value, start_ms);
            sent.samples.push(remote_write_v2::Sample { value, timestamp_ms, start_timestamp_ms });
        }
        for exemplar in &one.exemplars {
            let refs = exemplar.labels.iter();
            let refs = refs.flat_map(|(n, v)| [request.symbol(n), request.symbol(v)]).collect();
            sent.exemplars.push((refs, exemplar.value, exemplar.timestamp_ms));
        }
        let histograms = one.histograms.iter();
        sent.histograms = histograms.map(|(at_ms, h)| (*at_ms, start_ms, h.clone())).collect();
        request.series.push(sent);
    }
    snap::raw::Encoder::new().compress_vec(&request.body()).expect("compresses")
}

/// The same instruments as an SDK exports them, as JSON.
fn otlp() -> Vec<u8> {
    let (at_ms, start_ms) = times();
    let common = |attributes: serde_json::Value| {
        serde_json::json!({
            "attributes": attributes,
            "timeUnixNano": format!("{at_ms}000000"),
            "startTimeUnixNano": format!("{start_ms}000000"),
        })
    };
    let with = |mut point: serde_json::Value, more: serde_json::Value| {
        let fields = more.as_object().expect("fields").clone();
        point.as_object_mut().expect("a point").extend(fields);
        point
    };
    let text = |key: &str, value: &str| serde_json::json!([{ "key": key, "value": { "stringValue": value } }]);
    let none = || common(serde_json::json!([]));
    let exemplar = serde_json::json!({
        "timeUnixNano": format!("{at_ms}000000"),
        "asDouble": 0.5,
        "filteredAttributes": text("trace_id", "t1"),
    });
    let metrics = serde_json::json!([
        { "name": "requests", "sum": {
            "aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": [with(common(text("method", "GET")), serde_json::json!({ "asInt": "3", "exemplars": [exemplar] }))],
        } },
        { "name": "temperature", "gauge": {
            "dataPoints": [with(common(text("room", "a")), serde_json::json!({ "asDouble": 21.5 }))],
        } },
        { "name": "duration", "histogram": { "aggregationTemporality": 2, "dataPoints": [with(
            common(text("route", "/")),
            serde_json::json!({ "count": "3", "sum": 4.25, "explicitBounds": [0.5, 2.5], "bucketCounts": ["1", "1", "1"] }),
        )] } },
        { "name": "pause", "summary": { "dataPoints": [with(none(), serde_json::json!({
            "count": "2", "sum": 0.75,
            "quantileValues": [{ "quantile": 0.5, "value": 0.25 }, { "quantile": 0.99, "value": 0.5 }],
        }))] } },
        { "name": "size", "exponentialHistogram": { "aggregationTemporality": 2, "dataPoints": [with(none(), serde_json::json!({
            "count": "6", "sum": 12.5, "scale": 3, "zeroCount": "2",
            "positive": { "offset": 0, "bucketCounts": ["1", "3"] },
        }))] } },
    ]);
    let resource = [("service.name", "j"), ("service.instance.id", "i")]
        .map(|(key, value)| text(key, value)[0].clone());
    let body = serde_json::json!({ "resourceMetrics": [{
        "resource": { "attributes": resource },
        "scopeMetrics": [{ "metrics": metrics }],
    }] });
    body.to_string().into_bytes()
}

/// A target that always answers the same, on a port of its own; it ends with the process.
fn target(content_type: &'static str, body: String) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// Scrapes a target until something is stored.
async fn scraped(content_type: &'static str, body: String, fields: &str) -> Way {
    let way = Way::new().await;
    let address = target(content_type, body);
    let scope_of: ScopeOfRows = Arc::new(|_| Ok(Some(scope())));
    let scraper = Arc::new(Scraper::new(Arc::clone(&way.intake), scope_of));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(Arc::clone(&scraper).run(stopped));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("scrape.yml");
    let config = format!(
        "scrape_configs: [{{job_name: j, scrape_interval: 1s, {fields}, static_configs: [{{targets: ['{address}'], labels: {{instance: i}}}}]}}]\n"
    );
    std::fs::write(&file, config).expect("written");
    let defaults =
        Defaults { tenant: TenantName::new("team-a").expect("a name"), cluster: String::new() };
    let file = ScrapeFile::read(&file).expect("a configuration");
    scraper.take_over(scraper.prepare(&file, &defaults).expect("usable"));
    for _ in 0..500 {
        if !way.rows().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let errors: Vec<_> =
        scraper.targets("", |_, _| true).into_iter().map(|target| target.last_error).collect();
    assert_eq!(errors, [""]);
    stop.send(true).expect("runs");
    running.await.expect("ends");
    way
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_stores_the_same_of_the_same_instruments() {
    let (at_ms, start_ms) = times();
    let (sent, metadata) = series();
    let packed = snap::raw::Encoder::new()
        .compress_vec(&remote_write::body(&sent, &metadata))
        .expect("compresses");
    let version_1 = Way::new().await;
    version_1.post("write", "", &[], packed).await;
    let expected = version_1.rows().await;
    assert_eq!(expected.len(), 12, "{expected:#?}");
    let exemplar = vec![format!("{{trace_id=\"t1\"}} 0.5 @{at_ms}")];
    assert_eq!(version_1.exemplars().await, exemplar);

    // What is the same, and what is not said by a format.
    let without_native = |rows: &BTreeMap<String, Row>| {
        let floats = rows.iter().filter(|(_, row)| row.histograms.is_empty());
        floats.map(|(labels, row)| (labels.clone(), row.clone())).collect::<BTreeMap<_, _>>()
    };
    let without_starts = |rows: &BTreeMap<String, Row>| {
        let zero = |row: &Row| Row { starts: vec![0; row.floats.len()], ..row.clone() };
        rows.iter().map(|(labels, row)| (labels.clone(), zero(row))).collect::<BTreeMap<_, _>>()
    };
    let (om1, om2) = (
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "application/openmetrics-text; version=2.0.0; charset=utf-8",
    );
    let native = "scrape_native_histograms: true";
    let of_text = scraped("text/plain; version=0.0.4", text(), native).await;
    let of_om1 = scraped(om1, openmetrics1(), native).await;
    let of_om2 = scraped(om2, openmetrics2(), native).await;
    let imported = Way::new().await;
    let target = "?extra_label=job=j&extra_label=instance=i";
    imported.post("import", target, &[("content-type", om2)], openmetrics2().into_bytes()).await;
    let version_2 = Way::new().await;
    let proto = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    version_2.post("write", "", &[("content-type", proto)], self::version_2()).await;
    let exported = Way::new().await;
    exported.post("otlp", "", &[("content-type", "application/json")], otlp()).await;

    for (name, way) in [("text", &of_text), ("OpenMetrics 1.0", &of_om1)] {
        assert_eq!(way.rows().await, without_native(&expected), "{name}");
    }
    let mut started = Vec::new();
    for (name, way) in [
        ("OpenMetrics 2.0", &of_om2),
        ("import", &imported),
        ("remote write 2.0", &version_2),
        ("OTLP", &exported),
    ] {
        let rows = way.rows().await;
        assert_eq!(without_starts(&rows), without_starts(&expected), "{name}");
        started.push((name, rows));
    }
    for (name, rows) in &started {
        assert_eq!(rows, &started[0].1, "{name}, starts");
        let counter = rows.iter().find(|(labels, _)| labels.contains("requests_total"));
        assert_eq!(counter.expect("the counter").1.starts, [start_ms], "{name}");
    }
    for (name, way) in [
        ("OpenMetrics 1.0", &of_om1),
        ("OpenMetrics 2.0", &of_om2),
        ("import", &imported),
        ("remote write 2.0", &version_2),
        ("OTLP", &exported),
    ] {
        assert_eq!(way.exemplars().await, exemplar, "{name}");
    }
}
