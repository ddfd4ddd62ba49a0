//! What a question asks of lines and fields, and the search for it in a page: through the whole
//! buffer wherever that finds the same as going from line to line.

#[cfg(test)]
mod tests;

use hashbrown::HashMap;
use memchr::memmem;
use model::{Labels, Level, Matcher, Pace};
use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::needs::Need;
use super::page::{BETWEEN, Fields, Page};
use super::segment::Columns;
use super::tokens::{Edges, is_token};
use crate::Error;

/// Bytes of text searched between two looks at whether somebody still waits.
const SLICE_BYTES: usize = 64 << 10;

/// What one regular expression may take compiled. Bytes; a pattern that needs more is refused.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// What matching one keeps at hand. Bytes.
const CACHE_BYTES_MAX: usize = 1 << 20;

/// Conditions of one question, and tests in each.
const CONDITIONS_MAX: usize = 64;

/// Text of all tests of a question. Bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A text that is looked for by the bytes of its rarest; shorter ones are in nearly every line.
const LITERAL_BYTES_MIN: usize = 3;

/// One way for a line to be what is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineTest {
    /// The text is somewhere in the line; the empty one is in every line.
    Contains(String),
    /// The same, and no letter, digit or underscore stands right before or behind it where it
    /// begins or ends with one.
    Words(String),
    /// The regular expression matches somewhere in the line. As in `regex`: `.` matches no newline.
    Regex(String),
}

/// A condition on lines: one of its tests holds, or none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineCondition {
    /// The tests.
    pub any: Vec<LineTest>,
    /// Whether it wants lines for which none of them holds.
    pub is_negative: bool,
    /// Whether large and small letters are the same.
    pub ignores_case: bool,
}

/// Everything that is asked of an entry beside its stream and its instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// All of these hold for its line.
    pub lines: Vec<LineCondition>,
    /// All of these hold for its fields; a field that is absent has the empty value.
    pub fields: Vec<Matcher>,
    /// All of these hold for what it has under that name: its stream's label; if there is none, its
    /// field; if there is none, and the name is `level_name`, its level's word; else nothing.
    pub named: Vec<Matcher>,
    /// The name under which `named` asks for levels.
    pub level_name: Option<String>,
    /// It is at least as bad as this.
    pub level_min: Option<Level>,
}

/// A filter ready to be used.
#[derive(Debug)]
pub(crate) struct Filter {
    lines: Vec<Condition>,
    fields: Vec<Matcher>,
    named: Vec<Matcher>,
    level_name: Option<String>,
    level_min: Option<Level>,
}

#[derive(Debug)]
struct Condition {
    any: Vec<Finder>,
    is_negative: bool,
}

#[derive(Debug)]
enum Finder {
    /// It is in every line.
    Always,
    Literal {
        finder: Box<memmem::Finder<'static>>,
        is_words: bool,
    },
    Regex {
        regex: Box<Regex>,
        /// Whether it finds in the whole buffer what it finds in single lines.
        is_whole: bool,
        /// A text that is in all it matches.
        literal: Option<Box<memmem::Finder<'static>>>,
        /// What is in all it matches.
        need: Need,
    },
}

impl EntryFilter {
    /// Checks and compiles. The error says which text is wrong.
    pub(crate) fn compile(&self) -> Result<Filter, Error> {
        let tests = || self.lines.iter().flat_map(|c| &c.any);
        let bytes: usize = tests().map(|t| t.text().len()).sum();
        if self.lines.len() > CONDITIONS_MAX || tests().count() > CONDITIONS_MAX {
            return Err(Error::Limit(format!("a question may have {CONDITIONS_MAX} line filters")));
        }
        if bytes > TEXT_BYTES_MAX {
            let limit = TEXT_BYTES_MAX;
            return Err(Error::Limit(format!(
                "the line filters of a question have {bytes} bytes, the limit is {limit}"
            )));
        }
        let compile = |condition: &LineCondition| {
            let any = condition.any.iter().map(|t| t.compile(condition.ignores_case));
            let any = any.collect::<Result<_, Error>>()?;
            Ok(Condition { any, is_negative: condition.is_negative })
        };
        let mut lines: Vec<Condition> =
            self.lines.iter().map(compile).collect::<Result<_, Error>>()?;
        // What is quick and leaves few lines comes first.
        lines.sort_by_key(|c| (c.is_negative, c.any.iter().any(Finder::is_costly)));
        Ok(Filter {
            lines,
            fields: self.fields.clone(),
            named: self.named.clone(),
            level_name: self.level_name.clone(),
            level_min: self.level_min,
        })
    }

