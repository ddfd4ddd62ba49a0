//! Which blocks to merge next: a plain function of the blocks, the time and the settings.
//!
//! ```text
//! level 0  fresh, minutes ──► level 1  within two hours of the day ──► level 2  a whole day
//! ```
//!
//! Invariant: where two blocks overlap in time, their log positions do not. So "of two samples at
//! one instant that of the lower position stays" is an order of blocks, and merging keeps it: fresh
//! blocks are merged in runs without gaps, and whole windows or days with all that lies in them.

use model::{Position, Resolution, TimeRange};

use super::{Config, Extent};
use crate::manifest::BlockMeta;

/// Fresh from a head.
pub(super) const FRESH: u8 = 0;
/// Within a window of two hours, or within a day if that was over already.
pub(super) const WINDOW: u8 = 1;
/// All of a day, written for the years.
pub(super) const DAY: u8 = 2;

/// The day of UTC an instant lies in.
pub(crate) fn day_of(at_ms: i64) -> TimeRange {
    let start_ms = start_of(at_ms, DAY_MS);
    TimeRange { start_ms, end_ms: start_ms.saturating_add(DAY_MS - 1) }
}

const WINDOW_MS: i64 = 2 * 3_600_000;
const DAY_MS: i64 = 24 * 3_600_000;

/// A window is taken for complete so long after its end: what is buffered then has been flushed.
const WINDOW_SLACK_MS: i64 = 15 * 60_000;
/// A day is taken for complete so long after its end: its last window has been merged.
const DAY_SLACK_MS: i64 = 3_600_000;

/// Blocks in a complete window at which they are made one before their day is over.
const WINDOW_BLOCKS_MAX: usize = 4;

/// Late rows are merged into a day at this many blocks, at this part of the day's bytes, or when
/// they have waited so long: rewriting a day for every late sample would cost most of the budget.
const LATE_BLOCKS_MAX: usize = 4;
const LATE_SHARE: u64 = 10;
const LATE_WAIT_MS: i64 = DAY_MS;

/// Bytes that one merge of fresh blocks takes in, so that it ends before the next is due.
const FRESH_BYTES_MAX: u64 = 2 << 30;

/// How the rows of a merge are dealt out to blocks by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grid {
    /// Two hours; days that are over at this moment, in milliseconds, are left whole.
    Windows(i64),
    /// Days.
    Days,
}

/// Blocks to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Names, in order of log positions.
    pub(super) inputs: Vec<String>,
    /// Level of the result.
    pub(super) level: u8,
    /// What each block of the result may hold.
    pub(super) grid: Grid,
    /// Log positions of the result.
    pub(super) positions: (Position, Position),
    /// Bytes of all that is read.
    pub(super) bytes: u64,
    /// What the result holds.
    pub(super) makes: Makes,
    /// Blocks that are read as well and stay, in order of log positions.
    pub(super) reads: Vec<String>,
}

/// What a merge makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Makes {
    /// Rows as they came.
    Rows,
    /// Windows of the day that begins at this instant.
    Windows(Resolution, i64),
}

impl Makes {
    pub(super) fn resolution(self) -> Resolution {
        match self {
            Self::Rows => Resolution::Raw,
            Self::Windows(resolution, _) => resolution,
        }
    }
}

impl Job {
    /// What tells it from all others.
    pub(super) fn key(&self) -> String {
        let first = self.inputs.iter().chain(&self.reads).next();
        format!("{} {}", self.makes.resolution(), first.map_or("", String::as_str))
    }
}

/// The blocks of a partition, as far as planning goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Stock {
    pub(super) blocks: Vec<BlockMeta>,
    /// They stay as they are, and nothing is merged across them.
    pub(super) unreadable: Vec<BlockMeta>,
    /// Names of blocks with rows that were deleted long ago and must go.
    pub(super) stripped: Vec<String>,
    /// Blocks of windows.
    pub(super) windows: Vec<BlockMeta>,
}

