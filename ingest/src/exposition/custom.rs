//! Classic histograms become native ones with custom buckets (`util/convertnhcb`).

use model::{Buckets, Histogram, ResetHint};

use crate::native::{deltas_of, spans_of};

/// The schema of histograms with bounds of their own.
const SCHEMA: i32 = -53;

/// What was read of a classic histogram.
#[derive(Debug, Default)]
pub(super) struct CustomBuckets {
    /// Upper bounds and cumulative counts, in any order; of a bound that is told twice the first counts.
    pub(super) buckets: Vec<(f64, f64)>,
    /// If it was told.
    pub(super) count: Option<f64>,
    pub(super) sum: f64,
}

impl CustomBuckets {
    /// The native histogram. Without a bucket of everything the count stands for it, without a count
    /// the last bucket.
    pub(super) fn histogram(mut self, is_gauge: bool) -> Result<Histogram, &'static str> {
        if self.buckets.iter().any(|(bound, _)| bound.is_nan()) {
            return Err("a bucket's bound is not a number");
        }
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, first| later.0 == first.0);
        let last = self.buckets.last().copied();
        let Some(count) = self.count.or(last.map(|(_, count)| count)) else {
            return Err("a histogram without buckets has no count");
        };
        if last.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let counts = || self.buckets.iter().map(|(_, count)| *count);
        if counts().chain([count]).any(|count| count.is_nan() || count < 0.0) {
            return Err("a count of a histogram is negative or not a number");
        }
        if !counts().is_sorted() {
            return Err("counts of buckets are not cumulative");
        }
        if counts().next_back() != Some(count) {
            return Err("the last bucket and the count of a histogram are not the same");
        }
        let mut custom_values: Vec<f64> = self.buckets.iter().map(|(bound, _)| *bound).collect();
        custom_values.pop();
        let (spans, buckets) = match counts().all(is_whole) {
            true => whole(counts(), count),
            false => parted(counts(), count),
        };
        Ok(Histogram {
            reset_hint: if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            schema: SCHEMA,
            zero_threshold: 0.0,
            sum: self.sum,
            positive_spans: spans.ok_or("a histogram has too many buckets")?,
            negative_spans: vec![],
            buckets,
            custom_values,
        })
    }
}

/// Whether it is an integer that is stored exactly.
fn is_whole(count: f64) -> bool {
    count.fract() == 0.0 && count < i64::MAX as f64
}

type Laid = (Option<Vec<model::Span>>, Buckets);

/// What each bucket has that the one before does not, without empty buckets.
fn own<T: Copy>(
    cumulative: impl Iterator<Item = T>,
    zero: T,
    less: impl Fn(T, T) -> Option<T>,
) -> Vec<(i64, T)> {
    let mut before = zero;
    let own = |(index, count): (usize, T)| {
        let own = less(count, std::mem::replace(&mut before, count))?;
        Some((index as i64, own))
    };
    cumulative.enumerate().filter_map(own).collect()
}

fn whole(cumulative: impl Iterator<Item = f64>, count: f64) -> Laid {
    let less = |now: i64, before: i64| Some(now - before).filter(|own| *own != 0);
    let own = own(cumulative.map(|count| count as i64), 0, less);
    let counts: Vec<i64> = own.iter().map(|(_, count)| *count).collect();
    let buckets = Buckets::Integer {
        count: count as u64,
        zero_count: 0,
        positive_deltas: deltas_of(&counts),
        negative_deltas: vec![],
    };
    (spans_of(&own), buckets)
}

fn parted(cumulative: impl Iterator<Item = f64>, count: f64) -> Laid {
    let less = |now: f64, before: f64| Some(now - before).filter(|own| *own != 0.0);
    let own = own(cumulative, 0.0, less);
    let positive = own.iter().map(|(_, count)| *count).collect();
    let buckets = Buckets::Float { count, zero_count: 0.0, positive, negative: vec![] };
    (spans_of(&own), buckets)
}

#[cfg(test)]
mod tests {
    use model::Span;

    use super::*;

    fn convert(buckets: &[(f64, f64)], count: Option<f64>) -> Result<Histogram, &'static str> {
        CustomBuckets { buckets: buckets.to_vec(), count, sum: 2.5 }.histogram(false)
    }

    /// Bounds, spans as index and length, and counts as they are stored.
    #[track_caller]
    fn check(
        (buckets, count): (&[(f64, f64)], Option<f64>),
        (bounds, spans): (&[f64], &[(i32, u32)]),
        counts: &Buckets,
    ) {
        let found = convert(buckets, count).expect("a histogram");
        let spans: Vec<Span> = spans
            .iter()
            .map(|(offset, length)| Span { offset: *offset, length: *length })
            .collect();
        assert_eq!((found.schema, found.sum, found.zero_threshold), (-53, 2.5, 0.0));
        assert_eq!((&found.custom_values[..], &found.positive_spans), (bounds, &spans));
        assert_eq!(&found.buckets, counts);
    }

    fn integer(count: u64, deltas: &[i64]) -> Buckets {
        let positive_deltas = deltas.to_vec();
        Buckets::Integer { count, zero_count: 0, positive_deltas, negative_deltas: vec![] }
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn classic_buckets_become_custom_ones() {
        let all = [(1.0, 2.0), (2.0, 5.0), (INF, 6.0)];
        check((&all, Some(6.0)), (&[1.0, 2.0], &[(0, 3)]), &integer(6, &[2, 1, -2]));
        check((&all, None), (&[1.0, 2.0], &[(0, 3)]), &integer(6, &[2, 1, -2]));
        let disordered = [(INF, 6.0), (2.0, 5.0), (1.0, 2.0), (2.0, 99.0)];
        check((&disordered, Some(6.0)), (&[1.0, 2.0], &[(0, 3)]), &integer(6, &[2, 1, -2]));
        let unfinished = [(1.0, 2.0), (2.0, 2.0)];
        check((&unfinished, Some(6.0)), (&[1.0, 2.0], &[(0, 1), (1, 1)]), &integer(6, &[2, 2]));
        check((&[], Some(3.0)), (&[], &[(0, 1)]), &integer(3, &[3]));
        check((&[(INF, 0.0)], None), (&[], &[]), &integer(0, &[]));
        check((&[(-INF, 1.0), (INF, 1.0)], None), (&[-INF], &[(0, 1)]), &integer(1, &[1]));
        let float = Buckets::Float {
            count: 2.5,
            zero_count: 0.0,
            positive: vec![0.5, 2.0],
            negative: vec![],
        };
        check((&[(1.0, 0.5), (INF, 2.5)], None), (&[1.0], &[(0, 2)]), &float);
        let large = Buckets::Float {
            count: 1e300,
            zero_count: 0.0,
            positive: vec![1e300],
            negative: vec![],
        };
        check((&[(INF, 1e300)], None), (&[], &[(0, 1)]), &large);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for (buckets, count, why) in [
            (&[][..], None, "without buckets"),
            (&[(f64::NAN, 1.0)], None, "bound is not a number"),
            (&[(1.0, -1.0)], Some(1.0), "negative"),
            (&[(1.0, f64::NAN)], Some(1.0), "negative"),
            (&[(INF, 1.0)], Some(-1.0), "negative"),
            (&[(1.0, 2.0), (2.0, 1.0)], Some(3.0), "not cumulative"),
            (&[(1.0, 2.0), (INF, 3.0)], Some(4.0), "not the same"),
        ] {
            let error = convert(buckets, count).expect_err("refused");
            assert!(error.contains(why), "{buckets:?} {count:?}: {error}");
        }
    }
}
