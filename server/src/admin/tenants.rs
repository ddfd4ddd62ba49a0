//! Tenants: who there is, what they may and what they use.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tenancy::{
    Admin, Change, DeletedTenant, Principal, Suspension, Tenant, TenantId, TenantName, TenantStatus,
};

use super::{Failure, json_of, success};
use crate::routes::Parts;

/// Tenants or records in one answer, at most.
const PAGE_MAX: usize = 10_000;

/// Which tenants, or which records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    /// Tenants with greater numbers.
    after: Option<u32>,
    /// Tenants whose name starts so.
    prefix: Option<String>,
    /// Whether tenants that are no more are listed instead.
    #[serde(default)]
    deleted: bool,
    /// Records of this tenant.
    tenant: Option<String>,
    /// Records before this instant, milliseconds since the Unix epoch.
    before_ms: Option<i64>,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(1_000).clamp(1, PAGE_MAX)
    }
}

pub(super) async fn list(
    State(parts): State<Parts>,
    Admin(_): Admin,
    Query(page): Query<Page>,
) -> Response {
    let directory = parts.authenticator.directory();
    let wanted = |id: TenantId, name: &TenantName| {
        page.after.is_none_or(|after| id.0 > after)
            && page.prefix.as_ref().is_none_or(|prefix| name.as_str().starts_with(prefix))
    };
    let (mut listed, mut next) = (Vec::new(), None);
    let mut add = |id: TenantId, told: Value| match listed.len() == page.limit() {
        true => next = next.or(Some(id.0 - 1)),
        false => listed.push(told),
    };
    if page.deleted {
        for gone in directory.deleted().iter().filter(|t| wanted(t.id, &t.name)) {
            add(gone.id, deleted_json(gone));
        }
    } else {
        for tenant in directory.all().iter().filter(|t| wanted(t.id, &t.name)) {
            add(tenant.id, tenant_json(tenant));
        }
    }
    success(json!({ "tenants": listed, "next_after": next }))
}

/// A tenant that is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    /// Limits of its own.
    limits: Option<Map<String, Value>>,
}

pub(super) async fn create(
    State(parts): State<Parts>,
    Admin(who): Admin,
    body: Bytes,
) -> Result<Response, Failure> {
    let new: New = json_of(&body)?
        .ok_or_else(|| Failure::bad("the body is empty; send {\"name\": \"team-a\"}"))?;
    let name = name_of(&new.name)?;
    let mut tenant = parts.authenticator.create_tenant(&who, name.clone()).await?;
    if let Some(limits) = new.limits {
        tenant = parts.authenticator.change_tenant(&who, name, Change::Limits(limits)).await?;
    }
    Ok((StatusCode::CREATED, success(tenant_json(&tenant))).into_response())
}

pub(super) async fn show(
    State(parts): State<Parts>,
    Admin(_): Admin,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    Ok(success(tenant_json(&*find(&parts, &name)?)))
}

