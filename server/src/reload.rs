//! Another configuration without a restart, by SIGHUP or `POST /-/reload`.
//!
//! ```text
//! read and check the file ─► every part prepares (reads its own files, changes nothing)
//!                            ─► on record ─► every part takes over
//! ```
//!
//! Invariant: it is taken over whole or not at all. Whatever can fail fails while parts prepare.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use model::Clock;
use parking_lot::RwLock;
use query::Reloads;
use serde_json::json;
use tenancy::{Act, Actor, Authenticator};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::assemble::stopped;
use crate::cli::Serve;
use crate::config::Config;

/// Puts in force what was prepared. Cannot fail and takes no time.
pub(crate) type Commit = Box<dyn FnOnce() + Send>;

/// A part that goes on under another configuration.
pub(crate) trait Reload: Send + Sync {
    /// The keys it takes over, and the sections (all keys below them). All other keys wait for a
    /// restart, and whoever reloads is told so.
    fn keys(&self) -> &'static [&'static str];

    /// Checks all of it, files that the configuration names included, which are read again though
    /// no key changed. Changes nothing yet: an error here refuses the whole reload and is shown as
    /// it is, so it says which file, field and value. May block.
    fn prepare(&self, config: &Config) -> Result<Commit>;
}

/// What became of a reload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// Keys that have another value now.
    pub(crate) changed: Vec<String>,
    /// Keys whose new value waits for a restart.
    pub(crate) waiting: Vec<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "configuration reloaded; files that it names were read again")?;
        let list = |keys: &[String]| keys.join(", ");
        if !self.changed.is_empty() {
            writeln!(f, "changed: {}", list(&self.changed))?;
        }
        if !self.waiting.is_empty() {
            writeln!(f, "waiting for a restart: {}", list(&self.waiting))?;
        }
        Ok(())
    }
}

/// All values by their keys, with dots.
type Values = BTreeMap<String, toml::Value>;

/// Reloads, one at a time.
pub(crate) struct Reloader {
    arguments: Serve,
    parts: RwLock<Vec<Arc<dyn Reload>>>,
    /// The values in force.
    values: Mutex<Values>,
    authenticator: Arc<Authenticator>,
    clock: Arc<dyn Clock>,
    reloads: Arc<Reloads>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

impl Reloader {
    /// A reloader of what `arguments` say; `config` is what they said at the start.
    pub(crate) fn new(
        arguments: Serve,
        config: &Config,
        authenticator: Arc<Authenticator>,
        clock: Arc<dyn Clock>,
        reloads: Arc<Reloads>,
    ) -> Result<Self> {
        let (parts, values) = (RwLock::default(), Mutex::new(values_of(config)?));
        Ok(Self { arguments, parts, values, authenticator, clock, reloads })
    }

    /// Adds a part. It is asked from the next reload on.
    pub(crate) fn add(&self, part: Arc<dyn Reload>) {
        self.parts.write().push(part);
    }

    /// Reads the configuration again. Goes on although whoever asked hangs up.
    pub(crate) async fn reload(self: &Arc<Self>, who: Actor) -> Result<Reloaded> {
        let this = Arc::clone(self);
        let work = tokio::spawn(async move { this.reload_now(&who).await });
        let reloaded = work.await.unwrap_or_else(|e| Err(anyhow!("the reload was cut off: {e}")));
        match &reloaded {
            Ok(reloaded) => {
                self.reloads.succeeded(self.clock.now_ms());
                let (changed, waiting) = (reloaded.changed.join(" "), reloaded.waiting.join(" "));
                tracing::info!(changed, waiting, "configuration reloaded");
            }
            Err(error) => {
                self.reloads.failed(self.clock.now_ms());
                let error = format!("{error:#}");
                tracing::error!(error, "configuration not reloaded, the one before stays");
            }
        }
        reloaded
    }

