//! JSON documents of no fixed form: which of their fields is the line, which the time, which are
//! labels; the rest are fields.
//!
//! Nested objects are flattened, names joined with an underscore: `{"kubernetes": {"pod_name": …}}`
//! is `kubernetes_pod_name`. Lists, and what is nested too deeply, stay JSON.

use model::{Signal, SourceKind};
use storage::entries::EntryReason;
use tenancy::Limits;

use super::builder::{Entries, Line, sanitised};
use super::json::{Json, JsonError, Text, Value};
use super::labels::{Pairs, Refused};
use super::{kubernetes, level, time};
use crate::caps::WalkError;
use crate::remote_write::shortened;

/// Nesting that is flattened.
const DEPTH_MAX: usize = 8;

/// Fields that may become labels, time or line, beyond those that stay fields.
const SPECIAL_MAX: usize = 64;

/// Which fields are what. Names are as flattened ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Naming {
    time: Vec<String>,
    message: Vec<String>,
    /// Labels; if none are named they are those that collectors give.
    streams: Vec<String>,
    ignored: Vec<String>,
    extra: Vec<(String, String)>,
}

impl Naming {
    /// From the parameters of an address: `_time_field`, `_msg_field`, `_stream_fields`,
    /// `ignore_fields`, `extra_fields`, as VictoriaLogs has them.
    pub(crate) fn of(parameters: &[(String, String)]) -> Result<Self, String> {
        let mut naming = Self::default();
        for (name, value) in parameters {
            let names = || {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                names.map(|name| sanitised(name.as_bytes()))
            };
            match name.as_str() {
                "_time_field" => naming.time.extend(names()),
                "_msg_field" => naming.message.extend(names()),
                "_stream_fields" => naming.streams.extend(names()),
                "ignore_fields" => naming.ignored.extend(names()),
                "extra_fields" => {
                    for pair in value.split(',').filter(|pair| !pair.is_empty()) {
                        let (name, value) = pair.split_once('=').ok_or_else(|| {
                            format!("extra_fields={value:?} is not a list of name=value")
                        })?;
                        naming.extra.push((sanitised(name.as_bytes()), value.to_owned()));
                    }
                }
                _ => {}
            }
        }
        Ok(naming)
    }
}

