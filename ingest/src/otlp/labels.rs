//! Label sets: attributes of a data point, its scope and its resource, put together and encoded.
//!
//! Precedence as in Prometheus (`prometheusremotewrite`, `createAttributes`): attributes of the
//! point, whose values are joined where their names fall together; promoted attributes of the
//! resource where nothing is yet; then scope, `job` and `instance` over everything.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use model::METRIC_NAME;

use super::names::LabelNames;
use crate::build::put_label;
use crate::wire::{Reader, WireError};

/// Nesting of attribute values that is followed.
const DEPTH_MAX: usize = 16;

/// One attribute as it came.
#[derive(Debug, Clone)]
pub(crate) struct Attribute<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: Cow<'a, str>,
}

/// A label name: as it came, or translated and shared by all of the request.
#[derive(Debug, Clone)]
pub(super) enum Name<'a> {
    Same(&'a str),
    Built(Arc<str>),
}

impl Name<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Same(name) => name,
            Self::Built(name) => name,
        }
    }
}

/// Labels in order of their names, each once.
pub(super) type LabelList<'a> = Vec<(Name<'a>, Cow<'a, str>)>;

/// Labels that every point of a resource and scope gets.
#[derive(Debug, Default)]
pub(super) struct Base<'a> {
    /// In order of names; with each whether it wins over the point's own.
    labels: Vec<(Name<'a>, Cow<'a, str>, Wins)>,
}

/// Which of two labels of one name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wins {
    Over,
    Under,
}

impl<'a> Base<'a> {
    /// Sets a label. Of two that win the later counts, of two that do not the first.
    pub(super) fn set(&mut self, name: Name<'a>, value: Cow<'a, str>, wins: Wins) {
        match self.labels.binary_search_by(|(n, _, _)| n.as_str().cmp(name.as_str())) {
            Ok(at) if wins == Wins::Over => self.labels[at] = (name, value, wins),
            Ok(_) => {}
            Err(at) => self.labels.insert(at, (name, value, wins)),
        }
    }

    /// A copy, for another scope of the same resource.
    pub(super) fn fork(&self) -> Self {
        Self { labels: self.labels.clone() }
    }

    /// Names and values in order of names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value, _)| (name.as_str(), value.as_ref()))
    }

    /// A point's labels and these.
    pub(super) fn merge(&self, own: &mut LabelList<'a>) {
        for (name, value, wins) in &self.labels {
            match own.binary_search_by(|(n, _)| n.as_str().cmp(name.as_str())) {
                Ok(at) if *wins == Wins::Over => own[at].1 = value.clone(),
                Ok(_) => {}
                Err(at) => own.insert(at, (name.clone(), value.clone())),
            }
        }
    }
}

/// Translated names of one request: attributes repeat from point to point.
#[derive(Debug)]
pub(super) struct NameCache<'a> {
    names: LabelNames,
    built: HashMap<&'a str, Arc<str>>,
}

impl<'a> NameCache<'a> {
    pub(super) fn new(names: LabelNames) -> Self {
        Self { names, built: HashMap::new() }
    }

