//! Entries counted by buckets of time and by what they have under some names: oldest first, a batch
//! at a time, so that memory is that of the groups.

use hashbrown::HashMap;
use model::Labels;
use query::Error;
use query::entries::{CountEntries, Counted, Direction, EntryCounts, LEVEL_NAME, SelectEntries};
use storage::entries::FoundEntry;

use super::Asking;
use super::reading::Pages;
use crate::budget::Reserved;

/// Counts what a question picks; in order of labels.
pub(super) async fn count(
    asking: Asking,
    request: CountEntries,
) -> Result<Vec<EntryCounts>, Error> {
    let CountEntries { selection, counted, width_ns, buckets, by, groups_max } = request;
    let mut counting = Counting {
        asking: asking.clone(),
        by,
        start_ns: selection.start_ns,
        width_ns: width_ns.max(1),
        buckets,
        counted,
        groups_max,
        groups: HashMap::new(),
        held: Reserved::default(),
    };
    let direction = Direction::Forward;
    let request = SelectEntries { selection, direction, ..SelectEntries::default() };
    let mut pages = Pages::new(asking.clone(), request);
    while let Some(page) = pages.next().await? {
        let adding = async move { counting.add_all(&page).map(|()| counting) };
        counting = asking.run(adding).await?;
    }
    Ok(counting.finish())
}

/// Groups so far.
struct Counting {
    asking: Asking,
    by: Vec<String>,
    start_ns: i64,
    width_ns: i64,
    buckets: usize,
    counted: Counted,
    groups_max: usize,
    /// By what entries have under the names, one after the other.
    groups: HashMap<Vec<u8>, EntryCounts>,
    held: Reserved,
}

impl Counting {
    fn add_all(&mut self, page: &[FoundEntry]) -> Result<(), Error> {
        let mut key = Vec::new();
        for entry in page {
            let after_ns = i128::from(entry.at_ns) - i128::from(self.start_ns);
            let bucket = usize::try_from(after_ns / i128::from(self.width_ns));
            let Some(bucket) = bucket.ok().filter(|bucket| *bucket < self.buckets) else {
                continue;
            };
            key.clear();
            for name in &self.by {
                let value = named(entry, name);
                key.extend_from_slice(&(value.len() as u64).to_le_bytes());
                key.extend_from_slice(value.as_bytes());
            }
            if !self.groups.contains_key(&key) {
                self.begin(&key, entry)?;
            }
            let Some(group) = self.groups.get_mut(&key) else { continue };
            group.counts[bucket] += match self.counted {
                Counted::Entries => 1,
                Counted::Bytes => entry.line.len() as u64,
            };
        }
        Ok(())
    }

    /// Makes room for a group.
    fn begin(&mut self, key: &[u8], entry: &FoundEntry) -> Result<(), Error> {
        let limit = self.groups_max;
        if self.groups.len() >= limit {
            return Err(Error::Execution(format!(
                "the entries are of more than {limit} groups, which is the limit; \
                 count by fewer names or ask for fewer streams"
            )));
        }
        let names = self.by.iter().map(|name| (name, named(entry, name)));
        let labels = Labels::from_pairs(names);
        let bytes = size_of::<EntryCounts>() + 2 * key.len() + self.buckets * size_of::<u64>();
        self.held.absorb(self.asking.budget.reserve(bytes)?);
        let counts = vec![0; self.buckets];
        self.groups.insert(key.to_vec(), EntryCounts { labels, counts });
        Ok(())
    }

    fn finish(self) -> Vec<EntryCounts> {
        let mut groups: Vec<EntryCounts> = self.groups.into_values().collect();
        groups.sort_by(|a, b| a.labels.cmp(&b.labels));
        groups
    }
}

/// What an entry has under a name, as [`query::entries::EntryRow::named`] tells it.
fn named<'a>(entry: &'a FoundEntry, name: &str) -> &'a str {
    if let Some(value) = entry.stream.labels.get(name) {
        return value;
    }
    match entry.fields.iter().find(|(field, _)| field == name) {
        Some((_, value)) => value,
        None if name == LEVEL_NAME => entry.level.as_str(),
        None => "",
    }
}
