//! Remote read and federation beside a real Prometheus: both hold the same samples and must answer
//! with the same bytes; and Prometheus reads from us what it does not hold itself.

use model::{Buckets, Clock, Histogram, ResetHint, Span, SystemClock, varint};
use testkit::http::escaped;
use testkit::remote_write::Series;

use crate::process::{Program, installed, taffrail};
use crate::senders::start_prometheus;

/// Samples of one chunk, so that both cut alike.
const SAMPLES: i64 = 100;

fn series(name: &str, samples: impl Iterator<Item = (i64, f64)>) -> Series {
    let labels = [("__name__", name), ("instance", "i"), ("job", "j")];
    let labels = labels.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
    Series { labels, samples: samples.collect(), ..Series::default() }
}

/// Floats that use every path of the encoder, and a native histogram.
fn written(end_ms: i64) -> Vec<Series> {
    let start_ms = end_ms - (SAMPLES - 1) * 1_000;
    let steady = move |i: i64| start_ms + i * 1_000;
    let mut state = 7u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 11
    };
    let jitter: Vec<i64> = (0..SAMPLES).map(|i| steady(i) - (noise() % 900) as i64).collect();
    let random: Vec<f64> = (0..SAMPLES).map(|_| noise() as f64 / 1e3).collect();
    let histogram = Histogram {
        reset_hint: ResetHint::Unknown,
        schema: 3,
        zero_threshold: 2.938_735_877_055_719e-39,
        sum: 18.25,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        buckets: Buckets::Integer {
            count: 12,
            zero_count: 1,
            positive_deltas: vec![3, 1, -2],
            negative_deltas: vec![2],
        },
        custom_values: Vec::new(),
    };
    vec![
        series("constant", (0..SAMPLES).map(|i| (steady(i), 2.5))),
        series("counter_total", (0..SAMPLES).map(|i| (steady(i), (i * i) as f64))),
        Series { histograms: vec![(end_ms, histogram)], ..series("latency", std::iter::empty()) },
        series("jitter", jitter.into_iter().zip((0..).map(|i| f64::from(i) * 1e6))),
        series("random", random.into_iter().enumerate().map(|(i, v)| (steady(i as i64), v))),
        // Two: behind a chunk whose bits end with a byte, as one sample's do, this Prometheus
        // leaves an empty byte.
        series("twice", [(end_ms - 1_000, f64::INFINITY), (end_ms, -3.5)].into_iter()),
    ]
}

/// A request for everything with the label `job="j"`.
fn request(start_ms: i64, end_ms: i64, chunks: bool) -> Vec<u8> {
    let mut matcher = vec![0x12, 3];
    matcher.extend(b"job\x1a\x01j");
    let mut query = vec![0x08];
    varint::put(&mut query, start_ms as u64);
    query.push(0x10);
    varint::put(&mut query, end_ms as u64);
    query.extend([0x1a, matcher.len() as u8]);
    query.extend(matcher);
    let mut out = vec![0x0a, query.len() as u8];
    out.extend(query);
    out.extend([0x12, 1, u8::from(chunks)]);
    snap::raw::Encoder::new().compress_vec(&out).expect("a small body")
}

