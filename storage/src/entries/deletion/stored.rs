//! Deletions of entries as JSON: the same in manifests and in the payload of a log record.

use std::sync::Arc;

use model::{Level, MatchOp, Matcher, Position, Signal};
use serde::{Deserialize, Serialize};
use tenancy::TenantId;

use super::EntryTombstone;
use crate::entries::condition::{EntryFilter, LineCondition, LineTest};

/// The first byte of a log record's payload.
const VERSION: u8 = 1;

/// What is stored of one. A log record leaves the position out: it is the record's own.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    tenant: u32,
    signals: Vec<String>,
    /// Operator, name, value: of labels.
    matchers: Vec<(String, String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lines: Vec<StoredLines>,
    /// Of fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<(String, String, String)>,
    /// Of labels, fields or the level's word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    named: Vec<(String, String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level_min: Option<u8>,
    /// First instant, and the one behind the last.
    range_ns: (i64, i64),
    #[serde(default, skip_serializing_if = "is_zero")]
    position: u64,
    created_ms: i64,
}

/// A condition on lines.
#[derive(Serialize, Deserialize)]
struct StoredLines {
    /// What kind of test, and its text.
    any: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "is_false")]
    negative: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    ignores_case: bool,
}

fn is_zero(position: &u64) -> bool {
    *position == 0
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

impl EntryTombstone {
    /// The payload of its log record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let stored = Stored { position: 0, ..Stored::from(self) };
        let json = serde_json::to_vec(&stored).expect("numbers and texts are always JSON");
        [&[VERSION], json.as_slice()].concat()
    }

    /// From the payload of a log record.
    pub(crate) fn decode(payload: &[u8], position: Position) -> Result<Self, String> {
        let Some((&VERSION, json)) = payload.split_first() else {
            return Err("a deletion of entries of an unknown version".to_owned());
        };
        let stored: Stored = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        Self::try_from(Stored { position: position.0, ..stored })
    }
}

fn texts_of(matchers: &[Matcher]) -> Vec<(String, String, String)> {
    let text = |m: &Matcher| (m.op().to_string(), m.name().to_owned(), m.value().to_owned());
    matchers.iter().map(text).collect()
}

fn matchers_of(texts: Vec<(String, String, String)>) -> Result<Vec<Matcher>, String> {
    let matchers = texts.into_iter().map(|(op, name, value)| {
        let op = match op.as_str() {
            "=" => MatchOp::Equal,
            "!=" => MatchOp::NotEqual,
            "=~" => MatchOp::Regex,
            "!~" => MatchOp::NotRegex,
            other => return Err(format!("unknown operator {other:?} of a matcher")),
        };
        Matcher::new(op, name, value).map_err(|e| format!("matcher: {e}"))
    });
    matchers.collect()
}

impl From<&LineCondition> for StoredLines {
    fn from(condition: &LineCondition) -> Self {
        let text = |test: &LineTest| match test {
            LineTest::Contains(text) => ("contains".to_owned(), text.clone()),
            LineTest::Words(text) => ("words".to_owned(), text.clone()),
            LineTest::Regex(text) => ("regex".to_owned(), text.clone()),
        };
        Self {
            any: condition.any.iter().map(text).collect(),
            negative: condition.is_negative,
            ignores_case: condition.ignores_case,
        }
    }
}

impl TryFrom<StoredLines> for LineCondition {
    type Error = String;

    fn try_from(stored: StoredLines) -> Result<Self, String> {
        let tests = stored.any.into_iter().map(|(kind, text)| match kind.as_str() {
            "contains" => Ok(LineTest::Contains(text)),
            "words" => Ok(LineTest::Words(text)),
            "regex" => Ok(LineTest::Regex(text)),
            other => Err(format!("unknown test {other:?} of lines")),
        });
        Ok(Self {
            any: tests.collect::<Result<_, _>>()?,
            is_negative: stored.negative,
            ignores_case: stored.ignores_case,
        })
    }
}

