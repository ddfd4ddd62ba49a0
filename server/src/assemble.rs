//! Puts the crates together, serves until a signal comes, and takes them apart in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ingest::forward::ForwardingAppender;
use ingest::scrape::Scraper;
use ingest::{Appender, EntryAppender, Intake};
use model::{Clock, Disk, OsRandom, SystemClock};
use storage::retention::TenantRules;
use storage::{FarObjects, OsDisk, Storage};
use tenancy::{AuditLog, Authenticator, Directory};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::Routing;
use crate::backups::Backups;
use crate::cli::Serve;
use crate::config::Config;
use crate::far::far_objects;
use crate::listener::{Counters, Listener, Tls, WithPeers};
use crate::logs::Listeners;
use crate::metrics::Metrics;
use crate::own_scrape::OwnScrape;
use crate::reload::{Part, Reload, Reloader};
use crate::routes::{self, Doors, Parts};
use crate::{forwarding, scraping};

/// Runs the server until SIGINT or SIGTERM.
pub(crate) async fn serve(arguments: Serve, config: Config) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let started_ms = clock.now_ms();
    let disk = open_disk(&config).await?;
    let objects = far_objects(&config.storage.objects, arguments.take_over)?;
    let storage = open_storage(&config, objects, &disk, &clock).await?;
    check_tenants(&storage, &disk)?;
    let authenticator = authenticator(&config, &disk, &clock).await?;
    let (listener, tls, connections) = open_port(&config).await?;

    let metrics = Arc::new(ingest::Metrics::default());
    let stored = Arc::clone(&storage) as Arc<dyn Appender>;
    let appender = forwarding::start(&config, stored, &authenticator, &disk, &clock).await?;
    let forwarder = Arc::clone(appender.forwarder());
    let doors = open_doors(&config, (&appender, &storage), &disk, &metrics, &clock).await?;
    let listeners = Listeners::open(&config).await?;
    let (engine, entries) = evaluators(&config, &storage);
    let querier = querier(&config, &engine, &clock, started_ms);
    let scraper = scraping::start(&config, &doors, &authenticator)?;
    let querier = querier.with_targets(Arc::new(scraping::Told(Arc::clone(&scraper))));
    let (who, of_reload) = (Arc::clone(&authenticator), Arc::clone(&clock));
    let reloads = Arc::clone(querier.reloads());
    let reloader =
        Arc::new(Reloader::new(arguments, &config, who, of_reload, Arc::clone(&reloads))?);
    reloadable(&reloader, &authenticator, &querier, &doors);
    let routing = open_routing(&config, &authenticator, &disk).await?;
    reloader.add(Arc::new(Arc::clone(&routing)) as Arc<dyn Reload>);
    let metrics = Metrics {
        storage: Arc::clone(&storage),
        ingest: metrics,
        query: Arc::clone(querier.metrics()),
        engine,
        authenticator: Arc::clone(&authenticator),
        clock: Arc::clone(&clock),
        reloads: Arc::clone(&reloads),
        connections,
        routing: Arc::clone(&routing),
        forwarder: Arc::clone(&forwarder),
        started_ms,
    };
    let querier = querier.with_own_metrics(Arc::new(metrics.clone()));
    let backups = Backups::new(&config, &storage, &disk, &clock);
    let parts = Parts {
        storage: Arc::clone(&storage),
        appender,
        authenticator,
        metrics,
        querier,
        entries,
        reloader,
        routing,
        backups,
        pushgateway: Arc::clone(&doors.pushgateway),
    };

    storage.set_tenant_rules(Arc::clone(&parts.authenticator) as Arc<dyn TenantRules>);
    let (stop, stopping) = watch::channel(false);
    let mut tasks = in_background(&config, &parts, &doors, (tls, scraper), &clock, &stopping)?;
    tasks.extend(listeners.start(&config, &doors.entries, &parts.authenticator, &stopping)?);
    let router = routes::router(parts, doors);
    tracing::info!(address = %config.listen, tls = config.tls.is_on(), data_dir = %config.data_dir.display(), "ready");
    let serving = answer_requests(listener, router, stopping);
    wait_for_signal().await?;
    tracing::info!("stopping");
    stop.send_replace(true);
    reloads.end();
    end_writes(serving, tasks, Duration::from_secs(config.shutdown_seconds)).await;
    forwarder.stop().await;
    storage.close().await.context("flush and close the store")?;
    tracing::info!("stopped");
    Ok(())
}

