//! Deleting: rows of a range go at once, those that are being flushed are hidden.
//!
//! The same deletion at the same place of the log leaves the same rows, whether it is applied as
//! it is asked for or replayed: then what was frozen is still open.

use model::{Matcher, Pace, Position, Resolution, TimeRange, varint};
use tenancy::TenantId;

use super::Head;
use super::buffer::{Buffer, Point};
use super::generation::Generation;
use super::payload::put_start;
use super::read::Collected;
use super::series::Flags;
use crate::tombstone::Tombstone;

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Series that lost rows.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
}

/// What frozen rows of one series are left.
#[derive(Debug, Default)]
struct FrozenLeft {
    newest: Option<Point>,
    newest_histogram_ms: Option<i64>,
    removed: Removed,
}

impl Head {
    /// The payload of a deletion's record, to be logged before anything else is.
    pub fn tombstone_payload(&self, tombstone: &Tombstone) -> Vec<u8> {
        let mut payload = Vec::new();
        put_start(&mut payload, self.epoch);
        payload.extend_from_slice(&tombstone.encode());
        payload
    }

    /// Removes the rows of a tenant's matching series in a range. What is frozen stays for the
    /// flush and is not read any more.
    pub fn delete(&mut self, tenant: TenantId, matchers: &[Matcher], range: TimeRange) -> Removed {
        let mut all = Removed::default();
        if range.start_ms > range.end_ms {
            return all;
        }
        let mut frozen_samples = 0;
        // Decided and logged already: it is carried out however long that takes, here and at replay.
        let matching = self.select(tenant, matchers, &mut Pace::endless());
        let mut newest = None;
        for number in matching.expect("an endless pace is not stopped") {
            newest = newest.max(self.last_ms(number));
            let left = self.delete_frozen(number, range);
            let floats = self.delete_floats(number, range, left.newest);
            let histograms = self.delete_histograms(number, range, left.newest_histogram_ms);
            let exemplars = self.open.exemplars.remove(tenant, number, range);
            frozen_samples += left.removed.samples;
            all.samples += floats + left.removed.samples;
            all.histograms += histograms + left.removed.histograms;
            let lost = floats + histograms + left.removed.samples + left.removed.histograms;
            all.series += u64::from(lost > 0 || exemplars);
            self.hide_if_empty(number, &left);
        }
        self.note_unknown_to(newest);
        if let Some(entry) = self.index.tenants.get_mut(&tenant) {
            entry.samples_frozen = entry.samples_frozen.saturating_sub(frozen_samples);
            entry.samples_open = entry.samples_open.saturating_sub(all.samples - frozen_samples);
        }
        if self.open.is_empty() {
            // Its memory would otherwise stay until rows come again.
            self.open = Generation::default();
        }
        all
    }

    /// Notes what is deleted of a series' frozen rows and says what is left of them.
    fn delete_frozen(&mut self, number: u32, range: TimeRange) -> FrozenLeft {
        let mut left = FrozenLeft::default();
        let Some(frozen) = self.frozen.as_deref().filter(|f| f.has(number)) else { return left };
        let mut rows = Collected::default();
        let buffer = frozen.buffers.get(number as usize).copied().unwrap_or(Buffer::EMPTY);
        frozen.generation.collect(number, &buffer, TimeRange::ALL, &mut rows);
        let deleted = self.frozen_deleted.entry(number).or_default();
        rows.strip(deleted);
        let (samples, histograms) = (rows.points.len(), rows.histograms.len());
        deleted.add(range);
        rows.strip(deleted);
        left.removed.samples = (samples - rows.points.len()) as u64;
        left.removed.histograms = (histograms - rows.histograms.len()) as u64;
        left.newest = rows.points.iter().copied().max_by_key(|p| p.ms);
        left.newest_histogram_ms = rows.histograms.iter().map(|(ms, _)| *ms).max();
        left
    }

