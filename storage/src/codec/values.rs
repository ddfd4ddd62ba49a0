//! Float chunks: picks a codec for a run of values and takes it back.

use std::collections::HashSet;

use model::{STALE_NAN_BITS, is_stale};

use super::Damaged;
use super::entropy::{put_floats, take_floats};
use super::integer::{RELATIVE, Scaled};
use super::multiples::Body;
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
    /// Integers as multiples of a step, perhaps relative to another chunk.
    Multiples = 5,
    /// Entropy-coded floats.
    EntropyCoded = 6,
    /// Buckets of one classic histogram ([`super::family`]).
    Family = 7,
    /// Native histograms ([`super::histogram`]).
    Histogram = 16,
    /// Windows of float samples ([`super::windows`]).
    Windows = 17,
    /// Windows of native histograms.
    HistogramWindows = 18,
}

impl Codec {
    /// From the number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Constant,
            2 => Self::Integer,
            3 => Self::Bits,
            4 => Self::Raw,
            5 => Self::Multiples,
            6 => Self::EntropyCoded,
            7 => Self::Family,
            16 => Self::Histogram,
            17 => Self::Windows,
            18 => Self::HistogramWindows,
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

/// How much may be done for size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effort {
    /// Quick to write and to read.
    #[default]
    Young,
    /// Written once for the years: entropy coding where it saves something.
    Cold,
}

/// Entropy coding must save one byte in so many: it takes twice as long to read.
const SAVING: usize = 32;

/// Fewest integers of which a common step is looked for.
const STEP_VALUES_MIN: usize = 16;

/// Fewest values that are entropy-coded.
const ENTROPY_CODED_MIN: usize = 64;

/// Encodes float chunks, reusing its memory.
#[derive(Debug, Default)]
pub struct Encoder {
    effort: Effort,
    has_cold: bool,
    other: Vec<u8>,
    scaled: Scaled,
    ordered: Vec<i64>,
    scratch: Scratch,
}

impl Encoder {
    /// An encoder that takes this effort.
    pub fn new(effort: Effort) -> Self {
        Self { effort, ..Self::default() }
    }

    /// Appends the payload of `values` (at least one) to `out`.
    pub fn encode(&mut self, values: &[f64], out: &mut Vec<u8>) -> Encoded {
        let first = values[0];
        if values.iter().all(|v| v.to_bits() == first.to_bits()) {
            return Encoded { codec: Codec::Constant, constant: Some(first) };
        }
        let codec = if self.scaled.scale(values) {
            self.encode_integers(false, out)
        } else {
            self.encode_noise(values, out)
        };
        self.has_cold |= matches!(codec, Codec::Multiples | Codec::EntropyCoded);
        Encoded { codec, constant: None }
    }

    /// Appends the payload of `values` relative to those of a chunk of as many samples. `None`,
    /// and nothing is appended, if they are not all whole numbers.
    pub fn encode_relative(
        &mut self,
        values: &[f64],
        base: &[f64],
        out: &mut Vec<u8>,
    ) -> Option<Encoded> {
        let is_fit = self.scaled.scale(values) && self.scaled.make_relative(base);
        if !is_fit {
            return None;
        }
        self.has_cold = true;
        Some(Encoded { codec: self.encode_integers(true, out), constant: None })
    }

    /// Whether a codec was used that the first readers did not know.
    pub fn has_cold(&self) -> bool {
        self.has_cold
    }

