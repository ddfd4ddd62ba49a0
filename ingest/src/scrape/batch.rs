//! Rows made here rather than received: labels are encoded into a body of our own.

use model::{Metadata, Sample};
use storage::{Appended, MetricRows, SeriesRows};
use tenancy::WriteScope;

use crate::Appender;

/// Rows being collected.
#[derive(Debug, Default)]
pub(super) struct Batch {
    body: Vec<u8>,
    series: Vec<SeriesRows>,
    samples: Vec<Sample>,
    metadata: Vec<(String, Metadata)>,
}

/// How far a batch was filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    body: usize,
    rows: usize,
}

impl Batch {
    /// Adds one sample of the series with these labels in canonical encoding.
    pub(super) fn push(&mut self, labels: &[u8], timestamp_ms: i64, value: f64) {
        let (start, row) = (self.body.len() as u32, self.samples.len() as u32);
        self.body.extend_from_slice(labels);
        self.samples.push(Sample { timestamp_ms, value });
        let labels = start..self.body.len() as u32;
        self.series.push(SeriesRows {
            labels,
            samples: row..row + 1,
            histograms: 0..0,
            exemplars: 0..0,
        });
    }

    pub(super) fn push_metadata(&mut self, family: String, metadata: Metadata) {
        self.metadata.push((family, metadata));
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { body: self.body.len(), rows: self.series.len() }
    }

    /// Forgets the samples that came after a mark.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.body.truncate(mark.body);
        self.series.truncate(mark.rows);
        self.samples.truncate(mark.rows);
    }

    pub(super) fn series(&self) -> usize {
        self.series.len()
    }

    /// Hands the rows on; `None` if there are none.
    pub(super) fn append(
        self,
        appender: &dyn Appender,
        scope: &WriteScope,
    ) -> Result<Option<Appended>, storage::Error> {
        if self.series.is_empty() && self.metadata.is_empty() {
            return Ok(None);
        }
        let (series, samples, metadata) = (self.series, self.samples, self.metadata);
        let rows =
            MetricRows { body: &self.body, series, samples, metadata, ..MetricRows::default() };
        appender.append(scope, &rows).map(Some)
    }
}
