//! `status/self_metrics`: what the process counts, as a list of Prometheus' `MetricFamily` in the
//! JSON of protobuf: 64-bit integers are texts, and so are the floats that JSON does not have.
//!
//! It is the text of `/metrics` taken apart, so that there is one place that says what is counted.

use std::collections::BTreeMap;

use model::{METRIC_NAME, MatchOp, Matcher};

use super::Question;
use super::documents::Single;
use super::json::{comma, push_string};
use super::params::invalid;
use super::reply::Reply;
use crate::number::push_value;
use crate::{Cancel, Error};

/// Answers it. `metric_name_pattern` has to match the whole name of a family.
pub(super) async fn families(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = question;
    let pattern = params.get("metric_name_pattern").to_owned();
    let metrics = querier.own_metrics();
    let deadline = querier.deadline(&scope, None)?;
    // Whoever writes the text looks into files, and the pattern is compiled.
    let work = async |_: Cancel| {
        let told = move || {
            let mut text = String::with_capacity(16 << 10);
            if let Some(metrics) = metrics {
                metrics.write(&mut text);
            }
            document(&text, &pattern)
        };
        querier.apart("tell what this process counts", told).await?
    };
    let document = querier.run(&scope, deadline, asked, work).await?.answer;
    Ok(Reply::document(document))
}

fn document(text: &str, pattern: &str) -> Result<Single, Error> {
    let wanted = match pattern {
        "" => None,
        pattern => Some(
            Matcher::new(MatchOp::Regex, METRIC_NAME, pattern)
                .map_err(|refused| invalid("metric_name_pattern", &refused.reason))?,
        ),
    };
    let families = read(text).map_err(|line| {
        let source = format!("a line of /metrics cannot be read: {line}");
        Error::internal("tell what this process counts", source)
    })?;
    let wanted = |name: &str| wanted.as_ref().is_none_or(|matcher| matcher.matches(name));
    let families = families.iter().filter(|(name, _)| wanted(name));
    Ok(Single::new(|out| {
        out.push(b'[');
        for (i, (name, family)) in families.enumerate() {
            comma(out, i);
            push_family(out, name, family);
        }
        out.push(b']');
    }))
}

/// A family without its name, by which families are kept.
#[derive(Debug, Default)]
struct Family<'a> {
    help: String,
    kind: &'a str,
    metrics: BTreeMap<Vec<(&'a str, String)>, Numbers>,
}

/// What one label set of a family holds.
#[derive(Debug, Default)]
struct Numbers {
    /// Of a counter or gauge.
    value: f64,
    count: f64,
    sum: f64,
    /// Bounds or quantiles, and what stands at each.
    steps: Vec<(f64, f64)>,
}

/// Takes the text apart; the error is the line that cannot be read.
fn read(text: &str) -> Result<BTreeMap<&str, Family<'_>>, &str> {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    let mut name = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(head) = line.strip_prefix("# HELP ") {
            let (of, help) = head.split_once(' ').unwrap_or((head, ""));
            name = of;
            families.entry(name).or_default().help = unescaped(help);
        } else if let Some(head) = line.strip_prefix("# TYPE ") {
            let (of, kind) = head.split_once(' ').ok_or(line)?;
            name = of;
            families.entry(name).or_default().kind = kind;
        } else {
            let family = families.get_mut(name).ok_or(line)?;
            take(family, name, line).ok_or(line)?;
        }
    }
    Ok(families)
}

/// Takes a line of a family.
fn take<'a>(family: &mut Family<'a>, name: &str, line: &'a str) -> Option<()> {
    let (series, value) = line.rsplit_once(' ')?;
    let value: f64 = value.parse().ok()?;
    let (found, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = labels_of(labels)?;
    let part = found.strip_prefix(name)?;
    let step_label = if family.kind == "histogram" { "le" } else { "quantile" };
    let composite = ["histogram", "summary"].contains(&family.kind);
    let step = labels.iter().position(|(label, _)| composite && *label == step_label);
    let step = step.map(|at| labels.remove(at).1.parse().ok());
    labels.sort_unstable();
    let numbers = family.metrics.entry(labels).or_default();
    match (part, step) {
        ("_bucket" | "", Some(step)) => numbers.steps.push((step?, value)),
        ("_sum", None) if composite => numbers.sum = value,
        ("_count", None) if composite => numbers.count = value,
        ("", None) if !composite => numbers.value = value,
        _ => return None,
    }
    Some(())
}

