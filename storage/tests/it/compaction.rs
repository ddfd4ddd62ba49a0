//! Merging blocks: answers stay, whoever reads meanwhile; a merge that fails or is cut short by a
//! crash changes nothing and leaves nothing behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::model::{Clock, Matcher, Resolution, TimeRange};
use object_store::memory::InMemory;
use storage::manifest::BlockMeta;
use storage::{CompactionConfig, Config, DownsamplingConfig, Extent, FarObjects, Parts, Storage};
use tenancy::ReadScope;
use testkit::{Fault, FaultyDisk, FaultyObjects, ObjectFault, SeededRandom};
use tokio::runtime::Handle;

use crate::facts::{Journal, Request, everything, number_from_env, samples, text_of, tight};
use crate::store::{Ground, NOW_MS, read};

/// A day of seconds.
const DAY: u64 = 24 * 3600;

fn quick() -> Config {
    let compaction = CompactionConfig { fresh_blocks_max: 3, ..CompactionConfig::default() };
    Config { compaction, partitions: 1, ..tight() }
}

fn full(tenant: u32, ms: i64) -> Request {
    Request {
        histograms: vec![(20, ms)],
        exemplars: vec![(1, ms)],
        metadata: vec![format!("family_{tenant}_{ms}")],
        ..samples(tenant, &[0, 1, 2, 3, 5, 8].map(|n| (n, ms, ms as f64 / 7.0 + f64::from(n))))
    }
}

/// Three blocks in each partition, with rows of two windows and of the day before, the same rows
/// twice, and others at instants that are taken.
async fn three_blocks(storage: &Storage, journal: &mut Journal) -> Result<(), storage::Error> {
    for round in 0..3 {
        for tenant in [1, 2] {
            for step in 0..2 {
                let ms = NOW_MS - 40_000 + round * 20_000 + step * 10_000;
                journal.send(storage, &full(tenant, ms)).await?;
            }
            let late = NOW_MS - 86_400_000 + 1000 * i64::from(tenant);
            journal.send(storage, &samples(tenant, &[(3, late, 0.5), (9, late - 5, 1.5)])).await?;
        }
        storage.flush_all().await?;
    }
    Ok(())
}

/// What manifests say of the blocks of rows as they came.
fn rows(storage: &Storage) -> Vec<BlockMeta> {
    let all = storage.blocks().into_iter().map(|(_, b)| b);
    all.filter(|b| b.resolution == Resolution::Raw).collect()
}

fn levels(storage: &Storage) -> Vec<u8> {
    rows(storage).iter().map(|b| b.level).collect()
}

/// Prefixes that hold objects of blocks.
fn stored_blocks(disk: &FaultyDisk) -> BTreeSet<String> {
    let prefix = |path: std::path::PathBuf| {
        let text = path.to_string_lossy().into_owned();
        let inside = text.strip_prefix("objects/")?;
        inside
            .starts_with("blocks/")
            .then(|| inside.rsplit_once('/').map_or(inside, |(prefix, _)| prefix).to_owned())
    };
    disk.files().into_iter().filter_map(prefix).collect()
}

