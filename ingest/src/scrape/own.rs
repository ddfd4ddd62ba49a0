//! The self-scraper: every few seconds the host's metrics and Taffrail's own become samples, the
//! way Prometheus would have scraped them.
//!
//! All targets of a tick share its timestamp, so their samples share timestamp vectors in storage.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::{Clock, Labels};
use parking_lot::Mutex;
use tenancy::{DirectoryError, WriteScope};
use tokio::sync::watch;
use tracing::{info, warn};

use super::ScrapeError;
use super::batch::Batch;
use super::scraped::Scraped;
use super::time::{next_tick, stamp, stopped};
use super::treatment::Treatment;
use crate::exposition::{Exposition, Format};
use crate::{Appender, Metrics, Refusal, SelfScrapeConfig};

/// A tick that came this late keeps its planned timestamp: regular timestamps cost no space. As
/// Prometheus' `scrapeTimestampTolerance`, but for a scrape that needs no network. Milliseconds.
const LATE_MS_MAX: i64 = 10;

/// Something in this process that can tell its metrics.
#[derive(Clone)]
pub struct Target {
    /// The label `job`.
    pub job: String,
    /// The label `instance`.
    pub instance: String,
    /// The label `cluster` of series without one; empty for none.
    pub cluster: String,
    /// Appends an exposition in text format 0.0.4.
    pub expose: Arc<dyn Fn(&mut String) + Send + Sync>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("job", &self.job)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// A target and what is known of it.
pub(super) struct Tracked {
    target: Target,
    treatment: Treatment,
    scraped: Scraped,
    text: String,
}

impl Tracked {
    pub(super) fn new(target: Target, samples_max: usize) -> Self {
        let treatment = Treatment {
            target: Labels::from_pairs([("job", &target.job), ("instance", &target.instance)]),
            cluster: target.cluster.clone(),
            honor_timestamps: true,
            samples_max: samples_max as u64,
            ..Treatment::default()
        };
        Self { target, treatment, scraped: Scraped::default(), text: String::new() }
    }

    /// Scrapes once: samples, stale markers of vanished series and the report go into the batch.
    pub(super) fn scrape(
        &mut self,
        at_ms: i64,
        clock: &dyn Clock,
        batch: &mut Batch,
    ) -> Result<(), ScrapeError> {
        let started = clock.monotonic();
        let Self { target, treatment, scraped, text } = self;
        text.clear();
        (target.expose)(text);
        let exposition = Exposition::new(Format::Text, text.as_bytes());
        let mut news = Vec::new();
        let tell = |family: &str, metadata: &model::Metadata| {
            news.push((family.to_owned(), metadata.clone()));
        };
        let (found, result) = scraped.scrape(Ok(exposition), treatment, at_ms, batch, tell);
        news.into_iter().for_each(|(family, metadata)| batch.push_metadata(family, metadata));
        let took = clock.monotonic().saturating_sub(started);
        scraped.report((found, result.is_ok()), (at_ms, took), None, treatment, batch);
        result
    }

    /// Ends everything: the target is no longer scraped.
    pub(super) fn end(&mut self, at_ms: i64, batch: &mut Batch) {
        self.scraped.end(at_ms, batch);
    }
}

/// Scrapes targets of this process until told to stop.
pub struct SelfScraper {
    shared: Arc<Shared>,
    interval_ms: i64,
    offset_ms: i64,
}

/// Gives the scope to write under; asked before every write, so that changed limits count.
pub type ScopeOf = Arc<dyn Fn() -> Result<WriteScope, DirectoryError> + Send + Sync>;

/// What a scrape needs on the blocking pool.
struct Shared {
    appender: Arc<dyn Appender>,
    scope: ScopeOf,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    targets: Mutex<Vec<Tracked>>,
}

impl fmt::Debug for SelfScraper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfScraper")
            .field("interval_ms", &self.interval_ms)
            .finish_non_exhaustive()
    }
}

impl SelfScraper {
    /// A scraper that writes into the tenant of `scope`.
    pub fn new(
        appender: Arc<dyn Appender>,
        scope: ScopeOf,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        config: &SelfScrapeConfig,
        targets: Vec<Target>,
    ) -> Self {
        let interval_ms =
            i64::try_from(config.interval_seconds.clamp(1, 86_400) * 1_000).unwrap_or(15_000);
        Self::with_interval(
            appender,
            scope,
            clock,
            metrics,
            interval_ms,
            config.samples_max,
            targets,
        )
    }

