//! MessagePack read where it lies: how long a message is, and what is in it.

/// Nesting that is followed.
const DEPTH_MAX: usize = 64;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    /// Text or bytes.
    Bytes(&'a [u8]),
    Extension(i8, &'a [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs follow.
    Map(u32),
}

/// The head of a value: how long it is, how many bytes and how many values follow.
struct Head {
    length: usize,
    bytes: usize,
    values: u64,
}

/// The big-endian number of `N` bytes after the first; `None` if it is cut short.
fn number<const N: usize>(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.get(1..)?.first_chunk::<N>()?;
    Some(digits.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// `None` if more bytes are needed, an error for the one code that nothing has.
fn head(bytes: &[u8]) -> Option<Result<Head, &'static str>> {
    let plain = |length, bytes, values| Some(Ok(Head { length, bytes, values }));
    // Less than 4 GiB: casts keep every bit.
    match *bytes.first()? {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => plain(1, 0, 0),
        code @ 0x80..=0x8f => plain(1, 0, 2 * u64::from(code & 15)),
        code @ 0x90..=0x9f => plain(1, 0, u64::from(code & 15)),
        code @ 0xa0..=0xbf => plain(1, usize::from(code & 31), 0),
        0xc4 | 0xd9 => plain(2, number::<1>(bytes)? as usize, 0),
        0xc5 | 0xda => plain(3, number::<2>(bytes)? as usize, 0),
        0xc6 | 0xdb => plain(5, number::<4>(bytes)? as usize, 0),
        0xc7 => plain(3, number::<1>(bytes)? as usize, 0),
        0xc8 => plain(4, number::<2>(bytes)? as usize, 0),
        0xc9 => plain(6, number::<4>(bytes)? as usize, 0),
        0xcc | 0xd0 => plain(2, 0, 0),
        0xcd | 0xd1 => plain(3, 0, 0),
        0xca | 0xce | 0xd2 => plain(5, 0, 0),
        0xcb | 0xcf | 0xd3 => plain(9, 0, 0),
        code @ 0xd4..=0xd8 => plain(2, 1 << (code - 0xd4), 0),
        0xdc => plain(3, 0, number::<2>(bytes)?),
        0xdd => plain(5, 0, number::<4>(bytes)?),
        0xde => plain(3, 0, 2 * number::<2>(bytes)?),
        0xdf => plain(5, 0, 2 * number::<4>(bytes)?),
        0xc1 => Some(Err("the code 0xc1 means nothing")),
    }
}

/// Finds the end of a message whose bytes come piece by piece; goes over each byte once.
#[derive(Debug)]
pub(super) struct Scanner {
    at: usize,
    /// Values that are still to come, innermost last.
    open: Vec<u64>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { at: 0, open: vec![1] }
    }
}

impl Scanner {
    /// Where the message ends; `None` if more bytes are needed. `bytes` begins where it began
    /// before.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
    ) -> Result<Option<usize>, &'static str> {
        loop {
            let Some(head) = head(bytes.get(self.at..).unwrap_or_default()) else {
                return Ok(None);
            };
            let Head { length, bytes: payload, values } = head?;
            let end = self.at + length + payload;
            // Every value has a byte at least.
            if end > bytes_max || values > bytes_max as u64 {
                return Err("the message is longer than message_bytes_max");
            }
            if bytes.len() < end {
                return Ok(None);
            }
            self.at = end;
            if let Some(left) = self.open.last_mut() {
                *left -= 1;
            }
            if values > 0 {
                if self.open.len() > DEPTH_MAX {
                    return Err("the message is nested too deeply");
                }
                self.open.push(values);
            }
            while self.open.last() == Some(&0) {
                self.open.pop();
            }
            if self.open.is_empty() {
                return Ok(Some(self.at));
            }
        }
    }
}

