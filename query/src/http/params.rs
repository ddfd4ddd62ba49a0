//! Parameters of a request: the form in the body before the query string, as Go reads them.

use model::{Matcher, PatternBudget, TimeRange};

use super::times::{DurationRefused, instant_ms, read_duration_ms};
use crate::promql::{self, Features};
use crate::{Cancel, Config, Error, Querier};

/// Selectors in one request. Each is a look-up of its own; dashboards send a handful.
const SELECTORS_MAX: usize = 1_000;

/// Names and values in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    /// Reads the form and the query string.
    pub(super) fn parse(form: &[u8], query: &str) -> Result<Self, Error> {
        let mut params = Self::default();
        for encoded in [form, query.as_bytes()] {
            for pair in encoded.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
                if pair.contains(&b';') {
                    return Err(form_error("invalid semicolon separator in query"));
                }
                let equals = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
                let name = decoded(&pair[..equals])?;
                let value = decoded(pair.get(equals + 1..).unwrap_or_default())?;
                params.pairs.push((name, value));
            }
        }
        Ok(params)
    }

    /// All that are called `start` and something, with what follows.
    pub(super) fn starting<'a>(
        &'a self,
        start: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(start)?, value.as_str())))
    }

    /// The first value, empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.pairs.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// All values.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All names that are given.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// An instant that must be there.
    pub(super) fn instant(&self, name: &str) -> Result<i64, Error> {
        let text = self.get(name);
        instant_ms(text).ok_or_else(|| invalid(name, &not_a_time(text)))
    }

    /// An instant that may be left out.
    pub(super) fn instant_or(&self, name: &str, default_ms: i64) -> Result<i64, Error> {
        self.instant_text(name, default_ms).map_err(|reason| invalid(name, &reason))
    }

    /// The same with the reason alone, where an error does not name the parameter apart.
    pub(super) fn instant_text(&self, name: &str, default_ms: i64) -> Result<i64, String> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(default_ms);
        }
        let reason = || format!("invalid time value for '{name}': {}", not_a_time(text));
        instant_ms(text).ok_or_else(reason)
    }

    /// `start` and `end`, everything if they are left out.
    pub(super) fn range(&self) -> Result<TimeRange, Error> {
        let start_ms = self.instant_or("start", i64::MIN)?;
        let end_ms = self.instant_or("end", i64::MAX)?;
        Ok(TimeRange { start_ms, end_ms })
    }

    /// A duration, `None` if it is left out. Milliseconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, Error> {
        match self.get(name) {
            "" => Ok(None),
            text => duration(text).map(Some).map_err(|reason| invalid(name, &reason)),
        }
    }

    /// A duration that must be there. Milliseconds.
    pub(super) fn required_duration(&self, name: &str) -> Result<i64, Error> {
        duration(self.get(name)).map_err(|reason| invalid(name, &reason))
    }

    /// `lookback_delta`, whose text in errors is another one. Milliseconds; zero and less mean the
    /// default.
    pub(super) fn lookback_ms(&self, config: &Config) -> Result<i64, Error> {
        let text = self.get("lookback_delta");
        if text.is_empty() {
            return Ok(config.lookback_ms());
        }
        let asked = duration(text).map_err(|reason| {
            Error::BadData(format!("error parsing lookback delta duration: {reason}"))
        })?;
        Ok(if asked > 0 { asked } else { config.lookback_ms() })
    }

    /// `limit`: 0 is none.
    pub(super) fn limit(&self) -> Result<Option<usize>, Error> {
        let text = self.get("limit");
        if text.is_empty() {
            return Ok(None);
        }
        let number = integer(text).map_err(|reason| invalid("limit", &reason))?;
        let limit =
            usize::try_from(number).map_err(|_| invalid("limit", "limit must be non-negative"))?;
        Ok((limit > 0).then_some(limit))
    }

    /// An integer whose error is a text of its own; `None` if it is left out.
    pub(super) fn number(&self, name: &str, refused: &str) -> Result<Option<i64>, Error> {
        match self.get(name) {
            "" => Ok(None),
            text => integer(text).map(Some).map_err(|_| Error::BadData(refused.to_owned())),
        }
    }

    /// A switch: `true` or `1`.
    pub(super) fn switch(&self, name: &str) -> Result<bool, Error> {
        match self.get(name) {
            "" | "false" | "0" => Ok(false),
            "true" | "1" => Ok(true),
            other => Err(invalid(name, &format!("{} is neither true nor false", quoted(other)))),
        }
    }

    /// The texts of `match[]`, not yet read.
    pub(super) fn selectors(&self) -> Result<Selectors, Error> {
        let texts: Vec<String> = self.all("match[]").map(str::to_owned).collect();
        if texts.len() > SELECTORS_MAX {
            return Err(Error::BadData(format!(
                "a request may have at most {SELECTORS_MAX} match[], this one has {}; ask for less at a time",
                texts.len()
            )));
        }
        Ok(Selectors(texts))
    }

    /// The text of one selector that may be left out, not yet read.
    pub(super) fn selector(&self, name: &str) -> Selectors {
        Selectors(Some(self.get(name).to_owned()).filter(|t| !t.is_empty()).into_iter().collect())
    }

    /// The expression in `query`, not yet read.
    pub(super) fn expression(&self) -> Expression {
        Expression(self.get("query").to_owned())
    }
}

