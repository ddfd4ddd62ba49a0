//! What one record of a queue holds: rows of one tenant, in a form that costs little to write where
//! rows come in. Label fields are copied as they came; snappy takes their repetitions out
//! (docs/formats/forward.md).

use model::{Exemplar, Labels, Metadata, MetricKind, Sample, varint};
use storage::{MetricRows, SeriesRows};

use super::wire::{put_bytes, put_double, put_histogram, put_number, put_whole};
use crate::caps::WalkError;
use crate::remote_write::histogram;
use crate::wire::{Reader, WireError};

/// Length of a payload at which a record is followed by the next, decompressed. Bytes.
const PAYLOAD_BYTES: usize = 1 << 20;

/// Longest payload, decompressed: a series with many histograms does not end at the length above.
/// Bytes.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Rows of one series that stay together. One series may be all of a request.
const SERIES_ROWS_MAX: u32 = 1_000;

/// Rows, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
}

impl Counts {
    pub(super) fn of(series: &SeriesRows) -> Self {
        Self {
            samples: series.samples.len() as u64,
            histograms: series.histograms.len() as u64,
            exemplars: series.exemplars.len() as u64,
        }
    }

    pub(super) fn all(self) -> u64 {
        self.samples + self.histograms + self.exemplars
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
    }
}

impl std::ops::SubAssign for Counts {
    fn sub_assign(&mut self, other: Self) {
        self.samples = self.samples.saturating_sub(other.samples);
        self.histograms = self.histograms.saturating_sub(other.histograms);
        self.exemplars = self.exemplars.saturating_sub(other.exemplars);
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// A payload as it is queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) counts: Counts,
    /// Compressed.
    pub(super) bytes: Vec<u8>,
}

/// Puts rows into payloads.
#[derive(Debug, Default)]
pub(super) struct Writer {
    body: Vec<u8>,
    counts: Counts,
    message: Vec<u8>,
    field: Vec<u8>,
    done: Vec<Payload>,
}

impl Writer {
    /// Adds a series under the labels it is sent with, in as many parts as it needs.
    pub(super) fn series(&mut self, rows: &MetricRows<'_>, series: &SeriesRows, labels: &[u8]) {
        for part in parts(series, SERIES_ROWS_MAX) {
            self.part(rows, &part, labels);
            self.counts += Counts::of(&part);
            if self.body.len() >= PAYLOAD_BYTES {
                self.finish();
            }
        }
    }

    fn part(&mut self, rows: &MetricRows<'_>, part: &SeriesRows, labels: &[u8]) {
        let Self { body, message, field, .. } = self;
        message.clear();
        put_bytes(message, 1, labels);
        field.clear();
        let starts = rows.sample_starts_of(part).iter().copied().chain(std::iter::repeat(0));
        let mut before = 0_i64;
        for (sample, start_ms) in samples_of(rows, part).iter().zip(starts) {
            varint::put_signed(field, sample.timestamp_ms.wrapping_sub(before));
            before = sample.timestamp_ms;
            field.extend_from_slice(&sample.value.to_le_bytes());
            varint::put_signed(field, start_ms);
        }
        put_bytes(message, 2, field);
        let starts = rows.histogram_starts_of(part).iter().copied().chain(std::iter::repeat(0));
        for ((timestamp_ms, histogram), start_ms) in histograms_of(rows, part).iter().zip(starts) {
            field.clear();
            put_histogram(field, (*timestamp_ms, start_ms), histogram);
            put_bytes(message, 3, field);
        }
        for exemplar in exemplars_of(rows, part) {
            field.clear();
            exemplar.labels.encode(field);
            put_double(field, 2, exemplar.value);
            put_number(field, 3, exemplar.timestamp_ms as u64);
            put_bytes(message, 4, field);
        }
        put_bytes(body, 1, message);
    }

    /// Adds the metadata of a family.
    pub(super) fn family(&mut self, name: &str, told: &Metadata) {
        let Self { body, message, .. } = self;
        message.clear();
        put_bytes(message, 1, name.as_bytes());
        put_number(message, 2, told.kind as u64);
        put_bytes(message, 3, told.help.as_bytes());
        put_bytes(message, 4, told.unit.as_bytes());
        put_bytes(body, 2, message);
        if self.body.len() >= PAYLOAD_BYTES {
            self.finish();
        }
    }

    /// The payloads of everything added.
    pub(super) fn into_payloads(mut self) -> Vec<Payload> {
        self.finish();
        self.done
    }

