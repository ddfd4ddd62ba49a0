//! Sums, differences, means and multiples.

use std::sync::Arc;

use model::{ResetHint, Span};
use query::FloatHistogram;
use query::histogram::layout::buckets_from;
use query::histogram::layout::indexed_buckets;

use super::align::{common_bounds, equal_zero_buckets, rebounded};
use super::buckets::{covers, for_each_place, moved, union};
use crate::kernels::sums;

/// Exponential buckets and buckets with bounds of their own have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incompatible;

/// What is worth saying about an addition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Added {
    /// One was known to follow a counter reset, the other known not to.
    pub(crate) collision: bool,
    /// Custom bounds differed, and the common ones were used.
    pub(crate) reconciled: bool,
}

/// How another histogram enters a sum.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Term {
    Plus,
    Minus,
    /// A share of it.
    Divided(f64),
}

impl Term {
    #[inline]
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Plus => value,
            Self::Minus => -value,
            Self::Divided(by) => value / by,
        }
    }
}

/// What rounding lost of each number of a sum.
#[derive(Debug, Clone, Default)]
struct Lost {
    count: f64,
    sum: f64,
    zero: f64,
    positive: Vec<f64>,
    negative: Vec<f64>,
}

/// A sum in the making.
#[derive(Debug, Clone)]
pub(crate) struct Sum {
    value: FloatHistogram,
    /// Only of compensated sums.
    lost: Option<Box<Lost>>,
}

impl Sum {
    /// Begins a sum of a few.
    pub(crate) fn plain(first: FloatHistogram) -> Self {
        Self { value: first, lost: None }
    }

    /// Begins a sum of many, which carries what rounding loses.
    pub(crate) fn compensated(first: FloatHistogram) -> Self {
        let lost = Lost {
            positive: vec![0.0; first.positive.len()],
            negative: vec![0.0; first.negative.len()],
            ..Lost::default()
        };
        Self { value: first, lost: Some(Box::new(lost)) }
    }

    /// The sum.
    pub(crate) fn total(mut self) -> FloatHistogram {
        self.settle();
        self.value
    }

    pub(crate) fn value(&self) -> &FloatHistogram {
        &self.value
    }

    /// Adds what rounding lost.
    fn settle(&mut self) {
        let (value, Some(lost)) = (&mut self.value, &mut self.lost) else { return };
        value.count += std::mem::take(&mut lost.count);
        value.sum += std::mem::take(&mut lost.sum);
        value.zero_count += std::mem::take(&mut lost.zero);
        value.positive.iter_mut().zip(&lost.positive).for_each(|(value, lost)| *value += lost);
        value.negative.iter_mut().zip(&lost.negative).for_each(|(value, lost)| *value += lost);
        lost.positive.fill(0.0);
        lost.negative.fill(0.0);
    }

    /// After buckets have changed while nothing was lost.
    fn resized(&mut self) {
        if let Some(lost) = &mut self.lost {
            lost.positive = vec![0.0; self.value.positive.len()];
            lost.negative = vec![0.0; self.value.negative.len()];
        }
    }

    /// Adds another histogram.
    pub(crate) fn add(
        &mut self,
        other: &FloatHistogram,
        term: Term,
    ) -> Result<Added, Incompatible> {
        if self.value.has_custom_bounds() != other.has_custom_bounds() {
            return Err(Incompatible);
        }
        let mut added = Added { collision: self.join_hint(other.reset_hint), reconciled: false };
        if self.value.has_custom_bounds() {
            if self.value.custom_values == other.custom_values {
                self.add_alike(other, term);
            } else {
                added.reconciled = true;
                let other = self.rebound(other);
                self.add_alike(&other, term);
            }
        } else if self.value.schema == other.schema
            && self.value.zero_threshold == other.zero_threshold
        {
            self.add_alike(other, term);
        } else {
            let other = self.align(other);
            self.add_alike(&other, term);
        }
        Ok(added)
    }

