//! The walk reads what `prost` reads, refuses what it must, and survives the rest.

use model::{Buckets, Histogram, Labels, MetricKind, ResetHint, Span};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use prost::Message;
use storage::{AppendOutcome, MetricRows, Reason};
use tenancy::Limits;

use super::super::walk;
use super::twin;
use crate::wire::Reader;
use crate::{Caps, WalkError};

fn limits() -> Limits {
    Limits {
        labels_max: 8,
        label_name_bytes_max: 20,
        label_value_bytes_max: 40,
        ..Limits::default()
    }
}

/// Every float by its bits, NaN included.
fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The label fields of a range, one by one.
fn label_fields(wire: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(wire);
    let mut fields = Vec::new();
    while !reader.is_at_end() {
        assert_eq!(reader.varint(), Ok(0x0a));
        fields.push(reader.slice().expect("a label field").to_vec());
    }
    fields
}

fn spans(spans: &[twin::Span]) -> Vec<Span> {
    spans.iter().map(|s| Span { offset: s.offset, length: s.length }).collect()
}

fn histogram(h: &twin::Histogram) -> String {
    let (integer_zero, float_zero) = match h.zero_count {
        Some(twin::ZeroCount::Integer(n)) => (n, 0.0),
        Some(twin::ZeroCount::Float(n)) => (0, n),
        None => (0, 0.0),
    };
    let buckets = match h.count {
        Some(twin::Count::Float(count)) => Buckets::Float {
            count,
            zero_count: float_zero,
            positive: h.positive_counts.clone(),
            negative: h.negative_counts.clone(),
        },
        integer => Buckets::Integer {
            count: if let Some(twin::Count::Integer(n)) = integer { n } else { 0 },
            zero_count: integer_zero,
            positive_deltas: h.positive_deltas.clone(),
            negative_deltas: h.negative_deltas.clone(),
        },
    };
    let histogram = Histogram {
        reset_hint: ResetHint::from_wire(u64::from(h.reset_hint as u32)),
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        sum: h.sum,
        positive_spans: spans(&h.positive_spans),
        negative_spans: spans(&h.negative_spans),
        buckets,
        custom_values: h.custom_values.clone(),
    };
    format!("{} {histogram:?}", h.timestamp)
}

/// Walks a body and compares with what `prost` reads from it.
#[track_caller]
fn check_against_twin(body: &[u8]) -> Result<AppendOutcome, String> {
    let expected = twin::WriteRequest::decode(body);
    let mut rows = MetricRows::default();
    let outcome = match (walk(body, &limits(), &Caps::default(), &mut rows), &expected) {
        (Ok(outcome), Ok(_)) => outcome,
        (Ok(_), Err(why)) => panic!("prost refuses what the walk takes: {why}"),
        (Err(why), Err(_)) => return Err(why.to_string()),
        (Err(why), Ok(_)) => {
            assert!(
                why.to_string().ends_with("groups are not accepted"),
                "only the walk refuses: {why}"
            );
            return Err(why.to_string());
        }
    };
    let expected = expected.expect("both took it");
    let fits =
        |s: &&twin::TimeSeries| s.labels.len() <= limits().labels_max && label_bytes(s) <= 8 * 76;
    let has_data = |s: &twin::TimeSeries| !(s.samples.is_empty() && s.histograms.is_empty());
    let mut walked = rows.series.iter().peekable();
    for series in expected.timeseries.iter().filter(fits) {
        let exemplars: Vec<String> = series.exemplars.iter().filter_map(exemplar).collect();
        if !has_data(series) && exemplars.is_empty() {
            continue;
        }
        let got = walked.next().expect("a series more");
        assert_eq!(label_fields(rows.labels_of(got)), series.labels);
        let samples = &rows.samples[got.samples.start as usize..got.samples.end as usize];
        let got_samples: Vec<_> =
            samples.iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect();
        let samples: Vec<_> =
            series.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
        assert_eq!(got_samples, samples);
        let histograms =
            &rows.histograms[got.histograms.start as usize..got.histograms.end as usize];
        let got_histograms: Vec<String> =
            histograms.iter().map(|(at, h)| format!("{at} {h:?}")).collect();
        assert_eq!(got_histograms, series.histograms.iter().map(histogram).collect::<Vec<_>>());
        let got_exemplars =
            &rows.exemplars[got.exemplars.start as usize..got.exemplars.end as usize];
        assert_eq!(got_exemplars.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>(), exemplars);
    }
    assert!(walked.next().is_none(), "a series that prost does not see");
    check_metadata(&expected, &rows);
    Ok(outcome)
}

fn label_bytes(series: &twin::TimeSeries) -> usize {
    series.labels.iter().map(|l| 1 + prost::length_delimiter_len(l.len()) + l.len()).sum()
}

