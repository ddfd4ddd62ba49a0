//! `taffrail tool verify`: a whole data directory read and checked.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use model::Disk;
use serde_json::{Value, json};
use storage::{Finding, Severity, Verified};

use super::progress::{Progress, bytes_text};
use super::{DAMAGE_FOUND, far_of, open_data_dir, runtime};

/// `taffrail tool verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The data directory.
    #[arg(value_name = "DIR", default_value = "./data")]
    data_dir: PathBuf,
    /// Configuration whose `[storage.objects]` says where the objects lie, if not in the data
    /// directory.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Verify) -> Result<ExitCode> {
    let disk = open_data_dir(&arguments.data_dir)?;
    let mut progress = Progress::new();
    let mut on_progress = |at: &storage::VerifyProgress| {
        progress.show(|| {
            format!("{} of {}  {}", bytes_text(at.bytes), bytes_text(at.bytes_all), at.at)
        });
    };
    let far = far_of(arguments.config.as_deref())?;
    let work = storage::verify(Arc::clone(&disk), far.as_ref(), &mut on_progress);
    let mut verified = runtime()?.block_on(work)?;
    drop(progress);
    verified.findings.extend(own_files(&disk));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&to_json(&verified))?);
    } else {
        print!("{}", shown(&verified));
    }
    Ok(if verified.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGE_FOUND) })
}

/// Files that are not the store's: each crate checks its own.
fn own_files(disk: &Arc<dyn Disk>) -> Vec<Finding> {
    let back = "put it back from a backup; the server does not start with it as it is";
    let damage = |file: &str, error: &dyn std::error::Error, advice: &str| Finding {
        severity: Severity::Damage,
        file: file.to_owned(),
        what: storage::error_text(error),
        advice: advice.to_owned(),
    };
    let mut findings = Vec::new();
    if let Err(error) = tenancy::Directory::check(disk) {
        findings.push(damage("tenants/directory.log", &error, back));
    }
    if let Err(error) = ingest::pushgateway::check(disk) {
        findings.push(damage("pushgateway/groups.log", &error, back));
    }
    match tenancy::AuditLog::check(disk) {
        Err(error) => findings.push(damage("audit", &error, "see to the disk")),
        Ok(damaged) => findings.extend(damaged.into_iter().map(|(file, lines)| Finding {
            severity: Severity::Damage,
            file,
            what: format!("{lines} lines cannot be read"),
            advice: "the server goes on without them; put the file back from a backup to have them again"
                .to_owned(),
        })),
    }
    findings
}

fn to_json(verified: &Verified) -> Value {
    let findings: Vec<Value> = verified
        .findings
        .iter()
        .map(|f| {
            json!({
                "severity": if f.severity == Severity::Damage { "damage" } else { "note" },
                "file": f.file,
                "what": f.what,
                "advice": f.advice,
            })
        })
        .collect();
    json!({
        "sound": verified.is_sound(),
        "partitions": verified.partitions,
        "manifests": verified.manifests,
        "snapshots": verified.snapshots,
        "blocks": verified.blocks,
        "block_samples": verified.block_samples,
        "log_records": verified.log_records,
        "bytes": verified.bytes,
        "findings": findings,
    })
}

fn shown(verified: &Verified) -> String {
    let mut out = String::new();
    for Finding { severity, file, what, advice } in &verified.findings {
        let kind = if *severity == Severity::Damage { "DAMAGE" } else { "note" };
        out += &format!("{kind}  {file}: {what}\n        {advice}\n");
    }
    let damaged = verified.findings.iter().filter(|f| f.severity == Severity::Damage).count();
    out += &format!(
        "{} partitions, {} manifests, {} snapshots, {} blocks with {} samples, {} records of the log; {} read\n",
        verified.partitions,
        verified.manifests,
        verified.snapshots,
        verified.blocks,
        verified.block_samples,
        verified.log_records,
        bytes_text(verified.bytes),
    );
    out += &match damaged {
        0 => "everything is as it was written\n".to_owned(),
        1 => "1 thing is damaged\n".to_owned(),
        n => format!("{n} things are damaged\n"),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_name_the_file_and_say_what_to_do() {
        let sound = Verified { partitions: 8, blocks: 2, bytes: 2048, ..Verified::default() };
        let text = shown(&sound);
        assert!(text.ends_with("2.0 KiB read\neverything is as it was written\n"), "{text}");
        let finding = |severity| Finding {
            severity,
            file: "objects/x".to_owned(),
            what: "it is gone".to_owned(),
            advice: "put it back".to_owned(),
        };
        let noted = Verified { findings: vec![finding(Severity::Note)], ..sound.clone() };
        assert!(noted.is_sound() && shown(&noted).starts_with("note  objects/x: it is gone\n"));
        let damaged = Verified { findings: vec![finding(Severity::Damage)], ..sound };
        let text = shown(&damaged);
        assert!(text.starts_with("DAMAGE  objects/x: it is gone\n        put it back\n"), "{text}");
        assert!(!damaged.is_sound() && text.ends_with("1 thing is damaged\n"));
        assert_eq!(to_json(&damaged)["findings"][0]["severity"], "damage");
    }
}
