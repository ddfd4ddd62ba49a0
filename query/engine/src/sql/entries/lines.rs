//! What a condition says of lines, as tests that the store makes.
//!
//! A line is any bytes; as a text, what is no UTF-8 in it is U+FFFD. Texts without that character are
//! found in the bytes where they are found in the text, and nowhere else; patterns are not, so of
//! them only the texts are looked for that everything has which they match.

use arrow_schema::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{Like, ScalarFunction};
use datafusion_expr::{BinaryExpr, Expr, Operator};
use regex_syntax::hir::{Hir, HirKind};
use storage::entries::{LineCondition, LineTest};

use super::super::columns::{Column, Columns};
use super::super::push_down::{Taken, literal, subject, text};

/// Bytes of one text that are looked for; of longer ones so many from the beginning.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// A text of a pattern that is worth looking for. Bytes: shorter ones are in nearly every line.
const LITERAL_BYTES_MIN: usize = 3;

/// Texts of one pattern that are looked for.
const LITERALS_MAX: usize = 4;

/// Conditions that hold together for every line for which a filter holds; and for no other ones, if
/// they are taken exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) conditions: Vec<LineCondition>,
    pub(super) taken: Taken,
}

impl Said {
    fn none() -> Self {
        Self { conditions: Vec::new(), taken: Taken::No }
    }

    /// That a text is in the line.
    fn has(wanted: &str, ignores_case: bool) -> Self {
        // What stands for bytes that are no text is not among the bytes.
        if wanted.is_empty() || wanted.contains(char::REPLACEMENT_CHARACTER) {
            return Self::none();
        }
        let end = wanted.floor_char_boundary(TEXT_BYTES_MAX);
        let any = vec![LineTest::Contains(wanted[..end].to_owned())];
        let condition = LineCondition { any, is_negative: false, ignores_case };
        let is_whole = end == wanted.len() && !ignores_case;
        let taken = if is_whole { Taken::Exactly } else { Taken::Roughly };
        Self { conditions: vec![condition], taken }
    }

    /// That all of some texts are in the line, and maybe more.
    fn has_all<'t>(texts: impl Iterator<Item = &'t str>, ignores_case: bool) -> Self {
        let said = texts.map(|text| Self::has(text, ignores_case));
        let conditions: Vec<_> = said.flat_map(|said| said.conditions).collect();
        let taken = if conditions.is_empty() { Taken::No } else { Taken::Roughly };
        Self { conditions, taken }
    }

    /// The opposite, where it is known.
    fn not(mut self) -> Self {
        match (self.taken, self.conditions.as_mut_slice()) {
            (Taken::Exactly, [condition]) => {
                condition.is_negative = !condition.is_negative;
                self
            }
            _ => Self::none(),
        }
    }

    fn roughly(mut self) -> Self {
        self.taken = self.taken.min(Taken::Roughly);
        self
    }

    /// One or the other.
    fn or(self, other: Self) -> Self {
        let alone = self.conditions.len() == 1 && other.conditions.len() == 1;
        let taken = self.taken.min(other.taken).min(match alone {
            true => Taken::Exactly,
            false => Taken::Roughly,
        });
        match (self.strongest(), other.strongest()) {
            (Some(mut one), Some(other))
                if !one.is_negative
                    && !other.is_negative
                    && one.ignores_case == other.ignores_case =>
            {
                one.any.extend(other.any);
                Self { conditions: vec![one], taken }
            }
            _ => Self::none(),
        }
    }

    /// The condition of which the least is expected to be left.
    fn strongest(self) -> Option<LineCondition> {
        self.conditions.into_iter().max_by_key(|condition| {
            let bytes = condition.any.iter().map(|test| match test {
                LineTest::Contains(text) | LineTest::Words(text) | LineTest::Regex(text) => {
                    text.len()
                }
            });
            bytes.min()
        })
    }
}

/// What a filter says of lines; nothing where it is about something else, too.
pub(super) fn said(filter: &Expr, columns: &Columns) -> Said {
    let is_line = |expr: &Expr| subject(expr, columns) == Some(Column::Line);
    match filter {
        Expr::Not(inner) => said(inner, columns).not(),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            said(left, columns).or(said(right, columns))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match literal(right) {
            Some(value) if is_line(left) => compared(*op, value),
            Some(value) => found_at(left, *op, value, columns),
            None => match (literal(left), op.swap()) {
                (Some(value), Some(op)) if is_line(right) => compared(op, value),
                (Some(value), Some(op)) => found_at(right, op, value, columns),
                _ => Said::none(),
            },
        },
        Expr::Like(like) if is_line(&like.expr) => alike(like),
        Expr::ScalarFunction(call) => called(call, columns),
        _ => Said::none(),
    }
}