    /// Removes open float samples; the series' newest is then the newest of what is left.
    fn delete_floats(&mut self, number: u32, range: TimeRange, frozen: Option<Point>) -> u64 {
        let was = self.series.all[number as usize];
        let mut stream = Vec::with_capacity(was.buffer.len() as usize);
        if self.open.counts.range.overlaps(range) {
            was.buffer.decode(&self.open.blocks, self.open.base_ms.unwrap_or(0), |p| {
                stream.push(p);
            });
        }
        let before = stream.len();
        stream.retain(|p| !range.contains(p.ms));
        let (of_stream, of_late) =
            ((before - stream.len()) as u64, self.open.remove_late(number, range));
        if of_stream > 0 {
            self.rebuild(number, stream, frozen);
        } else if range.contains(was.last_ms) && was.last_ms != i64::MIN {
            // It lies in a block or is frozen.
            let late = self.open.newest_late(number);
            self.set_last(number, late.into_iter().chain(frozen).max_by_key(|p| p.ms));
        }
        self.open.counts.samples -= of_stream;
        of_stream + of_late
    }

    /// A series' open samples are these and the late ones it has. What is newer than all that is
    /// frozen becomes one stream; the rest is late.
    fn rebuild(&mut self, number: u32, mut points: Vec<Point>, frozen: Option<Point>) {
        points.extend(self.open.take_late(number));
        let before = points.len();
        points.sort_by_key(|p| p.ms);
        points.dedup_by_key(|p| p.ms);
        self.open.counts.samples -= (before - points.len()) as u64;
        let series = &mut self.series.all[number as usize];
        series.buffer = Buffer::EMPTY;
        let late = frozen.map_or(0, |newest| points.partition_point(|p| p.ms <= newest.ms));
        let (late, ordered) = points.split_at(late);
        if let Some(first) = ordered.first() {
            let base_ms = *self.open.base_ms.get_or_insert(first.ms);
            for point in ordered {
                series.push(&mut self.open.blocks, base_ms, *point);
            }
        } else {
            self.set_last(number, frozen);
        }
        self.open.put_late(number, late);
    }

    /// The newest sample that is left; only if the series' stream is empty.
    fn set_last(&mut self, number: u32, last: Option<Point>) {
        let series = &mut self.series.all[number as usize];
        let last = last.unwrap_or(Point { ms: i64::MIN, bits: 0 });
        (series.last_ms, series.last_bits) = (last.ms, last.bits);
        series.flags.clear(Flags::LAST_UNKNOWN);
    }

    fn delete_histograms(&mut self, number: u32, range: TimeRange, frozen: Option<i64>) -> u64 {
        let removed = self.open.remove_histograms(number, range);
        if self.last_histogram_ms.get(&number).is_some_and(|last| range.contains(*last)) {
            match self.open.newest_histogram_ms(number).max(frozen) {
                Some(newest) => self.last_histogram_ms.insert(number, newest),
                None => self.last_histogram_ms.remove(&number),
            };
        }
        if self.flushed_histograms.get(&number).is_some_and(|(ms, _)| range.contains(*ms)) {
            self.flushed_histograms.remove(&number);
        }
        removed
    }

    /// A series of which nothing is known any more is not there until it gets a row again.
    fn hide_if_empty(&mut self, number: u32, left: &FrozenLeft) {
        let is_empty = self.last_ms(number).is_none()
            && self.series.all[number as usize].buffer.is_empty()
            && !self.open.has(number)
            && left.newest.is_none()
            && left.newest_histogram_ms.is_none();
        if is_empty {
            self.hidden.insert(number);
            self.series.all[number as usize].flags.set(Flags::HIDDEN);
        }
    }

    /// A series has a row again.
    #[inline]
    pub(super) fn show(&mut self, number: u32) {
        let flags = &mut self.series.all[number as usize].flags;
        if flags.has(Flags::HIDDEN) {
            flags.clear(Flags::HIDDEN);
            self.hidden.remove(number);
        }
    }