    /// Whether every entry passes.
    pub fn is_empty(&self) -> bool {
        let Self { lines, fields, named, level_min, level_name: _ } = self;
        lines.is_empty() && fields.is_empty() && named.is_empty() && level_min.is_none()
    }
}

impl LineTest {
    fn text(&self) -> &str {
        match self {
            Self::Contains(text) | Self::Words(text) | Self::Regex(text) => text,
        }
    }

    fn compile(&self, ignores_case: bool) -> Result<Finder, Error> {
        match self {
            Self::Contains(text) | Self::Words(text) if text.is_empty() => Ok(Finder::Always),
            Self::Contains(text) if !ignores_case => Ok(literal(text, false)),
            Self::Words(text) if !ignores_case => Ok(literal(text, true)),
            Self::Contains(text) => {
                let need = Need::of_needle(text.as_bytes(), Edges::Open, true);
                Finder::regex(&format!("(?i){}", regex_syntax::escape(text)), false, Some(need))
            }
            Self::Words(text) => {
                let need = Need::of_needle(text.as_bytes(), Edges::Closed, true);
                let (first, last) = (text.as_bytes()[0], text.as_bytes()[text.len() - 1]);
                // Borders of tokens are not those of `\b`: all that is not ASCII is in a token.
                // Nor is the end of a line matched, so that the buffer can be searched as a whole.
                const OTHER: &str = r"[^0-9A-Za-z_\x80-\xff\n]";
                let before =
                    if is_token(first) { format!("(?m-u:^|{OTHER})") } else { String::new() };
                let behind =
                    if is_token(last) { format!("(?m-u:$|{OTHER})") } else { String::new() };
                let pattern = format!("{before}(?i:{}){behind}", regex_syntax::escape(text));
                Finder::regex(&pattern, false, Some(need))
            }
            Self::Regex(pattern) => Finder::regex(pattern, ignores_case, None),
        }
    }
}

fn literal(text: &str, is_words: bool) -> Finder {
    let finder = Box::new(memmem::Finder::new(text.as_bytes()).into_owned());
    Finder::Literal { finder, is_words }
}

impl Finder {
    /// Compiles a pattern; `need` is what all it matches has, where that is known.
    fn regex(pattern: &str, ignores_case: bool, need: Option<Need>) -> Result<Self, Error> {
        let refused = |reason: String| {
            Error::Limit(format!("line filter {pattern:?} cannot be used: {reason}"))
        };
        let syntax =
            syntax::Config::new().utf8(false).case_insensitive(ignores_case).nest_limit(100);
        let hir = syntax::parse_with(pattern, &syntax).map_err(|e| refused(e.to_string()))?;
        let config = Regex::config()
            .utf8_empty(false)
            .nfa_size_limit(Some(COMPILED_BYTES_MAX))
            .hybrid_cache_capacity(CACHE_BYTES_MAX);
        let built = Regex::builder().configure(config).build_from_hir(&hir);
        let regex = built.map_err(|e| {
            refused(match e.size_limit() {
                Some(_) => format!("it takes more than {COMPILED_BYTES_MAX} bytes compiled"),
                None => e.to_string(),
            })
        })?;
        let literals = literals_of(&hir);
        let longest = literals.iter().max_by_key(|l| l.len());
        let longest = longest.filter(|l| l.len() >= LITERAL_BYTES_MIN && !l.contains(&BETWEEN));
        let finder = longest.map(|l| Box::new(memmem::Finder::new(l).into_owned()));
        let need = need.unwrap_or_else(|| Need::of_pattern(&hir));
        let is_whole = is_whole(&hir);
        Ok(Self::Regex { regex: Box::new(regex), is_whole, literal: finder, need })
    }

    fn is_costly(&self) -> bool {
        matches!(self, Self::Regex { literal: None, .. })
    }

