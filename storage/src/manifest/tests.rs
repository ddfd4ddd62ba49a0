//! Tests of the manifest: what is committed is what is loaded, by one writer only.

use std::path::Path as DiskPath;

use model::{Level, Matcher, Position, Resolution, Signal, TimeRange};
use object_store::memory::InMemory;
use proptest::prelude::*;
use tenancy::TenantId;
use testkit::{Fault, FaultyDisk};

use super::*;
use crate::LocalObjects;
use crate::entries::{EntryFilter, EntryTombstone};
use crate::tombstone::Tombstone;

fn block(name: &str) -> BlockMeta {
    BlockMeta {
        resolution: Resolution::Raw,
        name: name.to_owned(),
        level: 0,
        range: TimeRange { start_ms: -5, end_ms: 9_007_199_254_740_993 },
        positions: (Position(1), Position(u64::MAX)),
        series: 2,
        chunks: 3,
        samples: 4,
        histograms: 5,
        bytes: 6,
        created_ms: 7,
        deleted_to: None,
        index_checksum: Some(u32::MAX),
    }
}

fn tombstone(id: u64) -> Arc<Tombstone> {
    Arc::new(Tombstone {
        only: None,
        id,
        tenant: TenantId(4),
        matchers: vec![Matcher::equal("job", "a")],
        range: TimeRange { start_ms: i64::MIN, end_ms: id as i64 },
        position: Position(u64::MAX - id),
        created_ms: -1,
    })
}

fn entry_tombstone(id: u64) -> Arc<EntryTombstone> {
    Arc::new(EntryTombstone {
        id,
        text: String::new(),
        tenant: TenantId(3),
        signals: vec![Signal::Logs],
        matchers: vec![Matcher::equal("app", "a")],
        filter: EntryFilter { level_min: Some(Level::Warn), ..EntryFilter::default() },
        range_ns: (i64::MIN, i64::MAX),
        position: Position(u64::MAX),
        created_ms: 5,
    })
}

fn segment(name: &str) -> SegmentMeta {
    SegmentMeta {
        name: name.to_owned(),
        signal: model::Signal::Audits,
        level: 1,
        range_ns: (i64::MIN, i64::MAX),
        positions: (Position(1), Position(u64::MAX)),
        streams: 1,
        rows: 2,
        raw_bytes: 3,
        bytes: 4,
        created_ms: 5,
        deleted_to: Some(Position(7)),
        index_checksum: u32::MAX,
    }
}

/// The edit a test commits as its `number`-th: adds a block, and removes every second one.
fn edit(number: u64) -> Edit {
    let removed = number
        .checked_sub(1)
        .filter(|before| before.is_multiple_of(2))
        .map(|before| before.to_string());
    Edit {
        add_blocks: vec![block(&number.to_string())],
        remove_blocks: removed.into_iter().collect(),
        covered: number.is_multiple_of(3).then_some(Position(number * 100)),
        snapshots: number.is_multiple_of(5).then(|| {
            let checksum = Some(number as u32);
            vec![SnapshotMeta {
                name: format!("s{number}"),
                full: true,
                series: number,
                bytes: 1,
                checksum,
            }]
        }),
        next_object: number * 2,
        add_tombstones: vec![tombstone(number)],
        remove_tombstones: number.checked_sub(3).into_iter().collect(),
        ..Edit::default()
    }
}

