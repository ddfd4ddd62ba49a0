//! What senders are answered: status, text, headers, for every way a write can end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use model::{LogError, Position};
use storage::{AppendOutcome, Appended, Error, MetricRows, Reason};
use tenancy::{Authenticator, Limits, WriteScope};
use testkit::remote_write::Series;
use testkit::{ManualClock, labels, remote_write as write};

use super::super::{ROUTES, RemoteWrite, router};
use crate::{Admission, Appender, Config, Durable, Intake, Metrics};

/// What the fake storage does with rows.
#[derive(Clone, Copy)]
enum Does {
    Store,
    Reject(&'static [(Reason, u64, &'static str)]),
    Fail(fn() -> Error),
    FailSync(fn() -> Error),
    Panic,
}

struct Fake {
    does: Does,
    appends: AtomicU64,
    waits: AtomicU64,
}

impl Appender for Fake {
    fn append(&self, _: &WriteScope, rows: &MetricRows<'_>) -> Result<Appended, Error> {
        self.appends.fetch_add(1, Relaxed);
        let samples = rows.samples.len() as u64;
        let (histograms, exemplars) = (rows.histograms.len() as u64, rows.exemplars.len() as u64);
        let mut outcome =
            AppendOutcome { samples, histograms, exemplars, ..AppendOutcome::default() };
        match self.does {
            Does::Reject(rejected) => {
                for (reason, count, example) in rejected {
                    outcome.samples = outcome.samples.saturating_sub(*count);
                    outcome.reject(*reason, *count, || (*example).to_owned());
                }
            }
            Does::Fail(error) => return Err(error()),
            Does::Panic => panic!("a bug in storage"),
            Does::Store | Does::FailSync(_) => {}
        }
        Ok(Appended { outcome, position: Some(Position(7)) })
    }

    fn durable(&self, position: Position) -> Durable<'_> {
        assert_eq!(position, Position(7));
        self.waits.fetch_add(1, Relaxed);
        let result = if let Does::FailSync(error) = self.does { Err(error()) } else { Ok(()) };
        Box::pin(async move { result })
    }
}

/// A sender, a receiver and a storage.
struct Setup {
    fake: Arc<Fake>,
    metrics: Arc<Metrics>,
    receiver: Arc<RemoteWrite>,
    limits: Limits,
}

fn setup(does: Does, limits: Limits, config: Config) -> Setup {
    let fake = Arc::new(Fake { does, appends: AtomicU64::new(0), waits: AtomicU64::new(0) });
    let metrics = Arc::new(Metrics::default());
    let clock = Arc::new(ManualClock::new(0));
    let appender: Arc<dyn Appender> = Arc::<Fake>::clone(&fake);
    let intake = Intake::new(appender, Arc::default(), Arc::clone(&metrics), clock, &config);
    let receiver = RemoteWrite::new(Arc::new(intake));
    Setup { fake, metrics, receiver: Arc::new(receiver), limits }
}

struct Answer {
    status: u16,
    text: String,
    headers: axum::http::HeaderMap,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().expect("text"))
    }
}

impl Setup {
    async fn send(&self, headers: &[(&str, &str)], body: Body) -> Answer {
        let scope = WriteScope::for_test(1, "team-a", self.limits.clone());
        self.send_as(scope, headers, body).await
    }

