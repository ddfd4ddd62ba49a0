//! What a search does: gives a page of entries, counts them, counts them by time, gives all of
//! them, or gives what stands around one.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::{Matcher, Signal};
use tracing::warn;

use super::super::json::{comma, push_integer_field, push_labels, push_string};
use super::super::loki::{duration, rfc3339_ns, whole};
use super::super::params::{Params, invalid};
use super::super::reply::{Reply, chain};
use super::Question;
use crate::entries::{
    CountEntries, Counted, Direction, EntryRow, EntrySelection, Place, SelectEntries,
};
use crate::number::{push_integer, push_unsigned};
use crate::{Cancel, Error};

/// Entries of one page.
const SIZE_MAX: usize = 5_000;
/// The same of one page of an export, which clients do not see.
const EXPORT_PAGE: usize = 1_000;
/// Buckets of a histogram.
const BUCKETS_MAX: i64 = 11_000;
/// Groups that are told apart in statistics and histograms.
const GROUPS_MAX: usize = 100_000;

/// Answers a search.
pub(super) async fn answer(
    question: Question,
    signal: Signal,
    params: &Params,
) -> Result<Reply, Error> {
    let selection = question.selection(signal, params).await?;
    match params.get("operation") {
        "" | "query" => query(&question, selection, params).await,
        "statistics" => statistics(&question, selection).await,
        "histogram" => histogram(&question, selection, params).await,
        "export" => export(question, selection, params),
        "context" => context(&question, selection, params).await,
        _ => {
            let words = "it is one of query, statistics, histogram, export, context";
            Err(invalid("operation", words))
        }
    }
}

pub(super) fn size(params: &Params, name: &str, default: usize) -> Result<usize, Error> {
    let size = match params.get(name) {
        "" => return Ok(default),
        text => text.parse().ok().filter(|size| *size <= SIZE_MAX),
    };
    size.ok_or_else(|| invalid(name, &format!("it is a number of at most {SIZE_MAX}")))
}

fn direction(params: &Params) -> Result<Direction, Error> {
    match params.get("sort") {
        "" | "desc" => Ok(Direction::Backward),
        "asc" => Ok(Direction::Forward),
        _ => Err(invalid("sort", "it is one of desc, asc")),
    }
}

/// Some entries, as far as there are.
async fn page(question: &Question, request: SelectEntries) -> Result<Vec<EntryRow>, Error> {
    let memory_max = question.scope.limits().query_memory_bytes_max;
    let found = question
        .run(async |cancel: Cancel| {
            let mut request = request;
            request.selection.cancel = cancel;
            let limit = request.limit.unwrap_or(usize::MAX);
            let mut batches = question.entries.select(&question.scope, request).await?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            while rows.len() < limit {
                let Some(batch) = batches.next().await? else { break };
                bytes += batch.iter().map(|row| row.counted_bytes() as usize).sum::<usize>();
                if bytes > memory_max {
                    return Err(Error::Execution(format!(
                        "the entries of this page take more than {memory_max} bytes \
                         (query_memory_bytes_max); ask for fewer at a time"
                    )));
                }
                rows.extend(batch);
            }
            rows.truncate(limit);
            Ok(rows)
        })
        .await?;
    Ok(found.answer)
}

/// `query`: a page, and the cursor of the next one.
async fn query(
    question: &Question,
    selection: EntrySelection,
    params: &Params,
) -> Result<Reply, Error> {
    let size = size(params, "size", 10)?;
    let after = cursor(params, "cursor")?;
    let direction = direction(params)?;
    // One more says whether there are more.
    let limit = Some(size + 1);
    let mut rows = page(question, SelectEntries { selection, direction, limit, after }).await?;
    let more = rows.len() > size;
    rows.truncate(size);
    Ok(whole(|out| {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"entries\":");
        push_entries(out, &rows);
        out.extend_from_slice(b",\"cursor\":");
        match rows.last().filter(|_| more) {
            Some(last) => push_string(out, &place_text(last.place)),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}}");
    }))
}

