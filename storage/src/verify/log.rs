//! The log, read as a start would read it: on the series that the snapshots have.

use model::{Disk, Position, Record};
use tenancy::TenantId;

use super::Verified;
use crate::Error;
use crate::entries::EntryHead;
use crate::head::Head;
use crate::log::{Found, replay_only, segments_bytes};

/// What the log of one partition is replayed on.
pub(super) struct Replay {
    pub(super) partition: u16,
    pub(super) covered: Position,
    pub(super) heads: Heads,
}

pub(super) enum Heads {
    /// Nobody knows: what it has in the log cannot be checked.
    None,
    Metrics(Box<Head>),
    Entries(Box<EntryHead>),
}

impl Heads {
    fn replay(&mut self, record: &Record<'_>) -> Option<Result<(), String>> {
        let (kind, tenant, payload) = (record.kind, TenantId(record.tenant), record.payload);
        match self {
            Self::None => None,
            Self::Metrics(head) => Some(head.replay(kind, tenant, payload)),
            Self::Entries(head) => Some(head.replay(kind, tenant, payload)),
        }
    }

    fn note_gap(&mut self) {
        match self {
            Self::None => {}
            Self::Metrics(head) => head.note_gap(),
            Self::Entries(head) => head.note_gap(),
        }
    }

    fn left_out(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Metrics(head) => head.left_out(),
            Self::Entries(head) => head.left_out(),
        }
    }
}

/// Bytes of the log's segments.
pub(super) fn bytes(disk: &dyn Disk) -> Result<u64, Error> {
    segments_bytes(disk)
}

/// Reads all that a start needs; gives what was found and how many bytes there are. Blocks.
pub(super) fn read(disk: &dyn Disk, mut all: Vec<Replay>) -> Result<(Verified, u64), Error> {
    let mut verified = Verified::default();
    let from = all.iter().map(|one| one.covered).min().unwrap_or_default();
    let mut refused: Vec<(Position, String)> = Vec::new();
    let replayed = replay_only(disk, from, &mut |found| match found {
        Found::Record(at, record) => {
            let one = all.iter_mut().find(|one| one.partition == record.partition);
            if one.as_ref().is_some_and(|one| at < one.covered) {
                return;
            }
            let replayed = one.and_then(|one| Some((one.heads.replay(&record)?, one)));
            match replayed {
                None => {
                    let reason =
                        format!("it is of partition {}, which there is not", record.partition);
                    refused.push((at, reason));
                }
                Some((Err(reason), one)) => {
                    refused.push((at, reason));
                    one.heads.note_gap();
                }
                Some((Ok(()), _)) => {}
            }
        }
        Found::Gap { partition, .. } => {
            let is_concerned = |one: &&mut Replay| partition.is_none_or(|p| p == one.partition);
            all.iter_mut().filter(is_concerned).for_each(|one| one.heads.note_gap());
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
    let left_out: u64 = all.iter().map(|one| one.heads.left_out()).sum();
    if left_out > 0 {
        let what =
            format!("{left_out} records cannot be applied wholly, because one before them is lost");
        verified.note("log", what, "see the damage above");
    }
    Ok((verified, bytes(disk)?))
}
