//! Label sets and their canonical encoding.
//!
//! Canonical encoding: for each label in order of its name, the protobuf field that a remote-write
//! request holds it in: `0x0a`, length, `0x0a`, length of name, name, `0x12`, length of value,
//! value; lengths as shortest varints. Names are unique, no value is empty.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{SeriesId, varint};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// The label that tells the buckets of a classic histogram apart.
pub const BUCKET_LABEL: &str = "le";

/// The label that tells tenants apart in an answer over several, as in Mimir and Loki.
pub const TENANT_LABEL: &str = "__tenant_id__";

/// A label set: names unique and in byte order, no value empty. Cloning is cheap.
#[derive(Clone)]
pub struct Labels(Arc<Inner>);

struct Inner {
    /// All names and values, one after the other.
    text: Box<str>,
    /// Where each name and each value ends in `text`, in turn.
    ends: Box<[u32]>,
}

impl Labels {
    /// The set without labels.
    pub fn empty() -> Self {
        Self(Arc::new(Inner { text: "".into(), ends: Box::default() }))
    }

    /// From pairs in any order. An empty value means that the label is absent; of a repeated name
    /// the last value counts.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// The same with one more label, or with another value of it; `value` is not empty.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let before = self.iter().take_while(|(own, _)| *own < name);
        let after = self.iter().skip_while(|(own, _)| *own <= name);
        Self::from_sorted(before.chain([(name, value)]).chain(after))
    }

    /// Pairs in order of their names.
    pub fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&str, &str)> + ExactSizeIterator + Clone {
        (0..self.len()).map(|i| self.pair(i))
    }

    fn pair(&self, i: usize) -> (&str, &str) {
        let ends = &self.0.ends;
        let start = if i == 0 { 0 } else { ends[2 * i - 1] as usize };
        let middle = ends[2 * i] as usize;
        let end = ends[2 * i + 1] as usize;
        (&self.0.text[start..middle], &self.0.text[middle..end])
    }

    /// The value of a label, if it is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        // Sets have a dozen labels: comparing in order beats a binary search over cold slices.
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The metric name, empty if there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Whether two series are buckets of one classic histogram, or the same: their labels differ
    /// in nothing but the bucket.
    pub fn is_family_of(&self, other: &Self) -> bool {
        self.len() == other.len() && self.without_bucket().eq(other.without_bucket())
    }

    /// The order of stored series: by metric name, then all labels but the bucket, then the bucket,
    /// so that the buckets of one histogram follow one another.
    pub fn stored_order(&self, other: &Self) -> std::cmp::Ordering {
        let names = self.metric_name().cmp(other.metric_name());
        names
            .then_with(|| self.without_bucket().cmp(other.without_bucket()))
            .then_with(|| self.get(BUCKET_LABEL).cmp(&other.get(BUCKET_LABEL)))
    }

    fn without_bucket(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(name, _)| *name != BUCKET_LABEL)
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.ends.len() / 2
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// A builder that starts from these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// Bytes on the heap, for memory budgets.
    pub fn heap_bytes(&self) -> usize {
        self.0.text.len() + self.0.ends.len() * 4 + 48
    }

    /// Appends the canonical encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            let inner = 2
                + varint_length(name.len())
                + name.len()
                + varint_length(value.len())
                + value.len();
            out.push(0x0a);
            varint::put(out, inner as u64);
            out.push(0x0a);
            varint::put(out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
            out.push(0x12);
            varint::put(out, value.len() as u64);
            out.extend_from_slice(value.as_bytes());
        }
    }

    /// The id of the series with these labels.
    pub fn series_id(&self) -> SeriesId {
        let mut encoded = Vec::with_capacity(self.0.text.len() + self.0.ends.len() * 4);
        self.encode(&mut encoded);
        SeriesId::of_encoded(&encoded)
    }

    /// Reads label fields as a sender wrote them: any order, lengths in any form, labels with an
    /// empty value left out. Fails on repeated names, missing names, bytes that are not UTF-8 and
    /// malformed protobuf; unknown fields inside a label are skipped.
    pub fn from_wire(mut wire: &[u8]) -> Result<Self, LabelsError> {
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(16);
        while !wire.is_empty() {
            if varint::take(&mut wire) != Some(0x0a) {
                return Err(LabelsError::Malformed);
            }
            let (name, value) = one_from_wire(take_bytes(&mut wire)?)?;
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            if !value.is_empty() {
                pairs.push((name, value));
            }
        }
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            pairs.sort_by(|a, b| a.0.cmp(b.0));
            if let Some(twice) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
                return Err(LabelsError::Repeated(twice[0].0.to_owned()));
            }
        }
        Ok(Self::from_sorted(pairs.iter().copied()))
    }

    /// From pairs that are already in order, unique and with non-empty values; nothing is checked.
    pub fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        debug_assert!(
            pairs.clone().map(|(n, _)| n).is_sorted_by(|a, b| a < b),
            "names in order and unique"
        );
        debug_assert!(pairs.clone().all(|(_, v)| !v.is_empty()), "no value is empty");
        let (bytes, count) =
            pairs.clone().fold((0, 0), |(b, c), (n, v)| (b + n.len() + v.len(), c + 1));
        let mut text = String::with_capacity(bytes);
        let mut ends = Vec::with_capacity(2 * count);
        for (name, value) in pairs {
            text.push_str(name);
            ends.push(text.len() as u32);
            text.push_str(value);
            ends.push(text.len() as u32);
        }
        Self(Arc::new(Inner { text: text.into_boxed_str(), ends: ends.into_boxed_slice() }))
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

