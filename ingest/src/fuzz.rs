//! Entry points for fuzzers: bytes in, no panic out, and what was accepted holds together.

use storage::MetricRows;
use tenancy::Limits;

use crate::exposition::{Entry, TextParser};
use crate::remote_write::{Caps, walk};

/// A decompressed remote-write body.
pub fn remote_write(body: &[u8]) {
    let mut rows = MetricRows::default();
    // Small caps, so that a fuzzer reaches them.
    let caps =
        Caps { series_max: 64, samples_max: 256, histogram_buckets_max: 256, ..Caps::default() };
    let limits = Limits { labels_max: 16, ..Limits::default() };
    if walk(body, &limits, &caps, &mut rows).is_err() {
        return;
    }
    let (mut samples, mut histograms, mut exemplars) = (0, 0, 0);
    for series in &rows.series {
        assert!(rows.labels_of(series).len() <= body.len());
        samples += rows.samples[series.samples.start as usize..series.samples.end as usize].len();
        histograms +=
            rows.histograms[series.histograms.start as usize..series.histograms.end as usize].len();
        exemplars +=
            rows.exemplars[series.exemplars.start as usize..series.exemplars.end as usize].len();
    }
    assert_eq!(
        (samples, histograms, exemplars),
        (rows.samples.len(), rows.histograms.len(), rows.exemplars.len())
    );
    assert!(rows.spill.len() <= body.len());
}

/// An exposition in text format.
pub fn exposition_text(text: &[u8]) {
    let mut parser = TextParser::new(text);
    while let Ok(Some(entry)) = parser.next_entry() {
        if let Entry::Sample { series, value, .. } = entry {
            assert!(!series.is_empty() && !model::is_stale(value));
            assert!(parser.labels().iter().any(|(name, _)| name == model::METRIC_NAME));
        }
    }
}
