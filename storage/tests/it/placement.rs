//! The answer does not depend on where the rows lie: head, being flushed, one block, many, merged
//! ones of either level, after a restart, in the data directory or on S3.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{MatchOp, Matcher, Resolution, TimeRange, stale_nan};
use storage::{Extent, FarObjects, SelectWindows, Storage};
use tenancy::{Limits, ReadScope};
use testkit::S3Server;

use crate::s3::far;
use crate::store::{BUCKETS, Ground, NOW_MS, Row, config, read, write};

/// Ten series of two tenants, twenty scrapes with a gap, a stale marker, odd values.
fn scrapes() -> Vec<Vec<Row>> {
    let value = |series: u32, scrape: i64| match (series, scrape) {
        (3, 7) => stale_nan(),
        (4, _) => -0.0,
        (5, 9) => f64::from_bits(0x7ff8_0000_0000_beef),
        (6, s) => 1e15 + s as f64 / 3.0,
        (series, scrape) => f64::from(series) * 10.0 + scrape as f64,
    };
    let scrape = |s: i64| {
        (0..10u32)
            .filter(move |&n| n != 8 || s % 3 != 0)
            .map(move |n| (n, NOW_MS - 600_000 + s * 15_000 + i64::from(n % 2), value(n, s)))
    };
    // Buckets over the same instants; one of them has no samples at first.
    let buckets = |s: i64| {
        (0..10u32).filter(move |n| *n != 7 || s > 3).map(move |n| {
            let le = [5, 1, 2, 4, 3][n as usize % 5];
            (BUCKETS + n, NOW_MS - 600_000 + s * 15_000, (s * s * le + s % 3) as f64)
        })
    };
    (0..20).map(|s| scrape(s).chain(buckets(s)).collect()).collect()
}

/// All windows a scope may read, as text.
async fn windows(storage: &Storage, scope: &ReadScope, resolution: Resolution) -> String {
    let request = SelectWindows { matchers: vec![], range: TimeRange::ALL, resolution };
    let selection = storage.select_windows(scope, &request).await.expect("readable");
    let fetched = selection.fetch(0..selection.len()).await.expect("readable");
    let decoded = fetched.decode().expect("readable");
    let line = |(i, w)| format!("{resolution} {} {w:?}\n", selection.labels(i));
    decoded.iter().enumerate().map(line).collect()
}

/// Answers to a set of questions, as text.
async fn answers(storage: &Storage) -> String {
    let mut out = String::new();
    let one = ReadScope::for_test(&[(1, "team-1")]);
    let both = ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]);
    let part = one.clone().restricted_for_test(vec![
        vec![Matcher::equal("zone", "a")],
        vec![Matcher::equal("pod", "pod-3")],
    ]);
    let matcher =
        |op, name: &str, value: &str| Matcher::new(op, name, value).expect("a valid matcher");
    let questions = [
        vec![],
        vec![Matcher::equal("zone", "b")],
        vec![matcher(MatchOp::Regex, "pod", "pod-[0-3]")],
        vec![
            matcher(MatchOp::NotRegex, "__name__", ".*_1|.*_2"),
            matcher(MatchOp::NotEqual, "zone", "a"),
        ],
        vec![Matcher::equal("absent", "")],
        vec![Matcher::equal("zone", "nowhere")],
        vec![matcher(MatchOp::NotEqual, "__tenant_id__", "team-1"), Matcher::equal("zone", "b")],
    ];
    let ranges =
        [TimeRange::ALL, TimeRange { start_ms: NOW_MS - 500_000, end_ms: NOW_MS - 420_000 }];
    let part_of_both = both.clone().restricted_for_test(vec![vec![Matcher::equal("zone", "a")]]);
    for scope in [&one, &both, &part, &part_of_both] {
        for (matchers, range) in questions.iter().flat_map(|m| ranges.iter().map(move |r| (m, *r)))
        {
            out += &format!(
                "{matchers:?} {range:?} {:?}\n",
                read(storage, scope, matchers, range).await.expect("readable")
            );
        }
        for resolution in [Resolution::Minutes5, Resolution::Hour1] {
            out += &windows(storage, scope, resolution).await;
        }
        let all = TimeRange::ALL;
        out += &format!(
            "{:?}\n",
            storage.series(scope, &[vec![Matcher::equal("zone", "a")]], all).await.expect("series")
        );
        out += &format!("{:?}\n", storage.label_names(scope, &[], all).await.expect("names"));
        for name in ["pod", "__tenant_id__"] {
            let values = storage.label_values(scope, name, &[], all).await;
            out += &format!("{:?}\n", values.expect("values"));
        }
    }
    out
}

