//! Arithmetic on the buckets of native histograms: from spans and counts to single buckets and
//! back, and to coarser schemas.

use model::{Buckets, Histogram, Span};

/// The finest schema that is stored; up to [`SCHEMA_LAST`] finer ones are made coarser.
pub(crate) const SCHEMA_MAX: i32 = 8;
/// The coarsest schema there is.
pub(crate) const SCHEMA_MIN: i32 = -4;
/// The finest schema that the formats reserve.
const SCHEMA_LAST: i32 = 52;

/// Brings a histogram of a schema that is finer than stored ones to the finest of them, as
/// Prometheus does (`scrape`, `ReduceResolution`). What makes no sense is left as it is, to be
/// refused where it is checked.
pub(crate) fn fit(histogram: &mut Histogram) {
    if (SCHEMA_MAX + 1..=SCHEMA_LAST).contains(&histogram.schema) {
        let by = histogram.schema.abs_diff(SCHEMA_MAX);
        if let Some(reduced) = reduced(histogram, by) {
            *histogram = Histogram { schema: SCHEMA_MAX, ..reduced };
        }
    }
}

/// The same histogram in a schema that is coarser by so much; `None` if it makes no sense.
pub(crate) fn coarsened(histogram: &Histogram, by: u32) -> Option<Histogram> {
    let schema = histogram.schema.checked_sub_unsigned(by)?;
    reduced(histogram, by).map(|reduced| Histogram { schema, ..reduced })
}

fn reduced(histogram: &Histogram, by: u32) -> Option<Histogram> {
    let (positive, negative) = (&histogram.positive_spans, &histogram.negative_spans);
    let (positive_spans, negative_spans, buckets) = match &histogram.buckets {
        Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => {
            let side = |spans, deltas| {
                let coarse = coarser(spread(spans, &absolute(deltas)?)?, by, i64::checked_add)?;
                let counts: Vec<i64> = coarse.iter().map(|(_, n)| *n).collect();
                Some((spans_of(&coarse)?, deltas_of(&counts)))
            };
            let (positive_spans, positive_deltas) = side(positive, positive_deltas)?;
            let (negative_spans, negative_deltas) = side(negative, negative_deltas)?;
            let (count, zero_count) = (*count, *zero_count);
            let buckets = Buckets::Integer { count, zero_count, positive_deltas, negative_deltas };
            (positive_spans, negative_spans, buckets)
        }
        Buckets::Float { count, zero_count, positive: p, negative: n } => {
            let side = |spans, counts: &[f64]| {
                let coarse = coarser(spread(spans, counts)?, by, |a, b| Some(a + b))?;
                let counts: Vec<f64> = coarse.iter().map(|(_, n)| *n).collect();
                Some((spans_of(&coarse)?, counts))
            };
            let (positive_spans, positive) = side(positive, p)?;
            let (negative_spans, negative) = side(negative, n)?;
            let (count, zero_count) = (*count, *zero_count);
            let buckets = Buckets::Float { count, zero_count, positive, negative };
            (positive_spans, negative_spans, buckets)
        }
    };
    Some(Histogram { positive_spans, negative_spans, buckets, ..histogram.clone() })
}

/// Counts that were written as differences to the one before.
fn absolute(deltas: &[i64]) -> Option<Vec<i64>> {
    let mut count = 0i64;
    deltas
        .iter()
        .map(|delta| {
            count = count.checked_add(*delta)?;
            Some(count)
        })
        .collect()
}

/// Counts as differences to the one before.
pub(crate) fn deltas_of(counts: &[i64]) -> Vec<i64> {
    let before = std::iter::once(0).chain(counts.iter().copied());
    counts.iter().zip(before).map(|(count, before)| count.wrapping_sub(before)).collect()
}

/// Whether each side has as many buckets as its spans say, in ascending order.
pub(crate) fn spans_fit(histogram: &Histogram) -> bool {
    let fits = |spans: &[Span], buckets: usize| spread(spans, &vec![(); buckets]).is_some();
    let (positive, negative) = match &histogram.buckets {
        Buckets::Integer { positive_deltas, negative_deltas, .. } => {
            (positive_deltas.len(), negative_deltas.len())
        }
        Buckets::Float { positive, negative, .. } => (positive.len(), negative.len()),
    };
    fits(&histogram.positive_spans, positive) && fits(&histogram.negative_spans, negative)
}

