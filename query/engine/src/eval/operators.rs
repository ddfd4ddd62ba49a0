//! Operators where native histograms may take part, point by point. What floats alone need runs
//! over whole columns in `binary` and `matching`.

use std::sync::Arc;

use query::promql::{BinaryOp, Span};
use query::{Bucket, Error, FloatHistogram};

use super::binary::{Arithmetic, arithmetic};
use crate::budget::{Budget, Reserved};
use crate::column::{Bitmap, Column, histogram_bytes};
use crate::histogram::{Added, Incompatible, Kept, Sum, Term, compact, divide, same, scale, trim};
use crate::notes::Notes;

/// An operator, and where to say what it could not do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator<'a> {
    pub(crate) op: BinaryOp,
    pub(crate) return_bool: bool,
    pub(crate) notes: &'a Notes,
    pub(crate) span: Span,
    pub(crate) budget: &'a Arc<Budget>,
}

/// One side at one step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operand<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

/// What an operator makes of two points.
enum Made {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
    Nothing,
}

impl<'a> Operand<'a> {
    /// The point of a column at a step.
    pub(crate) fn of(column: &'a Column, step: usize) -> Option<Self> {
        column.get(step).map(Self::Float).or_else(|| column.histogram(step).map(Self::Histogram))
    }

    fn word(self) -> &'static str {
        match self {
            Self::Float(_) => "float",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Operator<'_> {
    /// Runs over the steps where both sides have a point. The new histograms count as memory until
    /// what is returned is dropped.
    pub(crate) fn run<'b>(
        &self,
        steps: &Bitmap,
        sides: impl Fn(usize) -> Option<(Operand<'b>, Operand<'b>)>,
    ) -> Result<(Column, Reserved), Error> {
        let mut column = Column::empty(steps.len());
        let mut reserved = Reserved::default();
        let mut scratch = Vec::new();
        for step in steps.ones() {
            let Some((a, b)) = sides(step) else { continue };
            match self.made(a, b, &mut scratch) {
                Made::Float(value) => column.set(step, value),
                Made::Histogram(h) => {
                    reserved.absorb(self.budget.reserve(histogram_bytes(&h))?);
                    column.set_histogram(step, h);
                }
                Made::Nothing => {}
            }
        }
        Ok((column, reserved))
    }

    fn made(&self, a: Operand<'_>, b: Operand<'_>, scratch: &mut Vec<Bucket>) -> Made {
        use Operand::{Float, Histogram};
        match (self.op, a, b) {
            (BinaryOp::Mul, Float(by), Histogram(h)) | (BinaryOp::Mul, Histogram(h), Float(by)) => {
                changed(h, |h| scale(h, by))
            }
            (BinaryOp::Div, Histogram(h), Float(by)) => changed(h, |h| divide(h, by)),
            (BinaryOp::TrimUpper, Histogram(h), Float(cut)) => {
                Made::Histogram(Arc::new(trim(h, cut, Kept::Below, scratch)))
            }
            (BinaryOp::TrimLower, Histogram(h), Float(cut)) => {
                Made::Histogram(Arc::new(trim(h, cut, Kept::Above, scratch)))
            }
            (BinaryOp::Add, Histogram(a), Histogram(b)) => self.added(a, b, Term::Plus),
            (BinaryOp::Sub, Histogram(a), Histogram(b)) => self.added(a, b, Term::Minus),
            (BinaryOp::Equal, Histogram(a), Histogram(b)) => self.kept(a, same(a, b)),
            (BinaryOp::NotEqual, Histogram(a), Histogram(b)) => self.kept(a, !same(a, b)),
            (op, Float(x), Float(y)) => match arithmetic(op) {
                Some(Arithmetic::Value(of)) => Made::Float(of(x, y)),
                Some(Arithmetic::Filter(holds)) if self.return_bool => {
                    Made::Float(f64::from(u8::from(holds(x, y))))
                }
                Some(Arithmetic::Filter(holds)) if holds(x, y) => Made::Float(x),
                Some(Arithmetic::Filter(_)) => Made::Nothing,
                None => self.not_defined(a, b),
            },
            _ => self.not_defined(a, b),
        }
    }

    fn kept(&self, h: &Arc<FloatHistogram>, holds: bool) -> Made {
        match (self.return_bool, holds) {
            (true, _) => Made::Float(f64::from(u8::from(holds))),
            (false, true) => Made::Histogram(Arc::clone(h)),
            (false, false) => Made::Nothing,
        }
    }

    fn added(&self, a: &FloatHistogram, b: &FloatHistogram, term: Term) -> Made {
        let (word, minus) = match term {
            Term::Minus => ("subtraction", true),
            _ => ("addition", false),
        };
        let mut sum = Sum::plain(a.clone());
        match sum.add(b, term) {
            Err(Incompatible) => {
                let text = "incompatible bucket layout encountered for binary operator";
                self.notes.warn(&format!("{text} {}", self.op.as_str()), self.span);
                return Made::Nothing;
            }
            Ok(Added { collision, reconciled }) => {
                if collision {
                    let text = format!("conflicting counter resets during histogram {word}");
                    self.notes.warn(&text, self.span);
                }
                if reconciled {
                    self.notes.reconciled(word, self.span);
                }
            }
        }
        let mut h = sum.total();
        if minus {
            // What may be negative is no counter.
            h.reset_hint = model::ResetHint::Gauge;
        }
        compact(&mut h);
        Made::Histogram(Arc::new(h))
    }

    fn not_defined(&self, a: Operand<'_>, b: Operand<'_>) -> Made {
        let op = self.op.as_str();
        let text = format!(
            "incompatible sample types encountered for binary operator {op:?}: {} {op} {}",
            a.word(),
            b.word()
        );
        self.notes.info(&text, self.span);
        Made::Nothing
    }
}

fn changed(h: &FloatHistogram, change: impl FnOnce(&mut FloatHistogram)) -> Made {
    let mut h = h.clone();
    change(&mut h);
    compact(&mut h);
    Made::Histogram(Arc::new(h))
}
