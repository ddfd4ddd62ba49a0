//! One destination: its rows go from the queue to the receiver, some requests at a time.
//!
//! A request is repeated until the receiver takes it (2xx) or says that it never will. So rows
//! arrive at least once, and the rows of a series in their order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use model::{Clock, Random};
use parking_lot::Mutex;
use tenancy::Directory;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::answer::{Attempt, judge};
use super::config::{Destination, Protocol};
use super::counters::Counters;
use super::known::Known;
use super::plan::{Form, Lane, Plan, Request, plan};
use super::queue::{Batch, BatchMax, Queue};
use crate::http_client::Client;

/// How often the cursor is written down, and what nobody waits for is synced.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// A pause after the queue could not be read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(5);

/// How long a batch may go on after it is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Bytes of payloads that are held at a time, decompressed.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// After this long a receiver of 1.0 is offered 2.0 again: it may have been replaced.
const OFFER_AGAIN: Duration = Duration::from_secs(3600);

/// How often the log tells that rows were refused for ever; the counters tell all.
const REFUSAL_TOLD_EVERY: Duration = Duration::from_secs(10);

/// What a destination is sent with; replaced as a whole.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) destination: Destination,
    pub(super) client: Client,
}

/// What is known of a receiver.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// It said by its answers that it speaks 2.0.
    pub(super) speaks_v2: AtomicBool,
    /// When it was found not to, in monotonic time.
    wants_v1: Mutex<Option<Duration>>,
    /// It takes nothing at the moment, and that was told.
    is_away: AtomicBool,
    /// What was wrong with the last attempt; empty if nothing was.
    pub(super) last_error: Mutex<String>,
    /// When it was told last that it refused rows for ever, in monotonic time.
    refusal_told: Mutex<Option<Duration>>,
}

impl Receiver {
    /// It may be another one from now on.
    pub(super) fn forget(&self) {
        self.speaks_v2.store(false, Relaxed);
        *self.wants_v1.lock() = None;
    }

    /// What it is sent, where `offered` is sent first.
    pub(super) fn protocol(&self, offered: Protocol) -> Protocol {
        if self.wants_v1.lock().is_some() { Protocol::V1 } else { offered }
    }

    /// Whether a refusal is told; not each of many.
    fn tells_refusal(&self, now: Duration) -> bool {
        let mut told = self.refusal_told.lock();
        let is_due = told.is_none_or(|told| now.saturating_sub(told) >= REFUSAL_TOLD_EVERY);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

/// Sends what a queue holds.
pub(super) struct Sender {
    pub(super) queue: Arc<Queue>,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) counters: Arc<Counters>,
    pub(super) directory: Arc<Directory>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) receiver: Arc<Receiver>,
    pub(super) known: Mutex<Known>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Done,
    /// It must be sent in another form.
    Again,
}

