//! Damaged log records: their partition takes no writes, everything else goes on, what is read is
//! right; after quarantine writing goes on without what was lost.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ::model::{Clock, Position, TimeRange};
use object_store::memory::InMemory;
use storage::log::quarantine;
use storage::{FarObjects, Parts, Storage};
use testkit::{FaultyObjects, ObjectFault, SeededRandom};

use crate::facts::{Journal, Request, Step, everything, samples, sound_life, text_of, tight};
use crate::store::{Ground, NOW_MS, read};

/// Makes one byte of the log wrong.
fn spoil(ground: &Ground, position: u64) {
    let mut segments = ground.disk.files().into_iter().filter(|p| p.starts_with("log"));
    let start_of = |path: &PathBuf| -> u64 {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        stem.parse().expect("a position")
    };
    let path = segments.rfind(|p| start_of(p) <= position).expect("a segment");
    let at = (position - start_of(&path)) as usize;
    ground.disk.tamper(&path, |bytes| bytes[at] ^= 0x40).expect("an existing file");
}

/// Which byte of the record is spoiled.
#[derive(Debug, Clone, Copy)]
enum Spoiled {
    /// The partition of the record is known.
    Payload,
    /// It may have been of any partition.
    Header,
}

/// Runs a workload, spoils the record that request `victim` made, and goes on from there. `gone`
/// says which facts may be missing then.
async fn check(steps: &[Step], victim: usize, spoiled: Spoiled, gone: impl Fn(&str) -> bool) {
    let ground = Ground::default();
    let mut journal = Journal::default();
    let storage = ground.open_with(tight()).await.expect("a sound disk");
    let mut records = Vec::new();
    for step in steps {
        let before = storage.totals().log_bytes;
        journal.live(&ground, &storage, std::slice::from_ref(step)).await.expect("right answers");
        records.push(before);
    }
    let first = ground.disk.files().into_iter().find(|p| p.starts_with("log"));
    assert!(first.is_some_and(|p| p.ends_with(format!("{:020}.log", 0))), "nothing is trimmed");
    drop(storage);
    let offset = match spoiled {
        Spoiled::Payload => 41,
        Spoiled::Header => 16,
    };
    spoil(&ground, records[victim] + offset);

    let storage = ground.open_with(tight()).await.expect("damage does not stop it");
    assert_eq!(storage.damage().len(), 1, "{:?}", storage.damage());
    let read_only = storage.read_only();
    match spoiled {
        Spoiled::Payload => assert_eq!(read_only.len(), 1, "{read_only:?}"),
        // Two of metrics, four of entries.
        Spoiled::Header => assert_eq!(read_only.len(), 6, "{read_only:?}"),
    }
    let expected = |journal: &Journal| -> BTreeSet<String> {
        journal.acknowledged.iter().filter(|fact| !gone(fact)).cloned().collect()
    };
    let found = everything(&storage).await.expect("readable");
    assert_eq!(found, expected(&journal), "right, but for what was lost");
    let taken = write_everywhere(&mut journal, &storage, 60).await;
    assert!(matches!(spoiled, Spoiled::Header) || taken > 0, "the rest takes writes");
    assert!(taken < 8, "the damaged partition does not");
    assert_eq!(everything(&storage).await.expect("readable"), expected(&journal));
    drop(storage);

    let report = quarantine(&ground.disk, Position(0)).expect("a quarantine");
    assert_eq!((report.damaged.len(), report.copies.len()), (1, 1));
    let mut ground = ground;
    for life in 0..3 {
        let storage = ground.open_with(tight()).await.expect("sound again");
        assert_eq!((storage.damage(), storage.read_only()), (&[][..], vec![]));
        assert_eq!(everything(&storage).await.expect("readable"), expected(&journal), "{life}");
        // New series get the numbers that lost ones had.
        let base = 70 + 10 * life;
        assert_eq!(write_everywhere(&mut journal, &storage, base).await, 8);
        assert_eq!(everything(&storage).await.expect("readable"), expected(&journal), "{life}");
        if life == 1 {
            storage.flush_all().await.expect("a good flush");
            assert_eq!(storage.totals().head_samples, 0);
        }
        ground = Ground { disk: ground.disk.after_kill(), ..ground.clone() };
        drop(storage);
    }
    let mut journal = Journal { acknowledged: expected(&journal), ..journal };
    sound_life(&mut journal, &ground, 100).await.expect("the log behind the gap is not needed");
}

/// Writes eight series in requests of their own; says how many were taken.
pub(crate) async fn write_everywhere(
    journal: &mut Journal,
    storage: &storage::Storage,
    base: u32,
) -> u32 {
    let mut taken = 0;
    for n in base..base + 8 {
        let request = samples(1, &[(n, NOW_MS + i64::from(base), f64::from(n))]);
        match journal.send(storage, &request).await {
            Ok(()) => taken += 1,
            Err(refused) => {
                assert!(text_of(&refused).contains("read-only"), "{}", text_of(&refused));
                for fact in request.facts() {
                    journal.tried.remove(&fact);
                }
            }
        }
    }
    taken
}

