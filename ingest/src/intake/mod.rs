//! The way every write takes, whatever door it came in by: bounded in bytes, memory and time.
//!
//! ```text
//! door: headers ─► body (bounded) ─► inflate ─► door: take apart ─► admission ─► append ─► durable ─► door: answer
//!                  └── async ──────┘ └───────────── blocking, bounded by cores ─────────┘  └─ async ─┘
//! ```

mod body;
mod inflate;
mod inflated;
mod pool;
mod refusal;
pub(crate) mod route;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use model::Clock;
use parking_lot::RwLock;
use storage::{AppendOutcome, Appended, MetricRows};
use tenancy::WriteScope;
use tokio::sync::Semaphore;
use tracing::{debug, error, warn};

pub use body::BodyError;
pub(crate) use body::Received;
pub use inflate::InflateError;
pub(crate) use inflate::{Encoding, inflate};
pub(crate) use inflated::Inflated;
pub(crate) use pool::{Pool, Recycle};
pub use refusal::{HeaderError, Refusal};
pub(crate) use refusal::{seconds_of, shown_header, told};
pub use route::RoutingConfig;
pub(crate) use route::Shared;

use crate::admit::Admission;
use crate::caps::Caps;
use crate::families::KnownFamilies;
use crate::ha::{Dropped, Elections, add_label};
use crate::{Appender, Config, Metrics};

/// Bodies that declare up to this many bytes decompressed are stored right away, on the thread
/// that moves bytes: some hundred samples, a fraction of a millisecond, so that it seldom waits for
/// a partition and never keeps one from others for long. What is larger, however well it
/// compresses, goes to the blocking pool, at a cost of some 10 µs.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// The label that says which cluster a series is of.
pub(crate) const CLUSTER: &str = "cluster";

/// Whether storing a body takes little time. A snappy one that does not say how long it is will
/// be refused at once.
pub(crate) fn is_small(encoding: Encoding, compressed: &[u8]) -> bool {
    match (encoding, encoding.declared(compressed)) {
        (_, Some(bytes)) => bytes <= INLINE_BYTES_MAX,
        (Encoding::Snappy, None) => true,
        (_, None) => false,
    }
}

/// What a door does with a body: one value for each request.
pub(crate) trait TakeApart: Send + 'static {
    /// Fills `rows`, which are empty, from a body. Rows that are refused one by one are in the
    /// outcome; an error refuses the whole request.
    fn take_apart<'a>(
        &mut self,
        body: &'a [u8],
        rows: &mut MetricRows<'a>,
    ) -> Result<AppendOutcome, Refusal>;
}

/// Where rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Somebody who may be one of a pair.
    Sender,
    /// A target that we asked: no replica of another.
    Target,
}

/// A write that was carried out, if only in part.
#[derive(Debug)]
pub(crate) struct Written<P> {
    /// What became of the rows.
    pub(crate) outcome: AppendOutcome,
    /// What took the body apart.
    pub(crate) door: P,
}

/// What all doors share.
pub struct Intake {
    pub(crate) appender: Arc<dyn Appender>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) caps: Caps,
    pub(crate) families: Arc<KnownFamilies>,
    elections: Elections,
    /// Label `cluster` of series that have none; empty for none.
    cluster: RwLock<Arc<str>>,
    routing: RwLock<Arc<RoutingConfig>>,
    bodies: body::Receiver,
    work: pool::Pool<pool::Work>,
    workers: Arc<Semaphore>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("caps", &self.caps).finish_non_exhaustive()
    }
}

