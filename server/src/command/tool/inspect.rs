//! `taffrail tool inspect`: what one file says, as text or JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use storage::{Sheet, Table};

use super::super::text::{table, text};
use super::open_disk;

/// `taffrail tool inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The file, or the directory of a block.
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Rows of each list that are printed.
    #[arg(long, value_name = "N", default_value_t = 50)]
    rows: usize,
}

pub(super) fn run(arguments: &Inspect) -> Result<ExitCode> {
    let path = arguments.path.canonicalize();
    let path = path.with_context(|| format!("find {}", arguments.path.display()))?;
    let parent = path.parent().context("the root is no file of a store")?;
    let name = path.file_name().context("the path has no last part")?;
    let disk = open_disk(parent)?;
    let mut sheet = storage::inspect(&disk, name.as_ref(), arguments.rows)?;
    sheet.file = path.display().to_string();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&sheet.to_json())?);
    } else {
        print!("{}", shown(&sheet));
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(sheet: &Sheet) -> String {
    let mut out = format!("{}: {}\n", sheet.kind, sheet.file);
    let facts = sheet.facts.iter().map(|(name, value)| vec![(*name).to_owned(), text(value)]);
    out += &table(&[], facts);
    for Table { name, columns, rows, left_out } in &sheet.tables {
        if rows.is_empty() {
            continue;
        }
        out += &format!("\n{name}\n");
        out += &table(columns, rows.iter().map(|row| row.iter().map(text).collect()));
        if *left_out > 0 {
            out += &format!("and {left_out} more; see --rows\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_shown_as_tables() {
        let sheet = Sheet {
            file: "x".to_owned(),
            kind: "manifest",
            facts: vec![("version", 1.into()), ("number", 12.into())],
            tables: vec![
                Table {
                    name: "blocks",
                    columns: &["name", "series"],
                    rows: vec![vec!["b".into(), 7.into()]],
                    left_out: 2,
                },
                Table { name: "tombstones", columns: &["id"], rows: Vec::new(), left_out: 0 },
            ],
        };
        let expected = "\
manifest: x
version  1
number   12

blocks
name  series
b     7
and 2 more; see --rows
";
        assert_eq!(shown(&sheet), expected);
        let json = serde_json::json!({
            "file": "x", "kind": "manifest", "version": 1, "number": 12,
            "blocks": [{"name": "b", "series": 7}], "blocks_left_out": 2, "tombstones": [],
        });
        assert_eq!(sheet.to_json(), json);
    }
}
