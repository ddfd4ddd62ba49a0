//! How much there is of entries: for the status page and for metrics.

use crate::Storage;

/// Figures of all entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntryTotals {
    /// Streams that had entries within the last hour.
    pub active_streams: u64,
    /// Entries not yet in segments.
    pub head_entries: u64,
    /// Bytes of their lines and fields.
    pub head_bytes: u64,
    /// Memory that the heads take.
    pub head_memory_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Entries in them.
    pub segment_entries: u64,
    /// Bytes of the lines and fields of these.
    pub segment_raw_bytes: u64,
    /// Bytes of all segments' objects.
    pub segment_bytes: u64,
}

impl Storage {
    /// Figures of all entries.
    pub fn entry_totals(&self) -> EntryTotals {
        let active_streams = self.entries.active.count();
        let mut totals = EntryTotals { active_streams, ..EntryTotals::default() };
        for partition in &self.entries.partitions {
            let (size, memory, segments) = {
                let head = partition.head.read();
                (head.size(), head.heap_bytes(), partition.segments())
            };
            totals.head_entries += size.open_rows + size.frozen_rows;
            totals.head_bytes += size.open_bytes + size.frozen_bytes;
            totals.head_memory_bytes += memory as u64;
            totals.segments += segments.len() as u64;
            for segment in segments.iter() {
                totals.segment_entries += segment.meta.rows;
                totals.segment_raw_bytes += segment.meta.raw_bytes;
                totals.segment_bytes += segment.meta.bytes;
            }
        }
        totals
    }
}
