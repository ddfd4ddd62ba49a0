//! Rows as CSV by RFC 4180: names first, lines end in CR LF. Null is an empty cell, the empty text a
//! quoted one; what has parts is JSON in a cell.

use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, Schema};
use query::number::{push_integer, push_unsigned, push_value};

use super::cells::{Cell, cell, comma, push_json};

/// Lines that are being written.
pub(in crate::sql) struct Rows {
    /// What was written and not yet taken.
    out: Vec<u8>,
}

impl Rows {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut out = Vec::new();
        for (i, field) in schema.fields().iter().enumerate() {
            comma(&mut out, i);
            push_text(&mut out, field.name());
        }
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let mut out = std::mem::take(&mut self.out);
        for row in 0..batch.num_rows() {
            for (i, column) in batch.columns().iter().enumerate() {
                comma(&mut out, i);
                push_cell(&mut out, column, row)?;
            }
            out.extend_from_slice(b"\r\n");
        }
        Ok(out)
    }

    pub(super) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

fn push_cell(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    match cell(array, row)? {
        Cell::Null => {}
        Cell::Boolean(truth) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
        Cell::Whole(value) => push_integer(out, value),
        Cell::Unsigned(value) => push_unsigned(out, value),
        Cell::Float(value) => push_value(out, value),
        Cell::Text(text) => push_text(out, text),
        Cell::Shown(text) => push_text(out, &text),
        Cell::Nested(array) => {
            let mut json = Vec::new();
            push_json(&mut json, array, row)?;
            push_text(out, &String::from_utf8_lossy(&json));
        }
    }
    Ok(())
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| !matches!(byte, b',' | b'"' | b'\r' | b'\n');
    if !text.is_empty() && text.bytes().all(is_plain) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
