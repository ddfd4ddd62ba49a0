//! What comes in is what the store gives out: remote write and the self-scraper over the real
//! store on a disk in memory that can be killed, filled and made to fail.

mod log_senders;
mod pairs;
mod round_trip;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use ingest::host::{Host, Root};
use ingest::remote_write::RemoteWrite;
use ingest::scrape::{SelfScraper, Target};
use ingest::{Appender, Config, Intake, Metrics, SelfScrapeConfig};
use model::{
    Buckets, Clock, Disk, Histogram, MatchOp, Matcher, ResetHint, Span, SystemClock, TimeRange,
};
use storage::{Parts, Select, Storage};
use tenancy::{Limits, ReadScope, WriteScope};
use testkit::remote_write_v2::{Request as Request2, Sample as Sample2, Series as Series2};
use testkit::{FaultyDisk, SeededRandom, labels, remote_write as write};

async fn open(disk: &FaultyDisk) -> Arc<Storage> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let parts = Parts { disk, objects: None, clock, random: Arc::new(SeededRandom::new(1)) };
    Storage::open(storage::Config::default(), parts).await.expect("opens")
}

fn receiver(storage: &Arc<Storage>) -> Arc<RemoteWrite> {
    let appender: Arc<dyn Appender> = Arc::<Storage>::clone(storage);
    let clock = Arc::new(SystemClock::default());
    let intake = Intake::new(appender, Arc::default(), Arc::default(), clock, &Config::default());
    Arc::new(RemoteWrite::new(Arc::new(intake)))
}

fn scope() -> WriteScope {
    WriteScope::for_test(1, "team-a", Limits::default())
}

/// Sends one body; status and text of the answer.
async fn send(receiver: &Arc<RemoteWrite>, body: &[u8]) -> (u16, String) {
    let packed = snap::raw::Encoder::new().compress_vec(body).expect("compresses");
    let request = Request::post("/api/v1/write").body(Body::from(packed)).expect("a request");
    let answer = receiver.handle(0, scope(), request).await;
    let status = answer.status().as_u16();
    let text = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a short body");
    (status, String::from_utf8(text.to_vec()).expect("text"))
}

