//! The columns of a table of samples: instant, value, labels, native histogram.
//!
//! A label is a column of its name. One that is called as another column is gets `label_` in front,
//! as often as it takes.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use model::METRIC_NAME;

use crate::exec_histograms::histogram_type;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
    /// The instant of the sample.
    Time,
    /// A float; null where the sample is a native histogram.
    Value,
    /// A label; null where a series has none of that name.
    Label(String),
    /// All labels but the metric's name.
    Labels,
    /// A native histogram; null where the sample is a float.
    Histogram,
}

/// Columns in order, and the same as a schema.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    columns: Vec<Column>,
    schema: SchemaRef,
}

const TIME: &str = "time";
const VALUE: &str = "value";
const HISTOGRAM: &str = "histogram";

impl Columns {
    /// Of series that have labels of these names.
    pub(super) fn of_labels(labels: impl IntoIterator<Item = String>) -> Self {
        let mut taken = vec![TIME.to_owned(), VALUE.to_owned(), HISTOGRAM.to_owned()];
        let labels: Vec<String> = labels.into_iter().collect();
        // Labels that need no other name come first: theirs are taken.
        let (renamed, kept): (Vec<&String>, Vec<&String>) =
            labels.iter().partition(|label| taken.contains(label));
        taken.extend(kept.into_iter().cloned());
        let mut names = Vec::new();
        for label in renamed {
            let mut name = format!("label_{label}");
            while taken.contains(&name) {
                name = format!("label_{name}");
            }
            taken.push(name.clone());
            names.push((label.clone(), name));
        }
        let mut columns = vec![(TIME.to_owned(), Column::Time), (VALUE.to_owned(), Column::Value)];
        columns.extend(labels.into_iter().map(|label| {
            let name = names.iter().find(|(of, _)| *of == label);
            (name.map_or_else(|| label.clone(), |(_, name)| name.clone()), Column::Label(label))
        }));
        columns.push((HISTOGRAM.to_owned(), Column::Histogram));
        Self::new(columns)
    }

    /// Of any series.
    pub(super) fn of_all() -> Self {
        Self::new(vec![
            (TIME.to_owned(), Column::Time),
            ("name".to_owned(), Column::Label(METRIC_NAME.to_owned())),
            (VALUE.to_owned(), Column::Value),
            ("labels".to_owned(), Column::Labels),
            (HISTOGRAM.to_owned(), Column::Histogram),
        ])
    }

    fn new(columns: Vec<(String, Column)>) -> Self {
        let field = |(name, column): &(String, Column)| {
            let nullable = !matches!(column, Column::Time | Column::Labels);
            Field::new(name, column.data_type(), nullable)
        };
        let fields: Fields = columns.iter().map(field).collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        Self { columns, schema: Arc::new(Schema::new(fields)) }
    }

    /// Those at some places.
    pub(super) fn project(&self, places: &[usize]) -> Result<Self, arrow_schema::ArrowError> {
        let schema = Arc::new(self.schema.project(places)?);
        let columns = places.iter().filter_map(|place| self.columns.get(*place)).cloned();
        Ok(Self { columns: columns.collect(), schema })
    }

    /// What a column of this name holds.
    pub(super) fn named(&self, name: &str) -> Option<&Column> {
        self.columns.get(self.schema.index_of(name).ok()?)
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter()
    }
}

impl Column {
    fn data_type(&self) -> DataType {
        match self {
            Self::Time => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Self::Value => DataType::Float64,
            Self::Label(_) => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
            Self::Labels => labels_type(),
            Self::Histogram => histogram_type(),
        }
    }
}

/// A map of names and values, as Arrow's builder makes it.
fn labels_type() -> DataType {
    let pair = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[&str], columns: &str) {
        let found = Columns::of_labels(labels.iter().map(|l| (*l).to_owned()));
        let names: Vec<&str> = found.schema().fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names.join(" "), columns);
        for label in labels {
            let holds = Column::Label((*label).to_owned());
            assert_eq!(found.iter().filter(|c| **c == holds).count(), 1, "{label}");
        }
    }

    #[test]
    fn labels_are_columns_whatever_they_are_called() {
        check(&[], "time value histogram");
        check(&["instance", "job"], "time value instance job histogram");
        check(&["time"], "time value label_time histogram");
        check(&["label_time", "time"], "time value label_time label_label_time histogram");
        check(&["histogram", "value"], "time value label_histogram label_value histogram");
        check(&["Job", "job"], "time value Job job histogram");
    }
}