    /// What is known of a reset before a sum. True if its terms contradict each other.
    fn join_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, No, Unknown, Yes};
        let (hint, collision) = match (self.value.reset_hint, other) {
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (a, b) if a == b => (a, false),
            (Yes, No) | (No, Yes) => (Unknown, true),
            _ => (Unknown, false),
        };
        self.value.reset_hint = hint;
        collision
    }

    /// The other one with the common custom bounds, which are ours, too, from then on.
    fn rebound(&mut self, other: &FloatHistogram) -> FloatHistogram {
        self.settle();
        let bounds = common_bounds(&self.value.custom_values, &other.custom_values);
        let mut other = other.clone();
        for h in [&mut self.value, &mut other] {
            (h.positive_spans, h.positive) = rebounded(h, &bounds);
            h.custom_values = Arc::clone(&bounds);
        }
        self.resized();
        other
    }

    /// The other one with a zero bucket and a schema that are ours, too, from then on.
    fn align(&mut self, other: &FloatHistogram) -> FloatHistogram {
        self.settle();
        let mut other = other.clone();
        equal_zero_buckets(&mut self.value, &mut other);
        let schema = self.value.schema.min(other.schema);
        self.value.reduce_to(schema);
        other.reduce_to(schema);
        self.resized();
        other
    }

    /// Adds a histogram with the same kind of buckets.
    fn add_alike(&mut self, other: &FloatHistogram, term: Term) {
        let Self { value, lost } = self;
        match lost {
            None => {
                value.count += term.of(other.count);
                value.sum += term.of(other.sum);
                value.zero_count += term.of(other.zero_count);
            }
            Some(lost) => {
                put(&mut value.count, &mut lost.count, term.of(other.count));
                put(&mut value.sum, &mut lost.sum, term.of(other.sum));
                put(&mut value.zero_count, &mut lost.zero, term.of(other.zero_count));
            }
        }
        let (positive, negative) = match lost {
            Some(lost) => (Some(&mut lost.positive), Some(&mut lost.negative)),
            None => (None, None),
        };
        let side = (&mut value.positive_spans, &mut value.positive, positive);
        add_buckets(side, (&other.positive_spans, &other.positive), term);
        let side = (&mut value.negative_spans, &mut value.negative, negative);
        add_buckets(side, (&other.negative_spans, &other.negative), term);
    }

    /// Multiplies it by a number between 0 and 1.
    fn weigh(&mut self, by: f64) {
        let weigh = |values: &mut [f64]| values.iter_mut().for_each(|value| *value *= by);
        scale(&mut self.value, by);
        if let Some(lost) = &mut self.lost {
            weigh(&mut lost.positive);
            weigh(&mut lost.negative);
            lost.count *= by;
            lost.sum *= by;
            lost.zero *= by;
        }
    }

    fn divide(&mut self, by: f64) {
        let share = |values: &mut [f64]| values.iter_mut().for_each(|value| *value /= by);
        divide(&mut self.value, by);
        if let Some(lost) = &mut self.lost {
            share(&mut lost.positive);
            share(&mut lost.negative);
            lost.count /= by;
            lost.sum /= by;
            lost.zero /= by;
        }
    }

    fn overflowed(&self) -> bool {
        let h = &self.value;
        [h.count, h.sum, h.zero_count]
            .iter()
            .chain(&h.positive)
            .chain(&h.negative)
            .any(|v| v.is_infinite())
    }
}

#[inline]
fn put(sum: &mut f64, lost: &mut f64, term: f64) {
    let added = sums::Sum { value: *sum, lost: *lost }.add(term);
    (*sum, *lost) = (added.value, added.lost);
}

type Side<'a> = (&'a mut Arc<[Span]>, &'a mut Vec<f64>, Option<&'a mut Vec<f64>>);

fn add_buckets((spans, counts, lost): Side<'_>, other: (&Arc<[Span]>, &[f64]), term: Term) {
    if other.1.is_empty() {
        return;
    }
    let same = counts.len() == other.1.len() && (Arc::ptr_eq(spans, other.0) || *spans == *other.0);
    if same {
        match lost {
            None => counts.iter_mut().zip(other.1).for_each(|(sum, count)| *sum += term.of(*count)),
            Some(lost) => {
                let terms = counts.iter_mut().zip(lost).zip(other.1);
                terms.for_each(|((sum, lost), count)| put(sum, lost, term.of(*count)));
            }
        }
        return;
    }
    let mut lost = lost;
    if !covers((spans, counts.len()), (other.0, other.1.len())) {
        let (joined, length) = union((spans, counts.len()), (other.0, other.1.len()));
        if let Some(lost) = lost.as_deref_mut() {
            *lost = moved(spans, lost, &joined, length);
        }
        *counts = moved(spans, counts, &joined, length);
        *spans = joined;
    }
    for_each_place((spans, counts.len()), other.0, other.1, |at, count| {
        match lost.as_deref_mut() {
            None => counts[at] += term.of(count),
            Some(lost) => put(&mut counts[at], &mut lost[at], term.of(count)),
        }
    });
}

