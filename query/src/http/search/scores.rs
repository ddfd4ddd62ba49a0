//! How well a text answers a search term: from 0, not at all, to 1. The formulas are those of
//! Prometheus' search API (`web/api/v1/search_filters.go`, `util/strutil`); whoever compares
//! numbers gets the same.

/// By the place where the term stands in the text: 1 at its start, 0.1 at its end; `None` if it
/// does not stand there.
pub(super) fn substring(term: &str, text: &str) -> Option<f64> {
    let at = text.find(term)?;
    let characters = |text: &str| text.chars().count();
    let (before, others) = (characters(&text[..at]), characters(text) - characters(term));
    if before == 0 {
        return Some(1.0);
    }
    Some(1.0 - 0.9 * before as f64 / others as f64)
}

/// By how much of the term stands together where its characters are found in order: the squares of
/// the runs' lengths, less a little for what lies between. The best of all places where the term
/// may begin, though not of all ways to go on from there. 0 where they are not found in order.
pub(super) fn subsequence(term: &[char], text: &[char]) -> f64 {
    if term == text || term.is_empty() {
        return 1.0;
    }
    let Some(last_start) = text.len().checked_sub(term.len()) else { return 0.0 };
    let mut best = 0.0f64;
    for start in 0..=last_start {
        if text[start] != term[0] {
            continue;
        }
        match subsequence_from(term, text, start) {
            Some(score) => best = best.max(score),
            // What cannot be found from here cannot be found from further on.
            None => break,
        }
    }
    best / (term.len() * term.len()) as f64
}

/// The same from the one place, not yet divided by what a whole match would give.
fn subsequence_from(term: &[char], text: &[char], start: usize) -> Option<f64> {
    let part = 1.0 / text.len() as f64;
    let (mut score, mut at, mut found) = (0.0, start, 0);
    // Where the run before ended; at first everything before the term is a gap.
    let mut ended = 0;
    while found < term.len() {
        at += text[at..].iter().position(|c| *c == term[found])?;
        score -= (at - ended) as f64 * part;
        let run = text[at..].iter().zip(&term[found..]).take_while(|(a, b)| a == b).count();
        score += (run * run) as f64;
        (at, found) = (at + run, found + run);
        ended = at;
    }
    Some(score - (text.len() - ended) as f64 * part * 0.5)
}

/// How much of the difference to 1 each character of a common start makes up for, and how many of
/// them count (W. Winkler, 1990).
const START_WEIGHT: f64 = 0.1;
/// See [`START_WEIGHT`].
const START_MAX: usize = 4;

/// The similarity of Jaro and Winkler: common characters not too far apart, their order, and a
/// common start.
pub(super) fn jaro_winkler(a: &[char], b: &[char]) -> f64 {
    if a == b {
        return 1.0;
    }
    let (short, long) = if a.len() > b.len() { (b, a) } else { (a, b) };
    let reach = (long.len() / 2).saturating_sub(1);
    let mut taken = vec![false; long.len()];
    let mut common = Vec::with_capacity(short.len());
    for (i, c) in short.iter().enumerate() {
        let end = (i + reach + 1).min(long.len());
        let near = i.saturating_sub(reach)..end;
        if let Some(j) = near.into_iter().find(|j| !taken[*j] && long[*j] == *c) {
            taken[j] = true;
            common.push(*c);
        }
    }
    if common.is_empty() {
        return 0.0;
    }
    let in_long = long.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(c, _)| c);
    let moved = in_long.zip(&common).filter(|(a, b)| a != b).count() as f64;
    let count = common.len() as f64;
    let (in_short, in_long) = (count / short.len() as f64, count / long.len() as f64);
    let jaro = (in_short + in_long + (count - moved * 0.5) / count) / 3.0;
    let same = short.iter().zip(long).take(START_MAX).take_while(|(a, b)| a == b).count();
    jaro + same as f64 * START_WEIGHT * (1.0 - jaro)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn characters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn a_part_counts_by_its_place() {
        let check = |term: &str, text: &str, expected: Option<f64>| {
            let found = substring(term, text);
            assert_eq!(found.is_some(), expected.is_some(), "{term} in {text}");
            close(found.unwrap_or(0.0), expected.unwrap_or(0.0));
        };
        check("http", "http_requests", Some(1.0));
        check("abc", "abc", Some(1.0));
        check("", "abc", Some(1.0));
        check("c", "abc", Some(0.1));
        check("b", "abc", Some(0.55));
        // The first of several places, counted in characters.
        check("b", "ébcb", Some(0.7));
        check("x", "abc", None);
        check("abcd", "abc", None);
        check("A", "abc", None);
    }

    #[test]
    fn characters_in_order_count_by_their_runs() {
        let check = |term: &str, text: &str, expected: f64| {
            close(subsequence(&characters(term), &characters(text)), expected);
        };
        check("abc", "abc", 1.0);
        check("", "abc", 1.0);
        check("abc", "", 0.0);
        check("abc", "ab", 0.0);
        check("ba", "abc", 0.0);
        // One run of two at the end: 4 less a gap of 1/3, of 4.
        check("bc", "abc", (4.0 - 1.0 / 3.0) / 4.0);
        // What follows costs half of that.
        check("ab", "abc", (4.0 - 0.5 / 3.0) / 4.0);
        // Two runs of one with a gap between.
        check("ac", "abc", (2.0 - 1.0 / 3.0) / 4.0);
        // The second place to begin is the better one.
        check("ab", "a_ab", (4.0 - 2.0 / 4.0) / 4.0);
        check("ñb", "añb", (4.0 - 1.0 / 3.0) / 4.0);
    }

    #[test]
    fn similar_texts_count_by_what_they_share() {
        let check = |a: &str, b: &str, expected: f64| {
            let found = jaro_winkler(&characters(a), &characters(b));
            assert!((found - expected).abs() < 5e-5, "{a} and {b}: {found}, expected {expected}");
        };
        // The examples of the literature.
        check("MARTHA", "MARHTA", 0.9611);
        check("DWAYNE", "DUANE", 0.84);
        check("DIXON", "DICKSONX", 0.8133);
        check("abc", "abc", 1.0);
        check("", "", 1.0);
        check("", "abc", 0.0);
        check("abc", "xyz", 0.0);
    }

    proptest! {
        #[test]
        fn scores_lie_between_nothing_and_all(term in "[a-cé_]{0,8}", text in "[a-cé_]{0,12}") {
            let (a, b) = (characters(&term), characters(&text));
            let scores =
                [subsequence(&a, &b), jaro_winkler(&a, &b), substring(&term, &text).unwrap_or(0.0)];
            for score in scores {
                prop_assert!((0.0..=1.0).contains(&score), "{score}");
            }
            prop_assert_eq!(subsequence(&b, &b), 1.0);
            prop_assert_eq!(jaro_winkler(&b, &b), 1.0);
            prop_assert_eq!(substring(&text, &text), Some(1.0));
            prop_assert_eq!(jaro_winkler(&a, &b), jaro_winkler(&b, &a));
            // Found as a part means found in order.
            prop_assert!(subsequence(&a, &b) > 0.0 || substring(&term, &text).is_none());
        }
    }
}
