//! When scrapes happen: on a grid, each target at its own place in it.

use tokio::sync::watch;

/// Returns once the sender says so or is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: time to stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The first tick after `now_ms`.
pub(super) fn next_tick(now_ms: i64, interval_ms: i64, offset_ms: i64) -> i64 {
    let since = now_ms.saturating_sub(offset_ms).rem_euclid(interval_ms);
    now_ms.saturating_add(interval_ms - since)
}

/// The timestamp of a scrape planned for `tick` and begun at `now_ms`: the planned one unless it is
/// late by more than `late_ms_max` or a hundredth of the interval.
pub(super) fn stamp(tick: i64, now_ms: i64, interval_ms: i64, late_ms_max: i64) -> i64 {
    let late_max = late_ms_max.min(interval_ms / 100);
    if (tick - late_max..=tick + late_max).contains(&now_ms) { tick } else { now_ms }
}
