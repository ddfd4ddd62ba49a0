//! JSON read where it lies: nothing is copied, texts are unescaped only where somebody wants them.
//!
//! A reader never looks past its end; nesting is bounded; every step moves forward or fails.
//! Lenient in one thing: control characters within texts are taken.

use std::borrow::Cow;

use memchr::memchr2;

/// Nesting that is followed. Kubernetes objects have a dozen levels.
pub(crate) const DEPTH_MAX: usize = 64;

/// Bytes that are not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON at byte {at}: {what}")]
pub(crate) struct JsonError {
    /// Where in the text.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) what: &'static str,
}

/// A place in a JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<'a> {
    text: &'a [u8],
    at: usize,
}

/// A text between its quotes, as it was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    pub(crate) raw: &'a [u8],
    pub(crate) is_escaped: bool,
}

/// The beginning of a value; of objects and arrays only that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Text(Text<'a>),
    Number(&'a [u8]),
    Bool(bool),
    Null,
    Object,
    Array,
}

impl<'a> Text<'a> {
    /// What it means. Escapes that make no sense stay as they are.
    pub(crate) fn bytes(self) -> Cow<'a, [u8]> {
        if !self.is_escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut out = Vec::with_capacity(self.raw.len());
        unescape(self.raw, &mut out);
        Cow::Owned(out)
    }

    /// What it means, as text; what is not UTF-8 is replaced.
    pub(crate) fn str(self) -> Cow<'a, str> {
        match self.bytes() {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(why) => String::from_utf8_lossy(why.as_bytes()).into_owned(),
            }),
        }
    }

    /// Whether it is written so, without escapes.
    pub(crate) fn is(self, word: &str) -> bool {
        self.raw == word.as_bytes()
    }
}

impl<'a> Json<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    #[cold]
    fn fail<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, what })
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.text.get(self.at).copied()
    }

    /// Fails unless only space is left.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fail("more follows after the value"),
        }
    }

    /// The next value; within an object or array that begins so, [`key`](Self::key) or
    /// [`element`](Self::element) is next.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Value<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => self.quoted().map(Value::Text),
            Some(b'{') => {
                self.at += 1;
                Ok(Value::Object)
            }
            Some(b'[') => {
                self.at += 1;
                Ok(Value::Array)
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => self.fail("a value is expected"),
            None => self.fail("it is cut short"),
        }
    }

    /// Whether the next value is an object; moves into it.
    pub(crate) fn object(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                Ok(())
            }
            _ => self.fail("an object is expected"),
        }
    }

    /// Whether the next value is an array; moves into it.
    pub(crate) fn array(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'[') => {
                self.at += 1;
                Ok(())
            }
            _ => self.fail("an array is expected"),
        }
    }

    /// The next name of an object, whose value follows; `None` at its end.
    #[inline]
    pub(crate) fn key(&mut self, is_first: &mut bool) -> Result<Option<Text<'a>>, JsonError> {
        let first = std::mem::take(is_first);
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => {
                self.at += 1;
                self.space();
            }
            Some(_) if first => {}
            Some(_) => return self.fail("a comma or the end of the object is expected"),
            None => return self.fail("it is cut short"),
        }
        if self.text.get(self.at) != Some(&b'"') {
            return self.fail("a name in quotes is expected");
        }
        let name = self.quoted()?;
        if self.peek() != Some(b':') {
            return self.fail("a colon is expected");
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// Whether an array goes on; its next value follows then.
    #[inline]
    pub(crate) fn element(&mut self, is_first: &mut bool) -> Result<bool, JsonError> {
        let first = std::mem::take(is_first);
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            Some(_) => self.fail("a comma or the end of the array is expected"),
            None => self.fail("it is cut short"),
        }
    }

    /// Moves past the next value and gives its bytes.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], JsonError> {
        self.space();
        let start = self.at;
        // What is open, innermost in the lowest bit: whether it is an object.
        let (mut open, mut depth) = (0_u64, 0);
        loop {
            let opened = match self.value()? {
                Value::Object => Some(1),
                Value::Array => Some(0),
                _ => None,
            };
            let mut is_first = opened.is_some();
            if let Some(kind) = opened {
                if depth == DEPTH_MAX {
                    return self.fail("it is nested too deeply");
                }
                open = open << 1 | kind;
                depth += 1;
            }
            loop {
                if depth == 0 {
                    return Ok(&self.text[start..self.at]);
                }
                let goes_on = match open & 1 {
                    1 => self.key(&mut is_first)?.is_some(),
                    _ => self.element(&mut is_first)?,
                };
                if goes_on {
                    break;
                }
                open >>= 1;
                depth -= 1;
            }
        }
    }

    #[inline]
    fn quoted(&mut self) -> Result<Text<'a>, JsonError> {
        let start = self.at + 1;
        let mut at = start;
        let mut is_escaped = false;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            match memchr2(b'"', b'\\', rest) {
                Some(found) if rest[found] == b'"' => {
                    self.at = at + found + 1;
                    return Ok(Text { raw: &self.text[start..at + found], is_escaped });
                }
                Some(found) => {
                    is_escaped = true;
                    at += found + 2;
                }
                None => return self.fail("a text does not end"),
            }
        }
    }

    fn number(&mut self) -> Result<&'a [u8], JsonError> {
        let rest = &self.text[self.at..];
        let part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().take_while(|b| part(b)).count();
        let number = &rest[..length];
        if !is_number(number) {
            return self.fail("a number is malformed");
        }
        self.at += length;
        Ok(number)
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return self.fail("a value is expected");
        }
        self.at += word.len();
        Ok(value)
    }
}

