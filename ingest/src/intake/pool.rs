//! Buffers that go from request to request, so that a steady stream of writes allocates nothing.

use model::Sample;
use parking_lot::Mutex;
use storage::{MetricRows, SeriesRows};

use super::inflated::Inflated;

/// Bodies above this, as they arrive, are rare; their buffers are given back to the allocator.
/// Dozens may be spare.
const BODY_KEPT_BYTES_MAX: usize = 512 << 10;

/// Rows kept: as many as such a body holds.
const ROWS_KEPT_MAX: usize = 64 << 10;

/// Something with buffers inside.
pub(crate) trait Recycle: Default {
    /// Empties it and gives back what is larger than usual.
    fn clear_for_reuse(&mut self);
}

/// A few used values.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    spare: Mutex<Vec<T>>,
    kept_max: usize,
}

impl<T: Recycle> Pool<T> {
    pub(crate) fn new(kept_max: usize) -> Self {
        Self { spare: Mutex::new(Vec::new()), kept_max }
    }

    pub(crate) fn take(&self) -> T {
        self.spare.lock().pop().unwrap_or_default()
    }

    pub(crate) fn put(&self, mut value: T) {
        value.clear_for_reuse();
        let mut spare = self.spare.lock();
        if spare.len() < self.kept_max {
            spare.push(value);
        }
    }
}

impl Recycle for Vec<u8> {
    fn clear_for_reuse(&mut self) {
        if self.capacity() > BODY_KEPT_BYTES_MAX {
            *self = Self::new();
        }
        self.clear();
    }
}

/// What one request needs while it is taken apart.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// The decompressed body.
    pub(crate) inflated: Inflated,
    /// Rows without a body.
    pub(crate) rows: MetricRows<'static>,
}

impl Recycle for Work {
    fn clear_for_reuse(&mut self) {
        self.inflated.clear();
        let rows = &mut self.rows;
        rows.series.clear();
        rows.samples.clear();
        rows.sample_starts.clear();
        rows.histograms.clear();
        rows.histogram_starts.clear();
        rows.exemplars.clear();
        rows.metadata.clear();
        rows.spill.clear_for_reuse();
        rows.series.shrink_to(ROWS_KEPT_MAX);
        rows.samples.shrink_to(ROWS_KEPT_MAX);
        rows.sample_starts.shrink_to(ROWS_KEPT_MAX);
        rows.histograms.shrink_to(1_024);
        rows.histogram_starts.shrink_to(1_024);
        rows.exemplars.shrink_to(1_024);
        rows.metadata.shrink_to(1_024);
        const { assert!(size_of::<SeriesRows>() == 32 && size_of::<Sample>() == 16) };
    }
}

/// The same buffers without the body they were filled from.
pub(crate) fn without_body(rows: MetricRows<'_>) -> MetricRows<'static> {
    MetricRows {
        body: &[],
        spill: rows.spill,
        series: rows.series,
        samples: rows.samples,
        sample_starts: rows.sample_starts,
        histograms: rows.histograms,
        histogram_starts: rows.histogram_starts,
        exemplars: rows.exemplars,
        metadata: rows.metadata,
    }
}
