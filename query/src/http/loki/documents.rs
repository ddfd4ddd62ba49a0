//! What Loki answers, written piece by piece.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use model::Labels;

use super::super::documents::Document;
use super::super::json::{
    comma, push_labels, push_point, push_string, push_string_map, push_strings,
};
use super::super::reply::Reply;
use super::super::times::rfc3339_text;
use crate::entries::{EntryRow, LEVEL_NAME, Series, Steps, all_labels};
use crate::number::{push_integer, push_unsigned, push_value};
use crate::querier::Timed;
use crate::{About, Used};

/// The version of Loki whose API this is: clients switch features on by it.
const API_VERSION: &str = "3.5.0";

/// A document that is there already.
pub(super) struct Whole(Vec<u8>);

impl Document for Whole {
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        out.append(&mut self.0);
        false
    }
}

pub(in crate::http) fn whole(write: impl FnOnce(&mut Vec<u8>)) -> Reply {
    let mut out = Vec::new();
    write(&mut out);
    Reply::document(Whole(out))
}

/// `status/buildinfo`, without an envelope.
pub(super) fn build_info(about: &About) -> Reply {
    let pairs = [
        ("version", API_VERSION.to_owned()),
        ("revision", about.revision.clone()),
        ("branch", String::new()),
        ("buildUser", format!("Taffrail {}", about.version)),
        ("buildDate", about.built.clone()),
        ("goVersion", String::new()),
    ];
    whole(|out| push_string_map(out, &pairs))
}

/// `format_query`: also a refusal is a document.
pub(super) fn formatted(formatted: Result<String, String>) -> Reply {
    let (code, status, field, text) = match formatted {
        Ok(text) => (StatusCode::OK, "success", "data", text),
        Err(error) => (StatusCode::BAD_REQUEST, "invalid-query", "error", error),
    };
    let mut out = Vec::new();
    push_string_map(&mut out, &[("status", status.to_owned()), (field, text)]);
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Reply::Ready((code, kind, out).into_response())
}

/// A list of strings in Loki's envelope.
pub(super) fn strings(items: &[String]) -> Reply {
    whole(|out| {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":");
        push_strings(out, items);
        out.push(b'}');
    })
}

/// The same in that of `/api/prom`.
pub(super) fn old_strings(items: &[String]) -> Reply {
    whole(|out| {
        out.extend_from_slice(b"{\"values\":");
        push_strings(out, items);
        out.push(b'}');
    })
}

const HEAD: &[u8] = b"{\"status\":\"success\",\"data\":{\"resultType\":\"";

/// What an answer cost, as the field `stats` tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    used: Used,
    queued_seconds: f64,
    ran_seconds: f64,
    entries: usize,
}

impl Cost {
    pub(super) fn of<T>(timed: &Timed<(T, Used)>, entries: usize) -> Self {
        let (queued_seconds, ran_seconds) = (timed.queued.as_secs_f64(), timed.ran.as_secs_f64());
        Self { used: timed.answer.1, queued_seconds, ran_seconds, entries }
    }

    /// Ends the data and the document.
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"stats\":{\"summary\":{");
        let rate = |amount: u64| (amount as f64 / self.ran_seconds.max(1e-9)) as u64;
        let counts = [
            ("bytesProcessedPerSecond", rate(self.used.bytes)),
            ("linesProcessedPerSecond", rate(self.used.samples)),
            ("totalBytesProcessed", self.used.bytes),
            ("totalLinesProcessed", self.used.samples),
            ("totalEntriesReturned", self.entries as u64),
            ("splits", 0),
            ("shards", 0),
            ("subqueries", 0),
        ];
        for (name, count) in counts {
            push_string(out, name);
            out.push(b':');
            push_unsigned(out, count);
            out.push(b',');
        }
        out.extend_from_slice(b"\"execTime\":");
        push_value(out, self.ran_seconds);
        out.extend_from_slice(b",\"queueTime\":");
        push_value(out, self.queued_seconds);
        out.extend_from_slice(b"}}}}");
    }
}

/// Entries by label set, in order of the sets; in each in the order in which they were found.
pub(super) struct Streams {
    streams: std::collections::btree_map::IntoIter<Labels, Vec<EntryRow>>,
    current: Option<std::vec::IntoIter<EntryRow>>,
    entries_written: usize,
    streams_written: usize,
    /// Whether fields stand beside each entry, or are among its stream's labels.
    categorizes: bool,
    began: bool,
    cost: Cost,
}

impl Streams {
    pub(super) fn new(rows: Vec<EntryRow>, categorizes: bool, cost: Cost) -> Self {
        let mut streams: BTreeMap<Labels, Vec<EntryRow>> = BTreeMap::new();
        for row in rows {
            let labels = if categorizes { Labels::clone(&row.stream) } else { all_labels(&row) };
            streams.entry(labels).or_default().push(row);
        }
        let streams = streams.into_iter();
        let (entries_written, streams_written) = (0, 0);
        Self {
            streams,
            current: None,
            entries_written,
            streams_written,
            categorizes,
            began: false,
            cost,
        }
    }
}