    /// The label name of an attribute, or why it has none.
    pub(super) fn of(&mut self, key: &'a str) -> Result<Name<'a>, String> {
        if self.names.keeps(key) {
            if key.is_empty() {
                return Err("an attribute has an empty name".to_owned());
            }
            return Ok(Name::Same(key));
        }
        if let Some(known) = self.built.get(key) {
            return Ok(Name::Built(Arc::clone(known)));
        }
        let built: Arc<str> = self.names.of(key)?.into();
        self.built.insert(key, Arc::clone(&built));
        Ok(Name::Built(built))
    }

    /// The label name of a text that is not in the body.
    pub(super) fn build(&self, key: &str) -> Result<String, String> {
        self.names.of(key)
    }

    /// Labels of attributes, in order. Values whose names fall together are joined in the order of
    /// the attributes' own names.
    pub(super) fn labels(
        &mut self,
        attributes: &mut [Attribute<'a>],
        out: &mut LabelList<'a>,
    ) -> Result<(), String> {
        out.clear();
        attributes.sort_by(|a, b| a.key.cmp(b.key));
        for attribute in attributes {
            let (name, value) = (self.of(attribute.key)?, std::mem::take(&mut attribute.value));
            // Names are mostly in the order of their keys.
            if out.last().is_none_or(|(last, _)| last.as_str() < name.as_str()) {
                out.push((name, value));
                continue;
            }
            match out.binary_search_by(|(n, _)| n.as_str().cmp(name.as_str())) {
                Ok(at) => {
                    let joined = out[at].1.to_mut();
                    joined.push(';');
                    joined.push_str(&value);
                }
                Err(at) => out.insert(at, (name, value)),
            }
        }
        Ok(())
    }
}

/// Appends labels in canonical encoding, with the metric's name and maybe one more, which win.
/// Labels without a value are left out, as everywhere.
pub(super) fn encode(
    out: &mut Vec<u8>,
    labels: &LabelList<'_>,
    metric: [&str; 2],
    extra: Option<(&str, &str)>,
) {
    let mut added = [Some((METRIC_NAME, metric)), extra.map(|(name, value)| (name, [value, ""]))];
    if extra.is_some_and(|(name, _)| name < METRIC_NAME) {
        added.swap(0, 1);
    }
    let mut added = added.into_iter().flatten().peekable();
    for (name, value) in labels {
        let name = name.as_str();
        while let Some((n, v)) = added.next_if(|(n, _)| *n < name) {
            put_label(out, n, v);
        }
        match added.next_if(|(n, _)| *n == name) {
            Some((n, v)) => put_label(out, n, v),
            None if value.is_empty() => {}
            None => put_label(out, name, [value, ""]),
        }
    }
    added.for_each(|(n, v)| put_label(out, n, v));
}

/// Text of a message: protobuf says that it is UTF-8.
pub(crate) fn text<'a>(message: &mut Reader<'a>) -> Result<&'a str, WireError> {
    let bytes = message.slice()?;
    std::str::from_utf8(bytes).map_err(|_| message.fail("text is not UTF-8"))
}

/// `KeyValue { key = 1, value = 2 }`.
pub(crate) fn attribute<'a>(mut message: Reader<'a>) -> Result<Attribute<'a>, WireError> {
    let mut attribute = Attribute { key: "", value: Cow::Borrowed("") };
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => attribute.key = text(&mut message)?,
            0x12 => attribute.value = value(message.message()?)?,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    Ok(attribute)
}

/// An attribute's value as text (`pcommon.Value.AsString`): lists and maps as JSON.
pub(crate) fn value<'a>(mut message: Reader<'a>) -> Result<Cow<'a, str>, WireError> {
    let start = message;
    let mut shown = Cow::Borrowed("");
    let mut is_nested = false;
    while !message.is_at_end() {
        let tag = message.varint()?;
        is_nested = matches!(tag, 0x2a | 0x32);
        match tag {
            0x0a => shown = Cow::Borrowed(text(&mut message)?),
            0x10 => shown = Cow::Borrowed(if message.varint()? == 0 { "false" } else { "true" }),
            0x18 => shown = Cow::Owned((message.varint()? as i64).to_string()),
            0x21 => shown = Cow::Owned(json_number(message.double()?)),
            0x3a => shown = Cow::Owned(base64(message.slice()?)),
            0x2a | 0x32 => {
                message.range()?;
            }
            tag => message.skip(tag, &[1, 2, 3, 4, 5, 6, 7])?,
        }
    }
    if is_nested {
        let mut out = String::new();
        json(start, &mut out, 0)?;
        shown = Cow::Owned(out);
    }
    Ok(shown)
}

/// Floats as Go's JSON writes them.
fn json_number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
            _ => text,
        };
    }
    value.to_string()
}

/// `AnyValue` as JSON.
fn json(mut message: Reader<'_>, out: &mut String, depth: usize) -> Result<(), WireError> {
    if depth > DEPTH_MAX {
        return Err(message.fail("attribute value is nested too deeply"));
    }
    let start = out.len();
    while !message.is_at_end() {
        let tag = message.varint()?;
        out.truncate(start);
        match tag {
            0x0a => json_text(text(&mut message)?, out),
            0x10 => out.push_str(if message.varint()? == 0 { "false" } else { "true" }),
            0x18 => out.push_str(&(message.varint()? as i64).to_string()),
            0x21 => out.push_str(&json_number(message.double()?)),
            0x3a => json_text(&base64(message.slice()?), out),
            0x2a => {
                let mut list = message.message()?;
                out.push('[');
                let mut is_first = true;
                while !list.is_at_end() {
                    match list.varint()? {
                        0x0a => {
                            comma(&mut is_first, out);
                            json(list.message()?, out, depth + 1)?;
                        }
                        tag => list.skip(tag, &[1])?,
                    }
                }
                out.push(']');
            }
            0x32 => json_map(message.message()?, out, depth)?,
            tag => message.skip(tag, &[1, 2, 3, 4, 5, 6, 7])?,
        }
    }
    if out.len() == start {
        out.push_str("null");
    }
    Ok(())
}

