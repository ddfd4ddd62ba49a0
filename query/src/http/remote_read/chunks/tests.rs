//! Chunks are read back by a decoder written from the format's description, bit by bit.

use model::ResetHint;
use proptest::prelude::*;

use super::*;

/// Bits, the highest of a byte first.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bits(&mut self, count: u32) -> u64 {
        (0..count).fold(0, |value, _| {
            let byte = self.bytes[self.at / 8];
            let bit = byte >> (7 - self.at % 8) & 1;
            self.at += 1;
            value << 1 | u64::from(bit)
        })
    }

    fn bytes_until_last(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            bytes.push(self.bits(8) as u8);
            if bytes[bytes.len() - 1] < 0x80 {
                return bytes;
            }
        }
    }

    /// Ones before the first zero, at most so many.
    fn ones(&mut self, most: u32) -> u32 {
        (0..most).find(|_| self.bits(1) == 0).unwrap_or(most)
    }

    fn float(&mut self) -> f64 {
        f64::from_bits(self.bits(64))
    }

    fn sized(&mut self) -> (u64, u32) {
        let size = [0, 3, 6, 9, 12, 18, 25, 56, 64][self.ones(8) as usize];
        (self.bits(size), size)
    }

    fn signed(&mut self) -> i64 {
        let (value, bits) = self.sized();
        from_bits(value, bits)
    }
}

/// So many bits as a number: those above the largest positive one are negative.
fn from_bits(value: u64, bits: u32) -> i64 {
    if bits == 0 || bits == 64 || value <= 1 << (bits - 1) {
        return value as i64;
    }
    (value as i64).wrapping_sub(1i64 << bits)
}

fn decoded_xor(data: &[u8]) -> Vec<(i64, u64)> {
    let mut bits = Reader { bytes: data, at: 0 };
    let count = bits.bits(16);
    let (mut at, mut delta, mut value) = (0i64, 0i64, 0u64);
    let (mut leading, mut trailing) = (0, 0);
    let mut samples = Vec::new();
    for i in 0..count {
        match i {
            0 => {
                let number = bits.bytes_until_last();
                at = model::varint::take_signed(&mut &number[..]).expect("a number");
                value = bits.bits(64);
                samples.push((at, value));
                continue;
            }
            1 => {
                let number = bits.bytes_until_last();
                delta = model::varint::take(&mut &number[..]).expect("a number") as i64;
            }
            _ => {
                let size = [0, 14, 17, 20, 64][bits.ones(4) as usize];
                let change = bits.bits(size);
                delta = delta.wrapping_add(from_bits(change, size));
            }
        }
        at = at.wrapping_add(delta);
        if bits.bits(1) == 1 {
            if bits.bits(1) == 1 {
                leading = bits.bits(5) as u32;
                let significant = bits.bits(6) as u32;
                trailing = 64 - leading - if significant == 0 { 64 } else { significant };
            }
            value ^= bits.bits(64 - leading - trailing) << trailing;
        }
        samples.push((at, value));
    }
    assert_eq!(bits.at.div_ceil(8), data.len(), "nothing is left");
    samples
}

fn series(timestamps: &[i64], values: &[f64], histograms: Vec<(i64, Arc<Histogram>)>) -> RawSeries {
    let labels = model::Labels::empty();
    RawSeries { labels, timestamps: timestamps.into(), values: values.to_vec(), histograms }
}

fn samples(timestamps: &[i64], values: &[f64]) -> Vec<(i64, u64)> {
    timestamps.iter().copied().zip(values.iter().map(|v| v.to_bits())).collect()
}

#[track_caller]
fn check(timestamps: &[i64], values: &[f64]) {
    let series = series(timestamps, values, Vec::new());
    let mut found = Vec::new();
    for chunk in Chunks::of(&series) {
        assert_eq!(chunk.encoding, Encoding::Xor);
        let samples = decoded_xor(&chunk.data);
        assert!(!samples.is_empty() && samples.len() <= SAMPLES_MAX);
        let bounds = (samples[0].0, samples[samples.len() - 1].0);
        assert_eq!((chunk.min_ms, chunk.max_ms), bounds);
        found.extend(samples);
    }
    assert_eq!(found, samples(timestamps, values));
}

#[test]
fn floats_survive() {
    check(&[], &[]);
    check(&[0], &[0.0]);
    check(&[-5, 7], &[-0.0, f64::NAN]);
    check(&[i64::MIN / 4, 0, i64::MAX / 4], &[1.0, f64::INFINITY, f64::from_bits(1)]);
    let steady: Vec<i64> = (0..1000).map(|i| 1_700_000_000_000 + i * 15_000 + i % 7).collect();
    let counter: Vec<f64> = (0..1000).map(|i| f64::from(i) * 3.25).collect();
    check(&steady, &counter);
    // Each size of a delta of deltas, at both of its ends.
    let mut at = 0;
    let mut delta = 10_000_000;
    let mut timestamps = Vec::new();
    for change in
        [8191, 8192, -8191, -8192, 65_536, -65_535, 65_537, 524_288, -524_287, 524_289, -524_288]
    {
        delta += change;
        at += delta;
        timestamps.push(at);
    }
    check(&timestamps, &vec![2.5; timestamps.len()]);
}

#[test]
fn bytes_are_those_of_the_format() {
    // Two samples, worked out by hand: count 2, zigzag 1000, the float 1, then delta 15 and "same".
    let chunk = xor(&[500, 515], &[1.0, 1.0]);
    let expected = [0, 2, 0xe8, 0x07, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 15, 0];
    assert_eq!(chunk.data, expected);
}

