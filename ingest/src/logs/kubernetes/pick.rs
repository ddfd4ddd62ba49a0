//! Picks fields out of an object, by name and by name within an object of it; the rest is passed
//! over.

use std::borrow::Cow;

use crate::caps::WalkError;
use crate::logs::builder::Entries;
use crate::logs::json::{Json, JsonError, Text, Value};

/// A field to pick: its name, the name within it or empty, what it is called beside the line or
/// empty if it is only looked at.
pub(super) type Wanted = (&'static str, &'static str, &'static str);

/// Texts of a list that are joined.
const LIST_MAX: usize = 64;

/// What was found.
#[derive(Debug, Clone)]
pub(super) enum Found<'a> {
    Text(Text<'a>),
    /// A number or truth value as written.
    Raw(&'a [u8]),
    /// Texts of a list, joined with commas.
    List(String),
    /// An object or a list of something else.
    Other,
}

impl Found<'_> {
    pub(super) fn str(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => text.str(),
            Self::Raw(raw) => String::from_utf8_lossy(raw),
            Self::List(list) => Cow::Borrowed(list),
            Self::Other => Cow::Borrowed(""),
        }
    }
}

/// What was picked, in the order of what was wanted.
#[derive(Debug)]
pub(super) struct Picked<'a> {
    wanted: &'static [Wanted],
    found: Vec<Option<Found<'a>>>,
}

impl<'a> Picked<'a> {
    /// Reads an object. Names are compared without regard to case: KubeSphere's begin with
    /// capitals.
    pub(super) fn of(text: &'a [u8], wanted: &'static [Wanted]) -> Result<Self, JsonError> {
        let mut picked = Self { wanted, found: vec![None; wanted.len()] };
        let mut json = Json::new(text);
        let mut is_first = true;
        json.object()?;
        while let Some(name) = json.key(&mut is_first)? {
            let is_wanted =
                wanted.iter().any(|(known, ..)| name.raw.eq_ignore_ascii_case(known.as_bytes()));
            if !is_wanted {
                json.skip()?;
                continue;
            }
            let mut ahead = json;
            if ahead.value()? == Value::Object {
                picked.within(name, &mut ahead)?;
            }
            let found = read(&mut json)?;
            picked.set(name, "", found);
        }
        json.end()?;
        Ok(picked)
    }

    fn within(&mut self, of: Text<'a>, json: &mut Json<'a>) -> Result<(), JsonError> {
        let mut is_first = true;
        while let Some(name) = json.key(&mut is_first)? {
            let found = read(json)?;
            let inner = self.wanted.iter().find(|(outer, inner, _)| {
                is_same(of, outer) && !inner.is_empty() && is_same(name, inner)
            });
            if let Some((_, inner, _)) = inner {
                self.set(of, inner, found);
            }
        }
        Ok(())
    }

    fn set(&mut self, outer: Text<'a>, inner: &str, found: Option<Found<'a>>) {
        let at = self.wanted.iter().position(|(o, i, _)| is_same(outer, o) && *i == inner);
        if let Some(at) = at {
            self.found[at] = found;
        }
    }

    /// What was found of a wanted field.
    pub(super) fn get(&self, outer: &str, inner: &str) -> Option<&Found<'a>> {
        let at = self.wanted.iter().position(|(o, i, _)| *o == outer && *i == inner)?;
        self.found[at].as_ref()
    }

    /// The same as text; empty if there is none.
    pub(super) fn str(&self, outer: &str, inner: &str) -> Cow<'_, str> {
        self.get(outer, inner).map_or(Cow::Borrowed(""), Found::str)
    }

    /// Adds what was found to the entry that comes next.
    pub(super) fn fields(&self, out: &mut Entries<'_, '_>) -> Result<(), WalkError> {
        for ((_, _, name), found) in self.wanted.iter().zip(&self.found) {
            let Some(found) = found.as_ref().filter(|_| !name.is_empty()) else { continue };
            let value = match found {
                Found::Text(text) if !text.raw.is_empty() => out.utf8_text(*text)?,
                Found::Raw(raw) => out.utf8(raw)?,
                Found::List(list) if !list.is_empty() => out.put(list.as_bytes())?,
                _ => continue,
            };
            let name = out.name(name.as_bytes())?;
            out.field(name, value)?;
        }
        Ok(())
    }
}

fn is_same(name: Text<'_>, known: &str) -> bool {
    name.raw.eq_ignore_ascii_case(known.as_bytes())
}

/// The next value; `None` for null.
fn read<'a>(json: &mut Json<'a>) -> Result<Option<Found<'a>>, JsonError> {
    let mut ahead = *json;
    let found = match ahead.value()? {
        Value::Null => None,
        Value::Text(text) => Some(Found::Text(text)),
        Value::Number(raw) => Some(Found::Raw(raw)),
        Value::Bool(true) => Some(Found::Raw(b"true")),
        Value::Bool(false) => Some(Found::Raw(b"false")),
        Value::Object => {
            json.skip()?;
            return Ok(Some(Found::Other));
        }
        Value::Array => {
            let list = json.skip()?;
            return Ok(Some(joined(list)?));
        }
    };
    *json = ahead;
    Ok(found)
}

fn joined<'a>(list: &'a [u8]) -> Result<Found<'a>, JsonError> {
    let mut json = Json::new(list);
    let (mut out, mut is_first, mut count) = (String::new(), true, 0);
    json.array()?;
    while json.element(&mut is_first)? {
        let mut ahead = json;
        let Value::Text(text) = ahead.value()? else { return Ok(Found::Other) };
        json = ahead;
        if count < LIST_MAX {
            if count > 0 {
                out.push(',');
            }
            out.push_str(&text.str());
        }
        count += 1;
    }
    Ok(Found::List(out))
}