/// `-? digits (. digits)? ([eE] [+-]? digits)?`
fn is_number(text: &[u8]) -> bool {
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |rest: &mut &[u8]| {
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        *rest = &rest[count..];
        count > 0
    };
    if !digits(&mut rest) {
        return false;
    }
    if let Some(after) = rest.strip_prefix(b".") {
        rest = after;
        if !digits(&mut rest) {
            return false;
        }
    }
    if let [b'e' | b'E', after @ ..] = rest {
        rest = match after {
            [b'+' | b'-', after @ ..] => after,
            after => after,
        };
        if !digits(&mut rest) {
            return false;
        }
    }
    rest.is_empty()
}

/// Appends what an escaped text means. Halves of surrogate pairs become U+FFFD, as in Go.
pub(crate) fn unescape(mut raw: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', raw) {
        out.extend_from_slice(&raw[..at]);
        raw = &raw[at + 1..];
        let Some((kind, rest)) = raw.split_first() else {
            out.push(b'\\');
            return;
        };
        raw = rest;
        let plain = match kind {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'"' | b'\\' | b'/' => *kind,
            b'u' => {
                put_unit(&mut raw, out);
                continue;
            }
            other => {
                out.push(b'\\');
                *other
            }
        };
        out.push(plain);
    }
    out.extend_from_slice(raw);
}

/// Appends the character of `\uXXXX`, or of two of them.
fn put_unit(raw: &mut &[u8], out: &mut Vec<u8>) {
    let Some(first) = hex_4(raw) else {
        out.extend_from_slice(b"\\u");
        return;
    };
    *raw = &raw[4..];
    let mut code = u32::from(first);
    if (0xd800..0xdc00).contains(&code)
        && let Some(second) = raw.strip_prefix(b"\\u").and_then(hex_4)
        && (0xdc00..0xe000).contains(&second)
    {
        code = 0x10000 + ((code - 0xd800) << 10) + (u32::from(second) - 0xdc00);
        *raw = &raw[6..];
    }
    let shown = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
}

