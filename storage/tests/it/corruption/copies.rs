//! Copies that rot: backups, and what the local disk keeps of objects on S3.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::memory::InMemory;
use storage::backup::{Place, Progress, Restore, restore};
use storage::{Extent, FarObjects, Storage};
use testkit::{FaultyDisk, ManualClock, SeededRandom};

use super::{DAY_SECONDS, MUTATIONS, Mutation, config, everything, mutate, scrape};
use crate::backup::beside;
use crate::facts::{Journal, Step, number_from_env, text_of};
use crate::store::{Ground, NOW_MS};

/// Mutations of each kind of copy, unless told otherwise.
const CASES: u64 = 150;

/// Cases from the environment: the first seed and how many.
fn cases() -> std::ops::Range<u64> {
    let first = number_from_env("TAFFRAIL_SEED").unwrap_or(1);
    let count = number_from_env("TAFFRAIL_CASES").map_or(CASES, |cases| cases.div_ceil(10));
    first..first.saturating_add(count)
}

/// Some rows of a day that is over and some of the next one, in blocks, windows and the log.
async fn lived(ground: &Ground, far: Option<FarObjects>) -> Arc<Storage> {
    let storage = ground.open_on(config(), far, 7).await.expect("a sound disk");
    let mut journal = Journal::default();
    for day in 0..2 {
        for round in 0..3 {
            let at = day * DAY_SECONDS + round * 30;
            let steps = [scrape(1, at), scrape(2, at), Step::Flush];
            journal.live(ground, &storage, &steps).await.expect("right answers");
        }
        if day == 0 {
            ground.clock.advance(std::time::Duration::from_secs(DAY_SECONDS as u64));
            storage.compact(Extent::Due).await.expect("merged");
        }
    }
    storage
}

/// Picks a file of some kind and does something to it; gives what.
fn spoil(
    disk: &FaultyDisk,
    random: &SeededRandom,
    files: &BTreeMap<&'static str, Vec<PathBuf>>,
) -> Option<(&'static str, Mutation, Vec<PathBuf>)> {
    let pick = |n: usize| random.below(n as u64) as usize;
    let kinds: Vec<&'static str> = files.keys().copied().collect();
    let kind = kinds[pick(kinds.len())];
    let of_kind = &files[kind];
    let (path, other) = (&of_kind[pick(of_kind.len())], &of_kind[pick(of_kind.len())]);
    let mutation = MUTATIONS[pick(MUTATIONS.len())];
    let touched = mutate(disk, random, mutation, path, other);
    (!touched.is_empty()).then_some((kind, mutation, touched))
}

fn by_kind(
    disk: &FaultyDisk,
    kinds: &[(&str, &'static str)],
) -> BTreeMap<&'static str, Vec<PathBuf>> {
    let mut files: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    for path in disk.files() {
        let text = path.to_string_lossy().into_owned();
        if let Some((_, kind)) = kinds.iter().find(|(start, _)| text.starts_with(start)) {
            files.entry(kind).or_default().push(path);
        }
    }
    assert_eq!(files.len(), kinds.len(), "a file of every kind: {:?}", files.keys());
    files
}

/// A backup is restored as it was taken, or its damage is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_named_or_restored_right() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let storage = lived(&ground, None).await;
    beside(&ground.disk, "tenants/directory.log", b"who is who");
    let sound = everything(&storage).await.expect("readable");
    let data_dir: Arc<dyn ::model::Disk> = Arc::new(ground.disk.clone());
    for _ in 0..2 {
        let place = Place::to_directory(Arc::new(shelf.clone())).expect("a place");
        let taken = storage.back_up(&data_dir, &place, "test", &Progress::default()).await;
        taken.expect("a backup");
        ground.clock.advance(std::time::Duration::from_secs(1));
    }
    let kinds = [
        ("backup/backups/", "manifest of a backup"),
        ("backup/blocks/", "block in a backup"),
        ("backup/snapshots/", "snapshot in a backup"),
        ("backup/files/", "file in a backup"),
    ];
    let files = by_kind(&shelf, &kinds);
    let mut seen: BTreeMap<(&'static str, Mutation, bool), u64> = BTreeMap::new();
    for seed in cases() {
        let random = SeededRandom::new(seed);
        let shelf = shelf.after_kill();
        let Some((kind, mutation, touched)) = spoil(&shelf, &random, &files) else { continue };
        let case = format!("seed {seed}: {mutation:?} of {touched:?}");
        let place = Place::from_directory(Arc::new(shelf.clone())).expect("a place");
        let clock = Arc::new(ManualClock::new(NOW_MS + DAY_SECONDS * 1000));
        let again = Ground { disk: FaultyDisk::default(), clock };
        let disk: Arc<dyn ::model::Disk> = Arc::new(again.disk.clone());
        let to = Restore { disk, objects: None, config: config() };
        let restored = restore(&place, None, Some(&to), &Progress::default()).await;
        if let Err(error) = &restored {
            let text = text_of(error);
            let is_named = |path: &PathBuf| {
                let name = path.strip_prefix("backup").unwrap_or(path).to_string_lossy();
                text.contains(name.as_ref())
            };
            assert!(touched.iter().any(is_named), "{case}: {text}");
        } else {
            let storage = again.open_with(config()).await.expect(&case);
            assert_eq!(everything(&storage).await.expect(&case), sound, "{case}");
        }
        *seen.entry((kind, mutation, restored.is_ok())).or_default() += 1;
    }
    report("backups", &seen);
}

/// The cache is never believed: what is wrong in it is read again from where it belongs.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_costs_only_requests() {
    let (ground, objects) = (Ground::default(), Arc::new(InMemory::new()));
    let far =
        |objects: Arc<InMemory>| FarObjects { cache_bytes: 64 << 20, ..FarObjects::new(objects) };
    let storage = lived(&ground, Some(far(Arc::clone(&objects)))).await;
    let sound = everything(&storage).await.expect("readable");
    storage.close().await.expect("a good end");
    let files = by_kind(&ground.disk, &[("cache/", "cache of S3")]);
    let mut seen: BTreeMap<(&'static str, Mutation, bool), u64> = BTreeMap::new();
    for seed in cases() {
        let random = SeededRandom::new(seed);
        let clock = Arc::new(ManualClock::new(NOW_MS + DAY_SECONDS * 1000));
        let again = Ground { disk: ground.disk.after_kill(), clock };
        let Some((kind, mutation, touched)) = spoil(&again.disk, &random, &files) else { continue };
        let case = format!("seed {seed}: {mutation:?} of {touched:?}");
        let storage =
            again.open_on(config(), Some(far(Arc::new(objects.fork()))), 7).await.expect(&case);
        assert_eq!(storage.lost_blocks(), vec![], "{case}");
        assert_eq!(everything(&storage).await.expect(&case), sound, "{case}");
        *seen.entry((kind, mutation, true)).or_default() += 1;
    }
    report("the cache", &seen);
}

/// Says what was done if somebody asked for it; of few cases only that there were some.
#[expect(clippy::print_stdout, reason = "figures somebody asked for")]
fn report(what: &str, seen: &BTreeMap<(&'static str, Mutation, bool), u64>) {
    let total: u64 = seen.values().sum();
    assert!(total > 0);
    if number_from_env("TAFFRAIL_CASES").is_some() {
        println!("{total} mutations of {what}, harmless or not: {seen:#?}");
    }
}
