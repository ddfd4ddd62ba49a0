//! Entry points for fuzzers: bytes in, no panic out, and what was accepted holds together.

use storage::MetricRows;
use tenancy::Limits;

use crate::exposition::{Entry, Exposition, Format, Forms, TextParser};
use crate::forward::ForwardFile;
use crate::relabel::Pattern;
use crate::remote_write::{walk, walk_v2};
use crate::scrape::ScrapeFile;
use crate::{Caps, WalkError};

/// Small caps, so that a fuzzer reaches them.
fn small() -> (Limits, Caps) {
    let caps = Caps {
        series_max: 64,
        samples_max: 256,
        histogram_buckets_max: 256,
        symbols_max: 128,
        label_bytes_max: 64 << 10,
        ..Caps::default()
    };
    (Limits { labels_max: 16, ..Limits::default() }, caps)
}

/// A decompressed body of remote write 1.0.
pub fn remote_write(body: &[u8]) {
    let mut rows = MetricRows::default();
    let (limits, caps) = small();
    if walk(body, &limits, &caps, &mut rows).is_ok() {
        assert!(rows.spill.len() <= body.len());
        check(&rows);
    }
}

/// A decompressed body of remote write 2.0.
pub fn remote_write_v2(body: &[u8]) {
    let mut rows = MetricRows::default();
    let (limits, caps) = small();
    match walk_v2(body, &limits, &caps, None, &mut rows) {
        Ok(_) => check(&rows),
        Err(WalkError::TooMany { .. } | WalkError::Malformed(_) | WalkError::Wrong(_)) => {}
    }
}

/// A decompressed OTLP body in protobuf.
pub fn otlp(body: &[u8]) {
    let mut rows = MetricRows::default();
    let (limits, caps) = small();
    if crate::otlp::fuzz(body, limits, caps, &mut rows) {
        check(&rows);
        for series in &rows.series {
            let labels = model::Labels::from_wire(rows.labels_of(series)).expect("labels");
            let mut canonical = Vec::new();
            labels.encode(&mut canonical);
            assert_eq!(rows.labels_of(series), canonical, "labels are in canonical encoding");
        }
    }
}

/// A decompressed OTLP body in JSON.
pub fn otlp_json(body: &[u8]) {
    if let Some(body) = crate::otlp::fuzz_json(body) {
        otlp(&body);
    }
}

/// Every row belongs to exactly one series, and labels lie where they are said to.
fn check(rows: &MetricRows<'_>) {
    let (mut samples, mut histograms, mut exemplars) = (0, 0, 0);
    for series in &rows.series {
        assert!(rows.labels_of(series).len() <= rows.body.len() + rows.spill.len());
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

/// An exposition in OpenMetrics.
pub fn exposition_openmetrics(text: &[u8]) {
    exposition(Exposition::new(Format::OpenMetrics, text));
}

/// An exposition in OpenMetrics 2.0, in all forms of histograms.
pub fn exposition_openmetrics2(text: &[u8]) {
    for forms in all_forms() {
        exposition(Exposition::in_forms(Format::OpenMetrics2, text, forms));
    }
}

/// An exposition in protobuf, in all forms of histograms.
pub fn exposition_protobuf(bytes: &[u8]) {
    for forms in all_forms() {
        exposition(Exposition::in_forms(Format::Protobuf, bytes, forms));
    }
}

/// An exposition in text whose classic histograms become native ones.
pub fn exposition_converting(text: &[u8]) {
    for forms in all_forms() {
        exposition(Exposition::in_forms(Format::Text, text, forms));
        exposition(Exposition::in_forms(Format::OpenMetrics, text, forms));
    }
}

fn all_forms() -> [Forms; 3] {
    let forms =
        |native, classic_too, convert_classic| Forms { native, classic_too, convert_classic };
    [Forms::NATIVE, forms(false, true, true), forms(true, true, false)]
}

fn exposition(mut exposition: Exposition<'_>) {
    while let Ok(Some(entry)) = exposition.next_entry() {
        if let Entry::Sample { series, .. } | Entry::Histogram { series, .. } = entry {
            assert!(!series.is_empty());
            assert!(exposition.labels().iter().any(|(name, _)| name == model::METRIC_NAME));
            exposition.exemplars();
        }
    }
}

/// A file of scrape jobs.
pub fn scrape_config(text: &[u8]) {
    if let Ok(text) = std::str::from_utf8(text) {
        // Whether it is right does not matter, only that all of it is looked at.
        let _ = ScrapeFile::parse(text);
    }
}

/// A file of destinations.
pub fn forward_config(text: &[u8]) {
    if let Ok(text) = std::str::from_utf8(text) {
        let _ = ForwardFile::parse(text, std::path::Path::new(""));
    }
}

/// A file of a forwarding queue, and the payload of one of its records.
pub fn forward_queue(bytes: &[u8]) {
    crate::forward::fuzz(bytes, check);
}

/// An expression of a relabelling rule, and after a line feed a value for it.
pub fn relabel(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (pattern, value) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(pattern) = Pattern::new(pattern) {
        let expanded = pattern.expanded(value, "$1-${2}");
        assert!(expanded.is_none_or(|text| text.len() <= 2 * value.len() + 1));
    }
}

/// A body in Influx line protocol.
pub fn influx(mut text: &[u8]) {
    while !text.is_empty() {
        let before = text.len();
        match crate::influx::next_line(&mut text) {
            None => break,
            Some(Ok(line)) => assert!(!line.measurement.is_empty() && !line.fields.is_empty()),
            Some(Err(_)) => {}
        }
        assert!(text.len() < before, "every line moves on");
    }
}

pub use crate::logs::fuzz::{Door, door, entries};

/// The rows of an OTLP body in protobuf, for benchmarks.
pub fn otlp_rows(body: &[u8], rows: &mut MetricRows<'_>) {
    crate::otlp::fuzz(body, Limits::default(), Caps::default(), rows);
}
