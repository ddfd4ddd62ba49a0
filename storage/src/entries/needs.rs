//! What rows must have to pass a filter: texts that blooms and indexes over terms are asked for.
//!
//! Whoever is asked may say "perhaps" of rows that do not pass, and never "no" of rows that do.

use std::ops::Range;

use model::Signal;
use regex_syntax::hir::{Class, Hir, HirKind};
use roaring::RoaringBitmap;

use super::segment::{TERM_BYTES_MAX, field_term};
use super::tokens::{Edges, hash, places};

/// Shorter parts of tokens are in nearly every block.
const PART_BYTES_MIN: usize = 3;

/// What must be in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// All of these; of none: anything will do.
    All(Vec<Need>),
    /// One of these; of none: nothing will do.
    Any(Vec<Need>),
    /// A token, or one of which this is a part.
    Token(Token),
    /// A field of one value, as [`field_term`] writes it. Known of events and audit records only.
    Field(Vec<u8>),
}

/// A token, or a part of one, in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: Vec<u8>,
    pub(crate) part: Part,
    /// Of a whole token, as blooms have it.
    hash: u64,
}

/// Where a text lies in its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    Start,
    End,
    Anywhere,
}

/// Blocks that may have something; `None`: all may.
pub(crate) type Blocks = Option<RoaringBitmap>;

impl Need {
    pub(crate) const ANYTHING: Self = Self::All(Vec::new());

    /// What every text has in which a needle is found.
    pub(crate) fn of_needle(needle: &[u8], edges: Edges, ignores_case: bool) -> Self {
        let of_place = |place: Range<usize>| {
            let (starts, ends) = match edges {
                Edges::Closed => (true, true),
                Edges::Open => (place.start > 0, place.end < needle.len()),
            };
            token(&needle[place], (starts, ends), ignores_case)
        };
        Self::All(places(needle).filter_map(of_place).map(Self::Token).collect())
    }

    /// What everything has that a pattern matches.
    pub(crate) fn of_pattern(hir: &Hir) -> Self {
        match hir.kind() {
            HirKind::Literal(literal) => Self::of_needle(&literal.0, Edges::Open, false),
            HirKind::Capture(capture) => Self::of_pattern(&capture.sub),
            HirKind::Repetition(repetition) if repetition.min > 0 => {
                Self::of_pattern(&repetition.sub)
            }
            HirKind::Concat(all) => Self::of_sequence(all),
            HirKind::Alternation(all) => Self::Any(all.iter().map(Self::of_pattern).collect()),
            _ => Self::ANYTHING,
        }
    }

    /// Literals, and letters in either case, that follow one another are one text.
    fn of_sequence(all: &[Hir]) -> Self {
        let (mut needs, mut text) = (Vec::new(), Vec::new());
        for hir in all {
            match (hir.kind(), letter_of(hir)) {
                (HirKind::Literal(literal), _) => text.extend_from_slice(&literal.0),
                (_, Some(letter)) => text.push(letter),
                _ => {
                    needs.push(Self::of_needle(&std::mem::take(&mut text), Edges::Open, false));
                    needs.push(Self::of_pattern(hir));
                }
            }
        }
        needs.push(Self::of_needle(&text, Edges::Open, false));
        Self::All(needs)
    }

    /// What a row has that has a field of one value, which is not empty.
    pub(crate) fn of_field(name: &str, value: &str) -> Self {
        let tokens = Self::of_needle(value.as_bytes(), Edges::Closed, false);
        Self::All([tokens].into_iter().chain(field_term(name, value).map(Self::Field)).collect())
    }

    /// Whether anything will do.
    pub(crate) fn is_anything(&self) -> bool {
        match self {
            Self::All(all) => all.iter().all(Self::is_anything),
            Self::Any(any) => any.iter().any(Self::is_anything),
            Self::Token(_) | Self::Field(_) => false,
        }
    }