/// All that is to be done now, the most urgent first. No block is in two jobs.
pub(super) fn plan(stock: &Stock, now_ms: i64, extent: Extent, config: &Config) -> Vec<Job> {
    let Stock { blocks, unreadable, stripped, .. } = stock;
    let mut sorted: Vec<&BlockMeta> = blocks.iter().collect();
    sorted.sort_by_key(|b| order_of(b));
    let mut jobs: Vec<Job> = fresh_runs(&sorted, unreadable)
        .into_iter()
        .filter(|run| {
            let must_go = run.iter().any(|block| stripped.contains(&block.name));
            extent == Extent::Everything || must_go || is_due(run, now_ms, config)
        })
        .map(|run| job(&run, WINDOW, Grid::Windows(now_ms)))
        .collect();
    let merged: Vec<&BlockMeta> = sorted.iter().copied().filter(|b| b.level > FRESH).collect();
    let mut days: Vec<i64> = merged.iter().map(|b| start_of(b.range.start_ms, DAY_MS)).collect();
    days.sort_unstable();
    days.dedup();
    for day in days {
        let of_day: Vec<&BlockMeta> =
            merged.iter().copied().filter(|b| start_of(b.range.start_ms, DAY_MS) == day).collect();
        let is_over = now_ms >= day.saturating_add(DAY_MS + DAY_SLACK_MS);
        if is_over || extent == Extent::Everything {
            jobs.extend(whole_day(&of_day, now_ms, extent));
        } else {
            jobs.extend(windows(&of_day, now_ms));
        }
    }
    let is_planned = |b: &BlockMeta| jobs.iter().any(|job| job.inputs.contains(&b.name));
    let rewritten =
        |b: &&&BlockMeta| b.level > FRESH && stripped.contains(&b.name) && !is_planned(b);
    let alone: Vec<Job> = sorted
        .iter()
        .filter(rewritten)
        .map(|b| {
            let grid = if b.level == DAY { Grid::Days } else { Grid::Windows(now_ms) };
            job(&[*b], b.level, grid)
        })
        .collect();
    jobs.extend(alone);
    jobs.retain(|job| is_sound(job, &sorted, unreadable));
    jobs
}

/// Where a block stands among those of its partition: rows of a lower one win.
pub(crate) fn order_of(block: &BlockMeta) -> (Position, Position, &str) {
    (block.positions.0, block.positions.1, &block.name)
}

/// Fresh blocks with nothing between them, each run short enough for one merge.
fn fresh_runs<'a>(sorted: &[&'a BlockMeta], unreadable: &[BlockMeta]) -> Vec<Vec<&'a BlockMeta>> {
    let mut runs: Vec<Vec<&BlockMeta>> = Vec::new();
    let mut bytes = 0;
    for block in sorted.iter().copied().filter(|b| b.level == FRESH) {
        let others = sorted.iter().copied().filter(|b| b.level > FRESH).chain(unreadable);
        let between = |last: &BlockMeta| {
            others
                .clone()
                .any(|o| o.positions.1 > last.positions.0 && o.positions.0 < block.positions.1)
        };
        match runs.last_mut() {
            Some(run)
                if bytes + block.bytes <= FRESH_BYTES_MAX
                    && run.last().is_some_and(|last| !between(last)) =>
            {
                run.push(block);
                bytes += block.bytes;
            }
            _ => {
                runs.push(vec![block]);
                bytes = block.bytes;
            }
        }
    }
    runs
}

/// Whether fresh blocks are many, or the window in which the first was written is over.
fn is_due(run: &[&BlockMeta], now_ms: i64, config: &Config) -> bool {
    let Some(first) = run.first() else { return false };
    let window_end = start_of(first.created_ms, WINDOW_MS).saturating_add(WINDOW_MS);
    run.len() >= config.fresh_blocks_max || now_ms >= window_end.saturating_add(WINDOW_SLACK_MS)
}

