//! Native histograms on the wire (`prometheus.Histogram`, the same in 1.0 and 2.0).
//!
//! The sender's choice in `count` says whether the histogram has integer or float counts; fields
//! of the other kind are read and dropped, as Prometheus does. Whether the numbers make sense is
//! checked where they are stored.

use model::{Buckets, Histogram, ResetHint, Span};
use storage::MetricRows;

use crate::caps::{WalkError, room};
use crate::native;
use crate::wire::{Reader, WireError};

/// The fields; 17, the start timestamp, only since 2.0.
const KNOWN: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];

/// Everything the message can say, both kinds of counts.
#[derive(Default)]
struct Fields {
    count: Count,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero: Count,
    negative_spans: Vec<Span>,
    negative_deltas: Vec<i64>,
    negative_counts: Vec<f64>,
    positive_spans: Vec<Span>,
    positive_deltas: Vec<i64>,
    positive_counts: Vec<f64>,
    reset_hint: ResetHint,
    timestamp_ms: i64,
    start_ms: i64,
    custom_values: Vec<f64>,
}

/// One of two: of several on the wire the last counts.
#[derive(Clone, Copy)]
enum Count {
    Integer(u64),
    Float(f64),
}

impl Default for Count {
    fn default() -> Self {
        Self::Integer(0)
    }
}

impl Count {
    fn integer(self) -> u64 {
        if let Self::Integer(count) = self { count } else { 0 }
    }

    fn float(self) -> f64 {
        if let Self::Float(count) = self { count } else { 0.0 }
    }
}

/// Reads one histogram into the rows of a request, coarse enough to be stored. `buckets` counts
/// those of the request so far; the limits are of its histograms and of all their buckets.
pub(crate) fn read_into(
    message: Reader<'_>,
    rows: &mut MetricRows<'_>,
    buckets: &mut usize,
    (histograms_max, limit): (usize, usize),
) -> Result<(), WalkError> {
    room(rows.histograms.len(), histograms_max, "native histograms")?;
    let Some((read, more)) = read(message, limit - *buckets)? else {
        return Err(WalkError::TooMany { what: "buckets of native histograms", limit });
    };
    *buckets += more;
    let Sent { timestamp_ms, start_ms, mut histogram } = read;
    native::fit(&mut histogram);
    rows.push_histogram(timestamp_ms, histogram, start_ms);
    Ok(())
}

/// A histogram as it came.
#[derive(Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) timestamp_ms: i64,
    /// 0 is unknown.
    pub(super) start_ms: i64,
    pub(super) histogram: Histogram,
}

/// Reads one histogram, and how many buckets, spans and bounds it has. `None` if those are more
/// than `buckets_max`.
pub(super) fn read(
    mut message: Reader<'_>,
    buckets_max: usize,
) -> Result<Option<(Sent, usize)>, WireError> {
    let mut fields = Fields::default();
    let mut buckets = Budget { left: buckets_max };
    while !message.is_at_end() {
        let tag = message.varint()?;
        if !fields.read(tag, &mut message, &mut buckets)? {
            return Ok(None);
        }
    }
    let Fields { timestamp_ms, start_ms, .. } = fields;
    let sent = Sent { timestamp_ms, start_ms, histogram: fields.into_histogram() };
    Ok(Some((sent, buckets_max - buckets.left)))
}

/// How many more elements may be kept.
struct Budget {
    left: usize,
}

impl Budget {
    /// Keeps one more; `false` once there is no room.
    #[inline]
    fn push<T>(&mut self, to: &mut Vec<T>, value: T) -> bool {
        let room = self.left > 0;
        if room {
            self.left -= 1;
            to.push(value);
        }
        room
    }

    /// Packed numbers.
    fn packed<'r, T>(
        &mut self,
        to: &mut Vec<T>,
        message: &mut Reader<'r>,
        one: impl Fn(&mut Reader<'r>) -> Result<T, WireError>,
    ) -> Result<bool, WireError> {
        let mut numbers = message.message()?;
        while !numbers.is_at_end() {
            if !self.push(to, one(&mut numbers)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Fields {
    /// Reads one field; `false` if there is no room for it.
    fn read(
        &mut self,
        tag: u64,
        message: &mut Reader<'_>,
        budget: &mut Budget,
    ) -> Result<bool, WireError> {
        match tag {
            0x08 => self.count = Count::Integer(message.varint()?),
            0x11 => self.count = Count::Float(message.double()?),
            0x19 => self.sum = message.double()?,
            0x20 => self.schema = zigzag_32(message)?,
            0x29 => self.zero_threshold = message.double()?,
            0x30 => self.zero = Count::Integer(message.varint()?),
            0x39 => self.zero = Count::Float(message.double()?),
            0x42 => return Ok(budget.push(&mut self.negative_spans, span(message.message()?)?)),
            0x4a => return budget.packed(&mut self.negative_deltas, message, Reader::zigzag),
            0x48 => return Ok(budget.push(&mut self.negative_deltas, message.zigzag()?)),
            0x52 => return budget.packed(&mut self.negative_counts, message, Reader::double),
            0x51 => return Ok(budget.push(&mut self.negative_counts, message.double()?)),
            0x5a => return Ok(budget.push(&mut self.positive_spans, span(message.message()?)?)),
            0x62 => return budget.packed(&mut self.positive_deltas, message, Reader::zigzag),
            0x60 => return Ok(budget.push(&mut self.positive_deltas, message.zigzag()?)),
            0x6a => return budget.packed(&mut self.positive_counts, message, Reader::double),
            0x69 => return Ok(budget.push(&mut self.positive_counts, message.double()?)),
            0x70 => self.reset_hint = ResetHint::from_wire(u64::from(message.varint()? as u32)),
            0x78 => self.timestamp_ms = message.varint()? as i64,
            0x82 => return budget.packed(&mut self.custom_values, message, Reader::double),
            0x88 => self.start_ms = message.varint()? as i64,
            0x81 => return Ok(budget.push(&mut self.custom_values, message.double()?)),
            tag => message.skip(tag, KNOWN)?,
        }
        Ok(true)
    }

    fn into_histogram(self) -> Histogram {
        let buckets = match self.count {
            Count::Integer(count) => Buckets::Integer {
                count,
                zero_count: self.zero.integer(),
                positive_deltas: self.positive_deltas,
                negative_deltas: self.negative_deltas,
            },
            Count::Float(count) => Buckets::Float {
                count,
                zero_count: self.zero.float(),
                positive: self.positive_counts,
                negative: self.negative_counts,
            },
        };
        Histogram {
            reset_hint: self.reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive_spans: self.positive_spans,
            negative_spans: self.negative_spans,
            buckets,
            custom_values: self.custom_values,
        }
    }
}

/// 32-bit numbers keep the low bits of longer ones, as protobuf says.
fn zigzag_32(message: &mut Reader<'_>) -> Result<i32, WireError> {
    let value = message.varint()? as u32;
    Ok((value >> 1) as i32 ^ -((value & 1) as i32))
}

fn span(mut message: Reader<'_>) -> Result<Span, WireError> {
    let mut span = Span { offset: 0, length: 0 };
    while !message.is_at_end() {
        match message.varint()? {
            0x08 => span.offset = zigzag_32(&mut message)?,
            0x10 => span.length = message.varint()? as u32,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    Ok(span)
}
