//! Deletions: gone at once wherever the rows lie, gone after a restart, and nothing else gone.

use std::collections::BTreeSet;

use ::model::{Cancel, MatchOp, Matcher, TimeRange};
use storage::{Delete, Storage};
use tenancy::{DeleteScope, Limits, ReadScope, Retention};
use testkit::Fault;

use crate::facts::{Request, everything, samples, tight};
use crate::store::{Ground, NOW_MS, labels_of, read};

fn scope() -> DeleteScope {
    DeleteScope::for_test(1, "team-1", Limits::default())
}

/// Three scrapes with everything a series can have.
fn requests(tenant: u32) -> Vec<Request> {
    let scrape = |second: i64| {
        let at = NOW_MS + second * 1000;
        Request {
            tenant,
            rows: (0..6).map(|n| (n, at, f64::from(n) + second as f64)).collect(),
            histograms: vec![(20, at)],
            exemplars: vec![(1, at), (2, at)],
            metadata: vec!["metric_1".to_owned(), "metric_2".to_owned(), "silent".to_owned()],
        }
    };
    [0, 15, 30].map(scrape).into()
}

fn regex(name: &str, value: &str) -> Matcher {
    Matcher::new(MatchOp::Regex, name, value).expect("a pattern")
}

/// Where the rows lie when they are deleted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Head,
    Frozen,
    Blocks,
    BlocksAndHead,
}

async fn filled(ground: &Ground, place: Place) -> std::sync::Arc<Storage> {
    let storage = ground.open_with(tight()).await.expect("a new store");
    for (i, (one, two)) in requests(1).into_iter().zip(requests(2)).enumerate() {
        one.send(&storage).await.expect("a good write");
        two.send(&storage).await.expect("a good write");
        if place == Place::Blocks || (place == Place::BlocksAndHead && i == 0) {
            storage.flush_all().await.expect("a good flush");
        }
    }
    if place == Place::Frozen {
        ground.disk.fail_from(ground.disk.operations() + 1, Fault::Enospc);
        assert!(storage.flush_all().await.is_err(), "nothing arrives in blocks");
        ground.disk.heal();
        assert!(storage.totals().head_samples > 0 && storage.totals().blocks == 0);
    }
    storage
}

/// What a deletion leaves: by its parts as they stand in a fact.
fn left(goes: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let facts: BTreeSet<String> =
        requests(1).iter().chain(&requests(2)).flat_map(Request::facts).collect();
    facts.into_iter().filter(|fact| !fact.starts_with("1 ") || !goes(fact)).collect()
}

