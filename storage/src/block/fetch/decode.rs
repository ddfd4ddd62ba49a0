//! Loaded pages become samples: CPU work, on any thread.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Histogram, is_stale};

use super::plan::PlannedChunk;
use super::{Fetched, Piece};
use crate::codec::family::Family;
use crate::codec::{Codec, Damaged, Decoder, histogram, starts, windows};
use crate::downsample::Windows;
use crate::{Error, SeriesSamples, Starts};

/// What is wanted of float samples, beside when they were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Their values.
    Values,
    /// Which of them are stale markers.
    Markers,
}

/// The floats of one series, gathered out of one block after the other.
#[derive(Debug)]
pub(crate) struct Run {
    wanted: Wanted,
    /// What their instants are made of.
    pub(crate) pieces: Vec<Piece>,
    pub(crate) values: Vec<f64>,
    /// Places of stale markers.
    pub(crate) stale: Vec<u32>,
    samples: usize,
}

impl Run {
    /// Nothing yet, with room for what so many samples give.
    pub(crate) fn new(wanted: Wanted, samples: usize) -> Self {
        let room = if wanted == Wanted::Values { samples } else { 0 };
        let (pieces, stale) = (Vec::new(), Vec::new());
        Self { wanted, pieces, values: Vec::with_capacity(room), stale, samples: 0 }
    }
}

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
        let mut series = vec![SeriesSamples::default(); end - start];
        for i in self.in_order(start..end) {
            series[i - start] = self.decode_series(i, &mut work)?;
        }
        Ok(series)
    }

    /// Places in the order of the block, so that buckets of one histogram are decoded together.
    pub(crate) fn in_order(&self, places: Range<usize>) -> Vec<usize> {
        let mut order: Vec<usize> = places.collect();
        order.sort_by_key(|i| self.plan.chunks_of(*i).first().map(|c| (c.group, c.row)));
        order
    }

    /// First and last instant and number of a row's samples, clipped chunks in whole; `None` of a
    /// row with histograms or start timestamps.
    pub(crate) fn floats_of(&self, i: usize) -> Option<(i64, i64, usize)> {
        let chunks = self.plan.chunks_of(i);
        let is_plain = |c: &PlannedChunk| c.fact.codec != Codec::Histogram && !c.fact.has_starts;
        if !chunks.iter().all(is_plain) {
            return None;
        }
        let first_ms = chunks.first().map_or(i64::MAX, |c| c.fact.min_ms);
        let last_ms = chunks.last().map_or(i64::MIN, |c| c.fact.max_ms);
        let samples = chunks.iter().map(|c| usize::from(c.fact.count)).sum();
        Some((first_ms, last_ms, samples))
    }

    /// Adds the floats of a row of which [`Fetched::floats_of`] tells; rows are best asked for
    /// [`Fetched::in_order`], with the same `work`.
    pub(crate) fn gather<'a>(
        &'a self,
        i: usize,
        work: &mut Work<'a>,
        run: &mut Run,
    ) -> Result<(), Error> {
        let chunks = self.plan.chunks_of(i);
        self.forget_families(chunks, work);
        for chunk in chunks {
            let kept = self.kept(chunk)?;
            if kept.is_empty() {
                continue;
            }
            run.pieces.push(self.piece(chunk, &kept));
            let is_read = !chunk.has_payload() || work.knows(chunk);
            let gather = || {
                let payload = if is_read { &[] } else { self.payload(chunk)? };
                run.samples += kept.len();
                match run.wanted {
                    Wanted::Values => decode_floats(chunk, payload, kept, &mut run.values, work),
                    Wanted::Markers => {
                        let before = run.samples - kept.len();
                        find_markers(chunk, payload, kept, before, &mut run.stale, work)
                    }
                }
            };
            gather().map_err(|e: String| self.damaged(e))?;
        }
        Ok(())
    }

    /// Lets go of what was kept of another histogram's buckets.
    fn forget_families(&self, chunks: &[PlannedChunk], work: &mut Work<'_>) {
        let family = chunks.iter().find(|chunk| chunk.fact.codec == Codec::Family);
        if !family.is_some_and(|c| work.families.contains_key(&(c.group, c.payload_row()))) {
            work.families.clear();
        }
    }

    /// Which samples of a chunk lie in the range asked for.
    fn kept(&self, chunk: &PlannedChunk) -> Result<Range<usize>, Error> {
        let (fact, range) = (&chunk.fact, self.plan.range);
        let count = usize::from(fact.count);
        if range.start_ms <= fact.min_ms && fact.max_ms <= range.end_ms {
            return Ok(0..count);
        }
        let instants = self.instants(fact.ts_row)?;
        if instants.len() != count {
            return Err(self.damaged("timestamps and values differ in number"));
        }
        let start = instants.partition_point(|at| *at < range.start_ms);
        let end = instants.partition_point(|at| *at <= range.end_ms);
        Ok(start..end.max(start))
    }

    fn piece(&self, chunk: &PlannedChunk, kept: &Range<usize>) -> Piece {
        Piece {
            block: self.block_number(),
            ts_row: chunk.fact.ts_row,
            count: chunk.fact.count,
            start: kept.start as u16,
            end: kept.end as u16,
        }
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

    pub(crate) fn decode_series<'a>(
        &'a self,
        i: usize,
        work: &mut Work<'a>,
    ) -> Result<SeriesSamples, Error> {
        let chunks = self.plan.chunks_of(i);
        let mut series = SeriesSamples::default();
        work.pieces.clear();
        self.forget_families(chunks, work);
        let mut told = Vec::new();
        let some_told = chunks.iter().any(|chunk| chunk.fact.has_starts);
        for chunk in chunks {
            let kept = self.kept(chunk)?;
            if kept.is_empty() {
                continue;
            }
            let is_histogram = chunk.fact.codec == Codec::Histogram;
            let mut instants: &[i64] = &[];
            if some_told || is_histogram {
                let whole = self.instants(chunk.fact.ts_row)?;
                let fits = whole.len() == usize::from(chunk.fact.count);
                instants = whole
                    .get(kept.clone())
                    .filter(|_| fits)
                    .ok_or_else(|| self.damaged("timestamps and values differ in number"))?;
            }
            let mut decode = || {
                let is_read = !chunk.has_payload() || work.knows(chunk);
                let mut payload = if is_read { &[] } else { self.payload(chunk)? };
                if some_told {
                    let starts = take_starts(chunk, &mut payload, work)?;
                    told.extend(instants.iter().copied().zip(starts.into_iter().skip(kept.start)));
                }
                if is_histogram {
                    decode_histograms(chunk, payload, instants, kept.start, &mut series, work)
                } else {
                    work.pieces.push(self.piece(chunk, &kept));
                    decode_floats(chunk, payload, kept.clone(), &mut series.values, work)
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
        let family = family_of(chunk, payload, &mut work.families)?;
        let values = family.values(chunk.fact.payload_back, &mut work.decoder);
        let values = values.map_err(|e| e.to_string())?.get(kept);
        out.extend_from_slice(values.ok_or("buckets differ in number of samples")?);
        return Ok(());
    }
    let mut constant = 0.0;
    if chunk.fact.codec == Codec::Constant {
        constant = constant_in(payload)?;
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

type Families<'a> = HashMap<(u32, u32), Family<'a>>;

/// The buckets among which a chunk's samples are, taken apart once.
fn family_of<'a, 'f>(
    chunk: &PlannedChunk,
    payload: &'a [u8],
    families: &'f mut Families<'a>,
) -> Result<&'f mut Family<'a>, String> {
    match families.entry((chunk.group, chunk.payload_row())) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            let read = Family::read(payload, usize::from(chunk.fact.count));
            Ok(new.insert(read.map_err(|e| e.to_string())?))
        }
    }
}

/// The value of a constant chunk that stands in its payload.
fn constant_in(payload: &[u8]) -> Result<f64, String> {
    let bits = payload.try_into().map_err(|_| "a constant has no value")?;
    Ok(f64::from_bits(u64::from_le_bytes(bits)))
}

/// Adds the places of a chunk's stale markers, `before` being how many samples came before those
/// that are kept. Values are decoded only where the codec does not keep markers apart.
fn find_markers<'a>(
    chunk: &PlannedChunk,
    payload: &'a [u8],
    kept: Range<usize>,
    before: usize,
    out: &mut Vec<u32>,
    work: &mut Work<'a>,
) -> Result<(), String> {
    if chunk.constant().is_some() {
        return Ok(());
    }
    if chunk.fact.codec == Codec::Constant {
        if is_stale(constant_in(payload)?) {
            out.extend(before as u32..(before + kept.len()) as u32);
        }
        return Ok(());
    }
    let count = usize::from(chunk.fact.count);
    let places = match chunk.fact.codec {
        Codec::Family => {
            let family = family_of(chunk, payload, &mut work.families)?;
            family.markers(chunk.fact.payload_back, &mut work.decoder)
        }
        codec => work.decoder.markers(codec, payload, count),
    };
    let places = places.map_err(|e| e.to_string())?;
    let inside = places.iter().map(|place| *place as usize).filter(|place| kept.contains(place));
    out.extend(inside.map(|place| (before + place - kept.start) as u32));
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
pub(crate) struct Work<'a> {
    decoder: Decoder,
    pieces: Vec<Piece>,
    /// Payloads of the histogram whose buckets are being decoded, by row group and row.
    families: Families<'a>,
}

impl Work<'_> {
    /// Whether nothing of a chunk's payload is needed any more: its family was read already.
    fn knows(&self, chunk: &PlannedChunk) -> bool {
        chunk.fact.codec == Codec::Family
            && !chunk.fact.has_starts
            && self.families.contains_key(&(chunk.group, chunk.payload_row()))
    }
}
