//! `sql`: a statement as a parameter, a form, a text or a JSON object; its answer in the form that
//! was asked for, streamed as it is made.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use tenancy::ReadScope;

use super::Question;
use super::encoding::{Encoder, Encoding};
use super::params::{Params, invalid, quoted};
use super::reply::Reply;
use super::streaming::{self, Sender};
use crate::querier::Deadline;
use crate::running::Asked;
use crate::{Cancel, Error, PromqlRules, Querier, SqlFormat, SqlParameter, SqlRequest};

/// Parameters of one statement.
const PARAMETERS_MAX: usize = 1_000;

/// What a request asks.
#[derive(Debug, Default)]
struct Statement {
    text: String,
    parameters: BTreeMap<String, SqlParameter>,
    format: String,
}

/// A JSON body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    query: String,
    #[serde(default)]
    format: String,
    #[serde(default)]
    parameters: Given,
}

/// Parameters by name, or in order.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Given {
    Named(BTreeMap<String, serde_json::Value>),
    Listed(Vec<serde_json::Value>),
}

impl Default for Given {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// `sql`
pub(super) async fn sql(question: Question<'_>) -> Result<Reply, Error> {
    let Statement { text, parameters, format } = statement(&question)?;
    let Question { querier, scope, params, accept, encoding, .. } = question;
    let config = querier.config();
    if text.trim().is_empty() {
        return Err(invalid("query", "there is no statement"));
    }
    if text.len() > config.expression_bytes_max {
        let (bytes, limit) = (text.len(), config.expression_bytes_max);
        let reason =
            format!("the statement has {bytes} bytes, the limit is {limit} (expression_bytes_max)");
        return Err(invalid("query", &reason));
    }
    let format = negotiated(&format, &accept)?;
    let deadline = querier.deadline(&scope, params.duration("timeout")?)?;
    let asked = Asked::new("sql", &text);
    let request = SqlRequest {
        text,
        parameters,
        format,
        now_ms: querier.clock().now_ms(),
        promql: PromqlRules {
            lookback_ms: config.lookback_ms(),
            steps_max: config.steps_max,
            expression_bytes_max: config.expression_bytes_max,
            features: config.features(),
        },
        timeout: deadline.timeout,
        cancel: Cancel::default(),
    };
    let asking = Asking { querier: querier.clone(), scope, deadline, asked, encoding };
    let body = streaming::body(|send| asking.send(request, send)).await?;
    let mut response = (
        [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept, Accept-Encoding")],
        body,
    )
        .into_response();
    if let Some(name) = encoding.name() {
        let name = axum::http::HeaderValue::from_static(name);
        response.headers_mut().insert(header::CONTENT_ENCODING, name);
    }
    Ok(Reply::Ready(response))
}

/// Who asks, and how it is answered.
struct Asking {
    querier: Querier,
    scope: ReadScope,
    deadline: Deadline,
    asked: Asked,
    encoding: Encoding,
}

impl Asking {
    /// Sends all pieces of the answer; the question has its turn until the last one is taken.
    async fn send(self, request: SqlRequest, send: Sender) -> Result<(), Error> {
        let Self { querier, scope, deadline, asked, encoding } = self;
        let work = async |cancel: Cancel| {
            let mut encoder = Encoder::new(encoding);
            let executor = querier.executor();
            let request = SqlRequest { cancel: cancel.clone(), ..request };
            let mut pieces = executor.sql(&scope, request).await?;
            while let Some(piece) = pieces.next().await? {
                send.send(encoded(&mut encoder, piece)).await?;
            }
            send.send(encoder.encode(Vec::new(), true).into()).await?;
            querier.count_used(&cancel.usage().now());
            Ok(())
        };
        querier.run(&scope, deadline, asked, work).await.map(|_| ())
    }
}

fn encoded(encoder: &mut Encoder, piece: Bytes) -> Bytes {
    match encoder {
        Encoder::Identity => piece,
        encoder => encoder.encode(piece.into(), false).into(),
    }
}

/// The statement of a request, wherever it stands.
fn statement(question: &Question<'_>) -> Result<Statement, Error> {
    let Question { params, body, kind, .. } = question;
    if body.is_empty() {
        let text = params.get("query").to_owned();
        return Ok(Statement { text, ..of_params(params)? });
    }
    if kind.starts_with("application/json") {
        let Body { query, format, parameters } = serde_json::from_slice(body)
            .map_err(|e| Error::BadData(format!("the body is no question in JSON: {e}")))?;
        let parameters = given(parameters)?;
        let format = if format.is_empty() { params.get("format").to_owned() } else { format };
        return Ok(Statement { text: query, parameters, format });
    }
    let is_text =
        kind.is_empty() || kind.starts_with("application/sql") || kind.starts_with("text/");
    if !is_text {
        return Err(Error::BadData(format!(
            "a body of type {} is not read; send application/sql, text/plain, application/json or \
             application/x-www-form-urlencoded",
            quoted(kind)
        )));
    }
    let text = std::str::from_utf8(body)
        .map_err(|e| Error::BadData(format!("the statement is not UTF-8: {e}")))?;
    Ok(Statement { text: text.to_owned(), ..of_params(params)? })
}

/// What stands beside the statement: `format`, and texts as `param_name`.
fn of_params(params: &Params) -> Result<Statement, Error> {
    let text =
        |(name, value): (&str, &str)| (name.to_owned(), SqlParameter::Text(value.to_owned()));
    let parameters: BTreeMap<_, _> = params.starting("param_").map(text).collect();
    check_count(parameters.len())?;
    Ok(Statement { parameters, format: params.get("format").to_owned(), ..Statement::default() })
}

fn check_count(count: usize) -> Result<(), Error> {
    if count <= PARAMETERS_MAX {
        return Ok(());
    }
    Err(Error::BadData(format!(
        "a statement may have at most {PARAMETERS_MAX} parameters, this one has {count}"
    )))
}

fn given(given: Given) -> Result<BTreeMap<String, SqlParameter>, Error> {
    let named: Vec<(String, serde_json::Value)> = match given {
        Given::Named(values) => values.into_iter().collect(),
        Given::Listed(values) => (1..).map(|i: usize| i.to_string()).zip(values).collect(),
    };
    check_count(named.len())?;
    let parameter = |(name, value): (String, serde_json::Value)| {
        let value = match value {
            serde_json::Value::Null => SqlParameter::Null,
            serde_json::Value::Bool(truth) => SqlParameter::Boolean(truth),
            serde_json::Value::Number(number) => SqlParameter::Number(number.to_string()),
            serde_json::Value::String(text) => SqlParameter::Text(text),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                let reason = format!("{name} is neither a text nor a number nor a truth nor null");
                return Err(invalid("parameters", &reason));
            }
        };
        Ok((name, value))
    };
    named.into_iter().map(parameter).collect()
}

/// What is asked for by name, else the first kind of those that are accepted.
fn negotiated(format: &str, accept: &str) -> Result<SqlFormat, Error> {
    if !format.is_empty() {
        let named = SqlFormat::named(format);
        return named.ok_or_else(|| {
            invalid("format", &format!("{} is none of json, csv and arrow", quoted(format)))
        });
    }
    let kind = |entry: &str| entry.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let kinds: Vec<String> = accept.split(',').map(kind).filter(|kind| !kind.is_empty()).collect();
    let of = |kind: &String| match kind.as_str() {
        "application/json" | "application/*" | "*/*" => Some(SqlFormat::Json),
        "text/csv" | "text/*" => Some(SqlFormat::Csv),
        "application/vnd.apache.arrow.stream" => Some(SqlFormat::Arrow),
        _ => None,
    };
    match kinds.iter().find_map(of) {
        Some(format) => Ok(format),
        None if kinds.is_empty() => Ok(SqlFormat::Json),
        None => Err(Error::NotAcceptable(format!(
            "none of {accept} can be had; there are application/json, text/csv and \
             application/vnd.apache.arrow.stream"
        ))),
    }
}

#[cfg(test)]
mod tests;
