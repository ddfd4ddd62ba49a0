//! `openapi.yaml`: the API as a document for generators of clients, made from the list of routes.

use std::fmt::Write;

use axum::http::header;
use axum::response::IntoResponse;

use super::reply::Reply;
use super::routes::{Endpoint, ROUTES, Route};

/// Parameters that all searches have, and those one of them has besides.
macro_rules! search {
    ($($own:literal)*) => {
        [
            $($own,)*
            "match[]",
            "start",
            "end",
            "search[]",
            "fuzz_threshold",
            "fuzz_alg",
            "case_sensitive",
            "include_score",
            "sort_by",
            "sort_dir",
            "limit",
            "batch_size",
        ]
    };
}

/// Parameters of an endpoint: `!` is required, `[]` may be repeated.
fn parameters(endpoint: Endpoint) -> &'static [&'static str] {
    match endpoint {
        Endpoint::Query => {
            &["query!", "time", "timeout", "limit", "lookback_delta", "stats", "profile"]
        }
        Endpoint::QueryRange => &[
            "query!",
            "start!",
            "end!",
            "step!",
            "timeout",
            "limit",
            "lookback_delta",
            "stats",
            "profile",
            "nocache",
        ],
        Endpoint::QueryExemplars => &["query!", "start", "end"],
        Endpoint::FormatQuery | Endpoint::ParseQuery => &["query!"],
        Endpoint::Series => &["match[]!", "start", "end", "limit"],
        Endpoint::Labels | Endpoint::LabelValues => &["match[]", "start", "end", "limit"],
        Endpoint::Metadata => &["metric", "limit", "limit_per_metric"],
        Endpoint::SearchMetricNames => &search!["include_metadata"],
        Endpoint::SearchLabelNames => &search![],
        Endpoint::SearchLabelValues => &search!["label!"],
        Endpoint::SelfMetrics => &["metric_name_pattern"],
        Endpoint::Rules => &[
            "type",
            "rule_name[]",
            "rule_group[]",
            "file[]",
            "match[]",
            "exclude_alerts",
            "group_limit",
            "group_next_token",
        ],
        Endpoint::Targets => &["state", "scrapePool"],
        Endpoint::TargetsMetadata => &["match_target", "metric", "limit"],
        Endpoint::Tsdb => &["limit"],
        Endpoint::Federate => &["match[]"],
        Endpoint::Sql => &["query!", "format", "timeout", "merge_tenants"],
        _ => &[],
    }
}

/// Answers it.
pub(super) fn document(version: &str) -> Reply {
    let kind = [(header::CONTENT_TYPE, "application/yaml; charset=utf-8")];
    Reply::Ready((kind, yaml(version)).into_response())
}

fn yaml(version: &str) -> String {
    let mut out = format!(
        "openapi: 3.1.0\ninfo:\n  title: Taffrail\n  description: The HTTP API of Prometheus, version 1.\n  \
         version: {version:?}\nservers:\n  - url: /\npaths:\n"
    );
    for (i, route) in ROUTES.iter().enumerate() {
        if ROUTES[..i].iter().any(|earlier| earlier.path == route.path) {
            continue;
        }
        // Writing to a string does not fail.
        let _ = writeln!(out, "  {}:", route.path);
        for route in ROUTES.iter().filter(|same| same.path == route.path) {
            push_operation(&mut out, route);
        }
    }
    out
}

fn push_operation(out: &mut String, route: &Route) {
    let method = route.method.to_ascii_lowercase();
    let _ = writeln!(out, "    {method}:\n      operationId: {}_{method}", route.endpoint.name());
    let in_path = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let in_path: Vec<&str> = in_path.collect();
    // Forms are read like the query.
    let listed = parameters(route.endpoint);
    if !(in_path.is_empty() && listed.is_empty()) {
        out.push_str("      parameters:\n");
    }
    for name in in_path {
        push_parameter(out, name, "path", true);
    }
    for name in listed {
        let required = name.ends_with('!');
        push_parameter(out, name.trim_end_matches('!'), "query", required);
    }
    out.push_str(
        "      responses:\n        \"200\":\n          description: success\n        default:\n          \
         description: an error; its kind and text are in the body\n",
    );
}

fn push_parameter(out: &mut String, name: &str, place: &str, required: bool) {
    let schema = match name.ends_with("[]") {
        true => "{type: array, items: {type: string}}",
        false => "{type: string}",
    };
    let _ = writeln!(
        out,
        "        - {{name: {name:?}, in: {place}, required: {required}, schema: {schema}}}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_document_once() {
        let yaml = yaml("1.2");
        for route in ROUTES {
            let path = format!("\n  {}:\n", route.path);
            assert_eq!(yaml.matches(&path).count(), 1, "{}", route.path);
            let method = route.method.to_ascii_lowercase();
            let id = format!("operationId: {}_{method}\n", route.endpoint.name());
            assert!(yaml.contains(&id), "{id}");
        }
        assert!(
            yaml.contains("- {name: \"name\", in: path, required: true, schema: {type: string}}")
        );
        let matches = "- {name: \"match[]\", in: query, required: true, \
                       schema: {type: array, items: {type: string}}}";
        assert!(yaml.contains(matches), "{yaml}");
    }
}
