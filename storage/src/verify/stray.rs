//! Files and objects that nothing names.

use std::path::Path as DiskPath;
use std::sync::Arc;

use model::Disk;
use object_store::ObjectStore;

use super::Verified;
use super::partition::{Survey, all_objects};
use crate::Error;

/// What a data directory has at its top.
const KNOWN: [&str; 11] = [
    "audit",
    "binding",
    "cache",
    "forward",
    "lock",
    "log",
    "objects",
    "objects.tmp",
    "pushgateway",
    "quarantine",
    "tenants",
];

/// Objects that no manifest names.
pub(super) async fn objects(
    objects: &Arc<dyn ObjectStore>,
    surveys: &[Survey],
    verified: &mut Verified,
) -> Result<(), Error> {
    for (path, bytes) in all_objects(objects).await? {
        let mut parts = path.as_ref().split('/');
        let kind = parts.next().unwrap_or_default();
        let partition = parts.next().and_then(|p| p.parse::<u16>().ok());
        let survey = partition.and_then(|p| surveys.iter().find(|s| s.number == p));
        let (what, advice) = match (kind, survey) {
            ("partitions.json" | "manifest", _) => continue,
            ("blocks" | "snapshots" | "segments", Some(survey)) if survey.names(&path) => continue,
            ("blocks" | "snapshots" | "segments", Some(survey)) if survey.is_known => (
                format!("no manifest names it ({bytes} bytes)"),
                "none needed: the server removes it",
            ),
            ("blocks" | "snapshots" | "segments", Some(_)) => (
                format!("a lost manifest may have named it ({bytes} bytes)"),
                "keep it until the manifest is back",
            ),
            ("quarantine", _) => {
                (format!("it was set aside ({bytes} bytes)"), "remove it when it is not needed")
            }
            _ => (format!("it belongs to nothing ({bytes} bytes)"), "see where it came from"),
        };
        verified.note(format!("objects/{path}"), what, advice);
    }
    Ok(())
}

/// Files at the top of the directory.
pub(super) fn files(disk: &dyn Disk, is_local: bool, verified: &mut Verified) -> Result<(), Error> {
    let doing = "list the data directory".to_owned();
    let top = disk.list(DiskPath::new("")).map_err(|source| Error::Disk { doing, source })?;
    for entry in top {
        if !KNOWN.contains(&entry.name.as_str()) {
            verified.note(entry.name, "it belongs to nothing", "see where it came from");
        } else if entry.name == "objects" && !is_local {
            let what = "blocks are elsewhere, and yet there are some here";
            verified.note(entry.name, what, "see which of the two the server is to use");
        }
    }
    Ok(())
}
