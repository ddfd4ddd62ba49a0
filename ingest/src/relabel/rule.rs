//! One relabelling rule: its fields, its defaults, and what makes no sense.

use super::pattern::{Pattern, has_reference};

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are Prometheus' own")]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(Action, &str); 11] = [
    (Action::Replace, "replace"),
    (Action::Keep, "keep"),
    (Action::Drop, "drop"),
    (Action::KeepEqual, "keepequal"),
    (Action::DropEqual, "dropequal"),
    (Action::HashMod, "hashmod"),
    (Action::LabelMap, "labelmap"),
    (Action::LabelDrop, "labeldrop"),
    (Action::LabelKeep, "labelkeep"),
    (Action::Lowercase, "lowercase"),
    (Action::Uppercase, "uppercase"),
];

impl Action {
    /// From the word, in any case.
    pub fn of(word: &str) -> Option<Self> {
        let word = word.to_lowercase();
        ACTIONS.iter().find(|(_, known)| *known == word).map(|(action, _)| *action)
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        ACTIONS.iter().find(|(action, _)| *action == self).map_or("", |(_, word)| word)
    }
}

/// Which names labels and metrics may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameScheme {
    /// Any text.
    #[default]
    Utf8,
    /// Letters, digits and underscores; colons in names of metrics.
    Legacy,
}

impl NameScheme {
    /// Whether a label may be called so.
    pub fn allows(self, name: &str) -> bool {
        self.is_valid(name, |_| false)
    }

    /// Whether a metric may be called so.
    pub fn allows_metric(self, name: &str) -> bool {
        self.is_valid(name, |b| b == b':')
    }

    fn is_valid(self, name: &str, more: impl Fn(u8) -> bool) -> bool {
        let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_' || more(b);
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => {
                name.bytes().next().is_some_and(&letter)
                    && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
            }
        }
    }

    /// Whether a label's name may come of a template.
    fn allows_template(self, template: &str) -> bool {
        // What references stand for is not known yet: a letter is what they may be.
        let (mut bare, mut rest) = (String::new(), template);
        while let Some(at) = rest.find('$') {
            bare.push_str(&rest[..at]);
            rest = rest[at + 1..].trim_start_matches('{');
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            if name.is_empty() {
                return self == Self::Utf8;
            }
            bare.push('x');
            rest = after.strip_prefix('}').unwrap_or(after);
        }
        bare.push_str(rest);
        self.allows(&bare)
    }
}

/// A rule that was checked. Fields as in Prometheus' `relabel_config`.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are Prometheus' own")]
pub struct Rule {
    pub source_labels: Vec<String>,
    pub separator: String,
    pub pattern: Pattern,
    pub modulus: u64,
    pub target_label: String,
    pub replacement: String,
    pub action: Action,
    pub names: NameScheme,
}

/// What a rule is written as; `None` where nothing is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) source_labels: Option<Vec<String>>,
    pub(crate) separator: Option<String>,
    pub(crate) regex: Option<String>,
    pub(crate) modulus: Option<u64>,
    pub(crate) target_label: Option<String>,
    pub(crate) replacement: Option<String>,
    pub(crate) action: Option<String>,
}

/// Why a rule was refused; Prometheus' texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

const SEPARATOR: &str = ";";
const REGEX: &str = "(.*)";
const REPLACEMENT: &str = "$1";

impl Rule {
    pub(crate) fn new(written: Written, names: NameScheme) -> Result<Self, RuleError> {
        let word = written.action.as_deref().unwrap_or("replace");
        let action = Action::of(word);
        let action = action.ok_or_else(|| RuleError(format!("unknown relabel action {word:?}")))?;
        let pattern = Pattern::new(written.regex.as_deref().unwrap_or(REGEX)).map_err(RuleError)?;
        let has_sources = written.source_labels.is_some();
        let rule = Self {
            source_labels: written.source_labels.unwrap_or_default(),
            separator: written.separator.unwrap_or_else(|| SEPARATOR.to_owned()),
            pattern,
            modulus: written.modulus.unwrap_or(0),
            target_label: written.target_label.unwrap_or_default(),
            replacement: written.replacement.unwrap_or_else(|| REPLACEMENT.to_owned()),
            action,
            names,
        };
        rule.check(has_sources).map_err(RuleError)?;
        Ok(rule)
    }

    fn check(&self, has_sources: bool) -> Result<(), String> {
        use Action::{
            DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace,
            Uppercase,
        };
        let (action, target, names) = (self.action, self.target_label.as_str(), self.names);
        let word = action.as_str();
        let wrong_target = || format!("{target:?} is invalid 'target_label' for {word} action");
        if action == HashMod && self.modulus == 0 {
            return Err("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        let is_written =
            matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if is_written && target.is_empty() {
            let what =
                format!("relabel configuration for {word} action requires 'target_label' value");
            return Err(what);
        }
        if is_written {
            let is_template = action == Replace && has_reference(target);
            let is_valid =
                if is_template { names.allows_template(target) } else { names.allows(target) };
            if !is_valid {
                return Err(wrong_target());
            }
        }
        let is_fixed = matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual);
        if is_fixed && self.replacement != REPLACEMENT {
            return Err(format!("'replacement' can not be set for {word} action"));
        }
        if action == LabelMap && !names.allows_template(&self.replacement) {
            return Err(format!(
                "{:?} is invalid 'replacement' for {word} action",
                self.replacement
            ));
        }
        let has_default =
            self.modulus == 0 && self.separator == SEPARATOR && self.replacement == REPLACEMENT;
        if matches!(action, KeepEqual | DropEqual) && !(has_default && self.pattern.text() == REGEX)
        {
            return Err(format!(
                "{word} action requires only 'source_labels' and `target_label`, and no other fields"
            ));
        }
        if matches!(action, LabelDrop | LabelKeep)
            && !(has_default && !has_sources && target.is_empty())
        {
            return Err(format!("{word} action requires only 'regex', and no other fields"));
        }
        Ok(())
    }
}
