//! What a tree must satisfy beyond its grammar: types, numbers of arguments, matching rules.
//!
//! Children are checked before their parents, in reading order, as in Prometheus: of several
//! mistakes the same one is reported.

use model::METRIC_NAME;

use super::ast::{
    Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, ExprKind, Matching, Span, ValueType,
    VectorSelector,
};
use super::error::{Fallible, ParseError};
use super::functions::Variadic;
use super::literals::quote;

/// Checks a whole tree, and settles how the sides of binary operations are matched.
pub(super) fn check(expr: &mut Expr, text: &str) -> Fallible<()> {
    Checker { text }.expr(expr).map(|_| ())
}

struct Checker<'t> {
    text: &'t str,
}

impl Checker<'_> {
    fn error(&self, span: Span, message: impl Into<String>) -> Box<ParseError> {
        ParseError::boxed(self.text, span, message)
    }

    // What is between two levels of nesting holds little on the stack, as in the parser.

    fn expr(&self, expr: &mut Expr) -> Fallible<ValueType> {
        let span = expr.span;
        match &mut expr.kind {
            ExprKind::Number(_) => Ok(ValueType::Scalar),
            ExprKind::String(_) => Ok(ValueType::String),
            ExprKind::Vector(selector) => {
                self.selector(selector, span, EmptyMatchers::Refused)?;
                Ok(ValueType::Vector)
            }
            ExprKind::Matrix(matrix) => {
                self.selector(&matrix.selector, matrix.selector_span, EmptyMatchers::Refused)?;
                Ok(ValueType::Matrix)
            }
            ExprKind::Subquery(subquery) => {
                let found = self.expr(&mut subquery.expr)?;
                self.subquery(found, span)
            }
            ExprKind::Call(call) => self.call(call, span),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate),
            ExprKind::Binary(binary) => {
                let left = self.expr(&mut binary.lhs)?;
                let right = self.expr(&mut binary.rhs)?;
                self.binary(binary, left, right, span)
            }
            ExprKind::Unary(_, operand) => {
                let found = self.expr(operand)?;
                self.unary(found, span)
            }
            ExprKind::Paren(inner) => self.expr(inner),
        }
    }

    fn subquery(&self, found: ValueType, span: Span) -> Fallible<ValueType> {
        if found != ValueType::Vector {
            let message =
                format!("subquery is only allowed on instant vector, got {} instead", raw(found));
            return Err(self.error(span, message));
        }
        Ok(ValueType::Matrix)
    }

    fn aggregate(&self, aggregate: &mut Aggregate) -> Fallible<ValueType> {
        self.expect(&mut aggregate.expr, ValueType::Vector, Context::Aggregation)?;
        if let Some(param) = &mut aggregate.param {
            let wanted = match aggregate.op {
                AggregateOp::CountValues => ValueType::String,
                _ => ValueType::Scalar,
            };
            self.expect(param, wanted, Context::Parameter)?;
        }
        Ok(ValueType::Vector)
    }

    fn unary(&self, found: ValueType, span: Span) -> Fallible<ValueType> {
        if !is_arithmetic(found) {
            let allowed =
                "unary expression only allowed on expressions of type scalar or instant vector";
            return Err(self.error(span, format!("{allowed}, got \"{found}\"")));
        }
        Ok(found)
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, context: Context) -> Fallible<()> {
        let found = self.expr(expr)?;
        match found == wanted {
            true => Ok(()),
            false => Err(self.wrong_type(expr.span, wanted, context, found)),
        }
    }

    fn wrong_type(
        &self,
        span: Span,
        wanted: ValueType,
        context: Context,
        found: ValueType,
    ) -> Box<ParseError> {
        let context = match context {
            Context::Aggregation => String::from("aggregation expression"),
            Context::Parameter => String::from("aggregation parameter"),
            Context::Call(name) => format!("call to function {}", quote(name.as_bytes())),
        };
        self.error(span, format!("expected type {wanted} in {context}, got {found}"))
    }

    fn selector(
        &self,
        selector: &VectorSelector,
        span: Span,
        empty: EmptyMatchers,
    ) -> Fallible<()> {
        if let Some(name) = &selector.name {
            let mut others =
                selector.matchers.iter().take(selector.matchers.len().saturating_sub(1));
            return match others.find(|matcher| matcher.name() == METRIC_NAME) {
                None => Ok(()),
                Some(other) => {
                    let (name, other) = (quote(name.as_bytes()), quote(other.value().as_bytes()));
                    Err(self.error(
                        span,
                        format!("metric name must not be set twice: {name} or {other}"),
                    ))
                }
            };
        }
        // Otherwise a slip of the pen would select every series there is.
        if empty == EmptyMatchers::Refused
            && selector.matchers.iter().all(|matcher| matcher.matches_empty())
        {
            return Err(
                self.error(span, "vector selector must contain at least one non-empty matcher")
            );
        }
        Ok(())
    }

    fn call(&self, call: &mut Call, span: Span) -> Fallible<ValueType> {
        let func = call.func;
        self.argument_count(call, span)?;
        let is_info = func.name == "info";
        if let (true, Some(data)) = (is_info, call.args.get(1)) {
            self.info_data(data, span)?;
        }
        for (at, arg) in call.args.iter_mut().enumerate() {
            let Some(wanted) = func.args.get(at).or(func.args.last()) else { continue };
            match &arg.kind {
                ExprKind::Vector(data) if is_info && at == 1 => {
                    self.selector(data, arg.span, EmptyMatchers::Allowed)?;
                }
                _ => self.expect(arg, *wanted, Context::Call(func.name))?,
            }
        }
        Ok(func.returns)
    }

    fn argument_count(&self, call: &Call, span: Span) -> Fallible<()> {
        let (types, found) = (call.func.args.len(), call.args.len());
        let (least, most) = match call.func.variadic {
            Variadic::No => (types, types),
            Variadic::UpTo(more) => (types - 1, types - 1 + usize::from(more)),
            Variadic::Any => (types - 1, usize::MAX),
        };
        let wanted = match call.func.variadic {
            _ if (least..=most).contains(&found) => return Ok(()),
            Variadic::No => format!("expected {types}"),
            _ if found < least => format!("expected at least {least}"),
            _ => format!("expected at most {most}"),
        };
        let name = quote(call.func.name.as_bytes());
        Err(self.error(span, format!("{wanted} argument(s) in call to {name}, got {found}")))
    }

    /// `info`'s second argument says which labels to add; it selects nothing by itself.
    fn info_data(&self, data: &Expr, call: Span) -> Fallible<()> {
        let found = data.value_type();
        if found != ValueType::Vector {
            let message =
                format!("expected type instant vector in call to function \"info\", got {found}");
            return Err(self.error(call, message));
        }
        match &data.kind {
            ExprKind::Vector(selector) if selector.name.is_none() => Ok(()),
            ExprKind::Vector(_) => {
                Err(self
                    .error(data.span, "expected label selectors only, got vector selector instead"))
            }
            _ => Err(self.error(data.span, "expected label selectors only")),
        }
    }

    fn binary(
        &self,
        binary: &mut Binary,
        left: ValueType,
        right: ValueType,
        span: Span,
    ) -> Fallible<ValueType> {
        let op = binary.op;
        let both_scalar = left == ValueType::Scalar && right == ValueType::Scalar;
        if binary.return_bool && !op.is_comparison() {
            return Err(self
                .error(binary.op_span, "bool modifier can only be used on comparison operators"));
        }
        if op.is_comparison() && !binary.return_bool && both_scalar {
            return Err(
                self.error(binary.op_span, "comparisons between scalars must use BOOL modifier")
            );
        }
        if let Some(matching) = &binary.matching {
            self.labels_once(matching, binary.op_span)?;
        }
        for (side, found) in [(&binary.lhs, left), (&binary.rhs, right)] {
            if !is_arithmetic(found) {
                let message = "binary expression must contain only scalar and instant vector types";
                return Err(self.error(side.span, message));
            }
        }
        if left == ValueType::Vector && right == ValueType::Vector {
            if let (true, Some(matching)) = (op.is_set(), &mut binary.matching) {
                self.set_matching(matching, op.as_str(), span)?;
            }
            return Ok(ValueType::Vector);
        }
        if let Some(matching) = binary.matching.take() {
            self.no_matching(&matching, span)?;
        }
        if op.is_set() {
            let message =
                format!("set operator \"{}\" not allowed in binary scalar expression", op.as_str());
            return Err(self.error(span, message));
        }
        Ok(if both_scalar { ValueType::Scalar } else { ValueType::Vector })
    }

    fn labels_once(&self, matching: &Matching, op: Span) -> Fallible<()> {
        if !matching.on || matching.include.is_empty() {
            return Ok(());
        }
        let include: std::collections::HashSet<&String> = matching.include.iter().collect();
        match matching.labels.iter().find(|label| include.contains(label)) {
            None => Ok(()),
            Some(label) => {
                let label = quote(label.as_bytes());
                Err(self.error(
                    op,
                    format!("label {label} must not occur in ON and GROUP clause at once"),
                ))
            }
        }
    }

    fn set_matching(&self, matching: &mut Matching, op: &str, span: Span) -> Fallible<()> {
        if matching.cardinality != Cardinality::OneToOne {
            return Err(self.error(span, format!("no grouping allowed for \"{op}\" operation")));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return Err(self.error(span, "filling in missing series not allowed for set operators"));
        }
        matching.cardinality = Cardinality::ManyToMany;
        Ok(())
    }

    fn no_matching(&self, matching: &Matching, span: Span) -> Fallible<()> {
        if !matching.labels.is_empty() {
            return Err(self.error(span, "vector matching only allowed between instant vectors"));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return Err(
                self.error(span, "filling in missing series only allowed between instant vectors")
            );
        }
        Ok(())
    }
}

/// Where a type was expected.
#[derive(Clone, Copy)]
enum Context {
    Aggregation,
    Parameter,
    Call(&'static str),
}

/// Whether a selector may have nothing but matchers that a missing label satisfies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyMatchers {
    Refused,
    Allowed,
}

fn is_arithmetic(found: ValueType) -> bool {
    matches!(found, ValueType::Scalar | ValueType::Vector)
}

/// Prometheus' word inside the program, which one of its messages shows.
fn raw(found: ValueType) -> &'static str {
    match found {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::String => "string",
    }
}
