//! Histograms as they come from the store: with absolute counts, and with what the sample before
//! tells of counter resets.

use std::sync::Arc;

use model::{Histogram, ResetHint};
use query::FloatHistogram;

use super::reset::fell;

/// What histograms show of resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// That there was none, as Prometheus' chunks do.
    NoReset,
    /// That there was one, too, as Prometheus does where only counts and sums are asked for.
    Resets,
}

/// The histograms of a series, in order of time. What follows a stale marker, or comes first,
/// follows nothing: of it only its sender can know that there was no reset.
pub(crate) fn read(
    stored: &[(i64, Arc<Histogram>)],
    shows: Shows,
) -> Vec<(i64, Arc<FloatHistogram>)> {
    let mut histograms: Vec<(i64, Arc<FloatHistogram>)> = Vec::with_capacity(stored.len());
    for (at_ms, stored) in stored {
        let before = histograms.last().map(|(_, before)| &**before);
        let mut h = FloatHistogram::of_stored(stored, before);
        h.reset_hint = hint(&h, before, shows);
        histograms.push((*at_ms, Arc::new(h)));
    }
    histograms
}

fn hint(h: &FloatHistogram, before: Option<&FloatHistogram>, shows: Shows) -> ResetHint {
    let is_stale = |h: &FloatHistogram| model::is_stale(h.sum);
    match (h.reset_hint, before) {
        (ResetHint::Gauge, _) => ResetHint::Gauge,
        (ResetHint::No, None) => ResetHint::No,
        (_, None) => ResetHint::Unknown,
        (_, Some(before)) if is_stale(h) || is_stale(before) => ResetHint::Unknown,
        (hint, Some(before)) if hint == ResetHint::Yes || fell(h, before) => match shows {
            Shows::NoReset => ResetHint::Unknown,
            Shows::Resets => ResetHint::Yes,
        },
        (_, Some(before)) if shows == Shows::Resets || same_layout(h, before) => ResetHint::No,
        _ => ResetHint::Unknown,
    }
}

/// Whether they could stand in one chunk of Prometheus.
fn same_layout(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    b.reset_hint != ResetHint::Gauge
        && a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
}

#[cfg(test)]
mod tests {
    use model::{Buckets, Span};

    use super::*;

    fn stored(reset_hint: ResetHint, schema: i32, count: f64) -> Arc<Histogram> {
        Arc::new(Histogram {
            reset_hint,
            schema,
            zero_threshold: 0.0,
            sum: count,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            negative_spans: Vec::new(),
            buckets: Buckets::Float {
                count,
                zero_count: 0.0,
                positive: vec![count],
                negative: Vec::new(),
            },
            custom_values: Vec::new(),
        })
    }

    #[track_caller]
    fn check(stored: &[Arc<Histogram>], shows: Shows, expected: &[ResetHint]) {
        let series: Vec<_> = stored.iter().map(|h| (0, Arc::clone(h))).collect();
        let hints = read(&series, shows).iter().map(|(_, h)| h.reset_hint).collect::<Vec<_>>();
        assert_eq!(hints, expected);
    }

    #[test]
    fn the_sample_before_tells_of_resets() {
        use ResetHint::{Gauge, No, Unknown, Yes};
        let counter = |count| stored(Unknown, 1, count);
        let stale = stored(Unknown, 1, model::stale_nan());
        let series = [
            counter(1.0),
            counter(2.0),
            counter(1.0),
            stored(Yes, 1, 5.0),
            stored(Unknown, 0, 6.0),
            stored(Gauge, 1, 1.0),
            stored(Unknown, 1, 2.0),
            stale,
            counter(9.0),
        ];
        let hints = [Unknown, No, Unknown, Unknown, Unknown, Gauge, Unknown, Unknown, Unknown];
        check(&series, Shows::NoReset, &hints);
        let hints = [Unknown, No, Yes, Yes, No, Gauge, No, Unknown, Unknown];
        check(&series, Shows::Resets, &hints);
        check(&[stored(No, 1, 1.0)], Shows::NoReset, &[No]);
        check(&[stored(Yes, 1, 1.0)], Shows::Resets, &[Unknown]);
    }

    #[test]
    fn layouts_are_shared() {
        let histograms = read(
            &[(0, stored(ResetHint::Unknown, 1, 1.0)), (1, stored(ResetHint::Unknown, 1, 2.0))],
            Shows::NoReset,
        );
        let [(_, a), (_, b)] = &histograms[..] else { panic!("two histograms") };
        assert!(Arc::ptr_eq(&a.positive_spans, &b.positive_spans));
    }
}
