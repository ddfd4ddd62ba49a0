//! A request's entries, checked and dealt out to partitions: everything that needs no lock.

use std::ops::Range;

use hashbrown::HashMap;
use model::{Labels, SeriesId, TENANT_LABEL};
use tenancy::{Limits, Retention, WriteScope};

use super::head::{NewOrKnown, Share};
use super::page::{Mark, Page, Row, put_field};
use super::payload::Body;
use super::rows::{Entry, EntryOutcome, EntryReason, EntryRows, Field, StreamRows};
use super::usage::{ActiveStreams, Activity};

/// Bytes of lines and fields after which a record is full.
const SHARE_BYTES: usize = 8 << 20;

/// Rows after which a record is full.
const SHARE_ROWS: usize = 1 << 20;

/// How much of a line, a label or a field is told in an answer. Bytes.
const TOLD_BYTES: usize = 120;

const NS_PER_MS: i64 = 1_000_000;

/// What checking a request needs to know.
pub(crate) struct Context<'a> {
    pub(crate) scope: &'a WriteScope,
    pub(crate) active: &'a ActiveStreams,
    pub(crate) now_ms: i64,
    /// Which partition a stream belongs to, of how many.
    pub(crate) route: &'a dyn Fn(SeriesId) -> u16,
    pub(crate) partitions: u16,
}

/// What is good of a request, by partition.
pub(crate) fn share_out(
    context: &Context<'_>,
    rows: &EntryRows<'_>,
    outcome: &mut EntryOutcome,
) -> Vec<Vec<Share>> {
    let mut shares: Vec<Shares> =
        (0..context.partitions).map(|_| Shares::for_part_of(rows, context.partitions)).collect();
    let mut checker = Checker { limits: context.scope.limits(), rows, fields: Vec::new() };
    for stream in &rows.streams {
        let entries = usable(&rows.entries, &stream.entries);
        let asked = stream.entries.len() as u64;
        if entries.len() as u64 != asked {
            let reason = EntryReason::InvalidEntry;
            outcome.reject(reason, asked - entries.len() as u64, || {
                "an entry lies outside the request".to_owned()
            });
        }
        if entries.is_empty() {
            continue;
        }
        let encoded = rows.bytes(&stream.labels);
        let id = SeriesId::of_encoded(encoded);
        match admit(context, stream, id, encoded) {
            Ok(is_new) => outcome.streams_created += u64::from(is_new),
            Err((reason, text)) => {
                outcome.reject(reason, entries.len() as u64, || text);
                continue;
            }
        }
        let limits = context.scope.limits();
        let kept_seconds = limits.entries_retention_seconds(stream.signal);
        let oldest_ms = Retention::oldest_ms(kept_seconds, context.now_ms);
        let ahead_ms = i64::try_from(limits.future_seconds_max.saturating_mul(1000));
        let newest_ms = context.now_ms.saturating_add(ahead_ms.unwrap_or(i64::MAX));
        let window = (oldest_ms.saturating_mul(NS_PER_MS), newest_ms.saturating_mul(NS_PER_MS));
        let Some(shares) = shares.get_mut(usize::from((context.route)(id))) else { continue };
        let named = || Labels::from_wire(encoded).map(|l| l.to_string()).unwrap_or_default();
        for entry in entries {
            match checker.check(entry, window) {
                Ok(checked) => shares.push(stream, id, encoded, &checked, &checker.fields, outcome),
                Err((reason, text)) => outcome
                    .reject(reason, 1, || format!("{text}, in stream {}", shortened(&named()))),
            }
        }
    }
    shares.into_iter().map(Shares::finish).collect()
}

fn usable<'a>(all: &'a [Entry], range: &Range<u32>) -> &'a [Entry] {
    all.get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// Lets a stream in; says whether it is new.
fn admit(
    context: &Context<'_>,
    stream: &StreamRows,
    id: SeriesId,
    encoded: &[u8],
) -> Result<bool, (EntryReason, String)> {
    let (tenant, limits) = (context.scope.tenant(), context.scope.limits());
    if context.active.touch(tenant, stream.signal, id, context.now_ms) {
        return Ok(false);
    }
    check_labels(encoded, limits)?;
    let max = limits.active_streams_max;
    match context.active.admit(tenant, stream.signal, id, context.now_ms, max) {
        Activity::Known => Ok(false),
        Activity::New => Ok(true),
        Activity::TooMany => {
            let text = format!("the tenant has {max} active streams, which is the limit");
            Err((EntryReason::ActiveStreamLimit, text))
        }
    }
}

