//! What is known of a chunk without decoding it.

/// Chunks shorter than this have no statistics: they would cost more than the samples.
const SAMPLES_MIN: usize = 32;

/// Statistics of the finite values of a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ChunkStats {
    /// The smallest.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// Their sum, added in time order.
    pub sum: Option<f64>,
    /// How much a counter grew within the chunk: a value below the one before counts in full, as
    /// after a restart from zero.
    pub increase: Option<f64>,
}

impl ChunkStats {
    /// Of a chunk of at least one value. Of a constant one `min` is the value itself, unless that
    /// is a NaN, infinite or −0.0.
    pub(super) fn of_values(values: &[f64], constant: Option<f64>) -> Self {
        if let Some(value) = constant {
            let is_plain = value.is_finite() && value.to_bits() != (-0.0f64).to_bits();
            return Self { min: is_plain.then_some(value), ..Self::default() };
        }
        if values.len() < SAMPLES_MIN {
            return Self::default();
        }
        let mut finite = values.iter().copied().filter(|v| v.is_finite());
        let Some(first) = finite.next() else { return Self::default() };
        let (mut min, mut max, mut sum, mut increase, mut previous) =
            (first, first, first, 0.0, first);
        for value in finite {
            min = min.min(value);
            max = max.max(value);
            sum += value;
            increase += if value < previous { value } else { value - previous };
            previous = value;
        }
        Self { min: Some(min), max: Some(max), sum: Some(sum), increase: Some(increase) }
    }
}
