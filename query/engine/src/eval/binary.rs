//! Operators between numbers, and between vectors and numbers; and what they compute.

use std::sync::Arc;

use query::Error;
use query::promql::BinaryOp;

use super::operators::{Operand, Operator};
use super::{Evaluator, points};
use crate::budget::Reserved;
use crate::column::Column;
use crate::frame::{Frame, Outcome, mistyped};
use crate::plan::{Node, Operation};

/// What an operator does with two floats.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arithmetic {
    /// Gives a new value.
    Value(fn(f64, f64) -> f64),
    /// Keeps the left value or nothing.
    Filter(fn(f64, f64) -> bool),
}

/// The arithmetic of an operator; set operators have none.
pub(crate) fn arithmetic(op: BinaryOp) -> Option<Arithmetic> {
    use Arithmetic::{Filter, Value};
    Some(match op {
        BinaryOp::Add => Value(|a, b| a + b),
        BinaryOp::Sub => Value(|a, b| a - b),
        BinaryOp::Mul => Value(|a, b| a * b),
        BinaryOp::Div => Value(|a, b| a / b),
        BinaryOp::Mod => Value(|a, b| a % b),
        BinaryOp::Pow => Value(f64::powf),
        BinaryOp::Atan2 => Value(f64::atan2),
        BinaryOp::Equal => Filter(|a, b| a == b),
        BinaryOp::NotEqual => Filter(|a, b| a != b),
        BinaryOp::Less => Filter(|a, b| a < b),
        BinaryOp::LessEqual => Filter(|a, b| a <= b),
        BinaryOp::Greater => Filter(|a, b| a > b),
        BinaryOp::GreaterEqual => Filter(|a, b| a >= b),
        BinaryOp::TrimUpper | BinaryOp::TrimLower => return None,
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => return None,
    })
}

/// An operator between two numbers; comparisons give 0 and 1.
pub(crate) fn scalar(op: BinaryOp, a: f64, b: f64) -> Option<f64> {
    Some(match arithmetic(op)? {
        Arithmetic::Value(value) => value(a, b),
        Arithmetic::Filter(holds) => f64::from(u8::from(holds(a, b))),
    })
}

/// Whether the result is no longer what the metric's name says.
pub(crate) fn changes_meaning(op: BinaryOp, return_bool: bool) -> bool {
    return_bool || matches!(arithmetic(op), Some(Arithmetic::Value(_)))
}

impl Evaluator {
    pub(crate) async fn binary(
        &self,
        operation: &Operation,
        node: &Node,
    ) -> Result<Outcome, Error> {
        let lhs = self.eval(&operation.lhs).await?;
        let rhs = self.eval(&operation.rhs).await?;
        let (op, return_bool) = (operation.op, operation.return_bool);
        match (lhs, rhs) {
            (Outcome::Scalar(a), Outcome::Scalar(b)) => {
                self.reserve_numbers(node.grid.len)?;
                let values = a.into_iter().zip(b).map(|(a, b)| scalar(op, a, b));
                let values = values.collect::<Option<_>>().ok_or_else(|| mistyped("vectors"))?;
                Ok(Outcome::Scalar(values))
            }
            (Outcome::Vector(frame), Outcome::Scalar(numbers)) => {
                self.with_numbers(frame, numbers, operation, node, Side::Left).await
            }
            (Outcome::Scalar(numbers), Outcome::Vector(frame)) => {
                self.with_numbers(frame, numbers, operation, node, Side::Right).await
            }
            (Outcome::Vector(lhs), Outcome::Vector(rhs)) => {
                let matching = operation.matching.as_ref().ok_or_else(|| mistyped("matching"))?;
                let matching = Arc::clone(matching);
                let (late_names, steps) = (self.options.late_names, node.grid.len);
                let points = points(&lhs) + points(&rhs);
                let (budget, notes) = (Arc::clone(&self.budget), Arc::clone(&self.notes));
                let span = node.span;
                self.compute(points, move || {
                    let pair = super::matching::Pair {
                        operator: Operator {
                            op,
                            return_bool,
                            notes: &notes,
                            span,
                            budget: &budget,
                        },
                        matching: &matching,
                        late_names,
                        steps,
                        budget: &budget,
                    };
                    pair.evaluate(lhs, rhs).map(Outcome::Vector)
                })
                .await
            }
            _ => Err(mistyped("numbers or vectors")),
        }
    }

