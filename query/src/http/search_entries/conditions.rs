//! Parameters of a search as conditions on entries.

use model::{Level, MatchOp, Matcher, PatternBudget, Signal};

use super::super::loki::instant_ns;
use super::super::params::Params;
use super::invalid;
use crate::Error;
use crate::entries::{EntrySelection, LEVEL_NAME, LineCondition, LineTest, Pipeline};
use crate::logql::{self, Expr};

/// What is searched if nothing is said: the last day. Nanoseconds.
const BACK_NS: i64 = 24 * 3_600_000_000_000;

/// Keywords of one request: each is looked for in every line.
const KEYWORDS_MAX: usize = 32;

/// Values of one condition.
const VALUES_MAX: usize = 1_000;

/// Parameters that every signal has, and the labels of the streams they choose by.
const LABELS: [(&str, &str); 6] = [
    ("clusters", "cluster"),
    ("namespaces", "namespace"),
    ("workloads", "workload"),
    ("pods", "pod"),
    ("containers", "container"),
    ("nodes", "node"),
];

const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involved_object_kind", "involvedObject_kind"),
    ("involved_object_namespace", "involvedObject_namespace"),
    ("involved_object_name", "involvedObject_name"),
    ("involved_object_uid", "involvedObject_uid"),
    ("reason", "reason"),
    ("type", "type"),
    ("message", "message"),
    ("source", "source_component"),
];

const AUDIT_FIELDS: &[(&str, &str)] = &[
    ("verb", "verb"),
    ("user", "user_username"),
    ("group", "user_groups"),
    ("resource", "objectRef_resource"),
    ("subresource", "objectRef_subresource"),
    ("object_namespace", "objectRef_namespace"),
    ("object_name", "objectRef_name"),
    ("api_group", "objectRef_apiGroup"),
    ("source_ip", "sourceIPs"),
    ("response_code", "responseStatus_code"),
    ("response_status", "responseStatus_status"),
    ("stage", "stage"),
    ("audit_level", "level"),
    ("audit_id", "auditID"),
    ("workspace", "workspace"),
];

/// What else a request may say; a name that is none of all is refused, not looked over.
const OTHERS: [&str; 26] = [
    "operation",
    "start",
    "end",
    "size",
    "cursor",
    "sort",
    "must",
    "should",
    "must_not",
    "match",
    "case",
    "level",
    "level_min",
    "field",
    "field_like",
    "interval",
    "by",
    "format",
    "place",
    "before",
    "after",
    "start_time",
    "end_time",
    "limit",
    "query",
    "last_event_id",
];

/// Reads all conditions.
pub(super) fn selection(
    params: &Params,
    signal: Signal,
    now_ns: i64,
) -> Result<EntrySelection, Error> {
    let fields = match signal {
        Signal::Logs => &[][..],
        Signal::Events => EVENT_FIELDS,
        Signal::Audits => AUDIT_FIELDS,
    };
    known(params, fields)?;
    let mut selection = EntrySelection { signal, ..EntrySelection::default() };
    selection.end_ns = instant(params, ["end", "end_time"], now_ns)?;
    let start_ns = selection.end_ns.saturating_sub(BACK_NS);
    selection.start_ns = instant(params, ["start", "start_time"], start_ns)?;
    if selection.end_ns <= selection.start_ns {
        return Err(invalid("end", "it must be after start"));
    }
    let mut budget = PatternBudget::default();
    let streams = by_values(params, &LABELS, &mut budget)?;
    if !streams.is_empty() {
        selection.selectors.push(streams);
    }
    selection.filter.named = by_values(params, fields, &mut budget)?;
    selection.filter.named.extend(by_fields(params, &mut budget)?);
    selection.filter.lines = keywords(params)?;
    levels(params, &mut selection)?;
    logql(params, &mut selection)?;
    Ok(selection)
}

/// `query`: a selector of streams in LogQL, with filters behind it.
fn logql(params: &Params, selection: &mut EntrySelection) -> Result<(), Error> {
    let text = params.get("query");
    if text.is_empty() {
        return Ok(());
    }
    let parsed = logql::parse(text).map_err(|error| invalid("query", &error.to_string()))?;
    let Expr::Log(lines) = parsed else {
        return Err(invalid("query", "it gives numbers; only a query of lines is searched"));
    };
    let pipeline = Pipeline::of(&lines, text)?;
    if !pipeline.is_filter() {
        let text = "label filters with `or` are not searched; /loki/api/v1/query_range takes them";
        return Err(invalid("query", text));
    }
    match selection.selectors.first_mut() {
        Some(matchers) => matchers.extend(lines.matchers),
        None => selection.selectors.push(lines.matchers),
    }
    selection.filter.lines.extend(pipeline.filter.lines);
    selection.filter.named.extend(pipeline.filter.named);
    Ok(())
}

/// A misspelt condition would find too much.
fn known(params: &Params, fields: &[(&str, &str)]) -> Result<(), Error> {
    let condition = |name: &str| {
        let name = name.strip_suffix("_like").unwrap_or(name);
        LABELS.iter().chain(fields).any(|(parameter, _)| *parameter == name)
    };
    match params.names().find(|name| !OTHERS.contains(name) && !condition(name)) {
        Some(name) => Err(invalid(name, "there is no such parameter; docs/search.md lists them")),
        None => Ok(()),
    }
}

