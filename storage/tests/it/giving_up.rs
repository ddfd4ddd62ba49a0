//! What cannot be read is given up: the partition is whole and takes writes again, everything else
//! is still there, and a copy and a record of what went are kept. What can be read is not given up.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use storage::{Carry, GivenUp, give_up, verify};

use crate::damage::write_everywhere;
use crate::facts::{Journal, Step, everything, samples, sound_life, text_of, tight};
use crate::store::{Ground, NOW_MS};

/// Four flushes with new series each, and rows that only the log has.
async fn lived() -> (Ground, Journal) {
    let ground = Ground::default();
    let mut journal = Journal::default();
    let storage = ground.open_with(tight()).await.expect("a sound disk");
    for round in 0..4u32 {
        let rows: Vec<_> = (round * 10..round * 10 + 10)
            .map(|n| (n, NOW_MS + i64::from(round) * 1_000, f64::from(n)))
            .collect();
        let steps = [Step::Write(samples(1, &rows)), Step::Flush];
        journal.live(&ground, &storage, &steps).await.expect("right answers");
    }
    let rows: Vec<_> = (0..10).map(|n| (n, NOW_MS + 9_000, 0.5)).collect();
    let steps = [Step::Write(samples(1, &rows))];
    journal.live(&ground, &storage, &steps).await.expect("right answers");
    (ground, journal)
}

fn files(ground: &Ground, dir: &str, end: &str) -> Vec<PathBuf> {
    let inside = |path: &PathBuf| path.starts_with(dir) && path.to_string_lossy().ends_with(end);
    ground.disk.files().into_iter().filter(inside).collect()
}

fn spoil(ground: &Ground, path: &PathBuf) {
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    };
    ground.disk.tamper(path, flip).expect("an existing file");
}

async fn asked(ground: &Ground, name: &str, carry: Carry) -> Result<Vec<GivenUp>, String> {
    let disk = Arc::new(ground.disk.clone());
    let given_up = give_up(disk, tight(), &[name.to_owned()], carry).await;
    given_up.map_err(|error| text_of(&error))
}

/// Gives it up and looks at what is left: facts of which `may_go` says so may be gone, at least one
/// is, and everything else is there.
async fn check(
    (ground, mut journal): (Ground, Journal),
    name: &str,
    may_go: impl Fn(&str) -> bool,
) -> GivenUp {
    let before: Vec<PathBuf> = ground.disk.files();
    let preview = asked(&ground, name, Carry::Preview).await.expect("it cannot be read");
    assert_eq!(ground.disk.files(), before, "{name}: a preview changes nothing");
    let done = asked(&ground, name, Carry::Out).await.expect("it cannot be read");
    assert_eq!(done, preview, "{name}");
    let records = files(&ground, "quarantine", ".json");
    assert_eq!(records.len(), 1, "{name}: a record of it");
    assert!(!files(&ground, "objects/quarantine", "").is_empty(), "{name}: a copy of it");

    let storage = ground.open_with(tight()).await.expect("whole again");
    let state = (storage.incomplete(), storage.read_only(), storage.lost_blocks());
    assert_eq!(state, (vec![], vec![], vec![]), "{name}");
    let found = everything(&storage).await.unwrap_or_else(|e| panic!("{name}: {}", text_of(&e)));
    assert!(found.is_subset(&journal.tried), "{name}: nothing that never was");
    let gone: BTreeSet<String> = journal.acknowledged.difference(&found).cloned().collect();
    assert!(!gone.is_empty() && gone.iter().all(|fact| may_go(fact)), "{name}: {gone:?}");
    assert_eq!(write_everywhere(&mut journal, &storage, 80).await, 8, "{name}");
    drop(storage);
    let verified = verify(Arc::new(ground.disk.after_kill()), None, &mut |_| {}).await;
    let verified = verified.expect("a directory");
    assert!(verified.is_sound(), "{name}: {:#?}", verified.findings);
    journal.acknowledged.retain(|fact| !gone.contains(fact));
    sound_life(&mut journal, &ground, 50).await.expect(name);
    done.into_iter().next().expect("one thing")
}

fn at(ms: i64) -> impl Fn(&str) -> bool {
    move |fact| fact.contains(&format!(" {} ", NOW_MS + ms))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_goes_with_its_rows_alone() {
    for object in ["index.bin", "chunks.parquet", "ts.parquet"] {
        let (ground, journal) = lived().await;
        let path = files(&ground, "objects/blocks/0001", object).remove(1);
        spoil(&ground, &path);
        let name = path.to_string_lossy().into_owned();
        let given_up = check((ground, journal), &name, at(1_000)).await;
        assert_eq!((given_up.kind, given_up.partition), ("block", 1));
        let block = &given_up.blocks[0];
        assert_eq!(block.range_ms, Some((NOW_MS + 1_000, NOW_MS + 1_000)));
        assert_eq!(block.tenants.is_some(), object != "index.bin", "{object}");
        assert!(block.samples.is_some_and(|samples| samples > 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_goes_with_rows_of_the_log_alone() {
    let (ground, journal) = lived().await;
    let path = files(&ground, "objects/snapshots/0001", "").remove(0);
    spoil(&ground, &path);
    let given_up = check((ground, journal), &path.to_string_lossy(), at(9_000)).await;
    assert_eq!((given_up.kind, given_up.blocks.len()), ("snapshot", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_go_with_what_only_they_named() {
    let (ground, journal) = lived().await;
    let paths = files(&ground, "objects/manifest/0001", "");
    spoil(&ground, &paths[2]);
    spoil(&ground, &paths[3]);
    let may_go = |fact: &str| [2_000, 3_000, 9_000].iter().any(|ms| at(*ms)(fact));
    let given_up = check((ground, journal), "manifest/0001", may_go).await;
    assert_eq!((given_up.kind, given_up.blocks.len()), ("manifest", 2), "{given_up:?}");
    assert!(given_up.blocks.iter().all(|b| b.samples.is_some_and(|n| n > 0)), "{given_up:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_is_not_given_up() {
    let (ground, mut journal) = lived().await;
    let block = files(&ground, "objects/blocks/0000", "index.bin").remove(0);
    let snapshot = files(&ground, "objects/snapshots/0000", "").remove(0);
    let manifests = files(&ground, "objects/manifest/0000", "");
    let nobody = PathBuf::from("blocks/0000/000000999999");
    spoil(&ground, &manifests[1]);
    for (name, reason) in [
        (&block, "can be read: there is nothing to give up"),
        (&snapshot, "can be read: there is nothing to give up"),
        // The one after it says the same.
        (&manifests[1], "is known: there is nothing to give up"),
        (&nobody, "no manifest names blocks/0000/000000999999"),
    ] {
        let refused = asked(&ground, &name.to_string_lossy(), Carry::Out).await.expect_err("sound");
        assert!(refused.contains(reason), "{refused}");
    }
    assert!(files(&ground, "quarantine", "").is_empty());
    sound_life(&mut journal, &ground, 50).await.expect("untouched");
}