/// Checks a new stream's labels.
fn check_labels(encoded: &[u8], limits: &Limits) -> Result<(), (EntryReason, String)> {
    let invalid = |text: String| (EntryReason::InvalidLabels, text);
    let labels = Labels::from_wire(encoded).map_err(|e| invalid(e.to_string()))?;
    let stream = || shortened(&labels.to_string());
    let mut canonical = Vec::with_capacity(encoded.len());
    labels.encode(&mut canonical);
    if canonical != encoded {
        return Err(invalid(format!(
            "labels of stream {} are not in canonical encoding",
            stream()
        )));
    }
    if labels.is_empty() {
        return Err(invalid("a stream has no labels".to_owned()));
    }
    if labels.get(TENANT_LABEL).is_some() {
        return Err(invalid(format!(
            "label {TENANT_LABEL} of stream {} is reserved: it names the tenant in answers",
            stream()
        )));
    }
    if labels.len() > limits.stream_labels_max {
        let (count, limit) = (labels.len(), limits.stream_labels_max);
        let text = format!("stream {} has {count} labels, the limit is {limit}", stream());
        return Err((EntryReason::TooManyLabels, text));
    }
    for (name, value) in labels.iter() {
        let (bytes, limit) = (name.len(), limits.label_name_bytes_max);
        if bytes > limit {
            let name = shortened(name);
            let text = format!("label name {name:?} has {bytes} bytes, the limit is {limit}");
            return Err((EntryReason::LabelNameTooLong, text));
        }
        let (bytes, limit) = (value.len(), limits.label_value_bytes_max);
        if bytes > limit {
            let value = shortened(value);
            let text = format!(
                "value {value:?} of label {name:?} has {bytes} bytes, the limit is {limit}"
            );
            return Err((EntryReason::LabelValueTooLong, text));
        }
    }
    Ok(())
}

/// Checks entries one by one.
struct Checker<'a> {
    limits: &'a Limits,
    rows: &'a EntryRows<'a>,
    /// The fields of the last one, in canonical encoding.
    fields: Vec<u8>,
}

/// An entry that is stored.
struct Checked<'a> {
    at_ns: i64,
    line: &'a [u8],
    mark: Mark,
}

impl<'a> Checker<'a> {
    fn check(
        &mut self,
        entry: &Entry,
        (oldest_ns, newest_ns): (i64, i64),
    ) -> Result<Checked<'a>, (EntryReason, String)> {
        let at_ns = entry.at_ns;
        if at_ns < oldest_ns {
            let text = format!("{at_ns} ns is older than what is kept, from {oldest_ns} ns on");
            return Err((EntryReason::TooOld, text));
        }
        if at_ns > newest_ns {
            let text = format!("{at_ns} ns lies further ahead than {newest_ns} ns");
            return Err((EntryReason::TooFarInFuture, text));
        }
        self.check_fields(entry)?;
        let whole = self.rows.bytes(&entry.line);
        let line = cut(whole, self.limits.entry_line_bytes_max);
        let is_truncated = entry.is_truncated || line.len() < whole.len();
        Ok(Checked { at_ns, line, mark: Mark::new(entry.level, entry.has_own_time, is_truncated) })
    }

    fn check_fields(&mut self, entry: &Entry) -> Result<(), (EntryReason, String)> {
        self.fields.clear();
        let range = entry.fields.start as usize..entry.fields.end as usize;
        let Some(fields) = self.rows.fields.get(range) else {
            return Err((EntryReason::InvalidField, "a field lies outside the request".to_owned()));
        };
        let (count, limit) = (fields.len(), self.limits.entry_fields_max);
        if count > limit {
            let text = format!("{count} fields, the limit is {limit}");
            return Err((EntryReason::TooManyFields, text));
        }
        let bytes: usize = fields.iter().map(|f| f.name.len() + f.value.len()).sum();
        let limit = self.limits.entry_fields_bytes_max;
        if bytes > limit {
            let text = format!("fields of {bytes} bytes, the limit is {limit}");
            return Err((EntryReason::FieldsTooLong, text));
        }
        let pair = |f: &Field| {
            let text = |place| std::str::from_utf8(self.rows.bytes(place));
            Ok((text(&f.name)?, text(&f.value)?))
        };
        let pairs: Result<Vec<(&str, &str)>, std::str::Utf8Error> =
            fields.iter().map(pair).collect();
        let mut pairs =
            pairs.map_err(|e| (EntryReason::InvalidField, format!("a field is not UTF-8: {e}")))?;
        if pairs.iter().any(|(name, _)| name.is_empty()) {
            return Err((EntryReason::InvalidField, "a field has no name".to_owned()));
        }
        // The last of a name counts: sorting keeps the order of equal ones.
        pairs.sort_by_key(|(name, _)| *name);
        for (i, (name, value)) in pairs.iter().enumerate() {
            if pairs.get(i + 1).is_none_or(|(next, _)| next != name) {
                put_field(&mut self.fields, name, value);
            }
        }
        Ok(())
    }
}

