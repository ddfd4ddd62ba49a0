//! Patched bit-packing: blocks of up to 128 integers at a fixed width above a base, with the few
//! that need more bits patched in afterwards.
//!
//! One block: width (low 7 bits) and whether there are patches (top bit), base as a signed
//! varint, patches if any (their number, a position byte each, the bits above the width as
//! varints), then the low bits, lowest first.

use model::varint;

use super::{Damaged, take_byte, take_bytes, take_signed, take_varint};

/// Integers in one block.
pub(super) const LANES: usize = 128;

const PATCHED: u8 = 0x80;

/// Room for a full block at 64 bits and for reading whole words past its end.
const PADDED: usize = LANES * 8 + 16;

/// Appends all values, block by block.
pub(super) fn put_all(values: &[i64], out: &mut Vec<u8>) {
    for block in values.chunks(LANES) {
        put_block(block, out);
    }
}

/// Fills `out` from the front of `bytes`.
pub(super) fn take_all(bytes: &mut &[u8], out: &mut [i64]) -> Result<(), Damaged> {
    for block in out.chunks_mut(LANES) {
        take_block(bytes, block)?;
    }
    Ok(())
}

/// How a block is laid out.
struct Layout {
    width: u32,
    base: i64,
    bytes: usize,
}

fn put_block(values: &[i64], out: &mut Vec<u8>) {
    let Layout { width, base, .. } = choose(values);
    let mut patches = [(0u8, 0u64); LANES];
    let mut patch_count = 0;
    if width < 64 {
        for (i, &value) in values.iter().enumerate() {
            let high = (value.wrapping_sub(base) as u64) >> width;
            if high != 0 {
                patches[patch_count] = (i as u8, high);
                patch_count += 1;
            }
        }
    }
    let patches = &patches[..patch_count];
    out.push(width as u8 | if patches.is_empty() { 0 } else { PATCHED });
    varint::put_signed(out, base);
    if !patches.is_empty() {
        out.push(patches.len() as u8);
        out.extend(patches.iter().map(|(position, _)| *position));
        for (_, high) in patches {
            varint::put(out, *high);
        }
    }
    put_bits(values, base, width, out);
}

fn put_bits(values: &[i64], base: i64, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mask = u64::MAX >> (64 - width);
    let (mut word, mut filled) = (0u64, 0u32);
    for &value in values {
        let low = (value.wrapping_sub(base) as u64) & mask;
        word |= low << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= 64;
            word = if filled == 0 { 0 } else { low >> (width - filled) };
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// Tries a base at the minimum and one that centres the range on zero; the second keeps a single
/// large drop (a counter reset) from widening the whole block.
fn choose(values: &[i64]) -> Layout {
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    for &value in values {
        min = min.min(value);
        max = max.max(value);
    }
    if min >= max {
        return Layout { width: 0, base: min, bytes: 0 };
    }
    let mut above_min = [0u16; 65];
    let mut around_zero = [0u16; 65];
    for &value in values {
        above_min[bits(value.wrapping_sub(min) as u64)] += 1;
        around_zero[bits(zigzag(value))] += 1;
    }
    let (width, cost) = cheapest(&above_min, values.len(), 0);
    let from_min = Layout { width, base: min, bytes: cost + signed_bytes(min) };
    // Below the centred base a patch holds nearly all 64 bits: ten bytes with its position.
    let (width, cost) = cheapest(&around_zero, values.len(), 3);
    let base = if width == 0 { 0 } else { -(1i64 << (width - 1).min(62)) };
    let centred = Layout { width, base, bytes: cost + signed_bytes(base) };
    if centred.bytes < from_min.bytes && width < 63 { centred } else { from_min }
}

/// The width with the least bytes, given how many values need how many bits.
fn cheapest(needed: &[u16; 65], count: usize, patch_extra: usize) -> (u32, usize) {
    let top = needed.iter().rposition(|n| *n != 0).unwrap_or(0);
    let mut best = (top, (count * top).div_ceil(8));
    let (mut patched, mut patch_bytes) = (0usize, 0usize);
    for width in (0..top).rev() {
        patched += usize::from(needed[width + 1]);
        if patched * 2 > count {
            break;
        }
        patch_bytes += patched.div_ceil(7);
        let bytes = (count * width).div_ceil(8) + 1 + patched * (2 + patch_extra) + patch_bytes;
        if bytes < best.1 {
            best = (width, bytes);
        }
    }
    (best.0 as u32, best.1)
}

fn signed_bytes(value: i64) -> usize {
    bits(zigzag(value)).max(1).div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn bits(value: u64) -> usize {
    (64 - value.leading_zeros()) as usize
}

fn take_block(bytes: &mut &[u8], out: &mut [i64]) -> Result<(), Damaged> {
    let head = take_byte(bytes)?;
    let width = usize::from(head & !PATCHED);
    let unpack = UNPACK.get(width).ok_or(Damaged("bit width above 64"))?;
    let base = take_signed(bytes)?;
    let mut patches = [(0u8, 0u64); LANES];
    let mut patch_count = 0;
    if head & PATCHED != 0 {
        patch_count = usize::from(take_byte(bytes)?);
        if patch_count > out.len() || width == 64 {
            return Err(Damaged("more patches than values"));
        }
        let positions = take_bytes(bytes, patch_count)?;
        for (patch, &position) in patches.iter_mut().zip(positions) {
            *patch = (position, take_varint(bytes)?);
        }
    }
    let packed = take_bytes(bytes, (out.len() * width).div_ceil(8))?;
    if width == 0 {
        out.fill(base);
    } else {
        let mut padded = [0u8; PADDED];
        padded[..packed.len()].copy_from_slice(packed);
        if let Ok(full) = <&mut [i64; LANES]>::try_from(&mut *out) {
            unpack(&padded, base, full);
        } else {
            let mut full = [0; LANES];
            unpack(&padded, base, &mut full);
            out.copy_from_slice(&full[..out.len()]);
        }
    }
    for (position, high) in &patches[..patch_count] {
        let value =
            out.get_mut(usize::from(*position)).ok_or(Damaged("patch outside its block"))?;
        *value = value.wrapping_add((high << width) as i64);
    }
    Ok(())
}

type Unpack = fn(&[u8; PADDED], i64, &mut [i64; LANES]);

/// Reads 128 values of `W` bits. The width is a constant so that every shift is one too.
fn unpack<const W: usize>(packed: &[u8; PADDED], base: i64, out: &mut [i64; LANES]) {
    if W == 0 {
        return;
    }
    let mask = u64::MAX >> (64 - W as u32);
    // Eight values take exactly `W` bytes: within them all positions are constants.
    for (values, from) in out.chunks_exact_mut(8).zip((0..).step_by(W)) {
        let mut bytes = [0; 72];
        bytes[..W + 8].copy_from_slice(&packed[from..from + W + 8]);
        for (i, value) in values.iter_mut().enumerate() {
            let (byte, shift) = (i * W / 8, i * W % 8);
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[byte..byte + 8]);
            let mut low = u64::from_le_bytes(word) >> shift;
            if W > 57 && shift != 0 {
                low |= u64::from(bytes[byte + 8]) << (64 - shift);
            }
            *value = base.wrapping_add((low & mask) as i64);
        }
    }
}

macro_rules! widths {
    ($($width:literal)*) => { [$(unpack::<$width>),*] };
}

static UNPACK: [Unpack; 65] = widths!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
    33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
);
