//! From a request's headers to a principal, and from there to scopes.
//!
//! The header `X-Scope-OrgID` chooses among what the credential allows and never widens it. Which
//! tenants exist is not asked before the credential has been found to allow them, so that nobody
//! learns names by trying.

mod rules;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use model::Clock;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::asked::Asked;
use crate::config::{Config, ConfigError, TokenFile};
use crate::metrics::Metrics;
use crate::principal::{Access, Alternatives, Principal};
use crate::rate::RatesTable;
use crate::routing::{SYSTEM, UNASSIGNED};
use crate::selection::Selection;
use crate::{
    AuditLog, DeleteScope, Directory, DirectoryError, Limits, ReadScope, Refusal, Routes,
    RoutingError, RoutingFile, RoutingTable, Tenant, TenantId, TenantName, TenantRead,
    TenantStatus, WriteScope, overrides,
};
use rules::Rules;

/// The name of whoever comes without credentials where none are asked for.
const ANONYMOUS: &str = "anonymous";

/// Checks who is asking and makes scopes. One for the whole process.
#[derive(Debug)]
pub struct Authenticator {
    rules: RwLock<Arc<Rules>>,
    routing: RwLock<Arc<RoutingTable>>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    rates: RatesTable,
    /// All tenants as an unrestricted scope holds them, for one version of the directory and the
    /// rules.
    everything: Mutex<Option<Everything>>,
    /// Limits of tenants that were given some by an administrator.
    overlays: Mutex<HashMap<TenantId, Overlay>>,
    /// Administrative changes, one at a time: what a record says was there before is what the
    /// change replaces.
    pub(crate) changes: tokio::sync::Mutex<()>,
    pub(crate) audit: Option<Arc<AuditLog>>,
    /// Tenants come into being one at a time: each waits for the disk, and a flood of new names
    /// must not fill the pool of blocking threads.
    creations: Semaphore,
    metrics: Metrics,
}

#[derive(Debug)]
struct Everything {
    version: u64,
    rules: Arc<Rules>,
    read: Arc<[TenantRead]>,
}

/// The limits of one tenant and what they were made from.
#[derive(Debug)]
struct Overlay {
    base: Arc<Limits>,
    tenant: Arc<Tenant>,
    limits: Arc<Limits>,
}

/// A configuration that was checked and is not in force yet.
#[derive(Debug)]
pub struct Prepared(Arc<Rules>);

