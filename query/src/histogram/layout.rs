//! Where buckets lie: spans as runs of indexes, and from indexes back to spans.

use std::sync::Arc;

use model::Span;

/// Buckets of one sign: where they lie, and their counts.
pub type Buckets = (Arc<[Span]>, Vec<f64>);

/// Each count with the index of its bucket. As many as there are counts, whatever the spans say.
pub fn indexed_buckets<'a>(
    spans: &'a [Span],
    counts: &'a [f64],
) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add(span.length as i32);
        (0..span.length).map(move |i| first.wrapping_add(i as i32))
    });
    indexes.zip(counts.iter().copied())
}

/// Spans and counts of buckets that come in order of their index.
pub fn buckets_from(indexed: impl Iterator<Item = (i32, f64)>) -> Buckets {
    let (mut spans, mut counts): (Vec<Span>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = 0i32;
    for (index, count) in indexed {
        match spans.last_mut() {
            Some(last) if index == next => last.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
        }
        next = index.wrapping_add(1);
        counts.push(count);
    }
    (spans.into(), counts)
}

/// The buckets of a coarser schema, `by` steps down: each holds 2^`by` of the finer ones.
pub fn reduced_buckets(spans: &[Span], counts: &[f64], by: u32) -> Buckets {
    let mut buckets = indexed_buckets(spans, counts)
        .map(|(index, count)| (coarser_index(index, by), count))
        .peekable();
    buckets_from(std::iter::from_fn(move || {
        let (index, mut total) = buckets.next()?;
        while let Some((_, count)) = buckets.next_if(|(i, _)| *i == index) {
            total += count;
        }
        Some((index, total))
    }))
}

/// The bucket of a schema `by` steps coarser that holds the bucket with this index.
pub fn coarser_index(index: i32, by: u32) -> i32 {
    (((i64::from(index) - 1) >> by.min(62)) + 1) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(indexes: &[i32], by: u32, expected: &[(i32, f64)]) {
        let (spans, counts) = buckets_from(indexes.iter().map(|i| (*i, 1.0)));
        assert_eq!(
            indexed_buckets(&spans, &counts).map(|(i, _)| i).collect::<Vec<_>>(),
            indexes,
            "there and back"
        );
        let (spans, counts) = reduced_buckets(&spans, &counts, by);
        assert_eq!(indexed_buckets(&spans, &counts).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn coarser_buckets_hold_finer_ones() {
        check(&[], 1, &[]);
        check(&[0, 1, 2, 3, 7], 0, &[(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (7, 1.0)]);
        check(&[0, 1, 2, 3, 7], 1, &[(0, 1.0), (1, 2.0), (2, 1.0), (4, 1.0)]);
        check(&[-3, -2, -1, 0, 5], 2, &[(0, 4.0), (2, 1.0)]);
        check(&[i32::MIN, i32::MAX], 44, &[(0, 1.0), (1, 1.0)]);
    }
}
