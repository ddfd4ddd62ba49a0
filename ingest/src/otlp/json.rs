//! OTLP/JSON: written as the protobuf it stands for while it is read, so that there is one walk.
//!
//! The mapping is that of protobuf's JSON with OTLP's exceptions: ids are hexadecimal, enumerations
//! are numbers (names are taken too), unknown names are passed over. 64-bit numbers come as text or
//! as numbers.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// What a field holds.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Bool,
    /// A whole number of any width, as varint.
    Integer,
    /// A signed number whose sign is in its lowest bit.
    Zigzag,
    /// Eight bytes, a whole number.
    Fixed,
    /// Four bytes, a whole number.
    Fixed32,
    Double,
    /// Bytes in hexadecimal: trace and span ids.
    Hex,
    /// Bytes in base64.
    Base64,
    /// One of these words, by its number.
    Enum(&'static [&'static str]),
    Message(&'static Schema),
}

/// A field: name, number, what it holds.
type Field = (&'static str, u64, Type);

/// The fields of a message. Messages name each other, so they are known by their addresses.
struct Schema(&'static [Field]);

const TEMPORALITY: Type = Type::Enum(&[
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
]);

static REQUEST: Schema = Schema(&[("resourceMetrics", 1, Type::Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Schema = Schema(&[
    ("resource", 1, Type::Message(&RESOURCE)),
    ("scopeMetrics", 2, Type::Message(&SCOPE_METRICS)),
    ("schemaUrl", 3, Type::Text),
]);
static RESOURCE: Schema = Schema(&[("attributes", 1, Type::Message(&KEY_VALUE))]);
static KEY_VALUE: Schema =
    Schema(&[("key", 1, Type::Text), ("value", 2, Type::Message(&ANY_VALUE))]);
static ANY_VALUE: Schema = Schema(&[
    ("stringValue", 1, Type::Text),
    ("boolValue", 2, Type::Bool),
    ("intValue", 3, Type::Integer),
    ("doubleValue", 4, Type::Double),
    ("arrayValue", 5, Type::Message(&ARRAY)),
    ("kvlistValue", 6, Type::Message(&KEY_VALUES)),
    ("bytesValue", 7, Type::Base64),
]);
static ARRAY: Schema = Schema(&[("values", 1, Type::Message(&ANY_VALUE))]);
static KEY_VALUES: Schema = Schema(&[("values", 1, Type::Message(&KEY_VALUE))]);
static SCOPE_METRICS: Schema = Schema(&[
    ("scope", 1, Type::Message(&SCOPE)),
    ("metrics", 2, Type::Message(&METRIC)),
    ("schemaUrl", 3, Type::Text),
]);
static SCOPE: Schema = Schema(&[
    ("name", 1, Type::Text),
    ("version", 2, Type::Text),
    ("attributes", 3, Type::Message(&KEY_VALUE)),
]);
static METRIC: Schema = Schema(&[
    ("name", 1, Type::Text),
    ("description", 2, Type::Text),
    ("unit", 3, Type::Text),
    ("gauge", 5, Type::Message(&GAUGE)),
    ("sum", 7, Type::Message(&SUM)),
    ("histogram", 9, Type::Message(&HISTOGRAM)),
    ("exponentialHistogram", 10, Type::Message(&EXPONENTIAL)),
    ("summary", 11, Type::Message(&SUMMARY)),
]);
static GAUGE: Schema = Schema(&[("dataPoints", 1, Type::Message(&NUMBER_POINT))]);
static SUM: Schema = Schema(&[
    ("dataPoints", 1, Type::Message(&NUMBER_POINT)),
    ("aggregationTemporality", 2, TEMPORALITY),
    ("isMonotonic", 3, Type::Bool),
]);
static HISTOGRAM: Schema = Schema(&[
    ("dataPoints", 1, Type::Message(&EXPLICIT_POINT)),
    ("aggregationTemporality", 2, TEMPORALITY),
]);
static EXPONENTIAL: Schema = Schema(&[
    ("dataPoints", 1, Type::Message(&EXPONENTIAL_POINT)),
    ("aggregationTemporality", 2, TEMPORALITY),
]);
static SUMMARY: Schema = Schema(&[("dataPoints", 1, Type::Message(&SUMMARY_POINT))]);
static NUMBER_POINT: Schema = Schema(&[
    ("attributes", 7, Type::Message(&KEY_VALUE)),
    ("startTimeUnixNano", 2, Type::Fixed),
    ("timeUnixNano", 3, Type::Fixed),
    ("asDouble", 4, Type::Double),
    ("asInt", 6, Type::Fixed),
    ("exemplars", 5, Type::Message(&EXEMPLAR)),
    ("flags", 8, Type::Integer),
]);
static EXPLICIT_POINT: Schema = Schema(&[
    ("attributes", 9, Type::Message(&KEY_VALUE)),
    ("startTimeUnixNano", 2, Type::Fixed),
    ("timeUnixNano", 3, Type::Fixed),
    ("count", 4, Type::Fixed),
    ("sum", 5, Type::Double),
    ("bucketCounts", 6, Type::Fixed),
    ("explicitBounds", 7, Type::Double),
    ("exemplars", 8, Type::Message(&EXEMPLAR)),
    ("flags", 10, Type::Integer),
]);
static EXPONENTIAL_POINT: Schema = Schema(&[
    ("attributes", 1, Type::Message(&KEY_VALUE)),
    ("startTimeUnixNano", 2, Type::Fixed),
    ("timeUnixNano", 3, Type::Fixed),
    ("count", 4, Type::Fixed),
    ("sum", 5, Type::Double),
    ("scale", 6, Type::Zigzag),
    ("zeroCount", 7, Type::Fixed),
    ("positive", 8, Type::Message(&BUCKETS)),
    ("negative", 9, Type::Message(&BUCKETS)),
    ("flags", 10, Type::Integer),
    ("exemplars", 11, Type::Message(&EXEMPLAR)),
    ("zeroThreshold", 14, Type::Double),
]);
static BUCKETS: Schema = Schema(&[("offset", 1, Type::Zigzag), ("bucketCounts", 2, Type::Integer)]);
static SUMMARY_POINT: Schema = Schema(&[
    ("attributes", 7, Type::Message(&KEY_VALUE)),
    ("startTimeUnixNano", 2, Type::Fixed),
    ("timeUnixNano", 3, Type::Fixed),
    ("count", 4, Type::Fixed),
    ("sum", 5, Type::Double),
    ("quantileValues", 6, Type::Message(&QUANTILE)),
    ("flags", 8, Type::Integer),
]);
static QUANTILE: Schema = Schema(&[("quantile", 1, Type::Double), ("value", 2, Type::Double)]);
static EXEMPLAR: Schema = Schema(&[
    ("filteredAttributes", 7, Type::Message(&KEY_VALUE)),
    ("timeUnixNano", 2, Type::Fixed),
    ("asDouble", 3, Type::Double),
    ("asInt", 6, Type::Fixed),
    ("spanId", 4, Type::Hex),
    ("traceId", 5, Type::Hex),
]);

static LOGS_REQUEST: Schema = Schema(&[("resourceLogs", 1, Type::Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Schema = Schema(&[
    ("resource", 1, Type::Message(&RESOURCE)),
    ("scopeLogs", 2, Type::Message(&SCOPE_LOGS)),
    ("schemaUrl", 3, Type::Text),
]);
static SCOPE_LOGS: Schema = Schema(&[
    ("scope", 1, Type::Message(&SCOPE)),
    ("logRecords", 2, Type::Message(&LOG_RECORD)),
    ("schemaUrl", 3, Type::Text),
]);
static LOG_RECORD: Schema = Schema(&[
    ("timeUnixNano", 1, Type::Fixed),
    ("severityNumber", 2, SEVERITY),
    ("severityText", 3, Type::Text),
    ("body", 5, Type::Message(&ANY_VALUE)),
    ("attributes", 6, Type::Message(&KEY_VALUE)),
    ("flags", 8, Type::Fixed32),
    ("traceId", 9, Type::Hex),
    ("spanId", 10, Type::Hex),
    ("observedTimeUnixNano", 11, Type::Fixed),
    ("eventName", 12, Type::Text),
]);

const SEVERITY: Type = Type::Enum(&[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
]);

/// The protobuf of a request of metrics in JSON, or where it is wrong.
pub(super) fn to_protobuf(json: &[u8]) -> Result<Vec<u8>, String> {
    protobuf_of(&REQUEST, json)
}

/// The protobuf of a request of logs in JSON, or where it is wrong.
pub(crate) fn logs_to_protobuf(json: &[u8]) -> Result<Vec<u8>, String> {
    protobuf_of(&LOGS_REQUEST, json)
}

/// Nesting is bounded by the JSON reader.
fn protobuf_of(schema: &'static Schema, json: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut reader = serde_json::Deserializer::from_slice(json);
    Message { schema, out: &mut out }
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|why| format!("malformed JSON: {why}"))?;
    Ok(out)
}

/// One message, whose fields go to `out`.
struct Message<'o> {
    schema: &'static Schema,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let camel = |c: &str| is_same_name(c, &name);
            match self.schema.0.iter().find(|(known, _, _)| *known == name || camel(known)) {
                Some(field) => {
                    map.next_value_seed(Values { field: *field, out: &mut *self.out })?
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Whether `snake` is the name that the field has in the protobuf file.
fn is_same_name(camel: &str, snake: &str) -> bool {
    if !snake.contains('_') {
        return false;
    }
    let mut snake = snake.chars();
    for c in camel.chars() {
        let expected = match c.is_ascii_uppercase() {
            true if snake.next() != Some('_') => return false,
            true => c.to_ascii_lowercase(),
            false => c,
        };
        if snake.next() != Some(expected) {
            return false;
        }
    }
    snake.next().is_none()
}

/// What follows a field's name: one value, a list of them, or null. JSON does not tell lists of
/// one from single values by the schema, and neither does the wire.
struct Values<'o> {
    field: Field,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Values<'_> {
    fn tag(&mut self, wire_type: u64) {
        model::varint::put(self.out, self.field.1 << 3 | wire_type);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.tag(2);
        model::varint::put(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn fixed(&mut self, bits: u64) {
        self.tag(1);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn varint(&mut self, value: u64) {
        self.tag(0);
        model::varint::put(self.out, value);
    }

    fn whole<E: serde::de::Error>(&mut self, value: i128) -> Result<(), E> {
        let bits = u64::try_from(value).or_else(|_| i64::try_from(value).map(|v| v as u64));
        let bits = bits.map_err(|_| E::custom(format!("{} is out of range", self.field.0)))?;
        match self.field.2 {
            Type::Integer | Type::Enum(_) => self.varint(bits),
            Type::Zigzag => {
                let value = bits as i64;
                self.varint(((value << 1) ^ (value >> 63)) as u64);
            }
            Type::Fixed => self.fixed(bits),
            Type::Fixed32 => {
                let bits = u32::try_from(bits);
                let bits =
                    bits.map_err(|_| E::custom(format!("{} is out of range", self.field.0)))?;
                self.tag(5);
                self.out.extend_from_slice(&bits.to_le_bytes());
            }
            Type::Double => self.fixed((value as f64).to_bits()),
            _ => return Err(E::custom(format!("{} does not take a number", self.field.0))),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", self.field.0)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        match self.field.2 {
            Type::Bool => self.varint(u64::from(value)),
            _ => return Err(E::custom(format!("{} does not take a truth value", self.field.0))),
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        self.whole(i128::from(value))
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.whole(i128::from(value))
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<(), E> {
        match self.field.2 {
            Type::Double => {
                self.fixed(value.to_bits());
                Ok(())
            }
            // `1e3` is a whole number too.
            _ if value.fract() == 0.0 && value.abs() < 9e15 => self.whole(value as i128),
            _ => Err(E::custom(format!("{} is not a whole number", self.field.0))),
        }
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<(), E> {
        use base64::Engine;
        use base64::engine::general_purpose::{
            STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD,
        };
        let name = self.field.0;
        let wrong = |what: &str| E::custom(format!("{name} is not {what}"));
        match self.field.2 {
            Type::Text => self.bytes(text.as_bytes()),
            Type::Hex => {
                let bytes = hex(text).ok_or_else(|| wrong("hexadecimal"))?;
                self.bytes(&bytes);
            }
            Type::Base64 => {
                let decoded = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
                    .iter()
                    .find_map(|e| e.decode(text).ok());
                let bytes = decoded.ok_or_else(|| wrong("base64"))?;
                self.bytes(&bytes);
            }
            Type::Double => {
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    text => text.parse().map_err(|_| wrong("a number"))?,
                };
                self.fixed(value.to_bits());
            }
            Type::Enum(words) => {
                let number = words.iter().position(|word| *word == text);
                let number = number.ok_or_else(|| wrong("one of its words"))?;
                self.varint(number as u64);
            }
            Type::Integer | Type::Zigzag | Type::Fixed | Type::Fixed32 => {
                let value: i128 = text.parse().map_err(|_| wrong("a whole number"))?;
                self.whole(value)?;
            }
            Type::Bool | Type::Message(_) => return Err(wrong("of its type")),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Type::Message(schema) = self.field.2 else {
            return Err(A::Error::custom(format!("{} does not take an object", self.field.0)));
        };
        // The length comes first on the wire and is known last: the message moves to make room
        // for it, once for each level that it is nested.
        self.tag(2);
        let start = self.out.len();
        Message { schema, out: &mut *self.out }.visit_map(map)?;
        let mut length = Vec::with_capacity(5);
        model::varint::put(&mut length, (self.out.len() - start) as u64);
        self.out.splice(start..start, length);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (field, out) = (self.field, self.out);
        while list.next_element_seed(Values { field, out: &mut *out })?.is_some() {}
        Ok(())
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    if !digits.remainder().is_empty() {
        return None;
    }
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|p| !p.starts_with('+'))?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, bytes: &[u8]) {
        assert_eq!(to_protobuf(json.as_bytes()).as_deref(), Ok(bytes));
    }

    #[track_caller]
    fn check_error(json: &str, part: &str) {
        let error = to_protobuf(json.as_bytes()).expect_err("refused");
        assert!(error.contains(part), "{error}");
    }

    /// A metric within all that stands around it.
    fn around(metric: &str) -> String {
        format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}"#)
    }

    fn wrapped(metric: &[u8]) -> Vec<u8> {
        [1, 2, 2].iter().rev().fold(metric.to_vec(), |inner, field| {
            let mut out = vec![field << 3 | 2];
            model::varint::put(&mut out, inner.len() as u64);
            out.extend(inner);
            out
        })
    }

    #[test]
    fn json_becomes_the_protobuf_it_stands_for() {
        check("{}", &[]);
        check(r#"{"unknown":{"a":[1,{"b":null}]},"resourceMetrics":null}"#, &[]);
        let gauge = r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"5","asInt":"-1"},{"asDouble":"NaN"}]}}"#;
        let points = [
            &[0x0a, 1, b'g', 0x2a, 18 + 2 + 9 + 2][..],
            &[0x0a, 18, 0x19],
            &5u64.to_le_bytes(),
            &[0x31],
            &(-1i64).to_le_bytes(),
            &[0x0a, 9, 0x21],
            &f64::NAN.to_le_bytes(),
        ]
        .concat();
        check(&around(gauge), &wrapped(&points));
        let sum = r#"{"sum":{"aggregation_temporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true}}"#;
        check(&around(sum), &wrapped(&[0x3a, 4, 0x10, 2, 0x18, 1]));
        let scale = r#"{"exponentialHistogram":{"dataPoints":[{"scale":-2,"positive":{"offset":1,"bucketCounts":["3",4]}}]}}"#;
        check(
            &around(scale),
            &wrapped(&[0x52, 12, 0x0a, 10, 0x30, 3, 0x42, 6, 0x08, 2, 0x10, 3, 0x10, 4]),
        );
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        check_error("", "EOF");
        check_error("[]", "invalid type: sequence, expected an object");
        check_error("{} x", "trailing characters");
        check_error(&around(r#"{"name":5}"#), "name does not take a number");
        check_error(&around(r#"{"sum":{"isMonotonic":1}}"#), "isMonotonic does not take a number");
        check_error(
            &around(r#"{"sum":{"aggregationTemporality":"X"}}"#),
            "is not one of its words",
        );
        check_error(
            &around(r#"{"gauge":{"dataPoints":[{"asInt":1.5}]}}"#),
            "asInt is not a whole number",
        );
        check_error(
            &around(r#"{"gauge":{"dataPoints":[{"exemplars":[{"traceId":"xy"}]}]}}"#),
            "traceId is not hexadecimal",
        );
        check_error(
            &around(r#"{"gauge":{"dataPoints":[{"asInt":"18446744073709551616"}]}}"#),
            "out of range",
        );
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        check_error(&around(&format!(r#"{{"name":{deep}}}"#)), "recursion limit exceeded");
    }
}
