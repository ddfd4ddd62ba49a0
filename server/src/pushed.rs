//! The groups that batch jobs pushed, as Pushgateway's API tells them (`GET /api/v1/metrics`).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ingest::pushgateway::{Part, PushedFamily, PushedGroup};
use model::{MetricKind, TENANT_LABEL};
use query::http::rfc3339_text;
use query::number::value_text;
use serde_json::{Map, Value, json};
use tenancy::{Read, TenantRead};

use crate::routes::Parts;

/// The groups of the tenants asked for. Groups are told whole, so a scope that may see only some series
/// sees none.
pub(crate) async fn show(State(parts): State<Parts>, Read(scope): Read) -> Response {
    if scope.is_restricted() {
        let body = json!({ "status": "error", "errorType": "forbidden", "error": "pushed groups are not available to a restricted scope" });
        return (StatusCode::FORBIDDEN, Json(body)).into_response();
    }
    let gateway = Arc::clone(&parts.pushgateway);
    // All bodies are read again: not on a thread that moves bytes.
    let told = tokio::task::spawn_blocking(move || {
        let of_tenant = |tenant: &TenantRead| {
            let tenant_label = scope.is_labelled().then(|| tenant.name.to_string());
            let groups = gateway.groups(tenant.id);
            groups
                .into_iter()
                .map(move |one| group(one, tenant_label.as_deref()))
                .collect::<Vec<_>>()
        };
        scope.tenants().iter().flat_map(of_tenant).collect::<Vec<Value>>()
    });
    match told.await {
        Ok(groups) => Json(json!({ "status": "success", "data": groups })).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn group(of: PushedGroup, tenant: Option<&str>) -> Value {
    let mut told = Map::new();
    let pushed = rfc3339_text(of.pushed_ms);
    for (name, family) in &of.families {
        told.insert(name.clone(), shown_family(family, &pushed));
    }
    let mut labels = labels(&of.labels);
    if let (Some(tenant), Value::Object(labels)) = (tenant, &mut labels) {
        labels.insert(TENANT_LABEL.to_owned(), tenant.into());
    }
    told.insert("labels".to_owned(), labels);
    told.insert("last_push_successful".to_owned(), (of.failed_ms <= of.pushed_ms).into());
    Value::Object(told)
}

fn shown_family(family: &PushedFamily, pushed: &str) -> Value {
    // The words of Prometheus' protobuf.
    let kind = match family.kind {
        MetricKind::Counter => "COUNTER",
        MetricKind::Gauge => "GAUGE",
        MetricKind::Histogram => "HISTOGRAM",
        MetricKind::GaugeHistogram => "GAUGE_HISTOGRAM",
        MetricKind::Summary => "SUMMARY",
        MetricKind::Unknown | MetricKind::Info | MetricKind::StateSet => "UNTYPED",
    };
    let metrics = family.metrics.iter().map(|(own, parts)| metric(family.kind, own, parts));
    let mut told =
        json!({ "time_stamp": pushed, "type": kind, "metrics": metrics.collect::<Vec<_>>() });
    if !family.help.is_empty() {
        told["help"] = family.help.as_str().into();
    }
    told
}

/// Numbers are texts: JSON has none for infinity.
fn metric(kind: MetricKind, own: &[(String, String)], parts: &[(Part, f64)]) -> Value {
    let mut told = json!({ "labels": labels(own) });
    let of = if kind == MetricKind::Summary { "quantiles" } else { "buckets" };
    if !matches!(parts, [(Part::Value, _)]) {
        told[of] = json!({});
    }
    for (part, value) in parts {
        let value = Value::from(value_text(*value));
        match part {
            Part::Value => told["value"] = value,
            Part::Count => told["count"] = value,
            Part::Sum => told["sum"] = value,
            Part::Of(bound) => told[of][value_text(*bound)] = value,
        }
    }
    told
}

fn labels(of: &[(String, String)]) -> Value {
    Value::Object(of.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect())
}
