//! Libraries that others wrote send lines of logs to every door; what reaches the store is looked at.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ingest::logs::{EntryIntake, Tenant, fluent, syslog};
use ingest::{Appender, Config, Durable, EntryAppender, Intake};
use model::{Labels, Position, SystemClock};
use parking_lot::Mutex;
use storage::entries::{EntriesAppended, EntryOutcome, EntryRows};
use storage::{Appended, MetricRows};
use tenancy::{Authenticator, Limits, WriteScope};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

/// Keeps level, service and line of each entry.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl EntryAppender for Kept {
    fn append_entries(
        &self,
        _: &WriteScope,
        rows: &EntryRows<'_>,
    ) -> Result<EntriesAppended, storage::Error> {
        let mut outcome = EntryOutcome::default();
        for stream in &rows.streams {
            let labels = Labels::from_wire(rows.bytes(&stream.labels)).expect("labels");
            let service = labels.get("service_name").unwrap_or_default().to_owned();
            let range = stream.entries.start as usize..stream.entries.end as usize;
            for entry in &rows.entries[range] {
                let line = String::from_utf8_lossy(rows.bytes(&entry.line));
                self.0.lock().push(format!("{service} {} {line}", entry.level));
                outcome.entries += 1;
            }
        }
        Ok(EntriesAppended { outcome, position: None })
    }

    fn durable(&self, _: Position) -> Durable<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// Nobody writes metrics here.
struct NoMetrics;

impl Appender for NoMetrics {
    fn append(&self, _: &WriteScope, _: &MetricRows<'_>) -> Result<Appended, storage::Error> {
        unreachable!("no metrics are written")
    }

    fn durable(&self, _: Position) -> Durable<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// Listens on a free port for the sender.
async fn listen(
    which: &str,
    intake: Arc<EntryIntake>,
    stopping: watch::Receiver<bool>,
) -> SocketAddr {
    let tenant = Tenant::new(|| Ok(WriteScope::for_test(1, "team-a", Limits::default())));
    if which == "syslog-udp" {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        tokio::spawn(syslog::serve_udp(socket, Default::default(), tenant, intake, stopping));
        return address;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    match which {
        "syslog-tcp" => {
            tokio::spawn(syslog::serve_tcp(listener, Default::default(), tenant, intake, stopping));
        }
        "fluent" => {
            tokio::spawn(fluent::serve(listener, Default::default(), tenant, intake, stopping));
        }
        _ => {
            let router = ingest::logs::router(&intake, &Arc::new(Authenticator::for_test()));
            tokio::spawn(axum::serve(listener, router).into_future());
        }
    }
    address
}

/// Runs the sender; what it wrote.
async fn check(which: &str, modules: &[&str], expected: &[&str]) {
    let Some(python) = testkit::python(modules) else { return };
    let kept = Arc::new(Kept::default());
    let (clock, config) = (Arc::new(SystemClock::default()), Config::default());
    let intake = Intake::new(Arc::new(NoMetrics), Arc::default(), Arc::default(), clock, &config);
    let appender = Arc::clone(&kept) as Arc<dyn EntryAppender>;
    let intake = Arc::new(EntryIntake::new(Arc::new(intake), appender));
    let (_stop, stopping) = watch::channel(false);
    let address = listen(which, intake, stopping).await;
    let script = testkit::package_dir().join("tests/it/log_senders.py");
    let mut sender = Command::new(python);
    sender.arg(script).args([which, "127.0.0.1", &address.port().to_string()]);
    let output = tokio::task::spawn_blocking(move || sender.output()).await.expect("runs");
    let output = output.expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for _ in 0..500 {
        if kept.0.lock().len() >= expected.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*kept.0.lock(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_own_handlers_write_syslog() {
    let expected = ["app info line 0", "app warn line 1", "app error line 2"];
    check("syslog-udp", &["logging"], &expected).await;
    check("syslog-tcp", &["logging"], &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elasticsearchs_client_writes_in_bulk() {
    let expected = ["es unknown line 0", "es unknown line 1", "es unknown line 0"];
    check("elasticsearch", &["elasticsearch"], &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fluents_logger_forwards() {
    let expected = ["fluent unknown line 0", "fluent unknown line 1", "fluent unknown line 2"];
    check("fluent", &["fluent.sender"], &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loki_handler_pushes() {
    let expected = ["loki info line 0", "loki warn line 1", "loki error line 2"];
    check("loki", &["logging_loki"], &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opentelemetrys_sdk_exports_logs() {
    let expected = ["otel info line 0", "otel warn line 1", "otel error line 2"];
    check("otel", &["opentelemetry.exporter.otlp.proto.http._log_exporter"], &expected).await;
}
