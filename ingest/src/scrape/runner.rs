//! The loop of one target: at every tick it is asked, and what it answers is stored.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::Metadata;
use parking_lot::Mutex;
use tenancy::{DirectoryError, TenantId, TenantName, WriteScope};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, warn};

use super::ScrapeError;
use super::batch::Batch;
use super::config::{Job, accept};
use super::fetched::exposition;
use super::scraped::{Extra, Found, Scraped};
use super::scraper::Defaults;
use super::status::{Health, TargetStatus};
use super::target::Prepared;
use super::time::{next_tick, stamp};
use super::treatment::Treatment;
use crate::Intake;
use crate::exposition::{Exposition, Format};
use crate::http_client::{Answer, Client, FetchError, Question};
use crate::intake::Inflated;
use crate::yaml::shown_duration;

/// A scrape that begins this late keeps its planned timestamp: regular timestamps cost no space. As
/// Prometheus' `scrape.timestamp-tolerance`. Milliseconds.
const LATE_MS_MAX: i64 = 2;

/// Length of a body if the job sets no limit, decompressed. Bytes; a million samples.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Whose the rows of a job are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsOf<'n> {
    /// One tenant's.
    Tenant(&'n TenantName),
    /// Each series belongs to whoever owned its namespace then.
    Namespaces,
}

impl fmt::Display for RowsOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(name) => write!(f, "tenant {name}"),
            Self::Namespaces => f.write_str("the platform"),
        }
    }
}

/// Gives the scope to write under; `None` while its tenant may not be written to.
pub type ScopeOfRows =
    Arc<dyn Fn(RowsOf<'_>) -> Result<Option<WriteScope>, DirectoryError> + Send + Sync>;

/// What all loops share.
pub(super) struct Shared {
    pub(super) intake: Arc<Intake>,
    pub(super) scope_of: ScopeOfRows,
    /// Bodies are taken apart by so many threads at a time.
    pub(super) workers: Arc<Semaphore>,
    pub(super) work: Mutex<Vec<Work>>,
    /// The process ends.
    pub(super) stopping: watch::Receiver<bool>,
    /// Held by everything that runs: when none is left, everything has ended.
    pub(super) alive: mpsc::WeakSender<()>,
}

/// Memory of one worker, used again and again.
#[derive(Debug, Default)]
pub(super) struct Work {
    batch: Batch,
    inflated: Inflated,
}

/// A job at work.
#[derive(Debug)]
pub(super) struct JobRun {
    pub(super) job: Arc<Job>,
    pub(super) defaults: Defaults,
    client: Client,
    /// Why none of its targets is scraped at the moment.
    pub(super) refused: Mutex<Option<String>>,
}

impl JobRun {
    pub(super) fn new(job: Arc<Job>, client: Client, defaults: Defaults) -> Self {
        Self { job, defaults, client, refused: Mutex::new(None) }
    }

    /// What a target is told with each question.
    fn headers(&self, target: &Prepared) -> Vec<(&'static str, String)> {
        let timeout = Duration::from_millis(target.timeout_ms.unsigned_abs());
        let protocols = self.job.protocols(target.forms.native);
        let mut headers = vec![
            ("accept", accept(&protocols, self.job.escaping)),
            ("x-prometheus-scrape-timeout-seconds", timeout.as_secs_f64().to_string()),
        ];
        if self.job.enable_compression {
            headers.push(("accept-encoding", "gzip".to_owned()));
        }
        headers
    }

    /// Whose rows its samples are.
    pub(super) fn rows_of(&self) -> RowsOf<'_> {
        match self.job.routed {
            true => RowsOf::Namespaces,
            false => RowsOf::Tenant(self.job.tenant.as_ref().unwrap_or(&self.defaults.tenant)),
        }
    }
}

/// What a loop is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    Run,
    /// Another loop goes on with the target.
    HandOver,
    /// The target is gone: its series end, unless it comes back.
    End,
}

/// What is known of a target: goes from loop to loop when its job changes.
#[derive(Debug)]
pub(super) struct Memory {
    tracked: Mutex<Tracked>,
    status: Mutex<Status>,
}

#[derive(Debug)]
struct Tracked {
    scraped: Scraped,
    treatment: Treatment,
}

