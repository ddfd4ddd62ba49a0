//! Groups: what a batch job pushed, under the labels that its address names.
//!
//! ```text
//! /metrics/job/NAME[/LABEL/VALUE]…      a name that ends in @base64 has its value in base64
//! ```
//!
//! A group is kept as the bodies that were pushed, each with the families of it that still count:
//! a later push takes families away from the earlier ones. So nothing is lost in translation.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use crate::exposition::Format;

/// Labels of a group in order of their names; `job` is among them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grouping(pub(super) Vec<(String, String)>);

/// Labels of one grouping; more than any job has.
const LABELS_MAX: usize = 32;

impl Grouping {
    /// From a path behind `/metrics/`, still percent-encoded; the text says what is wrong.
    pub fn parse(path: &str) -> Result<Self, String> {
        let mut parts = path.strip_suffix('/').unwrap_or(path).split('/');
        let mut labels: Vec<(String, String)> = Vec::new();
        while let Some(name) = parts.next() {
            let name = percent_decoded(name)?;
            let value = parts.next().ok_or_else(|| format!("label {name:?} has no value"))?;
            let value = percent_decoded(value)?;
            let (name, value) = match name.strip_suffix("@base64") {
                Some(plain) => (plain.to_owned(), decoded(plain, &value)?),
                None => (name, value),
            };
            if labels.is_empty() && name != "job" {
                return Err(format!("path must begin with job, it begins with {name:?}"));
            }
            if labels.is_empty() && value.is_empty() {
                return Err("job name is empty".to_owned());
            }
            if name.is_empty() || name.starts_with("__") {
                return Err(format!("label name {name:?} is empty or reserved"));
            }
            if labels.iter().any(|(known, _)| *known == name) {
                return Err(format!("label {name:?} comes twice"));
            }
            if labels.len() >= LABELS_MAX {
                return Err(format!("path names more than {LABELS_MAX} labels"));
            }
            labels.push((name, value));
        }
        labels.sort();
        Ok(Self(labels))
    }
}

fn decoded(name: &str, value: &str) -> Result<String, String> {
    // One equals sign stands for nothing at all, which a path cannot say otherwise.
    let value = value.trim_end_matches('=');
    let bytes = [URL_SAFE_NO_PAD, STANDARD_NO_PAD].iter().find_map(|e| e.decode(value).ok());
    let bytes = bytes.or_else(|| [URL_SAFE, STANDARD].iter().find_map(|e| e.decode(value).ok()));
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| format!("value {value:?} of label {name:?} is not base64 of a text"))
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not percent-encoded text");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next().ok_or_else(wrong)?, bytes.next().ok_or_else(wrong)?];
        let digit = |d: u8| char::from(d).to_digit(16);
        let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else {
            return Err(wrong());
        };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| wrong())
}

/// One body that was pushed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Push {
    pub(super) format: Format,
    pub(super) body: Arc<[u8]>,
    /// Names of the metric families in it that still count.
    pub(super) families: BTreeSet<String>,
}

/// What is kept of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Group {
    pub(super) pushes: Vec<Push>,
    /// Milliseconds; 0 is never.
    pub(super) pushed_ms: i64,
    pub(super) failed_ms: i64,
}

/// Whether a push takes the place of everything or only of the families in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// PUT.
    All,
    /// POST.
    Families,
}

impl Group {
    /// The group after one more push.
    pub(super) fn after(&self, push: Push, replaces: Replaces, now_ms: i64) -> Self {
        let mut pushes = match replaces {
            Replaces::All => Vec::new(),
            Replaces::Families => self.pushes.clone(),
        };
        for earlier in &mut pushes {
            earlier.families.retain(|family| !push.families.contains(family));
        }
        pushes.push(push);
        pushes.retain(|push| !push.families.is_empty());
        Self { pushes, pushed_ms: now_ms, failed_ms: self.failed_ms }
    }

    /// Bytes held, with what a group itself takes.
    pub(super) fn bytes(&self) -> usize {
        self.pushes.iter().map(|push| push.body.len()).sum::<usize>() + 256
    }
}

/// The family of a series as Pushgateway sees it: a name without what histograms and summaries add,
/// if that was declared one.
pub(super) fn family_of<'n>(name: &'n str, declared: &BTreeSet<String>) -> &'n str {
    const ADDED: [&str; 5] = ["_bucket", "_count", "_sum", "_gcount", "_gsum"];
    let stripped = ADDED.iter().find_map(|s| name.strip_suffix(s));
    stripped.filter(|family| declared.contains(*family)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, shown: &str) {
        let read = Grouping::parse(path)
            .map(|g| g.0.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" "));
        assert_eq!(read.unwrap_or_else(|e| e), shown);
    }

    #[test]
    fn paths_are_groupings() {
        check("job/backup", "job=backup");
        check("job/backup/", "job=backup");
        check("job/backup/instance/a%2Fb/z/1", "instance=a/b job=backup z=1");
        check("job@base64/YS9i", "job=a/b");
        check("job/x/path@base64/L3Zhci90bXA", "job=x path=/var/tmp");
        check("job/x/path@base64/L3Zhci90bXA=", "job=x path=/var/tmp");
        check("job/x/empty@base64/=", "empty= job=x");
        check("job/x/u@base64/w6TDtg==", "job=x u=äö");
        check("job/x/y/", "label \"y\" has no value");
        check("job/", "label \"job\" has no value");
        check("job@base64/=", "job name is empty");
        check("instance/a", "path must begin with job, it begins with \"instance\"");
        check("job/x/job/y", "label \"job\" comes twice");
        check("job/x/__name__/y", "label name \"__name__\" is empty or reserved");
        check("job/x/a@base64/!", "value \"!\" of label \"a\" is not base64 of a text");
        check("job/%zz", "\"%zz\" is not percent-encoded text");
        check("job/%ff", "\"%ff\" is not percent-encoded text");
        check(
            &format!("job/x{}", (0..40).map(|i| format!("/l{i}/v")).collect::<String>()),
            "path names more than 32 labels",
        );
    }

    fn push(body: &str, families: &[&str]) -> Push {
        let families = families.iter().map(|f| (*f).to_owned()).collect();
        Push { format: Format::Text, body: body.as_bytes().into(), families }
    }

    #[test]
    fn later_pushes_take_families_away() {
        let first = Group::default().after(push("1", &["a", "b"]), Replaces::All, 5);
        let second = first.after(push("2", &["b", "c"]), Replaces::Families, 6);
        assert_eq!(second.pushes, [push("1", &["a"]), push("2", &["b", "c"])]);
        let third = second.after(push("3", &["a"]), Replaces::Families, 7);
        assert_eq!(third.pushes, [push("2", &["b", "c"]), push("3", &["a"])]);
        assert_eq!(third.after(push("", &[]), Replaces::Families, 8).pushes, third.pushes);
        let none = third.after(push("", &[]), Replaces::All, 9);
        assert_eq!((none.pushes.len(), none.pushed_ms), (0, 9));
    }
}