/// Writes all scrapes, flushing after those for which `flush` says so; objects lie in the data
/// directory or far away.
async fn placed(far: Option<FarObjects>, flush: impl Fn(usize) -> bool, then: Then) -> String {
    let ground = Ground::default();
    let open = || ground.open_on(config(), far.clone(), 7);
    let storage = open().await.expect("a new store");
    for (i, rows) in scrapes().iter().enumerate() {
        for tenant in [1, 2] {
            let appended = write(&storage, tenant, rows).await.expect("a good write");
            assert_eq!(appended.outcome.samples, rows.len() as u64);
        }
        if flush(i) {
            storage.flush_all().await.expect("a good flush");
        }
    }
    if let Then::Merge { windows_only } | Then::MergeAndReopen { windows_only } = then {
        let extent = if windows_only {
            ground.clock.advance(Duration::from_secs(3 * 3600));
            Extent::Due
        } else {
            Extent::Everything
        };
        storage.compact(extent).await.expect("a good merge");
        let levels: BTreeSet<u8> = storage.blocks().iter().map(|(_, b)| b.level).collect();
        assert_eq!(levels, BTreeSet::from([if windows_only { 1 } else { 2 }]));
    }
    if matches!(then, Then::Merge { .. } | Then::Nothing) {
        return answers(&storage).await;
    }
    drop(storage);
    answers(&open().await.expect("the same store")).await
}

/// What happens to a store before it is asked.
#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    Reopen,
    Merge { windows_only: bool },
    MergeAndReopen { windows_only: bool },
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_placement() {
    let in_head = placed(None, |_| false, Then::Nothing).await;
    assert!(in_head.contains("pod-9") && in_head.contains("team-2"), "{in_head}");
    let s3 = S3Server::start();
    for (what, every, then) in [
        ("one block", 20, Then::Nothing),
        ("a block a scrape", 1, Then::Nothing),
        ("blocks and head", 7, Then::Nothing),
        ("replayed", 100, Then::Reopen),
        ("blocks, reopened", 1, Then::Reopen),
        ("blocks and replay", 7, Then::Reopen),
        ("one block of two hours", 1, Then::Merge { windows_only: true }),
        ("one block of a day", 1, Then::Merge { windows_only: false }),
        ("a merged block and head", 7, Then::Merge { windows_only: false }),
        ("a merged block and replay", 7, Then::MergeAndReopen { windows_only: true }),
        ("one block of a day, reopened", 3, Then::MergeAndReopen { windows_only: false }),
    ] {
        let there = placed(None, |i| (i + 1) % every == 0, then).await;
        assert!(there == in_head, "{what}:\n{there}\nin the head:\n{in_head}");
        if let Some(s3) = &s3 {
            let far = far(s3, &what.replace([' ', ','], "-"));
            let there = placed(Some(far), |i| (i + 1) % every == 0, then).await;
            assert!(there == in_head, "{what}, on S3:\n{there}\nin the head:\n{in_head}");
        }
    }
}

