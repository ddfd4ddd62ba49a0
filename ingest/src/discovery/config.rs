//! The `*_sd_configs` and `static_configs` of a job.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::dns::{Dns, RecordType};
use super::file::Files;
use super::http::Http;
use super::{Fixed, Group, Provider};
use crate::http_client::{ClientError, Clients, HttpConfig};
use crate::yaml::{Fields, Key, Node, YamlError};

/// One way of finding a job's targets, as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Discovery {
    Static(Vec<Group>),
    File { files: Vec<PathBuf>, refresh: Duration },
    Http { url: String, refresh: Duration, http: Box<HttpConfig> },
    Dns { names: Vec<String>, refresh: Duration, kind: RecordType, port: u16 },
}

impl Discovery {
    /// What finds the targets; an error says what of the configuration cannot be used.
    pub(crate) fn provider(&self, clients: &Clients) -> Result<Arc<dyn Provider>, ClientError> {
        Ok(match self.clone() {
            Self::Static(groups) => Arc::new(Fixed(groups)),
            Self::File { files, refresh } => Arc::new(Files::new(files, refresh)),
            Self::Http { url, refresh, http } => {
                Arc::new(Http::new(url, refresh, clients.client(*http)?))
            }
            Self::Dns { names, refresh, kind, port } => {
                Arc::new(Dns::new(names, refresh, kind, port))
            }
        })
    }
}

/// Everything by which a job's targets are found. Ways that there are in Prometheus and not here
/// are refused by name.
pub(crate) fn read_all(fields: &mut Fields<'_>, dir: &Path) -> Result<Vec<Discovery>, YamlError> {
    let mut all = Vec::new();
    let nodes = fields.take("static_configs").map(Node::list).transpose()?.unwrap_or_default();
    let groups = nodes.iter().enumerate().map(|(i, node)| static_group(node, i));
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    if !groups.is_empty() {
        all.push(Discovery::Static(groups));
    }
    all.extend(fields.list("file_sd_configs", |node| file(node, dir))?);
    all.extend(fields.list("http_sd_configs", |node| http(node, dir))?);
    all.extend(fields.list("dns_sd_configs", dns)?);
    let foreign = fields.rest().find(|key| key.name.ends_with("_sd_configs"));
    match foreign {
        Some(Key { place, name }) => Err(YamlError::at(
            *place,
            format!(
                "{name} is not available; there are static_configs, file_sd_configs, http_sd_configs and dns_sd_configs"
            ),
        )),
        None => Ok(all),
    }
}

fn static_group(node: &Node, number: usize) -> Result<Group, YamlError> {
    let group = Group::read(node, number.to_string())?;
    for (_, address) in group.targets.iter().flatten() {
        if address.contains('/') {
            return Err(YamlError::at(node.place, format!("{address:?} is not a valid hostname")));
        }
    }
    Ok(group)
}

/// How often to look again.
fn refresh(fields: &mut Fields<'_>, default_seconds: u64) -> Result<Duration, YamlError> {
    let place = fields.place();
    let ms = fields.read("refresh_interval", Node::duration)?;
    match ms {
        None => Ok(Duration::from_secs(default_seconds)),
        Some(0) => Err(YamlError::at(place, "refresh_interval must be more than 0")),
        Some(ms) => Ok(Duration::from_millis(ms.unsigned_abs())),
    }
}

fn file(node: &Node, dir: &Path) -> Result<Discovery, YamlError> {
    let mut fields = Fields::of(node, "file_sd_config")?;
    let files = fields.read("files", Node::texts)?.unwrap_or_default();
    let refresh = refresh(&mut fields, 300)?;
    fields.done()?;
    if files.is_empty() {
        let what = "file service discovery config must contain at least one path name";
        return Err(YamlError::at(node.place, what));
    }
    // As Prometheus has it: the star, if there is one, stands in the name, not in a directory.
    let is_right = |name: &String| {
        let file = name.rsplit('/').next().unwrap_or(name);
        let (stem, end) = file.rsplit_once('.').unwrap_or((file, ""));
        matches!(end, "json" | "yml" | "yaml" | "JSON" | "YML" | "YAML")
            && stem.matches('*').count() <= 1
            && !name[..name.len() - file.len()].contains('*')
    };
    if let Some(wrong) = files.iter().find(|name| !is_right(name)) {
        let what = format!("path name {wrong:?} is not valid for file discovery");
        return Err(YamlError::at(node.place, what));
    }
    let files = files.into_iter().map(|file| dir.join(file)).collect();
    Ok(Discovery::File { files, refresh })
}

fn http(node: &Node, dir: &Path) -> Result<Discovery, YamlError> {
    let mut fields = Fields::of(node, "http_sd_config")?;
    let url = fields.text("url")?;
    let refresh = refresh(&mut fields, 60)?;
    let http = Box::new(HttpConfig::take(&mut fields, dir)?);
    fields.done()?;
    let wrong = |what: &str| Err(YamlError::at(node.place, what));
    match reqwest::Url::parse(&url) {
        _ if url.is_empty() => wrong("URL is missing"),
        Err(_) => wrong("URL is not valid"),
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
            wrong("URL scheme must be 'http' or 'https'")
        }
        Ok(parsed) if parsed.host().is_none() => wrong("host is missing in URL"),
        Ok(_) => Ok(Discovery::Http { url, refresh, http }),
    }
}

fn dns(node: &Node) -> Result<Discovery, YamlError> {
    let mut fields = Fields::of(node, "dns_sd_config")?;
    let names = fields.read("names", Node::texts)?.unwrap_or_default();
    let refresh = refresh(&mut fields, 30)?;
    let kind = fields.read("type", record_type)?.unwrap_or(RecordType::Srv);
    let port = fields.read("port", port)?;
    fields.done()?;
    if names.is_empty() {
        let what = "DNS-SD config must contain at least one SRV record name";
        return Err(YamlError::at(node.place, what));
    }
    if kind != RecordType::Srv && port.is_none() {
        let what = "a port is required in DNS-SD configs for all record types except SRV";
        return Err(YamlError::at(node.place, what));
    }
    Ok(Discovery::Dns { names, refresh, kind, port: port.unwrap_or(0) })
}

fn record_type(node: &Node) -> Result<RecordType, YamlError> {
    let word = node.text()?;
    RecordType::of(&word.to_uppercase())
        .ok_or_else(|| YamlError::at(node.place, format!("invalid DNS-SD records type {word}")))
}

fn port(node: &Node) -> Result<u16, YamlError> {
    let number = node.count_value()?;
    u16::try_from(number).map_err(|_| YamlError::at(node.place, format!("{number} is not a port")))
}