    async fn send_as(&self, scope: WriteScope, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::post("/api/v1/write");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let response = self.receiver.handle(0, scope, request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a short body");
        Answer { status, text: String::from_utf8(text.to_vec()).expect("text"), headers }
    }
}

const HEADERS: &[(&str, &str)] =
    &[("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];

fn series(count: usize) -> Vec<u8> {
    let series: Vec<_> =
        (0..count).map(|i| labels! { __name__ = "up", i = i.to_string() }).collect();
    let samples = [(1_000_i64, 1.0_f64)];
    write::samples_body(series.iter().map(|l| (l, &samples[..])))
}

fn packed(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).expect("compresses")
}

/// One body under the default limits: status, text, `Retry-After`.
async fn check(
    does: Does,
    headers: &[(&str, &str)],
    body: Vec<u8>,
    status: u16,
    text: &str,
    retry_after: &str,
) {
    let setup = setup(does, Limits { labels_max: 5, ..Limits::default() }, Config::default());
    let answer = setup.send(headers, Body::from(body)).await;
    assert_eq!(
        (answer.status, answer.text.trim_end(), answer.header("retry-after")),
        (status, text, retry_after)
    );
    for kind in ["samples", "histograms", "exemplars"] {
        assert_ne!(
            answer.header(&format!("x-prometheus-remote-write-{kind}-written")),
            "",
            "present on every answer"
        );
    }
    let waits = u64::from(matches!(does, Does::Store | Does::Reject(_) | Does::FailSync(_)));
    assert!(setup.fake.waits.load(Relaxed) <= waits, "nothing is awaited that was not appended");
    if status == 204 {
        assert_eq!(
            setup.fake.waits.load(Relaxed),
            setup.fake.appends.load(Relaxed),
            "durable before the answer"
        );
    }
}

#[tokio::test]
async fn headers_select_the_message() {
    let body = || packed(&series(1));
    let ok = [
        &[("content-type", "application/x-protobuf")][..],
        &[("content-encoding", "snappy")],
        &[],
        &[
            ("content-type", "application/x-protobuf;proto=prometheus.WriteRequest"),
            ("content-encoding", "Snappy"),
        ],
        &[("content-type", "Application/X-Protobuf; proto=\"prometheus.WriteRequest\"")],
        &[("x-prometheus-remote-write-version", "0.1.0")],
    ];
    for headers in ok {
        check(Does::Store, headers, body(), 204, "", "").await;
    }
    for other in [
        "application/json",
        "application/x-protobuf;proto=io.prometheus.write.v3.Request",
        "text/plain",
        ";proto=x",
    ] {
        let text = format!(
            "content type {other:?} is not accepted; send application/x-protobuf (remote write 1.0) or \
             application/x-protobuf;proto=io.prometheus.write.v2.Request (2.0)"
        );
        check(Does::Store, &[("content-type", other)], body(), 415, &text, "").await;
    }
    for other in ["gzip", "identity", "snappy, gzip"] {
        let text = format!("content encoding {other:?} is not accepted; send snappy or zstd");
        check(Does::Store, &[("content-encoding", other)], body(), 415, &text, "").await;
    }
    let zstd = zstd::bulk::compress(&series(1), 1).expect("compresses");
    check(Does::Store, &[("content-encoding", "zstd")], zstd.clone(), 204, "", "").await;
    let text = "body is not zstd: Unknown frame descriptor";
    check(Does::Store, &[("content-encoding", "zstd")], packed(b"snappy"), 400, text, "").await;
}

#[tokio::test]
async fn version_2_answers_with_counts_whatever_becomes_of_it() {
    let type_2 = ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request");
    let headers: &[(&str, &str)] =
        &[type_2, ("content-encoding", "snappy"), ("x-prometheus-remote-write-version", "2.0.0")];
    let good = Series::new(&labels! { __name__ = "up" }, &[(1, 1.0), (2, 2.0)]);
    let empty = Series::new(&labels! { __name__ = "empty" }, &[]);
    let setup = setup(Does::Store, Limits::default(), Config::default());
    for (series, status, written) in [
        (vec![good.clone()], 204, "2"),
        (vec![good.clone(), empty.clone()], 400, "2"),
        (vec![empty], 400, "0"),
        (vec![], 204, "0"),
    ] {
        let body = packed(&testkit::remote_write_v2::body(&series, &[]));
        let answer = setup.send(headers, Body::from(body)).await;
        let counts = ["samples", "histograms", "exemplars"].map(|kind| {
            answer.header(&format!("x-prometheus-remote-write-{kind}-written")).to_owned()
        });
        assert_eq!((answer.status, counts), (status, [written, "0", "0"].map(str::to_owned)));
    }
    let broken = setup.send(headers, Body::from(packed(&[0x22, 9]))).await;
    assert_eq!(broken.status, 400);
    assert_eq!(broken.header("x-prometheus-remote-write-samples-written"), "0");
    // A body of 1.0 under the name of 2.0, and the other way round, holds nothing that is known.
    let answer = setup.send(headers, Body::from(packed(&self::series(3)))).await;
    assert_eq!(
        (answer.status, answer.header("x-prometheus-remote-write-samples-written")),
        (204, "0")
    );
}

#[tokio::test]
async fn bodies_that_are_no_write_requests() {
    let ratio = [&[0x80, 0x80, 0x40][..], b"x"].concat(); // declares 1 MiB
    let four_gib = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 100]].concat();
    let framed = b"\xff\x06\x00\x00sNaPpY\x01\x05\x00\x00".to_vec();
    check(
        Does::Store,
        HEADERS,
        ratio,
        400,
        "body of 4 bytes declares 1048576 bytes decompressed, which snappy cannot reach",
        "",
    )
    .await;
    let text = "body declares 4294967295 bytes decompressed, the limit is 33554432 bytes (body_decompressed_bytes_max)";
    check(Does::Store, HEADERS, four_gib, 413, text, "").await;
    check(
        Does::Store,
        HEADERS,
        framed,
        400,
        "body is in snappy's framed format; remote write uses the block format",
        "",
    )
    .await;
    let garbage = packed(&[0x0a, 9, 1]);
    check(
        Does::Store,
        HEADERS,
        garbage,
        400,
        "malformed protobuf at byte 2: length reaches past the end of the message",
        "",
    )
    .await;
    let many = packed(&[0x0a, 2, 0x12, 0].repeat(600_000));
    check(
        Does::Store,
        HEADERS,
        many,
        413,
        "request holds more than 131072 series; send it in parts",
        "",
    )
    .await;
    check(Does::Store, HEADERS, packed(b""), 204, "", "").await;
    let setup = setup(Does::Store, Limits::default(), Config::default());
    let empty = setup.send(HEADERS, Body::empty()).await;
    assert_eq!((empty.status, setup.fake.appends.load(Relaxed)), (400, 0), "{}", empty.text);
}

