//! A file of one partition is damaged, gone or unreadable at the start: the partition says so, takes
//! no writes and serves what is intact; the rest serves; once the file is back, all is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::model::{Disk, OpenMode, TimeRange};
use storage::Error;
use tenancy::ReadScope;
use testkit::FaultyDisk;

use crate::damage::write_everywhere;
use crate::facts::{Journal, Step, everything, samples, sound_life, text_of, tight};
use crate::store::{Ground, NOW_MS, read};

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Spoil {
    Truncate,
    Flip,
    Remove,
}

/// Which one of the files of a kind.
#[derive(Debug, Clone, Copy)]
enum Which {
    First,
    Middle,
    Last,
}

fn write(from: u32, ms: i64) -> Step {
    let rows: Vec<_> = (from..from + 10).map(|n| (n, NOW_MS + ms, f64::from(n))).collect();
    Step::Write(samples(1, &rows))
}

/// Five flushes with new series each, and rows that are only in the log.
async fn lived() -> (Ground, Journal) {
    let ground = Ground::default();
    let mut journal = Journal::default();
    let storage = ground.open_with(tight()).await.expect("a sound disk");
    for round in 0..5u32 {
        let steps = [write(round * 10, i64::from(round) * 1_000), Step::Flush];
        journal.live(&ground, &storage, &steps).await.expect("right answers");
    }
    journal.live(&ground, &storage, &[write(0, 9_000), write(60, 9_000)]).await.expect("right");
    (ground, journal)
}

fn file_of(disk: &FaultyDisk, dir: &str, name: &str, which: Which) -> PathBuf {
    let inside = |path: &PathBuf| path.starts_with(dir) && path.to_string_lossy().ends_with(name);
    let files: Vec<PathBuf> = disk.files().into_iter().filter(inside).collect();
    let at = match which {
        Which::First => 0,
        Which::Middle => files.len() / 2,
        Which::Last => files.len() - 1,
    };
    files[at].clone()
}

/// Spoils a file and gives what it was.
fn spoil(disk: &FaultyDisk, path: &Path, spoil: Spoil) -> Vec<u8> {
    let mut whole = Vec::new();
    disk.tamper(path, |bytes| {
        whole = bytes.clone();
        let middle = bytes.len() / 2;
        match spoil {
            Spoil::Truncate => bytes.truncate(middle),
            Spoil::Flip => bytes[middle] ^= 0x40,
            Spoil::Remove => {}
        }
    })
    .expect("an existing file");
    if matches!(spoil, Spoil::Remove) {
        disk.remove(path).expect("an existing file");
    }
    whole
}

fn put_back(disk: &FaultyDisk, path: &Path, whole: &[u8]) {
    let _ = disk.remove(path);
    let file = disk.open(path, OpenMode::CreateNew).expect("a free name");
    file.write_all_at(whole, 0).and_then(|()| file.sync()).expect("a sound disk");
    disk.sync_dir(path.parent().expect("a directory")).expect("a sound disk");
}

