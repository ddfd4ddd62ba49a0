//! Which entry of a live tail this is, so that whoever was cut off can go on behind it.

use std::fmt;
use std::str::FromStr;

/// An entry of a tail. It grows with every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TailId {
    /// Where its record stands in the log.
    pub position: u64,
    /// Which row of the record it is.
    pub row: u32,
    /// The newest instant given until then, nanoseconds since the Unix epoch: things are given again
    /// from about there on where nobody knows any more what came after it.
    pub newest_ns: i64,
}

/// The text is no [`TailId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no id of an entry of a tail; take it from an answer as it stands there")]
pub struct NoTailId;

impl fmt::Display for TailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.position, self.row, self.newest_ns)
    }
}

impl FromStr for TailId {
    type Err = NoTailId;

    fn from_str(text: &str) -> Result<Self, NoTailId> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(NoTailId);
        let position = part()?.parse().map_err(|_| NoTailId)?;
        let row = part()?.parse().map_err(|_| NoTailId)?;
        let newest_ns = part()?.parse().map_err(|_| NoTailId)?;
        match parts.next() {
            None => Ok(Self { position, row, newest_ns }),
            Some(_) => Err(NoTailId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is() {
        let id = TailId { position: u64::MAX, row: u32::MAX, newest_ns: i64::MIN };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "1", "1.2", "1.2.3.4", "-1.2.3", "1.2.x", "99999999999999999999.0.0"] {
            assert_eq!(wrong.parse::<TailId>(), Err(NoTailId), "{wrong}");
        }
    }
}
