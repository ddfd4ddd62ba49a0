//! Native histogram chunks: runs of histograms of one layout, one column per number.
//!
//! A chunk is a sequence of runs until its samples are complete. A run: its length, its layout
//! (kind, schema, zero threshold, spans, custom bounds, bucket counts), then columns: reset hints
//! as (byte, repeats), sums as floats, count, zero count and each bucket over time. Integer counts
//! are streams, float counts float columns.

use std::borrow::Borrow;

use model::{Buckets, Histogram, ResetHint, Span, varint};

use super::values::{put_column, put_integers, take_column, take_integers};
use super::{
    CHUNK_SAMPLES_MAX, Damaged, Decoder, Encoder, take_byte, take_signed, take_u64, take_varint,
};

/// Most numbers (samples × buckets) in a chunk of several histograms, so that decoding one chunk
/// stays below 16 MiB.
const CELLS_MAX: usize = 1 << 20;

/// How many of these histograms, from the first on, go into one chunk.
pub fn chunk_length<H: Borrow<Histogram>>(histograms: &[H]) -> usize {
    let mut cells = 0usize;
    let mut length = 0;
    for histogram in histograms.iter().take(CHUNK_SAMPLES_MAX) {
        cells = cells.saturating_add(cells_of(histogram.borrow()));
        if cells > CELLS_MAX {
            break;
        }
        length += 1;
    }
    length.max(1)
}

fn cells_of(histogram: &Histogram) -> usize {
    let (positive, negative) = bucket_counts(&histogram.buckets);
    let layout = histogram.positive_spans.len()
        + histogram.negative_spans.len()
        + histogram.custom_values.len();
    3 + positive + negative + layout
}

fn bucket_counts(buckets: &Buckets) -> (usize, usize) {
    match buckets {
        Buckets::Integer { positive_deltas, negative_deltas, .. } => {
            (positive_deltas.len(), negative_deltas.len())
        }
        Buckets::Float { positive, negative, .. } => (positive.len(), negative.len()),
    }
}

fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && matches!(a.buckets, Buckets::Integer { .. })
            == matches!(b.buckets, Buckets::Integer { .. })
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && bucket_counts(&a.buckets) == bucket_counts(&b.buckets)
        && bits(&a.custom_values) == bits(&b.custom_values)
}

/// Appends the payload of these histograms.
pub fn encode<H: Borrow<Histogram>>(histograms: &[H], encoder: &mut Encoder, out: &mut Vec<u8>) {
    for run in histograms.chunk_by(|a, b| same_layout(a.borrow(), b.borrow())) {
        let run: Vec<&Histogram> = run.iter().map(Borrow::borrow).collect();
        varint::put(out, run.len() as u64);
        put_layout(run[0], out);
        for same in run.chunk_by(|a, b| a.reset_hint == b.reset_hint) {
            out.push(same[0].reset_hint as u8);
            varint::put(out, same.len() as u64);
        }
        let sums: Vec<f64> = run.iter().map(|h| h.sum).collect();
        put_column(&sums, encoder, out);
        match run[0].buckets {
            Buckets::Integer { .. } => {
                put_cells(
                    &run,
                    integer_cell,
                    |column, out| put_integers(column, encoder, out),
                    out,
                );
            }
            Buckets::Float { .. } => {
                put_cells(&run, float_cell, |column, out| put_column(column, encoder, out), out);
            }
        }
    }
}

fn put_cells<T>(
    run: &[&Histogram],
    cell: fn(&Histogram, usize) -> T,
    mut put: impl FnMut(&[T], &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let (positive, negative) = bucket_counts(&run[0].buckets);
    let mut column = Vec::with_capacity(run.len());
    for i in 0..2 + positive + negative {
        column.clear();
        column.extend(run.iter().map(|h| cell(h, i)));
        put(&column, out);
    }
}

/// Number `i` of a histogram: count, zero count, positive buckets, negative buckets.
fn integer_cell(histogram: &Histogram, i: usize) -> i64 {
    let Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } =
        &histogram.buckets
    else {
        return 0;
    };
    match i {
        0 => *count as i64,
        1 => *zero_count as i64,
        _ => positive_deltas.iter().chain(negative_deltas).nth(i - 2).copied().unwrap_or_default(),
    }
}

fn float_cell(histogram: &Histogram, i: usize) -> f64 {
    let Buckets::Float { count, zero_count, positive, negative } = &histogram.buckets else {
        return 0.0;
    };
    match i {
        0 => *count,
        1 => *zero_count,
        _ => positive.iter().chain(negative).nth(i - 2).copied().unwrap_or_default(),
    }
}

