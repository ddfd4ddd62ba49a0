//! One manifest object: its edit, and its checkpoint where it has one.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{Sheet, Table};
use crate::Error;
use crate::entries::EntryTombstone;
use crate::manifest::{BlockMeta, Edit, ManifestFacts, PartitionState, SegmentMeta, SnapshotMeta};
use crate::tombstone::Tombstone;

/// What a manifest says.
pub(super) fn sheet(bytes: &[u8], path: &Path, rows_max: usize) -> Result<Sheet, Error> {
    let file = path.display().to_string();
    let found = ManifestFacts::read(bytes, &file)?;
    let mut facts: Vec<(&'static str, Value)> = vec![
        ("version", found.version.into()),
        ("required_features", found.features.into()),
        ("bytes", bytes.len().into()),
        ("partition", found.partition.into()),
        ("number", found.number.into()),
        ("holds", if found.checkpoint.is_some() { "checkpoint" } else { "edit" }.into()),
        ("knows_the_one_before", found.before.is_some().into()),
    ];
    let mut tables = Vec::new();
    if let Some(Edit { add_blocks, remove_blocks, covered, snapshots, .. }) = &found.edit {
        let edit = found.edit.as_ref();
        facts.push(("next_object", edit.map(|e| e.next_object).into()));
        facts.push(("covered", covered.map(|p| p.0).into()));
        tables.push(blocks("added_blocks", add_blocks, rows_max));
        let mut removed = Table::new("removed_blocks", &["name"]);
        remove_blocks.iter().for_each(|name| removed.push(vec![name.clone().into()], rows_max));
        tables.push(removed);
        tables.extend(snapshots.as_ref().map(|all| snapshots_of("snapshots_from_now", all)));
        let added = edit.into_iter().flat_map(|e| e.add_tombstones.iter().map(AsRef::as_ref));
        tables.push(tombstones("added_tombstones", added, rows_max));
        let mut gone = Table::new("removed_tombstones", &["id"]);
        edit.into_iter()
            .flat_map(|e| &e.remove_tombstones)
            .for_each(|id| gone.push(vec![(*id).into()], rows_max));
        tables.push(gone);
        tables.extend(edit.into_iter().flat_map(|edit| of_entries(edit, rows_max)));
    }
    if let Some(state) = &found.checkpoint {
        facts.push(("state_covered", state.covered.0.into()));
        facts.push(("state_covered_before", state.covered_before.0.into()));
        facts.push(("state_next_object", state.next_object.into()));
        tables.push(blocks("blocks", &state.blocks, rows_max));
        tables.push(snapshots_of("snapshots", &state.snapshots));
        let all = state.tombstones.iter().map(AsRef::as_ref);
        tables.push(tombstones("tombstones", all, rows_max));
        tables.extend(state_of_entries(state, rows_max));
    }
    Ok(Sheet { file, kind: "manifest", facts, tables })
}

/// What an edit says of entries; nothing in a partition of metrics.
fn of_entries(edit: &Edit, rows_max: usize) -> Vec<Table> {
    let mut removed = Table::new("removed_segments", &["name"]);
    edit.remove_segments.iter().for_each(|name| removed.push(vec![name.clone().into()], rows_max));
    let mut gone = Table::new("removed_entry_tombstones", &["id"]);
    edit.remove_entry_tombstones.iter().for_each(|id| gone.push(vec![(*id).into()], rows_max));
    let all = [
        segments("added_segments", &edit.add_segments, rows_max),
        removed,
        entry_tombstones("added_entry_tombstones", &edit.add_entry_tombstones, rows_max),
        gone,
    ];
    all.into_iter().filter(|table| !table.is_empty()).collect()
}

/// The same of a state.
fn state_of_entries(state: &PartitionState, rows_max: usize) -> Vec<Table> {
    let all = [
        segments("segments", &state.segments, rows_max),
        entry_tombstones("entry_tombstones", &state.entry_tombstones, rows_max),
    ];
    all.into_iter().filter(|table| !table.is_empty()).collect()
}

