//! What the listeners beside HTTP have in common: whose everything is, and what may be tried again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tenancy::WriteScope;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::EntryIntake;
use crate::intake::Refusal;

/// How long a stream waits before it tries again to store what was refused for now.
const PAUSE: Duration = Duration::from_millis(500);

type Ask = dyn Fn() -> Result<WriteScope, String> + Send + Sync;

/// The tenant of a listener. It is asked for before each write: it may be suspended or have other
/// limits by then.
#[derive(Clone)]
pub struct Tenant(Arc<Ask>);

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tenant")
    }
}

impl Tenant {
    /// `ask` gives a scope to write, or says why there is none.
    pub fn new(ask: impl Fn() -> Result<WriteScope, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn scope(&self) -> Result<WriteScope, Refusal> {
        (self.0)().map_err(Refusal::Full)
    }
}

/// Whether what was refused may be stored later.
fn repeatable(refusal: &Refusal) -> bool {
    let (_, status) = refusal.kind();
    status.is_server_error() || status == axum::http::StatusCode::TOO_MANY_REQUESTS
}

/// One stream, and what it is read with.
#[derive(Clone)]
pub(super) struct Connection<C> {
    pub(super) config: C,
    pub(super) tenant: Tenant,
    pub(super) intake: Arc<EntryIntake>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Takes connections until it is time to stop, then waits for those that are open; each looks at
/// that itself.
pub(super) async fn accept<C, F>(
    listener: TcpListener,
    connections_max: usize,
    each: Connection<C>,
    read: impl Fn(Connection<C>, TcpStream) -> F,
) where
    C: Clone,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (metrics, mut stopping) = (Arc::clone(&each.intake.intake.metrics), each.stopping.clone());
    let room = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                // Out of file descriptors, for instance: that passes.
                warn!(error = &why as &dyn std::error::Error, "accept log connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            metrics.entries.connections_refused.fetch_add(1, Relaxed);
            continue;
        };
        let (reading, metrics) = (read(each.clone(), stream), Arc::clone(&metrics));
        connections.spawn(async move {
            let _permit = permit;
            metrics.entries.connections.fetch_add(1, Relaxed);
            if let Err(why) = reading.await {
                debug!(%peer, error = &why as &dyn std::error::Error, "log connection ended");
            }
            metrics.entries.connections.fetch_sub(1, Relaxed);
        });
    }
    while connections.join_next().await.is_some() {}
}

/// Tries to store until it is stored, or never can be, or `stopping`.
pub(super) async fn store_at_last<T, F>(
    mut stopping: watch::Receiver<bool>,
    store: impl Fn() -> F,
) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    loop {
        match store().await {
            Err(why) if repeatable(&why) && !*stopping.borrow() => {}
            done => return done,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
        }
    }
}
