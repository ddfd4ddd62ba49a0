//! What a regular expression means for a whole value, in the cheapest form that says it, and how
//! much all expressions of one request may cost.
//!
//! Most patterns that dashboards send are lists of values or a value's start. Those are compared
//! as texts; only the rest is compiled.

mod automaton;

use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::{Pace, Stopped};
use automaton::{Automaton, Refused, Sizes};

/// Regular expressions in one request. Dashboards' largest have some dozens.
const PATTERNS_MAX: usize = 256;

/// Text of all regular expressions in one request. Bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// What all regular expressions of one request may take compiled. Bytes.
const COMPILED_BYTES_MAX: usize = 16 << 20;

/// The same for one of them. Bytes; a pattern that needs more is refused rather than let one
/// query take the process's memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Character classes in all regular expressions of one request. Two bytes of text, `\w`, are
/// several kilobytes of ranges, and folding their case takes milliseconds.
const CLASSES_MAX: usize = 512;

/// What matching all compiled patterns of a request may keep at hand on each thread, as far as
/// they can do with less. Bytes.
const CACHES_BYTES_MAX: usize = 4 << 20;

/// The same for one of them, a quarter of what is left, and the least each gets. Bytes.
const CACHE_BYTES_MIN: usize = 16 << 10;

/// Values that a pattern may be taken apart into. More are quicker to find by an automaton.
const LITERALS_MAX: usize = 4096;

/// Length of all those values. Bytes.
const LITERAL_BYTES_MAX: usize = 64 << 10;

/// Characters of a class that is taken apart.
const CLASS_CHARS_MAX: usize = 16;

/// Beginnings that are looked for in a compiled pattern. Beyond it all values are as quick to walk.
const BEGINNINGS_MAX: usize = 512;

/// What the regular expressions of one request may still cost, before any of it is spent.
#[derive(Debug, Clone, Copy)]
pub struct PatternBudget {
    patterns: usize,
    text_bytes: usize,
    classes: usize,
    compiled_bytes: usize,
    cache_bytes: usize,
}

impl Default for PatternBudget {
    fn default() -> Self {
        Self {
            patterns: PATTERNS_MAX,
            text_bytes: TEXT_BYTES_MAX,
            classes: CLASSES_MAX,
            compiled_bytes: COMPILED_BYTES_MAX,
            cache_bytes: CACHES_BYTES_MAX,
        }
    }
}

impl PatternBudget {
    /// Takes what is known before a pattern is read.
    fn spend(&mut self, pattern: &str) -> Result<(), String> {
        let refused = |max: usize, what: &str| {
            Err(format!("at most {max} {what} are allowed in the regular expressions of a request"))
        };
        let Some(patterns) = self.patterns.checked_sub(1) else {
            return Err(format!(
                "at most {PATTERNS_MAX} regular expressions are allowed in a request"
            ));
        };
        let Some(text_bytes) = self.text_bytes.checked_sub(pattern.len()) else {
            return refused(TEXT_BYTES_MAX, "bytes");
        };
        let Some(classes) = self.classes.checked_sub(classes(pattern)) else {
            return refused(CLASSES_MAX, "character classes");
        };
        (self.patterns, self.text_bytes, self.classes) = (patterns, text_bytes, classes);
        Ok(())
    }

    /// Takes what a pattern took that was read elsewhere.
    pub(crate) fn take(&mut self, text: &str, pattern: &Pattern) {
        self.patterns = self.patterns.saturating_sub(1);
        self.text_bytes = self.text_bytes.saturating_sub(text.len());
        self.classes = self.classes.saturating_sub(classes(text));
        self.compiled_bytes = self.compiled_bytes.saturating_sub(pattern.compiled_bytes());
        if let Pattern::Compiled { automaton, .. } = pattern {
            self.cache_bytes = self.cache_bytes.saturating_sub(automaton.cache_bytes());
        }
    }

    fn spend_compiled(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.compiled_bytes.checked_sub(bytes).ok_or_else(too_large)?;
        self.compiled_bytes = left;
        Ok(())
    }
}

fn too_large() -> String {
    format!("compiled, the regular expressions of a request may take {COMPILED_BYTES_MAX} bytes")
}

/// Classes that a pattern's text may stand for; never fewer than it does.
fn classes(pattern: &str) -> usize {
    let (mut count, mut escaped) = (0, false);
    for byte in pattern.bytes() {
        let class = if escaped { b"wWdDsSpP".contains(&byte) } else { byte == b'[' };
        count += usize::from(class);
        escaped = !escaped && byte == b'\\';
    }
    count
}

