//! Tests of the log: what is appended is replayed, in order, across segments and restarts.

mod crash;
mod damage;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use model::RecordKind;
use proptest::prelude::*;
use testkit::{Fault, FaultyDisk};

use super::*;

/// Segments of one memory page, so that few records fill them.
const SMALL: u64 = 4096;

/// A record as owned data: partition, tenant, payload.
type Owned = (u16, u32, Vec<u8>);

/// A log as opened, what that found, and what it replayed.
type Opened = (LocalLog, Recovery, Vec<(u64, Owned)>);

fn config(segment_bytes: u64) -> Config {
    Config { segment_bytes, reserve_bytes: 0, ..Config::default() }
}

fn open_from(disk: &FaultyDisk, config: Config, replay: Replay) -> Result<Opened, Error> {
    let mut seen = Vec::new();
    let mut visit = |found: Found<'_>| {
        let Found::Record(position, record) = found else { return };
        assert_eq!(record.kind, RecordKind::Samples);
        seen.push((position.0, (record.partition, record.tenant, record.payload.to_vec())));
    };
    let (log, recovery) = LocalLog::open(Arc::new(disk.clone()), config, replay, &mut visit)?;
    assert_eq!(recovery.records, seen.len() as u64);
    Ok((log, recovery, seen))
}

fn open(disk: &FaultyDisk, segment_bytes: u64) -> Opened {
    open_from(disk, config(segment_bytes), Replay::default()).unwrap()
}

fn append(log: &LocalLog, partition: u16, payload: &[u8]) -> Result<u64, LogError> {
    log.append(Record { partition, tenant: 7, kind: RecordKind::Samples, payload })
        .map(|position| position.0)
}

fn wait(log: &LocalLog, position: u64) -> Result<(), LogError> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
    });
    runtime.block_on(log.wait(Position(position)))
}

fn files(disk: &FaultyDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with("log")).collect()
}

#[test]
fn records_are_replayed_as_appended() {
    let disk = FaultyDisk::new();
    let (log, recovery, seen) = open(&disk, SMALL);
    assert_eq!((recovery.end, recovery.torn_bytes, seen.len()), (Position(64), 0, 0));
    let mut expected = Vec::new();
    for (partition, bytes) in [(0, 0), (1, 1), (7, 39), (2, 3000), (3, 10_000), (4, 8), (65_535, 5)]
    {
        let payload: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
        let before = log.end();
        let position = append(&log, partition, &payload).unwrap();
        assert!(position >= before.0 && log.end().0 > position);
        expected.push((position, (partition, 7, payload)));
    }
    wait(&log, expected[6].0).unwrap();
    assert_eq!(log.status().durable, log.end());
    drop(log);

    let (log, recovery, seen) = open(&disk, SMALL);
    assert_eq!(seen, expected);
    assert_eq!((recovery.torn_bytes, recovery.damaged.len()), (0, 0));
    assert_eq!(recovery.end, log.end());
    drop(log);
    for (index, (position, _)) in expected.iter().enumerate() {
        let from = Replay { from: Position(*position), floor: Position(0) };
        let (_log, recovery, seen) = open_from(&disk, config(SMALL), from).unwrap();
        assert_eq!(seen, expected[index..], "from {position}");
        assert!(recovery.damaged.is_empty());
    }
}