async fn committed(objects: &Arc<dyn ObjectStore>, count: u64) -> PartitionState {
    let (mut store, mut state) = ManifestStore::load(Arc::clone(objects), 3).await.unwrap();
    for number in 0..count {
        state = store.commit(edit(number)).await.unwrap();
    }
    state
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[tokio::test]
async fn what_was_committed_is_loaded() {
    for count in [0, 1, 2, 31, 32, 33, 64, 65, 96, 100, 200] {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let state = committed(&objects, count).await;
        assert_eq!(state.number, count);
        assert_eq!(state.blocks.len() as u64, count.div_ceil(2));
        let (_, loaded) = ManifestStore::load(Arc::clone(&objects), 3).await.unwrap();
        assert_eq!(loaded, state, "after {count} edits");
        let (_, other) = ManifestStore::load(Arc::clone(&objects), 4).await.unwrap();
        assert_eq!(other, PartitionState::default());
        let stored = chain::stored_numbers(objects.as_ref(), 3).await.unwrap();
        let checkpoint = count - count % CHECKPOINT_EVERY;
        let first = checkpoint.saturating_sub(CHECKPOINT_EVERY).max(1);
        assert_eq!(stored, (first..=count).collect::<Vec<_>>(), "two checkpoints' worth stays");
    }
}

#[tokio::test]
async fn an_edit_that_does_not_fit_changes_nothing() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (mut store, _) = ManifestStore::load(Arc::clone(&objects), 3).await.unwrap();
    store
        .commit(Edit {
            covered: Some(Position(10)),
            add_blocks: vec![block("a")],
            ..Edit::default()
        })
        .await
        .unwrap();
    for (edit, reason) in [
        (
            Edit { add_blocks: vec![block("a")], ..Edit::default() },
            "adds block \"a\" a second time",
        ),
        (
            Edit { remove_blocks: vec!["b".to_owned()], ..Edit::default() },
            "removes block \"b\", which does not exist",
        ),
        (Edit { covered: Some(Position(9)), ..Edit::default() }, "position 9 lies before 10"),
    ] {
        let refused = store.commit(edit).await.unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let swapped = Edit {
        remove_blocks: vec!["a".to_owned()],
        add_blocks: vec![block("a")],
        ..Edit::default()
    };
    let state = store.commit(swapped).await.unwrap();
    assert_eq!((state.number, state.blocks.len()), (2, 1));
}

#[tokio::test]
async fn of_two_writers_the_second_must_stop() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (mut first, _) = ManifestStore::load(Arc::clone(&objects), 3).await.unwrap();
    let (mut second, _) = ManifestStore::load(Arc::clone(&objects), 3).await.unwrap();
    let state = first.commit(edit(0)).await.unwrap();
    let refused = second.commit(edit(0)).await.unwrap_err();
    assert!(matches!(refused, Error::OwnedElsewhere { partition: 3, number: 1 }), "{refused}");
    assert!(matches!(second.commit(edit(0)).await, Err(Error::PartitionReadOnly { .. })));
    assert_eq!(ManifestStore::load(objects, 3).await.unwrap().1, state);
}

/// Forty edits, and the state after each.
async fn forty() -> (Arc<dyn ObjectStore>, Vec<PartitionState>) {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (mut store, state) = ManifestStore::load(Arc::clone(&objects), 3).await.unwrap();
    let mut states = vec![state];
    for number in 0..40 {
        states.push(store.commit(edit(number)).await.unwrap());
    }
    (objects, states)
}

async fn spoil(objects: &Arc<dyn ObjectStore>, number: u64) {
    objects.put(&path_of(3, number), "TAFFRMAN, or what is left of it".into()).await.unwrap();
}

/// Damages some of forty manifests; gives the number of the state that is found, what is told of
/// each damaged one, and whether all of it is known.
async fn after_damage(numbers: &[u64]) -> (u64, Vec<String>, bool) {
    let (objects, states) = forty().await;
    for number in numbers {
        spoil(&objects, *number).await;
    }
    let strict = ManifestStore::load(Arc::clone(&objects), 3).await;
    let (mut store, state, found) =
        ManifestStore::load_intact(Arc::clone(&objects), 3).await.unwrap();
    let mut number = state.number;
    if let Found::WithoutNewest(_) = &found {
        number -= 1;
        let blank =
            PartitionState { number, covered_before: states[39].covered_before, ..state.clone() };
        assert_eq!(blank, states[39], "{numbers:?}: one that changes nothing is in its place");
    } else {
        assert_eq!(state, states[number as usize], "{numbers:?}: a state that was");
    }
    let (told, is_known) = match found {
        Found::Whole(mended) => {
            let again = ManifestStore::load_intact(Arc::clone(&objects), 3).await.unwrap();
            assert!(matches!(&again.2, Found::Whole(left) if left.is_empty()), "they are replaced");
            assert_eq!(again.1, state);
            (mended, true)
        }
        Found::WithoutNewest(error) => (vec![error], false),
        Found::Lost(error) => {
            store.commit(edit(40)).await.unwrap_err();
            let begun = ManifestStore::begin_anew(Arc::clone(&objects), 3, state).await.unwrap();
            store = begun.0;
            (vec![error], false)
        }
    };
    assert_eq!(strict.is_ok(), is_known, "{numbers:?}: {strict:?}");
    let next = store.commit(edit(number)).await.unwrap();
    let again = ManifestStore::load(objects, 3).await.unwrap().1;
    assert_eq!(again, next, "{numbers:?}: it goes on from there");
    (number, told.iter().map(ToString::to_string).collect(), is_known)
}

