//! Two senders that write the same: one of them counts, until it falls silent.

use std::sync::Arc;
use std::time::Duration;

use ingest::remote_write::RemoteWrite;
use ingest::{Appender, Config, Intake, Metrics};
use model::{Clock, SystemClock};
use storage::Storage;
use testkit::{FaultyDisk, ManualClock, labels, remote_write as write};

use super::{open, select, send};

/// What a sender writes at a time: its number, as every scrape of the same target differs a little.
fn body(replica: &str, timestamp_ms: i64, value: f64) -> Vec<u8> {
    let series = labels! { __name__ = "up", __replica__ = replica, cluster = "c", job = "x" };
    let samples = [(timestamp_ms, value)];
    write::samples_body([(&series, &samples[..])])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_senders_is_stored_and_the_other_takes_over() {
    let storage = open(&FaultyDisk::new()).await;
    let clock = Arc::new(ManualClock::new(0));
    let metrics = Arc::new(Metrics::default());
    let intake = Intake::new(
        Arc::<Storage>::clone(&storage) as Arc<dyn Appender>,
        Arc::default(),
        Arc::clone(&metrics),
        Arc::clone(&clock) as Arc<dyn Clock>,
        &Config::default(),
    );
    let receiver = Arc::new(RemoteWrite::new(Arc::new(intake)));
    let start_ms = SystemClock::default().now_ms() - 600_000;
    let (mut expected, mut second) = (Vec::new(), 0);
    for round in 0..20 {
        // The first sender dies after eight rounds of 15 s and is back after sixteen.
        let first_lives = !(8..16).contains(&round);
        for (replica, lives) in [("a", first_lives), ("b", true)] {
            if lives {
                let at_ms = start_ms + second * 1_000 + i64::from(replica == "b") * 7;
                let value = f64::from(round) + if replica == "b" { 0.5 } else { 0.0 };
                let answer = send(&receiver, &body(replica, at_ms, value)).await;
                assert_eq!(answer, (204, String::new()), "{replica} in round {round}");
            }
        }
        // Heard last at 105 s: the second counts from 150 s on, and stays.
        match round {
            0..8 => expected.push(f64::from(round)),
            8 | 9 => {}
            _ => expected.push(f64::from(round) + 0.5),
        }
        clock.advance(Duration::from_secs(15));
        second += 15;
    }
    let stored = select(&storage, "up").await;
    assert_eq!(stored, [(r#"{__name__="up", cluster="c", job="x"}"#.to_owned(), expected)]);
    let mut text = String::new();
    metrics.write(&mut text);
    assert!(text.contains("\ntaffrail_ingest_samples_total 18\n"), "{text}");
    assert!(text.contains("\ntaffrail_ingest_replica_rows_dropped_total 14\n"), "{text}");
}
