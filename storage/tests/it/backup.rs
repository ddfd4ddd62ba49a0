//! Backup and restore: what is restored answers as what was backed up, whatever ran meanwhile; what is
//! damaged is named; what is not whole is not taken for whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{Disk, Matcher, OpenMode, TimeRange};
use storage::backup::{Place, Progress, Restore, backups, restore};
use storage::{Delete, Error, Extent, FarObjects, Storage};
use tenancy::{DeleteScope, Limits, ReadScope};
use testkit::{FaultyDisk, ManualClock, S3Server};

use crate::facts::text_of;
use crate::s3::far;
use crate::store::{Ground, NOW_MS, Row, config, read, write};

const MINUTE_MS: i64 = 60_000;

pub(crate) fn rows(minute: i64, series: std::ops::Range<u32>) -> Vec<Row> {
    let at = NOW_MS - 7_200_000 + minute * MINUTE_MS;
    series.map(|n| (n, at + i64::from(n % 3), f64::from(n) * 1.5 + minute as f64)).collect()
}

/// Blocks of two levels, a deletion, late rows, metadata-free tenants, rows that only the log has.
pub(crate) async fn lived(ground: &Ground, far: Option<FarObjects>) -> Arc<Storage> {
    let storage = ground.open_on(config(), far, 7).await.expect("a new store");
    for minute in 0..20 {
        for tenant in [1, 2] {
            write(&storage, tenant, &rows(minute, 0..15)).await.expect("a good write");
        }
        if minute % 4 == 3 {
            storage.flush_all().await.expect("a good flush");
        }
        if minute == 11 {
            storage.compact(Extent::Everything).await.expect("a good merge");
        }
    }
    write(&storage, 1, &rows(-30, 3..6)).await.expect("late rows");
    let range = TimeRange { start_ms: i64::MIN, end_ms: NOW_MS - 7_200_000 + 5 * MINUTE_MS };
    let delete = Delete { selectors: vec![vec![Matcher::equal("pod", "pod-4")]], range };
    storage
        .delete(&DeleteScope::for_test(2, "team-2", Limits::default()), delete)
        .await
        .expect("a good deletion");
    write(&storage, 2, &rows(21, 10..20)).await.expect("a good write");
    beside(&ground.disk, "tenants/directory.log", b"who is who");
    beside(&ground.disk, "audit/000000000001.jsonl", &[7; 3_000]);
    storage
}

/// A file of another crate in the data directory.
pub(crate) fn beside(disk: &FaultyDisk, path: &str, content: &[u8]) {
    let path = Path::new(path);
    disk.create_dir_all(path.parent().expect("a directory")).expect("a sound disk");
    let file = disk.open(path, OpenMode::CreateNew).expect("a new file");
    file.write_all_at(content, 0).and_then(|()| file.sync()).expect("a sound disk");
}

fn content(disk: &FaultyDisk, path: &str) -> Vec<u8> {
    let file = disk.open(Path::new(path), OpenMode::Read).expect("a file");
    let mut content = vec![0; file.bytes().expect("its length") as usize];
    file.read_exact_at(&mut content, 0).expect("its bytes");
    content
}

/// Everything two tenants have, listings included.
pub(crate) async fn answers(storage: &Storage) -> String {
    let both = ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]);
    let mut out = String::new();
    for matchers in
        [vec![], vec![Matcher::equal("zone", "b")], vec![Matcher::equal("pod", "pod-4")]]
    {
        for range in
            [TimeRange::ALL, TimeRange { start_ms: NOW_MS - 6_500_000, end_ms: NOW_MS - 6_000_000 }]
        {
            out +=
                &format!("{:?}\n", read(storage, &both, &matchers, range).await.expect("readable"));
            let series = storage.series(&both, std::slice::from_ref(&matchers), range).await;
            out += &format!("{:?}\n", series.expect("series"));
        }
    }
    out += &format!(
        "{:?}\n",
        storage.label_values(&both, "pod", &[], TimeRange::ALL).await.expect("values")
    );
    out
}

