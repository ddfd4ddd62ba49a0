//! How one series' value moves from scrape to scrape.
//!
//! The mix of kinds is what makes a workload compress like a real one: a third of the series of a
//! Kubernetes cluster never change, half are integers, few use all bits of a float.

use crate::random::SplitMix;

/// The bits of Prometheus' stale marker.
pub(crate) const STALE: u64 = 0x7ff0_0000_0000_0002;

/// A series' value and the rule by which it moves.
#[derive(Debug, Clone)]
pub(crate) enum Signal {
    /// Never changes.
    Constant(f64),
    /// Integer counter: idle with some probability, else grows by up to `step`.
    Counter { value: u64, step: u64, idle: f64 },
    /// Counter of seconds with so many decimals.
    Seconds { units: u64, step: u64, scale: f64 },
    /// Integer that wanders, such as bytes in use, in multiples of `grain`.
    Walk { value: i64, step: i64, grain: i64 },
    /// Number with a few decimals that wanders, such as a temperature.
    Decimal { units: i64, step: i64, scale: f64 },
    /// Uses the whole mantissa.
    Float { value: f64 },
    /// Now and then not a number, such as a quantile without observations.
    Sparse { value: f64 },
}

impl Signal {
    /// The value at the next scrape.
    pub(crate) fn next(&mut self, random: &mut SplitMix) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Counter { value, step, idle } => {
                if !random.happens(*idle) {
                    *value += random.below(*step + 1);
                }
                *value as f64
            }
            Self::Seconds { units, step, scale } => {
                *units += random.below(*step + 1);
                *units as f64 / *scale
            }
            Self::Walk { value, step, grain } => {
                let by = random.below(2 * *step as u64 + 1) as i64 - *step;
                *value = (*value + by * *grain).max(0);
                *value as f64
            }
            Self::Decimal { units, step, scale } => {
                *units = (*units + random.below(2 * *step as u64 + 1) as i64 - *step).max(0);
                *units as f64 / *scale
            }
            Self::Float { value } => {
                *value = 0.95 * *value + random.unit();
                *value
            }
            Self::Sparse { value } => {
                if random.happens(0.02) {
                    *value =
                        if value.is_nan() { random.below(1000) as f64 / 1000.0 } else { f64::NAN };
                }
                *value
            }
        }
    }
}
