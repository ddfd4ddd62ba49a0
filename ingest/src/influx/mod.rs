//! Influx line protocol, as InfluxDB 1 and 2 take it and VictoriaMetrics maps it: a field is the
//! series `measurement_field` with the tags as labels. Texts make no samples.
//!
//! Lines that are wrong are told, the others stored; InfluxDB calls that a partial write.

mod line;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use model::{METRIC_NAME, Sample};
use storage::{AppendOutcome, MetricRows};
use tenancy::{Authenticator, Limits, WriteScope};

use crate::build::{Builder, Values};
use crate::caps::Caps;
use crate::door::{self, parameters};
use crate::intake::{
    Encoding, HeaderError, Intake, Refusal, TakeApart, seconds_of, shown_header, told,
};
pub use line::{Field, Line, next_line};

/// Method and path of every route: InfluxDB 1, 2, and both below a prefix, as in VictoriaMetrics.
pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/write"),
    ("POST", "/api/v2/write"),
    ("POST", "/influx/write"),
    ("POST", "/influx/api/v2/write"),
];

/// Examples of wrong lines that an answer tells.
const TOLD_MAX: usize = 3;

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(influx: Arc<Influx>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, influx, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of line protocol.
#[derive(Debug)]
pub struct Influx {
    intake: Arc<Intake>,
}

impl Influx {
    /// A receiver that hands rows to `intake`.
    pub fn new(intake: Arc<Intake>) -> Self {
        Self { intake }
    }

    /// Answers one request. `route` is its place in [`crate::routes`].
    pub async fn handle(&self, route: usize, scope: WriteScope, request: Request) -> Response {
        let begun = self.intake.begin();
        let response = match self.write(&scope, request).await {
            Ok((outcome, wrong)) => answer(&outcome, &wrong),
            Err(refusal) => {
                let (_, status) = refusal.kind();
                failure(status, &refusal.to_string(), refusal.retry_after(status))
            }
        };
        self.intake.answered(route, response.status().as_u16(), begun);
        response
    }

    async fn write(
        &self,
        scope: &WriteScope,
        request: Request,
    ) -> Result<(AppendOutcome, Wrong), Refusal> {
        let headers = request.headers();
        let encoding = Encoding::of(headers, &[Encoding::Identity, Encoding::Gzip, Encoding::Zstd])
            .ok_or_else(|| HeaderError::Encoding {
                found: shown_header(headers.get(CONTENT_ENCODING)),
                accepted: "gzip, zstd or none",
            });
        let asked = encoding.map_err(Refusal::from);
        let asked = asked.and_then(|encoding| Ok((encoding, Parameters::of(request.uri())?)));
        let (encoding, parameters) = asked.map_err(|why| self.intake.refused(scope, why))?;
        let door = Body {
            parameters,
            now_ms: self.intake.clock.now_ms(),
            limits: Arc::clone(scope.limits()),
            caps: self.intake.caps.clone(),
            wrong: Wrong::default(),
        };
        let written = self.intake.write(scope, encoding, request.into_body(), door).await?;
        Ok((written.outcome, written.door.wrong))
    }
}

fn answer(outcome: &AppendOutcome, wrong: &Wrong) -> Response {
    match told(outcome) {
        Some(told) => {
            failure(told.status, &format!("partial write: {}", told.text), told.retry_after)
        }
        None if wrong.lines > 0 => {
            let (lines, told) = (wrong.lines, wrong.told.join("; "));
            let text = format!("partial write: {lines} lines could not be read: {told}");
            failure(StatusCode::BAD_REQUEST, &text, None)
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Errors in the form of both versions.
fn failure(status: StatusCode, text: &str, wait: Option<std::time::Duration>) -> Response {
    let code = match status.as_u16() {
        429 => "too many requests",
        503 => "unavailable",
        500 => "internal error",
        _ => "invalid",
    };
    let body = serde_json::json!({ "error": text, "code": code, "message": text });
    let mut response =
        (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
    if let Some(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, seconds_of(wait));
    }
    response
}

/// What the address says.
#[derive(Debug)]
struct Parameters {
    /// Becomes the label `db`: the parameter `db`, or else `bucket`.
    database: String,
    /// Nanoseconds of one unit of time.
    unit_ns: i64,
}

impl Parameters {
    fn of(uri: &Uri) -> Result<Self, Refusal> {
        let (mut database, mut bucket, mut unit_ns) = (String::new(), String::new(), 1);
        for (name, value) in parameters(uri) {
            match name.as_str() {
                "db" => database = value,
                "bucket" => bucket = value,
                "precision" => {
                    unit_ns = match value.as_str() {
                        "n" | "ns" | "" => 1,
                        "u" | "us" | "µ" => 1_000,
                        "ms" => 1_000_000,
                        "s" => 1_000_000_000,
                        "m" => 60_000_000_000,
                        "h" => 3_600_000_000_000,
                        _ => {
                            return Err(Refusal::Parameter(format!(
                                "precision={value:?} is none of ns, us, ms, s, m, h"
                            )));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Self { database: if database.is_empty() { bucket } else { database }, unit_ns })
    }
}

/// Lines that could not be read.
#[derive(Debug, Default)]
struct Wrong {
    lines: u64,
    told: Vec<String>,
}

/// One body.
struct Body {
    parameters: Parameters,
    now_ms: i64,
    limits: Arc<Limits>,
    caps: Caps,
    wrong: Wrong,
}

impl TakeApart for Body {
    fn take_apart<'a>(
        &mut self,
        body: &'a [u8],
        rows: &mut MetricRows<'a>,
    ) -> Result<AppendOutcome, Refusal> {
        let mut builder = Builder::new(rows, &self.limits, &self.caps, None);
        let mut rest = body;
        let mut name = String::new();
        while let Some(line) = next_line(&mut rest) {
            let line = match line {
                Ok(line) => line,
                Err(why) => {
                    self.wrong.lines += 1;
                    if self.wrong.told.len() < TOLD_MAX {
                        self.wrong.told.push(why);
                    }
                    continue;
                }
            };
            let timestamp_ms = match line.timestamp {
                Some(at) => (i128::from(at) * i128::from(self.parameters.unit_ns) / 1_000_000)
                    .clamp(i128::from(i64::MIN), i128::from(i64::MAX))
                    as i64,
                None => self.now_ms,
            };
            for (field, value) in &line.fields {
                let Field::Number(value) = *value else { continue };
                name.clear();
                name.extend([&*line.measurement, "_", field]);
                let tags = line.tags.iter().map(|(n, v)| (&**n, &**v));
                let mut pairs: Vec<(&str, &str)> = tags.collect();
                pairs.push((METRIC_NAME, &name));
                if !line.tags.iter().any(|(name, _)| name == "db") {
                    pairs.push(("db", &self.parameters.database));
                }
                let values = Values::Sample(Sample { timestamp_ms, value });
                builder.push(&mut pairs, (values, 0), None)?;
            }
        }
        Ok(builder.refused)
    }
}