fn instant(params: &Params, names: [&str; 2], default_ns: i64) -> Result<i64, Error> {
    for name in names {
        let text = params.get(name);
        if !text.is_empty() {
            return instant_ns(text).ok_or_else(|| {
                invalid(name, "it is neither seconds, nor nanoseconds, nor RFC 3339")
            });
        }
    }
    Ok(default_ns)
}

/// `name=a,b` is one of them; `name_like=x` has a part, in any case.
fn by_values(
    params: &Params,
    names: &[(&str, &str)],
    budget: &mut PatternBudget,
) -> Result<Vec<Matcher>, Error> {
    let mut matchers = Vec::new();
    for (parameter, name) in names {
        for listed in params.all(parameter) {
            matchers.push(one_of(parameter, name, listed, budget)?);
        }
        let like = format!("{parameter}_like");
        for part in params.all(&like) {
            matchers.push(has_part(&like, name, part, budget)?);
        }
    }
    Ok(matchers)
}

/// `field=name:a,b` and `field_like=name:x`, of any label or field.
fn by_fields(params: &Params, budget: &mut PatternBudget) -> Result<Vec<Matcher>, Error> {
    let mut matchers = Vec::new();
    let pair = |parameter: &str, text: &str| match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(invalid(parameter, "write NAME:VALUE")),
    };
    for text in params.all("field") {
        let (name, values) = pair("field", text)?;
        matchers.push(one_of("field", &name, &values, budget)?);
    }
    for text in params.all("field_like") {
        let (name, part) = pair("field_like", text)?;
        matchers.push(has_part("field_like", &name, &part, budget)?);
    }
    Ok(matchers)
}

fn one_of(
    parameter: &str,
    name: &str,
    listed: &str,
    budget: &mut PatternBudget,
) -> Result<Matcher, Error> {
    let values: Vec<&str> = listed.split(',').collect();
    match values.as_slice() {
        [one] => Ok(Matcher::equal(name, *one)),
        several if several.len() > VALUES_MAX => {
            Err(invalid(parameter, &format!("at most {VALUES_MAX} values are allowed")))
        }
        several => {
            let values: Vec<_> = several.iter().map(|value| regex::escape(value)).collect();
            Matcher::within(budget, MatchOp::Regex, name, values.join("|"))
                .map_err(|error| invalid(parameter, &error.reason))
        }
    }
}

fn has_part(
    parameter: &str,
    name: &str,
    part: &str,
    budget: &mut PatternBudget,
) -> Result<Matcher, Error> {
    let pattern = format!("(?i).*{}.*", regex::escape(part));
    Matcher::within(budget, MatchOp::Regex, name, pattern)
        .map_err(|error| invalid(parameter, &error.reason))
}

/// `must`: all of them; `should`: one of them; `must_not`: none.
fn keywords(params: &Params) -> Result<Vec<LineCondition>, Error> {
    let test: fn(String) -> LineTest = match params.get("match") {
        "" | "part" => LineTest::Contains,
        "words" => LineTest::Words,
        "regex" => LineTest::Regex,
        _ => return Err(invalid("match", "it is one of part, words, regex")),
    };
    let ignores_case = match params.get("case") {
        "" | "ignore" => true,
        "exact" => false,
        _ => return Err(invalid("case", "it is one of ignore, exact")),
    };
    let tests = |name: &str| -> Result<Vec<LineTest>, Error> {
        let words: Vec<&str> = params.all(name).filter(|word| !word.is_empty()).collect();
        if words.len() > KEYWORDS_MAX {
            return Err(invalid(name, &format!("at most {KEYWORDS_MAX} are allowed")));
        }
        for word in &words {
            if params.get("match") == "regex" {
                let built = regex::bytes::RegexBuilder::new(word).size_limit(1 << 20).build();
                built.map_err(|error| invalid(name, &error.to_string()))?;
            }
        }
        Ok(words.into_iter().map(|word| test(word.to_owned())).collect())
    };
    let mut conditions = Vec::new();
    for one in tests("must")? {
        conditions.push(LineCondition { any: vec![one], is_negative: false, ignores_case });
    }
    for (any, is_negative) in [(tests("should")?, false), (tests("must_not")?, true)] {
        if !any.is_empty() {
            conditions.push(LineCondition { any, is_negative, ignores_case });
        }
    }
    Ok(conditions)
}

/// `level=error,warn` and `level_min=warn`.
fn levels(params: &Params, selection: &mut EntrySelection) -> Result<(), Error> {
    let words: Vec<&str> = Level::ALL.iter().map(|level| level.as_str()).collect();
    let read = |name: &str, word: &str| {
        let found = Level::ALL.into_iter().find(|level| level.as_str() == word);
        found.ok_or_else(|| invalid(name, &format!("it is one of {}", words.join(", "))))
    };
    let listed = params.get("level");
    if !listed.is_empty() {
        for word in listed.split(',') {
            read("level", word)?;
        }
        let mut budget = PatternBudget::default();
        selection.filter.named.push(one_of("level", LEVEL_NAME, listed, &mut budget)?);
    }
    let least = params.get("level_min");
    if !least.is_empty() {
        selection.filter.level_min = Some(read("level_min", least)?);
    }
    Ok(())
}
