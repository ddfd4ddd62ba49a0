//! The listener: messages in, acknowledgements out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::msgpack::Scanner;
use super::{FluentConfig, Message, chunk_of};
use crate::logs::EntryIntake;
use crate::logs::listener::{self, Connection, Tenant};
use crate::metrics::Lost;

/// Longest name of a chunk that is acknowledged, bytes; Fluentd's have 24.
const CHUNK_BYTES_MAX: usize = 255;

/// Takes connections until `stopping`.
pub async fn serve(
    listener: TcpListener,
    config: FluentConfig,
    tenant: Tenant,
    intake: Arc<EntryIntake>,
    stopping: watch::Receiver<bool>,
) {
    let connections_max = config.connections_max;
    let each = Connection { config, tenant, intake, stopping };
    listener::accept(listener, connections_max, each, |one, stream| one.read(stream)).await;
}

impl Connection<FluentConfig> {
    /// Reads until the end. A message is stored before the next is read: the sender waits meanwhile.
    async fn read(mut self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let idle = Duration::from_secs(self.config.idle_seconds_max);
        let mut bytes = Vec::with_capacity(16 << 10);
        let mut scanner = Scanner::default();
        loop {
            match scanner.scan(&bytes, self.config.message_bytes_max) {
                Ok(Some(end)) => {
                    let rest = bytes.split_off(end);
                    let message = std::mem::replace(&mut bytes, rest);
                    scanner = Scanner::default();
                    self.take(message, &mut stream).await?;
                    continue;
                }
                Ok(None) => {}
                Err(why) => return Err(self.wrong(why)),
            }
            let read = tokio::select! {
                read = tokio::time::timeout(idle, stream.read_buf(&mut bytes)) => read,
                _ = self.stopping.wait_for(|is_stopping| *is_stopping) => return Ok(()),
            };
            let count = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if count == 0 {
                return Ok(());
            }
        }
    }

    fn wrong(&self, why: &'static str) -> io::Error {
        self.intake.intake.metrics.entries.lost(Lost::Malformed, 1);
        io::Error::new(io::ErrorKind::InvalidData, why)
    }

    async fn take(
        &self,
        message: Vec<u8>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        // Nothing but a sign of life.
        if message == [0xc0] {
            return Ok(());
        }
        let store = || async {
            let scope = self.tenant.scope()?;
            self.intake.write_bytes(&scope, message.clone(), Message::default()).await
        };
        if listener::store_at_last(self.stopping.clone(), store).await.is_err() {
            // What is not acknowledged comes again, if its sender knows of that.
            self.intake.intake.metrics.entries.lost(Lost::Refused, 1);
            let text = "the message was refused";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let chunk = chunk_of(&message).filter(|chunk| chunk.len() <= CHUNK_BYTES_MAX);
        let Some(chunk) = chunk else { return Ok(()) };
        let length = chunk.len() as u8;
        let ack = [&b"\x81\xa3ack\xd9"[..], &[length], chunk].concat();
        stream.write_all(&ack).await
    }
}
