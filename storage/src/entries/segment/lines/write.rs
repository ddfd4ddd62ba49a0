//! Writes a blob.

use std::io;

use model::varint;

use super::column::Columns;
use super::sections::{Section, Sections};
use super::table::{Kept, Table};
use super::{BYTES_MAX, ROWS_MAX};

/// Encodes lines of any bytes.
///
/// # Errors
/// If there are more than [`ROWS_MAX`], or they have more than [`BYTES_MAX`].
pub fn encode(lines: &[&[u8]], zstd_level: i32) -> io::Result<Vec<u8>> {
    let text_bytes = lines.iter().map(|line| line.len()).sum();
    if lines.len() > ROWS_MAX || text_bytes > BYTES_MAX {
        let rows = lines.len();
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{rows} lines of {text_bytes} bytes, at most {ROWS_MAX} of {BYTES_MAX} can be"),
        ));
    }
    let table = Table::of(lines);
    let kept = table.kept();
    let mut columns = Columns::default();
    put_templates(&kept, lines.len(), &mut columns.sections);
    let mut values = Vec::new();
    for template in &kept.templates {
        for variable in 0..template.variables {
            values.clear();
            values.extend(template.rows.iter().map(|row| table.value(lines, *row, variable)));
            columns.add(&mut values);
        }
    }
    for &row in &kept.plain_rows {
        varint::put(columns.sections.of(Section::Lengths), lines[row].len() as u64);
        columns.sections.of(Section::Texts).extend_from_slice(lines[row]);
    }
    columns.sections.pack(lines.len(), text_bytes, zstd_level)
}

/// Puts texts of templates, and which one each row is of: 0 for lines that are kept as they are.
fn put_templates(kept: &Kept<'_>, rows: usize, sections: &mut Sections) {
    sections.put_head(kept.templates.len());
    let mut ids = vec![0; rows];
    for (template, id) in kept.templates.iter().zip(1u16..) {
        sections.put_head(template.text.len());
        sections.of(Section::Templates).extend_from_slice(template.text);
        template.rows.iter().for_each(|row| ids[*row] = id);
    }
    let out = sections.of(Section::Ids);
    out.extend(ids.iter().map(|id| *id as u8));
    if kept.templates.len() > usize::from(u8::MAX) {
        out.extend(ids.iter().map(|id| (*id >> 8) as u8));
    }
}
