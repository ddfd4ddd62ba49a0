//! Compensated sums and means (Kahan, as improved by Neumaier).

/// A sum that carries what rounding lost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    pub(crate) value: f64,
    pub(crate) lost: f64,
}

impl Sum {
    pub(crate) fn of(value: f64) -> Self {
        Self { value, lost: 0.0 }
    }

    #[inline]
    pub(crate) fn add(self, term: f64) -> Self {
        let value = self.value + term;
        // Without branches, so that many sums go on side by side.
        let is_first_larger = self.value.abs() >= term.abs();
        let larger = if is_first_larger { self.value } else { term };
        let smaller = if is_first_larger { term } else { self.value };
        let lost = self.lost + ((larger - value) + smaller);
        Self { value, lost: if value.is_infinite() { 0.0 } else { lost } }
    }

    #[inline]
    pub(crate) fn total(self) -> f64 {
        self.value + self.lost
    }
}

/// A mean: of the sum as long as that is finite, incremental from then on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    /// The sum, or the mean once it is incremental.
    pub(crate) sum: Sum,
    pub(crate) count: f64,
    pub(crate) incremental: bool,
}

impl Mean {
    pub(crate) fn of(value: f64) -> Self {
        Self { sum: Sum::of(value), count: 1.0, incremental: false }
    }

    #[inline]
    pub(crate) fn add(&mut self, term: f64) {
        self.count += 1.0;
        if !self.incremental {
            let sum = self.sum.add(term);
            if !sum.value.is_infinite() {
                self.sum = sum;
                return;
            }
            self.incremental = true;
            self.sum.value /= self.count - 1.0;
            self.sum.lost /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        let before = Sum { value: weight * self.sum.value, lost: weight * self.sum.lost };
        self.sum = before.add(term / self.count);
    }

    #[inline]
    pub(crate) fn value(self) -> f64 {
        if self.incremental {
            return self.sum.value + self.sum.lost;
        }
        self.sum.value / self.count + self.sum.lost / self.count
    }
}

/// Mean and sum of squared distances from it, compensated (as `stddev_over_time` has it).
pub(crate) fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean = mean.add(delta / count);
        squares = squares.add(delta * (value - mean.total()));
    }
    squares.total() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], sum: f64, mean: f64) {
        let total = values.iter().fold(Sum::default(), |s, v| s.add(*v)).total();
        assert_eq!(total.to_bits(), sum.to_bits(), "sum {total}");
        let mut running = Mean::of(values[0]);
        values[1..].iter().for_each(|v| running.add(*v));
        assert_eq!(running.value().to_bits(), mean.to_bits(), "mean {}", running.value());
    }

    #[test]
    fn rounding_is_made_good() {
        check(&[1.0, 1e100, 1.0, -1e100], 2.0, 0.5);
        check(&[0.1; 10], 1.0, 0.1);
        check(&[f64::INFINITY, 1.0], f64::INFINITY, f64::INFINITY);
        check(&[f64::MAX, f64::MAX], f64::INFINITY, f64::MAX);
        check(&[-f64::MAX, -f64::MAX], f64::NEG_INFINITY, -f64::MAX);
    }

    #[test]
    fn variances_do_not_cancel() {
        assert_eq!(variance(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]), 22.5);
        assert_eq!(variance(&[5.0]), 0.0);
        assert!(variance(&[f64::INFINITY, 1.0]).is_nan());
    }
}
