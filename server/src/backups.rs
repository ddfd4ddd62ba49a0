//! Backups that this server takes: one at a time, in the background.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use model::{Clock, Disk};
use serde_json::{Value, json};
use storage::backup::{BackupInfo, Place, Progress};
use storage::objects::{Bucket, Config};
use storage::{OsDisk, Storage};
use tokio::sync::Mutex;

use crate::far;

/// What takes backups.
#[derive(Debug)]
pub(crate) struct Backups {
    storage: Arc<Storage>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    objects: Config,
    data_dir: PathBuf,
    last: Mutex<Option<Run>>,
}

/// A backup that runs, or the last one that did.
#[derive(Debug)]
struct Run {
    to: String,
    started_ms: i64,
    progress: Arc<Progress>,
    task: tokio::task::JoinHandle<Result<BackupInfo, storage::Error>>,
    outcome: Option<Result<BackupInfo, String>>,
}

impl Backups {
    pub(crate) fn new(
        config: &crate::config::Config,
        storage: &Arc<Storage>,
        disk: &Arc<dyn Disk>,
        clock: &Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            storage: Arc::clone(storage),
            disk: Arc::clone(disk),
            clock: Arc::clone(clock),
            objects: config.storage.objects.clone(),
            data_dir: config.data_dir.clone(),
            last: Mutex::default(),
        })
    }

    /// Where a backup may be written: a directory of this machine, or a bucket.
    pub(crate) async fn place(&self, to: &str) -> Result<Place> {
        let (to, objects, data_dir) = (to.to_owned(), self.objects.clone(), self.data_dir.clone());
        tokio::task::spawn_blocking(move || place_to(&to, &objects, &data_dir)).await?
    }

    /// Begins a backup, unless one runs.
    pub(crate) async fn begin(&self, to: String, place: Place) -> Result<(), storage::Error> {
        let mut last = self.last.lock().await;
        if let Some(run) = &*last
            && !run.task.is_finished()
        {
            return Err(storage::Error::Refused(format!("a backup to {} runs", run.to)));
        }
        let progress: Arc<Progress> = Arc::default();
        let (storage, disk) = (Arc::clone(&self.storage), Arc::clone(&self.disk));
        let own = Arc::clone(&progress);
        let task = tokio::spawn(async move {
            let program = env!("CARGO_PKG_VERSION");
            let done = storage.back_up(&disk, &place, program, &own).await;
            match &done {
                Ok(info) => tracing::info!(
                    backup = info.created_ms,
                    objects = info.objects,
                    bytes = info.bytes,
                    "took a backup"
                ),
                Err(error) => {
                    let error = storage::error_text(error);
                    tracing::error!(error, "backup failed");
                }
            }
            done
        });
        let started_ms = self.clock.now_ms();
        *last = Some(Run { to, started_ms, progress, task, outcome: None });
        Ok(())
    }

    /// How far the last backup is, or what became of it; null if there was none.
    pub(crate) async fn status(&self) -> Value {
        let mut last = self.last.lock().await;
        let Some(run) = &mut *last else { return Value::Null };
        if run.task.is_finished() && run.outcome.is_none() {
            run.outcome = Some(match (&mut run.task).await {
                Ok(done) => done.map_err(|error| storage::error_text(&error)),
                Err(error) => Err(error.to_string()),
            });
        }
        let figures = run.progress.figures();
        let (state, backup, error) = match &run.outcome {
            None => ("running", Value::Null, Value::Null),
            Some(Ok(info)) => ("done", json!(info.created_ms), Value::Null),
            Some(Err(error)) => ("failed", Value::Null, json!(error)),
        };
        json!({
            "to": run.to,
            "state": state,
            "backup": backup,
            "error": error,
            "started_ms": run.started_ms,
            "objects": figures.objects,
            "objects_done": figures.objects_done,
            "objects_kept": figures.objects_kept,
            "bytes": figures.bytes,
            "bytes_done": figures.bytes_done,
        })
    }
}

/// Where a backup may be written. Blocks.
fn place_to(to: &str, objects: &Config, data_dir: &Path) -> Result<Place> {
    if to.starts_with("s3://") {
        return place_on_s3(to, objects);
    }
    let dir = Path::new(to);
    ensure!(dir.is_absolute(), "{to:?} is neither s3://BUCKET/PREFIX nor an absolute path");
    let disk = OsDisk::open(dir).with_context(|| format!("open {to}"))?;
    let (dir, data_dir) = (dir.canonicalize()?, data_dir.canonicalize()?);
    if dir.starts_with(&data_dir) || data_dir.starts_with(&dir) {
        bail!("{to} and the data directory {} lie in each other", data_dir.display());
    }
    Place::to_directory(Arc::new(disk)).with_context(|| format!("open {to}"))
}

/// Where backups are, to read them. Blocks.
pub(crate) fn place_from(from: &str, objects: &Config) -> Result<Place> {
    existing(from, objects, Place::from_directory)
}

/// Where backups are, to let some go. Blocks.
pub(crate) fn place_to_prune(from: &str, objects: &Config) -> Result<Place> {
    existing(from, objects, Place::to_directory)
}

fn existing(
    from: &str,
    objects: &Config,
    open: impl FnOnce(Arc<dyn Disk>) -> Result<Place, storage::Error>,
) -> Result<Place> {
    if from.starts_with("s3://") {
        return place_on_s3(from, objects);
    }
    let dir = Path::new(from);
    ensure!(dir.join("backup").is_dir(), "{from} holds no backups: it has no directory backup/");
    let disk = OsDisk::open(dir).with_context(|| format!("open {from}"))?;
    open(Arc::new(disk)).with_context(|| format!("open {from}"))
}

fn place_on_s3(url: &str, objects: &Config) -> Result<Place> {
    let bucket = Bucket::parse(url).map_err(anyhow::Error::msg)?;
    if let Ok(own) = objects.bucket()
        && own.meets(&bucket)
    {
        bail!("{bucket} and the store's own objects in {own} lie in each other");
    }
    Ok(Place::far(&far::at(objects, &bucket)?))
}