/// Spoils the file in either of the two partitions: each time the other one's rows are there.
async fn check(kind: &str, which: Which, how: Spoil) {
    let case = format!("{which:?} of {kind} {how:?}");
    let mut found_at_all = BTreeSet::new();
    let (_, before) = lived().await;
    for partition in 0..2u16 {
        let (ground, mut journal) = lived().await;
        let path = file_of(&ground.disk, &format!("objects/{kind}/{partition:04}"), "", which);
        let whole = spoil(&ground.disk, &path, how);
        let storage = ground.open_with(tight()).await.expect("the rest is served");
        let incomplete = storage.incomplete();
        assert!(matches!(&incomplete[..], [(p, _)] if *p == partition), "{case}: {incomplete:?}");
        let named = path.strip_prefix("objects").expect("an object").to_string_lossy();
        assert!(incomplete[0].1.contains(&*named), "{case}: {} names no {named}", incomplete[0].1);
        assert_eq!(storage.read_only().len(), 1, "{case}");
        assert_eq!(storage.totals().incomplete_partitions, 1);
        let found = everything(&storage).await.expect("readable");
        journal.check_of(&storage, &found).expect(&case);
        found_at_all.extend(found);
        let taken = write_everywhere(&mut journal, &storage, 80).await;
        assert!((1..8).contains(&taken), "{case}: {taken} of 8 writes taken");
        storage.flush_all().await.expect("the rest is flushed");
        drop(storage);
        put_back(&ground.disk, &path, &whole);
        sound_life(&mut journal, &ground, 50).await.expect(&case);
    }
    assert!(before.acknowledged.is_subset(&found_at_all), "{case}: the other partition is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_snapshot_leaves_the_rest() {
    for how in [Spoil::Truncate, Spoil::Flip, Spoil::Remove] {
        for which in [Which::First, Which::Middle, Which::Last] {
            check("snapshots", which, how).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_manifest_costs_nothing() {
    for how in [Spoil::Truncate, Spoil::Flip, Spoil::Remove] {
        for which in [Which::First, Which::Middle, Which::Last] {
            let case = format!("{which:?} {how:?}");
            let (ground, mut journal) = lived().await;
            let path = file_of(&ground.disk, "objects/manifest/0001", "", which);
            spoil(&ground.disk, &path, how);
            let storage = ground.open_with(tight()).await.expect("a start");
            assert_eq!((storage.incomplete(), storage.read_only()), (vec![], vec![]), "{case}");
            let told = storage.mended();
            let named = path.strip_prefix("objects").expect("an object").to_string_lossy();
            match (which, how) {
                // A last manifest that is gone leaves no trace; the log has what it said.
                (Which::Last, Spoil::Remove) => assert!(told.is_empty(), "{told:?}"),
                _ => assert!(matches!(&told[..], [(1, t)] if t.contains(&*named)), "{told:?}"),
            }
            journal.check_all(&storage).await.expect(&case);
            assert_eq!(write_everywhere(&mut journal, &storage, 80).await, 8, "{case}");
            storage.flush_all().await.expect("the next manifests");
            journal.check_all(&storage).await.expect(&case);
            drop(storage);
            sound_life(&mut journal, &ground, 50).await.expect(&case);
        }
    }
}

/// Nobody knows then what was deleted: rather no answer than one with rows that are no more.
/// A manifest stands between the rows of series and that they went, also where none are left.
#[tokio::test(flavor = "multi_thread")]
async fn one_lost_manifest_costs_nothing_after_all_series_went() {
    let (ground, mut journal) = lived().await;
    let ground = Ground { disk: ground.disk.after_kill(), ..ground };
    let storage = ground.open_with(tight()).await.expect("a sound disk");
    storage.flush_all().await.expect("a good flush");
    ground.clock.advance(std::time::Duration::from_secs(200));
    storage.flush_all().await.expect("a good flush");
    assert_eq!(storage.totals().active_series, 0);
    drop(storage);
    let ground = Ground { disk: ground.disk.after_kill(), ..ground };
    for partition in ["0000", "0001"] {
        let dir = format!("objects/manifest/{partition}");
        let newest = file_of(&ground.disk, &dir, ".json", Which::Last);
        ground.disk.tamper(&newest, |bytes| bytes.truncate(20)).expect("an existing file");
    }
    let storage = ground.open_with(tight()).await.expect("it starts");
    assert_eq!((storage.incomplete(), storage.read_only()), (vec![], vec![]));
    journal.check_all(&storage).await.expect("all there");
    drop(storage);
    sound_life(&mut journal, &ground, 100).await.expect("it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lost_manifests_stop_questions_until_one_is_back() {
    let (ground, mut journal) = lived().await;
    let files: Vec<PathBuf> = ground.disk.files();
    let of_one: Vec<&PathBuf> =
        files.iter().filter(|p| p.starts_with("objects/manifest/0001")).collect();
    let (first, second) = (of_one[1], of_one[2]);
    let whole = spoil(&ground.disk, first, Spoil::Flip);
    spoil(&ground.disk, second, Spoil::Truncate);
    let storage = ground.open_with(tight()).await.expect("the rest is served");
    let named = first.strip_prefix("objects").expect("an object").to_string_lossy();
    assert!(matches!(&storage.incomplete()[..], [(1, why)] if why.contains(&*named)));
    assert!(matches!(&storage.read_only()[..], [(1, _)]));
    let error = text_of(&everything(&storage).await.expect_err("a part is not known"));
    assert!(error.contains(&*named), "{error}");
    let taken = write_everywhere(&mut journal, &storage, 80).await;
    assert!((1..8).contains(&taken), "{taken} of 8 writes taken");
    storage.flush_all().await.expect("the rest is flushed");
    drop(storage);
    put_back(&ground.disk, first, &whole);
    sound_life(&mut journal, &ground, 50).await.expect("the second is known from the third");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_object_of_a_block_leaves_other_times() {
    for name in ["index.bin", "chunks.parquet", "ts.parquet", "series.parquet"] {
        for how in [Spoil::Truncate, Spoil::Remove] {
            let (ground, mut journal) = lived().await;
            let path = file_of(&ground.disk, "objects/blocks/0001", name, Which::First);
            let whole = spoil(&ground.disk, &path, how);
            let storage = ground.open_with(tight()).await.expect("the rest is served");
            let lost = storage.lost_blocks();
            assert_eq!(lost.len(), 1, "{name} {how:?}: {lost:?}");
            assert!(path.to_string_lossy().contains(&lost[0].1), "{lost:?}");
            assert_eq!((storage.incomplete(), storage.read_only()), (vec![], vec![]));
            let error = everything(&storage).await.expect_err("a part is missing");
            assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
            let scope = ReadScope::for_test(&[(1, "team-1")]);
            let later = TimeRange { start_ms: NOW_MS + 1_000, end_ms: i64::MAX };
            let found = read(&storage, &scope, &[], later).await.expect("other blocks");
            assert_eq!(found.len(), 60, "{name} {how:?}");
            assert_eq!(write_everywhere(&mut journal, &storage, 80).await, 8);
            drop(storage);
            put_back(&ground.disk, &path, &whole);
            sound_life(&mut journal, &ground, 50).await.expect(name);
        }
    }
}

/// Every read of a start fails once. What is lost for it is told, and nothing is lost for good.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_at_a_start_is_told() {
    let (ground, journal) = lived().await;
    let (mut opened, mut incomplete, mut told) = (0, 0, BTreeSet::new());
    for n in 1.. {
        let disk = ground.disk.after_kill();
        let ground = Ground { disk, clock: Arc::clone(&ground.clock) };
        let mut journal = journal.clone();
        ground.disk.fail_read_at(ground.disk.reads() + n);
        let started = ground.open_with(tight()).await;
        let was_hit = ground.disk.reads() >= n;
        ground.disk.heal();
        if let Ok(storage) = started {
            opened += 1;
            if let Ok(found) = everything(&storage).await {
                journal.check_of(&storage, &found).unwrap_or_else(|e| panic!("read {n}: {e}"));
            }
            incomplete += usize::from(!storage.incomplete().is_empty());
            told.extend(storage.incomplete().into_iter().map(|(_, reason)| {
                let words = reason.split(['/', ' ']).filter(|w| w.chars().all(char::is_alphabetic));
                words.take(4).collect::<Vec<_>>().join(" ")
            }));
            write_everywhere(&mut journal, &storage, 80).await;
            drop(storage);
        }
        sound_life(&mut journal, &ground, 50)
            .await
            .unwrap_or_else(|e| panic!("after read {n} failed: {e}"));
        if !was_hit {
            assert!(n > 10, "{n} reads");
            assert!(opened * 10 > n * 8, "{opened} of {n} starts went through");
            assert!(incomplete > 4 && told.len() > 1, "{incomplete} were incomplete: {told:?}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_serves_blocks_and_refuses_writes() {
    let (ground, mut journal) = lived().await;
    let logs: Vec<PathBuf> =
        ground.disk.files().into_iter().filter(|p| p.starts_with("log")).collect();
    let in_log = journal.acknowledged.len();
    assert!(!logs.is_empty() && in_log > 0);
    // The reads of a start end with those of the log: the last ones are of its last segment.
    let probe = Ground { disk: ground.disk.after_kill(), clock: Arc::clone(&ground.clock) };
    drop(probe.open_with(tight()).await.expect("a sound disk"));
    let reads = probe.disk.reads();
    let mut refused = 0;
    for back in 0..reads.min(6) {
        let disk = ground.disk.after_kill();
        let twin = Ground { disk, clock: Arc::clone(&ground.clock) };
        twin.disk.fail_read_at(reads - back);
        let storage = twin.open_with(tight()).await.expect("blocks are served");
        twin.disk.heal();
        // Two partitions of metrics, four of entries.
        if storage.incomplete().len() == 6 {
            refused += 1;
            let error = crate::store::write(&storage, 1, &[(1, NOW_MS + 10_000, 1.0)]).await;
            assert!(text_of(&error.expect_err("read-only")).contains("see to the disk"));
            assert!(!storage.damage().is_empty());
        }
        drop(storage);
    }
    assert!(refused > 0, "a read of the log failed");
    sound_life(&mut journal, &ground, 50).await.expect("nothing happened to it");
}
