//! Tests of forwarding against a receiver that answers as it is told.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use model::{Labels, OsRandom, SystemClock};
use storage::AppendOutcome;
use tenancy::{Authenticator, Limits, TenantName};
use testkit::FaultyDisk;

use super::record::samples_of;
use super::testing::written;
use super::*;
use crate::Caps;
use crate::remote_write::{walk, walk_v2};

/// What a receiver answers to the next requests; then 204.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    /// With `Retry-After` in seconds.
    Later(u16, u64),
    /// 200, as if the message had been understood, by a receiver of 1.0 alone.
    Misread,
    /// 302 to where a GET is answered with 200.
    Moved,
    /// Taken, after so many milliseconds.
    Slow(u64),
}

/// A receiver and what it was sent.
#[derive(Default)]
struct Inbox {
    answers: Mutex<VecDeque<Answer>>,
    /// Lines `tenant version authorization series value@instant`.
    lines: Mutex<Vec<String>>,
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, bytes: Bytes) -> Response {
    let answer = inbox.answers.lock().pop_front();
    let text = |name: &str| headers.get(name).map_or("", |v| v.to_str().expect("text")).to_owned();
    let is_v2 = text("content-type").contains("io.prometheus.write.v2.Request");
    let status = |code: u16| StatusCode::from_u16(code).expect("a status");
    match answer {
        Some(Answer::Status(code)) => return (status(code), "as told").into_response(),
        Some(Answer::Later(code, seconds)) => {
            return (status(code), [("Retry-After", seconds.to_string())]).into_response();
        }
        Some(Answer::Misread) => return StatusCode::OK.into_response(),
        Some(Answer::Moved) => return (status(302), [("Location", "/page")]).into_response(),
        Some(Answer::Slow(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => {}
    }
    assert_eq!(text("content-encoding"), "snappy");
    let body = snap::raw::Decoder::new().decompress_vec(&bytes).expect("snappy");
    let (mut rows, limits, caps) = (MetricRows::default(), Limits::default(), Caps::default());
    match is_v2 {
        true => walk_v2(&body, &limits, &caps, None, &mut rows).expect("2.0"),
        false => walk(&body, &limits, &caps, &mut rows).expect("1.0"),
    };
    let about =
        [text("x-scope-orgid"), text("x-prometheus-remote-write-version"), text("authorization")];
    let about = about.join(" ");
    for series in &rows.series {
        let labels = Labels::from_wire(rows.labels_of(series)).expect("labels");
        let rest = labels.iter().filter(|(name, _)| *name != model::METRIC_NAME);
        let rest: String = rest.map(|(name, value)| format!("{{{name}={value}}}")).collect();
        let series_shown = format!("{}{rest}", labels.metric_name());
        for s in samples_of(&rows, series) {
            let line = format!("{} {series_shown} {}@{}", about.trim(), s.value, s.timestamp_ms);
            inbox.lines.lock().push(line);
        }
    }
    let written = [("X-Prometheus-Remote-Write-Samples-Written", rows.samples.len().to_string())];
    match is_v2 {
        true => (StatusCode::NO_CONTENT, written).into_response(),
        false => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Takes everything and keeps nothing; but for metrics named `refused`, which a store refuses.
struct Nowhere;

impl Appender for Nowhere {
    fn append(&self, _: &WriteScope, rows: &MetricRows<'_>) -> Result<Appended, storage::Error> {
        let outcome = AppendOutcome { samples: rows.samples.len() as u64, ..Default::default() };
        let is_refused = |series| {
            let labels = Labels::from_wire(rows.labels_of(series));
            labels.is_ok_and(|labels| labels.metric_name() == "refused")
        };
        let position = (!rows.series.iter().all(is_refused)).then_some(Position(1));
        Ok(Appended { outcome, position })
    }

    fn durable(&self, _: Position) -> Durable<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// A forwarder before a receiver.
struct Rig {
    inbox: Arc<Inbox>,
    url: String,
    disk: FaultyDisk,
    authenticator: Arc<Authenticator>,
    forwarder: Arc<Forwarder>,
}

fn forwarder(disk: &FaultyDisk, authenticator: &Authenticator) -> Arc<Forwarder> {
    Arc::new(Forwarder::new(ForwardParts {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(OsRandom),
        directory: Arc::clone(authenticator.directory()),
    }))
}

impl Rig {
    async fn new(answers: &[Answer]) -> Self {
        let inbox = Arc::new(Inbox::default());
        inbox.answers.lock().extend(answers);
        let router = Router::new().route("/write", post(receive)).route("/page", get(|| async {}));
        let router = router.with_state(Arc::clone(&inbox));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/write", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (disk, authenticator) = (FaultyDisk::new(), Arc::new(Authenticator::for_test()));
        let forwarder = forwarder(&disk, &authenticator);
        Self { inbox, url, disk, authenticator, forwarder }
    }

    /// Forwards to the receiver, with more fields of YAML's flow style.
    fn forward(&self, more: &str) {
        self.forward_to(&format!("url: '{}'", self.url), more);
    }

    fn forward_to(&self, url: &str, more: &str) {
        let quick = "batch_send_deadline: 20ms";
        let text = match more.contains("queue_config") {
            true => format!("remote_write: [{{name: central, {url}, {more}}}]"),
            false => {
                format!(
                    "remote_write: [{{name: central, {url}, queue_config: {{{quick}}}, {more}}}]"
                )
            }
        };
        self.take_over(&text);
    }

    fn take_over(&self, text: &str) {
        let file = ForwardFile::parse(text, Path::new("")).expect("a configuration");
        self.forwarder.take_over(self.forwarder.prepare(&file).expect("destinations"));
    }

    /// Writes samples `name value@instant` of a tenant and waits until they are acknowledged.
    async fn write(&self, tenant: &str, samples: &[(&str, f64, i64)]) {
        let name = TenantName::new(tenant).expect("a name");
        let scope = self.authenticator.internal_write_scope(&name).expect("a scope");
        let body = written(samples);
        let mut rows = MetricRows::default();
        walk(&body, &Limits::default(), &Caps::default(), &mut rows).expect("valid");
        let appender = ForwardingAppender::new(Arc::new(Nowhere), Arc::clone(&self.forwarder));
        let appended = appender.append(&scope, &rows).expect("stored");
        if let Some(position) = appended.position {
            appender.durable(position).await.expect("durable");
        }
    }

    /// What arrived, sorted, once it is so many lines.
    async fn arrived(&self, lines: usize) -> Vec<String> {
        for _ in 0..1_000 {
            if self.inbox.lines.lock().len() >= lines {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut lines = std::mem::take(&mut *self.inbox.lines.lock());
        lines.sort();
        lines
    }

    /// Waits until a metric, named with what is behind the labels of the destination, has a value.
    async fn metric(&self, name: &str, value: f64) {
        let (name, labels) = name
            .split_once(',')
            .map_or((name, String::new()), |(name, rest)| (name, format!(",{rest}")));
        let start = format!("taffrail_remote_storage_{name}{{remote_name=\"central\",");
        let mut text = String::new();
        for _ in 0..1_000 {
            text.clear();
            self.forwarder.write_metrics(&mut text);
            let of = |line: &str| {
                line.strip_prefix(&start)?
                    .split_once("} ")
                    .map(|(l, v)| (l.to_owned(), v.to_owned()))
            };
            let found =
                text.lines().filter_map(of).find(|(l, _)| l.ends_with(&format!("\"{labels}")));
            if found.and_then(|(_, v)| v.parse::<f64>().ok()) == Some(value) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} is not {value}:\n{text}");
    }

    /// Stops, and starts again on the same disk.
    async fn restarted(self) -> Self {
        self.forwarder.stop().await;
        let forwarder = forwarder(&self.disk, &self.authenticator);
        Self { forwarder, ..self }
    }
}

const NOWHERE: &str = "url: 'http://127.0.0.1:1/write'";

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_wanted_arrive() {
    let rig = Rig::new(&[]).await;
    let text = format!(
        "{{global: {{external_labels: {{region: eu}}}}, remote_write: [{{name: central, url: '{}', \
         x-taffrail: {{tenants: [a, b], org_id: 'x-{{tenant}}'}}, \
         queue_config: {{batch_send_deadline: 20ms}}, \
         write_relabel_configs: [{{source_labels: [__name__], regex: 'x|y', action: keep}}]}}]}}",
        rig.url
    );
    rig.take_over(&text);
    rig.write("a", &[("x", 1.0, 1), ("w", 9.0, 1)]).await;
    rig.write("a", &[("x", 2.0, 2), ("w", 9.0, 2)]).await;
    rig.write("b", &[("y", 3.0, 2)]).await;
    rig.write("c", &[("x", 9.0, 1)]).await;
    let expected =
        ["x-a 2.0.0 x{region=eu} 1@1", "x-a 2.0.0 x{region=eu} 2@2", "x-b 2.0.0 y{region=eu} 3@2"];
    assert_eq!(rig.arrived(3).await, expected);
    rig.metric("samples_pending", 0.0).await;
    rig.metric("samples_total", 3.0).await;
    rig.metric("samples_dropped_total,reason=\"dropped_series\"", 2.0).await;
    rig.metric("queue_highest_sent_timestamp_seconds", 0.002).await;
    rig.metric("highest_timestamp_in_seconds", 0.002).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_is_not_forwarded() {
    let rig = Rig::new(&[]).await;
    rig.forward("");
    rig.write("a", &[("refused", 1.0, 1)]).await;
    rig.write("a", &[("x", 1.0, 1)]).await;
    assert_eq!(rig.arrived(1).await, ["2.0.0 x 1@1"]);
    rig.metric("samples_total", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_taken_later_is_repeated_and_the_rest_given_up() {
    use Answer::{Later, Status};
    let rig = Rig::new(&[Status(503), Status(500), Later(429, 1), Status(502)]).await;
    rig.forward("");
    let begun = Instant::now();
    rig.write("a", &[("x", 1.0, 1)]).await;
    assert_eq!(rig.arrived(1).await, ["2.0.0 x 1@1"]);
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After");
    rig.metric("samples_retried_total", 4.0).await;
    rig.metric("samples_pending", 0.0).await;
    assert_eq!(rig.forwarder.status()[0].last_error, "");
    rig.inbox.answers.lock().extend([Status(400), Status(403)]);
    rig.write("a", &[("x", 2.0, 2)]).await;
    rig.metric("samples_failed_total", 1.0).await;
    rig.write("a", &[("x", 3.0, 3)]).await;
    rig.metric("samples_failed_total", 2.0).await;
    rig.metric("samples_pending", 0.0).await;
    let status = rig.forwarder.status().remove(0);
    assert_eq!(
        (status.last_error.as_str(), status.protocol, status.rows_failed, status.rows_pending),
        ("403 Forbidden: as told", "2.0", 2, 0)
    );
    assert_eq!((status.newest_queued_ms, status.newest_sent_ms), (Some(3), Some(1)));
    rig.write("a", &[("x", 4.0, 4)]).await;
    assert_eq!(rig.arrived(1).await, ["2.0.0 x 4@4"]);
    rig.metric("samples_total", 8.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moved_has_taken_nothing() {
    let rig = Rig::new(&[Answer::Moved]).await;
    rig.forward("");
    rig.write("a", &[("x", 1.0, 1)]).await;
    rig.metric("samples_failed_total", 1.0).await;
    rig.write("a", &[("x", 2.0, 2)]).await;
    assert_eq!(rig.arrived(1).await, ["2.0.0 x 2@2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_final_where_that_is_said() {
    let rig = Rig::new(&[Answer::Status(429)]).await;
    rig.forward("queue_config: {batch_send_deadline: 20ms, retry_on_http_429: false}");
    rig.write("a", &[("x", 1.0, 1)]).await;
    rig.metric("samples_failed_total", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_of_1_0_are_sent_1_0() {
    for answer in [Answer::Status(415), Answer::Status(400), Answer::Misread] {
        let rig = Rig::new(&[answer]).await;
        rig.forward("");
        rig.write("a", &[("x", 1.0, 1)]).await;
        assert_eq!(rig.arrived(1).await, ["0.1.0 x 1@1"]);
        rig.write("a", &[("x", 2.0, 2)]).await;
        assert_eq!(rig.arrived(1).await, ["0.1.0 x 2@2"], "at once from now on");
        rig.metric("samples_failed_total", 0.0).await;
    }
    let rig = Rig::new(&[]).await;
    rig.forward("protobuf_message: prometheus.WriteRequest");
    rig.write("a", &[("x", 1.0, 1)]).await;
    assert_eq!(rig.arrived(1).await, ["0.1.0 x 1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_sends_what_waited_and_nothing_twice() {
    let rig = Rig::new(&[]).await;
    rig.forward("");
    rig.write("a", &[("x", 1.0, 1)]).await;
    assert_eq!(rig.arrived(1).await.len(), 1);
    rig.metric("samples_pending", 0.0).await;
    // Nobody listens there: rows wait.
    rig.forward_to(NOWHERE, "");
    for i in 2..6 {
        rig.write("a", &[("x", f64::from(i), i64::from(i))]).await;
    }
    rig.metric("samples_pending", 4.0).await;
    let rig = rig.restarted().await;
    rig.forward("");
    let expected: Vec<String> = (2..6).map(|i| format!("2.0.0 x {i}@{i}")).collect();
    assert_eq!(rig.arrived(4).await, expected);
    rig.metric("samples_pending", 0.0).await;
    let rig = rig.restarted().await;
    rig.forward("");
    rig.write("a", &[("x", 7.0, 7)]).await;
    assert_eq!(rig.arrived(1).await, ["2.0.0 x 7@7"], "and none of those before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_that_was_acknowledged() {
    let rig = Rig::new(&[]).await;
    rig.forward_to(NOWHERE, "");
    for i in 0..50 {
        rig.write("a", &[("x", f64::from(i), i64::from(i))]).await;
    }
    rig.disk.crash();
    let disk = rig.disk.after_crash(7);
    let again = Rig { forwarder: forwarder(&disk, &rig.authenticator), disk, ..rig };
    again.forward("");
    assert_eq!(again.arrived(50).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_destination_slows_no_write() {
    let rig = Rig::new(&[Answer::Slow(1_500); 3]).await;
    rig.forward("");
    let begun = Instant::now();
    for i in 0..20 {
        rig.write("a", &[("x", f64::from(i), i64::from(i))]).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let found = rig.arrived(20).await;
    assert_eq!(found.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_repeated() {
    let rig = Rig::new(&[Answer::Slow(20_000)]).await;
    rig.forward("remote_timeout: 200ms");
    rig.write("a", &[("x", 1.0, 1)]).await;
    assert_eq!(rig.arrived(1).await, ["2.0.0 x 1@1"]);
    rig.metric("samples_retried_total", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_those_in_force_at_each_attempt() {
    let rig = Rig::new(&[]).await;
    rig.forward_to(
        NOWHERE,
        "queue_config: {batch_send_deadline: 20ms, min_backoff: 1h, max_backoff: 1h}",
    );
    rig.write("a", &[("x", 1.0, 1)]).await;
    rig.metric("samples_retried_total", 1.0).await;
    rig.forward("authorization: {credentials: secret}");
    assert_eq!(rig.arrived(1).await, ["2.0.0 Bearer secret x 1@1"], "at once, elsewhere");
    rig.inbox.answers.lock().extend([Answer::Later(500, 300)]);
    rig.write("a", &[("x", 2.0, 2)]).await;
    rig.metric("samples_retried_total", 2.0).await;
    rig.forward("protobuf_message: prometheus.WriteRequest, x-taffrail: {org_id: '{tenant}'}");
    assert_eq!(rig.arrived(1).await, ["a 0.1.0 x 2@2"], "in the form they ask for");
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_come_and_go_with_their_queues() {
    let rig = Rig::new(&[]).await;
    rig.forward_to(NOWHERE, "");
    rig.write("a", &[("x", 1.0, 1)]).await;
    rig.take_over("{}");
    rig.write("a", &[("x", 2.0, 2)]).await;
    rig.forward("");
    rig.write("a", &[("x", 3.0, 3)]).await;
    let expected = ["2.0.0 x 1@1", "2.0.0 x 3@3"];
    assert_eq!(rig.arrived(2).await, expected, "what came in between is not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn series_stay_in_order_however_many_lanes_there_are() {
    let rig = Rig::new(&[Answer::Status(500), Answer::Slow(50), Answer::Status(503)]).await;
    rig.forward("queue_config: {batch_send_deadline: 1ms, max_samples_per_send: 3, max_shards: 4}");
    let names: Vec<String> = (0..7).map(|i| format!("m{i}")).collect();
    for at in 0..30 {
        let samples: Vec<_> = names.iter().map(|name| (name.as_str(), at as f64, at)).collect();
        rig.write("a", &samples).await;
    }
    rig.metric("samples_pending", 0.0).await;
    let lines = rig.inbox.lines.lock().clone();
    assert_eq!(lines.len(), 210);
    for name in &names {
        let of_series = lines.iter().filter(|line| line.contains(&format!(" {name} ")));
        let instants = of_series.map(|line| line.rsplit('@').next().map(str::parse::<i64>));
        let instants: Vec<_> =
            instants.map(|at| at.expect("an instant").expect("a number")).collect();
        assert_eq!(instants, (0..30).collect::<Vec<_>>(), "{name}");
    }
}