    pub(super) fn with_interval(
        appender: Arc<dyn Appender>,
        scope: ScopeOf,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        interval_ms: i64,
        samples_max: usize,
        targets: Vec<Target>,
    ) -> Self {
        // Machines of one fleet should not all scrape in the same millisecond.
        let names: String =
            targets.iter().map(|t| format!("{}\0{}\0", t.job, t.instance)).collect();
        let offset_ms =
            (xxhash_rust::xxh3::xxh3_64(names.as_bytes()) % interval_ms.unsigned_abs()) as i64;
        let targets = targets.into_iter().map(|target| Tracked::new(target, samples_max));
        let targets = Mutex::new(targets.collect());
        let shared = Shared { appender, scope, clock, metrics, targets };
        Self { shared: Arc::new(shared), interval_ms, offset_ms }
    }

    /// Scrapes at once and then at every tick, until `stop` becomes true or its sender is gone.
    /// Then ends all series with stale markers.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut at_ms = self.shared.clock.now_ms();
        loop {
            tokio::select! {
                () = self.shared.write_tick(at_ms) => {}
                () = stopped(&mut stop) => break,
            }
            let tick =
                next_tick(self.shared.clock.now_ms().max(at_ms), self.interval_ms, self.offset_ms);
            let skipped = (tick - at_ms - 1) / self.interval_ms;
            self.shared.metrics.scrapes_skipped.fetch_add(skipped.unsigned_abs(), Relaxed);
            let wait = tick.saturating_sub(self.shared.clock.now_ms()).clamp(0, self.interval_ms);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())) => {}
                () = stopped(&mut stop) => break,
            }
            at_ms = stamp(tick, self.shared.clock.now_ms(), self.interval_ms, LATE_MS_MAX);
        }
        let now_ms = self.shared.clock.now_ms().max(at_ms.saturating_add(1));
        self.shared.write(move |shared| shared.end(now_ms)).await;
    }
}

impl Shared {
    async fn write_tick(self: &Arc<Self>, at_ms: i64) {
        self.write(move |shared| shared.scrape(at_ms)).await;
    }

    /// Fills a batch on the blocking pool, appends it there and waits until it is durable.
    async fn write(self: &Arc<Self>, fill: impl FnOnce(&Self) -> Batch + Send + 'static) {
        let shared = Arc::clone(self);
        let appended = tokio::task::spawn_blocking(move || {
            let mut batch = fill(&shared);
            match (shared.scope)() {
                Ok(scope) => batch.append(|rows| Ok(shared.appender.append(&scope, rows)?)),
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "find the tenant of own samples"
                    );
                    Ok(None)
                }
            }
        });
        let result = match appended.await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(appended))) => {
                self.metrics.appended(&appended.outcome);
                for rejected in &appended.outcome.rejected {
                    let (reason, count) = (rejected.reason.as_str(), rejected.count);
                    warn!(reason, count, example = rejected.example, "own samples refused");
                }
                match appended.position {
                    Some(position) => self.appender.durable(position).await.map_err(Refusal::from),
                    None => Ok(()),
                }
            }
            Ok(Err(error)) => Err(error),
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "self-scrape ended without a result"
                );
                return;
            }
        };
        if let Err(error) = result {
            warn!(error = &error as &dyn std::error::Error, "store own samples");
        }
    }

    fn scrape(&self, at_ms: i64) -> Batch {
        let mut batch = Batch::default();
        for target in self.targets.lock().iter_mut() {
            self.metrics.scrapes.fetch_add(1, Relaxed);
            let scraped = target.scrape(at_ms, &*self.clock, &mut batch);
            if let Err(error) = scraped {
                self.metrics.scrapes_failed.fetch_add(1, Relaxed);
                warn!(job = target.target.job, %error, "self-scrape failed");
            }
        }
        batch
    }

    fn end(&self, at_ms: i64) -> Batch {
        let mut batch = Batch::default();
        for target in self.targets.lock().iter_mut() {
            target.end(at_ms, &mut batch);
        }
        info!(series = batch.series(), "ended own series");
        batch
    }
}
