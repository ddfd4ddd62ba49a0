//! Restarts, crashes and damage: what was acknowledged is there.

use ::model::{Disk, Signal};
use storage::entries::SelectEntries;

use super::{Line, NOW_NS, everything, line, reopened, scope, select, texts, write};
use crate::store::{Ground, NOW_MS, config};

fn lines(from: i64, count: i64) -> Vec<Line> {
    (from..from + count)
        .map(|i| line(&format!("app-{}", i % 5), NOW_NS + i, &format!("line {i}")))
        .collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let ground = Ground::default();
    let mut storage = ground.open().await.expect("a new store");
    for round in 0..4 {
        write(&storage, 1, &lines(round * 50, 50)).await;
        let before = select(&storage, &scope(1), &everything()).await;
        assert_eq!(before.len() as i64, 50 * (round + 1));
        storage = reopened(&ground, storage).await;
        assert_eq!(select(&storage, &scope(1), &everything()).await, before);
        assert!(storage.incomplete().is_empty());
    }
}

#[tokio::test]
async fn power_loss_takes_nothing_that_was_acknowledged() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    write(&storage, 1, &lines(0, 100)).await;
    drop(storage);
    let ground = Ground { disk: ground.disk.after_crash(3), clock: ground.clock };
    let storage = ground.open().await.expect("it opens again");
    assert_eq!(select(&storage, &scope(1), &everything()).await.len(), 100);
    write(&storage, 1, &lines(100, 10)).await;
    assert_eq!(select(&storage, &scope(1), &everything()).await.len(), 110);
}

#[tokio::test]
async fn metrics_that_are_flushed_leave_the_log_of_entries_alone() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    write(&storage, 1, &lines(0, 20)).await;
    for round in 0..40 {
        let rows: Vec<_> = (0..200).map(|s| (s, NOW_MS + round * 1_000, round as f64)).collect();
        crate::store::write(&storage, 1, &rows).await.expect("writes are taken");
        storage.flush_all().await.expect("a sound disk");
    }
    let storage = reopened(&ground, storage).await;
    assert_eq!(select(&storage, &scope(1), &everything()).await.len(), 20);
}

#[tokio::test]
async fn directories_from_before_there_were_entries_take_them() {
    // As such a directory has it: an older map, no manifest of entries, and a log that begins late.
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    for round in 0..40 {
        let rows: Vec<_> = (0..200).map(|s| (s, NOW_MS + round * 1_000, round as f64)).collect();
        crate::store::write(&storage, 1, &rows).await.expect("writes are taken");
    }
    storage.close().await.expect("a sound disk");
    let old = br#"{ "version": 2, "required_features": 0, "epochs": [ { "from_ms": -9223372036854775808, "partitions": 3, "whole_histograms": true } ], "checksum": CRC }"#;
    let mut sum = 2u32.to_le_bytes().to_vec();
    sum.extend_from_slice(&0u64.to_le_bytes());
    sum.extend_from_slice(&i64::MIN.to_le_bytes());
    sum.extend_from_slice(&3u16.to_le_bytes());
    sum.push(1);
    let crc = crc32c::crc32c(&sum).to_string();
    let old = String::from_utf8_lossy(old).replace("CRC", &crc);
    let tampered = ground.disk.tamper("objects/partitions.json", |file| *file = old.into_bytes());
    tampered.expect("the map is there");
    for file in ground.disk.files() {
        if file.to_string_lossy().starts_with("objects/manifest/16") {
            ground.disk.remove(&file).expect("it is there");
        }
    }
    let mut storage = ground.open_with(config()).await.expect("an old directory");
    assert!(storage.incomplete().is_empty() && storage.damage().is_empty());
    for round in 0..3 {
        write(&storage, 1, &lines(round * 10, 10)).await;
        storage.flush_all().await.expect("a sound disk");
        storage = reopened(&ground, storage).await;
        assert!(storage.incomplete().is_empty() && storage.damage().is_empty());
        let logs = SelectEntries { signals: vec![Signal::Logs], ..everything() };
        assert_eq!(texts(&storage, &scope(1), &logs).await.len() as i64, 10 * (round + 1));
    }
}
