//! Puts the crates together, serves until a signal comes, and takes them apart in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ingest::Intake;
use ingest::host::{Host, Root};
use ingest::scrape::{SelfScraper, Target};
use model::{Clock, Disk, OsRandom, SystemClock};
use storage::retention::TenantRules;
use storage::{OsDisk, Storage};
use tenancy::{AuditLog, Authenticator, Directory, TenantName};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::routes::{self, Doors, Parts};

/// Runs the server until SIGINT or SIGTERM.
pub(crate) async fn serve(config: Config) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let started_ms = clock.now_ms();
    let data_dir = config.data_dir.clone();
    let disk = tokio::task::spawn_blocking(move || OsDisk::open(&data_dir)).await?;
    let disk: Arc<dyn Disk> = Arc::new(
        disk.with_context(|| format!("open data directory {}", config.data_dir.display()))?,
    );
    let storage = open_storage(&config, &disk, &clock).await?;
    let authenticator = authenticator(&config, &disk, &clock).await?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {}", config.listen))?;

    let metrics = Arc::new(ingest::Metrics::default());
    let doors = open_doors(&config, &storage, &disk, &metrics, &clock).await?;
    let engine = Arc::new(engine::StorageExecutor::new(
        Arc::clone(&storage),
        engine::Pool::of_all_cores(),
        engine::Options {
            subquery_step_ms: config.query.subquery_step_ms(),
            late_names: config.query.delayed_name_removal,
            ..engine::Options::default()
        },
    ));
    let querier =
        query::Querier::new(engine, Arc::clone(&clock), config.query.clone(), about(started_ms));
    let metrics = Metrics {
        storage: Arc::clone(&storage),
        ingest: metrics,
        query: Arc::clone(querier.metrics()),
        authenticator: Arc::clone(&authenticator),
        clock: Arc::clone(&clock),
        started_ms,
    };
    let query = config.query.clone();
    let parts = Parts { storage: Arc::clone(&storage), authenticator, metrics, query };

    storage.set_tenant_rules(Arc::clone(&parts.authenticator) as Arc<dyn TenantRules>);
    let (stop, stopping) = watch::channel(false);
    let mut tasks = vec![
        tokio::spawn(Arc::clone(&storage).run(stopping.clone())),
        tokio::spawn(Arc::clone(&storage).run_retention(stopping.clone())),
    ];
    tasks.extend(
        self_scraper(&config, &parts, &clock)?.map(|s| tokio::spawn(s.run(stopping.clone()))),
    );
    let who = Arc::clone(&parts.authenticator);
    let scope_of = Arc::new(move |tenant| who.write_scope_of(tenant));
    tasks.push(tokio::spawn(Arc::clone(&doors.pushgateway).run(scope_of, stopping.clone())));
    let router = routes::router(parts, querier, doors);
    tracing::info!(address = %config.listen, data_dir = %config.data_dir.display(), "ready");
    let serving = tokio::spawn(async move {
        let mut stopping = stopping;
        let until_stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
        axum::serve(listener, router).with_graceful_shutdown(until_stopped).await
    });
    wait_for_signal().await?;
    tracing::info!("stopping");
    stop.send_replace(true);
    shut_down(serving, tasks, storage, Duration::from_secs(config.shutdown_seconds)).await
}

async fn open_storage(
    config: &Config,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Storage>> {
    let parts = storage::Parts {
        disk: Arc::clone(disk),
        objects: None,
        clock: Arc::clone(clock),
        random: Arc::new(OsRandom),
    };
    let opened = Storage::open(config.storage.clone(), parts).await;
    let storage =
        opened.with_context(|| format!("open the store in {}", config.data_dir.display()))?;
    for (partition, reason) in storage.incomplete() {
        tracing::error!(
            partition,
            reason,
            "partition takes no writes, and answers may lack what it acknowledged"
        );
    }
    Ok(storage)
}

/// Everything by which rows come in, before one intake.
async fn open_doors(
    config: &Config,
    storage: &Arc<Storage>,
    disk: &Arc<dyn Disk>,
    metrics: &Arc<ingest::Metrics>,
    clock: &Arc<dyn Clock>,
) -> Result<Doors> {
    let intake = Intake::new(
        Arc::clone(storage) as Arc<dyn ingest::Appender>,
        Arc::default(),
        Arc::clone(metrics),
        Arc::clone(clock),
        &config.ingest,
    );
    let (disk, settings) = (Arc::clone(disk), config.ingest.clone());
    let opened = tokio::task::spawn_blocking(move || Doors::open(intake, disk, &settings)).await?;
    opened.context("open the groups that batch jobs pushed")
}

async fn authenticator(
    config: &Config,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Authenticator>> {
    let of_audit = (Arc::clone(disk), Arc::clone(clock));
    let (disk, of_directory) = (Arc::clone(disk), Arc::clone(clock));
    let directory =
        tokio::task::spawn_blocking(move || Directory::open(&disk, of_directory)).await?;
    let directory = Arc::new(directory.context("open the directory of tenants")?);
    let audit =
        tokio::task::spawn_blocking(move || AuditLog::open(&of_audit.0, of_audit.1)).await?;
    let audit = audit.context("open the records of administrative changes")?;
    let authenticator =
        Authenticator::new(&config.tenancy, &config.tokens()?, directory, Arc::clone(clock));
    Ok(Arc::new(authenticator.context("[tenancy]")?.with_audit(audit)))
}

fn about(started_ms: i64) -> query::About {
    query::About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms,
        ..query::About::default()
    }
}

/// Watches this machine and this process, so that there is something to see at once.
fn self_scraper(
    config: &Config,
    parts: &Parts,
    clock: &Arc<dyn Clock>,
) -> Result<Option<SelfScraper>> {
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
        Arc::clone(&parts.storage) as Arc<dyn ingest::Appender>,
        Arc::new(move || authenticator.internal_write_scope(&tenant)),
        Arc::clone(clock),
        Arc::clone(&parts.metrics.ingest),
        &config.ingest.self_scrape,
        targets,
    )))
}

async fn wait_for_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("listen for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("listen for SIGINT"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Requests end first, then what writes by itself, then the store: nothing accepted is left behind.
async fn shut_down(
    serving: JoinHandle<std::io::Result<()>>,
    tasks: Vec<JoinHandle<()>>,
    storage: Arc<Storage>,
    patience: Duration,
) -> Result<()> {
    if tokio::time::timeout(patience, serving).await.is_err() {
        tracing::warn!("requests did not end in time and were cut off");
    }
    for task in tasks {
        if tokio::time::timeout(patience, task).await.is_err() {
            tracing::warn!("a background task did not end in time");
        }
    }
    storage.close().await.context("flush and close the store")?;
    tracing::info!("stopped");
    Ok(())
}