impl Intake {
    /// An intake that hands rows to `appender`. `clock` must be the one the authenticator has:
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
            bodies: body::Receiver::new(config, Arc::clone(&metrics)),
            appender,
            admission,
            metrics,
            families: Arc::new(KnownFamilies::new(Arc::clone(&clock))),
            clock,
            caps: Caps::default(),
            elections: Elections::new(config.ha.clone()),
            cluster: RwLock::new(config.cluster.as_str().into()),
            routing: RwLock::new(Arc::new(config.routing.clone())),
            work: pool::Pool::new(cores + 1, usize::MAX),
            workers: Arc::new(Semaphore::new(cores + 1)),
        }
    }

    /// Takes other settings from the next request on: the cluster and the pairs of senders. How much
    /// may be on its way stays as it was at the start.
    pub fn reconfigure(&self, config: &Config) {
        *self.cluster.write() = config.cluster.as_str().into();
        self.elections.reconfigure(config.ha.clone());
        *self.routing.write() = Arc::new(config.routing.clone());
    }

    /// Label `cluster` of what comes without one; empty for none.
    pub(crate) fn cluster(&self) -> Arc<str> {
        Arc::clone(&self.cluster.read())
    }

    /// Which labels say where rows belong.
    pub(crate) fn routing(&self) -> Arc<RoutingConfig> {
        Arc::clone(&self.routing.read())
    }

    /// Room for series in the rows that the next request will use.
    #[cfg(test)]
    pub(crate) fn series_capacity(&self) -> usize {
        let rows = self.work.take().rows;
        assert!(rows.series.is_empty(), "rows are emptied");
        rows.series.capacity()
    }

    /// When a request began, for [`answered`](Self::answered).
    pub(crate) fn begin(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Counts an answer. `route` is its place in [`crate::ROUTES`].
    pub(crate) fn answered(&self, route: usize, status: u16, begun: Duration) {
        let took = self.clock.monotonic().saturating_sub(begun);
        self.metrics.answered(route, status, took);
    }

    /// Carries out one write and counts what became of it.
    pub(crate) async fn write<P: TakeApart>(
        self: &Arc<Self>,
        scope: &WriteScope,
        encoding: Encoding,
        body: Body,
        door: P,
    ) -> Result<Written<P>, Refusal> {
        match self.carry_out(scope, encoding, body, door).await {
            Ok((mut written, dropped)) => {
                self.metrics.appended(&written.outcome);
                self.metrics.dropped(&dropped);
                match scope.routes() {
                    None => self.admission.rejected(scope.tenant(), &written.outcome),
                    Some(_) => route::keep_going(&mut written.outcome),
                }
                // The other replica of the pair writes them: the sender need not know.
                written.outcome.samples += dropped.samples;
                written.outcome.histograms += dropped.histograms;
                written.outcome.exemplars += dropped.exemplars;
                Ok(written)
            }
            Err(refusal) => Err(self.refused(scope, refusal)),
        }
    }

    /// Counts a request that was refused whole.
    pub(crate) fn refused(&self, scope: &WriteScope, refusal: Refusal) -> Refusal {
        let (kind, status) = refusal.kind();
        self.metrics.refused(kind);
        self.admission.refused(scope.tenant(), kind);
        match status.is_server_error() {
            true => {
                warn!(tenant = %scope.name(), error = &refusal as &dyn std::error::Error, "write failed")
            }
            false => debug!(tenant = %scope.name(), %refusal, "write refused"),
        }
        refusal
    }

    async fn carry_out<P: TakeApart>(
        self: &Arc<Self>,
        scope: &WriteScope,
        encoding: Encoding,
        body: Body,
        door: P,
    ) -> Result<(Written<P>, Dropped), Refusal> {
        let received = self.bodies.receive(body, scope.limits().body_bytes_max).await?;
        let (Appended { outcome, position }, dropped, door) =
            if is_small(encoding, received.bytes()) {
                self.store(scope, encoding, received.bytes(), door)?
            } else {
                self.store_apart(scope.clone(), encoding, received, door).await?
            };
        if let Some(position) = position {
            self.appender.durable(position).await?;
        }
        Ok((Written { outcome, door }, dropped))
    }

    async fn store_apart<P: TakeApart>(
        self: &Arc<Self>,
        scope: WriteScope,
        encoding: Encoding,
        received: body::Received,
        door: P,
    ) -> Result<(Appended, Dropped, P), Refusal> {
        let this = Arc::clone(self);
        self.apart(move || this.store(&scope, encoding, received.bytes(), door)).await
    }

    /// Receives a body of up to `limit` bytes.
    pub(crate) async fn receive(&self, body: Body, limit: usize) -> Result<Received, BodyError> {
        self.bodies.receive(body, limit).await
    }

    /// Works on a thread of the blocking pool. The permit goes along: a client that hangs up does
    /// not make room for one more.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| Refusal::Lost)?;
        let stored = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        stored.await.unwrap_or_else(|why| {
            error!(error = &why as &dyn std::error::Error, "write worker ended without a result");
            Err(Refusal::Lost)
        })
    }

    /// Inflates, takes apart, admits and appends one body.
    fn store<P: TakeApart>(
        &self,
        scope: &WriteScope,
        encoding: Encoding,
        compressed: &[u8],
        door: P,
    ) -> Result<(Appended, Dropped, P), Refusal> {
        let mut work = self.work.take();
        let result = self.store_with(scope, encoding, compressed, door, &mut work);
        self.work.put(work);
        result
    }

    fn store_with<P: TakeApart>(
        &self,
        scope: &WriteScope,
        encoding: Encoding,
        compressed: &[u8],
        mut door: P,
        work: &mut pool::Work,
    ) -> Result<(Appended, Dropped, P), Refusal> {
        let limit = scope.limits().body_decompressed_bytes_max;
        let body = inflate(encoding, compressed, limit, &mut work.inflated)?;
        self.metrics.body(compressed.len(), body.len());
        let mut rows: MetricRows<'_> = std::mem::take(&mut work.rows);
        let result = door
            .take_apart(body, &mut rows)
            .and_then(|refused| self.append(scope, refused, &mut rows));
        work.rows = pool::without_body(rows);
        if result.is_err() {
            self.families.forget(scope.tenant());
        }
        let (appended, dropped) = result?;
        Ok((appended, dropped, door))
    }

    /// Admits and appends what was scraped, and counts what became of it. The cluster of targets is
    /// among their labels.
    pub(crate) fn append_scraped(
        &self,
        scope: &WriteScope,
        rows: &mut MetricRows<'_>,
    ) -> Result<Appended, Refusal> {
        let (none, from) = (AppendOutcome::default(), Origin::Target);
        let appended = match scope.routes() {
            None => self.append_to(scope, from, none, rows),
            Some(routes) => self.append_routed(routes, from, none, rows),
        };
        let (appended, _) = appended.map_err(|why| self.refused(scope, why))?;
        self.metrics.appended(&appended.outcome);
        if scope.routes().is_none() {
            self.admission.rejected(scope.tenant(), &appended.outcome);
        }
        Ok(appended)
    }

    /// Admits and appends what was taken apart, where it belongs.
    pub(crate) fn append(
        &self,
        scope: &WriteScope,
        refused: AppendOutcome,
        rows: &mut MetricRows<'_>,
    ) -> Result<(Appended, Dropped), Refusal> {
        let cluster = Arc::clone(&self.cluster.read());
        if !cluster.is_empty() {
            add_label(rows, CLUSTER, &cluster);
        }
        match scope.routes() {
            None => self.append_to(scope, Origin::Sender, refused, rows),
            Some(routes) => self.append_routed(routes, Origin::Sender, refused, rows),
        }
    }

    /// Admits and appends rows of one tenant, but for what another replica writes.
    fn append_to(
        &self,
        scope: &WriteScope,
        from: Origin,
        mut refused: AppendOutcome,
        rows: &mut MetricRows<'_>,
    ) -> Result<(Appended, Dropped), Refusal> {
        let now = self.clock.monotonic();
        let dropped = match from {
            Origin::Sender => self.elections.apply(scope.tenant(), rows, now, &mut refused),
            Origin::Target => Dropped::default(),
        };
        if rows.series.is_empty() && rows.metadata.is_empty() {
            return Ok((Appended { outcome: refused, position: None }, dropped));
        }
        let priced = priced(rows);
        let free = dropped.samples + dropped.histograms + dropped.exemplars;
        self.admission.admit(scope, priced as u64 - free, now)?;
        let Appended { mut outcome, position } = self.appender.append(scope, rows)?;
        for rejected in refused.rejected {
            outcome.reject(rejected.reason, rejected.count, || rejected.example);
        }
        Ok((Appended { outcome, position }, dropped))
    }
}

