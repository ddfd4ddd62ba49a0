//! Tests of the queue: order, restarts, torn ends, bounds, failing disks, damage.

use tenancy::TenantId;
use testkit::{Fault, FaultyDisk};

use super::super::record::Payload;
use super::*;

const ALL: BatchMax = BatchMax { rows: u64::MAX, bytes: usize::MAX };

fn record(n: u32) -> Record {
    let counts = Counts { samples: 1, histograms: 0, exemplars: 1 };
    let bytes = format!("payload {n:04} {}", "x".repeat(40)).into_bytes();
    Record { tenant: TenantId(n % 3), at_ms: i64::from(n), payload: Payload { counts, bytes } }
}

/// Bytes of one record on disk.
const RECORD: u64 = (format::FRAME_BYTES + 13 + 40) as u64;

fn open(disk: &FaultyDisk) -> Arc<Queue> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Arc::new(Queue::with_segments(disk, "d", 4 * RECORD).expect("a queue"))
}

fn append(queue: &Queue, numbers: std::ops::Range<u32>) {
    numbers.for_each(|n| queue.append(&record(n), u64::MAX));
}

/// The numbers of the records in a batch.
fn numbers(batch: &Batch) -> Vec<u32> {
    let number = |(_, found): &(u64, Record)| {
        let text = String::from_utf8_lossy(&found.payload.bytes);
        let n: u32 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
        assert_eq!(*found, record(n), "as it was queued");
        n
    };
    batch.records.iter().map(number).collect()
}

fn read(queue: &Queue, rows: u64) -> Batch {
    queue.read(BatchMax { rows, bytes: usize::MAX }).expect("records")
}

fn pending(queue: &Queue) -> u64 {
    queue.totals().pending.samples
}

fn list(numbers: std::ops::Range<u32>) -> Vec<u32> {
    numbers.collect()
}

fn files(disk: &FaultyDisk) -> usize {
    disk.files().iter().filter(|file| file.extension().is_some_and(|end| end == "queue")).count()
}

#[tokio::test]
async fn records_come_out_in_order_and_once() {
    let disk = FaultyDisk::new();
    let queue = open(&disk);
    append(&queue, 0..10);
    let first = read(&queue, 6);
    assert_eq!(numbers(&first), [0, 1, 2], "as many as hold so many rows");
    assert_eq!(numbers(&read(&queue, 2)), [0], "until it is sent");
    let few = queue.read(BatchMax { rows: u64::MAX, bytes: 120 }).expect("records");
    assert_eq!(numbers(&few), [0, 1], "as many as hold so many bytes");
    queue.sent(&first);
    assert_eq!(pending(&queue), 7);
    let rest = read(&queue, u64::MAX);
    assert_eq!(numbers(&rest), list(3..10));
    queue.sent(&rest);
    queue.sent(&first);
    assert_eq!((pending(&queue), queue.totals().has_more), (0, false));
    assert!(read(&queue, 9).records.is_empty());
    append(&queue, 10..11);
    assert_eq!(numbers(&read(&queue, 9)), [10]);
    assert_eq!(files(&disk), 1, "what was sent is gone");
    assert_eq!(queue.totals().dropped_failed, Counts::default());
}

#[tokio::test]
async fn a_restart_goes_on_at_the_cursor() {
    let disk = FaultyDisk::new();
    let queue = open(&disk);
    append(&queue, 0..10);
    queue.durable(queue.end()).await;
    queue.sent(&read(&queue, 10));
    queue.keep_cursor();
    drop(queue);
    let queue = open(&disk);
    assert_eq!(pending(&queue), 5, "half of them wait");
    assert_eq!(numbers(&read(&queue, u64::MAX)), list(5..10));
    append(&queue, 10..12);
    let batch = read(&queue, u64::MAX);
    assert_eq!(numbers(&batch), list(5..12));
    queue.sent(&batch);
    queue.keep_cursor();
    drop(queue);
    let queue = open(&disk);
    assert!(read(&queue, 9).records.is_empty());
    append(&queue, 12..13);
    assert_eq!(numbers(&read(&queue, 9)), [12], "positions go on");
}

#[tokio::test]
async fn a_damaged_cursor_sends_again_and_loses_nothing() {
    let disk = FaultyDisk::new();
    let queue = open(&disk);
    append(&queue, 0..4);
    for rows in [2, 4] {
        queue.sent(&read(&queue, rows));
        queue.keep_cursor();
    }
    drop(queue);
    let damage =
        |at: usize| disk.tamper("forward/d/cursor", |bytes| bytes[at] ^= 1).expect("tamper");
    damage(24 + 3);
    assert_eq!(numbers(&read(&open(&disk), 99)), [3], "the newer slot stands");
    damage(3);
    assert_eq!(numbers(&read(&open(&disk), 99)), list(0..4));
}

#[tokio::test]
async fn what_was_synced_survives_a_crash() {
    for seed in 0..40 {
        let disk = FaultyDisk::new();
        let queue = open(&disk);
        append(&queue, 0..7);
        queue.durable(queue.end()).await;
        append(&queue, 7..13);
        // Sent although it was not synced: the cursor may be ahead of what a crash leaves.
        if seed % 2 == 0 {
            queue.sent(&read(&queue, u64::MAX));
            queue.keep_cursor();
        }
        disk.crash();
        let disk = disk.after_crash(seed);
        let queue = open(&disk);
        let found = numbers(&read(&queue, u64::MAX));
        if seed % 2 == 1 {
            assert!(found.len() >= 7, "seed {seed}: {found:?}");
            assert_eq!(found[..7], list(0..7), "seed {seed}");
        }
        append(&queue, 20..22);
        queue.durable(queue.end()).await;
        let found = numbers(&read(&queue, u64::MAX));
        assert_eq!(found[found.len() - 2..], [20, 21], "seed {seed}: {found:?}");
        disk.crash();
        let after = numbers(&read(&open(&disk.after_crash(seed + 1)), u64::MAX));
        assert_eq!(after[after.len() - 2..], [20, 21], "seed {seed}: {after:?}");
    }
}