/// In the head, then in a block.
async fn in_both_places(check: impl AsyncFn(&Storage)) {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    for tenant in [1, 2] {
        // Tenant 2 has nothing in zone a.
        let rows: Vec<Row> = (0..10)
            .filter(|n| tenant == 1 || n % 2 == 1)
            .map(|n| (n, NOW_MS, f64::from(n)))
            .collect();
        write(&storage, tenant, &rows).await.expect("a good write");
    }
    check(&storage).await;
    storage.flush_all().await.expect("a good flush");
    check(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_without_visible_series_are_not_named() {
    let both = ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]);
    let zone_a = both.clone().restricted_for_test(vec![vec![Matcher::equal("zone", "a")]]);
    in_both_places(async |storage| {
        let zone_b = vec![Matcher::equal("zone", "b")];
        let second = vec![Matcher::equal("__tenant_id__", "team-2")];
        let cases: [(_, &[Vec<Matcher>], &[&str]); 4] = [
            (&both, &[], &["team-1", "team-2"]),
            (&zone_a, &[], &["team-1"]),
            (&zone_a, &[zone_b], &[]),
            (&both, &[second], &["team-2"]),
        ];
        for (scope, selectors, tenants) in cases {
            let values = storage.label_values(scope, "__tenant_id__", selectors, TimeRange::ALL);
            assert_eq!(Vec::from_iter(values.await.expect("values")), tenants);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_label_selects_tenants() {
    let both = ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]);
    in_both_places(async |storage| {
        for (op, value, expected) in [
            (MatchOp::Equal, "team-1", 10),
            (MatchOp::Equal, "team-2", 5),
            (MatchOp::NotEqual, "team-1", 5),
            (MatchOp::Regex, "team-.", 15),
            (MatchOp::NotRegex, "team-.", 0),
            (MatchOp::Equal, "", 0),
        ] {
            let matcher = Matcher::new(op, "__tenant_id__", value).expect("a valid matcher");
            let matchers = vec![matcher, Matcher::new(MatchOp::Regex, "pod", ".+").expect("valid")];
            let found = read(storage, &both, &matchers, TimeRange::ALL).await.expect("readable");
            assert_eq!(found.len(), expected, "{matchers:?}");
            let named = format!("__tenant_id__=\"{value}\"");
            let right = |row: &(String, _)| op != MatchOp::Equal || row.0.contains(&named);
            assert!(found.iter().all(right), "{found:?}");
            let listed = storage.series(&both, &[matchers], TimeRange::ALL).await;
            assert_eq!(listed.expect("series").len(), expected);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_count_only_what_the_scope_may_see() {
    let limited = |series: usize, samples: usize| {
        let limits =
            Limits { query_series_max: series, query_samples_max: samples, ..Limits::default() };
        let scope = ReadScope::for_test(&[(1, "team-1")]).limited_for_test(limits);
        scope.restricted_for_test(vec![vec![Matcher::equal("pod", "pod-3")]])
    };
    in_both_places(async |storage| {
        let one = read(storage, &limited(1, 1), &[], TimeRange::ALL).await.expect("one series");
        assert_eq!(one.len(), 1, "{one:?}");
        let none = read(storage, &limited(0, 1), &[], TimeRange::ALL).await;
        none.expect_err("one series is more than none");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_told_of_the_askers_rows_alone() {
    let storage = Ground::default().open().await.expect("a new store");
    let rows =
        |count: u32| -> Vec<Row> { (0..count).map(|n| (n, NOW_MS + i64::from(n), 1.0)).collect() };
    write(&storage, 1, &rows(10)).await.expect("a good write");
    write(&storage, 2, &rows(30)).await.expect("a good write");
    let one = ReadScope::for_test(&[(1, "team-1")]);
    assert_eq!(storage.block_shares(&one).await.expect("shares"), [], "nothing is in blocks yet");
    storage.flush_all().await.expect("a good flush");
    let both = ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]);
    for (scope, count) in [(&one, 10), (&both, 40)] {
        let shares = storage.block_shares(scope).await.expect("shares");
        let sum = |of: fn(&storage::BlockShare) -> u64| shares.iter().map(of).sum::<u64>();
        assert_eq!((sum(|s| s.series), sum(|s| s.samples)), (count, count), "{shares:?}");
        assert!(shares.iter().all(|s| s.id >> 80 == NOW_MS as u128), "{shares:?}");
        let newest = shares.iter().map(|s| s.range.end_ms).max();
        assert_eq!(newest, Some(NOW_MS + if count == 10 { 9 } else { 29 }), "{shares:?}");
    }
    let part = one.restricted_for_test(vec![vec![Matcher::equal("zone", "a")]]);
    storage.block_shares(&part).await.expect_err("blocks tell of all rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    let error = ground.open().await.map(drop).expect_err("the directory is taken");
    assert!(error.to_string().contains("another process"), "{error}");
    drop(storage);
    ground.open().await.expect("free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflicting_sample_is_refused_and_the_first_one_stays() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    write(&storage, 1, &[(1, NOW_MS, 1.0), (1, NOW_MS + 1, 2.0)]).await.expect("a good write");
    let again = write(&storage, 1, &[(1, NOW_MS, 1.0), (1, NOW_MS, 9.0), (2, NOW_MS, 5.0)])
        .await
        .expect("partly good");
    assert_eq!((again.outcome.samples, again.outcome.rejected.len()), (2, 1), "{again:?}");
    storage.flush_all().await.expect("a good flush");
    // Late, against a block: taken, but what came first stays.
    write(&storage, 1, &[(1, NOW_MS, 7.0), (1, NOW_MS - 5, 0.5)]).await.expect("late samples");
    let expected =
        [(NOW_MS - 5, 0.5f64), (NOW_MS, 1.0), (NOW_MS + 1, 2.0)].map(|(at, v)| (at, v.to_bits()));
    for _ in 0..2 {
        let found = read(&storage, &scope, &[Matcher::equal("pod", "pod-1")], TimeRange::ALL)
            .await
            .expect("readable");
        assert_eq!(found[0].1, expected);
        storage.flush_all().await.expect("a good flush");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_of_their_range() {
    let storage = Ground::default().open().await.expect("a new store");
    write(&storage, 1, &[(1, NOW_MS, 1.0), (1, NOW_MS + 60_000, 2.0)]).await.expect("a good write");
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    for place in ["head", "block"] {
        for (start, end, listed) in [
            (0, 60_000, 1),
            (30_000, 90_000, 1),
            (60_000, 60_000, 1),
            (-90_000, -1, 0),
            (60_001, 90_000, 0),
            (60_000, 0, 0),
        ] {
            let range = TimeRange { start_ms: NOW_MS + start, end_ms: NOW_MS + end };
            let series = storage.series(&scope, &[], range).await.expect("series");
            assert_eq!(series.len(), listed, "{place} {start} {end}");
            let pods = storage.label_values(&scope, "pod", &[], range).await.expect("values");
            assert_eq!(pods.len(), listed, "{place} {start} {end}");
        }
        storage.flush_all().await.expect("a good flush");
    }
}
