//! Literals: numbers, durations and strings, from text to value and back.

use std::borrow::Cow;
use std::fmt::Write;

/// The value of a number token. Go's rules: `0x1f`, `017` and `1_000` are integers, anything else
/// (and what does not fit an `i64`) is a float; a float too large is an error, not infinity.
pub(super) fn number(text: &str) -> Result<f64, String> {
    let digits: Cow<'_, str> = match text.contains('_') {
        true if !underscores_separate_digits(text) => {
            return Err(bad_float(text, "invalid syntax"));
        }
        true => text.replace('_', "").into(),
        false => text.into(),
    };
    let (radix, integer) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, &digits[..]),
    };
    if let Ok(value) = i64::from_str_radix(integer, radix) {
        return Ok(value as f64);
    }
    match digits.parse::<f64>() {
        Ok(value) if value.is_infinite() && !digits.eq_ignore_ascii_case("inf") => {
            Err(bad_float(text, "value out of range"))
        }
        Ok(value) => Ok(value),
        Err(_) => Err(bad_float(text, "invalid syntax")),
    }
}

fn bad_float(text: &str, reason: &str) -> String {
    format!(
        "error parsing number: strconv.ParseFloat: parsing {}: {reason}",
        quote(text.as_bytes())
    )
}

fn underscores_separate_digits(text: &str) -> bool {
    let hex = text.starts_with("0x") || text.starts_with("0X");
    let digit = |byte: u8| if hex { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
    let bytes = text.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').all(|(at, _)| {
        let after_prefix = hex && at == 2;
        (after_prefix || at > 0 && digit(bytes[at - 1]))
            && bytes.get(at + 1).is_some_and(|next| digit(*next))
    })
}

/// The units of a duration, largest first, with their milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The longest duration: Prometheus counts nanoseconds in an `i64`.
const DURATION_MS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// The seconds of a duration token such as `1h30m`.
pub(crate) fn duration(text: &str) -> Result<f64, String> {
    let invalid = || format!("not a valid duration string: {}", quote(text.as_bytes()));
    let mut units = &UNITS[..];
    let mut total_ms = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let value: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        if unit.is_empty() {
            return Err(invalid());
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            let whole = quote(text.as_bytes());
            return Err(format!("unknown unit {} in duration {whole}", quote(unit.as_bytes())));
        }
        let at = units.iter().position(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let ms = value.checked_mul(units[at].1);
        units = &units[at + 1..];
        total_ms = ms
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|ms| *ms <= DURATION_MS_MAX)
            .ok_or("duration out of range")?;
    }
    Ok(total_ms as f64 / 1000.0)
}

/// Seconds as a duration, `1h30m`; a fraction of a millisecond, which no unit can say, as a number.
pub(crate) fn duration_text(seconds: f64) -> String {
    let exact_ms = (seconds.abs() * 1000.0).round();
    if exact_ms / 1000.0 != seconds.abs() {
        return number_text(seconds);
    }
    let mut text = String::from(if seconds < 0.0 { "-" } else { "" });
    let mut ms = exact_ms as u64;
    if ms == 0 {
        return String::from("0s");
    }
    for (unit, unit_ms) in UNITS {
        // Years and weeks only where nothing is left over: 90d reads better than 12w6d.
        let whole = matches!(unit, "y" | "w");
        if whole && !ms.is_multiple_of(unit_ms) || ms < unit_ms {
            continue;
        }
        let _ = write!(text, "{}{unit}", ms / unit_ms);
        ms %= unit_ms;
    }
    text
}

/// A number, never with an exponent.
pub(super) fn number_text(value: f64) -> String {
    match value {
        f64::INFINITY => String::from("+Inf"),
        f64::NEG_INFINITY => String::from("-Inf"),
        value => value.to_string(),
    }
}