/// The data directory, for this process alone.
async fn open_disk(config: &Config) -> Result<Arc<dyn Disk>> {
    let data_dir = config.data_dir.clone();
    let disk = tokio::task::spawn_blocking(move || OsDisk::open(&data_dir)).await?;
    let disk =
        disk.with_context(|| format!("open data directory {}", config.data_dir.display()))?;
    Ok(Arc::new(disk))
}

/// The port, and its TLS if it has any.
async fn open_port(config: &Config) -> Result<(Listener, Option<Arc<Tls>>, Arc<Counters>)> {
    let counters = Arc::new(Counters::default());
    let (settings, of_tls) = (config.tls.clone(), Arc::clone(&counters));
    let tls = tokio::task::spawn_blocking(move || Tls::open(&settings, &of_tls)).await?;
    let tls = tls.context("[tls]")?;
    let (shown, of_port) = (tls.clone(), Arc::clone(&counters));
    let listener = Listener::bind(config.listen, &config.tls, shown, of_port).await?;
    Ok((listener, tls, counters))
}

/// Answers what comes to the port, until told to stop.
fn answer_requests(
    listener: Listener,
    router: axum::Router,
    mut stopping: watch::Receiver<bool>,
) -> JoinHandle<std::io::Result<()>> {
    tokio::spawn(async move {
        let until_stopped = async move { stopped(&mut stopping).await };
        axum::serve(listener, WithPeers(router)).with_graceful_shutdown(until_stopped).await
    })
}