    /// What all lines have for which it holds.
    fn need(&self) -> Need {
        match self {
            Self::Always => Need::ANYTHING,
            Self::Literal { finder, is_words } => {
                let edges = if *is_words { Edges::Closed } else { Edges::Open };
                Need::of_needle(finder.needle(), edges, false)
            }
            Self::Regex { need, .. } => need.clone(),
        }
    }

    /// Whether it holds for a line.
    fn holds(&self, line: &[u8]) -> bool {
        match self {
            Self::Always => true,
            Self::Literal { finder, is_words: false } => finder.find(line).is_some(),
            Self::Literal { finder, is_words: true } => {
                let needle = finder.needle();
                finds_words(line, needle, &mut |from| finder.find(&line[from..]))
            }
            Self::Regex { regex, literal, .. } => {
                literal.as_ref().is_none_or(|l| l.find(line).is_some()) && regex.is_match(line)
            }
        }
    }

    /// The rows from the first to the last candidate for which it may hold and that were found in
    /// the buffer at once; `None` if it has to look at single lines. Whether they are those for
    /// which it does hold is the second of the pair.
    fn search(
        &self,
        page: &Page,
        candidates: &[u32],
        pace: &mut Pace,
    ) -> Result<Option<(Vec<u32>, bool)>, Error> {
        let rows = |found: Vec<u32>, holds| Ok(Some((found, holds)));
        match self {
            Self::Always => rows(candidates.to_vec(), true),
            Self::Literal { finder, is_words } => {
                let length = finder.needle().len();
                let found = scan(page, candidates, pace, |text, from, end| {
                    finder.find(&text[from..end]).map(|at| (from + at, from + at + length))
                })?;
                rows(found, !*is_words && !finder.needle().contains(&BETWEEN))
            }
            Self::Regex { regex, is_whole: true, .. } => {
                let found = scan(page, candidates, pace, |text, from, end| {
                    let found =
                        regex.search_half(&Input::new(text).range(from..end).earliest(true));
                    found.map(|half| (half.offset().max(from), half.offset()))
                })?;
                rows(found, true)
            }
            Self::Regex { literal: Some(finder), .. } => {
                let length = finder.needle().len();
                let found = scan(page, candidates, pace, |text, from, end| {
                    finder.find(&text[from..end]).map(|at| (from + at, from + at + length))
                })?;
                rows(found, false)
            }
            Self::Regex { .. } => Ok(None),
        }
    }
}

/// Rows in which `find` finds something, from the first to the last candidate.
fn scan(
    page: &Page,
    candidates: &[u32],
    pace: &mut Pace,
    mut find: impl FnMut(&[u8], usize, usize) -> Option<(usize, usize)>,
) -> Result<Vec<u32>, Error> {
    let mut found = Vec::new();
    let (Some(first), Some(last)) = (candidates.first(), candidates.last()) else {
        return Ok(found);
    };
    let (mut row, last) = (*first as usize, *last as usize);
    let text = page.text();
    while row <= last {
        pace.look()?;
        // To the end of a line, so that nothing is cut in two.
        let start = page.place(row).start;
        let until = page.row_at((start + SLICE_BYTES).min(text.len() - 1), row).min(last);
        let end = page.place(until).end;
        let mut at = start;
        while at <= end {
            let Some((_, hit_end)) = find(text, at, end) else { break };
            row = page.row_at(hit_end, row);
            found.push(row as u32);
            at = page.place(row).end + 1;
            row += 1;
        }
        row = until + 1;
    }
    Ok(found)
}

/// Whether a needle stands between borders of tokens somewhere; `find` finds it from a place on.
fn finds_words(line: &[u8], needle: &[u8], find: &mut dyn FnMut(usize) -> Option<usize>) -> bool {
    let mut from = 0;
    while let Some(at) = find(from) {
        let (start, end) = (from + at, from + at + needle.len());
        let joined = |a: Option<&u8>, b: Option<&u8>| {
            a.is_some_and(|b| is_token(*b)) && b.is_some_and(|b| is_token(*b))
        };
        let before = start.checked_sub(1).and_then(|i| line.get(i));
        if !joined(before, needle.first()) && !joined(needle.last(), line.get(end)) {
            return true;
        }
        from = start + 1;
        if from > line.len() {
            break;
        }
    }
    false
}

