//! Chunks as Prometheus encodes them in memory and on disk, which is what it reads back from a
//! streamed answer: XOR for floats, one histogram a chunk for native histograms.

use std::sync::Arc;

use model::{Buckets, Histogram, Span};

use crate::{CUSTOM_BOUNDS_SCHEMA, RawSeries};

/// Samples in one chunk. As many as Prometheus puts there.
const SAMPLES_MAX: usize = 120;

/// How a chunk is encoded; the numbers are those of `prompb.Chunk`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
}

/// Some samples of a series.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    pub(super) encoding: Encoding,
    pub(super) data: Vec<u8>,
}

/// The chunks of a series in order of time, made one by one.
pub(super) struct Chunks<'a> {
    series: &'a RawSeries,
    /// The next float.
    float: usize,
    /// The next histogram.
    histogram: usize,
}

impl<'a> Chunks<'a> {
    pub(super) fn of(series: &'a RawSeries) -> Self {
        Self { series, float: 0, histogram: 0 }
    }
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let floats = self.series.timestamps.get(self.float..).unwrap_or_default();
        let histogram = self.series.histograms.get(self.histogram);
        // Floats up to the next histogram, so that chunks do not overlap.
        let until = histogram.map_or(i64::MAX, |(at, _)| *at);
        let count = floats.partition_point(|at| *at <= until).min(SAMPLES_MAX);
        if count > 0 {
            let range = self.float..self.float + count;
            self.float = range.end;
            let values = self.series.values.get(range).unwrap_or_default();
            return Some(xor(&floats[..count], values));
        }
        let (at, histogram) = histogram?;
        self.histogram += 1;
        Some(of_histogram(*at, histogram))
    }
}

/// Bits, the highest of a byte first.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Free bits of the last byte.
    free: u32,
}

impl Bits {
    /// Writes the lowest `count` bits, at most 64.
    fn put(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let now = left.min(self.free);
            let part = (value >> (left - now)) & ((1 << now) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - now)) as u8;
            }
            self.free -= now;
            left -= now;
        }
    }

    fn put_float(&mut self, value: f64) {
        self.put(value.to_bits(), 64);
    }

    /// A prefix that says how many bits follow.
    fn put_sized(&mut self, value: u64, bits: u32) {
        let prefix = match bits {
            0 => return self.put(0, 1),
            3 => (0b10, 2),
            6 => (0b110, 3),
            9 => (0b1110, 4),
            12 => (0b1_1110, 5),
            18 => (0b11_1110, 6),
            25 => (0b111_1110, 7),
            56 => (0b1111_1110, 8),
            _ => (0b1111_1111, 8),
        };
        self.put(prefix.0, prefix.1);
        self.put(value, bits);
    }

    fn put_signed(&mut self, value: i64) {
        let fits = |bits: &u32| in_bits(value, *bits);
        let bits = SIZES.into_iter().find(fits).unwrap_or(64);
        self.put_sized(value as u64, if value == 0 { 0 } else { bits });
    }

    fn put_unsigned(&mut self, value: u64) {
        let bits = SIZES.into_iter().find(|bits| value < 1 << bits).unwrap_or(64);
        self.put_sized(value, if value == 0 { 0 } else { bits });
    }

    /// Bytes that are numbers of their own (`encoding/binary` in Go).
    fn put_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.put(u64::from(*byte), 8);
        }
    }
}

/// Sizes of integers in bits, beside 0 and 64.
const SIZES: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Whether a number fits: the most negative one of so many bits does not, the positive one above
/// the largest does.
fn in_bits(value: i64, bits: u32) -> bool {
    let half = 1i64 << (bits - 1);
    -half < value && value <= half
}

fn xor(timestamps: &[i64], values: &[f64]) -> Chunk {
    let mut out = Bits::default();
    out.put(timestamps.len() as u64, 16);
    let mut before = (0i64, 0i64, 0f64);
    // Leading and trailing zeros of the last difference that told them.
    let mut window: Option<(u32, u32)> = None;
    for (i, (at, value)) in timestamps.iter().zip(values).enumerate() {
        let (last, last_delta, last_value) = before;
        let delta = at.wrapping_sub(last);
        let mut number = Vec::with_capacity(10);
        match i {
            0 => {
                model::varint::put_signed(&mut number, *at);
                out.put_bytes(&number);
                out.put_float(*value);
            }
            1 => {
                model::varint::put(&mut number, delta as u64);
                out.put_bytes(&number);
                put_xor(&mut out, *value, last_value, &mut window);
            }
            _ => {
                put_delta_of_delta(&mut out, delta.wrapping_sub(last_delta));
                put_xor(&mut out, *value, last_value, &mut window);
            }
        }
        before = (*at, delta, *value);
    }
    let (min_ms, max_ms) = (timestamps[0], timestamps[timestamps.len() - 1]);
    Chunk { min_ms, max_ms, encoding: Encoding::Xor, data: out.bytes }
}

