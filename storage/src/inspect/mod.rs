//! What one stored file says, for whoever looks after a data directory.
//!
//! ```text
//! file or directory of a block or segment ─► kind, by its first bytes ─► Sheet: facts and tables ─► text or JSON
//! ```
//!
//! Reads one file and changes nothing; needs no lock, since files only ever grow or go.

mod block;
mod log;
mod manifest;
mod segment;

use std::io;
use std::path::Path;
use std::sync::Arc;

use model::{Disk, DiskFile, OpenMode};
use serde_json::{Map, Value};

use crate::entries::STREAMS;
use crate::{Error, head};

/// Largest object that is read whole; segments of the log may be larger. Bytes.
const OBJECT_BYTES_MAX: u64 = 4 << 30;

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// The file.
    pub file: String,
    /// What it is: `block`, `segment`, `manifest`, `snapshot`, `log segment`.
    pub kind: &'static str,
    /// Single facts, in order.
    pub facts: Vec<(&'static str, Value)>,
    /// Lists of things.
    pub tables: Vec<Table>,
}

/// A list of things of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What they are.
    pub name: &'static str,
    /// What is said of each.
    pub columns: &'static [&'static str],
    /// One row each.
    pub rows: Vec<Vec<Value>>,
    /// How many more there are.
    pub left_out: u64,
}

impl Table {
    pub(crate) fn new(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, rows: Vec::new(), left_out: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.left_out == 0
    }

    /// Adds a row, or counts it if there are so many already.
    pub(crate) fn push(&mut self, row: Vec<Value>, rows_max: usize) {
        if self.rows.len() < rows_max {
            self.rows.push(row);
        } else {
            self.left_out += 1;
        }
    }
}

impl Sheet {
    /// As one JSON object: facts by name, tables as lists of objects.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("file".to_owned(), self.file.clone().into());
        all.insert("kind".to_owned(), self.kind.into());
        for (name, value) in &self.facts {
            all.insert((*name).to_owned(), value.clone());
        }
        for table in &self.tables {
            let row = |cells: &Vec<Value>| -> Value {
                let names = table.columns.iter().map(|c| (*c).to_owned());
                Value::Object(names.zip(cells.iter().cloned()).collect())
            };
            all.insert(table.name.to_owned(), table.rows.iter().map(row).collect());
            if table.left_out > 0 {
                all.insert(format!("{}_left_out", table.name), table.left_out.into());
            }
        }
        Value::Object(all)
    }
}

/// Reads a file, or the directory of a block or of a segment of entries, of a disk. Of lists at most
/// `rows_max` rows are given. Blocks.
pub fn inspect(disk: &Arc<dyn Disk>, path: &Path, rows_max: usize) -> Result<Sheet, Error> {
    let failed = |source| Error::Disk { doing: format!("read {}", path.display()), source };
    if is_directory(disk.as_ref(), path) {
        let has_streams = |entries: Vec<model::DirEntry>| entries.iter().any(|e| e.name == STREAMS);
        let is_segment = disk.list(path).is_ok_and(has_streams);
        let sheet = if is_segment { segment::sheet } else { block::sheet };
        return sheet(disk.as_ref(), path, rows_max);
    }
    let file = disk.open(path, OpenMode::Read).map_err(failed)?;
    let mut magic = [0; 8];
    let read = file.read_at(&mut magic, 0).map_err(failed)?;
    match &magic[..read] {
        b"TFBLOCK\n" => block::sheet(disk.as_ref(), path.parent().unwrap_or(path), rows_max),
        b"TFSEGMNT" => segment::sheet(disk.as_ref(), path.parent().unwrap_or(path), rows_max),
        b"TAFFRLOG" => log::sheet(file.as_ref(), path, rows_max),
        b"TAFFRMAN" => manifest::sheet(&whole(file.as_ref()).map_err(failed)?, path, rows_max),
        b"TFRLHEAD" => snapshot(&whole(file.as_ref()).map_err(failed)?, path, rows_max),
        _ => Err(Error::Corrupt {
            what: path.display().to_string(),
            reason: "it begins like no file of a store that tells about itself: neither index.bin of a block, streams.bin of a segment, manifest, snapshot nor log segment"
                .to_owned(),
        }),
    }
}

fn is_directory(disk: &dyn Disk, path: &Path) -> bool {
    let parent = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    match name {
        None => true,
        Some(name) => disk
            .list(parent)
            .is_ok_and(|entries| entries.iter().any(|e| e.is_dir && e.name == name)),
    }
}

/// The bytes of a whole file.
fn whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let bytes = file.bytes()?;
    if bytes > OBJECT_BYTES_MAX {
        return Err(io::Error::other(format!("it has {bytes} bytes, more than any object")));
    }
    let mut content = vec![0; bytes as usize];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

fn snapshot(bytes: &[u8], path: &Path, rows_max: usize) -> Result<Sheet, Error> {
    let found = head::inspect_snapshot(bytes, &path.display().to_string())?;
    let mut tenants = Table::new("tenants", &["tenant", "series"]);
    for (tenant, series) in &found.tenants {
        tenants.push(vec![tenant.0.into(), (*series).into()], rows_max);
    }
    Ok(Sheet {
        file: path.display().to_string(),
        kind: "snapshot",
        facts: vec![
            ("version", found.version.into()),
            ("required_features", found.features.into()),
            ("bytes", bytes.len().into()),
            ("checksum", format!("{:08x}", found.checksum).into()),
            ("epoch", found.epoch.into()),
            ("full", (found.first_series == 0).into()),
            ("first_series", found.first_series.into()),
            ("series", found.series.into()),
            ("symbols", found.symbols.into()),
            ("shapes", found.shapes.into()),
        ],
        tables: vec![tenants],
    })
}

/// A position or a number of bytes that may not fit a JavaScript number is still a number here.
pub(crate) fn range_of(range: Option<model::TimeRange>) -> Value {
    range.map_or(Value::Null, |r| Value::Array(vec![r.start_ms.into(), r.end_ms.into()]))
}
