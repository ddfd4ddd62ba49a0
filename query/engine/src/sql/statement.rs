//! Statements as they come: read, checked, their parameters put in.
//!
//! Only what reads is let through, by its kind in the syntax tree; whatever a later version of the
//! parser learns is refused until it is listed here.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Query, Select, SetExpr, Statement as Ast, Value, Visit, Visitor, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use datafusion_common::DataFusionError;
use query::{Error, SqlParameter};

use super::errors::asked;

/// Operators in one statement. Chains of them are as deep as they are long, and so is the work of
/// everyone who walks down the tree.
const OPERATORS_MAX: usize = 300;

/// How deep parentheses, subqueries and the like may lie in each other.
const DEPTH_MAX: usize = 50;

/// Reads a statement.
pub(super) fn read(
    text: &str,
    parameters: &BTreeMap<String, SqlParameter>,
) -> Result<Statement, Error> {
    check_operators(text)?;
    let parser = DFParserBuilder::new(text)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(DEPTH_MAX)
        .build();
    let statements = parser.and_then(|mut parser| parser.parse_statements());
    let mut statements = statements.map_err(|error: DataFusionError| asked(&error))?;
    let Some(mut statement) = statements.pop_front() else {
        return Err(refused("there is no statement"));
    };
    if !statements.is_empty() {
        return Err(refused("one statement at a time; this is more than one"));
    }
    check(&mut statement, parameters)?;
    Ok(statement)
}

fn refused(text: &str) -> Error {
    Error::Statement { text: text.to_owned(), place: None }
}

fn check_operators(text: &str) -> Result<(), Error> {
    // What cannot be cut into tokens is told by the parser, with its place.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else { return Ok(()) };
    let operators = tokens.iter().filter(|token| is_operator(token)).count();
    if operators <= OPERATORS_MAX {
        return Ok(());
    }
    Err(refused(&format!(
        "the statement has {operators} operators, {OPERATORS_MAX} are allowed; compare with many values by IN"
    )))
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) if word.quote_style.is_none() => {
            let words = [
                "and",
                "or",
                "not",
                "union",
                "intersect",
                "except",
                "join",
                "between",
                "like",
                "ilike",
                "case",
                "when",
                "is",
                "select",
            ];
            words.iter().any(|operator| word.value.eq_ignore_ascii_case(operator))
        }
        Token::Word(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::Whitespace(_)
        | Token::Placeholder(_)
        | Token::SemiColon
        | Token::EOF => false,
        // Everything else is an operator or as rare as one.
        _ => true,
    }
}

/// Refuses what does more than read, and puts parameters in.
fn check(
    statement: &mut Statement,
    parameters: &BTreeMap<String, SqlParameter>,
) -> Result<(), Error> {
    match statement {
        Statement::Explain(explain) => check(&mut explain.statement, parameters),
        Statement::Statement(statement) => check_ast(statement, parameters),
        Statement::CreateExternalTable(_) => Err(writes("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => Err(writes("COPY")),
        Statement::Reset(_) => Err(writes("RESET")),
    }
}

fn check_ast(
    statement: &mut Ast,
    parameters: &BTreeMap<String, SqlParameter>,
) -> Result<(), Error> {
    if let ControlFlow::Break(kind) = Visit::visit(&*statement, &mut OnlyReads) {
        return Err(writes(&kind));
    }
    let put = |expr: &mut Expr| match put_in(expr, parameters) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    };
    match visit_expressions_mut(statement, put) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn writes(kind: &str) -> Error {
    refused(&format!(
        "{kind} is refused: here is only read; SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, SHOW COLUMNS and DESCRIBE are answered"
    ))
}

/// Ends at the first statement that does more than read.
struct OnlyReads;

impl Visitor for OnlyReads {
    type Break = String;

    fn pre_visit_statement(&mut self, statement: &Ast) -> ControlFlow<String> {
        match statement {
            Ast::Query(_)
            | Ast::Explain { .. }
            | Ast::ExplainTable { .. }
            | Ast::ShowTables { .. }
            | Ast::ShowColumns { .. } => ControlFlow::Continue(()),
            other => {
                let text = other.to_string();
                let words = text.split_whitespace().take_while(|word| {
                    word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
                });
                let words: Vec<&str> = words.take(3).collect();
                ControlFlow::Break(if words.is_empty() {
                    "this kind of statement".to_owned()
                } else {
                    words.join(" ")
                })
            }
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        if !query.locks.is_empty() {
            return ControlFlow::Break("FOR UPDATE".to_owned());
        }
        match &*query.body {
            SetExpr::Insert(_) => ControlFlow::Break("INSERT".to_owned()),
            SetExpr::Update(_) => ControlFlow::Break("UPDATE".to_owned()),
            SetExpr::Delete(_) => ControlFlow::Break("DELETE".to_owned()),
            SetExpr::Merge(_) => ControlFlow::Break("MERGE".to_owned()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        match select.into {
            Some(_) => ControlFlow::Break("SELECT INTO".to_owned()),
            None => ControlFlow::Continue(()),
        }
    }
}

fn put_in(expr: &mut Expr, parameters: &BTreeMap<String, SqlParameter>) -> Result<(), Error> {
    let Expr::Value(value) = expr else { return Ok(()) };
    let Value::Placeholder(name) = &value.value else { return Ok(()) };
    let Some(parameter) = name.strip_prefix('$').and_then(|name| parameters.get(name)) else {
        let known: Vec<String> = parameters.keys().map(|name| format!("${name}")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(refused(&format!(
            "there is no parameter {name}; parameters are written $1 or $name, and given were {known}"
        )));
    };
    value.value = match parameter {
        SqlParameter::Null => Value::Null,
        SqlParameter::Boolean(truth) => Value::Boolean(*truth),
        SqlParameter::Number(number) => Value::Number(number.clone(), false),
        SqlParameter::Text(text) => Value::SingleQuotedString(text.clone()),
    };
    Ok(())
}
