//! Torn tails and rot, placed by hand.

use super::super::format::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::*;

/// A record written by hand, with what it says was durable then.
struct Made {
    payload: Vec<u8>,
    durable: u64,
}

/// A log whose every record was synced before the next was written.
fn synced_log(count: u64, segment_bytes: u64) -> (FaultyDisk, Vec<(u64, Owned)>) {
    let disk = FaultyDisk::new();
    let (log, ..) = open(&disk, segment_bytes);
    let mut expected = Vec::new();
    for number in 0..count {
        let (partition, payload) =
            ((number % 8) as u16, vec![number as u8 + 1; 20 + number as usize * 3]);
        let position = append(&log, partition, &payload).unwrap();
        wait(&log, position).unwrap();
        expected.push((position, (partition, 7, payload)));
    }
    drop(log);
    (disk, expected)
}

/// A first segment made of records written by hand, and where each of them stands.
fn made_log(records: &[Made]) -> (FaultyDisk, Vec<u64>) {
    let mut bytes =
        SegmentHeader { start: 0, previous_end: 0, gap_accepted: false }.encode().to_vec();
    let mut positions = Vec::new();
    for made in records {
        let record =
            Record { partition: 1, tenant: 7, kind: RecordKind::Samples, payload: &made.payload };
        let mut header = RecordHeader::of(&record);
        (header.position, header.durable) = (bytes.len() as u64, made.durable);
        positions.push(header.position);
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&made.payload);
        bytes.resize((header.position + header.record_bytes()) as usize, 0);
    }
    let disk = FaultyDisk::new();
    disk.create_dir_all(Path::new("log")).unwrap();
    let file = disk.open(&segments::path_of(0), model::OpenMode::CreateNew).unwrap();
    file.allocate(8192).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    (disk, positions)
}

/// After whatever happened, the log takes records and gives them back, with those before.
#[track_caller]
fn goes_on(disk: &FaultyDisk, before: &[(u64, Owned)]) {
    let (log, recovery, seen) = open(disk, SMALL);
    assert_eq!(seen, before);
    assert_eq!((recovery.torn_bytes, recovery.damaged), (0, vec![]));
    let position = append(&log, 3, b"later").unwrap();
    drop(log);
    let (_log, recovery, seen) = open(disk, SMALL);
    assert_eq!(seen.last(), Some(&(position, (3, 7, b"later".to_vec()))));
    assert_eq!((seen.len(), recovery.damaged), (before.len() + 1, vec![]));
}

#[test]
fn a_batch_torn_at_any_byte_is_cut_there() {
    let batch = |durable| {
        (0..3_u8).map(move |n| Made { payload: vec![n + 1; 30 + usize::from(n) * 25], durable })
    };
    let records: Vec<Made> = batch(64).chain(batch(352)).collect();
    let (whole, positions) = made_log(&records);
    let all = open(&whole, SMALL).2;
    assert_eq!(all.len(), 6);
    let end = positions[5] + 40 + 80;
    assert_eq!(positions[3], 352);
    for cut in positions[3]..=end {
        for shorter in [false, true] {
            let (disk, _) = made_log(&records);
            let tear = |bytes: &mut Vec<u8>| match shorter {
                true => bytes.truncate(cut as usize),
                false => bytes[cut as usize..].fill(0),
            };
            disk.tamper(segments::path_of(0), tear).unwrap();
            let (log, recovery, seen) = open(&disk, SMALL);
            drop(log);
            assert!(recovery.damaged.is_empty(), "cut at {cut}: {:?}", recovery.damaged);
            let whole = all.iter().filter(|(at, (_, _, payload))| {
                let end = at + 40 + payload.len() as u64;
                // Zeros stand for the padding; where the file ends, it is missing.
                cut >= if shorter { end.next_multiple_of(8) } else { end }
            });
            let whole = whole.count();
            assert_eq!(seen, all[..whole], "cut at {cut}, shorter: {shorter}");
            goes_on(&disk, &all[..whole]);
        }
    }
}

