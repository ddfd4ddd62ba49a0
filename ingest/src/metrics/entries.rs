//! Counters of entries: lines of logs, Kubernetes events, audit records.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use storage::entries::{EntryOutcome, EntryReason};

use super::family;

/// Every reason in the order of `EntryReason`.
const REASONS: [EntryReason; 14] = [
    EntryReason::InvalidLabels,
    EntryReason::TooManyLabels,
    EntryReason::LabelNameTooLong,
    EntryReason::LabelValueTooLong,
    EntryReason::ActiveStreamLimit,
    EntryReason::TooOld,
    EntryReason::TooFarInFuture,
    EntryReason::InvalidTimestamp,
    EntryReason::TooManyFields,
    EntryReason::FieldsTooLong,
    EntryReason::InvalidField,
    EntryReason::InvalidEntry,
    EntryReason::EntriesRate,
    EntryReason::TenantSuspended,
];

/// Why a listener let messages go that nobody can be told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The tenant's rate is used up, or the store takes nothing.
    Refused,
    /// More came than could be stored meanwhile.
    QueueFull,
    /// Longer than a message may be, or not of the protocol.
    Malformed,
}

impl Lost {
    const ALL: [(Self, &str); 3] = [
        (Self::Refused, "refused"),
        (Self::QueueFull, "queue_full"),
        (Self::Malformed, "malformed"),
    ];
}

/// Counters of entries that came in.
#[derive(Debug, Default)]
pub(crate) struct EntryMetrics {
    entries: AtomicU64,
    bytes: AtomicU64,
    streams_created: AtomicU64,
    truncated: AtomicU64,
    masked: AtomicU64,
    rejected: [AtomicU64; REASONS.len()],
    lost: [AtomicU64; Lost::ALL.len()],
    /// Connections of syslog and Fluent forward that are open.
    pub(crate) connections: AtomicU64,
    /// Connections that were closed at once, because there were too many.
    pub(crate) connections_refused: AtomicU64,
}

impl EntryMetrics {
    /// Entries were stored or refused one by one.
    pub(crate) fn appended(&self, outcome: &EntryOutcome) {
        self.entries.fetch_add(outcome.entries, Relaxed);
        self.bytes.fetch_add(outcome.bytes, Relaxed);
        self.streams_created.fetch_add(outcome.streams_created, Relaxed);
        self.truncated.fetch_add(outcome.truncated, Relaxed);
        for rejected in &outcome.rejected {
            if let Some(i) = REASONS.iter().position(|reason| *reason == rejected.reason) {
                self.rejected[i].fetch_add(rejected.count, Relaxed);
            }
        }
    }

    /// Audit records had secrets in them.
    pub(crate) fn masked(&self, records: u64) {
        self.masked.fetch_add(records, Relaxed);
    }

    /// Messages of a listener were let go.
    pub(crate) fn lost(&self, why: Lost, messages: u64) {
        self.lost[why as usize].fetch_add(messages, Relaxed);
    }

    /// Appends everything in Prometheus text format.
    pub(super) fn write(&self, out: &mut String) {
        let of = |value: &AtomicU64| [("", value.load(Relaxed))];
        let help = "Lines of logs, events and audit records accepted.";
        family(out, "entries_total", "counter", help, of(&self.entries));
        let help = "Bytes of accepted lines and their fields.";
        family(out, "entry_bytes_total", "counter", help, of(&self.bytes));
        let help = "Streams that were new.";
        family(out, "streams_created_total", "counter", help, of(&self.streams_created));
        let help = "Accepted entries of which something was cut.";
        family(out, "entries_truncated_total", "counter", help, of(&self.truncated));
        let help = "Audit records in which secrets were masked.";
        family(out, "audits_masked_total", "counter", help, of(&self.masked));
        let rejected = REASONS.iter().zip(&self.rejected);
        let rejected =
            rejected.map(|(reason, n)| (format!("{{reason=\"{reason}\"}}"), n.load(Relaxed)));
        let help = "Entries refused one by one, by reason.";
        family(out, "entries_rejected_total", "counter", help, rejected);
        let lost = Lost::ALL.iter().zip(&self.lost);
        let lost = lost.map(|((_, why), n)| (format!("{{reason=\"{why}\"}}"), n.load(Relaxed)));
        let help = "Messages of syslog and Fluent forward that were let go, by reason.";
        family(out, "messages_lost_total", "counter", help, lost);
        let help = "Connections of syslog and Fluent forward.";
        family(out, "log_connections", "gauge", help, of(&self.connections));
        let help = "Connections of syslog and Fluent forward that were one too many.";
        let refused = of(&self.connections_refused);
        family(out, "log_connections_refused_total", "counter", help, refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_variants_are_places_in_the_lists() {
        for (i, reason) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
        for (i, (why, _)) in Lost::ALL.iter().enumerate() {
            assert_eq!(*why as usize, i);
        }
    }

    #[test]
    fn entries_are_counted() {
        let metrics = EntryMetrics::default();
        let mut outcome =
            EntryOutcome { entries: 3, bytes: 70, truncated: 1, ..EntryOutcome::default() };
        outcome.reject(EntryReason::TooOld, 2, String::new);
        metrics.appended(&outcome);
        metrics.lost(Lost::QueueFull, 4);
        let mut text = String::new();
        metrics.write(&mut text);
        for line in [
            "taffrail_ingest_entries_total 3",
            "taffrail_ingest_entry_bytes_total 70",
            "taffrail_ingest_entries_truncated_total 1",
            r#"taffrail_ingest_entries_rejected_total{reason="too_old"} 2"#,
            r#"taffrail_ingest_messages_lost_total{reason="queue_full"} 4"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