fn put_delta_of_delta(out: &mut Bits, change: i64) {
    if change == 0 {
        return out.put(0, 1);
    }
    for (prefix, length, bits) in [(0b10, 2, 14), (0b110, 3, 17), (0b1110, 4, 20)] {
        if in_bits(change, bits) {
            out.put(prefix, length);
            return out.put(change as u64, bits);
        }
    }
    out.put(0b1111, 4);
    out.put(change as u64, 64);
}

fn put_xor(out: &mut Bits, value: f64, before: f64, window: &mut Option<(u32, u32)>) {
    let difference = value.to_bits() ^ before.to_bits();
    if difference == 0 {
        return out.put(0, 1);
    }
    out.put(1, 1);
    // Five bits hold the number of leading zeros.
    let (leading, trailing) = (difference.leading_zeros().min(31), difference.trailing_zeros());
    if let Some((known_leading, known_trailing)) = *window
        && leading >= known_leading
        && trailing >= known_trailing
    {
        out.put(0, 1);
        return out.put(difference >> known_trailing, 64 - known_leading - known_trailing);
    }
    *window = Some((leading, trailing));
    let significant = 64 - leading - trailing;
    out.put(1, 1);
    out.put(u64::from(leading), 5);
    // Six bits: 64 is written as 0, which never happens otherwise.
    out.put(u64::from(significant & 63), 6);
    out.put(difference >> trailing, significant);
}

/// A chunk of one histogram. What a second one would save lies in buckets that hardly change; what
/// it would cost is recoding all of them whenever the buckets do.
fn of_histogram(at_ms: i64, histogram: &Arc<Histogram>) -> Chunk {
    let mut out = Bits::default();
    out.put(1, 16);
    // Whether a counter was reset: unknown, not, yes, or it is a gauge.
    out.put([0, 0b10, 0b01, 0b11][usize::from(histogram.reset_hint as u8 & 3)] << 6, 8);
    put_zero_threshold(&mut out, histogram.zero_threshold);
    out.put_signed(i64::from(histogram.schema));
    put_spans(&mut out, &histogram.positive_spans);
    put_spans(&mut out, &histogram.negative_spans);
    if histogram.schema == CUSTOM_BOUNDS_SCHEMA {
        out.put_unsigned(histogram.custom_values.len() as u64);
        histogram.custom_values.iter().for_each(|bound| put_custom_bound(&mut out, *bound));
    }
    out.put_signed(at_ms);
    let encoding = match &histogram.buckets {
        Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => {
            out.put_unsigned(*count);
            out.put_unsigned(*zero_count);
            out.put_float(histogram.sum);
            positive_deltas.iter().chain(negative_deltas).for_each(|d| out.put_signed(*d));
            Encoding::Histogram
        }
        Buckets::Float { count, zero_count, positive, negative } => {
            let numbers = [*count, *zero_count, histogram.sum];
            let buckets = positive.iter().chain(negative);
            numbers.iter().chain(buckets).for_each(|number| out.put_float(*number));
            Encoding::FloatHistogram
        }
    };
    Chunk { min_ms: at_ms, max_ms: at_ms, encoding, data: out.bytes }
}

fn put_spans(out: &mut Bits, spans: &[Span]) {
    out.put_unsigned(spans.len() as u64);
    for span in spans {
        out.put_unsigned(u64::from(span.length));
        out.put_signed(i64::from(span.offset));
    }
}

/// A byte where it is zero or a power of two in the usual range, else a byte 255 and the float.
fn put_zero_threshold(out: &mut Bits, threshold: f64) {
    if threshold == 0.0 {
        return out.put(0, 8);
    }
    let bits = threshold.to_bits();
    // `threshold` is 0.5 · 2^exponent if its fraction is empty.
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1022;
    let power_of_two = bits >> 63 == 0 && bits << 12 == 0 && (-242..=11).contains(&exponent);
    if power_of_two {
        return out.put((exponent + 243) as u64, 8);
    }
    out.put(255, 8);
    out.put_float(threshold);
}

/// Largest bound, in thousandths, that is written as a whole number of them.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;

fn put_custom_bound(out: &mut Bits, bound: f64) {
    let thousandths = bound * 1000.0;
    let whole = thousandths.round();
    if !(0.0..=THOUSANDTHS_MAX).contains(&thousandths) || whole / 1000.0 != bound {
        out.put(0, 1);
        return out.put_float(bound);
    }
    out.put_unsigned(whole as u64 + 1);
}

#[cfg(test)]
mod tests;
