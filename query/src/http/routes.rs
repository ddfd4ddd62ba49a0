//! The routes, as data: the router is built from this list, and so is the table of who may reach
//! what.

use axum::http::Method;

/// One method on one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// The path with `{name}` for its variable part.
    pub path: &'static str,
    /// What answers it.
    pub endpoint: Endpoint,
}

/// What answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the path of that name in Prometheus' API")]
pub enum Endpoint {
    Query,
    QueryRange,
    QueryExemplars,
    FormatQuery,
    ParseQuery,
    Series,
    Labels,
    LabelValues,
    Metadata,
    SearchMetricNames,
    SearchLabelNames,
    SearchLabelValues,
    Rules,
    Alerts,
    Alertmanagers,
    Targets,
    TargetsMetadata,
    RelabelSteps,
    ScrapePools,
    BuildInfo,
    RuntimeInfo,
    Flags,
    StatusConfig,
    WalReplay,
    SelfMetrics,
    Tsdb,
    TsdbBlocks,
    Notifications,
    NotificationsLive,
    Features,
    OpenApi,
    Queries,
    EndQuery,
    Federate,
    RemoteRead,
    Sql,
}

impl Endpoint {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All, in order.
    pub const ALL: [Self; 36] = [
        Self::Query,
        Self::QueryRange,
        Self::QueryExemplars,
        Self::FormatQuery,
        Self::ParseQuery,
        Self::Series,
        Self::Labels,
        Self::LabelValues,
        Self::Metadata,
        Self::SearchMetricNames,
        Self::SearchLabelNames,
        Self::SearchLabelValues,
        Self::Rules,
        Self::Alerts,
        Self::Alertmanagers,
        Self::Targets,
        Self::TargetsMetadata,
        Self::RelabelSteps,
        Self::ScrapePools,
        Self::BuildInfo,
        Self::RuntimeInfo,
        Self::Flags,
        Self::StatusConfig,
        Self::WalReplay,
        Self::SelfMetrics,
        Self::Tsdb,
        Self::TsdbBlocks,
        Self::Notifications,
        Self::NotificationsLive,
        Self::Features,
        Self::OpenApi,
        Self::Queries,
        Self::EndQuery,
        Self::Federate,
        Self::RemoteRead,
        Self::Sql,
    ];

    /// The word in metrics and spans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::QueryRange => "query_range",
            Self::QueryExemplars => "query_exemplars",
            Self::FormatQuery => "format_query",
            Self::Series => "series",
            Self::Labels => "labels",
            Self::LabelValues => "label_values",
            Self::Metadata => "metadata",
            Self::SearchMetricNames => "search_metric_names",
            Self::SearchLabelNames => "search_label_names",
            Self::SearchLabelValues => "search_label_values",
            Self::Rules => "rules",
            Self::Alerts => "alerts",
            Self::BuildInfo => "status_buildinfo",
            Self::RuntimeInfo => "status_runtimeinfo",
            Self::Flags => "status_flags",
            Self::ParseQuery => "parse_query",
            Self::Targets => "targets",
            Self::TargetsMetadata => "targets_metadata",
            Self::RelabelSteps => "targets_relabel_steps",
            Self::ScrapePools => "scrape_pools",
            Self::Alertmanagers => "alertmanagers",
            Self::StatusConfig => "status_config",
            Self::WalReplay => "status_walreplay",
            Self::SelfMetrics => "status_self_metrics",
            Self::Notifications => "notifications",
            Self::Features => "features",
            Self::Queries => "status_queries",
            Self::EndQuery => "end_query",
            Self::Federate => "federate",
            Self::RemoteRead => "remote_read",
            Self::Sql => "sql",
            Self::Tsdb => "status_tsdb",
            Self::TsdbBlocks => "status_tsdb_blocks",
            Self::NotificationsLive => "notifications_live",
            Self::OpenApi => "openapi",
        }
    }
}

const fn get(path: &'static str, endpoint: Endpoint) -> Route {
    Route { method: "GET", path, endpoint }
}

const fn post(path: &'static str, endpoint: Endpoint) -> Route {
    Route { method: "POST", path, endpoint }
}

