//! What there is: labels, their values, streams.

use std::collections::{BTreeMap, BTreeSet};

use model::{Matcher, PatternBudget};

use super::super::json::{comma, push_labels, push_string};
use super::super::reply::Reply;
use super::documents::{old_strings, strings, whole};
use super::params::{HOUR_NS, Limits};
use super::{Endpoint, Question};
use crate::entries::EntrySelection;
use crate::logql;
use crate::number::push_unsigned;
use crate::{Cancel, Error};

/// How far back listings look if nothing is said: Loki's six hours.
pub(super) const BACK_NS: i64 = 6 * HOUR_NS;

/// Selectors of one request.
const SELECTORS_MAX: usize = 1_000;

/// Streams of one answer. Grafana asks for some hundreds; more are cut.
const STREAMS_MAX: usize = 100_000;

/// `labels`
pub(super) async fn label_names(question: Question) -> Result<Reply, Error> {
    let wanted = wanted(&question).await?;
    let found = question
        .run(async |cancel: Cancel| {
            question.entries.label_names(&question.scope, EntrySelection { cancel, ..wanted }).await
        })
        .await?;
    Ok(listed(&question, &found.answer))
}

/// `label/{name}/values`
pub(super) async fn label_values(question: Question) -> Result<Reply, Error> {
    let wanted = wanted(&question).await?;
    let name = question.named.clone();
    let found = question
        .run(async |cancel: Cancel| {
            let wanted = EntrySelection { cancel, ..wanted };
            question.entries.label_values(&question.scope, &name, wanted).await
        })
        .await?;
    Ok(listed(&question, &found.answer))
}

fn listed(question: &Question, items: &[String]) -> Reply {
    match question.endpoint {
        Endpoint::OldLabels | Endpoint::OldLabelValues => old_strings(items),
        _ => strings(items),
    }
}

/// `series`
pub(super) async fn series(question: Question) -> Result<Reply, Error> {
    let wanted = wanted(&question).await?;
    let found = question
        .run(async |cancel: Cancel| {
            let wanted = EntrySelection { cancel, ..wanted };
            question.entries.streams(&question.scope, wanted, Some(STREAMS_MAX)).await
        })
        .await?;
    Ok(whole(|out| {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":[");
        for (at, stream) in found.answer.items.iter().enumerate() {
            comma(out, at);
            push_labels(out, &stream.labels);
        }
        out.extend_from_slice(b"]}");
    }))
}

/// `detected_labels`: labels with the number of their values.
pub(super) async fn detected_labels(question: Question) -> Result<Reply, Error> {
    let wanted = wanted(&question).await?;
    let found = question
        .run(async |cancel: Cancel| {
            let wanted = EntrySelection { cancel, ..wanted };
            question.entries.streams(&question.scope, wanted, Some(STREAMS_MAX)).await
        })
        .await?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for stream in &found.answer.items {
        for (name, value) in stream.labels.iter() {
            values.entry(name).or_default().insert(value);
        }
    }
    Ok(whole(|out| {
        out.extend_from_slice(b"{\"detectedLabels\":[");
        for (at, (name, values)) in values.iter().enumerate() {
            comma(out, at);
            out.extend_from_slice(b"{\"label\":");
            push_string(out, name);
            out.extend_from_slice(b",\"cardinality\":");
            push_unsigned(out, values.len() as u64);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }))
}

/// The streams and the range of a listing: of `query`, of `match[]` or, as logcli sends it, of
/// `match`.
async fn wanted(question: &Question) -> Result<EntrySelection, Error> {
    let limits = Limits::of(question, BACK_NS)?;
    let names = ["query", "match[]", "match"];
    let texts = names.iter().flat_map(|name| question.params.all(name));
    let texts: Vec<String> = texts.filter(|text| !text.is_empty()).map(str::to_owned).collect();
    if texts.len() > SELECTORS_MAX {
        return Err(Error::BadData(format!(
            "a request may have at most {SELECTORS_MAX} selectors, this one has {}",
            texts.len()
        )));
    }
    let read = |texts: &[String]| {
        let mut budget = PatternBudget::default();
        let read = texts.iter().map(|text| logql::parse_matchers_within(text, &mut budget));
        read.collect::<Result<Vec<Vec<Matcher>>, _>>()
    };
    let selectors = question.querier.read(texts, read).await?;
    let selectors = selectors.map_err(|error| Error::BadData(error.to_string()))?;
    let Limits { start_ns, end_ns, .. } = limits;
    Ok(EntrySelection { selectors, start_ns, end_ns, ..EntrySelection::default() })
}
