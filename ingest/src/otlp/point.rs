//! Data points, taken apart: numbers, summaries, histograms of both kinds, and their exemplars.
//!
//! ```text
//! NumberDataPoint { start = 2, time = 3, as_double = 4, exemplars = 5, as_int = 6, attributes = 7, flags = 8 }
//! SummaryDataPoint { start = 2, time = 3, count = 4, sum = 5, quantile_values = 6, attributes = 7, flags = 8 }
//! HistogramDataPoint { start = 2, time = 3, count = 4, sum = 5, bucket_counts = 6, explicit_bounds = 7,
//!                      exemplars = 8, attributes = 9, flags = 10 }
//! ExponentialHistogramDataPoint { attributes = 1, start = 2, time = 3, count = 4, sum = 5, scale = 6,
//!                      zero_count = 7, positive = 8, negative = 9, flags = 10, exemplars = 11, zero_threshold = 14 }
//! ```

use std::borrow::Cow;

use super::labels::{Attribute, attribute};
use crate::wire::{Reader, WireError};

/// Bit of `flags`: the point says that there is no value.
const NO_RECORDED_VALUE: u32 = 1;

/// What all kinds of points have.
#[derive(Debug, Default)]
pub(super) struct Common<'a> {
    /// Messages still to be read.
    pub(super) attributes: Vec<Reader<'a>>,
    /// Nanoseconds since the Unix epoch; 0 is unset.
    pub(super) start_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub(super) time_ns: u64,
    flags: u32,
    /// Messages still to be read.
    pub(super) exemplars: Vec<Reader<'a>>,
}

impl Common<'_> {
    pub(super) fn time_ms(&self) -> i64 {
        (self.time_ns / 1_000_000) as i64
    }

    /// 0 is unknown.
    pub(super) fn start_ms(&self) -> i64 {
        (self.start_ns / 1_000_000) as i64
    }

    pub(super) fn is_stale(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }

    fn clear(&mut self) {
        self.attributes.clear();
        self.exemplars.clear();
        (self.start_ns, self.time_ns, self.flags) = (0, 0, 0);
    }
}

/// A value of a sum or a gauge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    pub(super) fn float(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

#[derive(Debug)]
pub(super) struct NumberPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) value: Number,
}

impl Default for NumberPoint<'_> {
    fn default() -> Self {
        Self { common: Common::default(), value: Number::Integer(0) }
    }
}

