//! Columns: the points of one series at all steps of an evaluation.

use std::sync::Arc;

use query::FloatHistogram;

/// A set of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    pub(crate) fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    pub(crate) fn all(len: usize) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64)];
        if let (Some(last), 1..) = (words.last_mut(), len % 64) {
            *last = (1 << (len % 64)) - 1;
        }
        Self { words, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, i: usize) -> bool {
        self.words[i / 64] >> (i % 64) & 1 == 1
    }

    #[inline]
    pub(crate) fn set(&mut self, i: usize) {
        self.words[i / 64] |= 1 << (i % 64);
    }

    #[inline]
    pub(crate) fn clear(&mut self, i: usize) {
        self.words[i / 64] &= !(1 << (i % 64));
    }

    pub(crate) fn any(&self) -> bool {
        self.words.iter().any(|w| *w != 0)
    }

    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count() == self.len
    }

    pub(crate) fn union(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    pub(crate) fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= !b);
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    /// The steps in it, in order.
    pub(crate) fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }

    /// Bytes of a set of so many steps.
    pub(crate) fn bytes(len: usize) -> usize {
        len.div_ceil(64) * 8
    }

    fn heap_bytes(&self) -> usize {
        self.words.len() * 8
    }
}

/// Histograms by step.
pub(crate) type Histograms = Vec<Option<Arc<FloatHistogram>>>;

/// Points by step: a float, a histogram, or nothing. Any float is a value, NaN included, so
/// presence is kept apart.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// One per step; meaningless where `present` is not set.
    pub(crate) values: Vec<f64>,
    /// Steps that have a float.
    pub(crate) present: Bitmap,
    /// Steps that have a histogram; those have no float.
    pub(crate) histograms: Option<Box<Histograms>>,
}

impl Column {
    pub(crate) fn empty(steps: usize) -> Self {
        Self { values: vec![0.0; steps], present: Bitmap::none(steps), histograms: None }
    }

    pub(crate) fn full(values: Vec<f64>) -> Self {
        Self { present: Bitmap::all(values.len()), values, histograms: None }
    }

    /// Bytes of a column of floats with so many steps: what to reserve before making one.
    pub(crate) fn bytes(steps: usize) -> usize {
        steps.saturating_mul(size_of::<f64>()).saturating_add(Bitmap::bytes(steps))
    }

    /// The same point at every step.
    pub(crate) fn repeated(&self, steps: usize) -> Self {
        let mut column = match self.get(0) {
            Some(value) => Self::full(vec![value; steps]),
            None => Self::empty(steps),
        };
        if let Some(histogram) = self.histogram(0) {
            column.histograms = Some(Box::new(vec![Some(Arc::clone(histogram)); steps]));
        }
        column
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    #[inline]
    pub(crate) fn get(&self, step: usize) -> Option<f64> {
        self.present.get(step).then(|| self.values[step])
    }

    #[inline]
    pub(crate) fn set(&mut self, step: usize, value: f64) {
        self.values[step] = value;
        self.present.set(step);
    }

    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        self.histograms.as_ref().and_then(|h| h[step].as_ref())
    }

    pub(crate) fn set_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        let steps = self.len();
        self.histograms.get_or_insert_with(|| Box::new(vec![None; steps]))[step] = Some(histogram);
    }

    /// Steps that have a float or a histogram.
    pub(crate) fn occupied(&self) -> Bitmap {
        let mut occupied = self.present.clone();
        for (step, histogram) in self.histograms.iter().flat_map(|h| h.iter().enumerate()) {
            if histogram.is_some() {
                occupied.set(step);
            }
        }
        occupied
    }

    pub(crate) fn any(&self) -> bool {
        self.present.any() || self.has_histograms()
    }

    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.as_ref().is_some_and(|h| h.iter().any(Option::is_some))
    }

    /// Removes the points outside of `steps`.
    pub(crate) fn keep(&mut self, steps: &Bitmap) {
        self.present.intersect(steps);
        if let Some(histograms) = &mut self.histograms {
            let gone = histograms.iter_mut().enumerate().filter(|(i, _)| !steps.get(*i));
            gone.for_each(|(_, h)| *h = None);
        }
    }

    /// Takes over the points of `other` at steps that are free here.
    pub(crate) fn fill_from(&mut self, other: &Self) {
        for step in other.present.ones() {
            self.set(step, other.values[step]);
        }
        for (step, histogram) in other.histograms.iter().flat_map(|h| h.iter().enumerate()) {
            if let Some(histogram) = histogram {
                self.set_histogram(step, Arc::clone(histogram));
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let histograms = self.histograms.as_ref().map_or(0, |h| histograms_bytes(h));
        self.values.len() * 8 + self.present.heap_bytes() + histograms
    }
}

/// Bytes of histograms by step. One that stands at several steps in a row is there once.
fn histograms_bytes(histograms: &Histograms) -> usize {
    let mut bytes = histograms.len() * size_of::<Option<Arc<FloatHistogram>>>();
    let mut before = None;
    for histogram in histograms.iter().flatten() {
        if before.is_none_or(|before| !Arc::ptr_eq(before, histogram)) {
            bytes += histogram_bytes(histogram);
        }
        before = Some(histogram);
    }
    bytes
}

/// Bytes of one histogram.
pub(crate) fn histogram_bytes(histogram: &FloatHistogram) -> usize {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let floats =
        histogram.positive.len() + histogram.negative.len() + histogram.custom_values.len();
    size_of::<FloatHistogram>() + spans * size_of::<model::Span>() + floats * size_of::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_know_their_steps() {
        for len in [0, 1, 63, 64, 65, 200] {
            assert_eq!(Bitmap::all(len).count(), len);
            assert!(Bitmap::all(len).is_full());
            let mut some = Bitmap::none(len);
            let steps: Vec<usize> = (0..len).filter(|i| i % 3 == 0).collect();
            steps.iter().for_each(|i| some.set(*i));
            assert_eq!(some.ones().collect::<Vec<_>>(), steps);
            let mut rest = Bitmap::all(len);
            rest.subtract(&some);
            assert!(!rest.overlaps(&some));
            rest.union(&some);
            assert!(rest.is_full());
        }
    }

    #[test]
    fn columns_merge_where_they_are_free() {
        let mut column = Column::empty(3);
        column.set(0, f64::NAN);
        let mut other = Column::empty(3);
        other.set(2, 7.0);
        column.fill_from(&other);
        assert!(column.get(0).is_some_and(f64::is_nan));
        assert_eq!((column.get(1), column.get(2)), (None, Some(7.0)));
        assert_eq!(other.repeated(2).get(0), None);
    }
}
