//! The destinations that rows go on to: from the configuration to the forwarder.

use std::sync::Arc;

use anyhow::{Context, Result};
use ingest::Appender;
use ingest::forward::{ForwardFile, ForwardParts, Forwarder, ForwardingAppender, PreparedForward};
use model::{Clock, Disk, OsRandom};
use tenancy::Authenticator;

use crate::config::Config;
use crate::reload::{Commit, Reload};

/// Stands before the store, with a forwarder to what the configuration names at work.
pub(crate) async fn start(
    config: &Config,
    stored: Arc<dyn Appender>,
    authenticator: &Authenticator,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ForwardingAppender>> {
    let forwarder = Arc::new(Forwarder::new(ForwardParts {
        disk: Arc::clone(disk),
        clock: Arc::clone(clock),
        random: Arc::new(OsRandom),
        directory: Arc::clone(authenticator.directory()),
    }));
    let (of_queues, config) = (Arc::clone(&forwarder), config.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&of_queues, &config)).await??;
    forwarder.take_over(prepared);
    Ok(Arc::new(ForwardingAppender::new(stored, forwarder)))
}

fn prepare(forwarder: &Forwarder, config: &Config) -> Result<PreparedForward> {
    let file = read(config)?;
    for note in &file.notes {
        tracing::warn!(note, "configuration of forwarding");
    }
    forwarder.prepare(&file).context("ingest.forward.config_file")
}

/// The destinations that the configuration names; none if it names no file.
pub(crate) fn read(config: &Config) -> Result<ForwardFile> {
    ForwardFile::read(&config.ingest.forward.config_file).context("ingest.forward.config_file")
}

/// The forwarder as a part that goes on under another configuration.
pub(crate) struct Reloaded(pub(crate) Arc<Forwarder>);

impl Reload for Reloaded {
    fn keys(&self) -> &'static [&'static str] {
        &["ingest.forward"]
    }

    fn prepare(&self, config: &Config) -> Result<Commit> {
        let (forwarder, prepared) = (Arc::clone(&self.0), prepare(&self.0, config)?);
        Ok(Box::new(move || forwarder.take_over(prepared)))
    }
}
