//! The way of a question: a turn, a deadline, the executor, and the end of its work when nobody
//! waits any more.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::Clock;
use parking_lot::RwLock;
use tenancy::ReadScope;
use tokio::sync::Semaphore;

use crate::metrics::Gauged;
use crate::running::{Asked, Running, State};
use crate::turns::{Turns, seconds};
use crate::{Answer, Cancel, Config, Error, Executor, Metrics, OwnMetrics, Reloads, Targets, Used};

/// Answers questions under limits. Cloning is cheap.
#[derive(Clone)]
pub struct Querier {
    executor: Arc<dyn Executor>,
    clock: Arc<dyn Clock>,
    config: Arc<RwLock<Arc<Config>>>,
    about: Arc<About>,
    reloads: Arc<Reloads>,
    turns: Arc<Turns>,
    running: Arc<Running>,
    /// Work that goes on at a time, apart from the threads that move bytes.
    reading: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    targets: Option<Arc<dyn Targets>>,
    own_metrics: Option<Arc<dyn OwnMetrics>>,
}

/// Texts up to this length, in bytes, are read where they arrived if no regular expression is
/// among them: it takes less than the way to another thread and back.
const READ_INLINE_BYTES_MAX: usize = 4 << 10;

/// What the process says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Version of this program.
    pub version: String,
    /// Commit it was built from.
    pub revision: String,
    /// When it was built, in any form.
    pub built: String,
    /// When it started. Milliseconds since the Unix epoch.
    pub started_ms: i64,
}

/// A question's answer and how long its parts took.
#[derive(Debug)]
pub(crate) struct Timed<T> {
    pub(crate) answer: T,
    /// Waiting for a turn.
    pub(crate) queued: Duration,
    /// Running.
    pub(crate) ran: Duration,
}

/// How long a question may take, and whose number that is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) timeout: Duration,
    /// Whether the request asked for less than the tenant's limit.
    pub(crate) asked: bool,
}

impl Querier {
    /// A querier over one executor.
    pub fn new(
        executor: Arc<dyn Executor>,
        clock: Arc<dyn Clock>,
        config: Config,
        about: About,
    ) -> Self {
        let (running, metrics) = Default::default();
        let turns = Arc::new(Turns::new(config.running_max));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let reading = Arc::new(Semaphore::new(cores));
        let reloads =
            Arc::new(Reloads::started(about.started_ms, config.notification_listeners_max));
        let (config, about) = (Arc::new(RwLock::new(Arc::new(config))), Arc::new(about));
        let (targets, own_metrics) = (None, None);
        Self {
            executor,
            clock,
            config,
            about,
            reloads,
            turns,
            running,
            reading,
            metrics,
            targets,
            own_metrics,
        }
    }

    /// The same, which also tells what is scraped.
    #[must_use]
    pub fn with_targets(self, targets: Arc<dyn Targets>) -> Self {
        Self { targets: Some(targets), ..self }
    }

    /// The same, which also tells what the process counts.
    #[must_use]
    pub fn with_own_metrics(self, metrics: Arc<dyn OwnMetrics>) -> Self {
        Self { own_metrics: Some(metrics), ..self }
    }

    pub(crate) fn own_metrics(&self) -> Option<Arc<dyn OwnMetrics>> {
        self.own_metrics.clone()
    }

