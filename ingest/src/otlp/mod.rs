//! OTLP metrics over HTTP (protobuf and JSON) and gRPC: what OpenTelemetry's SDKs and Collector
//! send.
//!
//! ```text
//! headers ─► intake: body ─► inflate ─► (JSON ─►) protobuf ─► walk ─► points ─► delta? ─► rows ─► answer
//! ```

mod answer;
mod config;
mod delta;
mod json;
mod labels;
mod names;
mod point;
mod rows;
mod shape;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::Response;
use parking_lot::RwLock;
use storage::{AppendOutcome, MetricRows};
use tenancy::{Authenticator, WriteScope};

use crate::caps::WalkError;
use crate::door;
use crate::intake::{Encoding, HeaderError, Intake, Refusal, TakeApart, shown_header};
use crate::remote_write::News;
pub(crate) use answer::{Answer, Counted, Form};
pub use config::OtlpConfig;
use delta::Deltas;
pub(crate) use json::logs_to_protobuf;
pub(crate) use labels::{Attribute, attribute, text, value};
pub use names::TranslationStrategy;
use walk::Context;

/// The routes that Prometheus has too.
pub const ROUTES: &[(&str, &str)] = &[("POST", "/api/v1/otlp/v1/metrics")];

/// The paths that OTLP itself defines, for HTTP and gRPC.
pub const OWN_ROUTES: &[(&str, &str)] = &[
    ("POST", "/v1/metrics"),
    ("POST", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"),
];

/// Routes of one of the lists above. Each asks for a write scope before a byte of the body is read.
pub fn router(
    of: &'static [(&'static str, &'static str)],
    otlp: Arc<Otlp>,
    authenticator: Arc<Authenticator>,
) -> Router {
    door::router(of, otlp, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of OTLP.
#[derive(Debug)]
pub struct Otlp {
    intake: Arc<Intake>,
    config: RwLock<Arc<OtlpConfig>>,
    deltas: Deltas,
}

impl Otlp {
    /// A receiver that hands rows to `intake`.
    pub fn new(intake: Arc<Intake>, config: OtlpConfig) -> Self {
        let deltas = Deltas::new(Arc::clone(&intake.metrics.delta_streams));
        Self { intake, config: RwLock::new(Arc::new(config)), deltas }
    }

    /// Takes other settings from the next request on.
    pub fn reconfigure(&self, config: OtlpConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// Answers one request. `route` is its place in [`crate::routes`].
    pub async fn handle(
        self: &Arc<Self>,
        route: usize,
        scope: WriteScope,
        request: Request,
    ) -> Response {
        let begun = self.intake.begin();
        let form = form_of(request.headers());
        let answer = match self.write(&scope, form, request).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::refused(&refusal),
        };
        self.intake.answered(route, answer.status(), begun);
        answer.into_response(form.unwrap_or(Form::Protobuf), Counted::DataPoints)
    }

    async fn write(
        &self,
        scope: &WriteScope,
        form: Option<Form>,
        request: Request,
    ) -> Result<Answer, Refusal> {
        let (form, encoding) = read_headers(form, request.headers())
            .map_err(|why| self.intake.refused(scope, why.into()))?;
        let context = Context {
            config: Arc::clone(&self.config.read()),
            limits: Arc::clone(scope.limits()),
            caps: self.intake.caps.clone(),
            streams: self.deltas.of(scope.tenant()),
            now: self.intake.clock.monotonic(),
        };
        let news = News::of(scope, &self.intake.families);
        let door = Body { form, context, news, points: 0, refused_points: 0 };
        let written = self.intake.write(scope, encoding, request.into_body(), door).await?;
        Ok(Answer::to(&written.outcome, written.door.points, written.door.refused_points))
    }
}

/// What the content type says, whatever stands behind it.
pub(crate) fn form_of(headers: &HeaderMap) -> Option<Form> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match media.as_str() {
        "application/x-protobuf" => Some(Form::Protobuf),
        "application/json" => Some(Form::Json),
        "application/grpc" | "application/grpc+proto" => Some(Form::Grpc),
        _ => None,
    }
}

pub(crate) fn read_headers(
    form: Option<Form>,
    headers: &HeaderMap,
) -> Result<(Form, Encoding), HeaderError> {
    let form = form.ok_or_else(|| HeaderError::Type {
        found: shown_header(headers.get(CONTENT_TYPE)),
        accepted: "application/x-protobuf or application/json, or application/grpc over HTTP/2",
    })?;
    let (name, encoding) = match form {
        Form::Grpc => {
            let encoding = match headers.get("grpc-encoding").map(|v| v.as_bytes()) {
                None | Some(b"identity") => Some(Encoding::GrpcIdentity),
                Some(b"gzip") => Some(Encoding::GrpcGzip),
                Some(b"zstd") => Some(Encoding::GrpcZstd),
                Some(_) => None,
            };
            ("grpc-encoding", encoding)
        }
        _ => {
            let of_door = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd];
            (CONTENT_ENCODING.as_str(), Encoding::of(headers, &of_door))
        }
    };
    let encoding = encoding.ok_or_else(|| HeaderError::Encoding {
        found: shown_header(headers.get(name)),
        accepted: "gzip, zstd or none",
    })?;
    Ok((form, encoding))
}

/// One body.
struct Body {
    form: Form,
    context: Context,
    news: Option<News>,
    points: u64,
    refused_points: u64,
}

impl TakeApart for Body {
    fn take_apart<'a>(
        &mut self,
        body: &'a [u8],
        rows: &mut MetricRows<'a>,
    ) -> Result<AppendOutcome, Refusal> {
        let from_json;
        let body = match self.form {
            Form::Json => {
                from_json = json::to_protobuf(body).map_err(WalkError::Wrong)?;
                &from_json[..]
            }
            Form::Protobuf | Form::Grpc => body,
        };
        let walked = walk::walk(body, &self.context, self.news.as_ref(), rows)?;
        (self.points, self.refused_points) = (walked.points, walked.refused_points);
        Ok(walked.outcome)
    }
}

/// Walks a body as a fuzzer's target: without anything known of other requests.
pub(crate) fn fuzz(
    body: &[u8],
    limits: tenancy::Limits,
    caps: crate::Caps,
    rows: &mut MetricRows<'_>,
) -> bool {
    let context = Context {
        config: Arc::new(OtlpConfig { delta_streams_max: 64, ..OtlpConfig::default() }),
        limits: Arc::new(limits),
        caps,
        streams: Arc::default(),
        now: Duration::ZERO,
    };
    walk::walk(body, &context, None, rows).is_ok()
}

/// The protobuf of a request in JSON, for fuzzers.
pub(crate) fn fuzz_json(body: &[u8]) -> Option<Vec<u8>> {
    json::to_protobuf(body).ok()
}
