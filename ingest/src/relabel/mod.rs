//! Relabelling as Prometheus does it (`model/relabel/relabel.go`): rules that change, keep and drop
//! label sets, of targets before they are scraped and of samples before they are stored.

mod pattern;
mod rule;

#[cfg(test)]
mod tests;

use md5::{Digest, Md5};
use model::{Labels, LabelsBuilder};

pub use pattern::Pattern;
pub(crate) use rule::Written;
pub use rule::{Action, NameScheme, Rule, RuleError};

use pattern::has_reference;

/// Applies rules one after the other. `false` means that the label set is dropped.
pub fn apply<'r>(rules: impl IntoIterator<Item = &'r Rule>, labels: &mut LabelsBuilder) -> bool {
    rules.into_iter().all(|rule| rule.apply(labels))
}

/// What one rule made of a label set.
#[derive(Debug, Clone, PartialEq)]
pub struct Step<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// The labels after it; empty once dropped.
    pub output: Labels,
    /// Whether the label set is still there.
    pub is_kept: bool,
}

/// Applies rules and tells what each did. Rules behind one that drops do nothing any more.
pub fn steps<'r>(rules: &'r [Rule], labels: &Labels) -> Vec<Step<'r>> {
    let (mut builder, mut is_kept) = (labels.to_builder(), true);
    let mut step = |rule: &'r Rule| {
        is_kept = is_kept && rule.apply(&mut builder);
        let output = if is_kept { builder.build() } else { Labels::empty() };
        Step { rule, output, is_kept }
    };
    rules.iter().map(&mut step).collect()
}

impl Rule {
    /// Applies the rule. `false` means that the label set is dropped.
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        match self.action {
            Action::Keep => return self.pattern.matches(&self.value(labels)),
            Action::Drop => return !self.pattern.matches(&self.value(labels)),
            Action::KeepEqual => return self.is_equal(labels),
            Action::DropEqual => return !self.is_equal(labels),
            Action::Replace => self.replace(labels),
            Action::Lowercase => {
                let value = mapped(&self.value(labels), lower);
                labels.set(&self.target_label, &value);
            }
            Action::Uppercase => {
                let value = mapped(&self.value(labels), upper);
                labels.set(&self.target_label, &value);
            }
            Action::HashMod => {
                let bucket = hash(&self.value(labels)) % self.modulus.max(1);
                labels.set(&self.target_label, &bucket.to_string());
            }
            Action::LabelMap => self.map(labels),
            Action::LabelDrop => {
                labels.retain(|name| !self.pattern.matches(name));
            }
            Action::LabelKeep => {
                labels.retain(|name| self.pattern.matches(name));
            }
        }
        true
    }

    /// Values of the source labels, joined.
    fn value(&self, labels: &LabelsBuilder) -> String {
        let mut value = String::new();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                value.push_str(&self.separator);
            }
            value.push_str(labels.get(name).unwrap_or(""));
        }
        value
    }

    fn is_equal(&self, labels: &LabelsBuilder) -> bool {
        labels.get(&self.target_label).unwrap_or("") == self.value(labels)
    }

    fn replace(&self, labels: &mut LabelsBuilder) {
        let value = self.value(labels);
        let Some(found) = self.pattern.captures(&value) else { return };
        let target = match has_reference(&self.target_label) {
            true => found.expand(&self.target_label),
            false => self.target_label.clone(),
        };
        if self.names.allows(&target) {
            labels.set(&target, &found.expand(&self.replacement));
        }
    }

    /// Copies labels whose names match to the names that the replacement makes of them.
    fn map(&self, labels: &mut LabelsBuilder) {
        let mapped: Vec<_> = labels
            .iter()
            .filter_map(|(name, value)| {
                let found = self.pattern.captures(name)?;
                Some((found.expand(&self.replacement), value.to_owned()))
            })
            .collect();
        for (name, value) in mapped {
            labels.set(&name, &value);
        }
    }
}

/// The last eight bytes of the MD5 sum.
fn hash(value: &str) -> u64 {
    let sum: [u8; 16] = Md5::digest(value.as_bytes()).into();
    let [.., a, b, c, d, e, f, g, h] = sum;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn mapped(text: &str, one: fn(char) -> char) -> String {
    text.chars().map(one).collect()
}

/// One character for one, as Go maps them: where Unicode's full mapping gives several, the simple one.
fn lower(c: char) -> char {
    let mut all = c.to_lowercase();
    match (all.next(), all.next()) {
        (Some(one), None) => one,
        // U+0130, the only one.
        _ => 'i',
    }
}

fn upper(c: char) -> char {
    let mut all = c.to_uppercase();
    match (all.next(), all.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}
