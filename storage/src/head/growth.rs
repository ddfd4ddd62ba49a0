//! Whether a native histogram goes on from the one before it: what Prometheus' chunks tell of counter
//! resets (`tsdb/chunkenc`, `counterResetHint`).
//!
//! Asked when a histogram comes in, so that whoever reads only from it on knows it too.

use model::{Buckets, Histogram, ResetHint, Span};

/// Whether there was no reset between two histograms that could stand in one chunk of Prometheus.
pub(super) fn goes_on(h: &Histogram, before: &Histogram) -> bool {
    let same_bits = |a: &[f64], b: &[f64]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    if h.is_stale()
        || before.is_stale()
        || before.reset_hint == ResetHint::Gauge
        || h.schema != before.schema
        || h.zero_threshold != before.zero_threshold
        || !same_bits(&h.custom_values, &before.custom_values)
    {
        return false;
    }
    let (positive, negative) = (places(&h.positive_spans), places(&h.negative_spans));
    let old_positive = places(&before.positive_spans);
    let old_negative = places(&before.negative_spans);
    match (&h.buckets, &before.buckets) {
        (
            Buckets::Integer { count, zero_count, positive_deltas, negative_deltas },
            Buckets::Integer {
                count: old_count,
                zero_count: old_zero_count,
                positive_deltas: old_positive_deltas,
                negative_deltas: old_negative_deltas,
            },
        ) => {
            count >= old_count
                && zero_count >= old_zero_count
                && has_grown(
                    positive.zip(counts(positive_deltas)),
                    old_positive.zip(counts(old_positive_deltas)),
                )
                && has_grown(
                    negative.zip(counts(negative_deltas)),
                    old_negative.zip(counts(old_negative_deltas)),
                )
        }
        (
            Buckets::Float { count, zero_count, positive: p, negative: n },
            Buckets::Float {
                count: old_count,
                zero_count: old_zero_count,
                positive: old_p,
                negative: old_n,
            },
        ) => {
            let (p, old_p) = (p.iter().copied(), old_p.iter().copied());
            let (n, old_n) = (n.iter().copied(), old_n.iter().copied());
            count >= old_count
                && zero_count >= old_zero_count
                && has_grown(positive.zip(p), old_positive.zip(old_p))
                && has_grown(negative.zip(n), old_negative.zip(old_n))
        }
        _ => false,
    }
}

/// The numbers of the buckets that spans have.
fn places(spans: &[Span]) -> impl Iterator<Item = i64> {
    let span = |end: &mut i64, span: &Span| {
        let start = end.saturating_add(i64::from(span.offset));
        *end = start.saturating_add(i64::from(span.length));
        Some(start..*end)
    };
    spans.iter().scan(0, span).flatten()
}

/// Counts that are kept as differences to the one before.
fn counts(deltas: &[i64]) -> impl Iterator<Item = i64> {
    deltas.iter().scan(0i64, |count, delta| {
        *count = count.wrapping_add(*delta);
        Some(*count)
    })
}

/// Whether no bucket had more observations before. One that is not there has none.
fn has_grown<T: PartialOrd + Default>(
    now: impl Iterator<Item = (i64, T)>,
    before: impl Iterator<Item = (i64, T)>,
) -> bool {
    let mut now = now.peekable();
    for (place, count) in before.filter(|(_, count)| *count != T::default()) {
        while now.next_if(|(at, _)| *at < place).is_some() {}
        if now.next_if(|(at, _)| *at == place).is_none_or(|(_, now)| now < count) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(count: u64, zero_count: u64, spans: &[(i32, u32)], deltas: &[i64]) -> Histogram {
        let span = |&(offset, length): &(i32, u32)| Span { offset, length };
        Histogram {
            reset_hint: ResetHint::Unknown,
            schema: 1,
            zero_threshold: 0.001,
            sum: 1.0,
            positive_spans: spans.iter().map(span).collect(),
            negative_spans: vec![],
            buckets: Buckets::Integer {
                count,
                zero_count,
                positive_deltas: deltas.to_vec(),
                negative_deltas: vec![],
            },
            custom_values: vec![],
        }
    }

    /// The same with float counts, on the negative side.
    fn float(of: &Histogram) -> Histogram {
        let Buckets::Integer { count, zero_count, positive_deltas, .. } = &of.buckets else {
            return of.clone();
        };
        let buckets = Buckets::Float {
            count: *count as f64,
            zero_count: *zero_count as f64,
            positive: vec![],
            negative: counts(positive_deltas).map(|count| count as f64).collect(),
        };
        let (positive_spans, negative_spans) = (vec![], of.positive_spans.clone());
        Histogram { positive_spans, negative_spans, buckets, ..of.clone() }
    }

    #[track_caller]
    fn check(before: &Histogram, h: &Histogram, expected: bool) {
        assert_eq!(goes_on(h, before), expected, "{before:?}\n{h:?}");
        assert_eq!(goes_on(&float(h), &float(before)), expected, "as floats");
        assert!(!goes_on(&float(h), before), "kinds differ");
    }

    #[test]
    fn counters_go_on_as_long_as_nothing_falls() {
        let before = integer(10, 2, &[(0, 2), (1, 1)], &[3, 1, -3]);
        check(&before, &before, true);
        check(&before, &integer(12, 2, &[(0, 2), (1, 1)], &[3, 1, -1]), true);
        check(&before, &integer(9, 2, &[(0, 2), (1, 1)], &[3, 1, -3]), false);
        check(&before, &integer(10, 1, &[(0, 2), (1, 1)], &[3, 1, -3]), false);
        check(&before, &integer(11, 2, &[(0, 2), (1, 1)], &[3, 0, 0]), false);
        // Buckets may come, and go if they were empty.
        check(&before, &integer(15, 2, &[(-1, 4), (0, 2)], &[1, 2, 1, -4, 1, 9]), true);
        check(&before, &integer(15, 2, &[(0, 2)], &[3, 1]), false);
        check(&integer(3, 0, &[(0, 2)], &[3, -3]), &integer(3, 0, &[(0, 1)], &[3]), true);
    }

    #[test]
    fn what_could_not_stand_in_one_chunk_does_not_go_on() {
        let before = integer(10, 2, &[(0, 1)], &[8]);
        for other in [
            Histogram { schema: 0, ..before.clone() },
            Histogram { zero_threshold: 0.01, ..before.clone() },
            Histogram { custom_values: vec![1.0], ..before.clone() },
            Histogram { sum: model::stale_nan(), ..before.clone() },
        ] {
            check(&before, &other, false);
            check(&other, &before, false);
        }
        let gauge = Histogram { reset_hint: ResetHint::Gauge, ..before.clone() };
        check(&gauge, &before, false);
    }
}
