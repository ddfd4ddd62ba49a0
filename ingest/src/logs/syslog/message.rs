//! One syslog message: RFC 5424, RFC 3164, and what claims to be neither.

use model::Day;

use crate::logs::time;

/// Elements of structured data that are read.
const PARAMETERS_MAX: usize = 64;

/// A message taken apart where it lies.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Message<'a> {
    /// 0 to 23; `None` if the message does not begin with a priority.
    pub(super) facility: Option<u8>,
    /// 0 to 7.
    pub(super) severity: Option<u8>,
    pub(super) at_ns: Option<i64>,
    pub(super) host: &'a [u8],
    pub(super) app: &'a [u8],
    pub(super) process: &'a [u8],
    pub(super) message_id: &'a [u8],
    /// Element, parameter, value as written between quotes.
    pub(super) parameters: Vec<(&'a [u8], &'a [u8], &'a [u8])>,
    pub(super) text: &'a [u8],
}

/// What stands in the place of what a message does not say.
pub(super) struct Clock {
    pub(super) now_ns: i64,
    /// Of times without a zone, seconds east of Greenwich.
    pub(super) offset_seconds: i64,
}

impl<'a> Message<'a> {
    /// Everything is a message: what cannot be read is its text.
    pub(super) fn of(bytes: &'a [u8], clock: &Clock) -> Self {
        let bytes = trimmed(bytes);
        let Some((priority, rest)) = priority(bytes) else {
            return Self { text: bytes, ..Self::default() };
        };
        let known =
            Self { facility: Some(priority >> 3), severity: Some(priority & 7), ..Self::default() };
        let found = match rest.strip_prefix(b"1 ") {
            Some(rest) => new_form(rest, known.clone()),
            None => old_form(rest, known.clone(), clock),
        };
        found.unwrap_or_else(|| {
            // Python's handler and small devices write nothing but `app: text`.
            let mut message = known;
            tag(rest, &mut message);
            message
        })
    }
}

/// Without the line feed or zero at the end that some senders add.
fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r' | 0] = bytes {
        bytes = rest;
    }
    bytes
}

/// `<34>`: at most 191.
fn priority(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let rest = bytes.strip_prefix(b"<")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let number: u8 = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    let rest = rest[digits..].strip_prefix(b">")?;
    (number <= 191).then_some((number, rest))
}

/// The next word, which `-` stands for where there is none.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    let word = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    (!word.is_empty()).then(|| if word == b"-" { &b""[..] } else { word })
}

/// `TIMESTAMP HOST APP PROCID MSGID STRUCTURED-DATA MSG`
fn new_form<'a>(mut rest: &'a [u8], mut message: Message<'a>) -> Option<Message<'a>> {
    let at = word(&mut rest)?;
    message.at_ns = match at {
        b"" => None,
        at => Some(time::rfc3339_ns(at)?),
    };
    message.host = word(&mut rest)?;
    message.app = word(&mut rest)?;
    message.process = word(&mut rest)?;
    message.message_id = word(&mut rest)?;
    match rest.strip_prefix(b"-") {
        Some(after) => rest = after,
        None => {
            while rest.first() == Some(&b'[') {
                rest = element(&rest[1..], &mut message.parameters)?;
            }
        }
    }
    let text = rest.strip_prefix(b" ").unwrap_or(rest);
    message.text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    Some(message)
}

/// `id name="value" …]`; what follows it.
fn element<'a>(bytes: &'a [u8], out: &mut Vec<(&'a [u8], &'a [u8], &'a [u8])>) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|b| matches!(b, b' ' | b']'))?;
    let (id, mut rest) = bytes.split_at(end);
    loop {
        let trimmed = rest.trim_ascii_start();
        if let Some(after) = trimmed.strip_prefix(b"]") {
            return Some(after);
        }
        let equals = memchr::memchr(b'=', trimmed)?;
        let name = &trimmed[..equals];
        let value = trimmed[equals + 1..].strip_prefix(b"\"")?;
        let mut at = 0;
        loop {
            at += memchr::memchr2(b'"', b'\\', value.get(at..)?)?;
            if value[at] == b'"' {
                break;
            }
            at += 2;
        }
        if out.len() < PARAMETERS_MAX {
            out.push((id, name, &value[..at]));
        }
        rest = &value[at + 1..];
    }
}

/// A value without the backslashes before quotes, brackets and backslashes.
pub(super) fn unescaped(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memchr::memchr(b'\\', value).is_none() {
        return value.into();
    }
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let is_escape = byte == b'\\' && matches!(bytes.peek(), Some(b'"' | b'\\' | b']'));
        out.push(if is_escape { bytes.next().unwrap_or(byte) } else { byte });
    }
    out.into()
}