#[test]
fn a_record_that_is_too_large_is_refused() {
    let disk = FaultyDisk::new();
    let (log, ..) = open(&disk, SMALL);
    let refused = append(&log, 0, &vec![0; RECORD_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(refused, LogError::TooLarge { .. }), "{refused}");
    append(&log, 0, b"still works").unwrap();
}

#[test]
fn order_is_that_of_append_whatever_the_threads_do() {
    let disk = FaultyDisk::new();
    let log = Arc::new(
        open_from(&disk, Config { pending_bytes_max: 2000, ..config(SMALL) }, Replay::default())
            .unwrap()
            .0,
    );
    let counter = Arc::new(Mutex::new(0_u64));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (log, counter) = (Arc::clone(&log), Arc::clone(&counter));
            std::thread::spawn(move || {
                for _ in 0..200 {
                    // As a partition's lock does: numbered and appended under one lock.
                    let mut number = counter.lock();
                    let position = append(&log, 0, &number.to_le_bytes()).unwrap();
                    *number += 1;
                    drop(number);
                    wait(&log, position).unwrap();
                    assert!(log.status().durable.0 > position);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let syncs = log.status().syncs;
    assert!(syncs <= 800 + log.status().segments * 3, "{syncs} syncs");
    drop(log);
    let (_log, recovery, seen) = open(&disk, SMALL);
    let numbers: Vec<u64> =
        seen.iter().map(|(_, r)| u64::from_le_bytes(r.2.as_slice().try_into().unwrap())).collect();
    assert_eq!(numbers, (0..800).collect::<Vec<_>>());
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0));
    assert!(recovery.damaged.is_empty());
}

#[test]
fn trim_removes_whole_segments_and_keeps_the_active_one() {
    let disk = FaultyDisk::new();
    let (log, ..) = open(&disk, SMALL);
    let positions: Vec<u64> = (0..8).map(|n| append(&log, 0, &[n; 3000]).unwrap()).collect();
    wait(&log, positions[7]).unwrap();
    assert_eq!(files(&disk).len(), 8);
    log.trim(Position(positions[3])).unwrap();
    assert_eq!(files(&disk).len(), 5);
    assert_eq!(log.status().segments, 5);
    log.trim(log.end()).unwrap();
    assert_eq!(files(&disk).len(), 1);
    drop(log);
    let from = Replay { from: Position(positions[7]), floor: Position(0) };
    let (log, recovery, seen) = open_from(&disk, config(SMALL), from).unwrap();
    assert_eq!((seen.len(), recovery.damaged.len()), (1, 0));
    let next = append(&log, 0, b"next").unwrap();
    assert!(next > positions[7]);
}

#[test]
fn new_records_stand_behind_everything_that_was_covered() {
    let disk = FaultyDisk::new();
    let (log, ..) = open(&disk, SMALL);
    let first = append(&log, 0, b"first").unwrap();
    drop(log);
    let covered = Replay { from: Position(first), floor: Position(1_000_003) };
    let (log, _, seen) = open_from(&disk, config(SMALL), covered).unwrap();
    assert_eq!((seen.len(), log.end()), (1, Position(1_000_003)));
    let second = append(&log, 0, b"second").unwrap();
    assert!(second > 1_000_003);
    drop(log);
    let (_log, recovery, seen) = open_from(&disk, config(SMALL), covered).unwrap();
    assert_eq!(seen.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [first, second]);
    assert!(recovery.damaged.is_empty(), "{:?}", recovery.damaged);
}

#[test]
fn after_a_failed_write_or_sync_the_log_is_read_only() {
    for kind in ["write", "sync"] {
        let disk = FaultyDisk::new();
        let (log, ..) = open(&disk, SMALL);
        let first = append(&log, 0, b"first").unwrap();
        wait(&log, first).unwrap();
        disk.fail_at(disk.operations() + if kind == "write" { 1 } else { 2 }, Fault::Eio);
        let second = append(&log, 0, b"second").unwrap();
        let error = wait(&log, second).unwrap_err();
        assert!(
            matches!(error, LogError::ReadOnly(_)) && error.to_string().contains(kind),
            "{error}"
        );
        wait(&log, first).unwrap();
        for refused in
            [append(&log, 0, b"third").map(drop), log.ready(), log.close(), wait(&log, second)]
        {
            assert!(matches!(refused, Err(LogError::ReadOnly(_)) | Ok(())), "{refused:?}");
        }
        assert!(append(&log, 0, b"third").is_err() && log.ready().is_err());
        let operations = disk.operations();
        drop(log);
        assert_eq!(disk.operations(), operations, "nothing is tried again");
    }
}

/// A log that has met a full disk with these records on their way: no room for the first one. A
/// segment is reserved in full, so what fits into it only fails where the disk lies about that.
fn without_room(disk: &FaultyDisk, payloads: &[&[u8]]) -> (LocalLog, Vec<u64>) {
    let config = Config { pending_bytes_max: 2000, ..config(SMALL) };
    let log = open_from(disk, config, Replay::default()).unwrap().0;
    let is_within_segment = payloads[0].len() < 1000;
    let before = vec![1; if is_within_segment { 1 } else { 3000 }];
    let first = append(&log, 0, &before).unwrap();
    wait(&log, first).unwrap();
    if is_within_segment {
        disk.fail_from(disk.operations() + 1, Fault::Enospc);
    } else {
        disk.set_free_bytes(0);
    }
    let mut positions = vec![first];
    for payload in payloads {
        positions.push(append(&log, 0, payload).unwrap());
        let error = wait(&log, *positions.last().unwrap()).unwrap_err();
        assert!(matches!(error, LogError::NoRoom(_)), "{error}");
        assert!(error.to_string().contains("log segment"), "{error}");
    }
    (log, positions)
}

fn give_room(disk: &FaultyDisk, bytes: u64) {
    disk.heal();
    disk.set_free_bytes(bytes);
}

fn until_ready(log: &LocalLog) {
    let started = Instant::now();
    while log.ready().is_err() {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", log.ready());
        log.look_at_disk();
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_had_no_room_is_written_once_there_is_some() {
    // Within a segment, at the beginning of one, over several, and more than may wait otherwise.
    let large = vec![7; 3000];
    let cases: [&[&[u8]]; 5] = [
        &[b"one"],
        &[b"one", b"two"],
        &[&large],
        &[b"one", &large, b"two", &large, &large],
        &[&large, &large, &large, &large, &large, &large, &large, &large],
    ];
    for payloads in cases {
        let disk = FaultyDisk::new();
        let (log, positions) = without_room(&disk, payloads);
        assert!(matches!(log.ready(), Err(LogError::NoRoom(_))));
        assert!(log.not_durable().is_some());
        // What lies there meanwhile is a log with a torn end.
        let killed = disk.after_kill();
        give_room(&killed, 1 << 30);
        let (_, recovery, seen) = open(&killed, SMALL);
        assert_eq!((seen.len(), recovery.damaged), (1, Vec::new()));
        // Room for a part of it first.
        for free in [50, 3_500, 1 << 30] {
            give_room(&disk, free);
            log.look_at_disk();
            std::thread::sleep(Duration::from_millis(5));
        }
        until_ready(&log);
        let more = append(&log, 0, b"more").unwrap();
        wait(&log, more).unwrap();
        assert_eq!(log.not_durable(), None);
        positions.iter().for_each(|position| wait(&log, *position).unwrap());
        let (_, recovery, seen) = open(&disk.after_crash(5), SMALL);
        let found: Vec<u64> = seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(found, [positions.as_slice(), &[more]].concat());
        let contents: Vec<&[u8]> =
            seen[1..=payloads.len()].iter().map(|(_, r)| r.2.as_slice()).collect();
        assert_eq!((contents.as_slice(), recovery.damaged), (payloads, Vec::new()));
    }
}

#[test]
fn a_log_without_room_can_be_closed() {
    for frees in [false, true] {
        let disk = FaultyDisk::new();
        let (log, positions) = without_room(&disk, &[b"one"]);
        if frees {
            give_room(&disk, 1 << 30);
        }
        assert_eq!(log.close().is_ok(), frees);
        drop(log);
        let disk = disk.after_kill();
        give_room(&disk, 1 << 30);
        let (log, recovery, seen) = open(&disk, SMALL);
        assert_eq!((seen.len(), recovery.damaged), (1 + usize::from(frees), Vec::new()));
        assert!(append(&log, 0, b"next").unwrap() >= positions[1]);
    }
}

#[test]
fn a_failed_sync_is_never_waited_for() {
    let disk = FaultyDisk::new();
    let (log, ..) = open(&disk, SMALL);
    let first = append(&log, 0, b"first").unwrap();
    wait(&log, first).unwrap();
    disk.fail_at(disk.operations() + 2, Fault::Enospc);
    let second = append(&log, 0, b"second").unwrap();
    assert!(matches!(wait(&log, second), Err(LogError::ReadOnly(_))));
}

#[test]
fn writes_stop_below_the_reserve_and_resume_by_themselves() {
    let disk = FaultyDisk::new();
    let (log, ..) =
        open_from(&disk, Config { reserve_bytes: 1 << 20, ..config(SMALL) }, Replay::default())
            .unwrap();
    log.ready().unwrap();
    let until = |ready: bool| {
        let started = Instant::now();
        while log.ready().is_ok() != ready {
            assert!(started.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    disk.set_free_bytes(1000);
    until(false);
    assert_eq!(
        log.ready().unwrap_err().to_string(),
        "free disk is below the reserve: 1000 bytes free, 1048576 reserved"
    );
    disk.set_free_bytes(2 << 20);
    until(true);
    let position = append(&log, 0, b"again").unwrap();
    wait(&log, position).unwrap();
}

#[test]
fn a_closed_log_has_flushed_and_takes_nothing_more() {
    let disk = FaultyDisk::new();
    let (log, ..) = open(&disk, SMALL);
    let position = append(&log, 0, b"last").unwrap();
    log.close().unwrap();
    log.close().unwrap();
    wait(&log, position).unwrap();
    assert!(append(&log, 0, b"too late").is_err() && log.ready().is_err());
    assert_eq!(open(&disk.after_crash(3), SMALL).2.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_dropped_disturbs_nobody() {
    let disk = FaultyDisk::new();
    let log = Arc::new(open(&disk, SMALL).0);
    let done = Arc::new(AtomicU64::new(0));
    let tasks = (0..200_u64).map(|n| {
        let (log, done) = (Arc::clone(&log), Arc::clone(&done));
        tokio::spawn(async move {
            let position = append(&log, 0, &n.to_le_bytes()).unwrap();
            let wait = log.wait(Position(position));
            if n % 3 == 0 {
                drop(tokio::time::timeout(Duration::ZERO, wait).await);
            } else {
                wait.await.unwrap();
            }
            done.fetch_add(1, Ordering::Relaxed);
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 200);
}

#[test]
fn the_log_works_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(crate::OsDisk::open(dir.path()).unwrap());
    let mut expected = Vec::new();
    for life in 0..3_u8 {
        let mut seen = Vec::new();
        let mut visit = |found: Found<'_>| {
            let Found::Record(position, record) = found else { return };
            seen.push((position.0, record.payload.to_vec()));
        };
        let (log, recovery) =
            LocalLog::open(Arc::clone(&disk), config(SMALL), Replay::default(), &mut visit)
                .unwrap();
        assert_eq!((&seen, recovery.torn_bytes, recovery.damaged), (&expected, 0, vec![]));
        for number in 0..20_u8 {
            let payload = vec![life ^ number; usize::from(number) * 97];
            let position = append(&log, 0, &payload).unwrap();
            expected.push((position, payload));
        }
        wait(&log, expected.last().unwrap().0).unwrap();
        assert_eq!(disk.list(Path::new("log")).unwrap().len() as u64, log.status().segments);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Sizes around a segment's length, a restart now and then.
    #[test]
    fn any_sequence_replays_identically(
        sizes in prop::collection::vec((0_usize..6000, 0_u16..8, prop::bool::weighted(0.1)), 1..60),
        segment_bytes in prop::sample::select(vec![64_u64, 1000, SMALL, 65_536]),
    ) {
        let disk = FaultyDisk::new();
        let mut log = open(&disk, segment_bytes).0;
        let mut expected = Vec::new();
        for (number, (bytes, partition, restart)) in sizes.into_iter().enumerate() {
            let payload = vec![number as u8; bytes];
            let position = append(&log, partition, &payload).unwrap();
            expected.push((position, (partition, 7, payload)));
            if restart {
                drop(log);
                let (again, recovery, seen) = open(&disk, segment_bytes);
                prop_assert_eq!(&seen, &expected);
                prop_assert_eq!((recovery.torn_bytes, recovery.damaged.len()), (0, 0));
                log = again;
            }
        }
        drop(log);
        let middle = expected[expected.len() / 2].0;
        let (_, recovery, seen) = open_from(&disk, config(segment_bytes), Replay { from: Position(middle), floor: Position(0) }).unwrap();
        prop_assert_eq!(&seen, &expected[expected.len() / 2..]);
        prop_assert_eq!((recovery.torn_bytes, recovery.damaged.len()), (0, 0));
    }
}
