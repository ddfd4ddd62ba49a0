//! Files that change while we serve: looked at again and again until it is time to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::assemble::stopped;

/// How often files are looked at: certificates are renewed days before they end, and a new workspace
/// waits no longer for its namespaces.
const EVERY: Duration = Duration::from_secs(10);

/// Calls `look`, which may block, every ten seconds until told to stop; `what` is looked at.
pub(crate) async fn look_again<T: Send + Sync + 'static>(
    what: &str,
    of: Arc<T>,
    look: fn(&T),
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stopped(&mut stopping) => return,
        }
        let of = Arc::clone(&of);
        if let Err(error) = tokio::task::spawn_blocking(move || look(&of)).await {
            tracing::error!(%error, what, "not looked at");
        }
    }
}
