//! Metadata of one tenant's metric families, as one partition keeps it: bounded in number and bytes.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use model::Metadata;

/// Metric families of one tenant whose metadata one partition keeps.
const FAMILIES_MAX: usize = 5_000;
/// Bytes of their names and texts together. Every snapshot holds them, however little changed.
const BYTES_MAX: usize = 1 << 20;
/// Longest name, and longest help and unit together, in bytes.
const FAMILY_BYTES_MAX: usize = 1_024;
const TEXT_BYTES_MAX: usize = 4_096;

/// Metadata by metric family.
#[derive(Debug, Default)]
pub(super) struct Families {
    by_name: BTreeMap<String, Metadata>,
    /// Of names and texts together.
    bytes: usize,
}

impl Families {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn iter(&self) -> Iter<'_, String, Metadata> {
        self.by_name.iter()
    }

    pub(super) fn get(&self, family: &str) -> Option<&Metadata> {
        self.by_name.get(family)
    }

    /// Keeps what was checked before, or was stored once.
    pub(super) fn insert(&mut self, family: String, metadata: Metadata) {
        let name_bytes = family.len();
        self.bytes += name_bytes + text_bytes(&metadata);
        if let Some(old) = self.by_name.insert(family, metadata) {
            self.bytes -= name_bytes + text_bytes(&old);
        }
    }

    /// Forgets a family; says whether it was there.
    pub(super) fn remove(&mut self, family: &str) -> bool {
        let Some(old) = self.by_name.remove(family) else { return false };
        self.bytes -= family.len() + text_bytes(&old);
        true
    }

    /// Whether what a sender says of a family may be kept, or why not.
    pub(super) fn check(&self, family: &str, metadata: &Metadata) -> Result<(), String> {
        let new_text = text_bytes(metadata);
        if family.is_empty() {
            return Err("metadata without a metric family".to_owned());
        }
        if family.len() > FAMILY_BYTES_MAX {
            return Err(format!(
                "metric family name of {} bytes, the limit is {FAMILY_BYTES_MAX}",
                family.len()
            ));
        }
        if new_text > TEXT_BYTES_MAX {
            return Err(format!(
                "help and unit of metric family {family} have {new_text} bytes, the limit is {TEXT_BYTES_MAX}"
            ));
        }
        let old_bytes = self.get(family).map(|old| family.len() + text_bytes(old));
        if old_bytes.is_none() && self.len() >= FAMILIES_MAX {
            return Err(format!(
                "metric family {family} is new and the limit of {FAMILIES_MAX} families is reached"
            ));
        }
        let bytes = self.bytes - old_bytes.unwrap_or(0) + family.len() + new_text;
        if bytes > BYTES_MAX && bytes > self.bytes {
            return Err(format!(
                "metadata of metric family {family} does not fit: names, help and units of all families would have {bytes} bytes, the limit is {BYTES_MAX}"
            ));
        }
        Ok(())
    }
}

fn text_bytes(metadata: &Metadata) -> usize {
    metadata.help.len() + metadata.unit.len()
}

#[cfg(test)]
mod tests {
    use model::MetricKind;

    use super::*;

    fn told(families: &mut Families, family: &str, help_bytes: usize) -> String {
        let help = "h".repeat(help_bytes);
        let metadata = Metadata { kind: MetricKind::Gauge, help, unit: String::new() };
        match families.check(family, &metadata) {
            Ok(()) => {
                families.insert(family.to_owned(), metadata);
                String::new()
            }
            Err(wrong) => wrong,
        }
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let mut many = Families::default();
        for n in 0..FAMILIES_MAX {
            assert_eq!(told(&mut many, &format!("f{n}"), 1), "");
        }
        let refused = "metric family more is new and the limit of 5000 families is reached";
        assert_eq!(told(&mut many, "more", 1), refused);
        assert_eq!(told(&mut many, "f7", 9), "", "a known one may change");

        let mut large = Families::default();
        for n in 0..255 {
            assert_eq!(told(&mut large, &format!("f{n:07}"), 4_096), "", "{n}");
        }
        let refused = "metadata of metric family f0000255 does not fit: names, help and units of all families \
             would have 1050624 bytes, the limit is 1048576";
        assert_eq!(told(&mut large, "f0000255", 4_096), refused);
        assert_eq!(told(&mut large, "f0000000", 1), "", "a known one may shrink");
        assert_eq!(told(&mut large, "f0000255", 4_096), "", "which makes room");
        assert_eq!(large.bytes, 255 * 4_104 + 9);
    }
}
