//! The port: takes connections and says where they come from.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::middleware::AddExtension;
use axum::serve::IncomingStream;
use axum::{Extension, Router};
use tenancy::Peer;
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service};

/// How long to wait when the system has no room for a connection: descriptors come free meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Takes connections.
#[derive(Debug)]
pub(crate) struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
}

impl Listener {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self> {
        let bound = TcpListener::bind(address).await;
        let tcp = bound.with_context(|| format!("listen on {address}"))?;
        let address = tcp.local_addr().context("ask for the address that is listened on")?;
        Ok(Self { tcp, address })
    }
}

impl axum::serve::Listener for Listener {
    type Io = TcpStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (TcpStream, Peer) {
        loop {
            match self.tcp.accept().await {
                Ok((stream, address)) => {
                    // Answers are written whole; waiting for more to send only delays them.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY not set");
                    }
                    return (stream, Peer { address });
                }
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "connections cannot be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.address })
    }
}

/// Whether the error is about one connection that went away before it was taken.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A service for each connection that tells the handlers of its requests where they come from.
pub(crate) fn with_peers(
    router: Router,
) -> impl for<'a> Service<
    IncomingStream<'a, Listener>,
    Response = AddExtension<Router, Peer>,
    Error = Infallible,
    Future = Ready<Result<AddExtension<Router, Peer>, Infallible>>,
> + Send
+ 'static {
    tower::service_fn(move |stream: IncomingStream<'_, Listener>| {
        ready(Ok(Extension(stream.remote_addr().clone()).layer(router.clone())))
    })
}
