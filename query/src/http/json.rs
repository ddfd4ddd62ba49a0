//! JSON by hand: answers have millions of numbers, and each is written once, straight into the
//! buffer that is sent.

use model::Labels;

use crate::number::{push_integer, push_seconds, push_unsigned, push_value};
use crate::{FloatHistogram, PhaseTime, Stats};

/// Appends a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let hex = b"0123456789abcdef";
                let (high, low) = (hex[usize::from(control >> 4)], hex[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends a list of strings.
pub(super) fn push_strings(out: &mut Vec<u8>, texts: &[String]) {
    out.push(b'[');
    for (i, text) in texts.iter().enumerate() {
        comma(out, i);
        push_string(out, text);
    }
    out.push(b']');
}

/// Appends a comma before every element but the first.
#[inline]
pub(super) fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

/// Appends a label set as an object.
pub(super) fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        comma(out, i);
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

/// Appends a float as a string.
#[inline]
pub(super) fn push_quoted(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    push_value(out, value);
    out.push(b'"');
}

/// Appends `[time,"value"]`.
#[inline]
pub(super) fn push_point(out: &mut Vec<u8>, at_ms: i64, value: f64) {
    out.push(b'[');
    push_seconds(out, at_ms);
    out.push(b',');
    push_quoted(out, value);
    out.push(b']');
}

/// Appends `[time,{histogram}]`.
pub(super) fn push_histogram_point(out: &mut Vec<u8>, at_ms: i64, histogram: &FloatHistogram) {
    out.push(b'[');
    push_seconds(out, at_ms);
    out.push(b',');
    push_histogram(out, histogram);
    out.push(b']');
}

/// Count, sum and buckets that are not empty, each `[rule,"lower","upper","count"]`; the rule says
/// which bounds belong to it: 0 the upper, 1 the lower, 2 none, 3 both.
fn push_histogram(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    out.extend_from_slice(b"{\"count\":");
    push_quoted(out, histogram.count);
    out.extend_from_slice(b",\"sum\":");
    push_quoted(out, histogram.sum);
    let filled = histogram.buckets().into_iter().filter(|bucket| bucket.count != 0.0);
    let mut written = 0;
    for bucket in filled {
        out.extend_from_slice(if written == 0 { b",\"buckets\":[" } else { b"," });
        written += 1;
        let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        };
        out.extend_from_slice(&[b'[', rule]);
        for number in [bucket.lower, bucket.upper, bucket.count] {
            out.push(b',');
            push_quoted(out, number);
        }
        out.push(b']');
    }
    out.extend_from_slice(if written == 0 { b"}" } else { b"]}" });
}

/// Times of one request that only the caller of the executor knows. Seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timings {
    /// Waiting for a turn.
    pub queued: f64,
    /// Evaluating, preparation included.
    pub evaluated: f64,
    /// Whether phases of the evaluation are to be told.
    pub with_phases: bool,
}

/// Appends the object behind `"stats"`.
pub(super) fn push_stats(out: &mut Vec<u8>, stats: &Stats, timings: Timings) {
    let seconds = [
        ("evalTotalTime", timings.evaluated),
        ("resultSortTime", stats.sort.as_secs_f64()),
        ("queryPreparationTime", stats.prepare.as_secs_f64()),
        ("innerEvalTime", stats.evaluate.as_secs_f64()),
        ("execQueueTime", timings.queued),
        ("execTotalTime", timings.queued + timings.evaluated),
    ];
    out.extend_from_slice(b"{\"timings\":{");
    for (i, (name, value)) in seconds.into_iter().enumerate() {
        comma(out, i);
        push_string(out, name);
        out.push(b':');
        // JSON has no NaN; durations are finite.
        push_value(out, value);
    }
    let samples = [
        ("totalQueryableSamples", stats.samples_queryable),
        ("peakSamples", stats.samples_peak),
        ("samplesRead", stats.samples_read),
    ];
    out.extend_from_slice(b"},\"samples\":{");
    if !stats.samples_per_step.is_empty() {
        out.extend_from_slice(b"\"totalQueryableSamplesPerStep\":[");
        for (i, (at_ms, count)) in stats.samples_per_step.iter().enumerate() {
            comma(out, i);
            out.push(b'[');
            push_seconds(out, *at_ms);
            out.push(b',');
            push_unsigned(out, *count);
            out.push(b']');
        }
        out.extend_from_slice(b"],");
    }
    for (i, (name, value)) in samples.into_iter().enumerate() {
        comma(out, i);
        push_string(out, name);
        out.push(b':');
        push_unsigned(out, value);
    }
    out.push(b'}');
    if timings.with_phases {
        push_phases(out, &stats.phases);
    }
    out.push(b'}');
}

fn push_phases(out: &mut Vec<u8>, phases: &[PhaseTime]) {
    out.extend_from_slice(b",\"phases\":[");
    for (i, phase) in phases.iter().enumerate() {
        comma(out, i);
        out.extend_from_slice(b"{\"phase\":");
        push_string(out, phase.name);
        out.extend_from_slice(b",\"seconds\":");
        push_value(out, phase.time.as_secs_f64());
        out.extend_from_slice(b",\"times\":");
        push_unsigned(out, phase.times);
        out.push(b'}');
    }
    out.push(b']');
}

/// Appends a list of `{"name":…,"value":…}`.
pub(super) fn push_counts(out: &mut Vec<u8>, counts: &[(String, u64)]) {
    out.push(b'[');
    for (i, (name, count)) in counts.iter().enumerate() {
        comma(out, i);
        out.extend_from_slice(b"{\"name\":");
        push_string(out, name);
        out.extend_from_slice(b",\"value\":");
        push_unsigned(out, *count);
        out.push(b'}');
    }
    out.push(b']');
}

/// Appends an object of strings.
pub(super) fn push_string_map(out: &mut Vec<u8>, pairs: &[(&str, String)]) {
    out.push(b'{');
    for (i, (name, value)) in pairs.iter().enumerate() {
        comma(out, i);
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

/// Appends `"name":number`.
pub(super) fn push_integer_field(out: &mut Vec<u8>, name: &str, value: i64) {
    push_string(out, name);
    out.push(b':');
    push_integer(out, value);
}
