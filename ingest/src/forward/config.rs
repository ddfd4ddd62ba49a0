//! Where rows are forwarded to: `remote_write` of Prometheus' configuration file, read strictly, and
//! `global.external_labels`. What is ours alone stands in `x-taffrail`. The other sections are not
//! looked at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenancy::TenantName;

use super::ForwardError;
use crate::bounded_file;
use crate::http_client::{Clients, HttpConfig};
use crate::relabel::{NameScheme, Rule};
use crate::scrape::config::rule;
use crate::yaml::{Fields, Node, Place, YamlError};

/// Where rows go on to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardConfig {
    /// Prometheus' configuration file with `remote_write`; empty: nothing is forwarded.
    pub config_file: PathBuf,
}

/// The messages of remote write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

/// One destination. Fields as in Prometheus' `remote_write` and `queue_config`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Destination {
    /// What it is called in messages, metrics and on disk: its queue goes with the name.
    pub(super) name: String,
    pub(super) url: String,
    timeout_ms: i64,
    /// What is offered first.
    pub(super) protocol: Protocol,
    pub(super) relabel: Vec<Rule>,
    pub(super) exemplars: bool,
    pub(super) histograms: bool,
    pub(super) http: HttpConfig,
    /// Lanes at least and at most.
    pub(super) shards: (usize, usize),
    pub(super) samples_per_send: usize,
    batch_ms: i64,
    backoff_ms: (i64, i64),
    pub(super) retry_429: bool,
    /// Rows that are older are not sent; `None`: all are.
    pub(super) age_max_ms: Option<i64>,
    /// How often 1.0 tells metadata; `None`: metadata is not told.
    pub(super) metadata_ms: Option<i64>,
    /// `global.external_labels`.
    pub(super) external_labels: Vec<(String, String)>,
    /// `x-taffrail`: tenants whose rows go there; empty: all.
    pub(super) tenants: Vec<TenantName>,
    /// `x-taffrail`: `X-Scope-OrgID`, with `{tenant}` for the name of the rows' tenant.
    pub(super) org_id: String,
    /// `x-taffrail`: bytes of the queue on disk; beyond it the oldest rows are dropped.
    pub(super) queue_bytes_max: u64,
}

/// All destinations of a file, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForwardFile {
    pub(super) destinations: Vec<Destination>,
    /// What is passed over, in words.
    pub notes: Vec<String>,
}

/// Destinations of a file. Each has a queue, a task and the encoding of its rows.
const DESTINATIONS_MAX: usize = 64;

/// The least size of a queue: some segments. Bytes.
const QUEUE_BYTES_MIN: u64 = 64 << 20;

/// The extension's name, as for jobs to scrape.
const EXTENSION: &str = "x-taffrail";

impl ForwardFile {
    /// Reads a file and checks what it says, the files that destinations name included. An empty
    /// path is a file without destinations.
    pub fn read(file: &Path) -> Result<Self, ForwardError> {
        if file.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let failed = |source| ForwardError::Read { file: file.to_owned(), source };
        let text = bounded_file::read_text(file).map_err(failed)?;
        let dir = file.parent().unwrap_or(Path::new(""));
        let wrong = |why| ForwardError::Wrong { file: file.to_owned(), why };
        let found = Self::parse(&text, dir).map_err(wrong)?;
        let clients = Clients::default();
        for one in &found.destinations {
            let client = clients.client(one.http.clone());
            client.map_err(|why| ForwardError::unusable(one, &why))?;
        }
        Ok(found)
    }

    /// A text alone; files that it names are not read.
    pub(crate) fn parse(text: &str, dir: &Path) -> Result<Self, YamlError> {
        let node = Node::parse(text)?;
        let mut fields = Fields::of(&node, "the configuration")?;
        let mut found = Self::default();
        let external = match fields.take("global") {
            Some(node) => Fields::of(node, "global")?.read("external_labels", labels)?,
            None => None,
        };
        let external = external.unwrap_or_default();
        for node in fields.take("remote_write").map_or(Ok(&[][..]), Node::list)? {
            if found.destinations.len() >= DESTINATIONS_MAX {
                let what = format!("more than {DESTINATIONS_MAX} destinations");
                return Err(YamlError::at(node.place, what));
            }
            let mut fields = Fields::of(node, "remote_write")?;
            let one = Destination::read(&mut fields, dir, &external, &mut found.notes)?;
            fields.done()?;
            if found.destinations.iter().any(|known| known.name == one.name) {
                let what = format!(
                    "found multiple remote write configs with name {:?}; names must be unique",
                    one.name
                );
                return Err(YamlError::at(node.place, what));
            }
            found.destinations.push(one);
        }
        Ok(found)
    }

    /// The names of all destinations.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.destinations.iter().map(|one| one.name.as_str())
    }
}

fn labels(node: &Node) -> Result<Vec<(String, String)>, YamlError> {
    let labels = node.text_map()?;
    let is_wrong = |(name, _): &&(String, String)| name.is_empty() || name == model::METRIC_NAME;
    match labels.iter().find(is_wrong) {
        Some((name, _)) => {
            Err(YamlError::at(node.place, format!("{name:?} is not a valid label name")))
        }
        None => Ok(labels),
    }
}

