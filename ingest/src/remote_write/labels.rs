//! Label fields that are over the limits by their count or size alone: which limit, told with the
//! series, without building a label set from them.

use storage::Reason;
use tenancy::Limits;

use crate::wire::Reader;

/// Bytes that the label fields of a series within the limits can have: tags and lengths of a label
/// take at most 16.
pub(crate) fn bytes_max(limits: &Limits) -> usize {
    let label =
        limits.label_name_bytes_max.saturating_add(limits.label_value_bytes_max).saturating_add(16);
    limits.labels_max.saturating_mul(label)
}

/// Which limit a series breaks. It is known to have more than `labels_max` fields or more than
/// [`bytes_max`] bytes; labels with empty values count, senders must not write them.
pub(crate) fn refusal(wire: &[u8], fields: usize, limits: &Limits) -> (Reason, String) {
    let series = shortened(metric_name(wire));
    if fields > limits.labels_max {
        let limit = limits.labels_max;
        return (
            Reason::TooManyLabels,
            format!("series {series} has {fields} labels, the limit is {limit}"),
        );
    }
    for (name, value) in pairs(wire) {
        let (label, bytes, limit) = (shortened(name), name.len(), limits.label_name_bytes_max);
        if bytes > limit {
            let text = format!(
                "label name {label:?} of series {series} has {bytes} bytes, the limit is {limit}"
            );
            return (Reason::LabelNameTooLong, text);
        }
        let (shown, bytes, limit) = (shortened(value), value.len(), limits.label_value_bytes_max);
        if bytes > limit {
            let text = format!(
                "value {shown:?} of label {label:?} of series {series} has {bytes} bytes, the limit is {limit}"
            );
            return (Reason::LabelValueTooLong, text);
        }
    }
    // Neither: the bytes are in unknown fields or repeated ones.
    let (bytes, limit) = (wire.len(), bytes_max(limits));
    (
        Reason::InvalidLabels,
        format!("labels of series {series} have {bytes} bytes, the limit is {limit}"),
    )
}

/// The first 120 bytes or so of what should be text.
pub(crate) fn shortened(bytes: &[u8]) -> String {
    let cut = bytes.len().min(120);
    let dots = if cut < bytes.len() { "…" } else { "" };
    format!("{}{dots}", String::from_utf8_lossy(&bytes[..cut]))
}

fn metric_name(wire: &[u8]) -> &[u8] {
    pairs(wire)
        .find(|(name, _)| *name == model::METRIC_NAME.as_bytes())
        .map_or(b"without name", |(_, value)| value)
}

/// Names and values up to the first malformed field.
fn pairs(wire: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut reader = Reader::new(wire);
    std::iter::from_fn(move || {
        if reader.is_at_end() || reader.varint().ok()? != 0x0a {
            return None;
        }
        let mut label = reader.message().ok()?;
        let (mut name, mut value) = (&b""[..], &b""[..]);
        while !label.is_at_end() {
            match label.varint().ok()? {
                0x0a => name = label.slice().ok()?,
                0x12 => value = label.slice().ok()?,
                tag => label.skip(tag, &[1, 2]).ok()?,
            }
        }
        Some((name, value))
    })
}