fn put_layout(h: &Histogram, out: &mut Vec<u8>) {
    out.push(u8::from(matches!(h.buckets, Buckets::Float { .. })));
    varint::put_signed(out, i64::from(h.schema));
    out.extend_from_slice(&h.zero_threshold.to_bits().to_le_bytes());
    for spans in [&h.positive_spans, &h.negative_spans] {
        varint::put(out, spans.len() as u64);
        for span in spans {
            varint::put_signed(out, i64::from(span.offset));
            varint::put(out, u64::from(span.length));
        }
    }
    varint::put(out, h.custom_values.len() as u64);
    for value in &h.custom_values {
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
    let (positive, negative) = bucket_counts(&h.buckets);
    varint::put(out, positive as u64);
    varint::put(out, negative as u64);
}

/// Reads `count` histograms, which take all of `bytes`.
pub fn decode(
    mut bytes: &[u8],
    count: usize,
    decoder: &mut Decoder,
) -> Result<Vec<Histogram>, Damaged> {
    let bytes = &mut bytes;
    let mut out: Vec<Histogram> = Vec::new();
    let mut cells = 0usize;
    while out.len() < count {
        let run = take_varint(bytes)?;
        if run == 0 || run > (count - out.len()) as u64 {
            return Err(Damaged("run of histograms does not fit the count"));
        }
        let layout = take_layout(bytes)?;
        cells = cells.saturating_add((run as usize).saturating_mul(cells_of(&layout)));
        if cells > CELLS_MAX && count > 1 {
            return Err(Damaged("histogram chunk too large"));
        }
        take_run(bytes, run as usize, layout, decoder, &mut out)?;
    }
    if !bytes.is_empty() {
        return Err(Damaged("bytes after the last histogram"));
    }
    Ok(out)
}

fn take_run(
    bytes: &mut &[u8],
    run: usize,
    layout: Histogram,
    decoder: &mut Decoder,
    out: &mut Vec<Histogram>,
) -> Result<(), Damaged> {
    let start = out.len();
    out.resize(start + run, layout);
    let run = &mut out[start..];
    let mut at = 0;
    while at < run.len() {
        let hint = take_byte(bytes)?;
        let repeats = take_varint(bytes)?;
        if repeats == 0 || repeats > (run.len() - at) as u64 || hint > ResetHint::Gauge as u8 {
            return Err(Damaged("reset hints do not fit the run"));
        }
        for histogram in &mut run[at..at + repeats as usize] {
            histogram.reset_hint = ResetHint::from_wire(u64::from(hint));
        }
        at += repeats as usize;
    }
    let mut floats = vec![0.0; run.len()];
    take_column(bytes, decoder, &mut floats)?;
    for (histogram, sum) in run.iter_mut().zip(&floats) {
        histogram.sum = *sum;
    }
    let (positive, negative) = bucket_counts(&run[0].buckets);
    let mut integers = vec![0; run.len()];
    for i in 0..2 + positive + negative {
        if matches!(run[0].buckets, Buckets::Integer { .. }) {
            take_integers(bytes, decoder, &mut integers)?;
        } else {
            take_column(bytes, decoder, &mut floats)?;
        }
        for (n, histogram) in run.iter_mut().enumerate() {
            set_cell(&mut histogram.buckets, i, integers[n], floats[n]);
        }
    }
    Ok(())
}

fn set_cell(buckets: &mut Buckets, i: usize, integer: i64, float: f64) {
    match buckets {
        Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => match i {
            0 => *count = integer as u64,
            1 => *zero_count = integer as u64,
            _ => set_bucket(positive_deltas, negative_deltas, i - 2, integer),
        },
        Buckets::Float { count, zero_count, positive, negative } => match i {
            0 => *count = float,
            1 => *zero_count = float,
            _ => set_bucket(positive, negative, i - 2, float),
        },
    }
}

fn set_bucket<T>(positive: &mut [T], negative: &mut [T], i: usize, value: T) {
    let count = positive.len();
    let bucket = if i < count { positive.get_mut(i) } else { negative.get_mut(i - count) };
    if let Some(bucket) = bucket {
        *bucket = value;
    }
}

/// Layout with all counts zero.
fn take_layout(bytes: &mut &[u8]) -> Result<Histogram, Damaged> {
    let kind = take_byte(bytes)?;
    let schema = i32::try_from(take_signed(bytes)?).map_err(|_| Damaged("schema out of bounds"))?;
    let zero_threshold = f64::from_bits(take_u64(bytes)?);
    let positive_spans = take_spans(bytes)?;
    let negative_spans = take_spans(bytes)?;
    let customs = take_count(bytes, 8)?;
    let custom_values =
        (0..customs).map(|_| take_u64(bytes).map(f64::from_bits)).collect::<Result<_, _>>()?;
    // Every bucket is a column of at least two bytes.
    let positive = take_count(bytes, 2)?;
    let negative = take_count(bytes, 2)?;
    let buckets = match kind {
        0 => Buckets::Integer {
            count: 0,
            zero_count: 0,
            positive_deltas: vec![0; positive],
            negative_deltas: vec![0; negative],
        },
        1 => Buckets::Float {
            count: 0.0,
            zero_count: 0.0,
            positive: vec![0.0; positive],
            negative: vec![0.0; negative],
        },
        _ => return Err(Damaged("unknown kind of histogram")),
    };
    let reset_hint = ResetHint::Unknown;
    Ok(Histogram {
        reset_hint,
        schema,
        zero_threshold,
        sum: 0.0,
        positive_spans,
        negative_spans,
        buckets,
        custom_values,
    })
}

fn take_spans(bytes: &mut &[u8]) -> Result<Vec<Span>, Damaged> {
    let count = take_count(bytes, 2)?;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        let offset =
            i32::try_from(take_signed(bytes)?).map_err(|_| Damaged("span out of bounds"))?;
        let length =
            u32::try_from(take_varint(bytes)?).map_err(|_| Damaged("span out of bounds"))?;
        spans.push(Span { offset, length });
    }
    Ok(spans)
}

/// A number of items that take at least `bytes_each` of what is left.
fn take_count(bytes: &mut &[u8], bytes_each: usize) -> Result<usize, Damaged> {
    let count = take_varint(bytes)?;
    if count > (bytes.len() / bytes_each) as u64 {
        return Err(Damaged("more items than bytes"));
    }
    Ok(count as usize)
}