    fn finish(&mut self) {
        if self.body.is_empty() {
            return;
        }
        let bytes = snap::raw::Encoder::new().compress_vec(&self.body);
        let bytes = bytes.expect("a payload is far shorter than the 4 GiB that snappy can say");
        self.done.push(Payload { counts: std::mem::take(&mut self.counts), bytes });
        self.body.clear();
    }
}

/// A series in parts of up to so many rows, each kind of rows in its order.
pub(super) fn parts(series: &SeriesRows, rows_max: u32) -> impl Iterator<Item = SeriesRows> {
    let mut rest = series.clone();
    std::iter::from_fn(move || {
        let mut room = rows_max;
        let mut take = |range: &mut std::ops::Range<u32>| {
            let end = range.end.min(range.start.saturating_add(room));
            let taken = range.start..end;
            range.start = end;
            room -= taken.len() as u32;
            taken
        };
        let samples = take(&mut rest.samples);
        let histograms = take(&mut rest.histograms);
        let exemplars = take(&mut rest.exemplars);
        let part = SeriesRows { labels: rest.labels.clone(), samples, histograms, exemplars };
        (Counts::of(&part).all() > 0).then_some(part)
    })
}

pub(super) fn samples_of<'r>(rows: &'r MetricRows<'_>, series: &SeriesRows) -> &'r [Sample] {
    &rows.samples[series.samples.start as usize..series.samples.end as usize]
}

pub(super) fn histograms_of<'r>(
    rows: &'r MetricRows<'_>,
    series: &SeriesRows,
) -> &'r [(i64, model::Histogram)] {
    &rows.histograms[series.histograms.start as usize..series.histograms.end as usize]
}

pub(super) fn exemplars_of<'r>(rows: &'r MetricRows<'_>, series: &SeriesRows) -> &'r [Exemplar] {
    &rows.exemplars[series.exemplars.start as usize..series.exemplars.end as usize]
}

/// What a queued payload is not.
#[derive(Debug, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("a queued payload cannot be decompressed: {0}")]
    Snappy(#[from] snap::Error),
    #[error("a queued payload of {0} bytes is longer than any")]
    TooLong(usize),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error("a sample of a queued payload is cut short")]
    Sample,
}

/// How long a payload is decompressed, as it says itself.
pub(super) fn inflated_bytes(payload: &Payload) -> usize {
    snap::raw::decompress_len(&payload.bytes).unwrap_or(payload.bytes.len())
}

/// A payload decompressed.
pub(super) fn inflated(bytes: &[u8]) -> Result<Vec<u8>, PayloadError> {
    let length = snap::raw::decompress_len(bytes)?;
    if length > PAYLOAD_BYTES_MAX {
        return Err(PayloadError::TooLong(length));
    }
    Ok(snap::raw::Decoder::new().decompress_vec(bytes)?)
}

/// The rows of a decompressed payload.
pub(super) fn rows_of(body: &[u8]) -> Result<MetricRows<'_>, PayloadError> {
    let mut rows = MetricRows { body, ..MetricRows::default() };
    let mut reader = Reader::new(body);
    while !reader.is_at_end() {
        match reader.varint()? {
            0x0a => read_series(reader.message()?, &mut rows)?,
            0x12 => read_family(reader.message()?, &mut rows)?,
            tag => reader.skip(tag, &[1, 2])?,
        }
    }
    Ok(rows)
}

fn read_series(mut message: Reader<'_>, rows: &mut MetricRows<'_>) -> Result<(), PayloadError> {
    let mut series = SeriesRows {
        labels: 0..0,
        samples: rows.samples.len() as u32..0,
        histograms: rows.histograms.len() as u32..0,
        exemplars: rows.exemplars.len() as u32..0,
    };
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => {
                let labels = message.range()?;
                series.labels = labels.start as u32..labels.end as u32;
            }
            0x12 => read_samples(message.slice()?, rows)?,
            0x1a => {
                // A limit by bytes: each bucket takes one at least.
                let (mut buckets, limits) = (0, (usize::MAX, PAYLOAD_BYTES_MAX));
                histogram::read_into(message.message()?, rows, &mut buckets, limits)?;
            }
            0x22 => read_exemplar(message.message()?, rows)?,
            tag => message.skip(tag, &[1, 2, 3, 4])?,
        }
    }
    series.samples.end = rows.samples.len() as u32;
    series.histograms.end = rows.histograms.len() as u32;
    series.exemplars.end = rows.exemplars.len() as u32;
    rows.series.push(series);
    Ok(())
}

fn read_samples(mut bytes: &[u8], rows: &mut MetricRows<'_>) -> Result<(), PayloadError> {
    let mut timestamp_ms = 0_i64;
    while !bytes.is_empty() {
        let step = varint::take_signed(&mut bytes).ok_or(PayloadError::Sample)?;
        timestamp_ms = timestamp_ms.wrapping_add(step);
        let (value, rest) = bytes.split_first_chunk::<8>().ok_or(PayloadError::Sample)?;
        bytes = rest;
        let start_ms = varint::take_signed(&mut bytes).ok_or(PayloadError::Sample)?;
        let sample = Sample { timestamp_ms, value: f64::from_le_bytes(*value) };
        rows.push_sample(sample, start_ms);
    }
    Ok(())
}

fn read_exemplar(mut message: Reader<'_>, rows: &mut MetricRows<'_>) -> Result<(), PayloadError> {
    let (mut labels, mut value, mut timestamp_ms) = (Vec::new(), 0.0, 0);
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => put_whole(&mut labels, 1, message.slice()?),
            0x11 => value = message.double()?,
            0x18 => timestamp_ms = message.varint()? as i64,
            tag => message.skip(tag, &[1, 2, 3])?,
        }
    }
    let labels = Labels::from_wire(&labels);
    let labels = labels.map_err(|_| message.fail("labels of an exemplar are not a label set"))?;
    rows.exemplars.push(Exemplar { labels, value, timestamp_ms });
    Ok(())
}