fn segments(name: &'static str, all: &[SegmentMeta], rows_max: usize) -> Table {
    let mut table = Table::new(
        name,
        &[
            "name",
            "signal",
            "level",
            "first_ns",
            "last_ns",
            "positions",
            "streams",
            "entries",
            "raw_bytes",
            "bytes",
            "created_ms",
            "deleted_to",
            "checksum",
        ],
    );
    for s in all {
        let positions = vec![Value::from(s.positions.0.0), s.positions.1.0.into()];
        table.push(
            vec![
                s.name.clone().into(),
                s.signal.to_string().into(),
                s.level.into(),
                s.range_ns.0.into(),
                s.range_ns.1.into(),
                positions.into(),
                s.streams.into(),
                s.rows.into(),
                s.raw_bytes.into(),
                s.bytes.into(),
                s.created_ms.into(),
                s.deleted_to.map(|p| p.0).into(),
                format!("{:08x}", s.index_checksum).into(),
            ],
            rows_max,
        );
    }
    table
}

fn entry_tombstones(name: &'static str, all: &[Arc<EntryTombstone>], rows_max: usize) -> Table {
    let columns = &["id", "tenant", "text", "first_ns", "end_ns", "position", "created_ms"];
    let mut table = Table::new(name, columns);
    for t in all {
        table.push(
            vec![
                t.id.into(),
                t.tenant.0.into(),
                t.text.clone().into(),
                t.range_ns.0.into(),
                t.range_ns.1.into(),
                t.position.0.into(),
                t.created_ms.into(),
            ],
            rows_max,
        );
    }
    table
}

fn blocks(name: &'static str, all: &[BlockMeta], rows_max: usize) -> Table {
    let mut table = Table::new(
        name,
        &[
            "name",
            "level",
            "first_ms",
            "last_ms",
            "positions",
            "series",
            "chunks",
            "samples",
            "histograms",
            "bytes",
            "created_ms",
            "deleted_to",
            "checksum",
        ],
    );
    for b in all {
        let positions = vec![Value::from(b.positions.0.0), b.positions.1.0.into()];
        table.push(
            vec![
                b.name.clone().into(),
                b.level.into(),
                b.range.start_ms.into(),
                b.range.end_ms.into(),
                positions.into(),
                b.series.into(),
                b.chunks.into(),
                b.samples.into(),
                b.histograms.into(),
                b.bytes.into(),
                b.created_ms.into(),
                b.deleted_to.map(|p| p.0).into(),
                b.index_checksum.map(|c| format!("{c:08x}")).into(),
            ],
            rows_max,
        );
    }
    table
}

fn snapshots_of(name: &'static str, all: &[SnapshotMeta]) -> Table {
    let mut table = Table::new(name, &["name", "full", "series", "bytes", "checksum"]);
    for s in all {
        let checksum = s.checksum.map(|c| format!("{c:08x}"));
        table.push(
            vec![
                s.name.clone().into(),
                s.full.into(),
                s.series.into(),
                s.bytes.into(),
                checksum.into(),
            ],
            usize::MAX,
        );
    }
    table
}

fn tombstones<'a>(
    name: &'static str,
    all: impl Iterator<Item = &'a Tombstone>,
    rows_max: usize,
) -> Table {
    let mut table = Table::new(
        name,
        &["id", "tenant", "matchers", "first_ms", "last_ms", "position", "created_ms"],
    );
    for t in all {
        let matchers: Vec<String> = t.matchers.iter().map(ToString::to_string).collect();
        table.push(
            vec![
                t.id.into(),
                t.tenant.0.into(),
                format!("{{{}}}", matchers.join(",")).into(),
                t.range.start_ms.into(),
                t.range.end_ms.into(),
                t.position.0.into(),
                t.created_ms.into(),
            ],
            rows_max,
        );
    }
    table
}
