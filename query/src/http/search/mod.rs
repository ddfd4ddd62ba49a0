//! `search/metric_names`, `search/label_names`, `search/label_values`: names and values by what a
//! person types, as lines of JSON. Prometheus' feature `search-api`, experimental there.
//!
//! ```text
//! parameters ─► list, as `labels` and `label/{name}/values` do ─► score ─► batches, a line each ─► end
//! ```
//!
//! What is found is at hand before the first line is written, so a failure is a whole answer and no
//! line among others.

mod scores;
mod terms;

use std::collections::BTreeMap;
use std::vec::IntoIter;

use model::{METRIC_NAME, Metadata, TimeRange};

use self::terms::{Algorithm, Found, Hit, Order, Terms, search};
use super::Question;
use super::documents::Document;
use super::json::{comma, push_string};
use super::listings::restricted;
use super::params::{Params, Selectors, quoted};
use super::reply::Reply;
use crate::number::push_value;
use crate::{Cancel, Error, Listing, Querier, SeriesRequest};

/// Most results of one request: Prometheus' default for `--web.search.max-limit`. Also most on a
/// line.
const LIMIT_MAX: i64 = 10_000;

/// Results of a request, and on a line, that names no number. As in Prometheus.
const LIMIT: i64 = 100;

/// Terms in one request, as in Prometheus: each is compared with everything.
const TERMS_MAX: usize = 32;

/// Length of a term in bytes. What it is compared with is seldom longer, and comparing takes time
/// by the product of both lengths.
const TERM_BYTES_MAX: usize = 1_024;

/// What is searched unless a request says otherwise: the hour up to now. Milliseconds.
const WINDOW_MS: i64 = 3_600_000;

const KIND: &str = "application/x-ndjson; charset=utf-8";

/// What is searched.
#[derive(Debug)]
enum Among {
    MetricNames { metadata: bool },
    LabelNames,
    LabelValues { label: String },
}

/// `search/metric_names`
pub(super) async fn metric_names(question: Question<'_>) -> Result<Reply, Error> {
    let wanted = Wanted::of(&question, "metric_names")?;
    let metadata = switch(&question.params, "include_metadata", false)?;
    if metadata && question.scope.is_restricted() {
        return Err(restricted("metadata of metrics"));
    }
    answer(question, wanted, Among::MetricNames { metadata }).await
}

/// `search/label_names`
pub(super) async fn label_names(question: Question<'_>) -> Result<Reply, Error> {
    let wanted = Wanted::of(&question, "label_names")?;
    answer(question, wanted, Among::LabelNames).await
}

/// `search/label_values`
pub(super) async fn label_values(question: Question<'_>) -> Result<Reply, Error> {
    let wanted = Wanted::of(&question, "label_values")?;
    let label = question.params.get("label").to_owned();
    if label.is_empty() {
        return Err(Error::BadData("missing required parameter \"label\"".to_owned()));
    }
    answer(question, wanted, Among::LabelValues { label }).await
}

async fn answer(question: Question<'_>, wanted: Wanted, among: Among) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, .. } = question;
    let deadline = querier.deadline(&scope, None)?;
    let Wanted { selectors, range, terms, order, limit, batch, with_score } = wanted;
    let work = async |cancel: Cancel| {
        let selectors = selectors.read(querier, &cancel).await?.map_err(Error::BadData)?;
        let request = SeriesRequest { selectors, range, limit: None, cancel: cancel.clone() };
        let executor = querier.executor();
        let listing = match &among {
            Among::MetricNames { .. } => executor.label_values(&scope, METRIC_NAME, request).await,
            Among::LabelNames => executor.label_names(&scope, request).await,
            Among::LabelValues { label } => executor.label_values(&scope, label, request).await,
        };
        let found = searched(querier, listing?, terms, order, limit, &cancel).await?;
        let about = match among {
            Among::MetricNames { metadata: true } if !found.hits.is_empty() => {
                executor.metadata(&scope, None, &cancel).await?
            }
            _ => BTreeMap::new(),
        };
        Ok((found, about))
    };
    let (found, metadata) = querier.run(&scope, deadline, asked, work).await?.answer;
    let Found { hits, more } = found;
    let hits = hits.into_iter();
    let lines = Lines { hits, metadata, more, batch, with_score, begun: false };
    Ok(Reply::Typed(Box::new(lines), KIND.to_owned()))
}

/// Scores what was listed, on another thread.
async fn searched(
    querier: &Querier,
    listing: Listing<String>,
    terms: Terms,
    order: Order,
    limit: usize,
    cancel: &Cancel,
) -> Result<Found, Error> {
    let until = cancel.clone();
    let work = move || search(listing.items, &terms, order, limit, &until);
    let found = querier.apart("search names", work).await?;
    if cancel.is_set() {
        return Err(Error::Canceled("query was canceled in search".to_owned()));
    }
    Ok(found)
}

/// The parameters all three have.
#[derive(Debug)]
struct Wanted {
    selectors: Selectors,
    range: TimeRange,
    terms: Terms,
    order: Order,
    limit: usize,
    /// Results on a line.
    batch: usize,
    with_score: bool,
}

impl Wanted {
    fn of(question: &Question<'_>, endpoint: &str) -> Result<Self, Error> {
        if !question.querier.config().search_api {
            return Err(Error::Disabled("search API disabled".to_owned()));
        }
        let params = &question.params;
        let range = range(params, question.querier.clock().now_ms())?;
        let selectors = params.selectors()?;
        let terms = terms(params)?;
        let with_score = switch(params, "include_score", false)?;
        let order = order(params, endpoint)?;
        let limit = count(params, "limit")?;
        let batch = count(params, "batch_size")?;
        Ok(Self { selectors, range, terms, order, limit, batch, with_score })
    }
}