#[tokio::test]
async fn refused_rows_are_told_and_the_others_kept() {
    let body = || packed(&series(5));
    let mixed = Does::Reject(&[
        (Reason::TooOld, 2, "sample of up at 5 is older than 30 days"),
        (Reason::InvalidLabels, 1, "x"),
    ]);
    let text = "3 rows refused, 2 stored\n2 too_old: sample of up at 5 is older than 30 days\n1 invalid_labels: x";
    check(mixed, HEADERS, body(), 400, text, "").await;
    let rate = Does::Reject(&[
        (Reason::TooOld, 1, "old"),
        (Reason::NewSeriesRate, 2, "more than 5 new series a second"),
    ]);
    let text = "3 rows refused, 2 stored\n1 too_old: old\n2 new_series_rate: more than 5 new series a second";
    check(rate, HEADERS, body(), 429, text, "5").await;
    let active = Does::Reject(&[(Reason::ActiveSeriesLimit, 1, "limit 3")]);
    check(
        active,
        HEADERS,
        body(),
        429,
        "1 rows refused, 4 stored\n1 active_series_limit: limit 3",
        "5",
    )
    .await;
    check(Does::Reject(&[(Reason::InvalidExemplar, 1, "x")]), HEADERS, body(), 204, "", "").await;
    let wide = labels! { __name__ = "up", a = "1", b = "1", c = "1", d = "1", e = "1" };
    let samples = [(1_i64, 1.0_f64)];
    let wide = packed(&write::samples_body([(&wide, &samples[..])]));
    check(
        Does::Store,
        HEADERS,
        wide,
        400,
        "1 rows refused, 0 stored\n1 too_many_labels: series up has 6 labels, the limit is 5",
        "",
    )
    .await;
}