/// An exemplar as the walk keeps it, if it does.
fn exemplar(exemplar: &twin::Exemplar) -> Option<String> {
    let wire =
        twin::TimeSeries { labels: exemplar.labels.clone(), ..Default::default() }.encode_to_vec();
    let labels = Labels::from_wire(&wire).ok()?;
    let chars: usize = labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
    let (value, timestamp_ms) = (exemplar.value, exemplar.timestamp);
    (chars <= 128).then(|| format!("{:?}", model::Exemplar { labels, value, timestamp_ms }))
}

#[track_caller]
fn check_metadata(expected: &twin::WriteRequest, rows: &MetricRows<'_>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let expected = expected.metadata.iter().filter_map(|m| {
        let kind = MetricKind::from_wire(u64::from(m.kind as u32));
        let family = text(&m.family).filter(|f| !f.is_empty())?;
        Some((family, model::Metadata { kind, help: text(&m.help)?, unit: text(&m.unit)? }))
    });
    assert_eq!(rows.metadata, expected.collect::<Vec<_>>());
}

prop_compose! {
    fn any_label()(name in "[a-z_]{0,6}|\\PC{0,4}", value in "\\PC{0,12}") -> Vec<u8> {
        twin::Label { name, value }.encode_to_vec()
    }
}

prop_compose! {
    fn any_sample()(value in any::<u64>(), timestamp in any::<i64>()) -> twin::Sample {
        twin::Sample { value: f64::from_bits(value), timestamp }
    }
}

prop_compose! {
    fn any_exemplar()(labels in vec(any_label(), 0..3), sample in any_sample()) -> twin::Exemplar {
        twin::Exemplar { labels, value: sample.value, timestamp: sample.timestamp }
    }
}

fn any_spans() -> impl Strategy<Value = Vec<twin::Span>> {
    vec(
        (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| twin::Span { offset, length }),
        0..4,
    )
}

prop_compose! {
    fn any_histogram()(
        count in prop::option::of(prop_oneof![
            any::<u64>().prop_map(twin::Count::Integer),
            any::<f64>().prop_map(twin::Count::Float),
        ]),
        zero_count in prop::option::of(prop_oneof![
            any::<u64>().prop_map(twin::ZeroCount::Integer),
            any::<f64>().prop_map(twin::ZeroCount::Float),
        ]),
        (sum, zero_threshold) in any::<(f64, f64)>(),
        (schema, reset_hint, timestamp) in (any::<i32>(), -1..6_i32, any::<i64>()),
        (negative_spans, positive_spans) in (any_spans(), any_spans()),
        (negative_deltas, positive_deltas) in (vec(any::<i64>(), 0..5), vec(any::<i64>(), 0..5)),
        (negative_counts, positive_counts) in (vec(any::<f64>(), 0..5), vec(any::<f64>(), 0..5)),
        custom_values in vec(any::<f64>(), 0..4),
    ) -> twin::Histogram {
        twin::Histogram {
            count, sum, schema, zero_threshold, zero_count, negative_spans, negative_deltas, negative_counts,
            positive_spans, positive_deltas, positive_counts, reset_hint, timestamp, custom_values,
        }
    }
}

prop_compose! {
    fn any_series()(
        labels in vec(any_label(), 0..10),
        samples in vec(any_sample(), 0..5),
        exemplars in vec(any_exemplar(), 0..3),
        histograms in vec(any_histogram(), 0..3),
    ) -> twin::TimeSeries {
        twin::TimeSeries { labels, samples, exemplars, histograms }
    }
}

prop_compose! {
    fn any_metadata()(kind in -1..9_i32, family in vec(any::<u8>(), 0..4), help in "\\PC{0,9}", unit in "[a-z]{0,3}")
        -> twin::MetricMetadata {
        twin::MetricMetadata { kind, family, help: help.into_bytes(), unit: unit.into_bytes() }
    }
}

prop_compose! {
    fn any_request()(timeseries in vec(any_series(), 0..6), metadata in vec(any_metadata(), 0..4)) -> twin::WriteRequest {
        twin::WriteRequest { timeseries, metadata }
    }
}

/// The fields of a series in another order, each in a message of its own, with unknown fields
/// between them: protobuf says that this is the same message.
fn pieces(series: &twin::TimeSeries) -> Vec<Vec<u8>> {
    let empty = twin::TimeSeries::default;
    let labels =
        series.labels.iter().map(|l| twin::TimeSeries { labels: vec![l.clone()], ..empty() });
    let samples = series.samples.iter().map(|s| twin::TimeSeries { samples: vec![*s], ..empty() });
    let histograms = series
        .histograms
        .iter()
        .map(|h| twin::TimeSeries { histograms: vec![h.clone()], ..empty() });
    let mut pieces: Vec<Vec<u8>> =
        labels.chain(samples).chain(histograms).map(|p| p.encode_to_vec()).collect();
    pieces.push(vec![0x28, 0xff, 0x01]); // field 5, a number
    pieces.push(vec![0x32, 2, b'?', b'?']); // field 6, bytes
    pieces.push(vec![0x3d, 1, 2, 3, 4]); // field 7, four bytes
    pieces.push(vec![0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8]); // field 1000, eight bytes
    pieces
}

