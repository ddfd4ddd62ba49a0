//! Text import: an exposition, as targets give it to a scrape, posted.
//!
//! Samples without a time of their own get that of their arrival. Nothing is added: no `job`, no
//! `up`, no stale markers.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use model::{Labels, Metadata, Sample};
use storage::{AppendOutcome, MetricRows};
use tenancy::{Authenticator, Limits, WriteScope};

use crate::build::{Builder, Values};
use crate::caps::Caps;
use crate::door::{self, parameters};
use crate::exposition::{Entry, Exposition, Format};
use crate::intake::{
    Encoding, HeaderError, Intake, Refusal, TakeApart, seconds_of, shown_header, told,
};
use crate::remote_write::{EXEMPLAR_CHARS_MAX, News, chars};

/// Method and path of every route.
pub const ROUTES: &[(&str, &str)] = &[("POST", "/api/v1/import/prometheus")];

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(import: Arc<Import>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, import, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of expositions.
#[derive(Debug)]
pub struct Import {
    intake: Arc<Intake>,
}

impl Import {
    /// A receiver that hands rows to `intake`.
    pub fn new(intake: Arc<Intake>) -> Self {
        Self { intake }
    }

    /// Answers one request. `route` is its place in [`crate::routes`].
    pub async fn handle(&self, route: usize, scope: WriteScope, request: Request) -> Response {
        let begun = self.intake.begin();
        let response = plain(&self.write(&scope, request).await);
        self.intake.answered(route, response.status().as_u16(), begun);
        response
    }

    async fn write(&self, scope: &WriteScope, request: Request) -> Result<AppendOutcome, Refusal> {
        let asked = read_headers(request.headers()).map_err(Refusal::from);
        let asked = asked.and_then(|headers| Ok((headers, Added::of(request.uri())?)));
        let ((format, encoding), added) = asked.map_err(|why| self.intake.refused(scope, why))?;
        let door = Body {
            format,
            added,
            now_ms: self.intake.clock.now_ms(),
            limits: Arc::clone(scope.limits()),
            caps: self.intake.caps.clone(),
            news: News::of(scope, &self.intake.families),
        };
        let written = self.intake.write(scope, encoding, request.into_body(), door).await?;
        Ok(written.outcome)
    }
}

/// Answers of doors without a form of their own: 204, or a text that says what was refused.
pub(crate) fn plain(result: &Result<AppendOutcome, Refusal>) -> Response {
    let (status, text, wait) = match result {
        Err(refusal) => {
            let (_, status) = refusal.kind();
            (status, refusal.to_string(), refusal.retry_after(status))
        }
        Ok(outcome) => match told(outcome) {
            None => return StatusCode::NO_CONTENT.into_response(),
            Some(told) => (told.status, told.text, told.retry_after),
        },
    };
    let mut response = (status, format!("{text}\n")).into_response();
    if let Some(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, seconds_of(wait));
    }
    response
}

/// Format and compression. Whoever says nothing of the format, or what `curl --data-binary` says
/// by itself, sends the text format.
pub(crate) fn read_headers(headers: &HeaderMap) -> Result<(Format, Encoding), HeaderError> {
    let content_type = headers.get(CONTENT_TYPE);
    let format = match content_type.map(|v| v.to_str().unwrap_or("\u{0}")) {
        None | Some("") => Some(Format::Text),
        Some(told) if told.starts_with("application/x-www-form-urlencoded") => Some(Format::Text),
        Some(told) => Format::of(told),
    };
    let format = format.ok_or_else(|| HeaderError::Type {
        found: shown_header(content_type),
        accepted: "text/plain, application/openmetrics-text or application/vnd.google.protobuf",
    })?;
    let of_door = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Snappy];
    let encoding = Encoding::of(headers, &of_door).ok_or_else(|| HeaderError::Encoding {
        found: shown_header(headers.get(CONTENT_ENCODING)),
        accepted: "gzip, zstd, snappy or none",
    })?;
    Ok((format, encoding))
}

/// What the address adds to every sample, as in VictoriaMetrics.
#[derive(Debug, Default)]
struct Added {
    /// `extra_label=name=value`, as often as wanted; wins over labels of the body.
    labels: Vec<(String, String)>,
    /// `timestamp`, milliseconds, for samples without one.
    timestamp_ms: Option<i64>,
}

