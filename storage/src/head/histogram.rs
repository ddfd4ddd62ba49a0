//! Native histograms: what is accepted, and how one is kept (docs/formats/log-records.md).

use model::{Buckets, Histogram, ResetHint, Span, varint};

use super::buffer::{unzigzag, zigzag};

/// The schema of histograms with bounds of their own.
const CUSTOM_BOUNDS: i32 = -53;

/// Buckets, spans and custom bounds of one histogram together. Senders limit themselves to some
/// hundred; every one that is stored costs each reader.
const PARTS_MAX: usize = 1 << 16;

/// Checks what Prometheus checks (`model/histogram`, `Validate`); the text says what is wrong.
pub fn check_histogram(histogram: &Histogram) -> Result<(), String> {
    let h = histogram;
    let parts = bucket_count(&h.buckets, Side::Positive)
        + bucket_count(&h.buckets, Side::Negative)
        + h.positive_spans.len()
        + h.negative_spans.len()
        + h.custom_values.len();
    if parts > PARTS_MAX {
        return Err(format!("{parts} buckets, spans and bounds, the limit is {PARTS_MAX}"));
    }
    if h.schema == CUSTOM_BOUNDS {
        validate_custom(h)?;
    } else if !(-4..=8).contains(&h.schema) {
        return Err(format!("schema {} is not supported, only -53 and -4 to 8 are", h.schema));
    } else if !h.custom_values.is_empty() {
        return Err(format!("custom bounds are not allowed with schema {}", h.schema));
    }
    validate_spans(&h.positive_spans, bucket_count(&h.buckets, Side::Positive), "positive")?;
    validate_spans(&h.negative_spans, bucket_count(&h.buckets, Side::Negative), "negative")?;
    match &h.buckets {
        Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => {
            let observed = add_deltas(positive_deltas, "positive")?
                .checked_add(add_deltas(negative_deltas, "negative")?)
                .and_then(|sum| sum.checked_add(*zero_count))
                .ok_or("the buckets hold more than 2^64 observations")?;
            // Observations of NaN are counted but are in no bucket; they make the sum NaN.
            let counts_agree = if h.sum.is_nan() { observed <= *count } else { observed == *count };
            match counts_agree {
                true => Ok(()),
                false => {
                    Err(format!("the buckets hold {observed} observations, the count is {count}"))
                }
            }
        }
        Buckets::Float { count, zero_count, positive, negative } => {
            // Their sum is not compared with the count: float arithmetic would find differences
            // in good histograms.
            let numbers = [("count", count), ("zero count", zero_count)];
            let buckets = positive.iter().chain(negative).map(|b| ("bucket", b));
            match numbers.into_iter().chain(buckets).find(|(_, v)| **v < 0.0) {
                None => Ok(()),
                Some((what, value)) => Err(format!("{what} {value} is negative")),
            }
        }
    }
}