fn compared(op: Operator, value: &ScalarValue) -> Said {
    let Some(value) = text(value) else { return Said::none() };
    match op {
        Operator::Eq => Said::has(value, false).roughly(),
        Operator::RegexMatch => matching(value, false),
        Operator::RegexIMatch => matching(value, true),
        _ => Said::none(),
    }
}

/// `strpos(line, 'x') > 0` and the like.
fn found_at(expr: &Expr, op: Operator, value: &ScalarValue, columns: &Columns) -> Said {
    let Expr::ScalarFunction(call) = expr else { return Said::none() };
    if !["strpos", "instr", "position"].contains(&call.name()) {
        return Said::none();
    }
    let Some(wanted) = text_of_line(call, columns) else { return Said::none() };
    let has = Said::has(wanted, false);
    let Ok(ScalarValue::Int64(Some(place))) = value.cast_to(&DataType::Int64) else {
        return Said::none();
    };
    match (op, place) {
        (Operator::Gt | Operator::NotEq, 0) | (Operator::GtEq, 1) => has,
        (Operator::Eq | Operator::LtEq, 0) | (Operator::Lt, 1) => has.not(),
        (Operator::Gt | Operator::GtEq | Operator::Eq, 1..) => has.roughly(),
        _ => Said::none(),
    }
}

/// The text that a function looks for in lines.
fn text_of_line<'e>(call: &'e ScalarFunction, columns: &Columns) -> Option<&'e str> {
    let (of, wanted) = (call.args.first()?, call.args.get(1)?);
    (subject(of, columns)? == Column::Line).then(|| literal(wanted).and_then(text))?
}

fn called(call: &ScalarFunction, columns: &Columns) -> Said {
    let Some(wanted) = text_of_line(call, columns) else { return Said::none() };
    let flags = call.args.get(2).map(|flags| literal(flags).and_then(text));
    match (call.name(), flags) {
        ("contains", None) => Said::has(wanted, false),
        ("starts_with" | "ends_with", None) => Said::has(wanted, false).roughly(),
        ("regexp_like", None | Some(Some(""))) => matching(wanted, false),
        ("regexp_like", Some(Some("i"))) => matching(wanted, true),
        _ => Said::none(),
    }
}

/// `LIKE`: the texts between `%` and `_`.
fn alike(like: &Like) -> Said {
    let Some(pattern) = literal(&like.pattern).and_then(text) else { return Said::none() };
    let escape = like.escape_char.unwrap_or('\\');
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    let mut is_plain = true;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' && character != '_' && character != escape {
            piece.push(character);
            continue;
        }
        pieces.push(std::mem::take(&mut piece));
        is_plain &= character == '%';
        if character == escape {
            // Whatever it makes of the next one: the texts beside it are there.
            characters.next();
        }
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.is_empty());
    let is_contained = is_plain && pattern.starts_with('%') && pattern.ends_with('%');
    let said = match pieces.as_slice() {
        [only] if is_contained => Said::has(only, like.case_insensitive),
        pieces => Said::has_all(pieces.iter().map(String::as_str), like.case_insensitive),
    };
    if like.negated { said.not() } else { said }
}

/// A pattern: the texts that are in all it matches.
fn matching(pattern: &str, ignores_case: bool) -> Said {
    let Ok(hir) = regex_syntax::parse(pattern) else { return Said::none() };
    let mut literals = Vec::new();
    required(&hir, &mut literals);
    literals.retain(|literal| literal.len() >= LITERAL_BYTES_MIN);
    literals.sort_by_key(|literal| std::cmp::Reverse(literal.len()));
    literals.truncate(LITERALS_MAX);
    Said::has_all(literals.into_iter(), ignores_case)
}

fn required<'h>(hir: &'h Hir, literals: &mut Vec<&'h str>) {
    match hir.kind() {
        HirKind::Literal(literal) => literals.extend(std::str::from_utf8(&literal.0)),
        HirKind::Capture(capture) => required(&capture.sub, literals),
        HirKind::Repetition(repeated) if repeated.min > 0 => required(&repeated.sub, literals),
        HirKind::Concat(all) => all.iter().for_each(|one| required(one, literals)),
        _ => {}
    }
}