#[tokio::test]
async fn storage_that_cannot_says_whether_to_come_back() {
    let body = || packed(&series(1));
    let full = || Error::Unavailable(LogError::DiskFull { free_bytes: 1, reserve_bytes: 2 });
    let text =
        "storage does not accept writes: free disk is below the reserve: 1 bytes free, 2 reserved";
    check(Does::Fail(full), HEADERS, body(), 503, text, "5").await;
    check(Does::FailSync(full), HEADERS, body(), 503, text, "5").await;
    let read_only = || Error::PartitionReadOnly { partition: 3, reason: "fsync failed".to_owned() };
    check(
        Does::Fail(read_only),
        HEADERS,
        body(),
        503,
        "partition 3 is read-only until restart: fsync failed",
        "5",
    )
    .await;
    let large = || Error::Unavailable(LogError::TooLarge { bytes: 9, limit_bytes: 8 });
    let text =
        "storage does not accept writes: record of 9 bytes is larger than the 8 the log takes";
    check(Does::Fail(large), HEADERS, body(), 413, text, "").await;
    let corrupt = || Error::Corrupt { what: "block".to_owned(), reason: "crc".to_owned() };
    check(Does::Fail(corrupt), HEADERS, body(), 500, "block is damaged: crc", "").await;
    let large = packed(&incompressible());
    check(Does::Panic, HEADERS, large.clone(), 500, "the write was not carried out", "").await;
    check(Does::Store, HEADERS, large.clone(), 204, "", "").await;
    check(
        Does::Fail(full),
        HEADERS,
        large,
        503,
        "storage does not accept writes: free disk is below the reserve: 1 bytes free, 2 reserved",
        "5",
    )
    .await;
}

/// A valid request that stays above the inline size when compressed.
fn incompressible() -> Vec<u8> {
    let mut state = 1_u64;
    let series: Vec<_> = (0..3_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            labels! { __name__ = "up", id = format!("{state:x}") }
        })
        .collect();
    let samples = [(1_000_i64, 1.0_f64)];
    write::samples_body(series.iter().map(|l| (l, &samples[..])))
}

#[tokio::test]
async fn bodies_over_the_limit_are_not_read() {
    let limits =
        Limits { body_bytes_max: 100, body_decompressed_bytes_max: 150, ..Limits::default() };
    let setup = setup(Does::Store, limits, Config::default());
    let announced = setup.send(HEADERS, Body::from(vec![0; 101])).await;
    assert_eq!(
        (announced.status, announced.text.as_str()),
        (413, "body has more than 100 bytes (body_bytes_max)\n")
    );
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    let chunks = futures::stream::repeat_with(move || {
        counter.fetch_add(1, Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(&[0; 40]))
    });
    let endless = setup.send(HEADERS, Body::from_stream(chunks)).await;
    assert_eq!((endless.status, read.load(Relaxed)), (413, 3), "stops reading at the limit");
    let expands = setup.send(HEADERS, Body::from(packed(&series(10)))).await;
    assert_eq!(expands.status, 413);
    assert!(
        expands.text.contains("the limit is 150 bytes (body_decompressed_bytes_max)"),
        "{}",
        expands.text
    );
    let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]);
    assert_eq!(setup.send(HEADERS, Body::from_stream(broken)).await.status, 400);
}

#[tokio::test]
async fn bodies_together_are_bounded_in_bytes_and_time() {
    let config =
        Config { bodies_in_flight_bytes_max: 4_096, body_seconds_max: 1, ..Config::default() };
    let setup = Arc::new(setup(Does::Store, Limits::default(), config));
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let slow = futures::stream::once(async move {
        let _ = receiver.await;
        Ok::<_, std::io::Error>(Bytes::new())
    });
    let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![0; 3_000]))]);
    let holding = {
        let setup = Arc::clone(&setup);
        tokio::spawn(async move {
            let body = Body::from_stream(futures::StreamExt::chain(first, slow));
            setup.send(HEADERS, body).await.status
        })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut text = String::new();
    setup.metrics.write(&mut text);
    assert!(text.contains("\ntaffrail_ingest_bodies_in_flight_bytes 3000\n"), "{text}");
    let refused = setup.send(HEADERS, Body::from(vec![0; 2_000])).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text);
    assert_eq!(holding.await.expect("an answer"), 408, "a slow sender is cut off");
    drop(sender);
    assert_eq!(
        setup.send(HEADERS, Body::from(packed(&series(1)))).await.status,
        204,
        "the room is free again"
    );
    let mut text = String::new();
    setup.metrics.write(&mut text);
    assert!(text.contains("\ntaffrail_ingest_bodies_in_flight_bytes 0\n"), "{text}");
}