/// The names by which what entries are about is told apart, and the word for it.
fn subjects(signal: Signal) -> (&'static str, &'static [&'static str]) {
    match signal {
        Signal::Logs => ("containers", &["cluster", "namespace", "pod", "container"]),
        Signal::Events => ("resources", &["involvedObject_uid"]),
        Signal::Audits => (
            "resources",
            &["objectRef_apiGroup", "objectRef_resource", "objectRef_namespace", "objectRef_name"],
        ),
    }
}

/// `statistics`: how many, and of how many.
async fn statistics(question: &Question, selection: EntrySelection) -> Result<Reply, Error> {
    let (word, names) = subjects(selection.signal);
    let width_ns = selection.end_ns.saturating_sub(selection.start_ns);
    let by = names.iter().map(|name| (*name).to_owned()).collect();
    let groups = count(question, selection, (width_ns, 1), by).await?;
    let entries: u64 = groups.iter().flat_map(|group| &group.counts).sum();
    Ok(whole(|out| {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"entries\":");
        push_unsigned(out, entries);
        out.push(b',');
        push_string(out, word);
        out.push(b':');
        push_unsigned(out, groups.len() as u64);
        out.extend_from_slice(b"}}");
    }))
}

async fn count(
    question: &Question,
    selection: EntrySelection,
    (width_ns, buckets): (i64, usize),
    by: Vec<String>,
) -> Result<Vec<crate::entries::EntryCounts>, Error> {
    let found = question
        .run(async |cancel: Cancel| {
            let selection = EntrySelection { cancel, ..selection };
            let counted = Counted::Entries;
            let groups_max = GROUPS_MAX;
            let request = CountEntries { selection, counted, width_ns, buckets, by, groups_max };
            question.entries.count(&question.scope, request).await
        })
        .await?;
    Ok(found.answer)
}

/// `histogram`: counts by interval from the start on, and by the values of some names.
async fn histogram(
    question: &Question,
    selection: EntrySelection,
    params: &Params,
) -> Result<Reply, Error> {
    let width_ns = match params.get("interval") {
        "" => 900_000_000_000,
        text => duration(text)
            .filter(|width_ns| *width_ns > 0)
            .ok_or_else(|| invalid("interval", "it is a duration above 0, such as 15m"))?,
    };
    let (start_ns, length_ns) =
        (selection.start_ns, selection.end_ns.saturating_sub(selection.start_ns));
    let buckets = length_ns / width_ns + i64::from(length_ns % width_ns > 0);
    if buckets > BUCKETS_MAX {
        let text = format!("the range has more than {BUCKETS_MAX} of it; choose a longer one");
        return Err(invalid("interval", &text));
    }
    let by = params.get("by").split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    let buckets = usize::try_from(buckets).unwrap_or(1);
    let groups = count(question, selection, (width_ns, buckets), by.collect()).await?;
    let total: u64 = groups.iter().flat_map(|group| &group.counts).sum();
    Ok(whole(|out| {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"total\":");
        push_unsigned(out, total);
        out.extend_from_slice(b",\"histograms\":[");
        for (at, group) in groups.iter().enumerate() {
            comma(out, at);
            out.extend_from_slice(b"{\"by\":");
            push_labels(out, &group.labels);
            out.extend_from_slice(b",\"buckets\":[");
            for (at, count) in group.counts.iter().enumerate() {
                comma(out, at);
                let after_ns = width_ns.saturating_mul(at as i64);
                out.push(b'{');
                let time_ms = start_ns.saturating_add(after_ns).div_euclid(1_000_000);
                push_integer_field(out, "time", time_ms);
                out.extend_from_slice(b",\"count\":");
                push_unsigned(out, *count);
                out.push(b'}');
            }
            out.extend_from_slice(b"]}");
        }
        out.extend_from_slice(b"]}}");
    }))
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// An object a line, and an object at the end.
    Json,
    /// The lines alone, and a line at the end.
    Text,
}

/// How an export stands.
struct Export {
    question: Question,
    request: SelectEntries,
    format: Format,
    written: u64,
}

/// `export`: all entries, a page at a time, each with a turn of its own. The last line says that
/// it is the last, or why there are not more.
fn export(question: Question, selection: EntrySelection, params: &Params) -> Result<Reply, Error> {
    let (format, kind) = match params.get("format") {
        "" | "json" => (Format::Json, "application/x-ndjson; charset=utf-8"),
        "text" => (Format::Text, "text/plain; charset=utf-8"),
        _ => return Err(invalid("format", "it is one of json, text")),
    };
    let direction = direction(params)?;
    let request = SelectEntries { selection, direction, limit: Some(EXPORT_PAGE), after: None };
    let export = Export { question, request, format, written: 0 };
    let pages = futures::stream::unfold(Some(export), |export| async {
        let mut export = export?;
        let mut out = Vec::new();
        let goes_on = export.write_page(&mut out).await;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(out)), goes_on.then_some(export)))
    });
    let kind = [(header::CONTENT_TYPE, kind)];
    let response: Response = (kind, Body::from_stream(pages)).into_response();
    Ok(Reply::Ready(response))
}

