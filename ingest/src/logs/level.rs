//! How bad what a line tells is: found in fields that say so, or in the line itself.
//!
//! The names of fields and the words are those of Loki's detection; where a line is neither JSON
//! nor logfmt, the first word of it that is a level counts, and klog's letter before the date.

use memchr::memchr;
use model::Level;

use super::json::{Json, Value};

/// How much of a line is searched for a word. A level stands near the beginning.
const SEARCHED_BYTES_MAX: usize = 4_096;

/// Nesting of JSON that is searched: a field of the object, or of an object within it.
const JSON_DEPTH_MAX: usize = 2;

/// Whether a field of this name says the level.
#[inline]
pub(crate) fn is_level_name(name: &[u8]) -> bool {
    match name.first() {
        Some(b'l' | b'L' | b's' | b'S' | b'd') => matches!(
            name,
            b"level"
                | b"LEVEL"
                | b"Level"
                | b"log.level"
                | b"log_level"
                | b"detected_level"
                | b"severity"
                | b"SEVERITY"
                | b"Severity"
                | b"SeverityText"
                | b"severity_text"
                | b"lvl"
                | b"LVL"
                | b"Lvl"
        ),
        _ => false,
    }
}

/// The level that a word means, in any case.
pub(crate) fn of_word(word: &[u8]) -> Option<Level> {
    let mut lower = [0; 11];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"trace" | b"trc" | b"verbose" => Level::Trace,
        b"debug" | b"dbg" => Level::Debug,
        b"info" | b"inf" | b"information" | b"notice" | b"normal" => Level::Info,
        b"warn" | b"wrn" | b"warning" => Level::Warn,
        b"error" | b"err" | b"severe" => Level::Error,
        b"critical" | b"crit" | b"alert" => Level::Critical,
        b"fatal" | b"panic" | b"emerg" | b"emergency" => Level::Fatal,
        _ => return None,
    })
}

/// OpenTelemetry's severity number: four to each level, 0 for none.
pub(crate) fn of_severity(number: u64) -> Level {
    match number {
        1..=4 => Level::Trace,
        5..=8 => Level::Debug,
        9..=12 => Level::Info,
        13..=16 => Level::Warn,
        17..=20 => Level::Error,
        21..=24 => Level::Fatal,
        _ => Level::Unknown,
    }
}

/// The level that a line itself tells.
pub(crate) fn of_line(line: &[u8]) -> Level {
    let said = match line.trim_ascii_start().first() {
        Some(b'{') => of_json(line),
        _ => of_logfmt(line),
    };
    said.or_else(|| of_words(line)).unwrap_or_default()
}

fn of_json(line: &[u8]) -> Option<Level> {
    let mut json = Json::new(line);
    json.object().ok()?;
    let (mut depth, mut is_first) = (1, true);
    loop {
        let Some(name) = json.key(&mut is_first).ok()? else {
            depth -= 1;
            match depth {
                0 => return None,
                _ => continue,
            }
        };
        let before = json;
        match json.value().ok()? {
            Value::Text(text) if is_level_name(name.raw) => {
                if let Some(level) = of_word(text.raw) {
                    return Some(level);
                }
            }
            Value::Object if depth < JSON_DEPTH_MAX => {
                depth += 1;
                is_first = true;
            }
            Value::Object | Value::Array => {
                json = before;
                json.skip().ok()?;
            }
            _ => {}
        }
    }
}

/// The value of `level=` and its like.
fn of_logfmt(line: &[u8]) -> Option<Level> {
    let mut from = 0;
    while let Some(found) = memchr(b'=', &line[from..]) {
        let at = from + found;
        from = at + 1;
        // The longest name has 14 bytes.
        let before = &line[at.saturating_sub(16)..at];
        let name = before.rsplit(|b| b.is_ascii_whitespace() || *b == b',').next()?;
        if is_level_name(name) {
            let value = &line[from..];
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let end = value.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(value.len());
            if let Some(level) = of_word(&value[..end]) {
                return Some(level);
            }
        }
    }
    None
}

/// Letters that no level begins with are passed over quickly.
const BEGINS: [bool; 256] = {
    let mut begins = [false; 256];
    let letters = b"tdiwecfpTDIWECFP";
    let mut i = 0;
    while i < letters.len() {
        begins[letters[i] as usize] = true;
        i += 1;
    }
    begins
};

