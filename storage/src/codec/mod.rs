//! Chunk codecs: how up to 1,024 samples of one series become bytes. Plain functions, no I/O.
//!
//! ```text
//! values ──► constant | integer (decimal scaling) | bits | raw      values.rs, integer.rs
//!                            │          │
//!                            └─► stream (delta, delta², runs) ─► pack (patched bit-packing)
//! cold ──► integer as multiples of a step, relative to a bucket ─► entropy coding, where smaller
//! timestamps ─► grid residuals, delta or delta² ─► pack             timestamps.rs
//! buckets of one histogram ─► one payload, each as what it has above the one below    family.rs
//! windows of samples ─► a column for each figure, most of them known from others       windows.rs
//! histograms ─► one column per bucket, each as above                histogram.rs
//! start timestamps ─► runs of equal ones                            starts.rs
//! ```
//!
//! Invariants: every codec gives back the same bits, NaN payloads and −0.0 included; decoding any
//! bytes ends in values or in [`Damaged`], never in a panic or in an allocation that the stated
//! count does not bound. Described for other readers in `docs/formats/codecs.md`.

mod entropy;
pub mod family;
pub mod histogram;
mod integer;
mod multiples;
mod pack;
pub mod starts;
mod stream;
pub mod timestamps;
mod values;
pub mod windows;

#[cfg(test)]
mod tests;

pub use values::{Codec, Decoder, Effort, Encoded, Encoder};

/// Most samples in one chunk. Larger chunks hardly compress better and cost short queries more
/// decoding (measured at 480 to 5,760).
pub const CHUNK_SAMPLES_MAX: usize = 1024;

/// Bytes that no encoder wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub &'static str);

/// Takes `count` bytes off the front.
fn take_bytes<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Damaged> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Damaged("cut short"))?;
    *bytes = rest;
    Ok(taken)
}

fn take_byte(bytes: &mut &[u8]) -> Result<u8, Damaged> {
    take_bytes(bytes, 1).map(|b| b[0])
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    model::varint::take(bytes).ok_or(Damaged("cut short or too long number"))
}

fn take_signed(bytes: &mut &[u8]) -> Result<i64, Damaged> {
    model::varint::take_signed(bytes).ok_or(Damaged("cut short or too long number"))
}

fn take_u64(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let taken = take_bytes(bytes, 8)?;
    Ok(u64::from_le_bytes(taken.try_into().map_err(|_| Damaged("cut short"))?))
}
