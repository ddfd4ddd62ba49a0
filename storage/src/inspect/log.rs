//! One segment of the log: what its records are of, and which places are no records.

use std::collections::BTreeMap;
use std::path::Path;

use model::{DiskFile, RecordKind};

use super::{Sheet, Table};
use crate::Error;
use crate::log::{Entry, read_segment};

/// What a segment says.
pub(super) fn sheet(file: &dyn DiskFile, path: &Path, rows_max: usize) -> Result<Sheet, Error> {
    let name = path.display().to_string();
    let mut records = Table::new(
        "records",
        &["position", "partition", "tenant", "kind", "bytes", "durable", "sound"],
    );
    let mut damaged = Table::new("damaged", &["position", "until", "what"]);
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut unsound = 0u64;
    let facts = read_segment(file, &name, &mut |entry| match entry {
        Entry::Record { position, partition, tenant, kind, bytes, durable, is_sound } => {
            let kind = kind_name(kind);
            let counted = kinds.entry(kind.clone()).or_default();
            *counted = (counted.0 + 1, counted.1 + bytes);
            if !is_sound {
                unsound += 1;
                let what = "the checksum of the payload is wrong";
                damaged.push(vec![position.into(), None::<u64>.into(), what.into()], rows_max);
            }
            let row = vec![
                position.into(),
                partition.into(),
                tenant.into(),
                kind.into(),
                bytes.into(),
                durable.into(),
                is_sound.into(),
            ];
            records.push(row, rows_max);
        }
        Entry::Bad { position, until } => {
            let what = "no record stands here";
            damaged.push(vec![position.into(), until.into(), what.into()], rows_max);
        }
    })?;
    let mut summary = Table::new("kinds", &["kind", "records", "payload_bytes"]);
    for (kind, (count, bytes)) in kinds {
        summary.push(vec![kind.into(), count.into(), bytes.into()], usize::MAX);
    }
    Ok(Sheet {
        file: name,
        kind: "log segment",
        facts: vec![
            ("version", facts.version.into()),
            ("required_features", facts.features.into()),
            ("file_bytes", facts.file_bytes.into()),
            ("start", facts.start.into()),
            ("previous_end", facts.previous_end.into()),
            ("gap_accepted", facts.gap_accepted.into()),
            ("end", facts.end.into()),
            ("records_count", facts.records.into()),
            ("unsound_records", unsound.into()),
        ],
        tables: vec![summary, damaged, records],
    })
}

fn kind_name(kind: u8) -> String {
    let known = RecordKind::from_stored(kind).map(|k| format!("{k:?}").to_lowercase());
    known.unwrap_or_else(
        || if kind == u8::MAX { "filler".to_owned() } else { format!("kind {kind}") },
    )
}
