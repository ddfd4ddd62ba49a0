//! The self-scraper: what each scrape writes, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use model::{Clock, Labels, Position, SystemClock};
use parking_lot::Mutex;
use storage::{AppendOutcome, Appended, MetricRows};
use tenancy::{Limits, WriteScope};
use testkit::ManualClock;
use tokio::sync::watch;

use super::super::batch::Batch;
use super::super::time::{next_tick, stamp};
use super::{ScopeOf, SelfScraper, Target, Tracked};
use crate::{Appender, Durable, Metrics, SelfScrapeConfig};

/// Keeps what it is given, as text.
#[derive(Default)]
struct Kept {
    lines: Mutex<Vec<String>>,
}

impl Appender for Kept {
    fn append(&self, _: &WriteScope, rows: &MetricRows<'_>) -> Result<Appended, storage::Error> {
        let mut lines = self.lines.lock();
        for series in &rows.series {
            let wire = rows.labels_of(series);
            let labels = Labels::from_wire(wire).expect("labels");
            let mut canonical = Vec::new();
            labels.encode(&mut canonical);
            assert_eq!(wire, canonical, "labels are written in canonical encoding");
            for sample in &rows.samples[series.samples.start as usize..series.samples.end as usize]
            {
                let value = if model::is_stale(sample.value) {
                    "stale".to_owned()
                } else {
                    sample.value.to_string()
                };
                lines.push(format!("{labels} {value} @{}", sample.timestamp_ms));
            }
        }
        for (family, metadata) in &rows.metadata {
            lines.push(format!("{family}: {} {:?}", metadata.kind.as_str(), metadata.help));
        }
        let outcome =
            AppendOutcome { samples: rows.samples.len() as u64, ..AppendOutcome::default() };
        Ok(Appended { outcome, position: Some(Position(1)) })
    }

    fn durable(&self, _: Position) -> Durable<'_> {
        Box::pin(async { Ok(()) })
    }
}

fn scope() -> WriteScope {
    WriteScope::for_test(1, "default", Limits::default())
}

fn scope_of() -> ScopeOf {
    Arc::new(|| Ok(scope()))
}

/// A target whose answer is set from outside.
fn target() -> (Arc<Mutex<String>>, Target) {
    let answer = Arc::new(Mutex::new(String::new()));
    let exposed = Arc::clone(&answer);
    let expose = Arc::new(move |out: &mut String| out.push_str(&exposed.lock()));
    (
        answer,
        Target {
            job: "node".to_owned(),
            instance: "here".to_owned(),
            cluster: String::new(),
            expose,
        },
    )
}

/// What a batch holds, sorted, with the target's own labels left out.
fn lines(mut batch: Batch) -> Vec<String> {
    let kept = Kept::default();
    batch.append(|rows| Ok(kept.append(&scope(), rows)?)).expect("kept");
    let mut lines = kept.lines.into_inner();
    lines.sort();
    lines
        .iter()
        .map(|l| l.replace(", instance=\"here\", job=\"node\"", "").replace("{__name__=", "{"))
        .collect()
}

/// Scrapes a target that answers with one text after the other; the last 5 lines of each, about
/// the scrape itself, are checked by their values alone.
#[track_caller]
fn check(answers: &[(&str, &[&str], &str)]) {
    let (answer, target) = target();
    let mut tracked = Tracked::new(target, 3);
    let clock = ManualClock::new(0);
    for (i, (text, expected, report)) in answers.iter().enumerate() {
        (*text).clone_into(&mut answer.lock());
        let mut batch = Batch::default();
        let at_ms = i as i64 + 1;
        let error = tracked
            .scrape(at_ms, &clock, &mut batch)
            .err()
            .map_or(String::new(), |e| e.to_string());
        let (about, mut got): (Vec<_>, Vec<_>) = lines(batch)
            .into_iter()
            .partition(|l| l.starts_with("{\"scrape_") || l.starts_with("{\"up\""));
        got.iter_mut().for_each(|l| *l = l.replace(&format!(" @{at_ms}"), ""));
        assert_eq!(got, *expected, "scrape {at_ms}");
        let of = |name: &str| {
            let line = about
                .iter()
                .find(|l| l.starts_with(&format!("{{\"{name}\"}} ")))
                .expect("a report");
            line.split(' ').nth(1).unwrap_or("").to_owned()
        };
        assert_eq!(about.len(), 5);
        let shown = format!(
            "up {} samples {} added {} {error}",
            of("up"),
            of("scrape_samples_scraped"),
            of("scrape_series_added")
        );
        assert_eq!(shown.trim_end(), *report, "scrape {at_ms}");
    }
}