/// A value that is no object.
#[derive(Debug, Clone, Copy)]
enum Leaf<'a> {
    Text(Text<'a>),
    /// Numbers, truth values, lists: as written.
    Raw(&'a [u8]),
}

/// The fields of one document.
#[derive(Debug, Default)]
struct Flat<'a> {
    names: String,
    /// Where each name ends in `names`, and its value.
    leaves: Vec<(usize, Leaf<'a>)>,
    /// The name of the object that is being read.
    prefix: String,
    limit: usize,
    is_event: bool,
    is_audit: bool,
}

impl<'a> Flat<'a> {
    fn read(text: &'a [u8], limits: &Limits) -> Result<Self, JsonError> {
        let mut flat =
            Self { limit: limits.entry_fields_max.saturating_add(SPECIAL_MAX), ..Self::default() };
        let mut json = Json::new(text);
        json.object()?;
        flat.object(&mut json, 0)?;
        json.end()?;
        Ok(flat)
    }

    fn object(&mut self, json: &mut Json<'a>, depth: usize) -> Result<(), JsonError> {
        let mut is_first = true;
        let before = self.prefix.len();
        while let Some(name) = json.key(&mut is_first)? {
            if depth == 0 {
                self.is_event |= name.is("involvedObject") || name.is("regarding");
                self.is_audit |= name.is("auditID") || name.is("AuditID");
            } else {
                self.prefix.push('_');
            }
            push_name(&mut self.prefix, name);
            self.value(json, depth)?;
            self.prefix.truncate(before);
        }
        Ok(())
    }

    fn value(&mut self, json: &mut Json<'a>, depth: usize) -> Result<(), JsonError> {
        let mut ahead = *json;
        let leaf = match ahead.value()? {
            Value::Object if depth < DEPTH_MAX => {
                *json = ahead;
                return self.object(json, depth + 1);
            }
            Value::Null => {
                *json = ahead;
                return Ok(());
            }
            Value::Text(text) => {
                *json = ahead;
                Leaf::Text(text)
            }
            _ => Leaf::Raw(json.skip()?),
        };
        if self.leaves.len() < self.limit {
            self.names.push_str(&self.prefix);
            self.leaves.push((self.names.len(), leaf));
        }
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = (&str, Leaf<'a>)> {
        let starts = std::iter::once(0).chain(self.leaves.iter().map(|(end, _)| *end));
        starts.zip(&self.leaves).map(|(start, (end, leaf))| (&self.names[start..*end], *leaf))
    }

    /// The first of these names that is there, by its place.
    fn place_of<S: AsRef<str>>(&self, names: &[S]) -> Option<(usize, Leaf<'a>)> {
        names.iter().find_map(|name| {
            let mut all = self.iter().enumerate();
            all.find(|(_, (known, _))| *known == name.as_ref()).map(|(at, (_, leaf))| (at, leaf))
        })
    }
}

fn push_name(out: &mut String, name: Text<'_>) {
    match std::str::from_utf8(name.raw) {
        Ok(text) if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            out.push_str(text);
        }
        _ => out.push_str(&sanitised(&name.bytes())),
    }
}

/// Fields that are the line where none is named, the first that is there.
const MESSAGES: [&str; 6] = ["log", "message", "_msg", "msg", "MESSAGE", "short_message"];

/// Fields that are the time where none is named; `@timestamp` is flattened to the first.
const TIMES: [&str; 5] = ["_timestamp", "time", "timestamp", "_time", "date"];

/// Takes documents apart.
#[derive(Debug)]
pub(crate) struct Documents<'d> {
    pub(crate) naming: &'d Naming,
    /// The label of documents that have none.
    pub(crate) otherwise: (&'d str, &'d str),
    /// When it happened, if that is told beside the document.
    pub(crate) at_ns: Option<i64>,
}

/// An entry's number, or why there is none; it is counted then.
pub(crate) type Taken = Result<u32, EntryReason>;

