//! Notes beside an answer: warnings (it may be wrong) and infos (one may want to know).

use std::collections::BTreeMap;

use parking_lot::Mutex;
use query::NOTES_KEPT_MAX;
use query::promql::Span;

/// What was said.
type Said = Mutex<Texts>;

/// Texts, and the place each was last said at: the first of them in order, whoever said them first,
/// so that an answer does not depend on the order of work.
#[derive(Debug, Default)]
struct Texts {
    kept: BTreeMap<String, Span>,
}

/// Notes collected during one evaluation, each once, as in Prometheus: of several places in the
/// question that say the same, the last counts.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Where the question's second and later lines begin. Bytes.
    lines: Vec<usize>,
    warnings: Said,
    infos: Said,
}

/// What is to be said of one series beside its points. Who computes them does not know its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Remark {
    /// A function of floats left out histograms beside them.
    IgnoredHistograms,
    /// A sample counts what the one before it has counted as well.
    OverlappingStarts,
    /// Floats and histograms in one range, for a function that takes either.
    MixedFloats,
    /// Exponential and custom buckets.
    MixedSchemas,
    /// A rate of gauge histograms, a difference of counter histograms.
    NotCounter,
    NotGauge,
    /// Custom bounds differed, and the common ones were used.
    ReconciledInAddition,
    ReconciledInSubtraction,
    ReconciledInAggregation,
    /// Some follow a counter reset, some are known not to.
    ConflictingResets,
}

impl Texts {
    fn say(&mut self, text: String, span: Span) {
        if self.kept.len() < NOTES_KEPT_MAX || self.kept.contains_key(&text) {
            self.kept.insert(text, span);
            return;
        }
        if self.kept.last_key_value().is_some_and(|(last, _)| text < *last) {
            self.kept.pop_last();
            self.kept.insert(text, span);
        }
    }
}

impl Notes {
    /// Notes of a question with this text.
    pub(crate) fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { lines: ends.map(|(at, _)| at + 1).collect(), ..Self::default() }
    }

    pub(crate) fn warn(&self, text: &str, span: Span) {
        self.warnings.lock().say(format!("PromQL warning: {text}"), span);
    }

    pub(crate) fn info(&self, text: &str, span: Span) {
        self.infos.lock().say(format!("PromQL info: {text}"), span);
    }

    /// Says something of the series of a metric, at the expression that selects it.
    pub(crate) fn remark(&self, remark: Remark, metric: &str, span: Span) {
        match remark {
            Remark::IgnoredHistograms => {
                let text = "ignored histograms in a range containing both floats and histograms";
                self.info(&format!("{text} for metric name {metric:?}"), span);
            }
            Remark::OverlappingStarts => {
                let text = "sample has start time that overlaps with previous sample timestamp";
                self.warn(&format!("{text} for metric {metric:?}"), span);
            }
            Remark::MixedFloats => {
                let text = "encountered a mix of histograms and floats for metric name";
                self.warn(&format!("{text} {metric:?}"), span);
            }
            Remark::MixedSchemas => {
                let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
                self.warn(&format!("{text} {metric:?}"), span);
            }
            Remark::NotCounter => {
                let text = "this native histogram metric is not a counter:";
                self.warn(&format!("{text} {metric:?}"), span);
            }
            Remark::NotGauge => {
                let text = "this native histogram metric is not a gauge:";
                self.warn(&format!("{text} {metric:?}"), span);
            }
            Remark::ReconciledInAddition => self.reconciled("addition", span),
            Remark::ReconciledInSubtraction => self.reconciled("subtraction", span),
            Remark::ReconciledInAggregation => self.reconciled("aggregation", span),
            Remark::ConflictingResets => {
                self.warn("conflicting counter resets during histogram aggregation", span);
            }
        }
    }

    /// Says that custom bounds differed.
    pub(crate) fn reconciled(&self, during: &str, span: Span) {
        self.info(&format!("mismatched custom buckets were reconciled during {during}"), span);
    }

    /// Warnings and infos, in order.
    pub(crate) fn take(&self) -> (Vec<String>, Vec<String>) {
        (self.all(&self.warnings), self.all(&self.infos))
    }

    fn all(&self, said: &Said) -> Vec<String> {
        let said = std::mem::take(&mut *said.lock());
        said.kept.into_iter().map(|(text, span)| format!("{text} {}", self.place(span))).collect()
    }

    /// Line and column, both from 1 on.
    fn place(&self, span: Span) -> String {
        let line = self.lines.partition_point(|start| *start <= span.start);
        let start = line.checked_sub(1).map_or(0, |before| self.lines[before]);
        format!("({}:{})", line + 1, span.start - start + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_once_and_are_bounded() {
        let notes = Notes::of("one\ntwo");
        for i in 0..25 {
            notes.info(&format!("note {:02}", i % 12), Span { start: 4, end: 5 });
        }
        notes.warn("w", Span::default());
        notes.warn("w", Span { start: 6, end: 7 });
        let (warnings, infos) = notes.take();
        assert_eq!(warnings, ["PromQL warning: w (2:3)"]);
        assert_eq!(infos[0], "PromQL info: note 00 (2:1)");
        assert_eq!(infos.len(), 12);
    }

    #[test]
    fn of_very_many_notes_the_first_in_order_are_kept() {
        for order in [false, true] {
            let notes = Notes::of("one");
            for i in 0..3_000 {
                let i = if order { i } else { 2_999 - i };
                notes.warn(&format!("note {i:04}"), Span::default());
            }
            notes.warn("note 0000", Span { start: 2, end: 3 });
            let (warnings, _) = notes.take();
            assert_eq!(warnings[0], "PromQL warning: note 0000 (1:3)");
            assert_eq!(warnings[9], "PromQL warning: note 0009 (1:1)");
            assert_eq!(warnings.len(), NOTES_KEPT_MAX);
            assert_eq!(warnings[999], "PromQL warning: note 0999 (1:1)");
        }
    }
}