impl Sender {
    /// Sends until told to stop. What is not sent then waits on disk.
    pub(super) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let mut kept = this.clock.monotonic();
        loop {
            tokio::select! {
                () = this.wait_for_rows() => {}
                () = stopped(&mut stopping) => break,
            }
            let round = this.round();
            tokio::pin!(round);
            let (ended, is_last) = tokio::select! {
                ended = &mut round => (Some(ended), false),
                () = stopped(&mut stopping) => {
                    (tokio::time::timeout(STOP_GRACE, &mut round).await.ok(), true)
                }
            };
            if is_last {
                break;
            }
            if let Some(Err(error)) = ended {
                error!(%error, "the queue of a destination could not be read");
                tokio::select! {
                    () = tokio::time::sleep(UNREADABLE_PAUSE) => {}
                    () = stopped(&mut stopping) => break,
                }
            }
            let now = this.clock.monotonic();
            if now.saturating_sub(kept) >= KEEP_EVERY {
                this.keep().await;
                kept = now;
            }
        }
        this.keep().await;
    }

    /// Writes the cursor down, and syncs what was queued and nobody waits for.
    async fn keep(&self) {
        self.queue.durable(self.queue.end()).await;
        let queue = Arc::clone(&self.queue);
        if let Err(error) = tokio::task::spawn_blocking(move || queue.keep_cursor()).await {
            warn!(%error, "the cursor of a queue was not written");
        }
    }

    /// Returns when a request is full, or rows have waited long enough.
    async fn wait_for_rows(&self) {
        while !self.queue.totals().has_more {
            let arrived = tokio::time::timeout(KEEP_EVERY, self.queue.arrived.notified());
            if arrived.await.is_err() {
                self.keep().await;
            }
        }
        let (full, wait) = {
            let settings = self.settings.borrow();
            (settings.destination.samples_per_send as u64, settings.destination.batch_wait())
        };
        let enough = async {
            while self.queue.totals().pending.all() < full {
                self.queue.arrived.notified().await;
            }
        };
        // Too few, but they have waited.
        let _ = tokio::time::timeout(wait, enough).await;
    }

    /// Sends one batch.
    async fn round(self: &Arc<Self>) -> io::Result<()> {
        let settings = Arc::clone(&self.settings.borrow());
        let protocol = self.protocol(&settings.destination);
        let (this, of_plan) = (Arc::clone(self), Arc::clone(&settings));
        let planned = tokio::task::spawn_blocking(move || this.plan(&of_plan, protocol)).await;
        let (batch, plan) = planned.map_err(io::Error::other)??;
        let lanes_max = settings.destination.shards.1;
        self.counters.shards.store(plan.lanes.len().min(lanes_max) as u64, Relaxed);
        let lanes = plan.lanes.into_iter().map(|lane| self.send_lane(&settings, lane, protocol));
        let mut lanes = futures::stream::iter(lanes).buffer_unordered(lanes_max);
        let mut sent = Sent::Done;
        while let Some(of_lane) = lanes.next().await {
            if of_lane == Sent::Again {
                sent = Sent::Again;
            }
        }
        if sent == Sent::Done {
            self.counters.left_out(&plan.left_out);
            self.queue.sent(&batch);
        }
        Ok(())
    }

    fn plan(&self, settings: &Settings, protocol: Protocol) -> io::Result<(Batch, Plan)> {
        let destination = &settings.destination;
        let (rows, lanes) = (destination.samples_per_send, destination.shards);
        let waiting = self.queue.totals().pending.all();
        self.counters.shards_desired.store(waiting.div_ceil(rows as u64), Relaxed);
        let batch =
            self.queue.read(BatchMax { rows: (rows * lanes.1) as u64, bytes: BATCH_BYTES_MAX })?;
        let form = Form {
            protocol,
            rows_max: rows,
            lanes,
            org_id: &destination.org_id,
            metadata_every: destination.metadata_every(),
            now: self.clock.monotonic(),
            oldest_ms: destination.age_max_ms.map(|max| self.clock.now_ms().saturating_sub(max)),
        };
        let name_of = |tenant| self.directory.get(tenant).map(|tenant| tenant.name.clone());
        let planned = plan(&batch, form, &mut self.known.lock(), name_of);
        Ok((batch, planned))
    }

    fn protocol(&self, destination: &Destination) -> Protocol {
        let now = self.clock.monotonic();
        let is_over = |since: &mut Duration| now.saturating_sub(*since) > OFFER_AGAIN;
        self.receiver.wants_v1.lock().take_if(is_over);
        self.receiver.protocol(destination.protocol)
    }

    async fn send_lane(&self, settings: &Arc<Settings>, lane: Lane, protocol: Protocol) -> Sent {
        for request in lane.requests {
            let sent = self.deliver(settings, &lane.org_id, &request, protocol).await;
            if sent == Sent::Again {
                return Sent::Again;
            }
        }
        Sent::Done
    }

    /// Repeats one request until it is taken or never will be, or the settings it was planned under
    /// are no longer in force: a reload mends what is wrong with them.
    async fn deliver(
        &self,
        settings: &Arc<Settings>,
        org_id: &str,
        request: &Request,
        protocol: Protocol,
    ) -> Sent {
        let mut in_force = self.settings.clone();
        let name = settings.destination.name.as_str();
        let mut pause = settings.destination.backoff_min();
        loop {
            if !Arc::ptr_eq(&in_force.borrow_and_update(), settings) {
                return Sent::Again;
            }
            self.counters.sent.add(request.counts);
            self.counters.metadata.fetch_add(request.families, Relaxed);
            match self.attempt(settings, org_id, request, protocol).await {
                Attempt::Taken => {
                    self.counters.taken(request.newest_ms);
                    self.receiver.last_error.lock().clear();
                    if self.receiver.is_away.swap(false, Relaxed) {
                        info!(destination = name, "the destination takes rows again");
                    }
                    return Sent::Done;
                }
                Attempt::Never(why) => {
                    self.counters.failed.add(request.counts);
                    self.counters.metadata_failed.fetch_add(request.families, Relaxed);
                    if self.receiver.tells_refusal(self.clock.monotonic()) {
                        let rows = request.counts.all();
                        warn!(
                            destination = name,
                            rows, why, "the destination refused rows for ever"
                        );
                    }
                    *self.receiver.last_error.lock() = why;
                    return Sent::Done;
                }
                Attempt::WantsV1(why) => {
                    let mut wants_v1 = self.receiver.wants_v1.lock();
                    if wants_v1.replace(self.clock.monotonic()).is_none() {
                        info!(
                            destination = name,
                            why, "the destination takes no remote write 2.0, sending 1.0"
                        );
                    }
                    return Sent::Again;
                }
                Attempt::Later { why, wait } => {
                    self.counters.retried.add(request.counts);
                    self.counters.metadata_retried.fetch_add(request.families, Relaxed);
                    if !self.receiver.is_away.swap(true, Relaxed) {
                        warn!(destination = name, why, "the destination takes no rows now");
                    }
                    *self.receiver.last_error.lock() = why;
                    let wait = wait.unwrap_or_else(|| self.jittered(pause));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        Ok(()) = in_force.changed() => {}
                    }
                    pause = (2 * pause).min(settings.destination.backoff_max());
                }
            }
        }
    }

    /// Half of a pause and a random part of the other half: senders that failed together do not
    /// come back together.
    fn jittered(&self, pause: Duration) -> Duration {
        let part = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        pause.mul_f64(0.5 + 0.5 * part)
    }

    async fn attempt(
        &self,
        settings: &Settings,
        org_id: &str,
        request: &Request,
        protocol: Protocol,
    ) -> Attempt {
        let destination = &settings.destination;
        let (kind, version) = match protocol {
            Protocol::V1 => ("application/x-protobuf", "0.1.0"),
            Protocol::V2 => {
                ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0")
            }
        };
        let mut headers = vec![
            ("content-encoding", "snappy".to_owned()),
            ("content-type", kind.to_owned()),
            ("x-prometheus-remote-write-version", version.to_owned()),
        ];
        if !org_id.is_empty() {
            headers.push(("x-scope-orgid", org_id.to_owned()));
        }
        self.counters.bytes.fetch_add(request.body.len() as u64, Relaxed);
        let begun = self.clock.monotonic();
        let body = request.body.clone();
        let posted = settings.client.post(&destination.url, &headers, body, destination.timeout());
        let posted = posted.await;
        self.counters.took(self.clock.monotonic().saturating_sub(begun));
        let now_ms = self.clock.now_ms();
        judge(posted, protocol, destination.retry_429, &self.receiver.speaks_v2, now_ms)
    }
}

/// Returns once the sender of the signal says so or is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}