fn varint_length(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn take_bytes<'a>(wire: &mut &'a [u8]) -> Result<&'a [u8], LabelsError> {
    let length = varint::take(wire).ok_or(LabelsError::Malformed)?;
    let length = usize::try_from(length).map_err(|_| LabelsError::Malformed)?;
    let (bytes, rest) = wire.split_at_checked(length).ok_or(LabelsError::Malformed)?;
    *wire = rest;
    Ok(bytes)
}

fn one_from_wire(mut label: &[u8]) -> Result<(&str, &str), LabelsError> {
    let (mut name, mut value) = ("", "");
    while !label.is_empty() {
        match varint::take(&mut label).ok_or(LabelsError::Malformed)? {
            0x0a => name = text(take_bytes(&mut label)?)?,
            0x12 => value = text(take_bytes(&mut label)?)?,
            tag => skip_field(&mut label, tag)?,
        }
    }
    Ok((name, value))
}

fn skip_field(wire: &mut &[u8], tag: u64) -> Result<(), LabelsError> {
    let fixed = match tag & 7 {
        0 => return varint::take(wire).map(|_| ()).ok_or(LabelsError::Malformed),
        2 => return take_bytes(wire).map(|_| ()),
        1 => 8,
        5 => 4,
        _ => return Err(LabelsError::Malformed),
    };
    *wire = wire.get(fixed..).ok_or(LabelsError::Malformed)?;
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, LabelsError> {
    std::str::from_utf8(bytes)
        .map_err(|_| LabelsError::NotUtf8(String::from_utf8_lossy(bytes).into_owned()))
}

/// Why label bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// Not protobuf, or cut short.
    #[error("malformed label")]
    Malformed,
    /// A label without a name.
    #[error("label with an empty name")]
    EmptyName,
    /// The same name twice.
    #[error("label name {0:?} occurs twice")]
    Repeated(String),
    /// Bytes that are not text.
    #[error("label text {0:?} is not valid UTF-8")]
    NotUtf8(String),
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.ends == other.0.ends && self.0.text == other.0.text)
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
        self.0.ends.hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Pair by pair, names before values, as Prometheus sorts answers (`labels.Compare`).
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.iter().cmp(other.iter())
    }
}

/// `{__name__="up", job="node"}`, values escaped.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Labels being changed.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    /// Sorted by name, unique.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) if value.is_empty() => drop(self.pairs.remove(i)),
            Ok(i) => value.clone_into(&mut self.pairs[i].1),
            Err(_) if value.is_empty() => {}
            Err(i) => self.pairs.insert(i, (name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Sets labels one after the other, as [`set`](Self::set) does.
    pub fn set_all<'p>(&mut self, pairs: impl IntoIterator<Item = (&'p str, &'p str)>) {
        for (name, value) in pairs {
            self.set(name, value);
        }
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// Keeps only the labels for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) -> &mut Self {
        self.pairs.retain(|(name, _)| keep(name));
        self
    }

    /// Pairs in order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value set so far.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name));
        found.ok().map(|i| self.pairs[i].1.as_str())
    }

    /// The label set.
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in pairs {
            let mut label = vec![0x0a, name.len() as u8];
            label.extend(name.bytes());
            label.extend([0x12, value.len() as u8]);
            label.extend(value.bytes());
            out.extend([0x0a, label.len() as u8]);
            out.extend(label);
        }
        out
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], shown: &str) {
        let read =
            Labels::from_wire(&wire(pairs)).map_or_else(|e| e.to_string(), |l| l.to_string());
        assert_eq!(read, shown);
    }

    #[test]
    fn labels_are_read_from_the_wire() {
        check(&[], "{}");
        check(&[("__name__", "up"), ("job", "a\"b")], r#"{__name__="up", job="a\"b"}"#);
        check(&[("b", "2"), ("a", "1")], r#"{a="1", b="2"}"#);
        check(&[("a", ""), ("b", "2")], r#"{b="2"}"#);
        check(&[("a", "1"), ("a", "2")], r#"label name "a" occurs twice"#);
        check(&[("", "1")], "label with an empty name");
        assert_eq!(Labels::from_wire(&[0x0a, 9, 1]), Err(LabelsError::Malformed));
        assert!(matches!(
            Labels::from_wire(&[0x0a, 5, 0x0a, 1, 0xff, 0x12, 0]),
            Err(LabelsError::NotUtf8(_))
        ));
    }

    #[test]
    fn the_canonical_encoding_is_what_a_sorted_sender_writes() {
        let long = "v".repeat(300);
        let labels = Labels::from_pairs([("job", "node"), ("__name__", "up"), ("long", &long)]);
        let mut encoded = Vec::new();
        labels.encode(&mut encoded);
        assert_eq!(Labels::from_wire(&encoded).expect("canonical bytes"), labels);
        assert_eq!(labels.series_id(), SeriesId::of_encoded(&encoded));
        let short = wire(&[("__name__", "up"), ("job", "node")]);
        let from_pairs = Labels::from_pairs([("job", "node"), ("__name__", "up")]);
        assert_eq!(from_pairs.series_id(), SeriesId::of_encoded(&short));
    }

    #[test]
    fn order_is_by_pairs() {
        let order = [
            Labels::empty(),
            Labels::from_pairs([("a", "1")]),
            Labels::from_pairs([("a", "1"), ("b", "1")]),
            Labels::from_pairs([("a", "10")]),
            Labels::from_pairs([("aa", "0")]),
        ];
        assert!(order.is_sorted());
        assert_eq!(order[2].get("b"), Some("1"));
        assert_eq!(order[2].to_builder().remove("b").build(), order[1]);
        assert_eq!(order[1].with("b", "1"), order[2]);
        assert_eq!(order[2].with("a", "10").with("b", "2").to_string(), r#"{a="10", b="2"}"#);
        assert_eq!(order[1].with("__tenant_id__", "t").len(), 2);
    }
}
