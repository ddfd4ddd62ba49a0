//! Tokens: what blooms hold of lines, and which of them a needle must have.
//!
//! A token is a run of ASCII letters, digits, underscores and of everything that is not ASCII;
//! ASCII letters count as small ones.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

/// Longer tokens are cut here before they are hashed: stacks of base64 are no words.
const TOKEN_BYTES_MAX: usize = 256;

/// Whether a byte belongs to a token.
#[inline]
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Where the tokens of a text lie.
pub(crate) fn places(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].iter().position(|b| is_token(*b))?;
        let length = text[start..].iter().position(|b| !is_token(*b)).unwrap_or(text.len() - start);
        at = start + length;
        Some(start..at)
    })
}

/// The hash of a token.
#[inline]
pub(crate) fn hash(token: &[u8]) -> u64 {
    let token = &token[..token.len().min(TOKEN_BYTES_MAX)];
    let mut small = [0; TOKEN_BYTES_MAX];
    let small = &mut small[..token.len()];
    small.copy_from_slice(token);
    small.make_ascii_lowercase();
    xxh3_64(small)
}

/// Hashes of all tokens of a text, as they come.
pub(crate) fn hashes(text: &[u8]) -> impl Iterator<Item = u64> + '_ {
    places(text).map(|place| hash(&text[place]))
}

/// How a needle lies in what it is found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edges {
    /// Anywhere: its first and its last token may be parts of longer ones.
    Open,
    /// At borders of tokens, or all of the text: its tokens are tokens there.
    Closed,
}

/// Tokens that every text has in which a needle is found.
pub(crate) fn required(needle: &[u8], edges: Edges, ignores_case: bool) -> Vec<u64> {
    let is_whole = |place: &Range<usize>| {
        edges == Edges::Closed || (place.start > 0 && place.end < needle.len())
    };
    let is_found = |place: &Range<usize>| !ignores_case || has_one_form(&needle[place.clone()]);
    let places = places(needle).filter(is_whole).filter(is_found);
    places.map(|place| hash(&needle[place])).collect()
}

/// Whether a token looks the same in all its cases but for ASCII letters. Unicode has other forms of
/// `k` (the Kelvin sign) and `s` (the long s), and cases of its own.
fn has_one_form(token: &[u8]) -> bool {
    token.iter().all(|b| b.is_ascii() && !matches!(b.to_ascii_lowercase(), b'k' | b's'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, tokens: &[&str]) {
        let found: Vec<&str> = places(text.as_bytes()).map(|place| &text[place]).collect();
        assert_eq!(found, tokens);
    }

    #[test]
    fn tokens_are_runs_of_letters_digits_and_whatever_is_not_ascii() {
        check("", &[]);
        check(" .-", &[]);
        check("a", &["a"]);
        check("GET /api/v1?x=1_2 grüße-日本", &["GET", "api", "v1", "x", "1_2", "grüße", "日本"]);
        assert_eq!(hash(b"Error"), hash(b"eRROR"));
        assert_ne!(hash("É".as_bytes()), hash("é".as_bytes()));
        let long = vec![b'x'; 1_000];
        assert_eq!(hash(&long), hash(&long[..TOKEN_BYTES_MAX]));
    }

    #[test]
    fn only_whole_tokens_of_a_needle_are_required() {
        let of = |needle: &str, edges, ignores| required(needle.as_bytes(), edges, ignores);
        assert_eq!(of("error", Edges::Open, false), [0; 0]);
        assert_eq!(of("error", Edges::Closed, false), [hash(b"error")]);
        assert_eq!(of("an error in", Edges::Open, false), [hash(b"error")]);
        assert_eq!(of(" an error", Edges::Open, false), [hash(b"an")]);
        assert_eq!(of("task: gone", Edges::Closed, true), [hash(b"gone")], "tasK, taſk");
        assert_eq!(of("É gone", Edges::Closed, true), [hash(b"gone")]);
    }
}
