//! What came in since the last cut, beside the series' own buffers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use hashbrown::HashMap;
use model::TimeRange;

use super::buffer::{Blocks, Buffer, Point};
use super::exemplars::Exemplars;
use super::histogram;
use super::read::Collected;
use super::series::Series;
use super::starts::HeadStarts;

/// Samples, histograms and exemplars of all series since the last cut.
#[derive(Debug, Default)]
pub(super) struct Generation {
    /// Time of the first sample: the bit streams start from it.
    pub(super) base_ms: Option<i64>,
    pub(super) blocks: Blocks,
    /// Samples older than their series' newest, by series: instants and bits of values. A sender
    /// may bring them in any order and number, so neither is allowed to cost more than a look-up.
    pub(super) late: HashMap<u32, BTreeMap<i64, u64>>,
    /// Native histograms, encoded, by series and instant.
    pub(super) histograms: HashMap<u32, BTreeMap<i64, Box<[u8]>>>,
    /// Since when samples count.
    pub(super) starts: HeadStarts,
    late_bytes: usize,
    histogram_bytes: usize,
    pub(super) exemplars: Exemplars,
    pub(super) counts: Counts,
}

/// How much a generation holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Oldest and newest instant of both; meaningless without any.
    pub range: TimeRange,
}

impl Default for Counts {
    fn default() -> Self {
        Self { samples: 0, histograms: 0, range: EMPTY_RANGE }
    }
}

/// Holds no instant, and any range is its union with that range.
const EMPTY_RANGE: TimeRange = TimeRange { start_ms: i64::MAX, end_ms: i64::MIN };

impl Counts {
    /// Whether there is neither sample nor histogram.
    pub fn is_empty(&self) -> bool {
        self.samples == 0 && self.histograms == 0
    }

    /// Oldest and newest instant.
    pub fn time_range(&self) -> Option<TimeRange> {
        (!self.is_empty()).then_some(self.range)
    }

    pub(super) fn include(&mut self, ms: i64) {
        self.range.start_ms = self.range.start_ms.min(ms);
        self.range.end_ms = self.range.end_ms.max(ms);
    }
}

impl Generation {
    /// Adds a sample newer than all of its series'.
    #[inline]
    pub(super) fn push(&mut self, series: &mut Series, to: Point) {
        let base_ms = *self.base_ms.get_or_insert(to.ms);
        series.push(&mut self.blocks, base_ms, to);
        self.counts.samples += 1;
        self.counts.include(to.ms);
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.exemplars.is_empty()
    }

    /// Adds all samples and histograms of a series; late samples come last. `buffer` is the
    /// series'.
    pub(super) fn collect(
        &self,
        series: u32,
        buffer: &Buffer,
        range: TimeRange,
        out: &mut Collected,
    ) {
        let before = (out.points.len(), out.histograms.len());
        self.collect_samples(series, buffer, range, out);
        out.note_starts(&self.starts.of(series), before);
    }

    fn collect_samples(&self, series: u32, buffer: &Buffer, range: TimeRange, out: &mut Collected) {
        buffer.decode(&self.blocks, self.base_ms.unwrap_or(0), |point| {
            if range.contains(point.ms) {
                out.points.push(point);
            }
        });
        if range.start_ms > range.end_ms {
            return;
        }
        if let Some(late) = self.late.get(&series) {
            let late = late.range(range.start_ms..=range.end_ms);
            out.points.extend(late.map(|(&ms, &bits)| Point { ms, bits }));
        }
        if let Some(histograms) = self.histograms.get(&series) {
            let encoded = histograms.range(range.start_ms..=range.end_ms);
            let decoded =
                encoded.filter_map(|(&ms, bytes)| Some((ms, Arc::new(histogram::decode(bytes)?))));
            out.histograms.extend(decoded);
        }
    }

    /// The late sample at one instant.
    pub(super) fn late_at(&self, series: u32, ms: i64) -> Option<u64> {
        self.late.get(&series)?.get(&ms).copied()
    }

    /// The encoded histogram at one instant.
    pub(super) fn histogram_at(&self, series: u32, ms: i64) -> Option<&[u8]> {
        self.histograms.get(&series)?.get(&ms).map(AsRef::as_ref)
    }

    /// Adds a late sample, unless there is one at that instant.
    pub(super) fn insert_late(&mut self, series: u32, point: Point) {
        let late = self.late.entry(series).or_default();
        // A tree's smallest node holds eleven entries.
        self.late_bytes += if late.is_empty() { 250 } else { 24 };
        if let Entry::Vacant(free) = late.entry(point.ms) {
            free.insert(point.bits);
            self.counts.samples += 1;
            self.counts.include(point.ms);
        }
    }

    /// Adds a histogram, unless there is one at that instant.
    pub(super) fn insert_histogram(&mut self, series: u32, ms: i64, encoded: &[u8]) {
        if let Entry::Vacant(free) = self.histograms.entry(series).or_default().entry(ms) {
            free.insert(encoded.into());
            self.histogram_bytes += encoded.len() + 64;
            self.counts.histograms += 1;
            self.counts.include(ms);
        }
    }

    /// Memory that late samples took is free.
    pub(super) fn note_late_removed(&mut self, samples: usize) {
        self.late_bytes = self.late_bytes.saturating_sub(samples * 24);
    }

    /// Memory that histograms took is free.
    pub(super) fn note_histograms_removed(&mut self, histograms: usize, bytes: usize) {
        self.histogram_bytes = self.histogram_bytes.saturating_sub(bytes + histograms * 64);
    }

    /// Whether a series has anything beside its buffer.
    pub(super) fn has(&self, series: u32) -> bool {
        self.late.contains_key(&series)
            || self.histograms.contains_key(&series)
            || self.exemplars.has(series)
    }

    /// Series numbers after a renumbering.
    pub(super) fn renumber(&mut self, new_number: &[u32]) {
        let late = std::mem::take(&mut self.late);
        self.late = late.into_iter().map(|(s, v)| (new_number[s as usize], v)).collect();
        let histograms = std::mem::take(&mut self.histograms);
        self.histograms =
            histograms.into_iter().map(|(s, v)| (new_number[s as usize], v)).collect();
        self.starts.renumber(new_number);
        self.exemplars.renumber(new_number);
    }

    /// Memory taken.
    pub(super) fn heap_bytes(&self) -> usize {
        self.blocks.heap_bytes()
            + self.late_bytes
            + self.histogram_bytes
            + self.starts.heap_bytes()
            + self.exemplars.heap_bytes()
    }
}
