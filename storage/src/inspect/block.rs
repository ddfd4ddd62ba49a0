//! A block, by its `index.bin`: sections, tenants, and the objects beside it.

use std::path::Path;

use bytes::Bytes;
use model::{Disk, OpenMode};

use super::{Sheet, Table, range_of, whole};
use crate::Error;
use crate::block::{IndexFacts, OBJECT_NAMES};

/// What the block in a directory says.
pub(super) fn sheet(disk: &dyn Disk, dir: &Path, rows_max: usize) -> Result<Sheet, Error> {
    let path = dir.join("index.bin");
    let failed = |source| Error::Disk { doing: format!("read {}", path.display()), source };
    let file = disk.open(&path, OpenMode::Read).map_err(failed)?;
    let bytes = Bytes::from(whole(file.as_ref()).map_err(failed)?);
    let index = IndexFacts::read(&path.display().to_string(), &bytes)?;
    let entries = disk.list(dir).map_err(failed)?;
    Ok(Sheet {
        file: dir.display().to_string(),
        kind: "block",
        facts: vec![
            ("version", index.version.into()),
            ("required_features", index.features.into()),
            ("checksum", format!("{:08x}", index.checksum).into()),
            ("series", index.series.into()),
            ("chunks", index.chunks.into()),
            ("samples", index.samples.into()),
            ("histograms", index.histograms.into()),
            ("exemplars", index.exemplars.into()),
            ("range_ms", range_of(index.range)),
            ("bytes", entries.iter().map(|e| e.bytes).sum::<u64>().into()),
        ],
        tables: vec![objects(&index, &entries), sections(&index), tenants(&index, rows_max)],
    })
}

fn objects(index: &IndexFacts, entries: &[model::DirEntry]) -> Table {
    let mut table = Table::new("objects", &["object", "bytes", "expected_bytes"]);
    for name in OBJECT_NAMES {
        let found = entries.iter().find(|e| e.name == name).map(|e| e.bytes);
        let expected =
            index.objects.iter().find(|(known, _)| *known == name).map(|(_, size)| *size);
        if found.is_some() || expected.is_some() {
            table.push(vec![name.into(), found.into(), expected.into()], usize::MAX);
        }
    }
    table
}

fn sections(index: &IndexFacts) -> Table {
    let mut table =
        Table::new("sections", &["kind", "name", "coding", "bytes", "raw_bytes", "checksum"]);
    for section in &index.sections {
        let checksum = format!("{:08x}", section.checksum);
        table.push(
            vec![
                section.kind.into(),
                section.name.clone().into(),
                section.coding.into(),
                section.stored_bytes.into(),
                section.raw_bytes.into(),
                checksum.into(),
            ],
            usize::MAX,
        );
    }
    table
}

fn tenants(index: &IndexFacts, rows_max: usize) -> Table {
    let mut table = Table::new("tenants", &["tenant", "series", "chunks", "first_ms", "last_ms"]);
    for rows in &index.tenants {
        let range = Some(rows.range).filter(|r| r.start_ms <= r.end_ms);
        table.push(
            vec![
                rows.tenant.0.into(),
                rows.series.len().into(),
                rows.chunks.len().into(),
                range.map(|r| r.start_ms).into(),
                range.map(|r| r.end_ms).into(),
            ],
            rows_max,
        );
    }
    table
}
