//! How finely rows of metrics are kept.

use std::fmt;
use std::str::FromStr;

use crate::TimeRange;

/// How finely rows of metrics are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// As they came.
    #[default]
    Raw,
    /// One every five minutes.
    Minutes5,
    /// One every hour.
    Hour1,
}

impl Resolution {
    /// All, the finest first.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Minutes5, Self::Hour1];

    /// How long a window is; `None` for rows as they came. Divides a day of UTC.
    pub fn window_ms(self) -> Option<i64> {
        match self {
            Self::Raw => None,
            Self::Minutes5 => Some(5 * 60_000),
            Self::Hour1 => Some(60 * 60_000),
        }
    }

    /// The window an instant lies in; for rows as they came the instant alone.
    pub fn window_of(self, at_ms: i64) -> TimeRange {
        let window_ms = self.window_ms().unwrap_or(1);
        let start_ms = at_ms.saturating_sub(at_ms.rem_euclid(window_ms));
        TimeRange { start_ms, end_ms: start_ms.saturating_add(window_ms - 1) }
    }

    /// As configurations, manifests and answers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minutes5 => "5m",
            Self::Hour1 => "1h",
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Resolution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| format!("unknown resolution {text:?}; there are raw, 5m and 1h"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_on_the_grid() {
        let check = |resolution: Resolution, at_ms: i64, window: (i64, i64)| {
            let found = resolution.window_of(at_ms);
            assert_eq!((found.start_ms, found.end_ms), window, "{resolution} {at_ms}");
        };
        check(Resolution::Raw, 7, (7, 7));
        check(Resolution::Minutes5, 0, (0, 299_999));
        check(Resolution::Minutes5, 299_999, (0, 299_999));
        check(Resolution::Minutes5, 300_000, (300_000, 599_999));
        check(Resolution::Minutes5, -1, (-300_000, -1));
        check(Resolution::Hour1, 3_600_001, (3_600_000, 7_199_999));
        check(Resolution::Hour1, i64::MAX, (i64::MAX - 775_807, i64::MAX));
    }

    #[test]
    fn names_are_read_back() {
        for one in Resolution::ALL {
            assert_eq!(one.as_str().parse(), Ok(one));
        }
        assert!("10m".parse::<Resolution>().is_err());
    }
}