fn hex_4(text: &[u8]) -> Option<u16> {
    let digits = text.first_chunk::<4>()?;
    digits.iter().try_fold(0_u16, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | digit as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: Result<&str, &str>) {
        let mut json = Json::new(text.as_bytes());
        let read = json.skip().and_then(|bytes| json.end().map(|()| bytes));
        let read = read.map(String::from_utf8_lossy).map_err(|e| e.to_string());
        assert_eq!(read.as_deref().map_err(String::as_str), shown, "{text}");
    }

    #[test]
    fn values_are_passed_over() {
        for text in ["{}", "[]", "1", "-0.5e+7", "true", "null", r#""""#, r#"{"a":[1,{"b":"}"}]}"#]
        {
            check(text, Ok(text));
            check(&format!(" {text}\r\n"), Ok(text));
        }
        let wrong = |at: usize, what: &str| format!("malformed JSON at byte {at}: {what}");
        check("", Err(&wrong(0, "it is cut short")));
        check("{} x", Err(&wrong(3, "more follows after the value")));
        check("[1 2]", Err(&wrong(3, "a comma or the end of the array is expected")));
        check("[,1]", Err(&wrong(1, "a value is expected")));
        check(r#"{"a" 1}"#, Err(&wrong(5, "a colon is expected")));
        check(r#"{"a":1 "b":2}"#, Err(&wrong(7, "a comma or the end of the object is expected")));
        check("{a:1}", Err(&wrong(1, "a name in quotes is expected")));
        check(r#"{"a":1,}"#, Err(&wrong(7, "a name in quotes is expected")));
        check("[01x]", Err(&wrong(3, "a comma or the end of the array is expected")));
        for number in ["-", "1.", "1e", "1.e5", "--1", "1e5.5"] {
            check(number, Err(&wrong(0, "a number is malformed")));
        }
        check("tru", Err(&wrong(0, "a value is expected")));
        check(r#""abc"#, Err(&wrong(0, "a text does not end")));
        check(r#""abc\"#, Err(&wrong(0, "a text does not end")));
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&deep(64), Ok(&deep(64)));
        check(&deep(65), Err(&wrong(65, "it is nested too deeply")));
        check(&"[".repeat(100_000), Err(&wrong(65, "it is nested too deeply")));
    }

    #[test]
    fn texts_are_unescaped() {
        let check = |raw: &str, meant: &str| {
            let quoted = format!("\"{raw}\"");
            let Ok(Value::Text(text)) = Json::new(quoted.as_bytes()).value() else {
                panic!("{raw} is a text");
            };
            assert_eq!(text.str(), meant, "{raw}");
            if let Ok(theirs) = serde_json::from_str::<String>(&quoted) {
                assert_eq!(meant, theirs);
            }
        };
        check("plain", "plain");
        check(r#"a\"b\\c\/d\b\f\n\r\t"#, "a\"b\\c/d\u{8}\u{c}\n\r\t");
        check(r"\u00e9\u20AC\ud83d\ude00", "é€😀");
        check(r"\ud83d", "\u{fffd}");
        check(r"\ud83dx\ude00", "\u{fffd}x\u{fffd}");
        check(r"\ud83d\u0041", "\u{fffd}A");
        check(r"\x\u12", r"\x\u12");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
            let mut json = Json::new(&bytes);
            if let Ok(value) = json.skip() {
                proptest::prop_assert!(value.len() <= bytes.len());
            }
        }

        #[test]
        fn what_serde_writes_is_read(text in ".*", number in proptest::num::f64::NORMAL) {
            let whole = serde_json::json!({ "a": [text, number, null, { text.clone(): true }] });
            let written = whole.to_string();
            let mut json = Json::new(written.as_bytes());
            proptest::prop_assert_eq!(json.skip(), Ok(written.as_bytes()));
            let mut json = Json::new(written.as_bytes());
            let mut is_first = true;
            json.object().expect("an object");
            json.key(&mut is_first).expect("a name");
            json.array().expect("an array");
            json.element(&mut true).expect("an element");
            let Ok(Value::Text(read)) = json.value() else { panic!("a text") };
            proptest::prop_assert_eq!(read.str(), text);
        }
    }
}
