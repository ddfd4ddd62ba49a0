//! Entries as rows: a batch of Arrow arrays.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, RecordBatch, RecordBatchOptions, TimestampNanosecondArray, new_null_array,
};
use arrow_schema::ArrowError;
use storage::entries::FoundEntry;

use super::super::columns::{Column, Columns};
use super::super::rows::{maps, words};

/// Entries as rows, in their order.
pub(super) fn batch(columns: &Columns, entries: &[FoundEntry]) -> Result<RecordBatch, ArrowError> {
    let rows = entries.len();
    let array = |column: &Column| -> Result<ArrayRef, ArrowError> {
        Ok(match column {
            Column::Time(_) => {
                let times = entries.iter().map(|entry| entry.at_ns);
                Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
            }
            Column::Label(name) => label(entries, name)?,
            Column::Labels => maps(entries.iter().map(|entry| entry.stream.labels.iter()))?,
            Column::Level => {
                words(rows, entries.iter().map(|entry| (Some(entry.level.as_str()), 1)))?
            }
            Column::Source => {
                words(rows, entries.iter().map(|entry| (Some(entry.stream.kind.as_str()), 1)))?
            }
            Column::Line => lines(entries),
            Column::Fields => maps(entries.iter().map(fields))?,
            Column::Field(name) => {
                let value = |entry| fields(entry).find(|(field, _)| field == name).map(|f| f.1);
                Arc::new(entries.iter().map(value).collect::<arrow_array::StringArray>())
            }
            // Entries have no such thing.
            Column::Value | Column::Histogram => new_null_array(&column.data_type(), rows),
        })
    };
    let arrays = columns.iter().map(array).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(columns.schema()), arrays, &options)
}

/// Looked up once for entries of one stream that follow each other.
fn label(entries: &[FoundEntry], name: &str) -> Result<ArrayRef, ArrowError> {
    let same = entries.chunk_by(|a, b| Arc::ptr_eq(&a.stream, &b.stream));
    let runs =
        same.map(|run| (run.first().and_then(|entry| entry.stream.labels.get(name)), run.len()));
    words(entries.len(), runs)
}

fn fields(entry: &FoundEntry) -> impl Iterator<Item = (&str, &str)> {
    entry.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// What is no UTF-8 becomes U+FFFD.
fn lines(entries: &[FoundEntry]) -> ArrayRef {
    let bytes = entries.iter().map(|entry| entry.line.len()).sum();
    let mut lines = StringBuilder::with_capacity(entries.len(), bytes);
    for entry in entries {
        let line: Cow<'_, str> = String::from_utf8_lossy(&entry.line);
        lines.append_value(line);
    }
    Arc::new(lines.finish())
}
