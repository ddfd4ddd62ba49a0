//! Label sets of all series of a partition, as numbers.
//!
//! A series' labels are a shape (the list of its label names) and one value symbol for each name:
//! four bytes a label.

use std::cmp::Ordering;
use std::ops::Range;

use hashbrown::HashTable;
use model::Labels;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::series::GONE;
use super::symbols::Symbols;

/// Lists of label names that occur together, each kept once.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    key: u64,
    /// Name symbols of all shapes, each shape in order of its names' texts.
    names: Vec<u32>,
    ends: Vec<u32>,
    table: HashTable<u32>,
}

impl Shapes {
    pub(super) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    #[inline]
    pub(super) fn names(&self, shape: u32) -> &[u32] {
        &self.names[span(&self.ends, shape)]
    }

    /// The number of a list of names, a new one if needed.
    pub(super) fn intern(&mut self, names: &[u32]) -> u32 {
        let key = self.key;
        let hash = hash_of(names, key);
        let (known, ends) = (&self.names, &self.ends);
        if let Some(&shape) = self.table.find(hash, |&s| &known[span(ends, s)] == names) {
            return shape;
        }
        let shape = self.len();
        self.names.extend_from_slice(names);
        self.ends.push(self.names.len() as u32);
        let (known, ends) = (&self.names, &self.ends);
        self.table.insert_unique(hash, shape, |&s| hash_of(&known[span(ends, s)], key));
        shape
    }
}

fn hash_of(names: &[u32], key: u64) -> u64 {
    names.iter().fold(key, |hash, &name| xxh3_64_with_seed(&name.to_le_bytes(), hash))
}

fn span(ends: &[u32], at: u32) -> Range<usize> {
    let start = if at == 0 { 0 } else { ends[at as usize - 1] as usize };
    start..ends[at as usize] as usize
}

/// The label sets, by series.
#[derive(Debug, Default)]
pub(super) struct LabelStore {
    pub(super) symbols: Symbols,
    pub(super) shapes: Shapes,
    /// Shape of each series and where its values start.
    pub(super) at: Vec<LabelsAt>,
    pub(super) values: Vec<u32>,
}

/// Where one series' labels are.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelsAt {
    pub(super) shape: u32,
    pub(super) start: u32,
}

impl LabelStore {
    pub(super) fn new(key: u64) -> Self {
        let shapes = Shapes { key, ..Shapes::default() };
        Self { symbols: Symbols::new(key), shapes, ..Self::default() }
    }

    /// Whether a series with these labels can still be numbered.
    pub(super) fn has_room(&self, labels: &Labels) -> bool {
        self.values.len() + labels.len() < u32::MAX as usize
            && self.at.len() < (u32::MAX - 1) as usize
            && self.symbols.has_room(labels.heap_bytes())
    }

    /// Adds the next series.
    pub(super) fn push(&mut self, labels: &Labels) {
        let start = self.values.len() as u32;
        let mut names = [0u32; 64];
        let mut long = Vec::new();
        let names = match names.get_mut(..labels.len()) {
            Some(names) => names,
            None => {
                long.resize(labels.len(), 0);
                long.as_mut_slice()
            }
        };
        for (slot, (name, value)) in names.iter_mut().zip(labels.iter()) {
            *slot = self.symbols.intern(name);
            let value = self.symbols.intern(value);
            self.values.push(value);
        }
        let shape = self.shapes.intern(names);
        self.at.push(LabelsAt { shape, start });
    }

