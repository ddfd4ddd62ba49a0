//! What compaction has done since the start, for `/metrics` and the status page.

use parking_lot::Mutex;

/// Figures of compaction since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompactionTotals {
    /// Merges done, by level of their result: windows of two hours, days.
    pub merges: [u64; 2],
    /// Days of which windows of one length were made.
    pub downsamplings: u64,
    /// Merges that failed and will be tried again.
    pub failures: u64,
    /// Bytes of the blocks merged.
    pub bytes_in: u64,
    /// Bytes of the blocks they became.
    pub bytes_out: u64,
    /// Samples and histograms written, once for each merge.
    pub samples: u64,
    /// Seconds of a core spent reading, merging and encoding, of blocks and of segments.
    pub work_seconds: f64,
    /// Seconds that merges took, pauses included.
    pub wall_seconds: f64,
    /// Blocks that are due to be merged now.
    pub backlog_blocks: u64,
    /// Their bytes.
    pub backlog_bytes: u64,
    /// Merges of segments of entries, by level of their result: runs, hours, days.
    pub entry_merges: [u64; 3],
    /// Bytes of the segments merged.
    pub segment_bytes_in: u64,
    /// Bytes of the segments they became.
    pub segment_bytes_out: u64,
    /// Entries written, once for each merge.
    pub entries: u64,
    /// Segments that are due to be merged now.
    pub backlog_segments: u64,
    /// Their bytes.
    pub backlog_segment_bytes: u64,
    /// Blocks that were merged and whose objects wait to be removed.
    pub removed_waiting: u64,
}

/// Shared between the task that merges and who asks.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<CompactionTotals>);

impl Counters {
    pub(crate) fn totals(&self) -> CompactionTotals {
        *self.0.lock()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut CompactionTotals)) {
        change(&mut self.0.lock());
    }
}
