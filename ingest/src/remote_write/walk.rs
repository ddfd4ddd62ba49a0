//! The walk of remote write 1.0: takes `prometheus.WriteRequest` apart where it lies.
//!
//! ```text
//! WriteRequest { timeseries = 1 { labels = 1 { name = 1, value = 2 }
//!                                 samples = 2 { value = 1, timestamp = 2 }
//!                                 exemplars = 3 { labels = 1, value = 2, timestamp = 3 }
//!                                 histograms = 4 }
//!                metadata = 3 { type = 1, metric_family_name = 2, help = 4, unit = 5 } }
//! ```
//!
//! A general decoder builds a string per label and costs twenty times as much as the rest of
//! ingest; here label fields are only stepped over and handed on as a range of the body. Labels
//! that do not lie in one piece are put together in `spill`. The nesting is fixed, so there is no
//! recursion; every count has a cap, so memory stays a small multiple of the body.

use std::ops::Range;

use model::{Exemplar, Labels, Metadata, MetricKind, Sample};
use storage::{AppendOutcome, MetricRows, Reason, SeriesRows};
use tenancy::Limits;

use super::histogram;
use super::labels::{self, shortened};
use crate::caps::{Caps, WalkError, room};
use crate::wire::{Reader, WireError};

/// Characters in the names and values of an exemplar's labels together. Prometheus' and
/// OpenMetrics' limit.
pub(crate) const EXEMPLAR_CHARS_MAX: usize = 128;

/// Offsets are 32 bits wide and the spill lies behind the body.
pub(super) const BODY_BYTES_MAX: usize = i32::MAX as usize;

/// Takes a decompressed body apart into `rows`, which must be empty. Rows that are refused one by
/// one (labels over the limits, broken exemplars) are counted in the outcome.
pub fn walk<'a>(
    body: &'a [u8],
    limits: &Limits,
    caps: &Caps,
    rows: &mut MetricRows<'a>,
) -> Result<AppendOutcome, WalkError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(WalkError::TooMany { what: "bytes", limit: BODY_BYTES_MAX });
    }
    rows.body = body;
    let mut walk = Walk {
        limits,
        caps,
        rows,
        refused: AppendOutcome::default(),
        label_bytes: Vec::new(),
        buckets: 0,
    };
    let mut request = Reader::new(body);
    while !request.is_at_end() {
        match request.varint()? {
            0x0a => walk.time_series(request.message()?)?,
            0x1a => walk.metadata(request.message()?)?,
            tag => request.skip(tag, &[1, 3])?,
        }
    }
    Ok(walk.refused)
}

struct Walk<'w, 'a> {
    limits: &'w Limits,
    caps: &'w Caps,
    rows: &'w mut MetricRows<'a>,
    refused: AppendOutcome,
    /// Labels of one exemplar, put together.
    label_bytes: Vec<u8>,
    /// Buckets of all histograms so far.
    buckets: usize,
}

/// The label fields of one series, as far as they were seen.
#[derive(Default)]
struct LabelRun {
    range: Range<usize>,
    fields: usize,
    spilled: bool,
}

impl LabelRun {
    /// Adds one or more label fields that lie next to each other in the body.
    #[inline(always)]
    fn add(&mut self, fields: Range<usize>, body: &[u8], spill: &mut Vec<u8>) {
        if self.range.is_empty() {
            self.range = fields;
        } else if !self.spilled && self.range.end == fields.start {
            self.range.end = fields.end;
        } else {
            self.add_apart(fields, body, spill);
        }
    }

    /// Fields apart from the others: all of them move into the spill.
    #[cold]
    fn add_apart(&mut self, fields: Range<usize>, body: &[u8], spill: &mut Vec<u8>) {
        if !self.spilled {
            let start = body.len() + spill.len();
            spill.extend_from_slice(&body[self.range.clone()]);
            self.range = start..start;
            self.spilled = true;
        }
        spill.extend_from_slice(&body[fields]);
        self.range.end = body.len() + spill.len();
    }
}

