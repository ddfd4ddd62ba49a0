//! What the tests of all doors share: a storage that keeps rows as text, and a sender.

pub(crate) mod server;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::response::Response;
use model::{Clock, Labels, Position};
use parking_lot::Mutex;
use storage::{AppendOutcome, Appended, MetricRows, Reason};
use tenancy::{Authenticator, Limits, Ownership, RoutingFile, WriteScope};
use testkit::ManualClock;

use crate::{Appender, Config, Durable, Intake, Metrics};

/// The time of every test, milliseconds.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// Keeps rows as text; refuses samples of series named `bad` as too old, of `many` as over a rate.
#[derive(Default)]
pub(crate) struct Kept {
    lines: Mutex<Vec<String>>,
}

impl Appender for Kept {
    fn append(&self, _: &WriteScope, rows: &MetricRows<'_>) -> Result<Appended, storage::Error> {
        let mut lines = self.lines.lock();
        let mut outcome = AppendOutcome::default();
        for series in &rows.series {
            let wire = rows.labels_of(series);
            let labels = match Labels::from_wire(wire) {
                Ok(labels) => labels,
                Err(why) => {
                    outcome.reject(Reason::InvalidLabels, 1, || why.to_string());
                    continue;
                }
            };
            let refused = match labels.metric_name() {
                "bad" => Some(Reason::TooOld),
                "many" => Some(Reason::NewSeriesRate),
                "" => Some(Reason::MissingMetricName),
                _ => None,
            };
            if let Some(reason) = refused {
                outcome.reject(reason, 1, || labels.to_string());
                continue;
            }
            for s in &rows.samples[series.samples.start as usize..series.samples.end as usize] {
                let value =
                    if model::is_stale(s.value) { "stale".to_owned() } else { s.value.to_string() };
                lines.push(format!("{labels} {value} @{}", s.timestamp_ms));
                outcome.samples += 1;
            }
            for (at, h) in
                &rows.histograms[series.histograms.start as usize..series.histograms.end as usize]
            {
                lines.push(format!("{labels} histogram schema {} sum {} @{at}", h.schema, h.sum));
                outcome.histograms += 1;
            }
            for e in &rows.exemplars[series.exemplars.start as usize..series.exemplars.end as usize]
            {
                lines.push(format!(
                    "{labels} exemplar {} {} @{}",
                    e.labels, e.value, e.timestamp_ms
                ));
                outcome.exemplars += 1;
            }
        }
        for (family, m) in &rows.metadata {
            lines.push(format!("{family}: {} {:?} {:?}", m.kind.as_str(), m.help, m.unit));
        }
        Ok(Appended { outcome, position: Some(Position(1)) })
    }

    fn durable(&self, _: Position) -> Durable<'_> {
        Box::pin(async { Ok(()) })
    }
}

impl Kept {
    /// What was stored since it was asked last.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock())
    }
}

/// An intake before a storage that keeps text.
pub(crate) struct Rig {
    pub(crate) kept: Arc<Kept>,
    pub(crate) intake: Arc<Intake>,
}

impl Rig {
    pub(crate) fn new(config: &Config) -> Self {
        let kept = Arc::new(Kept::default());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW_MS));
        let intake = Intake::new(
            Arc::clone(&kept) as Arc<dyn Appender>,
            Arc::default(),
            Arc::new(Metrics::default()),
            clock,
            config,
        );
        Self { kept, intake: Arc::new(intake) }
    }
}

pub(crate) fn scope() -> WriteScope {
    WriteScope::for_test(1, "team-a", Limits::default())
}

/// A request to a path.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> axum::extract::Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a request")
}

/// An answer taken apart.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a short body");
        Self { status, headers, body: body.to_vec() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().expect("text"))
    }
}

/// A trusted writer's: `shop` was a's until 100 and is b's from 200 on; `till` is a's.
pub(crate) async fn routed_scope() -> WriteScope {
    let authenticator = Arc::new(Authenticator::for_test());
    let entry = |namespace: &str, tenant: &str, from_ms, to_ms| Ownership {
        cluster: "c".to_owned(),
        namespace: namespace.to_owned(),
        tenant: tenant.to_owned(),
        from_ms,
        to_ms,
    };
    let namespaces = vec![
        entry("shop", "a", None, Some(100)),
        entry("shop", "b", Some(200), None),
        entry("till", "a", None, None),
    ];
    let table = authenticator.prepare_routing(RoutingFile { namespaces }).expect("a table");
    authenticator.take_over_routing(table);
    authenticator.routed_scope().await.expect("a scope")
}