/// The blocks of a day that is over become one, or one for each large tenant.
fn whole_day(of_day: &[&BlockMeta], now_ms: i64, extent: Extent) -> Option<Job> {
    let late: Vec<&&BlockMeta> = of_day.iter().filter(|b| b.level < DAY).collect();
    let oldest_ms = late.iter().map(|b| b.created_ms).min()?;
    let bytes =
        |blocks: &mut dyn Iterator<Item = &&BlockMeta>| blocks.map(|b| b.bytes).sum::<u64>();
    let late_bytes = bytes(&mut late.iter().copied());
    let day_bytes = bytes(&mut of_day.iter()) - late_bytes;
    let is_due = extent == Extent::Everything
        || late.len() == of_day.len()
        || late.len() >= LATE_BLOCKS_MAX
        || late_bytes.saturating_mul(LATE_SHARE) >= day_bytes
        || now_ms >= oldest_ms.saturating_add(LATE_WAIT_MS);
    is_due.then(|| job(of_day, DAY, Grid::Days))
}

/// The blocks of windows that are over, where they are many.
fn windows(of_day: &[&BlockMeta], now_ms: i64) -> Vec<Job> {
    let mut starts: Vec<i64> =
        of_day.iter().map(|b| start_of(b.range.start_ms, WINDOW_MS)).collect();
    starts.sort_unstable();
    starts.dedup();
    let over = starts
        .into_iter()
        .filter(|start| now_ms >= start.saturating_add(WINDOW_MS + WINDOW_SLACK_MS));
    let mut jobs = Vec::new();
    for start in over {
        let inside = |b: &&BlockMeta| {
            b.level == WINDOW
                && b.range.start_ms >= start
                && b.range.end_ms < start.saturating_add(WINDOW_MS)
        };
        let of_window: Vec<&BlockMeta> = of_day.iter().copied().filter(inside).collect();
        if of_window.len() >= WINDOW_BLOCKS_MAX {
            jobs.push(job(&of_window, WINDOW, Grid::Windows(now_ms)));
        }
    }
    jobs
}

fn job(inputs: &[&BlockMeta], level: u8, grid: Grid) -> Job {
    let first = inputs.iter().map(|b| b.positions.0).min().unwrap_or_default();
    let end = inputs.iter().map(|b| b.positions.1).max().unwrap_or_default();
    Job {
        inputs: inputs.iter().map(|b| b.name.clone()).collect(),
        level,
        grid,
        positions: (first, end),
        bytes: inputs.iter().map(|b| b.bytes).sum(),
        makes: Makes::Rows,
        reads: Vec::new(),
    }
}

/// Whether the result would keep the invariant: no other block that overlaps it in time has log
/// positions between those of the inputs.
fn is_sound(job: &Job, sorted: &[&BlockMeta], unreadable: &[BlockMeta]) -> bool {
    let is_input = |b: &BlockMeta| job.inputs.contains(&b.name);
    let inputs = sorted.iter().filter(|b| is_input(b) && !is_empty(b.range));
    let Some(range) = inputs.map(|b| b.range).reduce(TimeRange::union) else { return true };
    let clashes = |b: &BlockMeta| {
        b.range.overlaps(range)
            && b.positions.0 < job.positions.1
            && b.positions.1 > job.positions.0
    };
    !sorted.iter().copied().chain(unreadable).any(|b| !is_input(b) && clashes(b))
}

fn is_empty(range: TimeRange) -> bool {
    range.start_ms > range.end_ms
}

impl Grid {
    /// The stretch of time that an instant belongs to.
    pub(super) fn window_of(self, at_ms: i64) -> TimeRange {
        let day = start_of(at_ms, DAY_MS);
        let length = match self {
            Self::Windows(now_ms) if now_ms < day.saturating_add(DAY_MS + DAY_SLACK_MS) => {
                WINDOW_MS
            }
            _ => DAY_MS,
        };
        let start_ms = start_of(at_ms, length);
        TimeRange { start_ms, end_ms: start_ms.saturating_add(length - 1) }
    }
}

fn start_of(at_ms: i64, length_ms: i64) -> i64 {
    at_ms.saturating_sub(at_ms.rem_euclid(length_ms))
}

#[cfg(test)]
mod tests;