impl<'a> Walk<'_, 'a> {
    fn time_series(&mut self, mut message: Reader<'a>) -> Result<(), WalkError> {
        let (samples, histograms, exemplars) =
            (self.rows.samples.len(), self.rows.histograms.len(), self.rows.exemplars.len());
        let mut run = LabelRun::default();
        while !message.is_at_end() {
            let start = message.at();
            match message.varint()? {
                0x0a => {
                    message.range()?;
                    run.fields += 1;
                    run.add(start..message.at(), self.rows.body, &mut self.rows.spill);
                }
                0x12 => {
                    room(self.rows.samples.len(), self.caps.samples_max, "samples")?;
                    self.rows.samples.push(sample(message.message()?)?);
                }
                0x1a => self.exemplar(message.message()?)?,
                0x22 => self.histogram(message.message()?)?,
                tag => message.skip(tag, &[1, 2, 3, 4])?,
            }
        }
        let series = SeriesRows {
            labels: run.range.start as u32..run.range.end as u32,
            samples: samples as u32..self.rows.samples.len() as u32,
            histograms: histograms as u32..self.rows.histograms.len() as u32,
            exemplars: exemplars as u32..self.rows.exemplars.len() as u32,
        };
        if run.fields > self.limits.labels_max || run.range.len() > labels::bytes_max(self.limits) {
            self.refuse_series(&series, run.fields);
        } else if !(series.samples.is_empty()
            && series.histograms.is_empty()
            && series.exemplars.is_empty())
        {
            room(self.rows.series.len(), self.caps.series_max, "series")?;
            self.rows.series.push(series);
        }
        Ok(())
    }

    /// A series that cannot pass the limits whatever its labels say: refused before it costs more.
    #[cold]
    fn refuse_series(&mut self, series: &SeriesRows, fields: usize) {
        let rows = (series.samples.len() + series.histograms.len() + series.exemplars.len()) as u64;
        let (reason, text) = labels::refusal(self.rows.labels_of(series), fields, self.limits);
        self.refused.reject(reason, rows.max(1), || text);
        self.rows.truncate_samples(series.samples.start as usize);
        self.rows.truncate_histograms(series.histograms.start as usize);
        self.rows.exemplars.truncate(series.exemplars.start as usize);
    }

    fn exemplar(&mut self, mut message: Reader<'a>) -> Result<(), WalkError> {
        room(self.rows.exemplars.len(), self.caps.exemplars_max, "exemplars")?;
        let (mut value, mut timestamp_ms) = (0.0, 0);
        self.label_bytes.clear();
        while !message.is_at_end() {
            let start = message.at();
            match message.varint()? {
                0x0a => {
                    message.range()?;
                    self.label_bytes.extend_from_slice(&self.rows.body[start..message.at()]);
                }
                0x11 => value = message.double()?,
                0x18 => timestamp_ms = message.varint()? as i64,
                tag => message.skip(tag, &[1, 2, 3])?,
            }
        }
        // Characters are at most as many as bytes; four bytes make the longest character.
        if self.label_bytes.len() > 8 * EXEMPLAR_CHARS_MAX + 1_024 {
            self.refused.reject(Reason::InvalidExemplar, 1, too_long);
            return Ok(());
        }
        match Labels::from_wire(&self.label_bytes) {
            Ok(labels) if chars(&labels) > EXEMPLAR_CHARS_MAX => {
                self.refused.reject(Reason::InvalidExemplar, 1, too_long);
            }
            Ok(labels) => self.rows.exemplars.push(Exemplar { labels, value, timestamp_ms }),
            Err(why) => {
                self.refused.reject(Reason::InvalidExemplar, 1, || format!("exemplar: {why}"))
            }
        }
        Ok(())
    }

    fn histogram(&mut self, message: Reader<'a>) -> Result<(), WalkError> {
        let limits = (self.caps.histograms_max, self.caps.histogram_buckets_max);
        histogram::read_into(message, self.rows, &mut self.buckets, limits)
    }

    fn metadata(&mut self, mut message: Reader<'a>) -> Result<(), WalkError> {
        room(self.rows.metadata.len(), self.caps.metadata_max, "metric families with metadata")?;
        let (mut kind, mut family, mut help, mut unit) =
            (MetricKind::Unknown, &b""[..], &b""[..], &b""[..]);
        while !message.is_at_end() {
            match message.varint()? {
                0x08 => kind = MetricKind::from_wire(u64::from(message.varint()? as u32)),
                0x12 => family = message.slice()?,
                0x22 => help = message.slice()?,
                0x2a => unit = message.slice()?,
                tag => message.skip(tag, &[1, 2, 4, 5])?,
            }
        }
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        match (text(family), text(help), text(unit)) {
            (Some(family), Some(help), Some(unit)) if !family.is_empty() => {
                self.rows.metadata.push((family, Metadata { kind, help, unit }));
            }
            _ => self.refused.reject(Reason::InvalidMetadata, 1, || {
                format!(
                    "metadata of family {:?}: no name, or text that is not UTF-8",
                    shortened(family)
                )
            }),
        }
        Ok(())
    }
}

#[inline(always)]
pub(super) fn sample(mut message: Reader<'_>) -> Result<Sample, WireError> {
    let (mut value, mut timestamp_ms) = (0.0, 0);
    while !message.is_at_end() {
        match message.varint()? {
            0x09 => value = message.double()?,
            0x10 => timestamp_ms = message.varint()? as i64,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    Ok(Sample { timestamp_ms, value })
}

pub(crate) fn chars(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
}

pub(crate) fn too_long() -> String {
    format!("exemplar labels have more than {EXEMPLAR_CHARS_MAX} characters")
}