fn validate_custom(h: &Histogram) -> Result<(), String> {
    if h.custom_values.iter().any(|v| v.is_nan()) || !h.custom_values.is_sorted_by(|a, b| a < b) {
        return Err("custom bounds are not ascending".to_owned());
    }
    if h.custom_values.last() == Some(&f64::INFINITY) {
        return Err("the last custom bound must be finite".to_owned());
    }
    if !h.negative_spans.is_empty() || bucket_count(&h.buckets, Side::Negative) > 0 {
        return Err("negative buckets are not allowed with custom bounds".to_owned());
    }
    let zero_count_is_zero = match &h.buckets {
        Buckets::Integer { zero_count, .. } => *zero_count == 0,
        Buckets::Float { zero_count, .. } => *zero_count == 0.0,
    };
    if h.zero_threshold != 0.0 || !zero_count_is_zero {
        return Err("a zero bucket is not allowed with custom bounds".to_owned());
    }
    let mut reach = 0i64;
    for span in &h.positive_spans {
        reach = reach.saturating_add(i64::from(span.offset)).saturating_add(i64::from(span.length));
        if reach > h.custom_values.len() as i64 + 1 || (span.offset < 0) {
            return Err(format!(
                "buckets reach beyond the {} custom bounds",
                h.custom_values.len()
            ));
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Side {
    Positive,
    Negative,
}

fn bucket_count(buckets: &Buckets, side: Side) -> usize {
    match (buckets, side) {
        (Buckets::Integer { positive_deltas, .. }, Side::Positive) => positive_deltas.len(),
        (Buckets::Integer { negative_deltas, .. }, Side::Negative) => negative_deltas.len(),
        (Buckets::Float { positive, .. }, Side::Positive) => positive.len(),
        (Buckets::Float { negative, .. }, Side::Negative) => negative.len(),
    }
}

fn validate_spans(spans: &[Span], buckets: usize, side: &str) -> Result<(), String> {
    if let Some(at) = spans.iter().skip(1).position(|s| s.offset < 0) {
        return Err(format!(
            "{side} span {} has the negative offset {}",
            at + 1,
            spans[at + 1].offset
        ));
    }
    let spanned: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    // Bucket indexes are 32 bits wherever histograms are computed with.
    let reach = spans.iter().fold(0i64, |at, s| {
        at.saturating_add(i64::from(s.offset)).saturating_add(i64::from(s.length))
    });
    if i32::try_from(reach).is_err() {
        return Err(format!("{side} spans reach beyond bucket {}", i32::MAX));
    }
    match spanned == buckets as u64 {
        true => Ok(()),
        false => Err(format!("{side} spans need {spanned} buckets, there are {buckets}")),
    }
}

/// The sum of buckets given as differences.
fn add_deltas(deltas: &[i64], side: &str) -> Result<u64, String> {
    let (mut bucket, mut sum) = (0i64, 0u64);
    for (at, &delta) in deltas.iter().enumerate() {
        bucket = bucket
            .checked_add(delta)
            .ok_or_else(|| format!("{side} bucket {at} is larger than 2^63"))?;
        let count = u64::try_from(bucket)
            .map_err(|_| format!("{side} bucket {at} has the negative count {bucket}"))?;
        sum = sum
            .checked_add(count)
            .ok_or_else(|| format!("the {side} buckets hold more than 2^64 observations"))?;
    }
    Ok(sum)
}

/// Appends the stored form.
pub(super) fn encode(histogram: &Histogram, out: &mut Vec<u8>) {
    let h = histogram;
    let is_float = matches!(h.buckets, Buckets::Float { .. });
    out.push(u8::from(is_float) | (h.reset_hint as u8) << HINT_SHIFT);
    varint::put_signed(out, i64::from(h.schema));
    put_f64(out, h.zero_threshold);
    put_f64(out, h.sum);
    for spans in [&h.positive_spans, &h.negative_spans] {
        varint::put(out, spans.len() as u64);
        for span in spans {
            varint::put_signed(out, i64::from(span.offset));
            varint::put(out, u64::from(span.length));
        }
    }
    put_floats(out, &h.custom_values);
    match &h.buckets {
        Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => {
            varint::put(out, *count);
            varint::put(out, *zero_count);
            for deltas in [positive_deltas, negative_deltas] {
                varint::put(out, deltas.len() as u64);
                deltas.iter().for_each(|&delta| varint::put(out, zigzag(delta)));
            }
        }
        Buckets::Float { count, zero_count, positive, negative } => {
            put_f64(out, *count);
            put_f64(out, *zero_count);
            put_floats(out, positive);
            put_floats(out, negative);
        }
    }
}

fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn put_floats(out: &mut Vec<u8>, values: &[f64]) {
    varint::put(out, values.len() as u64);
    values.iter().for_each(|&value| put_f64(out, value));
}

/// Where the reset hint stands in the first byte.
const HINT_SHIFT: u32 = 1;
const HINT_BITS: u8 = 0b110;

/// Says in a stored form what is known of a reset.
pub(super) fn set_hint(encoded: &mut [u8], hint: ResetHint) {
    if let Some(head) = encoded.first_mut() {
        *head = *head & !HINT_BITS | (hint as u8) << HINT_SHIFT;
    }
}

/// Whether two stored forms are the same but for what is known of resets, as Prometheus compares.
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    match (a.split_first(), b.split_first()) {
        (Some((a_head, a)), Some((b_head, b))) => {
            a_head & !HINT_BITS == b_head & !HINT_BITS && a == b
        }
        _ => a == b,
    }
}

/// Reads the stored form back; `None` if it is not one.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Histogram> {
    let from = &mut bytes;
    let (&head, rest) = from.split_first()?;
    *from = rest;
    if head >> 3 != 0 {
        return None;
    }
    let schema = i32::try_from(varint::take_signed(from)?).ok()?;
    let (zero_threshold, sum) = (take_f64(from)?, take_f64(from)?);
    let (positive_spans, negative_spans) =
        (take_list(from, 2, take_span)?, take_list(from, 2, take_span)?);
    let custom_values = take_list(from, 8, take_f64)?;
    let buckets = if head & 1 == 0 {
        Buckets::Integer {
            count: varint::take(from)?,
            zero_count: varint::take(from)?,
            positive_deltas: take_list(from, 1, |b| varint::take(b).map(unzigzag))?,
            negative_deltas: take_list(from, 1, |b| varint::take(b).map(unzigzag))?,
        }
    } else {
        Buckets::Float {
            count: take_f64(from)?,
            zero_count: take_f64(from)?,
            positive: take_list(from, 8, take_f64)?,
            negative: take_list(from, 8, take_f64)?,
        }
    };
    let reset_hint = ResetHint::from_wire(u64::from(head >> 1));
    from.is_empty().then_some(Histogram {
        reset_hint,
        schema,
        zero_threshold,
        sum,
        positive_spans,
        negative_spans,
        buckets,
        custom_values,
    })
}

fn take_f64(from: &mut &[u8]) -> Option<f64> {
    let (bytes, rest) = from.split_first_chunk::<8>()?;
    *from = rest;
    Some(f64::from_bits(u64::from_le_bytes(*bytes)))
}

fn take_span(from: &mut &[u8]) -> Option<Span> {
    let offset = i32::try_from(varint::take_signed(from)?).ok()?;
    Some(Span { offset, length: u32::try_from(varint::take(from)?).ok()? })
}

/// A counted list whose entries take at least `entry_bytes`: the count is believed only as far as
/// there are bytes for it.
fn take_list<T>(
    from: &mut &[u8],
    entry_bytes: usize,
    take: impl Fn(&mut &[u8]) -> Option<T>,
) -> Option<Vec<T>> {
    let count = usize::try_from(varint::take(from)?).ok()?;
    if count > from.len() / entry_bytes {
        return None;
    }
    (0..count).map(|_| take(from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer() -> Histogram {
        Histogram {
            reset_hint: ResetHint::No,
            schema: 3,
            zero_threshold: 1e-128,
            sum: 18.4,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            negative_spans: vec![Span { offset: -4, length: 1 }],
            buckets: Buckets::Integer {
                count: 10,
                zero_count: 2,
                positive_deltas: vec![1, 1, -1],
                negative_deltas: vec![4],
            },
            custom_values: vec![],
        }
    }

    fn float() -> Histogram {
        let buckets =
            Buckets::Float { count: 3.5, zero_count: 0.0, positive: vec![3.5], negative: vec![] };
        let positive_spans = vec![Span { offset: 2, length: 1 }];
        Histogram {
            buckets,
            positive_spans,
            negative_spans: vec![],
            reset_hint: ResetHint::Gauge,
            ..integer()
        }
    }

    fn custom() -> Histogram {
        let custom_values = vec![0.5, 1.0, 2.5];
        Histogram { schema: -53, zero_threshold: 0.0, custom_values, ..float() }
    }

    #[track_caller]
    fn check(histogram: Histogram, change: impl FnOnce(&mut Histogram), wrong: &str) {
        let mut histogram = histogram;
        change(&mut histogram);
        assert_eq!(check_histogram(&histogram).err().unwrap_or_default(), wrong);
        let mut encoded = Vec::new();
        encode(&histogram, &mut encoded);
        assert_eq!(decode(&encoded), Some(histogram), "kept as it came");
        for cut in 0..encoded.len() {
            assert_eq!(decode(&encoded[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn histograms_are_checked_and_kept() {
        check(integer(), |_| (), "");
        check(float(), |_| (), "");
        check(custom(), |_| (), "");
        check(integer(), |h| h.schema = 9, "schema 9 is not supported, only -53 and -4 to 8 are");
        check(integer(), |h| h.sum = 1.0, "");
        check(
            integer(),
            |h| h.positive_spans[1].offset = -1,
            "positive span 1 has the negative offset -1",
        );
        check(
            integer(),
            |h| h.positive_spans[1].length = 2,
            "positive spans need 4 buckets, there are 3",
        );
        check(
            integer(),
            |h| h.negative_spans.clear(),
            "negative spans need 0 buckets, there are 1",
        );
        check(
            integer(),
            |h| h.positive_spans[0].offset = i32::MAX,
            "positive spans reach beyond bucket 2147483647",
        );
        check(
            integer(),
            |h| h.custom_values.push(1.0),
            "custom bounds are not allowed with schema 3",
        );
        check(integer(), |h| set_count(h, 11), "the buckets hold 10 observations, the count is 11");
        check(
            integer(),
            |h| set_deltas(h, vec![1, -2, 0]),
            "positive bucket 1 has the negative count -1",
        );
        check(
            integer(),
            |h| set_deltas(h, vec![i64::MAX, 1, 0]),
            "positive bucket 1 is larger than 2^63",
        );
        check(float(), |h| set_float(h, -0.5), "bucket -0.5 is negative");
        check(custom(), |h| h.custom_values.swap(0, 1), "custom bounds are not ascending");
        check(
            custom(),
            |h| h.custom_values[2] = f64::INFINITY,
            "the last custom bound must be finite",
        );
        check(
            custom(),
            |h| h.custom_values.truncate(1),
            "buckets reach beyond the 1 custom bounds",
        );
        check(
            custom(),
            |h| h.zero_threshold = 1.0,
            "a zero bucket is not allowed with custom bounds",
        );
    }

    fn set_count(h: &mut Histogram, to: u64) {
        if let Buckets::Integer { count, .. } = &mut h.buckets {
            *count = to;
        }
    }

    fn set_deltas(h: &mut Histogram, to: Vec<i64>) {
        if let Buckets::Integer { positive_deltas, .. } = &mut h.buckets {
            *positive_deltas = to;
        }
    }

    fn set_float(h: &mut Histogram, to: f64) {
        if let Buckets::Float { positive, .. } = &mut h.buckets {
            positive[0] = to;
        }
    }

    #[test]
    fn huge_ones_are_refused() {
        let many = |parts: usize| {
            move |h: &mut Histogram| {
                // The span, the bounds, and one bucket more than there are bounds.
                let bounds = (parts - 2) / 2;
                h.custom_values = (0..bounds).map(|n| n as f64).collect();
                h.positive_spans = vec![Span { offset: 0, length: bounds as u32 + 1 }];
                h.buckets = Buckets::Float {
                    count: 0.0,
                    zero_count: 0.0,
                    positive: vec![0.0; bounds + 1],
                    negative: Vec::new(),
                };
            }
        };
        let told = |parts: usize| {
            let mut histogram = custom();
            many(parts)(&mut histogram);
            check_histogram(&histogram)
        };
        assert_eq!(told(65_536), Ok(()));
        let refused = "65538 buckets, spans and bounds, the limit is 65536".to_owned();
        assert_eq!(told(65_538), Err(refused));
    }

    #[test]
    fn a_count_without_bytes_is_not_believed() {
        let mut encoded = Vec::new();
        encode(&integer(), &mut encoded);
        // The number of positive spans.
        let at = 2 + 16;
        encoded.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(decode(&encoded), None);
    }
}
