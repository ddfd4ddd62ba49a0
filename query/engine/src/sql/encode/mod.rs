//! Answers in the form that was asked for, piece by piece: the head with the first rows, the tail
//! after the last.

mod cells;
mod csv;
mod json;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Schema};
use bytes::Bytes;
use query::{Error, SqlFormat, Used};

/// Writes an answer.
pub(super) enum Encoder {
    Json(json::Rows),
    Csv(csv::Rows),
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

fn failed(error: ArrowError) -> Error {
    Error::internal("encode the answer", error)
}

impl Encoder {
    /// A writer of rows with this schema.
    pub(super) fn new(format: SqlFormat, schema: &Schema) -> Result<Self, Error> {
        Ok(match format {
            SqlFormat::Json => Self::Json(json::Rows::new(schema)),
            SqlFormat::Csv => Self::Csv(csv::Rows::new(schema)),
            SqlFormat::Arrow => {
                let writer = StreamWriter::try_new(Vec::new(), schema);
                Self::Arrow(Box::new(writer.map_err(failed)?))
            }
        })
    }

    /// What is to be sent once these rows are there.
    pub(super) fn rows(&mut self, batch: &RecordBatch) -> Result<Bytes, Error> {
        Ok(match self {
            Self::Json(rows) => rows.push(batch).map_err(failed)?.into(),
            Self::Csv(rows) => rows.push(batch).map_err(failed)?.into(),
            Self::Arrow(writer) => {
                writer.write(batch).map_err(failed)?;
                std::mem::take(writer.get_mut()).into()
            }
        })
    }

    /// The end. Notes and what was used have a place in JSON alone.
    pub(super) fn end(&mut self, notes: &[String], used: Used) -> Result<Bytes, Error> {
        Ok(match self {
            Self::Json(rows) => rows.end(notes, used).into(),
            Self::Csv(rows) => rows.end().into(),
            Self::Arrow(writer) => {
                writer.finish().map_err(failed)?;
                std::mem::take(writer.get_mut()).into()
            }
        })
    }
}

#[cfg(test)]
mod tests;