#[test]
fn prometheus_and_we_are_read_alike() {
    let Some(prometheus) = installed("prometheus") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let quiet = "[ingest.self_scrape]\nenabled = false\n";
    let taffrail = taffrail(&dir.path().join("taffrail"), quiet);
    let url = format!("http://{}/prometheus/api/v1/read", taffrail.address);
    let prometheus = start_prometheus(
        &prometheus,
        &dir.path().join("prometheus"),
        &format!("remote_read: [{{url: '{url}', read_recent: true}}]\n"),
        &["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"],
    );
    let end_ms = SystemClock::default().now_ms() / 1_000 * 1_000 - 5_000;
    let both = written(end_ms);
    prometheus.write(None, &both);
    // It asks us, too: what it holds itself must come back as one.
    taffrail.write(None, &both);

    let read = |server: &Program, chunks: bool| {
        let body = request(end_ms - 600_000, end_ms, chunks);
        let answer = server.call("POST", "/api/v1/read", &[], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let headers = ["content-type", "content-encoding"];
        let headers = headers.map(|name| answer.header(name).unwrap_or("").to_owned());
        (headers, answer.body)
    };
    let ((their_kind, theirs), (our_kind, ours)) = (read(&prometheus, true), read(&taffrail, true));
    assert_eq!(their_kind, our_kind);
    assert!(theirs.len() > 1_000, "there is something to compare");
    assert_eq!(shown(&theirs), shown(&ours), "chunks");
    assert_eq!(theirs, ours);

    let ((their_kind, theirs), (our_kind, ours)) =
        (read(&prometheus, false), read(&taffrail, false));
    assert_eq!(their_kind, our_kind);
    // This Prometheus leaves native histograms out of this form.
    let floats = |body: &[u8]| {
        let message = snap::raw::Decoder::new().decompress_vec(body).expect("snappy");
        let mut series = messages(&messages(&message)[0]);
        let all = series.len();
        series.retain(|one| !one.windows(7).any(|text| text == b"latency"));
        (all, series)
    };
    let ((_, theirs), (all, ours)) = (floats(&theirs), floats(&ours));
    assert_eq!((theirs.len(), all), (5, 6));
    assert!(theirs == ours, "samples differ");

    let federate = |server: &Program| {
        let path = format!("/federate?match[]={}", escaped("{job=\"j\"}"));
        server.call("GET", &path, &[], &[]).text()
    };
    let (theirs, ours) = (federate(&prometheus), federate(&taffrail));
    assert!(theirs.lines().count() > 5, "{theirs}");
    assert_eq!(theirs, ours);

    prometheus_reads_from_us(&prometheus, &taffrail, end_ms);
}

/// The messages in field 1 of a message, which has no other fields.
fn messages(mut message: &[u8]) -> Vec<Vec<u8>> {
    let mut inner = Vec::new();
    while !message.is_empty() {
        assert_eq!(varint::take(&mut message), Some(0x0a));
        let length = varint::take(&mut message).expect("a length") as usize;
        let (one, rest) = message.split_at(length);
        message = rest;
        inner.push(one.to_vec());
    }
    inner
}

/// Frames as text, so that a difference can be seen.
fn shown(mut body: &[u8]) -> Vec<String> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let length = varint::take(&mut body).expect("a length") as usize;
        let (frame, rest) = body.split_at(4 + length);
        body = rest;
        frames.push(frame.escape_ascii().to_string());
    }
    frames
}

fn prometheus_reads_from_us(prometheus: &Program, taffrail: &Program, end_ms: i64) {
    let long = |i: i64| (end_ms - (2_000 - i) * 1_000, (i % 17) as f64);
    taffrail.write(None, &[series("elsewhere", (0..2_000).map(long))]);
    for (query, found) in [
        ("count_over_time(elsewhere[30m])", "1800"),
        ("sum_over_time(elsewhere{job=~\"j|k\",other=\"\"}[5m])", ""),
        ("elsewhere{instance!=\"i\"}", "none"),
    ] {
        let theirs = prometheus.instant(query, end_ms - 500, None);
        let ours = taffrail.instant(query, end_ms - 500, None);
        assert_eq!(theirs["status"], "success", "{query}: {theirs}");
        assert_eq!(theirs["data"]["result"], ours["data"]["result"], "{query}");
        let value = &theirs["data"]["result"][0]["value"][1];
        match found {
            "none" => assert!(value.is_null(), "{query}: {theirs}"),
            "" => assert!(value.is_string(), "{query}: {theirs}"),
            _ => assert_eq!(value, found, "{query}"),
        }
    }
}
