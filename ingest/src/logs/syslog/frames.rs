//! Messages of a stream of bytes: counted (`5 hello`) or each with a line feed at its end (RFC 6587),
//! or a zero, which Python's handler and others end them with.

use std::ops::Range;

/// What is next in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A message, and where the next begins.
    Message(Range<usize>, usize),
    /// Part of one: more bytes are needed.
    Partial,
    /// Longer than a message may be, or a count that is none.
    Wrong(&'static str),
}

/// The message at the beginning. Which of the two framings it has is told by its first byte, as
/// rsyslog tells it: counted ones begin with a digit.
pub(super) fn next(bytes: &[u8], message_bytes_max: usize) -> Frame {
    match bytes.first() {
        None => Frame::Partial,
        Some(b'1'..=b'9') => counted(bytes, message_bytes_max),
        Some(_) => {
            let searched = &bytes[..bytes.len().min(message_bytes_max + 1)];
            match memchr::memchr2(b'\n', 0, searched) {
                Some(end) => Frame::Message(0..end, end + 1),
                None if bytes.len() > message_bytes_max => {
                    Frame::Wrong("the message is longer than message_bytes_max")
                }
                None => Frame::Partial,
            }
        }
    }
}

fn counted(bytes: &[u8], message_bytes_max: usize) -> Frame {
    // Ten digits are more than any message has bytes.
    let head = &bytes[..bytes.len().min(10)];
    let digits = head.iter().take_while(|b| b.is_ascii_digit()).count();
    match head.get(digits) {
        Some(b' ') => {}
        None if head.len() < 10 => return Frame::Partial,
        _ => return Frame::Wrong("a count of bytes is expected before the message"),
    }
    let count = head[..digits].iter().fold(0, |n, digit| n * 10 + usize::from(digit - b'0'));
    let end = digits + 1 + count;
    if count > message_bytes_max {
        return Frame::Wrong("the message is longer than message_bytes_max");
    }
    if bytes.len() < end {
        return Frame::Partial;
    }
    Frame::Message(digits + 1..end, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &str, messages: &[&str], end: &Frame) {
        let (mut found, mut from) = (Vec::new(), 0);
        let last = loop {
            match next(&bytes.as_bytes()[from..], 12) {
                Frame::Message(place, after) => {
                    found.push(&bytes[from + place.start..from + place.end]);
                    from += after;
                }
                other => break other,
            }
        };
        assert_eq!((found, &last), (messages.to_vec(), end), "{bytes:?}");
    }

    #[test]
    fn both_framings_are_read() {
        check("<1>a\n<2>b\n", &["<1>a", "<2>b"], &Frame::Partial);
        check("<1>a\0<2>b\0", &["<1>a", "<2>b"], &Frame::Partial);
        check("4 <1>a6 <2>b\nc", &["<1>a", "<2>b\nc"], &Frame::Partial);
        check("4 <1>a<2>b\n12", &["<1>a", "<2>b"], &Frame::Partial);
        check("<1>a", &[], &Frame::Partial);
        check("9 <1>a", &[], &Frame::Partial);
        check("", &[], &Frame::Partial);
        let long = Frame::Wrong("the message is longer than message_bytes_max");
        check("<1>0123456789", &[], &long);
        check("13 x", &[], &long);
        let wrong = Frame::Wrong("a count of bytes is expected before the message");
        check("12<1>a\n", &[], &wrong);
        check("12345678901 x", &[], &wrong);
    }
}
