//! Segments are merged: who asks sees no difference, and what is kept no longer is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use storage::retention::Rule;
use storage::{CompactionConfig, Config, Extent, Storage};
use tenancy::{ReadScope, Retention};

use super::{Line, NOW_NS, SECOND_NS, everything, line, reopened, scope, select, texts, write};
use crate::store::{Ground, Rules, config};

const HOUR_NS: i64 = 3_600 * SECOND_NS;

/// One partition, so that all streams meet.
fn one_partition() -> Config {
    let mut config = Config {
        compaction: CompactionConfig { fresh_blocks_max: 3, ..CompactionConfig::default() },
        ..config()
    };
    config.entries.partitions = 1;
    config
}

/// How many segments there are of each level.
fn levels(storage: &Storage) -> Vec<(u8, usize)> {
    let mut all: BTreeMap<u8, usize> = BTreeMap::new();
    storage.segments().iter().for_each(|(_, s)| *all.entry(s.level).or_default() += 1);
    all.into_iter().collect()
}

async fn flushed(storage: &Storage, tenant: u32, lines: &[Line]) {
    write(storage, tenant, lines).await;
    storage.flush_all().await.expect("a sound disk");
}

#[tokio::test]
async fn segments_become_rows_hours_and_days() {
    let ground = Ground::default();
    let storage = ground.open_with(one_partition()).await.expect("a new store");
    let of = |n: i64| line(&format!("app-{}", n % 3), NOW_NS + n, &format!("line {n}"));
    let mut expected = Vec::new();
    for n in 0..3 {
        flushed(&storage, 1, &[of(n), of(n + 10)]).await;
        storage.compact(Extent::Due).await.expect("a sound disk");
        let fresh = [vec![(0, 1)], vec![(0, 2)], vec![(1, 1)]];
        assert_eq!(levels(&storage), fresh[n as usize]);
        expected.push(format!("line {n}"));
    }
    expected.extend((0..3).map(|n| format!("line {}", n + 10)));
    flushed(&storage, 1, &[of(20)]).await;
    expected.push("line 20".to_owned());
    // A row and a fresh one, and the hour is over.
    ground.clock.advance(Duration::from_secs(2 * 3_600));
    storage.compact(Extent::Due).await.expect("a sound disk");
    assert_eq!(levels(&storage), [(2, 1)]);
    assert_eq!(texts(&storage, &scope(1), &everything()).await, expected);
    let late = line("app-1", NOW_NS + 2 * HOUR_NS, "line of later");
    flushed(&storage, 1, &[late]).await;
    expected.push("line of later".to_owned());
    ground.clock.advance(Duration::from_secs(50 * 3_600));
    storage.compact(Extent::Due).await.expect("a sound disk");
    assert_eq!(levels(&storage), [(3, 1)]);
    let totals = storage.compaction();
    assert_eq!((totals.entry_merges, totals.entries, totals.backlog_segments), ([1, 1, 1], 21, 0));
    assert!(totals.segment_bytes_in > totals.segment_bytes_out && totals.segment_bytes_out > 0);
    assert_eq!(texts(&storage, &scope(1), &everything()).await, expected);
    storage.remove_merged().await;
    let storage = reopened_with(&ground, storage).await;
    assert_eq!(texts(&storage, &scope(1), &everything()).await, expected);
    assert_eq!(storage.incomplete(), []);
}

async fn reopened_with(ground: &Ground, storage: Arc<Storage>) -> Arc<Storage> {
    drop(storage);
    ground.open_with(one_partition()).await.expect("it opens again")
}

#[tokio::test]
async fn of_equal_entries_the_first_stays_and_counts_become_right() {
    let ground = Ground::default();
    let storage = ground.open_with(one_partition()).await.expect("a new store");
    let received = Line { has_own_time: false, ..line("a", NOW_NS, "x") };
    let all = [line("a", NOW_NS, "x"), line("b", NOW_NS, "x"), received];
    for _ in 0..3 {
        flushed(&storage, 1, &all).await;
    }
    assert_eq!(storage.entry_totals().segment_entries, 9);
    let before = select(&storage, &scope(1), &everything()).await;
    storage.compact(Extent::Everything).await.expect("a sound disk");
    assert_eq!(levels(&storage), [(3, 1)]);
    assert_eq!(storage.entry_totals().segment_entries, 2 + 3, "what was received is no other");
    assert_eq!(select(&storage, &scope(1), &everything()).await, before);
}

