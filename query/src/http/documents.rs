//! Documents: what is answered, written piece by piece so that no answer is in memory twice.

use std::vec::IntoIter;

use super::json::{
    Timings, comma, push_histogram_point, push_labels, push_point, push_stats, push_string,
    push_strings,
};
use crate::number::push_seconds;
use crate::{Answer, MatrixSeries, NOTES_KEPT_MAX, PointValue, Value, VectorPoint};

/// Something that can be written a part at a time.
pub(super) trait Document: Send {
    /// Appends the next part; says whether there is more.
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool;
}

/// Notes of each kind that are shown; the rest is counted (Prometheus, `web/api/v1`).
const NOTES_MAX: usize = 10;

/// The warning of an answer that a parameter `limit` cut.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// What is said beside the data.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) warnings: Vec<String>,
    pub(super) infos: Vec<String>,
}

impl Notes {
    /// The warning that a limit cut the answer, if it did.
    pub(super) fn truncated(truncated: bool) -> Self {
        let warnings = if truncated { vec![TRUNCATED.to_owned()] } else { Vec::new() };
        Self { warnings, infos: Vec::new() }
    }

    /// Ends the envelope.
    fn write(mut self, out: &mut Vec<u8>) {
        for (field, word, notes) in
            [("warnings", "warning", &mut self.warnings), ("infos", "info", &mut self.infos)]
        {
            if notes.is_empty() {
                continue;
            }
            if notes.len() > NOTES_MAX {
                let at_least = if notes.len() >= NOTES_KEPT_MAX { "at least " } else { "" };
                let more = notes.len() - NOTES_MAX;
                notes.truncate(NOTES_MAX);
                notes.push(format!("{at_least}{more} more {word} annotations omitted"));
            }
            out.push(b',');
            push_string(out, field);
            out.push(b':');
            push_strings(out, notes);
        }
        out.push(b'}');
    }
}

const SUCCESS: &[u8] = b"{\"status\":\"success\",\"data\":";

/// A document of one part.
pub(super) struct Single(Vec<u8>);

impl Single {
    /// An envelope around what `write` appends.
    pub(super) fn new(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut out = SUCCESS.to_vec();
        write(&mut out);
        Notes::default().write(&mut out);
        Self(out)
    }
}

impl Document for Single {
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        out.append(&mut self.0);
        false
    }
}

/// A document around a list, written an element at a time.
pub(super) struct List<T> {
    head: Vec<u8>,
    items: IntoIter<T>,
    write: fn(&mut Vec<u8>, &T),
    tail: Vec<u8>,
    written: usize,
}

impl<T> List<T> {
    /// An envelope around a list.
    pub(super) fn new(items: Vec<T>, notes: Notes, write: fn(&mut Vec<u8>, &T)) -> Self {
        let mut tail = b"]".to_vec();
        notes.write(&mut tail);
        Self { head: [SUCCESS, b"["].concat(), items: items.into_iter(), write, tail, written: 0 }
    }

    fn result(kind: &str, items: Vec<T>, write: fn(&mut Vec<u8>, &T), end: ResultEnd) -> Self {
        let mut head = result_head(kind);
        head.push(b'[');
        let mut tail = b"]".to_vec();
        end.write(&mut tail);
        Self { head, items: items.into_iter(), write, tail, written: 0 }
    }
}

impl<T: Send> Document for List<T> {
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        out.append(&mut self.head);
        match self.items.next() {
            Some(item) => {
                comma(out, self.written);
                self.written += 1;
                (self.write)(out, &item);
                true
            }
            None => {
                out.append(&mut self.tail);
                false
            }
        }
    }
}

/// What follows a result.
struct ResultEnd {
    notes: Notes,
    /// The object behind `stats`.
    stats: Option<Vec<u8>>,
}

impl ResultEnd {
    fn write(self, out: &mut Vec<u8>) {
        if let Some(stats) = self.stats {
            out.extend_from_slice(b",\"stats\":");
            out.extend_from_slice(&stats);
        }
        out.push(b'}');
        self.notes.write(out);
    }
}

fn result_head(kind: &str) -> Vec<u8> {
    let mut head = SUCCESS.to_vec();
    head.extend_from_slice(b"{\"resultType\":\"");
    head.extend_from_slice(kind.as_bytes());
    head.extend_from_slice(b"\",\"result\":");
    head
}

/// The answer to an expression. Timings are there if they were asked for.
pub(super) fn of_answer(
    answer: Answer,
    truncated: bool,
    timings: Option<Timings>,
) -> Box<dyn Document> {
    let stats = timings.map(|timings| {
        let mut out = Vec::new();
        push_stats(&mut out, &answer.stats, timings);
        out
    });
    let mut notes = Notes { warnings: answer.warnings, infos: answer.infos };
    if truncated {
        notes.warnings.push(TRUNCATED.to_owned());
    }
    let end = ResultEnd { notes, stats };
    match answer.value {
        Value::Vector(points) => Box::new(List::result("vector", points, write_vector_point, end)),
        Value::Matrix(series) => Box::new(List::result("matrix", series, write_series, end)),
        Value::Scalar { at_ms, value } => {
            let mut out = result_head("scalar");
            push_point(&mut out, at_ms, value);
            end.write(&mut out);
            Box::new(Single(out))
        }
        Value::String { at_ms, value } => {
            let mut out = result_head("string");
            out.push(b'[');
            push_seconds(&mut out, at_ms);
            out.push(b',');
            push_string(&mut out, &value);
            out.push(b']');
            end.write(&mut out);
            Box::new(Single(out))
        }
    }
}

fn write_vector_point(out: &mut Vec<u8>, point: &VectorPoint) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, &point.labels);
    match &point.value {
        PointValue::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            push_point(out, point.at_ms, *value);
        }
        PointValue::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            push_histogram_point(out, point.at_ms, histogram);
        }
    }
    out.push(b'}');
}

fn write_series(out: &mut Vec<u8>, series: &MatrixSeries) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, &series.labels);
    if !series.floats.is_empty() {
        out.extend_from_slice(b",\"values\":[");
        for (i, (at_ms, value)) in series.floats.iter().enumerate() {
            comma(out, i);
            push_point(out, *at_ms, *value);
        }
        out.push(b']');
    }
    if !series.histograms.is_empty() {
        out.extend_from_slice(b",\"histograms\":[");
        for (i, (at_ms, histogram)) in series.histograms.iter().enumerate() {
            comma(out, i);
            push_histogram_point(out, *at_ms, histogram);
        }
        out.push(b']');
    }
    out.push(b'}');
}