/// Each bucket with its index; `None` if spans and counts do not fit.
fn spread<T: Copy>(spans: &[Span], counts: &[T]) -> Option<Vec<(i64, T)>> {
    let length: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if length != counts.len() as u64 {
        return None;
    }
    let (mut index, mut counts) = (0i64, counts.iter());
    let mut buckets = Vec::with_capacity(counts.len());
    for span in spans {
        index = index.checked_add(i64::from(span.offset))?;
        for count in counts.by_ref().take(span.length as usize) {
            buckets.push((index, *count));
            index += 1;
        }
    }
    buckets.is_sorted_by(|a, b| a.0 < b.0).then_some(buckets)
}

/// The same observations in buckets that are `2^by` times as wide on a logarithmic scale. Bucket
/// `i` ends at `base^i`, so the last of those that become one decides its index.
pub(crate) fn coarser<T: Copy>(
    buckets: Vec<(i64, T)>,
    by: u32,
    add: impl Fn(T, T) -> Option<T>,
) -> Option<Vec<(i64, T)>> {
    let mut coarse: Vec<(i64, T)> = Vec::with_capacity(buckets.len());
    for (index, count) in buckets {
        let index = ((index - 1) >> by.min(63)) + 1;
        match coarse.last_mut() {
            Some((last, sum)) if *last == index => *sum = add(*sum, count)?,
            _ => coarse.push((index, count)),
        }
    }
    Some(coarse)
}

/// Spans of buckets in ascending order; `None` if an index does not fit.
pub(crate) fn spans_of<T>(buckets: &[(i64, T)]) -> Option<Vec<Span>> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i64;
    for (index, _) in buckets {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: i32::try_from(index - next).ok()?, length: 1 }),
        }
        next = index + 1;
    }
    Some(spans)
}

#[cfg(test)]
mod tests {
    use model::ResetHint;

    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    fn histogram(schema: i32, spans: &[Span], buckets: Buckets) -> Histogram {
        Histogram {
            reset_hint: ResetHint::Unknown,
            schema,
            zero_threshold: 0.0,
            sum: 1.0,
            positive_spans: spans.to_vec(),
            negative_spans: vec![],
            buckets,
            custom_values: vec![],
        }
    }

    fn integer(deltas: &[i64]) -> Buckets {
        let positive_deltas = deltas.to_vec();
        Buckets::Integer { count: 9, zero_count: 1, positive_deltas, negative_deltas: vec![] }
    }

    fn float(counts: &[f64]) -> Buckets {
        let positive = counts.to_vec();
        Buckets::Float { count: 9.0, zero_count: 1.0, positive, negative: vec![] }
    }

    #[track_caller]
    fn check(mut from: Histogram, to: &Histogram) {
        fit(&mut from);
        assert_eq!(from, *to);
    }

    #[test]
    fn finer_schemas_become_the_finest_stored() {
        // Buckets 1 and 2 become 1, 3 and 4 become 2, 5 becomes 3, 9 becomes 5.
        let from = histogram(9, &[span(1, 5), span(3, 1)], integer(&[1, 1, -1, 2, 0, 4]));
        check(from, &histogram(8, &[span(1, 3), span(1, 1)], integer(&[3, 1, -1, 4])));
        let from = histogram(9, &[span(-1, 3)], float(&[0.5, 1.0, 2.0]));
        check(from, &histogram(8, &[span(0, 2)], float(&[1.5, 2.0])));
        let from = histogram(52, &[span(i32::MAX, 1)], integer(&[4]));
        check(from, &histogram(8, &[span(1, 1)], integer(&[4])));
        for schema in [8, 0, -4, -53, 53, 100] {
            let same = histogram(schema, &[span(0, 1)], integer(&[4]));
            check(same.clone(), &same);
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_to_be_refused() {
        for wrong in [
            histogram(9, &[span(0, 2)], integer(&[4])),
            histogram(9, &[span(0, u32::MAX)], integer(&[4])),
            histogram(9, &[span(0, 1), span(-1, 1)], integer(&[4, 0])),
            histogram(9, &[span(0, 2)], integer(&[i64::MAX, 1])),
            histogram(9, &[span(1, 2)], integer(&[i64::MAX, 0])),
        ] {
            check(wrong.clone(), &wrong);
        }
    }
}
