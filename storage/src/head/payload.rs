//! Log record payloads as `append` writes them (docs/formats/log-records.md).

use model::{Exemplar, Metadata, RecordKind, varint};

use super::buffer::Point;
use super::identity::LabelStore;
use super::series::Series;

/// First byte of every payload: its version.
pub(super) const VERSION: u8 = 1;

/// That of samples and histograms with start timestamps.
pub(super) const VERSION_STARTS: u8 = 2;

/// A record of histograms or exemplars ends at this length, and another is begun: the log takes
/// no larger ones than 64 MiB, and a hostile request grows on its way here. Samples shrink.
const RECORD_BYTES: usize = 16 << 20;

/// What one append has to write to the log. Kept and used again: its buffers stay allocated.
#[derive(Debug, Default)]
pub struct Payloads {
    samples: Vec<u8>,
    histograms: Vec<u8>,
    exemplars: Vec<u8>,
    metadata: Vec<u8>,
    /// Records that are complete, after the samples.
    full: Vec<(RecordKind, Vec<u8>)>,
    /// How often the series had been renumbered; every record says it.
    epoch: u64,
    /// Whether samples and histograms come with start timestamps.
    with_starts: bool,
    identities: Vec<u8>,
    /// Samples later than all of their series.
    pub(super) ordered: Columns,
    /// The others.
    pub(super) late: Columns,
}

/// Samples, column by column.
#[derive(Debug, Default)]
pub(super) struct Columns {
    count: u64,
    series: Vec<u8>,
    times: Vec<u8>,
    values: Vec<u8>,
    /// Only with start timestamps.
    starts: Vec<u8>,
    with_starts: bool,
    last_series: u32,
    last_ms: i64,
    last_start_ms: i64,
}

/// Where the numbering of symbols, shapes and series stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) symbols: u32,
    pub(super) shapes: u32,
    pub(super) series: u32,
}

impl Payloads {
    /// The records to append, in this order.
    pub fn records(&self) -> impl Iterator<Item = (RecordKind, &[u8])> {
        let full = self.full.iter().map(|(kind, payload)| (*kind, payload.as_slice()));
        let rest = [
            (RecordKind::Histograms, self.histograms.as_slice()),
            (RecordKind::Exemplars, self.exemplars.as_slice()),
            (RecordKind::Metadata, self.metadata.as_slice()),
        ];
        let samples = std::iter::once((RecordKind::Samples, self.samples.as_slice()));
        samples.chain(full).chain(rest).filter(|(_, payload)| !payload.is_empty())
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records().next().is_none()
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.records().map(|(_, payload)| payload.len()).sum()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
        self.full.clear();
        self.ordered.clear();
        self.late.clear();
    }

    /// Forgets everything, for records of a head that was renumbered `epoch` times.
    pub(super) fn begin(&mut self, epoch: u64, with_starts: bool) {
        self.clear();
        (self.epoch, self.with_starts) = (epoch, with_starts);
        (self.ordered.with_starts, self.late.with_starts) = (with_starts, with_starts);
    }

    /// The version of records of samples and histograms.
    fn version(&self) -> u8 {
        if self.with_starts { VERSION_STARTS } else { VERSION }
    }

    pub(super) fn push_histogram(
        &mut self,
        series: u32,
        (ms, start_ms): (i64, i64),
        encoded: &[u8],
    ) {
        let begin = (self.version(), self.epoch);
        start(&mut self.histograms, begin, RecordKind::Histograms, &mut self.full);
        varint::put(&mut self.histograms, u64::from(series));
        varint::put_signed(&mut self.histograms, ms);
        if self.with_starts {
            varint::put_signed(&mut self.histograms, start_ms);
        }
        put_bytes(&mut self.histograms, encoded);
    }

    pub(super) fn push_exemplar(&mut self, series: u32, exemplar: &Exemplar) {
        start(&mut self.exemplars, (VERSION, self.epoch), RecordKind::Exemplars, &mut self.full);
        varint::put(&mut self.exemplars, u64::from(series));
        varint::put_signed(&mut self.exemplars, exemplar.timestamp_ms);
        self.exemplars.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
        let mut labels = Vec::new();
        exemplar.labels.encode(&mut labels);
        put_bytes(&mut self.exemplars, &labels);
    }

    pub(super) fn push_metadata(&mut self, family: &str, metadata: &Metadata) {
        start(&mut self.metadata, (VERSION, self.epoch), RecordKind::Metadata, &mut self.full);
        put_metadata(&mut self.metadata, family, metadata);
    }

    /// Puts the samples' record together, with everything that was new since `mark`.
    pub(super) fn finish(&mut self, mark: Mark, labels: &LabelStore, series: &[Series]) {
        let is_empty =
            self.ordered.count == 0 && self.late.count == 0 && mark.series as usize == series.len();
        if is_empty {
            return;
        }
        self.identities.clear();
        if (mark.series as usize) < series.len() {
            put_identities(&mut self.identities, mark, labels, series);
        }
        let version = self.version();
        let out = &mut self.samples;
        out.reserve(self.identities.len() + self.ordered.bytes() + self.late.bytes() + 64);
        put_start_of(out, (version, self.epoch));
        put_bytes(out, &self.identities);
        for columns in [&self.ordered, &self.late] {
            varint::put(out, columns.count);
            for column in [&columns.series, &columns.times, &columns.values] {
                put_bytes(out, column);
            }
            if self.with_starts {
                put_bytes(out, &columns.starts);
            }
        }
    }
}