#[test]
fn pages_of_an_unsynced_batch_may_arrive_in_any_order() {
    // One batch of 20 records over 4 KiB: none says that anything of it was durable.
    let records: Vec<Made> =
        (0..20_u8).map(|n| Made { payload: vec![n + 1; 300], durable: 64 }).collect();
    let (whole, positions) = made_log(&records);
    let all = open(&whole, SMALL).2;
    for sector in 1..13 {
        let (disk, _) = made_log(&records);
        let lost = sector * 512..(sector + 1) * 512;
        disk.tamper(segments::path_of(0), |bytes| bytes[lost.clone()].fill(0)).unwrap();
        let (log, recovery, seen) = open(&disk, SMALL);
        drop(log);
        let whole = positions.iter().filter(|at| **at + 340 <= lost.start as u64).count();
        assert_eq!((seen.len(), recovery.damaged), (whole, vec![]), "sector {sector}");
        assert!(recovery.torn_bytes > 0);
        goes_on(&disk, &all[..whole]);
    }
}

#[test]
fn a_bad_record_that_was_durable_is_damage() {
    let record = |durable| Made { payload: vec![9; 100], durable };
    // The last record proves the first two, not the third.
    let (disk, positions) = made_log(&[record(64), record(64), record(64), record(352)]);
    assert_eq!(positions[2], 352);
    disk.tamper(segments::path_of(0), |bytes| {
        bytes[positions[1] as usize + 60] ^= 1;
        bytes[positions[2] as usize + 60] ^= 1;
    })
    .unwrap();
    let (_log, recovery, seen) = open(&disk, SMALL);
    assert_eq!(seen.iter().map(|(at, _)| *at).collect::<Vec<_>>(), positions[..1]);
    let damaged: Vec<_> =
        recovery.damaged.iter().map(|d| (d.partition, d.position.0, d.bytes)).collect();
    assert_eq!(damaged, [(Some(1), positions[1], 144)]);
    assert_eq!(recovery.end, Position(positions[2]));
}

/// Opens a damaged log, quarantines it, and checks that it goes on without `lost`.
#[track_caller]
fn lost_and_quarantined(
    disk: &FaultyDisk,
    expected: &[(u64, Owned)],
    lost: &[usize],
    partition: Option<u16>,
    what: &str,
) {
    let left: Vec<_> =
        (0..expected.len()).filter(|i| !lost.contains(i)).map(|i| expected[i].clone()).collect();
    let (log, recovery, seen) = open(disk, SMALL);
    drop(log);
    assert_eq!(seen, left, "{what}");
    assert_eq!(
        recovery.damaged.iter().map(|d| d.partition).collect::<Vec<_>>(),
        [partition],
        "{what}: {:?}",
        recovery.damaged
    );
    let report = quarantine(disk, Position(0)).unwrap();
    assert_eq!(report.damaged, recovery.damaged, "{what}");
    assert_eq!(report.records, left.len() as u64, "{what}");
    goes_on(disk, &left);
}

#[test]
fn every_flipped_byte_in_the_middle_is_found_and_the_rest_served() {
    let (sound, expected) = synced_log(6, SMALL);
    for index in 0..5 {
        let (position, (partition, _, payload)) = &expected[index];
        let end = RECORD_HEADER_BYTES + payload.len();
        for at in 0..end {
            let disk = sound.after_kill();
            let byte = *position as usize + at;
            disk.tamper(segments::path_of(0), |bytes| bytes[byte] ^= 1 << (at % 8)).unwrap();
            let partition = (at >= RECORD_HEADER_BYTES).then_some(*partition);
            lost_and_quarantined(
                &disk,
                &expected,
                &[index],
                partition,
                &format!("record {index}, byte {at}"),
            );
        }
    }
}

#[test]
fn damage_before_the_position_that_is_needed_does_not_matter() {
    let (disk, expected) = synced_log(6, SMALL);
    disk.tamper(segments::path_of(0), |bytes| bytes[expected[1].0 as usize + 3] ^= 1).unwrap();
    let from = Replay { from: Position(expected[3].0), floor: Position(0) };
    let (_log, recovery, seen) = open_from(&disk, config(SMALL), from).unwrap();
    assert_eq!((seen.as_slice(), recovery.damaged), (&expected[3..], vec![]));
}