proptest! {
    #[test]
    fn any_floats_survive(
        gaps in prop::collection::vec(prop_oneof![1i64..20_000, 1i64..i64::from(u32::MAX), Just(15_000)], 0..300),
        bits in prop::collection::vec(prop_oneof![any::<u64>(), any::<i32>().prop_map(|v| f64::from(v).to_bits())], 300),
    ) {
        let mut at = -1_000_000;
        let timestamps: Vec<i64> = gaps.iter().map(|gap| { at += gap; at }).collect();
        let values: Vec<f64> = bits.iter().take(gaps.len()).map(|b| f64::from_bits(*b)).collect();
        check(&timestamps, &values);
    }

    #[test]
    fn any_integer_survives(value in any::<i64>(), shift in 0u32..64) {
        let value = value >> shift;
        let mut bits = Bits::default();
        bits.put_signed(value);
        bits.put_unsigned(value as u64);
        let mut reader = Reader { bytes: &bits.bytes, at: 0 };
        prop_assert_eq!(reader.signed(), value);
        prop_assert_eq!(reader.sized().0, value as u64);
    }
}

fn histogram(buckets: Buckets, schema: i32, custom_values: Vec<f64>) -> Histogram {
    Histogram {
        reset_hint: ResetHint::No,
        schema,
        zero_threshold: 2f64.powi(-128),
        sum: 12.5,
        positive_spans: vec![Span { offset: -3, length: 2 }],
        negative_spans: Vec::new(),
        buckets,
        custom_values,
    }
}

/// What stands before the counts.
fn read_head(bits: &mut Reader<'_>, schema: i64) -> (u64, Vec<(u64, i64)>) {
    assert_eq!(bits.bits(16), 1, "one histogram");
    assert_eq!(bits.bits(8), 0x40, "no reset");
    let threshold = bits.bits(8);
    assert_eq!(bits.signed(), schema);
    let mut spans = Vec::new();
    for _ in 0..2 {
        let count = bits.sized().0;
        spans.extend((0..count).map(|_| (bits.sized().0, bits.signed())));
    }
    (threshold, spans)
}

#[test]
fn histograms_survive() {
    let integers = Buckets::Integer {
        count: 9,
        zero_count: 2,
        positive_deltas: vec![4, -1],
        negative_deltas: vec![],
    };
    let floats = Buckets::Float {
        count: 9.5,
        zero_count: 0.0,
        positive: vec![4.25, 5.25],
        negative: vec![],
    };
    let integers = Arc::new(histogram(integers, 3, vec![]));
    let bounds = vec![0.005, 10.0, 1.0 / 3.0, -1.0];
    let floats = Arc::new(histogram(floats, CUSTOM_BOUNDS_SCHEMA, bounds));
    let series = series(&[10, 30, 31], &[1.0, 2.0, 3.0], vec![(20, integers), (40, floats)]);
    let chunks: Vec<Chunk> = Chunks::of(&series).collect();
    let kinds: Vec<_> = chunks.iter().map(|c| (c.encoding, c.min_ms, c.max_ms)).collect();
    let of = |kind, from, to| (kind, from, to);
    assert_eq!(
        kinds,
        [
            of(Encoding::Xor, 10, 10),
            of(Encoding::Histogram, 20, 20),
            of(Encoding::Xor, 30, 31),
            of(Encoding::FloatHistogram, 40, 40)
        ]
    );

    let mut bits = Reader { bytes: &chunks[1].data, at: 0 };
    assert_eq!(read_head(&mut bits, 3), (116, vec![(2, -3)]), "2^-128 is 0.5·2^-127");
    assert_eq!((bits.signed(), bits.sized().0, bits.sized().0), (20, 9, 2));
    assert_eq!((bits.float(), bits.signed(), bits.signed()), (12.5, 4, -1));
    assert_eq!(bits.at.div_ceil(8), chunks[1].data.len());

    let mut bits = Reader { bytes: &chunks[3].data, at: 0 };
    assert_eq!(read_head(&mut bits, i64::from(CUSTOM_BOUNDS_SCHEMA)).1, [(2, -3)]);
    assert_eq!(bits.sized().0, 4, "bounds");
    assert_eq!((bits.sized().0, bits.sized().0), (6, 10_001), "thousandths, plus one");
    assert_eq!((bits.bits(1), bits.float()), (0, 1.0 / 3.0));
    assert_eq!((bits.bits(1), bits.float()), (0, -1.0));
    assert_eq!(bits.signed(), 40);
    let counts: Vec<f64> = (0..5).map(|_| bits.float()).collect();
    assert_eq!(counts, [9.5, 0.0, 12.5, 4.25, 5.25]);
    assert_eq!(bits.at.div_ceil(8), chunks[3].data.len());
}

#[test]
fn zero_thresholds_are_short_where_they_can_be() {
    for (threshold, first) in
        [(0.0, 0), (0.5, 243), (1024.0, 254), (0.3, 255), (4096.0, 255), (-0.5, 255)]
    {
        let mut bits = Bits::default();
        put_zero_threshold(&mut bits, threshold);
        assert_eq!(bits.bytes[0], first, "{threshold}");
        assert_eq!(bits.bytes.len(), if first == 255 { 9 } else { 1 });
    }
}
