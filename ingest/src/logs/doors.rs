//! All doors of entries that are asked by HTTP, behind one router.

use std::sync::Arc;

use axum::Router;
use tenancy::Authenticator;

use super::elasticsearch::{self, Elasticsearch};
use super::jsonline::{self, JsonLines};
use super::kubernetes::{self, KubernetesObjects};
use super::loki::{self, LokiPush};
use super::otlp::{self, OtlpLogs};
use super::{EntryIntake, fluent::FluentConfig, syslog::SyslogConfig};

/// Every route of [`ROUTES`](super::ROUTES).
pub fn router(intake: &Arc<EntryIntake>, authenticator: &Arc<Authenticator>) -> Router {
    let (of, who) = (|| Arc::clone(intake), || Arc::clone(authenticator));
    loki::router(Arc::new(LokiPush::new(of())), who())
        .merge(otlp::router(Arc::new(OtlpLogs::new(of())), who()))
        .merge(elasticsearch::router(Arc::new(Elasticsearch::new(of())), who()))
        .merge(jsonline::router(Arc::new(JsonLines::new(of())), who()))
        .merge(kubernetes::router(Arc::new(KubernetesObjects::new(of())), who()))
}

/// Listeners beside HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsConfig {
    /// For syslog.
    pub syslog: SyslogConfig,
    /// For Fluent forward.
    pub fluent: FluentConfig,
}

impl LogsConfig {
    /// What is wrong with the settings, by key.
    pub fn check(&self) -> Result<(), String> {
        self.syslog.check()?;
        self.fluent.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::testing::Rig;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_route_answers_over_a_socket() {
        let rig = Rig::new();
        let router = router(&rig.intake, &Arc::new(Authenticator::for_test()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(axum::serve(listener, router).into_future());
        let calls = [
            ("POST", "/loki/api/v1/push", r#"{"streams":[]}"#, 204),
            ("POST", "/api/prom/push", r#"{"streams":[]}"#, 204),
            ("POST", "/v1/logs", "{}", 200),
            ("POST", "/otlp/v1/logs", "{}", 200),
            ("POST", "/api/v1/otlp/v1/logs", "{}", 200),
            ("GET", "/elasticsearch", "", 200),
            ("GET", "/elasticsearch/", "", 200),
            ("HEAD", "/elasticsearch/", "", 200),
            ("GET", "/elasticsearch/_license", "", 200),
            ("PUT", "/elasticsearch/_ilm/policy/x", "{}", 200),
            ("POST", "/elasticsearch/_bulk", "{\"create\":{}}\n{}\n", 200),
            ("POST", "/elasticsearch/a%2Fb/_bulk?x=1", "{\"create\":{}}\n{}\n", 200),
            ("POST", "/api/v1/ingest/jsonline", "{}", 200),
            ("POST", "/insert/jsonline", "{}", 200),
            ("POST", "/api/v1/ingest/events", "[]", 200),
            ("POST", "/api/v1/ingest/audit", "[]", 200),
            ("POST", "/audit/webhook/event", "[]", 200),
            ("GET", "/loki/api/v1/push", "", 405),
        ];
        let answers = tokio::task::spawn_blocking(move || {
            let headers = [("Content-Type", "application/json")];
            let call = |(method, path, body, _): (&str, &str, &str, u16)| {
                let mut connection = testkit::http::Connection::open(address).expect("connects");
                let answer = connection.call(method, path, &headers, body.as_bytes());
                answer.expect("an answer").status
            };
            calls.map(call)
        });
        let answers = answers.await.expect("all sent");
        for (call, answer) in calls.iter().zip(answers) {
            assert_eq!(answer, call.3, "{} {}", call.0, call.1);
        }
        server.abort();
        assert_eq!(rig.kept.take().len(), 4, "two of bulks, two of JSON lines");
    }
}