/// A place in a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next value; `None` if there is no whole one.
    pub(super) fn value(&mut self) -> Option<Value<'a>> {
        let Head { length, bytes: payload, values } = head(self.bytes)?.ok()?;
        let (whole, rest) = self.bytes.split_at_checked(length + payload)?;
        let body = &whole[length..];
        let value = match whole[0] {
            code @ 0x00..=0x7f => Value::Unsigned(u64::from(code)),
            code @ 0xe0..=0xff => Value::Signed(i64::from(code as i8)),
            0xc0 => Value::Nil,
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xca => Value::Float(f64::from(f32::from_bits(number::<4>(whole)? as u32))),
            0xcb => Value::Float(f64::from_bits(number::<8>(whole)?)),
            0xcc => Value::Unsigned(number::<1>(whole)?),
            0xcd => Value::Unsigned(number::<2>(whole)?),
            0xce => Value::Unsigned(number::<4>(whole)?),
            0xcf => Value::Unsigned(number::<8>(whole)?),
            0xd0 => Value::Signed(i64::from(number::<1>(whole)? as i8)),
            0xd1 => Value::Signed(i64::from(number::<2>(whole)? as i16)),
            0xd2 => Value::Signed(i64::from(number::<4>(whole)? as i32)),
            0xd3 => Value::Signed(number::<8>(whole)? as i64),
            0xc7..=0xc9 | 0xd4..=0xd8 => Value::Extension(whole[length - 1] as i8, body),
            0x80..=0x8f | 0xde | 0xdf => Value::Map((values / 2) as u32),
            0x90..=0x9f | 0xdc | 0xdd => Value::Array(values as u32),
            _ => Value::Bytes(body),
        };
        self.bytes = rest;
        Some(value)
    }

    /// The bytes of the next value with all that is in it.
    pub(super) fn skip(&mut self) -> Option<&'a [u8]> {
        let end = Scanner::default().scan(self.bytes, self.bytes.len()).ok()??;
        let (value, rest) = self.bytes.split_at(end);
        self.bytes = rest;
        Some(value)
    }
}

