//! Writing protobuf without a schema: fields, and the native histograms of remote write.

use model::{Buckets, Histogram, Span, varint};

/// A length-delimited field; left out if it is empty.
pub(super) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_whole(out, field, bytes);
    }
}

/// A length-delimited field, also if it is empty.
pub(super) fn put_whole(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint::put(out, field << 3 | 2);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A number; left out if it is 0.
pub(super) fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        varint::put(out, field << 3);
        varint::put(out, value);
    }
}

/// A float; left out if all its bits are 0: −0.0 is not.
pub(super) fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    if value.to_bits() != 0 {
        varint::put(out, field << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// `Histogram` of 2.0 with its timestamp and since when it counts; 1.0 has no place for the latter.
pub(super) fn put_histogram(
    out: &mut Vec<u8>,
    (timestamp_ms, start_ms): (i64, i64),
    histogram: &Histogram,
) {
    match &histogram.buckets {
        Buckets::Integer { count, zero_count, .. } => {
            // The kind of the count says the kind of all, so it is written although it is 0.
            varint::put(out, 1 << 3);
            varint::put(out, *count);
            varint::put(out, 6 << 3);
            varint::put(out, *zero_count);
        }
        Buckets::Float { count, zero_count, .. } => {
            varint::put(out, 2 << 3 | 1);
            out.extend_from_slice(&count.to_le_bytes());
            varint::put(out, 7 << 3 | 1);
            out.extend_from_slice(&zero_count.to_le_bytes());
        }
    }
    put_double(out, 3, histogram.sum);
    put_number(out, 4, u64::from(zigzag_32(histogram.schema)));
    put_double(out, 5, histogram.zero_threshold);
    histogram.negative_spans.iter().for_each(|span| put_span(out, 8, *span));
    histogram.positive_spans.iter().for_each(|span| put_span(out, 11, *span));
    match &histogram.buckets {
        Buckets::Integer { positive_deltas, negative_deltas, .. } => {
            put_deltas(out, 9, negative_deltas);
            put_deltas(out, 12, positive_deltas);
        }
        Buckets::Float { positive, negative, .. } => {
            put_doubles(out, 10, negative);
            put_doubles(out, 13, positive);
        }
    }
    put_number(out, 14, histogram.reset_hint as u64);
    put_number(out, 15, timestamp_ms as u64);
    put_doubles(out, 16, &histogram.custom_values);
    put_number(out, 17, start_ms as u64);
}

fn put_span(out: &mut Vec<u8>, field: u64, span: Span) {
    let mut message = Vec::with_capacity(12);
    put_number(&mut message, 1, u64::from(zigzag_32(span.offset)));
    put_number(&mut message, 2, u64::from(span.length));
    put_whole(out, field, &message);
}

fn put_deltas(out: &mut Vec<u8>, field: u64, deltas: &[i64]) {
    let mut packed = Vec::with_capacity(2 * deltas.len());
    deltas.iter().for_each(|delta| varint::put_signed(&mut packed, *delta));
    put_bytes(out, field, &packed);
}

fn put_doubles(out: &mut Vec<u8>, field: u64, values: &[f64]) {
    let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    put_bytes(out, field, &packed);
}

fn zigzag_32(value: i32) -> u32 {
    (value << 1 ^ value >> 31) as u32
}