fn of_words(line: &[u8]) -> Option<Level> {
    if let Some(level) = of_klog(line) {
        return Some(level);
    }
    let line = &line[..line.len().min(SEARCHED_BYTES_MAX)];
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let mut at = 0;
    while at < line.len() {
        let start = at;
        while at < line.len() && is_part(line[at]) {
            at += 1;
        }
        if at > start && BEGINS[usize::from(line[start])] && (3..=8).contains(&(at - start)) {
            let word = &line[start..at];
            // `Info` and `iNfO`: words in prose are in lower case or begin with a capital.
            let rest_is_even = word[1..].iter().all(u8::is_ascii_lowercase)
                || word.iter().all(u8::is_ascii_uppercase);
            if rest_is_even && let Some(level) = of_plain_word(word) {
                return Some(level);
            }
        }
        at += 1;
    }
    None
}

/// The words that count outside of fields: no abbreviations that mean something else too.
fn of_plain_word(word: &[u8]) -> Option<Level> {
    if matches!(word.len(), 3) && !word.eq_ignore_ascii_case(b"err") {
        return of_word(word).filter(|_| word.iter().all(u8::is_ascii_uppercase));
    }
    of_word(word)
}

/// `E0102 15:04:05.678901 …` as Kubernetes' own programs write.
fn of_klog(line: &[u8]) -> Option<Level> {
    let [letter, rest @ ..] = line.first_chunk::<6>()?;
    let [a, b, c, d, space] = rest;
    if ![a, b, c, d].into_iter().all(u8::is_ascii_digit) || *space != b' ' {
        return None;
    }
    match letter {
        b'I' => Some(Level::Info),
        b'W' => Some(Level::Warn),
        b'E' => Some(Level::Error),
        b'F' => Some(Level::Fatal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, level: Level) {
        assert_eq!(of_line(line.as_bytes()), level, "{line}");
    }

    #[test]
    fn fields_of_json_tell_the_level() {
        check(r#"{"level":"error","msg":"info"}"#, Level::Error);
        check(r#" {"msg":"debug","LEVEL":"WARN"}"#, Level::Warn);
        check(r#"{"a":[1,{"level":"error"}],"b":{"Severity":"Critical"}}"#, Level::Critical);
        check(r#"{"a":{"b":{"level":"error"}},"lvl":"dbg"}"#, Level::Debug);
        check(r#"{"a":{"x":1},"severity":"INFORMATION"}"#, Level::Info);
        check(r#"{"level":30,"msg":"it is fatal"}"#, Level::Fatal);
        check(r#"{"level":"noise","msg":"a WARNING"}"#, Level::Warn);
        check(r#"{"msg":"hello"}"#, Level::Unknown);
        check(r#"{"msg":"cut ERROR sh"#, Level::Error);
    }

    #[test]
    fn fields_of_logfmt_tell_the_level() {
        check("ts=1 level=warn msg=error", Level::Warn);
        check(r#"ts=1 lvl="trc" msg="some error""#, Level::Trace);
        check("severity=ERROR", Level::Error);
        check("xlevel=error msg=hello", Level::Error);
        check("mylevel=debugging a=b", Level::Unknown);
        check("a=1,level=fatal", Level::Fatal);
    }

    #[test]
    fn words_tell_the_level() {
        check("2024-01-02 ERROR info missing", Level::Error);
        check("[INFO] started", Level::Info);
        check("Warning: disk is nearly full", Level::Warn);
        check("something information", Level::Unknown);
        check("no terror here, wander on", Level::Unknown);
        check("an err: x", Level::Error);
        check("the inf of it", Level::Unknown);
        check("INF started", Level::Info);
        check("I0102 15:04:05.678901       1 main.go:5] hi error", Level::Info);
        check("E1131 15:04:05 x", Level::Error);
        check("panic: runtime error", Level::Fatal);
        check("", Level::Unknown);
        check("ERRÖR", Level::Unknown);
        check(&format!("{} ERROR", "x ".repeat(3_000)), Level::Unknown);
    }

    #[test]
    fn severities_have_levels() {
        let severities =
            [(0, Level::Unknown), (1, Level::Trace), (5, Level::Debug), (9, Level::Info)];
        let more =
            [(13, Level::Warn), (17, Level::Error), (21, Level::Fatal), (25, Level::Unknown)];
        for (number, level) in severities.into_iter().chain(more) {
            assert_eq!(of_severity(number), level, "{number}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_has_a_level(line in proptest::collection::vec(0u8..=255, 0..200)) {
            of_line(&line);
        }
    }
}
