//! Streams: integers in time order as differences of order 0, 1 or 2, whichever is smallest, with
//! values that only repeat the one before left out where most do.
//!
//! A stream: order (low 2 bits) and whether repeats are left out (bit 2); if so, a bitmap with a
//! bit set for each value that differs from the one before (the first always counts); then the
//! first `order` values and differences as signed varints, then packed blocks.

use model::varint;

use super::entropy::Narrow;
use super::pack::{bits, put_all, take_all};
use super::{Damaged, take_byte, take_bytes, take_signed};

const ORDER: u8 = 3;
const SPARSE: u8 = 4;

/// Memory that encoding and decoding reuse from chunk to chunk.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    changed: Vec<i64>,
    differences: Vec<i64>,
    pub(super) narrow: Narrow,
}

/// Appends a stream of at least one value.
pub(super) fn put_stream(values: &[i64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let changes = 1 + values.windows(2).filter(|w| w[0] != w[1]).count();
    // Below a twelfth patches do the same for less; above three fifths the bitmap costs more.
    let sparse =
        values.len() >= 32 && changes * 12 > values.len() && changes * 5 < values.len() * 3;
    if !sparse {
        return put_dense(values, 0, &mut scratch.differences, out);
    }
    let changed = &mut scratch.changed;
    changed.clear();
    let mut bitmap = vec![0u8; values.len().div_ceil(8)];
    for (i, &value) in values.iter().enumerate() {
        if changed.last() != Some(&value) {
            bitmap[i / 8] |= 1 << (i % 8);
            changed.push(value);
        }
    }
    let flags_at = out.len();
    put_dense_after(changed, &bitmap, &mut scratch.differences, out);
    out[flags_at] |= SPARSE;
}

fn put_dense(values: &[i64], flags: u8, differences: &mut Vec<i64>, out: &mut Vec<u8>) {
    let order = best_order(values);
    out.push(order as u8 | flags);
    put_ordered(values, order, differences, out);
}

fn put_dense_after(values: &[i64], bitmap: &[u8], differences: &mut Vec<i64>, out: &mut Vec<u8>) {
    let order = best_order(values);
    out.push(order as u8);
    out.extend_from_slice(bitmap);
    put_ordered(values, order, differences, out);
}

fn put_ordered(values: &[i64], order: usize, differences: &mut Vec<i64>, out: &mut Vec<u8>) {
    let delta = |i: usize| values[i].wrapping_sub(values[i - 1]);
    differences.clear();
    match order {
        0 => return put_all(values, out),
        1 => differences.extend((1..values.len()).map(delta)),
        _ => differences.extend((2..values.len()).map(|i| delta(i).wrapping_sub(delta(i - 1)))),
    }
    varint::put_signed(out, values[0]);
    if order == 2 {
        varint::put_signed(out, delta(1));
    }
    put_all(differences, out);
}

/// By the sum of the bits that each difference needs around a rough median, which neither an
/// outlier nor a steady slope dominates.
fn best_order(values: &[i64]) -> usize {
    if values.len() < 3 {
        return 0;
    }
    let delta = |i: usize| values[i].wrapping_sub(values[i - 1]);
    let middles = [
        rough_median(values.len() - 2, |i| values[i + 2]),
        rough_median(values.len() - 2, |i| delta(i + 2)),
        rough_median(values.len() - 2, |i| delta(i + 2).wrapping_sub(delta(i + 1))),
    ];
    let mut needed = [0usize; 3];
    let (mut previous, mut previous_delta) = (values[1], delta(1));
    for &value in &values[2..] {
        let delta = value.wrapping_sub(previous);
        let orders = [value, delta, delta.wrapping_sub(previous_delta)];
        for ((sum, of_order), middle) in needed.iter_mut().zip(orders).zip(middles) {
            *sum += bits(of_order.wrapping_sub(middle).unsigned_abs());
        }
        (previous, previous_delta) = (value, delta);
    }
    // A higher order must win by more than it costs to start it.
    let mut best = 0;
    for order in 1..3 {
        if needed[order] + 8 < needed[best] {
            best = order;
        }
    }
    best
}

/// The median of up to nine values spread over `count`.
fn rough_median(count: usize, value: impl Fn(usize) -> i64) -> i64 {
    let mut sample = [0; 9];
    let taken = count.min(9);
    for (i, slot) in sample.iter_mut().take(taken).enumerate() {
        *slot = value(i * count / taken);
    }
    let sample = &mut sample[..taken];
    sample.sort_unstable();
    sample[taken / 2]
}

/// Fills `out` (at least one value) from the front of `bytes`.
pub(super) fn take_stream(
    bytes: &mut &[u8],
    scratch: &mut Scratch,
    out: &mut [i64],
) -> Result<(), Damaged> {
    let flags = take_byte(bytes)?;
    if flags & !(ORDER | SPARSE) != 0 {
        return Err(Damaged("unknown stream flags"));
    }
    if flags & SPARSE == 0 {
        return take_ordered(bytes, flags & ORDER, out);
    }
    let bitmap = take_bytes(bytes, out.len().div_ceil(8))?;
    let count: usize = bitmap.iter().map(|b| b.count_ones() as usize).sum();
    if count > out.len() || bitmap.first().is_none_or(|b| b & 1 == 0) {
        return Err(Damaged("repeats do not fit the count"));
    }
    scratch.changed.clear();
    scratch.changed.resize(count, 0);
    take_ordered(bytes, flags & ORDER, &mut scratch.changed)?;
    let mut at = usize::MAX;
    for (i, value) in out.iter_mut().enumerate() {
        at = at.wrapping_add(usize::from((bitmap[i / 8] >> (i % 8)) & 1));
        *value = scratch.changed.get(at).copied().unwrap_or_default();
    }
    Ok(())
}

fn take_ordered(bytes: &mut &[u8], order: u8, out: &mut [i64]) -> Result<(), Damaged> {
    match (order, out) {
        (0, out) => take_all(bytes, out),
        (1, [first, rest @ ..]) => {
            *first = take_signed(bytes)?;
            take_all(bytes, rest)?;
            let mut value = *first;
            for next in rest {
                value = value.wrapping_add(*next);
                *next = value;
            }
            Ok(())
        }
        (2, [first, second, rest @ ..]) => {
            *first = take_signed(bytes)?;
            let mut delta = take_signed(bytes)?;
            *second = first.wrapping_add(delta);
            take_all(bytes, rest)?;
            let mut value = *second;
            for next in rest {
                delta = delta.wrapping_add(*next);
                value = value.wrapping_add(delta);
                *next = value;
            }
            Ok(())
        }
        _ => Err(Damaged("stream order does not fit the count")),
    }
}
