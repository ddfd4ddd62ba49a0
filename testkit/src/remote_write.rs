//! Bodies of remote-write 1.0 requests (`prometheus.WriteRequest`), written field by field so that
//! the reader under test is not checked against itself. Snappy is left to the caller.

use model::{Buckets, Exemplar, Histogram, Labels, Metadata, Span, varint};

/// One time series of a request. Labels are written in the order given, right or wrong.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Label names and values.
    pub labels: Vec<(String, String)>,
    /// Timestamps in milliseconds and values.
    pub samples: Vec<(i64, f64)>,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
    /// Native histograms with their timestamps in milliseconds.
    pub histograms: Vec<(i64, Histogram)>,
}

impl Series {
    /// A series with samples alone.
    pub fn new(labels: &Labels, samples: &[(i64, f64)]) -> Self {
        let labels = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Self { labels, samples: samples.to_vec(), ..Self::default() }
    }
}

/// An uncompressed request with these series and metadata.
pub fn body(series: &[Series], metadata: &[(&str, Metadata)]) -> Vec<u8> {
    let mut out = Vec::new();
    for one in series {
        put_bytes(&mut out, 1, &time_series(one));
    }
    for (family, metadata) in metadata {
        let mut field = Vec::new();
        put_number(&mut field, 1, metadata.kind as u64);
        put_text(&mut field, 2, family);
        put_text(&mut field, 4, &metadata.help);
        put_text(&mut field, 5, &metadata.unit);
        put_bytes(&mut out, 3, &field);
    }
    out
}

/// A request of plain samples, one series after the other.
pub fn samples_body<'a>(
    series: impl IntoIterator<Item = (&'a Labels, &'a [(i64, f64)])>,
) -> Vec<u8> {
    let series: Vec<Series> =
        series.into_iter().map(|(labels, samples)| Series::new(labels, samples)).collect();
    body(&series, &[])
}

fn time_series(series: &Series) -> Vec<u8> {
    let mut out = Vec::new();
    put_labels(&mut out, series.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    for (timestamp_ms, value) in &series.samples {
        let mut field = Vec::new();
        put_double(&mut field, 1, *value);
        put_number(&mut field, 2, *timestamp_ms as u64);
        put_bytes(&mut out, 2, &field);
    }
    for exemplar in &series.exemplars {
        let mut field = Vec::new();
        put_labels(&mut field, exemplar.labels.iter());
        put_double(&mut field, 2, exemplar.value);
        put_number(&mut field, 3, exemplar.timestamp_ms as u64);
        put_bytes(&mut out, 3, &field);
    }
    for (timestamp_ms, histogram) in &series.histograms {
        put_bytes(&mut out, 4, &histogram_field(*timestamp_ms, histogram));
    }
    out
}

pub(crate) fn histogram_field(timestamp_ms: i64, histogram: &Histogram) -> Vec<u8> {
    let mut out = Vec::new();
    match &histogram.buckets {
        // The counts are in a `oneof`: written even if zero, since the field says which kind it is.
        Buckets::Integer { count, zero_count, .. } => {
            put_tag(&mut out, 1, 0);
            varint::put(&mut out, *count);
            put_tag(&mut out, 6, 0);
            varint::put(&mut out, *zero_count);
        }
        Buckets::Float { count, zero_count, .. } => {
            put_tag(&mut out, 2, 1);
            out.extend(count.to_le_bytes());
            put_tag(&mut out, 7, 1);
            out.extend(zero_count.to_le_bytes());
        }
    }
    put_double(&mut out, 3, histogram.sum);
    put_signed(&mut out, 4, i64::from(histogram.schema));
    put_double(&mut out, 5, histogram.zero_threshold);
    put_spans(&mut out, 8, &histogram.negative_spans);
    put_spans(&mut out, 11, &histogram.positive_spans);
    match &histogram.buckets {
        Buckets::Integer { positive_deltas, negative_deltas, .. } => {
            put_deltas(&mut out, 9, negative_deltas);
            put_deltas(&mut out, 12, positive_deltas);
        }
        Buckets::Float { positive, negative, .. } => {
            put_doubles(&mut out, 10, negative);
            put_doubles(&mut out, 13, positive);
        }
    }
    put_number(&mut out, 14, histogram.reset_hint as u64);
    put_number(&mut out, 15, timestamp_ms as u64);
    put_doubles(&mut out, 16, &histogram.custom_values);
    out
}

fn put_labels<'a>(out: &mut Vec<u8>, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in labels {
        let mut field = Vec::new();
        put_text(&mut field, 1, name);
        put_text(&mut field, 2, value);
        put_bytes(out, 1, &field);
    }
}