#[derive(Debug, Clone, Default)]
struct Status {
    tenant: Option<TenantId>,
    health: Health,
    last_error: String,
    last_scrape_ms: i64,
    last_seconds: f64,
}

impl Memory {
    pub(super) fn new(treatment: Treatment) -> Self {
        let tracked = Tracked { scraped: Scraped::default(), treatment };
        Self { tracked: Mutex::new(tracked), status: Mutex::default() }
    }

    /// From now on the target is treated so.
    pub(super) fn treat(&self, treatment: Treatment) {
        let mut tracked = self.tracked.lock();
        if tracked.treatment != treatment {
            tracked.scraped.treat_anew();
            tracked.treatment = treatment;
        }
    }
}

/// A target being scraped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) run: Arc<JobRun>,
    pub(super) prepared: Prepared,
    headers: Vec<(&'static str, String)>,
    pub(super) memory: Arc<Memory>,
    order: watch::Sender<Order>,
}

impl Running {
    /// Starts the loop of a target.
    pub(super) fn start(
        run: Arc<JobRun>,
        prepared: Prepared,
        memory: Arc<Memory>,
        shared: &Arc<Shared>,
    ) -> Arc<Self> {
        let (order, orders) = watch::channel(Order::Run);
        let headers = run.headers(&prepared);
        let target = Arc::new(Self { run, prepared, headers, memory, order });
        if let Some(alive) = shared.alive.upgrade() {
            let looped = run_loop(Arc::clone(&target), Arc::clone(shared), orders);
            tokio::spawn(async move {
                looped.await;
                drop(alive);
            });
        }
        target
    }

    pub(super) fn tell(&self, order: Order) {
        self.order.send_replace(order);
    }

    /// Whether its loop has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.order.is_closed()
    }

    pub(super) fn status(&self) -> TargetStatus {
        let status = self.memory.status.lock().clone();
        let Prepared { discovered, labels, url, interval_ms, timeout_ms, .. } =
            self.prepared.clone();
        TargetStatus {
            tenant: status.tenant,
            pool: self.run.job.name.clone(),
            discovered,
            labels,
            url,
            last_error: status.last_error,
            last_scrape_ms: status.last_scrape_ms,
            last_seconds: status.last_seconds,
            health: status.health,
            interval_ms,
            timeout_ms,
        }
    }

    /// Calls `tell` with the families it exposes; with one alone if that is asked for.
    pub(super) fn families(&self, name: &str, mut tell: impl FnMut(&str, &Metadata)) {
        let tracked = self.memory.tracked.lock();
        match name {
            "" => tracked.scraped.families.iter().for_each(|(name, metadata)| tell(name, metadata)),
            name => tracked.scraped.families.get(name).into_iter().for_each(|m| tell(name, m)),
        }
    }
}

async fn run_loop(target: Arc<Running>, shared: Arc<Shared>, mut orders: watch::Receiver<Order>) {
    let clock = Arc::clone(&shared.intake.clock);
    let interval_ms = target.prepared.interval_ms;
    let offset_ms = (target.prepared.hash() % interval_ms.unsigned_abs()) as i64;
    let mut stopping = shared.stopping.clone();
    let mut tick = next_tick(clock.now_ms(), interval_ms, offset_ms);
    loop {
        match wait_until(&shared, tick, &mut orders, &mut stopping).await {
            None | Some(Order::HandOver) => return,
            Some(Order::End) => {
                return end(&target, &shared, tick, &mut orders, &mut stopping).await;
            }
            Some(Order::Run) => {}
        }
        let at_ms = stamp(tick, clock.now_ms(), interval_ms, LATE_MS_MAX);
        let started = clock.monotonic();
        let fetched = tokio::select! {
            fetched = fetch(&target) => fetched,
            () = super::time::stopped(&mut stopping) => return,
        };
        store(&target, &shared, fetched, at_ms, started).await;
        let next = next_tick(clock.now_ms().max(tick), interval_ms, offset_ms);
        let skipped = ((next - tick) / interval_ms - 1).max(0);
        shared.intake.metrics.scrapes_skipped.fetch_add(skipped.unsigned_abs(), Relaxed);
        tick = next;
    }
}

