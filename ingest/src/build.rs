//! Rows made here rather than found in a body: labels are sorted, encoded and checked against the
//! limits, so that known series are found by their bytes.

use model::{Exemplar, Histogram, Metadata, Sample};
use storage::{AppendOutcome, MetricRows, SeriesRows};
use tenancy::Limits;

use crate::caps::{Caps, WalkError, room};
use crate::remote_write::{News, bytes_max, refusal};

/// Values of one series.
#[derive(Debug)]
pub(crate) enum Values {
    Sample(Sample),
    Histogram(i64, Histogram),
}

/// Fills the rows of one request.
pub(crate) struct Builder<'w, 'a> {
    rows: &'w mut MetricRows<'a>,
    limits: &'w Limits,
    caps: &'w Caps,
    news: Option<&'w News>,
    label_bytes_max: usize,
    buckets: usize,
    /// Rows that were refused so far.
    pub(crate) refused: AppendOutcome,
}

impl<'w, 'a> Builder<'w, 'a> {
    pub(crate) fn new(
        rows: &'w mut MetricRows<'a>,
        limits: &'w Limits,
        caps: &'w Caps,
        news: Option<&'w News>,
    ) -> Self {
        let label_bytes_max = bytes_max(limits);
        Self {
            rows,
            limits,
            caps,
            news,
            label_bytes_max,
            buckets: 0,
            refused: AppendOutcome::default(),
        }
    }

    /// Adds one series with one value and since when it counts; 0 is unknown. A name that comes
    /// twice is left to the store to refuse; labels without a value are left out.
    pub(crate) fn push(
        &mut self,
        pairs: &mut [(&str, &str)],
        (values, start_ms): (Values, i64),
        exemplars: impl IntoIterator<Item = Exemplar>,
    ) -> Result<(), WalkError> {
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        let (body, spilled) = (self.rows.body.len(), self.rows.spill.len());
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            put_label(&mut self.rows.spill, name, [value, ""]);
        }
        let wire = &self.rows.spill[spilled..];
        if pairs.len() > self.limits.labels_max || wire.len() > self.label_bytes_max {
            let (reason, text) = refusal(wire, pairs.len(), self.limits);
            self.refused.reject(reason, 1, || text);
            self.rows.spill.truncate(spilled);
            return Ok(());
        }
        if self.rows.spill.len() > self.caps.label_bytes_max {
            let limit = self.caps.label_bytes_max;
            return Err(WalkError::TooMany { what: "bytes of labels", limit });
        }
        room(self.rows.series.len(), self.caps.series_max, "series")?;
        let mut series = SeriesRows {
            labels: (body + spilled) as u32..(body + self.rows.spill.len()) as u32,
            samples: self.rows.samples.len() as u32..0,
            histograms: self.rows.histograms.len() as u32..0,
            exemplars: self.rows.exemplars.len() as u32..0,
        };
        self.values(values, start_ms)?;
        for exemplar in exemplars {
            room(self.rows.exemplars.len(), self.caps.exemplars_max, "exemplars")?;
            self.rows.exemplars.push(exemplar);
        }
        series.samples.end = self.rows.samples.len() as u32;
        series.histograms.end = self.rows.histograms.len() as u32;
        series.exemplars.end = self.rows.exemplars.len() as u32;
        self.rows.series.push(series);
        Ok(())
    }

    fn values(&mut self, values: Values, start_ms: i64) -> Result<(), WalkError> {
        match values {
            Values::Sample(sample) => {
                room(self.rows.samples.len(), self.caps.samples_max, "samples")?;
                self.rows.push_sample(sample, start_ms);
            }
            Values::Histogram(timestamp_ms, histogram) => {
                let what = "native histograms";
                room(self.rows.histograms.len(), self.caps.histograms_max, what)?;
                self.buckets += buckets(&histogram);
                if self.buckets > self.caps.histogram_buckets_max {
                    let limit = self.caps.histogram_buckets_max;
                    return Err(WalkError::TooMany { what: "buckets of native histograms", limit });
                }
                self.rows.push_histogram(timestamp_ms, histogram, start_ms);
            }
        }
        Ok(())
    }

    /// Adds metadata that is not known yet.
    pub(crate) fn describe(&mut self, family: String, told: Metadata) -> Result<(), WalkError> {
        let is = (told.kind, told.help.as_str(), told.unit.as_str());
        if self.news.is_none_or(|n| n.known.is_news(n.tenant, &family, is)) {
            let what = "metric families with metadata";
            room(self.rows.metadata.len(), self.caps.metadata_max, what)?;
            self.rows.metadata.push((family, told));
        }
        Ok(())
    }
}

fn buckets(histogram: &Histogram) -> usize {
    let counts = match &histogram.buckets {
        model::Buckets::Integer { positive_deltas, negative_deltas, .. } => {
            positive_deltas.len() + negative_deltas.len()
        }
        model::Buckets::Float { positive, negative, .. } => positive.len() + negative.len(),
    };
    counts + histogram.custom_values.len()
}

/// Appends one label field in canonical encoding; the value comes in two parts.
pub(crate) fn put_label(out: &mut Vec<u8>, name: &str, value: [&str; 2]) {
    let length = value[0].len() + value[1].len();
    let inner = 2 + name.len() + varint_bytes(name.len()) + length + varint_bytes(length);
    out.push(0x0a);
    model::varint::put(out, inner as u64);
    out.push(0x0a);
    model::varint::put(out, name.len() as u64);
    out.extend_from_slice(name.as_bytes());
    out.push(0x12);
    model::varint::put(out, length as u64);
    out.extend_from_slice(value[0].as_bytes());
    out.extend_from_slice(value[1].as_bytes());
}

/// Bytes of a number in base-128 encoding.
pub(crate) fn varint_bytes(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
