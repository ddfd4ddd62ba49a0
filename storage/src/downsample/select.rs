//! Questions for windows: blocks of windows where they say all that is known of a day, rows as
//! they came everywhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, Matcher, Position, Resolution, SeriesId, TimeRange};
use tenancy::{ReadScope, TenantId};

use super::{Windows, fold};
use crate::compact::day_of;
use crate::look_up::Places;
use crate::partition::Partition;
use crate::select::Fetched;
use crate::{Error, Select, Selection, Storage};

/// Which windows a question needs.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectWindows {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Windows that begin outside are left out.
    pub range: TimeRange,
    /// How long they are. Rows as they came have no windows.
    pub resolution: Resolution,
}

/// The series that match a question for windows, in order of their labels.
#[derive(Debug)]
pub struct WindowSelection {
    resolution: Resolution,
    range: TimeRange,
    series: Vec<Labels>,
    parts: Vec<Part>,
}

/// Series of some stretch of time, in blocks of windows or as rows that came.
#[derive(Debug)]
struct Part {
    selection: Selection,
    is_raw: bool,
    /// The place of each of the selection's series among all series.
    places: Vec<usize>,
}

impl Storage {
    /// Finds the series a question for windows picks.
    pub async fn select_windows(
        &self,
        scope: &ReadScope,
        request: &SelectWindows,
    ) -> Result<WindowSelection, Error> {
        let SelectWindows { matchers, range, resolution } = request.clone();
        if resolution == Resolution::Raw {
            return Err(Error::Internal("rows as they came have no windows".to_owned()));
        }
        let whole = TimeRange {
            start_ms: first_start(resolution, range.start_ms),
            end_ms: resolution.window_of(range.end_ms).end_ms,
        };
        let mut found = Vec::new();
        let select = |range: TimeRange| Select { matchers: matchers.clone(), range }.question();
        // Of a tenant that is not downsampled blocks of windows say nothing.
        for raw_only in [false, true] {
            let scope = scope.only(|tenant| tenant.retention.raw_only == raw_only);
            if scope.tenants().is_empty() {
                continue;
            }
            let days = match raw_only {
                false => self.days_in_windows(resolution, whole),
                true => BTreeSet::new(),
            };
            if !days.is_empty() {
                let places = Places::Windows(resolution, Arc::new(days.clone()));
                found.push((false, self.answer_from(&scope, select(whole), places).await?));
            }
            for gap in gaps(whole, &days) {
                found.push((true, self.answer_from(&scope, select(gap), Places::Rows).await?));
            }
        }
        Ok(WindowSelection::join(resolution, range, found))
    }

    /// The days of which blocks of windows say all that is known, in all partitions.
    fn days_in_windows(&self, resolution: Resolution, range: TimeRange) -> BTreeSet<i64> {
        let known: Vec<Known> =
            self.partitions.iter().map(|p| Known::of(p, resolution, range)).collect();
        let has_windows = |(day, facts): (&i64, &Facts)| facts.made_to.map(|_| *day);
        let mut days: BTreeSet<i64> =
            known.iter().flat_map(|k| k.days.iter().filter_map(has_windows)).collect();
        days.retain(|day| known.iter().all(|k| k.is_in_windows(day_of(*day))));
        days
    }
}

/// What one partition has of each day.
struct Known {
    heads: [TimeRange; 2],
    days: BTreeMap<i64, Facts>,
}

/// What one partition has of one day in blocks.
#[derive(Default)]
struct Facts {
    /// Up to where in the log rows are there, and windows made.
    rows_to: Option<Position>,
    made_to: Option<Position>,
    /// Whether something of the windows is deleted.
    is_hidden: bool,
}

impl Known {
    fn of(partition: &Partition, resolution: Resolution, range: TimeRange) -> Self {
        // Heads are looked at first, as always: what is flushed meanwhile is in both.
        let head = partition.counts();
        let tombstones = partition.tombstones();
        let mut days: BTreeMap<i64, Facts> = BTreeMap::new();
        for block in partition.windows().iter().map(|stored| &stored.meta) {
            if block.resolution == resolution && block.range.overlaps(range) {
                let facts = days.entry(day_of(block.range.start_ms).start_ms).or_default();
                facts.made_to = facts.made_to.max(Some(block.positions.1));
                facts.is_hidden |= !tombstones.of_block(block).is_empty();
            }
        }
        for block in partition.blocks().iter().map(|stored| &stored.meta) {
            let first_ms = block.range.start_ms.max(range.start_ms);
            let last_ms = block.range.end_ms.min(range.end_ms);
            let mut next_ms = first_ms;
            while next_ms <= last_ms {
                let day = day_of(next_ms);
                let facts = days.entry(day.start_ms).or_default();
                facts.rows_to = facts.rows_to.max(Some(block.positions.1));
                let Some(after_ms) = day.end_ms.checked_add(1) else { break };
                next_ms = after_ms;
            }
        }
        Self { heads: [head.open.range, head.frozen.range], days }
    }

