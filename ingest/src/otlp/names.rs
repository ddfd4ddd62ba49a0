//! Names: what Prometheus calls an OpenTelemetry metric, attribute or unit, by each of its four
//! translation strategies (`prometheus/otlptranslator`).

use serde::{Deserialize, Serialize};

/// How names are translated; the words are those of Prometheus' configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TranslationStrategy {
    /// `http_server_duration_seconds`: other characters become underscores; unit and type follow.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// `http_server_duration`: other characters become underscores.
    UnderscoreEscapingWithoutSuffixes,
    /// `http.server.duration_seconds`: unit and type follow.
    NoUTF8EscapingWithSuffixes,
    /// `http.server.duration`: as it came.
    NoTranslation,
}

impl TranslationStrategy {
    fn escapes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes
        )
    }

    fn adds_suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUTF8EscapingWithSuffixes)
    }
}

/// What matters of a metric's type for its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Gauge,
    MonotonicSum,
    Other,
}

/// Units that have a word of their own.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// Units after a slash.
const PER_UNITS: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

fn word<'u>(unit: &'u str, of: &[(&str, &'static str)]) -> &'u str {
    of.iter().find(|(short, _)| *short == unit).map_or(unit, |(_, long)| long)
}

/// Main unit and `per_…` of a unit, either maybe empty. What stands in braces is a remark.
fn suffixes(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let known = |unit: &str, of| {
        let unit = unit.trim();
        if unit.contains(['{', '}']) { String::new() } else { word(unit, of).to_owned() }
    };
    let (main, per) = (known(main, UNITS), known(per, PER_UNITS));
    (main, if per.is_empty() { per } else { format!("per_{per}") })
}

/// The name of a metric, or why it has none.
pub(super) fn metric(
    strategy: TranslationStrategy,
    name: &str,
    unit: &str,
    named: Named,
) -> Result<String, String> {
    let built = match (strategy.escapes(), strategy.adds_suffixes()) {
        (true, true) => escaped_with_suffixes(name, unit, named),
        (true, false) => after_digit_guard(joined(name, |c| is_name_char(c) || c == '_')),
        (false, true) => with_suffixes(name, unit, named),
        (false, false) => name.to_owned(),
    };
    if built.is_empty() || (built != name && built.bytes().all(|b| b == b'_')) {
        return Err(format!("metric name {name:?} has no character that a name may have"));
    }
    Ok(built)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// The runs of accepted characters, with one underscore between.
fn joined(name: &str, accept: impl Fn(char) -> bool) -> String {
    let tokens: Vec<&str> = name.split(|c| !accept(c)).filter(|token| !token.is_empty()).collect();
    tokens.join("_")
}

/// Names do not begin with a digit.
fn after_digit_guard(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn escaped_with_suffixes(name: &str, unit: &str, named: Named) -> String {
    let mut tokens: Vec<&str> =
        name.split(|c| !is_name_char(c)).filter(|token| !token.is_empty()).collect();
    let (main, per) = suffixes(unit);
    let (mut main, per) = (cleaned(&main), cleaned(&per));
    if tokens.contains(&main.as_str()) {
        main.clear();
    }
    let mut per = per.strip_suffix('_').unwrap_or(&per);
    if per == "per" || tokens.contains(&per) {
        per = "";
    }
    if !per.is_empty() && main.ends_with('_') {
        main.pop();
    }
    tokens.extend([main.as_str(), per].into_iter().filter(|token| !token.is_empty()));
    let mut last = |word: &'static str| {
        tokens.retain(|token| *token != word);
        tokens.push(word);
    };
    match named {
        Named::MonotonicSum => last("total"),
        Named::Gauge if unit == "1" => last("ratio"),
        _ => {}
    }
    after_digit_guard(tokens.join("_"))
}

/// A unit with only characters of names, underscores never in a row and never first.
fn cleaned(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    for c in unit.chars() {
        match is_name_char(c) {
            true => out.push(c),
            false if out.ends_with('_') => {}
            false => out.push('_'),
        }
    }
    out.strip_prefix('_').map(str::to_owned).unwrap_or(out)
}

/// Suffixes on a name that keeps its characters. Each is taken off the end first, from the
/// outermost inwards, so that none comes twice.
fn with_suffixes(name: &str, unit: &str, named: Named) -> String {
    let outermost = match named {
        Named::Gauge if unit == "1" => "ratio",
        Named::MonotonicSum => "total",
        _ => "",
    };
    let (main, per) = suffixes(unit);
    let mut name = without_suffix(without_suffix(name, outermost), &per).to_owned();
    if !main.is_empty() && !name.ends_with(&main) {
        name = format!("{name}_{main}");
    }
    for suffix in [per.as_str(), outermost] {
        if !suffix.is_empty() {
            name = format!("{name}_{suffix}");
        }
    }
    name
}

/// The name without a suffix and the delimiter before it, whatever that is.
fn without_suffix<'n>(name: &'n str, suffix: &str) -> &'n str {
    match name.strip_suffix(suffix) {
        Some(rest) if !suffix.is_empty() && rest.len() > 1 => {
            let mut rest = rest.chars();
            rest.next_back();
            rest.as_str()
        }
        _ => name,
    }
}

/// The unit as metadata tells it: `By/s` is `bytes_per_second`.
pub(super) fn unit(strategy: TranslationStrategy, unit: &str) -> String {
    let (mut main, mut per) = suffixes(unit);
    if strategy.escapes() {
        (main, per) = (cleaned(&main), cleaned(&per));
    }
    let both = match (main.is_empty(), per.is_empty()) {
        (false, false) => format!("{main}_{per}"),
        (false, true) => main,
        (true, _) => per,
    };
    let both = both.strip_prefix('_').unwrap_or(&both);
    both.strip_suffix('_').unwrap_or(both).to_owned()
}

/// How attribute names become label names.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelNames {
    pub(super) strategy: TranslationStrategy,
    /// Whether `key` goes before names that begin with one underscore.
    pub(super) guards_underscore: bool,
    /// Whether several underscores in a row stay.
    pub(super) keeps_underscores: bool,
}

