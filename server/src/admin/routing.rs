//! Where the table of namespaces comes from: a file that is looked at, or what administrators put.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use ingest::bounded_file;
use model::Disk;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenancy::{Act, Admin, Authenticator, Ownership, RoutingFile, RoutingTable};
use tokio::sync::watch;

use super::{Failure, json_of, success};
use crate::config::Config;
use crate::look::look_again;
use crate::reload::{Commit, Reload};
use crate::routes::Parts;

/// Length of a table in a request, bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;

/// Entries that a record of changes shows, of those that came and of those that went.
const SHOWN_MAX: usize = 20;

/// The table in force and where it comes from.
pub(crate) struct Routing {
    authenticator: Arc<Authenticator>,
    disk: Arc<dyn Disk>,
    source: Mutex<Source>,
    /// Whether the file, as it is, is not what is in force.
    is_stale: AtomicBool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Source {
    /// Empty: what administrators put.
    file: PathBuf,
    /// What the file held when it was read last, right or wrong.
    text: String,
}

impl std::fmt::Debug for Routing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routing").field("file", &self.source.lock().file).finish_non_exhaustive()
    }
}

impl Routing {
    /// Puts the configured table in force. Blocks.
    pub(crate) fn open(
        config: &Config,
        authenticator: Arc<Authenticator>,
        disk: Arc<dyn Disk>,
    ) -> Result<Arc<Self>> {
        let routing = Arc::new(Self {
            authenticator,
            disk,
            source: Mutex::default(),
            is_stale: AtomicBool::new(false),
        });
        routing.prepare(config)?();
        Ok(routing)
    }

    fn read(&self, file: &Path) -> Result<(String, RoutingTable)> {
        if file.as_os_str().is_empty() {
            let stored =
                tenancy::read_stored(&*self.disk).context("read the routing of namespaces")?;
            return Ok((
                String::new(),
                self.authenticator.prepare_routing(stored.unwrap_or_default())?,
            ));
        }
        let text = bounded_file::read_text(file);
        let text = text.with_context(|| format!("read routing_file {}", file.display()))?;
        let table = self.table_of(file, &text)?;
        Ok((text, table))
    }

    fn table_of(&self, file: &Path, text: &str) -> Result<RoutingTable> {
        let wrong = || format!("routing_file {} is wrong", file.display());
        let read: RoutingFile = toml::from_str(text).with_context(wrong)?;
        self.authenticator.prepare_routing(read).with_context(wrong)
    }

    /// Looks at the file until told to stop.
    pub(crate) async fn watch(self: Arc<Self>, stopping: watch::Receiver<bool>) {
        look_again("the routing file", self, Self::look, stopping).await;
    }

    fn look(&self) {
        let before = self.source.lock().clone();
        if before.file.as_os_str().is_empty() {
            return;
        }
        let read = bounded_file::read_text(&before.file).map_err(anyhow::Error::from);
        let text = match read {
            Ok(text) if text == before.text => return,
            Ok(text) => text,
            Err(error) => return self.refuse(&error),
        };
        let table = self.table_of(&before.file, &text);
        // A reload meanwhile knows better.
        let mut source = self.source.lock();
        if *source != before {
            return;
        }
        source.text = text;
        match table {
            Ok(table) => {
                tracing::info!(entries = table.entries().len(), "took over the routing file");
                self.authenticator.take_over_routing(table);
                self.is_stale.store(false, Relaxed);
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&self, error: &anyhow::Error) {
        if !self.is_stale.swap(true, Relaxed) {
            let error = format!("{error:#}");
            tracing::error!(error, "the routing file was not taken over, the one before stays");
        }
    }

    /// Appends what is counted in Prometheus' text format.
    pub(crate) fn write_metrics(&self, out: &mut String) {
        use std::fmt::Write;
        let mut gauge = |name: &str, help: &str, value: usize| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        };
        gauge(
            "taffrail_routing_entries",
            "Namespaces and times that have an owner.",
            self.authenticator.routing().entries().len(),
        );
        gauge(
            "taffrail_routing_last_reload_successful",
            "Whether the routing file is what is in force.",
            usize::from(!self.is_stale.load(Relaxed)),
        );
    }
}

impl Reload for Arc<Routing> {
    fn keys(&self) -> &'static [&'static str] {
        &["routing_file"]
    }

    fn prepare(&self, config: &Config) -> Result<Commit> {
        let file = config.routing_file.clone();
        let (text, table) = self.read(&file)?;
        let this = Self::clone(self);
        Ok(Box::new(move || {
            let mut source = this.source.lock();
            *source = Source { file, text };
            this.authenticator.take_over_routing(table);
            this.is_stale.store(false, Relaxed);
        }))
    }
}

/// The table in force.
pub(super) async fn show(State(parts): State<Parts>, Admin(_): Admin) -> Response {
    let source = match parts.routing.source.lock().file.as_os_str().is_empty() {
        true => "stored",
        false => "file",
    };
    let table = parts.authenticator.routing();
    success(json!({ "source": source, "namespaces": table.entries() }))
}

/// Another table in the place of the one in force.
pub(super) async fn put(
    State(parts): State<Parts>,
    Admin(who): Admin,
    body: Bytes,
) -> Result<Response, Failure> {
    let asked: RoutingFile = json_of(&body)?.ok_or_else(|| {
        Failure::bad(
            "the body is empty; send {\"namespaces\": [{\"cluster\": \"c\", \"namespace\": \"n\", \"tenant\": \"t\"}]}",
        )
    })?;
    let routing = Arc::clone(&parts.routing);
    if !routing.source.lock().file.as_os_str().is_empty() {
        return Err(Failure::conflict(
            "namespaces are routed by routing_file; change that file, or take the key out of the configuration",
        ));
    }
    let (old, new) = compared(parts.authenticator.routing().entries(), &asked.namespaces);
    let entries = asked.namespaces.len();
    let work = move || -> Result<(), Failure> {
        let table = routing.authenticator.prepare_routing(asked.clone());
        let table = table.map_err(|error| Failure::bad(storage::error_text(&error)))?;
        // Tables take their places in the order in which they are written down.
        let source = routing.source.lock();
        if !source.file.as_os_str().is_empty() {
            return Err(Failure::conflict("the routing file was configured meanwhile"));
        }
        tenancy::write_stored(&*routing.disk, &asked).map_err(|e| Failure::unavailable(&e))?;
        routing.authenticator.take_over_routing(table);
        Ok(())
    };
    let act = Act { who: &who.actor(), action: "routing.replace", tenant: None, old, new };
    let work = async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(Failure::unavailable(&error)))
    };
    parts.authenticator.recorded(act, work).await??;
    Ok(success(json!({ "entries": entries })))
}

/// How many entries there were and are, with the first of those that went and came.
fn compared(before: &[Ownership], after: &[Ownership]) -> (Value, Value) {
    let key = |entry: &Ownership| serde_json::to_string(entry).unwrap_or_default();
    let known = |entries: &[Ownership]| -> std::collections::HashSet<String> {
        entries.iter().map(key).collect()
    };
    let (old, new) = (known(before), known(after));
    let only = |of: &[Ownership], other: &std::collections::HashSet<String>| -> Vec<Value> {
        let only = of.iter().filter(|entry| !other.contains(&key(entry)));
        only.take(SHOWN_MAX).map(|entry| json!(entry)).collect()
    };
    (
        json!({ "entries": before.len(), "went": only(before, &new) }),
        json!({ "entries": after.len(), "came": only(after, &old) }),
    )
}
