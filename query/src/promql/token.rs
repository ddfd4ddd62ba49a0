//! Tokens, the language's keywords, and how a token is named in a message.

use super::ast::{AggregateOp, BinaryOp, Span};
use super::literals::quote;

/// A piece of text that means something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Eof,
    Identifier,
    /// With a colon in it.
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    LeftParen,
    RightParen,
    Comma,
    Colon,
    /// `=`
    Equal,
    /// `=~`
    EqualRegex,
    /// `!~`
    NotEqualRegex,
    At,
    Op(BinaryOp),
    Aggregation(AggregateOp),
    Bool,
    By,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Without,
    Anchored,
    Smoothed,
    Fill,
    FillLeft,
    FillRight,
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

/// What a word means outside braces, in any case of letters; `None` for an identifier.
pub(super) fn keyword(word: &str) -> Option<Kind> {
    const LONGEST: usize = "count_values".len();
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase();
    Some(match word.as_str() {
        "and" => Kind::Op(BinaryOp::And),
        "or" => Kind::Op(BinaryOp::Or),
        "unless" => Kind::Op(BinaryOp::Unless),
        "atan2" => Kind::Op(BinaryOp::Atan2),
        "inf" | "nan" => Kind::Number,
        "bool" => Kind::Bool,
        "by" => Kind::By,
        "group_left" => Kind::GroupLeft,
        "group_right" => Kind::GroupRight,
        "ignoring" => Kind::Ignoring,
        "offset" => Kind::Offset,
        "on" => Kind::On,
        "without" => Kind::Without,
        "anchored" => Kind::Anchored,
        "smoothed" => Kind::Smoothed,
        "fill" => Kind::Fill,
        "fill_left" => Kind::FillLeft,
        "fill_right" => Kind::FillRight,
        "start" => Kind::Start,
        "end" => Kind::End,
        "step" => Kind::Step,
        "range" => Kind::Range,
        "min_of" => Kind::MinOf,
        "max_of" => Kind::MaxOf,
        word => Kind::Aggregation(AggregateOp::from_word(word)?),
    })
}

impl Kind {
    /// Whether a word of this kind may be a metric's name without quotes.
    pub(super) fn is_metric_name(self) -> bool {
        use BinaryOp::{And, Or, Unless};
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Aggregation(_) => true,
            Self::Op(op) => matches!(op, And | Or | Unless),
            Self::By | Self::Without | Self::Offset | Self::Anchored | Self::Smoothed => true,
            other => other.is_function_keyword(),
        }
    }

    /// Whether a word of this kind may be a label's name without quotes, outside braces.
    pub(super) fn is_label_name(self) -> bool {
        let more = [Self::Bool, Self::GroupLeft, Self::GroupRight, Self::Ignoring, Self::On];
        let fills = [Self::Fill, Self::FillLeft, Self::FillRight];
        self.is_metric_name()
            || self == Self::Op(BinaryOp::Atan2)
            || more.contains(&self)
            || fills.contains(&self)
    }

    /// Whether it is a keyword that is also a function's name.
    pub(super) fn is_function_keyword(self) -> bool {
        matches!(
            self,
            Self::Start | Self::End | Self::Step | Self::Range | Self::MinOf | Self::MaxOf
        )
    }

    /// Whether an expression may begin with it.
    pub(super) fn starts_expression(self) -> bool {
        let literal = matches!(self, Self::Number | Self::Duration | Self::String);
        let sign = matches!(self, Self::Op(BinaryOp::Add | BinaryOp::Sub));
        literal
            || sign
            || matches!(self, Self::LeftParen | Self::LeftBrace)
            || self.is_metric_name()
    }
}

/// How messages name a token.
pub(super) fn describe(token: Token, text: &str) -> String {
    let found = &text[token.span.start..token.span.end];
    let shortened = || match found.char_indices().nth(10) {
        Some((end, _)) if found.len() > 10 => format!("{}...", quote(&found.as_bytes()[..end])),
        _ => quote(found.as_bytes()),
    };
    match token.kind {
        Kind::Eof => String::from("end of input"),
        Kind::Identifier => format!("identifier {}", quote(found.as_bytes())),
        Kind::MetricIdentifier => format!("metric identifier {}", quote(found.as_bytes())),
        Kind::Number => format!("number {}", shortened()),
        Kind::Duration => format!("duration {}", shortened()),
        Kind::String => format!("string {}", shortened()),
        Kind::Op(_) | Kind::At | Kind::EqualRegex | Kind::NotEqualRegex => format!("<op:{found}>"),
        Kind::Aggregation(_) => format!("<aggr:{found}>"),
        Kind::Bool
        | Kind::By
        | Kind::GroupLeft
        | Kind::GroupRight
        | Kind::Ignoring
        | Kind::Offset
        | Kind::On => {
            format!("<{found}>")
        }
        Kind::Without
        | Kind::Anchored
        | Kind::Smoothed
        | Kind::Fill
        | Kind::FillLeft
        | Kind::FillRight => {
            format!("<{found}>")
        }
        _ => shortened(),
    }
}
