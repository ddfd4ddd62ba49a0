//! A door for batch jobs, as Prometheus' Pushgateway: what a job pushed last is kept as a group and
//! written again and again, as if it were scraped, until it is deleted.
//!
//! ```text
//! PUT, POST ─► intake: body ─► parse ─► group (memory) ─► rows ─► durable ─► journal ─► 200
//! DELETE ────► stale markers ─► durable ─► journal ─► 202
//! tick ──────► all groups ─► rows
//! ```
//!
//! A push is stored at its arrival, so a query sees it at once; what a push takes away ends in
//! stale markers. Grouping and rules are those of Pushgateway; nobody has to scrape.

mod group;
mod journal;
mod listing;
mod store;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::Disk;
use serde::{Deserialize, Serialize};
use storage::{AppendOutcome, MetricRows};
use tenancy::{Authenticator, DirectoryError, Limits, TenantId, WriteScope};
use tokio::sync::watch;
use tracing::warn;

use crate::build::{Builder, Values};
use crate::caps::Caps;
use crate::door;
use crate::exposition::Format;
use crate::import::{plain, read_headers};
use crate::intake::{Encoding, Intake, Refusal, TakeApart, told};
use group::Group;
pub use group::{Grouping, Replaces};
pub use journal::JournalError;
use journal::Key;
pub use listing::{LabelPairs, Part, PushedFamily, PushedGroup};
use store::{Bounds, Changed, Pushed, Store};

/// Method and path of every route.
pub const ROUTES: &[(&str, &str)] = &[
    ("PUT", "/metrics/{*grouping}"),
    ("POST", "/metrics/{*grouping}"),
    ("DELETE", "/metrics/{*grouping}"),
];

/// Reads the file of pushed groups, if there is one, and changes nothing; for tools. Blocks.
pub fn check(disk: &Arc<dyn Disk>) -> Result<(), JournalError> {
    journal::check(disk.as_ref())
}

/// Settings of pushed groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushgatewayConfig {
    /// Seconds between two writes of what is kept. Well below the time for which a sample stands
    /// in for missing ones, five minutes.
    pub interval_seconds: u64,
    /// Groups of one tenant.
    pub groups_max: usize,
    /// Bytes of the bodies of one tenant's groups. They are held in memory.
    pub bytes_max: usize,
}

impl Default for PushgatewayConfig {
    fn default() -> Self {
        Self { interval_seconds: 60, groups_max: 10_000, bytes_max: 64 << 20 }
    }
}

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(gateway: Arc<Pushgateway>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, gateway, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// Gives the scope to write a tenant's groups under; asked before every write. `None` while the
/// tenant's writes are refused, an error if there is none any more.
pub type ScopeOfTenant =
    Arc<dyn Fn(TenantId) -> Result<Option<WriteScope>, DirectoryError> + Send + Sync>;

/// Keeps groups and writes them.
pub struct Pushgateway {
    intake: Arc<Intake>,
    store: Arc<Store>,
    config: PushgatewayConfig,
}

impl std::fmt::Debug for Pushgateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pushgateway").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Pushgateway {
    /// Opens the groups of a data directory. Blocks.
    pub fn open(
        intake: Arc<Intake>,
        disk: Arc<dyn Disk>,
        config: PushgatewayConfig,
    ) -> Result<Self, JournalError> {
        let count = Arc::clone(&intake.metrics.pushed_groups);
        Ok(Self { store: Arc::new(Store::open(disk, count)?), intake, config })
    }

    /// Answers one request. `route` is its place in [`crate::routes`].
    pub async fn handle(&self, route: usize, scope: WriteScope, request: Request) -> Response {
        let begun = self.intake.begin();
        let method = request.method().clone();
        let result = self.carry_out(&scope, request).await;
        let response = match result {
            Ok(outcome) if told(&outcome).is_none() => match method.as_str() {
                "DELETE" => StatusCode::ACCEPTED.into_response(),
                _ => StatusCode::OK.into_response(),
            },
            other => plain(&other),
        };
        self.intake.answered(route, response.status().as_u16(), begun);
        response
    }

    async fn carry_out(
        &self,
        scope: &WriteScope,
        request: Request,
    ) -> Result<AppendOutcome, Refusal> {
        let refused = |why| self.intake.refused(scope, why);
        if scope.routes().is_some() {
            let why = "a pushed group belongs to one tenant: name it in X-Scope-OrgID".to_owned();
            return Err(refused(Refusal::Parameter(why)));
        }
        let path = request.uri().path().strip_prefix("/metrics/").unwrap_or_default();
        let grouping = Grouping::parse(path).map_err(|why| refused(Refusal::Parameter(why)))?;
        let replaces = match request.method().as_str() {
            "PUT" => Some(Replaces::All),
            "POST" => Some(Replaces::Families),
            _ => None,
        };
        let (format, encoding) = match replaces {
            Some(_) => read_headers(request.headers()).map_err(|why| refused(why.into()))?,
            None => (Format::Text, Encoding::Identity),
        };
        let key = (scope.tenant(), grouping);
        let change = Change {
            store: Arc::clone(&self.store),
            bounds: Bounds { groups_max: self.config.groups_max, bytes_max: self.config.bytes_max },
            key: key.clone(),
            format,
            replaces,
            now_ms: self.intake.clock.now_ms(),
            limits: Arc::clone(scope.limits()),
            caps: self.intake.caps.clone(),
            done: None,
        };
        let body = match replaces {
            Some(_) => request.into_body(),
            None => axum::body::Body::empty(),
        };
        let written = self.intake.write(scope, encoding, body, change).await;
        let outcome = match written {
            // What was refused is not kept either: dropped with the change, it is taken back.
            Ok(written) if told(&written.outcome).is_some() => return Ok(written.outcome),
            Ok(mut written) => {
                written.door.done = None;
                written.outcome
            }
            Err(refusal) => {
                if matches!(refusal, Refusal::Exposition(_) | Refusal::Parameter(_)) {
                    self.failed(&key).await;
                }
                return Err(refusal);
            }
        };
        self.persist(key).await.map_err(refused)?;
        Ok(outcome)
    }

    /// Notes that a push failed, for a group that is there.
    async fn failed(&self, key: &Key) {
        let now_ms = self.intake.clock.now_ms();
        let bounds = Bounds { groups_max: 0, bytes_max: usize::MAX };
        let noted = self.store.change(key, bounds, |group| {
            group.map(|group| Group { failed_ms: now_ms, ..group.clone() })
        });
        if noted.is_ok_and(|changed| changed.after.is_some())
            && let Err(refusal) = self.persist(key.clone()).await
        {
            warn!(error = &refusal as &dyn std::error::Error, "note a failed push");
        }
    }

    async fn persist(&self, key: Key) -> Result<(), Refusal> {
        let store = Arc::clone(&self.store);
        let persisted = tokio::task::spawn_blocking(move || store.persist(&key)).await;
        persisted.map_err(|_| Refusal::Lost)?.map_err(Refusal::from)
    }

    /// Writes all groups at every tick, until told to stop.
    pub async fn run(self: Arc<Self>, scope_of: ScopeOfTenant, mut stop: watch::Receiver<bool>) {
        loop {
            let pause = Duration::from_secs(self.config.interval_seconds.max(1));
            let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped => return,
            }
            let (this, scope_of) = (Arc::clone(&self), Arc::clone(&scope_of));
            let written = tokio::task::spawn_blocking(move || this.write_all(&scope_of)).await;
            if let Err(error) = written {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "writing pushed groups ended without a result"
                );
            }
        }
    }

    /// Writes all groups once. Blocks; whoever asks does not wait for the disk, as with a scrape.
    pub(crate) fn write_all(&self, scope_of: &ScopeOfTenant) {
        for (tenant, groups) in self.store.by_tenant() {
            let scope = match scope_of(tenant) {
                Ok(Some(scope)) => scope,
                Ok(None) => continue,
                Err(DirectoryError::Unknown(_)) => {
                    if let Err(error) = self.store.forget(tenant) {
                        let error = &error as &dyn std::error::Error;
                        warn!(%tenant, error, "forget the groups of a deleted tenant");
                    }
                    continue;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(%tenant, error, "find the tenant of pushed groups");
                    continue;
                }
            };
            let now_ms = self.intake.clock.now_ms();
            for (grouping, group) in groups {
                let mut rows = MetricRows::default();
                let mut builder = Builder::new(&mut rows, scope.limits(), &self.intake.caps, None);
                let series = store::series_of_group(&group, &grouping);
                let all = series
                    .iter()
                    .chain(&store::about(&group, &grouping))
                    .try_for_each(|one| put(&mut builder, one, one.value.at(now_ms)));
                let refused = std::mem::take(&mut builder.refused);
                let written = all.and_then(|()| self.intake.append(&scope, refused, &mut rows));
                match written {
                    Ok((appended, _)) => self.intake.metrics.appended(&appended.outcome),
                    Err(refusal) => drop(self.intake.refused(&scope, refusal)),
                }
            }
        }
    }
}

