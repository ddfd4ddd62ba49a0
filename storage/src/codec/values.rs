//! Float chunks: picks a codec for a run of values and takes it back.

use std::collections::HashSet;

use super::Damaged;
use super::integer::Scaled;
use super::stream::{Scratch, put_stream, take_stream};

/// How a chunk's payload is to be read; the numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// All values have the same bits; they stand beside the payload.
    Constant = 1,
    /// Decimals as integers.
    Integer = 2,
    /// The bits of the floats as integers, ordered as the floats are.
    Bits = 3,
    /// Eight bytes each, little-endian.
    Raw = 4,
    /// Native histograms ([`super::histogram`]).
    Histogram = 16,
}

impl Codec {
    /// From the number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Constant,
            2 => Self::Integer,
            3 => Self::Bits,
            4 => Self::Raw,
            16 => Self::Histogram,
            _ => return None,
        })
    }
}

/// What an encoder made of a run of values; the payload is in the buffer given to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Encoded {
    /// How to read the payload.
    pub codec: Codec,
    /// The value of a constant chunk.
    pub constant: Option<f64>,
}

/// Encodes float chunks, reusing its memory.
#[derive(Debug, Default)]
pub struct Encoder {
    scaled: Scaled,
    ordered: Vec<i64>,
    scratch: Scratch,
}

impl Encoder {
    /// Appends the payload of `values` (at least one) to `out`.
    pub fn encode(&mut self, values: &[f64], out: &mut Vec<u8>) -> Encoded {
        let first = values[0];
        if values.iter().all(|v| v.to_bits() == first.to_bits()) {
            return Encoded { codec: Codec::Constant, constant: Some(first) };
        }
        let codec = if self.scaled.scale(values) {
            self.scaled.encode(&mut self.scratch, out);
            Codec::Integer
        } else {
            self.encode_noise(values, out)
        };
        Encoded { codec, constant: None }
    }

    /// Values with full mantissas.
    fn encode_noise(&mut self, values: &[f64], out: &mut Vec<u8>) -> Codec {
        let start = out.len();
        self.ordered.clear();
        self.ordered.extend(values.iter().map(|v| ordered(v.to_bits())));
        put_stream(&self.ordered, &mut self.scratch, out);
        // Values that come back need no bits at all when the page's zstd sees them whole.
        let distinct: HashSet<i64> = self.ordered.iter().copied().collect();
        let raw_bytes = values.len() * 8;
        if out.len() - start >= raw_bytes
            || (out.len() - start) > distinct.len() * 8 + values.len() * 2
        {
            out.truncate(start);
            out.extend(values.iter().flat_map(|v| v.to_bits().to_le_bytes()));
            return Codec::Raw;
        }
        Codec::Bits
    }
}

/// Decodes float chunks, reusing its memory.
#[derive(Debug, Default)]
pub struct Decoder {
    scaled: Scaled,
    ordered: Vec<i64>,
    scratch: Scratch,
}

impl Decoder {
    /// Fills `out` with the values of a chunk of exactly that many samples.
    pub fn decode(
        &mut self,
        codec: Codec,
        constant: f64,
        mut payload: &[u8],
        out: &mut [f64],
    ) -> Result<(), Damaged> {
        match codec {
            Codec::Constant => {
                if !payload.is_empty() {
                    return Err(Damaged("a constant chunk has a payload"));
                }
                out.fill(constant);
            }
            Codec::Integer => self.scaled.decode(payload, &mut self.scratch, out)?,
            Codec::Bits => {
                self.ordered.clear();
                self.ordered.resize(out.len(), 0);
                take_stream(&mut payload, &mut self.scratch, &mut self.ordered)?;
                if !payload.is_empty() {
                    return Err(Damaged("bytes after the last value"));
                }
                for (value, &bits) in out.iter_mut().zip(&self.ordered) {
                    *value = f64::from_bits(ordered(bits as u64) as u64);
                }
            }
            Codec::Raw => {
                if payload.len() != out.len() * 8 {
                    return Err(Damaged("length does not fit the count"));
                }
                for (value, bytes) in out.iter_mut().zip(payload.chunks_exact(8)) {
                    let mut word = [0; 8];
                    word.copy_from_slice(bytes);
                    *value = f64::from_bits(u64::from_le_bytes(word));
                }
            }
            Codec::Histogram => return Err(Damaged("histograms where floats were expected")),
        }
        Ok(())
    }
}

/// Bits of a float as an integer in the same order, and back: flips all but the sign of
/// negative numbers.
fn ordered(bits: u64) -> i64 {
    let bits = bits as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// A column of floats inside another format: codec, then the constant or length and payload.
pub(super) fn put_column(values: &[f64], encoder: &mut Encoder, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    let encoded = encoder.encode(values, &mut payload);
    out.push(encoded.codec as u8);
    match encoded.constant {
        Some(value) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
        None => {
            model::varint::put(out, payload.len() as u64);
            out.extend_from_slice(&payload);
        }
    }
}

/// The reverse of [`put_column`].
pub(super) fn take_column(
    bytes: &mut &[u8],
    decoder: &mut Decoder,
    out: &mut [f64],
) -> Result<(), Damaged> {
    let codec =
        Codec::from_number(super::take_byte(bytes)?).ok_or(Damaged("unknown column codec"))?;
    if codec == Codec::Constant {
        let value = f64::from_bits(super::take_u64(bytes)?);
        return decoder.decode(codec, value, &[], out);
    }
    let length = usize::try_from(super::take_varint(bytes)?).map_err(|_| Damaged("cut short"))?;
    let payload = super::take_bytes(bytes, length)?;
    decoder.decode(codec, 0.0, payload, out)
}

/// A column of integers inside another format.
pub(super) fn put_integers(values: &[i64], encoder: &mut Encoder, out: &mut Vec<u8>) {
    put_stream(values, &mut encoder.scratch, out);
}

/// The reverse of [`put_integers`].
pub(super) fn take_integers(
    bytes: &mut &[u8],
    decoder: &mut Decoder,
    out: &mut [i64],
) -> Result<(), Damaged> {
    take_stream(bytes, &mut decoder.scratch, out)
}
