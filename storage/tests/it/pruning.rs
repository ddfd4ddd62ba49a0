//! Pruning backups: those that stay are whole, whatever they share with those that go, and whatever
//! pruning is interrupted at.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Clock;
use storage::backup::{Keep, Place, Progress, Pruned, backups, prune, restore};
use storage::{Carry, Error, Extent};
use testkit::{Fault, FaultyDisk, S3Server};

use crate::backup::{answers, files_of, from, lived, restored, rows, take, to};
use crate::facts::text_of;
use crate::s3::far;
use crate::store::{Ground, write};

/// Between two backups.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Backups of four days with what the store answered then; objects of some are in others.
async fn four_days(ground: &Ground, place: &Place) -> BTreeMap<u64, String> {
    let storage = lived(ground, None).await;
    let mut all = BTreeMap::new();
    for day in 0..4 {
        let (backup, _) = take(ground, &storage, place).await.expect("a backup");
        all.insert(backup, answers(&storage).await);
        ground.clock.advance(DAY);
        write(&storage, 1, &rows(40 + day, 0..15)).await.expect("a good write");
        if day == 1 {
            // Blocks of the first two are in no later one.
            storage.compact(Extent::Everything).await.expect("a good merge");
            storage.remove_merged().await;
        }
    }
    all
}

fn now_ms(ground: &Ground) -> u64 {
    u64::try_from(ground.clock.now_ms()).expect("after the epoch")
}

fn newest(count: u64) -> Keep {
    Keep { newest: Some(count), age: None }
}

/// The backups there are restore to what was answered when they were taken.
async fn check_whole(place: &Place, all: &BTreeMap<u64, String>) -> Vec<u64> {
    let listed = backups(place).await.expect("backups");
    for (backup, info) in &listed {
        info.as_ref().expect("a sound manifest");
        let (_, storage) = restored(place, Some(*backup), None).await.expect("a whole backup");
        assert_eq!(answers(&storage).await, all[backup], "{backup}");
    }
    listed.into_iter().map(|(backup, _)| backup).collect()
}

