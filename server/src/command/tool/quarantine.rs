//! `taffrail tool quarantine` and `taffrail tool wal quarantine`: giving up what cannot be read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use storage::{Carry, GivenUp, LostSegment};

use super::{far_of, open_data_dir, runtime};

/// `taffrail tool quarantine`.
#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    /// The objects, as `taffrail tool verify` names them: blocks/0003/000000000012,
    /// segments/16384/000000000012, snapshots/0003/000000000013, manifest/0003/….
    #[arg(required = true)]
    objects: Vec<String>,
    /// The data directory.
    #[arg(long, value_name = "DIR", default_value = "./data")]
    data_dir: PathBuf,
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Quarantine) -> Result<ExitCode> {
    let disk = open_data_dir(&arguments.data_dir)?;
    let carry = if arguments.yes { Carry::Out } else { Carry::Preview };
    let config = storage::Config { disk_reserve_bytes: 0, ..storage::Config::default() };
    let work = storage::give_up(disk, config, &arguments.objects, carry);
    let given_up = runtime()?.block_on(work)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&given_up)?);
    } else {
        print!("{}", shown(&given_up, carry));
    }
    Ok(ExitCode::SUCCESS)
}

/// The log's own: damaged records.
pub(super) fn wal(data_dir: &Path, config: Option<&Path>) -> Result<ExitCode> {
    let disk = open_data_dir(data_dir)?;
    let far = far_of(config)?;
    let report = runtime()?.block_on(storage::quarantine(disk, far.as_ref()))?;
    println!("{report}");
    Ok(ExitCode::SUCCESS)
}

fn shown(given_up: &[GivenUp], carry: Carry) -> String {
    let mut out = String::new();
    for one in given_up {
        out +=
            &format!("{} of partition {}: {}\n", one.kind, one.partition, one.objects.join(", "));
        out += &format!("  because {}\n", one.reason);
        for block in &one.blocks {
            let unknown = || "an unknown number of".to_owned();
            out += &format!(
                "  goes: {}, {} samples of {} series",
                block.name,
                block.samples.map_or_else(unknown, |n| n.to_string()),
                block.series.map_or_else(unknown, |n| n.to_string()),
            );
            if let Some((first, last)) = block.range_ms {
                out += &format!(", {first} to {last} ms");
            }
            if let Some(tenants) = &block.tenants {
                let tenants: Vec<String> = tenants.iter().map(ToString::to_string).collect();
                out += &format!(", of tenants {}", tenants.join(", "));
            }
            out.push('\n');
        }
        for segment in &one.segments {
            out += &shown_segment(segment);
        }
        for also in &one.also {
            out += &format!("  also: {also}\n");
        }
    }
    out += match carry {
        Carry::Preview => "nothing was changed; say --yes to give this up\n",
        Carry::Out => {
            "done; the objects are kept below objects/quarantine/, a record of this in quarantine/\n"
        }
    };
    out
}

fn shown_segment(segment: &LostSegment) -> String {
    let number = |n: Option<u64>| n.map_or("an unknown number of".to_owned(), |n| n.to_string());
    let mut out = format!(
        "  goes: {}, {} entries ({}) of {} streams",
        segment.name,
        number(segment.entries),
        segment.signal.as_deref().unwrap_or("of an unknown signal"),
        number(segment.streams),
    );
    if let Some((first, last)) = segment.range_ns {
        out += &format!(", {first} to {last} ns");
    }
    if let Some(tenants) = &segment.tenants {
        let tenants: Vec<String> = tenants.iter().map(ToString::to_string).collect();
        out += &format!(", of tenants {}", tenants.join(", "));
    }
    out + "\n"
}