/// Waits for a time, or for an order to do something else. `None`: the process ends.
async fn wait_until(
    shared: &Shared,
    tick_ms: i64,
    orders: &mut watch::Receiver<Order>,
    stopping: &mut watch::Receiver<bool>,
) -> Option<Order> {
    let wait = tick_ms.saturating_sub(shared.intake.clock.now_ms()).max(0);
    let sleep = tokio::time::sleep(Duration::from_millis(wait.unsigned_abs()));
    let ordered = async {
        // Without somebody to give orders there is nobody to scrape for.
        orders.wait_for(|order| *order != Order::Run).await.map_or(Order::HandOver, |order| *order)
    };
    tokio::select! {
        () = sleep => Some(Order::Run),
        order = ordered => Some(order),
        () = super::time::stopped(stopping) => None,
    }
}

/// Ends the series of a target that is gone. Not at once: it may come back, here or elsewhere, and
/// then its series must not have ended behind its new samples.
async fn end(
    target: &Arc<Running>,
    shared: &Arc<Shared>,
    tick: i64,
    orders: &mut watch::Receiver<Order>,
    stopping: &mut watch::Receiver<bool>,
) {
    let interval_ms = target.prepared.interval_ms;
    let until = tick.saturating_add(interval_ms).saturating_add(interval_ms / 10);
    let wait = until.saturating_sub(shared.intake.clock.now_ms()).max(0);
    let handed_over = async { drop(orders.wait_for(|order| *order == Order::HandOver).await) };
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())) => {}
        () = handed_over => return,
        () = super::time::stopped(stopping) => return,
    }
    let (target, of_worker) = (Arc::clone(target), Arc::clone(shared));
    let ended = work(shared, move || {
        let mut batch = Batch::default();
        target.memory.tracked.lock().scraped.end(tick, &mut batch);
        if let Err(error) = append(&target.run, &of_worker, &mut batch) {
            warn!(job = target.run.job.name, %error, "end the series of a target that is gone");
        }
    });
    ended.await;
}

async fn fetch(target: &Running) -> Result<Answer, ScrapeError> {
    let run = &target.run;
    if let Some(why) = run.refused.lock().clone() {
        return Err(ScrapeError::TargetLimit(why));
    }
    let timeout = Duration::from_millis(target.prepared.timeout_ms.unsigned_abs());
    let question = Question {
        url: &target.prepared.url,
        headers: &target.headers,
        bytes_max: body_bytes_max(&run.job),
    };
    Ok(run.client.get(&question, timeout).await?)
}

fn body_bytes_max(job: &Job) -> usize {
    match usize::try_from(job.limits.body_bytes) {
        Ok(0) | Err(_) => BODY_BYTES_MAX,
        Ok(bytes) => bytes.min(BODY_BYTES_MAX),
    }
}

/// Runs on the blocking pool, with as many others as there are cores.
async fn work(shared: &Arc<Shared>, job: impl FnOnce() + Send + 'static) {
    let Ok(permit) = Arc::clone(&shared.workers).acquire_owned().await else { return };
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        job();
    });
    if let Err(error) = done.await {
        warn!(error = &error as &dyn std::error::Error, "scrape ended without a result");
    }
}

async fn store(
    target: &Arc<Running>,
    shared: &Arc<Shared>,
    fetched: Result<Answer, ScrapeError>,
    at_ms: i64,
    started: Duration,
) {
    let (target, of_worker) = (Arc::clone(target), Arc::clone(shared));
    work(shared, move || {
        let mut work = of_worker.work.lock().pop().unwrap_or_default();
        store_with(&target, &of_worker, fetched, (at_ms, started), &mut work);
        let mut spare = of_worker.work.lock();
        if spare.len() < of_worker.workers.available_permits() + 2 {
            spare.push(work);
        }
    })
    .await;
}

