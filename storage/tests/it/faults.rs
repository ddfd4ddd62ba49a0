//! The N-th call on the disk fails, for all N: errors, but never a panic or a wrong answer, and
//! afterwards everything acknowledged is there.

use std::sync::Arc;

use testkit::{Fault, FaultyDisk};

use crate::facts::{Journal, first_life, later_life, number_from_env, sound_life, text_of, tight};
use crate::store::Ground;

/// Which calls fail.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Once(Fault),
    FromThenOn(Fault),
}

/// Runs the workload with a fault at call `n`; says whether there were that many calls.
async fn run(n: u64, plan: Plan) -> Result<bool, String> {
    let ground = Ground::default();
    match plan {
        Plan::Once(fault) => ground.disk.fail_at(n, fault),
        Plan::FromThenOn(fault) => ground.disk.fail_from(n, fault),
    }
    let mut journal = Journal::default();
    if let Ok(storage) = ground.open_with(tight()).await {
        journal.live(&ground, &storage, &first_life()).await?;
        drop(storage.close().await);
    }
    let was_hit = ground.disk.operations() >= n;
    // A second life with the fault still about.
    if let (Plan::FromThenOn(_), Ok(storage)) = (plan, ground.open_with(tight()).await) {
        journal.live(&ground, &storage, &later_life(40)).await?;
    }
    ground.disk.heal();
    let at = |disk: FaultyDisk| Ground { disk, clock: Arc::clone(&ground.clock) };
    let named = |what: &str| {
        let what = what.to_owned();
        move |e: String| format!("{what}: {e}")
    };
    if n.is_multiple_of(2) {
        let crashed = at(ground.disk.after_crash(n));
        let sound = sound_life(&mut journal, &crashed, 50).await;
        sound.map_err(named("after a power failure"))?;
        return Ok(was_hit);
    }
    // The process is started again; later the power fails as well.
    let again = at(ground.disk.after_kill());
    sound_life(&mut journal, &again, 50).await.map_err(named("after a restart"))?;
    let third = at(again.disk.after_crash(n));
    let sound = sound_life(&mut journal, &third, 60).await;
    sound.map_err(named("after a restart and a power failure"))?;
    Ok(was_hit)
}

async fn for_calls(step: u64, plan: impl Fn(u64) -> Plan) -> u64 {
    let mut n = 1;
    loop {
        match run(n, plan(n)).await {
            Ok(true) => n += step,
            Ok(false) => return n - 1,
            Err(wrong) => panic!("call {n}, {:?}: {wrong}", plan(n)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_fails() {
    let faults = [Fault::Eio, Fault::ShortWrite, Fault::Enospc];
    let calls = for_calls(1, |n| Plan::Once(faults[n as usize % 3])).await;
    assert!(calls > 100, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_calls_fail_from_one_on() {
    let faults = [Fault::Enospc, Fault::Eio, Fault::ShortWrite];
    // Neighbours mean the same to a disk that is gone; `TAFFRAIL_STEP=1` takes them all.
    let step = number_from_env("TAFFRAIL_STEP").unwrap_or(4);
    let calls = for_calls(step, |n| Plan::FromThenOn(faults[n as usize % 3])).await;
    assert!(calls > 100, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_read_fails() {
    let mut n = 1;
    loop {
        let ground = Ground::default();
        let mut journal = Journal::default();
        let storage = ground.open_with(tight()).await.expect("a sound disk");
        ground.disk.fail_read_at(n);
        let lived = journal.live(&ground, &storage, &first_life()).await;
        lived.unwrap_or_else(|wrong| panic!("read {n}: {wrong}"));
        drop(storage);
        if let Ok(storage) = ground.open_with(tight()).await {
            let lived = journal.live(&ground, &storage, &later_life(40)).await;
            lived.unwrap_or_else(|wrong| panic!("read {n}, second life: {wrong}"));
        }
        let was_hit = ground.disk.reads() >= n;
        ground.disk.heal();
        let sound = sound_life(&mut journal, &ground, 50).await;
        sound.unwrap_or_else(|wrong| panic!("read {n}, after a restart: {wrong}"));
        if !was_hit {
            break;
        }
        n += 1;
    }
    assert!(n > 50, "{n} reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_of_the_log_ends_writing_until_restart() {
    let ground = Ground::default();
    let storage = ground.open_with(tight()).await.expect("a sound disk");
    let mut journal = Journal::default();
    let write = |n: u32| crate::facts::samples(1, &[(n, crate::store::NOW_MS, 1.0)]);
    journal.send(&storage, &write(0)).await.expect("a good write");
    // The next write of the log, then its sync.
    ground.disk.fail_at(ground.disk.operations() + 2, Fault::Eio);
    journal.send(&storage, &write(1)).await.expect_err("its sync fails");
    for n in 2..5 {
        let refused = journal.send(&storage, &write(n)).await.expect_err("read-only");
        assert!(text_of(&refused).contains("read-only"), "{}", text_of(&refused));
    }
    assert!(storage.ready().is_err());
    journal.check_all(&storage).await.expect("reads go on");
    drop(storage);
    sound_life(&mut journal, &ground, 50).await.expect("writable after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_is_tried_again_and_rows_stay_readable() {
    let mut failures = 0;
    for later in 1.. {
        let ground = Ground::default();
        let storage = ground.open_with(tight()).await.expect("a sound disk");
        let mut journal = Journal::default();
        journal.live(&ground, &storage, &first_life()[..4]).await.expect("nothing failed yet");
        let n = ground.disk.operations() + later;
        ground.disk.fail_at(n, Fault::Enospc);
        let flushed = storage.flush_all().await;
        if ground.disk.operations() < n {
            break;
        }
        failures += u32::from(flushed.is_err());
        journal.check_all(&storage).await.expect("readable, flushed or not");
        if storage.read_only().is_empty() {
            storage.flush_all().await.expect("the second try");
            assert_eq!(storage.totals().head_samples, 0);
            let expected = storage.totals().block_samples;
            // The failed try left nothing that counts twice.
            let stored =
                journal.acknowledged.iter().filter(|fact| fact.contains("metric_")).count();
            assert!(expected <= stored as u64, "{expected} rows in blocks, {stored} facts");
        }
        journal.check_all(&storage).await.expect("readable from blocks");
        drop(storage);
        sound_life(&mut journal, &ground, 50).await.expect("after a restart");
    }
    assert!(failures > 20, "{failures} flushes failed");
}
