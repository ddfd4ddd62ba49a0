//! Buckets of one sign: the places of two operands joined, counts moved to new places and added.

use std::sync::Arc;

use model::Span;

/// A run of buckets: the index of the first, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: i64,
    length: usize,
}

impl Run {
    fn end(self) -> i64 {
        self.first + self.length as i64
    }
}

/// The runs of so many buckets; more than there are counts is not believed.
fn runs(spans: &[Span], mut counts: usize) -> impl Iterator<Item = Run> + '_ {
    let mut next = 0i64;
    spans.iter().map_while(move |span| {
        if counts == 0 {
            return None;
        }
        let length = counts.min(span.length as usize);
        counts -= length;
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        Some(Run { first, length })
    })
}

/// The places of either operand, as spans and how many they are.
pub(super) fn union(a: (&[Span], usize), b: (&[Span], usize)) -> (Arc<[Span]>, usize) {
    let (mut a, mut b) = (runs(a.0, a.1).peekable(), runs(b.0, b.1).peekable());
    let mut joined: Vec<Run> = Vec::new();
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.first <= y.first => a.next(),
            (Some(_), None) => a.next(),
            _ => b.next(),
        };
        let Some(next) = next.filter(|run| run.length > 0) else {
            if a.peek().is_none() && b.peek().is_none() {
                break;
            }
            continue;
        };
        match joined.last_mut().filter(|last| next.first <= last.end()) {
            Some(last) => {
                let end = last.end().max(next.end());
                last.length = usize::try_from(end - last.first).unwrap_or(0);
            }
            None => joined.push(next),
        }
    }
    let mut before = 0i64;
    let mut count = 0;
    let spans = joined.iter().map(|run| {
        let span = Span { offset: (run.first - before) as i32, length: run.length as u32 };
        before = run.end();
        count += run.length;
        span
    });
    (spans.collect(), count)
}

/// Whether all places of `inner` are in `outer`.
pub(super) fn covers(outer: (&[Span], usize), inner: (&[Span], usize)) -> bool {
    let mut outer = runs(outer.0, outer.1).peekable();
    runs(inner.0, inner.1).filter(|run| run.length > 0).all(|run| {
        while outer.next_if(|o| o.end() < run.end()).is_some() {}
        outer.peek().is_some_and(|o| o.first <= run.first && run.end() <= o.end())
    })
}

/// Calls with positions in `to` and in `from` of buckets that lie at the same place: start in
/// `to`, start in `from`, and how many follow. All places of `from` must be in `to`.
fn placed(to: (&[Span], usize), from: (&[Span], usize), mut each: impl FnMut(usize, usize, usize)) {
    let mut outer = runs(to.0, to.1).peekable();
    let (mut outer_at, mut inner_at) = (0, 0);
    for run in runs(from.0, from.1) {
        while let Some(passed) = outer.next_if(|o| o.end() < run.end()) {
            outer_at += passed.length;
        }
        let Some(home) = outer.peek().filter(|home| home.first <= run.first) else { return };
        let inside = (run.first - home.first) as usize;
        let count = run.length.min(home.length.saturating_sub(inside));
        if count > 0 {
            each(outer_at + inside, inner_at, count);
        }
        inner_at += run.length;
    }
}

/// Counts at new places, which are the old ones and more.
pub(super) fn moved(spans: &[Span], counts: &[f64], to: &[Span], length: usize) -> Vec<f64> {
    let mut out = vec![0.0; length];
    placed((to, length), (spans, counts.len()), |at, from, count| {
        out[at..at + count].copy_from_slice(&counts[from..from + count]);
    });
    out
}

/// Hands each count of `from` and its position in `to`, in order.
pub(super) fn for_each_place(
    to: (&[Span], usize),
    spans: &[Span],
    counts: &[f64],
    mut each: impl FnMut(usize, f64),
) {
    placed(to, (spans, counts.len()), |at, from, count| {
        for (i, value) in counts[from..from + count].iter().enumerate() {
            each(at + i, *value);
        }
    });
}

#[cfg(test)]
mod tests {
    use query::histogram::layout::{buckets_from, indexed_buckets};

    use super::*;

    /// Adds with spans and with a map; both must agree.
    #[track_caller]
    fn check(a: &[i32], b: &[i32]) {
        let counted = |indexes: &[i32], by: f64| {
            buckets_from(indexes.iter().enumerate().map(|(n, i)| (*i, (n as f64 + 1.0) * by)))
        };
        let ((a_spans, a_counts), (b_spans, b_counts)) = (counted(a, 1.0), counted(b, 100.0));
        let (spans, length) = union((&a_spans, a.len()), (&b_spans, b.len()));
        let mut sum = moved(&a_spans, &a_counts, &spans, length);
        for_each_place((&spans, length), &b_spans, &b_counts, |at, count| sum[at] += count);
        let mut plain = std::collections::BTreeMap::new();
        for (index, count) in
            indexed_buckets(&a_spans, &a_counts).chain(indexed_buckets(&b_spans, &b_counts))
        {
            *plain.entry(index).or_insert(0.0) += count;
        }
        let plain: Vec<(i32, f64)> = plain.into_iter().collect();
        assert_eq!(indexed_buckets(&spans, &sum).collect::<Vec<_>>(), plain, "{a:?} + {b:?}");
        assert!(covers((&spans, length), (&a_spans, a.len())));
        assert!(covers((&spans, length), (&b_spans, b.len())));
        assert_eq!(
            covers((&a_spans, a.len()), (&b_spans, b.len())),
            b.iter().all(|i| a.contains(i))
        );
    }

    #[test]
    fn places_are_joined() {
        let all: [&[i32]; 9] = [
            &[],
            &[0],
            &[-3],
            &[0, 1, 2],
            &[2, 3, 9],
            &[-5, -4, 0, 1, 2, 3, 9, 10],
            &[1, 3, 5, 7],
            &[0, 2, 4, 6, 8],
            &[3, 4],
        ];
        all.iter().for_each(|a| all.iter().for_each(|b| check(a, b)));
    }

    #[test]
    fn damaged_spans_do_not_panic() {
        let wild = [Span { offset: i32::MAX, length: u32::MAX }, Span { offset: 9, length: 3 }];
        let none = [Span { offset: 0, length: 0 }, Span { offset: 3, length: 0 }];
        for (a, b) in [(&wild, &none), (&none, &wild), (&wild, &wild)] {
            let (spans, length) = union((a, 5), (b, 4));
            let _ = moved(a, &[1.0; 5], &spans, length);
            for_each_place((&spans, length), b, &[1.0; 4], |at, _| assert!(at < length));
        }
    }
}
