//! `taffrail prune` lets old backups go.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use model::{Clock, SystemClock};
use storage::Carry;
use storage::backup::{Keep, Pruned, prune};

use crate::backups::{place_from, place_to_prune};
use crate::config::Config;

/// `taffrail prune`.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Where backups are: a directory, or s3://BUCKET/PREFIX, reached as [storage.objects] of the
    /// configuration says.
    #[arg(long, value_name = "DIR|URL")]
    from: String,
    /// Keep the newest so many.
    #[arg(long, value_name = "NUMBER", required_unless_present = "older_than",
          value_parser = clap::value_parser!(u64).range(1..))]
    keep: Option<u64>,
    /// Let go only what is older than so many days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(..=36_500))]
    older_than: Option<u64>,
    /// The server's configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do it.
    #[arg(long)]
    yes: bool,
}

/// Lets go, or says what would.
pub(crate) fn run(arguments: &Prune) -> Result<String> {
    let config = match &arguments.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    let age = arguments.older_than.map(|days| Duration::from_secs(days * 24 * 3600));
    let keep = Keep { newest: arguments.keep, age };
    let carry = if arguments.yes { Carry::Out } else { Carry::Preview };
    let place = match carry {
        Carry::Out => place_to_prune(&arguments.from, &config.storage.objects)?,
        Carry::Preview => place_from(&arguments.from, &config.storage.objects)?,
    };
    let now_ms = u64::try_from(SystemClock::default().now_ms()).unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let pruned = runtime.block_on(prune(&place, keep, now_ms, carry))?;
    Ok(shown(&pruned, carry))
}

fn shown(pruned: &Pruned, carry: Carry) -> String {
    let lines = |what: &str, numbers: &[u64]| -> String {
        numbers.iter().map(|number| format!("{what}  {number}\n")).collect()
    };
    let mut out = lines("goes ", &pruned.going) + &lines("stays", &pruned.kept);
    let Pruned { objects, bytes, .. } = pruned;
    out += &match carry {
        Carry::Preview if pruned.going.is_empty() && *objects == 0 => {
            "nothing would go\n".to_owned()
        }
        Carry::Preview => format!(
            "{objects} objects, {bytes} bytes would go; nothing was changed, say --yes to let them go\n"
        ),
        Carry::Out => format!("{objects} objects, {bytes} bytes went\n"),
    };
    out
}
