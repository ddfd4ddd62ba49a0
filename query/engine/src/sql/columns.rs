//! The columns of a table: of samples (instant, value, labels, native histogram), or of entries
//! (instant, level, labels, source, line, fields).
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
    /// The instant, as a count of these.
    Time(TimeUnit),
    /// A float; null where the sample is a native histogram.
    Value,
    /// A label; null where a series has none of that name.
    Label(String),
    /// All labels but the metric's name.
    Labels,
    /// A native histogram; null where the sample is a float.
    Histogram,
    /// How bad what an entry tells is.
    Level,
    /// What an entry comes from.
    Source,
    /// The line of an entry.
    Line,
    /// All fields of an entry.
    Fields,
    /// One of its fields: no column, but what conditions name.
    Field(String),
}

/// Columns in order, and the same as a schema.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    columns: Vec<Column>,
    schema: SchemaRef,
}

const TIME: &str = "time";

/// Labels that become columns of a table of entries.
const LABELS_MAX: usize = 500;

impl Columns {
    /// Of series that have labels of these names.
    pub(super) fn of_labels(labels: impl IntoIterator<Item = String>) -> Self {
        let before = [(TIME, Column::Time(TimeUnit::Millisecond)), ("value", Column::Value)];
        Self::around(&before, labels.into_iter().collect(), &[("histogram", Column::Histogram)])
    }

    /// Of entries whose streams have labels of these names; where there are very many, one column
    /// has them all.
    pub(super) fn of_entries(labels: Vec<String>) -> Self {
        let time = (TIME, Column::Time(TimeUnit::Nanosecond));
        let mut before = vec![time, ("level", Column::Level)];
        let many = labels.len() > LABELS_MAX;
        before.extend(many.then_some(("labels", Column::Labels)));
        let after =
            [("source", Column::Source), ("line", Column::Line), ("fields", Column::Fields)];
        Self::around(&before, if many { Vec::new() } else { labels }, &after)
    }

    /// Columns of labels between others.
    fn around(before: &[(&str, Column)], labels: Vec<String>, after: &[(&str, Column)]) -> Self {
        let own = |(name, column): &(&str, Column)| ((*name).to_owned(), column.clone());
        let mut taken: Vec<String> =
            before.iter().chain(after).map(|(name, _)| (*name).to_owned()).collect();
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
        let mut columns: Vec<(String, Column)> = before.iter().map(own).collect();
        columns.extend(labels.into_iter().map(|label| {
            let name = names.iter().find(|(of, _)| *of == label);
            (name.map_or_else(|| label.clone(), |(_, name)| name.clone()), Column::Label(label))
        }));
        columns.extend(after.iter().map(own));
        Self::new(columns)
    }

    /// Of any series.
    pub(super) fn of_all() -> Self {
        Self::new(vec![
            (TIME.to_owned(), Column::Time(TimeUnit::Millisecond)),
            ("name".to_owned(), Column::Label(METRIC_NAME.to_owned())),
            ("value".to_owned(), Column::Value),
            ("labels".to_owned(), Column::Labels),
            ("histogram".to_owned(), Column::Histogram),
        ])
    }

    fn new(columns: Vec<(String, Column)>) -> Self {
        let field = |(name, column): &(String, Column)| {
            let nullable = matches!(column, Column::Value | Column::Label(_) | Column::Histogram);
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

    /// The place of the instants, if they are among these columns.
    pub(super) fn time(&self) -> Option<usize> {
        self.columns.iter().position(|column| matches!(column, Column::Time(_)))
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter()
    }
}

impl Column {
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Time(unit) => DataType::Timestamp(*unit, Some("UTC".into())),
            Self::Value => DataType::Float64,
            Self::Label(_) | Self::Level | Self::Source => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
            Self::Line | Self::Field(_) => DataType::Utf8,
            Self::Labels | Self::Fields => map_type(),
            Self::Histogram => histogram_type(),
        }
    }
}

/// A map of names and values, as Arrow's builder makes it.
fn map_type() -> DataType {
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

    #[track_caller]
    fn check_entries(labels: &[&str], columns: &str) {
        let found = Columns::of_entries(labels.iter().map(|l| (*l).to_owned()).collect());
        let names: Vec<&str> = found.schema().fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names.join(" "), columns);
    }

    #[test]
    fn entries_have_their_labels_between() {
        check_entries(&[], "time level source line fields");
        check_entries(&["app", "pod"], "time level app pod source line fields");
        check_entries(&["level", "line"], "time level label_level label_line source line fields");
        let many: Vec<String> = (0..=LABELS_MAX).map(|i| format!("l{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check_entries(&many, "time level labels source line fields");
        assert_eq!(
            Columns::of_entries(many[1..].iter().map(|l| (*l).to_owned()).collect()).iter().count(),
            505
        );
    }
}
