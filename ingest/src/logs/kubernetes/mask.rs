//! Secrets in audit records: the objects that a request carried are recorded whole, and whoever may
//! read audit records need not be allowed to read those.

use std::ops::Range;

use memchr::memmem;

use crate::logs::json::{Json, JsonError, Value};

/// What stands in the place of a secret.
const MASK: &[u8] = b"***";

/// Whether texts under a name are secret in any object: names that end so, in any case.
fn is_secret_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let ends = ["password", "passwd", "token", "secretkey", "clientsecret", "privatekey", "apikey"];
    ends.iter().any(|end| lower.ends_with(end.as_bytes()))
}

/// Where the content of a `Secret` stands. The annotation holds what was applied, content and all.
const OF_SECRETS: [&[u8]; 3] =
    [b"data", b"stringData", b"kubectl.kubernetes.io/last-applied-configuration"];

/// The record with secrets masked; `None` if there are none.
pub(super) fn secrets(record: &[u8], resource: &str) -> Option<Vec<u8>> {
    let kinds: [&[u8]; 2] = [br#""kind":"Secret"#, br#""kind": "Secret"#];
    let is_secret = resource.eq_ignore_ascii_case("secrets")
        || kinds.iter().any(|kind| memmem::find(record, kind).is_some());
    let mut found = Found { record, is_secret, places: Vec::new() };
    // What is not JSON was refused before.
    found.record().ok()?;
    if found.places.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(record.len());
    let mut from = 0;
    for place in found.places {
        out.extend_from_slice(&record[from..place.start]);
        out.extend_from_slice(MASK);
        from = place.end;
    }
    out.extend_from_slice(&record[from..]);
    Some(out)
}

struct Found<'a> {
    record: &'a [u8],
    /// Whether the objects are secrets.
    is_secret: bool,
    /// Where secret texts lie, in order.
    places: Vec<Range<usize>>,
}

impl<'a> Found<'a> {
    fn record(&mut self) -> Result<(), JsonError> {
        let mut json = Json::new(self.record);
        let mut is_first = true;
        json.object()?;
        while let Some(name) = json.key(&mut is_first)? {
            let bodies: [&[u8]; 2] = [b"requestObject", b"responseObject"];
            match bodies.iter().any(|body| name.raw.eq_ignore_ascii_case(body)) {
                true => self.value(&mut json, false, 0)?,
                false => drop(json.skip()?),
            }
        }
        Ok(())
    }

    /// Looks through a value; texts in it are secret if `is_masked`. Whoever nests more deeply than
    /// the reader follows is refused before.
    fn value(
        &mut self,
        json: &mut Json<'a>,
        is_masked: bool,
        depth: usize,
    ) -> Result<(), JsonError> {
        if depth > crate::logs::json::DEPTH_MAX {
            return json.skip().map(drop);
        }
        match json.value()? {
            Value::Text(text) if is_masked && !text.raw.is_empty() => {
                let start = text.raw.as_ptr() as usize - self.record.as_ptr() as usize;
                self.places.push(start..start + text.raw.len());
            }
            Value::Object => {
                let mut is_first = true;
                while let Some(name) = json.key(&mut is_first)? {
                    let is_content = self.is_secret && OF_SECRETS.contains(&name.raw);
                    let is_masked = is_masked || is_content || is_secret_name(name.raw);
                    self.value(json, is_masked, depth + 1)?;
                }
            }
            Value::Array => {
                let mut is_first = true;
                while json.element(&mut is_first)? {
                    self.value(json, is_masked, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resource: &str, record: &str, masked: Option<&str>) {
        let found = secrets(record.as_bytes(), resource);
        let found = found.map(|bytes| String::from_utf8(bytes).expect("text"));
        assert_eq!(found.as_deref(), masked);
    }

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        let secret = r#"{"verb":"create","requestObject":{"kind":"Secret","data":{"a":"eHk=","b":"","n":5},"stringData":{"c":["x",{"d":"y"}]},"metadata":{"name":"s","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":1}","x":"data"}}}}"#;
        let masked = r#"{"verb":"create","requestObject":{"kind":"Secret","data":{"a":"***","b":"","n":5},"stringData":{"c":["***",{"d":"***"}]},"metadata":{"name":"s","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"***","x":"data"}}}}"#;
        check("secrets", secret, Some(masked));
        check("lists", secret, Some(masked));
        let map = r#"{"requestObject":{"kind":"ConfigMap","data":{"a":"b"}}}"#;
        check("configmaps", map, None);
        let user = r#"{"RequestObject":{"spec":{"Password":"p","accessToken":["t"],"email":"e"}},"password":"outside"}"#;
        let masked = r#"{"RequestObject":{"spec":{"Password":"***","accessToken":["***"],"email":"e"}},"password":"outside"}"#;
        check("users", user, Some(masked));
        check("pods", "{", None);
    }
}
