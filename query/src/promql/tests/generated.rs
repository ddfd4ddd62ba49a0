//! Printing and reading again gives the same tree.

use super::generator::Generator;
use crate::promql::{Duration, Expr, ExprKind, Features, Span, VectorSelector, parse_with};

/// The tree without what printing does not keep: places, and the matchers' order.
fn bare(mut expr: Expr) -> Expr {
    fn duration(duration: &mut Duration) {
        duration.span = Span::default();
    }
    fn selector(selector: &mut VectorSelector) {
        selector.matchers.sort_by_key(ToString::to_string);
        selector.offset.iter_mut().for_each(duration);
    }
    expr.span = Span::default();
    let inside = |expr: &mut Expr| {
        let taken = std::mem::replace(
            expr,
            Expr { kind: ExprKind::Vector(nothing()), span: Span::default() },
        );
        *expr = bare(taken);
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => {}
        ExprKind::Vector(vector) => selector(vector),
        ExprKind::Matrix(matrix) => {
            selector(&mut matrix.selector);
            duration(&mut matrix.range);
            matrix.selector_span = Span::default();
        }
        ExprKind::Subquery(subquery) => {
            inside(&mut subquery.expr);
            duration(&mut subquery.range);
            subquery.step.iter_mut().chain(&mut subquery.offset).for_each(duration);
        }
        ExprKind::Call(call) => call.args.iter_mut().for_each(inside),
        ExprKind::Aggregate(aggregate) => {
            aggregate.param.iter_mut().for_each(inside);
            inside(&mut aggregate.expr);
        }
        ExprKind::Binary(binary) => {
            binary.op_span = Span::default();
            inside(&mut binary.lhs);
            inside(&mut binary.rhs);
        }
        ExprKind::Unary(_, operand) | ExprKind::Paren(operand) => inside(operand),
    }
    expr
}

fn nothing() -> VectorSelector {
    VectorSelector {
        name: None,
        matchers: Vec::new(),
        offset: None,
        at: None,
        edges: Default::default(),
    }
}

#[test]
fn trees_survive_printing_and_reading() {
    let generator = Generator::new(3_14, true);
    let mut long = 0;
    for _ in 0..2_000 {
        let tree = bare(generator.any(5));
        for text in [tree.to_string(), tree.pretty()] {
            let read = parse_with(&text, Features::ALL)
                .unwrap_or_else(|error| panic!("{text}\n{error}\n{tree:?}"));
            assert_eq!(bare(read), tree, "{text}");
            long += usize::from(text.contains("\n"));
        }
    }
    assert!(long > 100, "too few long ones: {long}");
}
