//! Which segments to merge next: a plain function of the segments, the time and the settings.
//!
//! ```text
//! level 0  fresh ──► 1  some in a row ──► 2  an hour that is over ──► 3  a day that is over
//! ```
//!
//! Fresh segments of an hour that goes on are merged in rows of a few. A day with more bytes than one
//! merge may take stays in hours, such an hour in rows. What reaches beyond a day is dealt out to
//! days first. Invariant: where two segments of one signal overlap in time, their log positions do
//! not, or are the same: then no stream has an instant in both. So the first of two equal entries is
//! known wherever they lie.

use std::collections::BTreeSet;

use model::{Position, Signal};

use crate::compact::Extent;
use crate::entries::streams::HOUR_NS;
use crate::manifest::SegmentMeta;

/// Fresh from a head.
pub(super) const FRESH: u8 = 0;
/// Some in a row, or what was dealt out to a day.
pub(super) const ROW: u8 = 1;
/// An hour.
pub(super) const HOUR: u8 = 2;
/// A day.
pub(super) const DAY: u8 = 3;

pub(super) const DAY_NS: i64 = 24 * HOUR_NS;

const NS_PER_MS: i64 = 1_000_000;

/// An hour is taken for complete so long after its end: what is buffered then has been flushed.
const HOUR_SLACK_NS: i64 = HOUR_NS / 4;
/// The same of a day: its last hour has been merged.
const DAY_SLACK_NS: i64 = HOUR_NS;

/// Late segments are merged into an hour or a day at this many, at this part of its bytes, or when
/// they have waited so long: rewriting a day for every late line would cost most of the budget.
const LATE_SEGMENTS_MAX: usize = 4;
const LATE_SHARE: u64 = 10;
const LATE_WAIT_MS: i64 = DAY_NS / NS_PER_MS;

/// Bytes of lines and fields that the merge of an hour or a day takes in.
const UNIT_BYTES_MAX: u64 = 4 << 30;

/// The same of a row.
const ROW_BYTES_MAX: u64 = 1 << 30;

/// Segments that are read at a time: each has a group in memory.
const INPUTS_MAX: usize = 64;

/// Segments to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Names, in order of log positions.
    pub(super) inputs: Vec<String>,
    pub(super) signal: Signal,
    /// Level of the result.
    pub(super) level: u8,
    /// Whether large tenants, and those whose entries are kept for other times, get segments of
    /// their own: this is the last merge for now.
    pub(super) splits: bool,
    /// Log positions of the result.
    pub(super) positions: (Position, Position),
    /// Bytes of the inputs.
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

impl Job {
    /// What tells it from all others.
    pub(super) fn key(&self) -> String {
        format!("entries {}", self.inputs.first().map_or("", String::as_str))
    }
}

/// When a plan is made, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) now_ms: i64,
    pub(super) extent: Extent,
    /// Fresh segments of an hour that are merged before it is over.
    pub(super) fresh_max: usize,
}

impl When {
    fn is_over(self, end_ns: i64, slack_ns: i64) -> bool {
        let now_ns = self.now_ms.saturating_mul(NS_PER_MS);
        self.extent == Extent::Everything || now_ns >= end_ns.saturating_add(slack_ns)
    }
}

/// Where a segment stands among those of its partition: of equal entries that of the lower one stays.
pub(crate) fn order_of(segment: &SegmentMeta) -> (Position, i64, &str) {
    (segment.positions.0, segment.range_ns.0, &segment.name)
}

/// All that is to be done now, the most urgent first. No segment is in two jobs. `unreadable` ones
/// stay as they are, and nothing is merged across them; `stripped` ones are written anew, by
/// themselves if nothing else is to be done with them.
pub(super) fn plan(
    segments: &[SegmentMeta],
    unreadable: &[SegmentMeta],
    stripped: &[String],
    when: When,
) -> Vec<Job> {
    let mut jobs = Vec::new();
    for signal in Signal::ALL {
        let mut own: Vec<&SegmentMeta> = segments.iter().filter(|s| s.signal == signal).collect();
        own.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
        let lost = unreadable.iter().filter(|s| s.signal == signal);
        let all: Vec<&SegmentMeta> = own.iter().copied().chain(lost).collect();
        let (inside, wide): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|s| unit_of(s, DAY_NS).is_some());
        let mut wanted: Vec<(Vec<&SegmentMeta>, u8, bool)> = Vec::new();
        for day in units(&inside, DAY_NS) {
            wanted.extend(of_day(&inside, day, when));
        }
        wanted.extend(wide.into_iter().map(|one| (vec![one], ROW, false)));
        let sound = wanted.iter().filter(|(inputs, ..)| is_sound(inputs, &all));
        jobs.extend(sound.map(|(inputs, level, splits)| job(inputs, *level, *splits)));
    }
    let planned: Vec<String> = jobs.iter().flat_map(|job| job.inputs.iter().cloned()).collect();
    let must_go = |s: &&SegmentMeta| stripped.contains(&s.name) && !planned.contains(&s.name);
    jobs.extend(segments.iter().filter(must_go).map(|s| job(&[s], s.level, s.level == DAY)));
    jobs.sort_by_key(|job| job.level);
    jobs
}

