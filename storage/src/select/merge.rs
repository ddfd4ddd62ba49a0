//! One series from several places: the samples of blocks, of rows being flushed and of the head
//! become one sequence, each instant once.

use std::sync::Arc;

use model::Histogram;

use super::intern::Interner;
use crate::{SeriesSamples, Starts};

/// Merges parts that are given in order of their log positions: of two samples at the same instant
/// the one from the earlier part stays, because it was acknowledged first.
pub(crate) fn merge(mut parts: Vec<SeriesSamples>, interner: &Interner) -> SeriesSamples {
    parts.retain(|p| !p.timestamps.is_empty() || !p.histograms.is_empty());
    match parts.len() {
        0 => return SeriesSamples::default(),
        1 => return parts.swap_remove(0),
        _ => {}
    }
    let starts = merge_starts(&parts);
    let histograms = merge_histograms(&mut parts);
    parts.retain(|p| !p.timestamps.is_empty());
    if parts.len() == 1 {
        return SeriesSamples { histograms, starts, ..parts.swap_remove(0) };
    }
    let in_order = parts.windows(2).all(|w| w[0].timestamps.last() < w[1].timestamps.first());
    let (timestamps, values) = if in_order { joined(&parts) } else { interleaved(&parts) };
    SeriesSamples { timestamps: interner.intern(timestamps), values, histograms, starts }
}

fn joined(parts: &[SeriesSamples]) -> (Vec<i64>, Vec<f64>) {
    let samples = parts.iter().map(|p| p.values.len()).sum();
    let (mut timestamps, mut values) = (Vec::with_capacity(samples), Vec::with_capacity(samples));
    for part in parts {
        timestamps.extend_from_slice(&part.timestamps);
        values.extend_from_slice(&part.values);
    }
    (timestamps, values)
}

/// A stable sort by time keeps the order of parts among equal instants; the first of them stays.
fn interleaved(parts: &[SeriesSamples]) -> (Vec<i64>, Vec<f64>) {
    let all = parts.iter().flat_map(|p| p.timestamps.iter().copied().zip(p.values.iter().copied()));
    let mut samples: Vec<(i64, f64)> = all.collect();
    samples.sort_by_key(|&(at, _)| at);
    samples.dedup_by_key(|&mut (at, _)| at);
    samples.into_iter().unzip()
}

/// Each sample keeps its own: of two at the same instant that of the first.
fn merge_starts(parts: &[SeriesSamples]) -> Starts {
    if parts.iter().all(|part| part.starts.is_empty()) {
        return Starts::default();
    }
    let mut all = Vec::new();
    for part in parts {
        let histograms = part.histograms.iter().map(|(at, _)| *at);
        let instants = part.timestamps.iter().copied().chain(histograms);
        all.extend(instants.map(|at| (at, part.starts.at(at))));
    }
    Starts::of_samples(all)
}

fn merge_histograms(parts: &mut [SeriesSamples]) -> Vec<(i64, Arc<Histogram>)> {
    let mut all: Vec<_> =
        parts.iter_mut().flat_map(|p| std::mem::take(&mut p.histograms)).collect();
    all.sort_by_key(|&(at, _)| at);
    all.dedup_by_key(|&mut (at, _)| at);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: &[&[(i64, f64)]], merged: &[(i64, f64)]) {
        let part = |samples: &&[(i64, f64)]| SeriesSamples {
            timestamps: samples.iter().map(|s| s.0).collect(),
            values: samples.iter().map(|s| s.1).collect(),
            ..SeriesSamples::default()
        };
        let one = merge(parts.iter().map(part).collect(), &Interner::default());
        let got: Vec<_> = one.timestamps.iter().copied().zip(one.values).collect();
        assert_eq!(got, merged);
    }

    #[test]
    fn parts_become_one_sequence() {
        check(&[], &[]);
        check(&[&[(1, 1.0)], &[]], &[(1, 1.0)]);
        check(&[&[(1, 1.0), (2, 2.0)], &[(3, 3.0)]], &[(1, 1.0), (2, 2.0), (3, 3.0)]);
        check(&[&[(5, 5.0)], &[(1, 1.0), (9, 9.0)]], &[(1, 1.0), (5, 5.0), (9, 9.0)]);
        check(&[&[(1, 1.0), (2, 2.0)], &[(2, 20.0), (3, 3.0)]], &[(1, 1.0), (2, 2.0), (3, 3.0)]);
    }

    #[test]
    fn samples_keep_their_own_starts() {
        let part = |samples: &[(i64, i64)]| SeriesSamples {
            timestamps: samples.iter().map(|s| s.0).collect(),
            values: samples.iter().map(|s| s.0 as f64).collect(),
            starts: Starts::of_samples(samples.to_vec()),
            ..SeriesSamples::default()
        };
        let check = |parts: &[&[(i64, i64)]], merged: &[(i64, i64)]| {
            let parts = parts.iter().map(|samples| part(samples)).collect();
            let one = merge(parts, &Interner::default());
            let starts = one.starts.each(one.timestamps.iter().copied());
            let found: Vec<_> = one.timestamps.iter().copied().zip(starts).collect();
            assert_eq!(found, merged);
        };
        check(&[&[(10, 1), (20, 1)], &[(30, 0)]], &[(10, 1), (20, 1), (30, 0)]);
        check(
            &[&[(10, 0), (30, 0)], &[(20, 15), (40, 35)]],
            &[(10, 0), (20, 15), (30, 0), (40, 35)],
        );
        // The first part's sample came first, and knows no start.
        check(&[&[(10, 0)], &[(10, 5), (20, 5)]], &[(10, 0), (20, 5)]);
    }
}