fn put_spans(out: &mut Vec<u8>, number: u64, spans: &[Span]) {
    for span in spans {
        let mut field = Vec::new();
        put_signed(&mut field, 1, i64::from(span.offset));
        put_number(&mut field, 2, u64::from(span.length));
        put_bytes(out, number, &field);
    }
}

fn put_deltas(out: &mut Vec<u8>, number: u64, deltas: &[i64]) {
    let mut packed = Vec::new();
    deltas.iter().for_each(|delta| varint::put_signed(&mut packed, *delta));
    if !packed.is_empty() {
        put_bytes(out, number, &packed);
    }
}

fn put_doubles(out: &mut Vec<u8>, number: u64, values: &[f64]) {
    let packed: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    if !packed.is_empty() {
        put_bytes(out, number, &packed);
    }
}

pub(crate) fn put_tag(out: &mut Vec<u8>, number: u64, wire_type: u64) {
    varint::put(out, number << 3 | wire_type);
}

/// Defaults are left out, as protobuf writers do.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_tag(out, number, 0);
        varint::put(out, value);
    }
}

fn put_signed(out: &mut Vec<u8>, number: u64, value: i64) {
    if value != 0 {
        put_tag(out, number, 0);
        varint::put_signed(out, value);
    }
}

/// −0.0 is not the default and is written.
pub(crate) fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    if value.to_bits() != 0 {
        put_tag(out, number, 1);
        out.extend(value.to_le_bytes());
    }
}

fn put_text(out: &mut Vec<u8>, number: u64, text: &str) {
    if !text.is_empty() {
        put_bytes(out, number, text.as_bytes());
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_tag(out, number, 2);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use model::{MetricKind, ResetHint};

    use super::*;
    use crate::labels;

    #[track_caller]
    fn check(body: &[u8], hex: &str) {
        assert_eq!(
            body.iter().map(|b| format!("{b:02x}")).collect::<String>(),
            hex.split_whitespace().collect::<String>()
        );
    }

    #[test]
    fn requests_are_as_protobuf_writes_them() {
        let up = Series::new(&labels! { __name__ = "up" }, &[(1, 1.0), (0, 0.0), (-1, -0.0)]);
        check(
            &body(&[up], &[]),
            "0a 35 0a0e 0a085f5f6e616d655f5f 12027570  120b 09000000000000f03f 1001  1200
             1214 090000000000000080 10ffffffffffffffffff01",
        );
        let metadata = Metadata { kind: MetricKind::Gauge, help: "h".into(), unit: "s".into() };
        check(&body(&[], &[("up", metadata)]), "1a0c 0802 12027570 220168 2a0173");
        let exemplar = Exemplar { labels: labels! { t = "1" }, value: 0.5, timestamp_ms: 2 };
        check(
            &body(&[Series { exemplars: vec![exemplar], ..Series::default() }], &[]),
            "0a15 1a13 0a06 0a0174 120131 11000000000000e03f 1802",
        );
    }

    #[test]
    fn histograms_say_which_kind_they_are() {
        let spans = vec![Span { offset: -1, length: 2 }];
        let integer = Histogram {
            reset_hint: ResetHint::No,
            schema: -1,
            zero_threshold: 0.0,
            sum: 0.0,
            positive_spans: spans,
            negative_spans: vec![],
            buckets: Buckets::Integer {
                count: 3,
                zero_count: 0,
                positive_deltas: vec![1, -1],
                negative_deltas: vec![],
            },
            custom_values: vec![],
        };
        let one = |h: &Histogram| {
            body(&[Series { histograms: vec![(5, h.clone())], ..Series::default() }], &[])
        };
        check(&one(&integer), "0a16 2214 0803 3000 2001 5a04 08011002 6202 0201 7002 7805");
        let buckets =
            Buckets::Float { count: 0.0, zero_count: 0.0, positive: vec![], negative: vec![0.5] };
        let float =
            Histogram { buckets, positive_spans: vec![], custom_values: vec![1.0], ..integer };
        check(
            &one(&float),
            "0a2f 222d 110000000000000000 390000000000000000 2001 5208 000000000000e03f 7002 7805
             8201 08 000000000000f03f",
        );
    }
}
