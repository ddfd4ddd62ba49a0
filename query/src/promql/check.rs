//! What a tree must satisfy beyond its grammar: types, numbers of arguments, matching rules.
//!
//! Children are checked before their parents, in reading order, as in Prometheus: of several
//! mistakes the same one is reported.

use model::METRIC_NAME;

use super::ast::{
    AggregateOp, Binary, Call, Cardinality, Expr, ExprKind, Matching, Span, ValueType,
    VectorSelector,
};
use super::error::ParseError;
use super::functions::Variadic;
use super::literals::quote;

/// Checks a whole tree, and settles how the sides of binary operations are matched.
pub(super) fn check(expr: &mut Expr, text: &str) -> Result<(), ParseError> {
    Checker { text }.expr(expr).map(|_| ())
}

struct Checker<'t> {
    text: &'t str,
}

impl Checker<'_> {
    fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, span, message)
    }

    fn expr(&self, expr: &mut Expr) -> Result<ValueType, ParseError> {
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
                if found != ValueType::Vector {
                    let message = format!(
                        "subquery is only allowed on instant vector, got {} instead",
                        raw(found)
                    );
                    return Err(self.error(span, message));
                }
                Ok(ValueType::Matrix)
            }
            ExprKind::Call(call) => self.call(call, span),
            ExprKind::Aggregate(aggregate) => {
                self.expect(&mut aggregate.expr, ValueType::Vector, "aggregation expression")?;
                if let Some(param) = &mut aggregate.param {
                    let wanted = match aggregate.op {
                        AggregateOp::CountValues => ValueType::String,
                        _ => ValueType::Scalar,
                    };
                    self.expect(param, wanted, "aggregation parameter")?;
                }
                Ok(ValueType::Vector)
            }
            ExprKind::Binary(binary) => self.binary(binary, span),
            ExprKind::Unary(_, operand) => {
                let found = self.expr(operand)?;
                if !is_arithmetic(found) {
                    let allowed = "unary expression only allowed on expressions of type scalar or instant vector";
                    return Err(self.error(span, format!("{allowed}, got \"{found}\"")));
                }
                Ok(found)
            }
            ExprKind::Paren(inner) => self.expr(inner),
        }
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, context: &str) -> Result<(), ParseError> {
        let found = self.expr(expr)?;
        match found == wanted {
            true => Ok(()),
            false => {
                Err(self
                    .error(expr.span, format!("expected type {wanted} in {context}, got {found}")))
            }
        }
    }

    fn selector(
        &self,
        selector: &VectorSelector,
        span: Span,
        empty: EmptyMatchers,
    ) -> Result<(), ParseError> {
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

    fn call(&self, call: &mut Call, span: Span) -> Result<ValueType, ParseError> {
        let func = call.func;
        self.argument_count(call, span)?;
        let is_info = func.name == "info";
        if let (true, Some(data)) = (is_info, call.args.get(1)) {
            self.info_data(data, span)?;
        }
        let context = format!("call to function {}", quote(func.name.as_bytes()));
        for (at, arg) in call.args.iter_mut().enumerate() {
            let Some(wanted) = func.args.get(at).or(func.args.last()) else { continue };
            match &arg.kind {
                ExprKind::Vector(data) if is_info && at == 1 => {
                    self.selector(data, arg.span, EmptyMatchers::Allowed)?;
                }
                _ => self.expect(arg, *wanted, &context)?,
            }
        }
        Ok(func.returns)
    }

    fn argument_count(&self, call: &Call, span: Span) -> Result<(), ParseError> {
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
    fn info_data(&self, data: &Expr, call: Span) -> Result<(), ParseError> {
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

    fn binary(&self, binary: &mut Binary, span: Span) -> Result<ValueType, ParseError> {
        let left = self.expr(&mut binary.lhs)?;
        let right = self.expr(&mut binary.rhs)?;
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

    fn labels_once(&self, matching: &Matching, op: Span) -> Result<(), ParseError> {
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

    fn set_matching(
        &self,
        matching: &mut Matching,
        op: &str,
        span: Span,
    ) -> Result<(), ParseError> {
        if matching.cardinality != Cardinality::OneToOne {
            return Err(self.error(span, format!("no grouping allowed for \"{op}\" operation")));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return Err(self.error(span, "filling in missing series not allowed for set operators"));
        }
        matching.cardinality = Cardinality::ManyToMany;
        Ok(())
    }

    fn no_matching(&self, matching: &Matching, span: Span) -> Result<(), ParseError> {
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