impl Export {
    /// Writes a page, or the end; says whether there may be more.
    async fn write_page(&mut self, out: &mut Vec<u8>) -> bool {
        let rows = match page(&self.question, self.request.clone()).await {
            Ok(rows) => rows,
            Err(error) => {
                let mut text = error.to_string();
                if let Error::Internal { source, .. } = &error {
                    text = format!("{text}: {}", chain(&**source));
                }
                warn!(error = text, written = self.written, "export ended early");
                self.end(out, Some(&text));
                return false;
            }
        };
        for row in &rows {
            match self.format {
                Format::Json => push_entry(out, row),
                Format::Text => out.extend_from_slice(&row.line),
            }
            out.push(b'\n');
        }
        self.written += rows.len() as u64;
        match rows.last().filter(|_| rows.len() >= EXPORT_PAGE) {
            Some(last) => self.request.after = Some(last.place),
            None => {
                self.end(out, None);
                return false;
            }
        }
        true
    }

    fn end(&self, out: &mut Vec<u8>, error: Option<&str>) {
        let written = self.written;
        if self.format == Format::Text {
            let text = match error {
                Some(error) => format!("# not complete: {error}; entries: {written}\n"),
                None => format!("# complete; entries: {written}\n"),
            };
            out.extend_from_slice(text.as_bytes());
            return;
        }
        out.extend_from_slice(b"{\"end\":{\"complete\":");
        out.extend_from_slice(if error.is_some() { b"false" } else { b"true" });
        out.extend_from_slice(b",\"entries\":");
        push_unsigned(out, written);
        if let Some(error) = error {
            out.extend_from_slice(b",\"error\":");
            push_string(out, error);
        }
        out.extend_from_slice(b"}}\n");
    }
}

/// `context`: the entries of the same stream before and after one.
async fn context(
    question: &Question,
    selection: EntrySelection,
    params: &Params,
) -> Result<Reply, Error> {
    let missing = || invalid("place", "an entry's place is needed, as query gives it");
    let place = cursor(params, "place")?.ok_or_else(missing)?;
    let (before, after) = (size(params, "before", 10)?, size(params, "after", 10)?);
    let gone = || Error::NotFound("there is no entry at this place".to_owned());
    let signal = selection.signal;
    let found = at_place(question, selection, place, direction(params)?).await?;
    let Placed { row: found, same, backward, forward } = found.ok_or_else(gone)?;
    let around = |direction, after, limit| {
        let selection = EntrySelection {
            signal,
            selectors: vec![same.clone()],
            // All of the stream, whatever was searched.
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            ..EntrySelection::default()
        };
        SelectEntries { selection, direction, limit: Some(limit), after: Some(after) }
    };
    let mut rows = page(question, around(Direction::Backward, backward, before)).await?;
    rows.reverse();
    let place_in_rows = rows.len();
    rows.push(found);
    rows.extend(page(question, around(Direction::Forward, forward, after)).await?);
    Ok(whole(|out| {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"entries\":");
        push_entries(out, &rows);
        out.extend_from_slice(b",\"at\":");
        push_unsigned(out, place_in_rows as u64);
        out.extend_from_slice(b"}}");
    }))
}

/// An entry, and where it stands among all of its stream.
struct Placed {
    row: EntryRow,
    /// What chooses its stream.
    same: Vec<Matcher>,
    /// Its place where the newest come first.
    backward: Place,
    /// Its place where the oldest do.
    forward: Place,
}