fn named_blocks(storage: &Storage) -> BTreeSet<String> {
    storage.blocks().into_iter().map(|(_, b)| b.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_become_windows_and_then_days() {
    let ground = Ground::default();
    let mut storage = ground.open_with(quick()).await.expect("a new store");
    let mut journal = Journal::default();
    let mut seen = BTreeSet::new();
    for hour in 0..30i64 {
        let now = ground.clock.now_ms();
        for minute in (0..60).step_by(20) {
            for tenant in [1, 2] {
                let request = full(tenant, now + minute * 60_000 - 3_600_000);
                journal.send(&storage, &request).await.expect("a good write");
            }
            storage.flush_all().await.expect("a good flush");
        }
        // Late by up to a day and a half.
        let late = now - (hour % 7) * 20_000_000 + 7;
        journal.send(&storage, &samples(1, &[(hour as u32, late, 1.0)])).await.expect("written");
        ground.clock.advance(Duration::from_secs(3600));
        storage.compact(Extent::Due).await.expect("merges");
        seen.extend(levels(&storage));
        journal.check_all(&storage).await.expect("all there");
        if hour % 9 == 8 {
            drop(storage);
            storage = ground.open_with(quick()).await.expect("the same store");
            journal.check_all(&storage).await.expect("all there");
        }
    }
    assert_eq!(seen, BTreeSet::from([1, 2]), "fresh ones never stay for long");
    let totals = storage.compaction();
    assert!(totals.merges[0] > 0 && totals.bytes_out > 0 && totals.failures == 0, "{totals:?}");
    ground.clock.advance(Duration::from_secs(3 * DAY));
    storage.flush_all().await.expect("a good flush");
    // What came late waits for a day before it costs a rewriting.
    for _ in 0..2 {
        storage.compact(Extent::Due).await.expect("merges");
        ground.clock.advance(Duration::from_secs(DAY));
    }
    let blocks = rows(&storage);
    assert!(blocks.iter().all(|b| b.level == 2), "{blocks:#?}");
    let days: BTreeSet<i64> =
        blocks.iter().map(|b| b.range.start_ms.div_euclid(86_400_000)).collect();
    assert_eq!(days.len(), blocks.len(), "one block for each day of a partition");
    journal.check_all(&storage).await.expect("all there");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_samples_at_one_instant_the_first_stays() {
    let ground = Ground::default();
    let storage = ground.open_with(quick()).await.expect("a new store");
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    let write = async |ms: i64, value: f64| {
        crate::store::write(&storage, 1, &[(1, ms, value)]).await.expect("written")
    };
    let answer = async |storage: &Storage| {
        let found = read(storage, &scope, &[Matcher::equal("pod", "pod-1")], TimeRange::ALL).await;
        found.expect("readable").remove(0).1
    };
    // Once merged with what came before, then late against a window, then against a day.
    for (round, value) in [1.0, 2.0, 3.0, 4.0, 5.0].into_iter().enumerate() {
        write(NOW_MS + round as i64, value).await;
        storage.flush_all().await.expect("flushed");
        write(NOW_MS, value).await;
        storage.flush_all().await.expect("flushed");
        let before = answer(&storage).await;
        assert_eq!(before[0], (NOW_MS, 1f64.to_bits()));
        match round {
            1 => ground.clock.advance(Duration::from_secs(3 * 3600)),
            3 => ground.clock.advance(Duration::from_secs(3 * DAY)),
            _ => {}
        }
        storage.compact(Extent::Due).await.expect("merged");
        assert_eq!(answer(&storage).await, before, "round {round}");
    }
    storage.compact(Extent::Everything).await.expect("merged");
    assert_eq!(levels(&storage), [2]);
    assert_eq!(answer(&storage).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_keeps_its_view_and_old_objects_go_after_the_grace() {
    let ground = Ground::default();
    // Making windows would be the last merge otherwise, and takes the place of nothing.
    let downsampling = DownsamplingConfig { enabled: false };
    let config = Config { downsampling, ..quick() };
    let storage = ground.open_with(config).await.expect("a new store");
    let mut journal = Journal::default();
    three_blocks(&storage, &mut journal).await.expect("written");
    let before = named_blocks(&storage);
    let view = crate::store::begin(&storage, 1).await;
    let expected = view.fetch(0..view.len()).await.expect("pages").decode().expect("samples");
    storage.compact(Extent::Everything).await.expect("merged");
    assert!(named_blocks(&storage).is_disjoint(&before));
    assert!(stored_blocks(&ground.disk).is_superset(&before), "not removed at once");
    let after = view.fetch(0..view.len()).await.expect("pages").decode().expect("samples");
    assert_eq!(format!("{after:?}"), format!("{expected:?}"));
    ground.clock.advance(Duration::from_secs(899));
    storage.compact(Extent::Due).await.expect("nothing to do");
    assert!(stored_blocks(&ground.disk).is_superset(&before));
    assert!(storage.compaction().removed_waiting > before.len() as u64, "windows as well");
    ground.clock.advance(Duration::from_secs(2));
    storage.compact(Extent::Due).await.expect("nothing to do");
    // The inputs of the last merge stay until there is a manifest after it: it may yet be lost.
    let kept = stored_blocks(&ground.disk).difference(&named_blocks(&storage)).count();
    assert!((1..=before.len() + 2).contains(&kept), "{kept}");
    journal.send(&storage, &samples(1, &[(40, NOW_MS, 1.0)])).await.expect("written");
    storage.flush_all().await.expect("the next manifest");
    storage.compact(Extent::Due).await.expect("nothing to do");
    assert_eq!(stored_blocks(&ground.disk), named_blocks(&storage));
    journal.check_all(&storage).await.expect("all there");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_tenants_get_blocks_of_their_own() {
    let ground = Ground::default();
    let compaction = CompactionConfig { split_bytes: 1500, ..CompactionConfig::default() };
    let config = Config { partitions: 1, compaction, ..tight() };
    let storage = ground.open_with(config).await.expect("a new store");
    let mut journal = Journal::default();
    for step in 0..40 {
        for tenant in [1, 2] {
            // Tenant 2 has a tenth of the series.
            let series = if tenant == 1 { 0..50 } else { 0..5 };
            let rows: Vec<_> =
                series.map(|n| (n, NOW_MS + step, f64::from(n) / 3.0 + step as f64)).collect();
            journal.send(&storage, &samples(tenant, &rows)).await.expect("written");
        }
        if step % 20 == 19 {
            storage.flush_all().await.expect("flushed");
        }
    }
    storage.compact(Extent::Everything).await.expect("merged");
    let mut series: Vec<u64> = rows(&storage).iter().map(|b| b.series).collect();
    series.sort_unstable();
    assert_eq!(series, [5, 50]);
    journal.check_all(&storage).await.expect("all there");
    storage.compact(Extent::Everything).await.expect("nothing to do");
    assert_eq!(storage.compaction().merges, [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_every_row_once_while_blocks_are_merged() {
    let ground = Ground::default();
    let storage = ground.open_with(quick()).await.expect("a new store");
    let mut journal = Journal::default();
    three_blocks(&storage, &mut journal).await.expect("written");
    let expected = Arc::new(everything(&storage).await.expect("readable"));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (storage, expected) = (Arc::clone(&storage), Arc::clone(&expected));
            // On a thread of its own: what it reads decodes there.
            tokio::task::spawn_blocking(move || {
                let mut reads = 0;
                while storage.compaction().merges[1] == 0 || reads < 20 {
                    let found = Handle::current().block_on(everything(&storage)).expect("readable");
                    let lost: Vec<_> = expected.difference(&found).collect();
                    assert!(lost.is_empty(), "{lost:?}");
                    reads += 1;
                }
            })
        })
        .collect();
    for round in 0..3 {
        let request = samples(1, &[(40, NOW_MS + round, 1.0)]);
        journal.send(&storage, &request).await.expect("written");
        storage.flush_all().await.expect("flushed");
        storage.compact(Extent::Everything).await.expect("merged");
    }
    for reader in readers {
        reader.await.expect("a reader");
    }
    journal.check_all(&storage).await.expect("all there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_in_which_any_call_fails_changes_nothing() {
    // Neighbours mean much the same; `TAFFRAIL_STEP=1` takes them all.
    let step = number_from_env("TAFFRAIL_STEP").unwrap_or(4) as usize;
    let (mut failed, faults) = (0, [Fault::Eio, Fault::ShortWrite, Fault::Enospc]);
    for later in (1..).step_by(step) {
        let ground = Ground::default();
        let storage = ground.open_with(quick()).await.expect("a sound disk");
        let mut journal = Journal::default();
        three_blocks(&storage, &mut journal).await.expect("written");
        let n = ground.disk.operations() + later;
        ground.disk.fail_at(n, faults[later as usize % 3]);
        let merged = storage.compact(Extent::Everything).await;
        if ground.disk.operations() < n {
            break;
        }
        ground.disk.heal();
        journal.check_all(&storage).await.expect("readable, merged or not");
        if merged.is_err() {
            failed += 1;
            if storage.read_only().is_empty() {
                // What was removed while the disk failed may be left until the next start.
                storage.remove_merged().await;
                storage.compact(Extent::Everything).await.expect("the second try");
                assert!(levels(&storage).iter().all(|level| *level == 2));
            }
        }
        drop(storage);
        let storage = ground.open_with(quick()).await.expect("the same store");
        journal.check_all(&storage).await.expect("readable after a restart");
        storage.remove_merged().await;
        assert_eq!(stored_blocks(&ground.disk), named_blocks(&storage), "leftovers are swept");
        storage.compact(Extent::Everything).await.expect("merged now");
        journal.check_all(&storage).await.expect("all there");
    }
    assert!(failed > 20, "{failed} merges failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_call_of_a_merge_leaves_only_what_is_swept() {
    // Neighbours mean much the same; `TAFFRAIL_STEP=1` takes them all.
    let step = number_from_env("TAFFRAIL_STEP").unwrap_or(11) as usize;
    for later in (1..).step_by(step) {
        let ground = Ground::default();
        let storage = ground.open_with(quick()).await.expect("a sound disk");
        let mut journal = Journal::default();
        three_blocks(&storage, &mut journal).await.expect("written");
        ground.disk.crash_at(ground.disk.operations() + later, later);
        drop(storage.compact(Extent::Everything).await);
        if !ground.disk.has_crashed() {
            break;
        }
        drop(storage);
        let after =
            Ground { disk: ground.disk.after_crash(later), clock: Arc::clone(&ground.clock) };
        let storage = after.open_with(quick()).await.unwrap_or_else(|e| panic!("{}", text_of(&e)));
        journal.check_all(&storage).await.expect("all there");
        storage.remove_merged().await;
        assert_eq!(stored_blocks(&after.disk), named_blocks(&storage), "leftovers are swept");
        storage.compact(Extent::Everything).await.expect("merged now");
        journal.check_all(&storage).await.expect("all there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_request_to_an_object_store_may_fail_or_lose_its_answer() {
    let mut failed = 0;
    for later in 1.. {
        let fault = [ObjectFault::Refused, ObjectFault::AnswerLost][later as usize % 2];
        let (ground, inner) = (Ground::default(), Arc::new(InMemory::new()));
        let objects = FaultyObjects::new(inner);
        let open = async |ground: &Ground| {
            let parts = Parts {
                disk: Arc::new(ground.disk.clone()),
                objects: Some(FarObjects::new(Arc::new(objects.clone()))),
                clock: Arc::clone(&ground.clock) as Arc<dyn Clock>,
                random: Arc::new(SeededRandom::new(7)),
            };
            Storage::open(quick(), parts).await
        };
        let storage = open(&ground).await.expect("a new store");
        let mut journal = Journal::default();
        three_blocks(&storage, &mut journal).await.expect("written");
        let n = objects.requests() + later;
        objects.fail_at(n, fault);
        let merged = storage.compact(Extent::Everything).await;
        if objects.requests() < n {
            break;
        }
        objects.heal();
        failed += u32::from(merged.is_err());
        journal.check_all(&storage).await.expect("readable, merged or not");
        drop(storage);
        let storage = open(&ground).await.expect("the same store");
        journal.check_all(&storage).await.expect("readable after a restart");
        storage.compact(Extent::Everything).await.expect("merged now");
        journal.check_all(&storage).await.expect("all there");
    }
    assert!(failed > 10, "{failed} merges failed");
}
