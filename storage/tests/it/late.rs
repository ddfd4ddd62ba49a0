//! Late samples: taken up to the age limit, in side blocks, seen in order wherever they lie; of
//! two values at one instant the one that the log has first stays, whatever is merged with what.

use std::sync::Arc;
use std::time::Duration;

use ::model::{Matcher, TimeRange};
use storage::{Extent, Storage};
use tenancy::ReadScope;

use crate::facts::tight;
use crate::store::{Ground, NOW_MS, append, read, write};

const HOUR_MS: i64 = 3_600_000;

/// What is done after each write.
#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    Flush,
    FlushAndCompact,
    Restart,
    PowerCut,
}

const ALL: [Then; 5] =
    [Then::Nothing, Then::Flush, Then::FlushAndCompact, Then::Restart, Then::PowerCut];

async fn points(storage: &Storage) -> Vec<(i64, f64)> {
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    let found = read(storage, &scope, &[Matcher::equal("pod", "pod-1")], TimeRange::ALL).await;
    let found = found.expect("readable").into_iter().flat_map(|(_, points)| points);
    found.map(|(ms, bits)| (ms, f64::from_bits(bits))).collect()
}

async fn next(ground: &mut Ground, storage: Arc<Storage>, then: Then, round: u64) -> Arc<Storage> {
    match then {
        Then::Nothing => return storage,
        Then::Flush => storage.flush_all().await.expect("flushed"),
        Then::FlushAndCompact => {
            storage.flush_all().await.expect("flushed");
            storage.compact(Extent::Everything).await.expect("merged");
        }
        Then::Restart | Then::PowerCut => {
            drop(storage);
            ground.disk = match then {
                Then::Restart => ground.disk.after_kill(),
                _ => ground.disk.after_crash(round),
            };
            return ground.open_with(tight()).await.expect("the same store");
        }
    }
    storage
}

/// Writes values at instants, one request each, with something between any two; the first value of
/// an instant is what must be read afterwards.
async fn check(writes: &[(i64, f64)]) {
    for first in ALL {
        for second in ALL {
            let mut ground = Ground::default();
            let mut storage = ground.open_with(tight()).await.expect("a new store");
            let mut expected: Vec<(i64, f64)> = Vec::new();
            for (round, &(ms, value)) in writes.iter().enumerate() {
                let at = NOW_MS + ms;
                // Refused where the first value is known at the time, passed over where not.
                write(&storage, 1, &[(1, at, value)]).await.expect("taken or refused as a row");
                if !expected.iter().any(|(known, _)| *known == at) {
                    expected.push((at, value));
                }
                let then = if round % 2 == 0 { first } else { second };
                storage = next(&mut ground, storage, then, round as u64).await;
                expected.sort_by_key(|(ms, _)| *ms);
                assert_eq!(
                    points(&storage).await,
                    expected,
                    "{first:?}, {second:?}, after {round}"
                );
            }
            // Two more levels, and once more from the disk.
            ground.clock.advance(Duration::from_secs(4 * 86_400));
            storage.flush_all().await.expect("flushed");
            storage.compact(Extent::Due).await.expect("merged");
            assert_eq!(points(&storage).await, expected, "{first:?}, {second:?}, days later");
            storage.compact(Extent::Everything).await.expect("merged");
            let storage = next(&mut ground, storage, Then::PowerCut, 99).await;
            assert_eq!(points(&storage).await, expected, "{first:?}, {second:?}, at the end");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_samples_are_seen_in_order_wherever_they_lie() {
    // In order, late by seconds, by hours, by days; before everything; in between.
    let hours = [0, 1, -1, -70, 2, -26, -49, -2, 3];
    let writes: Vec<_> =
        hours.iter().enumerate().map(|(n, h)| (h * HOUR_MS / 20, n as f64)).collect();
    check(&writes).await;
    let writes: Vec<_> =
        hours.iter().enumerate().map(|(n, h)| ((h - 3) * HOUR_MS, n as f64)).collect();
    check(&writes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_values_the_first_one_in_the_log_stays() {
    check(&[(0, 1.0), (0, 2.0), (-5, 3.0), (0, 4.0), (-5, 5.0), (-5, 3.0)]).await;
    // Days ago, so that the conflict meets only in a merge.
    let day = 24 * HOUR_MS;
    check(&[(0, 1.0), (-2 * day, 2.0), (5, 3.0), (-2 * day, 4.0), (-2 * day, 2.0)]).await;
    check(&[(0, -0.0), (0, 0.0), (1, f64::INFINITY), (1, 1.0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_limit_is_refused_and_said() {
    let ground = Ground::default();
    let storage = ground.open_with(tight()).await.expect("a new store");
    let limit_ms = tenancy::Limits::default().age_seconds_max as i64 * 1000;
    let rows = [(1, NOW_MS - limit_ms, 1.0), (2, NOW_MS - limit_ms - 1, 2.0), (3, NOW_MS, 3.0)];
    let appended = append(&storage, 1, &rows).expect("a request");
    assert_eq!(appended.outcome.samples, 2);
    let rejected = &appended.outcome.rejected;
    assert!(matches!(&rejected[..], [one] if one.count == 1), "{rejected:?}");
    assert!(rejected[0].example.contains("pod-2"), "{rejected:?}");
}
