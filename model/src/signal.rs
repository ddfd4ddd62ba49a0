//! What entries are: lines of logs, Kubernetes events, audit records; where they come from, and how
//! bad what they tell is.

use std::fmt;

/// A kind of entry. Each has its own retention, and is never in the same segment as another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Signal {
    /// Lines of logs.
    #[default]
    Logs = 0,
    /// Kubernetes events.
    Events = 1,
    /// Audit records.
    Audits = 2,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Logs, Self::Events, Self::Audits];

    /// As configurations, manifests and answers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Events => "events",
            Self::Audits => "audits",
        }
    }

    /// From the stored number.
    pub fn from_stored(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u8 == number)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What sort of source a stream has, so that "it is off" can be told from "nothing happened".
/// Numbers are stored: they are never given to something else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SourceKind {
    /// Nothing says what it is.
    #[default]
    Other = 0,
    /// A container.
    Container = 1,
    /// The kubelet.
    Kubelet = 2,
    /// Another service of a node: its journal or syslog.
    Node = 3,
    /// Access logs of a service mesh (Istio).
    Mesh = 4,
    /// Access logs of an ingress gateway.
    Ingress = 5,
    /// Kubernetes events.
    Events = 6,
    /// The Kubernetes API server's audit.
    Audit = 7,
    /// The platform's own audit (KubeSphere).
    PlatformAudit = 8,
    /// An application that sends its own (OTLP).
    Application = 9,
    /// A device or host that sends syslog.
    Syslog = 10,
}

impl SourceKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Other,
        Self::Container,
        Self::Kubelet,
        Self::Node,
        Self::Mesh,
        Self::Ingress,
        Self::Events,
        Self::Audit,
        Self::PlatformAudit,
        Self::Application,
        Self::Syslog,
    ];

    /// As answers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Container => "container",
            Self::Kubelet => "kubelet",
            Self::Node => "node",
            Self::Mesh => "mesh",
            Self::Ingress => "ingress",
            Self::Events => "events",
            Self::Audit => "audit",
            Self::PlatformAudit => "platform_audit",
            Self::Application => "application",
            Self::Syslog => "syslog",
        }
    }

    /// From the stored number.
    pub fn from_stored(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u8 == number)
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad what an entry tells is; the words are those Loki detects. In order, so that "at least
/// a warning" is a comparison. Numbers are stored: they are never given to something else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing says it.
    #[default]
    Unknown = 0,
    /// Steps within a program.
    Trace = 1,
    /// For whoever looks for a fault.
    Debug = 2,
    /// Something happened as it should.
    Info = 3,
    /// Something may be wrong.
    Warn = 4,
    /// Something failed.
    Error = 5,
    /// Something failed that others stand on.
    Critical = 6,
    /// The program ends.
    Fatal = 7,
}

impl Level {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Critical,
        Self::Fatal,
    ];

    /// As answers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Fatal => "fatal",
        }
    }

    /// From the stored number.
    pub fn from_stored(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_mean_what_they_meant() {
        for (number, name) in (0..).zip(["logs", "events", "audits"]) {
            assert_eq!(Signal::from_stored(number).map(Signal::as_str), Some(name));
        }
        let kinds = [
            "other",
            "container",
            "kubelet",
            "node",
            "mesh",
            "ingress",
            "events",
            "audit",
            "platform_audit",
            "application",
            "syslog",
        ];
        for (number, name) in (0..).zip(kinds) {
            assert_eq!(SourceKind::from_stored(number).map(SourceKind::as_str), Some(name));
        }
        let levels = ["unknown", "trace", "debug", "info", "warn", "error", "critical", "fatal"];
        for (number, name) in (0..).zip(levels) {
            assert_eq!(Level::from_stored(number).map(Level::as_str), Some(name));
        }
        assert_eq!(Signal::from_stored(3), None);
        assert_eq!(SourceKind::from_stored(11), None);
        assert_eq!(Level::from_stored(8), None);
    }
}