/// Whatever is logged has its price: a flood of exemplars fills a disk as one of samples.
fn priced(rows: &MetricRows<'_>) -> usize {
    rows.samples.len() + rows.histograms.len() + rows.exemplars.len() + rows.metadata.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_at_once_is_decided_by_its_length_decompressed() {
        let packed = |bytes: usize| {
            snap::raw::Encoder::new().compress_vec(&vec![0; bytes]).expect("small enough")
        };
        let dense = packed(700 << 10);
        assert!(dense.len() < INLINE_BYTES_MAX, "{} bytes compressed", dense.len());
        for (encoding, body, expected) in [
            (Encoding::Snappy, packed(INLINE_BYTES_MAX), true),
            (Encoding::Snappy, packed(INLINE_BYTES_MAX + 1), false),
            (Encoding::Snappy, dense, false),
            (Encoding::Snappy, Vec::new(), true),
            (Encoding::Snappy, vec![0xff; 20], true),
            (Encoding::Identity, vec![0; 20], true),
            (Encoding::Identity, vec![0; INLINE_BYTES_MAX + 1], false),
            (Encoding::Zstd, vec![0; 20], false),
            (Encoding::Gzip, vec![0; 20], false),
        ] {
            assert_eq!(is_small(encoding, &body), expected, "{encoding:?} {} bytes", body.len());
        }
    }
}
