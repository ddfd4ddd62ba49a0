//! Administrative changes of tenants: checked, put on record, then made.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::overrides::{LimitsError, with_overrides};
use crate::{
    Actor, AuditEntry, Authenticator, DirectoryError, Principal, Suspension, Tenant, TenantId,
    TenantName, TenantStatus,
};

/// What an administrator can change about a tenant.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Another name; the old one goes on as an alias.
    Rename(TenantName),
    /// No more writes, and no reads if it says so.
    Suspend(Suspension),
    /// Writes and reads again.
    Resume,
    /// Limits of its own: `null` takes one back. Others stay.
    Limits(Map<String, Value>),
    /// It is no more: names are free, rows go.
    Delete,
}

/// Longest text of a failure that a record keeps, bytes.
const FAILURE_BYTES_MAX: usize = 4_096;

/// Something an administrator does that is no change of a tenant itself.
#[derive(Debug, Clone)]
pub struct Act<'a> {
    /// Who asks for it.
    pub who: &'a Actor,
    /// What it is, for instance `rows.delete`.
    pub action: &'static str,
    /// The tenant it is about; `None`: the platform.
    pub tenant: Option<(&'a TenantName, TenantId)>,
    /// What was there before.
    pub old: Value,
    /// What is to be there.
    pub new: Value,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum AdminError {
    #[error("there is no tenant {0}")]
    Unknown(TenantName),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error("the change was not made because it could not be put on record")]
    Audit(#[source] std::io::Error),
    #[error("the change was cut off: {0}")]
    Interrupted(String),
}

impl Authenticator {
    /// A new tenant.
    pub async fn create_tenant(
        self: &Arc<Self>,
        who: &Principal,
        name: TenantName,
    ) -> Result<Arc<Tenant>, AdminError> {
        let (own, who) = (Arc::clone(self), who.actor());
        let turn = self.changes.lock().await;
        let work = tokio::task::spawn_blocking(move || {
            if own.directory().find(&name).is_some() {
                return Err(DirectoryError::NameTaken(name).into());
            }
            let new = json!({ "name": name.as_str() });
            let of = Some((&name, TenantId(0)));
            let entry = entry(&who, "tenant.create", of, Value::Null, new);
            own.on_record(entry, || Ok(own.directory().create(&name)?))
        });
        let made = work.await.map_err(|e| AdminError::Interrupted(e.to_string()));
        drop(turn);
        made?
    }

    /// Changes a tenant and gives it as it is then; as it was, if it is no more.
    pub async fn change_tenant(
        self: &Arc<Self>,
        who: &Principal,
        name: TenantName,
        change: Change,
    ) -> Result<Arc<Tenant>, AdminError> {
        let (own, who) = (Arc::clone(self), who.actor());
        let turn = self.changes.lock().await;
        let work = tokio::task::spawn_blocking(move || own.change_now(&who, &name, change));
        let made = work.await.map_err(|e| AdminError::Interrupted(e.to_string()));
        drop(turn);
        made?
    }

    /// Does what is no change of a tenant itself, such as a deletion of rows or a reload: on record
    /// before it begins, and once more if it fails.
    pub async fn recorded<T, E: std::fmt::Display>(
        self: &Arc<Self>,
        act: Act<'_>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, AdminError> {
        let entry = entry(act.who, act.action, act.tenant, act.old, act.new);
        let (own, begun) = (Arc::clone(self), entry.clone());
        let noted = tokio::task::spawn_blocking(move || own.on_record(begun, || Ok(())));
        noted.await.map_err(|e| AdminError::Interrupted(e.to_string()))??;
        let done = work.await;
        if let Err(error) = &done {
            let (own, why) = (Arc::clone(self), error.to_string());
            let noted = tokio::task::spawn_blocking(move || own.came_to_nothing(entry, why));
            noted.await.map_err(|e| AdminError::Interrupted(e.to_string()))?;
        }
        Ok(done)
    }

    fn change_now(
        &self,
        who: &Actor,
        name: &TenantName,
        change: Change,
    ) -> Result<Arc<Tenant>, AdminError> {
        let directory = self.directory();
        let tenant = directory.find(name).ok_or_else(|| AdminError::Unknown(name.clone()))?;
        let id = tenant.id;
        let of = Some((&tenant.name, id));
        let entry = |action, old, new| entry(who, action, of, old, new);
        let old_name = json!({ "name": tenant.name.as_str() });
        match change {
            Change::Rename(new) => self.on_record(
                entry("tenant.rename", old_name, json!({ "name": new.as_str() })),
                || Ok(directory.rename(id, &new)?),
            )?,
            Change::Suspend(how) => self.on_record(
                entry("tenant.suspend", status_of(&tenant.status), status_of_suspension(&how)),
                || Ok(directory.set_status(id, TenantStatus::Suspended(how.clone()))?),
            )?,
            Change::Resume => self.on_record(
                entry("tenant.resume", status_of(&tenant.status), status_of(&TenantStatus::Active)),
                || Ok(directory.set_status(id, TenantStatus::Active)?),
            )?,
            Change::Limits(changes) => {
                let limits = merged(&tenant.limits, changes);
                let rules = self.rules();
                with_overrides(rules.limits.of(&tenant.name), &limits, tenant.name.as_str())?;
                let (old, new) =
                    (Value::Object(tenant.limits.clone()), Value::Object(limits.clone()));
                self.on_record(entry("tenant.limits", old, new), || {
                    Ok(directory.set_limits(id, &limits)?)
                })?;
            }
            Change::Delete => {
                self.on_record(entry("tenant.delete", old_name, Value::Null), || {
                    Ok(directory.delete(id)?)
                })?;
                return Ok(tenant);
            }
        }
        Ok(directory.get(id).unwrap_or(tenant))
    }

    /// Writes the record, makes the change, and writes another record if it came to nothing.
    fn on_record<T>(
        &self,
        entry: AuditEntry,
        change: impl FnOnce() -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        tracing::info!(
            principal = entry.principal,
            action = entry.action,
            tenant = entry.tenant,
            "administrative change"
        );
        if let Some(audit) = &self.audit {
            audit.append(&entry).map_err(AdminError::Audit)?;
        }
        let made = change();
        if let Err(error) = &made {
            self.came_to_nothing(entry, error.to_string());
        }
        made
    }

    /// Writes another record of what was begun and failed.
    fn came_to_nothing(&self, mut entry: AuditEntry, mut why: String) {
        let Some(audit) = &self.audit else { return };
        why.truncate(why.floor_char_boundary(FAILURE_BYTES_MAX));
        entry.failed = Some(why);
        if let Err(error) = audit.append(&entry) {
            tracing::error!(%error, "an administrative change failed, and its record cannot say so");
        }
    }
}

fn entry(
    who: &Actor,
    action: &str,
    tenant: Option<(&TenantName, TenantId)>,
    old: Value,
    new: Value,
) -> AuditEntry {
    AuditEntry {
        at_ms: 0,
        principal: who.name.clone(),
        from: who.from.map(|address| address.to_string()).unwrap_or_default(),
        action: action.to_owned(),
        tenant: tenant.map(|(name, _)| name.as_str().to_owned()).unwrap_or_default(),
        tenant_id: tenant.map_or(0, |(_, id)| id.0),
        old,
        new,
        failed: None,
    }
}

fn status_of(status: &TenantStatus) -> Value {
    match status {
        TenantStatus::Active => json!({ "status": "active" }),
        TenantStatus::Suspended(how) => status_of_suspension(how),
    }
}

fn status_of_suspension(how: &Suspension) -> Value {
    json!({ "status": "suspended", "reason": how.reason, "reads": how.reads })
}

/// The limits after some are set and some, by `null`, are taken back.
fn merged(known: &Map<String, Value>, changes: Map<String, Value>) -> Map<String, Value> {
    let mut limits = known.clone();
    for (key, value) in changes {
        match value {
            Value::Null => drop(limits.remove(&key)),
            value => drop(limits.insert(key, value)),
        }
    }
    limits
}

#[cfg(test)]
mod tests;
