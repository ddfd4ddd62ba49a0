//! Downsampled samples: a column for each figure of a window. Of a counter most columns are known
//! from others, and are not stored again.

use std::sync::Arc;

use model::{Histogram, varint};

use super::values::{put_column, take_column};
use super::{
    CHUNK_SAMPLES_MAX, Codec, Damaged, Decoder, Encoder, histogram, take_byte, take_bytes,
    take_varint,
};
use crate::downsample::{COLUMNS, HistogramWindow, Windows};

/// A column that has the same bits as another one.
const SAME: u8 = 0x80;
/// A column of whole numbers, each as what it is above that in another one.
const RELATIVE: u8 = 0x40;

/// In place of a column: the last of the samples less the first.
const GROWTH: usize = COLUMNS;
/// In place of a column: the last of the samples of the window before.
const BEFORE: usize = COLUMNS + 1;

/// Columns that each is compared with: last, first, min, max, increase, sum, count.
const OTHERS: [&[usize]; COLUMNS] = [&[], &[BEFORE, 0], &[1, 0], &[0, 1], &[GROWTH], &[0], &[]];

/// Appends the payload of windows of floats, at most a chunk of them.
pub fn encode(windows: &Windows, encoder: &mut Encoder, out: &mut Vec<u8>) {
    put_marks(&windows.ended, out);
    let columns = windows.columns();
    for (at, column) in columns.iter().enumerate() {
        let before: Vec<&[f64]> = columns[..at].to_vec();
        put_compared(column, OTHERS[at], &before, encoder, out);
    }
}

/// The columns of so many windows; takes all of `payload`.
pub fn decode(
    mut payload: &[u8],
    starts: Arc<[i64]>,
    decoder: &mut Decoder,
) -> Result<Windows, Damaged> {
    let bytes = &mut payload;
    let ended = take_marks(bytes, starts.len())?;
    let mut columns: [Vec<f64>; COLUMNS] = Default::default();
    for (at, others) in OTHERS.iter().enumerate() {
        let (known, rest) = columns.split_at_mut(at);
        let known: Vec<&[f64]> = known.iter().map(Vec::as_slice).collect();
        rest[0] = take_compared(bytes, starts.len(), others, &known, decoder)?;
    }
    if !bytes.is_empty() {
        return Err(Damaged("bytes after the last column"));
    }
    Ok(Windows::of_columns(starts, columns, ended))
}

/// How many of these, from the first on, go into one chunk.
pub fn chunk_length(windows: &[HistogramWindow]) -> usize {
    let last: Vec<&Histogram> =
        windows.iter().take(CHUNK_SAMPLES_MAX).map(|w| w.last.as_ref()).collect();
    let length = histogram::chunk_length(&last);
    let merged: Vec<&Histogram> = windows.iter().take(length).map(|w| w.merged.as_ref()).collect();
    histogram::chunk_length(&merged)
}

/// Appends the payload of windows of native histograms, at most a chunk of them.
pub fn encode_histograms(windows: &[HistogramWindow], encoder: &mut Encoder, out: &mut Vec<u8>) {
    let ended: Vec<bool> = windows.iter().map(|w| w.ended).collect();
    put_marks(&ended, out);
    let counts: Vec<f64> = windows.iter().map(|w| w.count).collect();
    put_column(&counts, encoder, out);
    let mut last = Vec::new();
    let of = |pick: fn(&HistogramWindow) -> &Histogram| windows.iter().map(pick).collect();
    let of_last: Vec<&Histogram> = of(|w| &w.last);
    histogram::encode(&of_last, encoder, &mut last);
    varint::put(out, last.len() as u64);
    out.extend_from_slice(&last);
    let merged: Vec<&Histogram> = of(|w| &w.merged);
    histogram::encode(&merged, encoder, out);
}