fn store_with(
    target: &Running,
    shared: &Shared,
    fetched: Result<Answer, ScrapeError>,
    (at_ms, started): (i64, Duration),
    work: &mut Work,
) {
    let (run, metrics) = (&target.run, &shared.intake.metrics);
    let mut body_bytes = match &fetched {
        Err(ScrapeError::Fetch(FetchError::TooLarge { .. })) => -1.0,
        _ => 0.0,
    };
    let Work { batch, inflated } = work;
    let exposed = fetched.as_ref().map_err(Clone::clone).and_then(|answer| {
        let body = answer.body.inflate(body_bytes_max(&run.job), inflated)?;
        body_bytes = body.len() as f64;
        match body {
            [] => Ok(Exposition::new(Format::Text, body)),
            body => exposition(&run.job, target.prepared.forms, &answer.content_type, body),
        }
    });
    let mut news = Vec::new();
    let tell = |family: &str, told: &Metadata| news.push((family.to_owned(), told.clone()));
    let mut tracked = target.memory.tracked.lock();
    let Tracked { scraped, treatment } = &mut *tracked;
    let (found, mut result) = scraped.scrape(exposed, treatment, at_ms, batch, tell);
    let took = shared.intake.clock.monotonic().saturating_sub(started);
    let extra = run.job.extra_metrics.then(|| Extra {
        timeout: Duration::from_millis(target.prepared.timeout_ms.unsigned_abs()),
        samples_max: run.job.limits.samples,
        body_bytes,
    });
    let of_report: (Found, bool) = (found, result.is_ok());
    scraped.report(of_report, (at_ms, took), extra, treatment, batch);
    news.into_iter().for_each(|(family, metadata)| batch.push_metadata(family, metadata));
    let stored = append(run, shared, batch);
    drop(tracked);
    if let (Err(why), Ok(())) = (&stored, &result) {
        result = Err(ScrapeError::Stored(why.to_string()));
    }
    metrics.scrapes.fetch_add(1, Relaxed);
    metrics.scrapes_failed.fetch_add(u64::from(result.is_err()), Relaxed);
    note(target, &result, (at_ms, took), stored.ok().flatten());
}

/// Stores rows under the scope of the job's tenant, which it gives.
fn append(
    run: &JobRun,
    shared: &Shared,
    batch: &mut Batch,
) -> Result<Option<TenantId>, ScrapeError> {
    let appended = append_for(run.rows_of(), run, shared, batch);
    // What was not stored must not be found by the next scrape that uses this memory.
    batch.clear();
    appended
}

fn append_for(
    whose: RowsOf<'_>,
    run: &JobRun,
    shared: &Shared,
    batch: &mut Batch,
) -> Result<Option<TenantId>, ScrapeError> {
    let failed = |why: &dyn std::fmt::Display| ScrapeError::Stored(why.to_string());
    let scope = (shared.scope_of)(whose).map_err(|e| failed(&e))?;
    let scope = scope.ok_or_else(|| failed(&format_args!("{whose} takes no writes")))?;
    // What is news for each owner is asked when it is known who owns what.
    if scope.routes().is_none() {
        batch.only_news(|family, told| {
            let is = (told.kind, told.help.as_str(), told.unit.as_str());
            shared.intake.families.is_news(scope.tenant(), family, is)
        });
    }
    let appended = batch.append(|rows| shared.intake.append_scraped(&scope, rows));
    let appended = appended.map_err(|why| {
        shared.intake.families.forget(scope.tenant());
        failed(&why)
    })?;
    for rejected in appended.into_iter().flat_map(|a| a.outcome.rejected) {
        let (reason, count) = (rejected.reason.as_str(), rejected.count);
        debug!(job = run.job.name, reason, count, example = rejected.example, "samples refused");
    }
    Ok(Some(scope.tenant()))
}

fn note(
    target: &Running,
    result: &Result<(), ScrapeError>,
    (at_ms, took): (i64, Duration),
    tenant: Option<TenantId>,
) {
    let mut status = target.memory.status.lock();
    let before = status.health;
    status.health = if result.is_ok() { Health::Up } else { Health::Down };
    status.last_error = result.as_ref().err().map_or_else(String::new, ToString::to_string);
    (status.last_scrape_ms, status.last_seconds) = (at_ms, took.as_secs_f64());
    status.tenant = tenant.or(status.tenant);
    let url = &target.prepared.url;
    match result {
        Err(error) if before != Health::Down => warn!(url, %error, "scrape failed"),
        Err(error) => debug!(url, %error, "scrape failed"),
        Ok(()) if before == Health::Down => {
            let every = shown_duration(target.prepared.interval_ms);
            tracing::info!(url, every, "scrape works again");
        }
        Ok(()) => {}
    }
}
