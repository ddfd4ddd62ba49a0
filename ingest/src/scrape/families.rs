//! Metadata of one target's families: told on when it is new, and listed for whoever asks.

use std::collections::BTreeMap;

use model::{Metadata, MetricKind};

/// Families of one target. More are scraped, but what they are is not remembered.
const FAMILIES_MAX: usize = 20_000;

/// Scrapes after which a family that was not there any more is forgotten; as Prometheus.
const ROUNDS_KEPT: u64 = 10;

#[derive(Debug, Default, Clone)]
struct Family {
    metadata: Metadata,
    is_news: bool,
    round: u64,
}

/// All families of a target.
#[derive(Debug, Default)]
pub(super) struct Families {
    families: BTreeMap<String, Family>,
    round: u64,
    has_news: bool,
}

impl Families {
    /// A scrape begins.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    pub(super) fn help(&mut self, family: &str, text: &str) {
        self.tell(family, |m| m.help == text, |m| text.clone_into(&mut m.help));
    }

    pub(super) fn kind(&mut self, family: &str, kind: MetricKind) {
        self.tell(family, |m| m.kind == kind, |m| m.kind = kind);
    }

    pub(super) fn unit(&mut self, family: &str, unit: &str) {
        self.tell(family, |m| m.unit == unit, |m| unit.clone_into(&mut m.unit));
    }

    fn tell(
        &mut self,
        family: &str,
        is_known: impl Fn(&Metadata) -> bool,
        change: impl FnOnce(&mut Metadata),
    ) {
        let round = self.round;
        if let Some(known) = self.families.get_mut(family) {
            known.round = round;
            if !is_known(&known.metadata) {
                change(&mut known.metadata);
                known.is_news = true;
                self.has_news = true;
            }
        } else if self.families.len() < FAMILIES_MAX {
            let mut new = Family { is_news: true, round, ..Family::default() };
            change(&mut new.metadata);
            self.families.insert(family.to_owned(), new);
            self.has_news = true;
        }
    }

    /// The scrape is whole: calls `tell` for what is new.
    pub(super) fn finish(&mut self, mut tell: impl FnMut(&str, &Metadata)) {
        if std::mem::take(&mut self.has_news) {
            for (name, family) in self.families.iter_mut().filter(|(_, family)| family.is_news) {
                family.is_news = false;
                tell(name, &family.metadata);
            }
        }
        let oldest = self.round.saturating_sub(ROUNDS_KEPT);
        if self.round.is_multiple_of(ROUNDS_KEPT) {
            self.families.retain(|_, family| family.round >= oldest);
        }
    }

    /// All that are known, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.families.iter().map(|(name, family)| (name.as_str(), &family.metadata))
    }

    /// One of them.
    pub(super) fn get(&self, name: &str) -> Option<&Metadata> {
        self.families.get(name).map(|family| &family.metadata)
    }
}
