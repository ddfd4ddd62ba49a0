//! Samples become windows, and windows bytes and windows again.

use std::sync::Arc;

use model::{Buckets, Histogram, ResetHint, Resolution, Span, TimeRange, stale_nan};

use super::{HistogramWindow, Windows, fold};
use crate::codec::{Decoder, Effort, Encoder, windows};
use crate::tombstone::Ranges;
use crate::{SeriesSamples, Starts};

const NAN: f64 = f64::NAN;

fn samples(points: &[(i64, f64)]) -> SeriesSamples {
    SeriesSamples {
        timestamps: points.iter().map(|p| p.0).collect(),
        values: points.iter().map(|p| p.1).collect(),
        ..SeriesSamples::default()
    }
}

/// One window: start, then count, min, max, sum, first, last, increase, and whether it ended.
type Shown = (i64, [f64; 7], bool);

fn shown(windows: &Windows) -> Vec<Shown> {
    let w = windows;
    let one = |i: usize| {
        let figures =
            [w.count[i], w.min[i], w.max[i], w.sum[i], w.first[i], w.last[i], w.increase[i]];
        (w.starts[i], figures, w.ended[i])
    };
    (0..w.starts.len()).map(one).collect()
}

/// Points in seconds become these windows of five minutes, starts in seconds.
#[track_caller]
fn check(points: &[(i64, f64)], expected: &[Shown]) {
    let points: Vec<_> = points.iter().map(|(s, v)| (s * 1000, *v)).collect();
    let found = shown(&fold(&samples(&points), Resolution::Minutes5));
    let text = |all: &[Shown]| format!("{all:?}");
    let expected: Vec<Shown> =
        expected.iter().map(|(s, figures, ended)| (s * 1000, *figures, *ended)).collect();
    assert_eq!(text(&found), text(&expected));
}

#[test]
fn samples_become_windows() {
    check(&[], &[]);
    check(&[(7, 2.0)], &[(0, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.0], false)]);
    check(
        &[(-1, 1.0), (0, 3.0), (299, 2.0), (300, 9.0)],
        &[
            (-300, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0], false),
            (0, [2.0, 2.0, 3.0, 5.0, 3.0, 2.0, 2.0], false), // a reset: 2 from zero
            (300, [1.0, 9.0, 9.0, 9.0, 9.0, 9.0, 0.0], false),
        ],
    );
    // A counter with a restart.
    check(
        &[(0, 10.0), (15, 14.0), (30, 3.0), (45, 8.0)],
        &[(0, [4.0, 3.0, 14.0, 35.0, 10.0, 8.0, 12.0], false)],
    );
}

/// Increases of windows of five minutes, from points in seconds: instant, start, value.
#[track_caller]
fn check_starts(points: &[(i64, i64, f64)], expected: &[f64]) {
    let values: Vec<_> = points.iter().map(|(at, _, value)| (at * 1000, *value)).collect();
    let starts = points.iter().map(|(at, start, _)| (at * 1000, start * 1000)).collect();
    let samples = SeriesSamples { starts: Starts::of_samples(starts), ..samples(&values) };
    assert_eq!(fold(&samples, Resolution::Minutes5).increase, expected);
    // The same of native histograms with as many observations.
    let histograms = values.iter().map(|(at, value)| {
        let buckets = Buckets::Float {
            count: *value,
            zero_count: *value,
            positive: Vec::new(),
            negative: Vec::new(),
        };
        let layout = histogram(ResetHint::Unknown, 2, 1, &[]);
        let layout = Histogram { positive_spans: Vec::new(), ..layout.as_ref().clone() };
        (*at, Arc::new(Histogram { buckets, ..layout }))
    });
    let samples = SeriesSamples {
        histograms: histograms.collect(),
        timestamps: Vec::new().into(),
        values: Vec::new(),
        ..samples
    };
    let merged = fold(&samples, Resolution::Minutes5).histograms;
    let counts = merged.iter().map(|window| match window.merged.buckets {
        Buckets::Float { count, .. } => count,
        Buckets::Integer { .. } => NAN,
    });
    assert_eq!(counts.collect::<Vec<_>>(), expected);
}

