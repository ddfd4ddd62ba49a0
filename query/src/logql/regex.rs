//! Regular expressions of Go as Rust reads them.

/// The same expression in Rust's syntax: Go takes a brace that begins no repetition, and a bracket
/// inside a class, for itself, where Rust asks for a backslash. Lines of JSON are often looked for
/// with both.
pub(crate) fn go_regex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_class = false;
    while let Some(next) = rest.chars().next() {
        let mut taken = next.len_utf8();
        match next {
            '\\' => {
                // The escape and what it escapes; `\p{…}` and `\x{…}` have braces of their own.
                taken += rest[1..].chars().next().map_or(0, char::len_utf8);
                let named = ["\\p{", "\\P{", "\\x{"].iter().any(|start| rest.starts_with(start));
                if named {
                    taken = rest.find('}').map_or(rest.len(), |at| at + 1);
                }
            }
            '[' if in_class => match rest.starts_with("[:") {
                true => taken = rest.find(":]").map_or(1, |at| at + 2),
                false => out.push('\\'),
            },
            '[' => {
                in_class = true;
                // A bracket right at the start of a class is a member of it.
                let start = if rest.starts_with("[^") { 2 } else { 1 };
                taken = start;
                if rest[start..].starts_with(']') {
                    out.push_str(&rest[..start]);
                    out.push('\\');
                    rest = &rest[start..];
                    taken = 1;
                }
            }
            ']' => in_class = false,
            // Rust has operations on classes of these, Go has not.
            '&' | '~' | '-' if in_class && rest[1..].starts_with(next) => out.push('\\'),
            '{' if !in_class => match repetition(rest) {
                Some(length) if !out.is_empty() => taken = length,
                _ => out.push('\\'),
            },
            _ => {}
        }
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// The length of `{3}`, `{3,}` or `{3,5}` at the start of a text.
fn repetition(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (least, most) = match text[1..end].split_once(',') {
        Some((least, most)) => (least, most),
        None => (&text[1..end], ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &str, other: &str) {
        let rust = go_regex(pattern);
        let regex = regex::Regex::new(&rust).unwrap_or_else(|e| panic!("{pattern}: {rust}: {e}"));
        assert!(regex.is_match(matching), "{pattern} ({rust}) should match {matching:?}");
        assert!(!regex.is_match(other), "{pattern} ({rust}) should not match {other:?}");
    }

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        check(r#"{"level":"error""#, r#"x{"level":"error"}"#, "level");
        check(r"a{2,3}b", "aab", "ab");
        check(r"a{2}{x", "aa{x", "a{x");
        check(r"a{,3}", "a{,3}", "aaa");
        check(r"x{y}", "x{y}", "xy");
        check(r"\{a\}", "{a}", "a");
        check(r"[[]a]", "[a]", "a");
        check(r"[]x]y", "]y", "y");
        check(r"[^]]y", "xy", "]y");
        check(r"^[a&&b]$", "&", "c");
        check(r"[[:digit:]]{3}", "123", "12");
        check(r"\pL\p{Greek}", "aβ", "ab");
        check(r"(?i)é{1}", "É", "e");
    }
}
