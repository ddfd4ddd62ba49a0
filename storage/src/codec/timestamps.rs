//! Timestamp vectors: instants of the chunks that share them, strictly increasing.
//!
//! A vector: its length and its first instant as varints; if there are more, the step (the
//! median difference), how the rest is written (0: distance from the grid of that step,
//! 1: difference to the one before less the step, 2: difference of differences), packed blocks.
//! 3 is 0 with entropy-coded numbers instead of packed blocks.

use model::varint;

use super::entropy::{Narrow, TakeNumbers, put_numbers};
use super::pack::{put_all, take_all};
use super::{CHUNK_SAMPLES_MAX, Damaged, Effort, take_byte, take_signed, take_varint};

/// Distance from the grid, entropy-coded instead of packed.
const ENTROPY_CODED: u8 = 3;

/// Fewest distances that are entropy-coded.
const ENTROPY_CODED_MIN: usize = 64;

/// Appends a vector of 1 to [`CHUNK_SAMPLES_MAX`] instants.
pub fn encode(instants: &[i64], effort: Effort, out: &mut Vec<u8>) {
    varint::put(out, instants.len() as u64);
    varint::put_signed(out, instants[0]);
    if instants.len() == 1 {
        return;
    }
    let mut sorted: Vec<i64> = instants.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    let middle = sorted.len() / 2;
    let step = *sorted.select_nth_unstable(middle).1;
    varint::put_signed(out, step);
    let mut best: Option<Vec<u8>> = None;
    for mode in 0..3 {
        let mut packed = vec![mode];
        put_all(&residuals(instants, step, mode), &mut packed);
        if best.as_ref().is_none_or(|b| packed.len() < b.len()) {
            best = Some(packed);
        }
    }
    let mut best = best.unwrap_or_default();
    if effort == Effort::Cold
        && let Some(coded) = entropy_coded(&residuals(instants, step, 0))
        && coded.len() < best.len()
    {
        best = coded;
    }
    out.extend(best);
}

/// The least distance from the grid, and what the others are above it.
fn entropy_coded(residuals: &[i64]) -> Option<Vec<u8>> {
    if residuals.len() < ENTROPY_CODED_MIN {
        return None;
    }
    let least = residuals.iter().copied().min()?;
    let above: Vec<u64> = residuals.iter().map(|r| r.wrapping_sub(least) as u64).collect();
    let mut coded = vec![ENTROPY_CODED];
    varint::put_signed(&mut coded, least);
    put_numbers(&above, &mut coded).then_some(coded)
}

fn residuals(instants: &[i64], step: i64, mode: u8) -> Vec<i64> {
    let mut out = Vec::with_capacity(instants.len() - 1);
    let (mut expected, mut previous_delta) = (instants[0], step);
    for w in instants.windows(2) {
        let delta = w[1].wrapping_sub(w[0]);
        expected = expected.wrapping_add(step);
        out.push(match mode {
            0 => w[1].wrapping_sub(expected),
            1 => delta.wrapping_sub(step),
            _ => delta.wrapping_sub(previous_delta),
        });
        previous_delta = delta;
    }
    out
}

/// Reads one vector, which takes all of `bytes`.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<i64>, Damaged> {
    let bytes = &mut bytes;
    let count = take_varint(bytes)?;
    if count == 0 || count > CHUNK_SAMPLES_MAX as u64 {
        return Err(Damaged("length of a timestamp vector out of bounds"));
    }
    let first = take_signed(bytes)?;
    let mut out = vec![first; count as usize];
    if out.len() > 1 {
        let step = take_signed(bytes)?;
        let mode = take_byte(bytes)?;
        let rest = &mut out[1..];
        if mode == ENTROPY_CODED {
            take_entropy_coded(bytes, rest)?;
            restore(first, step, 0, rest)?;
        } else {
            take_all(bytes, rest)?;
            restore(first, step, mode, rest)?;
        }
    }
    if !bytes.is_empty() {
        return Err(Damaged("bytes after the last timestamp"));
    }
    if !out.is_sorted_by(|a, b| a < b) {
        return Err(Damaged("timestamps do not increase"));
    }
    Ok(out)
}

fn take_entropy_coded(bytes: &mut &[u8], out: &mut [i64]) -> Result<(), Damaged> {
    let least = take_signed(bytes)?;
    Narrow::default().read(bytes, out.len(), AboveLeast { least, out })?;
    *bytes = &[];
    Ok(())
}

/// Numbers above the least of them.
struct AboveLeast<'o> {
    least: i64,
    out: &'o mut [i64],
}

impl TakeNumbers for AboveLeast<'_> {
    fn take<T: Copy + Into<u64>>(self, numbers: &[T]) {
        for (residual, above) in self.out.iter_mut().zip(numbers) {
            *residual = self.least.wrapping_add((*above).into() as i64);
        }
    }
}

fn restore(first: i64, step: i64, mode: u8, rest: &mut [i64]) -> Result<(), Damaged> {
    let (mut expected, mut previous, mut delta) = (first, first, step);
    for value in rest {
        expected = expected.wrapping_add(step);
        delta = match mode {
            0 => 0,
            1 => step.wrapping_add(*value),
            2 => delta.wrapping_add(*value),
            _ => return Err(Damaged("unknown timestamp mode")),
        };
        *value =
            if mode == 0 { expected.wrapping_add(*value) } else { previous.wrapping_add(delta) };
        previous = *value;
    }
    Ok(())
}
