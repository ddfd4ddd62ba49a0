//! A segment of entries, by its `streams.bin`: objects, groups of rows, tenants and streams.

use std::collections::BTreeMap;
use std::path::Path;

use model::{Disk, OpenMode};
use serde_json::Value;

use super::{Sheet, Table, whole};
use crate::Error;
use crate::entries::{OBJECT_NAMES, SEGMENT_VERSION, STREAMS, SegmentIndex};

/// What the segment in a directory says.
pub(super) fn sheet(disk: &dyn Disk, dir: &Path, rows_max: usize) -> Result<Sheet, Error> {
    let path = dir.join(STREAMS);
    let failed = |source| Error::Disk { doing: format!("read {}", path.display()), source };
    let file = disk.open(&path, OpenMode::Read).map_err(failed)?;
    let bytes = whole(file.as_ref()).map_err(failed)?;
    let (index, checksum) = SegmentIndex::inspect(&bytes, &path.display().to_string())?;
    let stored = disk.list(dir).map_err(failed)?;
    Ok(Sheet {
        file: dir.display().to_string(),
        kind: "segment",
        facts: vec![
            ("version", SEGMENT_VERSION.into()),
            ("required_features", index.features().into()),
            ("checksum", format!("{checksum:08x}").into()),
            ("signal", index.signal.to_string().into()),
            ("streams_count", index.streams.len().into()),
            ("entries", index.rows.into()),
            ("raw_bytes", index.raw_bytes.into()),
            ("range_ns", vec![Value::from(index.first_ns), index.last_ns.into()].into()),
            ("groups_count", index.groups.len().into()),
            ("block_rows", index.block_rows.into()),
            ("bytes", stored.iter().map(|e| e.bytes).sum::<u64>().into()),
        ],
        tables: vec![
            objects(&index, bytes.len() as u64, &stored),
            tenants(&index, rows_max),
            groups(&index, rows_max),
            streams(&index, rows_max),
        ],
    })
}

fn objects(index: &SegmentIndex, own_bytes: u64, stored: &[model::DirEntry]) -> Table {
    let mut table = Table::new("objects", &["object", "bytes", "expected_bytes"]);
    for name in OBJECT_NAMES {
        let found = stored.iter().find(|e| e.name == name).map(|e| e.bytes);
        let expected = match name {
            STREAMS => Some(own_bytes),
            name if name == index.tokens_object() => Some(index.tokens.size),
            name => (name == OBJECT_NAMES[0]).then_some(index.entries.size),
        };
        if found.is_some() || expected.is_some() {
            table.push(vec![name.into(), found.into(), expected.into()], usize::MAX);
        }
    }
    table
}

fn tenants(index: &SegmentIndex, rows_max: usize) -> Table {
    let mut all: BTreeMap<u32, (u64, u64, u64)> = BTreeMap::new();
    for one in &index.streams {
        let of = all.entry(one.stream.tenant.0).or_default();
        let entries: u64 = one.counts.hours.iter().map(|h| h.rows).sum();
        *of = (of.0 + 1, of.1 + entries, of.2 + one.counts.bytes());
    }
    let mut table = Table::new("tenants", &["tenant", "streams", "entries", "raw_bytes"]);
    for (tenant, (streams, entries, bytes)) in all {
        table.push(vec![tenant.into(), streams.into(), entries.into(), bytes.into()], rows_max);
    }
    table
}

fn groups(index: &SegmentIndex, rows_max: usize) -> Table {
    let mut table = Table::new("groups", &["first_row", "rows", "first_ns", "last_ns", "blocks"]);
    for group in &index.groups {
        let blocks = index.block_rows.map(|_| index.blocks_of(group).len());
        table.push(
            vec![
                group.first_row.into(),
                group.rows.into(),
                group.first_ns.into(),
                group.last_ns.into(),
                blocks.into(),
            ],
            rows_max,
        );
    }
    table
}

fn streams(index: &SegmentIndex, rows_max: usize) -> Table {
    let columns = &["tenant", "labels", "entries", "raw_bytes", "first_ns", "last_ns"];
    let mut table = Table::new("streams", columns);
    for one in &index.streams {
        let entries: u64 = one.counts.hours.iter().map(|h| h.rows).sum();
        table.push(
            vec![
                one.stream.tenant.0.into(),
                one.stream.labels.to_string().into(),
                entries.into(),
                one.counts.bytes().into(),
                one.counts.first_ns.into(),
                one.counts.last_ns.into(),
            ],
            rows_max,
        );
    }
    table
}