/// The entry that a search with these conditions gave at a place. Places count the entries of an
/// instant, of those that are given, in the order in which they are given: of all others there its
/// place is another one.
async fn at_place(
    question: &Question,
    selection: EntrySelection,
    place: Place,
    direction: Direction,
) -> Result<Option<Placed>, Error> {
    let (start_ns, end_ns) = (place.at_ns, place.at_ns.saturating_add(1));
    let of_instant = |selection: EntrySelection, direction| {
        let selection = EntrySelection { start_ns, end_ns, ..selection };
        page(question, SelectEntries { selection, direction, ..SelectEntries::default() })
    };
    let signal = selection.signal;
    let mut given = of_instant(selection, direction).await?;
    if !given.iter().any(|row| row.place == place) {
        // Of another search: perhaps of one for everything.
        let all = EntrySelection { signal, ..EntrySelection::default() };
        given = of_instant(all, direction).await?;
    }
    let Some(at) = given.iter().position(|row| row.place == place) else { return Ok(None) };
    let row = given[at].clone();
    // Conditions are about what entries say: those that say the same are all there, or none is.
    let says_the_same = |other: &&EntryRow| {
        (&other.stream, &other.line, &other.fields, other.level)
            == (&row.stream, &row.line, &row.fields, row.level)
    };
    let before = given[..at].iter().filter(says_the_same).count();
    let behind = given[at + 1..].iter().filter(says_the_same).count();
    let same: Vec<_> = row.stream.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    let mut places = [place; 2];
    for (found, one) in places.iter_mut().zip([Direction::Backward, Direction::Forward]) {
        let stream = EntrySelection { signal, selectors: vec![same.clone()], ..Default::default() };
        let all = of_instant(stream, one).await?;
        let nth = if one == direction { before } else { behind };
        *found = all.iter().filter(says_the_same).nth(nth).map_or(place, |row| row.place);
    }
    let [backward, forward] = places;
    Ok(Some(Placed { row, same, backward, forward }))
}

/// `sources`: what has ever sent entries that are kept, so that "it is off" can be told from
/// "nothing happened".
pub(super) async fn sources(question: &Question) -> Result<Reply, Error> {
    let found = question
        .run(async |cancel: Cancel| question.entries.sources(&question.scope, &cancel).await)
        .await?;
    Ok(whole(|out| {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":[");
        for (at, source) in found.answer.iter().enumerate() {
            comma(out, at);
            let texts = [
                ("tenant", source.tenant.as_str()),
                ("signal", source.signal.as_str()),
                ("cluster", source.cluster.as_str()),
                ("kind", source.kind.as_str()),
                ("first", &rfc3339_ns(source.first_ns)),
                ("last", &rfc3339_ns(source.last_ns)),
            ];
            for (at, (name, text)) in texts.iter().enumerate() {
                out.push(if at == 0 { b'{' } else { b',' });
                push_string(out, name);
                out.push(b':');
                push_string(out, text);
            }
            for (name, count) in [("entries", source.entries), ("bytes", source.bytes)] {
                out.push(b',');
                push_string(out, name);
                out.push(b':');
                push_unsigned(out, count);
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }))
}

fn push_entries(out: &mut Vec<u8>, rows: &[EntryRow]) {
    out.push(b'[');
    for (at, row) in rows.iter().enumerate() {
        comma(out, at);
        push_entry(out, row);
    }
    out.push(b']');
}

pub(super) fn push_entry(out: &mut Vec<u8>, row: &EntryRow) {
    out.extend_from_slice(b"{\"time\":");
    push_string(out, &rfc3339_ns(row.place.at_ns));
    out.extend_from_slice(b",\"time_ns\":\"");
    push_integer(out, row.place.at_ns);
    out.extend_from_slice(b"\",\"place\":");
    push_string(out, &place_text(row.place));
    out.extend_from_slice(b",\"level\":");
    push_string(out, row.level.as_str());
    out.extend_from_slice(b",\"labels\":");
    push_labels(out, &row.stream);
    out.extend_from_slice(b",\"fields\":{");
    for (at, (name, value)) in row.fields.iter().enumerate() {
        comma(out, at);
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.extend_from_slice(b"},\"line\":");
    push_string(out, &String::from_utf8_lossy(&row.line));
    out.push(b'}');
}

fn place_text(place: Place) -> String {
    format!("{}.{:x}.{:x}", place.at_ns, place.stream, place.sequence)
}

/// A place that was given before.
fn cursor(params: &Params, name: &str) -> Result<Option<Place>, Error> {
    let text = params.get(name);
    if text.is_empty() {
        return Ok(None);
    }
    let read = || {
        let mut parts = text.split('.');
        let at_ns = parts.next()?.parse().ok()?;
        let stream = u128::from_str_radix(parts.next()?, 16).ok()?;
        let sequence = u64::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Place { at_ns, stream, sequence })
    };
    let wrong = || invalid(name, "it is no place; take it from an answer as it stands there");
    read().map(Some).ok_or_else(wrong)
}
