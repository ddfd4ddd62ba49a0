//! Buffers that go from request to request, so that a steady stream of writes allocates nothing.

use model::Sample;
use parking_lot::Mutex;
use storage::{MetricRows, SeriesRows};

use super::inflated::{Inflated, KEPT_BYTES_MAX};

/// Rows kept: as many as a body holds that is not rare.
const ROWS_KEPT_MAX: usize = 64 << 10;

/// Something with buffers inside.
pub(crate) trait Recycle: Default {
    /// Empties it and gives back what is larger than usual.
    fn clear_for_reuse(&mut self);

    /// Memory that it keeps, as far as the pool is to bound it.
    fn kept_bytes(&self) -> usize {
        0
    }
}

/// A few used values.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    spare: Mutex<Spare<T>>,
    kept_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Spare<T> {
    values: Vec<T>,
    bytes: usize,
}

impl<T: Recycle> Pool<T> {
    /// A pool of so many values at most, which keep so many bytes together.
    pub(crate) fn new(kept_max: usize, bytes_max: usize) -> Self {
        let spare = Spare { values: Vec::new(), bytes: 0 };
        Self { spare: Mutex::new(spare), kept_max, bytes_max }
    }

    pub(crate) fn take(&self) -> T {
        let mut spare = self.spare.lock();
        let Some(value) = spare.values.pop() else { return T::default() };
        spare.bytes -= value.kept_bytes();
        value
    }

    pub(crate) fn put(&self, mut value: T) {
        value.clear_for_reuse();
        let mut spare = self.spare.lock();
        let bytes = spare.bytes + value.kept_bytes();
        if spare.values.len() < self.kept_max && bytes <= self.bytes_max {
            spare.values.push(value);
            spare.bytes = bytes;
        }
    }
}

impl Recycle for Vec<u8> {
    fn clear_for_reuse(&mut self) {
        if self.capacity() > KEPT_BYTES_MAX {
            *self = Self::new();
        }
        self.clear();
    }

    fn kept_bytes(&self) -> usize {
        self.capacity()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_keeps_few_values_and_few_bytes() {
        let pool: Pool<Vec<u8>> = Pool::new(3, 5_000);
        let put = |bytes: usize| {
            let mut value = Vec::with_capacity(bytes);
            value.push(1);
            pool.put(value);
        };
        [1_000, 6_000, 3_000, 2_000, 500, 500].into_iter().for_each(put);
        let taken: Vec<Vec<u8>> = (0..4).map(|_| pool.take()).collect();
        let kept: Vec<usize> = taken.iter().map(Vec::capacity).collect();
        assert_eq!(kept, [500, 3_000, 1_000, 0], "2,000 are too many bytes, then it is full");
        assert!(taken.iter().all(Vec::is_empty));
        put(5_000);
        assert_eq!(pool.take().capacity(), 5_000, "what was taken makes room");
        let large: Pool<Vec<u8>> = Pool::new(1, usize::MAX);
        large.put(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert_eq!(large.take().capacity(), 0, "what is rare goes back to the allocator");
    }
}
