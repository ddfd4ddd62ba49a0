//! YAML as Prometheus' users write it: a tree whose nodes know their places, read strictly.
//!
//! ```text
//! text ─► events (parser) ─► Node tree (aliases resolved, bounded) ─► Fields: each field once, none unknown
//! ```
//!
//! Scalars stay text until somebody asks for a number or a switch, as in Go's YAML: `replacement: 1`
//! is the text `1`.

mod fields;
mod units;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

pub(crate) use fields::Fields;
pub(crate) use units::duration_ms;
pub use units::shown_duration;

/// Nodes of a file, copies by aliases included. A thousand jobs with everything set need a tenth.
const NODES_MAX: usize = 1_000_000;

/// How deep nodes may lie in each other.
const DEPTH_MAX: usize = 64;

/// Length of a file. Bytes.
const TEXT_BYTES_MAX: usize = 32 << 20;

/// Where something stands in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct YamlError {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
}

impl YamlError {
    pub(crate) fn at(place: Place, what: impl Into<String>) -> Self {
        Self { place, what: what.into() }
    }
}

/// A node of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Nothing, or one of the words for it.
    Null,
    /// A text; plain ones may mean numbers and switches.
    Text {
        text: String,
        is_plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(Key, Node)>),
}

/// The name of an entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) name: String,
}

impl Content {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text { .. } => "a value",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Node {
    /// Reads the one document of a text; no document at all is an empty one.
    pub(crate) fn parse(text: &str) -> Result<Self, YamlError> {
        let start = Place { line: 1, column: 1 };
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("the file has {} bytes, at most {TEXT_BYTES_MAX}", text.len());
            return Err(YamlError::at(start, what));
        }
        let mut tree = Tree { open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
        for next in Parser::new_from_str(text) {
            let (event, span) = next.map_err(|e| scan_error(&e))?;
            tree.event(event, place_of(&span))?;
        }
        Ok(tree.root.unwrap_or(Self { place: start, content: Content::Null }))
    }

    /// How many nodes there are here and below.
    fn count(&self) -> usize {
        1 + match &self.content {
            Content::Null | Content::Text { .. } => 0,
            Content::List(nodes) => nodes.iter().map(Self::count).sum(),
            Content::Map(entries) => entries.iter().map(|(_, node)| 1 + node.count()).sum(),
        }
    }

    fn wrong(&self, expected: &str) -> YamlError {
        YamlError::at(self.place, format!("expected {expected}, found {}", self.content.kind()))
    }
}

fn place_of(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn scan_error(error: &ScanError) -> YamlError {
    let marker = error.marker();
    let place = Place { line: marker.line(), column: marker.col() + 1 };
    // The place stands before it already.
    let text = error.to_string();
    let what = text.rsplit_once(" at ").map_or(text.as_str(), |(what, _)| what);
    YamlError::at(place, format!("not YAML: {what}"))
}

/// A tree being built.
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

/// A list or mapping whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key> },
}

impl Tree {
    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                let is_null = is_plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let content = match is_null {
                    true => Content::Null,
                    false => Content::Text { text: text.into_owned(), is_plain },
                };
                self.put(Node { place, content }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(place, anchor, Kind::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                self.open(place, anchor, Kind::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node =
                    node.ok_or_else(|| YamlError::at(place, "alias of what is not whole"))?;
                self.nodes = self.nodes.saturating_add(node.count());
                self.put(Node { place, ..node }, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(YamlError::at(place, "the file holds more than one document"))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, place: Place, anchor: usize, kind: Kind) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(YamlError::at(place, format!("nested deeper than {DEPTH_MAX}")));
        }
        self.open.push(Open { place, anchor, kind });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(Open { place, anchor, kind }) = self.open.pop() else { return Ok(()) };
        let content = match kind {
            Kind::List(nodes) => Content::List(nodes),
            Kind::Map { entries, .. } => Content::Map(merged(entries)?),
        };
        self.put(Node { place, content }, anchor)
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(YamlError::at(node.place, format!("more than {NODES_MAX} nodes")));
        }
        if anchor != 0 {
            self.nodes = self.nodes.saturating_add(node.count());
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::List(nodes)) => nodes.push(node),
            Some(Kind::Map { entries, key }) => match key.take() {
                Some(key) => {
                    if entries.iter().any(|(k, _)| k.name == key.name && k.name != "<<") {
                        let what = format!("field {:?} occurs twice", key.name);
                        return Err(YamlError::at(key.place, what));
                    }
                    entries.push((key, node));
                }
                None => {
                    let Content::Text { text, .. } = node.content else {
                        return Err(node.wrong("a name"));
                    };
                    *key = Some(Key { place: node.place, name: text });
                }
            },
        }
        Ok(())
    }
}

/// Entries with those that `<<` takes over from other mappings; own ones win.
fn merged(entries: Vec<(Key, Node)>) -> Result<Vec<(Key, Node)>, YamlError> {
    if !entries.iter().any(|(key, _)| key.name == "<<") {
        return Ok(entries);
    }
    let (taken, mut own): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(key, _)| key.name == "<<");
    for (_, node) in taken {
        let place = node.place;
        let maps = match node.content {
            Content::Map(entries) => vec![entries],
            Content::List(nodes) => nodes
                .into_iter()
                .map(|node| match node.content {
                    Content::Map(entries) => Ok(entries),
                    _ => Err(YamlError::at(node.place, "<< takes mappings")),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(YamlError::at(place, "<< takes a mapping or a list of them")),
        };
        for (key, node) in maps.into_iter().flatten() {
            if !own.iter().any(|(known, _)| known.name == key.name) {
                own.push((key, node));
            }
        }
    }
    Ok(own)
}
