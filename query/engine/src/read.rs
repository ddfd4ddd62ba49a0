//! Raw samples for remote read and federation: series in the order of their labels, a few at a
//! time, under the same limits as an evaluation.

use std::sync::Arc;

use async_trait::async_trait;
use query::{Batches, Error, RawSeries};
use storage::SeriesSamples;

use crate::budget::{Budget, Reserved};
use crate::eval::decoded_bytes;
use crate::pool::Lane;
use crate::source::Selected;

/// Series that are read at a time. Whoever takes them is slower than we are, so few are enough.
const SERIES: usize = 32;

/// A selection that is read from the first series to the last.
pub(crate) struct Reading {
    pub(crate) selected: Arc<dyn Selected>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) lane: Lane,
    next: usize,
    /// What was given last.
    held: Reserved,
}

impl Reading {
    pub(crate) fn new(selected: Arc<dyn Selected>, budget: Arc<Budget>, lane: Lane) -> Self {
        Self { selected, budget, lane, next: 0, held: Reserved::default() }
    }
}

#[async_trait]
impl Batches for Reading {
    async fn next(&mut self) -> Result<Option<Vec<RawSeries>>, Error> {
        self.held = Reserved::default();
        self.budget.check()?;
        let range = self.next..self.selected.len().min(self.next + SERIES);
        if range.is_empty() {
            return Ok(None);
        }
        self.next = range.end;
        let fetched = self.selected.fetch(range.clone()).await?;
        self.budget.take_bytes(fetched.bytes())?;
        let budget = Arc::clone(&self.budget);
        let decode = move || {
            let decoded = fetched.decode()?;
            let held = budget.reserve(decoded_bytes(&decoded))?;
            budget.take_samples(decoded.iter().map(samples_of).sum())?;
            Ok((decoded, held))
        };
        let (decoded, held) = self.lane.run(decode).await?;
        self.held = held;
        let series = |(place, samples): (usize, SeriesSamples)| RawSeries {
            labels: self.selected.labels(place).clone(),
            timestamps: samples.timestamps,
            values: samples.values,
            histograms: samples.histograms,
        };
        Ok(Some(range.zip(decoded).map(series).collect()))
    }
}

/// How many samples that is for the limit: a histogram as many as fit into its memory.
pub(crate) fn samples_of(series: &SeriesSamples) -> usize {
    let sample = size_of::<(i64, f64)>();
    let histogram = |(_, h): &(i64, Arc<model::Histogram>)| h.bytes().div_ceil(sample);
    series.values.len() + series.histograms.iter().map(histogram).sum::<usize>()
}