impl<'a> NumberPoint<'a> {
    pub(super) fn read(&mut self, mut message: Reader<'a>) -> Result<(), WireError> {
        self.common.clear();
        self.value = Number::Integer(0);
        while !message.is_at_end() {
            match message.varint()? {
                0x11 => self.common.start_ns = message.fixed_64()?,
                0x19 => self.common.time_ns = message.fixed_64()?,
                0x21 => self.value = Number::Float(message.double()?),
                0x2a => self.common.exemplars.push(message.message()?),
                0x31 => self.value = Number::Integer(message.fixed_64()? as i64),
                0x3a => self.common.attributes.push(message.message()?),
                0x40 => self.common.flags = message.varint()? as u32,
                tag => message.skip(tag, &[2, 3, 4, 5, 6, 7, 8])?,
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
pub(super) struct SummaryPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: f64,
    /// Quantile and value.
    pub(super) quantiles: Vec<(f64, f64)>,
}

impl<'a> SummaryPoint<'a> {
    pub(super) fn read(&mut self, mut message: Reader<'a>) -> Result<(), WireError> {
        self.common.clear();
        self.quantiles.clear();
        (self.count, self.sum) = (0, 0.0);
        while !message.is_at_end() {
            match message.varint()? {
                0x11 => self.common.start_ns = message.fixed_64()?,
                0x19 => self.common.time_ns = message.fixed_64()?,
                0x21 => self.count = message.fixed_64()?,
                0x29 => self.sum = message.double()?,
                0x32 => self.quantiles.push(quantile(message.message()?)?),
                0x3a => self.common.attributes.push(message.message()?),
                0x40 => self.common.flags = message.varint()? as u32,
                tag => message.skip(tag, &[2, 3, 4, 5, 6, 7, 8])?,
            }
        }
        Ok(())
    }
}

fn quantile(mut message: Reader<'_>) -> Result<(f64, f64), WireError> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while !message.is_at_end() {
        match message.varint()? {
            0x09 => quantile = message.double()?,
            0x11 => value = message.double()?,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    Ok((quantile, value))
}

/// A histogram with bounds of its own.
#[derive(Debug, Default)]
pub(super) struct ExplicitPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) bounds: Vec<f64>,
}

impl<'a> ExplicitPoint<'a> {
    pub(super) fn read(&mut self, mut message: Reader<'a>) -> Result<(), WireError> {
        self.common.clear();
        (self.count, self.sum) = (0, None);
        self.counts.clear();
        self.bounds.clear();
        while !message.is_at_end() {
            match message.varint()? {
                0x11 => self.common.start_ns = message.fixed_64()?,
                0x19 => self.common.time_ns = message.fixed_64()?,
                0x21 => self.count = message.fixed_64()?,
                0x29 => self.sum = Some(message.double()?),
                0x32 => packed(message.message()?, &mut self.counts, Reader::fixed_64)?,
                0x31 => self.counts.push(message.fixed_64()?),
                0x3a => packed(message.message()?, &mut self.bounds, Reader::double)?,
                0x39 => self.bounds.push(message.double()?),
                0x42 => self.common.exemplars.push(message.message()?),
                0x4a => self.common.attributes.push(message.message()?),
                0x50 => self.common.flags = message.varint()? as u32,
                tag => message.skip(tag, &[2, 3, 4, 5, 6, 7, 8, 9, 10])?,
            }
        }
        Ok(())
    }
}

/// Buckets of one side of an exponential histogram, dense from an index on. Bucket `i` holds what
/// lies in `(base^i, base^(i+1)]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Side {
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct ExponentialPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: Side,
    pub(super) negative: Side,
}

impl<'a> ExponentialPoint<'a> {
    pub(super) fn read(&mut self, mut message: Reader<'a>) -> Result<(), WireError> {
        self.common.clear();
        (self.count, self.sum, self.scale) = (0, None, 0);
        (self.zero_count, self.zero_threshold) = (0, 0.0);
        for side in [&mut self.positive, &mut self.negative] {
            side.offset = 0;
            side.counts.clear();
        }
        while !message.is_at_end() {
            match message.varint()? {
                0x0a => self.common.attributes.push(message.message()?),
                0x11 => self.common.start_ns = message.fixed_64()?,
                0x19 => self.common.time_ns = message.fixed_64()?,
                0x21 => self.count = message.fixed_64()?,
                0x29 => self.sum = Some(message.double()?),
                0x30 => self.scale = message.zigzag()? as i32,
                0x39 => self.zero_count = message.fixed_64()?,
                0x42 => side(message.message()?, &mut self.positive)?,
                0x4a => side(message.message()?, &mut self.negative)?,
                0x50 => self.common.flags = message.varint()? as u32,
                0x5a => self.common.exemplars.push(message.message()?),
                0x71 => self.zero_threshold = message.double()?,
                tag => message.skip(tag, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14])?,
            }
        }
        Ok(())
    }
}

fn side(mut message: Reader<'_>, out: &mut Side) -> Result<(), WireError> {
    while !message.is_at_end() {
        match message.varint()? {
            0x08 => out.offset = message.zigzag()? as i32,
            0x12 => packed(message.message()?, &mut out.counts, Reader::varint)?,
            0x10 => out.counts.push(message.varint()?),
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    Ok(())
}

fn packed<'r, T>(
    mut numbers: Reader<'r>,
    out: &mut Vec<T>,
    one: impl Fn(&mut Reader<'r>) -> Result<T, WireError>,
) -> Result<(), WireError> {
    while !numbers.is_at_end() {
        out.push(one(&mut numbers)?);
    }
    Ok(())
}

/// One exemplar: `{ time = 2, as_double = 3, span_id = 4, trace_id = 5, as_int = 6, attributes = 7 }`.
#[derive(Debug)]
pub(super) struct Exemplar<'a> {
    pub(super) time_ms: i64,
    pub(super) value: f64,
    pub(super) attributes: Vec<Attribute<'a>>,
}

impl<'a> Exemplar<'a> {
    /// Reads one; trace and span become its first attributes.
    pub(super) fn read(mut message: Reader<'a>) -> Result<Self, WireError> {
        let mut exemplar = Self { time_ms: 0, value: 0.0, attributes: Vec::new() };
        let (mut span, mut trace) = (&b""[..], &b""[..]);
        while !message.is_at_end() {
            match message.varint()? {
                0x11 => exemplar.time_ms = (message.fixed_64()? / 1_000_000) as i64,
                0x19 => exemplar.value = message.double()?,
                0x22 => span = message.slice()?,
                0x2a => trace = message.slice()?,
                0x31 => exemplar.value = message.fixed_64()? as i64 as f64,
                0x3a => exemplar.attributes.push(attribute(message.message()?)?),
                tag => message.skip(tag, &[2, 3, 4, 5, 6, 7])?,
            }
        }
        for (key, id) in [("span_id", span), ("trace_id", trace)] {
            if id.iter().any(|b| *b != 0) {
                let value = Cow::Owned(id.iter().take(32).map(|b| format!("{b:02x}")).collect());
                exemplar.attributes.insert(0, Attribute { key, value });
            }
        }
        Ok(exemplar)
    }
}
