//! Open samples of one series: a bit stream in small blocks of a shared arena.
//!
//! One sample after the other, each as the difference to the one before (docs/decisions/0002).
//! Bits are filled in from the lowest; prefixes are ones ended by a zero.
//!
//! ```text
//! timestamp   d = delta − delta before, zigzag      value   x = bits XOR bits before
//!   0         d = 0                                   0        x = 0
//!   10        d in 5 bits                             10 cc    integers both: difference, zigzag,
//!   110       d in 12 bits                                     in 5, 9, 14 or 24 bits
//!   1110      d in 18 bits                            110      x in the window of the last one
//!   11110     d in 32 bits                            111      6 bits leading zeros, 6 bits length − 1,
//!   11111     d in 64 bits                                     x in a window of its own
//! ```
//!
//! The first sample follows an imagined one: the generation's base time, value 0.

/// Payload words of a block.
const WORDS: usize = 7;
/// No block.
const NONE: u32 = u32::MAX;
/// Blocks per piece of the arena, as a power of two: 32 KiB, so that growing copies nothing.
const CHUNK_SHIFT: u32 = 10;

/// Half a cache line of one series' bits, linked backwards.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Block {
    words: [u32; WORDS],
    previous: u32,
}

/// The arena all series of a generation share. Blocks are only ever added: the whole arena goes
/// at once when its generation has been flushed.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    chunks: Vec<Box<[Block]>>,
    used: u32,
}

impl Blocks {
    fn allocate(&mut self, previous: u32) -> u32 {
        let index = self.used;
        if (index >> CHUNK_SHIFT) as usize == self.chunks.len() {
            let empty = Block { words: [0; WORDS], previous: NONE };
            self.chunks.push(vec![empty; 1 << CHUNK_SHIFT].into_boxed_slice());
        }
        self.used += 1;
        self.at_mut(index).previous = previous;
        index
    }

    fn at(&self, index: u32) -> &Block {
        &self.chunks[(index >> CHUNK_SHIFT) as usize][index as usize & ((1 << CHUNK_SHIFT) - 1)]
    }

    fn at_mut(&mut self, index: u32) -> &mut Block {
        &mut self.chunks[(index >> CHUNK_SHIFT) as usize][index as usize & ((1 << CHUNK_SHIFT) - 1)]
    }

    /// Memory taken.
    pub(super) fn heap_bytes(&self) -> usize {
        self.chunks.len() * (size_of::<Block>() << CHUNK_SHIFT)
    }
}

/// An instant and the bits of the value there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) ms: i64,
    pub(super) bits: u64,
}

/// Where the bits of one series lie and how the next sample is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    /// The last bits, fewer than 32, not yet in a block.
    open: u64,
    /// The newest block.
    tail: u32,
    /// How many samples there are.
    samples: u32,
    /// Difference of the last two timestamps; 0 if it does not fit.
    delta_ms: i32,
    /// Bits in `open`.
    open_bits: u8,
    /// Words used of the newest block.
    filled: u8,
    /// Leading zeros of the value window.
    leading: u8,
    /// Bits of the value window; 0 while there is none.
    length: u8,
}

/// Bits of an integer difference, by class.
const INTEGER_BITS: [u32; 4] = [5, 9, 14, 24];

impl Buffer {
    /// Without samples.
    pub(super) const EMPTY: Self = Self {
        open: 0,
        tail: NONE,
        samples: 0,
        delta_ms: 0,
        open_bits: 0,
        filled: WORDS as u8,
        leading: 0,
        length: 0,
    };

    pub(super) fn len(&self) -> u32 {
        self.samples
    }

    pub(super) fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Adds the sample `to` after `from`, which is the last one added.
    #[inline]
    pub(super) fn push(&mut self, blocks: &mut Blocks, from: Point, to: Point) {
        let delta = to.ms.wrapping_sub(from.ms);
        let change = zigzag(delta.wrapping_sub(i64::from(self.delta_ms)));
        self.delta_ms = short_delta(delta);
        self.samples += 1;
        match u64::BITS - change.leading_zeros() {
            0 => self.put(blocks, 0, 1),
            1..=5 => self.put(blocks, 0b01 | change << 2, 7),
            6..=12 => self.put(blocks, 0b011 | change << 3, 15),
            13..=18 => self.put(blocks, 0b0111 | change << 4, 22),
            bits => self.put_long(blocks, change, bits),
        }
        if from.bits == to.bits {
            self.put(blocks, 0, 1);
        } else {
            self.push_value(blocks, from.bits, to.bits);
        }
    }

