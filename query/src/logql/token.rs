//! Tokens: what they are called in the language and in messages.

use super::ast::{BinaryOp, Conversion, RangeOp, VectorOp};

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// First byte.
    pub(super) start: usize,
    /// The byte after the last one.
    pub(super) end: usize,
    /// Whether Loki's reader has lost the token's line by looking further: it then reports 0.
    pub(super) lost_line: bool,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Eof,
    Identifier,
    String,
    Number,
    Duration,
    Bytes,
    /// `[5m]`
    Range,
    /// `--strict`, `--keep-empty`
    Flag,
    RangeOp(RangeOp),
    VectorOp(VectorOp),
    Conversion(Conversion),
    LabelReplace,
    Vector,
    Variants,
    Ip,
    Op(BinaryOp),
    Comma,
    Dot,
    OpenBrace,
    CloseBrace,
    OpenParen,
    CloseParen,
    OpenBracket,
    CloseBracket,
    Equal,
    Regex,
    NotRegex,
    PipeExact,
    PipeMatch,
    PipePattern,
    NotPattern,
    Pipe,
    By,
    Without,
    Bool,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Offset,
    Unwrap,
    Json,
    Regexp,
    Logfmt,
    Unpack,
    Pattern,
    LabelFormat,
    LineFormat,
    Decolorize,
    Distinct,
    Drop,
    Keep,
}

/// Words and signs that are tokens wherever they stand.
const PLAIN: &[(&str, Kind)] = &[
    (",", Kind::Comma),
    (".", Kind::Dot),
    ("{", Kind::OpenBrace),
    ("}", Kind::CloseBrace),
    ("(", Kind::OpenParen),
    (")", Kind::CloseParen),
    ("[", Kind::OpenBracket),
    ("]", Kind::CloseBracket),
    ("=", Kind::Equal),
    ("=~", Kind::Regex),
    ("!~", Kind::NotRegex),
    ("|=", Kind::PipeExact),
    ("|~", Kind::PipeMatch),
    ("|>", Kind::PipePattern),
    ("!>", Kind::NotPattern),
    ("|", Kind::Pipe),
    ("by", Kind::By),
    ("without", Kind::Without),
    ("bool", Kind::Bool),
    ("on", Kind::On),
    ("ignoring", Kind::Ignoring),
    ("group_left", Kind::GroupLeft),
    ("group_right", Kind::GroupRight),
    ("offset", Kind::Offset),
    ("unwrap", Kind::Unwrap),
    ("json", Kind::Json),
    ("regexp", Kind::Regexp),
    ("logfmt", Kind::Logfmt),
    ("unpack", Kind::Unpack),
    ("pattern", Kind::Pattern),
    ("label_format", Kind::LabelFormat),
    ("line_format", Kind::LineFormat),
    ("decolorize", Kind::Decolorize),
    ("distinct", Kind::Distinct),
    ("drop", Kind::Drop),
    ("keep", Kind::Keep),
    ("or", Kind::Op(BinaryOp::Or)),
    ("and", Kind::Op(BinaryOp::And)),
    ("unless", Kind::Op(BinaryOp::Unless)),
    ("+", Kind::Op(BinaryOp::Add)),
    ("-", Kind::Op(BinaryOp::Sub)),
    ("*", Kind::Op(BinaryOp::Mul)),
    ("/", Kind::Op(BinaryOp::Div)),
    ("%", Kind::Op(BinaryOp::Mod)),
    ("^", Kind::Op(BinaryOp::Pow)),
    ("==", Kind::Op(BinaryOp::Equal)),
    ("!=", Kind::Op(BinaryOp::NotEqual)),
    (">", Kind::Op(BinaryOp::Greater)),
    (">=", Kind::Op(BinaryOp::GreaterEqual)),
    ("<", Kind::Op(BinaryOp::Less)),
    ("<=", Kind::Op(BinaryOp::LessEqual)),
];

/// A word or sign that is a token wherever it stands; words in any case.
pub(super) fn plain(text: &str) -> Option<Kind> {
    PLAIN.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, kind)| *kind)
}

/// A word that is a token where a parenthesis follows, and else an identifier; in any case.
pub(super) fn function(word: &str) -> Option<Kind> {
    let word = word.to_ascii_lowercase();
    let fixed = match word.as_str() {
        "label_replace" => Kind::LabelReplace,
        "vector" => Kind::Vector,
        "variants" => Kind::Variants,
        "ip" => Kind::Ip,
        _ => {
            let range = RangeOp::ALL.iter().find(|op| op.as_str() == word);
            let vector = VectorOp::ALL.iter().find(|op| op.as_str() == word);
            let conversion = Conversion::ALL.iter().find(|to| to.as_str() == word);
            let range = range.map(|op| Kind::RangeOp(*op));
            let vector = vector.map(|op| Kind::VectorOp(*op));
            return range.or(vector).or(conversion.map(|to| Kind::Conversion(*to)));
        }
    };
    Some(fixed)
}

impl Kind {
    /// As messages name it: what Loki's grammar calls it, or the word itself.
    pub(super) fn name(self) -> String {
        let fixed = match self {
            Self::Eof => "$end",
            Self::Identifier => "IDENTIFIER",
            Self::String => "STRING",
            Self::Number => "NUMBER",
            Self::Duration => "DURATION",
            Self::Bytes => "BYTES",
            Self::Range => "RANGE",
            Self::Flag => "FUNCTION_FLAG",
            Self::LabelReplace => "LABEL_REPLACE",
            Self::Vector => "VECTOR",
            Self::Variants => "VARIANTS",
            Self::Ip => "ip",
            Self::RangeOp(op) => return op.as_str().to_ascii_uppercase(),
            Self::VectorOp(op) => return op.as_str().to_ascii_uppercase(),
            Self::Conversion(to) => return format!("{}_CONV", to.as_str().to_ascii_uppercase()),
            _ => {
                let found = PLAIN.iter().find(|(_, kind)| *kind == self);
                found.map_or("IDENTIFIER", |(word, _)| word)
            }
        };
        fixed.to_owned()
    }
}
