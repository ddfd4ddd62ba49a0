//! Since when a sample counts, and what that says of resets.

/// When a sample is, and since when it counts; 0 is unknown. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The sample's own time.
    pub at_ms: i64,
    /// Its start timestamp.
    pub start_ms: i64,
}

impl Since {
    /// Whether a start is given that may be right: one after the sample is wrong, one at its very
    /// time stands for an unknown one.
    pub fn is_known(self) -> bool {
        self.start_ms != 0 && self.start_ms < self.at_ms
    }

    /// Whether a counter was zero since an earlier sample, going by when they began to count. One
    /// that counts from exactly the earlier one on is a difference, unless that one's start is
    /// unknown: then it is OpenTelemetry's way of saying that its own is unknown, too.
    pub fn is_reset_after(self, before: Self) -> bool {
        self.is_known()
            && (self.start_ms > before.at_ms || self.start_ms == before.at_ms && before.is_known())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check((start_ms, at_ms): (i64, i64), before: (i64, i64), expected: bool) {
        let before = Since { start_ms: before.0, at_ms: before.1 };
        let found = Since { at_ms, start_ms }.is_reset_after(before);
        assert_eq!(found, expected, "({start_ms}, {at_ms}) after {before:?}");
    }

    #[test]
    fn starts_tell_of_resets() {
        check((15, 20), (5, 10), true);
        check((5, 20), (5, 10), false);
        // A difference, if the start before is known.
        check((10, 20), (5, 10), true);
        check((10, 20), (0, 10), false);
        check((10, 20), (10, 10), false);
        // Unknown, or wrong.
        check((0, 20), (5, 10), false);
        check((20, 20), (5, 10), false);
        check((25, 20), (5, 10), false);
    }
}
