//! Groups of targets, as discovery gives them.

use crate::yaml::{Fields, Node, YamlError};

/// Labels being put together: name and value.
pub type Pairs = Vec<(String, String)>;

/// Targets that came from one place and share labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Where they came from: a later group from there takes this one's place.
    pub source: String,
    /// Labels of each target, `__address__` at least.
    pub targets: Vec<Pairs>,
    /// Labels of all of them.
    pub labels: Pairs,
}

/// The label that holds where a target is.
pub(crate) const ADDRESS: &str = "__address__";

impl Group {
    /// A group as `static_configs` and files have it: addresses and labels.
    pub(crate) fn read(node: &Node, source: String) -> Result<Self, YamlError> {
        let mut fields = Fields::of(node, "static config")?;
        let addresses = fields.read("targets", Node::texts)?.unwrap_or_default();
        let labels = fields.read("labels", Node::text_map)?.unwrap_or_default();
        fields.done()?;
        Ok(Self::of(addresses, labels, source))
    }

    /// A group of addresses.
    pub(crate) fn of(addresses: Vec<String>, labels: Pairs, source: String) -> Self {
        let targets = addresses.into_iter().map(|address| vec![(ADDRESS.to_owned(), address)]);
        Self { source, targets: targets.collect(), labels }
    }
}