#[test]
fn starts_tell_of_resets_that_values_hide() {
    check_starts(&[(10, 0, 5.0), (20, 0, 7.0), (30, 0, 9.0)], &[4.0]);
    check_starts(&[(10, 5, 5.0), (20, 5, 7.0), (30, 5, 9.0)], &[4.0]);
    check_starts(&[(10, 5, 5.0), (20, 15, 7.0), (30, 15, 9.0)], &[9.0]);
    // It began after the sample before, of which the start is unknown.
    check_starts(&[(10, 0, 5.0), (20, 15, 7.0), (30, 15, 9.0)], &[9.0]);
    // Wrong and unknown ones say nothing.
    check_starts(&[(10, 5, 5.0), (20, 25, 7.0), (30, 0, 9.0), (40, 40, 10.0)], &[5.0]);
    // Each counts from the one before on: differences.
    check_starts(&[(10, 5, 5.0), (20, 10, 7.0), (30, 20, 9.0)], &[16.0]);
    check_starts(&[(10, 0, 5.0), (20, 10, 7.0)], &[2.0]);
    // A fall is one with and without.
    check_starts(&[(10, 5, 5.0), (20, 15, 2.0), (30, 15, 3.0)], &[3.0]);
    // Each window by itself.
    check_starts(&[(10, 5, 5.0), (310, 300, 7.0), (320, 315, 8.0)], &[0.0, 8.0]);
}

#[test]
fn stale_markers_are_no_samples() {
    let stale = stale_nan();
    check(&[(0, stale), (15, stale)], &[]);
    check(&[(0, 1.0), (15, stale)], &[(0, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0], true)]);
    check(
        &[(0, 1.0), (15, stale), (30, 2.0), (310, stale)],
        &[(0, [2.0, 1.0, 2.0, 3.0, 1.0, 2.0, 1.0], false)],
    );
    check(&[(0, stale), (15, 4.0)], &[(0, [1.0, 4.0, 4.0, 4.0, 4.0, 4.0, 0.0], false)]);
}

#[test]
fn odd_values_stay_odd() {
    check(&[(0, NAN), (1, 2.0)], &[(0, [2.0, 2.0, 2.0, NAN, NAN, 2.0, 0.0], false)]);
    check(&[(0, NAN)], &[(0, [1.0, NAN, NAN, NAN, NAN, NAN, 0.0], false)]);
    let inf = f64::INFINITY;
    check(&[(0, 1.0), (1, inf), (2, 5.0)], &[(0, [3.0, 1.0, inf, inf, 1.0, 5.0, 4.0], false)]);
    // Nothing is lost to rounding on the way.
    check(
        &[(0, 1e100), (1, 1.0), (2, -1e100)],
        &[(0, [3.0, -1e100, 1e100, 1.0, 1e100, -1e100, -1e100], false)],
    );
}

/// Values as counters, gauges and noise have them.
fn shapes() -> Vec<Vec<f64>> {
    let counter = |i: u64| (i * 17 + i * i % 13) as f64;
    let reset = |i: u64| ((i % 700) * 5) as f64;
    let gauge = |i: u64| 20.0 + (i * 7919 % 100) as f64 / 10.0;
    let noise = |i: u64| ((i * 31 % 1009) as f64).sqrt();
    let flat = |_: u64| 3.5;
    let odd = |i: u64| match i % 50 {
        0 => NAN,
        1 => stale_nan(),
        2 => -0.0,
        3 => f64::INFINITY,
        _ => i as f64,
    };
    let of = |shape: &dyn Fn(u64) -> f64| (0..5760).map(shape).collect();
    vec![of(&counter), of(&reset), of(&gauge), of(&noise), of(&flat), of(&odd)]
}

fn day_of(values: &[f64]) -> Windows {
    let points: Vec<(i64, f64)> = (0..).map(|i| i * 15_000).zip(values.iter().copied()).collect();
    fold(&samples(&points), Resolution::Minutes5)
}

