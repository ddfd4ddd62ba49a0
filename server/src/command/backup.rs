//! `taffrail backup` has a running server take a backup; `taffrail restore` makes a store of one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use storage::OsDisk;
use storage::backup::{BackupInfo, Figures, Progress, Restore as RestoreTo, backups, restore};
use storage::objects::Kind;

use super::client::Server;
use crate::backups::place_from;
use crate::config::Config;
use crate::far::far_objects;

/// Between two looks at a backup under way.
const LOOK: Duration = Duration::from_millis(500);

/// `taffrail backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    server: Server,
    /// Where to: a directory of the server's machine, or s3://BUCKET/PREFIX, reached as
    /// [storage.objects] of the server's configuration says. What an earlier backup there has is not
    /// copied again.
    #[arg(long, value_name = "DIR|URL")]
    to: String,
}

/// `taffrail restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Where backups are: a directory, or s3://BUCKET/PREFIX, reached as [storage.objects] of the
    /// configuration says.
    #[arg(long, value_name = "DIR|URL")]
    from: String,
    /// An empty directory, or one that does not exist; objects go where the configuration says.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["check", "list"])]
    data_dir: Option<PathBuf>,
    /// The configuration that the server will have.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which backup, by its number [default: the newest].
    #[arg(long, value_name = "NUMBER")]
    backup: Option<u64>,
    /// Read all of a backup and say what is damaged; restore nothing.
    #[arg(long, conflicts_with_all = ["data_dir", "list"])]
    check: bool,
    /// List the backups there are.
    #[arg(long, conflicts_with = "data_dir")]
    list: bool,
}

/// Begins a backup, shows how far it is, and says what became of it.
pub(crate) fn back_up(arguments: &Backup) -> Result<String> {
    let client = arguments.server.client()?;
    let to = if arguments.to.starts_with("s3://") {
        arguments.to.clone()
    } else {
        std::path::absolute(&arguments.to)?.to_string_lossy().into_owned()
    };
    const PATH: &str = "/api/v1/admin/backup";
    let mut status = client.call("POST", PATH, Some(&json!({ "to": to })))?;
    while status["state"] == "running" {
        show(&figures_of(&status));
        std::thread::sleep(LOOK);
        status = client.call("GET", PATH, None)?;
    }
    let figures = figures_of(&status);
    match (status["backup"].as_u64(), status["error"].as_str()) {
        (Some(backup), _) => Ok(format!(
            "backup {backup} in {to}: {} objects, {} bytes; {} objects were there already\n",
            figures.objects_done, figures.bytes_done, figures.objects_kept
        )),
        (None, error) => bail!("the backup failed: {}", error.unwrap_or("the server forgot it")),
    }
}

fn figures_of(status: &Value) -> Figures {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    Figures {
        objects: number("objects"),
        objects_done: number("objects_done"),
        objects_kept: number("objects_kept"),
        bytes: number("bytes"),
        bytes_done: number("bytes_done"),
    }
}

#[expect(clippy::print_stderr, reason = "progress of something that may take long")]
fn show(figures: &Figures) {
    let Figures { objects, objects_done, bytes, bytes_done, .. } = figures;
    eprintln!(
        "{objects_done} of {objects} objects, {:.1} of {:.1} MB",
        *bytes_done as f64 / 1e6,
        *bytes as f64 / 1e6
    );
}

/// Restores, checks or lists.
pub(crate) fn run_restore(arguments: &Restore) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(restored(arguments))
}

async fn restored(arguments: &Restore) -> Result<String> {
    let config = match &arguments.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    let from = place_from(&arguments.from, &config.storage.objects)?;
    if arguments.list {
        let found = backups(&from).await?;
        return Ok(found.iter().map(|(number, info)| line(*number, info)).collect());
    }
    let to = match &arguments.data_dir {
        None => None,
        Some(dir) => {
            let exists = dir.try_exists().with_context(|| format!("look for {}", dir.display()))?;
            ensure!(!exists || dir.is_dir(), "{} is not a directory", dir.display());
            let disk = OsDisk::open(dir).with_context(|| format!("open {}", dir.display()))?;
            let objects = far_objects(&config.storage.objects, false)?;
            Some(RestoreTo { disk: Arc::new(disk), objects, config: config.storage.clone() })
        }
    };
    let progress = Progress::default();
    let work = restore(&from, arguments.backup, to.as_ref(), &progress);
    tokio::pin!(work);
    let mut look = tokio::time::interval(LOOK);
    let info = loop {
        tokio::select! {
            done = &mut work => break done?,
            _ = look.tick() => show(&progress.figures()),
        }
    };
    let what =
        format!("backup {}: {} objects, {} bytes", info.created_ms, info.objects, info.bytes);
    Ok(match &arguments.data_dir {
        None => format!("{what}, all as they were written\n"),
        Some(dir) if config.storage.objects.kind == Kind::S3 => format!(
            "{what}, restored into {} and {}\n",
            dir.display(),
            config.storage.objects.bucket().map_err(anyhow::Error::msg)?
        ),
        Some(dir) => format!("{what}, restored into {}\n", dir.display()),
    })
}

fn line(number: u64, info: &Result<BackupInfo, storage::Error>) -> String {
    match info {
        Ok(info) => format!("{number}  {} objects  {} bytes\n", info.objects, info.bytes),
        Err(error) => format!("{number}  cannot be read: {}\n", storage::error_text(error)),
    }
}
