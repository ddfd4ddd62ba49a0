//! Instant vectors out of samples: the last sample at or before each step, unless it is too old
//! or a stale marker.

use model::is_stale;

use crate::column::Bitmap;

use super::window::{Times, Windows};

/// For each step the index of the sample that stands for it.
#[derive(Debug)]
pub(crate) struct Latest {
    /// `u32::MAX` where there is none.
    at: Vec<u32>,
    present: Bitmap,
}

impl Latest {
    /// What it takes for each step.
    pub(crate) const STEP_BYTES: usize = size_of::<u32>();

    pub(crate) fn new(timestamps: &[i64], times: &Times, lookback_ms: i64) -> Self {
        let windows = Windows::new(timestamps, times, lookback_ms);
        let last = |window: std::ops::Range<usize>| {
            if window.is_empty() { u32::MAX } else { window.end as u32 - 1 }
        };
        let at: Vec<u32> = windows.iter().map(last).collect();
        let mut present = Bitmap::none(at.len());
        let some = at.iter().enumerate().filter(|(_, at)| **at != u32::MAX);
        some.for_each(|(step, _)| present.set(step));
        Self { at, present }
    }

    #[inline]
    pub(crate) fn at(&self, step: usize) -> Option<usize> {
        let at = self.at[step];
        (at != u32::MAX).then_some(at as usize)
    }

    /// The steps that have one.
    pub(crate) fn present(&self) -> &Bitmap {
        &self.present
    }

    /// Sample and step of every step that has one and where it is no stale marker.
    pub(crate) fn live<'a>(
        &'a self,
        values: &'a [f64],
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        let sample = |step| self.at(step).filter(|at| !is_stale(values[*at])).map(|at| (step, at));
        self.present.ones().filter_map(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    #[test]
    fn stale_markers_and_age_end_a_series() {
        let times = Times { grid: Grid::new(0, 70, 10), offset_ms: 0, at_ms: None };
        let latest = Latest::new(&[5, 15, 35], &times, 20);
        let live = |values: [f64; 3]| latest.live(&values).collect::<Vec<_>>();
        let nan = f64::NAN;
        assert_eq!(live([1.0, nan, 3.0]), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]);
        assert_eq!(live([1.0, model::stale_nan(), 3.0]), [(1, 0), (4, 2), (5, 2)]);
    }
}
