//! `relabel_configs`, `metric_relabel_configs` and `write_relabel_configs`.

use crate::relabel::{NameScheme, Rule, Written};
use crate::yaml::{Content, Fields, Node, YamlError};

/// One rule.
pub(crate) fn rule(node: &Node, names: NameScheme) -> Result<Rule, YamlError> {
    if node.content == Content::Null {
        return Err(YamlError::at(node.place, "empty or null relabeling rule"));
    }
    let mut fields = Fields::of(node, "relabel_config")?;
    let written = Written {
        source_labels: fields.read("source_labels", Node::texts)?,
        separator: fields.read("separator", Node::text)?,
        regex: fields.read("regex", Node::text)?,
        modulus: fields.read("modulus", Node::count_value)?,
        target_label: fields.read("target_label", Node::text)?,
        replacement: fields.read("replacement", Node::text)?,
        action: fields.read("action", Node::text)?,
    };
    fields.done()?;
    Rule::new(written, names).map_err(|e| YamlError::at(node.place, e.to_string()))
}