/// Appends the next value as JSON; `None` if there is no whole one. Bytes that are no text stay as
/// they are between the quotes.
pub(super) fn to_json(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    match reader.value()? {
        _ if depth > DEPTH_MAX => return None,
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Signed(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Unsigned(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Float(value) if value.is_finite() => {
            out.extend_from_slice(format!("{value:?}").as_bytes());
        }
        Value::Float(value) => out.extend_from_slice(format!("\"{value}\"").as_bytes()),
        Value::Bytes(bytes) => put_text(bytes, out),
        Value::Extension(kind, bytes) => match event_time_ns(kind, bytes) {
            Some(ns) => put_text(crate::logs::time::shown(ns).as_bytes(), out),
            None => out.extend_from_slice(b"null"),
        },
        Value::Array(count) => {
            out.push(b'[');
            for i in 0..count {
                if i > 0 {
                    out.push(b',');
                }
                to_json(reader, out, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Map(count) => {
            out.push(b'{');
            for i in 0..count {
                if i > 0 {
                    out.push(b',');
                }
                match reader.value()? {
                    Value::Bytes(name) => put_text(name, out),
                    Value::Unsigned(name) => put_text(name.to_string().as_bytes(), out),
                    Value::Signed(name) => put_text(name.to_string().as_bytes(), out),
                    _ => return None,
                }
                out.push(b':');
                to_json(reader, out, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

fn put_text(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            other => out.push(*other),
        }
    }
    out.push(b'"');
}

/// Fluentd's `EventTime`: extension 0, seconds and nanoseconds in four bytes each.
pub(super) fn event_time_ns(kind: i8, bytes: &[u8]) -> Option<i64> {
    let (seconds, nanos) = bytes.split_first_chunk::<4>()?;
    let nanos = <[u8; 4]>::try_from(nanos).ok()?;
    let (seconds, nanos) = (u32::from_be_bytes(*seconds), u32::from_be_bytes(nanos));
    (kind == 0).then(|| i64::from(seconds) * 1_000_000_000 + i64::from(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], json: &str) {
        let mut out = Vec::new();
        let mut reader = Reader { bytes };
        to_json(&mut reader, &mut out, 0).expect("a value");
        assert_eq!(String::from_utf8_lossy(&out), json);
        assert!(reader.bytes.is_empty(), "all of it is read");
        let mut scanner = Scanner::default();
        for end in 0..bytes.len() {
            assert_eq!(scanner.scan(&bytes[..end], 1_000), Ok(None), "{json}");
        }
        assert_eq!(scanner.scan(bytes, 1_000), Ok(Some(bytes.len())), "{json}");
    }

    #[test]
    fn every_kind_of_value_is_read() {
        check(&[0xc0], "null");
        check(&[0x93, 0xc2, 0xc3, 0x7f], "[false,true,127]");
        check(&[0x92, 0xff, 0xe0], "[-1,-32]");
        check(
            &[0x94, 0xcc, 200, 0xcd, 1, 0, 0xce, 0, 1, 0, 0, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0],
            "[200,256,65536,4294967296]",
        );
        check(
            &[
                0x94, 0xd0, 0x80, 0xd1, 0xff, 0, 0xd2, 0xff, 0, 0, 0, 0xd3, 255, 255, 255, 255,
                255, 255, 255, 254,
            ],
            "[-128,-256,-16777216,-2]",
        );
        check(&[&[0xca][..], &1.5_f32.to_be_bytes()].concat(), "1.5");
        check(&[&[0xcb][..], &2.0_f64.to_be_bytes()].concat(), "2.0");
        check(&[&[0xcb][..], &f64::NAN.to_be_bytes()].concat(), "\"NaN\"");
        check(b"\xa5a\"\\\n\x01", r#""a\"\\\n\u0001""#);
        check(b"\xd9\x02hi", r#""hi""#);
        check(b"\xda\x00\x02hi", r#""hi""#);
        check(b"\xdb\x00\x00\x00\x02hi", r#""hi""#);
        check(b"\xc4\x02hi", r#""hi""#);
        check(b"\xc5\x00\x02hi", r#""hi""#);
        check(b"\xc6\x00\x00\x00\x02hi", r#""hi""#);
        check(b"\x82\xa1a\x01\x05\x90", r#"{"a":1,"5":[]}"#);
        check(b"\xde\x00\x01\xa1a\xdc\x00\x01\x01", r#"{"a":[1]}"#);
        check(b"\xdf\x00\x00\x00\x01\xa1a\xdd\x00\x00\x00\x01\x01", r#"{"a":[1]}"#);
        check(b"\xd7\x00\x65\x53\xf1\x00\x00\x00\x00\x05", r#""2023-11-14T22:13:20.000000005Z""#);
        check(
            b"\xc7\x08\x00\x65\x53\xf1\x00\x00\x00\x00\x05",
            r#""2023-11-14T22:13:20.000000005Z""#,
        );
        check(b"\xd4\x05x", "null");
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let scan = |bytes: &[u8]| Scanner::default().scan(bytes, 100);
        let long = Err("the message is longer than message_bytes_max");
        assert_eq!(scan(b"\xdb\xff\xff\xff\xff"), long);
        assert_eq!(scan(b"\xdd\xff\xff\xff\xff"), long);
        assert_eq!(scan(b"\xdf\xff\xff\xff\xff"), long);
        assert_eq!(scan(&[0x91; 90]), Err("the message is nested too deeply"));
        assert_eq!(scan(&[0xc1]), Err("the code 0xc1 means nothing"));
        let deep = [0x91; 200];
        assert_eq!(to_json(&mut Reader { bytes: &deep }, &mut Vec::new(), 0), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(0u8..=255, 0..120)) {
            let mut reader = Reader { bytes: &bytes };
            let read = to_json(&mut reader, &mut Vec::new(), 0);
            if let Ok(Some(end)) = Scanner::default().scan(&bytes, 1_000)
                && read.is_some()
            {
                proptest::prop_assert_eq!(bytes.len() - reader.bytes.len(), end);
            }
        }
    }
}
