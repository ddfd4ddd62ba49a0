//! The listeners: bytes in, batches of messages to the intake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::frames::{Frame, next};
use super::{Batch, SyslogConfig};
use crate::intake::Refusal;
use crate::logs::EntryIntake;
use crate::logs::listener::{self, Connection, Tenant};
use crate::metrics::Lost;

/// Bytes of messages that are stored together.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Datagrams that may wait. Of 64 KiB each at most, usually of some hundred bytes.
const DATAGRAMS_WAITING_MAX: usize = 4_096;

/// How long messages of a datagram wait for more to be stored with them.
const GATHERING: Duration = Duration::from_millis(50);

/// Takes datagrams until `stopping`: each is a message.
pub async fn serve_udp(
    socket: UdpSocket,
    config: SyslogConfig,
    tenant: Tenant,
    intake: Arc<EntryIntake>,
    mut stopping: watch::Receiver<bool>,
) {
    let (send, receive) = mpsc::channel(DATAGRAMS_WAITING_MAX);
    let storing =
        tokio::spawn(store_datagrams(receive, config.clone(), tenant, Arc::clone(&intake)));
    let metrics = Arc::clone(&intake.intake.metrics);
    let mut buffer = vec![0; (64 << 10) + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
        };
        match received {
            Ok((bytes, _)) if bytes > config.message_bytes_max => {
                metrics.entries.lost(Lost::Malformed, 1);
            }
            Ok((0, _)) => {}
            Ok((bytes, _)) => {
                if send.try_send(buffer[..bytes].to_vec()).is_err() {
                    metrics.entries.lost(Lost::QueueFull, 1);
                }
            }
            // What another host answers to us: nothing that ends the socket.
            Err(why) => {
                debug!(error = &why as &dyn std::error::Error, "receive syslog datagram");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    drop(send);
    // What was received is stored before the store is closed.
    if let Err(why) = storing.await {
        warn!(error = &why as &dyn std::error::Error, "storing syslog datagrams ended");
    }
}

async fn store_datagrams(
    mut receive: mpsc::Receiver<Vec<u8>>,
    config: SyslogConfig,
    tenant: Tenant,
    intake: Arc<EntryIntake>,
) {
    while let Some(first) = receive.recv().await {
        let mut gathered = Gathered::new(&config);
        gathered.push(&first);
        let until = tokio::time::Instant::now() + GATHERING;
        while gathered.bytes.len() < BATCH_BYTES_MAX
            && let Ok(Some(more)) = tokio::time::timeout_at(until, receive.recv()).await
        {
            gathered.push(&more);
        }
        let messages = gathered.batch.messages.len() as u64;
        if gathered.store(&tenant, &intake).await.is_err() {
            intake.intake.metrics.entries.lost(Lost::Refused, messages);
        }
    }
}

/// Messages that are stored together.
struct Gathered {
    bytes: Vec<u8>,
    batch: Batch,
}

impl Gathered {
    fn new(config: &SyslogConfig) -> Self {
        let offset_seconds = i64::from(config.utc_offset_minutes) * 60;
        Self { bytes: Vec::new(), batch: Batch { messages: Vec::new(), offset_seconds } }
    }

    fn push(&mut self, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.batch.messages.push(start..self.bytes.len());
    }

    /// One attempt.
    async fn store(&self, tenant: &Tenant, intake: &Arc<EntryIntake>) -> Result<(), Refusal> {
        let scope = tenant.scope()?;
        let (messages, offset_seconds) = (self.batch.messages.clone(), self.batch.offset_seconds);
        let batch = Batch { messages, offset_seconds };
        intake.write_bytes(&scope, self.bytes.clone(), batch).await.map(drop)
    }
}

/// Takes connections until `stopping`.
pub async fn serve_tcp(
    listener: TcpListener,
    config: SyslogConfig,
    tenant: Tenant,
    intake: Arc<EntryIntake>,
    stopping: watch::Receiver<bool>,
) {
    let connections_max = config.connections_max;
    let each = Connection { config, tenant, intake, stopping };
    listener::accept(listener, connections_max, each, |one, stream| one.read(stream)).await;
}

impl Connection<SyslogConfig> {
    /// Reads until the end. What came is stored before more is read: the sender waits meanwhile.
    async fn read(mut self, mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
        let idle = Duration::from_secs(self.config.idle_seconds_max);
        let mut bytes = Vec::with_capacity(16 << 10);
        loop {
            let room = (self.config.message_bytes_max + 16).max(BATCH_BYTES_MAX);
            let mut limited = (&mut stream).take((room - bytes.len().min(room)) as u64 + 1);
            let read = tokio::select! {
                read = tokio::time::timeout(idle, limited.read_buf(&mut bytes)) => read,
                _ = self.stopping.wait_for(|is_stopping| *is_stopping) => return Ok(()),
            };
            let count = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let mut gathered = Gathered::new(&self.config);
            let (used, wrong) = self.frames(&bytes, &mut gathered);
            bytes.drain(..used);
            if count == 0 && wrong.is_none() && !bytes.is_empty() {
                // The last message of a stream need not have a line feed.
                gathered.push(&bytes);
            }
            self.store(&gathered).await;
            if let Some(why) = wrong {
                self.intake.intake.metrics.entries.lost(Lost::Malformed, 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Gathers whole messages; how many bytes they take, and what is wrong with the next.
    fn frames(&self, bytes: &[u8], gathered: &mut Gathered) -> (usize, Option<&'static str>) {
        let mut used = 0;
        loop {
            match next(&bytes[used..], self.config.message_bytes_max) {
                Frame::Message(place, after) => {
                    if !place.is_empty() {
                        gathered.push(&bytes[used + place.start..used + place.end]);
                    }
                    used += after;
                }
                Frame::Partial => return (used, None),
                Frame::Wrong(why) => return (used, Some(why)),
            }
        }
    }

    /// Tries until it is stored or never can be.
    async fn store(&self, gathered: &Gathered) {
        let messages = gathered.batch.messages.len() as u64;
        if messages == 0 {
            return;
        }
        let store = || gathered.store(&self.tenant, &self.intake);
        if listener::store_at_last(self.stopping.clone(), store).await.is_err() {
            self.intake.intake.metrics.entries.lost(Lost::Refused, messages);
        }
    }
}
