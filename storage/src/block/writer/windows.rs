//! Windows on their way into a block.

use model::{Labels, SeriesId, TimeRange};
use tenancy::TenantId;

use super::BlockWriter;
use super::chunks::even_cuts;
use crate::Error;
use crate::block::stats::ChunkStats;
use crate::codec::{Codec, windows};
use crate::downsample::{HistogramWindow, Windows};

/// Everything of one series that goes into a block of windows.
#[derive(Debug, Clone)]
pub struct WindowsInput<'a> {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: SeriesId,
    /// Its labels.
    pub labels: Labels,
    /// Its windows, in order of time.
    pub windows: &'a Windows,
}

impl BlockWriter {
    /// Adds the next series of a block of windows, in order as in [`BlockWriter::add`].
    pub fn add_windows(&mut self, input: &WindowsInput<'_>) -> Result<(), Error> {
        self.check_order(input.tenant, &input.labels)?;
        let windows = input.windows;
        let histograms_increase = windows.histograms.is_sorted_by(|a, b| a.start_ms < b.start_ms);
        if !windows.starts.is_sorted_by(|a, b| a < b) || !histograms_increase {
            return self.refuse(format!("windows of {} are not in time order", input.labels));
        }
        self.turn_to(input.tenant, &input.labels)?;
        let (row, before) = (self.index.rows(), self.meta.chunks);
        for cut in even_cuts(windows.starts.len()) {
            self.push_windows(row, &windows.part(cut))?;
        }
        let mut rest = windows.histograms.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(windows::chunk_length(rest).min(rest.len()));
            self.push_histogram_windows(row, now)?;
            rest = later;
        }
        self.flush_if_full()?;
        let floats = windows.starts.first().zip(windows.starts.last());
        let floats = floats.map(|(first, last)| (*first, *last));
        let histograms = windows.histograms.first().zip(windows.histograms.last());
        let histograms = histograms.map(|(first, last)| (first.start_ms, last.start_ms));
        let ranges = [floats, histograms].into_iter().flatten();
        let range = ranges.map(|(start_ms, end_ms)| TimeRange { start_ms, end_ms });
        let range = range.reduce(TimeRange::union);
        let chunks = self.meta.chunks - before;
        self.add_row(input.tenant, input.id, &input.labels, chunks, range)?;
        self.meta.samples += windows.starts.len() as u64;
        self.meta.histograms += windows.histograms.len() as u64;
        self.meta.range = [range, self.meta.range].into_iter().flatten().reduce(TimeRange::union);
        Ok(())
    }

    fn push_windows(&mut self, row: u32, windows: &Windows) -> Result<(), Error> {
        self.payload.clear();
        self.payload.extend_from_slice(&[0; 4]);
        windows::encode(windows, &mut self.encoder, &mut self.payload);
        self.push_chunk(row, &windows.starts, Codec::Windows as u8, 0, ChunkStats::default())
    }

    fn push_histogram_windows(
        &mut self,
        row: u32,
        windows: &[HistogramWindow],
    ) -> Result<(), Error> {
        let starts: Vec<i64> = windows.iter().map(|w| w.start_ms).collect();
        self.payload.clear();
        self.payload.extend_from_slice(&[0; 4]);
        windows::encode_histograms(windows, &mut self.encoder, &mut self.payload);
        self.push_chunk(row, &starts, Codec::HistogramWindows as u8, 0, ChunkStats::default())
    }
}
