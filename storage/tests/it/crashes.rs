//! The power fails at every call, with several losses of what was not synced: nothing acknowledged
//! is lost, nothing else appears, and life goes on. Without syncs the same test sees losses.

use std::sync::Arc;

use testkit::FaultyDisk;

use crate::facts::{Journal, first_life, later_life, number_from_env, sound_life, text_of, tight};
use crate::store::Ground;

/// How the disk is lied to in a negative control.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Syncs {
    Done,
    /// The log does not ask for them.
    NotAsked,
    /// The disk does not do them.
    Ignored,
}

/// The power fails at call `n`, then again in the next life; says whether there were `n` calls.
async fn run(n: u64, seed: u64, syncs: Syncs) -> Result<bool, String> {
    let config = storage::Config { fsync: syncs != Syncs::NotAsked, ..tight() };
    let first = Ground::default();
    first.disk.ignore_syncs(syncs == Syncs::Ignored);
    first.disk.crash_at(n, seed);
    let mut journal = Journal::default();
    if let Ok(storage) = first.open_with(config.clone()).await {
        journal.live(&first, &storage, &first_life()).await?;
        drop(storage.close().await);
    }
    let was_hit = first.disk.has_crashed();
    let at = |disk: FaultyDisk| Ground { disk, clock: Arc::clone(&first.clock) };
    let second = at(first.disk.after_crash(seed));
    second.disk.crash_at(1 + (n * 7 + seed) % 120, seed / 2);
    if let Ok(storage) = second.open_with(config).await {
        journal.live(&second, &storage, &later_life(40)).await?;
    }
    let third = at(second.disk.after_crash(seed + 1));
    sound_life(&mut journal, &third, 50).await?;
    let last = at(third.disk.after_crash(seed + 2)).open_with(tight()).await;
    let last = last.map_err(|e| format!("open: {}", text_of(&e)))?;
    journal.check_all(&last).await?;
    Ok(was_hit)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let seeds = number_from_env("TAFFRAIL_CASES").unwrap_or(1);
    let first_seed = number_from_env("TAFFRAIL_SEED").unwrap_or(0);
    for seed in first_seed..first_seed + seeds {
        let mut n = 1;
        while run(n, seed, Syncs::Done)
            .await
            .unwrap_or_else(|wrong| panic!("call {n}, TAFFRAIL_SEED={seed}: {wrong}"))
        {
            n += 1;
        }
        assert!(n > 100, "{n} calls");
    }
}

/// How many of a spread of runs lose something or do not even open.
async fn losses(syncs: Syncs) -> u64 {
    let mut losses = 0;
    for n in (3..240).step_by(9) {
        losses += u64::from(run(n, n, syncs).await.is_err());
    }
    losses
}

#[tokio::test(flavor = "multi_thread")]
async fn without_syncs_there_are_losses() {
    assert_eq!(losses(Syncs::Done).await, 0);
    let (not_asked, ignored) = (losses(Syncs::NotAsked).await, losses(Syncs::Ignored).await);
    assert!(not_asked > 0 && ignored > 0, "{not_asked}, {ignored}: the test proves nothing");
}
