//! Rows as JSON: an envelope as Prometheus' API has it, columns with their types, rows as lists.

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};
use query::Used;
use query::http::push_json_string as push_string;
use query::number::push_unsigned;

use super::cells::{comma, push_json};
use crate::sql::types::type_name;

/// A document that is being written.
pub(in crate::sql) struct Rows {
    /// What was written and not yet taken.
    out: Vec<u8>,
    rows: u64,
}

impl Rows {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut out = b"{\"status\":\"success\",\"data\":{\"columns\":[".to_vec();
        for (i, field) in schema.fields().iter().enumerate() {
            comma(&mut out, i);
            out.extend_from_slice(b"{\"name\":");
            push_string(&mut out, field.name());
            out.extend_from_slice(b",\"type\":");
            push_string(&mut out, &type_name(field.data_type()));
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"rows\":[");
        Self { out, rows: 0 }
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let mut out = std::mem::take(&mut self.out);
        for row in 0..batch.num_rows() {
            if self.rows > 0 {
                out.push(b',');
            }
            self.rows += 1;
            out.push(b'[');
            for (i, column) in batch.columns().iter().enumerate() {
                comma(&mut out, i);
                push_json(&mut out, column, row)?;
            }
            out.push(b']');
        }
        Ok(out)
    }

    pub(super) fn end(&mut self, notes: &[String], used: Used) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        out.extend_from_slice(b"],\"stats\":{");
        let counts = [
            ("rows", self.rows),
            ("series", used.series),
            ("samples", used.samples),
            ("bytesRead", used.bytes),
            ("peakMemoryBytes", used.memory_bytes_peak),
        ];
        for (i, (name, count)) in counts.into_iter().enumerate() {
            comma(&mut out, i);
            push_string(&mut out, name);
            out.push(b':');
            push_unsigned(&mut out, count);
        }
        out.extend_from_slice(b"}}");
        if !notes.is_empty() {
            out.extend_from_slice(b",\"warnings\":[");
            for (i, note) in notes.iter().enumerate() {
                comma(&mut out, i);
                push_string(&mut out, note);
            }
            out.push(b']');
        }
        out.push(b'}');
        out
    }
}
