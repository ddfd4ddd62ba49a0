//! Tests of the codecs: the same bits come back, and any bytes end in an answer.

use model::{Buckets, Histogram, ResetHint, STALE_NAN_BITS, Span, stale_nan};
use proptest::collection::vec;
use proptest::prelude::*;

use super::pack::{put_all, take_all};
use super::{CHUNK_SAMPLES_MAX, Codec, Decoder, Effort, Encoder, histogram, timestamps};

/// Encodes, decodes, compares bits; gives back codec and payload.
#[track_caller]
fn round_trip(values: &[f64]) -> (Codec, Vec<u8>) {
    round_trip_with(Effort::Cold, values);
    round_trip_with(Effort::Young, values)
}

#[track_caller]
fn round_trip_with(effort: Effort, values: &[f64]) -> (Codec, Vec<u8>) {
    let mut payload = Vec::new();
    let encoded = Encoder::new(effort).encode(values, &mut payload);
    let mut decoded = vec![0.0; values.len()];
    let constant = encoded.constant.unwrap_or(f64::NAN);
    Decoder::default()
        .decode(encoded.codec, constant, &payload, &mut decoded)
        .expect("what was just encoded");
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&decoded), bits(values), "{:?}", encoded.codec);
    (encoded.codec, payload)
}

#[track_caller]
fn check(values: &[f64], codec: Codec) {
    assert_eq!(round_trip(values).0, codec, "{values:?}");
}

#[test]
fn odd_values_keep_their_bits() {
    let (inf, nan, stale) = (f64::INFINITY, f64::NAN, stale_nan());
    let payload_nan = f64::from_bits(0xfff8_0000_dead_beef);
    check(&[stale], Codec::Constant);
    check(&[-0.0], Codec::Constant);
    check(&[payload_nan; 3], Codec::Constant);
    check(&[0.0, -0.0, 0.0, 0.0], Codec::Integer);
    check(&[1.0, 2.0, stale], Codec::Integer);
    check(&[1.0, stale, 2.0, nan, 3.0, payload_nan, 4.0], Codec::Integer);
    check(&[stale, 1.5, 2.5, 3.5], Codec::Integer);
    check(&[inf, 5.0, -inf, 6.0, 7.0], Codec::Integer);
    check(&[9007199254740993.0, 9007199254740996.0, 1e18, -1e18], Codec::Integer);
    check(&[9.3e18, 1e300, -1e300, f64::MAX], Codec::Raw);
    check(&[f64::MIN_POSITIVE, 5e-324, 1e-310, 2e-323], Codec::Bits);
    check(&[i64::MAX as f64, i64::MIN as f64, 0.0], Codec::Integer);
    check(&[0.1, 0.2, 0.3, 0.7], Codec::Integer);
    check(&[1e-15, 2e-15, 3e-15], Codec::Integer);
    check(&[stale, nan, stale, nan], Codec::Raw);
}

