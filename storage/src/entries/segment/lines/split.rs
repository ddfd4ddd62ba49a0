//! Splits lines into what a template says and what varies: words with a digit, and words of
//! hexadecimal digits alone, which a random identifier is made of now and then.

/// Stands for a variable in the text of a template. A word with this byte is a variable, so that a
/// template has no other.
pub(super) const MARK: u8 = 1;

/// Variables of a line. Lines with more are kept as they are: a template is not to have more
/// columns than its rows can pay for.
const VARIABLES_MAX: usize = 4_096;

/// Bytes of a line. Longer ones are seldom made from a template, and are kept as they are.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Where a variable lies in its line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

const WORD: u8 = 1;
const DIGIT: u8 = 2;
const NOT_HEX: u8 = 4;

/// What each byte makes of its word; 0 ends one.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => WORD | DIGIT,
            b'a'..=b'f' | b'A'..=b'F' => WORD,
            b'g'..=b'z' | b'G'..=b'Z' | b'_' => WORD | NOT_HEX,
            MARK => WORD | DIGIT | NOT_HEX,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

#[inline]
fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Appends the template of a line, which is what it has beside its variables, to `template`, and
/// where the variables are to `variables`. False if it is to be kept as it is.
pub(super) fn split(line: &[u8], template: &mut Vec<u8>, variables: &mut Vec<Span>) -> bool {
    if line.len() > LINE_BYTES_MAX {
        return false;
    }
    let (first, mut copied, mut at) = (variables.len(), 0, 0);
    while at < line.len() {
        let mut seen = class(line[at]);
        if seen == 0 {
            at += 1;
            continue;
        }
        let start = at;
        at += 1;
        while at < line.len() {
            let class = class(line[at]);
            if class == 0 {
                break;
            }
            seen |= class;
            at += 1;
        }
        if seen & DIGIT == 0 && (seen & NOT_HEX != 0 || at - start < 2) {
            continue;
        }
        let end = without_unit(line, start, at);
        template.extend_from_slice(&line[copied..start]);
        template.push(MARK);
        variables.push(Span { start: start as u32, end: end as u32 });
        copied = end;
    }
    template.extend_from_slice(&line[copied..]);
    variables.len() - first <= VARIABLES_MAX
}

/// Where a word of digits ends that letters follow which are no digits of any kind: `598849ms`.
fn without_unit(line: &[u8], start: usize, end: usize) -> usize {
    let digits = line[start..end].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unit = &line[start + digits..end];
    let is_unit = digits > 0
        && unit.first().is_some_and(|byte| class(*byte) & NOT_HEX != 0)
        && unit.iter().all(|byte| class(*byte) & DIGIT == 0);
    if is_unit { start + digits } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, template: &str, variables: &[&str]) {
        let (mut text, mut spans) = (Vec::new(), Vec::new());
        assert!(split(line.as_bytes(), &mut text, &mut spans));
        text.iter_mut().filter(|byte| **byte == MARK).for_each(|byte| *byte = b'*');
        assert_eq!(String::from_utf8_lossy(&text), template);
        let found = spans.iter().map(|span| &line[span.start as usize..span.end as usize]);
        assert_eq!(found.collect::<Vec<_>>(), variables);
    }

    #[test]
    fn what_varies_is_told_from_what_stays() {
        check("", "", &[]);
        check("no variable, at all_of it", "no variable, at all_of it", &[]);
        check("took 15ms of 3s at 5d", "took *ms of *s at *", &["15", "3", "5d"]);
        check("2026-11-20T12:00:01.5Z", "*-*-*:*:*.*Z", &["2026", "11", "20T12", "00", "01", "5"]);
        check(
            "blk_-7 pod=a-x4z9 10.0.0.1:80",
            "blk_-* pod=a-* *.*.*.*:*",
            &["7", "x4z9", "10", "0", "0", "1", "80"],
        );
        check("deadbeef-cafe a ab face_", "*-* a * face_", &["deadbeef", "cafe", "ab"]);
        check("größe7 7größe", "größ* *größe", &["e7", "7"]);
        check("mark \u{1} and x\u{1}y", "mark * and *", &["\u{1}", "x\u{1}y"]);
        check("7", "*", &["7"]);
    }

    #[test]
    fn too_much_is_kept_as_it_is() {
        let check = |line: &str, is_split| {
            let (mut text, mut spans) = (Vec::new(), Vec::new());
            assert_eq!(split(line.as_bytes(), &mut text, &mut spans), is_split);
        };
        check(&"1 ".repeat(VARIABLES_MAX), true);
        check(&"1 ".repeat(VARIABLES_MAX + 1), false);
        check(&"x".repeat(LINE_BYTES_MAX), true);
        check(&"x".repeat(LINE_BYTES_MAX + 1), false);
    }
}
