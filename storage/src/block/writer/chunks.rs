//! Samples of one series become chunks, and chunks row groups of `chunks.parquet`.

use std::sync::Arc;

use model::Histogram;

use super::{BlockWriter, SeriesInput, family};
use crate::block::stats::ChunkStats;
use crate::block::tables::{ChunkRow, write_group};
use crate::block::{STARTS_BIT, payload_checksum};
use crate::codec::{CHUNK_SAMPLES_MAX, Codec, Effort, Encoder, histogram, starts};
use crate::{Error, Starts};

/// A row group ends at this many payload bytes even if it has few rows.
const GROUP_PAYLOAD_BYTES_MAX: usize = 32 << 20;

impl BlockWriter {
    /// Cuts the samples into chunks of even length, floats and histograms in order of their start;
    /// says how many. A bucket that may share its payloads is held back.
    pub(super) fn add_chunks(
        &mut self,
        input: &SeriesInput<'_>,
        series: u32,
    ) -> Result<u64, Error> {
        if self.options.effort == Effort::Cold && family::is_bucket(input) {
            return self.hold(input, series);
        }
        self.end_family()?;
        let before = self.meta.chunks;
        let mut floats = even_cuts(input.values.len()).peekable();
        let mut histograms = input.histograms;
        loop {
            let float_start = floats.peek().map(|cut| input.timestamps[cut.start]);
            match (float_start, histograms.first()) {
                (None, None) => break,
                (Some(at), other) if other.is_none_or(|(o, _)| at <= *o) => {
                    let cut = floats.next().unwrap_or_default();
                    let (instants, values) = (&input.timestamps[cut.clone()], &input.values[cut]);
                    self.add_floats(series, instants, values, input.starts)?;
                }
                _ => {
                    let run: Vec<&Histogram> =
                        histograms.iter().take(CHUNK_SAMPLES_MAX).map(|(_, h)| &**h).collect();
                    let (now, later) = histograms.split_at(histogram::chunk_length(&run));
                    self.add_histograms(series, now, input.starts)?;
                    histograms = later;
                }
            }
            self.flush_if_full()?;
        }
        Ok(self.meta.chunks - before)
    }

    pub(super) fn add_floats(
        &mut self,
        series: u32,
        instants: &[i64],
        values: &[f64],
        starts: &Starts,
    ) -> Result<(), Error> {
        let starts = starts_of_chunk(instants, starts);
        let starts_bit = begin_payload(&starts, &mut self.encoder, &mut self.payload);
        let encoded = self.encoder.encode(values, &mut self.payload);
        let stats = ChunkStats::of_values(values, encoded.constant);
        if let Some(value) = encoded.constant {
            // A value that the `min` column cannot hold to the bit stands in the payload.
            let is_in_min = stats.min.map(f64::to_bits) == Some(value.to_bits());
            if is_in_min && starts_bit == 0 {
                self.payload.clear();
            } else if !is_in_min {
                self.payload.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
        self.push_chunk(series, instants, encoded.codec as u8 | starts_bit, 0, stats)
    }

    fn add_histograms(
        &mut self,
        series: u32,
        histograms: &[(i64, Arc<Histogram>)],
        starts: &Starts,
    ) -> Result<(), Error> {
        let instants: Vec<i64> = histograms.iter().map(|(at, _)| *at).collect();
        let run: Vec<&Histogram> = histograms.iter().map(|(_, h)| &**h).collect();
        let starts = starts_of_chunk(&instants, starts);
        let starts_bit = begin_payload(&starts, &mut self.encoder, &mut self.payload);
        histogram::encode(&run, &mut self.encoder, &mut self.payload);
        let codec = Codec::Histogram as u8 | starts_bit;
        self.push_chunk(series, &instants, codec, 0, ChunkStats::default())
    }

    /// The payload starts with room for its checksum, or is empty.
    pub(super) fn push_chunk(
        &mut self,
        series: u32,
        instants: &[i64],
        codec: u8,
        payload_back: u32,
        stats: ChunkStats,
    ) -> Result<(), Error> {
        let (Some(min_ms), Some(max_ms)) = (instants.first(), instants.last()) else {
            return Ok(());
        };
        self.has_starts |= codec & STARTS_BIT != 0;
        let ts_row = self.vectors.row(instants)?;
        let count = instants.len() as u16;
        if let Some((room, body)) = self.payload.split_first_chunk_mut::<4>() {
            *room = payload_checksum(body, codec, count, ts_row).to_le_bytes();
        }
        let row = ChunkRow {
            series,
            min_ms: *min_ms,
            max_ms: *max_ms,
            count,
            codec,
            ts_row,
            payload_back,
            min: stats.min,
            max: stats.max,
            sum: stats.sum,
            increase: stats.increase,
        };
        self.tenant_rows.push(row, &self.payload);
        self.meta.chunks += 1;
        if self.meta.chunks > u64::from(u32::MAX) {
            return Err(Error::Limit("more than 2^32 chunks in a block".to_owned()));
        }
        Ok(())
    }

    /// Ends the row group if it is full. Never between chunks that share a payload.
    pub(super) fn flush_if_full(&mut self) -> Result<(), Error> {
        let is_full = self.tenant_rows.len() >= self.options.group_chunks_max
            || self.tenant_rows.payload_bytes() >= GROUP_PAYLOAD_BYTES_MAX;
        if is_full { self.flush_large_tenant() } else { Ok(()) }
    }

    pub(super) fn end_tenant(&mut self) -> Result<(), Error> {
        let is_large =
            self.tenant_is_large || self.tenant_rows.len() >= self.options.tenant_chunks_min;
        self.tenant_is_large = false;
        if is_large {
            return self.flush_large_tenant();
        }
        self.shared_rows.append(&mut self.tenant_rows);
        let is_full = self.shared_rows.len() >= self.options.tenant_chunks_min
            || self.shared_rows.payload_bytes() >= GROUP_PAYLOAD_BYTES_MAX / 2;
        if is_full { self.flush_shared() } else { Ok(()) }
    }

    fn flush_large_tenant(&mut self) -> Result<(), Error> {
        self.tenant_is_large = true;
        self.flush_shared()?;
        if self.tenant_rows.len() > 0 {
            write_group(&mut self.chunks, &self.tenant_rows.take_batch()?)?;
        }
        Ok(())
    }

    pub(super) fn flush_shared(&mut self) -> Result<(), Error> {
        if self.shared_rows.len() > 0 {
            write_group(&mut self.chunks, &self.shared_rows.take_batch()?)?;
        }
        Ok(())
    }
}

/// Since when the samples of a chunk count; nothing if that is not known of any.
pub(super) fn starts_of_chunk(instants: &[i64], of_series: &Starts) -> Vec<i64> {
    if of_series.is_empty() {
        return Vec::new();
    }
    let own = of_series.each(instants.iter().copied());
    if own.iter().all(|start_ms| *start_ms == 0) { Vec::new() } else { own }
}

/// Begins a payload: room for the checksum, and start timestamps if there are some. Gives the bit
/// that says so.
pub(super) fn begin_payload(starts: &[i64], encoder: &mut Encoder, payload: &mut Vec<u8>) -> u8 {
    payload.clear();
    payload.extend_from_slice(&[0; 4]);
    if starts.is_empty() {
        return 0;
    }
    starts::encode(starts, encoder, payload);
    STARTS_BIT
}

/// Ranges of nearly the same length, none longer than a chunk.
pub(super) fn even_cuts(samples: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let chunks = samples.div_ceil(CHUNK_SAMPLES_MAX);
    (0..chunks).map(move |i| i * samples / chunks..(i + 1) * samples / chunks)
}
