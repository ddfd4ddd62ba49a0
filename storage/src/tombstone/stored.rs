//! Tombstones as JSON: the same in manifests and in the payload of a log record.

use std::sync::Arc;

use model::{MatchOp, Matcher, Position, TimeRange};
use serde::{Deserialize, Serialize};
use tenancy::TenantId;

use super::Tombstone;

/// What is stored of one. A log record leaves the position out: it is the record's own.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: u64,
    tenant: u32,
    /// Operator, label name, value.
    matchers: Vec<(String, String, String)>,
    /// First and last instant.
    range: (i64, i64),
    #[serde(default, skip_serializing_if = "is_zero")]
    position: u64,
    created_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    only: Option<String>,
}

fn is_zero(position: &u64) -> bool {
    *position == 0
}

impl Tombstone {
    /// The body of its log record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let stored = Stored { position: 0, ..Stored::from(self) };
        serde_json::to_vec(&stored).expect("numbers and texts are always JSON")
    }

    /// From the body of a log record.
    pub(crate) fn decode(body: &[u8], position: Position) -> Result<Self, String> {
        let stored: Stored = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        Self::try_from(Stored { position: position.0, ..stored })
    }
}

impl From<&Tombstone> for Stored {
    fn from(tombstone: &Tombstone) -> Self {
        let text = |m: &Matcher| (m.op().to_string(), m.name().to_owned(), m.value().to_owned());
        Self {
            id: tombstone.id,
            tenant: tombstone.tenant.0,
            matchers: tombstone.matchers.iter().map(text).collect(),
            range: (tombstone.range.start_ms, tombstone.range.end_ms),
            position: tombstone.position.0,
            created_ms: tombstone.created_ms,
            only: tombstone.only.map(|one| one.as_str().to_owned()),
        }
    }
}

impl TryFrom<Stored> for Tombstone {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let matchers = stored.matchers.into_iter().map(|(op, name, value)| {
            let op = match op.as_str() {
                "=" => MatchOp::Equal,
                "!=" => MatchOp::NotEqual,
                "=~" => MatchOp::Regex,
                "!~" => MatchOp::NotRegex,
                other => return Err(format!("unknown operator {other:?} of a matcher")),
            };
            Matcher::new(op, name, value).map_err(|e| format!("matcher: {e}"))
        });
        Ok(Self {
            id: stored.id,
            tenant: TenantId(stored.tenant),
            matchers: matchers.collect::<Result<_, _>>()?,
            range: TimeRange { start_ms: stored.range.0, end_ms: stored.range.1 },
            position: Position(stored.position),
            created_ms: stored.created_ms,
            only: stored.only.map(|one| one.parse()).transpose()?,
        })
    }
}

/// A list of tombstones in a manifest.
pub(crate) mod list {
    use super::*;
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        tombstones: &[Arc<Tombstone>],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(tombstones.iter().map(|t| Stored::from(t.as_ref())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Arc<Tombstone>>, D::Error> {
        let stored = Vec::<Stored>::deserialize(from)?;
        let read = |one| Tombstone::try_from(one).map(Arc::new).map_err(D::Error::custom);
        stored.into_iter().map(read).collect()
    }
}