/// A mean: of the sum as long as that is finite, incremental from then on.
#[derive(Debug, Clone)]
pub(crate) struct Mean {
    sum: Sum,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub(crate) fn of(first: FloatHistogram) -> Self {
        Self { sum: Sum::compensated(first), count: 1.0, incremental: false }
    }

    pub(crate) fn add(&mut self, other: &FloatHistogram) -> Result<Added, Incompatible> {
        self.count += 1.0;
        if !self.incremental {
            // Whether it overflows is known afterwards; only numbers near the limit need a way back.
            let before = self.is_large(other).then(|| self.sum.clone());
            let added = self.sum.add(other, Term::Plus)?;
            let Some(before) = before.filter(|_| self.sum.overflowed()) else { return Ok(added) };
            self.sum = before;
            self.incremental = true;
            self.sum.divide(self.count - 1.0);
        }
        self.sum.weigh((self.count - 1.0) / self.count);
        self.sum.add(other, Term::Divided(self.count))
    }

    /// Whether the next sum may be more than floats can hold.
    fn is_large(&self, other: &FloatHistogram) -> bool {
        let large = |h: &FloatHistogram| {
            let numbers = [h.count, h.sum, h.zero_count];
            numbers.iter().chain(&h.positive).chain(&h.negative).any(|v| v.abs() > f64::MAX / 4.0)
        };
        large(&self.sum.value) || large(other)
    }

    pub(crate) fn value(&self) -> &FloatHistogram {
        &self.sum.value
    }

    pub(crate) fn total(mut self) -> FloatHistogram {
        if !self.incremental {
            self.sum.divide(self.count);
        }
        self.sum.total()
    }
}

/// Multiplies every count. What is multiplied by a negative number is no counter any more.
pub(crate) fn scale(h: &mut FloatHistogram, by: f64) {
    h.count *= by;
    h.sum *= by;
    if !h.has_custom_bounds() {
        h.zero_count *= by;
    }
    h.positive.iter_mut().chain(&mut h.negative).for_each(|count| *count *= by);
    if by < 0.0 {
        h.reset_hint = ResetHint::Gauge;
    }
}

/// Divides every count. Nothing is left of the buckets after a division by zero.
pub(crate) fn divide(h: &mut FloatHistogram, by: f64) {
    h.count /= by;
    h.sum /= by;
    if !h.has_custom_bounds() {
        h.zero_count /= by;
    }
    h.positive.iter_mut().chain(&mut h.negative).for_each(|count| *count /= by);
    if by < 0.0 {
        h.reset_hint = ResetHint::Gauge;
    }
    if by == 0.0 {
        h.positive.fill(0.0);
        h.negative.fill(0.0);
        compact(h);
    }
}