/// `a="b",c="d"}`, and nothing behind it.
fn labels_of(mut rest: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    loop {
        if rest == "}" {
            return Some(labels);
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        labels.push((name, unescaped(&after[..end])));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

fn push_family(out: &mut Vec<u8>, name: &str, family: &Family<'_>) {
    // Whatever has no type is untyped.
    let known = ["counter", "gauge", "summary", "histogram"].contains(&family.kind);
    let kind = if known { family.kind } else { "untyped" };
    out.push(b'{');
    for (i, (field, text)) in
        [("name", name), ("help", &family.help), ("type", &kind.to_ascii_uppercase())]
            .into_iter()
            .enumerate()
    {
        comma(out, i);
        push_string(out, field);
        out.push(b':');
        push_string(out, text);
    }
    out.extend_from_slice(b",\"metric\":[");
    for (i, (labels, numbers)) in family.metrics.iter().enumerate() {
        comma(out, i);
        out.push(b'{');
        push_labels(out, labels);
        push_string(out, kind);
        out.push(b':');
        push_numbers(out, kind, numbers);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// Appends the field of labels, unless there are none.
fn push_labels(out: &mut Vec<u8>, labels: &[(&str, String)]) {
    if labels.is_empty() {
        return;
    }
    out.extend_from_slice(b"\"label\":[");
    for (i, (name, value)) in labels.iter().enumerate() {
        comma(out, i);
        out.extend_from_slice(b"{\"name\":");
        push_string(out, name);
        out.extend_from_slice(b",\"value\":");
        push_string(out, value);
        out.push(b'}');
    }
    out.extend_from_slice(b"],");
}

fn push_numbers(out: &mut Vec<u8>, kind: &str, numbers: &Numbers) {
    let (list, push_step): (_, fn(&mut Vec<u8>, f64, f64)) = match kind {
        "histogram" => ("bucket", push_bucket),
        "summary" => ("quantile", push_quantile),
        _ => {
            out.extend_from_slice(b"{\"value\":");
            push_float(out, numbers.value);
            out.push(b'}');
            return;
        }
    };
    out.extend_from_slice(b"{\"sampleCount\":");
    push_count(out, numbers.count);
    out.extend_from_slice(b",\"sampleSum\":");
    push_float(out, numbers.sum);
    // The last bucket is the count, and Prometheus' own messages leave it out.
    let steps: Vec<_> = numbers.steps.iter().filter(|(step, _)| step.is_finite()).collect();
    if !steps.is_empty() {
        out.push(b',');
        push_string(out, list);
        out.extend_from_slice(b":[");
        for (i, (step, value)) in steps.into_iter().enumerate() {
            comma(out, i);
            push_step(out, *step, *value);
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn push_bucket(out: &mut Vec<u8>, bound: f64, count: f64) {
    out.extend_from_slice(b"{\"cumulativeCount\":");
    push_count(out, count);
    out.extend_from_slice(b",\"upperBound\":");
    push_float(out, bound);
    out.push(b'}');
}

fn push_quantile(out: &mut Vec<u8>, quantile: f64, value: f64) {
    out.extend_from_slice(b"{\"quantile\":");
    push_float(out, quantile);
    out.extend_from_slice(b",\"value\":");
    push_float(out, value);
    out.push(b'}');
}

fn push_count(out: &mut Vec<u8>, count: f64) {
    push_string(out, &(count as u64).to_string());
}

fn push_float(out: &mut Vec<u8>, value: f64) {
    match value {
        value if value.is_finite() => push_value(out, value),
        f64::INFINITY => push_string(out, "Infinity"),
        f64::NEG_INFINITY => push_string(out, "-Infinity"),
        _ => push_string(out, "NaN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::documents::Document;

    fn told(text: &str, pattern: &str) -> Result<String, String> {
        let mut out = Vec::new();
        document(text, pattern).map_err(|e| e.to_string())?.write_some(&mut out);
        let text = String::from_utf8(out).expect("text");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        let data = text.strip_prefix(r#"{"status":"success","data":"#);
        Ok(data.and_then(|data| data.strip_suffix('}')).expect("an envelope").to_owned())
    }

    #[test]
    fn each_kind_is_a_message_of_its_own() {
        let check = |text: &str, expected: &str| {
            assert_eq!(told(text, "").as_deref(), Ok(expected), "{text}");
        };
        check("", "[]");
        check(
            "# HELP a_total Say \\\\ or\\nnot.\n# TYPE a_total counter\na_total 3\n",
            r#"[{"name":"a_total","help":"Say \\ or\nnot.","type":"COUNTER","metric":[{"counter":{"value":3}}]}]"#,
        );
        check(
            "# TYPE b gauge\nb{z=\"1\",a=\"x, \\\"y\\\"} \"} NaN\nb{a=\"u\"} +Inf\n",
            r#"[{"name":"b","help":"","type":"GAUGE","metric":[{"label":[{"name":"a","value":"u"}],"gauge":{"value":"Infinity"}},{"label":[{"name":"a","value":"x, \"y\"} "},{"name":"z","value":"1"}],"gauge":{"value":"NaN"}}]}]"#,
        );
        check(
            "# TYPE h histogram\nh_bucket{k=\"v\",le=\"0.5\"} 1\nh_bucket{k=\"v\",le=\"+Inf\"} 2\nh_sum{k=\"v\"} 7.5\nh_count{k=\"v\"} 2\n",
            r#"[{"name":"h","help":"","type":"HISTOGRAM","metric":[{"label":[{"name":"k","value":"v"}],"histogram":{"sampleCount":"2","sampleSum":7.5,"bucket":[{"cumulativeCount":"1","upperBound":0.5}]}}]}]"#,
        );
        check(
            "# TYPE s summary\ns{quantile=\"0.9\"} 4\ns_sum 9\ns_count 3\n",
            r#"[{"name":"s","help":"","type":"SUMMARY","metric":[{"summary":{"sampleCount":"3","sampleSum":9,"quantile":[{"quantile":0.9,"value":4}]}}]}]"#,
        );
        check(
            "# HELP u What.\nu -1e-7\n",
            r#"[{"name":"u","help":"What.","type":"UNTYPED","metric":[{"untyped":{"value":-1e-07}}]}]"#,
        );
    }

    #[test]
    fn patterns_match_whole_names() {
        let text = "# TYPE b gauge\nb 1\n# TYPE ab gauge\nab 2\n# TYPE abc gauge\nabc 3\n";
        let check = |pattern: &str, names: &[&str]| {
            let told = told(text, pattern).expect("an answer");
            let families: Vec<serde_json::Value> = serde_json::from_str(&told).expect("a list");
            let found: Vec<&str> = families.iter().filter_map(|f| f["name"].as_str()).collect();
            assert_eq!(found, names, "{pattern}");
        };
        check("", &["ab", "abc", "b"]);
        check("b", &["b"]);
        check("a.*", &["ab", "abc"]);
        check("b|abc", &["abc", "b"]);
        check("c", &[]);
        let refused = told(text, "(").expect_err("no expression");
        assert!(refused.starts_with("invalid parameter \"metric_name_pattern\": "), "{refused}");
    }

    #[test]
    fn lines_that_cannot_be_read_are_no_answer() {
        for text in ["a 1\n", "# TYPE a gauge\nb 1\n", "# TYPE a gauge\na{b=\"c} 1\n"] {
            assert!(told(text, "").is_err(), "{text}");
        }
        for text in ["# TYPE a gauge\na x\n", "# TYPE a gauge\na{b=\"c\"}d 1\n", "# TYPE a\n"] {
            assert!(told(text, "").is_err(), "{text}");
        }
        for text in ["# TYPE a counter\na_sum 1\n", "# TYPE a histogram\na_bucket{le=\"x\"} 1\n"] {
            assert!(told(text, "").is_err(), "{text}");
        }
    }
}
