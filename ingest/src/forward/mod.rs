//! Forwarding: what comes in goes on by remote write, so that Taffrail can stand in the middle of a
//! chain.
//!
//! ```text
//! Appender ─► stored ─► selection (tenants, rules) ─► queue on disk ─┬─► both durable ─► acknowledged
//!                                                                    └─► plan ─► sender ─► 2.0 or 1.0
//! ```
//!
//! Invariants: what was acknowledged is forwarded at least once, also over a crash, as long as the
//! queue has room; then the oldest rows are dropped and counted. A destination that is slow or gone
//! never slows or refuses a write.

mod answer;
mod config;
mod counters;
mod encode;
mod known;
mod plan;
mod queue;
mod record;
mod retry_after;
mod selection;
mod sender;
mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use model::{Clock, Disk, Position, Random};
use parking_lot::{Mutex, RwLock};
use storage::{Appended, MetricRows};
use tenancy::{Directory, WriteScope};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use config::{ForwardConfig, ForwardFile};
pub use status::DestinationStatus;

use crate::http_client::{Clients, shown};
use crate::yaml::YamlError;
use crate::{Appender, Durable};
use config::{Destination, Protocol};
use counters::{Counters, Figures};
use queue::{Queue, Record};
use record::Counts;
use selection::Selection;
use sender::{Receiver, Sender, Settings};

/// Destinations that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The file cannot be read.
    #[error("read {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something that is not understood or makes no sense.
    #[error("{}: {why}", file.display())]
    Wrong {
        /// Which.
        file: PathBuf,
        /// What, and where.
        why: YamlError,
    },
    /// What it says of a destination cannot be used: certificates, for instance.
    #[error("remote_write {name:?}: {why}")]
    Unusable {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// The queue of a destination cannot be opened.
    #[error("open the queue forward/{name}")]
    Queue {
        /// The destination.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl ForwardError {
    fn unusable(destination: &Destination, why: &dyn std::fmt::Display) -> Self {
        Self::Unusable { name: destination.name.clone(), why: why.to_string() }
    }
}

/// What forwarding is made of.
#[derive(Debug, Clone)]
pub struct ForwardParts {
    /// Where queues are.
    pub disk: Arc<dyn Disk>,
    /// Says when rows were queued.
    pub clock: Arc<dyn Clock>,
    /// Spreads repetitions.
    pub random: Arc<dyn Random>,
    /// Names of tenants.
    pub directory: Arc<Directory>,
}

/// All destinations.
pub struct Forwarder {
    parts: ForwardParts,
    clients: Clients,
    runtime: tokio::runtime::Handle,
    lines: RwLock<Arc<Vec<Arc<Line>>>>,
    /// Every queue that was ever opened: a destination that comes back goes on with its own.
    queues: Mutex<HashMap<String, Arc<Queue>>>,
    /// Senders, those of destinations that are no more included.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

/// One destination in service.
struct Line {
    selection: Selection,
    queue: Arc<Queue>,
    settings: watch::Sender<Arc<Settings>>,
    counters: Arc<Counters>,
    receiver: Arc<Receiver>,
    stop: watch::Sender<bool>,
}

/// Destinations that were checked and are not in service yet.
pub struct PreparedForward(Vec<(Settings, Arc<Queue>)>);

impl std::fmt::Debug for PreparedForward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedForward").field("destinations", &self.0.len()).finish()
    }
}