    async fn reload_now(self: &Arc<Self>, who: &Actor) -> Result<Reloaded> {
        let mut values = self.values.lock().await;
        let this = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || this.prepare()).await?;
        let found = prepared.as_ref().map(|p| p.compare(&values)).unwrap_or_default();
        let new = json!({ "changed": found.changed, "waiting": found.waiting });
        let (old, action) = (serde_json::Value::Null, "config.reload");
        let act = Act { who, action, tenant: None, old, new };
        let take_over = async {
            let prepared = prepared.map_err(|e| format!("{e:#}"))?;
            prepared.commits.into_iter().for_each(|commit| commit());
            let live = prepared.values.into_iter().filter(|(key, _)| is_below(key, &prepared.keys));
            values.retain(|key, _| !is_below(key, &prepared.keys));
            values.extend(live);
            Ok::<_, String>(())
        };
        self.authenticator.recorded(act, take_over).await?.map_err(anyhow::Error::msg)?;
        Ok(found)
    }

    fn prepare(&self) -> Result<Prepared> {
        let config = Config::of(&self.arguments)?;
        let parts = self.parts.read().clone();
        let prepare = |part: &Arc<dyn Reload>| part.prepare(&config);
        Ok(Prepared {
            commits: parts.iter().map(prepare).collect::<Result<_>>()?,
            keys: parts.iter().flat_map(|part| part.keys()).copied().collect(),
            values: values_of(&config)?,
        })
    }

    /// Reloads at every SIGHUP until told to stop.
    pub(crate) fn on_hangup(
        self: Arc<Self>,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<JoinHandle<()>> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        Ok(tokio::spawn(async move {
            loop {
                tokio::select! {
                    // What it came to is in the log.
                    Some(()) = hangup.recv() => drop(self.reload(Actor::operator("SIGHUP")).await),
                    () = stopped(&mut stopping) => return,
                }
            }
        }))
    }
}

/// Everything that is checked and not yet in force.
struct Prepared {
    commits: Vec<Commit>,
    /// Keys and sections that are taken over.
    keys: Vec<&'static str>,
    values: Values,
}

impl Prepared {
    fn compare(&self, in_force: &Values) -> Reloaded {
        let new = self.values.iter().filter(|(key, value)| in_force.get(*key) != Some(value));
        let gone = in_force.keys().filter(|key| !self.values.contains_key(*key));
        let mut reloaded = Reloaded::default();
        for key in new.map(|(key, _)| key).chain(gone) {
            let list = match is_below(key, &self.keys) {
                true => &mut reloaded.changed,
                false => &mut reloaded.waiting,
            };
            list.push(key.clone());
        }
        reloaded
    }
}

/// Whether a key is among `keys` or in one of them that is a section.
fn is_below(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|k| key.strip_prefix(k).is_some_and(|r| r.is_empty() || r.starts_with('.')))
}

fn values_of(config: &Config) -> Result<Values> {
    let mut values = Values::new();
    let table = toml::Table::try_from(config).context("list the values of the configuration")?;
    flatten("", table, &mut values);
    Ok(values)
}

fn flatten(prefix: &str, table: toml::Table, out: &mut Values) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, out),
            value => drop(out.insert(format!("{prefix}{key}"), value)),
        }
    }
}

/// A part that is nothing but a function.
pub(crate) struct Part<F> {
    keys: &'static [&'static str],
    prepare: F,
}

impl<F: Fn(&Config) -> Result<Commit> + Send + Sync> Part<F> {
    pub(crate) fn new(keys: &'static [&'static str], prepare: F) -> Arc<Self> {
        Arc::new(Self { keys, prepare })
    }
}

impl<F: Fn(&Config) -> Result<Commit> + Send + Sync> Reload for Part<F> {
    fn keys(&self) -> &'static [&'static str] {
        self.keys
    }

    fn prepare(&self, config: &Config) -> Result<Commit> {
        (self.prepare)(config)
    }
}

#[cfg(test)]
mod tests;
