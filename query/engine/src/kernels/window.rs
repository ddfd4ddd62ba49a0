//! Windows: which samples of a timestamp vector lie before each step. Computed once for all
//! series that share the vector.

use std::ops::Range;

use query::promql::Edges;

use crate::grid::Grid;

/// When ranges and look-backs end, for each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) grid: Grid,
    /// `offset`, already with its sign: positive looks back.
    pub(crate) offset_ms: i64,
    /// `@`: the same instant at every step.
    pub(crate) at_ms: Option<i64>,
}

impl Times {
    #[inline]
    pub(crate) fn end(&self, step: usize) -> i64 {
        self.at_ms.unwrap_or_else(|| self.grid.at(step)).saturating_sub(self.offset_ms)
    }

    /// The same times, each so much later.
    pub(crate) fn later(&self, by_ms: i64) -> Self {
        Self { offset_ms: self.offset_ms.saturating_sub(by_ms), ..*self }
    }

    /// The first and the last of them.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        (self.end(0), self.end(self.grid.len.saturating_sub(1)))
    }
}

/// For each step the samples in (end − range, end].
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    bounds: Vec<(u32, u32)>,
}

impl Windows {
    /// What it takes for each step.
    pub(crate) const STEP_BYTES: usize = size_of::<(u32, u32)>();

    pub(crate) fn new(timestamps: &[i64], times: &Times, range_ms: i64) -> Self {
        let (mut low, mut high) = (0usize, 0usize);
        let mut bounds = Vec::with_capacity(times.grid.len);
        for step in 0..times.grid.len {
            let end = times.end(step);
            let start = end.saturating_sub(range_ms);
            // Ends never decrease from step to step, so both edges only move forward.
            high += timestamps[high..].iter().take_while(|t| **t <= end).count();
            low += timestamps[low..high].iter().take_while(|t| **t <= start).count();
            bounds.push((low as u32, high as u32));
        }
        Self { bounds }
    }

    /// The same with what the range's edges need of the samples around it, which are no older and
    /// no younger than `margin_ms`. Anchored: one sample at or before the range, if any is in it.
    /// Smoothed: all samples within the margin.
    pub(crate) fn of_edges(
        timestamps: &[i64],
        times: &Times,
        range_ms: i64,
        edges: Edges,
        margin_ms: i64,
    ) -> Self {
        let mut windows = match edges {
            Edges::Plain => return Self::new(timestamps, times, range_ms),
            Edges::Anchored => Self::new(timestamps, times, range_ms),
            Edges::Smoothed => {
                let later = times.later(margin_ms);
                let both = margin_ms.saturating_mul(2);
                return Self::new(timestamps, &later, range_ms.saturating_add(both));
            }
        };
        for (step, (low, high)) in windows.bounds.iter_mut().enumerate() {
            let oldest = times.end(step).saturating_sub(range_ms).saturating_sub(margin_ms);
            let anchor = low.checked_sub(1).filter(|at| timestamps[*at as usize] > oldest);
            if let (Some(anchor), true) = (anchor, low < high) {
                *low = anchor;
            }
        }
        windows
    }

    #[inline]
    pub(crate) fn at(&self, step: usize) -> Range<usize> {
        let (low, high) = self.bounds[step];
        low as usize..high as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.bounds.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.bounds.iter().map(|(low, high)| *low as usize..*high as usize)
    }

    /// Samples in all windows together.
    pub(crate) fn samples(&self) -> u64 {
        self.bounds.iter().map(|(low, high)| u64::from(high - low)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        timestamps: &[i64],
        offset_ms: i64,
        at_ms: Option<i64>,
        range: i64,
        expected: &[(u32, u32)],
    ) {
        let times = Times { grid: Grid::new(0, 30, 10), offset_ms, at_ms };
        assert_eq!(Windows::new(timestamps, &times, range).bounds, expected);
    }

    #[test]
    fn windows_are_open_on_the_left() {
        let five = [-10, 0, 10, 20, 30];
        check(&five, 0, None, 10, &[(1, 2), (2, 3), (3, 4), (4, 5)]);
        check(&five, 0, None, 11, &[(0, 2), (1, 3), (2, 4), (3, 5)]);
        check(&five, 10, None, 10, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
        check(&five, -10, None, 10, &[(2, 3), (3, 4), (4, 5), (5, 5)]);
        check(&five, 0, Some(20), 15, &[(2, 4); 4]);
        check(&[], 0, None, 10, &[(0, 0); 4]);
        check(&[100], 0, None, 10, &[(0, 0); 4]);
        check(&[5, 6, 7], 0, None, 5, &[(0, 0), (1, 3), (3, 3), (3, 3)]);
    }

    #[test]
    fn edges_need_samples_around_the_range() {
        let times = Times { grid: Grid::new(0, 30, 10), offset_ms: 0, at_ms: None };
        let bounds = |edges| Windows::of_edges(&[-4, 3, 12, 25], &times, 5, edges, 7).bounds;
        assert_eq!(bounds(Edges::Plain), [(0, 1), (2, 2), (3, 3), (4, 4)]);
        assert_eq!(bounds(Edges::Anchored), [(0, 1), (2, 2), (3, 3), (4, 4)]);
        assert_eq!(bounds(Edges::Smoothed), [(0, 2), (1, 3), (2, 4), (3, 4)]);
        let wide = Windows::of_edges(&[-4, 3, 12, 25], &times, 8, Edges::Anchored, 14).bounds;
        assert_eq!(wide, [(0, 1), (0, 2), (3, 3), (2, 4)]);
    }
}
