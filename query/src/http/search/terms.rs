//! What a search accepts: terms, of which one has to match, how exactly, and the order of what is
//! found.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::scores::{jaro_winkler, subsequence, substring};
use crate::Cancel;

/// How terms are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// The characters of the term, in order.
    Subsequence,
    /// The term as a part; where the threshold is above 0, or something similar.
    JaroWinkler,
}

impl Algorithm {
    /// The words of the parameter, the default first.
    pub(super) const ALL: [(&str, Self); 2] =
        [("subsequence", Self::Subsequence), ("jarowinkler", Self::JaroWinkler)];
}

/// What is searched for. Without terms everything is found.
#[derive(Debug)]
pub(super) struct Terms {
    terms: Vec<Term>,
    algorithm: Algorithm,
    /// Least score of what is only similar, 0 to 1.
    threshold: f64,
    case_sensitive: bool,
}

#[derive(Debug)]
struct Term {
    text: String,
    characters: Vec<char>,
}

impl Terms {
    /// Empty terms ask for nothing and are left out.
    pub(super) fn new<'a>(
        texts: impl Iterator<Item = &'a str>,
        algorithm: Algorithm,
        threshold: f64,
        case_sensitive: bool,
    ) -> Self {
        let term = |text: &str| {
            let text = if case_sensitive { text.to_owned() } else { text.to_lowercase() };
            Term { characters: text.chars().collect(), text }
        };
        let terms = texts.filter(|text| !text.is_empty()).map(term).collect();
        Self { terms, algorithm, threshold, case_sensitive }
    }

    /// The best score by any term; `None` if none accepts the text.
    pub(super) fn score(&self, text: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let folded = (!self.case_sensitive).then(|| text.to_lowercase());
        let text = folded.as_deref().unwrap_or(text);
        let characters = OnceCell::new();
        let apart = || characters.get_or_init(|| text.chars().collect::<Vec<char>>()).as_slice();
        let mut best: Option<f64> = None;
        for term in &self.terms {
            let Some(score) = self.score_by(term, text, apart) else { continue };
            best = Some(best.map_or(score, |best| best.max(score)));
            if score >= 1.0 {
                break;
            }
        }
        best
    }

    /// The score by one term; `apart` gives the characters of the text.
    fn score_by<'a>(&self, term: &Term, text: &str, apart: impl Fn() -> &'a [char]) -> Option<f64> {
        match self.algorithm {
            Algorithm::Subsequence if text.starts_with(&term.text) => Some(1.0),
            Algorithm::Subsequence => {
                let score = subsequence(&term.characters, apart());
                Some(score).filter(|score| *score > 0.0 && *score >= self.threshold)
            }
            Algorithm::JaroWinkler => substring(&term.text, text).or_else(|| {
                let similar = self.threshold > 0.0;
                let score = similar.then(|| jaro_winkler(&term.characters, apart()));
                score.filter(|score| *score >= self.threshold)
            }),
        }
    }
}

/// A text that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hit {
    pub(super) text: String,
    pub(super) score: f64,
}

/// In which order hits come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// By their bytes.
    Ascending,
    /// The other way round.
    Descending,
    /// The best first; those that are as good by their bytes.
    Score,
}

/// What was found, and whether there is more.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) hits: Vec<Hit>,
    pub(super) more: bool,
}

/// The first `limit` of the texts that the terms accept. Texts come in the order of their bytes.
/// Stops where it is when nobody waits for it.
pub(super) fn search(
    texts: Vec<String>,
    terms: &Terms,
    order: Order,
    limit: usize,
    cancel: &Cancel,
) -> Found {
    let hit = |text: String| terms.score(&text).map(|score| Hit { text, score });
    let awaited = |_: &String| !cancel.is_set();
    let texts = texts.into_iter();
    match order {
        Order::Ascending => first(texts.take_while(awaited).filter_map(hit), limit),
        Order::Descending => first(texts.rev().take_while(awaited).filter_map(hit), limit),
        Order::Score => best(texts.take_while(awaited).filter_map(hit), limit),
    }
}

fn first(mut hits: impl Iterator<Item = Hit>, limit: usize) -> Found {
    let first = hits.by_ref().take(limit).collect();
    Found { hits: first, more: hits.next().is_some() }
}