impl Destination {
    fn read(
        fields: &mut Fields<'_>,
        dir: &Path,
        external: &[(String, String)],
        notes: &mut Vec<String>,
    ) -> Result<Self, YamlError> {
        for other in ["sigv4", "azuread", "google_iam"] {
            if let Some(node) = fields.take(other) {
                let what = format!("{other} is not available; use another way to sign in");
                return Err(YamlError::at(node.place, what));
            }
        }
        let url = url(fields)?;
        let name = name(fields, &url)?;
        if fields.take("round_robin_dns").is_some() {
            notes.push(format!("remote_write {name:?}: round_robin_dns is passed over"));
        }
        let queue = QueueConfig::read(fields, &name, notes)?;
        let extension = Extension::read(fields)?;
        let rule = |node| rule(node, NameScheme::Utf8);
        let switch = |fields: &mut Fields<'_>, name: &str| {
            fields.read(name, Node::switch).map(|value| value.unwrap_or(true))
        };
        let headers = fields.read("headers", Node::text_map)?.unwrap_or_default();
        let place = fields.place();
        let mut http = HttpConfig::take(fields, dir)?;
        // A request that is redirected mostly goes on as a GET without a body: it would be answered
        // with 200, and nothing would be written.
        http.follow_redirects = false;
        for (name, value) in &headers {
            http.add_header(name, value).map_err(|what| YamlError::at(place, what))?;
        }
        let is_org_id = |name: &str| name.eq_ignore_ascii_case("x-scope-orgid");
        if !extension.org_id.is_empty() && http.header_names().any(is_org_id) {
            let what = "x-taffrail.org_id and a header X-Scope-OrgID exclude each other";
            return Err(YamlError::at(place, what));
        }
        Ok(Self {
            timeout_ms: fields.read("remote_timeout", positive)?.unwrap_or(30_000),
            protocol: fields.read("protobuf_message", protocol)?.unwrap_or(Protocol::V2),
            relabel: fields.list("write_relabel_configs", rule)?,
            exemplars: switch(fields, "send_exemplars")?,
            histograms: switch(fields, "send_native_histograms")?,
            metadata_ms: metadata(fields, &name, notes)?,
            http,
            shards: queue.shards,
            samples_per_send: queue.samples_per_send,
            batch_ms: queue.batch_ms,
            backoff_ms: queue.backoff_ms,
            retry_429: queue.retry_429,
            age_max_ms: queue.age_max_ms,
            external_labels: external.to_vec(),
            tenants: extension.tenants,
            org_id: extension.org_id,
            queue_bytes_max: extension.queue_bytes_max,
            name,
            url,
        })
    }

    pub(super) fn timeout(&self) -> Duration {
        duration(self.timeout_ms)
    }

    /// How long rows wait for others to go with them.
    pub(super) fn batch_wait(&self) -> Duration {
        duration(self.batch_ms)
    }

    /// The first pause after a failure.
    pub(super) fn backoff_min(&self) -> Duration {
        duration(self.backoff_ms.0)
    }

    /// The longest pause.
    pub(super) fn backoff_max(&self) -> Duration {
        duration(self.backoff_ms.1)
    }

    pub(super) fn metadata_every(&self) -> Option<Duration> {
        self.metadata_ms.map(duration)
    }
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn url(fields: &mut Fields<'_>) -> Result<String, YamlError> {
    let place = fields.place();
    let url = fields.text("url")?;
    let wrong = |what: String| Err(YamlError::at(place, format!("url: {what}")));
    if url.is_empty() {
        return wrong("must be set".to_owned());
    }
    match reqwest::Url::parse(&url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(parsed.to_string()),
        Ok(_) => wrong(format!("{url:?} must start with http:// or https://")),
        Err(error) => wrong(format!("{url:?} cannot be read: {error}")),
    }
}