    /// Whether windows say all there is of a day.
    fn is_in_windows(&self, day: TimeRange) -> bool {
        if self.heads.iter().any(|head| head.overlaps(day)) {
            return false;
        }
        let Some(facts) = self.days.get(&day.start_ms) else { return true };
        let has_rows = facts.rows_to.is_some();
        facts.rows_to <= facts.made_to && !(facts.is_hidden && has_rows)
    }
}

/// Where the first window begins that begins at an instant or later.
fn first_start(resolution: Resolution, at_ms: i64) -> i64 {
    let window = resolution.window_of(at_ms);
    if window.start_ms == at_ms { at_ms } else { window.end_ms.saturating_add(1) }
}

/// What of a range lies outside these days.
fn gaps(range: TimeRange, days: &BTreeSet<i64>) -> Vec<TimeRange> {
    let mut gaps = Vec::new();
    let mut next_ms = range.start_ms;
    for day in days.iter().map(|start_ms| day_of(*start_ms)) {
        if next_ms < day.start_ms {
            gaps.push(TimeRange { start_ms: next_ms, end_ms: day.start_ms - 1 });
        }
        next_ms = next_ms.max(day.end_ms.saturating_add(1));
    }
    if next_ms <= range.end_ms {
        gaps.push(TimeRange { start_ms: next_ms, end_ms: range.end_ms });
    }
    gaps
}

impl WindowSelection {
    fn join(resolution: Resolution, range: TimeRange, found: Vec<(bool, Selection)>) -> Self {
        let mut keys: HashMap<(TenantId, SeriesId), Labels> = HashMap::new();
        for (_, selection) in &found {
            for i in 0..selection.len() {
                keys.entry(selection.key(i)).or_insert_with(|| selection.labels(i).clone());
            }
        }
        let mut series: Vec<_> = keys.into_iter().collect();
        series.sort_unstable_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
        let places: HashMap<_, usize> = series.iter().map(|(key, _)| *key).zip(0..).collect();
        let part = |(is_raw, selection): (bool, Selection)| {
            let place = |i| places.get(&selection.key(i)).copied().unwrap_or_default();
            let places = (0..selection.len()).map(place).collect();
            Part { selection, is_raw, places }
        };
        let parts = found.into_iter().map(part).collect();
        let series = series.into_iter().map(|(_, labels)| labels).collect();
        Self { resolution, range, series, parts }
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether nothing matches.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The labels of the `i`th series.
    pub fn labels(&self, i: usize) -> &Labels {
        &self.series[i]
    }

    /// Loads what there is of some series.
    pub async fn fetch(&self, series: Range<usize>) -> Result<FetchedWindows, Error> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let wanted = |i: &usize| series.contains(&part.places[*i]);
            let picked: Vec<usize> = (0..part.places.len()).filter(wanted).collect();
            let places = picked.iter().map(|i| part.places[*i] - series.start).collect();
            parts.push((part.is_raw, places, part.selection.fetch_some(&picked).await?));
        }
        let count = series.end.min(self.series.len()).saturating_sub(series.start);
        Ok(FetchedWindows { resolution: self.resolution, range: self.range, count, parts })
    }
}

/// Pages of some series, in memory.
#[derive(Debug)]
pub struct FetchedWindows {
    resolution: Resolution,
    range: TimeRange,
    count: usize,
    /// Whether rows as they came, and which of the fetched series.
    parts: Vec<(bool, Vec<usize>, Fetched)>,
}

impl FetchedWindows {
    /// Bytes of the pages they lie in and of what is in the heads.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|(_, _, fetched)| fetched.bytes()).sum()
    }

    /// The windows of the fetched series, in their order. CPU work.
    pub fn decode(self) -> Result<Vec<Windows>, Error> {
        let Self { resolution, range, count, parts } = self;
        let mut all = vec![Windows::default(); count];
        for (is_raw, places, fetched) in parts {
            let windows: Vec<Windows> = if is_raw {
                fetched.decode()?.iter().map(|samples| fold(samples, resolution)).collect()
            } else {
                fetched.decode_windows(resolution)?
            };
            for (place, more) in places.into_iter().zip(windows) {
                let known = std::mem::take(&mut all[place]);
                all[place] = known.or_more(more);
            }
        }
        all.iter_mut().for_each(|windows| windows.clip(range));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_left() {
        const DAY_MS: i64 = 86_400_000;
        let check = |range: (i64, i64), days: &[i64], left: &[(i64, i64)]| {
            let range = TimeRange { start_ms: range.0, end_ms: range.1 };
            let days = days.iter().map(|day| day * DAY_MS).collect();
            let found: Vec<_> = gaps(range, &days).iter().map(|r| (r.start_ms, r.end_ms)).collect();
            assert_eq!(found, left);
        };
        check((5, 9), &[], &[(5, 9)]);
        check((5, 9), &[0], &[]);
        check((5, DAY_MS), &[0], &[(DAY_MS, DAY_MS)]);
        check((5, 3 * DAY_MS), &[1], &[(5, DAY_MS - 1), (2 * DAY_MS, 3 * DAY_MS)]);
        check((i64::MIN, i64::MAX), &[0], &[(i64::MIN, -1), (DAY_MS, i64::MAX)]);
    }
}