impl Documents<'_> {
    /// Takes one document apart.
    pub(crate) fn take(&self, text: &[u8], out: &mut Entries<'_, '_>) -> Result<Taken, WalkError> {
        let flat = match Flat::read(text, &out.context.limits) {
            Ok(flat) => flat,
            Err(why) => return Ok(refuse(out, (EntryReason::InvalidEntry, why.to_string()))),
        };
        if flat.is_audit {
            return kubernetes::audit(text, out);
        }
        if flat.is_event {
            return kubernetes::event(text, out);
        }
        let at_ns = match self.time(&flat) {
            Ok(time) => time,
            Err(refused) => return Ok(refuse(out, refused)),
        };
        let message = match self.naming.message.is_empty() {
            true => flat.place_of(&MESSAGES),
            false => flat.place_of(&self.naming.message),
        };
        let message = message.filter(|(_, leaf)| matches!(leaf, Leaf::Text(_)));
        let told = self.at_ns.or(at_ns.map(|(_, ns)| ns));
        let mut line = Line { at_ns: told, ..Line::default() };
        line.place = match message {
            Some((_, Leaf::Text(message))) => out.text(message)?,
            _ => out.place(text)?,
        };
        let special = [at_ns.map(|(place, _)| place), message.map(|(place, _)| place)];
        let labels = self.labels(&flat);
        self.fields(&flat, &special, &labels, &mut line, out)?;
        self.entry(line, &labels, out)
    }

    /// The time and its place; `None` if no field says one.
    fn time(&self, flat: &Flat<'_>) -> Result<Option<(usize, i64)>, Refused> {
        let read = |leaf: Leaf<'_>| match leaf {
            Leaf::Text(text) => time::instant_ns(&text.bytes()),
            Leaf::Raw(raw) => time::unix_ns(raw),
        };
        if self.naming.time.is_empty() {
            let found = TIMES.iter().find_map(|name| {
                let (place, leaf) = flat.place_of(&[name])?;
                Some((place, read(leaf)?))
            });
            return Ok(found);
        }
        let Some((place, leaf)) = flat.place_of(&self.naming.time) else { return Ok(None) };
        match read(leaf) {
            Some(ns) => Ok(Some((place, ns))),
            None => {
                let shown = match leaf {
                    Leaf::Text(text) => shortened(text.raw),
                    Leaf::Raw(raw) => shortened(raw),
                };
                let text = format!("time {shown:?} is neither RFC 3339 nor a number");
                Err((EntryReason::InvalidTimestamp, text))
            }
        }
    }

    /// Labels: place of the field, name, value.
    fn labels(&self, flat: &Flat<'_>) -> Vec<(usize, String, String)> {
        let mut labels: Vec<(usize, String, String)> = Vec::new();
        for (place, (name, leaf)) in flat.iter().enumerate() {
            let label = match self.naming.streams.is_empty() {
                true => kubernetes::label_of(name),
                false => self.naming.streams.iter().any(|s| s == name).then_some(name),
            };
            let Some(label) = label else { continue };
            let value = match leaf {
                Leaf::Text(text) => text.str().into_owned(),
                Leaf::Raw(raw) => String::from_utf8_lossy(raw).into_owned(),
            };
            if !value.is_empty() && !labels.iter().any(|(_, known, _)| known == label) {
                labels.push((place, label.to_owned(), value));
            }
        }
        labels
    }

    fn fields(
        &self,
        flat: &Flat<'_>,
        special: &[Option<usize>],
        labels: &[(usize, String, String)],
        line: &mut Line,
        out: &mut Entries<'_, '_>,
    ) -> Result<(), WalkError> {
        for (place, (name, leaf)) in flat.iter().enumerate() {
            let is_label = labels.iter().any(|(of_label, ..)| *of_label == place);
            if special.contains(&Some(place)) || self.naming.ignored.iter().any(|i| i == name) {
                continue;
            }
            if let Leaf::Text(text) = leaf
                && level::is_level_name(name.as_bytes())
            {
                line.level = line.level.or_else(|| level::of_word(text.raw));
            }
            if is_label {
                continue;
            }
            let value = match leaf {
                Leaf::Text(text) if text.raw.is_empty() => continue,
                Leaf::Text(text) => out.utf8_text(text)?,
                Leaf::Raw(raw) => out.utf8(raw)?,
            };
            let name = out.name(name.as_bytes())?;
            out.field(name, value)?;
        }
        for (name, value) in &self.naming.extra {
            out.field_of(name.as_bytes(), value.as_bytes())?;
        }
        Ok(())
    }

    fn entry(
        &self,
        line: Line,
        labels: &[(usize, String, String)],
        out: &mut Entries<'_, '_>,
    ) -> Result<Taken, WalkError> {
        let mut pairs: Pairs<'_> =
            labels.iter().map(|(_, name, value)| (name.as_str(), value.as_str())).collect();
        let get = |pairs: &Pairs<'_>, name: &str| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let mut workload = None;
        if self.naming.streams.is_empty() && get(&pairs, "workload").is_none() {
            workload = get(&pairs, "pod")
                .and_then(|pod| kubernetes::workload_of_pod(&pod).map(ToOwned::to_owned));
        }
        if let Some(workload) = &workload {
            pairs.push(("workload", workload));
        }
        if pairs.is_empty() {
            pairs.push(self.otherwise);
        }
        match out.stream_of(&mut pairs, Signal::Logs, SourceKind::Other)? {
            Ok(stream) => {
                let number = out.entry(line)?;
                out.of_stream(&stream)?;
                Ok(Ok(number))
            }
            Err(refused) => Ok(refuse(out, refused)),
        }
    }
}

/// Counts one refused entry.
pub(crate) fn refuse(out: &mut Entries<'_, '_>, (reason, text): Refused) -> Taken {
    out.refuse(reason, || text);
    Err(reason)
}

/// The lines of a body without their ends; empty ones are left out.
pub(crate) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = body.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.trim_ascii().is_empty())
}