/// The name, else one made of the address, which stays the same as long as that does.
fn name(fields: &mut Fields<'_>, url: &str) -> Result<String, YamlError> {
    let place = fields.place();
    let name = fields.text("name")?;
    if name.is_empty() {
        return Ok(format!("{:012x}", xxhash_rust::xxh3::xxh3_64(url.as_bytes()) >> 16));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.len() > 64 || !name.chars().all(is_plain) {
        let what = format!("name: must have 1 to 64 letters, digits, - and _, found {name:?}");
        return Err(YamlError::at(place, what));
    }
    Ok(name)
}

fn protocol(node: &Node) -> Result<Protocol, YamlError> {
    match node.text()?.as_str() {
        "prometheus.WriteRequest" => Ok(Protocol::V1),
        "io.prometheus.write.v2.Request" => Ok(Protocol::V2),
        other => {
            let what = format!(
                "unknown remote write protobuf message {other:?}, expected prometheus.WriteRequest \
                 or io.prometheus.write.v2.Request"
            );
            Err(YamlError::at(node.place, what))
        }
    }
}

fn positive(node: &Node) -> Result<i64, YamlError> {
    match node.duration()? {
        0 => Err(YamlError::at(node.place, "must be more than 0")),
        ms => Ok(ms),
    }
}

/// A number of things within bounds.
fn count(
    fields: &mut Fields<'_>,
    (name, default): (&str, usize),
    max: usize,
) -> Result<usize, YamlError> {
    let within = |node: &Node| match usize::try_from(node.count_value()?) {
        Ok(count) if (1..=max).contains(&count) => Ok(count),
        _ => Err(YamlError::at(node.place, format!("must be 1 to {max}"))),
    };
    Ok(fields.read(name, within)?.unwrap_or(default))
}

fn metadata(
    fields: &mut Fields<'_>,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Option<i64>, YamlError> {
    let read = fields.read("metadata_config", |node| {
        let mut fields = Fields::of(node, "metadata_config")?;
        let send = fields.read("send", Node::switch)?.unwrap_or(true);
        let interval_ms = fields.read("send_interval", positive)?.unwrap_or(60_000);
        let has_max = fields.take("max_samples_per_send").is_some();
        fields.done()?;
        Ok((send.then_some(interval_ms), has_max))
    })?;
    let (every_ms, has_max) = read.unwrap_or((Some(60_000), false));
    if has_max {
        notes.push(format!(
            "remote_write {name:?}: metadata_config.max_samples_per_send is passed over: it is 2000"
        ));
    }
    Ok(every_ms)
}

/// `queue_config`.
struct QueueConfig {
    shards: (usize, usize),
    samples_per_send: usize,
    batch_ms: i64,
    backoff_ms: (i64, i64),
    retry_429: bool,
    age_max_ms: Option<i64>,
}

impl QueueConfig {
    fn read(
        outer: &mut Fields<'_>,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Result<Self, YamlError> {
        let nothing = Node { place: outer.place(), content: crate::yaml::Content::Null };
        let mut fields =
            Fields::of(outer.take("queue_config").unwrap_or(&nothing), "queue_config")?;
        if fields.take("capacity").is_some() {
            notes.push(format!(
                "remote_write {name:?}: queue_config.capacity is passed over: rows wait on disk, \
                 x-taffrail.queue_size bounds them"
            ));
        }
        let place = fields.place();
        let shards = (
            count(&mut fields, ("min_shards", 1), 200)?,
            count(&mut fields, ("max_shards", 16), 200)?,
        );
        let backoff_ms = (
            fields.read("min_backoff", positive)?.unwrap_or(30),
            fields.read("max_backoff", positive)?.unwrap_or(5_000),
        );
        let queue = Self {
            shards,
            samples_per_send: count(&mut fields, ("max_samples_per_send", 2_000), 100_000)?,
            batch_ms: fields.read("batch_send_deadline", positive)?.unwrap_or(5_000),
            backoff_ms,
            retry_429: fields.read("retry_on_http_429", Node::switch)?.unwrap_or(true),
            age_max_ms: fields.read("sample_age_limit", Node::duration)?.filter(|ms| *ms > 0),
        };
        fields.done()?;
        queue.check(place)?;
        Ok(queue)
    }

    fn check(&self, place: Place) -> Result<(), YamlError> {
        let wrong = if self.shards.0 > self.shards.1 {
            "queue_config.min_shards must not be more than max_shards"
        } else if self.backoff_ms.0 > self.backoff_ms.1 {
            "queue_config.min_backoff must not be more than max_backoff"
        } else {
            return Ok(());
        };
        Err(YamlError::at(place, wrong))
    }
}

/// What is ours alone.
struct Extension {
    tenants: Vec<TenantName>,
    org_id: String,
    queue_bytes_max: u64,
}

impl Extension {
    fn read(outer: &mut Fields<'_>) -> Result<Self, YamlError> {
        let nothing = Node { place: outer.place(), content: crate::yaml::Content::Null };
        let mut fields = Fields::of(outer.take(EXTENSION).unwrap_or(&nothing), EXTENSION)?;
        let tenant = |node: &Node| {
            TenantName::new(&node.text()?).map_err(|e| YamlError::at(node.place, e.to_string()))
        };
        let extension = Self {
            tenants: fields.list("tenants", tenant)?,
            org_id: fields.read("org_id", org_id)?.unwrap_or_default(),
            queue_bytes_max: fields.read("queue_size", queue_bytes)?.unwrap_or(1 << 30),
        };
        fields.done()?;
        Ok(extension)
    }
}

/// Names of tenants can stand in a header; the rest of the template must as well.
fn org_id(node: &Node) -> Result<String, YamlError> {
    let text = node.text()?;
    let is_plain = text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    let rest = text.replace("{tenant}", "");
    if is_plain && !rest.contains(['{', '}']) {
        return Ok(text);
    }
    let what = format!("must be a header's value with {{tenant}} for the name, found {text:?}");
    Err(YamlError::at(node.place, what))
}

fn queue_bytes(node: &Node) -> Result<u64, YamlError> {
    match node.size()? {
        bytes if bytes >= QUEUE_BYTES_MIN => Ok(bytes),
        _ => {
            Err(YamlError::at(node.place, format!("must be at least {}MB", QUEUE_BYTES_MIN >> 20)))
        }
    }
}

#[cfg(test)]
mod tests;