/// Whether a pattern finds in a buffer of lines what it finds in each: it matches no end of a line,
/// and looks at nothing that is otherwise at the ends of a buffer.
fn is_whole(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Literal(literal) => !literal.0.contains(&BETWEEN),
        HirKind::Class(Class::Unicode(class)) => {
            !class.ranges().iter().any(|r| r.start() <= '\n' && '\n' <= r.end())
        }
        HirKind::Class(Class::Bytes(class)) => {
            !class.ranges().iter().any(|r| r.start() <= BETWEEN && BETWEEN <= r.end())
        }
        // A newline, before or behind, is to these what the end of the text is.
        HirKind::Look(look) => {
            !matches!(look, Look::Start | Look::End | Look::StartCRLF | Look::EndCRLF)
        }
        HirKind::Repetition(repetition) => is_whole(&repetition.sub),
        HirKind::Capture(capture) => is_whole(&capture.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => all.iter().all(is_whole),
    }
}

/// Texts that are in everything a pattern matches.
fn literals_of(hir: &Hir) -> Vec<Vec<u8>> {
    match hir.kind() {
        HirKind::Literal(literal) => vec![literal.0.to_vec()],
        HirKind::Capture(capture) => literals_of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => literals_of(&repetition.sub),
        HirKind::Concat(all) => all.iter().flat_map(literals_of).collect(),
        _ => Vec::new(),
    }
}

impl Condition {
    /// The candidates for which it holds. Both in order.
    fn keep(&self, page: &Page, candidates: Vec<u32>, pace: &mut Pace) -> Result<Vec<u32>, Error> {
        let mut holding: Vec<u32> = Vec::new();
        for finder in &self.any {
            // Where few are left, the lines between them would be searched for nothing.
            let span = candidates.last().zip(candidates.first()).map_or(0, |(l, f)| l - f + 1);
            let is_dense = candidates.len() as u32 >= span / 4;
            let searched = if is_dense { finder.search(page, &candidates, pace)? } else { None };
            let (rows, is_sure) = searched.unwrap_or_else(|| (candidates.clone(), false));
            let mut rows = both(&rows, &candidates);
            if !is_sure {
                let mut kept = Vec::with_capacity(rows.len());
                for row in rows {
                    let line = page.line(row as usize);
                    pace.work(1 + line.len() / 16)?;
                    if finder.holds(line) {
                        kept.push(row);
                    }
                }
                rows = kept;
            }
            holding = if holding.is_empty() { rows } else { either(&holding, &rows) };
        }
        Ok(if self.is_negative { without(&candidates, &holding) } else { holding })
    }
}

impl Filter {
    /// The rows of a page, of those given in order, that pass.
    pub(crate) fn keep(
        &self,
        page: &Page,
        rows: Vec<u32>,
        pace: &mut Pace,
    ) -> Result<Vec<u32>, Error> {
        // Levels are quicker to look at than lines.
        let rows = self.keep_levels(page, rows);
        let rows = self.keep_lines(page, rows, pace)?;
        self.keep_fields(page, rows, pace)
    }

    /// The rows, of those given in order, that are bad enough.
    pub(crate) fn keep_levels(&self, page: &Page, mut rows: Vec<u32>) -> Vec<u32> {
        if let Some(min) = self.level_min {
            rows.retain(|row| page.marks()[*row as usize].level() >= min);
        }
        rows
    }

    /// The rows, of those given in order, whose lines pass; nothing but lines is looked at.
    pub(crate) fn keep_lines(
        &self,
        page: &Page,
        mut rows: Vec<u32>,
        pace: &mut Pace,
    ) -> Result<Vec<u32>, Error> {
        for condition in &self.lines {
            if rows.is_empty() {
                break;
            }
            rows = condition.keep(page, rows, pace)?;
        }
        Ok(rows)
    }

    /// The rows, of those given in order, whose fields pass.
    pub(crate) fn keep_fields(
        &self,
        page: &Page,
        mut rows: Vec<u32>,
        pace: &mut Pace,
    ) -> Result<Vec<u32>, Error> {
        for matcher in &self.fields {
            let mut kept = Vec::with_capacity(rows.len());
            for row in rows {
                let mut fields = Fields(page.fields(row as usize));
                let value = fields.find(|(name, _)| *name == matcher.name()).map_or("", |f| f.1);
                if matcher.matches_at(value, pace)? {
                    kept.push(row);
                }
            }
            rows = kept;
        }
        Ok(rows)
    }

