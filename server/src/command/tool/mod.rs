//! `taffrail tool`: looks after a data directory while no server uses it.

mod export;
mod inspect;
mod progress;
mod quarantine;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use model::Disk;
use storage::{FarObjects, OsDisk};

use crate::config::Config;
use crate::far::far_objects;

/// `taffrail tool …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// Say what a file holds: a block (its directory or index.bin), a manifest, a snapshot, a segment
    /// of the log.
    Inspect(inspect::Inspect),
    /// Read a whole data directory and check every byte of it. Changes nothing. Ends with status 3 if
    /// something is damaged.
    Verify(verify::Verify),
    /// Give up blocks, snapshots or manifests that cannot be read, so that their partitions are whole
    /// and take writes again. Without --yes it says what would go.
    Quarantine(quarantine::Quarantine),
    /// Write the rows of a tenant as Parquet or OpenMetrics.
    Export(export::ExportRows),
    /// The log of a data directory.
    #[command(subcommand)]
    Wal(WalCommand),
    /// Print method and path of every route the server has.
    Routes,
}

/// `taffrail tool wal …`.
#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Set damaged records aside (kept in `quarantine/`), so that their partitions take writes again.
    Quarantine {
        /// The data directory.
        #[arg(long, value_name = "DIR", default_value = "./data")]
        data_dir: PathBuf,
        /// Configuration whose `[storage.objects]` says where the objects lie, if not in the data
        /// directory.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Where a configuration says that objects lie, if not in the data directory.
fn far_of(config: Option<&Path>) -> Result<Option<FarObjects>> {
    let Some(file) = config else { return Ok(None) };
    far_objects(&Config::read(file)?.storage.objects, false)
}

/// Status of a verification that found damage: neither success nor a tool that failed.
const DAMAGE_FOUND: u8 = 3;

/// Does what is asked and says how it ended.
pub(crate) fn run(tool: &Tool) -> Result<ExitCode> {
    match tool {
        Tool::Inspect(arguments) => inspect::run(arguments),
        Tool::Verify(arguments) => verify::run(arguments),
        Tool::Quarantine(arguments) => quarantine::run(arguments),
        Tool::Export(arguments) => export::run(arguments),
        Tool::Wal(WalCommand::Quarantine { data_dir, config }) => {
            quarantine::wal(data_dir, config.as_deref())
        }
        Tool::Routes => {
            crate::routes::all().iter().for_each(|(method, path)| println!("{method} {path}"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The disk below a directory that must be there: a tool makes none.
fn open_disk(dir: &Path) -> Result<Arc<dyn Disk>> {
    ensure!(dir.is_dir(), "{} is no directory", dir.display());
    let disk = OsDisk::open(dir).with_context(|| format!("open {}", dir.display()))?;
    Ok(Arc::new(disk))
}

/// The same for a data directory.
fn open_data_dir(dir: &Path) -> Result<Arc<dyn Disk>> {
    ensure!(
        dir.join("objects").is_dir() || dir.join("log").is_dir(),
        "{} is no data directory: it has neither objects/ nor log/",
        dir.display()
    );
    ensure!(
        !dir.join("binding").is_dir(),
        "{} belongs to a store on S3; this tool looks after stores on disks only",
        dir.display()
    );
    open_disk(dir)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.context("start the runtime")
}
