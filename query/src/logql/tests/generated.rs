//! Whatever tree there is: printed, on one line or on several, it reads as itself.

use testkit::SeededRandom;

use crate::logql::{parse, pretty};

/// Makes queries of all parts of the language. Quantities are those that printing keeps: sizes of
/// more digits, and numbers beside a time, Loki rounds.
struct Generator {
    random: SeededRandom,
}

impl Generator {
    fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn list(
        &mut self,
        between: &str,
        max: usize,
        mut make: impl FnMut(&mut Self) -> String,
    ) -> String {
        let count = 1 + self.below(max);
        let parts: Vec<_> = (0..count).map(|_| make(self)).collect();
        parts.join(between)
    }

    fn name(&mut self) -> String {
        self.one(&["a", "app", "rate", "sum", "ip", "_x1", "bytes", "namespace"]).to_owned()
    }

    fn string(&mut self) -> String {
        self.one(&["\"\"", "\"x\"", "`y\\d`", "\"é\\n\\\"\"", "\"a|b\"", "`.+x`"]).to_owned()
    }

    fn matcher(&mut self) -> String {
        let op = self.one(&["=", "!=", "=~", "!~"]);
        format!("{} {op} {}", self.name(), self.string())
    }

    fn selector(&mut self) -> String {
        format!("{{a=\"b\", {}}}", self.list(",", 3, Self::matcher))
    }

    fn label_filter(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => self.matcher(),
            1 => format!("{}=ip({})", self.name(), self.string()),
            kind @ 2..=4 => {
                let op = self.one(&["=", "==", "!=", ">", ">=", "<", "<="]);
                let values: &[&str] = match kind {
                    2 => &["5", "-1.5", "+2", "0.001"],
                    3 => &["5ms", "1h0.5s", "-3m", "2d"],
                    _ => &["5B", "10KB", "1.5MB", "999GB"],
                };
                format!("{} {op} {}", self.name(), self.one(values))
            }
            5 => format!("({})", self.label_filter(depth - 1)),
            _ => {
                let between = self.one(&[" and ", " or ", ",", " "]);
                format!("{}{between}{}", self.label_filter(depth - 1), self.label_filter(depth - 1))
            }
        }
    }

    fn stage(&mut self) -> String {
        let extraction = |g: &mut Self| match g.below(2) {
            0 => g.name(),
            _ => format!("{}={}", g.name(), g.string()),
        };
        let choice = |g: &mut Self| if g.below(2) == 0 { g.name() } else { g.matcher() };
        match self.below(12) {
            0 | 1 => {
                let op = self.one(&["|=", "!=", "|~", "!~", "|>", "!>"]);
                let term = |g: &mut Self| match g.below(4) {
                    0 => format!("ip({})", g.string()),
                    _ => g.string(),
                };
                format!("{op} {}", self.list(" or ", 3, term))
            }
            2 => String::from("| json"),
            3 => format!("| json {}", self.list(",", 2, extraction)),
            4 => format!("| logfmt {}", self.one(&["", "--strict", "--keep-empty --strict a"])),
            5 => String::from("| regexp `(?P<x>\\w+)` | pattern `<y> <_>` | unpack"),
            6 => format!("| line_format {} | decolorize", self.string()),
            7 => {
                let format = |g: &mut Self| match g.below(2) {
                    0 => format!("{}={}", g.name(), g.name()),
                    _ => format!("{}={}", g.name(), g.string()),
                };
                format!("| label_format {}", self.list(",", 3, format))
            }
            // A name at the end would take a line filter `!=` behind it for a matcher's operator.
            8 => format!("| drop {},a=\"b\"", self.list(",", 3, choice)),
            9 => format!("| keep {},a=\"b\"", self.list(",", 3, choice)),
            _ => format!("| {}", self.label_filter(2)),
        }
    }

    fn pipeline(&mut self) -> String {
        let stages = self.list(" ", 4, Self::stage);
        format!("{} {stages}", self.selector())
    }

    fn range(&mut self) -> String {
        let range = self.one(&["[5m]", "[1h30m]", "[1w]", "[250ms]"]);
        let offset = self.one(&["", " offset 5m", " offset -1h"]);
        format!("{range}{offset}")
    }

    fn grouping(&mut self) -> String {
        let word = self.one(&["by", "without"]);
        format!(" {word} ({})", self.list(",", 3, Self::name))
    }

    fn metric(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 3 } else { 7 }) {
            0 => {
                let op = self.one(&["rate", "count_over_time", "bytes_rate", "absent_over_time"]);
                format!("{op}({} {})", self.pipeline(), self.range())
            }
            1 => {
                let op =
                    self.one(&["max_over_time(", "quantile_over_time(0.9,", "stddev_over_time("]);
                let unwrap =
                    self.one(&["| unwrap a", "| unwrap bytes(a)", "| unwrap duration(b) | c>5"]);
                format!("{op}{} {unwrap} {}){}", self.pipeline(), self.range(), self.grouping())
            }
            2 => self.one(&["vector(1)", "vector(0.5)", "rate(({a=\"b\"})[1m])"]).to_owned(),
            3 => {
                let op = self.one(&["sum", "avg", "count", "stddev"]);
                format!("{op}{}({})", self.grouping(), self.metric(depth - 1))
            }
            4 => format!("topk(3, {})", self.metric(depth - 1)),
            5 => format!(
                "label_replace({}, {}, {}, \"c\", \"(.*)\")",
                self.metric(depth - 1),
                self.string(),
                self.string()
            ),
            _ => {
                let op = self.one(&["+", "*", "^", "==", "> bool", "and", "or", "unless", "-"]);
                let matching = self.one(&["", "on (a)", "ignoring (a,b)", "on (a) group_left (c)"]);
                format!("({} {op} {matching} {})", self.metric(depth - 1), self.metric(depth - 1))
            }
        }
    }
}

#[test]
fn what_is_printed_reads_as_itself() {
    let mut generator = Generator { random: SeededRandom::new(3) };
    for at in 0..400 {
        let text = if at % 2 == 0 { generator.pipeline() } else { generator.metric(3) };
        let expr = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        for printed in [expr.to_string(), pretty(&expr)] {
            assert_eq!(parse(&printed).as_ref(), Ok(&expr), "{text}\nprinted {printed}");
        }
    }
}
