//! Settings of compaction.

use serde::{Deserialize, Serialize};

/// Numbers and times an operator may tune.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Fresh blocks of a partition at which they are merged before their two hours are over; the
    /// same of fresh segments of entries, of an hour. A question about recent hours looks into each
    /// of them.
    pub fresh_blocks_max: usize,
    /// Bytes a second that compaction reads and writes over time. Leaves the disk to queries.
    pub bytes_per_second: u64,
    /// Part of one core that compaction takes over time while nothing else goes on; a fifth of it
    /// beside writes and questions, all of a core when it has fallen far behind.
    pub cpu_share: f64,
    /// Seconds that the objects of merged blocks stay, for questions that began before. Longer
    /// than the longest question.
    pub grace_seconds: u64,
    /// Bytes a day from which a tenant gets blocks of its own; of entries, bytes of lines and fields.
    pub split_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fresh_blocks_max: 8,
            bytes_per_second: 64 << 20,
            cpu_share: 0.5,
            grace_seconds: 900,
            split_bytes: 8 << 20,
        }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.fresh_blocks_max < 2 {
            return Err(format!(
                "compaction.fresh_blocks_max must be at least 2, it is {}",
                self.fresh_blocks_max
            ));
        }
        if self.bytes_per_second < 1 << 20 {
            return Err(format!(
                "compaction.bytes_per_second must be at least 1048576, it is {}",
                self.bytes_per_second
            ));
        }
        if !(0.01..=1.0).contains(&self.cpu_share) {
            return Err(format!(
                "compaction.cpu_share must be 0.01 to 1, it is {}",
                self.cpu_share
            ));
        }
        Ok(())
    }
}
