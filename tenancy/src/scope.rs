//! Scopes: proof that a check was passed. Every storage call takes one; only this crate makes them.

use std::sync::Arc;

use model::{Labels, Matcher, Resolution};

use crate::{Limits, Retention, Routes, Tenant, TenantId, TenantName, TenantRates};

/// What one request may read: tenants, and within each tenant alternatives of required matchers.
#[derive(Debug, Clone)]
pub struct ReadScope {
    tenants: Arc<[TenantRead]>,
    limits: Arc<Limits>,
    /// Whether answers carry `__tenant_id__`: more than one tenant was asked for.
    labelled: bool,
}

/// One tenant of a read scope.
#[derive(Debug, Clone)]
pub struct TenantRead {
    /// The tenant.
    pub id: TenantId,
    /// Its name, for `__tenant_id__`.
    pub name: TenantName,
    /// A series may be read if all matchers of at least one alternative hold. Empty: all series.
    pub alternatives: Arc<[Vec<Matcher>]>,
    /// How long its rows are kept: older ones are not there any more, wherever they still lie.
    pub retention: Retention,
}

impl ReadScope {
    /// Only `tenancy` decides who may read what.
    pub(crate) fn new(
        tenants: impl Into<Arc<[TenantRead]>>,
        limits: Arc<Limits>,
        labelled: bool,
    ) -> Self {
        Self { tenants: tenants.into(), limits, labelled }
    }

    /// All of one tenant, without limits, for a program that holds the data directory itself and
    /// serves nobody: whoever may read its files may read its rows. Rows that are kept no longer
    /// are not in it.
    pub fn of_data_directory(tenant: &Tenant, limits: &Limits) -> Self {
        let read = TenantRead {
            id: tenant.id,
            name: tenant.name.clone(),
            alternatives: Arc::default(),
            retention: limits.retention(),
        };
        let unlimited = Limits {
            query_series_max: usize::MAX,
            query_samples_max: usize::MAX,
            query_memory_bytes_max: usize::MAX,
            query_bytes_max: usize::MAX,
            query_seconds_max: f64::MAX,
            query_cpu_seconds_max: f64::MAX,
            ..limits.clone()
        };
        Self::new([read], Arc::new(unlimited), false)
    }

    /// A scope for tests of the layers below authentication: all of the given tenants.
    pub fn for_test(tenants: &[(u32, &str)]) -> Self {
        let read = |&(id, name): &(u32, &str)| TenantRead {
            id: TenantId(id),
            name: TenantName::new(name).expect("a test's tenant name is valid"),
            alternatives: Arc::default(),
            retention: Retention::default(),
        };
        let read: Vec<TenantRead> = tenants.iter().map(read).collect();
        Self::new(read, Arc::default(), tenants.len() > 1)
    }

    /// The same scope with alternatives of matchers required in every tenant; for tests.
    #[must_use]
    pub fn restricted_for_test(self, alternatives: Vec<Vec<Matcher>>) -> Self {
        let restrict =
            |t: &TenantRead| TenantRead { alternatives: alternatives.clone().into(), ..t.clone() };
        Self { tenants: self.tenants.iter().map(restrict).collect(), ..self }
    }

    /// The same scope with rows kept for so long in every tenant; for tests.
    #[must_use]
    pub fn retained_for_test(self, retention: Retention) -> Self {
        let retain = |t: &TenantRead| TenantRead { retention, ..t.clone() };
        Self { tenants: self.tenants.iter().map(retain).collect(), ..self }
    }

    /// The same scope under other limits; for tests.
    #[must_use]
    pub fn limited_for_test(self, limits: Limits) -> Self {
        Self { limits: Arc::new(limits), ..self }
    }

    /// The same scope, its answers without `__tenant_id__`: series of several tenants are merged.
    #[must_use]
    pub fn unlabelled(self) -> Self {
        Self { labelled: false, ..self }
    }

