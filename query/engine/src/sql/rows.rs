//! Samples as rows: a batch of Arrow arrays from some series, in the order of the series and, within
//! each, of time. Markers that say a series has ended are no rows.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, RecordBatchOptions,
    StringArray, TimestampMillisecondArray, new_null_array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::ArrowError;
use hashbrown::HashMap;
use model::{Histogram, Labels, METRIC_NAME, is_stale};
use query::FloatHistogram;
use storage::SeriesSamples;

use super::columns::{Column, Columns};
use crate::exec_histograms::{HistogramBuilder, histogram_type};

/// One series: its labels and its points in order of time.
pub(super) struct Series<'a> {
    pub(super) labels: &'a Labels,
    pub(super) times: Vec<i64>,
    pub(super) points: Points,
}

/// What there is at the instants of a series.
pub(super) enum Points {
    Floats(Vec<f64>),
    Mixed(Vec<Point>),
}

/// A float or a native histogram.
pub(super) enum Point {
    Float(f64),
    Stored(Arc<Histogram>),
    Computed(Arc<FloatHistogram>),
}

impl<'a> Series<'a> {
    /// Of what is stored.
    pub(super) fn of_stored(labels: &'a Labels, samples: SeriesSamples) -> Self {
        let SeriesSamples { timestamps, values, histograms, .. } = samples;
        if histograms.is_empty() {
            if !values.iter().any(|value| is_stale(*value)) {
                return Self { labels, times: timestamps.to_vec(), points: Points::Floats(values) };
            }
            let live = timestamps.iter().copied().zip(values).filter(|(_, v)| !is_stale(*v));
            let (times, values) = live.unzip();
            return Self { labels, times, points: Points::Floats(values) };
        }
        let floats = timestamps.iter().copied().zip(values).filter(|(_, v)| !is_stale(*v));
        let floats = floats.map(|(at_ms, value)| (at_ms, Point::Float(value)));
        let histograms = histograms.into_iter().filter(|(_, h)| !h.is_stale());
        let histograms = histograms.map(|(at_ms, h)| (at_ms, Point::Stored(h)));
        Self::mixed(labels, floats.chain(histograms).collect())
    }

    /// Of points in any order.
    pub(super) fn mixed(labels: &'a Labels, mut points: Vec<(i64, Point)>) -> Self {
        points.sort_by_key(|(at_ms, _)| *at_ms);
        let (times, points) = points.into_iter().unzip();
        Self { labels, times, points: Points::Mixed(points) }
    }
}

/// Some rows of one series.
struct Part<'a> {
    series: &'a Series<'a>,
    rows: Range<usize>,
}

impl Part<'_> {
    fn times(&self) -> &[i64] {
        self.series.times.get(self.rows.clone()).unwrap_or_default()
    }
}

/// The rows of some series, in batches of a bounded number of rows. Each has arrays of its own:
/// parts of larger ones would be counted as the whole by everyone who keeps them.
pub(super) fn batches(
    columns: &Columns,
    series: &[Series<'_>],
    rows_max: usize,
) -> Result<Vec<RecordBatch>, ArrowError> {
    let (mut batches, mut parts, mut rows) = (Vec::new(), Vec::new(), 0);
    for one in series {
        let mut at = 0;
        while at < one.times.len() {
            let end = one.times.len().min(at + rows_max - rows);
            parts.push(Part { series: one, rows: at..end });
            rows += end - at;
            at = end;
            if rows == rows_max {
                batches.push(batch(columns, &parts, rows)?);
                parts.clear();
                rows = 0;
            }
        }
    }
    if rows > 0 {
        batches.push(batch(columns, &parts, rows)?);
    }
    Ok(batches)
}

fn batch(columns: &Columns, parts: &[Part<'_>], rows: usize) -> Result<RecordBatch, ArrowError> {
    let array = |column: &Column| -> Result<ArrayRef, ArrowError> {
        Ok(match column {
            Column::Time(_) => {
                let times: Vec<i64> = parts.iter().flat_map(Part::times).copied().collect();
                Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))
            }
            Column::Value => values(parts, rows),
            Column::Label(name) => {
                let runs = parts.iter().map(|part| (part.series.labels.get(name), part.rows.len()));
                words(rows, runs)?
            }
            Column::Labels => all_labels(parts)?,
            Column::Histogram => histograms(parts, rows)?,
            // Samples have no such thing.
            Column::Level | Column::Source | Column::Line | Column::Fields | Column::Field(_) => {
                new_null_array(&column.data_type(), rows)
            }
        })
    };
    let arrays = columns.iter().map(array).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(columns.schema()), arrays, &options)
}

