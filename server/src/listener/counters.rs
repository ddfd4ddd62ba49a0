//! What the port counts.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// What became of a handshake.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handshake {
    Done,
    /// No common version, no or a wrong certificate, or no TLS at all.
    Failed,
    TimedOut,
    /// The client spoke HTTP without TLS.
    PlainHttp,
}

const HANDSHAKES: [&str; 4] = ["done", "failed", "timed_out", "plain_http"];

/// Counters of one port.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    handshakes: [AtomicU64; HANDSHAKES.len()],
    in_flight: AtomicU64,
    /// Whether there is TLS at all.
    has_certificate: AtomicBool,
    /// Whether files that changed were not taken over.
    is_stale: AtomicBool,
    expires_seconds: AtomicI64,
}

impl Counters {
    pub(crate) fn begun(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self, how: Handshake) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.handshakes[how as usize].fetch_add(1, Relaxed);
    }

    /// Certificates are in service.
    pub(crate) fn read_certificate(&self, expires_seconds: Option<i64>) {
        self.expires_seconds.store(expires_seconds.unwrap_or(0), Relaxed);
        self.has_certificate.store(true, Relaxed);
        self.is_in_service();
    }

    /// The files are what is in service.
    pub(crate) fn is_in_service(&self) {
        self.is_stale.store(false, Relaxed);
    }

    /// Certificates were not taken over; gives whether that is news.
    pub(crate) fn refused_certificate(&self) -> bool {
        !self.is_stale.swap(true, Relaxed)
    }

    /// Appends everything in Prometheus' text format; nothing without TLS.
    pub(crate) fn write(&self, out: &mut String) {
        if !self.has_certificate.load(Relaxed) {
            return;
        }
        let mut gauge = |name: &str, help: &str, value: i64| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        };
        gauge(
            "taffrail_tls_certificate_expiry_timestamp_seconds",
            "When the first certificate of the chain in service ends.",
            self.expires_seconds.load(Relaxed),
        );
        gauge(
            "taffrail_tls_certificate_last_reload_successful",
            "Whether the certificate files are those in service.",
            i64::from(!self.is_stale.load(Relaxed)),
        );
        gauge(
            "taffrail_tls_handshakes_in_flight",
            "Connections that are being set up.",
            self.in_flight.load(Relaxed).try_into().unwrap_or(i64::MAX),
        );
        let name = "taffrail_tls_handshakes_total";
        let _ = write!(
            out,
            "# HELP {name} Connections by how setting them up ended.\n# TYPE {name} counter\n"
        );
        for (result, count) in HANDSHAKES.into_iter().zip(&self.handshakes) {
            let _ = writeln!(out, "{name}{{result=\"{result}\"}} {}", count.load(Relaxed));
        }
    }
}
