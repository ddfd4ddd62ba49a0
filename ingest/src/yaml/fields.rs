//! Reading nodes: every field is taken at most once, and what nobody took is an error that names it.

use super::units::{bytes, duration_ms};
use super::{Content, Key, Node, Place, YamlError};

/// The fields of one mapping.
#[derive(Debug, Default)]
pub(crate) struct Fields<'n> {
    /// What the mapping describes, for messages.
    what: &'static str,
    place: Place,
    rest: Vec<&'n (Key, Node)>,
}

impl<'n> Fields<'n> {
    /// The fields of a mapping; nothing is a mapping without fields.
    pub(crate) fn of(node: &'n Node, what: &'static str) -> Result<Self, YamlError> {
        let rest = match &node.content {
            Content::Null => Vec::new(),
            Content::Map(entries) => entries.iter().collect(),
            _ => return Err(node.wrong(&format!("a mapping for {what}"))),
        };
        Ok(Self { what, place: node.place, rest })
    }

    /// Where the mapping stands.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// A field's node, if the field is there and not empty.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'n Node> {
        let at = self.rest.iter().position(|(key, _)| key.name == name)?;
        let (_, node) = self.rest.remove(at);
        (node.content != Content::Null).then_some(node)
    }

    /// A field read by `read`.
    pub(crate) fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'n Node) -> Result<T, YamlError>,
    ) -> Result<Option<T>, YamlError> {
        let node = self.take(name).map(read).transpose();
        node.map_err(|e| YamlError::at(e.place, named(name, e.what)))
    }

    /// A text, empty if it is not there.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, YamlError> {
        Ok(self.read(name, Node::text)?.unwrap_or_default())
    }

    /// A number of things, 0 if it is not there.
    pub(crate) fn count(&mut self, name: &str, default: u64) -> Result<u64, YamlError> {
        Ok(self.read(name, Node::count_value)?.unwrap_or(default))
    }

    /// Elements of a list, each read by `read`; none if it is not there.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        read: impl Fn(&'n Node) -> Result<T, YamlError>,
    ) -> Result<Vec<T>, YamlError> {
        let read = |node: &'n Node| node.list()?.iter().map(&read).collect();
        Ok(self.read(name, read)?.unwrap_or_default())
    }

    /// The fields that nobody has taken yet.
    pub(crate) fn rest(&self) -> impl Iterator<Item = &'n Key> {
        self.rest.iter().map(|(key, _)| key)
    }

    /// Nothing may be left.
    pub(crate) fn done(self) -> Result<(), YamlError> {
        match self.rest.first() {
            None => Ok(()),
            Some((key, _)) => {
                let what = format!("field {} not found in {}", key.name, self.what);
                Err(YamlError::at(key.place, what))
            }
        }
    }
}

/// The field goes before what is wrong with it, once.
fn named(field: &str, what: String) -> String {
    if what.starts_with("field ") { what } else { format!("{field}: {what}") }
}

impl Node {
    /// A text; numbers and switches are what they are written as.
    pub(crate) fn text(&self) -> Result<String, YamlError> {
        match &self.content {
            Content::Text { text, .. } => Ok(text.clone()),
            Content::Null => Ok(String::new()),
            _ => Err(self.wrong("a text")),
        }
    }

    fn plain(&self, expected: &str) -> Result<&str, YamlError> {
        match &self.content {
            Content::Text { text, is_plain: true } => Ok(text),
            Content::Text { text, .. } => {
                Err(YamlError::at(self.place, format!("expected {expected}, found {text:?}")))
            }
            _ => Err(self.wrong(expected)),
        }
    }

    /// A switch, by any of the words of YAML 1.1.
    pub(crate) fn switch(&self) -> Result<bool, YamlError> {
        let text = self.plain("true or false")?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Ok(true),
            "false" | "no" | "off" | "n" => Ok(false),
            _ => Err(YamlError::at(self.place, format!("expected true or false, found {text:?}"))),
        }
    }

    /// A number of things.
    pub(crate) fn count_value(&self) -> Result<u64, YamlError> {
        let text = self.plain("a whole number")?;
        text.replace('_', "").parse().map_err(|_| {
            YamlError::at(self.place, format!("expected a whole number from 0, found {text:?}"))
        })
    }

    /// A number.
    pub(crate) fn float(&self) -> Result<f64, YamlError> {
        let text = self.plain("a number")?;
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
        number
            .ok_or_else(|| YamlError::at(self.place, format!("expected a number, found {text:?}")))
    }

    /// A duration as Prometheus writes it, in milliseconds.
    pub(crate) fn duration(&self) -> Result<i64, YamlError> {
        let text = self.text()?;
        duration_ms(&text).map_err(|why| YamlError::at(self.place, why))
    }

    /// A size as Prometheus writes it, in bytes.
    pub(crate) fn size(&self) -> Result<u64, YamlError> {
        let text = self.text()?;
        bytes(&text).map_err(|why| YamlError::at(self.place, why))
    }

    /// Elements of a list.
    pub(crate) fn list(&self) -> Result<&[Node], YamlError> {
        match &self.content {
            Content::List(nodes) => Ok(nodes),
            Content::Null => Ok(&[]),
            _ => Err(self.wrong("a list")),
        }
    }

    /// Texts of a list.
    pub(crate) fn texts(&self) -> Result<Vec<String>, YamlError> {
        self.list()?.iter().map(Self::text).collect()
    }

    /// Entries of a mapping.
    pub(crate) fn entries(&self) -> Result<&[(Key, Node)], YamlError> {
        match &self.content {
            Content::Map(entries) => Ok(entries),
            Content::Null => Ok(&[]),
            _ => Err(self.wrong("a mapping")),
        }
    }

    /// Texts by name.
    pub(crate) fn text_map(&self) -> Result<Vec<(String, String)>, YamlError> {
        let pair = |(key, node): &(Key, Node)| {
            let text = node.text().map_err(|e| YamlError::at(e.place, named(&key.name, e.what)))?;
            Ok((key.name.clone(), text))
        };
        self.entries()?.iter().map(pair).collect()
    }
}
