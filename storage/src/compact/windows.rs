//! Which days are downsampled next, and how one series is: plain functions.
//!
//! A day is downsampled once all its rows are in blocks of the day; again once later rows have been
//! merged into those; and again without what was deleted. What windows were made before is read as
//! well: the rows they were made from may be gone. Where the rows of a day make no windows a block
//! without any says so.

use std::collections::BTreeSet;

use model::{Resolution, TimeRange};
use tenancy::{Retention, TenantId};

use super::planner::{DAY, Grid, Job, Makes, Stock, day_of, order_of};
use super::source::Row;
use crate::downsample::{Windows, fold};
use crate::manifest::BlockMeta;
use crate::retention::Rule;
use crate::select::{Interner, merge_samples};

/// All windows that are to be made now. `planned` are the merges that come first.
pub(super) fn plan(stock: &Stock, planned: &[Job], resolutions: &[Resolution]) -> Vec<Job> {
    let starts = stock.blocks.iter().filter(|b| b.level == DAY).chain(&stock.windows);
    let days: BTreeSet<i64> = starts.map(|b| day_of(b.range.start_ms).start_ms).collect();
    let mut jobs = Vec::new();
    for day in days.into_iter().map(day_of) {
        let all = resolutions.iter().filter_map(|one| plan_day(stock, planned, *one, day));
        jobs.extend(all);
    }
    jobs
}

fn plan_day(stock: &Stock, planned: &[Job], resolution: Resolution, day: TimeRange) -> Option<Job> {
    let mut rows: Vec<&BlockMeta> = stock.blocks.iter().filter(|b| b.range.overlaps(day)).collect();
    rows.sort_by_key(|b| order_of(b));
    let is_made = |b: &&BlockMeta| b.resolution == resolution && day.contains(b.range.start_ms);
    let mut made: Vec<&BlockMeta> = stock.windows.iter().filter(is_made).collect();
    made.sort_by_key(|b| order_of(b));
    if stock.unreadable.iter().any(|b| b.range.overlaps(day)) {
        return None;
    }
    let until = rows.iter().map(|b| b.positions.1).max();
    let is_settled = rows
        .iter()
        .all(|b| b.level == DAY && !planned.iter().any(|job| job.inputs.contains(&b.name)));
    let is_new = until > made.iter().map(|b| b.positions.1).max();
    let is_stripped = made.iter().any(|b| stock.stripped.contains(&b.name));
    // A block without windows says that the rows make none; without rows it says nothing.
    let is_spent = rows.is_empty() && !made.is_empty() && made.iter().all(|b| b.series == 0);
    let is_due = is_stripped || is_spent || (is_new && is_settled);
    if !is_due {
        return None;
    }
    let all = || rows.iter().chain(&made);
    let names = |of: &[&BlockMeta]| of.iter().map(|b| b.name.clone()).collect();
    Some(Job {
        inputs: names(&made),
        level: DAY,
        grid: Grid::Days,
        positions: (all().map(|b| b.positions.0).min()?, all().map(|b| b.positions.1).max()?),
        bytes: all().map(|b| b.bytes).sum(),
        makes: Makes::Windows(resolution, day.start_ms),
        reads: names(&rows),
    })
}

/// From when on windows of a tenant are kept at `now_ms`; `None`: none are made.
pub(super) fn kept_from(rule: Option<Rule>, resolution: Resolution, now_ms: i64) -> Option<i64> {
    match rule {
        None => Some(i64::MIN),
        Some(Rule::Keep(retention)) if !retention.raw_only => {
            Some(Retention::oldest_ms(retention.seconds(resolution), now_ms))
        }
        Some(_) => None,
    }
}

/// The windows of one series, from its rows as they came and from windows made before, of which
/// what is deleted was left out.
pub(super) fn windows_of(
    rows: Vec<Row>,
    interner: &Interner,
    resolution: Resolution,
    kept_from: impl Fn(TenantId) -> Option<i64>,
) -> Windows {
    let tenant = rows.first().map(|row| row.tenant);
    let (mut parts, mut before) = (Vec::new(), Windows::default());
    for row in rows {
        parts.push(row.samples);
        before = before.or_more(row.windows);
    }
    let Some(start_ms) = tenant.and_then(kept_from) else { return before };
    let mut all = fold(&merge_samples(parts, interner), resolution).or_more(before);
    all.clip(TimeRange { start_ms, end_ms: i64::MAX });
    all
}

