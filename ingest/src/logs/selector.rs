//! The text that Loki's senders name a stream with: `{app="web", pod="a-1"}`.

use std::borrow::Cow;

/// Labels of the text in its order, or where it is wrong.
pub(crate) fn parse(text: &str) -> Result<Vec<(&str, Cow<'_, str>)>, String> {
    let mut reader = Text { text, at: 0 };
    let mut pairs = Vec::with_capacity(12);
    reader.expect(b'{')?;
    loop {
        if reader.take(b'}') {
            break;
        }
        if !pairs.is_empty() {
            reader.expect(b',')?;
            // A comma may stand before the end, as in Prometheus' own parser.
            if reader.take(b'}') {
                break;
            }
        }
        let name = reader.name()?;
        reader.expect(b'=')?;
        pairs.push((name, reader.quoted()?));
    }
    match reader.rest().trim().is_empty() {
        true => Ok(pairs),
        false => Err(reader.wrong("the end")),
    }
}

struct Text<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Text<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn wrong(&self, expected: &str) -> String {
        format!("parse error at byte {}: {expected} is expected", self.at)
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.rest().as_bytes().first() == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        match self.take(byte) {
            true => Ok(()),
            false => Err(self.wrong(&format!("'{}'", char::from(byte)))),
        }
    }

    fn name(&mut self) -> Result<&'t str, String> {
        self.space();
        let rest = self.rest();
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let length = rest.bytes().take_while(|b| is_part(*b)).count();
        if length == 0 || rest.as_bytes()[0].is_ascii_digit() {
            return Err(self.wrong("the name of a label"));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn quoted(&mut self) -> Result<Cow<'t, str>, String> {
        self.space();
        let rest = self.rest();
        if let Some(inner) = rest.strip_prefix('`') {
            let end = inner.find('`').ok_or_else(|| self.wrong("the end of a value"))?;
            self.at += end + 2;
            return Ok(Cow::Borrowed(&inner[..end]));
        }
        let inner = rest.strip_prefix('"').ok_or_else(|| self.wrong("a value in quotes"))?;
        let mut at = 0;
        loop {
            let found = memchr::memchr2(b'"', b'\\', &inner.as_bytes()[at..]);
            at += found.ok_or_else(|| self.wrong("the end of a value"))?;
            if inner.as_bytes()[at] == b'"' {
                break;
            }
            at += 2;
            if at > inner.len() {
                return Err(self.wrong("the end of a value"));
            }
        }
        let raw = &inner[..at];
        let value = match raw.contains('\\') {
            false => Cow::Borrowed(raw),
            true => Cow::Owned(unescape(raw).ok_or_else(|| self.wrong("a known escape"))?),
        };
        self.at += at + 2;
        Ok(value)
    }
}

/// The escapes of Go's text literals.
fn unescape(raw: &str) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (kind, after) = rest.split_first()?;
        rest = after;
        let (radix, digits) = match kind {
            b'n' => (0, b'\n'),
            b't' => (0, b'\t'),
            b'r' => (0, b'\r'),
            b'a' => (0, 7),
            b'b' => (0, 8),
            b'f' => (0, 12),
            b'v' => (0, 11),
            b'\\' | b'"' => (0, *kind),
            b'x' => (16, 2),
            b'u' => (16, 4),
            b'U' => (16, 8),
            b'0'..=b'7' => {
                rest = &raw.as_bytes()[raw.len() - rest.len() - 1..];
                (8, 3)
            }
            _ => return None,
        };
        if radix == 0 {
            out.push(digits);
            continue;
        }
        let (number, after) = rest.split_at_checked(usize::from(digits))?;
        rest = after;
        let number = std::str::from_utf8(number).ok().filter(|n| !n.starts_with('+'))?;
        let code = u32::from_str_radix(number, radix).ok()?;
        match kind {
            b'u' | b'U' => {
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => out.push(u8::try_from(code).ok()?),
        }
    }
    // `\xff` alone is no text.
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, pairs: &[(&str, &str)]) {
        let read = parse(text).expect("labels");
        let read: Vec<_> = read.iter().map(|(name, value)| (*name, &**value)).collect();
        assert_eq!(read, pairs, "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text).expect_err("refused"), expected, "{text}");
    }

    #[test]
    fn labels_are_read() {
        check("{}", &[]);
        check(r#"{app="web",pod="a-1"}"#, &[("app", "web"), ("pod", "a-1")]);
        check(r#" { a = "1" , b="2",} "#, &[("a", "1"), ("b", "2")]);
        check(r#"{a="x\"y\\z\n\t\x41\u00e9\U0001f600\101"}"#, &[("a", "x\"y\\z\n\tAé😀A")]);
        check(r#"{a=`x\n"y`}"#, &[("a", r#"x\n"y"#)]);
        check(r#"{a="}",b=","}"#, &[("a", "}"), ("b", ",")]);
        check_error("", "parse error at byte 0: '{' is expected");
        check_error("{a}", "parse error at byte 2: '=' is expected");
        check_error(r#"{a="1" b="2"}"#, "parse error at byte 7: ',' is expected");
        check_error(r#"{a=1}"#, "parse error at byte 3: a value in quotes is expected");
        check_error(r#"{a="1"#, "parse error at byte 3: the end of a value is expected");
        check_error(r#"{a="1\"#, "parse error at byte 3: the end of a value is expected");
        check_error(r#"{a="\q"}"#, "parse error at byte 3: a known escape is expected");
        check_error(r#"{a="\xff"}"#, "parse error at byte 3: a known escape is expected");
        check_error(r#"{a="\u+123"}"#, "parse error at byte 3: a known escape is expected");
        check_error(r#"{1a="1"}"#, "parse error at byte 1: the name of a label is expected");
        check_error(r#"{a="1"} x"#, "parse error at byte 7: the end is expected");
        check_error(r#"{,}"#, "parse error at byte 1: the name of a label is expected");
    }

    proptest::proptest! {
        #[test]
        fn any_text_does_no_harm(text in ".{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("{{a=\"{text}"));
        }

        #[test]
        fn what_is_written_is_read(value in ".*") {
            let quoted = serde_json::to_string(&value).expect("a text");
            let text = format!("{{a={quoted}}}");
            let read = parse(&text).expect("labels");
            proptest::prop_assert_eq!(&*read[0].1, value.as_str());
        }
    }
}
