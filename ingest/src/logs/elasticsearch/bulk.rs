//! A bulk body: lines of actions, each followed by its document.
//!
//! ```text
//! {"create": {"_index": "logs", "_id": "1"}}
//! {"@timestamp": "2026-…Z", "log": "a line", "kubernetes": {"namespace_name": "shop", …}}
//! ```

use std::sync::Arc;

use storage::entries::EntryReason;

use crate::caps::{WalkError, room};
use crate::intake::Refusal;
use crate::logs::builder::Entries;
use crate::logs::document::{Documents, Naming, lines};
use crate::logs::intake::TakeEntries;
use crate::logs::json::{Json, Value};

/// Where a request writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::logs) enum Target {
    /// Lines of actions, which name an index if the path does not.
    Bulk { index: Option<String> },
    /// One document.
    Document { index: String, id: Option<String> },
}

/// What an action asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Index,
    Create,
    Update,
    Delete,
}

impl Action {
    const ALL: [(&str, Self); 4] = [
        ("create", Self::Create),
        ("index", Self::Index),
        ("update", Self::Update),
        ("delete", Self::Delete),
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What became of one action before it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Result {
    /// Its entry's number.
    Entry(u32),
    Refused(EntryReason),
    /// Documents are never changed.
    Unsupported,
}

/// One action of a request.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) action: Action,
    pub(super) index: Arc<str>,
    pub(super) id: Option<Box<str>>,
    pub(super) result: Result,
}

/// One body.
#[derive(Debug)]
pub(in crate::logs) struct Bulk {
    naming: Naming,
    pub(super) target: Target,
    pub(super) items: Vec<Item>,
}

impl Bulk {
    pub(in crate::logs) fn new(naming: Naming, target: Target) -> Self {
        Self { naming, target, items: Vec::new() }
    }

    fn bulk<'a>(
        &mut self,
        body: &'a [u8],
        of_path: Option<&str>,
        out: &mut Entries<'_, 'a>,
    ) -> std::result::Result<(), WalkError> {
        let mut index: Arc<str> = of_path.unwrap_or_default().into();
        let mut lines = lines(body).enumerate();
        while let Some((number, line)) = lines.next() {
            room(self.items.len(), out.context.caps.entries_max, "actions")?;
            let action = ActionLine::of(line).ok_or_else(|| {
                let number = number + 1;
                WalkError::Wrong(format!(
                    "Malformed action/metadata line [{number}], expected an object with one of create, \
                     index, update, delete"
                ))
            })?;
            match action.index.as_deref().or(of_path) {
                Some(named) if *named != *index => index = named.into(),
                _ => {}
            }
            let document = match action.action {
                Action::Delete => None,
                _ => lines.next().map(|(_, line)| line),
            };
            let result = match (action.action, document) {
                (Action::Update | Action::Delete, _) => Result::Unsupported,
                (_, Some(document)) => self.document(document, &index, out)?,
                (_, None) => {
                    let text = "the last action has no document".to_owned();
                    return Err(WalkError::Wrong(text));
                }
            };
            let index = Arc::clone(&index);
            let id = action.id.map(String::into_boxed_str);
            self.items.push(Item { action: action.action, index, id, result });
        }
        Ok(())
    }

    fn document<'a>(
        &self,
        document: &'a [u8],
        index: &str,
        out: &mut Entries<'_, 'a>,
    ) -> std::result::Result<Result, WalkError> {
        let family = without_date(index);
        let family = if family.is_empty() { "unknown" } else { family };
        let documents =
            Documents { naming: &self.naming, otherwise: ("index", family), at_ns: None };
        Ok(match documents.take(document, out)? {
            Ok(number) => Result::Entry(number),
            Err(reason) => Result::Refused(reason),
        })
    }
}

impl TakeEntries for Bulk {
    fn take_entries<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Entries<'_, 'a>,
    ) -> std::result::Result<(), Refusal> {
        match self.target.clone() {
            Target::Bulk { index } => self.bulk(body, index.as_deref(), out)?,
            Target::Document { index, id } => {
                let result = self.document(body, &index, out)?;
                let (index, id) = (index.into(), id.map(String::into_boxed_str));
                self.items.push(Item { action: Action::Index, index, id, result });
            }
        }
        Ok(())
    }
}

/// `{"create": {"_index": …, "_id": …}}`
struct ActionLine {
    action: Action,
    index: Option<String>,
    id: Option<String>,
}

impl ActionLine {
    fn of(line: &[u8]) -> Option<Self> {
        let mut json = Json::new(line);
        let mut is_first = true;
        json.object().ok()?;
        let name = json.key(&mut is_first).ok()??;
        let (_, action) = Action::ALL.into_iter().find(|(known, _)| name.is(known))?;
        let mut read = Self { action, index: None, id: None };
        let mut is_first_of_meta = true;
        json.object().ok()?;
        while let Some(name) = json.key(&mut is_first_of_meta).ok()? {
            let mut ahead = json;
            let text = match ahead.value().ok()? {
                Value::Text(text) => Some(text.str().into_owned()),
                _ => None,
            };
            json.skip().ok()?;
            if name.is("_index") {
                read.index = text;
            } else if name.is("_id") {
                read.id = text;
            }
        }
        (json.key(&mut is_first).ok()?.is_none() && json.end().is_ok()).then_some(read)
    }
}

/// An index without the date that it ends with: `logs-2026.11.21` is `logs`.
pub(super) fn without_date(index: &str) -> &str {
    let is_date = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let cut = index.bytes().rev().take_while(|b| is_date(*b)).count();
    let (family, date) = index.split_at(index.len() - cut);
    let digits = date.bytes().filter(u8::is_ascii_digit).count();
    if digits >= 6 { family } else { index }
}
