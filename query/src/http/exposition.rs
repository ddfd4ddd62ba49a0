//! Forms of exposition that `/federate` answers in: the text formats 0.0.4 and 1.0.0, and
//! protobuf, as Prometheus negotiates them from the header `Accept`.

use std::borrow::Cow;

use model::{Histogram, Labels, METRIC_NAME, ResetHint};

use super::federate::Newest;
use super::remote_read::wire;
use crate::number::{push_exposed, push_integer};

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines.
    Text {
        /// 1.0.0 instead of 0.0.4.
        v1: bool,
        /// How names outside the old alphabet are written.
        escaping: Escaping,
    },
    /// `io.prometheus.client.MetricFamily`, each with its length before it.
    Protobuf(Escaping),
}

/// How names outside the old alphabet are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escaping {
    /// As they are, quoted.
    AllowUtf8,
    /// Everything else becomes `_`.
    Underscores,
    /// `.` becomes `_dot_`, `_` is doubled, everything else becomes `__`.
    Dots,
    /// `U__` and code points.
    Values,
}

impl Escaping {
    fn word(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

impl Form {
    /// The value of `Content-Type`.
    pub(super) fn content_type(self) -> String {
        match self {
            Self::Text { v1, escaping } => {
                let version = if v1 { "1.0.0" } else { "0.0.4" };
                let escaping = escaping.word();
                format!("text/plain; version={version}; charset=utf-8; escaping={escaping}")
            }
            Self::Protobuf(escaping) => format!(
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited; escaping={}",
                escaping.word()
            ),
        }
    }

    pub(super) fn escaping(self) -> Escaping {
        match self {
            Self::Text { escaping, .. } | Self::Protobuf(escaping) => escaping,
        }
    }
}

/// The best form that the header `Accept` names; text 0.0.4 if there is none.
pub(super) fn negotiate(accept: &str) -> Form {
    let mut ranges: Vec<(f64, Option<Form>)> = accept.split(',').map(accepted).collect();
    ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = ranges.into_iter().filter(|(quality, _)| *quality > 0.0).find_map(|(_, form)| form);
    best.unwrap_or(Form::Text { v1: false, escaping: Escaping::Underscores })
}

/// One range of the header: its quality, and the form if it is one we have.
fn accepted(range: &str) -> (f64, Option<Form>) {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or("").to_ascii_lowercase();
    let (mut quality, mut escaping) = (1.0, Escaping::Underscores);
    let (mut version, mut proto, mut encoding) = ("", "", "");
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match (name.trim(), value.trim()) {
            ("q", q) => quality = q.parse().unwrap_or(0.0),
            ("version", text) => version = text,
            ("proto", text) => proto = text,
            ("encoding", text) => encoding = text,
            ("escaping", "allow-utf-8") => escaping = Escaping::AllowUtf8,
            ("escaping", "dots") => escaping = Escaping::Dots,
            ("escaping", "values") => escaping = Escaping::Values,
            _ => {}
        }
    }
    let form = match kind.as_str() {
        "application/vnd.google.protobuf"
            if proto == "io.prometheus.client.MetricFamily" && encoding == "delimited" =>
        {
            Some(Form::Protobuf(escaping))
        }
        "text/plain" if matches!(version, "" | "0.0.4") => Some(Form::Text { v1: false, escaping }),
        "text/plain" if version == "1.0.0" => Some(Form::Text { v1: true, escaping }),
        _ => None,
    };
    (quality, form)
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_plain(name: &str, colons: bool) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || colons && c == ':';
    name.starts_with(|c| starts_name(c) || colons && c == ':') && name.chars().all(allowed)
}

/// A name as the form can say it. Colons belong to the alphabet of metrics, not of labels.
pub(super) fn escaped(name: &str, colons: bool, escaping: Escaping) -> Cow<'_, str> {
    let plain = is_plain(name, colons);
    if escaping == Escaping::AllowUtf8 || plain && escaping != Escaping::Dots {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 8);
    if escaping == Escaping::Values {
        out.push_str("U__");
    }
    for (i, c) in name.chars().enumerate() {
        let first = i == 0 && c.is_ascii_digit();
        let kept = (c.is_ascii_alphanumeric() || c == '_' || colons && c == ':') && !first;
        match escaping {
            Escaping::Dots if c == '_' => out.push_str("__"),
            Escaping::Dots if c == '.' => out.push_str("_dot_"),
            Escaping::Dots if !kept => out.push_str("__"),
            Escaping::Values if c == '_' => out.push_str("__"),
            Escaping::Values if !kept => out.push_str(&format!("_{:x}_", u32::from(c))),
            Escaping::Underscores if !kept => out.push('_'),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The labels that are exposed: all but the name, `instance` at the end if there is none, so that
/// the scraping server does not put its own there.
fn exposed(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    let no_instance = labels.get("instance").is_none().then_some(("instance", ""));
    labels.iter().filter(|(name, _)| *name != METRIC_NAME).chain(no_instance)
}

/// Appends the line of a sample, below the line of its type if it is the first of its family.
pub(super) fn push_line(
    out: &mut Vec<u8>,
    labels: &Labels,
    (at_ms, value): (i64, f64),
    escaping: Escaping,
    first: bool,
) {
    let name = escaped(labels.metric_name(), true, escaping);
    let plain = is_plain(&name, true);
    if first {
        out.extend_from_slice(b"# TYPE ");
        push_name(out, &name, plain);
        out.extend_from_slice(b" untyped\n");
    }
    if plain {
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b'{');
    if !plain {
        push_quoted(out, &name);
    }
    for (i, (label, value)) in exposed(labels).enumerate() {
        if i > 0 || !plain {
            out.push(b',');
        }
        let label = escaped(label, false, escaping);
        push_name(out, &label, is_plain(&label, false));
        out.push(b'=');
        push_quoted(out, value);
    }
    out.extend_from_slice(b"} ");
    push_exposed(out, value);
    out.push(b' ');
    push_integer(out, at_ms);
    out.push(b'\n');
}

fn push_name(out: &mut Vec<u8>, name: &str, plain: bool) {
    if plain { out.extend_from_slice(name.as_bytes()) } else { push_quoted(out, name) }
}

fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
    out.push(b'"');
}

/// `MetricType` of the protobuf form.
const UNTYPED: u64 = 3;
/// See [`UNTYPED`].
const HISTOGRAM: u64 = 4;
/// See [`UNTYPED`].
const GAUGE_HISTOGRAM: u64 = 5;

/// Appends a family: its name, its type, its metrics, with the length before it.
pub(super) fn push_family(
    out: &mut Vec<u8>,
    name: &str,
    metrics: &[(&Labels, i64, &Newest)],
    escaping: Escaping,
) {
    let mut family = Vec::new();
    wire::put_bytes(&mut family, 1, escaped(name, true, escaping).as_bytes());
    let kind = match metrics.first() {
        Some((_, _, Newest::Histogram(h))) if h.reset_hint == ResetHint::Gauge => GAUGE_HISTOGRAM,
        Some((_, _, Newest::Histogram(_))) => HISTOGRAM,
        _ => UNTYPED,
    };
    wire::put_number_always(&mut family, 3, kind);
    let mut metric = Vec::new();
    for (labels, at_ms, newest) in metrics {
        metric.clear();
        for (label, value) in exposed(labels) {
            let mut pair = Vec::new();
            wire::put_bytes(&mut pair, 1, escaped(label, false, escaping).as_bytes());
            wire::put_bytes(&mut pair, 2, value.as_bytes());
            wire::put_bytes(&mut metric, 1, &pair);
        }
        match newest {
            Newest::Float(value) => {
                let mut untyped = Vec::new();
                wire::put_float_always(&mut untyped, 1, *value);
                wire::put_bytes(&mut metric, 5, &untyped);
            }
            Newest::Histogram(histogram) => {
                wire::put_bytes(&mut metric, 7, &native(histogram));
            }
        }
        wire::put_number_always(&mut metric, 6, *at_ms as u64);
        wire::put_bytes(&mut family, 4, &metric);
    }
    model::varint::put(out, family.len() as u64);
    out.append(&mut family);
}

/// The native part of an `io.prometheus.client.Histogram`.
fn native(histogram: &Histogram) -> Vec<u8> {
    use model::Buckets::{Float, Integer};
    let mut out = Vec::new();
    match &histogram.buckets {
        Integer { count, zero_count, .. } => {
            wire::put_number_always(&mut out, 1, *count);
            wire::put_number_always(&mut out, 7, *zero_count);
        }
        Float { count, zero_count, .. } => {
            wire::put_float_always(&mut out, 4, *count);
            wire::put_float_always(&mut out, 8, *zero_count);
        }
    }
    wire::put_float_always(&mut out, 2, histogram.sum);
    wire::put_number_always(&mut out, 5, wire::zigzag(i64::from(histogram.schema)));
    wire::put_float_always(&mut out, 6, histogram.zero_threshold);
    let (negative, positive) = match &histogram.buckets {
        Integer { positive_deltas, negative_deltas, .. } => {
            ((10, wire::packed_signed(negative_deltas)), (13, wire::packed_signed(positive_deltas)))
        }
        Float { positive, negative, .. } => {
            ((11, wire::packed_floats(negative)), (14, wire::packed_floats(positive)))
        }
    };
    for (spans, number, (field, packed)) in
        [(&histogram.negative_spans, 9, negative), (&histogram.positive_spans, 12, positive)]
    {
        spans.iter().for_each(|span| wire::put_span(&mut out, number, span));
        if !packed.is_empty() {
            wire::put_bytes(&mut out, field, &packed);
        }
    }
    if histogram.positive_spans.is_empty() && histogram.negative_spans.is_empty() {
        // A histogram without spans is a classic one; an empty span says that this is none.
        wire::put_span(&mut out, 12, &model::Span { offset: 0, length: 0 });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, content_type: &str) {
        let found = negotiate(accept).content_type();
        assert!(found.starts_with(content_type), "{accept}: {found}");
    }

    #[test]
    fn forms_are_negotiated() {
        let text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        check("", text);
        check("*/*", text);
        check("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", text);
        check(
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.5",
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        );
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        check(protobuf, "application/vnd.google.protobuf");
        check(&format!("{protobuf};q=0.3,text/plain;version=0.0.4;q=0.4"), text);
        check(&protobuf.replace("delimited", "text"), text);
        check("text/plain;q=0", text);
    }

    #[test]
    fn names_are_escaped() {
        for (escaping, written) in [
            (Escaping::AllowUtf8, "http.status_é"),
            (Escaping::Underscores, "http_status__"),
            (Escaping::Dots, "http_dot_status____"),
            (Escaping::Values, "U__http_2e_status___e9_"),
        ] {
            assert_eq!(escaped("http.status_é", true, escaping), written);
        }
        assert_eq!(escaped("a:b", true, Escaping::Underscores), "a:b");
        assert_eq!(escaped("a:b", false, Escaping::Underscores), "a_b");
        assert_eq!(escaped("1a", false, Escaping::Underscores), "_a");
        assert_eq!(escaped("up", true, Escaping::Values), "up");
    }
}