/// Keys in order, as Go writes maps.
fn json_map(mut map: Reader<'_>, out: &mut String, depth: usize) -> Result<(), WireError> {
    let mut pairs = Vec::new();
    while !map.is_at_end() {
        match map.varint()? {
            0x0a => {
                let mut pair = map.message()?;
                let (mut key, mut shown) = ("", "null".to_owned());
                while !pair.is_at_end() {
                    match pair.varint()? {
                        0x0a => key = text(&mut pair)?,
                        0x12 => {
                            shown.clear();
                            json(pair.message()?, &mut shown, depth + 1)?;
                        }
                        tag => pair.skip(tag, &[1, 2])?,
                    }
                }
                pairs.push((key, shown));
            }
            tag => map.skip(tag, &[1])?,
        }
    }
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    out.push('{');
    let mut is_first = true;
    for (key, shown) in pairs {
        comma(&mut is_first, out);
        json_text(key, out);
        out.push(':');
        out.push_str(&shown);
    }
    out.push('}');
    Ok(())
}

fn comma(is_first: &mut bool, out: &mut String) {
    if !std::mem::take(is_first) {
        out.push(',');
    }
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::names::TranslationStrategy;
    use super::*;

    fn any(field: u8, payload: &[u8]) -> Vec<u8> {
        [&[field << 3 | 2, payload.len() as u8], payload].concat()
    }

    #[track_caller]
    fn check(wire: &[u8], shown: &str) {
        assert_eq!(value(Reader::new(wire)).as_deref(), Ok(shown));
    }

    #[test]
    fn values_are_shown_as_the_collector_shows_them() {
        check(&[], "");
        check(&any(1, b"text \"x\""), "text \"x\"");
        check(&[0x10, 1], "true");
        check(&[0x10, 0], "false");
        let minus_two = [&[0x18][..], &[0xfe], &[0xff; 8], &[1]].concat();
        check(&minus_two, "-2");
        for (number, shown) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (1e21, "1e+21"),
            (-1.5e-7, "-1.5e-7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
            (0.0, "0"),
        ] {
            check(&[&[0x21][..], &f64::to_le_bytes(number)].concat(), shown);
        }
        check(&any(7, &[1, 2, 3]), "AQID");
        let list = any(5, &[any(1, &any(1, b"a\n")), any(1, &[0x18, 5]), any(1, &[])].concat());
        check(&list, r#"["a\n",5,null]"#);
        let pair = |key: &[u8], value: &[u8]| any(1, &[any(1, key), any(2, value)].concat());
        let map = any(6, &[pair(b"b", &list), pair(b"a", &[0x10, 1])].concat());
        check(&map, r#"{"a":true,"b":["a\n",5,null]}"#);
        let mut deep = vec![0x18, 1];
        for _ in 0..20 {
            deep = any(5, &any(1, &deep));
        }
        assert!(value(Reader::new(&deep)).is_err());
    }

    #[test]
    fn labels_are_merged_by_precedence_and_encoded_in_order() {
        let names = LabelNames {
            strategy: TranslationStrategy::UnderscoreEscapingWithSuffixes,
            guards_underscore: true,
            keeps_underscores: true,
        };
        let mut cache = NameCache::new(names);
        let mut own: Vec<Attribute<'_>> = [
            ("b.x", "2"),
            ("b-x", "1"),
            ("job", "mine"),
            ("le", "mine"),
            ("region", "mine"),
            ("A", ""),
        ]
        .map(|(key, value)| Attribute { key, value: Cow::Borrowed(value) })
        .into();
        let mut base = Base::default();
        base.set(Name::Same("job"), "j".into(), Wins::Over);
        base.set(Name::Same("region"), "theirs".into(), Wins::Under);
        base.set(Name::Same("zone"), "z".into(), Wins::Under);
        base.set(Name::Same("zone"), "later".into(), Wins::Under);
        let mut labels = Vec::new();
        cache.labels(&mut own, &mut labels).expect("good names");
        base.merge(&mut labels);
        let mut wire = Vec::new();
        encode(&mut wire, &labels, ["h", "_bucket"], Some(("le", "+Inf")));
        let read = model::Labels::from_wire(&wire).expect("labels");
        let expected =
            r#"{__name__="h_bucket", b_x="1;2", job="j", le="+Inf", region="mine", zone="z"}"#;
        assert_eq!(read.to_string(), expected);
        let mut canonical = Vec::new();
        read.encode(&mut canonical);
        assert_eq!(wire, canonical);
    }
}