#[test]
fn series_come_and_go() {
    check(&[
        ("a 1\nb{x=\"y\"} 2\n", &[r#"{"a"} 1"#, r#"{"b", x="y"} 2"#], "up 1 samples 2 added 2"),
        ("a 1\nb{x=\"y\"} 3\n", &[r#"{"a"} 1"#, r#"{"b", x="y"} 3"#], "up 1 samples 2 added 0"),
        ("a 1\n", &[r#"{"a"} 1"#, r#"{"b", x="y"} stale"#], "up 1 samples 1 added 0"),
        ("a 1\n", &[r#"{"a"} 1"#], "up 1 samples 1 added 0"),
        ("a{x=\"\"} 1\n", &[r#"{"a"} 1"#], "up 1 samples 1 added 1"), // the same labels in other words
        ("", &[r#"{"a"} stale"#], "up 1 samples 0 added 0"),
    ]);
}

#[test]
fn a_failed_scrape_ends_everything_and_writes_nothing_else() {
    check(&[
        ("a 1\n", &[r#"{"a"} 1"#], "up 1 samples 1 added 1"),
        (
            "a 1\nb 2\nc",
            &[r#"{"a"} stale"#],
            "up 0 samples 2 added 1 line 3: expected a value: \"c\"",
        ),
        ("a 1\nb 2\nc", &[], "up 0 samples 2 added 0 line 3: expected a value: \"c\""),
        (
            "a 1\na{b=\"1\",b=\"2\"} 1\n",
            &[],
            "up 0 samples 2 added 0 label \"b\" occurs twice in \"a{b=\\\"1\\\",b=\\\"2\\\"}\"",
        ),
        (
            "a 1\nb 1\nc 1\nd 1\n",
            &[],
            "up 0 samples 4 added 1 sample limit exceeded: more than 3 samples",
        ),
        // As in Prometheus, a series that failed scrapes have shown is not new.
        ("a 1\n", &[r#"{"a"} 1"#], "up 1 samples 1 added 0"),
    ]);
}

#[test]
fn labels_of_the_target_win() {
    check(&[(
        "a{job=\"x\",exported_job=\"y\",instance=\"\"} 1\n",
        &[r#"{"a", exported_exported_job="x", exported_job="y"} 1"#],
        "up 1 samples 1 added 1",
    )]);
}

#[test]
fn given_timestamps_are_kept_and_not_tracked() {
    check(&[
        ("a 1 500\nb NaN\n", &[r#"{"a"} 1 @500"#, r#"{"b"} NaN"#], "up 1 samples 2 added 2"),
        ("b 1\n", &[r#"{"b"} 1"#], "up 1 samples 1 added 0"),
    ]);
}

#[test]
fn metadata_is_told_when_it_changes() {
    let help = "# HELP a one\n# TYPE a counter\n";
    check(&[
        (help, &["a: counter \"one\""], "up 1 samples 0 added 0"),
        (help, &[], "up 1 samples 0 added 0"),
        ("# HELP a two\n# TYPE a counter\n", &["a: counter \"two\""], "up 1 samples 0 added 0"),
        ("# HELP a three\nx", &[], "up 0 samples 0 added 0 line 2: expected a value: \"x\""),
    ]);
}

#[test]
fn the_end_ends_the_report_too() {
    let (answer, target) = target();
    "a 1\n".clone_into(&mut answer.lock());
    let mut tracked = Tracked::new(target, 10);
    tracked.scrape(1, &ManualClock::new(0), &mut Batch::default()).expect("scraped");
    let mut batch = Batch::default();
    tracked.end(2, &mut batch);
    let ended = lines(batch);
    assert_eq!(ended.len(), 6);
    assert!(ended.iter().all(|l| l.ends_with(" stale @2")), "{ended:?}");
}

#[test]
fn ticks_are_aligned_and_late_ones_keep_their_time() {
    for (now, offset, tick) in
        [(0, 0, 15), (14, 0, 15), (15, 0, 30), (16, 7, 22), (22, 7, 37), (-3, 0, 0), (5, 7, 7)]
    {
        assert_eq!(next_tick(now, 15, offset), tick, "after {now}");
    }
    for (tick, now, at) in [
        (15_000, 15_000, 15_000),
        (15_000, 15_010, 15_000),
        (15_000, 14_999, 15_000),
        (15_000, 15_011, 15_011),
    ] {
        assert_eq!(stamp(tick, now, 15_000, 10), at);
    }
    assert_eq!(stamp(100, 103, 100, 10), 103, "one percent of a short interval");
}

#[tokio::test]
async fn it_scrapes_at_once_then_by_the_clock_and_stops_when_told() {
    let kept = Arc::new(Kept::default());
    let scrapes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&scrapes);
    let expose = Arc::new(move |out: &mut String| {
        out.push_str(&format!("n {}\n", count.fetch_add(1, Relaxed)));
        if count.load(Relaxed) == 2 {
            std::thread::sleep(Duration::from_millis(120)); // longer than two intervals
        }
    });
    let targets = ["node", "taffrail"].map(|job| {
        let expose: Arc<dyn Fn(&mut String) + Send + Sync> = match job {
            "node" => Arc::<_>::clone(&expose) as Arc<_>,
            _ => Arc::new(|out: &mut String| out.push_str("m 1\n")),
        };
        Target { job: job.to_owned(), instance: "here".to_owned(), cluster: String::new(), expose }
    });
    let appender: Arc<dyn Appender> = Arc::<Kept>::clone(&kept);
    let metrics = Arc::new(Metrics::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let scraper = SelfScraper::with_interval(
        appender,
        scope_of(),
        clock,
        Arc::clone(&metrics),
        50,
        100,
        targets.to_vec(),
    );
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(scraper.run(stopped));
    while scrapes.load(Relaxed) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(true).expect("still running");
    tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .expect("ends")
        .expect("without panic");
    let lines = kept.lines.lock();
    let of = |start: &str| lines.iter().filter(|l| l.starts_with(start)).collect::<Vec<_>>();
    let at = |line: &str| {
        line.rsplit('@').next().and_then(|t| t.parse::<i64>().ok()).expect("a timestamp")
    };
    let (n, m) = (of(r#"{__name__="n""#), of(r#"{__name__="m""#));
    assert!(n.len() >= 5 && n.last().is_some_and(|l| l.contains(" stale @")), "{n:?}");
    let times = |of: &[&String]| of.iter().map(|l| at(l)).collect::<Vec<_>>();
    assert!(times(&n).is_sorted_by(|a, b| a < b), "time goes forward: {n:?}");
    assert_eq!(times(&n)[..4], times(&m)[..4], "targets share timestamps");
    assert!(times(&n)[2] - times(&n)[1] >= 100, "a tick was left out: {n:?}");
    assert!(metrics.scrapes_skipped.load(Relaxed) >= 1);
    assert_eq!(of(r#"{__name__="up""#).len(), m.len() + n.len());
}

#[tokio::test]
async fn it_ends_when_nobody_can_tell_it_to() {
    let appender = Arc::new(Kept::default());
    let config = SelfScrapeConfig::default();
    let scraper = SelfScraper::new(
        appender,
        scope_of(),
        Arc::new(SystemClock::default()),
        Arc::default(),
        &config,
        Vec::new(),
    );
    let (stop, stopped) = watch::channel(false);
    drop(stop);
    tokio::time::timeout(Duration::from_secs(5), scraper.run(stopped)).await.expect("ends");
}