#[cfg(test)]
mod tests {
    use model::Position;

    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn block(
        name: &str,
        resolution: Resolution,
        level: u8,
        day: i64,
        positions: (u64, u64),
    ) -> BlockMeta {
        BlockMeta {
            series: 1,
            name: name.to_owned(),
            level,
            resolution,
            range: TimeRange { start_ms: day * DAY_MS, end_ms: day * DAY_MS + 5 },
            positions: (Position(positions.0), Position(positions.1)),
            ..BlockMeta::default()
        }
    }

    fn rows(name: &str, level: u8, day: i64, positions: (u64, u64)) -> BlockMeta {
        block(name, Resolution::Raw, level, day, positions)
    }

    fn made(name: &str, day: i64, positions: (u64, u64)) -> BlockMeta {
        block(name, Resolution::Hour1, DAY, day, positions)
    }

    /// What is planned of these blocks, as `replaced < read`.
    #[track_caller]
    fn check(stock: &Stock, expected: &[&str]) {
        let found = plan(stock, &[], &[Resolution::Hour1]);
        let shown: Vec<String> = found
            .iter()
            .map(|job| format!("{} < {}", job.inputs.join(" "), job.reads.join(" ")))
            .collect();
        assert_eq!(shown, expected);
    }

    fn stock(blocks: Vec<BlockMeta>, windows: Vec<BlockMeta>) -> Stock {
        Stock { blocks, windows, ..Stock::default() }
    }

    #[test]
    fn days_are_downsampled_when_their_rows_are_together() {
        check(&stock(vec![], vec![]), &[]);
        check(&stock(vec![rows("d", DAY, 1, (0, 9))], vec![]), &[" < d"]);
        check(&stock(vec![rows("w", 1, 1, (0, 9))], vec![]), &[]);
        // Late rows wait for their merge.
        let late = vec![rows("d", DAY, 1, (0, 9)), rows("l", 1, 1, (9, 12))];
        check(&stock(late.clone(), vec![]), &[]);
        check(&stock(late, vec![made("h", 1, (0, 9))]), &[]);
        let two =
            vec![rows("e", DAY, 2, (0, 9)), rows("b", DAY, 1, (0, 9)), rows("a", DAY, 1, (0, 9))];
        check(&stock(two, vec![]), &[" < a b", " < e"]);
    }

    #[test]
    fn windows_are_made_anew_for_later_rows_and_for_deletions() {
        let day = || vec![rows("d", DAY, 1, (0, 12))];
        check(&stock(day(), vec![made("h", 1, (0, 12))]), &[]);
        check(&stock(day(), vec![made("h", 1, (0, 9))]), &["h < d"]);
        check(&stock(day(), vec![made("h", 2, (0, 12))]), &[" < d"]);
        let stripped =
            |blocks, windows| Stock { stripped: vec!["h".to_owned()], ..stock(blocks, windows) };
        check(&stripped(day(), vec![made("h", 1, (0, 12))]), &["h < d"]);
        // The rows they were made from are gone.
        check(&stripped(vec![], vec![made("h", 1, (0, 12))]), &["h < "]);
        check(&stock(vec![], vec![made("h", 1, (0, 12))]), &[]);
    }

    #[test]
    fn days_without_windows_are_not_looked_at_for_ever() {
        let empty = |positions| BlockMeta { series: 0, ..made("h", 1, positions) };
        let some = |positions| made("h", 1, positions);
        let day = || vec![rows("d", DAY, 1, (0, 12))];
        check(&stock(day(), vec![empty((0, 12))]), &[]);
        check(&stock(day(), vec![empty((0, 11))]), &["h < d"]);
        check(&stock(vec![], vec![empty((0, 12))]), &["h < "]);
        check(&stock(vec![], vec![some((0, 12))]), &[]);
        let mut broken = stock(day(), vec![]);
        broken.unreadable.push(rows("x", DAY, 1, (0, 1)));
        check(&broken, &[]);
    }
}
