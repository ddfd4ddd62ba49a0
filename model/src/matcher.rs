//! Matchers: one term of a selection, `name="value"`, `!=`, `=~` or `!~`.

use std::fmt;
use std::sync::Arc;

use crate::pattern::{Beginning, Pattern};
use crate::{Pace, PatternBudget, Stopped};

/// A term that a label's value must satisfy. A label that is absent has the empty value.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    /// Only for the two regex operators.
    pattern: Option<Arc<Pattern>>,
}

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct MatcherError {
    /// What the regex library said, or which limit it would exceed.
    pub reason: String,
}

impl Matcher {
    /// Checks and compiles, for a matcher that stands alone. Patterns are anchored and `.` matches
    /// a newline, as since Prometheus 3.0.
    pub fn new(
        op: MatchOp,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        Self::within(&mut PatternBudget::default(), op, name, value)
    }

    /// The same, for one of many in a request: all of them spend from one budget.
    pub fn within(
        budget: &mut PatternBudget,
        op: MatchOp,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        let value = value.into();
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let pattern = Pattern::new(&value, budget);
                Some(Arc::new(pattern.map_err(|reason| MatcherError { reason })?))
            }
        };
        Ok(Self { name: name.into(), op, value, pattern })
    }

    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), pattern: None }
    }

    /// The label it looks at.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or the pattern's text.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label value satisfies it.
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => self.pattern_matches(value),
            MatchOp::NotRegex => !self.pattern_matches(value),
        }
    }

    /// The same, for one of many values: it stops when `pace` says so, in the middle of a long
    /// value too, and when the patterns of a question have taken all the work they may.
    #[inline]
    pub fn matches_at(&self, value: &str, pace: &mut Pace) -> Result<bool, Stopped> {
        match (&self.pattern, self.op) {
            (Some(pattern), MatchOp::Regex) => pattern.matches_at(value, pace),
            (Some(pattern), _) => pattern.matches_at(value, pace).map(|found| !found),
            (None, _) => pace.work(1).map(|()| self.matches(value)),
        }
    }

    /// The same of the pattern alone, whether or not the matcher wants it to match.
    pub fn pattern_matches_at(&self, value: &str, pace: &mut Pace) -> Result<bool, Stopped> {
        self.matches_at(value, pace).map(|holds| holds != self.is_negative())
    }

    /// Whether it wants values that its text does not match.
    pub fn is_negative(&self) -> bool {
        matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex)
    }

    /// Whether comparing a value may cost much more than reading it: its pattern is neither a list
    /// of values nor a piece of text.
    pub fn is_costly(&self) -> bool {
        matches!(self.pattern.as_deref(), Some(Pattern::Compiled { .. }))
    }

    /// Every value that its text, or its pattern, matches is one of these or begins with one, none of
    /// which is another's beginning. They narrow a search; the values are still to be compared.
    pub fn beginnings(&self) -> Vec<Beginning<'_>> {
        match &self.pattern {
            Some(pattern) => pattern.beginnings(),
            None => vec![Beginning { text: self.value.as_bytes(), is_whole: true }],
        }
    }

    fn pattern_matches(&self, value: &str) -> bool {
        self.pattern.as_ref().is_some_and(|p| p.matches(value))
    }

    /// Takes from a budget what this matcher's pattern took when it was read.
    pub fn take_from(&self, budget: &mut PatternBudget) {
        if let Some(pattern) = &self.pattern {
            budget.take(&self.value, pattern);
        }
    }

    /// Whether series without the label satisfy it.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for MatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op, self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(op: MatchOp, value: &str, matching: &[&str], other: &[&str]) {
        let matcher = Matcher::new(op, "l", value).expect("valid matcher");
        for text in matching {
            assert!(matcher.matches(text), "{matcher} should match {text:?}");
        }
        for text in other {
            assert!(!matcher.matches(text), "{matcher} should not match {text:?}");
        }
    }

    #[test]
    fn values_are_compared_whole() {
        check(MatchOp::Equal, "a", &["a"], &["", "aa"]);
        check(MatchOp::NotEqual, "a", &["", "aa"], &["a"]);
        check(MatchOp::Regex, "a|b", &["a", "b"], &["ab", ""]);
        check(MatchOp::Regex, "a.b", &["a\nb"], &["ab"]);
        check(MatchOp::NotRegex, "a.*", &["", "ba"], &["a", "ab"]);
        check(MatchOp::Regex, "", &[""], &["a"]);
    }

    #[test]
    fn patterns_of_death_are_refused() {
        for pattern in ["(", "(?:(?:(?:a{1000}){1000}){1000})", "a)|(b", "\\p{L}{10000}"] {
            assert!(Matcher::new(MatchOp::Regex, "l", pattern).is_err(), "{pattern}");
        }
    }
}
