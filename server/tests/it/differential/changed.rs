//! What Prometheus changed since 2.42, as far as random questions show it. `docs/promql.md` has a
//! line for each.

use std::collections::BTreeMap;

use super::Difference;

/// How many answers each change explains.
pub(super) type LeftOut = BTreeMap<&'static str, usize>;

/// One change of the language since the peer.
pub(super) struct Change {
    /// As `docs/promql.md` says it.
    pub(super) what: &'static str,
    /// The question must have one of these words.
    asked: &'static [&'static str],
    /// And the answers must differ like this: Prometheus' first.
    differs: fn(&str, &str) -> bool,
}

impl Change {
    pub(super) fn explains(&self, question: &str, difference: &Difference) -> bool {
        self.asked.iter().any(|word| question.contains(word))
            && (self.differs)(&difference.theirs, &difference.ours)
    }
}

pub(super) const CHANGES: &[Change] = &[
    Change {
        what: "The deviation of a NaN or an infinity is NaN",
        asked: &["stddev", "stdvar"],
        differs: |theirs, ours| {
            number(theirs).is_some_and(|t| !t.is_nan()) && number(ours).is_some_and(f64::is_nan)
        },
    },
    Change {
        what: "A sum over time that overflows is infinite",
        asked: &["sum_over_time", "avg_over_time"],
        differs: |theirs, ours| {
            number(theirs).is_some_and(f64::is_nan) && number(ours).is_some_and(f64::is_infinite)
        },
    },
    Change {
        what: "An average is compensated",
        asked: &["avg"],
        differs: |theirs, ours| {
            let both = number(theirs).zip(number(ours));
            both.is_some_and(|(t, o)| t != o && (t - o).abs() <= LARGEST * f64::EPSILON)
        },
    },
    Change {
        what: "The name does not survive `atan2`",
        asked: &["atan2"],
        differs: |theirs, ours| {
            theirs.contains("__name__") && !ours.contains("__name__")
                || theirs.contains("same labelset") && ours.contains("\"success\"")
        },
    },
    Change {
        what: "Several matches on one side are refused before a comparison drops them",
        asked: &["==", "!=", "<", ">"],
        differs: |theirs, ours| {
            theirs == "\"success\"" && ours.contains("multiple matches for labels")
        },
    },
    Change {
        what: "Series that a lost name makes equal are one, unless two have a point at a time",
        asked: &[""],
        differs: |theirs, ours| theirs.contains("same labelset") && ours == "\"success\"",
    },
];

/// The largest finite value in the rows: in a sum that is not compensated, what is smaller than its
/// last digit is lost.
const LARGEST: f64 = 1e100;

/// The value in a difference of values.
fn number(said: &str) -> Option<f64> {
    let value = said.rsplit(' ').next()?.strip_prefix('"')?.strip_suffix('"')?;
    value.parse().ok()
}

#[test]
fn every_change_is_documented() {
    let page = testkit::package_dir().join("../docs/promql.md");
    let page = std::fs::read_to_string(page).expect("docs/promql.md");
    for change in CHANGES {
        assert!(page.contains(&format!("| {} |", change.what)), "{}", change.what);
    }
}