impl Columns {
    /// Adds a sample. Its value stands for itself: if another record is lost, this one still says
    /// what was sent.
    #[inline]
    pub(super) fn push(&mut self, series: u32, point: Point, start_ms: i64) {
        self.count += 1;
        varint::put_signed(&mut self.series, i64::from(series) - i64::from(self.last_series));
        varint::put_signed(&mut self.times, point.ms.wrapping_sub(self.last_ms));
        (self.last_series, self.last_ms) = (series, point.ms);
        put_value(&mut self.values, point.bits);
        if self.with_starts {
            self.push_start(start_ms);
        }
    }

    fn push_start(&mut self, start_ms: i64) {
        if start_ms == 0 {
            self.starts.push(START_UNKNOWN);
        } else if start_ms == self.last_start_ms {
            self.starts.push(START_AS_BEFORE);
        } else {
            self.starts.push(START_OTHER);
            varint::put_signed(&mut self.starts, start_ms.wrapping_sub(self.last_start_ms));
            self.last_start_ms = start_ms;
        }
    }

    fn bytes(&self) -> usize {
        self.series.len() + self.times.len() + self.values.len() + self.starts.len()
    }

    fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        (self.count, self.last_series, self.last_ms, self.last_start_ms) = (0, 0, 0, 0);
    }
}

/// A sample without start timestamp, one with that of the last that has one, one with another.
const START_UNKNOWN: u8 = 0;
const START_AS_BEFORE: u8 = 1;
const START_OTHER: u8 = 2;

/// Takes what [`Columns::push_start`] wrote; `last` is kept from call to call, 0 at first.
pub(super) fn take_start(from: &mut &[u8], last: &mut i64) -> Option<i64> {
    let (&control, rest) = from.split_first()?;
    *from = rest;
    match control {
        START_UNKNOWN => return Some(0),
        START_AS_BEFORE => {}
        START_OTHER => *last = last.wrapping_add(varint::take_signed(from)?),
        _ => return None,
    }
    Some(*last)
}

/// A control byte (whole zero bytes below, bytes) and the bytes that are not zero.
#[inline]
fn put_value(out: &mut Vec<u8>, bits: u64) {
    if bits == 0 {
        out.push(0);
        return;
    }
    let below = bits.trailing_zeros() / 8;
    let bytes = 8 - below - bits.leading_zeros() / 8;
    out.push((below as u8) << 4 | bytes as u8);
    let shifted = (bits >> (8 * below)).to_le_bytes();
    out.extend_from_slice(&shifted[..bytes as usize]);
}

/// Takes what [`put_value`] wrote.
#[inline]
pub(super) fn take_value(from: &mut &[u8]) -> Option<u64> {
    let (&control, rest) = from.split_first()?;
    let (below, bytes) = (u32::from(control >> 4), usize::from(control & 15));
    if below > 7 || bytes + below as usize > 8 {
        return None;
    }
    // Eight bytes at once unless the column ends before.
    let bits = match rest.first_chunk::<8>() {
        Some(chunk) if bytes > 0 => {
            u64::from_le_bytes(*chunk) & (u64::MAX >> (64 - 8 * bytes as u32))
        }
        _ => {
            let mut chunk = [0; 8];
            chunk[..bytes].copy_from_slice(rest.get(..bytes)?);
            u64::from_le_bytes(chunk)
        }
    };
    *from = &rest[bytes..];
    Some(bits << (8 * below))
}

/// Begins a record, if needed after putting the one before aside.
fn start(
    payload: &mut Vec<u8>,
    begin: (u8, u64),
    kind: RecordKind,
    full: &mut Vec<(RecordKind, Vec<u8>)>,
) {
    if payload.len() >= RECORD_BYTES {
        full.push((kind, std::mem::take(payload)));
    }
    if payload.is_empty() {
        put_start_of(payload, begin);
    }
}

/// What every payload without start timestamps begins with.
pub(super) fn put_start(payload: &mut Vec<u8>, epoch: u64) {
    put_start_of(payload, (VERSION, epoch));
}

fn put_start_of(payload: &mut Vec<u8>, (version, epoch): (u8, u64)) {
    payload.push(version);
    varint::put(payload, epoch);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_metadata(out: &mut Vec<u8>, family: &str, metadata: &Metadata) {
    put_bytes(out, family.as_bytes());
    out.push(metadata.kind as u8);
    put_bytes(out, metadata.help.as_bytes());
    put_bytes(out, metadata.unit.as_bytes());
}

/// Symbols, shapes and series numbered since `mark`.
fn put_identities(out: &mut Vec<u8>, mark: Mark, labels: &LabelStore, series: &[Series]) {
    put_symbols_and_shapes(out, mark, labels);
    varint::put(out, u64::from(mark.series));
    varint::put(out, series.len() as u64 - u64::from(mark.series));
    for number in mark.series..series.len() as u32 {
        out.extend_from_slice(&series[number as usize].id.0.to_le_bytes());
        varint::put(out, u64::from(labels.at[number as usize].shape));
        for (_, value) in labels.pairs(number) {
            varint::put(out, u64::from(value));
        }
    }
}

/// Symbols and shapes numbered since `mark`.
pub(super) fn put_symbols_and_shapes(out: &mut Vec<u8>, mark: Mark, labels: &LabelStore) {
    varint::put(out, u64::from(mark.symbols));
    varint::put(out, u64::from(labels.symbols.len() - mark.symbols));
    for symbol in mark.symbols..labels.symbols.len() {
        put_bytes(out, labels.symbols.text(symbol).as_bytes());
    }
    varint::put(out, u64::from(mark.shapes));
    varint::put(out, u64::from(labels.shapes.len() - mark.shapes));
    for shape in mark.shapes..labels.shapes.len() {
        let names = labels.shapes.names(shape);
        varint::put(out, names.len() as u64);
        names.iter().for_each(|&name| varint::put(out, u64::from(name)));
    }
}