/// What metrics look like: a walk of some kind, some odd values, some repeats.
fn realistic() -> impl Strategy<Value = Vec<f64>> {
    let length = prop_oneof![1usize..40, 100usize..140, Just(512), Just(CHUNK_SAMPLES_MAX)];
    (length, 0u32..8, 0u32..4, any::<u64>(), 0u32..30).prop_map(
        |(length, decimals, kind, seed, odd_percent)| {
            let mut random = Random(seed);
            let mut state = (random.next() % 1_000_000) as f64;
            let values = (0..length).map(|_| {
                let step = (random.next() % 1000) as f64;
                match kind {
                    0 if random.next().is_multiple_of(200) => state = 0.0,
                    0 => state += step,
                    1 => state += step - 500.0,
                    2 if random.next().is_multiple_of(3) => state = step,
                    2 => {}
                    _ => state += step * std::f64::consts::PI,
                }
                let odd = [
                    stale_nan(),
                    f64::NAN,
                    f64::INFINITY,
                    -0.0,
                    f64::from_bits(0x7ff8_dead_0000_0001),
                ];
                if random.next() % 100 < u64::from(odd_percent) {
                    return odd[(random.next() % 5) as usize];
                }
                let power = 10f64.powi(decimals as i32);
                if kind == 3 { state } else { (state * power).round() / power / power }
            });
            values.collect()
        },
    )
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn histogram_strategy() -> impl Strategy<Value = Histogram> {
    let spans =
        || vec((any::<i32>(), 0u32..5).prop_map(|(offset, length)| Span { offset, length }), 0..3);
    let integer = (any::<u64>(), any::<u64>(), vec(-5i64..9, 0..6), vec(any::<i64>(), 0..3))
        .prop_map(|(count, zero_count, positive_deltas, negative_deltas)| Buckets::Integer {
            count,
            zero_count,
            positive_deltas,
            negative_deltas,
        });
    let float = (0u32..9, vec(0.0..5.0, 0..6)).prop_map(|(count, positive)| Buckets::Float {
        count: f64::from(count),
        zero_count: 0.5,
        positive,
        negative: vec![],
    });
    let buckets = prop_oneof![integer, float];
    let odd = prop_oneof![Just(stale_nan().to_bits()), any::<f64>().prop_map(f64::to_bits)];
    (0u64..4, -4i32..9, odd, spans(), spans(), buckets, vec(0.0..1.0, 0..3)).prop_map(
        |(hint, schema, sum, positive_spans, negative_spans, buckets, custom_values)| Histogram {
            reset_hint: ResetHint::from_wire(hint),
            schema,
            zero_threshold: 1e-128,
            sum: f64::from_bits(sum),
            positive_spans,
            negative_spans,
            buckets,
            custom_values,
        },
    )
}

/// `Debug` shows NaNs alike; their bits are compared as well.
fn shown(histograms: &[Histogram]) -> Vec<String> {
    histograms.iter().map(|h| format!("{h:?} {:x}", h.sum.to_bits())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bits_survive(bits in vec(any::<u64>(), 1..300)) {
        round_trip(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
    }

    #[test]
    fn realistic_values_survive(values in realistic()) {
        round_trip(&values);
    }

    #[test]
    fn packed_integers_survive(mut values in vec(any::<i64>(), 0..300), shift in 0u32..64, outlier in any::<i64>()) {
        for value in &mut values {
            *value >>= shift;
        }
        if let Some(first) = values.first_mut() {
            *first = outlier;
        }
        let mut packed = Vec::new();
        put_all(&values, &mut packed);
        let mut read = vec![0; values.len()];
        let mut rest = packed.as_slice();
        take_all(&mut rest, &mut read).expect("what was just packed");
        prop_assert_eq!(read, values);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn timestamps_survive(start in any::<i64>(), steps in vec(prop_oneof![Just(15_000i64), 14_990i64..15_010, 1i64..1 << 40], 0..CHUNK_SAMPLES_MAX)) {
        let mut instants = vec![start];
        for step in steps {
            let Some(next) = instants[instants.len() - 1].checked_add(step) else { break };
            instants.push(next);
        }
        let mut encoded = Vec::new();
        timestamps::encode(&instants, Effort::Young, &mut encoded);
        prop_assert_eq!(timestamps::decode(&encoded), Ok(instants.clone()));
        let packed = encoded.len();
        encoded.clear();
        timestamps::encode(&instants, Effort::Cold, &mut encoded);
        prop_assert!(encoded.len() <= packed);
        prop_assert_eq!(timestamps::decode(&encoded), Ok(instants));
    }

    #[test]
    fn histograms_survive(kinds in vec(histogram_strategy(), 1..4), repeats in 1usize..40) {
        let run: Vec<Histogram> = kinds.iter().flat_map(|h| std::iter::repeat_n(h.clone(), repeats)).collect();
        let mut payload = Vec::new();
        histogram::encode(&run, &mut Encoder::default(), &mut payload);
        let decoded = histogram::decode(&payload, run.len(), &mut Decoder::default()).expect("what was just encoded");
        prop_assert_eq!(shown(&decoded), shown(&run));
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in vec(any::<u8>(), 0..200), count in 1usize..=CHUNK_SAMPLES_MAX) {
        let mut out = vec![0.0; count];
        let codecs = [
            Codec::Constant,
            Codec::Integer,
            Codec::Bits,
            Codec::Raw,
            Codec::Multiples,
            Codec::EntropyCoded,
            Codec::Histogram,
        ];
        for codec in codecs {
            let _ = Decoder::default().decode(codec, 0.0, &bytes, &mut out);
        }
        let _ = timestamps::decode(&bytes);
        let _ = histogram::decode(&bytes, count, &mut Decoder::default());
    }

    #[test]
    fn damaged_payloads_end_in_an_answer(values in realistic(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        for (codec, mut payload) in
            [Effort::Young, Effort::Cold].map(|effort| round_trip_with(effort, &values))
        {
            if payload.is_empty() {
                continue;
            }
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            let _ = Decoder::default().decode(codec, 0.0, &payload, &mut vec![0.0; values.len()]);
            let _ = Decoder::default().decode(codec, 0.0, &payload[..at], &mut vec![0.0; values.len()]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn values_relative_to_others_survive(values in realistic(), steps in vec(0u32..50, CHUNK_SAMPLES_MAX), odd in any::<prop::sample::Index>()) {
        // A bucket above another: whole numbers, now and then the same odd value in both.
        let whole = |v: &f64| if v.is_finite() { v.abs().min(1e12).trunc() } else { *v };
        let mut base: Vec<f64> = values.iter().map(whole).collect();
        let above = |(v, step): (&f64, &u32)| if v.is_finite() { v + f64::from(*step) } else { *v };
        let values: Vec<f64> = base.iter().zip(&steps).map(above).collect();
        let mut payload = Vec::new();
        let mut encoder = Encoder::new(Effort::Cold);
        if let Some(encoded) = encoder.encode_relative(&values, &base, &mut payload) {
            let mut decoded = vec![0.0; values.len()];
            let read = Decoder::default()
                .decode_relative(encoded.codec, 0.0, &payload, Some(&base), &mut decoded);
            prop_assert_eq!(read, Ok(()));
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&decoded), bits(&values));
            let alone = Decoder::default().decode(encoded.codec, 0.0, &payload, &mut decoded);
            prop_assert!(alone.is_err(), "it does not stand for itself");
        }
        // Whatever is not whole where the other one is cannot be relative.
        let at = odd.index(base.len());
        if values[at].is_finite() {
            base[at] = 0.5;
            prop_assert!(encoder.encode_relative(&values, &base, &mut Vec::new()).is_none());
        }
    }
}

#[test]
fn a_histogram_chunk_is_bounded() {
    let histogram = |buckets: usize| Histogram {
        reset_hint: ResetHint::No,
        schema: 3,
        zero_threshold: 0.0,
        sum: 1.0,
        positive_spans: vec![Span { offset: 0, length: buckets as u32 }],
        negative_spans: vec![],
        buckets: Buckets::Integer {
            count: 1,
            zero_count: 0,
            positive_deltas: vec![0; buckets],
            negative_deltas: vec![],
        },
        custom_values: vec![],
    };
    assert_eq!(histogram::chunk_length(&vec![histogram(160); 2000]), CHUNK_SAMPLES_MAX);
    assert_eq!(histogram::chunk_length(&vec![histogram(1 << 14); 200]), 63);
    assert_eq!(histogram::chunk_length(&[histogram(1 << 21)]), 1);
    // A few bytes that claim a thousand layouts of a thousand buckets.
    let mut bomb = Vec::new();
    for _ in 0..200 {
        histogram::encode(&[histogram(1 << 14)], &mut Encoder::default(), &mut bomb);
    }
    let refused = histogram::decode(&bomb, 200, &mut Decoder::default());
    assert_eq!(refused.map(|_| ()).map_err(|e| e.0), Err("histogram chunk too large"));
}

/// Bytes a sample, payload only, of one chunk of 1,024 samples.
#[track_caller]
fn check_size(
    differ: &mut Vec<String>,
    shape: &str,
    bytes_per_sample: &str,
    mut value: impl FnMut(&mut Random, usize) -> f64,
) {
    let mut random = Random(7);
    let values: Vec<f64> = (0..CHUNK_SAMPLES_MAX).map(|i| value(&mut random, i)).collect();
    let (codec, payload) = round_trip(&values);
    let size = format!("{codec:?} {:.2}", payload.len() as f64 / values.len() as f64);
    println!("{shape:40} {size}");
    if size != bytes_per_sample {
        differ.push(format!("{shape}: {size}"));
    }
}

#[test]
fn sizes_are_as_they_were() {
    let mut differ = Vec::new();
    let mut state = 0.0;
    check_size(&mut differ, "constant", "Constant 0.00", |_, _| 42.0);
    check_size(&mut differ, "counter, steady", "Multiples 0.02", |_, i| (i * 1500) as f64);
    check_size(&mut differ, "counter, 0 to 999 a step", "Integer 1.27", |r, _| {
        state += (r.next() % 1000) as f64;
        state
    });
    check_size(&mut differ, "counter with a reset", "Integer 0.80", |r, i| {
        state = if i == 500 { 0.0 } else { state + (r.next() % 64) as f64 };
        state
    });
    check_size(&mut differ, "gauge, changes one time in ten", "Integer 0.23", |r, _| {
        if r.next().is_multiple_of(10) {
            state = (r.next() % 100) as f64;
        }
        state
    });
    check_size(&mut differ, "gauge, 0 to 99", "Integer 0.89", |r, _| (r.next() % 100) as f64);
    check_size(&mut differ, "gauge, 0 to 99, a stale marker", "Integer 0.90", |r, i| {
        if i == 700 { f64::from_bits(STALE_NAN_BITS) } else { (r.next() % 100) as f64 }
    });
    check_size(&mut differ, "three decimals, 0 to 1", "Integer 1.27", |r, _| {
        (r.next() % 1000) as f64 / 1000.0
    });
    check_size(&mut differ, "cpu seconds, two decimals", "Integer 1.02", |r, _| {
        state = ((state + (r.next() % 150) as f64 / 100.0) * 100.0).round() / 100.0;
        state
    });
    check_size(&mut differ, "full mantissa, 0 to 1", "Bits 6.97", |r, _| {
        (r.next() >> 11) as f64 / (1u64 << 53) as f64
    });
    check_size(&mut differ, "full mantissa, walk near 1000", "Bits 5.31", |r, _| {
        state += (r.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        1000.0 + state
    });
    assert_eq!(differ, Vec::<String>::new());
}