impl LabelNames {
    /// Whether a name stays as it is; the usual case is told fast.
    pub(super) fn keeps(self, name: &str) -> bool {
        if !self.strategy.escapes() {
            return true;
        }
        let starts_well = match name.as_bytes().first() {
            None => false,
            Some(b'_') => !self.guards_underscore,
            Some(first) => !first.is_ascii_digit(),
        };
        let mut before = b' ';
        starts_well
            && name.bytes().all(|b| {
                let is_twice = !self.keeps_underscores && before == b'_' && b == b'_';
                before = b;
                (b.is_ascii_alphanumeric() || b == b'_') && !is_twice
            })
    }

    /// The label name of an attribute, or why it has none.
    pub(super) fn of(self, name: &str) -> Result<String, String> {
        if name.is_empty() {
            return Err("an attribute has an empty name".to_owned());
        }
        if !self.strategy.escapes() {
            return Ok(name.to_owned());
        }
        let mut built = String::with_capacity(name.len() + 4);
        for c in name.chars() {
            let c = if c.is_ascii_alphanumeric() { c } else { '_' };
            if c != '_' || self.keeps_underscores || !built.ends_with('_') {
                built.push(c);
            }
        }
        if built != name && built.bytes().all(|b| b == b'_') {
            return Err(format!("attribute name {name:?} has no character that a label may have"));
        }
        if built.as_bytes()[0].is_ascii_digit() {
            built.insert_str(0, "key_");
        } else if self.guards_underscore && built.starts_with('_') && !built.starts_with("__") {
            built.insert_str(0, "key");
        }
        Ok(built)
    }
}

#[cfg(test)]
mod tests {
    use TranslationStrategy as S;

    use super::*;

    /// A metric's name by each strategy, in the order in which they are declared.
    #[track_caller]
    fn check(name: &str, unit: &str, named: Named, expected: [&str; 4]) {
        let strategies = [
            S::UnderscoreEscapingWithSuffixes,
            S::UnderscoreEscapingWithoutSuffixes,
            S::NoUTF8EscapingWithSuffixes,
            S::NoTranslation,
        ];
        let built = strategies.map(|s| metric(s, name, unit, named).unwrap_or_else(|e| e));
        assert_eq!(built, expected);
    }

