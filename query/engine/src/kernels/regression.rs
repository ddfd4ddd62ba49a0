//! Least squares and exponential smoothing over a window.

use super::sums::Sum;

/// Slope per second and value at `intercept_ms` of the line through the samples.
pub(crate) fn line(timestamps: &[i64], values: &[f64], intercept_ms: i64) -> (f64, f64) {
    let Some(first) = values.first().copied() else { return (f64::NAN, f64::NAN) };
    let (mut n, mut constant) = (0.0, true);
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (t, y) in timestamps.iter().zip(values.iter().copied()) {
        constant &= n == 0.0 || y == first;
        n += 1.0;
        let x = (t - intercept_ms) as f64 / 1e3;
        x_sum = x_sum.add(x);
        y_sum = y_sum.add(y);
        xy_sum = xy_sum.add(x * y);
        xx_sum = xx_sum.add(x * x);
    }
    if constant {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (x, y, xy, xx) = (x_sum.total(), y_sum.total(), xy_sum.total(), xx_sum.total());
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Double exponential smoothing (Holt): of the level by `smoothing`, of the trend by `trend`.
pub(crate) fn smoothed(values: &[f64], smoothing: f64, trend: f64) -> Option<f64> {
    let [first, second, ..] = values else { return None };
    let (mut before, mut level, mut slope) = (0.0, *first, second - first);
    for (i, value) in values[1..].iter().enumerate() {
        let scaled = smoothing * value;
        if i > 0 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        let carried = (1.0 - smoothing) * (level + slope);
        (before, level) = (level, scaled + carried);
    }
    Some(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_through_their_samples() {
        let ts = [0, 1000, 2000, 3000];
        assert_eq!(line(&ts, &[1.0, 3.0, 5.0, 7.0], 0), (2.0, 1.0));
        assert_eq!(line(&ts, &[1.0, 3.0, 5.0, 7.0], 3000), (2.0, 7.0));
        assert_eq!(line(&ts, &[4.0; 4], 0), (0.0, 4.0));
        assert!(line(&ts, &[f64::INFINITY; 4], 0).0.is_nan());
    }

    #[test]
    fn smoothing_follows_a_straight_line() {
        assert_eq!(smoothed(&[1.0], 0.5, 0.5), None);
        assert_eq!(smoothed(&[0.0, 10.0, 20.0, 30.0], 0.5, 0.5), Some(30.0));
    }
}
