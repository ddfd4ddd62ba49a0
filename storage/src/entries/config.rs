//! Settings of the store of entries.

use serde::{Deserialize, Serialize};

/// Numbers an operator may tune.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Partitions of a new data directory; an existing one keeps its own.
    pub partitions: u16,
    /// Bytes of lines and fields at which a partition is flushed. All of them together, twice, are
    /// what entries take in memory.
    pub flush_bytes: u64,
    /// Tails that may run at a time, of all tenants: each takes a task and some megabytes.
    pub tails_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { partitions: 4, flush_bytes: 16 << 20, tails_max: 200 }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=1_024).contains(&self.partitions) {
            return Err(format!("partitions must be 1 to 1024, it is {}", self.partitions));
        }
        if self.flush_bytes == 0 {
            return Err("flush_bytes must be above 0".to_owned());
        }
        Ok(())
    }
}
