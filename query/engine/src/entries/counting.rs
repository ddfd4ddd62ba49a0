//! Entries counted by buckets of time and by what they have under some names. Where nothing is asked
//! of lines and fields, tables of streams tell most of it; rows are read for the rest: oldest first,
//! a batch at a time, so that memory is that of the groups.

use hashbrown::HashMap;
use model::Labels;
use query::Error;
use query::entries::{
    CountEntries, Counted, Direction, EntryCounts, EntryFilter, EntrySelection, LEVEL_NAME,
    SelectEntries,
};
use storage::entries::{EntryTally, FoundEntry, SelectStreams, StreamTally, TallyEntries};

use super::Asking;
use super::reading::Pages;
use crate::budget::Reserved;
use crate::executor::asked;

/// Counts what a question picks; in order of labels.
pub(super) async fn count(
    asking: Asking,
    request: CountEntries,
) -> Result<Vec<EntryCounts>, Error> {
    let CountEntries { selection, counted, width_ns, buckets, by, groups_max } = request;
    let told = match counted {
        Counted::Entries => tally(&asking, &selection, width_ns, &by).await?,
        // Tables know bytes with those of fields.
        Counted::Bytes => None,
    };
    let mut counting = Counting {
        asking: asking.clone(),
        by,
        start_ns: selection.start_ns,
        width_ns: width_ns.max(1),
        buckets,
        counted,
        groups_max,
        groups: HashMap::new(),
        key: Vec::new(),
        held: Reserved::default(),
    };
    let direction = Direction::Forward;
    let request = SelectEntries { selection, direction, ..SelectEntries::default() };
    let mut pages = Pages::new(asking.clone(), request);
    if let Some(EntryTally { counts, rest }) = told {
        let adding = async move { counting.add_told(&counts).map(|()| counting) };
        counting = asking.run(adding).await?;
        if rest.is_empty() {
            return Ok(counting.finish());
        }
        pages = pages.within(rest);
    }
    while let Some(page) = pages.next().await? {
        let adding = async move { counting.add_all(&page).map(|()| counting) };
        counting = asking.run(adding).await?;
    }
    Ok(counting.finish())
}

/// What tables of streams tell of what is to be counted; `None` if they cannot.
async fn tally(
    asking: &Asking,
    selection: &EntrySelection,
    width_ns: i64,
    by: &[String],
) -> Result<Option<EntryTally>, Error> {
    if selection.filter != EntryFilter::default() {
        return Ok(None);
    }
    let streams = SelectStreams {
        signals: vec![selection.signal],
        selectors: selection.selectors.clone(),
        start_ns: selection.start_ns,
        end_ns: selection.end_ns,
    };
    let request = TallyEntries { streams, width_ns, names: by.to_vec() };
    let Asking { storage, scope, budget, .. } = asking.clone();
    let work = async move {
        let until = budget.cancel();
        storage.tally_entries(&scope, &request, until.stop()).await.map_err(asked)
    };
    asking.run(work).await
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
    /// The last key.
    key: Vec<u8>,
    held: Reserved,
}

impl Counting {
    /// Adds what tables of streams tell: these have labels under all the names.
    fn add_told(&mut self, told: &[StreamTally]) -> Result<(), Error> {
        for StreamTally { stream, buckets } in told {
            let value = |name: &str| stream.labels.get(name).unwrap_or_default();
            for (bucket, entries) in buckets {
                let bucket = usize::try_from(*bucket).ok().filter(|bucket| *bucket < self.buckets);
                if let Some(bucket) = bucket {
                    self.group(value)?.counts[bucket] += entries;
                }
            }
        }
        Ok(())
    }

    fn add_all(&mut self, page: &[FoundEntry]) -> Result<(), Error> {
        for entry in page {
            let after_ns = i128::from(entry.at_ns) - i128::from(self.start_ns);
            let bucket = usize::try_from(after_ns / i128::from(self.width_ns));
            let Some(bucket) = bucket.ok().filter(|bucket| *bucket < self.buckets) else {
                continue;
            };
            let counted = match self.counted {
                Counted::Entries => 1,
                Counted::Bytes => entry.line.len() as u64,
            };
            self.group(|name| named(entry, name))?.counts[bucket] += counted;
        }
        Ok(())
    }

    /// The group of what has these values under the names.
    fn group<'a>(&mut self, value: impl Fn(&str) -> &'a str) -> Result<&mut EntryCounts, Error> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        for name in &self.by {
            let value = value(name);
            key.extend_from_slice(&(value.len() as u64).to_le_bytes());
            key.extend_from_slice(value.as_bytes());
        }
        if !self.groups.contains_key(&key) {
            self.begin(&key, value)?;
        }
        self.key = key;
        let group = self.groups.get_mut(&self.key);
        group.ok_or_else(|| Error::internal("count entries", "a group is not there"))
    }

    /// Makes room for a group.
    fn begin<'a>(&mut self, key: &[u8], value: impl Fn(&str) -> &'a str) -> Result<(), Error> {
        let limit = self.groups_max;
        if self.groups.len() >= limit {
            return Err(Error::Execution(format!(
                "the entries are of more than {limit} groups, which is the limit; \
                 count by fewer names or ask for fewer streams"
            )));
        }
        let names = self.by.iter().map(|name| (name, value(name)));
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