impl Forwarder {
    /// Without destinations yet. Senders run on the runtime this is called on.
    pub fn new(parts: ForwardParts) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let (clients, lines, queues, tasks) = Default::default();
        Self { parts, clients, runtime, lines, queues, tasks }
    }

    /// Prepares what a file asks for, and opens its queues. Blocks.
    pub fn prepare(&self, file: &ForwardFile) -> Result<PreparedForward, ForwardError> {
        let prepare = |destination: &Destination| {
            let client = self.clients.client(destination.http.clone());
            let client = client.map_err(|why| ForwardError::unusable(destination, &why))?;
            let queue = self.queue_of(&destination.name)?;
            Ok((Settings { destination: destination.clone(), client }, queue))
        };
        file.destinations.iter().map(prepare).collect::<Result<_, _>>().map(PreparedForward)
    }

    fn queue_of(&self, name: &str) -> Result<Arc<Queue>, ForwardError> {
        let mut queues = self.queues.lock();
        if let Some(known) = queues.get(name) {
            return Ok(Arc::clone(known));
        }
        let opened = Queue::open(Arc::clone(&self.parts.disk), name);
        let failed = |source| ForwardError::Queue { name: name.to_owned(), source };
        let queue = Arc::new(opened.map_err(failed)?);
        queues.insert(name.to_owned(), Arc::clone(&queue));
        Ok(queue)
    }

    /// Puts destinations into service. Those that are left out stop; what waits for them stays on
    /// disk and is sent when they come back.
    pub fn take_over(&self, prepared: PreparedForward) {
        let before = Arc::clone(&self.lines.read());
        let mut lines = Vec::with_capacity(prepared.0.len());
        for (settings, queue) in prepared.0 {
            let known = before.iter().find(|line| line.name() == settings.destination.name);
            lines.push(match known {
                Some(line) if line.settings.borrow().destination == settings.destination => {
                    Arc::clone(line)
                }
                Some(line) => Arc::new(line.go_on(settings, self.parts.random.next_u64())),
                None => Arc::new(self.start(settings, queue)),
            });
        }
        let stays = |name: &str| lines.iter().any(|line| line.name() == name);
        for gone in before.iter().filter(|line| !stays(&line.name())) {
            gone.end();
            let (destination, waiting) = (gone.name(), gone.queue.totals().pending.all());
            tracing::info!(
                destination,
                waiting,
                "no longer forwarded to; what waits stays on disk"
            );
        }
        *self.lines.write() = Arc::new(lines);
    }

    fn start(&self, settings: Settings, queue: Arc<Queue>) -> Line {
        let (stop, stopping) = watch::channel(false);
        let selection = Selection::new(&settings.destination, self.parts.random.next_u64());
        let (settings, of_sender) = watch::channel(Arc::new(settings));
        let (counters, receiver) = (Arc::<Counters>::default(), Arc::<Receiver>::default());
        let sender = Sender {
            queue: Arc::clone(&queue),
            settings: of_sender,
            counters: Arc::clone(&counters),
            directory: Arc::clone(&self.parts.directory),
            clock: Arc::clone(&self.parts.clock),
            random: Arc::clone(&self.parts.random),
            receiver: Arc::clone(&receiver),
            known: Mutex::default(),
        };
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(self.runtime.spawn(sender.run(stopping)));
        Line { selection, queue, settings, counters, receiver, stop }
    }

    /// Ends all senders and waits for them. What was not sent waits on disk for the next start.
    pub async fn stop(&self) {
        self.lines.read().iter().for_each(|line| line.end());
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a sender ended badly");
            }
        }
    }

    /// Queues what was stored for the destinations that want it.
    fn queue(&self, scope: &WriteScope, rows: &MetricRows<'_>) {
        let lines = Arc::clone(&self.lines.read());
        for line in lines.iter().filter(|line| line.selection.wants(scope.name())) {
            line.queue(scope, rows, self.parts.clock.now_ms());
        }
    }

    /// Waits until everything queued so far is on disk.
    async fn durable(&self) {
        let lines = Arc::clone(&self.lines.read());
        let waits = lines.iter().map(|line| line.queue.durable(line.queue.end()));
        futures::future::join_all(waits).await;
    }

    /// How all destinations stand, in the order of the file.
    pub fn status(&self) -> Vec<DestinationStatus> {
        self.lines.read().iter().map(|line| line.status()).collect()
    }

    /// Appends what is counted in Prometheus' text format.
    pub fn write_metrics(&self, out: &mut String) {
        let lines = Arc::clone(&self.lines.read());
        let settings: Vec<_> = lines.iter().map(|line| line.settings.borrow().clone()).collect();
        let figures = lines.iter().zip(&settings).map(|(line, settings)| Figures {
            name: &settings.destination.name,
            url: &settings.destination.url,
            shards: settings.destination.shards,
            samples_per_send: settings.destination.samples_per_send,
            queue: line.queue.totals(),
            counters: &line.counters,
        });
        counters::write(out, &figures.collect::<Vec<_>>());
    }
}

