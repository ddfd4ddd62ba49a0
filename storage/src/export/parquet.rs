//! Parquet: one row for each sample, any engine reads it.
//!
//! | column | |
//! |---|---|
//! | `metric` | the metric's name |
//! | `labels` | the other labels as a JSON object |
//! | `ts` | milliseconds since the Unix epoch, UTC |
//! | `value` | the float to the bit; null for a native histogram |
//! | `stale` | whether the value is the marker by which a sender says that a series has ended |
//! | `histogram` | a native histogram as JSON; null for a float |

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, StringBuilder, StringDictionaryBuilder,
    TimestampMillisecondBuilder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use model::{Buckets, Histogram, Labels, METRIC_NAME, Span, is_stale};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use super::Exported;
use crate::{Error, SeriesSamples};

/// Rows that are handed to the writer at a time.
const BATCH_ROWS: usize = 65_536;

/// Rows of a row group, which the writer holds in memory.
const GROUP_ROWS: usize = 1 << 20;

pub(super) struct Parquet<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
    rows: Rows,
}

#[derive(Default)]
struct Rows {
    metric: StringDictionaryBuilder<Int32Type>,
    labels: StringDictionaryBuilder<Int32Type>,
    ts: TimestampMillisecondBuilder,
    value: Float64Builder,
    stale: BooleanBuilder,
    histogram: StringBuilder,
    count: usize,
}

fn schema() -> Schema {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Schema::new(vec![
        Field::new("metric", text.clone(), false),
        Field::new("labels", text, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("value", DataType::Float64, true),
        Field::new("stale", DataType::Boolean, false),
        Field::new("histogram", DataType::Utf8, true),
    ])
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    super::failed(std::io::Error::other(source))
}

impl<W: Write + Send> Parquet<W> {
    pub(super) fn new(out: W) -> Result<Self, Error> {
        let level = ZstdLevel::try_new(3).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let schema = Arc::new(schema());
        let writer =
            ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)).map_err(failed)?;
        Ok(Self { writer, schema, rows: Rows::default() })
    }

    pub(super) fn add(
        &mut self,
        labels: &Labels,
        samples: &SeriesSamples,
        exported: &mut Exported,
    ) -> Result<(), Error> {
        exported.series += 1;
        let metric = labels.get(METRIC_NAME).unwrap_or("").to_owned();
        let others = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        let others: Value = Value::Object(
            others.map(|(name, value)| (name.to_owned(), Value::from(value))).collect(),
        );
        let others = others.to_string();
        for (ms, value) in samples.timestamps.iter().zip(&samples.values) {
            self.rows.begin(&metric, &others, *ms).map_err(failed)?;
            self.rows.value.append_value(*value);
            self.rows.stale.append_value(is_stale(*value));
            self.rows.histogram.append_null();
            self.hand_on(BATCH_ROWS)?;
        }
        for (ms, histogram) in &samples.histograms {
            self.rows.begin(&metric, &others, *ms).map_err(failed)?;
            self.rows.value.append_null();
            self.rows.stale.append_value(is_stale(histogram.sum));
            self.rows.histogram.append_value(json_of(histogram).to_string());
            self.hand_on(BATCH_ROWS)?;
        }
        exported.samples += samples.values.len() as u64;
        exported.histograms += samples.histograms.len() as u64;
        Ok(())
    }

    /// Hands rows to the writer, once there are so many.
    fn hand_on(&mut self, rows: usize) -> Result<(), Error> {
        if self.rows.count < rows {
            return Ok(());
        }
        let columns = std::mem::take(&mut self.rows).finish();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)?;
        self.writer.write(&batch).map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.hand_on(1)?;
        let mut out = self.writer.into_inner().map_err(failed)?;
        out.flush().map_err(super::failed)
    }
}

impl Rows {
    fn begin(
        &mut self,
        metric: &str,
        labels: &str,
        ms: i64,
    ) -> Result<(), arrow_schema::ArrowError> {
        self.metric.append(metric)?;
        self.labels.append(labels)?;
        self.ts.append_value(ms);
        self.count += 1;
        Ok(())
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.metric.finish()),
            Arc::new(self.labels.finish()),
            Arc::new(self.ts.finish().with_timezone("UTC")),
            Arc::new(self.value.finish()),
            Arc::new(self.stale.finish()),
            Arc::new(self.histogram.finish()),
        ]
    }
}

/// A native histogram with its buckets as pairs of index and count.
fn json_of(histogram: &Histogram) -> Value {
    let (count, zero_count, positive, negative) = match &histogram.buckets {
        Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => (
            json!(count),
            json!(zero_count),
            counts(&histogram.positive_spans, summed(positive_deltas)),
            counts(&histogram.negative_spans, summed(negative_deltas)),
        ),
        Buckets::Float { count, zero_count, positive, negative } => (
            number(*count),
            number(*zero_count),
            counts(&histogram.positive_spans, positive.iter().map(|c| number(*c))),
            counts(&histogram.negative_spans, negative.iter().map(|c| number(*c))),
        ),
    };
    json!({
        "schema": histogram.schema,
        "count": count,
        "sum": number(histogram.sum),
        "zero_threshold": number(histogram.zero_threshold),
        "zero_count": zero_count,
        "positive": positive,
        "negative": negative,
        "custom_bounds": histogram.custom_values.iter().map(|b| number(*b)).collect::<Vec<_>>(),
    })
}

/// What is no number in JSON becomes a text.
fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { Value::from(value.to_string()) }
}

fn summed(deltas: &[i64]) -> impl Iterator<Item = Value> {
    deltas.iter().scan(0i64, |sum, delta| {
        *sum = sum.wrapping_add(*delta);
        Some(Value::from(*sum))
    })
}

/// Buckets with their indexes, as the spans lay them out.
fn counts(spans: &[Span], counts: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut index = 0i64;
    let indexes = spans.iter().flat_map(|span| {
        let start = index + i64::from(span.offset);
        index = start + i64::from(span.length);
        start..index
    });
    indexes.zip(counts).map(|(at, count)| json!([at, count])).collect()
}