#[tokio::test]
async fn one_damaged_manifest_costs_nothing_two_in_a_row_what_they_said() {
    let of = |number: u64| {
        format!(
            "manifest manifest/0003/{number:020}.json is damaged: it is shorter than its header"
        )
    };
    for (numbers, state, told, is_known) in [
        (&[35][..], 40, vec![of(35)], true),
        (&[33, 35, 39], 40, vec![of(33), of(35), of(39)], true),
        // A checkpoint: from the one before it, which is nothing here.
        (&[32], 40, vec![of(32)], true),
        (&[40], 39, vec![of(40)], false),
        (&[38, 40], 39, vec![of(40)], false),
        (&[35, 36], 34, vec![of(35)], false),
        (&[39, 40], 38, vec![of(39)], false),
        (&[31, 32, 40], 30, vec![of(31)], false),
    ] {
        assert_eq!(after_damage(numbers).await, (state, told, is_known), "{numbers:?}");
    }
}

#[tokio::test]
async fn damage_of_every_byte_and_every_length_is_told() {
    let (objects, states) = forty().await;
    let path = path_of(3, 35);
    let sound = objects.get(&path).await.unwrap().bytes().await.unwrap();
    let spoiled = (0..sound.len()).map(|at| {
        let mut bytes = sound.to_vec();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cut = [0, 10, sound.len() - 1].map(|length| sound[..length].to_vec());
    for bytes in spoiled.chain(cut) {
        objects.put(&path, bytes.into()).await.unwrap();
        let found = ManifestStore::load_intact(Arc::clone(&objects), 3).await.unwrap();
        let Found::Whole(mended) = &found.2 else { panic!("{:?}", found.2) };
        assert!(matches!(&mended[..], [Error::Corrupt { what, .. }] if what.contains("35.json")));
        assert_eq!(found.1, states[40]);
    }
    let told = |found: Found| match found {
        Found::Whole(mended) => mended[0].to_string(),
        other => panic!("{other:?}"),
    };
    objects.copy(&path_of(3, 36), &path).await.unwrap();
    let found = ManifestStore::load_intact(Arc::clone(&objects), 3).await.unwrap().2;
    assert_eq!(
        told(found),
        "manifest manifest/0003/00000000000000000035.json is damaged: it says it is manifest 36 of partition 3"
    );
    objects.delete(&path).await.unwrap();
    let found = ManifestStore::load_intact(Arc::clone(&objects), 3).await.unwrap().2;
    assert_eq!(
        told(found),
        "manifest manifest/0003/00000000000000000035.json is damaged: it is missing, though later ones exist"
    );
    objects.put(&path, sound.into()).await.unwrap();
    objects.put(&Path::from("manifest/0003/notes.txt"), "x".into()).await.unwrap();
    let found = ManifestStore::load_intact(objects, 3).await.unwrap().2;
    assert!(matches!(&found, Found::Whole(mended) if mended.is_empty()), "{found:?}");
}

/// The stored form, to the byte: it may grow, what is there may not change.
#[test]
fn the_stored_form_stays() {
    let small = Edit { remove_blocks: vec!["7".to_owned()], next_object: 9, ..Edit::default() };
    let before = Some(Edit { next_object: 8, ..Edit::default() });
    let stored =
        Stored { partition: 3, number: 12, before, edit: Some(small), ..Stored::default() };
    let bytes = stored.encode().unwrap();
    assert_eq!(&bytes[..8], b"TAFFRMAN");
    let json = concat!(
        r#"{"partition":3,"number":12,"before":{"add_blocks":[],"remove_blocks":[],"next_object":8},"#,
        r#""edit":{"add_blocks":[],"remove_blocks":["7"],"next_object":9}}"#,
    );
    assert_eq!(bytes[8..12], [1, 0, 0, 0]);
    assert_eq!(bytes[12..16], (json.len() as u32).to_le_bytes());
    assert_eq!(bytes[16..24], [0; 8]);
    assert_eq!(std::str::from_utf8(&bytes[32..]), Ok(json));

    let state = PartitionState {
        number: 32,
        covered: Position(u64::MAX),
        blocks: vec![block("a")],
        ..PartitionState::default()
    };
    let stored = Stored { partition: 3, number: 32, checkpoint: Some(state), ..Stored::default() };
    let json = concat!(
        r#"{"partition":3,"number":32,"checkpoint":{"number":32,"covered":18446744073709551615,"covered_before":0,"#,
        r#""blocks":[{"name":"a","level":0,"range":[-5,9007199254740993],"positions":[1,18446744073709551615],"#,
        r#""series":2,"chunks":3,"samples":4,"histograms":5,"bytes":6,"created_ms":7,"index_checksum":4294967295}],"snapshots":[],"next_object":0}}"#,
    );
    let bytes = stored.encode().unwrap();
    assert_eq!(std::str::from_utf8(&bytes[32..]), Ok(json));
    assert_eq!(Stored::decode(&bytes, "x").unwrap(), stored);
}

/// An object with another header or text, its checksums right.
fn sealed(version: u32, features: u64, json: &str) -> Vec<u8> {
    let mut bytes = b"TAFFRMAN".to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&features.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(json.as_bytes()).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

#[test]
fn later_versions_are_refused_by_name_and_unknown_fields_passed_over() {
    let json = r#"{"partition":3,"number":1,"mood":"fine","edit":{"add_blocks":[],"remove_blocks":[],"next_object":1,"x":{}}}"#;
    let stored = Stored::decode(&sealed(1, 0, json), "x").unwrap();
    assert_eq!(stored.edit, Some(Edit { next_object: 1, ..Edit::default() }));
    for (version, features, name) in [(2, 0, "format version 2"), (1, 1 << 40, "feature bit 40")] {
        let refused =
            Stored::decode(&sealed(version, features, json), "x").unwrap_err().to_string();
        assert_eq!(refused, format!("manifest x needs {name}, which this version does not know"));
    }
    assert!(matches!(Stored::decode(&sealed(1, 0, "{}"), "x"), Err(Error::Corrupt { .. })));
}

/// Commits edits until one fails; gives how many were acknowledged and whether one more may be there.
fn run(disk: &FaultyDisk, count: u64) -> (u64, bool) {
    runtime().block_on(async {
        let Ok(objects) = LocalObjects::open(Arc::new(disk.clone()), DiskPath::new("objects"))
        else {
            return (0, false);
        };
        let Ok((mut store, _)) = ManifestStore::load(Arc::new(objects), 3).await else {
            return (0, false);
        };
        for number in 0..count {
            if store.commit(edit(number)).await.is_err() {
                // The same edit again: it is taken, or the store knows that it must not.
                return match store.commit(edit(number)).await {
                    Ok(_) => (number + 1, false),
                    Err(_) => (number, true),
                };
            }
        }
        (count, false)
    })
}

fn loaded(disk: &FaultyDisk) -> Result<u64, String> {
    let objects = LocalObjects::open(Arc::new(disk.clone()), DiskPath::new("objects"))
        .map_err(|e| e.to_string())?;
    let (_, state) =
        runtime().block_on(ManifestStore::load(Arc::new(objects), 3)).map_err(|e| e.to_string())?;
    Ok(state.number)
}

fn verdict(disk: &FaultyDisk, (acknowledged, one_more): (u64, bool)) -> Result<(), String> {
    let number = loaded(disk)?;
    if number == acknowledged || (one_more && number == acknowledged + 1) {
        return Ok(());
    }
    Err(format!("{acknowledged} acknowledged, {number} loaded"))
}

fn crash_everywhere(syncs_ignored: bool, count: u64) -> Vec<String> {
    let healthy = FaultyDisk::new();
    run(&healthy, count);
    let mut failures = Vec::new();
    for operation in 1..=healthy.operations() {
        for seed in 0..4 {
            let disk = FaultyDisk::new();
            disk.ignore_syncs(syncs_ignored);
            disk.crash_at(operation, seed);
            let promised = run(&disk, count);
            let result = verdict(&disk.after_crash(seed), promised);
            failures.extend(
                result
                    .err()
                    .map(|what| format!("{}, seed {seed}: {what}", healthy.describe(operation))),
            );
        }
    }
    failures
}

#[test]
fn a_power_cut_anywhere_keeps_every_committed_edit() {
    assert_eq!(crash_everywhere(false, 6), [""; 0]);
    assert!(!crash_everywhere(true, 6).is_empty(), "a disk that lies must be noticed");
}

#[test]
fn a_call_that_fails_anywhere_keeps_every_committed_edit() {
    let healthy = FaultyDisk::new();
    run(&healthy, 70);
    // All of the first commits, then samples: the same calls come again and again.
    for operation in (1..=healthy.operations()).filter(|n| *n < 30 || n % 9 == 0) {
        for (seed, fault) in [(0, Fault::Eio), (1, Fault::Enospc), (2, Fault::ShortWrite)] {
            let disk = FaultyDisk::new();
            disk.fail_at(operation, fault);
            let promised = run(&disk, 70);
            for (left, life) in
                [(disk.after_kill(), "killed"), (disk.after_crash(seed), "power cut")]
            {
                verdict(&left, promised)
                    .unwrap_or_else(|what| panic!("{life}, {}: {what}", disk.describe(operation)));
            }
        }
    }
}

proptest! {
    /// Whatever edits say, the state after loading is the state after committing.
    #[test]
    fn any_edits_load_as_committed(steps in prop::collection::vec((0_u8..4, 0_u8..8, any::<u32>()), 0..80)) {
        runtime().block_on(async {
            let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let (mut store, mut state) = ManifestStore::load(Arc::clone(&objects), 0).await.unwrap();
            for (adds, removes, number) in steps {
                let name = |n: u8| format!("{:06}-{n}", state.number);
                let edit = Edit {
                    add_blocks: (0..adds).map(|n| block(&name(n))).collect(),
                    remove_blocks: state.blocks.iter().take(usize::from(removes)).map(|b| b.name.clone()).collect(),
                    covered: number.is_multiple_of(2).then(|| Position(state.covered.0 + u64::from(number))),
                    snapshots: None,
                    next_object: u64::from(number),
                    add_tombstones: (0..adds)
                        .map(|n| tombstone(state.number * 8 + u64::from(n)))
                        .collect(),
                    remove_tombstones:
                        state.tombstones.iter().take(usize::from(removes)).map(|t| t.id).collect(),
                    add_segments: (0..adds).map(|n| segment(&name(n))).collect(),
                    remove_segments: state.segments.iter().take(usize::from(removes)).map(|s| s.name.clone()).collect(),
                    add_entry_tombstones: (0..adds)
                        .map(|n| entry_tombstone(state.number * 8 + u64::from(n)))
                        .collect(),
                    remove_entry_tombstones:
                        state.entry_tombstones.iter().take(usize::from(removes)).map(|t| t.id).collect(),
                };
                state = store.commit(edit).await.unwrap();
            }
            assert_eq!(ManifestStore::load(objects, 0).await.unwrap().1, state);
        });
    }
}
