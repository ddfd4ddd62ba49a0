//! Looking series up is charged to the question's processor time, and ends when that is used up.

use std::sync::Arc;

use engine::{Options, Pool, StorageExecutor};
use model::{Clock, Labels, Matcher, Sample, TimeRange};
use query::promql::{Features, parse_with};
use query::{Cancel, Error, Executor, SeriesRequest};
use storage::{MetricRows, Parts, SeriesRows, Storage};
use tenancy::{Limits, ReadScope, WriteScope};
use testkit::{FaultyDisk, ManualClock, SeededRandom};

const NOW_MS: i64 = 1_800_000_000_000;

/// A store with so many series that each have a value of their own.
async fn store(series: usize) -> Arc<Storage> {
    let parts = Parts {
        disk: Arc::new(FaultyDisk::default()),
        objects: None,
        clock: Arc::new(ManualClock::new(NOW_MS)) as Arc<dyn Clock>,
        random: Arc::new(SeededRandom::new(7)),
    };
    let config = storage::Config { disk_reserve_bytes: 0, ..storage::Config::default() };
    let storage = Storage::open(config, parts).await.unwrap();
    let (mut body, mut rows) = (Vec::new(), MetricRows::default());
    for i in 0..series {
        let start = body.len() as u32;
        Labels::from_pairs([("__name__", "m"), ("pod", &format!("pod-{i}"))]).encode(&mut body);
        rows.samples.push(Sample { timestamp_ms: NOW_MS, value: 1.0 });
        let (labels, samples) = (start..body.len() as u32, i as u32..i as u32 + 1);
        rows.series.push(SeriesRows { labels, samples, ..SeriesRows::default() });
    }
    let scope = WriteScope::for_test(1, "team-1", Limits::default());
    let appended = storage.append(&scope, &MetricRows { body: &body, ..rows }).unwrap();
    assert_eq!(appended.outcome.samples, series as u64);
    storage
}

fn scope(cpu_seconds: f64) -> ReadScope {
    let limits = Limits { query_cpu_seconds_max: cpu_seconds, ..Limits::default() };
    ReadScope::for_test(&[(1, "team-1")]).limited_for_test(limits)
}

fn request() -> SeriesRequest {
    let matcher = Matcher::new(model::MatchOp::Regex, "pod", "(a|b|p.*).*[0-9]+").unwrap();
    let (selectors, cancel) = (vec![vec![matcher]], Cancel::default());
    SeriesRequest { selectors, range: TimeRange::ALL, limit: None, cancel }
}

#[track_caller]
fn check_refused<T>(answer: Result<T, Error>, what: &str) {
    let Err(error) = answer else { panic!("{what} is not refused") };
    assert_eq!(error.status(), 422, "{what}: {error}");
    assert!(error.to_string().contains("query_cpu_seconds_max"), "{what}: {error}");
}

#[tokio::test]
async fn look_ups_are_charged_to_the_processor_time() {
    let executor = StorageExecutor::new(store(10_000).await, Pool::new(1), Options::default());
    let cancel = Cancel::default();
    let all = SeriesRequest { cancel: cancel.clone(), ..request() };
    let found = executor.series(&scope(60.0), all).await.unwrap();
    assert_eq!(found.items.len(), 10_000);
    assert!(!cancel.usage().now().cpu.is_zero(), "it is charged");

    check_refused(executor.series(&scope(0.0), request()).await, "series");
    check_refused(executor.label_names(&scope(0.0), request()).await, "names");
    check_refused(executor.label_values(&scope(0.0), "pod", request()).await, "values");
    let expr = parse_with("m{pod=~'(a|b|p.*).*[0-9]+'}", Features::ALL).unwrap();
    let asked = executor.evaluate(&scope(0.0), engine::instant(expr, NOW_MS)).await;
    check_refused(asked, "a question");
}