fn put(builder: &mut Builder<'_, '_>, series: &Pushed, values: Values) -> Result<(), Refusal> {
    let labels = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Ok(builder.push(&mut labels.collect::<Vec<_>>(), (values, 0), None)?)
}

/// One push or removal. The change of the group is taken back if this is dropped with it.
struct Change {
    store: Arc<Store>,
    bounds: Bounds,
    key: Key,
    format: Format,
    /// `None` removes.
    replaces: Option<Replaces>,
    now_ms: i64,
    limits: Arc<Limits>,
    caps: Caps,
    done: Option<Changed>,
}

impl Drop for Change {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            self.store.undo(done);
        }
    }
}

impl TakeApart for Change {
    fn take_apart<'a>(
        &mut self,
        body: &'a [u8],
        rows: &mut MetricRows<'a>,
    ) -> Result<AppendOutcome, Refusal> {
        let grouping = self.key.1.clone();
        let mut builder = Builder::new(rows, &self.limits, &self.caps, None);
        let changed = match self.replaces {
            Some(replaces) => {
                let (push, series) = store::read_push(self.format, body, &grouping)?;
                for one in &series {
                    put(&mut builder, one, one.value.at(self.now_ms))?;
                }
                self.store.change(
                    &self.key,
                    self.bounds,
                    store::pushed(push, replaces, self.now_ms),
                )
            }
            None => self.store.change(&self.key, self.bounds, |_| None),
        }?;
        let before = self.done.insert(changed);
        let series = |group: &Option<Group>| {
            group.as_ref().map_or_else(Vec::new, |group| store::series_of_group(group, &grouping))
        };
        let (earlier, now) = (series(&before.before), series(&before.after));
        let live: HashSet<_> = now.iter().map(|one| &one.labels).collect();
        for ended in earlier.iter().filter(|one| !live.contains(&one.labels)) {
            put(&mut builder, ended, ended.value.stale(self.now_ms))?;
        }
        match (&before.before, &before.after) {
            (_, Some(group)) => {
                for one in store::about(group, &grouping) {
                    put(&mut builder, &one, one.value.at(self.now_ms))?;
                }
            }
            (Some(group), None) => {
                for one in store::about(group, &grouping) {
                    put(&mut builder, &one, one.value.stale(self.now_ms))?;
                }
            }
            (None, None) => {}
        }
        Ok(builder.refused)
    }
}
