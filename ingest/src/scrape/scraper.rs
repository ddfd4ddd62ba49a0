//! The scraper: a pool for each job of a configuration that can be changed while it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use model::Labels;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tenancy::{TenantId, TenantName};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::info;

use super::config::{Job, ScrapeFile, ScrapeFileError};
use super::pool::Pool;
use super::runner::{JobRun, Shared};
pub use super::runner::{RowsOf, ScopeOfRows};
use super::status::{Dropped, TargetFamily, TargetStatus};
use crate::Intake;
use crate::discovery::Provider;
use crate::http_client::{Client, ClientError, Clients};
use crate::relabel::{self, Step};

/// Which targets are scraped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeConfig {
    /// Prometheus' configuration file with `scrape_configs`; empty: nothing is scraped but this
    /// process and its machine.
    pub config_file: PathBuf,
}

/// Where the rows of a job go that says nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The tenant.
    pub tenant: TenantName,
    /// The label `cluster` of series without one; empty for none.
    pub cluster: String,
}

/// Jobs that were checked and can be taken over.
pub struct PreparedJobs {
    /// All jobs there will be.
    names: Vec<String>,
    /// Those that are new or changed.
    changed: Vec<(JobRun, Vec<Arc<dyn Provider>>)>,
}

impl std::fmt::Debug for PreparedJobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedJobs").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Scrapes the targets of all jobs.
pub struct Scraper {
    shared: Arc<Shared>,
    clients: Clients,
    pools: Mutex<BTreeMap<String, Arc<Pool>>>,
    stop: watch::Sender<bool>,
    alive: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl std::fmt::Debug for Scraper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scraper").field("pools", &self.pools.lock().len()).finish_non_exhaustive()
    }
}