/// A pattern, ready to be compared with whole values. `.` matches a newline.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// The value is one of these, in order.
    Literals(Box<[Box<str>]>),
    /// The value is a text with anything before or after it.
    Around { before: Gap, text: Box<str>, after: Gap },
    /// Everything else, and how values must begin for it.
    Compiled { automaton: Box<Automaton>, beginnings: Box<[(Box<[u8]>, bool)]> },
}

/// How a value begins that a pattern matches, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning<'a> {
    /// The text; it may end within a character.
    pub text: &'a [u8],
    /// Whether the value is this and no longer.
    pub is_whole: bool,
}

/// How many characters, of any kind, there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    None,
    /// `.*`
    Any,
    /// `.+`
    Some,
}

impl Pattern {
    pub(crate) fn new(pattern: &str, budget: &mut PatternBudget) -> Result<Self, String> {
        budget.spend(pattern)?;
        let mut parser = ParserBuilder::new().dot_matches_new_line(true).build();
        let hir = parser.parse(pattern).map_err(|e| e.to_string())?;
        let parts = unanchored(&hir);
        if let Some(mut literals) = product(parts) {
            literals.sort_unstable();
            literals.dedup();
            let pattern =
                Self::Literals(literals.into_iter().map(String::into_boxed_str).collect());
            budget.spend_compiled(pattern.compiled_bytes())?;
            return Ok(pattern);
        }
        if let Some(around) = around(parts) {
            return Ok(around);
        }
        let beginnings = beginnings(&hir);
        let automaton = Box::new(compile(hir, budget)?);
        Ok(Self::Compiled { automaton, beginnings })
    }

    /// Every value that matches is one of these or begins with one, none of which is another's
    /// beginning. They narrow a search; the values are still to be compared.
    pub(crate) fn beginnings(&self) -> Vec<Beginning<'_>> {
        match self {
            Self::Literals(literals) => {
                literals.iter().map(|l| Beginning { text: l.as_bytes(), is_whole: true }).collect()
            }
            Self::Around { before: Gap::None, text, after } => {
                vec![Beginning { text: text.as_bytes(), is_whole: *after == Gap::None }]
            }
            Self::Around { .. } => vec![Beginning { text: b"", is_whole: false }],
            Self::Compiled { beginnings, .. } => {
                let all = beginnings.iter();
                all.map(|(text, is_whole)| Beginning { text, is_whole: *is_whole }).collect()
            }
        }
    }

    fn compiled_bytes(&self) -> usize {
        match self {
            Self::Literals(literals) => {
                literals.iter().map(|l| l.len() + size_of::<Box<str>>()).sum()
            }
            Self::Around { .. } => 0,
            Self::Compiled { automaton, .. } => automaton.program_bytes(),
        }
    }

    /// Whether a value matches; stops when `pace` says so, and when the patterns of a request have
    /// taken all the work they may.
    #[inline]
    pub(crate) fn matches_at(&self, value: &str, pace: &mut Pace) -> Result<bool, Stopped> {
        match self {
            Self::Compiled { automaton, .. } => automaton.matches_at(value, pace),
            quick => {
                pace.work(2 + value.len() / 16)?;
                Ok(quick.matches(value))
            }
        }
    }

    #[inline]
    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Literals(literals) => {
                literals.binary_search_by(|literal| (**literal).cmp(value)).is_ok()
            }
            Self::Around { before, text, after } => is_around(*before, text, *after, value),
            Self::Compiled { automaton, .. } => automaton.matches(value),
        }
    }
}

fn is_around(before: Gap, text: &str, after: Gap, value: &str) -> bool {
    let mut rest = value.chars();
    if before == Gap::Some && rest.next().is_none()
        || after == Gap::Some && rest.next_back().is_none()
    {
        return false;
    }
    let rest = rest.as_str();
    match (before, after) {
        (Gap::None, Gap::None) => rest == text,
        (Gap::None, _) => rest.starts_with(text),
        (_, Gap::None) => rest.ends_with(text),
        _ => rest.contains(text),
    }
}

/// The parts of a sequence, without the anchors that are there anyway.
fn unanchored(hir: &Hir) -> &[Hir] {
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    let is = |part: &Hir, look: Look| matches!(part.kind(), HirKind::Look(l) if *l == look);
    while let [first, rest @ ..] = parts
        && is(first, Look::Start)
    {
        parts = rest;
    }
    while let [rest @ .., last] = parts
        && is(last, Look::End)
    {
        parts = rest;
    }
    parts
}

