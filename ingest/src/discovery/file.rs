//! File discovery: JSON and YAML files with lists of groups, read again when they change.
//!
//! Files are looked at every few seconds rather than watched: a look costs a system call, and it
//! works on every file system and through symbolic links, as Kubernetes mounts them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::warn;

use super::{Group, Provider, Running, Update, Updates};
use crate::bounded_file;
use crate::yaml::{Fields, Node, YamlError};

/// How often files are looked at. Well below any scrape interval in use.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The label that says which file a target came from.
const FILE_PATH: &str = "__meta_filepath";

/// Why a file's targets cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error("read")]
    Read(#[from] io::Error),
    /// It is not a list of groups.
    #[error(transparent)]
    Wrong(#[from] YamlError),
}

/// Files by patterns.
#[derive(Debug)]
pub(crate) struct Files {
    patterns: Vec<PathBuf>,
    /// After this long everything is read again, whatever the files' times say.
    refresh: Duration,
}

/// A file as it was when it was read last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    bytes: u64,
    /// How many groups it had.
    groups: usize,
    /// Whether what it holds now could not be read.
    failed: bool,
}

impl Files {
    pub(crate) fn new(patterns: Vec<PathBuf>, refresh: Duration) -> Self {
        Self { patterns, refresh }
    }

    /// What changed since `seen`. A file that cannot be read keeps the groups it had; one that is
    /// gone loses them.
    fn look(&self, seen: &mut HashMap<PathBuf, Seen>, all: bool) -> Update {
        let mut update = Vec::new();
        let files: Vec<PathBuf> = self.patterns.iter().flat_map(|p| matching(p)).collect();
        for file in &files {
            let Ok(meta) = std::fs::metadata(file) else { continue };
            let (modified, bytes) = (meta.modified().ok(), meta.len());
            let known = seen.get(file);
            let is_same = known.is_some_and(|k| (k.modified, k.bytes) == (modified, bytes));
            if is_same && !all {
                continue;
            }
            let had = known.map_or(0, |known| known.groups);
            let (groups, failed) = match read(file) {
                Ok(groups) => {
                    let count = groups.len();
                    update.extend(groups);
                    let gone = (count..had).map(|i| source(file, i));
                    update.extend(gone.map(|source| Group { source, ..Group::default() }));
                    (count, false)
                }
                Err(error) => {
                    if !known.is_some_and(|k| k.failed && is_same) {
                        let error = &error as &dyn std::error::Error;
                        warn!(file = %file.display(), error, "read targets");
                    }
                    (had, true)
                }
            };
            seen.insert(file.clone(), Seen { modified, bytes, groups, failed });
        }
        seen.retain(|file, known| {
            let is_there = files.contains(file) && file.exists();
            if !is_there {
                let gone = (0..known.groups).map(|i| source(file, i));
                update.extend(gone.map(|source| Group { source, ..Group::default() }));
            }
            is_there
        });
        update
    }
}

impl Provider for Files {
    fn run(self: Arc<Self>, updates: Updates) -> Running {
        Box::pin(async move {
            let mut seen = HashMap::new();
            let (mut is_first, mut since_all) = (true, Duration::ZERO);
            loop {
                let (this, all) = (Arc::clone(&self), since_all >= self.refresh);
                if all {
                    since_all = Duration::ZERO;
                }
                let looked = tokio::task::spawn_blocking(move || {
                    let update = this.look(&mut seen, all);
                    (update, seen)
                });
                let Ok((update, after)) = looked.await else { return };
                seen = after;
                if (is_first || !update.is_empty()) && updates.send(update).await.is_err() {
                    return;
                }
                is_first = false;
                let pause = LOOK_EVERY.min(self.refresh);
                tokio::time::sleep(pause).await;
                since_all += pause;
            }
        })
    }
}

/// Files that a pattern names: a `*` in the last part stands for anything.
pub(crate) fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some((before, after)) = name.as_deref().and_then(|name| name.split_once('*')) else {
        return vec![pattern.to_owned()];
    };
    let dir = pattern.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= before.len() + after.len()
                && name.starts_with(before)
                && name.ends_with(after)
                && (!name.starts_with('.') || before.starts_with('.'))
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

fn source(file: &Path, number: usize) -> String {
    format!("{}:{number}", file.display())
}

fn read(file: &Path) -> Result<Vec<Group>, FileError> {
    let text = bounded_file::read_text(file)?;
    let mut groups = groups(&text, |i| source(file, i))?;
    for group in &mut groups {
        group.labels.push((FILE_PATH.to_owned(), file.display().to_string()));
    }
    Ok(groups)
}

/// A list of groups, in JSON or YAML: the one is a part of the other.
pub(super) fn groups(
    text: &str,
    source: impl Fn(usize) -> String,
) -> Result<Vec<Group>, YamlError> {
    let node = Node::parse(text)?;
    node.list()?
        .iter()
        .enumerate()
        .map(|(i, node)| {
            // Nothing in the place of a group is a mistake, as in Prometheus.
            Fields::of(node, "target group")?;
            if node.content == crate::yaml::Content::Null {
                return Err(YamlError::at(node.place, "nil target group item found"));
            }
            Group::read(node, source(i))
        })
        .collect()
}