/// Texts of selectors.
#[derive(Debug)]
pub(super) struct Selectors(Vec<String>);

impl Selectors {
    /// Reads them, which only those may ask for whose turn it is.
    pub(super) async fn read(
        self,
        querier: &Querier,
        cancel: &Cancel,
    ) -> Result<Result<Vec<Vec<Matcher>>, String>, Error> {
        let (limit, cancel) = (querier.config().expression_bytes_max, cancel.clone());
        querier.read(self.0, move |texts| selectors(texts, limit, &cancel)).await
    }
}

/// Text of an expression.
#[derive(Debug)]
pub(super) struct Expression(String);

impl Expression {
    /// Reads it, which only those may ask for whose turn it is.
    pub(super) async fn read(
        self,
        querier: &Querier,
    ) -> Result<Result<promql::Expr, String>, Error> {
        let config = querier.config();
        let (limit, features) = (config.expression_bytes_max, config.features());
        let read = move |texts: &[String]| {
            expression(texts.first().map_or("", String::as_str), limit, features)
        };
        querier.read(vec![self.0], read).await
    }
}

/// An error about one parameter.
pub(super) fn invalid(name: &str, reason: &str) -> Error {
    Error::BadData(format!("invalid parameter \"{name}\": {reason}"))
}

fn form_error(reason: &str) -> Error {
    Error::BadData(format!("error parsing form values: {reason}"))
}

fn not_a_time(text: &str) -> String {
    format!("cannot parse {} to a valid timestamp", quoted(text))
}

fn duration(text: &str) -> Result<i64, String> {
    read_duration_ms(text).map_err(|refused| {
        let overflow =
            if refused == DurationRefused::Overflow { ". It overflows int64" } else { "" };
        format!("cannot parse {} to a valid duration{overflow}", quoted(text))
    })
}

/// An integer as Go's `strconv.Atoi` reads it, with its error texts.
fn integer(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let error = |reason| format!("strconv.Atoi: parsing {}: {reason}", quoted(text));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error("invalid syntax"));
    }
    text.parse().map_err(|_| error("value out of range"))
}

fn expression(text: &str, limit: usize, features: Features) -> Result<promql::Expr, String> {
    check_length(text, limit)?;
    promql::parse_with(text, features).map_err(|e| e.to_string())
}

fn check_length(text: &str, limit: usize) -> Result<(), String> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(format!(
        "expression has {} bytes, the limit is {limit} (expression_bytes_max); ask for less or name parts by recording rules",
        text.len()
    ))
}

/// Series selectors, as `match[]` holds them. All their regular expressions have one budget.
fn selectors(texts: &[String], limit: usize, cancel: &Cancel) -> Result<Vec<Vec<Matcher>>, String> {
    let mut budget = PatternBudget::default();
    let selector = |text: &String| {
        if cancel.is_set() {
            return Err("nobody waits for the answer".to_owned());
        }
        check_length(text, limit)?;
        let read = promql::parse_matchers_within(text, &mut budget);
        let matchers = read.map_err(|e| e.to_string())?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err("match[] must contain at least one non-empty matcher".to_owned());
        }
        Ok(matchers)
    };
    texts.iter().map(selector).collect()
}