    /// Whether rows may have it, going by the hashes of whole tokens.
    pub(crate) fn may_be(&self, has: &dyn Fn(u64) -> bool) -> bool {
        match self {
            Self::All(all) => all.iter().all(|need| need.may_be(has)),
            Self::Any(any) => any.iter().any(|need| need.may_be(has)),
            Self::Token(token) => token.part != Part::Whole || has(token.hash),
            Self::Field(_) => true,
        }
    }

    /// Blocks that may have it; `of` says which may have a token or a field.
    pub(crate) fn blocks(&self, of: &dyn Fn(&Need) -> Blocks) -> Blocks {
        match self {
            Self::All(all) => {
                let known = all.iter().filter_map(|need| need.blocks(of));
                known.reduce(|a, b| a & b)
            }
            Self::Any(any) => {
                let all: Option<Vec<RoaringBitmap>> =
                    any.iter().map(|need| need.blocks(of)).collect();
                Some(all?.into_iter().fold(RoaringBitmap::new(), |a, b| a | b))
            }
            Self::Token(_) | Self::Field(_) => of(self),
        }
    }

    /// The tokens and fields in it.
    pub(crate) fn visit<'n>(&'n self, to: &mut Vec<&'n Need>) {
        match self {
            Self::All(all) | Self::Any(all) => all.iter().for_each(|need| need.visit(to)),
            Self::Token(_) | Self::Field(_) if !to.contains(&self) => to.push(self),
            Self::Token(_) | Self::Field(_) => {}
        }
    }

    /// Whether segments of a signal know of it.
    pub(crate) fn is_known_of(&self, signal: Signal) -> bool {
        !matches!(self, Self::Field(_)) || signal != Signal::Logs
    }
}

/// A token of a needle, which it may begin or end in the middle of; `None` if that says too little.
fn token(text: &[u8], (starts, ends): (bool, bool), ignores_case: bool) -> Option<Token> {
    let (mut text, mut starts, mut ends) = (text, starts, ends);
    if ignores_case {
        let whole = text;
        let runs = text.split(|byte| !has_one_form(*byte));
        text = runs.max_by_key(|run| run.len())?;
        starts = starts && whole.starts_with(text);
        ends = ends && text.len() == whole.len();
    }
    // What is cut where it is stored is no longer known to end there.
    if text.len() >= TERM_BYTES_MAX {
        text = &text[..TERM_BYTES_MAX];
    }
    let part = match (starts, ends) {
        (true, true) => Part::Whole,
        (true, false) => Part::Start,
        (false, true) => Part::End,
        (false, false) => Part::Anywhere,
    };
    let says_enough = part == Part::Whole || text.len() >= PART_BYTES_MIN;
    says_enough.then(|| Token { text: text.to_ascii_lowercase(), part, hash: hash(text) })
}

/// Whether a byte looks the same in all cases but for ASCII letters. Unicode has other forms of `k`
/// (the Kelvin sign) and `s` (the long s), and cases of its own.
fn has_one_form(byte: u8) -> bool {
    byte.is_ascii() && !matches!(byte.to_ascii_lowercase(), b'k' | b's')
}