    /// Name and value symbols of a series.
    #[inline]
    pub(super) fn pairs(
        &self,
        series: u32,
    ) -> impl ExactSizeIterator<Item = (u32, u32)> + Clone + '_ {
        let at = self.at[series as usize];
        let names = self.shapes.names(at.shape);
        let values = &self.values[at.start as usize..at.start as usize + names.len()];
        names.iter().copied().zip(values.iter().copied())
    }

    /// The value symbol of a label of a series.
    #[inline]
    pub(super) fn value_of(&self, series: u32, name: u32) -> Option<u32> {
        let at = self.at[series as usize];
        let position = self.shapes.names(at.shape).iter().position(|&n| n == name)?;
        Some(self.values[at.start as usize + position])
    }

    /// The label set of a series.
    pub(super) fn labels(&self, series: u32) -> Labels {
        Labels::from_sorted(
            self.pairs(series).map(|(n, v)| (self.symbols.text(n), self.symbols.text(v))),
        )
    }

    /// A copy that labels can be read from, but nothing found in or added to.
    pub(super) fn readable(&self) -> Self {
        let (names, ends) = (self.shapes.names.clone(), self.shapes.ends.clone());
        let shapes = Shapes { key: self.shapes.key, names, ends, table: HashTable::new() };
        Self {
            symbols: self.symbols.readable(),
            shapes,
            at: self.at.clone(),
            values: self.values.clone(),
        }
    }

    /// The symbol of a label name by looking through the shapes: for a copy without tables.
    pub(super) fn symbol_of_name(&self, name: &str) -> Option<u32> {
        self.shapes.names.iter().copied().find(|&symbol| self.symbols.text(symbol) == name)
    }

    /// How two series of one metric are ordered in a block: as [`Labels::stored_order`] does.
    /// `bucket` is the symbol of the label that tells buckets apart, if any series has it.
    pub(super) fn stored_order(&self, a: u32, b: u32, bucket: Option<u32>) -> Ordering {
        let text = |(name, value)| (self.symbols.text(name), self.symbols.text(value));
        let others = |series| self.pairs(series).filter(move |(name, _)| Some(*name) != bucket);
        let (mut of_a, mut of_b) = (others(a), others(b));
        loop {
            match (of_a.next(), of_b.next()) {
                (None, None) => break,
                (Some(one), Some(other)) if one == other => {}
                (one, other) => return one.map(text).cmp(&other.map(text)),
            }
        }
        let value = |series| {
            let symbol = bucket.and_then(|name| self.value_of(series, name));
            symbol.map(|symbol| self.symbols.text(symbol))
        };
        value(a).cmp(&value(b))
    }

    /// Keeps the series that have a new number and drops the texts and shapes only the others
    /// had; what stays keeps its order.
    pub(super) fn renumber(&mut self, new_number: &[u32]) {
        let mut kept = Self::new(self.symbols.key());
        kept.shapes.key = self.shapes.key;
        let is_kept = |(_, new): &(&LabelsAt, &u32)| **new != GONE;
        let series = || self.at.iter().zip(new_number).filter(is_kept).map(|(at, _)| *at);
        let values_of = |at: LabelsAt| {
            let start = at.start as usize;
            &self.values[start..start + self.shapes.names(at.shape).len()]
        };
        let mut has_symbol = vec![false; self.symbols.len() as usize];
        let mut has_shape = vec![false; self.shapes.len() as usize];
        for at in series() {
            has_shape[at.shape as usize] = true;
            values_of(at).iter().for_each(|&value| has_symbol[value as usize] = true);
        }
        for (shape, _) in has_shape.iter().enumerate().filter(|(_, has)| **has) {
            self.shapes
                .names(shape as u32)
                .iter()
                .for_each(|&name| has_symbol[name as usize] = true);
        }
        let new_symbol =
            numbers_of(&has_symbol, |symbol| kept.symbols.intern(self.symbols.text(symbol)));
        let new_shape = numbers_of(&has_shape, |shape| {
            let names: Vec<u32> =
                self.shapes.names(shape).iter().map(|&n| new_symbol[n as usize]).collect();
            kept.shapes.intern(&names)
        });
        for at in series() {
            let start = kept.values.len() as u32;
            kept.values.extend(values_of(at).iter().map(|&value| new_symbol[value as usize]));
            kept.at.push(LabelsAt { shape: new_shape[at.shape as usize], start });
        }
        *self = kept;
    }

    /// Memory taken.
    pub(super) fn heap_bytes(&self) -> usize {
        self.symbols.heap_bytes()
            + self.shapes.names.capacity() * 4
            + self.at.capacity() * size_of::<LabelsAt>()
            + self.values.capacity() * 4
    }
}

/// The new numbers of those that are kept, asked for in order.
fn numbers_of(kept: &[bool], mut number: impl FnMut(u32) -> u32) -> Vec<u32> {
    let new = |(old, &kept): (usize, &bool)| if kept { number(old as u32) } else { GONE };
    kept.iter().enumerate().map(new).collect()
}