/// The end of a tenant: writes are refused and reads empty when this answers, rows go with the
/// next compactions.
pub(super) async fn delete(
    State(parts): State<Parts>,
    Admin(who): Admin,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let tenant = change(&parts, &who, &name, Change::Delete).await?;
    let scope = parts.authenticator.deleted_scope(&who, tenant.id);
    if let Some(scope) = scope {
        let storage = Arc::clone(&parts.storage);
        let forgotten = tokio::spawn(async move { storage.forget_tenant(&scope).await }).await;
        // The rows are out of everybody's reach already; storage tries again by itself.
        match forgotten {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(tenant = %tenant.id, error = storage::error_text(&error), "rows of a deleted tenant stay until storage takes writes")
            }
            Err(error) => {
                tracing::warn!(tenant = %tenant.id, %error, "rows of a deleted tenant stay for now")
            }
        }
    }
    Ok(success(json!({ "id": tenant.id.0, "name": tenant.name.as_str() })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renamed {
    name: String,
}

pub(super) async fn rename(
    State(parts): State<Parts>,
    Admin(who): Admin,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Failure> {
    let renamed: Renamed = json_of(&body)?
        .ok_or_else(|| Failure::bad("the body is empty; send {\"name\": \"new-name\"}"))?;
    let new = name_of(&renamed.name)?;
    Ok(success(tenant_json(&*change(&parts, &who, &name, Change::Rename(new)).await?)))
}

/// How a tenant is to be suspended.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Suspend {
    reason: String,
    /// Whether it can still be read; yes if left out.
    reads: Option<bool>,
}

pub(super) async fn suspend(
    State(parts): State<Parts>,
    Admin(who): Admin,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Failure> {
    let suspend: Suspend = json_of(&body)?.unwrap_or_default();
    let reads = suspend.reads.unwrap_or(true);
    let how = Suspension { reason: suspend.reason, reads };
    Ok(success(tenant_json(&*change(&parts, &who, &name, Change::Suspend(how)).await?)))
}

pub(super) async fn resume(
    State(parts): State<Parts>,
    Admin(who): Admin,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    Ok(success(tenant_json(&*change(&parts, &who, &name, Change::Resume).await?)))
}

pub(super) async fn limits(
    State(parts): State<Parts>,
    Admin(_): Admin,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    Ok(success(limits_json(&parts, &*find(&parts, &name)?)))
}

/// Sets limits, or takes those back that are `null`; the others stay.
pub(super) async fn set_limits(
    State(parts): State<Parts>,
    Admin(who): Admin,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Failure> {
    let limits: Map<String, Value> = json_of(&body)?
        .ok_or_else(|| Failure::bad("the body is empty; send {\"labels_max\": 30}"))?;
    let tenant = change(&parts, &who, &name, Change::Limits(limits)).await?;
    Ok(success(limits_json(&parts, &tenant)))
}

pub(super) async fn usage(
    State(parts): State<Parts>,
    Admin(who): Admin,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let tenant = find(&parts, &name)?;
    let scope = parts.authenticator.scope_over(&who, &tenant);
    let scope = scope.ok_or_else(|| Failure::not_found(format!("there is no tenant {name}")))?;
    let used = parts.storage.overview(&scope).await;
    let used = used.get(&tenant.id).copied().unwrap_or_default();
    let limits = parts.authenticator.limits_of(tenant.id);
    Ok(success(json!({
        "id": tenant.id.0,
        "name": tenant.name.as_str(),
        "active_series": used.active_series,
        "active_series_max": limits.active_series_max,
        "head_samples": used.head_samples,
        "block_samples": used.block_samples,
        "blocks": used.blocks,
        "block_bytes": used.block_bytes,
        "block_bytes_max": limits.metrics_bytes_max,
        "newest_ms": used.newest_ms,
        "deletes_pending": parts.storage.deletes_pending(tenant.id),
    })))
}

/// Who changed what, newest first.
pub(super) async fn audit(
    State(parts): State<Parts>,
    Admin(_): Admin,
    Query(page): Query<Page>,
) -> Result<Response, Failure> {
    let Some(audit) = parts.authenticator.audit().cloned() else {
        return Err(Failure::not_found("changes are not put on record here"));
    };
    let read = tokio::task::spawn_blocking(move || {
        audit.read(page.limit(), page.tenant.as_deref(), page.before_ms.unwrap_or(i64::MAX))
    });
    let found = read.await.map_err(|e| Failure::unavailable(&e))?;
    let found = found.map_err(|e| Failure::unavailable(&e))?;
    Ok(success(json!(found)))
}

async fn change(
    parts: &Parts,
    who: &Principal,
    name: &str,
    change: Change,
) -> Result<Arc<Tenant>, Failure> {
    Ok(parts.authenticator.change_tenant(who, name_of(name)?, change).await?)
}

fn find(parts: &Parts, name: &str) -> Result<Arc<Tenant>, Failure> {
    let found = parts.authenticator.directory().find(&name_of(name)?);
    found.ok_or_else(|| Failure::not_found(format!("there is no tenant {name}")))
}

fn name_of(text: &str) -> Result<TenantName, Failure> {
    TenantName::new(text).map_err(|e| Failure::bad(e.to_string()))
}

fn tenant_json(tenant: &Tenant) -> Value {
    let mut told = json!({
        "id": tenant.id.0,
        "name": tenant.name.as_str(),
        "aliases": tenant.aliases.iter().map(TenantName::as_str).collect::<Vec<_>>(),
        "created_ms": tenant.created_ms,
        "status": "active",
    });
    if let TenantStatus::Suspended(how) = &tenant.status {
        told["status"] = json!("suspended");
        told["reason"] = json!(how.reason);
        told["reads"] = json!(how.reads);
    }
    told
}

fn deleted_json(gone: &DeletedTenant) -> Value {
    json!({
        "id": gone.id.0,
        "name": gone.name.as_str(),
        "deleted_ms": gone.deleted_ms,
        "status": "deleted",
    })
}

fn limits_json(parts: &Parts, tenant: &Tenant) -> Value {
    json!({
        "name": tenant.name.as_str(),
        "own": tenant.limits,
        "effective": &*parts.authenticator.limits_of(tenant.id),
    })
}