/// What goes on beside requests, until told to stop.
fn in_background(
    config: &Config,
    parts: &Parts,
    doors: &Doors,
    (tls, scraper): (Option<Arc<Tls>>, Arc<Scraper>),
    clock: &Arc<dyn Clock>,
    stopping: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>> {
    let mut tasks = vec![
        Arc::clone(&parts.reloader).on_hangup(stopping.clone())?,
        tokio::spawn(Arc::clone(&parts.storage).run(stopping.clone())),
        tokio::spawn(Arc::clone(&parts.storage).run_retention(stopping.clone())),
        tokio::spawn(end_tails(Arc::clone(&parts.storage), stopping.clone())),
    ];
    if let Some(tls) = tls {
        parts.reloader.add(Arc::new(Arc::clone(&tls)) as Arc<dyn Reload>);
        tasks.push(tokio::spawn(tls.watch(stopping.clone())));
    }
    let own = OwnScrape::start(config, parts.clone(), Arc::clone(clock))?;
    parts.reloader.add(Arc::new(Arc::clone(&own)) as Arc<dyn Reload>);
    tasks.push(tokio::spawn(own.run(stopping.clone())));
    parts.reloader.add(Arc::new(scraping::Reloaded(Arc::clone(&scraper))));
    let forwarder = Arc::clone(&parts.metrics.forwarder);
    parts.reloader.add(Arc::new(forwarding::Reloaded(forwarder)) as Arc<dyn Reload>);
    tasks.push(tokio::spawn(scraper.run(stopping.clone())));
    tasks.push(tokio::spawn(Arc::clone(&parts.routing).watch(stopping.clone())));
    let who = Arc::clone(&parts.authenticator);
    let scope_of = Arc::new(move |tenant| who.write_scope_of(tenant));
    tasks.push(tokio::spawn(Arc::clone(&doors.pushgateway).run(scope_of, stopping.clone())));
    Ok(tasks)
}

/// Requests for what comes have no end of their own: they are ended before others are waited for.
async fn end_tails(storage: Arc<Storage>, mut stopping: watch::Receiver<bool>) {
    stopped(&mut stopping).await;
    storage.end_tails();
}

/// What answers questions about series within limits.
fn querier(
    config: &Config,
    engine: &Arc<engine::StorageExecutor>,
    clock: &Arc<dyn Clock>,
    started_ms: i64,
) -> query::Querier {
    let executor = Arc::clone(engine) as Arc<dyn query::Executor>;
    query::Querier::new(executor, Arc::clone(clock), config.query.clone(), about(started_ms))
}

/// What evaluates questions over the store: about series, and about entries.
fn evaluators(
    config: &Config,
    storage: &Arc<Storage>,
) -> (Arc<engine::StorageExecutor>, Arc<engine::StorageEntries>) {
    let pool = engine::Pool::of_all_cores();
    let options = engine::Options {
        subquery_step_ms: config.query.subquery_step_ms(),
        late_names: config.query.delayed_name_removal,
        start_timestamps: config.query.start_timestamps,
        result_cache_bytes: config.query.result_cache_bytes,
        ..engine::Options::default()
    };
    let of_series = engine::StorageExecutor::new(Arc::clone(storage), Arc::clone(&pool), options);
    let of_entries = engine::StorageEntries::new(Arc::clone(storage), pool);
    (Arc::new(of_series), Arc::new(of_entries))
}

async fn open_storage(
    config: &Config,
    objects: Option<FarObjects>,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Storage>> {
    let parts = storage::Parts {
        disk: Arc::clone(disk),
        objects,
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

/// What takes over another configuration while it runs, apart from what says so itself.
fn reloadable(
    reloader: &Reloader,
    authenticator: &Arc<Authenticator>,
    querier: &query::Querier,
    doors: &Doors,
) {
    let who = Arc::clone(authenticator);
    reloader.add(Part::new(&["tenancy", "token_file"], move |config: &Config| {
        let rules = who.prepare(&config.tenancy, &config.tokens()?).context("[tenancy]")?;
        let who = Arc::clone(&who);
        Ok(Box::new(move || who.take_over(rules)))
    }));
    let asked = querier.clone();
    let keys = &[
        "query.expression_bytes_max",
        "query.form_bytes_max",
        "query.steps_max",
        "query.lookback_seconds",
        "query.experimental_promql",
        "query.slow_query_seconds",
        "query.search_api",
    ];
    reloader.add(Part::new(keys, move |config: &Config| {
        let (asked, query) = (asked.clone(), config.query.clone());
        Ok(Box::new(move || asked.reconfigure(query)))
    }));
    let doors = doors.clone();
    let keys = &["ingest.cluster", "ingest.ha", "ingest.otlp", "ingest.routing"];
    reloader.add(Part::new(keys, move |config: &Config| {
        let (doors, ingest) = (doors.clone(), config.ingest.clone());
        Ok(Box::new(move || {
            doors.intake.reconfigure(&ingest);
            doors.otlp.reconfigure(ingest.otlp);
        }))
    }));
}

/// A store that has rows and no directory of tenants has lost it: a new one would give the numbers
/// of the old tenants, and with them their rows, to others.
fn check_tenants(storage: &Storage, disk: &Arc<dyn Disk>) -> Result<()> {
    let totals = storage.totals();
    let of_entries = storage.entry_totals();
    let has_entries = of_entries.head_entries > 0 || of_entries.segments > 0;
    let has_rows = totals.active_series > 0 || totals.blocks > 0 || has_entries;
    anyhow::ensure!(
        !has_rows || Directory::is_stored(disk),
        "tenants/directory.log is missing, and there are rows: nobody knows any more whose they are; \
         put it back from a backup"
    );
    Ok(())
}

/// Everything by which rows come in, before one intake.
async fn open_doors(
    config: &Config,
    (appender, storage): (&Arc<ForwardingAppender>, &Arc<Storage>),
    disk: &Arc<dyn Disk>,
    metrics: &Arc<ingest::Metrics>,
    clock: &Arc<dyn Clock>,
) -> Result<Doors> {
    let intake = Intake::new(
        Arc::clone(appender) as Arc<dyn Appender>,
        Arc::default(),
        Arc::clone(metrics),
        Arc::clone(clock),
        &config.ingest,
    );
    let (disk, settings) = (Arc::clone(disk), config.ingest.clone());
    let stored = Arc::clone(storage) as Arc<dyn EntryAppender>;
    let open = move || Doors::open(intake, stored, disk, &settings);
    let opened = tokio::task::spawn_blocking(open).await?;
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

async fn open_routing(
    config: &Config,
    authenticator: &Arc<Authenticator>,
    disk: &Arc<dyn Disk>,
) -> Result<Arc<Routing>> {
    let (config, who, disk) = (config.clone(), Arc::clone(authenticator), Arc::clone(disk));
    tokio::task::spawn_blocking(move || Routing::open(&config, who, disk)).await?
}

fn about(started_ms: i64) -> query::About {
    query::About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms,
        ..query::About::default()
    }
}

/// Returns once it is time to stop.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: time to stop as well.
    drop(stopping.wait_for(|stop| *stop).await);
}

async fn wait_for_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("listen for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("listen for SIGINT"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Requests end first, then what writes by itself; after them what sends rows on, and the store:
/// nothing accepted is left behind.
async fn end_writes(
    serving: JoinHandle<std::io::Result<()>>,
    tasks: Vec<JoinHandle<()>>,
    patience: Duration,
) {
    if tokio::time::timeout(patience, serving).await.is_err() {
        tracing::warn!("requests did not end in time and were cut off");
    }
    for task in tasks {
        if tokio::time::timeout(patience, task).await.is_err() {
            tracing::warn!("a background task did not end in time");
        }
    }
}
