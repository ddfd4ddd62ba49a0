//! Samples on their way out.

use std::sync::Arc;

use model::{Histogram, Matcher, TimeRange};

use crate::Starts;

/// Which samples a question needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Samples outside are left out.
    pub range: TimeRange,
}

/// The samples of one series in time order, each instant once.
#[derive(Debug, Clone, Default)]
pub struct SeriesSamples {
    /// Instants of the float samples, milliseconds. Series of one scrape target share the vector
    /// where they can: compare with `Arc::ptr_eq` to do work once per group.
    pub timestamps: Arc<[i64]>,
    /// Values at those instants, stale markers included.
    pub values: Vec<f64>,
    /// Native histograms with their instants.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
    /// Since when each of both counts, where that was told.
    pub starts: Starts,
}

impl SeriesSamples {
    /// Bytes in memory, a shared vector of instants counted as its own.
    pub fn bytes(&self) -> usize {
        let histograms: usize = self.histograms.iter().map(|(_, h)| h.bytes()).sum();
        let floats =
            self.timestamps.len() * size_of::<i64>() + self.values.len() * size_of::<f64>();
        floats + histograms + self.starts.bytes()
    }
}