#[tokio::test]
async fn every_crash_keeps_what_was_acknowledged() {
    let workload = |disk: &FaultyDisk, acknowledged: &mut Vec<u32>, sent: &mut u32| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let queue = Arc::new(Queue::with_segments(disk, "d", 4 * RECORD).ok()?);
        for n in 0..12 {
            queue.append(&record(n), u64::MAX);
            queue.sync();
            if queue.totals().dropped_failed.samples > 0 {
                return None;
            }
            acknowledged.push(n);
            if n % 5 == 4 {
                queue.sent(&queue.read(ALL).ok()?);
                *sent = n + 1;
                queue.keep_cursor();
            }
        }
        Some(())
    };
    let whole = FaultyDisk::new();
    workload(&whole, &mut Vec::new(), &mut 0).expect("no fault");
    let operations = whole.operations();
    assert!(operations > 30, "{operations}");
    for at in 1..=operations {
        let (disk, mut acknowledged, mut sent) = (FaultyDisk::new(), Vec::new(), 0);
        disk.crash_at(at, at);
        workload(&disk, &mut acknowledged, &mut sent);
        // The operation at which the power goes out acknowledges nothing.
        acknowledged.truncate(acknowledged.len().saturating_sub(1));
        let found = numbers(&read(&open(&disk.after_crash(at)), u64::MAX));
        for n in acknowledged.iter().filter(|n| **n >= sent) {
            assert!(found.contains(n), "crash at {}: {found:?}", disk.describe(at));
        }
        assert!(found.is_sorted(), "crash at {}: {found:?}", disk.describe(at));
    }
}

#[tokio::test]
async fn of_too_much_the_oldest_go_and_are_counted() {
    let disk = FaultyDisk::new();
    let queue = open(&disk);
    let bytes_max = 10 * RECORD;
    (0..40).for_each(|n| queue.append(&record(n), bytes_max));
    let totals = queue.totals();
    assert!(totals.bytes <= bytes_max, "{totals:?}");
    assert_eq!(totals.pending.all() + totals.dropped_full.all(), 80);
    let found = numbers(&read(&queue, u64::MAX));
    assert_eq!(found, list(totals.dropped_full.samples as u32..40), "the newest stay");
    assert!(files(&disk) <= 4);
}

#[tokio::test]
async fn a_failing_disk_drops_rows_and_refuses_none() {
    let disk = FaultyDisk::new();
    let queue = open(&disk);
    append(&queue, 0..3);
    queue.durable(queue.end()).await;
    disk.fail_at(disk.operations() + 1, Fault::ShortWrite);
    append(&queue, 3..5);
    assert_eq!(queue.totals().dropped_failed.samples, 2, "and the one right after it");
    let later = Record { at_ms: FAILED_PAUSE_MS + 10, ..record(5) };
    queue.append(&later, u64::MAX);
    queue.durable(queue.end()).await;
    assert_eq!(queue.totals().dropped_failed.samples, 2, "another file is fine");
    assert_eq!(read(&queue, u64::MAX).records.len(), 4);
    drop(queue);
    let queue = open(&disk);
    let found = read(&queue, u64::MAX);
    assert_eq!(found.records.len(), 4, "what was half written is not found");
    assert_eq!(found.records[3].1, later);
}

#[tokio::test]
async fn files_that_could_not_be_synced_are_left() {
    let disk = FaultyDisk::new();
    let queue = open(&disk);
    append(&queue, 0..1);
    queue.durable(queue.end()).await;
    append(&queue, 1..2);
    disk.fail_at(disk.operations() + 1, Fault::Eio);
    queue.durable(queue.end()).await;
    append(&queue, 2..3);
    queue.durable(queue.end()).await;
    assert_eq!(files(&disk), 2, "the next goes into another file");
    assert_eq!(numbers(&read(&queue, u64::MAX)), [0, 1, 2]);
}

#[test]
fn damage_is_found() {
    let first = "forward/d/00000000000000000000.queue";
    let at = (HEADER_BYTES + RECORD + 30) as usize;
    let disk = FaultyDisk::new();
    append(&open(&disk), 0..8);
    disk.tamper(first, |bytes| bytes[at] ^= 1).expect("tamper");
    let queue = open(&disk);
    assert_eq!(numbers(&read(&queue, u64::MAX)), [0, 4, 5, 6, 7], "the rest of that file is lost");

    let disk = FaultyDisk::new();
    let queue = open(&disk);
    append(&queue, 0..8);
    disk.tamper(first, |bytes| bytes[at] ^= 1).expect("tamper");
    let batch = read(&queue, u64::MAX);
    assert_eq!(numbers(&batch), [0, 4, 5, 6, 7], "also while it runs");
    queue.sent(&batch);
    let totals = queue.totals();
    assert_eq!((totals.pending.samples, totals.dropped_failed.samples), (0, 3), "and counted");

    let disk = FaultyDisk::new();
    append(&open(&disk), 0..1);
    disk.tamper(first, |bytes| {
        bytes[8] = 9;
        let sum = crc32c::crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    })
    .expect("tamper");
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let refused = Queue::open(disk, "d").expect_err("a later version").to_string();
    assert!(refused.contains("has version 9"), "{refused}");
}
