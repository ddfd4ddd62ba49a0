//! Series ids: the same label set has the same id on every machine, in every block, for ever.

use xxhash_rust::xxh3::xxh3_128;

/// An unkeyed 128-bit hash (XXH3) of the canonical encoding of a label set
/// ([`Labels::encode`](crate::Labels::encode)).
///
/// That encoding equals what a well-behaved remote-write sender puts on the wire, so the id of a
/// known series is found by hashing the bytes of the request as they stand. The hash is not
/// keyed, so where a sender could gain by a collision the labels are compared as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u128);

impl SeriesId {
    /// The id of a label set in canonical encoding.
    #[inline]
    pub fn of_encoded(labels: &[u8]) -> Self {
        Self(xxh3_128(labels))
    }
}