impl From<&EntryTombstone> for Stored {
    fn from(tombstone: &EntryTombstone) -> Self {
        let EntryFilter { lines, fields, named, level_name, level_min } = &tombstone.filter;
        Self {
            id: tombstone.id,
            text: tombstone.text.clone(),
            tenant: tombstone.tenant.0,
            signals: tombstone.signals.iter().map(|s| s.as_str().to_owned()).collect(),
            matchers: texts_of(&tombstone.matchers),
            lines: lines.iter().map(StoredLines::from).collect(),
            fields: texts_of(fields),
            named: texts_of(named),
            level_name: level_name.clone(),
            level_min: level_min.map(|level| level as u8),
            range_ns: tombstone.range_ns,
            position: tombstone.position.0,
            created_ms: tombstone.created_ms,
        }
    }
}

impl TryFrom<Stored> for EntryTombstone {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let signals = stored.signals.into_iter().map(|name| {
            let known = Signal::ALL.into_iter().find(|signal| signal.as_str() == name);
            known.ok_or_else(|| format!("unknown signal {name:?}"))
        });
        let level =
            |byte: u8| Level::from_stored(byte).ok_or_else(|| format!("unknown level {byte}"));
        let lines = stored.lines.into_iter().map(LineCondition::try_from);
        Ok(Self {
            id: stored.id,
            text: stored.text,
            tenant: TenantId(stored.tenant),
            signals: signals.collect::<Result<_, _>>()?,
            matchers: matchers_of(stored.matchers)?,
            filter: EntryFilter {
                lines: lines.collect::<Result<_, _>>()?,
                fields: matchers_of(stored.fields)?,
                named: matchers_of(stored.named)?,
                level_name: stored.level_name,
                level_min: stored.level_min.map(level).transpose()?,
            },
            range_ns: stored.range_ns,
            position: Position(stored.position),
            created_ms: stored.created_ms,
        })
    }
}

/// A list of deletions in a manifest.
pub(crate) mod list {
    use super::*;
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        tombstones: &[Arc<EntryTombstone>],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(tombstones.iter().map(|t| Stored::from(t.as_ref())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Arc<EntryTombstone>>, D::Error> {
        let stored = Vec::<Stored>::deserialize(from)?;
        let read = |one| EntryTombstone::try_from(one).map(Arc::new).map_err(D::Error::custom);
        stored.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone() -> EntryTombstone {
        let lines = |test, is_negative| LineCondition {
            any: vec![test, LineTest::Words("a b".to_owned())],
            is_negative,
            ignores_case: !is_negative,
        };
        EntryTombstone {
            id: 7,
            text: "{app=\"é\"}".to_owned(),
            tenant: TenantId(3),
            signals: vec![Signal::Logs, Signal::Audits],
            matchers: vec![Matcher::equal("app", "é\n")],
            filter: EntryFilter {
                lines: vec![
                    lines(LineTest::Contains("x".to_owned()), false),
                    lines(LineTest::Regex("y+".to_owned()), true),
                ],
                fields: vec![Matcher::equal("verb", "delete")],
                named: vec![Matcher::equal("detected_level", "info")],
                level_name: Some("detected_level".to_owned()),
                level_min: Some(Level::Warn),
            },
            range_ns: (i64::MIN, i64::MAX),
            position: Position(u64::MAX),
            created_ms: -5,
        }
    }

    #[test]
    fn deletions_come_back_from_the_log() {
        let mut one = tombstone();
        assert_eq!(EntryTombstone::decode(&one.encode(), one.position), Ok(one.clone()));
        one.filter = EntryFilter::default();
        assert_eq!(EntryTombstone::decode(&one.encode(), one.position), Ok(one.clone()));
        let payload = one.encode();
        for end in 0..payload.len() {
            assert!(EntryTombstone::decode(&payload[..end], one.position).is_err(), "{end}");
        }
    }

    #[track_caller]
    fn refused(from: &str, to: &str, reason: &str) {
        let text = String::from_utf8(tombstone().encode()).expect("JSON");
        assert!(text.contains(from), "{text}");
        let changed = text.replace(from, to);
        let error = EntryTombstone::decode(changed.as_bytes(), Position(1)).expect_err("refused");
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        refused("\"audits\"", "\"traces\"", "unknown signal \"traces\"");
        refused("\"contains\"", "\"fuzzy\"", "unknown test \"fuzzy\"");
        refused("\"level_min\":4", "\"level_min\":40", "unknown level 40");
        refused("[\"=\",\"verb\"", "[\"~\",\"verb\"", "unknown operator \"~\"");
    }
}
