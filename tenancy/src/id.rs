//! Tenant ids and names.

use std::fmt;
use std::sync::Arc;

/// The immutable number of a tenant. Names are aliases and may change; a deleted and recreated
/// tenant has a new number. 0 is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name that has passed the check: 1 to 150 bytes of Mimir's alphabet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(Arc<str>);

/// Longest name, in bytes; Mimir's limit.
const NAME_BYTES_MAX: usize = 150;

/// Names nobody may take: they mean something in paths, headers and answers.
const RESERVED: &[&str] = &[".", "..", "*", "__mimir_cluster"];

impl TenantName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong { bytes: name.len() });
        }
        if let Some(found) =
            name.chars().find(|c| !c.is_ascii_alphanumeric() && !"!-_.*'()".contains(*c))
        {
            return Err(NameError::Character { name: name.to_owned(), found });
        }
        if RESERVED.contains(&name) {
            return Err(NameError::Reserved(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a tenant name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("tenant name is empty")]
    Empty,
    /// Too long.
    #[error("tenant name has {bytes} bytes, at most {NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character outside the alphabet.
    #[error("tenant name {name:?} contains {found:?}; allowed are letters, digits and !-_.*'()")]
    Character {
        /// The name.
        name: String,
        /// The first bad character.
        found: char,
    },
    /// A name with a meaning of its own.
    #[error("tenant name {0:?} is reserved")]
    Reserved(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, error: &str) {
        assert_eq!(TenantName::new(name).map_or_else(|e| e.to_string(), |_| String::new()), error);
    }

    #[test]
    fn names_are_checked() {
        check("team-a", "");
        check("A_b.c*'()!", "");
        check("", "tenant name is empty");
        check("a|b", "tenant name \"a|b\" contains '|'; allowed are letters, digits and !-_.*'()");
        check("..", "tenant name \"..\" is reserved");
        check("*", "tenant name \"*\" is reserved");
        check(&"x".repeat(151), "tenant name has 151 bytes, at most 150 are allowed");
    }
}