    #[cold]
    fn put_long(&mut self, blocks: &mut Blocks, change: u64, bits: u32) {
        if bits <= 32 {
            self.put(blocks, 0b01111, 5);
            self.put(blocks, change, 32);
        } else {
            self.put(blocks, 0b11111, 5);
            self.put(blocks, change & 0xffff_ffff, 32);
            self.put(blocks, change >> 32, 32);
        }
    }

    fn push_value(&mut self, blocks: &mut Blocks, from: u64, to: u64) {
        if let Some(difference) = integer_difference(from, to) {
            let bits = u64::BITS - difference.leading_zeros();
            if let Some(class) = INTEGER_BITS.iter().position(|&b| bits <= b) {
                let head = 0b01 | (class as u64) << 2;
                self.put(blocks, head | difference << 4, 4 + INTEGER_BITS[class]);
                return;
            }
        }
        let xor = from ^ to;
        let (leading, trailing) = (xor.leading_zeros(), xor.trailing_zeros());
        let needed = 64 - leading - trailing;
        let (window_leading, window) = (u32::from(self.leading), u32::from(self.length));
        let window_trailing = 64u32.wrapping_sub(window_leading + window);
        // A window much wider than needed is left: twelve bits announce a new one.
        let fits = window != 0
            && leading >= window_leading
            && trailing >= window_trailing
            && window <= needed + 12;
        let (shift, length) = if fits {
            self.put(blocks, 0b011, 3);
            (window_trailing, window)
        } else {
            self.put(blocks, 0b111 | u64::from(leading) << 3 | u64::from(needed - 1) << 9, 15);
            (self.leading, self.length) = (leading as u8, needed as u8);
            (trailing, needed)
        };
        let payload = xor >> shift;
        if length <= 32 {
            self.put(blocks, payload, length);
        } else {
            self.put(blocks, payload & 0xffff_ffff, 32);
            self.put(blocks, payload >> 32, length - 32);
        }
    }

    /// Adds up to 32 bits; `value` has no others.
    #[inline]
    fn put(&mut self, blocks: &mut Blocks, value: u64, bits: u32) {
        self.open |= value << self.open_bits;
        self.open_bits += bits as u8;
        if self.open_bits >= 32 {
            self.spill(blocks);
        }
    }

    fn spill(&mut self, blocks: &mut Blocks) {
        if usize::from(self.filled) == WORDS {
            self.tail = blocks.allocate(self.tail);
            self.filled = 0;
        }
        blocks.at_mut(self.tail).words[usize::from(self.filled)] = self.open as u32;
        self.filled += 1;
        self.open >>= 32;
        self.open_bits -= 32;
    }

    /// Calls `each` with every sample in order.
    pub(super) fn decode(&self, blocks: &Blocks, base_ms: i64, mut each: impl FnMut(Point)) {
        if self.samples == 0 {
            return;
        }
        let words = self.words(blocks);
        let mut decoder = Decoder { words: &words, window: 0, bits: 0 };
        let mut point = Point { ms: base_ms, bits: 0 };
        let (mut delta_ms, mut leading, mut length) = (0i32, 0u32, 0u32);
        for _ in 0..self.samples {
            let delta = i64::from(delta_ms).wrapping_add(unzigzag(decoder.timestamp_change()));
            delta_ms = short_delta(delta);
            point.ms = point.ms.wrapping_add(delta);
            point.bits = decoder.value(point.bits, &mut leading, &mut length);
            each(point);
        }
    }

    /// All bits in one piece.
    fn words(&self, blocks: &Blocks) -> Vec<u32> {
        let mut runs = 0;
        let mut at = self.tail;
        while at != NONE {
            runs += 1;
            at = blocks.at(at).previous;
        }
        let in_blocks = if runs == 0 { 0 } else { (runs - 1) * WORDS + usize::from(self.filled) };
        let mut words = vec![0; in_blocks + 1];
        words[in_blocks] = self.open as u32;
        let (mut at, mut end, mut filled) = (self.tail, in_blocks, usize::from(self.filled));
        while at != NONE {
            let block = blocks.at(at);
            words[end - filled..end].copy_from_slice(&block.words[..filled]);
            end -= filled;
            filled = WORDS;
            at = block.previous;
        }
        words
    }
}

/// The integer difference, zigzag, if both values are integers that it leads between exactly.
#[inline]
fn integer_difference(from: u64, to: u64) -> Option<u64> {
    let (a, b) = (f64::from_bits(from) as i64, f64::from_bits(to) as i64);
    let exact = (a as f64).to_bits() == from && (b as f64).to_bits() == to;
    exact.then(|| zigzag(b.wrapping_sub(a)))
}

