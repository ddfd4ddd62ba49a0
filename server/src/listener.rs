//! The port: takes connections, with TLS if there are certificates, and says where they come from.
//!
//! ```text
//! TCP ─► (first byte: TLS or plain HTTP?) ─► handshake, many at a time ─► requests with a `Peer`
//! ```

mod certificate;
mod counters;
mod stream;
mod tls;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::middleware::AddExtension;
use axum::serve::IncomingStream;
use axum::{Extension, Router};
use tenancy::Peer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::{Layer, Service};

pub(crate) use counters::Counters;
use counters::Handshake;
use stream::Stream;
pub(crate) use tls::{Tls, TlsConfig};

/// How long to wait when the system has no room for a connection: descriptors come free meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The first byte of every TLS connection: a handshake record (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// What whoever speaks HTTP without TLS is told, so that it shows in the client.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 59\r\nConnection: close\r\n\r\n\
    this port speaks HTTPS only: use https:// in place of http\n";

/// How much of a plain request is read before the connection ends, bytes: were it closed with
/// something unread, the client would see a reset instead of the answer.
const DRAINED_BYTES_MAX: u64 = 256 << 10;

/// Takes connections.
#[derive(Debug)]
pub(crate) struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    handshakes: JoinSet<Option<(Stream, Peer)>>,
    handshakes_max: usize,
    handshake_time_max: Duration,
    counters: Arc<Counters>,
}

impl Listener {
    pub(crate) async fn bind(
        address: SocketAddr,
        config: &TlsConfig,
        tls: Option<Arc<Tls>>,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        let bound = TcpListener::bind(address).await;
        let tcp = bound.with_context(|| format!("listen on {address}"))?;
        let address = tcp.local_addr().context("ask for the address that is listened on")?;
        Ok(Self {
            tcp,
            address,
            tls,
            handshakes: JoinSet::new(),
            handshakes_max: config.handshakes_max,
            handshake_time_max: Duration::from_secs(config.handshake_seconds_max),
            counters,
        })
    }

    /// A connection that came; with TLS it is set up on a task of its own.
    fn came(&mut self, stream: TcpStream, address: SocketAddr) -> Option<(Stream, Peer)> {
        // Answers are written whole; waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
        let Some(tls) = &self.tls else {
            return Some((Stream::Plain(stream), Peer { address, certificate: None }));
        };
        let acceptor = TlsAcceptor::from(tls.for_connection());
        let (counters, time_max) = (Arc::clone(&self.counters), self.handshake_time_max);
        counters.begun();
        self.handshakes.spawn(async move {
            let set_up = tokio::time::timeout(time_max, set_up(stream, address, &acceptor)).await;
            let (how, connection) = set_up.unwrap_or((Handshake::TimedOut, None));
            counters.ended(how);
            connection
        });
        None
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Stream, Peer) {
        loop {
            let has_room = self.handshakes.len() < self.handshakes_max;
            tokio::select! {
                accepted = self.tcp.accept(), if has_room => match accepted {
                    Ok((stream, address)) => {
                        if let Some(connection) = self.came(stream, address) {
                            return connection;
                        }
                    }
                    Err(error) if is_of_connection(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "connections cannot be taken");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = ended {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.address, certificate: None })
    }
}

/// Whether the error is about one connection that went away before it was taken.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn set_up(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
) -> (Handshake, Option<(Stream, Peer)>) {
    match stream.peek(&mut [0]).await {
        Ok(0) | Err(_) => return (Handshake::Failed, None),
        Ok(_) if !is_tls(&stream).await => {
            tell_plain_client(stream).await;
            tracing::debug!(%address, "a client spoke HTTP without TLS");
            return (Handshake::PlainHttp, None);
        }
        Ok(_) => {}
    }
    match acceptor.accept(stream).await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = shown.map(|der| Arc::new(certificate::names_of(der)));
            let stream = Stream::Tls(Box::new(stream));
            (Handshake::Done, Some((stream, Peer { address, certificate })))
        }
        Err(error) => {
            tracing::debug!(%address, %error, "no TLS connection");
            (Handshake::Failed, None)
        }
    }
}

async fn is_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1) if first[0] == HANDSHAKE_RECORD)
}

/// Says why there is no answer. Whether the client hears it is its own affair.
async fn tell_plain_client(mut stream: TcpStream) {
    if stream.write_all(NOT_TLS).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut rest = stream.take(DRAINED_BYTES_MAX);
        let mut nowhere = tokio::io::sink();
        let drained = tokio::io::copy(&mut rest, &mut nowhere);
        // Some clients keep the connection open.
        let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
    }
}

/// Gives each connection a service that tells the handlers of its requests where they come from.
#[derive(Debug, Clone)]
pub(crate) struct WithPeers(pub(crate) Router);

impl Service<IncomingStream<'_, Listener>> for WithPeers {
    type Response = AddExtension<Router, Peer>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, stream: IncomingStream<'_, Listener>) -> Self::Future {
        ready(Ok(Extension(stream.remote_addr().clone()).layer(self.0.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_clients_has_the_length_it_says() {
        let text = std::str::from_utf8(NOT_TLS).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