impl Line {
    fn name(&self) -> String {
        self.settings.borrow().destination.name.clone()
    }

    fn status(&self) -> DestinationStatus {
        let settings = self.settings.borrow().clone();
        let (destination, queue, counters) =
            (&settings.destination, self.queue.totals(), &self.counters);
        let instant = |of: &AtomicI64| Some(of.load(Relaxed)).filter(|ms| *ms != 0);
        let lost = [queue.dropped_full, queue.dropped_failed, counters.unreadable.read()];
        DestinationStatus {
            name: destination.name.clone(),
            url: shown(&destination.url),
            protocol: match self.receiver.protocol(destination.protocol) {
                Protocol::V1 => "1.0",
                Protocol::V2 => "2.0",
            },
            rows_pending: queue.pending.all(),
            queue_bytes: queue.bytes,
            queue_bytes_max: destination.queue_bytes_max,
            rows_sent: counters.sent.read().all(),
            rows_retried: counters.retried.read().all(),
            rows_failed: counters.failed.read().all(),
            rows_lost: lost.into_iter().map(Counts::all).sum(),
            newest_queued_ms: instant(&counters.queued_ms),
            newest_sent_ms: instant(&counters.sent_ms),
            last_error: self.receiver.last_error.lock().clone(),
        }
    }

    fn end(&self) {
        self.stop.send_replace(true);
    }

    /// The same destination under other settings. What its receiver speaks is found out anew.
    fn go_on(&self, settings: Settings, seed: u64) -> Self {
        let selection = Selection::new(&settings.destination, seed);
        self.receiver.forget();
        self.settings.send_replace(Arc::new(settings));
        Self {
            selection,
            queue: Arc::clone(&self.queue),
            settings: self.settings.clone(),
            counters: Arc::clone(&self.counters),
            receiver: Arc::clone(&self.receiver),
            stop: self.stop.clone(),
        }
    }

    fn queue(&self, scope: &WriteScope, rows: &MetricRows<'_>, at_ms: i64) {
        let selected = self.selection.select(rows);
        let bytes_max = self.settings.borrow().destination.queue_bytes_max;
        for payload in selected.payloads {
            self.queue.append(&Record { tenant: scope.tenant(), at_ms, payload }, bytes_max);
        }
        self.counters.relabelled.add(selected.dropped);
        if let Some(newest_ms) = selected.newest_ms {
            self.counters.queued_ms.fetch_max(newest_ms, Relaxed);
        }
    }
}

/// Stores rows and queues them for the destinations that want them.
pub struct ForwardingAppender {
    inner: Arc<dyn Appender>,
    forwarder: Arc<Forwarder>,
}

impl std::fmt::Debug for ForwardingAppender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwardingAppender").finish_non_exhaustive()
    }
}

impl ForwardingAppender {
    /// Stands before `inner`.
    pub fn new(inner: Arc<dyn Appender>, forwarder: Arc<Forwarder>) -> Self {
        Self { inner, forwarder }
    }

    /// What queues the rows.
    pub fn forwarder(&self) -> &Arc<Forwarder> {
        &self.forwarder
    }
}

impl Appender for ForwardingAppender {
    fn append(
        &self,
        scope: &WriteScope,
        rows: &MetricRows<'_>,
    ) -> Result<Appended, storage::Error> {
        let appended = self.inner.append(scope, rows)?;
        // Of a request that is stored in part all goes on: the destination has rules of its own.
        if appended.position.is_some() {
            self.forwarder.queue(scope, rows);
        }
        Ok(appended)
    }

    fn durable(&self, position: Position) -> Durable<'_> {
        Box::pin(async move {
            let queued = self.forwarder.durable();
            let (stored, ()) = futures::future::join(self.inner.durable(position), queued).await;
            stored
        })
    }
}

/// Any bytes as a file of a queue and as what its records hold, for fuzzers.
pub(crate) fn fuzz(bytes: &[u8], check: impl Fn(&MetricRows<'_>)) {
    queue::fuzz(bytes);
    record::fuzz(bytes, check);
}
