//! Timestamps in the forms in which programs write them: found in samples, written anew.

use std::io::Write;

use model::Day;

/// How programs write instants. `Y` is a year, `y` its last two digits, `M` `D` `h` `m` `s` have
/// two digits, `d` is a day that may begin with a space, `B` a month's and `A` a weekday's name,
/// `E` seconds since the Unix epoch; everything else stands for itself. Longer ones come first.
const FORMS: &[&str] = &[
    "A B d h:m:s Y",
    "Y-M-DTh:m:s",
    "Y-M-D h:m:s",
    "Y-M-D_h:m:s",
    "Y/M/D h:m:s",
    "D/B/Y:h:m:s",
    "B d h:m:s",
    "y/M/D h:m:s",
    "M-D h:m:s",
    "MD h:m:s",
    "yMD hms",
    "h:m:s",
    "E",
];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The first day of 1970 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

const NS_PER_S: i64 = 1_000_000_000;

/// The form of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    form: usize,
    /// What stands before a fraction of seconds, and how many digits that has.
    fraction: Option<(u8, usize)>,
}

impl Stamp {
    /// The timestamp that begins at a place of a line, and how long it is.
    pub(super) fn find(line: &[u8], at: usize) -> Option<(Self, usize)> {
        let before = at.checked_sub(1).and_then(|i| line.get(i));
        // Kubernetes' own programs write a letter for the level before the date.
        let is_klog = at == 1 && before.is_some_and(|b| b"IWEF".contains(b));
        if before.is_some_and(u8::is_ascii_alphanumeric) && !is_klog {
            return None;
        }
        for (form, pattern) in FORMS.iter().enumerate() {
            let Some(length) = matched(pattern, &line[at..]) else { continue };
            let rest = &line[at + length..];
            let fraction = fraction(rest).filter(|_| *pattern != "E");
            let whole = length + fraction.map_or(0, |(_, digits)| 1 + digits);
            if line.get(at + whole).is_none_or(|b| !b.is_ascii_digit()) {
                return Some((Self { form, fraction }, whole));
            }
        }
        None
    }

    /// Tells forms apart.
    pub(super) fn key(self) -> [u8; 3] {
        let (between, digits) = self.fraction.unwrap_or((0, 0));
        [self.form as u8, between, digits as u8]
    }

    /// Writes an instant in this form.
    pub(super) fn write(self, at_ns: i64, out: &mut Vec<u8>) {
        let (seconds, ns) = (at_ns.div_euclid(NS_PER_S), at_ns.rem_euclid(NS_PER_S));
        let (number, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let Day { year, month, day } = Day::of_number(number);
        for letter in FORMS[self.form].bytes() {
            let written = match letter {
                b'Y' => write!(out, "{year:04}"),
                b'y' => write!(out, "{:02}", year % 100),
                b'M' => write!(out, "{month:02}"),
                b'D' => write!(out, "{day:02}"),
                b'd' => write!(out, "{day:2}"),
                b'h' => write!(out, "{:02}", of_day / 3_600),
                b'm' => write!(out, "{:02}", of_day / 60 % 60),
                b's' => write!(out, "{:02}", of_day % 60),
                b'B' => write!(out, "{}", MONTHS[month as usize - 1]),
                b'A' => write!(out, "{}", WEEKDAYS[number.rem_euclid(7) as usize]),
                b'E' => write!(out, "{seconds}"),
                other => out.write_all(&[other]),
            };
            written.expect("memory takes everything");
        }
        if let Some((between, digits)) = self.fraction {
            out.push(between);
            let text = format!("{ns:09}");
            out.extend_from_slice(&text.as_bytes()[..digits]);
        }
    }
}

/// How much of a text a form matches.
fn matched(pattern: &str, text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for letter in pattern.bytes() {
        let (length, range) = match letter {
            b'Y' => (4, 1970..2100),
            b'y' => (2, 0..100),
            b'M' => (2, 1..13),
            b'D' | b'd' => (2, 1..32),
            b'h' => (2, 0..24),
            b'm' | b's' => (2, 0..60),
            b'E' => (10, 1_000_000_000..2_000_000_000),
            b'B' | b'A' => {
                let name = text.get(at..at + 3)?;
                let names: &[&str] = if letter == b'B' { &MONTHS } else { &WEEKDAYS };
                names.iter().find(|known| known.as_bytes() == name)?;
                at += 3;
                continue;
            }
            other => {
                text.get(at).filter(|b| **b == other)?;
                at += 1;
                continue;
            }
        };
        let digits = text.get(at..at + length)?;
        let digits =
            if letter == b'd' { digits.strip_prefix(b" ").unwrap_or(digits) } else { digits };
        let is_number = digits.iter().all(u8::is_ascii_digit);
        let number = digits.iter().fold(0, |n: u64, b| n * 10 + u64::from(b.wrapping_sub(b'0')));
        if !is_number || !range.contains(&number) {
            return None;
        }
        at += length;
    }
    Some(at)
}

/// A fraction of seconds: what it begins with, and up to nine digits.
fn fraction(text: &[u8]) -> Option<(u8, usize)> {
    let between = *text.first().filter(|b| b".,".contains(b))?;
    let digits = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    (1..=9).contains(&digits).then_some((between, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T05:06:07.089012345Z, a Sunday.
    const AT_NS: i64 = 1_795_323_967_089_012_345;

    #[track_caller]
    fn check(line: &str, at: usize, written: &str) {
        let found = Stamp::find(line.as_bytes(), at).map(|(stamp, length)| {
            let mut out = line.as_bytes()[..at].to_vec();
            stamp.write(AT_NS, &mut out);
            out.extend_from_slice(&line.as_bytes()[at + length..]);
            String::from_utf8(out).expect("text")
        });
        assert_eq!(found.as_deref().unwrap_or("none"), written);
    }

    #[test]
    fn timestamps_are_written_as_they_were() {
        check("ts=2024-05-02T12:17:25.587911654Z x", 3, "ts=2026-11-22T05:06:07.089012345Z x");
        check("2015-10-18 18:01:50,353 INFO", 0, "2026-11-22 05:06:07,089 INFO");
        check("[Sun Dec 04 04:51:09 2005] [x]", 1, "[Sun Nov 22 05:06:07 2026] [x]");
        check("Jul  2 04:15:43 combo", 0, "Nov 22 05:06:07 combo");
        check("I0507 12:04:17.596973       1 x", 1, "I1122 05:06:07.089012       1 x");
        check("081109 204106 329 INFO", 0, "261122 050607 329 INFO");
        check("17/06/09 20:10:41 INFO", 0, "26/11/22 05:06:07 INFO");
        check("[10/Oct/2000:13:55:36 +0000]", 1, "[22/Nov/2026:05:06:07 +0000]");
        check("x 1085100843 1", 2, "x 1795323967 1");
        for none in ["", "12:61:00", "a", "2024-13-02T12:17:25", "99999999999", "10.0.0.1"] {
            check(none, 0, "none");
        }
        check("a12:01:00", 1, "none");
    }
}
