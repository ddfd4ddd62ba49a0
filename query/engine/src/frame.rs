//! Frames: vectors at all steps at once, a column per series.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Labels, METRIC_NAME};
use query::Error;

use crate::budget::Reserved;
use crate::column::{Bitmap, Column};

/// Labels that describe the metric as it was stored, and go when its meaning changes.
const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// One series of a frame.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// The name goes at the end of the evaluation (only where names are dropped late).
    pub(crate) drop_name: bool,
    pub(crate) column: Column,
}

/// An instant vector at every step.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) series: Vec<Series>,
    /// Whether the order of series means something (`sort`, `topk`).
    pub(crate) ordered: bool,
    /// Bytes of label values made by functions.
    pub(crate) label_bytes: usize,
    /// The memory it is accounted with.
    pub(crate) reserved: Reserved,
}

/// What an expression gives.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A number per step.
    Scalar(Vec<f64>),
    /// A text.
    Text(String),
    /// Series.
    Vector(Frame),
}

impl Outcome {
    pub(crate) fn into_frame(self) -> Result<Frame, Error> {
        match self {
            Self::Vector(frame) => Ok(frame),
            Self::Scalar(_) | Self::Text(_) => Err(mistyped("an instant vector")),
        }
    }

    pub(crate) fn into_scalar(self) -> Result<Vec<f64>, Error> {
        match self {
            Self::Scalar(values) => Ok(values),
            Self::Vector(_) | Self::Text(_) => Err(mistyped("a scalar")),
        }
    }

    pub(crate) fn into_text(self) -> Result<String, Error> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Vector(_) | Self::Scalar(_) => Err(mistyped("a string")),
        }
    }
}

/// The parser checks types, so this is a defect of ours; an error all the same, not a panic.
pub(crate) fn mistyped(wanted: &str) -> Error {
    Error::Execution(format!("expected {wanted} while evaluating the expression"))
}

/// What two series with the same labels mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twins {
    /// An error wherever they have points.
    Refused,
    /// An error if they have points at the same step; else they are one series.
    Merged,
}

impl Frame {
    pub(crate) fn new(series: Vec<Series>) -> Self {
        Self { series, ..Self::default() }
    }

    /// One series without labels.
    pub(crate) fn single(column: Column) -> Self {
        Self::new(vec![Series { labels: Labels::empty(), drop_name: false, column }])
    }

    /// Bytes on the heap. Labels are shared with the selection, so only made ones count.
    pub(crate) fn heap_bytes(&self) -> usize {
        let series = self.series.iter().map(|s| s.column.heap_bytes() + size_of::<Series>());
        series.sum::<usize>() + self.label_bytes
    }

    /// Steps at which there is any point.
    pub(crate) fn occupied(&self, steps: usize) -> Bitmap {
        let mut occupied = Bitmap::none(steps);
        for series in &self.series {
            occupied.union(&series.column.occupied());
        }
        occupied
    }

    /// The name and what else describes the stored metric no longer hold.
    pub(crate) fn drop_names(&mut self, late: bool) {
        for series in &mut self.series {
            series.drop_name_of(late);
        }
    }

    /// Makes label sets unique, as they must be in a vector.
    pub(crate) fn unify(&mut self, twins: Twins) -> Result<(), Error> {
        if self.series.len() < 2 {
            return Ok(());
        }
        let mut first_with: HashMap<Labels, usize> = HashMap::with_capacity(self.series.len());
        let mut kept: Vec<Series> = Vec::with_capacity(self.series.len());
        for series in self.series.drain(..) {
            match first_with.entry(series.labels.clone()) {
                Entry::Vacant(free) => {
                    free.insert(kept.len());
                    kept.push(series);
                }
                Entry::Occupied(at) => {
                    let first = &mut kept[*at.get()];
                    let overlap = first.column.occupied().overlaps(&series.column.occupied());
                    if overlap || twins == Twins::Refused {
                        return Err(same_labels());
                    }
                    first.column.fill_from(&series.column);
                }
            }
        }
        self.series = kept;
        Ok(())
    }
}

pub(crate) fn same_labels() -> Error {
    Error::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

impl Series {
    pub(crate) fn drop_name_of(&mut self, late: bool) {
        if late {
            self.drop_name = true;
        } else {
            self.labels = without_metadata(&self.labels);
        }
    }
}

/// The labels without the name and what describes the stored metric.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    if METADATA_LABELS.iter().all(|name| labels.get(name).is_none()) {
        return labels.clone();
    }
    Labels::from_pairs(labels.iter().filter(|(name, _)| !METADATA_LABELS.contains(name)))
}

/// Whether series may come to have the same labels once names are dropped.
pub(crate) fn names_differ<'a>(mut labels: impl Iterator<Item = &'a Labels>) -> bool {
    let described = |l: &Labels| METADATA_LABELS.map(|name| l.get(name).map(str::to_owned));
    let Some(first) = labels.next() else { return false };
    let first = described(first);
    labels.any(|l| {
        METADATA_LABELS.iter().zip(&first).any(|(name, value)| l.get(name) != value.as_deref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)], steps: &[usize]) -> Series {
        let mut column = Column::empty(4);
        steps.iter().for_each(|i| column.set(*i, *i as f64));
        Series { labels: Labels::from_pairs(labels.iter().copied()), drop_name: false, column }
    }

    #[track_caller]
    fn check(a: &[usize], b: &[usize], twins: Twins, series_left: Option<usize>) {
        let mut frame = Frame::new(vec![series(&[("a", "1")], a), series(&[("a", "1")], b)]);
        assert_eq!(frame.unify(twins).ok().map(|()| frame.series.len()), series_left);
    }

    #[test]
    fn equal_label_sets_are_one_series_or_an_error() {
        check(&[0, 1], &[2], Twins::Merged, Some(1));
        check(&[0, 1], &[1], Twins::Merged, None);
        check(&[0, 1], &[2], Twins::Refused, None);
    }

    #[test]
    fn names_go_with_type_and_unit() {
        let full =
            series(&[("__name__", "x"), ("__type__", "gauge"), ("__unit__", "s"), ("a", "1")], &[]);
        assert_eq!(without_metadata(&full.labels).to_string(), r#"{a="1"}"#);
        assert!(names_differ([&full.labels, &Labels::empty()].into_iter()));
        assert!(!names_differ([&full.labels, &full.labels].into_iter()));
    }
}
