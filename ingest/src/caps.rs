//! How much one request may hold, and what its sender is told if it holds more.

use crate::wire::WireError;

/// Why a request could not be taken apart. Nothing of it is stored then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// Not a write request.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// A request that can be read and makes no sense.
    #[error("{0}")]
    Wrong(String),
    /// More than fits into one request.
    #[error("request holds more than {limit} {what}; send it in parts")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The cap.
        limit: usize,
    },
}

/// How much one request may hold. All are far above what senders put into one (Prometheus 2,000
/// samples, vmagent 10,000) and keep the rows of a hostile request below the size of its body.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Series with data. 32 bytes each.
    pub series_max: usize,
    /// Float samples. 16 bytes each.
    pub samples_max: usize,
    /// Native histograms. About 200 bytes each.
    pub histograms_max: usize,
    /// Buckets, spans and bounds of all native histograms. 8 bytes each.
    pub histogram_buckets_max: usize,
    /// Exemplars. About 150 bytes each.
    pub exemplars_max: usize,
    /// Metric families with metadata. About 100 bytes each.
    pub metadata_max: usize,
    /// Symbols of a request of remote write 2.0. 12 bytes each.
    pub symbols_max: usize,
    /// Bytes of label fields that are put together here rather than found in the body: a label
    /// that a request names once can be asked for by every series of it.
    pub label_bytes_max: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            series_max: 128 << 10,
            samples_max: 512 << 10,
            histograms_max: 32 << 10,
            histogram_buckets_max: 512 << 10,
            exemplars_max: 64 << 10,
            metadata_max: 64 << 10,
            symbols_max: 1 << 20,
            label_bytes_max: 64 << 20,
        }
    }
}

/// Refuses one row too many.
#[inline(always)]
pub(crate) fn room(have: usize, limit: usize, what: &'static str) -> Result<(), WalkError> {
    if have < limit { Ok(()) } else { Err(WalkError::TooMany { what, limit }) }
}