/// Removes buckets without observations.
pub(crate) fn compact(h: &mut FloatHistogram) {
    for (spans, counts) in
        [(&mut h.positive_spans, &mut h.positive), (&mut h.negative_spans, &mut h.negative)]
    {
        if counts.contains(&0.0) {
            let filled = indexed_buckets(spans, counts).filter(|(_, count)| *count != 0.0);
            (*spans, *counts) = buckets_from(filled);
        } else if counts.is_empty() && !spans.is_empty() {
            *spans = Arc::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::same;
    use crate::histogram::testing::{custom, exponential};

    #[track_caller]
    fn check(a: &FloatHistogram, b: &FloatHistogram, term: Term, expected: &FloatHistogram) {
        for mut sum in [Sum::plain(a.clone()), Sum::compensated(a.clone())] {
            assert!(sum.add(b, term).is_ok());
            let mut total = sum.total();
            compact(&mut total);
            assert!(same(&total, expected), "{total:?}\n{expected:?}");
        }
    }

    #[test]
    fn buckets_are_added_where_they_lie() {
        let a = exponential(0, 0.001, 1.0, &[(0, 1.0), (1, 2.0)], &[(5, 1.0)]);
        let b = exponential(0, 0.001, 2.0, &[(1, 1.0), (4, 2.0)], &[(-5, 1.0)]);
        let sum =
            exponential(0, 0.001, 3.0, &[(0, 1.0), (1, 3.0), (4, 2.0)], &[(-5, 1.0), (5, 1.0)]);
        check(&a, &b, Term::Plus, &sum);
        check(&sum, &b, Term::Minus, &a);
        check(&a, &a, Term::Minus, &exponential(0, 0.001, 0.0, &[], &[]));
    }

    #[test]
    fn the_coarser_schema_and_the_wider_zero_bucket_win() {
        let fine = exponential(1, 0.0, 0.0, &[(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0)], &[]);
        let coarse = exponential(0, 0.0, 0.0, &[(1, 1.0)], &[(1, 1.0)]);
        let sum = exponential(0, 0.0, 0.0, &[(0, 1.0), (1, 7.0), (2, 8.0)], &[(1, 1.0)]);
        check(&fine, &coarse, Term::Plus, &sum);
        check(&coarse, &fine, Term::Plus, &sum);
        let wide = exponential(0, 2.0, 1.0, &[(2, 1.0)], &[]);
        let mut sum = exponential(0, 2.0, 8.0, &[(2, 9.0)], &[]);
        sum.sum = 16.0;
        check(&fine, &wide, Term::Plus, &sum);
        check(&wide, &fine, Term::Plus, &sum);
    }

    #[test]
    fn custom_bounds_that_differ_are_reduced_to_the_common_ones() {
        let a = custom(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 1.0]);
        let b = custom(&[2.0, 4.0], &[10.0, 10.0, 10.0]);
        check(&a, &b, Term::Plus, &custom(&[2.0], &[12.0, 22.0]));
        let mut sum = Sum::plain(a.clone());
        assert_eq!(sum.add(&b, Term::Plus), Ok(Added { collision: false, reconciled: true }));
        assert_eq!(sum.add(&exponential(0, 0.0, 0.0, &[], &[]), Term::Plus), Err(Incompatible));
    }

    #[test]
    fn sums_of_many_make_good_what_rounding_loses() {
        let of = |sum: f64| FloatHistogram { sum, ..exponential(0, 0.0, 0.0, &[(0, sum)], &[]) };
        let mut sum = Sum::compensated(of(1.0));
        for term in [1e100, 1.0, -1e100] {
            assert!(sum.add(&of(term), Term::Plus).is_ok());
        }
        assert_eq!(sum.total().sum, 2.0);
    }

    #[test]
    fn means_do_not_overflow() {
        let of = |count: f64| FloatHistogram { count, ..exponential(0, 0.0, 0.0, &[], &[]) };
        let mut mean = Mean::of(of(f64::MAX));
        assert!(mean.add(&of(f64::MAX)).is_ok());
        assert_eq!(mean.total().count, f64::MAX);
        let mut mean = Mean::of(of(1.0));
        assert!([2.0, 6.0].iter().all(|count| mean.add(&of(*count)).is_ok()));
        assert_eq!(mean.total().count, 3.0);
    }

    #[test]
    fn hints_of_resets_are_joined() {
        use ResetHint::{Gauge, No, Unknown, Yes};
        for (a, b, joined, collision) in [
            (Unknown, Unknown, Unknown, false),
            (No, No, No, false),
            (No, Unknown, Unknown, false),
            (No, Gauge, Gauge, false),
            (Gauge, Yes, Gauge, false),
            (Yes, No, Unknown, true),
            (Yes, Yes, Yes, false),
        ] {
            let of =
                |reset_hint| FloatHistogram { reset_hint, ..exponential(0, 0.0, 0.0, &[], &[]) };
            let mut sum = Sum::plain(of(a));
            let added = sum.add(&of(b), Term::Plus);
            assert_eq!(added.map(|a| a.collision), Ok(collision), "{a:?} {b:?}");
            assert_eq!(sum.total().reset_hint, joined, "{a:?} {b:?}");
        }
    }

    #[test]
    fn multiples_and_shares() {
        let mut h = exponential(0, 0.001, 3.0, &[(0, 3.0)], &[(0, 6.0)]);
        scale(&mut h, -2.0);
        assert_eq!(
            (h.count, h.zero_count, h.positive[0], h.reset_hint),
            (-24.0, -6.0, -6.0, ResetHint::Gauge)
        );
        divide(&mut h, 0.0);
        assert!(h.count.is_infinite() && h.positive.is_empty() && h.negative_spans.is_empty());
    }
}
