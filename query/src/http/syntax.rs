//! The tree of an expression as JSON, as `parse_query` gives it: Prometheus' names for nodes and
//! fields, which tools that explain queries read.

use model::{MatchOp, Matcher};

use super::json::{comma, push_integer_field, push_string, push_strings};
use crate::number::{plain_text, push_integer, push_value};
use crate::promql::{
    Aggregate, At, Binary, Call, Cardinality, Duration, Edges, Expr, ExprKind, Matching,
    MatrixSelector, Sign, Subquery, ValueType, Variadic, VectorSelector,
};

/// Appends an expression. No deeper than the parser lets expressions be.
pub(super) fn push_expr(out: &mut Vec<u8>, expr: &Expr) {
    match &expr.kind {
        ExprKind::Number(number) => {
            start(out, "numberLiteral");
            text_field(out, "val", &plain_text(number.value));
        }
        ExprKind::String(text) => {
            start(out, "stringLiteral");
            text_field(out, "val", &text.to_text());
        }
        ExprKind::Vector(selector) => {
            start(out, "vectorSelector");
            selector_fields(out, selector);
        }
        ExprKind::Matrix(matrix) => matrix_fields(out, matrix),
        ExprKind::Subquery(subquery) => subquery_fields(out, subquery),
        ExprKind::Call(call) => call_fields(out, call),
        ExprKind::Aggregate(aggregate) => aggregate_fields(out, aggregate),
        ExprKind::Binary(binary) => binary_fields(out, binary),
        ExprKind::Unary(sign, inner) => {
            start(out, "unaryExpr");
            text_field(out, "op", if *sign == Sign::Minus { "-" } else { "+" });
            expr_field(out, "expr", Some(inner));
        }
        ExprKind::Paren(inner) => {
            start(out, "parenExpr");
            expr_field(out, "expr", Some(inner));
        }
    }
    out.push(b'}');
}

fn start(out: &mut Vec<u8>, kind: &str) {
    out.extend_from_slice(b"{\"type\":");
    push_string(out, kind);
}

fn field(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    push_string(out, name);
    out.push(b':');
}

fn text_field(out: &mut Vec<u8>, name: &str, text: &str) {
    field(out, name);
    push_string(out, text);
}

