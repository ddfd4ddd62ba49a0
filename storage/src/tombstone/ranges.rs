//! Stretches of time in which a series' rows are deleted.

use std::sync::Arc;

use model::TimeRange;

use crate::SeriesSamples;

/// Stretches in order of time that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<TimeRange>);

impl Ranges {
    /// The union of some ranges; empty ones count for nothing.
    pub fn of(ranges: impl IntoIterator<Item = TimeRange>) -> Self {
        let mut sorted: Vec<TimeRange> =
            ranges.into_iter().filter(|r| r.start_ms <= r.end_ms).collect();
        sorted.sort_unstable_by_key(|r| r.start_ms);
        let mut union: Vec<TimeRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match union.last_mut() {
                Some(last) if range.start_ms <= last.end_ms.saturating_add(1) => {
                    last.end_ms = last.end_ms.max(range.end_ms);
                }
                _ => union.push(range),
            }
        }
        Self(union)
    }

    /// Adds one more.
    pub fn add(&mut self, range: TimeRange) {
        let all = std::mem::take(&mut self.0);
        *self = Self::of(all.into_iter().chain([range]));
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the rows of an instant are deleted.
    pub fn contains(&self, at_ms: i64) -> bool {
        let after = self.0.partition_point(|r| r.start_ms <= at_ms);
        after > 0 && at_ms <= self.0[after - 1].end_ms
    }

    /// Whether all rows of a range are deleted.
    pub fn covers(&self, range: TimeRange) -> bool {
        let after = self.0.partition_point(|r| r.start_ms <= range.start_ms);
        after > 0 && range.end_ms <= self.0[after - 1].end_ms
    }

    /// Whether some rows of a range are deleted.
    pub fn overlaps(&self, range: TimeRange) -> bool {
        let after = self.0.partition_point(|r| r.start_ms <= range.end_ms);
        after > 0 && range.start_ms <= self.0[after - 1].end_ms
    }

    /// Takes what is deleted out of a series' samples. `share` makes a vector of instants one that
    /// series may have in common; it is called only if instants go.
    pub fn strip(&self, samples: &mut SeriesSamples, share: impl FnOnce(Vec<i64>) -> Arc<[i64]>) {
        if self.is_empty() {
            return;
        }
        samples.histograms.retain(|(ms, _)| !self.contains(*ms));
        let kept: Vec<bool> = samples.timestamps.iter().map(|ms| !self.contains(*ms)).collect();
        if kept.iter().all(|kept| *kept) {
            return;
        }
        let mut at = 0;
        samples.values.retain(|_| {
            at += 1;
            kept[at - 1]
        });
        let instants = samples.timestamps.iter().zip(&kept).filter(|(_, kept)| **kept);
        samples.timestamps = share(instants.map(|(ms, _)| *ms).collect());
    }
}

#[cfg(test)]
mod tests {
    use model::{Buckets, Histogram, ResetHint};

    use super::*;

    fn ranges(of: &[(i64, i64)]) -> Ranges {
        Ranges::of(of.iter().map(|&(start_ms, end_ms)| TimeRange { start_ms, end_ms }))
    }

    #[track_caller]
    fn check(of: &[(i64, i64)], union: &[(i64, i64)]) {
        let found: Vec<_> = ranges(of).0.iter().map(|r| (r.start_ms, r.end_ms)).collect();
        assert_eq!(found, union);
    }

    #[test]
    fn ranges_are_united() {
        check(&[], &[]);
        check(&[(5, 4)], &[]);
        check(&[(5, 9), (1, 3)], &[(1, 3), (5, 9)]);
        check(&[(5, 9), (1, 4)], &[(1, 9)]);
        check(&[(1, 9), (2, 3)], &[(1, 9)]);
        check(&[(i64::MIN, i64::MAX), (3, i64::MAX)], &[(i64::MIN, i64::MAX)]);
    }

    #[track_caller]
    fn asked(range: (i64, i64), covers: bool, overlaps: bool) {
        let deleted = ranges(&[(10, 19), (30, 39)]);
        let range = TimeRange { start_ms: range.0, end_ms: range.1 };
        assert_eq!((deleted.covers(range), deleted.overlaps(range)), (covers, overlaps));
        assert_eq!(
            (range.start_ms..=range.end_ms).all(|ms| deleted.contains(ms)),
            covers,
            "instant by instant"
        );
    }

    #[test]
    fn instants_and_stretches_are_found() {
        asked((0, 9), false, false);
        asked((0, 10), false, true);
        asked((10, 19), true, true);
        asked((19, 30), false, true);
        asked((20, 29), false, false);
        asked((39, 40), false, true);
        asked((40, 50), false, false);
    }

    fn histogram() -> Arc<Histogram> {
        let buckets =
            Buckets::Float { count: 0.0, zero_count: 0.0, positive: vec![], negative: vec![] };
        Arc::new(Histogram {
            reset_hint: ResetHint::Unknown,
            schema: 0,
            zero_threshold: 0.0,
            sum: 0.0,
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            buckets,
            custom_values: Vec::new(),
        })
    }

    #[test]
    fn deleted_samples_go() {
        let all: Vec<i64> = (0..50).collect();
        let mut samples = SeriesSamples {
            values: all.iter().map(|ms| *ms as f64).collect(),
            timestamps: all.into(),
            histograms: vec![(5, histogram()), (35, histogram())],
            ..SeriesSamples::default()
        };
        ranges(&[(10, 19), (30, 99)]).strip(&mut samples, Into::into);
        let left: Vec<i64> = (0..10).chain(20..30).collect();
        assert_eq!(*samples.timestamps, *left);
        assert_eq!(samples.values, left.iter().map(|ms| *ms as f64).collect::<Vec<_>>());
        assert_eq!(samples.histograms.len(), 1);
        let before = Arc::clone(&samples.timestamps);
        ranges(&[(10, 19)]).strip(&mut samples, |_| panic!("nothing goes"));
        assert!(Arc::ptr_eq(&before, &samples.timestamps), "shared as before");
    }
}
