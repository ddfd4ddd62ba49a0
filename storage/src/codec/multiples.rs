//! Integers that are multiples of a step, bit-packed or entropy-coded, perhaps as the difference
//! to another chunk: buckets of one histogram are cumulative, so what a bucket adds to the one
//! below says nearly everything.

use model::varint;

use super::entropy::{Narrow, TakeNumbers, put_numbers};
use super::integer::{RELATIVE, Scaled, unscale};
use super::stream::{Scratch, put_stream, take_stream};
use super::{Damaged, take_byte, take_signed, take_varint};

const STREAM: u8 = 0;
const NUMBERS: u8 = 1;

/// Highest order of differences before entropy coding.
const ORDER_MAX: usize = 2;

/// Fewer samples than this are not worth pco's dictionary of bins.
const NUMBERS_MIN: usize = 64;

/// How the integers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Differences, bit-packed.
    Packed,
    /// Differences, entropy-coded.
    EntropyCoded,
}

impl Scaled {
    /// The largest number that divides all distances from the first integer; 1 if they are alike.
    pub(super) fn step(&self) -> u64 {
        let Some((first, rest)) = self.integers.split_first() else { return 1 };
        let mut step = 0;
        for value in rest {
            step = greatest_divisor(step, value.wrapping_sub(*first).unsigned_abs());
            if step == 1 {
                return 1;
            }
        }
        step.max(1)
    }

    /// Takes another chunk's values away, sample by sample. False, and then this is of no use any
    /// more, unless both are whole numbers wherever this one has one.
    pub(super) fn make_relative(&mut self, base: &[f64]) -> bool {
        if self.exponent != 0 || base.len() != self.integers.len() + self.exceptions.len() {
            return false;
        }
        let mut exceptions = self.exceptions.iter().map(|(at, _)| *at as usize).peekable();
        let mut integers = self.integers.iter_mut();
        for (i, value) in base.iter().enumerate() {
            if exceptions.next_if_eq(&i).is_some() {
                continue;
            }
            let whole = *value as i64;
            if (whole as f64).to_bits() != value.to_bits() {
                return false;
            }
            if let Some(integer) = integers.next() {
                *integer = integer.wrapping_sub(whole);
            }
        }
        true
    }

