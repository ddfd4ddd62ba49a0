//! Syslog over UDP and TCP: what hosts and network devices send.
//!
//! ```text
//! datagrams, streams ─► frames ─► batches (bounded) ─► message ─► entries ─► EntryIntake
//! ```
//!
//! Nobody is told what became of a message. A stream waits while the store is busy, so that its
//! sender keeps what it has; datagrams that find no room are let go and counted.

mod frames;
mod message;
mod serve;

#[cfg(test)]
mod tests;

use std::ops::Range;

use model::{Level, Signal, SourceKind};
use serde::{Deserialize, Serialize};

use super::builder::{Entries, Line};
use super::intake::TakeEntries;
use crate::caps::WalkError;
use crate::intake::Refusal;
use message::{Clock, Message, unescaped};
pub use serve::{serve_tcp, serve_udp};

/// Listeners for syslog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyslogConfig {
    /// Address for UDP, for instance `0.0.0.0:514`; empty for none.
    pub udp: String,
    /// Address for TCP; empty for none.
    pub tcp: String,
    /// Name of the tenant that everything belongs to: senders cannot say one.
    pub tenant: String,
    /// Longest message in bytes; a stream with a longer one is closed, for nobody knows where the
    /// next begins. RFC 5424 asks for 2,048.
    pub message_bytes_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// Seconds without a byte after which a connection is closed.
    pub idle_seconds_max: u64,
    /// Zone of times that do not say theirs, minutes east of Greenwich.
    pub utc_offset_minutes: i32,
}

impl Default for SyslogConfig {
    fn default() -> Self {
        Self {
            udp: String::new(),
            tcp: String::new(),
            tenant: "default".to_owned(),
            message_bytes_max: 64 << 10,
            connections_max: 1_000,
            idle_seconds_max: 600,
            utc_offset_minutes: 0,
        }
    }
}

impl SyslogConfig {
    /// What is wrong with the settings, by key.
    pub fn check(&self) -> Result<(), String> {
        if !(480..=1 << 20).contains(&self.message_bytes_max) {
            return Err("logs.syslog.message_bytes_max must be 480 to 1048576".to_owned());
        }
        if self.connections_max == 0 || self.connections_max > 100_000 {
            return Err("logs.syslog.connections_max must be 1 to 100000".to_owned());
        }
        if self.idle_seconds_max == 0 {
            return Err("logs.syslog.idle_seconds_max must be at least 1".to_owned());
        }
        if self.utc_offset_minutes.abs() > 14 * 60 {
            return Err("logs.syslog.utc_offset_minutes must be -840 to 840".to_owned());
        }
        Ok(())
    }
}

/// Some messages that came one after the other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Where each lies among the bytes.
    pub(super) messages: Vec<Range<usize>>,
    /// Of times without a zone.
    pub(super) offset_seconds: i64,
}

/// Words for facilities (RFC 5424, table 1).
const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

/// Words for severities, and the levels they are.
const SEVERITIES: [(&str, Level); 8] = [
    ("emerg", Level::Fatal),
    ("alert", Level::Critical),
    ("crit", Level::Critical),
    ("err", Level::Error),
    ("warning", Level::Warn),
    ("notice", Level::Info),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

impl TakeEntries for Batch {
    fn take_entries<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Entries<'_, 'a>,
    ) -> Result<(), Refusal> {
        let clock = Clock { now_ns: out.context.now_ns, offset_seconds: self.offset_seconds };
        for place in &self.messages {
            let message = Message::of(body.get(place.clone()).unwrap_or_default(), &clock);
            take(&message, out)?;
        }
        Ok(())
    }
}

fn take<'a>(message: &Message<'a>, out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
    let text = |bytes: &'a [u8]| String::from_utf8_lossy(bytes);
    let (host, app) = (text(message.host), text(message.app));
    let facility = message.facility.and_then(|facility| FACILITIES.get(usize::from(facility)));
    let mut pairs = vec![
        ("app", &*app),
        ("facility", facility.copied().unwrap_or_default()),
        ("host", &*host),
        ("source", "syslog"),
    ];
    let stream = match out.stream_of(&mut pairs, Signal::Logs, SourceKind::Syslog)? {
        Ok(stream) => stream,
        Err((reason, text)) => {
            out.refuse(reason, || text);
            return Ok(());
        }
    };
    let severity = message.severity.and_then(|severity| SEVERITIES.get(usize::from(severity)));
    if let Some((word, _)) = severity {
        out.field_of(b"severity", word.as_bytes())?;
    }
    out.field_of(b"proc_id", message.process)?;
    out.field_of(b"msg_id", message.message_id)?;
    for (id, name, value) in &message.parameters {
        let name = [id, &b"_"[..], name].concat();
        out.field_of(&name, &unescaped(value))?;
    }
    let (at_ns, place) = (message.at_ns, out.place(message.text)?);
    out.entry(Line { at_ns, place, level: severity.map(|(_, level)| *level) })?;
    out.of_stream(&stream)
}