async fn pruned(place: &Place, keep: Keep, now_ms: u64) -> Pruned {
    let planned = prune(place, keep, now_ms, Carry::Preview).await.expect("a plan");
    let before = backups(place).await.expect("backups").len();
    assert_eq!(before, planned.going.len() + planned.kept.len(), "nothing was changed");
    let done = prune(place, keep, now_ms, Carry::Out).await.expect("pruned");
    assert_eq!(done, planned, "what was announced was done");
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_is_whole_and_the_rest_is_gone() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let place = to(&shelf);
    let all = four_days(&ground, &place).await;
    let numbers: Vec<u64> = all.keys().copied().collect();
    let now_ms = now_ms(&ground);
    let nothing = pruned(&place, newest(4), now_ms).await;
    assert_eq!((nothing.going, nothing.objects), (vec![], 0));
    let files = files_of(&shelf).len() as u64;
    let first = pruned(&place, newest(3), now_ms).await;
    assert_eq!((&first.going[..], &first.kept[..]), (&numbers[..1], &numbers[1..]));
    assert_eq!(files_of(&shelf).len() as u64, files - first.objects - 1);
    assert_eq!(check_whole(&place, &all).await, numbers[1..]);
    // By age: the second is three days old, the last one of today.
    let aged = |days: u64| Keep { newest: None, age: Some(Duration::from_secs(days * 24 * 3600)) };
    assert!(pruned(&place, aged(3), now_ms).await.going.is_empty());
    let second = pruned(&place, aged(2), now_ms).await;
    assert_eq!(second.going, numbers[1..2]);
    assert!(second.objects > 10, "merged blocks: {second:?}");
    let last = pruned(&place, aged(0), now_ms + 1).await;
    assert_eq!((last.going, last.kept), (numbers[2..3].to_vec(), numbers[3..].to_vec()));
    assert_eq!(check_whole(&place, &all).await, numbers[3..]);
    // What it names is all that is left.
    let named = backups(&place).await.expect("backups")[0].1.as_ref().expect("sound").objects;
    assert_eq!(files_of(&shelf).len() as u64, named + 1);
    drop(place);
    // The directory is one writer's, or one that prunes.
    let held = to(&shelf);
    assert!(Place::to_directory(std::sync::Arc::new(shelf.clone())).is_err());
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_anywhere_it_leaves_whole_backups_and_is_gone_on_with() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let place = to(&shelf);
    let all = four_days(&ground, &place).await;
    drop(place);
    let mut interrupted = 0;
    for n in (0..).step_by(3) {
        let shelf = shelf.after_kill();
        let place = to(&shelf);
        shelf.fail_from(shelf.operations() + 1 + n, Fault::Eio);
        let done = prune(&place, newest(1), now_ms(&ground), Carry::Out).await;
        shelf.heal();
        drop(place);
        for shelf in [shelf.after_kill(), shelf.after_crash(n)] {
            let place = to(&shelf);
            for (backup, info) in backups(&place).await.expect("backups") {
                info.expect("a sound manifest");
                let read = restore(&place, Some(backup), None, &Progress::default()).await;
                read.unwrap_or_else(|e| panic!("call {n}, {backup}: {}", text_of(&e)));
            }
            let again = prune(&place, newest(1), now_ms(&ground), Carry::Out).await;
            again.expect("gone on with");
            let listed = backups(&place).await.expect("backups");
            let [(_, Ok(info))] = listed.as_slice() else { panic!("one: {listed:?}") };
            assert_eq!(files_of(&shelf).len() as u64, info.objects + 1, "call {n}");
        }
        if done.is_ok() {
            let place = from(&shelf);
            assert_eq!(check_whole(&place, &all).await.len(), 1);
            break;
        }
        interrupted += 1;
    }
    assert!(interrupted > 10, "{interrupted} were interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_manifest_that_cannot_be_read_nothing_goes() {
    let (ground, shelf) = (Ground::default(), FaultyDisk::default());
    let all = four_days(&ground, &to(&shelf)).await;
    let manifest = |shelf: &FaultyDisk, at: usize| {
        let manifests = files_of(shelf).into_iter().filter(|p| p.starts_with("backup/backups"));
        manifests.collect::<Vec<_>>()[at].clone()
    };
    // One that stays: nobody knows what it needs.
    let spoiled = shelf.after_kill();
    let path = manifest(&spoiled, 3);
    spoiled.tamper(&path, |bytes| bytes[100] ^= 1).expect("a file");
    let files = files_of(&spoiled);
    let error: Error = prune(&to(&spoiled), newest(2), now_ms(&ground), Carry::Out)
        .await
        .expect_err("unknown needs");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(text_of(&error).contains(&name), "{}", text_of(&error));
    assert_eq!(files_of(&spoiled), files);
    // One that goes does no harm, and what it named goes, too.
    let spoiled = shelf.after_kill();
    spoiled.tamper(manifest(&spoiled, 0), |bytes| bytes[100] ^= 1).expect("a file");
    let place = to(&spoiled);
    pruned(&place, newest(1), now_ms(&ground)).await;
    let listed = check_whole(&place, &all).await;
    assert_eq!(listed.len(), 1);
    let named = backups(&place).await.expect("backups")[0].1.as_ref().expect("sound").objects;
    assert_eq!(files_of(&spoiled).len() as u64, named + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_s3_what_may_be_of_a_backup_under_way_is_spared_for_a_week() {
    let Some(server) = S3Server::start() else { return };
    let (ground, objects) = (Ground::default(), far(&server, "pruned"));
    let place = Place::far(&objects);
    let all = four_days(&ground, &place).await;
    let leftover = object_store::path::Path::from("blocks/0000/000000000001-0badcafe/index.bin");
    object_store::ObjectStoreExt::put(&objects.objects, &leftover, "left over".into())
        .await
        .expect("an object");
    // The service goes by its own clock: this is now, in its time.
    let now_ms = u64::try_from(model::SystemClock::default().now_ms()).expect("after the epoch");
    let done = pruned(&place, newest(2), now_ms).await;
    assert!(done.going.len() == 2 && done.objects > 10, "{done:?}");
    assert_eq!(check_whole(&place, &all).await.len(), 2);
    assert_eq!(pruned(&place, newest(2), now_ms).await.objects, 0);
    let week = 8 * DAY.as_millis() as u64;
    assert_eq!(pruned(&place, newest(2), now_ms + week).await.objects, 1, "the left-over one");
    assert_eq!(check_whole(&place, &all).await.len(), 2);
}
