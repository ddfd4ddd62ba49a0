//! Loaded pages become samples: CPU work, on any thread.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::Histogram;

use super::plan::PlannedChunk;
use super::{Fetched, Piece};
use crate::codec::family::Family;
use crate::codec::{Codec, Damaged, Decoder, histogram, starts, windows};
use crate::downsample::Windows;
use crate::{Error, SeriesSamples, Starts};

impl Fetched {
    /// Samples of all rows, in the order they were asked for.
    pub fn decode(&self) -> Result<Vec<SeriesSamples>, Error> {
        self.decode_part(0..self.len())
    }

    /// Samples of the rows at these places of the list asked for. Series that share their
    /// timestamps get the same vector, across parts too.
    pub fn decode_part(&self, part: Range<usize>) -> Result<Vec<SeriesSamples>, Error> {
        let mut work = Work::default();
        let end = part.end.min(self.len());
        let start = part.start.min(end);
        // In the order of the block, so that buckets of one histogram are decoded together.
        let mut order: Vec<usize> = (start..end).collect();
        order.sort_by_key(|i| self.plan.chunks_of(*i).first().map(|c| (c.group, c.row)));
        let mut series = vec![SeriesSamples::default(); order.len()];
        for i in order {
            series[i - start] = self.decode_series(i, &mut work)?;
        }
        Ok(series)
    }

    /// Windows of all rows of a block that holds windows, in the order they were asked for.
    pub fn decode_windows(&self) -> Result<Vec<Windows>, Error> {
        let mut work = Work::default();
        (0..self.len()).map(|i| self.decode_windows_of(i, &mut work)).collect()
    }

    fn decode_windows_of(&self, i: usize, work: &mut Work<'_>) -> Result<Windows, Error> {
        let mut all = Windows::default();
        for chunk in self.plan.chunks_of(i) {
            let starts = self.instants(chunk.fact.ts_row)?;
            if starts.len() != usize::from(chunk.fact.count) {
                return Err(self.damaged("windows and their starts differ in number"));
            }
            if all.starts.last() >= starts.first()
                && chunk.fact.codec == Codec::Windows
                && !all.starts.is_empty()
            {
                return Err(self.damaged("chunks of a series overlap"));
            }
            let payload = self.payload(chunk).map_err(|e| self.damaged(e))?;
            let decoder = &mut work.decoder;
            let decoded = match chunk.fact.codec {
                Codec::Windows => windows::decode(payload, Arc::clone(starts), decoder),
                Codec::HistogramWindows => windows::decode_histograms(payload, starts, decoder)
                    .map(|histograms| Windows { histograms, ..Windows::default() }),
                _ => Err(Damaged("rows where windows were expected")),
            };
            all.append(decoded.map_err(|e| self.damaged(e))?);
        }
        all.clip(self.plan.range);
        Ok(all)
    }

    fn decode_series<'a>(&'a self, i: usize, work: &mut Work<'a>) -> Result<SeriesSamples, Error> {
        let chunks = self.plan.chunks_of(i);
        let mut series = SeriesSamples::default();
        work.pieces.clear();
        let family = chunks.iter().find(|chunk| chunk.fact.codec == Codec::Family);
        if !family.is_some_and(|c| work.families.contains_key(&(c.group, c.payload_row()))) {
            work.families.clear();
        }
        let mut told = Vec::new();
        let some_told = chunks.iter().any(|chunk| chunk.fact.has_starts);
        for chunk in chunks {
            let instants = self.instants(chunk.fact.ts_row)?;
            if instants.len() != usize::from(chunk.fact.count) {
                return Err(self.damaged("timestamps and values differ in number"));
            }
            let start = instants.partition_point(|at| *at < self.plan.range.start_ms);
            let end = instants.partition_point(|at| *at <= self.plan.range.end_ms);
            if start >= end {
                continue;
            }
            let kept = &instants[start..end];
            let mut decode = || {
                let is_read = !chunk.has_payload() || work.knows(chunk);
                let mut payload = if is_read { &[] } else { self.payload(chunk)? };
                if some_told {
                    let starts = take_starts(chunk, &mut payload, work)?;
                    told.extend(kept.iter().copied().zip(starts.into_iter().skip(start)));
                }
                if chunk.fact.codec == Codec::Histogram {
                    decode_histograms(chunk, payload, kept, start, &mut series, work)
                } else {
                    let piece = (start as u16, end as u16);
                    let ts_row = chunk.fact.ts_row;
                    work.pieces.push(Piece { ts_row, start: piece.0, end: piece.1 });
                    decode_floats(chunk, payload, start..end, &mut series.values, work)
                }
            };
            decode().map_err(|e: String| self.damaged(e))?;
        }
        series.timestamps = self.join(&work.pieces)?;
        series.starts = Starts::of_samples(told);
        Ok(series)
    }
}

