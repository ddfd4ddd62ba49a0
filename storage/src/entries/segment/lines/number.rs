//! Numbers of a column: decimal digits without zeros before them, or all of one length. Stored less
//! the smallest of them or as differences, the lowest byte of each first, then the next.

use super::Damaged;
use super::sections::{Bytes, Section, Sections, WRONG};
use model::varint;

/// Digits of a number: so many are below 2^63 whatever they are.
pub(super) const DIGITS_MAX: usize = 18;

/// Numbers, and how they are written in their lines.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) values: Vec<u64>,
    /// Digits of each where some begin with a zero, else 0.
    pub(super) digits: usize,
}

impl Numbers {
    /// Takes texts in; false if they are not all numbers of one kind.
    pub(super) fn parse(&mut self, texts: &[&[u8]]) -> bool {
        self.values.clear();
        let length = texts.first().map_or(0, |text| text.len());
        let (mut is_even, mut is_short) = (true, true);
        for text in texts {
            if text.is_empty() || text.len() > DIGITS_MAX {
                return false;
            }
            let mut value = 0;
            for byte in *text {
                let digit = byte.wrapping_sub(b'0');
                if digit > 9 {
                    return false;
                }
                value = value * 10 + u64::from(digit);
            }
            is_even &= text.len() == length;
            is_short &= text.len() == 1 || text[0] != b'0';
            if !is_even && !is_short {
                return false;
            }
            self.values.push(value);
        }
        self.digits = if is_short { 0 } else { length };
        true
    }
}

/// Numbers as they are stored.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) are_differences: bool,
    /// The smallest; for differences the first.
    base: u64,
    stored: Vec<u64>,
    width: usize,
    /// About how many bytes it takes.
    pub(super) cost: f32,
}

impl Layout {
    /// The smaller one.
    pub(super) fn choose(values: &[u64]) -> Self {
        let smallest = values.iter().copied().min().unwrap_or_default();
        let plain = Self::new(false, smallest, values.iter().map(|v| v - smallest).collect());
        let first = values.first().copied().unwrap_or_default();
        let mut last = first;
        let differences = values.iter().map(|value| {
            let difference = value.wrapping_sub(last) as i64;
            last = *value;
            ((difference << 1) ^ (difference >> 63)) as u64
        });
        let differences = Self::new(true, first, differences.collect());
        if differences.cost < plain.cost { differences } else { plain }
    }

    fn new(are_differences: bool, base: u64, stored: Vec<u64>) -> Self {
        let all = stored.iter().fold(0, |all, value| all | value);
        let width = (u64::BITS - all.leading_zeros()).div_ceil(8) as usize;
        let plane = |plane| stored.iter().map(move |value| (value >> (8 * plane)) as u8);
        let cost = (0..width).map(|i| entropy_bytes(plane(i))).sum();
        Self { are_differences, base, stored, width, cost }
    }

    pub(super) fn put(&self, sections: &mut Sections) {
        varint::put(sections.of(Section::Heads), self.base);
        sections.of(Section::Heads).push(self.width as u8);
        let out = sections.of(Section::Numbers);
        for plane in 0..self.width {
            out.extend(self.stored.iter().map(|value| (value >> (8 * plane)) as u8));
        }
    }
}

/// About how many bytes entropy coding makes of these.
pub(super) fn entropy_bytes(bytes: impl Iterator<Item = u8>) -> f32 {
    let mut counts = [0u32; 256];
    bytes.for_each(|byte| counts[usize::from(byte)] += 1);
    let total: u32 = counts.iter().sum();
    let (mut bits, mut symbols) = (0.0, 0);
    for count in counts.into_iter().filter(|count| *count > 0) {
        bits += count as f32 * (total as f32 / count as f32).log2();
        symbols += 1;
    }
    // The table of codes has about half a byte for each that comes.
    if symbols > 1 { bits / 8.0 + symbols as f32 / 2.0 } else { 0.0 }
}

/// Takes as many numbers as `out` has.
pub(super) fn take(
    are_differences: bool,
    heads: &mut Bytes<'_>,
    numbers: &mut Bytes<'_>,
    out: &mut [u64],
) -> Result<(), Damaged> {
    let base = heads.number()?;
    let width = usize::from(heads.byte()?);
    if width > size_of::<u64>() {
        return Err(WRONG);
    }
    out.fill(0);
    for plane in 0..width {
        let bytes = numbers.take(out.len())?;
        for (value, byte) in out.iter_mut().zip(bytes) {
            *value |= u64::from(*byte) << (8 * plane);
        }
    }
    let mut last = base;
    for value in out {
        if are_differences {
            last = last.wrapping_add((*value >> 1) ^ (*value & 1).wrapping_neg());
            *value = last;
        } else {
            *value = value.wrapping_add(base);
        }
    }
    Ok(())
}
