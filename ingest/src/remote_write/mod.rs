//! Remote write 1.0: what Prometheus, vmagent, Grafana Alloy and the OpenTelemetry Collector send.
//!
//! ```text
//! headers ─► body (bounded) ─► snappy ─► walk ─► admission ─► append ─► durable ─► answer
//!            └── async ──────┘ └──────── blocking, bounded by cores ─┘  └─ async ─┘
//! ```

mod answer;
mod body;
mod headers;
mod histogram;
mod labels;
mod pool;
mod snappy;
mod walk;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::response::Response;
use axum::routing::post;
use model::Clock;
use storage::{AppendOutcome, Appended};
use tenancy::{Authenticator, Write, WriteScope};
use tokio::sync::Semaphore;
use tracing::{debug, error, warn};

pub use answer::Refusal;
pub use body::BodyError;
pub use headers::HeaderError;
pub use snappy::SnappyError;
pub use walk::{Caps, WalkError, walk};
pub use wire::WireError;

use crate::admit::Admission;
use crate::{Appender, Config, Metrics};

/// Method and path of every route, for the router and for the test that knocks on each of them.
pub const ROUTES: &[(&str, &str)] = &[("POST", "/api/v1/write"), ("POST", "/api/v1/push")];

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(receiver: Arc<RemoteWrite>, authenticator: Arc<Authenticator>) -> Router {
    let routes =
        ROUTES.iter().enumerate().fold(Router::new(), |router, (route, (_, path))| {
            let handler = move |State(state): State<Routed>,
                                Write(scope): Write,
                                request: Request| async move {
                state.receiver.handle(route, scope, request).await
            };
            router.route(path, post(handler))
        });
    routes.with_state(Routed { receiver, authenticator })
}

#[derive(Clone)]
struct Routed {
    receiver: Arc<RemoteWrite>,
    authenticator: Arc<Authenticator>,
}

impl FromRef<Routed> for Arc<Authenticator> {
    fn from_ref(state: &Routed) -> Self {
        Self::clone(&state.authenticator)
    }
}

/// Bodies that declare up to this many bytes decompressed are stored right away, on the thread
/// that moves bytes: some hundred samples, a fraction of a millisecond, so that it seldom waits for
/// a partition and never keeps one from others for long. What is larger, however well it
/// compresses, goes to the blocking pool, at a cost of some 10 µs.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Whether storing a body takes little time. One that does not say how long it is will be refused
/// at once.
fn is_small(compressed: &[u8]) -> bool {
    snappy::declared(compressed).is_none_or(|bytes| bytes <= INLINE_BYTES_MAX)
}

/// The receiver of remote write.
pub struct RemoteWrite {
    appender: Arc<dyn Appender>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    caps: Caps,
    receiver: body::Receiver,
    work: pool::Pool<pool::Work>,
    workers: Arc<Semaphore>,
}

impl std::fmt::Debug for RemoteWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteWrite").field("caps", &self.caps).finish_non_exhaustive()
    }
}

impl RemoteWrite {
    /// A receiver that hands rows to `appender`. `clock` must be the one the authenticator has:
    /// rates are kept in its monotonic time.
    pub fn new(
        appender: Arc<dyn Appender>,
        admission: Arc<Admission>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        config: &Config,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            receiver: body::Receiver::new(config, Arc::clone(&metrics)),
            appender,
            admission,
            metrics,
            clock,
            caps: Caps::default(),
            work: pool::Pool::new(cores + 1),
            workers: Arc::new(Semaphore::new(cores + 1)),
        }
    }

    /// Answers one request. `route` is its place in [`ROUTES`].
    pub async fn handle(
        self: &Arc<Self>,
        route: usize,
        scope: WriteScope,
        request: Request,
    ) -> Response {
        let started = self.clock.monotonic();
        let response = match self.write(&scope, request).await {
            Ok(outcome) => {
                self.metrics.appended(&outcome);
                self.admission.rejected(scope.tenant(), &outcome);
                answer::carried_out(&outcome)
            }
            Err(refusal) => {
                let (kind, status) = refusal.kind();
                self.metrics.refused(kind);
                self.admission.refused(scope.tenant(), kind);
                match status.is_server_error() {
                    true => {
                        warn!(tenant = %scope.name(), error = &refusal as &dyn std::error::Error, "write failed")
                    }
                    false => debug!(tenant = %scope.name(), %refusal, "write refused"),
                }
                refusal.into_response()
            }
        };
        let took = self.clock.monotonic().saturating_sub(started);
        self.metrics.answered(route, response.status().as_u16(), took);
        response
    }

    async fn write(
        self: &Arc<Self>,
        scope: &WriteScope,
        request: Request,
    ) -> Result<AppendOutcome, Refusal> {
        headers::check(request.headers())?;
        let received =
            self.receiver.receive(request.into_body(), scope.limits().body_bytes_max).await?;
        let Appended { outcome, position } = if is_small(received.bytes()) {
            self.store(scope, received.bytes())?
        } else {
            self.store_apart(scope.clone(), received).await?
        };
        if let Some(position) = position {
            self.appender.durable(position).await?;
        }
        Ok(outcome)
    }

    /// Stores on a thread of the blocking pool. The permit goes along: a client that hangs up does
    /// not make room for one more.
    async fn store_apart(
        self: &Arc<Self>,
        scope: WriteScope,
        received: body::Received,
    ) -> Result<Appended, Refusal> {
        let permit = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| Refusal::Lost)?;
        let this = Arc::clone(self);
        let stored = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            this.store(&scope, received.bytes())
        });
        stored.await.unwrap_or_else(|why| {
            error!(error = &why as &dyn std::error::Error, "write worker ended without a result");
            Err(Refusal::Lost)
        })
    }

    /// Inflates, takes apart, admits and appends one body.
    fn store(&self, scope: &WriteScope, compressed: &[u8]) -> Result<Appended, Refusal> {
        let mut work = self.work.take();
        let result = self.store_with(scope, compressed, &mut work);
        self.work.put(work);
        result
    }

    fn store_with(
        &self,
        scope: &WriteScope,
        compressed: &[u8],
        work: &mut pool::Work,
    ) -> Result<Appended, Refusal> {
        let limits = scope.limits();
        let body =
            snappy::inflate(compressed, limits.body_decompressed_bytes_max, &mut work.inflated)?;
        self.metrics.body(compressed.len(), body.len());
        let mut rows: storage::MetricRows<'_> = std::mem::take(&mut work.rows);
        let result = self.append(scope, body, &mut rows);
        work.rows = pool::without_body(rows);
        result
    }

    fn append<'a>(
        &self,
        scope: &WriteScope,
        body: &'a [u8],
        rows: &mut storage::MetricRows<'a>,
    ) -> Result<Appended, Refusal> {
        let refused = walk(body, scope.limits(), &self.caps, rows)?;
        if rows.series.is_empty() && rows.metadata.is_empty() {
            return Ok(Appended { outcome: refused, position: None });
        }
        // Whatever is logged has its price: a flood of exemplars fills a disk as one of samples.
        let priced =
            rows.samples.len() + rows.histograms.len() + rows.exemplars.len() + rows.metadata.len();
        self.admission.admit(scope, priced as u64, self.clock.monotonic())?;
        let Appended { mut outcome, position } = self.appender.append(scope, rows)?;
        for rejected in refused.rejected {
            outcome.reject(rejected.reason, rejected.count, || rejected.example);
        }
        Ok(Appended { outcome, position })
    }
}