fn range(params: &Params, now_ms: i64) -> Result<TimeRange, Error> {
    let instant = |name, default_ms| params.instant_text(name, default_ms).map_err(Error::BadData);
    let start_ms = instant("start", now_ms.saturating_sub(WINDOW_MS))?;
    let end_ms = instant("end", now_ms)?;
    if end_ms < start_ms {
        let text = "end timestamp must not be before start timestamp";
        return Err(Error::BadData(text.to_owned()));
    }
    Ok(TimeRange { start_ms, end_ms })
}

fn terms(params: &Params) -> Result<Terms, Error> {
    let count = params.all("search[]").count();
    if count > TERMS_MAX {
        let text = format!("too many search[] terms: got {count}, maximum is {TERMS_MAX}");
        return Err(Error::BadData(text));
    }
    if let Some(long) = params.all("search[]").find(|term| term.len() > TERM_BYTES_MAX) {
        let text = format!(
            "a search[] term has {} bytes, the limit is {TERM_BYTES_MAX}; search for a part of it",
            long.len()
        );
        return Err(Error::BadData(text));
    }
    let refused =
        format!("invalid fuzz_threshold {}: must be 0-100", quoted(params.get("fuzz_threshold")));
    let threshold = params.number("fuzz_threshold", &refused)?.unwrap_or(0);
    if !(0..=100).contains(&threshold) {
        return Err(Error::BadData(refused));
    }
    let [(default, _), ..] = Algorithm::ALL;
    let word = Some(params.get("fuzz_alg")).filter(|word| !word.is_empty()).unwrap_or(default);
    let known = Algorithm::ALL.iter().find(|(name, _)| *name == word);
    let Some((_, algorithm)) = known else {
        let names = Algorithm::ALL.map(|(name, _)| name).join(" ");
        let text = format!("unsupported fuzz_alg {}: must be one of [{names}]", quoted(word));
        return Err(Error::BadData(text));
    };
    let case_sensitive = switch(params, "case_sensitive", true)?;
    let threshold = threshold as f64 / 100.0;
    Ok(Terms::new(params.all("search[]"), *algorithm, threshold, case_sensitive))
}

fn order(params: &Params, endpoint: &str) -> Result<Order, Error> {
    let refused = |text: &str| Err(Error::BadData(text.to_owned()));
    let (by, direction) = (params.get("sort_by"), params.get("sort_dir"));
    if !direction.is_empty() && by.is_empty() {
        return refused("sort_dir is only valid when sort_by is set");
    }
    if !direction.is_empty() && by == "score" {
        return refused("sort_dir is not supported for sort_by=score");
    }
    if !["", "asc", "dsc"].contains(&direction) {
        let direction = quoted(direction);
        return refused(&format!("invalid sort_dir {direction}: must be \"asc\" or \"dsc\""));
    }
    if by == "score" && params.all("search[]").next().is_none() {
        return refused("sort_by=score requires search[] to be set");
    }
    match by {
        "score" => Ok(Order::Score),
        "alpha" if direction == "dsc" => Ok(Order::Descending),
        "" | "alpha" => Ok(Order::Ascending),
        other => {
            let other = quoted(other);
            let one_of = "must be \"alpha\" or \"score\"";
            refused(&format!("invalid sort_by {other} for {endpoint}: {one_of}"))
        }
    }
}

/// `limit` or `batch_size`.
fn count(params: &Params, name: &str) -> Result<usize, Error> {
    let refused =
        format!("invalid {name} {}: must be a positive integer", quoted(params.get(name)));
    let number = params.number(name, &refused)?.unwrap_or(LIMIT);
    if number > LIMIT_MAX {
        let text = format!("{name} {number} exceeds the maximum ({LIMIT_MAX})");
        return Err(Error::BadData(text));
    }
    let number = usize::try_from(number).ok().filter(|number| *number > 0);
    number.ok_or(Error::BadData(refused))
}

/// A switch in any form that Go reads.
fn switch(params: &Params, name: &str, default: bool) -> Result<bool, Error> {
    match params.get(name) {
        "" => Ok(default),
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => Err(Error::BadData(format!("invalid {name} {}: must be boolean", quoted(other)))),
    }
}

/// The body: lines of results, one at least, and the end.
struct Lines {
    hits: IntoIter<Hit>,
    metadata: BTreeMap<String, Vec<Metadata>>,
    more: bool,
    batch: usize,
    with_score: bool,
    begun: bool,
}

impl Document for Lines {
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        if self.begun && self.hits.len() == 0 {
            out.extend_from_slice(b"{\"status\":\"success\",\"has_more\":");
            out.extend_from_slice(if self.more { b"true}\n" } else { b"false}\n" });
            return false;
        }
        self.begun = true;
        out.extend_from_slice(b"{\"results\":[");
        for (i, hit) in self.hits.by_ref().take(self.batch).enumerate() {
            comma(out, i);
            let metadata = self.metadata.get(&hit.text).and_then(|variants| variants.first());
            push_hit(out, &hit, self.with_score, metadata);
        }
        out.extend_from_slice(b"]}\n");
        true
    }
}

fn push_hit(out: &mut Vec<u8>, hit: &Hit, with_score: bool, metadata: Option<&Metadata>) {
    out.extend_from_slice(b"{\"name\":");
    push_string(out, &hit.text);
    if with_score {
        out.extend_from_slice(b",\"score\":");
        push_value(out, hit.score);
    }
    if let Some(Metadata { kind, help, unit }) = metadata {
        let fields = [("type", kind.as_str()), ("help", help.as_str()), ("unit", unit.as_str())];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            out.push(b',');
            push_string(out, name);
            out.push(b':');
            push_string(out, value);
        }
    }
    out.push(b'}');
}
