//! What is kept of the samples of a window.

use std::sync::Arc;

use model::{Histogram, Resolution};

use crate::tombstone::Ranges;

/// Downsampled samples of one series: an entry for each window that has samples, in order of time.
/// Stale markers are no samples.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    /// First instant of each window with float samples. A sample at the instant at which the next
    /// window begins belongs to that one.
    pub starts: Arc<[i64]>,
    /// How many samples.
    pub count: Vec<f64>,
    /// The smallest; NaN only if all are.
    pub min: Vec<f64>,
    /// The largest; NaN only if all are.
    pub max: Vec<f64>,
    /// Their sum, compensated.
    pub sum: Vec<f64>,
    /// The first of them.
    pub first: Vec<f64>,
    /// The last of them.
    pub last: Vec<f64>,
    /// How much a counter grew from the first to the last: a value below the one before counts in
    /// full, as after a restart from zero. What it grew from one window's last to the next one's
    /// first is in neither.
    pub increase: Vec<f64>,
    /// Whether a stale marker came behind the last.
    pub ended: Vec<bool>,
    /// Windows with native histograms.
    pub histograms: Vec<HistogramWindow>,
}

/// Native histograms of one window.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramWindow {
    /// First instant of the window.
    pub start_ms: i64,
    /// How many.
    pub count: f64,
    /// The last of them.
    pub last: Arc<Histogram>,
    /// Of counters: how much they grew from the first to the last, resets counted as for floats.
    /// Of gauges (its reset hint says so): their sum.
    pub merged: Arc<Histogram>,
    /// Whether a stale marker came behind the last.
    pub ended: bool,
}

/// Columns of [`Windows`] in the order in which they are stored.
pub(crate) const COLUMNS: usize = 7;

impl Windows {
    /// How many windows, of floats and of histograms.
    pub fn len(&self) -> usize {
        self.starts.len() + self.histograms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let histogram = |h: &HistogramWindow| size_of_val(h) + h.last.bytes() + h.merged.bytes();
        self.starts.len() * (size_of::<i64>() + COLUMNS * size_of::<f64>() + 1)
            + self.histograms.iter().map(histogram).sum::<usize>()
    }

    /// The columns as they are stored: later ones can be told from earlier ones.
    pub(crate) fn columns(&self) -> [&[f64]; COLUMNS] {
        let Self { last, first, min, max, increase, sum, count, .. } = self;
        [last, first, min, max, increase, sum, count]
    }

    /// The reverse of [`Windows::columns`].
    pub(crate) fn of_columns(
        starts: Arc<[i64]>,
        columns: [Vec<f64>; COLUMNS],
        ended: Vec<bool>,
    ) -> Self {
        let [last, first, min, max, increase, sum, count] = columns;
        let histograms = Vec::new();
        Self { starts, count, min, max, sum, first, last, increase, ended, histograms }
    }

    /// Some of the windows of floats.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Self {
        let columns = self.columns().map(|column| column[range.clone()].to_vec());
        Self::of_columns(self.starts[range.clone()].into(), columns, self.ended[range].to_vec())
    }

    /// Adds those of a later stretch of time.
    pub(crate) fn append(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        let joined = |a: &[f64], b: &[f64]| [a, b].concat();
        let (own, more) = (self.columns(), later.columns());
        let columns = std::array::from_fn(|i| joined(own[i], more[i]));
        let starts = self.starts.iter().chain(later.starts.iter()).copied().collect();
        let ended = [self.ended.as_slice(), &later.ended].concat();
        let mut histograms = std::mem::take(&mut self.histograms);
        histograms.extend(later.histograms);
        *self = Self { histograms, ..Self::of_columns(starts, columns, ended) };
    }

    /// Keeps the windows of floats, and those of histograms, for which these say so.
    fn retain(&mut self, float: impl Fn(usize) -> bool, histogram: impl Fn(i64) -> bool) {
        let kept: Vec<usize> = (0..self.starts.len()).filter(|i| float(*i)).collect();
        if kept.len() < self.starts.len() {
            let columns = self.columns().map(|c| kept.iter().map(|i| c[*i]).collect());
            let starts = kept.iter().map(|i| self.starts[*i]).collect();
            let ended = kept.iter().map(|i| self.ended[*i]).collect();
            let histograms = std::mem::take(&mut self.histograms);
            *self = Self { histograms, ..Self::of_columns(starts, columns, ended) };
        }
        self.histograms.retain(|h| histogram(h.start_ms));
    }

    /// Leaves out the windows of which something is hidden.
    pub(crate) fn strip(&mut self, hidden: &Ranges, resolution: Resolution) {
        if hidden.is_empty() {
            return;
        }
        let is_whole = |start_ms: i64| !hidden.overlaps(resolution.window_of(start_ms));
        let starts = Arc::clone(&self.starts);
        self.retain(|i| is_whole(starts[i]), is_whole);
    }

    /// Leaves out the windows that do not begin in a range.
    pub(crate) fn clip(&mut self, range: model::TimeRange) {
        let starts = Arc::clone(&self.starts);
        self.retain(|i| range.contains(starts[i]), |start_ms| range.contains(start_ms));
    }

    /// Both together; of two entries for one window that which was made from more samples, these
    /// if it is the same.
    pub(crate) fn or_more(self, others: Self) -> Self {
        if self.is_empty() {
            return others;
        }
        if others.is_empty() {
            return self;
        }
        let both = [&self, &others];
        let mut order: Vec<(i64, usize, usize)> = (0..2)
            .flat_map(|of| both[of].starts.iter().enumerate().map(move |(i, at)| (*at, of, i)))
            .collect();
        order.sort_by(|a, b| {
            let count = |entry: &(i64, usize, usize)| both[entry.1].count[entry.2];
            a.0.cmp(&b.0).then(count(b).total_cmp(&count(a))).then(a.1.cmp(&b.1))
        });
        order.dedup_by_key(|(at, _, _)| *at);
        let pick = |column: usize| -> Vec<f64> {
            order.iter().map(|(_, of, i)| both[*of].columns()[column][*i]).collect()
        };
        let starts = order.iter().map(|(at, _, _)| *at).collect();
        let ended = order.iter().map(|(_, of, i)| both[*of].ended[*i]).collect();
        let joined = Self::of_columns(starts, std::array::from_fn(pick), ended);
        let mut histograms = [self.histograms, others.histograms].concat();
        histograms.sort_by(|a, b| a.start_ms.cmp(&b.start_ms).then(b.count.total_cmp(&a.count)));
        histograms.dedup_by_key(|h| h.start_ms);
        Self { histograms, ..joined }
    }
}