async fn check(selectors: Vec<Vec<Matcher>>, range: TimeRange, goes: impl Fn(&str) -> bool + Copy) {
    for place in [Place::Head, Place::Frozen, Place::Blocks, Place::BlocksAndHead] {
        let ground = Ground::default();
        let storage = filled(&ground, place).await;
        let delete = Delete { selectors: selectors.clone(), range };
        storage.delete(&scope(), delete).await.expect("a deletion");
        let expected = left(goes);
        assert_eq!(everything(&storage).await.expect("readable"), expected, "{place:?}");
        // Killed now, then after all went into blocks, then after a power cut.
        let killed = Ground { disk: ground.disk.after_kill(), ..ground.clone() };
        let again = killed.open_with(tight()).await.expect("the same store");
        assert_eq!(everything(&again).await.expect("readable"), expected, "{place:?}, killed");
        storage.flush_all().await.expect("a good flush");
        storage.flush_all().await.expect("a good flush");
        assert_eq!(everything(&storage).await.expect("readable"), expected, "{place:?}, flushed");
        storage.clean_tombstones().await.expect("a sound disk");
        let cut = Ground { disk: ground.disk.after_crash(3), ..ground.clone() };
        let again = cut.open_with(tight()).await.expect("the same store");
        assert_eq!(everything(&again).await.expect("readable"), expected, "{place:?}, power cut");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_gone_at_once_and_for_good() {
    let pod =
        |fact: &str, pods: &[u32]| pods.iter().any(|n| fact.contains(&format!("pod=\"pod-{n}\"")));
    // With the last series of its family its metadata goes.
    check(vec![vec![regex("pod", "pod-1|pod-20")]], TimeRange::ALL, |fact| {
        pod(fact, &[1, 20]) || fact.starts_with("1 metric_1 ")
    })
    .await;
    let second = TimeRange { start_ms: NOW_MS + 15_000, end_ms: NOW_MS + 15_000 };
    let selectors = vec![vec![Matcher::equal("zone", "b")], vec![regex("pod", "pod-2")]];
    check(selectors, second, |fact| {
        pod(fact, &[1, 3, 5, 2]) && fact.contains(&(NOW_MS + 15_000).to_string())
    })
    .await;
    check(vec![vec![]], TimeRange::ALL, |fact| !fact.contains("silent")).await;
    check(vec![vec![Matcher::equal("pod", "nobody")]], TimeRange::ALL, |_| false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_and_statistics_know_nothing_of_it() {
    for place in [Place::Head, Place::Frozen, Place::Blocks, Place::BlocksAndHead] {
        let storage = filled(&Ground::default(), place).await;
        // All its samples in two steps, none of which is the whole range of a block.
        for (start, end) in [(0, 20), (25, 40)] {
            let range = TimeRange { start_ms: NOW_MS + start * 1000, end_ms: NOW_MS + end * 1000 };
            let delete = Delete { selectors: vec![vec![regex("pod", "pod-3|pod-4")]], range };
            storage.delete(&scope(), delete).await.expect("a deletion");
        }
        let read = ReadScope::for_test(&[(1, "team-1")]);
        let pods = storage.label_values(&read, "pod", &[], TimeRange::ALL).await.expect("values");
        let expected = ["pod-0", "pod-1", "pod-2", "pod-20", "pod-5"].map(str::to_owned);
        assert_eq!(pods, expected.into(), "{place:?}");
        let series = storage.series(&read, &[], TimeRange::ALL).await.expect("series");
        assert_eq!(series.len(), 5, "{place:?}");
        let statistics = storage.cardinality(&read, &Cancel::default()).expect("statistics");
        assert_eq!(statistics.series, 5, "{place:?}");
        assert!(!statistics.labels["pod"].contains_key("pod-3"), "{place:?}");
        assert_eq!(storage.overview(&read).await[&tenancy::TenantId(1)].active_series, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_again_is_there() {
    for place in [Place::Head, Place::Frozen, Place::Blocks, Place::BlocksAndHead] {
        let ground = Ground::default();
        let storage = filled(&ground, place).await;
        let all = Delete { selectors: vec![vec![]], range: TimeRange::ALL };
        storage.delete(&scope(), all.clone()).await.expect("a deletion");
        // The same instants with other values.
        let rows = [(0, NOW_MS, 70.0), (0, NOW_MS + 15_000, 71.0), (4, NOW_MS + 5, 72.0)];
        samples(1, &rows).send(&storage).await.expect("a good write");
        let expected = async |storage: &Storage, what: &str| {
            let read_scope = ReadScope::for_test(&[(1, "team-1")]);
            let found = read(storage, &read_scope, &[], TimeRange::ALL).await.expect("readable");
            let bits = |v: f64| v.to_bits();
            let zero = vec![(NOW_MS, bits(70.0)), (NOW_MS + 15_000, bits(71.0))];
            let four = vec![(NOW_MS + 5, bits(72.0))];
            let both = vec![(labels_of(0).to_string(), zero), (labels_of(4).to_string(), four)];
            assert_eq!(found, both, "{place:?} {what}");
        };
        expected(&storage, "at once").await;
        storage.flush_all().await.expect("a good flush");
        storage.flush_all().await.expect("a good flush");
        expected(&storage, "in blocks").await;
        let again = Ground { disk: ground.disk.after_crash(1), ..ground.clone() };
        expected(&*again.open_with(tight()).await.expect("the same store"), "restarted").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_that_wait_are_bounded_and_dropped_once_done() {
    let storage = filled(&Ground::default(), Place::Blocks).await;
    let scope =
        DeleteScope::for_test(1, "team-1", Limits { deletes_pending_max: 3, ..Limits::default() });
    let delete =
        |pod: &str| Delete { selectors: vec![vec![regex("pod", pod)]], range: TimeRange::ALL };
    for pod in ["pod-1", "nobody", "pod-1", "pod-2"] {
        storage.delete(&scope, delete(pod)).await.expect(pod);
    }
    assert_eq!(storage.deletes_pending(scope.tenant()), 3, "one took the place of another");
    let refused = storage.delete(&scope, delete("pod-3")).await.expect_err("too many").to_string();
    assert!(refused.contains("deletes_pending_max"), "{refused}");
    storage.flush_all().await.expect("a good flush");
    storage.clean_tombstones().await.expect("a sound disk");
    assert_eq!(storage.deletes_pending(scope.tenant()), 0, "all are carried out");
    storage.delete(&scope, delete("pod-3")).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_older_than_they_are_kept_are_not_there() {
    for place in [Place::Head, Place::Blocks] {
        let ground = Ground::default();
        let storage = filled(&ground, place).await;
        ground.clock.advance(std::time::Duration::from_secs(3_610));
        let kept = Retention { raw_seconds: 3_600, ..Retention::default() };
        let scope = ReadScope::for_test(&[(1, "team-1")]).retained_for_test(kept);
        let found = read(&storage, &scope, &[], TimeRange::ALL).await.expect("readable");
        let oldest = found.iter().flat_map(|(_, points)| points).map(|(ms, _)| *ms).min();
        assert_eq!((found.len(), oldest), (6, Some(NOW_MS + 15_000)), "{place:?}");
        let exemplars = storage
            .exemplars(&scope, &[], TimeRange::ALL, &Cancel::default())
            .await
            .expect("exemplars");
        assert_eq!(exemplars.values().flatten().count(), 4, "{place:?}");
        ground.clock.advance(std::time::Duration::from_secs(60));
        assert!(read(&storage, &scope, &[], TimeRange::ALL).await.expect("readable").is_empty());
        let series = storage.series(&scope, &[], TimeRange::ALL).await.expect("series");
        assert!(series.is_empty(), "{place:?}: {series:?}");
    }
}
