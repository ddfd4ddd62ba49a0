//! Administrative changes of tenants: checked, put on record, then made.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::overrides::{LimitsError, with_overrides};
use crate::{
    AuditEntry, Authenticator, DirectoryError, Principal, Suspension, Tenant, TenantId, TenantName,
    TenantStatus,
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
        let (own, who) = (Arc::clone(self), who.name().to_owned());
        let turn = self.changes.lock().await;
        let work = tokio::task::spawn_blocking(move || {
            if own.directory().find(&name).is_some() {
                return Err(DirectoryError::NameTaken(name).into());
            }
            let new = json!({ "name": name.as_str() });
            let entry = entry(&who, "tenant.create", &name, TenantId(0), Value::Null, new);
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
        let (own, who) = (Arc::clone(self), who.name().to_owned());
        let turn = self.changes.lock().await;
        let work = tokio::task::spawn_blocking(move || own.change_now(&who, &name, change));
        let made = work.await.map_err(|e| AdminError::Interrupted(e.to_string()));
        drop(turn);
        made?
    }

    /// Puts on record what is no change of a tenant itself, such as a deletion of rows. Returns
    /// once that is durable.
    pub async fn record(
        self: &Arc<Self>,
        who: &Principal,
        action: &'static str,
        tenant: (&TenantName, TenantId),
        new: Value,
    ) -> Result<(), AdminError> {
        let own = Arc::clone(self);
        let entry = entry(who.name(), action, tenant.0, tenant.1, Value::Null, new);
        let work = tokio::task::spawn_blocking(move || own.on_record(entry, || Ok(())));
        work.await.map_err(|e| AdminError::Interrupted(e.to_string()))?
    }

    fn change_now(
        &self,
        who: &str,
        name: &TenantName,
        change: Change,
    ) -> Result<Arc<Tenant>, AdminError> {
        let directory = self.directory();
        let tenant = directory.find(name).ok_or_else(|| AdminError::Unknown(name.clone()))?;
        let id = tenant.id;
        let entry = |action, old, new| entry(who, action, &tenant.name, id, old, new);
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
        if let (Err(error), Some(audit)) = (&made, &self.audit) {
            let failed = AuditEntry { failed: Some(error.to_string()), ..entry };
            if let Err(error) = audit.append(&failed) {
                tracing::error!(%error, "an administrative change failed, and its record cannot say so");
            }
        }
        made
    }
}

fn entry(
    who: &str,
    action: &str,
    tenant: &TenantName,
    id: TenantId,
    old: Value,
    new: Value,
) -> AuditEntry {
    AuditEntry {
        at_ms: 0,
        principal: who.to_owned(),
        action: action.to_owned(),
        tenant: tenant.as_str().to_owned(),
        tenant_id: id.0,
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
