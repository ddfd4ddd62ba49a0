//! Tokens: what blooms hold of lines, and which of them a needle must have.
//!
//! A token is a run of ASCII letters, digits, underscores and of everything that is not ASCII;
//! ASCII letters count as small ones.

use std::ops::Range;

use hashbrown::HashSet;
use xxhash_rust::xxh3::xxh3_64;

/// Longer tokens are cut here before they are hashed: stacks of base64 are no words.
const TOKEN_BYTES_MAX: usize = 256;

/// Places in [`Distinct::lately`]. A power of two.
const LATELY: usize = 4_096;

/// Whether a byte belongs to a token, by byte.
const IS_TOKEN: [bool; 256] = {
    let (mut is_token, mut byte) = ([false; 256], 0);
    while byte < 256 {
        let ascii = byte as u8;
        is_token[byte] = ascii.is_ascii_alphanumeric() || ascii == b'_' || ascii >= 0x80;
        byte += 1;
    }
    is_token
};

/// Whether a byte belongs to a token.
#[inline]
pub(crate) fn is_token(byte: u8) -> bool {
    IS_TOKEN[usize::from(byte)]
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

/// The different tokens of many texts, by their hashes.
#[derive(Debug)]
pub(crate) struct Distinct {
    all: HashSet<u64>,
    /// Some that are in `all`, each where its lowest bits say: lines that follow one another have
    /// most of their tokens in common, and this is looked at faster than a set.
    lately: Box<[u64]>,
    /// A text in small letters.
    small: Vec<u8>,
}

impl Default for Distinct {
    fn default() -> Self {
        // Nothing says that a token has the hash 0 until it was added.
        let lately = vec![0; LATELY].into_boxed_slice();
        Self { all: HashSet::new(), lately, small: Vec::new() }
    }
}

impl Distinct {
    /// Adds the tokens of a text.
    pub(crate) fn add(&mut self, text: &[u8]) {
        let Self { all, lately, small } = self;
        small.clear();
        small.extend_from_slice(text);
        small.make_ascii_lowercase();
        for place in places(small) {
            let hash = hash_of_small(&small[place]);
            let known = &mut lately[hash as usize % LATELY];
            if *known != hash || hash == 0 {
                *known = hash;
                all.insert(hash);
            }
        }
    }

    /// All that were added.
    pub(crate) fn all(&self) -> &HashSet<u64> {
        &self.all
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
        self.lately.fill(0);
    }
}

/// The hash of a token.
#[inline]
pub(crate) fn hash(token: &[u8]) -> u64 {
    let token = &token[..token.len().min(TOKEN_BYTES_MAX)];
    let mut small = [0; TOKEN_BYTES_MAX];
    let small = &mut small[..token.len()];
    small.copy_from_slice(token);
    small.make_ascii_lowercase();
    hash_of_small(small)
}

/// The hash of a token in small letters.
#[inline]
fn hash_of_small(token: &[u8]) -> u64 {
    xxh3_64(&token[..token.len().min(TOKEN_BYTES_MAX)])
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
    fn different_tokens_are_those_of_all_texts() {
        let mut distinct = Distinct::default();
        let long = "x".repeat(1_000);
        for _ in 0..2 {
            let texts: Vec<String> = (0..20_000).map(|i| format!("Token{i} a-{}", i % 7)).collect();
            let texts = || texts.iter().map(String::as_str).chain(["", &long, "ÉÉ é"]);
            texts().for_each(|text| distinct.add(text.as_bytes()));
            let expected: HashSet<u64> = texts().flat_map(|t| hashes(t.as_bytes())).collect();
            assert_eq!((distinct.all(), expected.len()), (&expected, 20_000 + 8 + 3));
            distinct.clear();
            assert!(distinct.all().is_empty());
        }
    }
}
