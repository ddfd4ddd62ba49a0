//! Influx line protocol, one line at a time.
//!
//! ```text
//! measurement[,tag=value…] field=value[,field=value…] [timestamp]
//! ```
//!
//! A backslash keeps a comma, a space or an equals sign from ending a name; texts stand in quotes
//! and are the only place where a line may break.

use std::borrow::Cow;

/// A field's value as a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field {
    /// A float, an integer, an unsigned integer, or a truth value as 1 or 0.
    Number(f64),
    /// A text: there is no sample that it could be.
    Text,
}

/// One line.
#[derive(Debug, Default, PartialEq)]
pub struct Line<'a> {
    /// The measurement.
    pub measurement: Cow<'a, str>,
    /// Tags in the order they came.
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Fields in the order they came.
    pub fields: Vec<(Cow<'a, str>, Field)>,
    /// In the request's unit.
    pub timestamp: Option<i64>,
}

/// The next line and what follows it; comments and blank lines are passed over. An error is told
/// with the text of the line.
pub fn next_line<'a>(rest: &mut &'a [u8]) -> Option<Result<Line<'a>, String>> {
    loop {
        let start = rest.trim_ascii_start();
        if start.is_empty() {
            *rest = start;
            return None;
        }
        if start[0] == b'#' {
            *rest = after_line(start);
            continue;
        }
        let mut cursor = Cursor { rest: start };
        let read = line(&mut cursor);
        *rest = if read.is_ok() { cursor.rest } else { after_line(start) };
        return Some(read.map_err(|what| {
            let end = start.iter().position(|b| *b == b'\n').unwrap_or(start.len()).min(120);
            format!("{what}: {:?}", String::from_utf8_lossy(&start[..end]))
        }));
    }
}

fn after_line(text: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', text).map_or(&[], |end| &text[end + 1..])
}

struct Cursor<'a> {
    rest: &'a [u8],
}

type What = &'static str;

impl<'a> Cursor<'a> {
    /// Up to one of these bytes that has no backslash before it.
    fn until(&mut self, ends: &[u8]) -> Result<Cow<'a, str>, What> {
        let mut at = 0;
        while let Some(byte) = self.rest.get(at) {
            if ends.contains(byte) || *byte == b'\n' {
                break;
            }
            // A backslash before anything else, the end of the line included, is one.
            let keeps =
                *byte == b'\\' && self.rest.get(at + 1).is_some_and(|b| b",= \\".contains(b));
            at += if keeps { 2 } else { 1 };
        }
        let (text, rest) = self.rest.split_at(at.min(self.rest.len()));
        self.rest = rest;
        unescaped(text, b",= \\")
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn blanks(&mut self) -> bool {
        let before = self.rest.len();
        while self.eat(b' ') {}
        self.rest.len() < before
    }
}

fn unescaped<'a>(text: &'a [u8], kept: &[u8]) -> Result<Cow<'a, str>, What> {
    let text = std::str::from_utf8(text).map_err(|_| "text is not UTF-8")?;
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '\\' && next.is_ascii() && kept.contains(&(*next as u8)) => {
                out.push(*next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    Ok(Cow::Owned(out))
}

fn line<'a>(cursor: &mut Cursor<'a>) -> Result<Line<'a>, What> {
    let mut line = Line { measurement: cursor.until(b", ")?, ..Line::default() };
    if line.measurement.is_empty() {
        return Err("measurement is missing");
    }
    while cursor.eat(b',') {
        let name = cursor.until(b"=, ")?;
        if name.is_empty() || !cursor.eat(b'=') {
            return Err("tag is not name=value");
        }
        let value = cursor.until(b", ")?;
        line.tags.push((name, value));
    }
    if !cursor.blanks() {
        return Err("fields are missing");
    }
    loop {
        let name = cursor.until(b"=, ")?;
        if name.is_empty() || !cursor.eat(b'=') {
            return Err("field is not name=value");
        }
        line.fields.push((name, field(cursor)?));
        if !cursor.eat(b',') {
            break;
        }
    }
    cursor.blanks();
    let timestamp = cursor.until(b" \r")?;
    cursor.blanks();
    cursor.eat(b'\r');
    if !cursor.rest.is_empty() && !cursor.eat(b'\n') {
        return Err("there is something after the timestamp");
    }
    if !timestamp.is_empty() {
        line.timestamp = Some(timestamp.parse().map_err(|_| "timestamp is not a whole number")?);
    }
    Ok(line)
}