impl Document for Streams {
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.began {
            self.began = true;
            out.extend_from_slice(HEAD);
            out.extend_from_slice(b"streams\"");
            if self.categorizes {
                out.extend_from_slice(b",\"encodingFlags\":[\"categorize-labels\"]");
            }
            out.extend_from_slice(b",\"result\":[");
        }
        if let Some(rows) = &mut self.current {
            if let Some(row) = rows.next() {
                comma(out, self.entries_written);
                self.entries_written += 1;
                push_entry(out, &row, self.categorizes);
                return true;
            }
            out.extend_from_slice(b"]}");
            self.current = None;
        }
        let Some((labels, rows)) = self.streams.next() else {
            out.push(b']');
            self.cost.write(out);
            return false;
        };
        comma(out, self.streams_written);
        self.streams_written += 1;
        self.entries_written = 0;
        out.extend_from_slice(b"{\"stream\":");
        push_labels(out, &labels);
        out.extend_from_slice(b",\"values\":[");
        self.current = Some(rows.into_iter());
        true
    }
}

/// `["time","line"]`, or with a third element that tells fields.
pub(super) fn push_entry(out: &mut Vec<u8>, row: &EntryRow, categorizes: bool) {
    out.extend_from_slice(b"[\"");
    push_integer(out, row.place.at_ns);
    out.extend_from_slice(b"\",");
    push_string(out, &String::from_utf8_lossy(&row.line));
    if categorizes {
        out.extend_from_slice(b",{\"structuredMetadata\":{");
        push_fields(out, row);
        out.extend_from_slice(b"}}");
    }
    out.push(b']');
}

/// Fields and the level, as members of an object.
fn push_fields(out: &mut Vec<u8>, row: &EntryRow) {
    let level = (LEVEL_NAME, row.level.as_str());
    let has_level = row.fields.iter().any(|(name, _)| name == LEVEL_NAME);
    let fields = row.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (at, (name, value)) in fields.chain((!has_level).then_some(level)).enumerate() {
        comma(out, at);
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
}

/// Entries as `/api/prom/query` gave them.
pub(super) fn old_streams(rows: &[EntryRow]) -> Reply {
    let mut streams: BTreeMap<Labels, Vec<&EntryRow>> = BTreeMap::new();
    for row in rows {
        streams.entry(all_labels(row)).or_default().push(row);
    }
    whole(|out| {
        out.extend_from_slice(b"{\"streams\":[");
        for (at, (labels, rows)) in streams.iter().enumerate() {
            comma(out, at);
            out.extend_from_slice(b"{\"labels\":");
            push_string(out, &labels_text(labels));
            out.extend_from_slice(b",\"entries\":[");
            for (at, row) in rows.iter().enumerate() {
                comma(out, at);
                push_old_entry(out, row);
            }
            out.extend_from_slice(b"]}");
        }
        out.extend_from_slice(b"]}");
    })
}

/// Labels as a selector writes them.
pub(super) fn labels_text(labels: &Labels) -> String {
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// An entry as `/api/prom` gives it.
pub(super) fn push_old_entry(out: &mut Vec<u8>, row: &EntryRow) {
    out.extend_from_slice(b"{\"ts\":");
    push_string(out, &rfc3339_ns(row.place.at_ns));
    out.extend_from_slice(b",\"line\":");
    push_string(out, &String::from_utf8_lossy(&row.line));
    out.push(b'}');
}

/// An instant with nanoseconds.
pub(in crate::http) fn rfc3339_ns(at_ns: i64) -> String {
    let seconds = rfc3339_text(at_ns.div_euclid(1_000_000));
    format!("{}.{:09}Z", &seconds[..seconds.len() - 5], at_ns.rem_euclid(1_000_000_000))
}

/// Values of one instant.
pub(super) fn vector(series: &[Series], at_ns: i64, cost: Cost) -> Reply {
    whole(|out| {
        out.extend_from_slice(HEAD);
        out.extend_from_slice(b"vector\",\"result\":[");
        let there = series.iter().filter_map(|one| Some((one, (*one.values.first()?)?)));
        for (at, (one, value)) in there.enumerate() {
            comma(out, at);
            out.extend_from_slice(b"{\"metric\":");
            push_labels(out, &one.labels);
            out.extend_from_slice(b",\"value\":");
            push_point(out, at_ns.div_euclid(1_000_000), value);
            out.push(b'}');
        }
        out.push(b']');
        cost.write(out);
    })
}

/// A number.
pub(super) fn scalar(value: f64, at_ns: i64, cost: Cost) -> Reply {
    whole(|out| {
        out.extend_from_slice(HEAD);
        out.extend_from_slice(b"scalar\",\"result\":");
        push_point(out, at_ns.div_euclid(1_000_000), value);
        cost.write(out);
    })
}

/// Values of many instants, a series at a time.
pub(super) struct Matrix {
    series: std::vec::IntoIter<Series>,
    steps: Steps,
    written: usize,
    began: bool,
    cost: Cost,
}

impl Matrix {
    pub(super) fn new(series: Vec<Series>, steps: Steps, cost: Cost) -> Self {
        Self { series: series.into_iter(), steps, written: 0, began: false, cost }
    }
}

impl Document for Matrix {
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.began {
            self.began = true;
            out.extend_from_slice(HEAD);
            out.extend_from_slice(b"matrix\",\"result\":[");
        }
        let Some(series) = self.series.next() else {
            out.push(b']');
            self.cost.write(out);
            return false;
        };
        comma(out, self.written);
        self.written += 1;
        out.extend_from_slice(b"{\"metric\":");
        push_labels(out, &series.labels);
        out.extend_from_slice(b",\"values\":[");
        let there =
            series.values.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?)));
        for (written, (at, value)) in there.enumerate() {
            comma(out, written);
            let after_ns = self.steps.step_ns.saturating_mul(at as i64);
            let at_ns = self.steps.start_ns.saturating_add(after_ns);
            push_point(out, at_ns.div_euclid(1_000_000), value);
        }
        out.extend_from_slice(b"]}");
        true
    }
}