/// Every route of the API. `OPTIONS` on each path answers 204 without looking at anything.
pub const ROUTES: &[Route] = &[
    get("/api/v1/query", Endpoint::Query),
    post("/api/v1/query", Endpoint::Query),
    get("/api/v1/query_range", Endpoint::QueryRange),
    post("/api/v1/query_range", Endpoint::QueryRange),
    get("/api/v1/query_exemplars", Endpoint::QueryExemplars),
    post("/api/v1/query_exemplars", Endpoint::QueryExemplars),
    get("/api/v1/format_query", Endpoint::FormatQuery),
    post("/api/v1/format_query", Endpoint::FormatQuery),
    get("/api/v1/parse_query", Endpoint::ParseQuery),
    post("/api/v1/parse_query", Endpoint::ParseQuery),
    get("/api/v1/series", Endpoint::Series),
    post("/api/v1/series", Endpoint::Series),
    get("/api/v1/labels", Endpoint::Labels),
    post("/api/v1/labels", Endpoint::Labels),
    get("/api/v1/label/{name}/values", Endpoint::LabelValues),
    get("/api/v1/metadata", Endpoint::Metadata),
    get("/api/v1/search/metric_names", Endpoint::SearchMetricNames),
    post("/api/v1/search/metric_names", Endpoint::SearchMetricNames),
    get("/api/v1/search/label_names", Endpoint::SearchLabelNames),
    post("/api/v1/search/label_names", Endpoint::SearchLabelNames),
    get("/api/v1/search/label_values", Endpoint::SearchLabelValues),
    post("/api/v1/search/label_values", Endpoint::SearchLabelValues),
    get("/api/v1/rules", Endpoint::Rules),
    get("/api/v1/alerts", Endpoint::Alerts),
    get("/api/v1/alertmanagers", Endpoint::Alertmanagers),
    get("/api/v1/targets", Endpoint::Targets),
    get("/api/v1/targets/metadata", Endpoint::TargetsMetadata),
    get("/api/v1/targets/relabel_steps", Endpoint::RelabelSteps),
    get("/api/v1/scrape_pools", Endpoint::ScrapePools),
    get("/api/v1/status/buildinfo", Endpoint::BuildInfo),
    get("/api/v1/status/runtimeinfo", Endpoint::RuntimeInfo),
    get("/api/v1/status/flags", Endpoint::Flags),
    get("/api/v1/status/config", Endpoint::StatusConfig),
    get("/api/v1/status/walreplay", Endpoint::WalReplay),
    get("/api/v1/status/self_metrics", Endpoint::SelfMetrics),
    get("/api/v1/status/tsdb", Endpoint::Tsdb),
    get("/api/v1/status/tsdb/blocks", Endpoint::TsdbBlocks),
    get("/api/v1/notifications", Endpoint::Notifications),
    get("/api/v1/notifications/live", Endpoint::NotificationsLive),
    get("/api/v1/openapi.yaml", Endpoint::OpenApi),
    get("/api/v1/features", Endpoint::Features),
    get("/federate", Endpoint::Federate),
    post("/api/v1/read", Endpoint::RemoteRead),
    get("/api/v1/sql", Endpoint::Sql),
    post("/api/v1/sql", Endpoint::Sql),
    get("/api/v1/status/queries", Endpoint::Queries),
    Route { method: "DELETE", path: "/api/v1/status/queries/{id}", endpoint: Endpoint::EndQuery },
    post("/api/v1/status/queries/{id}/kill", Endpoint::EndQuery),
];

/// What answers that method on that path.
pub(super) fn find(path: &str, method: &Method) -> Option<Endpoint> {
    let found = ROUTES.iter().find(|route| route.path == path && route.method == method.as_str());
    found.map(|route| route.endpoint)
}

/// The header `Allow` of a path.
pub(super) fn allowed(path: &str) -> String {
    let mut methods: Vec<_> = ROUTES.iter().filter(|r| r.path == path).map(|r| r.method).collect();
    methods.push("OPTIONS");
    methods.sort_unstable();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_listed_in_order_and_reachable() {
        for (i, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            assert_eq!(endpoint as usize, i);
            assert!(
                ROUTES.iter().any(|route| route.endpoint == endpoint),
                "{endpoint:?} has a route"
            );
        }
    }

    #[test]
    fn no_route_is_listed_twice() {
        for (i, route) in ROUTES.iter().enumerate() {
            let same = |r: &&Route| (r.method, r.path) == (route.method, route.path);
            assert!(!ROUTES[..i].iter().any(|r| same(&r)), "{route:?}");
        }
    }
}