/// What is to be merged of one day, with level and whether it splits.
fn of_day<'s>(
    segments: &[&'s SegmentMeta],
    day: i64,
    when: When,
) -> Vec<(Vec<&'s SegmentMeta>, u8, bool)> {
    let of_day = of_unit(segments, day, DAY_NS);
    let is_over = when.is_over(day.saturating_add(DAY_NS), DAY_SLACK_NS);
    let is_small = raw_bytes(&of_day) <= UNIT_BYTES_MAX;
    if is_over && is_small {
        return whole(&of_day, DAY, when)
            .map(|(inputs, level)| (inputs, level, level == DAY))
            .into_iter()
            .collect();
    }
    let mut jobs = Vec::new();
    for hour in units(&of_day, HOUR_NS) {
        let of_hour = of_unit(&of_day, hour, HOUR_NS);
        let ends = when.is_over(hour.saturating_add(HOUR_NS), HOUR_SLACK_NS);
        let found =
            if ends && raw_bytes(&of_hour) <= UNIT_BYTES_MAX && (is_over || of_hour.len() > 1) {
                whole(&of_hour, HOUR, when)
            } else {
                let least = if ends { 2 } else { when.fresh_max };
                row(&of_hour, FRESH, least).map(|inputs| (inputs, ROW))
            };
        jobs.extend(found.map(|(inputs, level)| (inputs, level, is_over && level == HOUR)));
    }
    jobs
}

/// All segments of an hour or a day, if they are to become one; the first of them, if they are too
/// many.
fn whole<'s>(
    of_unit: &[&'s SegmentMeta],
    level: u8,
    when: When,
) -> Option<(Vec<&'s SegmentMeta>, u8)> {
    let late: Vec<&SegmentMeta> = of_unit.iter().copied().filter(|s| s.level < level).collect();
    let oldest_ms = late.iter().map(|s| s.created_ms).min()?;
    let bytes = |all: &[&SegmentMeta]| all.iter().map(|s| s.bytes).sum::<u64>();
    let late_bytes = bytes(&late);
    let merged_bytes = bytes(of_unit).saturating_sub(late_bytes);
    let is_due = when.extent == Extent::Everything
        || late.len() == of_unit.len()
        || late.len() >= LATE_SEGMENTS_MAX
        || late_bytes.saturating_mul(LATE_SHARE) >= merged_bytes
        || when.now_ms >= oldest_ms.saturating_add(LATE_WAIT_MS);
    if !is_due {
        return None;
    }
    if of_unit.len() > INPUTS_MAX {
        return row(of_unit, level - 1, 2).map(|inputs| (inputs, ROW));
    }
    Some((of_unit.to_vec(), level))
}

/// The first row of at least so many segments, none above a level, with none of the others between.
fn row<'s>(
    of_unit: &[&'s SegmentMeta],
    level_max: u8,
    least: usize,
) -> Option<Vec<&'s SegmentMeta>> {
    let mut rows: Vec<Vec<&SegmentMeta>> = vec![Vec::new()];
    let mut bytes = 0;
    for segment in of_unit.iter().copied() {
        let is_input = segment.level <= level_max;
        let open = rows.last().map_or(0, Vec::len);
        if !is_input || open == INPUTS_MAX || bytes + segment.raw_bytes > ROW_BYTES_MAX {
            rows.push(Vec::new());
            bytes = 0;
        }
        if let Some(last) = rows.last_mut().filter(|_| is_input) {
            last.push(segment);
            bytes += segment.raw_bytes;
        }
    }
    rows.into_iter().find(|row| row.len() >= least.max(2))
}

/// Whether the result keeps the invariant.
fn is_sound(inputs: &[&SegmentMeta], all: &[&SegmentMeta]) -> bool {
    let (start, end) = span(inputs);
    let (first, last) = positions(inputs);
    let is_input = |s: &SegmentMeta| inputs.iter().any(|i| i.name == s.name);
    let clashes = |s: &SegmentMeta| {
        s.range_ns.0 <= end
            && s.range_ns.1 >= start
            && s.positions.0 < last
            && s.positions.1 > first
            && s.positions != (first, last)
    };
    !all.iter().any(|s| !is_input(s) && clashes(s))
}

fn job(inputs: &[&SegmentMeta], level: u8, splits: bool) -> Job {
    Job {
        inputs: inputs.iter().map(|s| s.name.clone()).collect(),
        signal: inputs.first().map_or(Signal::Logs, |s| s.signal),
        level,
        splits,
        positions: positions(inputs),
        bytes: inputs.iter().map(|s| s.bytes).sum(),
        rows: inputs.iter().map(|s| s.rows).sum(),
    }
}

fn positions(segments: &[&SegmentMeta]) -> (Position, Position) {
    let first = segments.iter().map(|s| s.positions.0).min().unwrap_or_default();
    (first, segments.iter().map(|s| s.positions.1).max().unwrap_or_default())
}

fn span(segments: &[&SegmentMeta]) -> (i64, i64) {
    let first = segments.iter().map(|s| s.range_ns.0).min().unwrap_or_default();
    (first, segments.iter().map(|s| s.range_ns.1).max().unwrap_or_default())
}

fn raw_bytes(segments: &[&SegmentMeta]) -> u64 {
    segments.iter().map(|s| s.raw_bytes).sum()
}

/// The hour or day of UTC that all of a segment lies in, by its start.
fn unit_of(segment: &SegmentMeta, length_ns: i64) -> Option<i64> {
    let start = start_of(segment.range_ns.0, length_ns);
    (start_of(segment.range_ns.1, length_ns) == start).then_some(start)
}

fn units(segments: &[&SegmentMeta], length_ns: i64) -> BTreeSet<i64> {
    segments.iter().filter_map(|s| unit_of(s, length_ns)).collect()
}

fn of_unit<'s>(segments: &[&'s SegmentMeta], start: i64, length_ns: i64) -> Vec<&'s SegmentMeta> {
    segments.iter().copied().filter(|s| unit_of(s, length_ns) == Some(start)).collect()
}

pub(super) fn start_of(at_ns: i64, length_ns: i64) -> i64 {
    at_ns.saturating_sub(at_ns.rem_euclid(length_ns))
}

#[cfg(test)]
mod tests;
