//! Shapes of points: points with the same keys in the same order, below the same resource and scope, have
//! their labels at the same places.
//!
//! An exporter tells the attributes of all points of an instrument in one order. What follows from the keys
//! (names, their order, what the resource adds) is worked out at the first point; for the others keys are
//! compared as they lie in the message, and values copied to their places. Attributes whose labels depend
//! on more than that (names that fall together, values that are empty) are put together one by one.

use std::ops::Range;

use model::METRIC_NAME;

use super::labels::{Base, NameCache, text, value};
use super::walk::Metric;
use crate::build::put_label;
use crate::label_fields::{LabelFields, NAME_STEP, Piece, VALUE_STEP};
use crate::wire::Reader;

/// Shapes that are known at a time: instruments of one scope differ, but not each from each.
const KNOWN_MAX: usize = 8;

/// Shapes that are worked out below one resource and scope.
const NEW_MAX: usize = 64;

/// Labels that a series may have besides those of its point, in order.
const EXTRAS: [&str; 2] = ["le", "quantile"];

/// One kind of points.
#[derive(Debug, Default)]
struct Shape {
    /// Key fields as they lie in messages, then names with their lengths.
    texts: Vec<u8>,
    /// The key field of each attribute, in `texts`.
    keys: Vec<Range<usize>>,
    parts: Vec<Part>,
    /// Labels of the point; the metric's name is not among them.
    labels: usize,
}

/// What comes next in canonical order.
#[derive(Debug, Clone)]
enum Part {
    /// The name of the metric.
    Metric,
    /// Labels of the resource and scope: from one up to another.
    Base(usize, usize),
    /// The value of an attribute, by the name at this place of `texts`.
    Attribute(usize, Range<usize>),
    /// One of [`EXTRAS`].
    Extra(&'static str),
}

/// Where the value of an attribute lies, its length before it.
#[derive(Debug, Clone, Copy)]
enum Place {
    Body(usize, usize),
    Shown(usize, usize),
}

/// How far a point is like one of the known shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    /// Its keys are, but not its values.
    Keys,
    Not,
}

/// The shapes of one resource and scope, and the values of the point that is being read.
#[derive(Debug, Default)]
pub(super) struct Shapes<'a> {
    body: &'a [u8],
    known: Vec<Shape>,
    /// The shape that makes room for the next one.
    oldest: usize,
    /// How many more shapes are worked out: points without end may each have their own.
    new_left: usize,
    /// Label fields of the resource and scope, and where each ends.
    base: Vec<u8>,
    base_ends: Vec<usize>,
    base_names: Vec<String>,
    values: Vec<Place>,
    /// Values that are not texts, as they are shown.
    shown: Vec<u8>,
    /// The shape of the point that is being read.
    current: Option<usize>,
    /// Whether that point has keys that no shape has.
    is_new: bool,
}

