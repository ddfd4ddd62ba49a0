//! What must not grow without bound: memory while flushing fails, the log behind idle partitions.

use std::sync::Arc;

use ::model::Clock;
use object_store::memory::InMemory;
use storage::{Config, Error, Parts, Storage};
use testkit::{FaultyObjects, ObjectFault, SeededRandom};

use crate::facts::{Journal, samples, text_of, tight};
use crate::store::{Ground, NOW_MS};

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_while_flushing_fails_and_taken_afterwards() {
    let ground = Ground::default();
    let objects = FaultyObjects::new(Arc::new(InMemory::new()));
    let parts = Parts {
        disk: Arc::new(ground.disk.clone()),
        objects: Some(Arc::new(objects.clone())),
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
