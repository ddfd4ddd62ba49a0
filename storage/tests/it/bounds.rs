//! What must not grow without bound: memory while flushing fails, the log behind idle partitions.

use std::sync::Arc;

use ::model::{Clock, Metadata, MetricKind, TimeRange};
use object_store::memory::InMemory;
use storage::{Config, Error, FarObjects, MetricRows, Parts, Storage};
use tenancy::ReadScope;
use testkit::{FaultyObjects, ObjectFault, SeededRandom};

use crate::facts::{Journal, samples, text_of, tight};
use crate::store::{Ground, NOW_MS, write, write_scope};

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_while_flushing_fails_and_taken_afterwards() {
    let ground = Ground::default();
    let objects = FaultyObjects::new(Arc::new(InMemory::new()));
    let parts = Parts {
        disk: Arc::new(ground.disk.clone()),
        objects: Some(FarObjects::new(Arc::new(objects.clone()))),
        clock: Arc::clone(&ground.clock) as Arc<dyn Clock>,
        random: Arc::new(SeededRandom::new(7)),
    };
    let config = Config { partitions: 1, flush_samples: 10, ..tight() };
    let storage = Storage::open(config, parts).await.expect("a new store");
    objects.fail_from(1, ObjectFault::Refused);
    let mut journal = Journal::default();
    let mut taken = 0;
    let refused = loop {
        let request = samples(1, &[(taken % 3, NOW_MS + i64::from(taken), 1.0)]);
        match journal.send(&storage, &request).await {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 100, "memory grows without bound");
        if taken == 15 {
            storage.flush_all().await.expect_err("nothing can be put");
        }
    };
    assert_eq!(taken, 40, "four times what a flush needs");
    assert!(matches!(refused, Error::Backlog { samples: 40, limit: 40, .. }), "{refused:?}");
    assert_eq!(
        text_of(&refused),
        "partition 0 has 40 samples that are not flushed yet, the limit is 40; try again later"
    );
    journal.check_all(&storage).await.expect("readable meanwhile");
    storage.flush_all().await.expect_err("still nothing can be put");
    objects.heal();
    // The rows of the failed flush, then those that came meanwhile.
    for _ in 0..2 {
        storage.flush_all().await.expect("a good flush");
    }
    assert_eq!(storage.totals().head_samples, 0);
    let more = samples(1, &[(1, NOW_MS + 100, 2.0)]);
    journal.send(&storage, &more).await.expect("taken again");
    journal.check_all(&storage).await.expect("all there");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_partitions_do_not_keep_the_log() {
    let ground = Ground::default();
    let storage = ground.open_with(tight()).await.expect("a new store");
    let mut journal = Journal::default();
    // Both partitions have rows once; then only one gets any.
    let first: Vec<_> = (0..10).map(|n| (n, NOW_MS, 1.0)).collect();
    journal.send(&storage, &samples(1, &first)).await.expect("a good write");
    let mut segments = 0;
    for round in 1..40 {
        for n in 0..10 {
            let ms = NOW_MS + i64::from(round * 10 + n);
            journal.send(&storage, &samples(1, &[(3, ms, 0.5)])).await.expect("a good write");
        }
        storage.flush_all().await.expect("a good flush");
        segments = segments.max(storage.totals().log_segments);
    }
    assert!(storage.totals().log_syncs > 390);
    assert!(segments <= 4, "{segments} segments of 4 KiB");
    let storage = {
        drop(storage);
        ground.open_with(tight()).await.expect("the same store")
    };
    journal.check_all(&storage).await.expect("all there");
}

/// Metadata and nothing else, each time another text.
async fn send_metadata(storage: &Storage, n: u32) -> Result<(), Error> {
    let help = format!("{n} ").repeat(200);
    let metadata = Metadata { kind: MetricKind::Gauge, help, unit: String::new() };
    let rows =
        MetricRows { metadata: vec![("family".to_owned(), metadata)], ..MetricRows::default() };
    let appended = storage.append(&write_scope(1), &rows)?;
    match appended.position {
        Some(position) => storage.durable(position).await,
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_samples_are_flushed_as_the_log_grows() {
    let ground = Ground::default();
    let storage = ground.open_with(tight()).await.expect("a new store");
    let mut taken = 0;
    let refused = loop {
        match send_metadata(&storage, taken).await {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 1_000, "the log grows without bound");
    };
    assert!(matches!(refused, Error::LogBacklog { limit: 131_072, .. }), "{refused:?}");
    // The flush task takes care of it, whatever the clock says.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(Arc::clone(&storage).run(stopped));
    for n in taken..taken + 2_000 {
        while let Err(error) = send_metadata(&storage, n).await {
            assert!(matches!(error, Error::LogBacklog { .. }), "{error:?}");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        // Once for the partition that has the rows, once for the one flushed after it, once more for
        // what comes in until the log is cut behind both, and twice for partitions of entries: they
        // are flushed behind those, and the log is kept from their flush before the last. Two
        // megabytes in all if nothing were.
        let bytes = storage.totals().log_bytes;
        assert!(bytes < 5 * 131_072, "{bytes} bytes of log");
    }
    stop.send(true).expect("it runs");
    running.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_of_a_tenant_says_nothing_of_others() {
    let ground = Ground::default();
    let config = Config { partitions: 1, ..tight() };
    let storage = ground.open_with(config.clone()).await.expect("a new store");
    let mut journal = Journal::default();
    for (tenant, later_ms) in [(1, 0), (2, 5_000)] {
        let request = samples(tenant, &[(1, NOW_MS + later_ms, 1.0)]);
        journal.send(&storage, &request).await.expect("a good write");
    }
    storage.flush_all().await.expect("a good flush");
    drop(storage);
    let storage = ground.open_with(config).await.expect("the same store");
    for (tenant, newest_ms) in [(1, NOW_MS), (2, NOW_MS + 5_000)] {
        let scope = ReadScope::for_test(&[(tenant, "team")]);
        let overview = storage.overview(&scope).await[&tenancy::TenantId(tenant)];
        assert_eq!((overview.blocks, overview.newest_ms), (1, Some(newest_ms)));
    }
}

/// Whatever the cache may hold, answers are the same, and it stays within its bound.
#[tokio::test(flavor = "multi_thread")]
async fn indexes_of_blocks_stay_within_the_cache() {
    let ground = Ground::default();
    let config = |block_cache_bytes| Config { partitions: 2, block_cache_bytes, ..tight() };
    let storage = ground.open_with(config(1 << 20)).await.expect("a new store");
    let mut journal = Journal::default();
    for round in 0..12 {
        let rows: Vec<_> =
            (0..40).map(|n| (n, NOW_MS + i64::from(round) * 1_000, f64::from(n))).collect();
        journal.send(&storage, &samples(1, &rows)).await.expect("a good write");
        storage.flush_all().await.expect("a good flush");
    }
    drop(storage);
    let mut held = Vec::new();
    for bytes in [0, 4_000, 20_000, 1 << 20] {
        let storage = ground.open_with(config(bytes)).await.expect("the same store");
        assert_eq!(storage.totals().cache_bytes, 0, "a start reads no index");
        assert_eq!(storage.totals().blocks, 24);
        for _ in 0..2 {
            journal.check_all(&storage).await.expect("right answers");
            assert!(storage.totals().cache_bytes <= bytes as u64);
        }
        let scope = ReadScope::for_test(&[(1, "team")]);
        let names = storage.label_names(&scope, &[], TimeRange::ALL).await.expect("names");
        assert_eq!(Vec::from_iter(names), ["__name__", "pod", "zone"]);
        held.push(storage.totals().cache_bytes);
    }
    assert!(held.is_sorted() && held[0] == 0 && held[3] > held[1], "{held:?}");
}

/// Nothing per tenant costs an object: as many series make as many, whoever they belong to.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_makes_as_many_objects_for_many_tenants_as_for_one() {
    let mut objects = Vec::new();
    for (tenants, series) in [(1, 600), (200, 3)] {
        let ground = Ground::default();
        let storage = ground.open().await.expect("a new store");
        for tenant in 1..=tenants {
            let rows: Vec<_> = (0..series).map(|n| (n, NOW_MS, f64::from(n))).collect();
            write(&storage, tenant, &rows).await.expect("a good write");
        }
        let stored =
            || ground.disk.files().iter().filter(|path| path.starts_with("objects")).count();
        let before = stored();
        storage.flush_all().await.expect("a good flush");
        objects.push(stored() - before);
        assert_eq!(storage.totals().block_samples, 600);
    }
    assert_eq!(objects[0], objects[1], "{objects:?}");
}