/// At most so many bytes, and no character cut in two.
fn cut(line: &[u8], bytes_max: usize) -> &[u8] {
    if line.len() <= bytes_max {
        return line;
    }
    let is_inside = |at: &usize| line[*at] & 0xc0 == 0x80;
    let at = (bytes_max.saturating_sub(3)..=bytes_max).rev().find(|at| !is_inside(at));
    &line[..at.unwrap_or(bytes_max)]
}

/// The first bytes: enough to recognise, too little to fill a log.
fn shortened(text: &str) -> String {
    if text.len() <= TOLD_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(TOLD_BYTES)])
}

/// The shares of one partition.
#[derive(Default)]
struct Shares {
    full: Vec<Share>,
    next: Share,
    /// Places in `next.streams`, by signal and place of the labels.
    known: HashMap<(model::Signal, SeriesId), Vec<u32>>,
}

impl Shares {
    /// With room for what comes to one of some partitions, where streams are even.
    fn for_part_of(rows: &EntryRows<'_>, partitions: u16) -> Self {
        let part = |all: usize| all / usize::from(partitions).max(1);
        let (entries, bytes) = (part(rows.entries.len()), part(rows.body.len()));
        let page = Page::with_capacity(entries.min(SHARE_ROWS), bytes.min(SHARE_BYTES));
        Self { next: Share { page, ..Share::default() }, ..Self::default() }
    }

    fn push(
        &mut self,
        stream: &StreamRows,
        id: SeriesId,
        encoded: &[u8],
        entry: &Checked<'_>,
        fields: &[u8],
        outcome: &mut EntryOutcome,
    ) {
        let page = &self.next.page;
        if page.raw_bytes() >= SHARE_BYTES || page.rows() >= SHARE_ROWS {
            self.close();
        }
        let place = self.place_of(stream, id, encoded);
        let &Checked { at_ns, line, mark } = entry;
        self.next.page.push(Row { stream: place, at_ns, mark, line, fields });
        outcome.entries += 1;
        outcome.bytes += (line.len() + fields.len()) as u64;
        outcome.truncated += u64::from(mark.is_truncated());
    }

    fn place_of(&mut self, stream: &StreamRows, id: SeriesId, encoded: &[u8]) -> u32 {
        let (signal, kind) = (stream.signal, stream.kind);
        let streams = &mut self.next.streams;
        // Nearly always that of the entry before.
        let is_same = |known: &NewOrKnown| {
            (known.signal, known.id) == (signal, id) && known.encoded == encoded
        };
        if streams.last().is_some_and(is_same) {
            return streams.len() as u32 - 1;
        }
        let places = self.known.entry((signal, id)).or_default();
        if let Some(place) = places.iter().find(|p| is_same(&streams[**p as usize])) {
            return *place;
        }
        let place = streams.len() as u32;
        places.push(place);
        streams.push(NewOrKnown { signal, kind, id, encoded: encoded.to_vec() });
        place
    }

    fn close(&mut self) {
        self.known.clear();
        let mut share = std::mem::take(&mut self.next);
        if !share.page.is_empty() {
            share.body = Body::of(&share.page);
            self.full.push(share);
        }
    }

    fn finish(mut self) -> Vec<Share> {
        self.close();
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_between_characters() {
        #[track_caller]
        fn check(line: &[u8], bytes_max: usize, kept: usize) {
            assert_eq!(cut(line, bytes_max), &line[..kept]);
        }
        check(b"abc", 3, 3);
        check(b"abcd", 3, 3);
        check("aé".as_bytes(), 2, 1);
        check("a\u{1f600}b".as_bytes(), 4, 1);
        check("a\u{1f600}b".as_bytes(), 5, 5);
        check(&[0x80; 10], 5, 5);
        check(b"abc", 0, 0);
    }
}
