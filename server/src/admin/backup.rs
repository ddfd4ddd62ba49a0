//! Backups: beginning one, and looking how far it is.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tenancy::{Act, Admin};

use super::{Failure, json_of, on_record, success};
use crate::routes::Parts;

/// Where to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    to: String,
}

/// Begins a backup; answers at once with what `status` says.
pub(super) async fn begin(
    State(parts): State<Parts>,
    Admin(who): Admin,
    body: Bytes,
) -> Result<Response, Failure> {
    let asked: Option<Asked> = json_of(&body)?;
    let asked =
        asked.ok_or_else(|| Failure::bad("the body is empty; send {\"to\": \"/backups\"}"))?;
    let place = parts.backups.place(&asked.to).await;
    let place = place.map_err(|error| Failure::bad(format!("to: {error:#}")))?;
    let (who, old, new) = (&who.actor(), Value::Null, json!({ "to": asked.to }));
    let act = Act { who, action: "storage.backup", tenant: None, old, new };
    let backups = Arc::clone(&parts.backups);
    let work = async move { backups.begin(asked.to, place).await };
    on_record(&parts.authenticator, act, work).await?;
    Ok(success(parts.backups.status().await))
}

/// How far the last backup is, or what became of it.
pub(super) async fn status(
    State(parts): State<Parts>,
    Admin(_): Admin,
) -> Result<Response, Failure> {
    Ok(success(parts.backups.status().await))
}
