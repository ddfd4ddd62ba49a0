//! Retention: blocks go whole, others' rows stay, and clocks that are wrong cost nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::model::{Resolution, TimeRange};
use storage::Storage;
use storage::retention::Rule;
use tenancy::{ReadScope, Retention};

use crate::facts::tight;
use crate::store::{Ground, NOW_MS, Row, Rules, read, write};

fn kept(raw_seconds: u64, bytes_max: u64) -> Rule {
    Rule::Keep(Retention { raw_seconds, bytes_max, ..Retention::default() })
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// One block a day and partition, of the given tenants.
async fn days(ground: &Ground, tenants: &[u32], days: u32) -> Arc<Storage> {
    let storage = ground.open_with(tight()).await.expect("a new store");
    for day in 0..days {
        let at = NOW_MS + i64::from(day) * DAY.as_millis() as i64;
        for tenant in tenants {
            let rows: Vec<Row> = (0..6).map(|n| (n, at, f64::from(day))).collect();
            write(&storage, *tenant, &rows).await.expect("a good write");
        }
        storage.flush_all().await.expect("a good flush");
        ground.clock.advance(DAY);
    }
    storage
}

/// Days of which a tenant still has samples, whatever its rules say.
async fn left(storage: &Storage, tenant: u32) -> BTreeSet<i64> {
    let scope = ReadScope::for_test(&[(tenant, "team")]);
    let found = read(storage, &scope, &[], TimeRange::ALL).await.expect("readable");
    let instants = found.iter().flat_map(|(_, points)| points);
    instants.map(|(ms, _)| (ms - NOW_MS) / DAY.as_millis() as i64).collect()
}

async fn retained(storage: &Arc<Storage>, rules: &[(u32, Rule)]) {
    storage.set_tenant_rules(Arc::new(Rules(rules.iter().copied().collect())));
    let planned = storage.plan_retention().await.expect("a plan");
    let done = storage.retain().await.expect("retention");
    assert_eq!(planned, done, "what was announced is done");
    assert_eq!(storage.plan_retention().await.expect("a plan").blocks, []);
    assert_eq!(storage.plan_retention().await.expect("a plan").cuts, [], "done once");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_go_whole_and_stay_gone() {
    let ground = Ground::default();
    let storage = days(&ground, &[1, 2], 6).await;
    let blocks = storage.totals().blocks;
    retained(&storage, &[]).await;
    assert_eq!(storage.totals().blocks, blocks, "without a rule nothing goes");
    let week = 3 * 24 * 3600 + 60;
    retained(&storage, &[(1, kept(week, 0)), (2, kept(week, 0))]).await;
    assert_eq!(storage.totals().blocks, blocks / 2);
    assert_eq!(left(&storage, 1).await, [3, 4, 5].into());
    let again = Ground { disk: ground.disk.after_crash(1), ..ground.clone() };
    let again = again.open_with(tight()).await.expect("the same store");
    assert_eq!(
        (left(&again, 1).await, left(&again, 2).await),
        ([3, 4, 5].into(), [3, 4, 5].into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_shared_blocks_go_and_the_others_stay() {
    let ground = Ground::default();
    let storage = days(&ground, &[1, 2], 6).await;
    retained(&storage, &[(1, kept(3 * 24 * 3600 + 60, 0))]).await;
    assert_eq!(left(&storage, 2).await.len(), 6);
    // In steps of days: the third is not over at midnight.
    assert_eq!(left(&storage, 1).await, [3, 4, 5].into());
    retained(&storage, &[(1, Rule::Gone)]).await;
    assert_eq!((left(&storage, 1).await.len(), left(&storage, 2).await.len()), (0, 6));
    // A write that was on its way when the tenant was deleted.
    write(&storage, 1, &[(0, NOW_MS + 5 * DAY.as_millis() as i64, 1.0)]).await.expect("a write");
    retained(&storage, &[(1, Rule::Gone)]).await;
    assert_eq!(left(&storage, 1).await.len(), 0);
    storage.compact(storage::Extent::Everything).await.expect("compaction");
    assert_eq!((left(&storage, 1).await.len(), left(&storage, 2).await.len()), (0, 6));
    for resolution in Resolution::ALL {
        let blocks = storage.blocks();
        let of = blocks.iter().filter(|(_, meta)| meta.resolution == resolution);
        assert_eq!(of.map(|(_, meta)| meta.samples).sum::<u64>(), 36, "{resolution}: off the disk");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_much_the_oldest_goes() {
    let storage = days(&Ground::default(), &[1], 6).await;
    let all = storage.totals().block_bytes;
    retained(&storage, &[(1, kept(0, all / 2 + 100))]).await;
    let (kept_bytes, days) = (storage.totals().block_bytes, left(&storage, 1).await);
    assert!(kept_bytes <= all / 2 + 100 && kept_bytes > 0, "{kept_bytes} of {all}");
    assert!(days.contains(&5) && !days.contains(&0), "{days:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_takes_nothing_with_it() {
    let ground = Ground::default();
    let storage = days(&ground, &[1], 6).await;
    let rules = [(1, kept(30 * 24 * 3600, 0))];
    let now = NOW_MS + 6 * DAY.as_millis() as i64;
    let year = 365 * DAY.as_millis() as i64;
    for jump in [now + year, now - year, now] {
        ground.clock.jump_to(jump);
        retained(&storage, &rules).await;
        assert_eq!(left(&storage, 1).await.len(), 6, "{}", jump - now);
    }
    // Started a year later: not believed at once either.
    drop(storage);
    ground.clock.jump_to(now + year);
    let storage = ground.open_with(tight()).await.expect("the same store");
    retained(&storage, &rules).await;
    assert_eq!(left(&storage, 1).await.len(), 6);
    ground.clock.advance(DAY + Duration::from_secs(60));
    retained(&storage, &rules).await;
    assert_eq!(left(&storage, 1).await.len(), 0, "it is a year later");
}
