//! Functions that change labels and leave the points alone.

use model::{Labels, METRIC_NAME, Pace};
use query::Error;
use regex::{Captures, Regex, RegexBuilder};

use super::CallContext;
use crate::budget::Reserved;
use crate::executor::stopped;
use crate::frame::{Frame, Outcome, Series, Twins, mistyped};

/// Compiled size of a pattern. Bytes; as for matchers.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Longest value a label may be given. Bytes; far above what any stored label has. Without it two
/// dozen nested calls of a few bytes each would double a value beyond any memory.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// `label_replace(v, dst, replacement, src, regex)`
pub(super) fn label_replace(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    let [frame, target, replacement, source, pattern] =
        <[Outcome; 5]>::try_from(args).map_err(|_| mistyped("five arguments"))?;
    let (target, replacement) = (target.into_text()?, replacement.into_text()?);
    let (source, pattern) = (source.into_text()?, pattern.into_text()?);
    let quick = context.budget.pattern(&pattern).map_err(|e| wrong_pattern(&e))?;
    let pattern = compile(&pattern)?;
    if target.is_empty() {
        return Err(Error::Execution(format!(
            "invalid destination label name in label_replace(): {target}"
        )));
    }
    let mut frame = frame.into_frame()?;
    let mut made = Reserved::default();
    let mut pace = Pace::new(context.budget.cancel().stop());
    for series in &mut frame.series {
        let value = series.labels.get(&source).unwrap_or("");
        if !quick.matches_at(value, &mut pace).map_err(stopped)? {
            continue;
        }
        let Some(found) = pattern.captures(value) else { continue };
        pace.work(200).map_err(stopped)?;
        let value = expanded(&found, &replacement, value.len())?;
        made.absorb(context.budget.reserve(value.len())?);
        set(series, &target, &value);
        frame.label_bytes += value.len();
    }
    unique(frame)
}

/// The replacement with what was found in a value of so many bytes.
fn expanded(found: &Captures<'_>, replacement: &str, value_bytes: usize) -> Result<String, Error> {
    // A group is at most the whole value, so this is known before room is made.
    let groups = replacement.bytes().filter(|b| *b == b'$').count();
    check_length("label_replace", replacement.len().saturating_add(groups * value_bytes))?;
    let mut value = String::new();
    found.expand(replacement, &mut value);
    Ok(value)
}

fn check_length(function: &str, bytes: usize) -> Result<(), Error> {
    if bytes <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::Execution(format!(
        "{function}() would make a label value of up to {bytes} bytes, the limit is {VALUE_BYTES_MAX}"
    )))
}

fn wrong_pattern(reason: &dyn std::fmt::Display) -> Error {
    Error::Execution(format!("invalid regular expression in label_replace(): {reason}"))
}

fn compile(pattern: &str) -> Result<Regex, Error> {
    // By itself first: `a)|(b` is wrong, though it would be right between our parentheses.
    let limited = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    limited(pattern).map_err(|e| wrong_pattern(&e))?;
    limited(&format!("^(?s:{pattern})$")).map_err(|e| wrong_pattern(&e))
}

/// `label_join(v, dst, separator, src…)`
pub(super) fn label_join(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    let mut args = args.into_iter();
    let mut next = || args.next().ok_or_else(|| mistyped("more arguments"));
    let (mut frame, target, separator) =
        (next()?.into_frame()?, next()?.into_text()?, next()?.into_text()?);
    let sources = args.map(Outcome::into_text).collect::<Result<Vec<_>, _>>()?;
    if let Some(wrong) = sources.iter().find(|s| s.is_empty()) {
        return Err(Error::Execution(format!(
            "invalid source label name in label_join(): {wrong}"
        )));
    }
    if target.is_empty() {
        return Err(Error::Execution(format!(
            "invalid destination label name in label_join(): {target}"
        )));
    }
    let mut made = Reserved::default();
    let mut pace = Pace::new(context.budget.cancel().stop());
    for series in &mut frame.series {
        pace.work(100).map_err(stopped)?;
        let values: Vec<&str> =
            sources.iter().map(|s| series.labels.get(s).unwrap_or("")).collect();
        let separators = separator.len().saturating_mul(values.len().saturating_sub(1));
        let bytes = values.iter().map(|value| value.len()).sum::<usize>();
        check_length("label_join", bytes.saturating_add(separators))?;
        let joined = values.join(&separator);
        made.absorb(context.budget.reserve(joined.len())?);
        set(series, &target, &joined);
        frame.label_bytes += joined.len();
    }
    unique(frame)
}

fn set(series: &mut Series, label: &str, value: &str) {
    series.labels = with_label(&series.labels, label, value);
    if label == METRIC_NAME {
        // The name was given on purpose, so it is not dropped at the end.
        series.drop_name = false;
    }
}

fn with_label(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut builder = labels.to_builder();
    builder.set(name, value);
    builder.build()
}

/// Series that are one now; an error where two of them have a point at the same time.
fn unique(mut frame: Frame) -> Result<Outcome, Error> {
    frame.unify(Twins::Merged)?;
    Ok(Outcome::Vector(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, replacement: &str, value: &str, expected: Option<&str>) {
        let pattern = compile(pattern).expect("a right pattern");
        let replaced = pattern.captures(value).map(|found| {
            let mut text = String::new();
            found.expand(replacement, &mut text);
            text
        });
        assert_eq!(replaced.as_deref(), expected);
    }

    #[test]
    fn values_are_bounded_before_they_are_made() {
        let pattern = compile("(.*)").expect("a right pattern");
        let value = "a".repeat(1_000);
        let found = pattern.captures(&value).expect("everything matches");
        for (groups, fits) in [(1, true), (65, true), (66, false), (1_000_000, false)] {
            let made = expanded(&found, &"$1".repeat(groups), value.len());
            assert_eq!(
                made.map(|v| v.len()).ok(),
                fits.then_some(groups * 1_000),
                "{groups} groups"
            );
        }
    }

    #[test]
    fn patterns_match_whole_values() {
        check("(.*)-(.*)", "$2:$1", "a-b", Some("b:a"));
        check("a", "x", "ab", None);
        check("(?P<n>.*)", "${n}_$$", "v", Some("v_$"));
        check(".*", "$1", "v", Some(""));
        check("a.b", "x", "a\nb", Some("x"));
        assert!(compile("a)|(b").is_err());
        assert!(compile("((a{1000}){1000}){1000}").is_err());
    }
}