fn bool_field(out: &mut Vec<u8>, name: &str, value: bool) {
    field(out, name);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn strings_field(out: &mut Vec<u8>, name: &str, texts: &[String]) {
    field(out, name);
    push_strings(out, texts);
}

fn expr_field(out: &mut Vec<u8>, name: &str, expr: Option<&Expr>) {
    field(out, name);
    match expr {
        Some(expr) => push_expr(out, expr),
        None => out.extend_from_slice(b"null"),
    }
}

/// Milliseconds. What is only known in a query is 0, as in Prometheus.
fn duration_field(out: &mut Vec<u8>, name: &str, duration: Option<&Duration>) {
    out.push(b',');
    push_integer_field(out, name, duration.and_then(Duration::literal_ms).unwrap_or(0));
}

fn at_fields(out: &mut Vec<u8>, at: Option<At>) {
    field(out, "timestamp");
    match at {
        Some(At::Timestamp(ms)) => push_integer(out, ms),
        _ => out.extend_from_slice(b"null"),
    }
    field(out, "startOrEnd");
    out.extend_from_slice(match at {
        Some(At::Start) => b"\"start\"",
        Some(At::End) => b"\"end\"",
        _ => b"null",
    });
}

fn selector_fields(out: &mut Vec<u8>, selector: &VectorSelector) {
    text_field(out, "name", selector.name.as_deref().unwrap_or(""));
    duration_field(out, "offset", selector.offset.as_ref());
    field(out, "matchers");
    out.push(b'[');
    for (i, matcher) in selector.matchers.iter().enumerate() {
        comma(out, i);
        push_matcher(out, matcher);
    }
    out.push(b']');
    at_fields(out, selector.at);
    bool_field(out, "anchored", selector.edges == Edges::Anchored);
    bool_field(out, "smoothed", selector.edges == Edges::Smoothed);
}

fn push_matcher(out: &mut Vec<u8>, matcher: &Matcher) {
    let op = match matcher.op() {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    start(out, op);
    text_field(out, "name", matcher.name());
    text_field(out, "value", matcher.value());
    out.push(b'}');
}

fn matrix_fields(out: &mut Vec<u8>, matrix: &MatrixSelector) {
    start(out, "matrixSelector");
    duration_field(out, "range", Some(&matrix.range));
    selector_fields(out, &matrix.selector);
}

fn subquery_fields(out: &mut Vec<u8>, subquery: &Subquery) {
    start(out, "subquery");
    expr_field(out, "expr", Some(&subquery.expr));
    duration_field(out, "range", Some(&subquery.range));
    duration_field(out, "offset", subquery.offset.as_ref());
    duration_field(out, "step", subquery.step.as_ref());
    at_fields(out, subquery.at);
}

fn call_fields(out: &mut Vec<u8>, call: &Call) {
    start(out, "call");
    field(out, "func");
    out.extend_from_slice(b"{\"name\":");
    push_string(out, call.func.name);
    field(out, "argTypes");
    let types: Vec<String> = call.func.args.iter().map(|t| type_name(*t).to_owned()).collect();
    push_strings(out, &types);
    field(out, "variadic");
    push_integer(
        out,
        match call.func.variadic {
            Variadic::No => 0,
            Variadic::UpTo(more) => i64::from(more),
            Variadic::Any => -1,
        },
    );
    text_field(out, "returnType", type_name(call.func.returns));
    out.push(b'}');
    field(out, "args");
    out.push(b'[');
    for (i, argument) in call.args.iter().enumerate() {
        comma(out, i);
        push_expr(out, argument);
    }
    out.push(b']');
}

fn type_name(of: ValueType) -> &'static str {
    match of {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::String => "string",
    }
}

fn aggregate_fields(out: &mut Vec<u8>, aggregate: &Aggregate) {
    start(out, "aggregation");
    text_field(out, "op", aggregate.op.as_str());
    expr_field(out, "expr", Some(&aggregate.expr));
    expr_field(out, "param", aggregate.param.as_ref());
    strings_field(out, "grouping", &aggregate.grouping);
    bool_field(out, "without", aggregate.without);
}

fn binary_fields(out: &mut Vec<u8>, binary: &Binary) {
    start(out, "binaryExpr");
    text_field(out, "op", binary.op.as_str());
    expr_field(out, "lhs", Some(&binary.lhs));
    expr_field(out, "rhs", Some(&binary.rhs));
    field(out, "matching");
    match &binary.matching {
        Some(matching) => push_matching(out, matching),
        None => out.extend_from_slice(b"null"),
    }
    bool_field(out, "bool", binary.return_bool);
}

fn push_matching(out: &mut Vec<u8>, matching: &Matching) {
    out.extend_from_slice(b"{\"card\":");
    push_string(
        out,
        match matching.cardinality {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        },
    );
    strings_field(out, "labels", &matching.labels);
    bool_field(out, "on", matching.on);
    strings_field(out, "include", &matching.include);
    field(out, "fillValues");
    out.extend_from_slice(b"{\"lhs\":");
    push_fill(out, matching.fill_left);
    out.extend_from_slice(b",\"rhs\":");
    push_fill(out, matching.fill_right);
    out.extend_from_slice(b"}}");
}

/// JSON has no NaN and no infinity: those are texts.
fn push_fill(out: &mut Vec<u8>, fill: Option<f64>) {
    match fill {
        None => out.extend_from_slice(b"null"),
        Some(value) if value.is_finite() => push_value(out, value),
        Some(value) => push_string(out, &plain_text(value)),
    }
}
