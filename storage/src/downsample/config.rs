//! Settings of downsampling.

use model::Resolution;
use serde::{Deserialize, Serialize};

/// What is downsampled: nothing unless asked for. How long windows are kept is a limit of each tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether windows of five minutes and of an hour are made of days that are over. They take
    /// half as much again as the rows, outlive them, and make questions about months affordable.
    pub enabled: bool,
}

impl Config {
    /// The resolutions that are made.
    pub(crate) fn resolutions(&self) -> &'static [Resolution] {
        if self.enabled { &[Resolution::Minutes5, Resolution::Hour1] } else { &[] }
    }
}
