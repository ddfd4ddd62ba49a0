//! Settings of the store. Parts (clock, disk, objects) are constructor arguments instead.

use serde::{Deserialize, Serialize};

use crate::partition_map::Counts;
use crate::{compact, downsample, entries, log, objects};

/// Numbers and times an operator may tune.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Partitions of a new data directory; an existing one keeps its own. More of them spread work
    /// over more cores, each costs a few objects a flush.
    pub partitions: u16,
    /// Whether a write waits for the disk. Only tests of the crash rules turn this off.
    pub fsync: bool,
    /// Length of one log segment in bytes.
    pub log_segment_bytes: u64,
    /// Free disk in bytes below which writes are refused: room for flush, compaction and deletion.
    pub disk_reserve_bytes: u64,
    /// Buffered samples at which a partition is flushed. Bounds memory and the time a restart takes.
    pub flush_samples: u64,
    /// Buffered bytes at which a partition is flushed.
    pub flush_bytes: u64,
    /// Seconds after which buffered samples are flushed whatever their number. Bounds the log.
    pub flush_seconds: u64,
    /// Seconds without a sample after which a series leaves the head. As long as Prometheus' head
    /// block, so that a target that comes back within two hours costs nothing.
    pub idle_seconds: u64,
    /// Memory for what was read of blocks, in bytes: indexes, footers, pages.
    pub block_cache_bytes: usize,
    /// How blocks are merged.
    pub compaction: compact::Config,
    /// Where objects lie.
    pub objects: objects::Config,
    /// Windows of days that are over.
    pub downsampling: downsample::Config,
    /// Lines of logs, events and audit records.
    pub entries: entries::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partitions: 8,
            fsync: true,
            log_segment_bytes: 64 << 20,
            disk_reserve_bytes: 2 << 30,
            flush_samples: 2_000_000,
            flush_bytes: 32 << 20,
            flush_seconds: 600,
            idle_seconds: 7_200,
            block_cache_bytes: 256 << 20,
            compaction: compact::Config::default(),
            objects: objects::Config::default(),
            downsampling: downsample::Config::default(),
            entries: entries::Config::default(),
        }
    }
}

/// Segments of the log after which a partition is flushed whatever it has buffered. More than a
/// flush by samples takes up, so that only other rows (new series, metadata, exemplars) get here.
const FLUSH_SEGMENTS: u64 = 8;

impl Config {
    /// Bytes of log behind a partition's last flush at which it is flushed again. Bounds the log
    /// and the time a restart takes.
    pub(crate) fn log_flush_bytes(&self) -> u64 {
        self.log_segment_bytes.saturating_mul(FLUSH_SEGMENTS)
    }

    /// What is wrong with it, by key.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("flush_samples", self.flush_samples),
            ("flush_bytes", self.flush_bytes),
            ("flush_seconds", self.flush_seconds),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{key} must be above 0"));
        }
        if !(1..=1_024).contains(&self.partitions) {
            return Err(format!("partitions must be 1 to 1024, it is {}", self.partitions));
        }
        if self.log_segment_bytes < 1 << 16 {
            return Err(format!(
                "log_segment_bytes must be at least 65536, it is {}",
                self.log_segment_bytes
            ));
        }
        self.objects.check().map_err(|error| format!("objects: {error}"))?;
        self.entries.check().map_err(|error| format!("entries: {error}"))?;
        self.compaction.check()
    }

    /// Partitions of a new data directory.
    pub(crate) fn counts(&self) -> Counts {
        Counts { metrics: self.partitions, entries: self.entries.partitions }
    }

    /// The part that concerns the log.
    pub(crate) fn log(&self) -> log::Config {
        log::Config {
            segment_bytes: self.log_segment_bytes,
            reserve_bytes: self.disk_reserve_bytes,
            fsync: self.fsync,
            ..log::Config::default()
        }
    }
}