fn same(a: &Windows, b: &Windows) -> bool {
    let bits = |w: &Windows| w.columns().map(|c| c.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    a.starts == b.starts && bits(a) == bits(b) && a.ended == b.ended && a.histograms == b.histograms
}

#[test]
fn windows_survive_being_stored() {
    let mut sizes = Vec::new();
    for effort in [Effort::Young, Effort::Cold] {
        for values in shapes() {
            let windows = day_of(&values);
            let mut payload = Vec::new();
            windows::encode(&windows, &mut Encoder::new(effort), &mut payload);
            let mut decoder = Decoder::default();
            let read = windows::decode(&payload, Arc::clone(&windows.starts), &mut decoder);
            assert!(same(&read.expect("what was written"), &windows));
            for end in 0..payload.len() {
                let starts = Arc::clone(&windows.starts);
                assert!(windows::decode(&payload[..end], starts, &mut decoder).is_err());
            }
            sizes.push(payload.len() as f64 / values.len() as f64);
        }
    }
    // Bytes for each sample they were made from, cold: seven figures a window of twenty samples.
    let most = [0.06, 0.018, 0.085, 1.9, 0.006, 0.75];
    assert!(sizes[6..].iter().zip(most).all(|(size, most)| *size < most), "{sizes:?}");
}

fn histogram(hint: ResetHint, schema: i32, offset: i32, counts: &[u64]) -> Arc<Histogram> {
    let absolute = counts.iter().map(|c| *c as i64);
    let deltas = absolute.clone().scan(0, |before, now| {
        let delta = now - *before;
        *before = now;
        Some(delta)
    });
    let total: u64 = counts.iter().sum();
    Arc::new(Histogram {
        reset_hint: hint,
        schema,
        zero_threshold: 1e-3,
        sum: total as f64 * 0.5,
        positive_spans: vec![Span { offset, length: counts.len() as u32 }],
        negative_spans: vec![],
        buckets: Buckets::Integer {
            count: total,
            zero_count: 0,
            positive_deltas: deltas.collect(),
            negative_deltas: vec![],
        },
        custom_values: vec![],
    })
}

/// Schema, where the spans are, counts of positive buckets, all.
type Merged = (i32, Vec<(i32, u32)>, Vec<f64>, f64);

/// What one window says of these histograms: how many, and what they make together.
#[track_caller]
fn check_merged(histograms: &[Arc<Histogram>], count: f64, expected: Merged) {
    let histograms = (0..).map(|i| i * 15_000).zip(histograms.iter().cloned()).collect();
    let windows =
        fold(&SeriesSamples { histograms, ..SeriesSamples::default() }, Resolution::Hour1);
    let [window] = windows.histograms.as_slice() else { panic!("one window: {windows:?}") };
    let merged = &window.merged;
    let Buckets::Float { count: all, positive, .. } = &merged.buckets else { panic!("floats") };
    let spans = merged.positive_spans.iter().map(|s| (s.offset, s.length)).collect();
    assert_eq!((merged.schema, spans, positive.clone(), *all), expected);
    assert_eq!(window.count, count);
}

#[test]
fn native_histograms_are_merged() {
    let of = |counts: &[u64]| histogram(ResetHint::Unknown, 2, 1, counts);
    check_merged(&[of(&[3, 4])], 1.0, (2, vec![(1, 2)], vec![0.0, 0.0], 0.0));
    check_merged(&[of(&[3, 4]), of(&[5, 9])], 2.0, (2, vec![(1, 2)], vec![2.0, 5.0], 7.0));
    // A reset: the second counts in full, seen or said.
    check_merged(&[of(&[3, 4]), of(&[2, 9])], 2.0, (2, vec![(1, 2)], vec![2.0, 9.0], 11.0));
    let said = histogram(ResetHint::Yes, 2, 1, &[5, 9]);
    check_merged(&[of(&[3, 4]), said], 2.0, (2, vec![(1, 2)], vec![5.0, 9.0], 14.0));
    // Gauges are added up.
    let gauge = |counts: &[u64]| histogram(ResetHint::Gauge, 2, 1, counts);
    check_merged(&[gauge(&[3, 4]), gauge(&[1, 1])], 2.0, (2, vec![(1, 2)], vec![4.0, 5.0], 9.0));
    // A coarser one: buckets 1 and 2 are its bucket 1, 3 and 4 its bucket 2.
    let coarse = histogram(ResetHint::Unknown, 1, 1, &[10, 10]);
    check_merged(&[of(&[3, 4, 1]), coarse], 2.0, (1, vec![(1, 2)], vec![3.0, 9.0], 12.0));
    // Other buckets.
    let apart = [of(&[1]), histogram(ResetHint::Unknown, 2, 1, &[1, 0, 0, 4])];
    check_merged(&apart, 2.0, (2, vec![(1, 4)], vec![0.0, 0.0, 0.0, 4.0], 4.0));
}

#[test]
fn windows_of_histograms_survive_being_stored() {
    let of = |i: u64| histogram(ResetHint::Unknown, 3, i as i32 / 100, &[i, i / 2, 7]);
    let histograms = (0..5760).map(|i| (i as i64 * 15_000, of(i))).collect();
    let samples = SeriesSamples { histograms, ..SeriesSamples::default() };
    let windows = fold(&samples, Resolution::Minutes5).histograms;
    let length = windows::chunk_length(&windows);
    assert_eq!((windows.len(), length), (288, 288));
    let mut payload = Vec::new();
    windows::encode_histograms(&windows, &mut Encoder::new(Effort::Cold), &mut payload);
    let starts: Vec<i64> = windows.iter().map(|w| w.start_ms).collect();
    let read = windows::decode_histograms(&payload, &starts, &mut Decoder::default());
    assert_eq!(read.expect("what was written"), windows);
}

fn counted(entries: &[(i64, f64)]) -> Windows {
    let histogram = |(start_ms, count): &(i64, f64)| HistogramWindow {
        start_ms: *start_ms,
        count: *count,
        last: histogram(ResetHint::Unknown, 1, 1, &[1]),
        merged: histogram(ResetHint::Unknown, 1, 1, &[1]),
        ended: false,
    };
    let column = || entries.iter().map(|e| e.1).collect();
    let columns = std::array::from_fn(|_| column());
    let starts = entries.iter().map(|e| e.0).collect();
    Windows {
        histograms: entries.iter().map(histogram).collect(),
        ..Windows::of_columns(starts, columns, vec![false; entries.len()])
    }
}

fn counts(windows: &Windows) -> Vec<(i64, f64)> {
    let floats: Vec<_> = windows.starts.iter().copied().zip(windows.count.clone()).collect();
    let histograms: Vec<_> = windows.histograms.iter().map(|h| (h.start_ms, h.count)).collect();
    assert_eq!(floats, histograms);
    floats
}

#[test]
fn a_window_is_never_made_from_fewer_samples() {
    let check = |new: &[(i64, f64)], before: &[(i64, f64)], expected: &[(i64, f64)]| {
        assert_eq!(counts(&counted(new).or_more(counted(before))), expected);
    };
    check(&[], &[], &[]);
    check(&[(0, 2.0)], &[], &[(0, 2.0)]);
    check(&[], &[(0, 2.0)], &[(0, 2.0)]);
    check(&[(0, 2.0), (2, 5.0)], &[(1, 3.0)], &[(0, 2.0), (1, 3.0), (2, 5.0)]);
    check(&[(0, 2.0), (1, 9.0)], &[(0, 3.0), (1, 3.0)], &[(0, 3.0), (1, 9.0)]);
}

#[test]
fn what_is_touched_by_a_deletion_is_not_shown() {
    let check = |hidden: &[(i64, i64)], left: &[i64]| {
        let hidden = hidden.iter().map(|r| TimeRange { start_ms: r.0, end_ms: r.1 });
        let mut windows = counted(&[(0, 1.0), (300_000, 1.0), (600_000, 1.0)]);
        windows.strip(&Ranges::of(hidden), Resolution::Minutes5);
        assert_eq!(counts(&windows).iter().map(|w| w.0).collect::<Vec<_>>(), left);
    };
    check(&[], &[0, 300_000, 600_000]);
    check(&[(299_999, 299_999)], &[300_000, 600_000]);
    check(&[(299_999, 300_000)], &[600_000]);
    check(&[(-50, -1), (900_000, 900_009)], &[0, 300_000, 600_000]);
}