fn read_family(mut message: Reader<'_>, rows: &mut MetricRows<'_>) -> Result<(), PayloadError> {
    let (mut name, mut told) = (String::new(), Metadata::default());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => name = text(message.slice()?),
            0x10 => told.kind = MetricKind::from_wire(message.varint()?),
            0x1a => told.help = text(message.slice()?),
            0x22 => told.unit = text(message.slice()?),
            tag => message.skip(tag, &[1, 2, 3, 4])?,
        }
    }
    rows.metadata.push((name, told));
    Ok(())
}

/// Any bytes as a payload.
pub(crate) fn fuzz(bytes: &[u8], check: impl Fn(&MetricRows<'_>)) {
    if let Ok(body) = inflated(bytes) {
        fuzz_body(&body, &check);
    }
    fuzz_body(bytes, check);
}

fn fuzz_body(body: &[u8], check: impl Fn(&MetricRows<'_>)) {
    let Ok(rows) = rows_of(body) else { return };
    check(&rows);
    let mut writer = Writer::default();
    for series in &rows.series {
        writer.series(&rows, series, rows.labels_of(series));
    }
    for payload in writer.into_payloads() {
        let body = inflated(&payload.bytes).expect("what was written can be read");
        let again = rows_of(&body).expect("what was written can be read");
        assert_eq!(again.series.iter().map(Counts::of).sum::<Counts>(), payload.counts);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tenancy::TenantId;

    use super::*;
    use crate::forward::Record;
    use crate::forward::testing::{everything, shown};

    #[test]
    fn rows_come_back_as_they_were() {
        let rows = everything();
        let mut writer = Writer::default();
        for series in &rows.series {
            writer.series(&rows, series, rows.labels_of(series));
        }
        rows.metadata.iter().for_each(|(name, told)| writer.family(name, told));
        let payloads = writer.into_payloads();
        let expected = Counts { samples: 5, histograms: 2, exemplars: 1 };
        assert_eq!(payloads.iter().map(|p| p.counts).collect::<Vec<_>>(), [expected]);
        let body = inflated(&payloads[0].bytes).expect("snappy");
        assert_eq!(shown(&rows_of(&body).expect("rows")), shown(&rows));
    }

    #[test]
    fn long_rows_are_cut_into_records() {
        let mut rows = MetricRows::default();
        for i in 0..200_000 {
            rows.push_sample(Sample { timestamp_ms: i, value: i as f64 }, 0);
        }
        let series = SeriesRows { samples: 0..200_000, ..SeriesRows::default() };
        let mut writer = Writer::default();
        writer.series(&rows, &series, b"");
        let payloads = writer.into_payloads();
        assert!(payloads.len() > 1, "{}", payloads.len());
        let mut next = 0;
        for payload in &payloads {
            let body = inflated(&payload.bytes).expect("snappy");
            assert!(body.len() < PAYLOAD_BYTES + 64 * SERIES_ROWS_MAX as usize);
            for sample in &rows_of(&body).expect("rows").samples {
                assert_eq!(sample.timestamp_ms, next);
                next += 1;
            }
        }
        assert_eq!(next, 200_000);
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        let compressed =
            |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).expect("short");
        assert!(inflated(b"\xff\xff\xff\xff\x0f").is_err(), "4 GiB declared");
        assert!(inflated(b"").is_err());
        for (body, part) in [
            (&b"\x0a\x05"[..], "past the end"),
            (b"\x0a\x03\x12\x01\x02", "cut short"),
            (b"\x0a\x03\x12\x01\x80", "cut short"),
            (b"\x0a\x06\x22\x04\x0a\x02\x0a\x05", "label set"),
            (b"\x08\x01", "wrong wire type"),
        ] {
            let body = inflated(&compressed(body)).expect("snappy");
            let error = rows_of(&body).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_file_and_any_payload_is_survived(
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            noise in vec(any::<u8>(), 0..100),
        ) {
            let (rows, mut writer) = (everything(), Writer::default());
            rows.series.iter().for_each(|one| writer.series(&rows, one, rows.labels_of(one)));
            rows.metadata.iter().for_each(|(name, told)| writer.family(name, told));
            let payload = writer.into_payloads().remove(0);
            let body = inflated(&payload.bytes).expect("snappy");
            let record = Record { tenant: TenantId(1), at_ms: -1, payload };
            for mut bytes in [body, record.encode(), noise] {
                crate::fuzz::forward_queue(&bytes);
                for (at, byte) in &changes {
                    let at = at.index(bytes.len().max(1));
                    bytes.iter_mut().skip(at).take(1).for_each(|there| *there = *byte);
                }
                crate::fuzz::forward_queue(&bytes);
                crate::fuzz::forward_queue(&bytes[..bytes.len() / 2]);
            }
        }
    }
}
