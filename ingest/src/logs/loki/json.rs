//! Loki's push in JSON, and the form it had before 1.0.
//!
//! ```text
//! {"streams": [{"stream": {"app": "web"}, "values": [["1700000000000000000", "line", {"k": "v"}]]}]}
//! {"streams": [{"labels": "{app=\"web\"}", "entries": [{"ts": "2026-…Z", "line": "line"}]}]}
//! ```

use std::borrow::Cow;

use model::{Signal, SourceKind};
use storage::entries::EntryReason;

use super::close_stream;
use crate::caps::WalkError;
use crate::logs::builder::{Entries, Line};
use crate::logs::json::{Json, JsonError, Text, Value};
use crate::logs::{level, time};

/// Takes a decompressed body apart.
pub(super) fn walk<'a>(body: &'a [u8], out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
    let mut json = Json::new(body);
    let mut is_first = true;
    json.object()?;
    while let Some(name) = json.key(&mut is_first)? {
        if !name.is("streams") {
            json.skip()?;
            continue;
        }
        let mut is_first = true;
        json.array()?;
        while json.element(&mut is_first)? {
            stream(&mut json, out)?;
        }
    }
    Ok(json.end()?)
}

/// What names a stream.
enum Labels<'a> {
    Pairs(Vec<(Cow<'a, str>, Cow<'a, str>)>),
    Text(Cow<'a, [u8]>),
}

fn stream<'a>(json: &mut Json<'a>, out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
    let mut labels = Labels::Pairs(Vec::new());
    let mut is_first = true;
    json.object()?;
    while let Some(name) = json.key(&mut is_first)? {
        if name.is("stream") {
            let mut pairs = Vec::new();
            flat(json, "stream", |name, value| {
                pairs.push((name.str(), value.str()));
                Ok(())
            })?;
            labels = Labels::Pairs(pairs);
        } else if name.is("labels") {
            labels = Labels::Text(text(json, "labels")?.bytes());
        } else if name.is("values") || name.is("entries") {
            let mut is_first = true;
            json.array()?;
            while json.element(&mut is_first)? {
                entry(json, out)?;
            }
        } else {
            json.skip()?;
        }
    }
    let pairs = match &labels {
        Labels::Text(text) => return close_stream(text, out),
        Labels::Pairs(pairs) => pairs,
    };
    let mut pairs = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
    match out.stream_of(&mut pairs, Signal::Logs, SourceKind::Other)? {
        Ok(stream) => out.of_stream(&stream),
        Err(refused) => {
            out.refuse_open(refused);
            Ok(())
        }
    }
}

fn entry<'a>(json: &mut Json<'a>, out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
    let (mut at, mut line) = (Text::default(), Line::default());
    match json.value()? {
        Value::Array => {
            let mut is_first = true;
            let mut count = 0;
            while json.element(&mut is_first)? {
                match count {
                    0 => at = text(json, "the timestamp of an entry")?,
                    1 => line.place = out.text(text(json, "the line of an entry")?)?,
                    2 => metadata(json, out, &mut line)?,
                    _ => return Err(wrong("an entry has more than time, line and metadata")),
                }
                count += 1;
            }
            if count < 2 {
                return Err(wrong("an entry has no time and line"));
            }
        }
        Value::Object => {
            let mut is_first = true;
            while let Some(name) = json.key(&mut is_first)? {
                if name.is("ts") || name.is("timestamp") {
                    at = text(json, "ts")?;
                } else if name.is("line") {
                    line.place = out.text(text(json, "line")?)?;
                } else if name.is("structuredMetadata") {
                    metadata(json, out, &mut line)?;
                } else {
                    json.skip()?;
                }
            }
        }
        _ => return Err(wrong("an entry is neither a list nor an object")),
    }
    let at_bytes = at.bytes();
    let whole = std::str::from_utf8(&at_bytes).ok().and_then(|text| text.parse().ok());
    let Some(at_ns) = whole.or_else(|| time::rfc3339_ns(&at_bytes)) else {
        out.refuse(EntryReason::InvalidTimestamp, || {
            let shown = crate::remote_write::shortened(&at_bytes);
            format!("timestamp {shown:?} is not a number of nanoseconds in quotes")
        });
        return Ok(());
    };
    line.at_ns = Some(at_ns);
    out.entry(line)?;
    Ok(())
}

fn metadata<'a>(
    json: &mut Json<'a>,
    out: &mut Entries<'_, 'a>,
    line: &mut Line,
) -> Result<(), WalkError> {
    flat(json, "structured metadata", |name, value| {
        if level::is_level_name(name.raw) {
            line.level = line.level.or_else(|| level::of_word(value.raw));
        }
        if value.raw.is_empty() {
            return Ok(());
        }
        let name = out.name(&name.bytes())?;
        let value = out.utf8_text(value)?;
        out.field(name, value)
    })
}

/// The names and values of a flat object of texts.
fn flat<'a>(
    json: &mut Json<'a>,
    what: &'static str,
    mut each: impl FnMut(Text<'a>, Text<'a>) -> Result<(), WalkError>,
) -> Result<(), WalkError> {
    let mut is_first = true;
    json.object()?;
    while let Some(name) = json.key(&mut is_first)? {
        each(name, text(json, what)?)?;
    }
    Ok(())
}

fn text<'a>(json: &mut Json<'a>, what: &'static str) -> Result<Text<'a>, WalkError> {
    match json.value()? {
        Value::Text(text) => Ok(text),
        _ => Err(WalkError::Wrong(format!("{what} must be text in quotes"))),
    }
}

fn wrong(what: &'static str) -> WalkError {
    WalkError::Wrong(what.to_owned())
}

impl From<JsonError> for WalkError {
    fn from(why: JsonError) -> Self {
        Self::Wrong(why.to_string())
    }
}
