//! `/federate`: the newest value of every series that matches, as a target would expose it, for
//! another Prometheus to scrape.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use model::{Histogram, Labels, METRIC_NAME, TimeRange, is_stale};

use super::Question;
use super::documents::Document;
use super::exposition::{Form, negotiate, push_family, push_line};
use super::reply::{self, Reply};
use crate::{Cancel, Error, RawSeries, ReadRequest};

/// The newest value of a series.
#[derive(Debug, Clone)]
pub(super) enum Newest {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// Newest values by labels, names first.
type Found = BTreeMap<(String, Labels), (i64, Newest)>;

/// `/federate`; what scrapes it expects errors as a text.
pub(super) async fn federate(question: Question<'_>) -> Reply {
    exposition(question).await.unwrap_or_else(|error| reply::plain(error.status(), &error))
}

async fn exposition(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, accept, .. } = question;
    let form = negotiate(&accept);
    let selectors = params.selectors()?;
    let deadline = querier.deadline(&scope, None)?;
    let end_ms = querier.clock().now_ms();
    // The look-back is open on the left.
    let start_ms = end_ms.saturating_sub(querier.config().lookback_ms()).saturating_add(1);
    let work = async |cancel: Cancel| {
        let selectors = selectors.read(querier, &cancel).await?;
        let selectors = selectors.map_err(Error::BadData)?;
        let mut found = Found::new();
        for matchers in selectors {
            let range = TimeRange { start_ms, end_ms };
            let request = ReadRequest { matchers, range, cancel: cancel.clone() };
            let mut batches = querier.executor().read(&scope, request).await?;
            while let Some(batch) = batches.next().await? {
                batch.into_iter().for_each(|series| keep(&mut found, series));
            }
        }
        Ok(found)
    };
    let found = querier.run(&scope, deadline, asked, work).await?.answer;
    let rest = found.into_iter().collect::<Vec<_>>().into_iter().peekable();
    Ok(Reply::Typed(Box::new(Exposition { form, rest, last: None }), form.content_type()))
}

/// Keeps the newest value, unless it says that the series has ended or the series has no name.
fn keep(found: &mut Found, series: RawSeries) {
    let float = series.timestamps.last().zip(series.values.last());
    let float = float.map(|(at, value)| (*at, is_stale(*value), Newest::Float(*value)));
    let histogram = series.histograms.last();
    let histogram = histogram.map(|(at, h)| (*at, h.is_stale(), Newest::Histogram(Arc::clone(h))));
    let newer = |a: &(i64, bool, Newest), b: &(i64, bool, Newest)| a.0.cmp(&b.0);
    let Some((at, false, newest)) = float.into_iter().chain(histogram).max_by(newer) else {
        return;
    };
    let Some(name) = series.labels.get(METRIC_NAME).map(str::to_owned) else { return };
    found.insert((name, series.labels), (at, newest));
}

type Entry = ((String, Labels), (i64, Newest));

/// What is left to write.
struct Exposition {
    form: Form,
    rest: Peekable<IntoIter<Entry>>,
    /// The family that was written last.
    last: Option<String>,
}

impl Document for Exposition {
    fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(first) = self.rest.next() else { return false };
        match self.form {
            Form::Text { .. } => self.write_line(out, first),
            Form::Protobuf(_) => self.write_family(out, first),
        }
        self.rest.peek().is_some()
    }
}

impl Exposition {
    fn write_line(&mut self, out: &mut Vec<u8>, ((name, labels), (at_ms, newest)): Entry) {
        // The text format cannot say what a native histogram is.
        let Newest::Float(value) = newest else { return };
        let new = self.last.as_ref() != Some(&name);
        push_line(out, &labels, (at_ms, value), self.form.escaping(), new);
        self.last = Some(name);
    }

    /// Series of one name up to one of another kind.
    fn write_family(&mut self, out: &mut Vec<u8>, first: Entry) {
        let kind = |newest: &Newest| matches!(newest, Newest::Histogram(_));
        let (name, native) = (first.0.0.clone(), kind(&first.1.1));
        let mut family = vec![first];
        while let Some(next) =
            self.rest.next_if(|next| next.0.0 == name && kind(&next.1.1) == native)
        {
            family.push(next);
        }
        let metrics: Vec<_> =
            family.iter().map(|((_, labels), (at, newest))| (labels, *at, newest)).collect();
        push_family(out, &name, &metrics, self.form.escaping());
    }
}