    /// Whether something has to stand in the lines of all that pass.
    pub(crate) fn finds_in_lines(&self) -> bool {
        let is_always = |c: &Condition| c.any.iter().any(|f| matches!(f, Finder::Always));
        self.lines.iter().any(|c| !c.is_negative && !is_always(c))
    }

    /// What of rows it looks at.
    pub(crate) fn columns(&self) -> Columns {
        let fields = !self.fields.is_empty() || !self.named.is_empty();
        Columns { lines: !self.lines.is_empty(), fields }
    }

    /// The rows, of those given in order, that have what is asked for under names; `labels` are
    /// those of a stream by its number. What labels decide is decided once for each stream.
    pub(crate) fn keep_named<'a>(
        &self,
        page: &Page,
        mut rows: Vec<u32>,
        labels: impl Fn(u32) -> Option<&'a Labels>,
        pace: &mut Pace,
    ) -> Result<Vec<u32>, Error> {
        let mut of_streams: HashMap<u32, Option<bool>> = HashMap::new();
        for matcher in &self.named {
            let is_level = self.level_name.as_deref() == Some(matcher.name());
            let mut kept = Vec::with_capacity(rows.len());
            of_streams.clear();
            for row in rows {
                let stream = page.streams()[row as usize];
                let decided = match of_streams.get(&stream) {
                    Some(decided) => *decided,
                    None => {
                        let value = labels(stream).and_then(|labels| labels.get(matcher.name()));
                        let decided =
                            value.map(|value| matcher.matches_at(value, pace)).transpose()?;
                        of_streams.insert(stream, decided);
                        decided
                    }
                };
                let is_kept = match decided {
                    Some(decided) => decided,
                    None => {
                        let mut fields = Fields(page.fields(row as usize));
                        let value = match fields.find(|(name, _)| *name == matcher.name()) {
                            Some((_, value)) => value,
                            None if is_level => page.marks()[row as usize].level().as_str(),
                            None => "",
                        };
                        matcher.matches_at(value, pace)?
                    }
                };
                if is_kept {
                    kept.push(row);
                }
            }
            rows = kept;
        }
        Ok(rows)
    }

    /// The same as [`Filter::needs`] of what is asked for under names, where no stream has a label
    /// of that name: then fields decide.
    pub(crate) fn needs_named(&self, has_label: impl Fn(&str) -> bool) -> Vec<Need> {
        let is_field =
            |m: &&Matcher| self.level_name.as_deref() != Some(m.name()) && !has_label(m.name());
        self.named.iter().filter(is_field).filter_map(need_of_field).collect()
    }

    /// What rows must have to pass, by condition. A condition that any rows may satisfy is not in it.
    pub(crate) fn needs(&self) -> Vec<Need> {
        let of_lines = self
            .lines
            .iter()
            .filter(|c| !c.is_negative)
            .map(|c| Need::Any(c.any.iter().map(Finder::need).collect()));
        let of_fields = self.fields.iter().filter_map(need_of_field);
        of_lines.chain(of_fields).filter(|need| !need.is_anything()).collect()
    }
}

/// What an entry has that has a field of one value; `None` if it may have several.
fn need_of_field(matcher: &Matcher) -> Option<Need> {
    let is_equal = matcher.op() == model::MatchOp::Equal && !matcher.value().is_empty();
    is_equal.then(|| Need::of_field(matcher.name(), matcher.value()))
}

/// What is in both of two lists in order.
fn both(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut b = b.iter().peekable();
    let has = |row: &&u32| {
        while b.next_if(|other| *other < *row).is_some() {}
        b.peek() == Some(row)
    };
    a.iter().filter(has).copied().collect()
}

/// What is in one of two lists in order.
fn either(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut all: Vec<u32> = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What is in the first of two lists in order alone.
fn without(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut b = b.iter().peekable();
    let has_not = |row: &&u32| {
        while b.next_if(|other| *other < *row).is_some() {}
        b.peek() != Some(row)
    };
    a.iter().filter(has_not).copied().collect()
}