fn values(parts: &[Part<'_>], rows: usize) -> ArrayRef {
    let mut values = Vec::with_capacity(rows);
    let mut present: Option<Vec<bool>> = None;
    for part in parts {
        match &part.series.points {
            Points::Floats(floats) => {
                values.extend_from_slice(&floats[part.rows.clone()]);
                if let Some(present) = &mut present {
                    present.resize(values.len(), true);
                }
            }
            Points::Mixed(points) => {
                let present = present.get_or_insert_with(|| vec![true; values.len()]);
                for point in &points[part.rows.clone()] {
                    let float = if let Point::Float(value) = point { Some(*value) } else { None };
                    values.push(float.unwrap_or_default());
                    present.push(float.is_some());
                }
            }
        }
    }
    Arc::new(Float64Array::new(values.into(), present.map(NullBuffer::from)))
}

/// Texts, each for some rows in a row: named once, and pointed at from the rows. The empty one is
/// none.
pub(super) fn words<'a>(
    rows: usize,
    runs: impl Iterator<Item = (Option<&'a str>, usize)>,
) -> Result<ArrayRef, ArrowError> {
    let mut places: HashMap<&str, i32> = HashMap::new();
    let mut texts = StringBuilder::new();
    let mut keys = Vec::with_capacity(rows);
    let mut present: Option<Vec<bool>> = None;
    for (text, count) in runs {
        let place = text.filter(|text| !text.is_empty()).map(|text| {
            let next = places.len() as i32;
            *places.entry(text).or_insert_with(|| {
                texts.append_value(text);
                next
            })
        });
        if place.is_none() && present.is_none() {
            present = Some(vec![true; keys.len()]);
        }
        keys.resize(keys.len() + count, place.unwrap_or_default());
        if let Some(present) = &mut present {
            present.resize(keys.len(), place.is_some());
        }
    }
    if places.is_empty() {
        // Keys of null point nowhere, but Arrow wants a place for them.
        texts.append_value("");
    }
    let texts: StringArray = texts.finish();
    let keys = Int32Array::new(keys.into(), present.map(NullBuffer::from));
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(texts))?))
}

/// A map of names and values for each row.
pub(super) fn maps<'a, R>(rows: impl Iterator<Item = R>) -> Result<ArrayRef, ArrowError>
where
    R: Iterator<Item = (&'a str, &'a str)>,
{
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for (name, value) in row {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}

fn all_labels(parts: &[Part<'_>]) -> Result<ArrayRef, ArrowError> {
    maps(parts.iter().flat_map(|part| {
        let labels = part.series.labels;
        part.rows.clone().map(move |_| labels.iter().filter(|(name, _)| *name != METRIC_NAME))
    }))
}

fn histograms(parts: &[Part<'_>], rows: usize) -> Result<ArrayRef, ArrowError> {
    if parts.iter().all(|part| matches!(part.series.points, Points::Floats(_))) {
        return Ok(new_null_array(&histogram_type(), rows));
    }
    let mut builder = HistogramBuilder::new();
    for part in parts {
        match &part.series.points {
            Points::Floats(_) => part.rows.clone().for_each(|_| builder.append(None)),
            Points::Mixed(points) => {
                for point in &points[part.rows.clone()] {
                    match point {
                        Point::Float(_) => builder.append(None),
                        Point::Stored(stored) => {
                            builder.append(Some(&FloatHistogram::from(&**stored)));
                        }
                        Point::Computed(computed) => builder.append(Some(computed)),
                    }
                }
            }
        }
    }
    builder.finish()
}