impl Authenticator {
    /// Checks the configuration. `tokens` is the token file, empty in mode `none`.
    pub fn new(
        config: &Config,
        tokens: &TokenFile,
        directory: Arc<Directory>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            rules: RwLock::new(Arc::new(Rules::new(config, tokens)?)),
            routing: RwLock::default(),
            directory,
            clock,
            rates: RatesTable::default(),
            everything: Mutex::default(),
            overlays: Mutex::default(),
            changes: tokio::sync::Mutex::default(),
            audit: None,
            creations: Semaphore::new(1),
            metrics: Metrics::default(),
        })
    }

    /// The same with a place for the records of administrative changes.
    #[must_use]
    pub fn with_audit(self, audit: AuditLog) -> Self {
        Self { audit: Some(Arc::new(audit)), ..self }
    }

    /// Records of administrative changes, if they are kept.
    pub fn audit(&self) -> Option<&Arc<AuditLog>> {
        self.audit.as_ref()
    }

    /// Checks a configuration without using it.
    pub fn check(config: &Config, tokens: &TokenFile) -> Result<(), ConfigError> {
        Rules::new(config, tokens).map(drop)
    }

    /// Without authentication and with a directory that is not stored; for tests of other crates.
    pub fn for_test() -> Self {
        let clock = Arc::new(model::SystemClock::default());
        let directory = Arc::new(Directory::for_test());
        Self::new(&Config::default(), &TokenFile::default(), directory, clock)
            .expect("the default configuration is valid")
    }

    /// Takes another configuration from now on. If it is wrong, the one before stays.
    pub fn reload(&self, config: &Config, tokens: &TokenFile) -> Result<(), ConfigError> {
        self.take_over(self.prepare(config, tokens)?);
        Ok(())
    }

    /// Checks another configuration, to be taken over later.
    pub fn prepare(&self, config: &Config, tokens: &TokenFile) -> Result<Prepared, ConfigError> {
        Ok(Prepared(Arc::new(Rules::new(config, tokens)?)))
    }

    /// Goes on under a configuration that was checked.
    pub fn take_over(&self, prepared: Prepared) {
        *self.rules.write() = prepared.0;
    }

    /// The tenants.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    /// The limits of a tenant: those of the configuration with those an administrator gave it.
    pub(crate) fn limits_for(&self, rules: &Rules, tenant: &Arc<Tenant>) -> Arc<Limits> {
        let base = rules.limits.of(&tenant.name);
        if tenant.limits.is_empty() {
            return Arc::clone(base);
        }
        let mut overlays = self.overlays.lock();
        let known = overlays.get(&tenant.id);
        let fits = |o: &&Overlay| Arc::ptr_eq(&o.base, base) && Arc::ptr_eq(&o.tenant, tenant);
        if let Some(known) = known.filter(fits) {
            return Arc::clone(&known.limits);
        }
        let laid = overrides::with_overrides(base, &tenant.limits, tenant.name.as_str());
        let limits = match laid {
            Ok(limits) => Arc::new(limits),
            // They were checked over another configuration, or come from a later version.
            Err(error) => {
                warn!(tenant = %tenant.name, %error, "limits of a tenant do not fit the configuration and are not used");
                Arc::clone(base)
            }
        };
        let overlay = Overlay {
            base: Arc::clone(base),
            tenant: Arc::clone(tenant),
            limits: Arc::clone(&limits),
        };
        overlays.insert(tenant.id, overlay);
        limits
    }

    /// Appends what is counted in Prometheus' text format.
    pub fn write_metrics(&self, out: &mut String) {
        self.metrics.write(self.directory.len(), out);
    }

    fn counted<T>(&self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        result.inspect_err(|refusal| self.metrics.refused(refusal))
    }

    /// Who is asking.
    pub fn principal<'r>(&self, asked: impl Into<Asked<'r>>) -> Result<Principal, Refusal> {
        self.counted(self.rules().principal(asked.into()))
    }

    /// What a request may read.
    pub fn read_scope<'r>(&self, asked: impl Into<Asked<'r>>) -> Result<ReadScope, Refusal> {
        self.counted(self.scope_to_read(asked.into()))
    }

    fn scope_to_read(&self, asked: Asked<'_>) -> Result<ReadScope, Refusal> {
        let rules = self.rules();
        let principal = rules.principal(asked)?;
        match Selection::from_headers(asked.headers)? {
            Selection::Unnamed => {
                let name = rules.tenant_meant(&principal, Access::Read)?;
                self.read_named(&rules, &principal, &[name])
            }
            Selection::Named(names) => self.read_named(&rules, &principal, &names),
            Selection::All => self.read_all(&rules, &principal),
        }
    }

    /// Tenants that do not exist have nothing to read, which is no error: they may not have
    /// written yet.
    fn read_named(
        &self,
        rules: &Rules,
        principal: &Principal,
        names: &[TenantName],
    ) -> Result<ReadScope, Refusal> {
        let mut allowed: Vec<(&TenantName, Alternatives)> = Vec::with_capacity(names.len());
        for name in names {
            let alternatives = principal.reads(name).ok_or_else(|| Refusal::Read {
                principal: principal.name().to_owned(),
                tenant: name.clone(),
            })?;
            allowed.push((name, alternatives));
        }
        let mut read: Vec<TenantRead> = Vec::with_capacity(names.len());
        let mut limits = Vec::with_capacity(names.len());
        for (name, alternatives) in allowed {
            let Some(tenant) = self.directory.find(name) else {
                limits.push(Arc::clone(rules.limits.of(name)));
                continue;
            };
            if !tenant.can_be_read() && !principal.is_administrator() {
                return Err(Refusal::suspended(&tenant));
            }
            let own = self.limits_for(rules, &tenant);
            let retention = own.retention();
            limits.push(own);
            match read.iter_mut().find(|known| known.id == tenant.id) {
                // Two names of one tenant: what either allows.
                Some(known) => known.alternatives = either(&known.alternatives, &alternatives),
                None => {
                    let (id, name) = (tenant.id, tenant.name.clone());
                    read.push(TenantRead { id, name, alternatives, retention })
                }
            }
        }
        read.sort_by_key(|tenant| tenant.id);
        let limits = rules.limits.lowest_of(limits.into_iter());
        Ok(ReadScope::new(read, limits, names.len() > 1))
    }

    /// All tenants there are. Runs under the default limits: the lowest of all would let one
    /// small tenant decide what an administrator can ask.
    fn read_all(&self, rules: &Arc<Rules>, principal: &Principal) -> Result<ReadScope, Refusal> {
        let everywhere = principal
            .reads_everywhere()
            .ok_or_else(|| Refusal::ReadAll { principal: principal.name().to_owned() })?;
        let limits = Arc::clone(rules.limits.default());
        if everywhere.is_empty() && principal.is_administrator() {
            return Ok(ReadScope::new(self.everything(rules), limits, true));
        }
        let alternatives = |tenant: &Tenant| {
            if !principal.has_grants_by_name() {
                return Arc::clone(everywhere);
            }
            let by_name = tenant.aliases.iter().filter_map(|alias| principal.reads(alias));
            let current = principal.reads(&tenant.name).unwrap_or_else(|| Arc::clone(everywhere));
            by_name.fold(current, |all, one| either(&all, &one))
        };
        let read = |tenant: &Arc<Tenant>| TenantRead {
            id: tenant.id,
            name: tenant.name.clone(),
            alternatives: alternatives(tenant),
            retention: self.limits_for(rules, tenant).retention(),
        };
        let all = self.directory.all();
        let readable = all.iter().filter(|t| t.can_be_read() || principal.is_administrator());
        let read: Vec<TenantRead> = readable.map(read).collect();
        Ok(ReadScope::new(read, limits, true))
    }

    /// Every tenant, whole. Kept, so that such a question costs the same with 10,000 tenants.
    fn everything(&self, rules: &Arc<Rules>) -> Arc<[TenantRead]> {
        let mut kept = self.everything.lock();
        // Read before the tenants are: a change in between leads to one needless rebuild.
        let version = self.directory.version();
        let fits = |e: &&Everything| e.version == version && Arc::ptr_eq(&e.rules, rules);
        if let Some(known) = kept.as_ref().filter(fits) {
            return Arc::clone(&known.read);
        }
        let whole = |tenant: &Arc<Tenant>| TenantRead {
            id: tenant.id,
            name: tenant.name.clone(),
            alternatives: Alternatives::default(),
            retention: self.limits_for(rules, tenant).retention(),
        };
        let read: Arc<[TenantRead]> = self.directory.all().iter().map(whole).collect();
        let (rules, kept_read) = (Arc::clone(rules), Arc::clone(&read));
        *kept = Some(Everything { version, rules, read: kept_read });
        read
    }

    /// Where a request may write. The tenant comes into being if it does not exist yet; that is
    /// durable before this returns.
    pub async fn write_scope<'r>(
        self: &Arc<Self>,
        asked: impl Into<Asked<'r>>,
    ) -> Result<WriteScope, Refusal> {
        let scope = self.scope_to_write(asked.into()).await;
        self.counted(scope)
    }

    async fn scope_to_write(self: &Arc<Self>, asked: Asked<'_>) -> Result<WriteScope, Refusal> {
        let rules = self.rules();
        let Some((name, tenants_max)) = rules.tenant_to_write(asked)? else {
            return self.routed_scope().await;
        };
        let tenant = self.find_or_create(name, tenants_max).await?;
        if tenant.status != TenantStatus::Active {
            return Err(Refusal::suspended(&tenant));
        }
        let limits = self.limits_for(&rules, &tenant);
        let rates = self.rates.of(tenant.id, &limits, self.clock.monotonic());
        Ok(WriteScope::new(tenant.id, tenant.name.clone(), limits, rates))
    }

    /// A scope for whoever is trusted to write for all: rows go where the table in force says.
    pub async fn routed_scope(self: &Arc<Self>) -> Result<WriteScope, Refusal> {
        let mut tenants = Vec::with_capacity(2);
        for name in [SYSTEM, UNASSIGNED] {
            let name = TenantName::new(name).expect("the names of our own tenants are names");
            tenants.push(self.find_or_create(name, usize::MAX).await?);
        }
        Ok(self.routed_over([&tenants[0], &tenants[1]]))
    }

    /// The same for what the process itself collects of all. Blocks if one of our own tenants is new.
    pub fn internal_routed_scope(self: &Arc<Self>) -> Result<WriteScope, DirectoryError> {
        let own = |name| {
            let name = TenantName::new(name).expect("the names of our own tenants are names");
            self.directory.find_or_create(&name, usize::MAX)
        };
        Ok(self.routed_over([&own(SYSTEM)?, &own(UNASSIGNED)?]))
    }

    fn routed_over(self: &Arc<Self>, [system, unassigned]: [&Arc<Tenant>; 2]) -> WriteScope {
        let limits = self.limits_for(&self.rules(), system);
        let rates = self.rates.of(system.id, &limits, self.clock.monotonic());
        // How long labels may be is up to each destination, and checked when it is known.
        let limits = Arc::new(Limits {
            labels_max: 10_000,
            label_name_bytes_max: 64 << 10,
            label_value_bytes_max: 1 << 20,
            ..(*limits).clone()
        });
        let routes = Routes::new(self.routing(), Arc::clone(self), [system.id, unassigned.id]);
        WriteScope::new(system.id, system.name.clone(), limits, rates).routed(routes)
    }

    /// Which workspace owned which namespace when, as is in force.
    pub fn routing(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.routing.read())
    }

    /// Makes a table of entries, to be taken over later. Tenants they name come into being. Blocks.
    pub fn prepare_routing(&self, file: RoutingFile) -> Result<RoutingTable, RoutingError> {
        RoutingTable::new(file.namespaces, |name| {
            Ok(self.directory.find_or_create(name, usize::MAX)?.id)
        })
    }

    /// Routes by another table from the next request on.
    pub fn take_over_routing(&self, table: RoutingTable) {
        *self.routing.write() = Arc::new(table);
    }

    async fn find_or_create(
        self: &Arc<Self>,
        name: TenantName,
        tenants_max: usize,
    ) -> Result<Arc<Tenant>, Refusal> {
        match self.directory.find(&name) {
            Some(known) => Ok(known),
            None => self.create(name, tenants_max).await,
        }
    }

    async fn create(
        self: &Arc<Self>,
        name: TenantName,
        tenants_max: usize,
    ) -> Result<Arc<Tenant>, Refusal> {
        let _turn = self.creations.acquire().await.expect("the semaphore is never closed");
        let (directory, wanted) = (Arc::clone(&self.directory), name.clone());
        let created =
            tokio::task::spawn_blocking(move || directory.find_or_create(&wanted, tenants_max))
                .await;
        let created =
            created.unwrap_or_else(|panicked| Err(DirectoryError::ReadOnly(panicked.to_string())));
        created.map_err(|source| match source {
            DirectoryError::Full(_) => Refusal::TooMany { tenant: name, source },
            _ => Refusal::Unavailable { tenant: name, source },
        })
    }

    /// A scope to write to a tenant of our own choice: what the process itself measures. Blocks
    /// if the tenant is new.
    pub fn internal_write_scope(&self, tenant: &TenantName) -> Result<WriteScope, DirectoryError> {
        let tenant = self.directory.find_or_create(tenant, usize::MAX)?;
        let limits = self.limits_for(&self.rules(), &tenant);
        let rates = self.rates.of(tenant.id, &limits, self.clock.monotonic());
        Ok(WriteScope::new(tenant.id, tenant.name.clone(), limits, rates))
    }

    /// A scope to write to a tenant for what writes by itself on its behalf. `None` while its writes
    /// are refused; an error if there is no such tenant any more.
    pub fn write_scope_of(&self, id: TenantId) -> Result<Option<WriteScope>, DirectoryError> {
        let tenant = self.directory.get(id).ok_or(DirectoryError::Unknown(id))?;
        if tenant.status != TenantStatus::Active {
            return Ok(None);
        }
        let limits = self.limits_for(&self.rules(), &tenant);
        let rates = self.rates.of(tenant.id, &limits, self.clock.monotonic());
        Ok(Some(WriteScope::new(tenant.id, tenant.name.clone(), limits, rates)))
    }

    /// The limits a tenant has now; for work that is not a request.
    pub fn limits_of(&self, tenant: TenantId) -> Arc<Limits> {
        let rules = self.rules();
        match self.directory.get(tenant) {
            Some(tenant) => self.limits_for(&rules, &tenant),
            None => Arc::clone(rules.limits.default()),
        }
    }

    /// Of which tenant a request may delete rows, and who asks.
    pub fn delete_scope<'r>(
        &self,
        asked: impl Into<Asked<'r>>,
    ) -> Result<(DeleteScope, Principal), Refusal> {
        self.counted(self.scope_to_delete(asked.into()))
    }

    fn scope_to_delete(&self, asked: Asked<'_>) -> Result<(DeleteScope, Principal), Refusal> {
        let rules = self.rules();
        let principal = rules.principal(asked)?;
        let name = match Selection::from_headers(asked.headers)? {
            Selection::Unnamed => rules.tenant_meant(&principal, Access::Admin)?,
            Selection::Named(mut names) if names.len() == 1 => names.remove(0),
            Selection::Named(_) | Selection::All => return Err(Refusal::SeveralForWrite),
        };
        if !principal.administers(&name) {
            let principal = principal.name().to_owned();
            return Err(Refusal::Delete { principal, tenant: name });
        }
        let tenant = self.directory.find(&name).ok_or(Refusal::NoSuchTenant(name))?;
        if tenant.status != TenantStatus::Active && !principal.is_administrator() {
            return Err(Refusal::suspended(&tenant));
        }
        let limits = self.limits_for(&rules, &tenant);
        Ok((DeleteScope::new(tenant.id, tenant.name.clone(), limits), principal))
    }

    /// All of one tenant, for an administrator of the platform; `None` for others.
    pub fn scope_over(&self, who: &Principal, tenant: &Arc<Tenant>) -> Option<ReadScope> {
        let limits = self.limits_for(&self.rules(), tenant);
        let read = TenantRead {
            id: tenant.id,
            name: tenant.name.clone(),
            alternatives: Alternatives::default(),
            retention: limits.retention(),
        };
        who.is_administrator().then(|| ReadScope::new([read], limits, false))
    }

    /// All rows of a tenant that is no more, for an administrator of the platform; `None` for
    /// others, and while it exists.
    pub fn deleted_scope(&self, who: &Principal, tenant: TenantId) -> Option<DeleteScope> {
        let gone = self.directory.deleted().into_iter().find(|gone| gone.id == tenant)?;
        let limits = Arc::clone(self.rules().limits.default());
        who.is_administrator().then(|| DeleteScope::new(gone.id, gone.name, limits))
    }

    /// Lets only administrators of the platform pass.
    pub fn administrator<'r>(&self, asked: impl Into<Asked<'r>>) -> Result<Principal, Refusal> {
        let principal = self.principal(asked)?;
        if principal.is_administrator() {
            Ok(principal)
        } else {
            self.counted(Err(Refusal::Administer { principal: principal.name().to_owned() }))
        }
    }
}

fn either(a: &Alternatives, b: &Alternatives) -> Alternatives {
    if a.is_empty() || b.is_empty() {
        Alternatives::default()
    } else {
        a.iter().chain(b.iter()).cloned().collect()
    }
}