/// The values that a sequence stands for, if they are few.
fn product(parts: &[Hir]) -> Option<Vec<String>> {
    let mut out = vec![String::new()];
    for part in parts {
        let mut tails = literals(part)?;
        if let [tail] = tails.as_slice() {
            out.iter_mut().for_each(|head| head.push_str(tail));
        } else {
            if out.len() * tails.len() > LITERALS_MAX {
                return None;
            }
            if out.iter().all(String::is_empty) && out.len() == 1 {
                std::mem::swap(&mut out, &mut tails);
            } else {
                let joined = |head: &String| {
                    tails.iter().map(|tail| format!("{head}{tail}")).collect::<Vec<_>>()
                };
                out = out.iter().flat_map(joined).collect();
            }
        }
        if out.len() > 1 && out.iter().map(String::len).sum::<usize>() > LITERAL_BYTES_MAX {
            return None;
        }
    }
    Some(out)
}

fn literals(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![str::from_utf8(&literal.0).ok()?.to_owned()]),
        HirKind::Capture(capture) => literals(&capture.sub),
        HirKind::Concat(parts) => product(parts),
        HirKind::Class(Class::Unicode(class)) => {
            let chars: usize = class.ranges().iter().map(|range| range.len()).sum();
            let each = || class.iter().flat_map(|range| range.start()..=range.end());
            (chars <= CLASS_CHARS_MAX).then(|| each().map(String::from).collect())
        }
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut out = literals(&repetition.sub)?;
            out.push(String::new());
            (out.len() <= LITERALS_MAX).then_some(out)
        }
        HirKind::Alternation(parts) => {
            let mut out = Vec::new();
            for part in parts {
                out.append(&mut literals(part)?);
                if out.len() > LITERALS_MAX {
                    return None;
                }
            }
            Some(out)
        }
        _ => None,
    }
}

/// One text with a gap before or after it, or both.
fn around(mut parts: &[Hir]) -> Option<Pattern> {
    let (mut before, mut after) = (Gap::None, Gap::None);
    if let [first, rest @ ..] = parts
        && let Some(gap) = gap(first)
    {
        (before, parts) = (gap, rest);
    }
    if let [rest @ .., last] = parts
        && let Some(gap) = gap(last)
    {
        (after, parts) = (gap, rest);
    }
    match <[String; 1]>::try_from(product(parts)?) {
        Ok([text]) => Some(Pattern::Around { before, text: text.into(), after }),
        Err(_) => None,
    }
}

fn gap(hir: &Hir) -> Option<Gap> {
    match hir.kind() {
        HirKind::Capture(capture) => gap(&capture.sub),
        HirKind::Repetition(repetition) if repetition.max.is_none() && is_any(&repetition.sub) => {
            match repetition.min {
                0 => Some(Gap::Any),
                1 => Some(Gap::Some),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether every character matches.
fn is_any(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Capture(capture) => is_any(&capture.sub),
        HirKind::Class(Class::Unicode(class)) => {
            matches!(class.ranges(), [all] if all.start() == '\0' && all.end() == char::MAX)
        }
        _ => false,
    }
}

/// A prefix makes everything that starts with it superfluous.
fn beginnings(hir: &Hir) -> Box<[(Box<[u8]>, bool)]> {
    let mut extractor = Extractor::new();
    extractor.kind(ExtractKind::Prefix).limit_total(BEGINNINGS_MAX);
    let sequence = extractor.extract(hir);
    let Some(found) = sequence.literals() else { return [(Box::default(), false)].into() };
    let mut found: Vec<(Box<[u8]>, bool)> =
        found.iter().map(|l| (l.as_bytes().into(), l.is_exact())).collect();
    // Prefixes sort before what begins with them.
    found.sort();
    let mut kept: Vec<(Box<[u8]>, bool)> = Vec::new();
    for (text, is_whole) in found {
        let covered = kept.iter().rev().any(|(known, known_whole)| match known_whole {
            true => *known == text && is_whole,
            false => text.starts_with(known),
        });
        if !covered {
            kept.push((text, is_whole));
        }
    }
    kept.into()
}

fn compile(hir: Hir, budget: &mut PatternBudget) -> Result<Automaton, String> {
    let whole = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
    let program_max = PATTERN_BYTES_MAX.min(budget.compiled_bytes);
    let cache_max = (budget.cache_bytes / 4).max(CACHE_BYTES_MIN);
    let sizes = Sizes { program_max, cache_max };
    let automaton = Automaton::new(&whole, &sizes);
    let automaton = automaton.map_err(|refused| match refused {
        Refused::TooLarge if program_max < PATTERN_BYTES_MAX => too_large(),
        Refused::TooLarge => format!("compiled, it takes more than {PATTERN_BYTES_MAX} bytes"),
        Refused::Wrong(reason) => reason,
    })?;
    // A large program needs room for some of its states at least: that is part of its price.
    let forced = automaton.cache_bytes().saturating_sub(cache_max);
    budget.spend_compiled(automaton.program_bytes().saturating_add(forced))?;
    budget.cache_bytes = budget.cache_bytes.saturating_sub(automaton.cache_bytes());
    Ok(automaton)
}

#[cfg(test)]
mod tests;