impl Added {
    fn of(uri: &Uri) -> Result<Self, Refusal> {
        let mut added = Self::default();
        for (name, value) in parameters(uri) {
            match name.as_str() {
                "extra_label" => {
                    let pair = value.split_once('=').filter(|(name, _)| !name.is_empty());
                    let (name, value) = pair.ok_or_else(|| {
                        Refusal::Parameter(format!("extra_label={value:?} is not name=value"))
                    })?;
                    added.labels.push((name.to_owned(), value.to_owned()));
                }
                "timestamp" => {
                    let wrong = |_| {
                        Refusal::Parameter(format!(
                            "timestamp={value:?} is not a number of milliseconds"
                        ))
                    };
                    added.timestamp_ms = Some(value.parse().map_err(wrong)?);
                }
                _ => {}
            }
        }
        Ok(added)
    }
}

/// One body.
struct Body {
    format: Format,
    added: Added,
    now_ms: i64,
    limits: Arc<Limits>,
    caps: Caps,
    news: Option<News>,
}

impl TakeApart for Body {
    fn take_apart<'a>(
        &mut self,
        body: &'a [u8],
        rows: &mut MetricRows<'a>,
    ) -> Result<AppendOutcome, Refusal> {
        let mut builder = Builder::new(rows, &self.limits, &self.caps, self.news.as_ref());
        let added: Vec<_> =
            self.added.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let at_ms = self.added.timestamp_ms.unwrap_or(self.now_ms);
        read(Exposition::new(self.format, body), &mut builder, &added, at_ms)?;
        Ok(builder.refused)
    }
}

/// Reads an exposition into rows. `added` labels win over those of the exposition.
pub(crate) fn read(
    mut exposition: Exposition<'_>,
    builder: &mut Builder<'_, '_>,
    added: &[(&str, &str)],
    at_ms: i64,
) -> Result<(), Refusal> {
    let mut families: HashMap<String, Metadata> = HashMap::new();
    while let Some(entry) = exposition.next_entry()? {
        let (values, timestamp_ms) = match entry {
            Entry::Help { family, text } => {
                families.entry(family.into_owned()).or_default().help = text.into_owned();
                continue;
            }
            Entry::Type { family, kind } => {
                families.entry(family.into_owned()).or_default().kind = kind;
                continue;
            }
            Entry::Unit { family, unit } => {
                families.entry(family.into_owned()).or_default().unit = unit.into_owned();
                continue;
            }
            Entry::Sample { value, timestamp_ms, .. } => {
                let timestamp_ms = timestamp_ms.unwrap_or(at_ms);
                (Values::Sample(Sample { timestamp_ms, value }), timestamp_ms)
            }
            Entry::Histogram { histogram, timestamp_ms, .. } => {
                let timestamp_ms = timestamp_ms.unwrap_or(at_ms);
                (Values::Histogram(timestamp_ms, *histogram), timestamp_ms)
            }
        };
        let exemplars = exposition.exemplars();
        let exemplars = exemplars.iter().filter_map(|e| stored(e, timestamp_ms));
        let mut pairs: Vec<(&str, &str)> = exposition
            .labels()
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .filter(|(name, _)| !added.iter().any(|(added, _)| added == name))
            .collect();
        pairs.extend_from_slice(added);
        let values = (values, exposition.start_ms());
        builder.push(&mut pairs, values, exemplars.collect::<Vec<_>>())?;
    }
    for (family, metadata) in families {
        builder.describe(family, metadata)?;
    }
    Ok(())
}

/// An exemplar as it is stored; without a time it has its sample's.
pub(crate) fn stored(
    exemplar: &crate::exposition::Exemplar<'_>,
    timestamp_ms: i64,
) -> Option<model::Exemplar> {
    let labels = Labels::from_pairs(exemplar.labels.iter().map(|(n, v)| (n, v)));
    let timestamp_ms = exemplar.timestamp_ms.unwrap_or(timestamp_ms);
    let fits = chars(&labels) <= EXEMPLAR_CHARS_MAX;
    fits.then_some(model::Exemplar { labels, value: exemplar.value, timestamp_ms })
}