    /// The encoded histogram at one instant among frozen rows that are not deleted.
    pub(super) fn frozen_histogram_at(&self, number: u32, ms: i64) -> Option<&[u8]> {
        if self.is_frozen_deleted(number, ms) {
            return None;
        }
        self.frozen.as_deref()?.generation.histogram_at(number, ms)
    }

    /// Whether the frozen rows of an instant are deleted.
    pub(super) fn is_frozen_deleted(&self, number: u32, ms: i64) -> bool {
        self.frozen_deleted.get(&number).is_some_and(|deleted| deleted.contains(ms))
    }

    /// Forgets metadata of a tenant's metric families and gives the payload of the record to log;
    /// `None` if there is none of them.
    pub fn forget_metadata<'f>(
        &mut self,
        tenant: TenantId,
        families: impl Iterator<Item = &'f str>,
    ) -> Option<Vec<u8>> {
        let known = self.metadata.get_mut(&tenant)?;
        let mut payload = Vec::new();
        put_start(&mut payload, self.epoch);
        let start = payload.len();
        for family in families.filter(|family| known.remove(family)) {
            varint::put(&mut payload, family.len() as u64);
            payload.extend_from_slice(family.as_bytes());
        }
        if known.len() == 0 {
            self.metadata.remove(&tenant);
        }
        (payload.len() > start).then_some(payload)
    }

    pub(super) fn replay_tombstone(&mut self, payload: &[u8]) -> Result<(), String> {
        let deleted = Tombstone::decode(payload, Position(0))?;
        if deleted.means(Resolution::Raw) {
            self.delete(deleted.tenant, &deleted.matchers, deleted.range);
        }
        Ok(())
    }
}

/// The tombstone in the payload of a record, if it can be read.
pub(crate) fn tombstone_of(payload: &[u8], position: Position) -> Option<Tombstone> {
    let (_, mut body) = payload.split_first()?;
    varint::take(&mut body)?;
    Tombstone::decode(body, position).ok()
}

impl Generation {
    /// Removes late samples of a series; says how many.
    fn remove_late(&mut self, series: u32, range: TimeRange) -> u64 {
        let Some(late) = self.late.get_mut(&series) else { return 0 };
        let before = late.len();
        late.retain(|ms, _| !range.contains(*ms));
        let removed = before - late.len();
        if late.is_empty() {
            self.late.remove(&series);
        }
        self.counts.samples -= removed as u64;
        self.note_late_removed(removed);
        removed as u64
    }

    /// All late samples of a series, which has none then.
    fn take_late(&mut self, series: u32) -> Vec<Point> {
        let late = self.late.remove(&series).unwrap_or_default();
        self.note_late_removed(late.len());
        late.into_iter().map(|(ms, bits)| Point { ms, bits }).collect()
    }

    /// Adds late samples that are counted already.
    fn put_late(&mut self, series: u32, points: &[Point]) {
        let counts = self.counts;
        points.iter().for_each(|point| self.insert_late(series, *point));
        self.counts = counts;
    }

    fn newest_late(&self, series: u32) -> Option<Point> {
        let (&ms, &bits) = self.late.get(&series)?.last_key_value()?;
        Some(Point { ms, bits })
    }

    fn newest_histogram_ms(&self, series: u32) -> Option<i64> {
        self.histograms.get(&series)?.last_key_value().map(|(ms, _)| *ms)
    }

    fn remove_histograms(&mut self, series: u32, range: TimeRange) -> u64 {
        let Some(histograms) = self.histograms.get_mut(&series) else { return 0 };
        let (mut removed, mut bytes) = (0, 0);
        histograms.retain(|ms, encoded| {
            let goes = range.contains(*ms);
            (removed, bytes) =
                (removed + u64::from(goes), bytes + if goes { encoded.len() } else { 0 });
            !goes
        });
        if histograms.is_empty() {
            self.histograms.remove(&series);
        }
        self.counts.histograms -= removed;
        self.note_histograms_removed(removed as usize, bytes);
        removed
    }
}