proptest! {
    #[test]
    fn any_request_is_read_as_prost_reads_it(request in any_request()) {
        let body = request.encode_to_vec();
        check_against_twin(&body).expect("a valid request");
        crate::fuzz::remote_write(&body);
    }

    #[test]
    fn fields_may_come_in_any_order(
        shuffled in any_series().prop_flat_map(|series| Just(pieces(&series)).prop_shuffle()),
        long in any::<bool>(),
    ) {
        let series = shuffled.concat();
        let mut body = vec![0x0a];
        model::varint::put(&mut body, series.len() as u64);
        if long {
            // The same length with a useless seventh of a byte.
            let last = body.len() - 1;
            body[last] |= 0x80;
            body.push(0);
        }
        body.extend(series);
        check_against_twin(&body).expect("a valid request");
    }

    #[test]
    fn changed_bytes_are_read_as_prost_reads_them(
        request in any_request(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut body = request.encode_to_vec();
        for (at, byte) in changes {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        let _ = check_against_twin(&body);
        crate::fuzz::remote_write(&body);
    }

    #[test]
    fn noise_is_survived(body in vec(any::<u8>(), 0..300)) {
        let _ = check_against_twin(&body);
        crate::fuzz::remote_write(&body);
    }
}

fn one_series(labels: &[(&str, &str)]) -> Vec<u8> {
    let label =
        |(name, value): &(&str, &str)| twin::Label { name: (*name).into(), value: (*value).into() };
    let labels = labels.iter().map(|l| label(l).encode_to_vec()).collect();
    let samples = vec![twin::Sample { value: 1.0, timestamp: 1 }];
    let series = twin::TimeSeries { labels, samples, ..Default::default() };
    twin::WriteRequest { timeseries: vec![series], metadata: Vec::new() }.encode_to_vec()
}

#[test]
fn every_cut_is_read_as_prost_reads_it() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let request = any_request().new_tree(&mut runner).expect("a request").current();
    let mut body = request.encode_to_vec();
    body.extend(one_series(&[("__name__", "up")]));
    for length in 0..body.len() {
        let _ = check_against_twin(&body[..length]);
    }
}

#[track_caller]
fn check_malformed(body: &[u8], why: &str) {
    assert_eq!(check_against_twin(body).expect_err("malformed"), why);
}

#[test]
fn malformed_bodies_say_where() {
    check_malformed(&[0x00], "malformed protobuf at byte 1: field number is out of range");
    check_malformed(
        &[0x0a],
        "malformed protobuf at byte 1: number is cut short or has more than 64 bits",
    );
    check_malformed(
        &[0x0a, 1],
        "malformed protobuf at byte 2: length reaches past the end of the message",
    );
    check_malformed(
        &[0x0a, 3, 0x12, 2, 0x09],
        "malformed protobuf at byte 4: length reaches past the end of the message",
    );
    check_malformed(
        &[0x0a, 4, 0x12, 2, 0x09, 0],
        "malformed protobuf at byte 5: eight-byte number is cut short",
    );
    check_malformed(&[0x08, 1], "malformed protobuf at byte 1: field has the wrong wire type");
    check_malformed(&[0x0b, 0x0c], "malformed protobuf at byte 1: field has the wrong wire type");
    check_malformed(&[0x2b, 0x2c], "malformed protobuf at byte 1: groups are not accepted");
    check_malformed(&[0x2f], "malformed protobuf at byte 1: wire type does not exist");
    check_malformed(
        &[0xff; 11],
        "malformed protobuf at byte 0: number is cut short or has more than 64 bits",
    );
    check_malformed(
        &[0xfa, 0xff, 0xff, 0xff, 0x7f, 0],
        "malformed protobuf at byte 5: field number is out of range",
    );
    let mut endless = vec![0x0a];
    endless.extend([0xff; 9]);
    endless.push(1);
    check_malformed(
        &endless,
        "malformed protobuf at byte 11: length reaches past the end of the message",
    );
}

#[track_caller]
fn check_refused(body: &[u8], reason: Reason, example: &str) {
    let outcome = check_against_twin(body).expect("well-formed");
    assert_eq!(outcome.rejected.len(), 1, "{:?}", outcome.rejected);
    assert_eq!(
        (outcome.rejected[0].reason, outcome.rejected[0].example.as_str()),
        (reason, example)
    );
}

#[test]
fn labels_over_the_limits_are_refused_and_the_rest_is_kept() {
    let names: Vec<String> = (0..8).map(|i| format!("l{i}")).collect();
    let mut many: Vec<(&str, &str)> = vec![("__name__", "up")];
    many.extend(names.iter().map(|n| (n.as_str(), "v")));
    check_refused(
        &one_series(&many),
        Reason::TooManyLabels,
        "series up has 9 labels, the limit is 8",
    );
    let long = "x".repeat(2_000);
    check_refused(
        &one_series(&[("__name__", "up"), (&long, "v")]),
        Reason::LabelNameTooLong,
        &format!("label name \"{}…\" of series up has 2000 bytes, the limit is 20", &long[..120]),
    );
    check_refused(
        &one_series(&[("a", &long)]),
        Reason::LabelValueTooLong,
        &format!(
            "value \"{}…\" of label \"a\" of series without name has 2000 bytes, the limit is 40",
            &long[..120]
        ),
    );
    let mut mixed = one_series(&many);
    mixed.extend(one_series(&[("__name__", "good")]));
    let mut rows = MetricRows::default();
    let outcome = walk(&mixed, &limits(), &Caps::default(), &mut rows).expect("well-formed");
    assert_eq!((outcome.rejected[0].count, rows.series.len(), rows.samples.len()), (1, 1, 1));
}

/// Requests that hold as much as they can in few bytes: refused by a cap, or taken within a small
/// multiple of their own size.
#[track_caller]
fn check_bomb(body: &[u8], too_many: Option<&str>) {
    let mut rows = MetricRows::default();
    let limits = Limits::default();
    let result = walk(body, &limits, &Caps::default(), &mut rows);
    let shown = match &result {
        Ok(_) => None,
        Err(WalkError::TooMany { what, .. }) => Some(*what),
        Err(why) => panic!("{why}"),
    };
    assert_eq!(shown, too_many);
    let buckets: usize = rows
        .histograms
        .iter()
        .map(|(_, h)| match &h.buckets {
            Buckets::Integer { positive_deltas, .. } => positive_deltas.capacity() * 8,
            Buckets::Float { positive, .. } => positive.capacity() * 8,
        })
        .sum();
    let held = rows.series.capacity() * 32
        + rows.samples.capacity() * 16
        + rows.histograms.capacity() * size_of::<(i64, Histogram)>()
        + rows.exemplars.capacity() * 150
        + rows.metadata.capacity() * 150
        + rows.spill.capacity()
        + buckets;
    assert!(held < 48 << 20, "{held} bytes held");
}

#[test]
fn bombs_are_bounded() {
    let nested = |tag: u8, inner: &[u8]| {
        let mut out = vec![tag];
        model::varint::put(&mut out, inner.len() as u64);
        out.extend_from_slice(inner);
        out
    };
    let size = 16 << 20;
    check_bomb(&[0x0a, 0].repeat(size / 2), None);
    check_bomb(&[0x0a, 2, 0x12, 0].repeat(size / 4), Some("series"));
    check_bomb(&nested(0x0a, &[0x12, 0].repeat(size / 2)), Some("samples"));
    check_bomb(&nested(0x0a, &[0x1a, 0].repeat(size / 2)), Some("exemplars"));
    check_bomb(&nested(0x0a, &[0x22, 0].repeat(size / 2)), Some("native histograms"));
    let buckets = nested(0x22, &nested(0x62, &vec![0; size / 2]));
    check_bomb(&nested(0x0a, &buckets), Some("buckets of native histograms"));
    check_bomb(&[0x1a, 3, 0x12, 1, b'a'].repeat(size / 5), Some("metric families with metadata"));
    let million_labels = [0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b'].repeat(1_000_000);
    check_bomb(&nested(0x0a, &[&million_labels[..], &[0x12, 0]].concat()), None);
    let apart = [0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b', 0x12, 0].repeat(60);
    check_bomb(&nested(0x0a, &apart), None);
    let mut deep = vec![0x32, 0];
    for _ in 0..1_000 {
        deep = nested(0x32, &deep);
    }
    check_bomb(&deep, None);
}

#[test]
fn stale_markers_and_payloads_pass_bit_for_bit() {
    let values = [
        model::stale_nan(),
        -0.0,
        f64::from_bits(0xfff8_0000_0000_0abc),
        f64::from_bits(1),
        9_007_199_254_740_993.0,
    ];
    // Written field by field: `prost` would leave −0.0 out as a default.
    let samples = values.map(|value| (-1, value));
    let body = testkit::remote_write::samples_body([(
        &testkit::labels! { __name__ = "up" },
        &samples[..],
    )]);
    let mut rows = MetricRows::default();
    walk(&body, &limits(), &Caps::default(), &mut rows).expect("well-formed");
    let got: Vec<f64> = rows.samples.iter().map(|s| s.value).collect();
    assert_eq!(bits(&got), bits(&values));
}