    async fn with_numbers(
        &self,
        mut frame: Frame,
        numbers: Vec<f64>,
        operation: &Operation,
        node: &Node,
        vector: Side,
    ) -> Result<Outcome, Error> {
        let Operation { op, return_bool, .. } = *operation;
        let (late_names, span) = (self.options.late_names, node.span);
        let (budget, notes) = (Arc::clone(&self.budget), Arc::clone(&self.notes));
        let mut frame = self
            .compute(points(&frame), move || {
                let operator = Operator { op, return_bool, notes: &notes, span, budget: &budget };
                for series in &mut frame.series {
                    match arithmetic(op) {
                        Some(arithmetic) if !series.column.has_histograms() => {
                            apply(&mut series.column, &numbers, arithmetic, return_bool, vector);
                        }
                        _ => {
                            let (column, reserved) =
                                point_by_point(&operator, &series.column, &numbers, vector)?;
                            series.column = column;
                            frame.reserved.absorb(reserved);
                        }
                    }
                }
                frame.series.retain(|s| s.column.any());
                Ok(frame)
            })
            .await?;
        if changes_meaning(op, return_bool) {
            frame.drop_names(late_names);
            frame.unify_unless(late_names)?;
        }
        Ok(Outcome::Vector(frame))
    }
}

/// Which side of an operator a vector stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Where there are histograms.
fn point_by_point(
    operator: &Operator<'_>,
    column: &Column,
    numbers: &[f64],
    vector: Side,
) -> Result<(Column, Reserved), Error> {
    let sides = |step: usize| {
        let (point, number) = (Operand::of(column, step)?, Operand::Float(numbers[step]));
        Some(if vector == Side::Left { (point, number) } else { (number, point) })
    };
    operator.budget.check()?;
    let (mut made, reserved) = operator.run(&column.occupied(), sides)?;
    if vector == Side::Right && operator.op.is_comparison() && !operator.return_bool {
        // The vector's own value stays, whichever side it is on.
        for step in made.present.ones() {
            made.values[step] = column.values[step];
        }
    }
    Ok((made, reserved))
}

fn apply(
    column: &mut Column,
    numbers: &[f64],
    arithmetic: Arithmetic,
    return_bool: bool,
    vector: Side,
) {
    for (step, number) in numbers.iter().enumerate() {
        let Some(value) = column.get(step) else { continue };
        let (a, b) = if vector == Side::Left { (value, *number) } else { (*number, value) };
        match arithmetic {
            Arithmetic::Value(of) => column.values[step] = of(a, b),
            Arithmetic::Filter(holds) if return_bool => {
                column.values[step] = f64::from(u8::from(holds(a, b)))
            }
            // The vector's own value stays, whichever side it is on.
            Arithmetic::Filter(holds) if !holds(a, b) => column.present.clear(step),
            Arithmetic::Filter(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_computed() {
        for (op, expected) in [
            (BinaryOp::Add, 9.0),
            (BinaryOp::Sub, 5.0),
            (BinaryOp::Mod, 1.0),
            (BinaryOp::Pow, 49.0),
            (BinaryOp::Greater, 1.0),
            (BinaryOp::LessEqual, 0.0),
        ] {
            assert_eq!(scalar(op, 7.0, 2.0), Some(expected), "{op:?}");
        }
        assert_eq!(scalar(BinaryOp::And, 7.0, 2.0), None);
        assert_eq!(scalar(BinaryOp::Mod, -7.0, 2.0), Some(-1.0));
    }

    #[test]
    fn comparisons_keep_the_vectors_value() {
        let mut column = Column::full(vec![1.0, 5.0]);
        apply(&mut column, &[3.0, 3.0], Arithmetic::Filter(|a, b| a < b), false, Side::Right);
        assert_eq!((column.get(0), column.get(1)), (None, Some(5.0)));
    }
}
