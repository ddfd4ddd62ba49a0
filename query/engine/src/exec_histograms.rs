//! Native histograms as a column of a DataFusion plan: a struct of numbers and lists, from which the
//! histogram can be put together again. Buckets have their indexes; what is not there is empty.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int32Array, ListArray, StructArray, UInt8Array};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields};
use query::FloatHistogram;
use query::histogram::layout::indexed_buckets;

/// The type of the column.
pub(crate) fn histogram_type() -> DataType {
    DataType::Struct(fields())
}

fn fields() -> Fields {
    let list = |name: &str, item: FieldRef| Field::new(name, DataType::List(item), false);
    Fields::from(vec![
        Field::new("count", DataType::Float64, false),
        Field::new("sum", DataType::Float64, false),
        // Bucket growth is 2^(2^-schema); -53 means bounds of its own.
        Field::new("schema", DataType::Int32, false),
        Field::new("zero_threshold", DataType::Float64, false),
        Field::new("zero_count", DataType::Float64, false),
        list("positive", bucket_item()),
        list("negative", bucket_item()),
        list("bounds", bound_item()),
        // 0 unknown, 1 after a reset, 2 after none, 3 a gauge.
        Field::new("reset_hint", DataType::UInt8, false),
    ])
}

fn bucket_fields() -> Fields {
    Fields::from(vec![
        Field::new("index", DataType::Int32, false),
        Field::new("count", DataType::Float64, false),
    ])
}

fn bucket_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(bucket_fields()), false))
}

fn bound_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float64, false))
}

/// Buckets of one side, row by row.
#[derive(Debug)]
struct Buckets {
    ends: Vec<i32>,
    indexes: Vec<i32>,
    counts: Vec<f64>,
}

impl Buckets {
    fn new() -> Self {
        Self { ends: vec![0], indexes: Vec::new(), counts: Vec::new() }
    }

    fn append(&mut self, buckets: impl Iterator<Item = (i32, f64)>) {
        for (index, count) in buckets {
            self.indexes.push(index);
            self.counts.push(count);
        }
        self.ends.push(self.indexes.len() as i32);
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(self.indexes)),
            Arc::new(Float64Array::from(self.counts)),
        ];
        let buckets = StructArray::try_new(bucket_fields(), columns, None)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        Ok(Arc::new(ListArray::try_new(bucket_item(), offsets, Arc::new(buckets), None)?))
    }
}

/// A column being filled.
#[derive(Debug)]
pub(crate) struct HistogramBuilder {
    present: Vec<bool>,
    counts: Vec<f64>,
    sums: Vec<f64>,
    schemas: Vec<i32>,
    zero_thresholds: Vec<f64>,
    zero_counts: Vec<f64>,
    positive: Buckets,
    negative: Buckets,
    bound_ends: Vec<i32>,
    bounds: Vec<f64>,
    reset_hints: Vec<u8>,
}

impl HistogramBuilder {
    pub(crate) fn new() -> Self {
        Self {
            present: Vec::new(),
            counts: Vec::new(),
            sums: Vec::new(),
            schemas: Vec::new(),
            zero_thresholds: Vec::new(),
            zero_counts: Vec::new(),
            positive: Buckets::new(),
            negative: Buckets::new(),
            bound_ends: vec![0],
            bounds: Vec::new(),
            reset_hints: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn append(&mut self, histogram: Option<&FloatHistogram>) {
        let of = |get: fn(&FloatHistogram) -> f64| histogram.map_or(0.0, get);
        self.present.push(histogram.is_some());
        self.counts.push(of(|h| h.count));
        self.sums.push(of(|h| h.sum));
        self.schemas.push(histogram.map_or(0, |h| h.schema));
        self.zero_thresholds.push(of(|h| h.zero_threshold));
        self.zero_counts.push(of(|h| h.zero_count));
        let positive = histogram.map(|h| indexed_buckets(&h.positive_spans, &h.positive));
        self.positive.append(positive.into_iter().flatten());
        let negative = histogram.map(|h| indexed_buckets(&h.negative_spans, &h.negative));
        self.negative.append(negative.into_iter().flatten());
        self.bounds.extend(histogram.iter().flat_map(|h| h.custom_values.iter()));
        self.bound_ends.push(self.bounds.len() as i32);
        self.reset_hints.push(histogram.map_or(0, |h| h.reset_hint as u8));
    }

    /// How many buckets and bounds there are.
    pub(crate) fn parts(&self) -> usize {
        self.positive.counts.len() + self.negative.counts.len() + self.bounds.len()
    }

    pub(crate) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let floats = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.bound_ends));
        let bounds = ListArray::try_new(bound_item(), offsets, floats(self.bounds), None)?;
        let columns: Vec<ArrayRef> = vec![
            floats(self.counts),
            floats(self.sums),
            Arc::new(Int32Array::from(self.schemas)),
            floats(self.zero_thresholds),
            floats(self.zero_counts),
            self.positive.finish()?,
            self.negative.finish()?,
            Arc::new(bounds),
            Arc::new(UInt8Array::from(self.reset_hints)),
        ];
        let present = NullBuffer::from(self.present);
        Ok(Arc::new(StructArray::try_new(fields(), columns, Some(present))?))
    }
}