#[tokio::test]
async fn rates_refuse_the_whole_request() {
    let limits = Limits { samples_per_second: 0.5, samples_burst: 10.0, ..Limits::default() };
    let setup = setup(Does::Store, limits.clone(), Config::default());
    let scope = WriteScope::for_test(1, "team-a", limits);
    let first = setup.send_as(scope.clone(), HEADERS, Body::from(packed(&series(10)))).await;
    assert_eq!(
        (first.status, first.header("x-prometheus-remote-write-samples-written")),
        (204, "10")
    );
    let second = setup.send_as(scope, HEADERS, Body::from(packed(&series(3)))).await;
    assert_eq!((second.status, second.header("retry-after")), (429, "6"));
    assert_eq!(
        second.text,
        "tenant team-a may write 0.5 samples a second (samples_per_second) and 10 at once (samples_burst); \
         this request has 3\n"
    );
    let large = setup.send(HEADERS, Body::from(packed(&series(11)))).await;
    assert_eq!((large.status, large.header("retry-after")), (413, ""), "{}", large.text);
    assert_eq!(setup.fake.appends.load(Relaxed), 1, "refused before it is stored");
    let mut text = String::new();
    setup.metrics.write(&mut text);
    assert!(text.contains("requests_refused_total{reason=\"samples_rate\"} 1\n"), "{text}");
    assert!(text.contains("taffrail_ingest_samples_total 10\n"), "{text}");
}

#[tokio::test]
async fn exemplars_and_metadata_have_a_price() {
    let limits = Limits { samples_per_second: 0.5, samples_burst: 10.0, ..Limits::default() };
    let setup = setup(Does::Store, limits, Config::default());
    // Field 3, a family.
    let metadata = |entries: usize| [0x1a, 0x03, 0x12, 0x01, b'f'].repeat(entries);
    let answer = setup.send(HEADERS, Body::from(packed(&metadata(11)))).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    // One series with one sample and some exemplars.
    let exemplars = |count: usize| {
        let mut series = vec![0x0a, 0x0e, 0x0a, 0x08];
        series.extend_from_slice(b"__name__");
        series.extend_from_slice(&[0x12, 0x02, b'u', b'p', 0x12, 0x02, 0x10, 0x01]);
        // Value and timestamp left out: zero.
        series.extend([0x1a, 0x02, 0x18, 0x01].repeat(count));
        let mut body = vec![0x0a, series.len() as u8];
        body.extend(series);
        body
    };
    let answer = setup.send(HEADERS, Body::from(packed(&exemplars(10)))).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    let answer = setup.send(HEADERS, Body::from(packed(&exemplars(9)))).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
}

#[tokio::test]
async fn buffers_are_used_again() {
    let setup = setup(Does::Store, Limits::default(), Config::default());
    for count in [500, 3, 0, 700, 1] {
        let answer = setup.send(HEADERS, Body::from(packed(&series(count)))).await;
        let written = answer.header("x-prometheus-remote-write-samples-written");
        assert_eq!((answer.status, written), (204, count.to_string().as_str()));
    }
    let capacity = setup.receiver.intake.series_capacity();
    assert!(capacity >= 700, "the same rows served all requests");
    assert!(Admission::default().refusals(tenancy::TenantId(1)).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_answers_over_a_socket() {
    let setup = setup(Does::Store, Limits::default(), Config::default());
    let router = router(Arc::clone(&setup.receiver), Arc::new(Authenticator::for_test()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(axum::serve(listener, router).into_future());
    let answers = tokio::task::spawn_blocking(move || {
        let mut connection = testkit::http::Connection::open(address).expect("connects");
        let mut answers = Vec::new();
        for (method, path) in ROUTES {
            let large = packed(&incompressible());
            for (method, body) in
                [(*method, packed(&series(2))), (*method, large), ("GET", Vec::new())]
            {
                let answer = connection.call(method, path, HEADERS, &body).expect("an answer");
                let written =
                    answer.header("x-prometheus-remote-write-samples-written").unwrap_or("");
                answers.push(format!("{method} {path} {} {written}", answer.status));
            }
        }
        answers
    });
    let expected = ["/api/v1/write", "/api/v1/push"].map(|path| {
        [format!("POST {path} 204 2"), format!("POST {path} 204 3000"), format!("GET {path} 405 ")]
    });
    assert_eq!(answers.await.expect("all sent"), expected.concat());
    server.abort();
    let mut text = String::new();
    setup.metrics.write(&mut text);
    assert!(text.contains("requests_total{path=\"/api/v1/push\",code=\"204\"} 2\n"), "{text}");
}
