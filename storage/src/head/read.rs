//! Rows out: the samples, histograms and exemplars of one series.

use std::sync::Arc;

use hashbrown::HashTable;
use model::{Exemplar, Histogram, TimeRange};

use super::Head;
use super::buffer::Point;
use crate::tombstone::Ranges;
use crate::{SeriesSamples, Starts};

/// Timestamp vectors of one answer. Series of one scrape target have equal ones: each is kept
/// once, so that a question works out its windows once per target.
#[derive(Debug, Default)]
pub struct SharedTimestamps {
    known: HashTable<Arc<[i64]>>,
    newest: Option<Arc<[i64]>>,
}

impl SharedTimestamps {
    /// The vector with this content.
    pub fn share(&mut self, timestamps: impl ExactSizeIterator<Item = i64> + Clone) -> Arc<[i64]> {
        let same = |known: &Arc<[i64]>| known.iter().copied().eq(timestamps.clone());
        // Neighbouring series mostly belong to the same target.
        if let Some(newest) = self.newest.as_ref().filter(|n| same(n)) {
            return Arc::clone(newest);
        }
        let hash = hash_of(timestamps.clone());
        let shared = match self.known.find(hash, same) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<[i64]> = timestamps.collect();
                self.known
                    .insert_unique(hash, Arc::clone(&new), |known| hash_of(known.iter().copied()));
                new
            }
        };
        self.newest = Some(Arc::clone(&shared));
        shared
    }
}

/// Timestamps differ in their low digits; a multiplication a step spreads them over the word.
fn hash_of(timestamps: impl Iterator<Item = i64>) -> u64 {
    timestamps.fold(0x9e37_79b9_7f4a_7c15u64, |hash, ms| {
        let mixed = (hash ^ ms as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ mixed >> 32
    })
}

/// What was found of one series, before it is put in order.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) points: Vec<Point>,
    pub(super) histograms: Vec<(i64, Arc<Histogram>)>,
    /// Instant and start of each of both; empty while none has one.
    starts: Vec<(i64, i64)>,
}

impl Collected {
    /// Notes since when the samples count that came after the first so many.
    pub(super) fn note_starts(&mut self, starts: &Starts, before: (usize, usize)) {
        if starts.is_empty() && self.starts.is_empty() {
            return;
        }
        let (points, histograms) = (&self.points, &self.histograms);
        if self.starts.is_empty() {
            self.starts.extend(points[..before.0].iter().map(|p| (p.ms, 0)));
            self.starts.extend(histograms[..before.1].iter().map(|(ms, _)| (*ms, 0)));
        }
        let points = points[before.0..].iter().map(|p| p.ms);
        let instants = points.chain(histograms[before.1..].iter().map(|(ms, _)| *ms));
        self.starts.extend(instants.map(|ms| (ms, starts.at(ms))));
    }

    /// Without what is deleted.
    pub(super) fn strip(&mut self, deleted: &Ranges) {
        self.points.retain(|p| !deleted.contains(p.ms));
        self.histograms.retain(|(ms, _)| !deleted.contains(*ms));
        self.starts.retain(|(ms, _)| !deleted.contains(*ms));
    }

    /// In order, each instant once; of two at one instant the one found first stays.
    pub(super) fn finish(mut self, shared: &mut SharedTimestamps) -> SeriesSamples {
        if !self.points.is_sorted_by(|a, b| a.ms < b.ms) {
            self.points.sort_by_key(|p| p.ms);
            self.points.dedup_by_key(|p| p.ms);
        }
        if !self.histograms.is_sorted_by(|a, b| a.0 < b.0) {
            self.histograms.sort_by_key(|(ms, _)| *ms);
            self.histograms.dedup_by_key(|(ms, _)| *ms);
        }
        SeriesSamples {
            timestamps: shared.share(self.points.iter().map(|p| p.ms)),
            values: self.points.iter().map(|p| f64::from_bits(p.bits)).collect(),
            histograms: self.histograms,
            starts: Starts::of_samples(self.starts),
        }
    }
}

impl Head {
    /// The samples and histograms of one series in a range, frozen ones included.
    pub fn read(
        &self,
        series: u32,
        range: TimeRange,
        shared: &mut SharedTimestamps,
    ) -> SeriesSamples {
        let mut out = Collected::default();
        if let Some(frozen) = self.frozen.as_deref()
            && let Some(buffer) = frozen.buffers.get(series as usize)
            && frozen.counts().range.overlaps(range)
        {
            frozen.generation.collect(series, buffer, range, &mut out);
            if let Some(deleted) = self.frozen_deleted.get(&series) {
                out.strip(deleted);
            }
        }
        if let Some(known) = self.series.all.get(series as usize)
            && self.open.counts.range.overlaps(range)
        {
            self.open.collect(series, &known.buffer, range, &mut out);
        }
        out.finish(shared)
    }

    /// The newest float sample of a series: instant and value. `None` if there is none or, after
    /// a restart, if it lies in a block.
    #[inline]
    pub fn last(&self, series: u32) -> Option<(i64, f64)> {
        let last = self.series.all.get(series as usize)?.last()?;
        Some((last.ms, f64::from_bits(last.bits)))
    }

    /// When a series last had a sample or histogram, as far as is known. For counting series
    /// without touching samples.
    #[inline]
    pub fn last_ms(&self, series: u32) -> Option<i64> {
        let floats = self.series.all.get(series as usize)?.last_ms;
        let last = match self.last_histogram_ms.get(&series) {
            Some(&histograms) => floats.max(histograms),
            None => floats,
        };
        (last != i64::MIN).then_some(last)
    }

    /// The exemplars of a series in a range, in order, frozen ones included.
    pub fn exemplars(&self, series: u32, range: TimeRange) -> Vec<Exemplar> {
        let frozen = self.frozen.as_deref().map(|f| f.generation.exemplars.of(series, range));
        let frozen = frozen.into_iter().flatten();
        let frozen = frozen.filter(|e| !self.is_frozen_deleted(series, e.timestamp_ms));
        let mut all: Vec<Exemplar> =
            frozen.chain(self.open.exemplars.of(series, range)).cloned().collect();
        all.sort_by_key(|e| e.timestamp_ms);
        all
    }
}
