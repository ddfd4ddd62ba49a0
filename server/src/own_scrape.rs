//! The watch over this machine and this process, so that there is something to see at once. Under
//! another configuration it begins anew: series that had other labels end.

use std::sync::Arc;

use anyhow::{Context, Result};
use ingest::host::{Host, Root};
use ingest::scrape::{SelfScraper, Target};
use model::Clock;
use parking_lot::Mutex;
use tenancy::TenantName;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::assemble::stopped;
use crate::config::Config;
use crate::reload::{Commit, Reload};
use crate::routes::Parts;

/// Scrapes under the configuration in force.
pub(crate) struct OwnScrape {
    parts: Parts,
    clock: Arc<dyn Clock>,
    /// What it was made from, to leave it alone where nothing changed.
    settings: Mutex<Settings>,
    /// The scraper to go on with; taken by the loop. The inner `None` is none at all.
    next: Mutex<Option<Option<SelfScraper>>>,
    changed: Notify,
}

/// What a scraper is made from.
type Settings = (ingest::SelfScrapeConfig, String, String);

fn settings_of(config: &Config) -> Settings {
    let (ingest, tenancy) = (&config.ingest, &config.tenancy);
    (ingest.self_scrape.clone(), ingest.cluster.clone(), tenancy.default_tenant.clone())
}

impl OwnScrape {
    pub(crate) fn start(config: &Config, parts: Parts, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let first = scraper(config, &parts, &clock)?;
        Ok(Arc::new(Self {
            parts,
            clock,
            settings: Mutex::new(settings_of(config)),
            next: Mutex::new(Some(first)),
            changed: Notify::new(),
        }))
    }

    /// Scrapes until told to stop, under each configuration in turn.
    pub(crate) async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut running: Option<(watch::Sender<bool>, JoinHandle<()>)> = None;
        loop {
            let next = self.next.lock().take();
            if let Some(next) = next {
                end(running.take()).await;
                running = next.map(|scraper| {
                    let (stop, stopped) = watch::channel(false);
                    (stop, tokio::spawn(scraper.run(stopped)))
                });
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = stopped(&mut stopping) => break,
            }
        }
        end(running).await;
    }
}

async fn end(running: Option<(watch::Sender<bool>, JoinHandle<()>)>) {
    let Some((stop, task)) = running else { return };
    stop.send_replace(true);
    if let Err(error) = task.await {
        tracing::error!(%error, "the watch over this process ended badly");
    }
}

impl Reload for Arc<OwnScrape> {
    fn keys(&self) -> &'static [&'static str] {
        &["ingest.self_scrape"]
    }

    fn prepare(&self, config: &Config) -> Result<Commit> {
        let settings = settings_of(config);
        if *self.settings.lock() == settings {
            return Ok(Box::new(|| {}));
        }
        let (own, scraper) = (Self::clone(self), scraper(config, &self.parts, &self.clock)?);
        Ok(Box::new(move || {
            *own.settings.lock() = settings;
            *own.next.lock() = Some(scraper);
            own.changed.notify_one();
        }))
    }
}

/// A scraper as configured; `None` if there is to be none.
fn scraper(config: &Config, parts: &Parts, clock: &Arc<dyn Clock>) -> Result<Option<SelfScraper>> {
    if !config.ingest.self_scrape.enabled {
        return Ok(None);
    }
    let host = Arc::new(Host::new(Root::default(), Arc::clone(clock)));
    let name = host.name();
    let own = parts.metrics.clone();
    let targets = vec![
        Target {
            job: "node".to_owned(),
            instance: name.clone(),
            cluster: config.ingest.cluster.clone(),
            expose: Arc::new(move |out| host.collect(out)),
        },
        Target {
            job: "taffrail".to_owned(),
            instance: name,
            cluster: config.ingest.cluster.clone(),
            expose: Arc::new(move |out| own.write(out)),
        },
    ];
    let tenant =
        TenantName::new(&config.tenancy.default_tenant).context("tenancy.default_tenant")?;
    let authenticator = Arc::clone(&parts.authenticator);
    Ok(Some(SelfScraper::new(
        Arc::clone(&parts.appender) as Arc<dyn ingest::Appender>,
        Arc::new(move || authenticator.internal_write_scope(&tenant)),
        Arc::clone(clock),
        Arc::clone(&parts.metrics.ingest),
        &config.ingest.self_scrape,
        targets,
    )))
}