fn write(rows: &[(u32, i64, f64)]) -> Step {
    Step::Write(samples(1, &rows.iter().map(|r| (r.0, NOW_MS + r.1, r.2)).collect::<Vec<_>>()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_record_loses_only_its_own() {
    let is = |ms: i64| move |fact: &str| fact.contains(&format!(" {} ", NOW_MS + ms));
    for spoiled in [Spoiled::Payload, Spoiled::Header] {
        // A sample in the middle: what follows does not build on it.
        let steps = [
            write(&[(1, 0, 1.5)]),
            write(&[(1, 10, 2.25)]),
            write(&[(1, 20, 2.5)]),
            write(&[(2, 20, 7.0)]),
            write(&[(1, 30, 2.75)]),
        ];
        check(&steps, 1, spoiled, is(10)).await;
        // A late sample, and the newer one that made another late.
        let steps = [
            write(&[(1, 0, 1.0), (2, 1, 1.0)]),
            write(&[(1, 50, 5.0)]),
            write(&[(1, 30, 3.0)]),
            write(&[(1, 40, 4.0)]),
            write(&[(1, 60, 6.0)]),
        ];
        check(&steps, 1, spoiled, is(50)).await;
        check(&steps, 2, spoiled, is(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_series_takes_nothing_else_for_itself() {
    let of = |pods: &'static [u32]| {
        move |fact: &str| pods.iter().any(|p| fact.contains(&format!("pod-{p}\"")))
    };
    for spoiled in [Spoiled::Payload, Spoiled::Header] {
        let steps = [
            write(&[(1, 0, 1.0)]),
            write(&[(2, 0, 2.0)]),
            write(&[(1, 10, 1.5), (2, 10, 2.5)]),
            Step::Write(Request { metadata: vec!["family".to_owned()], ..samples(1, &[]) }),
            write(&[(2, 20, 3.5)]),
        ];
        check(&steps, 1, spoiled, of(&[2])).await;
    }
}

async fn open_on(ground: &Ground, objects: &FaultyObjects) -> Arc<Storage> {
    let parts = Parts {
        disk: Arc::new(ground.disk.clone()),
        objects: Some(FarObjects::new(Arc::new(objects.clone()))),
        clock: Arc::clone(&ground.clock) as Arc<dyn Clock>,
        random: Arc::new(SeededRandom::new(7)),
    };
    Storage::open(tight(), parts).await.expect("a store, damaged or not")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_block_stops_only_reads_of_its_time() {
    let ground = Ground::default();
    let storage = ground.open_with(tight()).await.expect("a sound disk");
    let mut journal = Journal::default();
    let steps = [write(&[(1, 0, 1.0), (2, 0, 2.0)]), Step::Flush];
    journal.live(&ground, &storage, &steps).await.expect("right answers");
    drop(storage);
    let blocks: Vec<PathBuf> =
        ground.disk.files().into_iter().filter(|p| p.ends_with("index.bin")).collect();
    assert!(!blocks.is_empty());
    for index in &blocks {
        ground.disk.tamper(index, |bytes| bytes.iter_mut().for_each(|b| *b ^= 0x40)).expect("it");
    }
    let storage = ground.open_with(tight()).await.expect("lost blocks do not stop it");
    assert_eq!(storage.read_only(), []);
    let scope = tenancy::ReadScope::for_test(&[(1, "team-1")]);
    let range = |from: i64, to: i64| TimeRange { start_ms: NOW_MS + from, end_ms: NOW_MS + to };
    let mut segments = 0;
    for round in 1..40 {
        let (from, to) = (round * 1_000, round * 1_000 + 9);
        let rows: Vec<_> = (0..10).map(|n| (n, NOW_MS + from + i64::from(n), 0.5)).collect();
        for row in rows {
            journal.send(&storage, &samples(1, &[row])).await.expect("writes go on");
        }
        storage.flush_all().await.expect("so do flushes");
        segments = segments.max(storage.totals().log_segments);
        let found = read(&storage, &scope, &[], range(from, to)).await.expect("its own blocks");
        assert_eq!(found.len(), 10);
    }
    assert!(segments <= 4, "{segments} segments of 4 KiB: the log is trimmed");
    let lost = read(&storage, &scope, &[], range(-10, 10)).await.expect_err("a part is missing");
    assert!(matches!(lost, storage::Error::Corrupt { .. }), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_after_a_lost_renumbering_are_left_out() {
    // Flushed and gone quiet; then a new series, and the flush that numbers anew fails half way.
    let ground = Ground::default();
    let objects = FaultyObjects::new(Arc::new(InMemory::new()));
    let storage = open_on(&ground, &objects).await;
    let mut journal = Journal::default();
    let old: Vec<(u32, i64, f64)> = (0..12).map(|n| (n, 0, f64::from(n))).collect();
    let steps = [write(&old), Step::Flush, Step::Wait(500), write(&[(50, 490_000, 1.0)])];
    journal.live(&ground, &storage, &steps).await.expect("right answers");
    let renumbered_at = storage.totals().log_bytes;
    // From the first object on nothing can be put, but the log goes on.
    objects.fail_from(1, ObjectFault::Refused);
    storage.flush_all().await.expect_err("nothing can be put");
    objects.heal();
    assert!(storage.totals().log_bytes > renumbered_at, "the series were renumbered");
    assert!(storage.totals().active_series < 13);
    // A record of its own, so that the one after it says that the renumbering was synced.
    let other = Request { metadata: vec!["family".to_owned()], ..samples(1, &[]) };
    journal.send(&storage, &other).await.expect("the log takes it");
    let lost = samples(1, &(0..12).map(|n| (n, NOW_MS + 499_000, 9.0)).collect::<Vec<_>>());
    journal.send(&storage, &lost).await.expect("the log takes it");
    drop(storage);
    spoil(&ground, renumbered_at + 41);
    let storage = open_on(&ground, &objects).await;
    let found = everything(&storage).await.expect("readable");
    let wrong: Vec<_> = found.difference(&journal.acknowledged).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(journal.acknowledged.difference(&found).all(|fact| lost.facts().contains(fact)));
    assert_eq!(storage.damage().len(), 1, "{:?}", storage.damage());
    assert!(storage.left_out() > 0, "records of the new numbering are recognised");
}