/// `Nov 21 12:32:17 host app[123]: text`; the time may be one of RFC 3339, the host may be missing.
fn old_form<'a>(rest: &'a [u8], mut message: Message<'a>, clock: &Clock) -> Option<Message<'a>> {
    let mut rest = match month_time(rest, clock) {
        Some((at_ns, rest)) => {
            message.at_ns = Some(at_ns);
            rest
        }
        None => {
            let mut rest = rest;
            let at_ns = word(&mut rest).and_then(time::rfc3339_ns);
            // Network devices leave out the time altogether.
            message.at_ns = Some(at_ns?);
            rest
        }
    };
    // The next word is the host unless it is the tag already.
    let mut after = rest;
    let first = word(&mut after)?;
    if !first.ends_with(b":") && !first.ends_with(b"]") {
        message.host = first;
        rest = after;
    }
    tag(rest, &mut message);
    Some(message)
}

/// `app[123]: text`
fn tag<'a>(rest: &'a [u8], message: &mut Message<'a>) {
    message.text = rest;
    let is_part = |b: &u8| b.is_ascii_graphic() && !matches!(b, b':' | b'[' | b'=' | b'"');
    let length = rest.iter().take_while(|b| is_part(b)).count();
    if length == 0 || length > 48 {
        return;
    }
    let (app, after) = rest.split_at(length);
    let (process, after) = match after.strip_prefix(b"[") {
        Some(inner) => {
            let Some(end) = memchr::memchr(b']', &inner[..inner.len().min(48)]) else { return };
            (&inner[..end], &inner[end + 1..])
        }
        None => (&b""[..], after),
    };
    let Some(text) = after.strip_prefix(b":") else { return };
    (message.app, message.process) = (app, process);
    message.text = text.strip_prefix(b" ").unwrap_or(text);
}

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// `Nov 21 12:32:17`, of the year that puts it nearest to now: at new year the last days of
/// December are of the year before.
fn month_time<'a>(bytes: &'a [u8], clock: &Clock) -> Option<(i64, &'a [u8])> {
    let (name, rest) = bytes.split_at_checked(3)?;
    let month = MONTHS.iter().position(|known| *known == name)? as i64 + 1;
    let rest = rest.strip_prefix(b" ")?;
    let (day, rest) = match rest {
        [b' ', day @ b'1'..=b'9', b' ', rest @ ..] | [day @ b'1'..=b'9', b' ', rest @ ..] => {
            (i64::from(day - b'0'), rest)
        }
        [ten @ b'0'..=b'3', one @ b'0'..=b'9', b' ', rest @ ..] => {
            (i64::from(ten - b'0') * 10 + i64::from(one - b'0'), rest)
        }
        _ => return None,
    };
    // Some devices write the year.
    let (written, rest) = match rest {
        [a, b, c, d, b' ', after @ ..] if [a, b, c, d].into_iter().all(u8::is_ascii_digit) => {
            let year =
                [a, b, c, d].into_iter().fold(0, |y, digit| y * 10 + i64::from(digit - b'0'));
            (Some(year), after)
        }
        rest => (None, rest),
    };
    let (of_day_ns, rest) = time::time_of_day_ns(rest)?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    let rest = rest.strip_prefix(b" ")?;
    let offset_ns = clock.offset_seconds * 1_000_000_000;
    let at = |year: i64| {
        let days = Day { year, month, day }.number()?;
        days.checked_mul(86_400_000_000_000)?.checked_add(of_day_ns)?.checked_sub(offset_ns)
    };
    let this_year = time::day_of(clock.now_ns.saturating_add(offset_ns)).year;
    let years = match written {
        Some(year) => year..=year,
        None => this_year - 1..=this_year + 1,
    };
    let nearest = years.filter_map(at).min_by_key(|at_ns| at_ns.abs_diff(clock.now_ns))?;
    Some((nearest, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14T22:13:20Z, and an hour east of Greenwich.
    const CLOCK: Clock = Clock { now_ns: 1_700_000_000_000_000_000, offset_seconds: 3_600 };

    fn shown(message: &Message<'_>) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let number = |n: Option<u8>| n.map_or("-".to_owned(), |n| n.to_string());
        let parameters = message.parameters.iter();
        let parameters: Vec<_> = parameters
            .map(|(id, name, value)| {
                format!("{}.{}={}", text(id), text(name), text(&unescaped(value)))
            })
            .collect();
        format!(
            "{}.{} {} {}|{}|{}|{} [{}] {:?}",
            number(message.facility),
            number(message.severity),
            message.at_ns.map_or("-".to_owned(), time::shown),
            text(message.host),
            text(message.app),
            text(message.process),
            text(message.message_id),
            parameters.join(","),
            text(message.text)
        )
    }

    #[track_caller]
    fn check(bytes: &str, expected: &str) {
        assert_eq!(shown(&Message::of(bytes.as_bytes(), &CLOCK)), expected, "{bytes}");
    }

    #[test]
    fn the_new_form_is_read() {
        check(
            "<34>1 2003-10-11T22:14:15.003Z mymachine su 77 ID47 - 'su root' failed\n",
            r#"4.2 2003-10-11T22:14:15.003Z mymachine|su|77|ID47 [] "'su root' failed""#,
        );
        check(
            "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 - - - [a@1 x=\"1\" y=\"\\\"q\\]\\\\\\n\"][b] \u{feff}text",
            r#"20.5 2003-08-24T12:14:15.000003Z 192.0.2.1||| [a@1.x=1,a@1.y="q]\\n] "text""#,
        );
        check("<0>1 - - - - - -", r#"0.0 - ||| [] """#);
        check("<0>1 - h a p m [id]", r#"0.0 - h|a|p|m [] """#);
        check("<13>1 no time - - - - -", r#"1.5 - ||| [] "1 no time - - - - -""#);
        check("<13>1 - h a p m [id x=1] t", r#"1.5 - ||| [] "1 - h a p m [id x=1] t""#);
    }

    #[test]
    fn the_old_form_is_read() {
        check(
            "<38>Nov 14 23:13:20 host sshd[1234]: Accepted key",
            r#"4.6 2023-11-14T22:13:20Z host|sshd|1234| [] "Accepted key""#,
        );
        check("<13>Nov  4 01:02:03 h app: x", r#"1.5 2023-11-04T00:02:03Z h|app|| [] "x""#);
        check("<13>Nov 4 01:02:03.5 h x y", r#"1.5 2023-11-04T00:02:03.5Z h||| [] "x y""#);
        check("<13>Jan  1 00:00:00 h a: x", r#"1.5 2023-12-31T23:00:00Z h|a|| [] "x""#);
        check("<13>Jun  1 00:00:00 h a: x", r#"1.5 2023-05-31T23:00:00Z h|a|| [] "x""#);
        check("<13>Nov 14 2021 10:00:00: h a: x", r#"1.5 2021-11-14T09:00:00Z h|a|| [] "x""#);
        check("<13>2023-11-14T10:00:00Z h a[1]: x", r#"1.5 2023-11-14T10:00:00Z h|a|1| [] "x""#);
        check("<13>Nov 14 10:00:00 app[1]: x", r#"1.5 2023-11-14T09:00:00Z |app|1| [] "x""#);
        check("<13>Nov 31 10:00:00 h a: x", r#"1.5 - ||| [] "Nov 31 10:00:00 h a: x""#);
    }

    #[test]
    fn everything_else_is_text() {
        check("hello", r#"-.- - ||| [] "hello""#);
        check("<192>1 x", r#"-.- - ||| [] "<192>1 x""#);
        check("<14>app[7]: line 0\0", r#"1.6 - |app|7| [] "line 0""#);
        check("<13>plain text", r#"1.5 - ||| [] "plain text""#);
        check("<>x", r#"-.- - ||| [] "<>x""#);
        check("", r#"-.- - ||| [] """#);
    }

    #[test]
    fn new_year_is_near() {
        let at = |now: &str, text: &str| {
            let now_ns = time::rfc3339_ns(now.as_bytes()).expect("a time");
            let clock = Clock { now_ns, offset_seconds: 0 };
            Message::of(text.as_bytes(), &clock).at_ns.map(time::shown)
        };
        let december = "<13>Dec 31 23:59:59 h a: x";
        assert_eq!(at("2024-01-01T00:00:05Z", december).as_deref(), Some("2023-12-31T23:59:59Z"));
        let january = "<13>Jan  1 00:00:01 h a: x";
        assert_eq!(at("2023-12-31T23:59:58Z", january).as_deref(), Some("2024-01-01T00:00:01Z"));
        let leap = "<13>Feb 29 00:00:00 h a: x";
        assert_eq!(at("2024-03-01T00:00:00Z", leap).as_deref(), Some("2024-02-29T00:00:00Z"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(0u8..=255, 0..120)) {
            Message::of(&bytes, &CLOCK);
            Message::of(&[b"<13>1 - h a p m [id ", &bytes[..]].concat(), &CLOCK);
            Message::of(&[b"<13>Nov 14 10:00:00 ", &bytes[..]].concat(), &CLOCK);
        }
    }
}