/// Percent-decoding of forms: `+` is a blank.
fn decoded(encoded: &[u8]) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let byte = after.split_at_checked(2).and_then(|(hex, after)| {
                    rest = after;
                    Some(hex_digit(hex[0])? << 4 | hex_digit(hex[1])?)
                });
                let shown = || String::from_utf8_lossy(&after[..after.len().min(2)]).into_owned();
                bytes.push(
                    byte.ok_or_else(|| {
                        form_error(&format!("invalid URL escape \"%{}\"", shown()))
                    })?,
                );
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| form_error("a value is not valid UTF-8"))
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// A text from outside, quoted as Go's `%q` does and shortened to what a person reads.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_BYTES: usize = 200;
    let shown = &text[..text.floor_char_boundary(SHOWN_BYTES)];
    let mut out = String::from("\"");
    for c in shown.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push_str(if shown.len() < text.len() { "…\"" } else { "\"" });
    out
}

/// Series and instants as a request about them names them: `match[]`, `start`, `end`.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    /// The selectors as they were sent.
    pub texts: Vec<String>,
    /// What each asks for.
    pub selectors: Vec<Vec<Matcher>>,
    /// Everything if neither end is given.
    pub range: TimeRange,
}

impl Selected {
    /// From a form and a query string, for routes beside this API that speak its language. Takes
    /// the time its patterns call for.
    pub fn of_form(form: &[u8], query: &str, config: &Config) -> Result<Self, Error> {
        Self::of(&Params::parse(form, query)?, config)
    }

    /// From names and values.
    pub fn of_pairs(pairs: Vec<(String, String)>, config: &Config) -> Result<Self, Error> {
        Self::of(&Params { pairs }, config)
    }

    fn of(params: &Params, config: &Config) -> Result<Self, Error> {
        let texts = params.selectors()?.0;
        if texts.is_empty() {
            return Err(Error::BadData("no match[] parameter provided".to_owned()));
        }
        let range = params.range()?;
        if range.start_ms > range.end_ms {
            return Err(invalid("end", "end timestamp must not be before start time"));
        }
        let read = selectors(&texts, config.expression_bytes_max, &Cancel::default());
        let selectors = read.map_err(|reason| invalid("match[]", &reason))?;
        Ok(Self { texts, selectors, range })
    }
}

/// Reads a form as every endpoint would; for fuzzing. Nothing in here may panic.
#[doc(hidden)]
pub fn read_parameters(data: &[u8]) {
    let config = Config { expression_bytes_max: 256, ..Config::default() };
    let Ok(params) = Params::parse(data, "") else { return };
    // Whether each is right does not matter, only that each is looked at.
    let _ = (params.instant("start"), params.instant_or("time", 0), params.range());
    let _ =
        (params.duration("timeout"), params.required_duration("step"), params.lookback_ms(&config));
    let _ = (params.limit(), params.number("limit_per_metric", ""), params.switch("merge_tenants"));
    let limit = config.expression_bytes_max;
    let _ = params.selectors().map(|texts| selectors(&texts.0, limit, &Cancel::default()));
    let _ = expression(&params.expression().0, limit, config.features());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: usize, selector: &str, refused: Option<&str>) {
        let form = vec![format!("match[]={selector}"); count].join("&");
        let params = Params::parse(form.as_bytes(), "").expect("a right form");
        let limit = Config::default().expression_bytes_max;
        let found = params.selectors().map_err(|e| e.to_string());
        let found = found.and_then(|texts| selectors(&texts.0, limit, &Cancel::default()));
        match (found, refused) {
            (Ok(selectors), None) => assert_eq!(selectors.len(), count),
            (Err(text), Some(part)) => assert!(text.contains(part), "{text}"),
            (found, _) => panic!("{count} of {selector}: {found:?}"),
        }
    }

    #[test]
    fn selectors_of_one_request_are_bounded() {
        check(1_000, "up", None);
        check(1_001, "up", Some("at most 1000 match[]"));
        check(256, "{a=~\"b\"}", None);
        check(257, "{a=~\"b\"}", Some("at most 256 regular expressions"));
        check(129, "{a=~\"b\",c!~\"d\"}", Some("at most 256 regular expressions"));
        // Percent-encoded: `{a=~"\\w{10}"}`, some hundred kilobytes compiled.
        check(100, "{a=~%22%5C%5Cw{10}%22}", Some("may take 16777216 bytes"));
        check(1, "{a=~%22%5C%5Cw{60}%22}", Some("takes more than 1048576 bytes"));
    }
}
