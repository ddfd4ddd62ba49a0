//! What is told of destinations to whoever operates them.

/// One destination as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationStatus {
    /// Its name.
    pub name: String,
    /// Its address, without a password.
    pub url: String,
    /// The message it is sent: `1.0` or `2.0`.
    pub protocol: &'static str,
    /// Samples, histograms and exemplars that wait on disk.
    pub rows_pending: u64,
    /// Bytes of the queue on disk.
    pub queue_bytes: u64,
    /// Bytes beyond which the oldest rows are dropped.
    pub queue_bytes_max: u64,
    /// Rows sent since the start, repetitions included.
    pub rows_sent: u64,
    /// Rows of requests that are repeated.
    pub rows_retried: u64,
    /// Rows that the destination refused for ever.
    pub rows_failed: u64,
    /// Rows that are lost: no room, a failing disk, what cannot be read.
    pub rows_lost: u64,
    /// The newest instant among rows that were queued, milliseconds; `None`: none since the start.
    pub newest_queued_ms: Option<i64>,
    /// The newest instant among rows that the destination took.
    pub newest_sent_ms: Option<i64>,
    /// What the destination answered last, or why it could not be asked; empty if it took the rows.
    pub last_error: String,
}