    pub(crate) fn targets(&self) -> Option<&dyn Targets> {
        self.targets.as_deref()
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(crate) fn executor(&self) -> &dyn Executor {
        &*self.executor
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    /// Takes other settings from the next question on. How many run at a time, origins and what the
    /// executor was given stay as they were at the start.
    pub fn reconfigure(&self, config: Config) {
        *self.config.write() = Arc::new(config);
    }

    /// Where reloads of the configuration are written down.
    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// The deadline of a question: the tenant's limit, or less if the request asks for less.
    pub(crate) fn deadline(
        &self,
        scope: &ReadScope,
        asked_ms: Option<i64>,
    ) -> Result<Deadline, Error> {
        let limit =
            Duration::try_from_secs_f64(scope.limits().query_seconds_max).unwrap_or(Duration::MAX);
        let Some(asked_ms) = asked_ms else { return Ok(Deadline { timeout: limit, asked: false }) };
        let asked = u64::try_from(asked_ms).unwrap_or(0);
        if asked == 0 {
            return Err(Error::Timeout("query timed out in query queue".to_owned()));
        }
        let asked = Duration::from_millis(asked);
        Ok(Deadline { timeout: asked.min(limit), asked: asked < limit })
    }

    /// What runs and waits.
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// Runs work when it is this tenant's turn, and for no longer than the deadline. `cancel` is
    /// set as soon as the answer is there, the deadline has passed, somebody ended the question, or
    /// this future was dropped because the client is gone.
    pub(crate) async fn run<T, F>(
        &self,
        scope: &ReadScope,
        deadline: Deadline,
        asked: Asked,
        work: impl FnOnce(Cancel) -> F,
    ) -> Result<Timed<T>, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let listed = self.running.enter(scope, asked, &*self.clock, self.config().slow_query());
        let entry = listed.entry();
        let answer = async {
            let waiting = Gauged::new(&self.metrics.waiting);
            let turn = self.turns.take(scope, deadline.timeout).await?;
            drop(waiting);
            let running = Gauged::new(&self.metrics.running);
            let queued = listed.begin();
            let left = deadline.timeout.saturating_sub(queued);
            let cancel = match Instant::now().checked_add(left) {
                Some(end) => entry.cancel.until(end),
                None => entry.cancel.clone(),
            };
            let work = tokio::time::timeout(left, work(cancel));
            let answer = work.await.map_err(|_| too_slow(deadline))??;
            drop((turn, running));
            Ok(Timed { answer, queued, ran: listed.age().saturating_sub(queued) })
        };
        let answer = tokio::select! {
            biased;
            error = entry.ended() => Err(error),
            answer = answer => answer,
        };
        listed.now_is(if answer.is_ok() { State::Answered } else { State::Failed });
        answer
    }

    /// Reads texts of a question whose turn it is. Long ones and those with regular expressions
    /// are read on another thread, as many at a time as there are cores; the permit goes along, so
    /// that a client that hangs up does not make room for one more.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        texts: Vec<String>,
        read: impl FnOnce(&[String]) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let bytes: usize = texts.iter().map(String::len).sum();
        if bytes <= READ_INLINE_BYTES_MAX && !texts.iter().any(|text| text.contains('~')) {
            return Ok(read(&texts));
        }
        self.apart("read the question", move || read(&texts)).await
    }

    /// Works for a question whose turn it is, apart from the threads that move bytes and as many at
    /// a time as there are cores.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |source: crate::Source| Error::internal(doing, source);
        let permit = Arc::clone(&self.reading).acquire_owned().await;
        let permit = permit.map_err(|e| failed(e.into()))?;
        let working = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        working.await.map_err(|e| failed(e.into()))
    }

    /// Counts what a statement cost.
    pub(crate) fn count_used(&self, used: &Used) {
        self.metrics.samples_read.fetch_add(used.samples, Ordering::Relaxed);
        self.metrics.series_read.fetch_add(used.series, Ordering::Relaxed);
    }

    /// Counts what an answer cost.
    pub(crate) fn count(&self, answer: &Answer) {
        self.metrics.samples_read.fetch_add(answer.stats.samples_read, Ordering::Relaxed);
        self.metrics.series_read.fetch_add(answer.stats.series, Ordering::Relaxed);
    }
}

fn too_slow(deadline: Deadline) -> Error {
    let whose = if deadline.asked { "the request's timeout" } else { "limit query_seconds_max" };
    Error::Timeout(format!(
        "query timed out in expression evaluation: it took longer than {} ({whose}); \
         select fewer series, a shorter range or a longer step",
        seconds(deadline.timeout)
    ))
}

impl fmt::Debug for Querier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Querier").field("config", &self.config()).finish_non_exhaustive()
    }
}