/// All series with this name: labels and values.
async fn select(storage: &Storage, name: &str) -> Vec<(String, Vec<f64>)> {
    let matchers = vec![Matcher::new(MatchOp::Equal, "__name__", name).expect("a matcher")];
    let request = Select { matchers, range: TimeRange::ALL };
    let found =
        storage.select(&ReadScope::for_test(&[(1, "team-a")]), &request).await.expect("selects");
    let samples = found.fetch(0..found.len()).await.expect("fetches").decode().expect("decodes");
    samples.into_iter().enumerate().map(|(i, s)| (found.labels(i).to_string(), s.values)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_rows_are_there_after_a_kill_and_refused_ones_told() {
    let disk = FaultyDisk::new();
    let storage = open(&disk).await;
    let receiver = receiver(&storage);
    let now_ms = SystemClock::default().now_ms();
    let names: Vec<_> =
        (0..3_000).map(|i| labels! { __name__ = "up", i = i.to_string() }).collect();
    let samples = [(now_ms, 1.0)];
    let body = write::samples_body(names.iter().map(|l| (l, &samples[..])));
    assert_eq!(send(&receiver, &body).await, (204, String::new()));
    assert_eq!(send(&receiver, &body).await, (204, String::new()), "the same again is fine");
    let (old, nameless) = (labels! { __name__ = "old" }, labels! { job = "x" });
    let (good, long_ago) = (labels! { __name__ = "good" }, [(1_000, 1.0)]);
    let mixed: [(_, &[(i64, f64)]); 3] =
        [(&old, &long_ago), (&nameless, &samples), (&good, &samples)];
    let (status, text) = send(&receiver, &write::samples_body(mixed)).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.starts_with("2 rows refused, 1 stored\n"), "{text}");
    assert!(text.contains("1 too_old: ") && text.contains("1 missing_metric_name: "), "{text}");
    let after = open(&disk.after_kill()).await;
    assert_eq!(select(&after, "up").await.len(), 3_000);
    assert_eq!(select(&after, "good").await, [(r#"{__name__="good"}"#.to_owned(), vec![1.0])]);
    assert!(select(&after, "old").await.is_empty());
}

/// Sends one body of remote write 2.0; status, text and counts of the answer.
async fn send_v2(receiver: &Arc<RemoteWrite>, request: &Request2) -> (u16, String, [String; 3]) {
    let packed = snap::raw::Encoder::new().compress_vec(&request.body()).expect("compresses");
    let request = Request::post("/api/v1/write")
        .header("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
        .body(Body::from(packed))
        .expect("a request");
    let answer = receiver.handle(0, scope(), request).await;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a short body");
    let counts = ["samples", "histograms", "exemplars"].map(|kind| {
        let value = &headers[&format!("x-prometheus-remote-write-{kind}-written")];
        value.to_str().expect("a number").to_owned()
    });
    (status, String::from_utf8(text.to_vec()).expect("text"), counts)
}

/// A native histogram whose buckets hold `count - 1` observations.
fn native(schema: i32, count: u64, custom_values: Vec<f64>) -> Histogram {
    let (zero_threshold, zero_count) = if schema == -53 { (0.0, 0) } else { (0.001, 1) };
    let deltas = vec![count as i64 - 2 + i64::from(zero_count == 0)];
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema,
        zero_threshold,
        sum: 3.5,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        negative_spans: vec![],
        buckets: Buckets::Integer {
            count: count - 1,
            zero_count,
            positive_deltas: deltas,
            negative_deltas: vec![],
        },
        custom_values,
    }
}

/// What the texts of remote write say must be refused with 400, each beside a good series that
/// must be kept; and what must be accepted.
/// Labels of a series, what else it has, and why it is refused.
type Refused<'t> = (&'t [&'t str], &'t dyn Fn(&mut Series2), &'t str);

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_2_keeps_what_is_good_and_refuses_what_is_not() {
    let storage = open(&FaultyDisk::new()).await;
    let receiver = receiver(&storage);
    let now_ms = SystemClock::default().now_ms();
    let sample =
        |timestamp_ms| Sample2 { value: 1.0, timestamp_ms, start_timestamp_ms: now_ms - 9 };
    let mut number = 0;
    let mut request = |labels: &[&str], fill: &dyn Fn(&mut Series2)| {
        number += 1;
        let mut request = Request2::default();
        let refs = |request: &mut Request2, texts: &[&str]| {
            texts.iter().map(|text| request.symbol(text)).collect()
        };
        let name = number.to_string();
        let labels_refs = refs(&mut request, &["__name__", "good", "n", &name]);
        let good = Series2 { labels_refs, samples: vec![sample(now_ms)], ..Series2::default() };
        let mut other = Series2 { labels_refs: refs(&mut request, labels), ..Series2::default() };
        fill(&mut other);
        request.series = vec![good, other];
        request
    };
    let one = |series: &mut Series2| series.samples = vec![sample(now_ms)];
    let hist = |h: Histogram| {
        move |series: &mut Series2| series.histograms = vec![(now_ms, now_ms - 9, h.clone())]
    };
    let wrong_count = {
        let mut h = native(3, 9, vec![]);
        if let Buckets::Integer { count, .. } = &mut h.buckets {
            *count += 5;
        }
        h
    };
    let refused: [Refused<'_>; 14] = [
        (&["job", "x"], &one, "missing_metric_name"),
        (&["__name__", "a", "b"], &one, "invalid_labels"),
        (&["__name__", "a", "b", "1", "b", "2"], &one, "invalid_labels"),
        (&["__name__", "a", "", "1"], &one, "invalid_labels"),
        (
            &["__name__", "a"],
            &|s| {
                one(s);
                s.labels_refs.extend([1, 77]);
            },
            "invalid_labels",
        ),
        (&["__name__", "a"], &|_| (), "empty_series"),
        (
            &["__name__", "a"],
            &|s| {
                one(s);
                hist(native(3, 9, vec![]))(s);
            },
            "empty_series",
        ),
        (
            &["__name__", "a"],
            &|s| s.samples = vec![sample(now_ms + 3_600_000)],
            "too_far_in_future",
        ),
        (&["__name__", "a"], &|s| s.samples = vec![sample(1_000)], "too_old"),
        (&["__name__", "a"], &hist(wrong_count), "invalid_histogram"),
        (&["__name__", "a"], &hist(native(100, 9, vec![])), "invalid_histogram"),
        (&["__name__", "a"], &hist(native(-5, 9, vec![])), "invalid_histogram"),
        (&["__name__", "a"], &hist(native(-53, 9, vec![2.0, 1.0])), "invalid_histogram"),
        (&["__name__", "a"], &hist(native(2, 9, vec![1.0])), "invalid_histogram"),
    ];
    for (labels, fill, reason) in refused {
        let (status, text, counts) = send_v2(&receiver, &request(labels, fill)).await;
        let expected = ["1", "0", "0"].map(str::to_owned);
        assert_eq!((status, &counts), (400, &expected), "{labels:?} {reason}: {text}");
        assert!(text.contains(&format!(" {reason}: ")), "{labels:?} {reason}: {text}");
    }
    for histogram in [native(3, 9, vec![]), native(12, 9, vec![]), native(-53, 9, vec![1.0, 2.5])] {
        let (status, text, counts) = send_v2(
            &receiver,
            &request(&["__name__", "h", "s", &histogram.schema.to_string()], &hist(histogram)),
        )
        .await;
        assert_eq!((status, counts), (204, ["1", "1", "0"].map(str::to_owned)), "{text}");
    }
    assert_eq!(select(&storage, "good").await.len(), 17, "every good one is there");
    assert!(select(&storage, "a").await.is_empty());
    assert_eq!(select(&storage, "h").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_asks_to_come_back() {
    let disk = FaultyDisk::new();
    let storage = open(&disk).await;
    let receiver = receiver(&storage);
    let series = labels! { __name__ = "up" };
    let samples = [(SystemClock::default().now_ms(), 1.0)];
    let body = write::samples_body([(&series, &samples[..])]);
    disk.set_free_bytes(1 << 30);
    let mut answer = send(&receiver, &body).await;
    // The store looks at the disk every so often.
    for _ in 0..100 {
        if answer.0 == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = send(&receiver, &body).await;
    }
    assert_eq!(answer.0, 503, "{}", answer.1);
    assert!(answer.1.contains("free disk is below the reserve"), "{}", answer.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_is_seen_at_once_and_ends_in_stale_markers() {
    let storage = open(&FaultyDisk::new()).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let host = Arc::new(Host::new(Root::default(), Arc::clone(&clock)));
    let expose = Arc::clone(&host);
    let metrics = Arc::new(Metrics::default());
    let own = Arc::clone(&metrics);
    let targets = vec![
        Target {
            job: "node".to_owned(),
            instance: host.name(),
            cluster: String::new(),
            expose: Arc::new(move |out| expose.collect(out)),
        },
        Target {
            job: "taffrail".to_owned(),
            instance: host.name(),
            cluster: String::new(),
            expose: Arc::new(move |out| own.write(out)),
        },
    ];
    let appender: Arc<dyn Appender> = Arc::<Storage>::clone(&storage);
    let config = SelfScrapeConfig::default();
    let scraper =
        SelfScraper::new(appender, Arc::new(|| Ok(scope())), clock, metrics, &config, targets);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(scraper.run(stopped));
    for _ in 0..200 {
        if !select(&storage, "up").await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.send(true).expect("still running");
    running.await.expect("ends without panic");
    let up = select(&storage, "up").await;
    assert_eq!(up.len(), 2);
    for (labels, values) in &up {
        assert_eq!(values[0], 1.0, "{labels}");
        assert!(values.last().is_some_and(|v| model::is_stale(*v)), "{labels} {values:?}");
    }
    for name in [
        "node_load1",
        "node_memory_MemTotal_bytes",
        "node_uname_info",
        "taffrail_ingest_samples_total",
    ] {
        assert_eq!(select(&storage, name).await.len(), 1, "{name}");
    }
}
