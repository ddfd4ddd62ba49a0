//! A disk that fills up: writes are refused, nothing acknowledged is lost, reads go on, and once
//! there is room it goes on by itself. A hundred times over.

use std::time::Duration;

use storage::{Config, Storage};

use crate::facts::{Journal, samples, sound_life, text_of, tight};
use crate::store::{Ground, NOW_MS};

/// Times the disk fills up and is freed.
const CYCLES: i64 = 100;

/// How one cycle went.
#[derive(Debug, Default)]
struct Seen {
    refused: u64,
    failed_flushes: u64,
    waited_for_room: u64,
    taken: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_is_gone_on_with() {
    let ground = Ground::default();
    let mut journal = Journal::default();
    let mut seen = Seen::default();
    let storage = ground.open_with(tight()).await.expect("a sound disk");
    for cycle in 0..CYCLES {
        // Sometimes in the middle of a segment, sometimes when the next one is to be made.
        ground.disk.set_free_bytes((cycle as u64 * 7_919) % 9_000);
        for n in 0..16 {
            let at = NOW_MS + cycle * 100 + n;
            let rows: Vec<_> = (0..5).map(|s| (s, at, f64::from(s) + at as f64)).collect();
            match journal.send(&storage, &samples(1, &rows)).await {
                Ok(()) => seen.taken += 1,
                Err(_) => seen.refused += 1,
            }
            if n % 5 == 3 {
                seen.failed_flushes += u64::from(storage.flush_all().await.is_err());
            }
        }
        journal.check_all(&storage).await.expect("reads go on");
        // A kill at this point loses nothing that was acknowledged.
        if cycle % 10 == 0 {
            let killed = Ground { disk: ground.disk.after_kill(), ..ground.clone() };
            killed.disk.set_free_bytes(1 << 40);
            let again = killed.open_with(tight()).await.expect("it starts again");
            journal.check_all(&again).await.expect("all there");
        }
        ground.disk.set_free_bytes(1 << 40);
        seen.waited_for_room += u64::from(storage.ready().is_err());
        until_ready(&storage).await;
        let row = [(1, NOW_MS + cycle * 100 + 99, 0.25)];
        let sent = journal.send(&storage, &samples(1, &row)).await;
        sent.unwrap_or_else(|e| panic!("cycle {cycle}: {}", text_of(&e)));
        for _ in 0..2 {
            storage.flush_all().await.expect("there is room");
        }
        journal.check_all(&storage).await.expect("all there");
    }
    assert_eq!(storage.read_only(), vec![]);
    drop(storage);
    assert!(seen.refused > 100 && seen.failed_flushes > 10 && seen.taken > 100, "{seen:?}");
    assert!(seen.waited_for_room > 20, "{seen:?}");
    sound_life(&mut journal, &ground, 50).await.expect("all there");
}

/// It goes on by itself once there is room; looked at now rather than within the next second.
async fn until_ready(storage: &Storage) {
    for _ in 0..2_000 {
        storage.look_at_disk();
        if storage.ready().is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{}", text_of(&storage.ready().expect_err("not ready")));
}

/// The reserve keeps the log from ever meeting a full disk: writes are refused before, and taken
/// again without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_writes_wait_and_resume_by_themselves() {
    let config = Config { disk_reserve_bytes: 1 << 20, ..tight() };
    let ground = Ground::default();
    let mut journal = Journal::default();
    let storage = ground.open_with(config).await.expect("a sound disk");
    let mut refused = 0;
    for cycle in 0..CYCLES {
        let row = |n: i64| samples(1, &[(1, NOW_MS + cycle * 10 + n, n as f64)]);
        ground.disk.set_free_bytes((1 << 20) - 1);
        storage.look_at_disk();
        let error = journal.send(&storage, &row(0)).await.expect_err("no room");
        let text = text_of(&error);
        assert!(text.contains("does not accept writes"), "{text}");
        refused += 1;
        // What was taken before can be flushed: that is what the reserve is for.
        storage.flush_all().await.expect("the reserve is there");
        journal.check_all(&storage).await.expect("reads go on");
        ground.disk.set_free_bytes(1 << 40);
        storage.look_at_disk();
        journal.send(&storage, &row(1)).await.expect("room again");
    }
    assert_eq!((refused, storage.read_only()), (CYCLES, vec![]));
    journal.check_all(&storage).await.expect("all there");
    drop(storage);
    sound_life(&mut journal, &ground, 50).await.expect("all there");
}
