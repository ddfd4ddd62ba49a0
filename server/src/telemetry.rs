//! Structured logs on standard error.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How this process speaks of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `text` for people, `json` for collectors.
    pub(crate) format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,storage=debug`.
    pub(crate) level: String,
}

/// Forms of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}

impl Config {
    /// Whether the filter can be used.
    pub(crate) fn check(&self) -> Result<(), String> {
        EnvFilter::try_new(&self.level).map(|_| ()).map_err(|e| e.to_string())
    }

    /// Starts logging for the whole process.
    pub(crate) fn start(&self) {
        let filter = EnvFilter::try_new(&self.level).unwrap_or_else(|_| EnvFilter::new("info"));
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.format {
            Format::Text => lines.init(),
            Format::Json => lines.json().flatten_event(true).init(),
        }
    }
}
