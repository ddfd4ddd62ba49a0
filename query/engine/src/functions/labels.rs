//! Functions that change labels and leave the points alone.

use model::{Labels, METRIC_NAME};
use query::Error;
use regex::{Captures, Regex, RegexBuilder};

use super::CallContext;
use crate::frame::{Frame, Outcome, Series, Twins, mistyped};

/// Compiled size of a pattern. Bytes; as for matchers.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// `label_replace(v, dst, replacement, src, regex)`
pub(super) fn label_replace(_: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    let [frame, target, replacement, source, pattern] =
        <[Outcome; 5]>::try_from(args).map_err(|_| mistyped("five arguments"))?;
    let (target, replacement) = (target.into_text()?, replacement.into_text()?);
    let (source, pattern) = (source.into_text()?, pattern.into_text()?);
    let pattern = compile(&pattern)?;
    if target.is_empty() {
        return Err(Error::Execution(format!(
            "invalid destination label name in label_replace(): {target}"
        )));
    }
    let mut frame = frame.into_frame()?;
    for series in &mut frame.series {
        let replaced = pattern.captures(series.labels.get(&source).unwrap_or("")).map(
            |found: Captures<'_>| {
                let mut value = String::new();
                found.expand(&replacement, &mut value);
                value
            },
        );
        if let Some(value) = replaced {
            set(series, &target, &value);
        }
    }
    unique(frame)
}

fn compile(pattern: &str) -> Result<Regex, Error> {
    let refused = |e: &dyn std::fmt::Display| {
        Error::Execution(format!("invalid regular expression in label_replace(): {e}"))
    };
    // By itself first: `a)|(b` is wrong, though it would be right between our parentheses.
    let limited = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    limited(pattern).map_err(|e| refused(&e))?;
    limited(&format!("^(?s:{pattern})$")).map_err(|e| refused(&e))
}

/// `label_join(v, dst, separator, src…)`
pub(super) fn label_join(_: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
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
    for series in &mut frame.series {
        let values: Vec<&str> =
            sources.iter().map(|s| series.labels.get(s).unwrap_or("")).collect();
        let joined = values.join(&separator);
        set(series, &target, &joined);
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

fn unique(mut frame: Frame) -> Result<Outcome, Error> {
    frame.unify(Twins::Refused)?;
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