#[tokio::test]
async fn rows_of_one_instant_stay_in_the_order_in_which_they_came() {
    let storage = Ground::default().open_with(one_partition()).await.expect("a new store");
    let mut expected = Vec::new();
    for n in 0..40 {
        let lines: Vec<Line> =
            (0..30).map(|i| line("a", NOW_NS + i / 10, &format!("{} {n} {i}", i / 10))).collect();
        expected.extend(lines.iter().map(|l| String::from_utf8_lossy(&l.line).into_owned()));
        flushed(&storage, 1, &lines).await;
        if n % 7 == 0 {
            storage.compact(Extent::Due).await.expect("a sound disk");
        }
        if n == 20 {
            storage.compact(Extent::Everything).await.expect("a sound disk");
        }
    }
    // A stable sort by instant is the order of arrival.
    expected.sort_by_key(|text| text.as_bytes()[0]);
    assert_eq!(texts(&storage, &scope(1), &everything()).await, expected);
    storage.compact(Extent::Everything).await.expect("a sound disk");
    assert_eq!(texts(&storage, &scope(1), &everything()).await, expected);
}

#[tokio::test]
async fn large_tenants_and_other_times_of_keeping_get_segments_of_their_own() {
    let ground = Ground::default();
    let mut config = one_partition();
    config.compaction.split_bytes = 10_000;
    let storage = ground.open_with(config).await.expect("a new store");
    let keep =
        |days: u64| Rule::Keep(Retention { logs_seconds: days * 86_400, ..Retention::default() });
    let rules = BTreeMap::from([(1, keep(7)), (2, keep(10)), (3, keep(90)), (4, keep(7))]);
    storage.set_tenant_rules(Arc::new(Rules(rules)));
    for tenant in 1..=4 {
        let text = "x".repeat(if tenant == 4 { 1_000 } else { 10 });
        let lines: Vec<Line> = (0..12).map(|n| line("a", NOW_NS + n, &text)).collect();
        flushed(&storage, tenant, &lines).await;
    }
    storage.compact(Extent::Everything).await.expect("a sound disk");
    // Tenants 1 and 2 together, 3 for its time, 4 for its size.
    let mut rows: Vec<u64> = storage.segments().iter().map(|(_, s)| s.rows).collect();
    rows.sort_unstable();
    assert_eq!(rows, [12, 12, 24]);
    let all = ReadScope::for_test(&[(1, "team-1"), (2, "team-2"), (3, "team-3"), (4, "team-4")]);
    assert_eq!(select(&storage, &all, &everything()).await.len(), 48);
    // After eleven days the three that are over go as a whole.
    ground.clock.advance(Duration::from_secs(11 * 86_400));
    storage.retain().await.expect("a sound disk");
    assert_eq!(storage.entry_totals().segment_entries, 12);
}

#[tokio::test]
async fn what_is_kept_no_longer_is_left_out() {
    let ground = Ground::default();
    let storage = ground.open_with(one_partition()).await.expect("a new store");
    for tenant in [1, 2, 3] {
        let old = line("a", NOW_NS - 3 * HOUR_NS, "old");
        flushed(&storage, tenant, &[old, line("a", NOW_NS, "new")]).await;
    }
    let hour = Rule::Keep(Retention { logs_seconds: 3_600, ..Retention::default() });
    let ever = Rule::Keep(Retention { logs_seconds: 0, ..Retention::default() });
    storage.set_tenant_rules(Arc::new(Rules(BTreeMap::from([
        (1, hour),
        (2, Rule::Gone),
        (3, ever),
    ]))));
    storage.compact(Extent::Everything).await.expect("a sound disk");
    assert_eq!(storage.entry_totals().segment_entries, 3, "one of the first, none of the second");
    for (tenant, expected) in [(1, vec!["new"]), (2, vec![]), (3, vec!["old", "new"])] {
        assert_eq!(texts(&storage, &scope(tenant), &everything()).await, expected);
    }
}

#[tokio::test]
async fn late_entries_of_many_days_are_dealt_out() {
    let ground = Ground::default();
    let storage = ground.open_with(one_partition()).await.expect("a new store");
    let day = 24 * HOUR_NS;
    let lines: Vec<Line> = (0..60)
        .map(|n| line(&format!("app-{}", n % 2), NOW_NS - n * day / 2, &format!("{n}")))
        .collect();
    flushed(&storage, 1, &lines).await;
    let before = texts(&storage, &scope(1), &everything()).await;
    assert_eq!(before.len(), 60);
    storage.compact(Extent::Due).await.expect("a sound disk");
    assert_eq!(texts(&storage, &scope(1), &everything()).await, before);
    let days = |storage: &Storage| {
        let all = storage.segments();
        let of = |ns: i64| ns.div_euclid(day);
        assert!(all.iter().all(|(_, s)| of(s.range_ns.0) == of(s.range_ns.1)), "{all:?}");
        let days: BTreeSet<i64> = all.iter().map(|(_, s)| of(s.range_ns.0)).collect();
        (all.len(), days.len())
    };
    let (_, count) = days(&storage);
    assert!(count >= 30, "{count}");
    storage.compact(Extent::Everything).await.expect("a sound disk");
    assert_eq!(days(&storage), (count, count), "one for each day");
    let storage = reopened(&ground, storage).await;
    assert_eq!(texts(&storage, &scope(1), &everything()).await, before);
}
