//! What comes in is what the store gives out: remote write and the self-scraper over the real
//! store on a disk in memory that can be killed, filled and made to fail.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use ingest::host::{Host, Root};
use ingest::remote_write::RemoteWrite;
use ingest::scrape::{SelfScraper, Target};
use ingest::{Appender, Config, Metrics, SelfScrapeConfig};
use model::{Clock, Disk, MatchOp, Matcher, SystemClock, TimeRange};
use storage::{Parts, Select, Storage};
use tenancy::{Limits, ReadScope, WriteScope};
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
    Arc::new(RemoteWrite::new(appender, Arc::default(), Arc::default(), clock, &Config::default()))
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
    let found = storage.select(&ReadScope::for_test(&[(1, "team-a")]), &request).expect("selects");
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
            expose: Arc::new(move |out| expose.collect(out)),
        },
        Target {
            job: "taffrail".to_owned(),
            instance: host.name(),
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