    /// What was scaled.
    fn encode_integers(&mut self, relative: bool, out: &mut Vec<u8>) -> Codec {
        let Self { scaled, scratch, other, .. } = self;
        let start = out.len();
        let mut codec = Codec::Integer;
        if relative {
            codec = Codec::Multiples;
            scaled.encode_multiples(1, true, Body::Packed, scratch, out);
        } else {
            scaled.encode(scratch, out);
        }
        let mut keep_if = |is_better: &dyn Fn(usize, usize) -> bool, other: &[u8]| {
            if is_better(other.len(), out.len() - start) {
                codec = Codec::Multiples;
                out.truncate(start);
                out.extend_from_slice(other);
            }
        };
        let step = if scaled.integers.len() < STEP_VALUES_MIN { 1 } else { scaled.step() };
        if step > 1 {
            other.clear();
            scaled.encode_multiples(step, relative, Body::Packed, scratch, other);
            keep_if(&|multiples, plain| multiples < plain, other);
        }
        if self.effort == Effort::Cold {
            other.clear();
            if scaled.encode_multiples(step, relative, Body::EntropyCoded, scratch, other) {
                keep_if(&is_smaller, other);
            }
        }
        codec
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
        let repeats_bytes = distinct.len() * 8 + values.len() * 2;
        let mut codec = Codec::Bits;
        if out.len() - start >= raw_bytes || (out.len() - start) > repeats_bytes {
            out.truncate(start);
            out.extend(values.iter().flat_map(|v| v.to_bits().to_le_bytes()));
            codec = Codec::Raw;
        }
        self.other.clear();
        if self.effort == Effort::Cold
            && values.len() >= ENTROPY_CODED_MIN
            && put_floats(values, &mut self.other)
            && is_smaller(self.other.len(), out.len() - start)
            && is_smaller(self.other.len(), repeats_bytes)
        {
            codec = Codec::EntropyCoded;
            out.truncate(start);
            out.extend_from_slice(&self.other);
        }
        codec
    }
}

fn is_smaller(entropy_coded: usize, packed: usize) -> bool {
    entropy_coded + packed / SAVING < packed
}

/// Decodes float chunks, reusing its memory.
#[derive(Debug, Default)]
pub struct Decoder {
    scaled: Scaled,
    ordered: Vec<i64>,
    /// Of stale markers.
    places: Vec<u32>,
    scratch: Scratch,
}

impl Decoder {
    /// Fills `out` with the values of a chunk of exactly that many samples that stands for itself.
    pub fn decode(
        &mut self,
        codec: Codec,
        constant: f64,
        payload: &[u8],
        out: &mut [f64],
    ) -> Result<(), Damaged> {
        self.decode_relative(codec, constant, payload, None, out)
    }

    /// The same; `base` are the values of the chunk it may be relative to.
    pub fn decode_relative(
        &mut self,
        codec: Codec,
        constant: f64,
        mut payload: &[u8],
        base: Option<&[f64]>,
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
            Codec::Multiples => {
                self.scaled.decode_multiples(payload, base, &mut self.scratch, out)?;
            }
            Codec::EntropyCoded => take_floats(payload, out)?,
            Codec::Family => return Err(Damaged("buckets where floats were expected")),
            Codec::Windows | Codec::HistogramWindows => {
                return Err(Damaged("windows where floats were expected"));
            }
            Codec::Histogram => return Err(Damaged("histograms where floats were expected")),
        }
        Ok(())
    }
}

impl Decoder {
    /// The places of stale markers among so many samples of a chunk. Integers keep them apart, so
    /// that those are not decoded for it.
    pub fn markers(
        &mut self,
        codec: Codec,
        mut payload: &[u8],
        samples: usize,
    ) -> Result<&[u32], Damaged> {
        self.places.clear();
        if let Codec::Integer | Codec::Multiples = codec {
            let known = if codec == Codec::Multiples { RELATIVE } else { 0 };
            self.scaled.take_flags(known, &mut payload, samples)?;
            let stale = self.scaled.exceptions.iter().filter(|(_, bits)| *bits == STALE_NAN_BITS);
            self.places.extend(stale.map(|(place, _)| *place));
            return Ok(&self.places);
        }
        let mut values = vec![0.0; samples];
        self.decode(codec, 0.0, payload, &mut values)?;
        let stale = values.iter().enumerate().filter(|(_, value)| is_stale(**value));
        self.places.extend(stale.map(|(place, _)| place as u32));
        Ok(&self.places)
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