impl<'a> Shapes<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, ..Self::default() }
    }

    /// Takes the labels of another resource and scope. Shapes stay as long as their names are the same.
    pub(super) fn begin(&mut self, base: &Base<'a>) {
        if !base.iter().map(|(name, _)| name).eq(self.base_names.iter().map(String::as_str)) {
            self.known.clear();
            self.oldest = 0;
            self.base_names = base.iter().map(|(name, _)| name.to_owned()).collect();
        }
        self.new_left = NEW_MAX;
        self.base.clear();
        self.base_ends.clear();
        for (name, value) in base.iter() {
            if !value.is_empty() {
                put_label(&mut self.base, name, [value, ""]);
            }
            self.base_ends.push(self.base.len());
        }
    }

    /// Whether the labels of a point with these attributes are known by their shape.
    #[inline]
    pub(super) fn read(&mut self, attributes: &[Reader<'a>]) -> bool {
        (self.current, self.is_new) = (None, true);
        for at in 0..self.known.len() {
            match self.fit(at, attributes) {
                Fit::Not => {}
                Fit::Keys => self.is_new = false,
                Fit::Whole => {
                    self.current = Some(at).filter(|_| self.is_text(attributes));
                    self.is_new = false;
                    break;
                }
            }
        }
        self.current.is_some()
    }

    /// What is encoded next is not the point that was read last.
    pub(super) fn forget(&mut self) {
        (self.current, self.is_new) = (None, false);
    }

    #[inline]
    fn fit(&mut self, at: usize, attributes: &[Reader<'a>]) -> Fit {
        let shape = &self.known[at];
        if shape.keys.len() != attributes.len() {
            return Fit::Not;
        }
        self.values.clear();
        self.shown.clear();
        let mut fit = Fit::Whole;
        for (key, attribute) in shape.keys.iter().zip(attributes) {
            let Some(wire) = attribute.rest().strip_prefix(&shape.texts[key.clone()]) else {
                return Fit::Not;
            };
            let end = attribute.at() + attribute.rest().len();
            match *wire {
                // A text of usual length, and nothing else.
                [0x12, any, 0x0a, length @ 1..=125, ref text @ ..]
                    if usize::from(length) == text.len() && any == length + 2 =>
                {
                    self.values.push(Place::Body(end - text.len() - 1, end));
                }
                _ => match show(*attribute, &mut self.shown) {
                    Some(place) => self.values.push(place),
                    None => fit = Fit::Keys,
                },
            }
        }
        if !self.shown.is_empty() {
            self.shown.resize(self.shown.len() + VALUE_STEP, 0);
        }
        fit
    }

    /// Whether all values in the body are UTF-8. They nearly always lie in one run of ASCII.
    fn is_text(&self, attributes: &[Reader<'a>]) -> bool {
        let (Some(first), Some(last)) = (attributes.first(), attributes.last()) else {
            return true;
        };
        let run = self.body.get(first.at()..last.at() + last.rest().len());
        run.is_some_and(<[u8]>::is_ascii)
            || self.values.iter().all(|place| match *place {
                Place::Body(start, end) => std::str::from_utf8(&self.body[start + 1..end]).is_ok(),
                Place::Shown(..) => true,
            })
    }

    /// Labels of the point that is being read, the metric's name not counted. `None` if its shape is not known.
    pub(super) fn labels(&self) -> Option<usize> {
        self.current.map(|at| self.known[at].labels)
    }

    /// Puts together the labels of the point that is being read.
    #[inline]
    pub(super) fn put(
        &self,
        metric: &Metric<'_>,
        suffix: &str,
        extra: Option<(&str, &str)>,
        fields: &mut LabelFields,
    ) {
        let Some(shape) = self.current.map(|at| &self.known[at]) else { return };
        fields.clear();
        for part in &shape.parts {
            match part {
                Part::Attribute(at, name) => {
                    let value = match self.values[*at] {
                        Place::Body(start, end) => Piece::of(self.body, start, end),
                        Place::Shown(start, end) => Piece::of(&self.shown, start, end),
                    };
                    let name = Piece::of(&shape.texts, name.start, name.end);
                    if let (Some(name), Some(value)) = (name, value) {
                        fields.put(name, value);
                    }
                }
                Part::Base(from, to) => {
                    let start = from.checked_sub(1).map_or(0, |before| self.base_ends[before]);
                    fields.append(&self.base[start..self.base_ends[*to - 1]]);
                }
                Part::Metric if suffix.is_empty() => fields.append(&metric.field),
                Part::Metric => fields.put_text(METRIC_NAME, [&metric.family, suffix]),
                Part::Extra(name) => {
                    if let Some((_, value)) = extra.filter(|(own, _)| own == name) {
                        fields.put_text(name, [value, ""]);
                    }
                }
            }
        }
    }

    /// Works out the shape of the point that was read last, if it is a new one.
    pub(super) fn learn(&mut self, attributes: &[Reader<'a>], names: &mut NameCache<'a>) {
        if !self.is_new || self.new_left == 0 {
            return;
        }
        self.new_left -= 1;
        let Some(shape) = self.shape_of(attributes, names) else { return };
        if self.known.len() < KNOWN_MAX {
            self.known.push(shape);
        } else {
            self.known[self.oldest] = shape;
            self.oldest = (self.oldest + 1) % KNOWN_MAX;
        }
    }

    /// `None` if two of its labels have one name: then their values decide.
    fn shape_of(&self, attributes: &[Reader<'a>], names: &mut NameCache<'a>) -> Option<Shape> {
        let mut shape =
            Shape { labels: attributes.len() + self.base_names.len(), ..Shape::default() };
        let mut all: Vec<(String, Part)> = vec![(METRIC_NAME.to_owned(), Part::Metric)];
        all.extend(EXTRAS.map(|name| (name.to_owned(), Part::Extra(name))));
        let base = self.base_names.iter().enumerate();
        all.extend(base.map(|(at, name)| (name.clone(), Part::Base(at, at + 1))));
        for (at, attribute) in attributes.iter().enumerate() {
            let mut message = *attribute;
            if message.varint().ok()? != 0x0a {
                return None;
            }
            let name = names.of(text(&mut message).ok()?).ok()?.as_str().to_owned();
            let start = shape.texts.len();
            shape.texts.extend_from_slice(&attribute.rest()[..message.at() - attribute.at()]);
            shape.keys.push(start..shape.texts.len());
            all.push((name, Part::Attribute(at, 0..0)));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        if !all.is_sorted_by(|a, b| a.0 < b.0) {
            return None;
        }
        for (name, part) in all {
            match (part, shape.parts.last_mut()) {
                (Part::Attribute(at, _), _) => {
                    let start = shape.texts.len();
                    model::varint::put(&mut shape.texts, name.len() as u64);
                    shape.texts.extend_from_slice(name.as_bytes());
                    shape.parts.push(Part::Attribute(at, start..shape.texts.len()));
                }
                (Part::Base(_, to), Some(Part::Base(_, last))) => *last = to,
                (part, _) => shape.parts.push(part),
            }
        }
        shape.texts.extend_from_slice(&[0; NAME_STEP]);
        Some(shape)
    }
}

/// A value that is not a short text, as it is shown. `None` if it is empty, or not the only one.
#[cold]
fn show(mut attribute: Reader<'_>, shown: &mut Vec<u8>) -> Option<Place> {
    attribute.varint().ok()?;
    attribute.range().ok()?;
    if attribute.is_at_end() || attribute.varint().ok()? != 0x12 {
        return None;
    }
    let text = value(attribute.message().ok()?).ok()?;
    if text.is_empty() || !attribute.is_at_end() {
        return None;
    }
    let start = shown.len();
    model::varint::put(shown, text.len() as u64);
    shown.extend_from_slice(text.as_bytes());
    Some(Place::Shown(start, shown.len()))
}