/// Keeps no more than the best.
fn best(hits: impl Iterator<Item = Hit>, limit: usize) -> Found {
    let mut kept: BinaryHeap<Ranked> = BinaryHeap::new();
    let mut more = false;
    for hit in hits {
        kept.push(Ranked(hit));
        if kept.len() > limit {
            kept.pop();
            more = true;
        }
    }
    Found { hits: kept.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect(), more }
}

/// A hit among others: what comes first is the least.
#[derive(Debug, PartialEq)]
struct Ranked(Hit);

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.0.score.total_cmp(&self.0.score);
        by_score.then_with(|| self.0.text.cmp(&other.0.text))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(texts: &[&str], algorithm: Algorithm, threshold: f64, case_sensitive: bool) -> Terms {
        Terms::new(texts.iter().copied(), algorithm, threshold, case_sensitive)
    }

    #[test]
    fn one_term_has_to_match() {
        use Algorithm::{JaroWinkler, Subsequence};
        let check = |texts: &[&str], algorithm, threshold, text: &str, expected: Option<f64>| {
            let found = terms(texts, algorithm, threshold, true).score(text);
            assert_eq!(found.map(|s| (s * 1e4).round() / 1e4), expected, "{texts:?} in {text}");
        };
        check(&[], Subsequence, 1.0, "up", Some(1.0));
        check(&["", ""], Subsequence, 1.0, "up", Some(1.0));
        check(&["go"], Subsequence, 1.0, "go_info", Some(1.0));
        check(&["gi"], Subsequence, 0.0, "go_info", Some(0.375));
        check(&["gi"], Subsequence, 0.4, "go_info", None);
        check(&["x"], Subsequence, 0.0, "go_info", None);
        check(&["GO"], Subsequence, 0.0, "go_info", None);
        check(&["x", "gi"], Subsequence, 0.0, "go_info", Some(0.375));
        check(&["gi", "go"], Subsequence, 0.0, "go_info", Some(1.0));
        check(&["info"], JaroWinkler, 0.0, "go_info", Some(0.1));
        check(&["gi"], JaroWinkler, 0.0, "go_info", None);
        check(&["MARTHA"], JaroWinkler, 0.96, "MARHTA", Some(0.9611));
        check(&["MARTHA"], JaroWinkler, 0.97, "MARHTA", None);
        let folded = terms(&["GO", "É"], Subsequence, 1.0, false);
        assert_eq!(folded.score("Go_info"), Some(1.0));
        assert_eq!(folded.score("été"), Some(1.0));
    }

    #[test]
    fn the_first_of_each_order_are_kept() {
        let texts = ["a_x", "b_x", "x", "x_a", "y"].map(str::to_owned);
        let check = |order, limit: usize, expected: &[&str], more: bool| {
            let terms = terms(&["x"], Algorithm::Subsequence, 0.0, true);
            let found = search(texts.to_vec(), &terms, order, limit, &Cancel::default());
            let hits: Vec<&str> = found.hits.iter().map(|hit| hit.text.as_str()).collect();
            assert_eq!((hits.as_slice(), found.more), (expected, more), "{order:?} {limit}");
        };
        check(Order::Ascending, 2, &["a_x", "b_x"], true);
        check(Order::Ascending, 4, &["a_x", "b_x", "x", "x_a"], false);
        check(Order::Descending, 3, &["x_a", "x", "b_x"], true);
        check(Order::Descending, 9, &["x_a", "x", "b_x", "a_x"], false);
        check(Order::Score, 3, &["x", "x_a", "a_x"], true);
        check(Order::Score, 4, &["x", "x_a", "a_x", "b_x"], false);
    }

    #[test]
    fn nothing_is_searched_for_nobody() {
        let cancel = Cancel::default();
        cancel.set();
        for order in [Order::Ascending, Order::Descending, Order::Score] {
            let terms = terms(&[], Algorithm::Subsequence, 0.0, true);
            let found = search(vec!["up".to_owned()], &terms, order, 5, &cancel);
            assert_eq!(found, Found::default(), "{order:?}");
        }
    }
}
