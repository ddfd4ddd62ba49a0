//! How far a tool is, on one line of a terminal. Nothing where there is no terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two times the line is written.
const EVERY: Duration = Duration::from_millis(200);

/// The line.
pub(super) struct Progress {
    is_shown: bool,
    last: Option<Instant>,
    width: usize,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), last: None, width: 0 }
    }

    /// Writes the line anew, if it is time to.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= EVERY);
        if self.is_shown && is_due {
            let text = text();
            self.write(&text);
            self.last = Some(Instant::now());
        }
    }

    fn write(&mut self, text: &str) {
        let width = self.width;
        // Whether anybody sees it changes nothing.
        drop(write!(std::io::stderr(), "\r{text:<width$}"));
        self.width = text.chars().count();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.last.is_some() {
            self.write("");
            drop(write!(std::io::stderr(), "\r"));
        }
    }
}

/// Bytes as people say them.
pub(super) fn bytes_text(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_said_in_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (3 << 39, "1.5 TiB"),
        ] {
            assert_eq!(super::bytes_text(bytes), text);
        }
    }
}
