//! Random questions in PromQL as its oldest peer here understands it: every text parses, most have
//! an answer, some are refused.

use testkit::SeededRandom;

/// Counters, gauges and the like that [`super::rows`] writes; all have `job`, `instance`, `mode`.
const COUNTERS: [&str; 3] = ["requests_total", "errors_total", "bytes_total"];
const GAUGES: [&str; 4] = ["temperature", "queue_length", "odd_values", "constant"];
/// No two of its values are equal at any time: what `topk` chooses is certain.
const DISTINCT: &str = "distinct";
const BUCKETS: &str = "latency_seconds_bucket";
const MATCHERS: [&str; 12] = [
    r#"job="api""#,
    r#"job!="api""#,
    r#"job=~"a.*|web""#,
    r#"job!~"w.+""#,
    r#"instance=~"[ab]""#,
    r#"instance="a""#,
    r#"mode="read""#,
    r#"mode=~"re.d|""#,
    r#"mode!="""#,
    r#"missing="""#,
    r#"missing="x""#,
    r#"job=~".+""#,
];
const GROUPINGS: [&str; 6] = ["job", "instance", "mode", "job, mode", "job, instance", ""];
const RANGES: [&str; 7] = ["15s", "45s", "1m", "2m", "5m", "7m", "21m"];
const OFFSETS: [&str; 5] = ["10s", "1m", "3m", "-30s", "12m"];
const NUMBERS: [&str; 9] = ["0", "1", "2.5", "-3", "1e3", "0.1", "NaN", "Inf", "100"];

const UNARY_FUNCTIONS: [&str; 8] =
    ["abs", "ceil", "floor", "sqrt", "sgn", "deg", "absent", "timestamp"];
/// Asked of what was written: a deviation of NaN, which has changed, would hide in a date.
const DATES: [&str; 8] = [
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
];
/// Their last digits are the library's own, so nothing is made of them, and what they are asked of
/// is exact.
const TRANSCENDENT: [&str; 17] = [
    "exp", "ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "asinh", "acosh", "atanh", "rad",
];
const RANGE_FUNCTIONS: [&str; 18] = [
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
    "changes",
    "resets",
    "deriv",
    "delta",
    "idelta",
    "irate",
    // The last two extrapolate.
    "rate",
    "increase",
];
const AGGREGATIONS: [&str; 8] = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
/// `%` is asked of whole numbers alone and `atan2` of whole questions: elsewhere the last digit of
/// an operand decides much.
const ARITHMETIC: [&str; 5] = ["+", "-", "*", "/", "^"];
const COMPARISONS: [&str; 6] = ["==", "!=", ">", "<", ">=", "<="];
const SETS: [&str; 3] = ["and", "or", "unless"];

/// Makes them.
pub(super) struct Questions(pub(super) SeededRandom);