    #[test]
    fn metrics_are_named_by_each_strategy() {
        use Named::{Gauge, MonotonicSum, Other};
        check(
            "http.server.duration",
            "s",
            Other,
            [
                "http_server_duration_seconds",
                "http_server_duration",
                "http.server.duration_seconds",
                "http.server.duration",
            ],
        );
        check("req", "{request}", MonotonicSum, ["req_total", "req", "req_total", "req"]);
        check("req_total", "1", MonotonicSum, ["req_total", "req_total", "req_total", "req_total"]);
        check(
            "total.req",
            "1",
            MonotonicSum,
            ["req_total", "total_req", "total.req_total", "total.req"],
        );
        check("util", "1", Gauge, ["util_ratio", "util", "util_ratio", "util"]);
        check("util.ratio", "1", Gauge, ["util_ratio", "util_ratio", "util_ratio", "util.ratio"]);
        check("io", "By/s", Gauge, ["io_bytes_per_second", "io", "io_bytes_per_second", "io"]);
        check(
            "seconds.up",
            "s",
            Gauge,
            ["seconds_up", "seconds_up", "seconds.up_seconds", "seconds.up"],
        );
        check("__a..b__", "", Other, ["a_b", "__a_b__", "__a..b__", "__a..b__"]);
        check("2xx", "", MonotonicSum, ["_2xx_total", "_2xx", "2xx_total", "2xx"]);
        check(
            "a:b",
            "m/m",
            Gauge,
            ["a:b_meters_per_minute", "a:b", "a:b_meters_per_minute", "a:b"],
        );
        check("x", "a__b/{c}", Gauge, ["x_a_b", "x", "x_a__b", "x"]);
        check("x", "1/ ", Gauge, ["x", "x", "x", "x"]);
        let none = "metric name \"é\" has no character that a name may have";
        check("é", "", Other, [none, none, "é", "é"]);
        check(
            "日本",
            "s",
            Other,
            [
                "seconds",
                "metric name \"日本\" has no character that a name may have",
                "日本_seconds",
                "日本",
            ],
        );
    }

    #[test]
    fn units_are_told_in_words() {
        for (from, to) in [
            ("By/s", "bytes_per_second"),
            ("{x}/s", "per_second"),
            ("1", ""),
            ("", ""),
            ("%", "percent"),
            ("k.b", "k_b"),
        ] {
            assert_eq!(unit(S::UnderscoreEscapingWithSuffixes, from), to, "{from}");
        }
    }

    #[test]
    fn labels_are_named_as_prometheus_names_them() {
        let names = |strategy, guards_underscore, keeps_underscores| LabelNames {
            strategy,
            guards_underscore,
            keeps_underscores,
        };
        let escaping = names(S::UnderscoreEscapingWithSuffixes, true, true);
        for (from, to) in [
            ("http.method", "http_method"),
            ("plain", "plain"),
            ("_one", "key_one"),
            ("__two", "__two"),
            ("9a", "key_9a"),
            (".a", "key_a"),
            ("a..b", "a__b"),
            ("ä", "attribute name \"ä\" has no character that a label may have"),
            ("", "an attribute has an empty name"),
        ] {
            let built = escaping.of(from).unwrap_or_else(|e| e);
            assert_eq!(built, to, "{from}");
            assert!(!escaping.keeps(from) || built == from, "{from}");
        }
        let collapsing = names(S::UnderscoreEscapingWithoutSuffixes, false, false);
        assert_eq!(collapsing.of("a..b__c").as_deref(), Ok("a_b_c"));
        assert_eq!(collapsing.of("_a").as_deref(), Ok("_a"));
        assert!(!collapsing.keeps("a__b") && collapsing.keeps("_a"));
        let none = names(S::NoTranslation, true, true);
        assert_eq!(none.of("a.b").as_deref(), Ok("a.b"));
        assert!(none.keeps("a.b"));
    }
}