fn field(cursor: &mut Cursor<'_>) -> Result<Field, What> {
    if cursor.eat(b'"') {
        let mut at = 0;
        loop {
            match cursor.rest.get(at) {
                None => return Err("text does not end"),
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
            }
        }
        std::str::from_utf8(&cursor.rest[..at]).map_err(|_| "text is not UTF-8")?;
        cursor.rest = &cursor.rest[at + 1..];
        return Ok(Field::Text);
    }
    let text = cursor.until(b", \r")?;
    let wrong = "value is not a number, a truth value or a text in quotes";
    let number = match &*text {
        "t" | "T" | "true" | "True" | "TRUE" => 1.0,
        "f" | "F" | "false" | "False" | "FALSE" => 0.0,
        text => match text.as_bytes().last() {
            Some(b'i') => text[..text.len() - 1].parse::<i64>().map_err(|_| wrong)? as f64,
            Some(b'u') => text[..text.len() - 1].parse::<u64>().map_err(|_| wrong)? as f64,
            // Words for infinite and undefined numbers are not numbers in Influx.
            Some(b'0'..=b'9' | b'.') => text.parse().map_err(|_| wrong)?,
            _ => return Err(wrong),
        },
    };
    Ok(Field::Number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines, the errors among them.
    #[track_caller]
    fn check(text: &str, lines: &[&str]) {
        let mut rest = text.as_bytes();
        let mut shown = Vec::new();
        while let Some(line) = next_line(&mut rest) {
            shown.push(match line {
                Err(why) => why,
                Ok(line) => {
                    let pairs = |pairs: &[(Cow<'_, str>, Cow<'_, str>)]| {
                        pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(";")
                    };
                    let fields = line.fields.iter().map(|(n, f)| match f {
                        Field::Number(v) => format!("{n}={v}"),
                        Field::Text => format!("{n}=text"),
                    });
                    let fields = fields.collect::<Vec<_>>().join(";");
                    let at = line.timestamp.map_or(String::new(), |at| format!(" @{at}"));
                    format!("{} [{}] {fields}{at}", line.measurement, pairs(&line.tags))
                }
            });
        }
        assert_eq!(shown, lines);
    }

    #[test]
    fn lines_are_read() {
        check("", &[]);
        check("cpu v=1", &["cpu [] v=1"]);
        check("cpu,host=a,dc=b v=1.5,w=-2i 123\n", &["cpu [host=a;dc=b] v=1.5;w=-2 @123"]);
        check("# comment\n\n  cpu v=1e3 \r\nmem v=5u 7\r\n", &["cpu [] v=1000", "mem [] v=5 @7"]);
        check("cpu a=t,b=F,c=True,d=false", &["cpu [] a=1;b=0;c=1;d=0"]);
        check("cpu s=\"a, b\\\" = \nc\",v=2 9", &["cpu [] s=text;v=2 @9"]);
        check(r"my\ cpu\,x,ta\=g=a\ b,u=c\\d f\ g=1", &[r"my cpu,x [ta=g=a b;u=c\d] f g=1"]);
        check(r"c\pu,t=\a v=1", &[r"c\pu [t=\a] v=1"]);
        check("cpu,t= v=1", &["cpu [t=] v=1"]);
        check("cpu  v=1   5", &["cpu [] v=1 @5"]);
        check("cpu v=-.5,w=5. -1", &["cpu [] v=-0.5;w=5 @-1"]);
    }

    #[test]
    fn wrong_lines_are_told_and_the_others_read() {
        check(
            "cpu\nok v=1\ncpu,t v=1\ncpu v\ncpu v=\ncpu v=x\nok v=2",
            &[
                "fields are missing: \"cpu\"",
                "ok [] v=1",
                "tag is not name=value: \"cpu,t v=1\"",
                "field is not name=value: \"cpu v\"",
                "value is not a number, a truth value or a text in quotes: \"cpu v=\"",
                "value is not a number, a truth value or a text in quotes: \"cpu v=x\"",
                "ok [] v=2",
            ],
        );
        check("cpu v=1 x", &["timestamp is not a whole number: \"cpu v=1 x\""]);
        check("cpu v=1 1 2", &["there is something after the timestamp: \"cpu v=1 1 2\""]);
        check(
            "cpu v=nan",
            &["value is not a number, a truth value or a text in quotes: \"cpu v=nan\""],
        );
        check(
            "cpu v=1i5i",
            &["value is not a number, a truth value or a text in quotes: \"cpu v=1i5i\""],
        );
        check("cpu v=\"x", &["text does not end: \"cpu v=\\\"x\""]);
        check(",t=1 v=1", &["measurement is missing: \",t=1 v=1\""]);
        check(
            "cpu v=99999999999999999999i",
            &[
                "value is not a number, a truth value or a text in quotes: \"cpu v=99999999999999999999i\"",
            ],
        );
    }
}
