//! Exact decimal scaling: floats that are really decimals become integers.
//!
//! A value fits exponent `e` when the integer nearest to `v·10^e`, divided by `10^e`, has the very
//! bits of `v`. What does not fit (NaNs, stale markers, −0.0, infinities, noise) is an exception
//! and leaves the stream.

use model::{STALE_NAN_BITS, varint};

use super::stream::{Scratch, put_stream, take_stream};
use super::{Damaged, take_byte, take_bytes, take_u64, take_varint};

/// Largest decimal exponent tried: a double has 15 to 17 significant decimal digits.
const EXPONENT_MAX: usize = 15;

/// Powers of ten up to 10^22 are exact doubles.
const POWERS: [f64; EXPONENT_MAX + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Past this the sum that rounds is itself rounded.
const SCALED_MAX: f64 = (1u64 << 52) as f64;

const EXCEPTIONS: u8 = 0x10;
const EXCEPTIONS_STALE: u8 = 0x20;
/// Only in the codec that multiples have.
pub(super) const RELATIVE: u8 = 0x40;

/// Floats as integers times a power of ten.
#[derive(Debug, Default)]
pub(super) struct Scaled {
    pub(super) exponent: usize,
    pub(super) integers: Vec<i64>,
    /// Positions and bits of what is no such integer.
    pub(super) exceptions: Vec<(u32, u64)>,
}

impl Scaled {
    /// Finds the exponent. False if too few values are decimals to be worth it.
    pub(super) fn scale(&mut self, values: &[f64]) -> bool {
        if self.try_exponent(values, 0, values.len() / 16) {
            return true;
        }
        // A spread sample tells decimals from noise without searching every value.
        let stride = values.len().div_ceil(32);
        let (mut asked, mut exponent, mut hopeless) = (0, 0, 0);
        for value in values.iter().step_by(stride).filter(|v| is_plain(**v)) {
            asked += 1;
            match needed(*value, exponent) {
                Some(e) => exponent = e,
                None => hopeless += 1,
            }
        }
        if hopeless * 4 > asked {
            return false;
        }
        if self.try_exponent(values, exponent, values.len() / 16) {
            return true;
        }
        for &value in values.iter().filter(|v| is_plain(**v)) {
            exponent = needed(value, exponent).unwrap_or(exponent);
        }
        self.try_exponent(values, exponent, values.len() / 8)
    }

    /// Scales with one exponent; false if more than `exceptions_max` finite values do not fit.
    fn try_exponent(&mut self, values: &[f64], exponent: usize, exceptions_max: usize) -> bool {
        self.exponent = exponent;
        self.integers.clear();
        self.exceptions.clear();
        self.integers.reserve(values.len());
        let mut misfits = 0;
        for (i, &value) in values.iter().enumerate() {
            match exact(value, exponent) {
                Some(integer) => self.integers.push(integer),
                None => {
                    misfits += usize::from(is_plain(value));
                    if misfits > exceptions_max {
                        return false;
                    }
                    self.exceptions.push((i as u32, value.to_bits()));
                }
            }
        }
        // A stream of nothing but exceptions is better kept as it is.
        self.exceptions.len() * 2 <= values.len()
    }

    /// Exponent and flags, exceptions, stream.
    pub(super) fn encode(&self, scratch: &mut Scratch, out: &mut Vec<u8>) {
        self.put_exceptions(0, out);
        put_stream(&self.integers, scratch, out);
    }

    /// Exponent and flags, exceptions.
    pub(super) fn put_exceptions(&self, more_flags: u8, out: &mut Vec<u8>) {
        let stale = self.exceptions.iter().all(|(_, bits)| *bits == STALE_NAN_BITS);
        let mut flags = self.exponent as u8 | more_flags;
        if !self.exceptions.is_empty() {
            flags |= if stale { EXCEPTIONS_STALE } else { EXCEPTIONS };
        }
        out.push(flags);
        if !self.exceptions.is_empty() {
            varint::put(out, self.exceptions.len() as u64);
            let mut next = 0;
            for (position, _) in &self.exceptions {
                varint::put(out, u64::from(position - next));
                next = position + 1;
            }
            if !stale {
                for (_, bits) in &self.exceptions {
                    out.extend_from_slice(&bits.to_le_bytes());
                }
            }
        }
    }

    pub(super) fn power(&self) -> f64 {
        POWERS[self.exponent]
    }

    /// The reverse of [`Scaled::encode`]; takes all of `bytes`.
    pub(super) fn decode(
        &mut self,
        mut bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut [f64],
    ) -> Result<(), Damaged> {
        self.take_exceptions(0, &mut bytes, out.len())?;
        take_stream(&mut bytes, scratch, &mut self.integers)?;
        if !bytes.is_empty() {
            return Err(Damaged("bytes after the last value"));
        }
        self.spread(out);
        Ok(())
    }

    /// Reads exponent and flags, of which it gives back `known` ones, and the exceptions; makes
    /// room for the integers.
    pub(super) fn take_exceptions(
        &mut self,
        known: u8,
        bytes: &mut &[u8],
        samples: usize,
    ) -> Result<u8, Damaged> {
        let flags = self.take_flags(known, bytes, samples)?;
        // What is left from before is written over.
        self.integers.resize(samples - self.exceptions.len(), 0);
        Ok(flags)
    }

    /// Reads exponent and flags, of which it gives back `known` ones, and the exceptions.
    pub(super) fn take_flags(
        &mut self,
        known: u8,
        bytes: &mut &[u8],
        samples: usize,
    ) -> Result<u8, Damaged> {
        let flags = take_byte(bytes)?;
        if flags & 0xc0 & !known != 0 || flags & 0x30 == 0x30 {
            return Err(Damaged("unknown integer flags"));
        }
        self.exponent = usize::from(flags & 0x0f);
        self.exceptions.clear();
        if flags & (EXCEPTIONS | EXCEPTIONS_STALE) != 0 {
            self.take_exception_list(flags, bytes, samples)?;
        }
        if samples == self.exceptions.len() {
            return Err(Damaged("no integers in an integer chunk"));
        }
        Ok(flags & known)
    }

    fn take_exception_list(
        &mut self,
        flags: u8,
        bytes: &mut &[u8],
        samples: usize,
    ) -> Result<(), Damaged> {
        let count = take_varint(bytes)?;
        if count > samples as u64 {
            return Err(Damaged("more exceptions than samples"));
        }
        let mut next = 0u64;
        for _ in 0..count {
            let position = next.saturating_add(take_varint(bytes)?);
            if position >= samples as u64 {
                return Err(Damaged("exception after the last sample"));
            }
            self.exceptions.push((position as u32, STALE_NAN_BITS));
            next = position + 1;
        }
        if flags & EXCEPTIONS != 0 {
            let mut raw = take_bytes(bytes, self.exceptions.len() * 8)?;
            for (_, bits) in &mut self.exceptions {
                *bits = take_u64(&mut raw)?;
            }
        }
        Ok(())
    }
}

/// Integers back to floats; the two slices are of one length.
pub(super) fn unscale(integers: &[i64], power: f64, out: &mut [f64]) {
    if power == 1.0 {
        for (value, &integer) in out.iter_mut().zip(integers) {
            *value = integer as f64;
        }
    } else {
        for (value, &integer) in out.iter_mut().zip(integers) {
            *value = integer as f64 / power;
        }
    }
}

/// The integer that stands for `value` at this exponent, if it gives back the same bits.
#[inline]
fn exact(value: f64, exponent: usize) -> Option<i64> {
    if exponent == 0 {
        let integer = value as i64;
        return ((integer as f64).to_bits() == value.to_bits()).then_some(integer);
    }
    let scaled = value * POWERS[exponent];
    if scaled.abs() > SCALED_MAX {
        return None;
    }
    // Half away from zero by truncation: `f64::round` is a call on baseline x86-64.
    let integer = (scaled + 0.5f64.copysign(scaled)) as i64;
    (((integer as f64) / POWERS[exponent]).to_bits() == value.to_bits()).then_some(integer)
}

/// Whether a value could be a decimal: what cannot be one says nothing about the others.
fn is_plain(value: f64) -> bool {
    value.is_finite() && value.to_bits() != (-0.0f64).to_bits()
}

/// The smallest exponent from `least` on that fits.
fn needed(value: f64, least: usize) -> Option<usize> {
    (least..=EXPONENT_MAX).find(|e| exact(value, *e).is_some())
}