pub(crate) fn disk_of(disk: &FaultyDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub(crate) fn to(disk: &FaultyDisk) -> Place {
    Place::to_directory(disk_of(disk)).expect("a place for backups")
}

pub(crate) fn from(disk: &FaultyDisk) -> Place {
    Place::from_directory(disk_of(disk)).expect("a place with backups")
}

pub(crate) async fn take(
    ground: &Ground,
    storage: &Storage,
    place: &Place,
) -> Result<(u64, Progress), Error> {
    let progress = Progress::default();
    let info = storage.back_up(&disk_of(&ground.disk), place, "test", &progress).await?;
    let figures = progress.figures();
    assert_eq!((figures.objects, figures.bytes), (figures.objects_done, figures.bytes_done));
    assert_eq!((info.objects, info.bytes), (figures.objects, figures.bytes));
    Ok((info.created_ms, progress))
}

/// A restored store on a disk of its own.
pub(crate) async fn restored(
    place: &Place,
    backup: Option<u64>,
    far: Option<FarObjects>,
) -> Result<(Ground, Arc<Storage>), Error> {
    let ground = Ground { clock: Arc::new(ManualClock::new(NOW_MS)), ..Ground::default() };
    let progress = Progress::default();
    let to = Restore { disk: disk_of(&ground.disk), objects: far.clone(), config: config() };
    restore(place, backup, Some(&to), &progress).await?;
    let figures = progress.figures();
    assert_eq!((figures.objects, figures.bytes), (figures.objects_done, figures.bytes_done));
    let storage = ground.open_on(config(), far, 11).await?;
    assert_eq!((storage.incomplete(), storage.lost_blocks()), (vec![], vec![]));
    assert_eq!(storage.damage(), []);
    Ok((ground, storage))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restored_answers_as_before() {
    let server = S3Server::start();
    let local = || (None, None, None);
    let mut cases = vec![local()];
    if let Some(server) = &server {
        let far = |prefix: &str| Some(far(server, prefix));
        cases.push((far("store"), None, far("again")));
        cases.push((None, far("backups"), far("from-local")));
        cases.push((far("store-2"), far("backups-2"), None));
    }
    for (store, backups_at, again) in cases {
        let case = format!("{store:?} {backups_at:?} {again:?}");
        let (ground, shelf) = (Ground::default(), FaultyDisk::default());
        let storage = lived(&ground, store).await;
        let before = answers(&storage).await;
        let place = backups_at.as_ref().map_or_else(|| to(&shelf), Place::far);
        take(&ground, &storage, &place).await.expect(&case);
        assert_eq!(answers(&storage).await, before, "{case}: nothing happened to it");
        // What comes later is not in it.
        write(&storage, 1, &rows(30, 0..3)).await.expect("a good write");
        storage.close().await.expect("a good end");
        drop(place);
        let place = backups_at.as_ref().map_or_else(|| from(&shelf), Place::far);
        let (ground, storage) = restored(&place, None, again.clone()).await.expect(&case);
        assert_eq!(answers(&storage).await, before, "{case}");
        assert_eq!(content(&ground.disk, "tenants/directory.log"), b"who is who");
        assert_eq!(content(&ground.disk, "audit/000000000001.jsonl"), [7; 3_000]);
        // It lives on.
        write(&storage, 1, &rows(30, 0..3)).await.expect("a good write");
        storage.flush_all().await.expect("a good flush");
        write(&storage, 1, &rows(31, 0..3)).await.expect("a good write");
        let more = answers(&storage).await;
        assert_ne!(more, before);
        drop(storage);
        let ground = Ground { disk: ground.disk.after_kill(), ..ground.clone() };
        let storage = ground.open_on(config(), again, 11).await.expect("the same store");
        assert_eq!((storage.incomplete(), storage.read_only()), (vec![], vec![]));
        assert_eq!(answers(&storage).await, more, "{case}, after a restart");
        storage.compact(Extent::Everything).await.expect("a good merge");
        assert_eq!(answers(&storage).await, more, "{case}, merged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_backup_copies_what_is_new_and_leaves_the_earlier_one() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let storage = lived(&ground, None).await;
    let place = to(&shelf);
    let (first, _) = take(&ground, &storage, &place).await.expect("a backup");
    let then = answers(&storage).await;
    let (_, progress) = take(&ground, &storage, &place).await.expect("a backup");
    let figures = progress.figures();
    assert!(figures.objects_kept + 2 >= figures.objects, "only files beside it: {figures:?}");
    ground.clock.advance(Duration::from_secs(60));
    write(&storage, 1, &rows(40, 0..15)).await.expect("a good write");
    let (third, progress) = take(&ground, &storage, &place).await.expect("a backup");
    let figures = progress.figures();
    let kept = figures.objects_kept;
    assert!(kept > 10 && kept < figures.objects - 2, "{figures:?}");
    // All is merged, so that no object of the earlier ones is named any more.
    storage.compact(Extent::Everything).await.expect("a good merge");
    storage.remove_merged().await;
    let (fourth, _) = take(&ground, &storage, &place).await.expect("a backup");
    let now = answers(&storage).await;
    assert!(first < third && third < fourth);
    let listed = backups(&place).await.expect("backups");
    assert_eq!(listed.len(), 4);
    assert!(
        listed.iter().all(|(number, info)| info.as_ref().is_ok_and(|i| i.created_ms == *number))
    );
    drop(place);
    for (backup, expected) in [(Some(first), &then), (Some(third), &now), (None, &now)] {
        let (_, storage) = restored(&from(&shelf), backup, None).await.expect("a whole backup");
        assert_eq!(answers(&storage).await, *expected, "{backup:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_while_everything_goes_on() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let storage = lived(&ground, None).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (busy, ended) = (Arc::clone(&storage), Arc::clone(&stop));
    let busy = tokio::spawn(async move {
        let mut written = 0;
        while !ended.load(Ordering::Acquire) {
            written += 1;
            write(&busy, 1, &rows(40 + written / 60, 0..15)).await.expect("a good write");
            if written % 5 == 0 {
                busy.flush_all().await.expect("a good flush");
            }
            if written % 15 == 0 {
                busy.compact(Extent::Everything).await.expect("a good merge");
                busy.remove_merged().await;
            }
        }
    });
    let place = to(&shelf);
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    for round in 0..6u32 {
        // Acknowledged before the backup begins: in it, whatever is merged meanwhile.
        let marked = [(1_000 + round, NOW_MS, 1.0)];
        write(&storage, 1, &marked).await.expect("a good write");
        let (backup, _) = take(&ground, &storage, &place).await.expect("a backup");
        let (_, again) = restored(&place, Some(backup), None).await.expect("a whole backup");
        for earlier in 0..=round {
            let pod = Matcher::equal("pod", format!("pod-{}", 1_000 + earlier));
            let found = read(&again, &scope, &[pod], TimeRange::ALL).await.expect("readable");
            assert_eq!(found.len(), 1, "backup {round} has no row of round {earlier}");
        }
    }
    stop.store(true, Ordering::Release);
    busy.await.expect("no panic");
}

pub(crate) fn files_of(disk: &FaultyDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|file| file.starts_with("backup")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_named_and_nothing_half_is_opened() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let storage = lived(&ground, None).await;
    let place = to(&shelf);
    take(&ground, &storage, &place).await.expect("a backup");
    drop(place);
    restore(&from(&shelf), None, None, &Progress::default()).await.expect("whole");
    let files = files_of(&shelf);
    assert!(files.len() > 20, "{files:?}");
    for (i, file) in files.iter().enumerate() {
        let shelf = shelf.after_kill();
        match i % 3 {
            0 => shelf
                .tamper(file, |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 4;
                })
                .expect("a file"),
            1 => shelf.tamper(file, |bytes| bytes.truncate(bytes.len() - 1)).expect("a file"),
            _ => shelf.remove(file).expect("a file"),
        }
        let name =
            file.strip_prefix("backup").expect("it begins so").to_string_lossy().into_owned();
        let is_manifest = name.starts_with("backups/");
        let found = restore(&from(&shelf), None, None, &Progress::default()).await;
        let text = text_of(&found.map(drop).expect_err(&name));
        assert!(
            text.contains(&name) || (is_manifest && text.contains("no backup")),
            "{name}: {text}"
        );
        let ground = Ground::default();
        let to = Restore { disk: disk_of(&ground.disk), objects: None, config: config() };
        let failed = restore(&from(&shelf), None, Some(&to), &Progress::default()).await;
        failed.map(drop).expect_err(&name);
        if !is_manifest {
            let opened = ground.open().await.map(drop).expect_err("not whole");
            assert!(text_of(&opened).contains("did not end"), "{}", text_of(&opened));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_or_restore_is_none() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let storage = lived(&ground, None).await;
    let place = to(&shelf);
    take(&ground, &storage, &place).await.expect("a backup");
    write(&storage, 1, &rows(40, 0..15)).await.expect("a good write");
    let before = answers(&storage).await;
    let mut failed = 0;
    for n in (0..).step_by(7) {
        shelf.fail_from(shelf.operations() + 1 + n, testkit::Fault::Enospc);
        let taken = take(&ground, &storage, &place).await;
        shelf.heal();
        let number = backups(&place).await.expect("backups").len();
        if taken.is_ok() {
            assert_eq!(number, 2);
            break;
        }
        assert_eq!(number, 1, "no half backup after call {n}");
        failed += 1;
    }
    assert!(failed > 2, "{failed} backups failed");
    drop(place);
    let mut failed = 0;
    for n in (1..).step_by(23) {
        let ground = Ground::default();
        ground.disk.fail_from(n, testkit::Fault::Eio);
        let to = Restore { disk: disk_of(&ground.disk), objects: None, config: config() };
        let done = restore(&from(&shelf), None, Some(&to), &Progress::default()).await;
        let again = Ground { disk: ground.disk.after_kill(), ..ground.clone() };
        if done.is_ok() {
            assert_eq!(answers(&again.open().await.expect("restored")).await, before);
            break;
        }
        failed += 1;
        match again.open().await {
            // Nothing was written yet, so it is a new store, and an empty one; or all was, and only
            // the last word of it failed.
            Ok(storage) if storage.totals().blocks == 0 => {}
            Ok(storage) => assert_eq!(answers(&storage).await, before, "after call {n}"),
            Err(error) => assert!(text_of(&error).contains("did not end"), "{}", text_of(&error)),
        }
    }
    assert!(failed > 3, "{failed} restores failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_go_to_empty_places_only_and_stores_that_are_not_whole_are_not_backed_up() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let storage = lived(&ground, None).await;
    let place = to(&shelf);
    let nothing = restore(&place, None, None, &Progress::default()).await.map(drop);
    assert!(text_of(&nothing.expect_err("none")).contains("there is no backup"));
    take(&ground, &storage, &place).await.expect("a backup");
    assert!(Place::to_directory(disk_of(&shelf)).is_err(), "one writes at a time");
    let used = Restore { disk: disk_of(&ground.disk), objects: None, config: config() };
    let refused = restore(&place, None, Some(&used), &Progress::default()).await.map(drop);
    assert!(text_of(&refused.expect_err("it is in use")).contains("not empty"));
    let lost = PathBuf::from(format!("objects/{}/ts.parquet", storage.blocks()[0].1.name));
    drop(storage);
    ground.disk.remove(&lost).expect("a file");
    let storage = ground.open().await.expect("the rest is served");
    let refused = text_of(&take(&ground, &storage, &place).await.map(drop).expect_err("not whole"));
    assert!(refused.contains("not whole") && refused.contains("ts.parquet"), "{refused}");
}