/// Takes the start timestamps of a chunk's samples off its payload.
fn take_starts(
    chunk: &PlannedChunk,
    payload: &mut &[u8],
    work: &mut Work<'_>,
) -> Result<Vec<i64>, String> {
    let count = usize::from(chunk.fact.count);
    if !chunk.fact.has_starts {
        return Ok(vec![0; count]);
    }
    starts::decode(payload, count, &mut work.decoder).map_err(|e| e.to_string())
}

fn decode_floats<'a>(
    chunk: &PlannedChunk,
    mut payload: &'a [u8],
    kept: Range<usize>,
    out: &mut Vec<f64>,
    work: &mut Work<'a>,
) -> Result<(), String> {
    let (count, at) = (usize::from(chunk.fact.count), out.len());
    if let Some(constant) = chunk.constant() {
        out.resize(at + kept.len(), constant);
        return Ok(());
    }
    if chunk.fact.codec == Codec::Family {
        let family = match work.families.entry((chunk.group, chunk.payload_row())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(Family::read(payload, count).map_err(|e| e.to_string())?)
            }
        };
        let values = family.values(chunk.fact.payload_back, &mut work.decoder);
        let values = values.map_err(|e| e.to_string())?.get(kept);
        out.extend_from_slice(values.ok_or("buckets differ in number of samples")?);
        return Ok(());
    }
    let mut constant = 0.0;
    if chunk.fact.codec == Codec::Constant {
        let bits = payload.try_into().map_err(|_| "a constant has no value")?;
        constant = f64::from_bits(u64::from_le_bytes(bits));
        payload = &[];
    }
    out.resize(at + count, 0.0);
    work.decoder
        .decode(chunk.fact.codec, constant, payload, &mut out[at..])
        .map_err(|e| e.to_string())?;
    out.truncate(at + kept.end);
    out.drain(at..at + kept.start);
    Ok(())
}

fn decode_histograms(
    chunk: &PlannedChunk,
    payload: &[u8],
    instants: &[i64],
    skipped: usize,
    series: &mut SeriesSamples,
    work: &mut Work<'_>,
) -> Result<(), String> {
    let decoded: Vec<Histogram> =
        histogram::decode(payload, usize::from(chunk.fact.count), &mut work.decoder)
            .map_err(|e| e.to_string())?;
    let kept = decoded.into_iter().skip(skipped);
    series.histograms.extend(instants.iter().copied().zip(kept.map(Arc::new)));
    Ok(())
}

/// Memory that decoding reuses from series to series.
#[derive(Debug, Default)]
struct Work<'a> {
    decoder: Decoder,
    pieces: Vec<Piece>,
    /// Payloads of the histogram whose buckets are being decoded, by row group and row.
    families: HashMap<(u32, u32), Family<'a>>,
}

impl Work<'_> {
    /// Whether nothing of a chunk's payload is needed any more: its family was read already.
    fn knows(&self, chunk: &PlannedChunk) -> bool {
        chunk.fact.codec == Codec::Family
            && !chunk.fact.has_starts
            && self.families.contains_key(&(chunk.group, chunk.payload_row()))
    }
}