/// Records of about 1,500 bytes: two to a segment.
fn segmented_log() -> (FaultyDisk, Vec<(u64, Owned)>) {
    let disk = FaultyDisk::new();
    let (log, ..) = open(&disk, SMALL);
    let expected: Vec<_> = (0..8_u8)
        .map(|n| {
            let position = append(&log, u16::from(n), &[n + 1; 1500]).unwrap();
            wait(&log, position).unwrap();
            (position, (u16::from(n), 7, vec![n + 1; 1500]))
        })
        .collect();
    drop(log);
    assert_eq!(files(&disk).len(), 4);
    (disk, expected)
}

#[test]
fn lost_parts_of_segments_are_found() {
    type Harm = fn(&FaultyDisk, &[PathBuf]);
    let cases: [(&str, &[usize], Harm); 8] = [
        ("second record zeroed", &[3], |disk, files| {
            disk.tamper(&files[1], |b| b[1608..].fill(0)).unwrap()
        }),
        ("second record cut off", &[3], |disk, files| {
            disk.tamper(&files[1], |b| b.truncate(1608)).unwrap()
        }),
        ("second record cut in the middle", &[3], |disk, files| {
            disk.tamper(&files[1], |b| b.truncate(1701)).unwrap();
        }),
        ("a middle segment is missing", &[2, 3], |disk, files| disk.remove(&files[1]).unwrap()),
        ("a middle segment is empty", &[2, 3], |disk, files| {
            disk.tamper(&files[1], Vec::clear).unwrap()
        }),
        ("the header of a middle segment", &[], |disk, files| {
            disk.tamper(&files[1], |b| b[3] ^= 4).unwrap()
        }),
        ("the header of the last segment", &[], |disk, files| {
            disk.tamper(&files[3], |b| b[40] ^= 4).unwrap()
        }),
        ("the first segment is missing", &[0, 1], |disk, files| disk.remove(&files[0]).unwrap()),
    ];
    for (what, lost, harm) in cases {
        let (disk, expected) = segmented_log();
        harm(&disk, &files(&disk));
        let left: Vec<_> = (0..expected.len())
            .filter(|i| !lost.contains(i))
            .map(|i| expected[i].clone())
            .collect();
        let (log, recovery, seen) = open(&disk, SMALL);
        drop(log);
        assert_eq!(seen, left, "{what}");
        assert!(
            !recovery.damaged.is_empty() && recovery.damaged.iter().all(|d| d.partition.is_none()),
            "{what}"
        );
        quarantine(&disk, Position(0)).unwrap();
        goes_on(&disk, &left);
    }
}

#[test]
fn a_log_that_is_gone_is_not_begun_anew_silently() {
    let disk = FaultyDisk::new();
    let covered = Replay { from: Position(5000), floor: Position(9000) };
    for _ in 0..2 {
        let (log, recovery, _) = open_from(&disk, config(SMALL), covered).unwrap();
        assert_eq!(recovery.damaged.len(), 1);
        drop(log);
    }
    quarantine(&disk, covered.from).unwrap();
    let (log, recovery, _) = open_from(&disk, config(SMALL), covered).unwrap();
    assert!(recovery.damaged.is_empty(), "{:?}", recovery.damaged);
    let position = append(&log, 0, b"on").unwrap();
    assert!(position > 9000);
    drop(log);
    let (_log, recovery, seen) = open_from(&disk, config(SMALL), covered).unwrap();
    assert_eq!((seen.len(), recovery.damaged), (1, vec![]));
}

#[test]
fn what_a_later_version_wrote_is_refused_by_name() {
    let (disk, expected) = synced_log(2, SMALL);
    let later = disk.after_kill();
    let reseal = |bytes: &mut [u8], end: usize| {
        let checksum = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
    };
    later
        .tamper(segments::path_of(0), |bytes| {
            bytes[16] = 1;
            reseal(bytes, 60);
        })
        .unwrap();
    let refused = open_from(&later, config(SMALL), Replay::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "log segment 00000000000000000000 needs feature bit 0, which this version does not know"
    );

    disk.tamper(segments::path_of(0), |bytes| {
        let at = expected[0].0 as usize;
        bytes[at + 14] = 77;
        let checksum = crc32c::crc32c(&bytes[at + 4..at + RECORD_HEADER_BYTES]);
        bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    })
    .unwrap();
    let refused = open_from(&disk, config(SMALL), Replay::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "log record at 64 needs record kind 77, which this version does not know"
    );
    assert_eq!(SEGMENT_HEADER_BYTES, 64);
}