/// The letter that a class matches in its two cases, and nothing else.
fn letter_of(hir: &Hir) -> Option<u8> {
    let HirKind::Class(class) = hir.kind() else { return None };
    let (small, large) = match class {
        Class::Unicode(class) => match class.ranges() {
            [a, b] if a.start() == a.end() && b.start() == b.end() => (b.start(), a.start()),
            _ => return None,
        },
        Class::Bytes(class) => match class.ranges() {
            [a, b] if a.start() == a.end() && b.start() == b.end() => {
                (char::from(b.start()), char::from(a.start()))
            }
            _ => return None,
        },
    };
    let is_letter = small.is_ascii_lowercase() && large == small.to_ascii_uppercase();
    is_letter.then_some(small as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(need: &Need) -> String {
        let list = |all: &[Need], with: &str| {
            let known = all.iter().filter(|n| !n.is_anything());
            known.map(shown).collect::<Vec<_>>().join(with)
        };
        match need {
            Need::All(all) => list(all, " "),
            Need::Any(all) if need.is_anything() || all.is_empty() => "(-)".to_owned(),
            Need::Any(all) => format!("({})", list(all, "|")),
            Need::Field(term) => format!("[{}]", String::from_utf8_lossy(term)),
            Need::Token(Token { text, part, .. }) => {
                let text = String::from_utf8_lossy(text);
                match part {
                    Part::Whole => text.into_owned(),
                    Part::Start => format!("{text}*"),
                    Part::End => format!("*{text}"),
                    Part::Anywhere => format!("*{text}*"),
                }
            }
        }
    }

    #[test]
    fn needles_need_their_tokens_and_parts_of_those_at_their_ends() {
        let check = |needle: &str, edges, ignores_case, expected: &str| {
            let need = Need::of_needle(needle.as_bytes(), edges, ignores_case);
            assert_eq!(shown(&need), expected, "{needle}");
        };
        check("error", Edges::Open, false, "*error*");
        check("Error", Edges::Closed, false, "error");
        check("an error in", Edges::Open, false, "error");
        check("some error inside", Edges::Open, false, "*some error inside*");
        check(" an error.", Edges::Open, false, "an error");
        check("", Edges::Open, false, "");
        check("-- ", Edges::Open, false, "");
        check("größe x", Edges::Open, false, "*größe");
        check(" GRÖSSE ", Edges::Open, true, "");
        check(" task: gone", Edges::Closed, true, "gone");
        check(" backlog ", Edges::Open, true, "*log*");
        check("weakling", Edges::Closed, true, "*ling*");
        let long = "x".repeat(300);
        check(&format!(" {long} "), Edges::Open, false, &long[..256]);
    }

    #[test]
    fn patterns_need_what_all_they_match_has() {
        let check = |pattern: &str, expected: &str| {
            let hir = regex_syntax::parse(pattern).expect("a pattern");
            assert_eq!(shown(&Need::of_pattern(&hir)), expected, "{pattern}");
        };
        check(r"blk_-?\d+ terminating", "*blk_* terminating*");
        check(r"(error|fail|panic): x", "(*error*|*fail*|*panic*)");
        check(r"error|.*", "(-)");
        check(r"a(bcd)+efg", "*bcd* *efg*");
        check(r"x*yes?", "");
        check(r"(?i)exception", "*exception*");
        check(r"(?i) session timeout ", "*ion timeout");
        check(r"[eE]rror [a-z]+", "*error");
    }

    #[test]
    fn sets_of_blocks_follow_from_those_of_tokens() {
        let whole = |text: &str| Need::of_needle(text.as_bytes(), Edges::Closed, false);
        let of = |need: &Need| match need {
            Need::Token(token) if token.text == b"none" => Some(RoaringBitmap::new()),
            Need::Token(token) if token.text == b"two" => Some(RoaringBitmap::from([1, 2])),
            Need::Token(token) if token.text == b"three" => Some(RoaringBitmap::from([2, 3, 4])),
            _ => None,
        };
        let check = |need: Need, expected: Option<&[u32]>| {
            let blocks = need.blocks(&of).map(|blocks| blocks.iter().collect::<Vec<_>>());
            assert_eq!(blocks.as_deref(), expected, "{need:?}");
        };
        check(Need::ANYTHING, None);
        check(whole("all"), None);
        check(whole("two three all"), Some(&[2]));
        check(whole("two none"), Some(&[]));
        check(Need::Any(vec![whole("two"), whole("three")]), Some(&[1, 2, 3, 4]));
        check(Need::Any(vec![whole("two"), whole("all")]), None);
        check(Need::Any(Vec::new()), Some(&[]));
    }
}