#[inline]
fn short_delta(delta: i64) -> i32 {
    i32::try_from(delta).unwrap_or(0)
}

#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads bits, lowest first. Past the end there are zeros; the writer never asks for them.
struct Decoder<'a> {
    words: &'a [u32],
    window: u64,
    bits: u32,
}

impl Decoder<'_> {
    /// The next up to 32 bits.
    #[inline]
    fn take(&mut self, bits: u32) -> u64 {
        if self.bits < bits {
            if let Some((&word, rest)) = self.words.split_first() {
                self.window |= u64::from(word) << self.bits;
                self.words = rest;
            }
            self.bits += 32;
        }
        let value = self.window & ((1 << bits) - 1);
        self.window >>= bits;
        self.bits -= bits;
        value
    }

    fn take_long(&mut self, bits: u32) -> u64 {
        if bits <= 32 {
            return self.take(bits);
        }
        let low = self.take(32);
        low | self.take(bits - 32) << 32
    }

    #[inline]
    fn timestamp_change(&mut self) -> u64 {
        for bits in [0, 5, 12, 18, 32] {
            if self.take(1) == 0 {
                return self.take(bits);
            }
        }
        self.take_long(64)
    }

    #[inline]
    fn value(&mut self, from: u64, leading: &mut u32, length: &mut u32) -> u64 {
        if self.take(1) == 0 {
            return from;
        }
        if self.take(1) == 0 {
            let class = self.take(2) as usize;
            let difference = unzigzag(self.take(INTEGER_BITS[class]));
            return ((f64::from_bits(from) as i64).wrapping_add(difference) as f64).to_bits();
        }
        if self.take(1) == 1 {
            *leading = self.take(6) as u32;
            *length = self.take(6) as u32 + 1;
        }
        from ^ self.take_long(*length) << (64 - *leading - *length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(base_ms: i64, points: &[Point]) -> u32 {
        let mut blocks = Blocks::default();
        let (mut one, mut other) = (Buffer::EMPTY, Buffer::EMPTY);
        let mut from = Point { ms: base_ms, bits: 0 };
        for &to in points {
            // Two series side by side: their blocks interleave in the arena.
            one.push(&mut blocks, from, to);
            other.push(&mut blocks, from, to);
            from = to;
        }
        for buffer in [one, other] {
            let mut read = Vec::new();
            buffer.decode(&blocks, base_ms, |p| read.push(p));
            assert_eq!(read, points);
        }
        blocks.used
    }

    fn any_point() -> impl Strategy<Value = (i64, u64)> {
        let ms = prop_oneof![Just(15_000), 14_990i64..15_010, 0i64..2_000_000, any::<i64>()];
        let bits = prop_oneof![
            (0i64..1000).prop_map(|v| (v as f64).to_bits()),
            any::<i64>().prop_map(|v| (v as f64).to_bits()),
            (0i64..100_000).prop_map(|v| (v as f64 / 1000.0).to_bits()),
            Just(model::STALE_NAN_BITS),
            Just((-0.0f64).to_bits()),
            Just(f64::INFINITY.to_bits()),
            any::<u64>(),
        ];
        (ms, bits)
    }

    proptest! {
        #[test]
        fn every_stream_survives(base_ms in any::<i64>(), steps in prop::collection::vec(any_point(), 0..200)) {
            let mut ms = base_ms;
            let points: Vec<Point> = steps.iter().map(|&(step, bits)| {
                ms = ms.wrapping_add(step);
                Point { ms, bits }
            }).collect();
            round_trip(base_ms, &points);
        }
    }

    #[test]
    fn a_steady_gauge_takes_two_bits_a_sample() {
        let points: Vec<Point> =
            (1..=1_000).map(|i| Point { ms: i * 15_000, bits: 1.0f64.to_bits() }).collect();
        let blocks = round_trip(0, &points);
        assert!(
            blocks / 2 <= 10,
            "{blocks} blocks of 28 bytes for two series of a thousand samples"
        );
    }

    #[test]
    fn a_counter_with_jitter_takes_two_bytes_a_sample() {
        let points: Vec<Point> = (1..=1_000i64)
            .map(|i| Point {
                ms: i * 15_000 + i * 7 % 5,
                bits: ((i * 131 + i * 17 % 13) as f64).to_bits(),
            })
            .collect();
        let bytes = round_trip(0, &points) / 2 * 28;
        assert!(bytes <= 2_700, "{bytes} bytes for a thousand samples");
    }
}