impl Scraper {
    /// A scraper without jobs.
    pub fn new(intake: Arc<Intake>, scope_of: ScopeOfRows) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (stop, stopping) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let shared = Shared {
            intake,
            scope_of,
            workers: Arc::new(Semaphore::new(cores)),
            work: Mutex::default(),
            stopping,
            alive: alive.downgrade(),
        };
        Self {
            shared: Arc::new(shared),
            clients: Clients::default(),
            pools: Mutex::default(),
            stop,
            alive: Mutex::new(Some((alive, ended))),
        }
    }

    /// Whether everything that a configuration names can be used.
    pub fn check(file: &ScrapeFile) -> Result<(), ScrapeFileError> {
        let clients = Clients::default();
        file.jobs.iter().try_for_each(|job| parts_of(job, &clients).map(|_| ()))
    }

    /// Prepares what a configuration asks for, and changes nothing yet, but that tenants of jobs come
    /// into being. Blocks: certificates are read.
    pub fn prepare(
        &self,
        file: &ScrapeFile,
        defaults: &Defaults,
    ) -> Result<PreparedJobs, ScrapeFileError> {
        let running = self.pools.lock().clone();
        let is_same = |job: &Arc<Job>| {
            let pool = running.get(&job.name);
            pool.is_some_and(|pool| pool.run.job == *job && pool.run.defaults == *defaults)
        };
        let changed = file.jobs.iter().filter(|job| !is_same(job)).map(|job| {
            let (client, providers) = parts_of(job, &self.clients)?;
            let run = JobRun::new(Arc::clone(job), client, defaults.clone());
            // So that whoever may read the tenant sees the job before anything is stored.
            let scope = (self.shared.scope_of)(run.rows_of());
            scope.map_err(|why| unusable(job, &why))?;
            Ok((run, providers))
        });
        let changed = changed.collect::<Result<_, ScrapeFileError>>()?;
        Ok(PreparedJobs { names: file.job_names().map(str::to_owned).collect(), changed })
    }

    /// From now on these jobs are scraped. Jobs that did not change go on undisturbed, and so do the
    /// targets that a changed job still has. Must be called within a runtime.
    pub fn take_over(&self, prepared: PreparedJobs) {
        let PreparedJobs { names, changed } = prepared;
        let mut pools = self.pools.lock();
        let gone: Vec<String> =
            pools.keys().filter(|name| !names.contains(name)).cloned().collect();
        if !changed.is_empty() || !gone.is_empty() {
            info!(jobs = names.len(), changed = changed.len(), gone = gone.len(), "scrape jobs");
        }
        for pool in gone.iter().filter_map(|name| pools.remove(name)) {
            pool.end();
        }
        for (run, providers) in changed {
            let name = run.job.name.clone();
            let before = pools.remove(&name);
            before.iter().for_each(|pool| pool.stop_discovery());
            pools.insert(name, Pool::start(run, providers, before, &self.shared));
        }
    }

    /// Scrapes until `stop` becomes true or its sender is gone; then waits for what is being stored.
    /// Series do not end: whoever starts again goes on with them.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        super::time::stopped(&mut stop).await;
        for (_, pool) in std::mem::take(&mut *self.pools.lock()) {
            pool.stop_discovery();
        }
        self.stop.send_replace(true);
        let alive = self.alive.lock().take();
        if let Some((alive, mut ended)) = alive {
            drop(alive);
            // Nobody sends anything: it returns when the last loop has let go.
            let _ = ended.recv().await;
        }
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.lock().values().cloned().collect()
    }

    /// The tenant of a job's rows; the platform's own if they are many tenants'.
    fn tenant_of(&self, run: &JobRun) -> Option<TenantId> {
        let scope = (self.shared.scope_of)(run.rows_of()).ok().flatten();
        scope.map(|scope| scope.tenant())
    }

    /// Names of jobs whose tenant passes `may`.
    pub fn pool_names(&self, may: impl Fn(TenantId) -> bool) -> Vec<String> {
        let pools = self.pools();
        let seen = pools.iter().filter(|pool| self.tenant_of(&pool.run).is_some_and(&may));
        seen.map(|pool| pool.run.job.name.clone()).collect()
    }

    /// Targets that are scraped, of one job or of all, whose tenant and labels pass `may`; in order
    /// of their jobs and labels.
    pub fn targets(
        &self,
        pool: &str,
        may: impl Fn(TenantId, &Labels) -> bool,
    ) -> Vec<TargetStatus> {
        let mut found = Vec::new();
        for one in self.pools().iter().filter(|one| is_asked(one, pool)) {
            let Some(tenant) = self.tenant_of(&one.run) else { continue };
            let all = one.active();
            let seen = all.iter().filter(|target| may(tenant, &target.prepared.labels));
            found.extend(seen.map(|target| target.status()));
        }
        found.sort_by(|a, b| (&a.pool, &a.labels, &a.url).cmp(&(&b.pool, &b.labels, &b.url)));
        found
    }

    /// Targets that relabelling dropped, of one job or of all, whose tenant passes `may`; and how
    /// many of each job there are.
    pub fn dropped(
        &self,
        pool: &str,
        may: impl Fn(TenantId) -> bool,
    ) -> (Vec<Dropped>, Vec<(String, usize)>) {
        let (mut found, mut counts) = (Vec::new(), Vec::new());
        for one in self.pools().iter().filter(|one| is_asked(one, pool)) {
            if !self.tenant_of(&one.run).is_some_and(&may) {
                continue;
            }
            let (labels, count) = one.dropped();
            let name = &one.run.job.name;
            let of_pool = labels.into_iter().map(|l| Dropped { pool: name.clone(), discovered: l });
            found.extend(of_pool);
            counts.push((name.clone(), count));
        }
        (found, counts)
    }

    /// Families that targets expose, all or those of one name.
    pub fn families(
        &self,
        family: &str,
        limit: usize,
        may: impl Fn(TenantId, &Labels) -> bool,
    ) -> Vec<TargetFamily> {
        let mut found = Vec::new();
        for pool in self.pools() {
            let Some(tenant) = self.tenant_of(&pool.run) else { continue };
            for target in pool.active() {
                if found.len() >= limit {
                    return found;
                }
                let labels = &target.prepared.labels;
                if !may(tenant, labels) {
                    continue;
                }
                target.families(family, |name, metadata| {
                    if found.len() < limit {
                        found.push(TargetFamily {
                            target: labels.clone(),
                            family: name.to_owned(),
                            kind: metadata.kind,
                            help: metadata.help.clone(),
                            unit: metadata.unit.clone(),
                        });
                    }
                });
            }
        }
        found
    }

    /// What the rules of a job do with labels, step by step: `tell` is called with the steps. `None`
    /// if there is no such job, or `may` does not let it be seen.
    pub fn relabel_steps<T>(
        &self,
        pool: &str,
        labels: &Labels,
        may: impl Fn(TenantId) -> bool,
        tell: impl FnOnce(Vec<Step<'_>>) -> T,
    ) -> Option<T> {
        let found = self.pools.lock().get(pool).cloned()?;
        self.tenant_of(&found.run).filter(|tenant| may(*tenant))?;
        Some(tell(relabel::steps(&found.run.job.relabel, labels)))
    }
}

fn is_asked(pool: &Pool, name: &str) -> bool {
    name.is_empty() || pool.run.job.name == name
}

/// Everything of a job that can be wrong although it was read.
fn parts_of(
    job: &Arc<Job>,
    clients: &Clients,
) -> Result<(Client, Vec<Arc<dyn Provider>>), ScrapeFileError> {
    let client = clients.client(job.http.clone()).map_err(|e| unusable(job, &e))?;
    let providers = job.discovery.iter().map(|discovery| discovery.provider(clients));
    let providers = providers.collect::<Result<_, ClientError>>();
    Ok((client, providers.map_err(|e| unusable(job, &e))?))
}

fn unusable(job: &Job, why: &dyn std::fmt::Display) -> ScrapeFileError {
    ScrapeFileError::Unusable { job: job.name.clone(), why: why.to_string() }
}