/// The reverse of [`encode_histograms`]; takes all of `payload`.
pub fn decode_histograms(
    mut payload: &[u8],
    starts: &[i64],
    decoder: &mut Decoder,
) -> Result<Vec<HistogramWindow>, Damaged> {
    let bytes = &mut payload;
    let ended = take_marks(bytes, starts.len())?;
    let mut counts = vec![0.0; starts.len()];
    take_column(bytes, decoder, &mut counts)?;
    let length = usize::try_from(take_varint(bytes)?).map_err(|_| Damaged("cut short"))?;
    let last = histogram::decode(take_bytes(bytes, length)?, starts.len(), decoder)?;
    let merged = histogram::decode(bytes, starts.len(), decoder)?;
    let figures = starts.iter().zip(counts).zip(ended);
    let window = |(((start_ms, count), ended), (last, merged)): (((&i64, f64), bool), (_, _))| {
        let (start_ms, last, merged) = (*start_ms, Arc::new(last), Arc::new(merged));
        HistogramWindow { start_ms, count, last, merged, ended }
    };
    Ok(figures.zip(last.into_iter().zip(merged)).map(window).collect())
}

/// The windows for which it is true: their number, and for each how many lie between it and the
/// one before.
fn put_marks(marks: &[bool], out: &mut Vec<u8>) {
    varint::put(out, marks.iter().filter(|mark| **mark).count() as u64);
    let mut next = 0;
    for (at, _) in marks.iter().enumerate().filter(|(_, mark)| **mark) {
        varint::put(out, (at - next) as u64);
        next = at + 1;
    }
}

fn take_marks(bytes: &mut &[u8], count: usize) -> Result<Vec<bool>, Damaged> {
    let mut marks = vec![false; count];
    let mut next = 0u64;
    for _ in 0..take_varint(bytes)? {
        let at = next.saturating_add(take_varint(bytes)?);
        let mark = usize::try_from(at).ok().and_then(|at| marks.get_mut(at));
        *mark.ok_or(Damaged("a mark behind the last window"))? = true;
        next = at + 1;
    }
    Ok(marks)
}

/// Another column, as it was named.
fn other(number: usize, known: &[&[f64]]) -> Option<Vec<f64>> {
    match number {
        GROWTH => {
            let (last, first) = (known.first()?, known.get(1)?);
            Some(last.iter().zip(*first).map(|(last, first)| last - first).collect())
        }
        BEFORE => {
            let last = known.first()?;
            let before = last.first().into_iter().chain(*last).take(last.len());
            Some(before.copied().collect())
        }
        _ => known.get(number).map(|column| column.to_vec()),
    }
}

fn put_compared(
    column: &[f64],
    others: &[usize],
    known: &[&[f64]],
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    let mut best = Vec::new();
    put_column(column, encoder, &mut best);
    for &number in others {
        let Some(base) = other(number, known) else { continue };
        if base.iter().zip(column).all(|(a, b)| a.to_bits() == b.to_bits()) {
            out.push(SAME | number as u8);
            return;
        }
        let mut body = Vec::new();
        if encoder.encode_relative(column, &base, &mut body).is_some() {
            let mut relative = vec![RELATIVE | number as u8];
            varint::put(&mut relative, body.len() as u64);
            relative.extend_from_slice(&body);
            if relative.len() < best.len() {
                best = relative;
            }
        }
    }
    out.extend_from_slice(&best);
}

fn take_compared(
    bytes: &mut &[u8],
    count: usize,
    others: &[usize],
    known: &[&[f64]],
    decoder: &mut Decoder,
) -> Result<Vec<f64>, Damaged> {
    let mut column = vec![0.0; count];
    let tag = *bytes.first().ok_or(Damaged("cut short"))?;
    if tag & (SAME | RELATIVE) == 0 {
        take_column(bytes, decoder, &mut column)?;
        return Ok(column);
    }
    take_byte(bytes)?;
    let number = usize::from(tag & !(SAME | RELATIVE));
    let base = others.contains(&number).then(|| other(number, known)).flatten();
    let base = base.ok_or(Damaged("the column it is compared with is not known"))?;
    if tag & SAME != 0 {
        return Ok(base);
    }
    let length = usize::try_from(take_varint(bytes)?).map_err(|_| Damaged("cut short"))?;
    let body = take_bytes(bytes, length)?;
    decoder.decode_relative(Codec::Multiples, 0.0, body, Some(&base), &mut column)?;
    Ok(column)
}