    /// The part of it that is about some of its tenants.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&TenantRead) -> bool) -> Self {
        Self { tenants: self.tenants.iter().filter(|t| keep(t)).cloned().collect(), ..self.clone() }
    }

    /// The tenants in order of their ids, each once. May be empty: then nothing can be read.
    pub fn tenants(&self) -> &[TenantRead] {
        &self.tenants
    }

    /// Whether answers carry the tenant's name as `__tenant_id__`.
    pub fn is_labelled(&self) -> bool {
        self.labelled
    }

    /// The limits the question runs under.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Whether some tenant may only be read in part. Then answers that do not come from series
    /// (statistics, metadata) are refused.
    pub fn is_restricted(&self) -> bool {
        self.tenants.iter().any(|t| !t.alternatives.is_empty())
    }
}

impl TenantRead {
    /// Rows of a resolution that are older are not kept, if it is `now_ms`.
    pub fn oldest_ms(&self, resolution: Resolution, now_ms: i64) -> i64 {
        Retention::oldest_ms(self.retention.seconds(resolution), now_ms)
    }

    /// Whether a series of this tenant may be read.
    pub fn allows(&self, labels: &Labels) -> bool {
        let holds = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or(""));
        self.alternatives.is_empty() || self.alternatives.iter().any(|all| all.iter().all(holds))
    }
}

/// Proof that one request may write to one tenant.
#[derive(Debug, Clone)]
pub struct WriteScope {
    id: TenantId,
    name: TenantName,
    limits: Arc<Limits>,
    rates: Arc<TenantRates>,
    routes: Option<Arc<Routes>>,
}

impl WriteScope {
    /// Only `tenancy` decides who may write where.
    pub(crate) fn new(
        id: TenantId,
        name: TenantName,
        limits: Arc<Limits>,
        rates: Arc<TenantRates>,
    ) -> Self {
        Self { id, name, limits, rates, routes: None }
    }

    /// The same, its rows to be shared out among the tenants they belong to. Its own tenant is that
    /// of what belongs to none, and its limits are those of the request as a whole.
    pub(crate) fn routed(self, routes: Routes) -> Self {
        Self { routes: Some(Arc::new(routes)), ..self }
    }

    /// Where its rows go; `None`: all to its own tenant.
    pub fn routes(&self) -> Option<&Routes> {
        self.routes.as_deref()
    }

    /// A scope for tests of the layers below authentication.
    pub fn for_test(id: u32, name: &str, limits: Limits) -> Self {
        let name = TenantName::new(name).expect("a test's tenant name is valid");
        let rates = Arc::new(TenantRates::of(&limits));
        Self::new(TenantId(id), name, Arc::new(limits), rates)
    }

    /// The tenant.
    pub fn tenant(&self) -> TenantId {
        self.id
    }

    /// Its name, for messages and counters.
    pub fn name(&self) -> &TenantName {
        &self.name
    }

    /// Its limits.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// The tenant's rate limiters, shared by all its writers.
    pub fn rates(&self) -> &Arc<TenantRates> {
        &self.rates
    }
}

/// Proof that one request may delete rows of one tenant.
#[derive(Debug, Clone)]
pub struct DeleteScope {
    id: TenantId,
    name: TenantName,
    limits: Arc<Limits>,
}

impl DeleteScope {
    /// What goes can be read by whoever may delete it.
    pub fn to_read(&self) -> ReadScope {
        let read = TenantRead {
            id: self.id,
            name: self.name.clone(),
            alternatives: Arc::default(),
            retention: self.limits.retention(),
        };
        ReadScope::new([read], Arc::clone(&self.limits), false)
    }

    /// Only `tenancy` decides who may delete what.
    pub(crate) fn new(id: TenantId, name: TenantName, limits: Arc<Limits>) -> Self {
        Self { id, name, limits }
    }

    /// A scope for tests of the layers below authentication.
    pub fn for_test(id: u32, name: &str, limits: Limits) -> Self {
        let name = TenantName::new(name).expect("a test's tenant name is valid");
        Self::new(TenantId(id), name, Arc::new(limits))
    }

    /// The tenant.
    pub fn tenant(&self) -> TenantId {
        self.id
    }

    /// Its name, for messages and audit records.
    pub fn name(&self) -> &TenantName {
        &self.name
    }

    /// Its limits.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }
}