    /// Appends flags, exceptions, step and body. False if this body cannot hold them.
    pub(super) fn encode_multiples(
        &self,
        step: u64,
        relative: bool,
        body: Body,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> bool {
        self.put_exceptions(if relative { RELATIVE } else { 0 }, out);
        varint::put(out, step);
        let mut multiples = self.integers.clone();
        if step > 1 {
            let offset = self.integers[0];
            varint::put_signed(out, offset);
            for multiple in &mut multiples {
                *multiple = multiple.wrapping_sub(offset).wrapping_div(step as i64);
            }
        }
        match body {
            Body::Packed => {
                out.push(STREAM);
                put_stream(&multiples, scratch, out);
                true
            }
            Body::EntropyCoded => {
                out.push(NUMBERS);
                put_entropy_coded(multiples, out)
            }
        }
    }

    /// The reverse of [`Scaled::encode_multiples`]; takes all of `bytes`.
    pub(super) fn decode_multiples(
        &mut self,
        mut bytes: &[u8],
        base: Option<&[f64]>,
        scratch: &mut Scratch,
        out: &mut [f64],
    ) -> Result<(), Damaged> {
        let bytes = &mut bytes;
        let flags = self.take_exceptions(RELATIVE, bytes, out.len())?;
        let step = take_varint(bytes)?;
        let offset = if step > 1 { take_signed(bytes)? } else { 0 };
        let kind = take_byte(bytes)?;
        match kind {
            STREAM => {
                take_stream(bytes, scratch, &mut self.integers)?;
                if !bytes.is_empty() {
                    return Err(Damaged("bytes after the last value"));
                }
            }
            NUMBERS => take_entropy_coded(bytes, &mut scratch.narrow, &mut self.integers)?,
            _ => return Err(Damaged("unknown body of multiples")),
        }
        if step > 1 {
            for integer in &mut self.integers {
                *integer = integer.wrapping_mul(step as i64).wrapping_add(offset);
            }
        }
        if flags & RELATIVE != 0 {
            let base = base.filter(|base| base.len() == out.len() && self.exponent == 0);
            self.add_base(base.ok_or(Damaged("the chunk it is relative to does not fit"))?);
        }
        self.spread(out);
        Ok(())
    }

    fn add_base(&mut self, base: &[f64]) {
        if self.exceptions.is_empty() {
            for (integer, value) in self.integers.iter_mut().zip(base) {
                *integer = integer.wrapping_add(*value as i64);
            }
            return;
        }
        let mut exceptions = self.exceptions.iter().map(|(at, _)| *at as usize).peekable();
        let mut integers = self.integers.iter_mut();
        for (i, value) in base.iter().enumerate() {
            if exceptions.next_if_eq(&i).is_none()
                && let Some(integer) = integers.next()
            {
                *integer = integer.wrapping_add(*value as i64);
            }
        }
    }

    /// Floats out of integers and exceptions.
    pub(super) fn spread(&self, out: &mut [f64]) {
        let power = self.power();
        if self.exceptions.is_empty() {
            unscale(&self.integers, power, out);
            return;
        }
        let (mut from, mut at) = (0, 0);
        for &(position, bits) in &self.exceptions {
            let run = position as usize - at;
            unscale(&self.integers[from..from + run], power, &mut out[at..at + run]);
            out[position as usize] = f64::from_bits(bits);
            from += run;
            at += run + 1;
        }
        unscale(&self.integers[from..], power, &mut out[at..]);
    }
}

fn greatest_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The order of differences that takes least: order, what the differences start from, the least
/// of them, and what each is above that.
fn put_entropy_coded(mut values: Vec<i64>, out: &mut Vec<u8>) -> bool {
    if values.len() < NUMBERS_MIN {
        return false;
    }
    let mut best: Option<Vec<u8>> = None;
    let mut starts = Vec::new();
    for order in 0..=ORDER_MAX {
        let least = values.iter().copied().min().unwrap_or_default();
        let above: Vec<u64> = values.iter().map(|v| v.wrapping_sub(least) as u64).collect();
        let mut coded = vec![order as u8];
        starts.iter().for_each(|start| varint::put_signed(&mut coded, *start));
        varint::put_signed(&mut coded, least);
        if put_numbers(&above, &mut coded) && best.as_ref().is_none_or(|b| coded.len() < b.len()) {
            best = Some(coded);
        }
        starts.push(values[0]);
        values = values.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    }
    out.extend(best.iter().flatten());
    best.is_some()
}

fn take_entropy_coded(
    bytes: &mut &[u8],
    narrow: &mut Narrow,
    out: &mut [i64],
) -> Result<(), Damaged> {
    let order = usize::from(take_byte(bytes)?);
    if order > ORDER_MAX || order >= out.len() {
        return Err(Damaged("order of differences does not fit the count"));
    }
    let mut starts = [0; ORDER_MAX];
    for start in &mut starts[..order] {
        *start = take_signed(bytes)?;
    }
    let least = take_signed(bytes)?;
    let count = out.len() - order;
    narrow.read(bytes, count, Summed { order, starts, least, out })?;
    *bytes = &[];
    Ok(())
}

/// Makes integers of what differences of some order are above the least of them.
struct Summed<'o> {
    order: usize,
    starts: [i64; ORDER_MAX],
    least: i64,
    out: &'o mut [i64],
}

impl TakeNumbers for Summed<'_> {
    fn take<T: Copy + Into<u64>>(self, numbers: &[T]) {
        let Self { order, starts, least, out } = self;
        let (first, rest) = out.split_at_mut(order);
        let above = numbers.iter().map(|number| least.wrapping_add((*number).into() as i64));
        match (order, first) {
            (1, [first]) => {
                let mut value = starts[0];
                *first = value;
                for (slot, difference) in rest.iter_mut().zip(above) {
                    value = value.wrapping_add(difference);
                    *slot = value;
                }
            }
            (2, [first, second]) => {
                let (mut value, mut delta) = (starts[0], starts[1]);
                *first = value;
                value = value.wrapping_add(delta);
                *second = value;
                for (slot, difference) in rest.iter_mut().zip(above) {
                    delta = delta.wrapping_add(difference);
                    value = value.wrapping_add(delta);
                    *slot = value;
                }
            }
            _ => rest.iter_mut().zip(above).for_each(|(slot, value)| *slot = value),
        }
    }
}
