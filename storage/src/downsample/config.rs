//! Settings of downsampling.

use model::Resolution;
use serde::{Deserialize, Serialize};

/// What is downsampled. How long windows are kept is a limit of each tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether windows of five minutes and of an hour are made of days that are over. They take a
    /// small part of what rows take as they came, and questions about months become affordable.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Config {
    /// The resolutions that are made.
    pub(crate) fn resolutions(&self) -> &'static [Resolution] {
        if self.enabled { &[Resolution::Minutes5, Resolution::Hour1] } else { &[] }
    }
}