impl Questions {
    fn one<'a>(&self, of: &[&'a str]) -> &'a str {
        of[self.0.below(of.len() as u64) as usize]
    }

    /// One question: a vector most often.
    pub(super) fn question(&self) -> String {
        match self.0.below(20) {
            0 => self.scalar(2),
            1 => self.ranked(),
            2 => self.quantile_of_buckets(),
            3 => format!("{}({})", self.one(&TRANSCENDENT), self.vector(0)),
            4 => format!("({}) atan2 ({})", self.vector(1), self.vector(1)),
            5 => format!(
                "{} % {}",
                self.one(&["queue_length", "requests_total"]),
                self.one(&NUMBERS)
            ),
            _ => self.vector(3),
        }
    }

    fn selector(&self) -> String {
        let of_buckets = self.0.chance(8);
        let name = match self.0.below(3) {
            _ if of_buckets => BUCKETS,
            0 => self.one(&COUNTERS),
            1 => DISTINCT,
            _ => self.one(&GAUGES),
        };
        let count = self.0.below(3);
        let matchers: Vec<&str> = (0..count).map(|_| self.one(&MATCHERS)).collect();
        if matchers.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{{{}}}", matchers.join(","))
        }
    }

    /// `offset` and `@`, now and then.
    fn moved(&self, text: String) -> String {
        let offset = if self.0.chance(12) {
            format!(" offset {}", self.one(&OFFSETS))
        } else {
            String::new()
        };
        let at = match self.0.below(24) {
            0 => " @ start()".to_owned(),
            1 => " @ end()".to_owned(),
            2 => format!(" @ {}.037", super::START_MS / 1000 + 600 + self.0.below(600) as i64),
            _ => String::new(),
        };
        format!("{text}{at}{offset}")
    }

    fn matrix(&self, levels: u32) -> String {
        if levels > 0 && self.0.chance(20) {
            // Steps of a subquery stand at whole multiples, never on a boundary of ours.
            let step = self.one(&["", "7s", "20s", "1m"]);
            let inner = self.flat(levels - 1);
            return self.moved(format!("({inner})[{}:{step}]", self.one(&RANGES[2..])));
        }
        self.moved(format!("{}[{}]", self.selector(), self.one(&RANGES)))
    }

    /// A vector without subqueries in it: where one stands in another, their boundaries meet, and
    /// Prometheus 3 leaves the left one out.
    fn flat(&self, levels: u32) -> String {
        match self.0.below(4) {
            0 => self.call_of_range(&format!("{}[{}]", self.selector(), self.one(&RANGES))),
            1 if levels > 0 => self.aggregate(&self.flat(levels - 1)),
            2 => format!("{} {} {}", self.selector(), self.one(&ARITHMETIC), self.one(&NUMBERS)),
            _ => self.selector(),
        }
    }

    fn call_of_range(&self, matrix: &str) -> String {
        // What is no counter comes near zero, where the extrapolation of rates has changed.
        let counter =
            COUNTERS.iter().any(|name| matrix.starts_with(name)) || matrix.starts_with(BUCKETS);
        let of_counters = if counter {
            &RANGE_FUNCTIONS[..]
        } else {
            &RANGE_FUNCTIONS[..RANGE_FUNCTIONS.len() - 2]
        };
        format!("{}({matrix})", self.one(of_counters))
    }

    fn aggregate(&self, inner: &str) -> String {
        // What deviates of NaN or an infinity has changed.
        let odd = ["odd_values", "NaN", "Inf", "/", "sqrt", "^"].iter().any(|t| inner.contains(t));
        let op =
            self.one(if odd { &AGGREGATIONS[..AGGREGATIONS.len() - 2] } else { &AGGREGATIONS });
        match self.0.below(3) {
            0 => format!("{op} ({inner})"),
            1 => format!("{op} by ({}) ({inner})", self.one(&GROUPINGS)),
            _ => format!("{op} without ({}) ({inner})", self.one(&GROUPINGS)),
        }
    }

    fn vector(&self, levels: u32) -> String {
        if levels == 0 {
            return self.moved(self.selector());
        }
        let inner = levels - 1;
        match self.0.below(14) {
            0 | 1 => self.call_of_range(&self.matrix(inner)),
            2 | 3 => self.aggregate(&self.vector(inner)),
            4 if self.0.chance(25) => format!("{}({})", self.one(&DATES), self.selector()),
            4 => format!("{}({})", self.one(&UNARY_FUNCTIONS), self.vector(inner)),
            5 => self.with_scalar(inner),
            6 | 7 => self.joined(inner),
            8 => self.with_parameters(inner),
            9 => self.relabelled(inner),
            10 => format!("-({})", self.vector(inner)),
            11 => format!("vector({})", self.scalar(inner)),
            _ => self.moved(self.selector()),
        }
    }

    fn scalar(&self, levels: u32) -> String {
        match self.0.below(5) {
            0 if levels > 0 => format!("scalar({})", self.vector(levels - 1)),
            1 if levels > 0 => {
                let (l, r) = (self.scalar(levels - 1), self.scalar(levels - 1));
                format!("({l} {} {r})", self.one(&ARITHMETIC))
            }
            2 if levels > 0 => {
                let (l, r) = (self.scalar(levels - 1), self.scalar(levels - 1));
                format!("({l} {} bool {r})", self.one(&COMPARISONS))
            }
            3 => self.one(&["time()", "pi()"]).to_owned(),
            _ => self.one(&NUMBERS).to_owned(),
        }
    }

    fn with_scalar(&self, levels: u32) -> String {
        let (vector, scalar) = (format!("({})", self.vector(levels)), self.scalar(levels));
        let op = match self.0.below(3) {
            0 => format!("{} bool", self.one(&COMPARISONS)),
            1 => self.one(&COMPARISONS).to_owned(),
            _ => self.one(&ARITHMETIC).to_owned(),
        };
        if self.0.chance(50) {
            format!("{vector} {op} {scalar}")
        } else {
            format!("{scalar} {op} {vector}")
        }
    }

    fn joined(&self, levels: u32) -> String {
        let (l, r) = (self.vector(levels), self.vector(levels));
        let matching = match self.0.below(3) {
            0 => String::new(),
            1 => format!(" on ({})", self.one(&GROUPINGS)),
            _ => format!(" ignoring ({})", self.one(&GROUPINGS)),
        };
        if self.0.chance(35) {
            return format!("({l}) {}{matching} ({r})", self.one(&SETS));
        }
        let op = match self.0.below(3) {
            0 => format!("{} bool", self.one(&COMPARISONS)),
            1 => self.one(&COMPARISONS).to_owned(),
            _ => self.one(&ARITHMETIC).to_owned(),
        };
        let group = match self.0.below(4) {
            _ if matching.is_empty() => "",
            0 => " group_left ()",
            1 => " group_right ()",
            2 => " group_left (mode)",
            _ => "",
        };
        // A label may not stand both in `on` and in `group_left`.
        let group = if matching.contains("mode") && group.contains("mode") {
            " group_left ()"
        } else {
            group
        };
        format!("({l}) {op}{matching}{group} ({r})")
    }

    fn with_parameters(&self, levels: u32) -> String {
        let number = self.one(&NUMBERS);
        match self.0.below(8) {
            0 => {
                format!("round({}, {})", self.vector(levels), self.one(&["0.5", "2", "10", "0.01"]))
            }
            1 => format!("clamp({}, {number}, {})", self.vector(levels), self.one(&NUMBERS)),
            2 => format!("clamp_min({}, {number})", self.vector(levels)),
            3 => format!("clamp_max({}, {number})", self.vector(levels)),
            4 => format!("quantile_over_time({}, {})", self.quantile(), self.matrix(levels)),
            // Without `@`: 2.42 moves the window from step to step all the same.
            5 => {
                let (selector, range) = (self.selector(), self.one(&RANGES));
                let seconds = self.one(&["60", "-60", "3600", "0"]);
                format!("predict_linear({selector}[{range}], {seconds})")
            }
            6 => format!(
                "quantile by ({}) ({}, {})",
                self.one(&GROUPINGS),
                self.quantile(),
                self.vector(levels)
            ),
            _ => format!(
                "count_values by ({}) (\"value\", {})",
                self.one(&GROUPINGS),
                self.vector(levels)
            ),
        }
    }

    fn quantile(&self) -> &'static str {
        self.one(&["0.5", "0.9", "0", "1", "0.25", "0.99", "-1", "2", "NaN"])
    }

    fn relabelled(&self, levels: u32) -> String {
        let vector = self.vector(levels);
        match self.0.below(4) {
            0 => format!(r#"label_replace({vector}, "copy", "$1-x", "job", "(.*)")"#),
            1 => format!(r#"label_replace({vector}, "job", "${{1}}", "instance", "([ab])")"#),
            2 => format!(r#"label_join({vector}, "both", "/", "job", "mode")"#),
            _ => format!(r#"label_replace({vector}, "mode", "", "mode", "r.*")"#),
        }
    }

    fn ranked(&self) -> String {
        let op = self.one(&["topk", "bottomk"]);
        let inner = match self.0.below(3) {
            0 => format!("{DISTINCT} * 2"),
            1 => format!("avg_over_time({DISTINCT}[{}])", self.one(&RANGES[1..])),
            _ => DISTINCT.to_owned(),
        };
        let count = self.one(&["1", "2", "3", "0", "100", "-1"]);
        match self.0.below(3) {
            0 => format!("{op}({count}, {inner})"),
            1 => format!("{op} by (job) ({count}, {inner})"),
            _ => format!("sort{}({inner})", self.one(&["", "_desc"])),
        }
    }

    fn quantile_of_buckets(&self) -> String {
        let rates = format!("rate({BUCKETS}[{}])", self.one(&RANGES[2..]));
        let buckets = match self.0.below(3) {
            0 => rates,
            1 => format!("sum by (le) ({rates})"),
            _ => format!("sum by (job, le) ({BUCKETS})"),
        };
        format!("histogram_quantile({}, {buckets})", self.quantile())
    }
}
