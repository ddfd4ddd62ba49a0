//! Native histograms within a job's limits: made coarser until they fit (`scrape/target.go`,
//! `bucketLimitAppender`, `maxSchemaAppender`).

use model::{Buckets, Histogram};

use crate::native::{SCHEMA_MAX, SCHEMA_MIN, coarsened};

/// A histogram with at most so many buckets, each at least `factor` times as wide as the one before.
/// `None` if even the coarsest has too many. 0 means no limit of either.
pub(super) fn fitted(histogram: Histogram, buckets_max: u64, factor: f64) -> Option<Histogram> {
    // Custom buckets cannot be made coarser.
    let is_exponential = (SCHEMA_MIN..=SCHEMA_MAX).contains(&histogram.schema);
    let mut fitting = histogram;
    if is_exponential && factor > 1.0 {
        let schema = schema_of(factor);
        if fitting.schema > schema {
            fitting = coarsened(&fitting, fitting.schema.abs_diff(schema))?;
        }
    }
    while buckets_max > 0 && buckets(&fitting) > buckets_max {
        if !is_exponential || fitting.schema <= SCHEMA_MIN {
            return None;
        }
        fitting = coarsened(&fitting, 1)?;
    }
    Some(fitting)
}

/// The finest schema whose buckets grow by at least `factor`.
fn schema_of(factor: f64) -> i32 {
    let schema = -factor.log2().log2();
    (schema.floor() as i32).clamp(SCHEMA_MIN, SCHEMA_MAX)
}

fn buckets(histogram: &Histogram) -> u64 {
    let count = match &histogram.buckets {
        Buckets::Integer { positive_deltas, negative_deltas, .. } => {
            positive_deltas.len() + negative_deltas.len()
        }
        Buckets::Float { positive, negative, .. } => positive.len() + negative.len(),
    };
    count as u64
}

#[cfg(test)]
mod tests {
    use model::{ResetHint, Span};

    use super::*;

    fn histogram(schema: i32, buckets: usize) -> Histogram {
        let mut positive_deltas = vec![0; buckets];
        positive_deltas[0] = 1;
        Histogram {
            reset_hint: ResetHint::Unknown,
            schema,
            zero_threshold: 0.0,
            sum: 1.0,
            positive_spans: vec![Span { offset: 1, length: buckets as u32 }],
            negative_spans: vec![],
            buckets: Buckets::Integer {
                count: buckets as u64,
                zero_count: 0,
                positive_deltas,
                negative_deltas: vec![],
            },
            custom_values: vec![],
        }
    }

    #[test]
    fn histograms_are_made_coarser_until_they_fit() {
        for (from, buckets_max, factor, to) in [
            ((3, 160), 0, 0.0, Some((3, 160))),
            ((3, 160), 160, 0.0, Some((3, 160))),
            ((3, 160), 80, 0.0, Some((2, 80))),
            ((3, 160), 79, 0.0, Some((1, 40))),
            ((8, 160), 0, 1.1, Some((2, 3))),
            ((3, 8), 0, 2.0, Some((0, 1))),
            ((3, 8), 0, 65_536.0, Some((-4, 1))),
            ((-4, 9), 8, 0.0, None),
            ((-53, 9), 8, 0.0, None),
            ((-53, 9), 0, 4.0, Some((-53, 9))),
        ] {
            let fitted = fitted(histogram(from.0, from.1), buckets_max, factor);
            let found = fitted.map(|h| (h.schema, buckets(&h)));
            assert_eq!(found, to, "{from:?} {buckets_max} {factor}");
        }
    }

    #[test]
    fn factors_are_rounded_up_to_schemas() {
        for (factor, schema) in [(1.01, 6), (1.1, 2), (1.5, 0), (2.0, 0), (2.1, -1), (65_536.0, -4)]
        {
            assert_eq!(schema_of(factor), schema, "{factor}");
        }
    }
}
