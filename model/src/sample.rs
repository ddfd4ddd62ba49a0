//! Samples and the marker that ends a series.

/// The bits of the NaN by which Prometheus says that a series has ended (`value.StaleNaN`). It is
/// told from other NaNs by its bits alone and must pass through unchanged.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// One value of one series.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Any float, kept bit for bit.
    pub value: f64,
}

/// Whether a value is the stale marker.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// The stale marker.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}
