//! Function calls and aggregations.

use super::super::ast::{Aggregate, AggregateOp, Call, Expr, ExprKind, Span};
use super::super::error::Fallible;
use super::super::functions::function;
use super::super::literals;
use super::super::token::{Kind, Token};
use super::{Built, Parser};

/// A call's arguments, and the levels of the highest.
#[derive(Debug, Default)]
struct Arguments {
    exprs: Vec<Expr>,
    height: usize,
}

/// `by (…)` or `without (…)`
#[derive(Debug, Default)]
struct Grouping {
    labels: Vec<String>,
    without: bool,
}

impl Parser<'_> {
    pub(super) fn call(&mut self, name: Token) -> Fallible<Built> {
        let args = self.arguments()?;
        self.called(name, args)
    }

    fn called(&mut self, name: Token, args: Arguments) -> Fallible<Built> {
        let word = self.word(name.span);
        let func = match name.kind.is_function_keyword() {
            true => function(&word.to_ascii_lowercase()),
            false => function(word),
        };
        let quoted = literals::quote(word.as_bytes());
        let Some(func) = func else {
            return Err(self.error(name.span, format!("unknown function with name {quoted}")));
        };
        if func.experimental && !self.features.experimental_functions {
            return Err(self.error(name.span, format!("function {quoted} is not enabled")));
        }
        let span = Span { start: name.span.start, end: self.used_to };
        self.build(ExprKind::Call(Call { func, args: args.exprs }), span, args.height)
    }

    /// `(a, b)`
    fn arguments(&mut self) -> Fallible<Arguments> {
        let mut args = Arguments::default();
        self.expect(Kind::LeftParen)?;
        if self.accept(Kind::RightParen)? {
            return Ok(args);
        }
        loop {
            let arg = self.expression(0)?;
            args.height = args.height.max(arg.height);
            args.exprs.push(*arg.expr);
            if !self.another_argument()? {
                return Ok(args);
            }
        }
    }

    /// Uses a comma with something behind it, or the closing parenthesis.
    fn another_argument(&mut self) -> Fallible<bool> {
        let token = self.peek()?;
        if token.kind != Kind::Comma {
            self.expect(Kind::RightParen)?;
            return Ok(false);
        }
        self.advance()?;
        match self.peek()?.kind.starts_expression() {
            true => Ok(true),
            false => {
                Err(self.error(token.span, "trailing commas not allowed in function call args"))
            }
        }
    }

    pub(super) fn aggregate(&mut self, op: AggregateOp, name: Token) -> Fallible<Built> {
        self.aggregations += 1;
        let grouping = self.grouping()?;
        let args = self.arguments()?;
        self.aggregations -= 1;
        self.aggregated(op, name, grouping, args)
    }

    fn aggregated(
        &mut self,
        op: AggregateOp,
        name: Token,
        before: Option<Grouping>,
        args: Arguments,
    ) -> Fallible<Built> {
        let grouping = match before {
            None => self.grouping()?,
            before => before,
        };
        let Grouping { labels: grouping, without } = grouping.unwrap_or_default();
        let span = Span { start: name.span.start, end: self.used_to };
        let (param, expr) = self.aggregate_arguments(op, span, args.exprs)?;
        let aggregate = Aggregate { op, expr, param, grouping, without };
        self.build(ExprKind::Aggregate(Box::new(aggregate)), span, args.height)
    }

    fn aggregate_arguments(
        &self,
        op: AggregateOp,
        span: Span,
        mut args: Vec<Expr>,
    ) -> Fallible<(Option<Expr>, Expr)> {
        if args.is_empty() {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.features.experimental_functions {
            let flag = "--enable-feature=promql-experimental-functions";
            let message =
                format!("{}() is experimental and must be enabled with {flag}", op.as_str());
            return Err(self.error(span, message));
        }
        let (wanted, found) = (1 + usize::from(op.has_param()), args.len());
        match (args.pop(), args.pop()) {
            (Some(expr), param) if wanted == found => Ok((param, expr)),
            _ => {
                let problem = "wrong number of arguments for aggregate expression provided";
                Err(self.error(span, format!("{problem}, expected {wanted}, got {found}")))
            }
        }
    }

    /// `by (…)` or `without (…)`, if there is one.
    fn grouping(&mut self) -> Fallible<Option<Grouping>> {
        let kind = self.peek()?.kind;
        if !matches!(kind, Kind::By | Kind::Without) {
            return Ok(None);
        }
        self.advance()?;
        Ok(Some(Grouping { labels: self.grouping_labels()?, without: kind == Kind::Without }))
    }
}
