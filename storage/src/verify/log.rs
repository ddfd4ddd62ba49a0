//! The log, read as a start would read it: on the series that the snapshots have.

use model::{Disk, Position};
use tenancy::TenantId;

use super::Verified;
use crate::Error;
use crate::head::Head;
use crate::log::{Found, replay_only, segments_bytes};

/// Bytes of the log's segments.
pub(super) fn bytes(disk: &dyn Disk) -> Result<u64, Error> {
    segments_bytes(disk)
}

/// Reads all that a start needs; gives what was found and how many bytes there are. Blocks.
pub(super) fn read(
    disk: &dyn Disk,
    mut heads: Vec<(Position, Option<Head>)>,
) -> Result<(Verified, u64), Error> {
    let mut verified = Verified::default();
    let from = heads.iter().map(|(covered, _)| *covered).min().unwrap_or_default();
    let mut refused: Vec<(Position, String)> = Vec::new();
    let replayed = replay_only(disk, from, &mut |found| match found {
        Found::Record(at, record) => {
            let Some((covered, Some(head))) = heads.get_mut(usize::from(record.partition)) else {
                let reason = format!("it is of partition {}, which there is not", record.partition);
                refused.push((at, reason));
                return;
            };
            if at < *covered {
                return;
            }
            if let Err(reason) = head.replay(record.kind, TenantId(record.tenant), record.payload) {
                refused.push((at, reason));
                head.note_gap();
            }
        }
        Found::Gap { partition, .. } => {
            let concerned = |n: usize| partition.is_none_or(|p| usize::from(p) == n);
            for (n, (_, head)) in heads.iter_mut().enumerate() {
                if let Some(head) = head.as_mut().filter(|_| concerned(n)) {
                    head.note_gap();
                }
            }
        }
    });
    let advice = "set the damaged records aside with `taffrail tool wal quarantine`";
    let recovery = match replayed {
        Ok(recovery) => recovery,
        Err(error) => {
            verified.damage("log", &error, advice);
            return Ok((verified, bytes(disk)?));
        }
    };
    verified.log_records = recovery.records;
    for damage in &recovery.damaged {
        let file = format!("log/{:020}.log", damage.segment);
        let of = damage.partition.map_or("any partition".to_owned(), |p| format!("partition {p}"));
        let reason =
            format!("{} bytes at {}, of {of}: {}", damage.bytes, damage.position.0, damage.reason);
        let advice = if damage.is_unreadable() { "see to the disk" } else { advice };
        verified.damage(file, &Error::Corrupt { what: "the log".to_owned(), reason }, advice);
    }
    if recovery.torn_bytes > 0 {
        let what = format!("{} bytes at its end were never acknowledged", recovery.torn_bytes);
        verified.note("log", what, "none needed: the next start cuts them off");
    }
    for (at, reason) in refused {
        let error = Error::Corrupt { what: format!("log record at {}", at.0), reason };
        verified.damage("log", &error, "keep a copy of the directory and report this");
    }
    let left_out: u64 = heads.iter().filter_map(|(_, h)| h.as_ref()).map(Head::left_out).sum();
    if left_out > 0 {
        let what =
            format!("{left_out} records cannot be applied wholly, because one before them is lost");
        verified.note("log", what, "see the damage above");
    }
    Ok((verified, bytes(disk)?))
}