/// The bytes that a string token, quotes included, stands for. The lexer has checked the escapes.
pub(crate) fn unquote(token: &str) -> Vec<u8> {
    let inner = &token[1..token.len() - 1];
    if token.starts_with('`') || !inner.contains('\\') {
        return inner.as_bytes().to_vec();
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = unescape(&rest[at + 1..], &mut bytes);
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Adds what the escape after a backslash stands for; what follows it is returned.
fn unescape<'t>(rest: &'t str, bytes: &mut Vec<u8>) -> &'t str {
    let kind = rest.as_bytes().first().copied().unwrap_or(b'\\');
    let (radix, digits) = match kind {
        b'x' => (16, 1..3),
        b'u' => (16, 1..5),
        b'U' => (16, 1..9),
        b'0'..=b'7' => (8, 0..3),
        _ => {
            bytes.push(match kind {
                b'a' => 7,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                other => other,
            });
            return rest.get(1..).unwrap_or_default();
        }
    };
    let end = digits.end;
    let value = rest
        .get(digits)
        .and_then(|digits| u32::from_str_radix(digits, radix).ok())
        .unwrap_or_default();
    match kind {
        b'u' | b'U' => {
            let character = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => bytes.push(value as u8),
    }
    rest.get(end..).unwrap_or_default()
}

/// A string in double quotes, as Go's `%q` prints it.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            escape(character, '"', &mut text);
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

/// A character in single quotes, as Go's `%q` prints it.
pub(super) fn quote_char(character: char) -> String {
    let mut text = String::from("'");
    escape(character, '\'', &mut text);
    text.push('\'');
    text
}

fn escape(character: char, delimiter: char, text: &mut String) {
    let short = match character {
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        '\\' => '\\',
        character if character == delimiter => delimiter,
        character => return escape_long(character, text),
    };
    text.push('\\');
    text.push(short);
}

fn escape_long(character: char, text: &mut String) {
    let code = u32::from(character);
    // Rust escapes what has no glyph, and marks that join the character before; Go only the first.
    let hidden = character.is_control() || character != ' ' && character.is_whitespace();
    let _ = match code {
        0..0x20 | 0x7f => write!(text, "\\x{code:02x}"),
        0x80..0x10000 if hidden => write!(text, "\\u{code:04x}"),
        // Soft hyphen, zero-width and direction marks, private use, byte order mark, tags.
        0xad
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x206f
        | 0xe000..=0xf8ff
        | 0xfeff
        | 0xfff0..=0xfffb => {
            write!(text, "\\u{code:04x}")
        }
        0xe0000..=0x10ffff => write!(text, "\\U{code:08x}"),
        _ => text.write_char(character),
    };
}

/// A label's or metric's name as it may stand in a query: quoted unless it is of the old alphabet.
pub(super) fn name_text(name: &str) -> Cow<'_, str> {
    let old = |at: usize, byte: u8| {
        byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit()
    };
    match !name.is_empty() && name.bytes().enumerate().all(|(at, byte)| old(at, byte)) {
        true => Cow::Borrowed(name),
        false => Cow::Owned(quote(name.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        let cases = [
            ("1", "1"),
            ("0x1F", "31"),
            ("0X_1f", "31"),
            ("0755", "493"),
            ("0789", "789"),
            ("1_000", "1000"),
            ("1_0.2_5e1_0", "102500000000"),
            (".5", "0.5"),
            ("5.", "5"),
            ("9223372036854775808", "9223372036854776000"),
            (
                "1e400",
                "error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range",
            ),
            ("inF", "+Inf"),
            ("NaN", "NaN"),
            (
                "0xFFFFFFFFFFFFFFFFF",
                "error parsing number: strconv.ParseFloat: parsing \"0xFFFFFFFFFFFFFFFFF\": invalid syntax",
            ),
            ("1__0", "error parsing number: strconv.ParseFloat: parsing \"1__0\": invalid syntax"),
        ];
        for (text, expected) in cases {
            let found = number(text).map_or_else(|error| error, number_text);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_printed() {
        let cases = [
            ("5m", "5m"),
            ("90d", "90d"),
            ("14d", "2w"),
            ("365d", "1y"),
            ("1h30m", "1h30m"),
            ("5000ms", "5s"),
            ("1y2w3d4h5m6s7ms", "382d4h5m6s7ms"),
            ("0s", "0s"),
            ("1m1h", "not a valid duration string: \"1m1h\""),
            ("5.5m", "unknown unit \".\" in duration \"5.5m\""),
            ("5hs", "unknown unit \"hs\" in duration \"5hs\""),
            ("293y", "duration out of range"),
            ("99999999999999999999s", "not a valid duration string: \"99999999999999999999s\""),
        ];
        for (text, expected) in cases {
            let found = duration(text).map_or_else(|error| error, duration_text);
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(duration_text(-300.0), "-5m");
        assert_eq!(duration_text(0.0001), "0.0001");
        assert_eq!(duration_text(1.001), "1s1ms");
    }

    #[test]
    fn strings_keep_their_bytes() {
        let cases: [(&str, &[u8]); 8] = [
            (r#""a\n\t\\\"'""#, b"a\n\t\\\"'"),
            (r"'a\'b'", b"a'b"),
            (r"`a\n`", br"a\n"),
            (r#""\xff\377""#, b"\xff\xff"),
            (r#""\xc3\xa9""#, "é".as_bytes()),
            (r#""\u00e9\U0001f600""#, "é😀".as_bytes()),
            (r#""\101""#, b"A"),
            (r#""é\a\b\f\v\r""#, "é\x07\x08\x0c\x0b\r".as_bytes()),
        ];
        for (token, bytes) in cases {
            assert_eq!(unquote(token), bytes, "{token}");
            assert_eq!(unquote(&quote(bytes)), bytes, "{token} printed and read");
        }
        assert_eq!(quote(b"\xff\x00\n\"'\\"), r#""\xff\x00\n\"'\\""#);
        assert_eq!(quote_char('\''), r"'\''");
        assert_eq!(quote_char('\u{a0}'), r"'\u00a0'");
    }
}
