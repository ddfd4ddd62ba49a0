//! Which series of a tenant have which label: postings.
//!
//! A tenant with few series has none: its series are looked at one by one, so that ten thousand
//! small tenants cost no more than their series. From [`INDEXED_FROM`] series on, each (tenant,
//! name, value) has the set of its series; the values of a name are chained for listing.

use hashbrown::{HashMap, HashTable};
use tenancy::TenantId;

use super::hash_pair;
use super::identity::LabelStore;
use super::refs::Refs;

/// Series of a tenant, in this partition, from which on it has postings.
pub(super) const INDEXED_FROM: u64 = 64;

/// End of a chain.
const NONE: u32 = u32::MAX;

/// Postings of all tenants of a partition.
#[derive(Debug, Default)]
pub(super) struct Index {
    key: u64,
    pub(super) tenants: HashMap<TenantId, TenantSeries>,
    names: Vec<Name>,
    names_table: HashTable<u32>,
    postings: Vec<Posting>,
    postings_table: HashTable<u32>,
    recent: Recent,
}

/// The shape last added and its entries in `names`: series of one kind arrive together.
#[derive(Debug, Default)]
struct Recent {
    of: Option<(TenantId, u32)>,
    names: Vec<u32>,
}

/// What a partition holds of one tenant.
#[derive(Debug)]
pub(super) struct TenantSeries {
    pub(super) refs: Refs,
    /// First of the chain of its label names; only if it has postings.
    first_name: u32,
    is_indexed: bool,
    /// Samples in the open generation.
    pub(super) samples_open: u64,
    /// Samples in the frozen one.
    pub(super) samples_frozen: u64,
}

#[derive(Debug)]
struct Name {
    tenant: TenantId,
    name: u32,
    /// First of the chain of its values.
    first: u32,
    /// The posting last added to: series of one target arrive together.
    recent: u32,
    /// Next name of the tenant.
    next: u32,
}

#[derive(Debug)]
struct Posting {
    /// Position in `names`.
    name: u32,
    value: u32,
    /// Next value of the name.
    next: u32,
    refs: Refs,
}

impl Index {
    pub(super) fn new(key: u64) -> Self {
        Self { key, ..Self::default() }
    }

    /// Adds the newest series of `labels`, which belongs to `tenant`.
    pub(super) fn add(&mut self, tenant: TenantId, series: u32, labels: &LabelStore) {
        let entry =
            self.tenants.entry(tenant).and_modify(|t| t.refs.push(series)).or_insert_with(|| {
                TenantSeries {
                    refs: Refs::One(series),
                    first_name: NONE,
                    is_indexed: false,
                    samples_open: 0,
                    samples_frozen: 0,
                }
            });
        if entry.is_indexed {
            self.add_postings(tenant, series, labels);
        } else if entry.refs.len() >= INDEXED_FROM {
            entry.is_indexed = true;
            let mut series = Vec::new();
            entry.refs.for_each(|s| series.push(s));
            self.build(tenant, &series, labels);
        }
    }

    fn add_postings(&mut self, tenant: TenantId, series: u32, labels: &LabelStore) {
        let shape = labels.at[series as usize].shape;
        let mut recent = std::mem::take(&mut self.recent);
        if recent.of != Some((tenant, shape)) {
            recent.of = Some((tenant, shape));
            recent.names.clear();
            recent.names.extend(
                labels.shapes.names(shape).iter().map(|&name| self.name_entry(tenant, name)),
            );
        }
        for (&name, (_, value)) in recent.names.iter().zip(labels.pairs(series)) {
            let guess = self.names[name as usize].recent;
            let found = match self.postings.get(guess as usize) {
                Some(posting) if posting.value == value => Some(guess),
                _ => self.find_posting(name, value),
            };
            match found {
                Some(posting) => {
                    self.postings[posting as usize].refs.push(series);
                    self.names[name as usize].recent = posting;
                }
                None => self.insert_posting(name, value, Refs::One(series)),
            }
        }
        self.recent = recent;
    }

    fn name_entry(&mut self, tenant: TenantId, name: u32) -> u32 {
        let key = self.key;
        let hash = hash_pair(key, tenant.0, name);
        if let Some(&entry) = self.names_table.find(hash, |&n| {
            let known = &self.names[n as usize];
            known.name == name && known.tenant == tenant
        }) {
            return entry;
        }
        let entry = self.names.len() as u32;
        let tenant_entry =
            self.tenants.get_mut(&tenant).expect("a tenant is entered before its labels");
        let next = std::mem::replace(&mut tenant_entry.first_name, entry);
        self.names.push(Name { tenant, name, first: NONE, recent: NONE, next });
        let names = &self.names;
        self.names_table.insert_unique(hash, entry, |&n| {
            let known = &names[n as usize];
            hash_pair(key, known.tenant.0, known.name)
        });
        entry
    }

    fn find_posting(&self, name: u32, value: u32) -> Option<u32> {
        let hash = hash_pair(!self.key, name, value);
        let same = |&p: &u32| {
            let known = &self.postings[p as usize];
            known.value == value && known.name == name
        };
        self.postings_table.find(hash, same).copied()
    }

    fn insert_posting(&mut self, name: u32, value: u32, refs: Refs) {
        let key = !self.key;
        let posting = self.postings.len() as u32;
        let entry = &mut self.names[name as usize];
        let next = std::mem::replace(&mut entry.first, posting);
        entry.recent = posting;
        self.postings.push(Posting { name, value, next, refs });
        let postings = &self.postings;
        self.postings_table.insert_unique(hash_pair(key, name, value), posting, |&p| {
            let known = &postings[p as usize];
            hash_pair(key, known.name, known.value)
        });
    }

    /// Postings of many series at once: labels are counted and sorted by value, name by name,
    /// instead of being looked up one by one.
    fn build(&mut self, tenant: TenantId, series: &[u32], labels: &LabelStore) {
        let mut by_name: Vec<(u32, Vec<Pair>)> = Vec::new();
        let mut column_of: HashMap<u32, usize> = HashMap::new();
        let mut columns_of: HashMap<u32, Vec<usize>> = HashMap::new();
        for &s in series {
            let shape = labels.at[s as usize].shape;
            let columns = columns_of.entry(shape).or_insert_with(|| {
                let column = |&name: &u32| {
                    *column_of.entry(name).or_insert_with(|| {
                        by_name.push((name, Vec::new()));
                        by_name.len() - 1
                    })
                };
                labels.shapes.names(shape).iter().map(column).collect()
            });
            for (&column, (_, value)) in columns.iter().zip(labels.pairs(s)) {
                by_name[column].1.push(Pair { value, series: s });
            }
        }
        let mut sorter = Sorter::default();
        for (name, pairs) in by_name {
            let name = self.name_entry(tenant, name);
            sorter.by_value(pairs, labels.symbols.len(), |value, refs| {
                self.insert_posting(name, value, Refs::from_sorted(refs));
            });
        }
    }

    /// Everything anew, from the tenant of each series.
    pub(super) fn rebuild(&mut self, tenants: impl Iterator<Item = TenantId>, labels: &LabelStore) {
        let mut series_of: HashMap<TenantId, Vec<u32>> = HashMap::new();
        for (series, tenant) in tenants.enumerate() {
            series_of.entry(tenant).or_default().push(series as u32);
        }
        let old = std::mem::replace(self, Self::new(self.key));
        for (tenant, series) in &series_of {
            let is_indexed = series.len() as u64 >= INDEXED_FROM;
            let (samples_open, samples_frozen) =
                old.tenants.get(tenant).map_or((0, 0), |t| (t.samples_open, t.samples_frozen));
            let refs = Refs::from_sorted(series);
            let entry =
                TenantSeries { refs, first_name: NONE, is_indexed, samples_open, samples_frozen };
            self.tenants.insert(*tenant, entry);
            if is_indexed {
                self.build(*tenant, series, labels);
            }
        }
    }

    /// Whether the tenant has postings; otherwise its series are looked at one by one.
    pub(super) fn is_indexed(&self, tenant: TenantId) -> bool {
        self.tenants.get(&tenant).is_some_and(|t| t.is_indexed)
    }

    /// The series with one value of a label.
    pub(super) fn posting(&self, tenant: TenantId, name: u32, value: u32) -> Option<&Refs> {
        let posting = self.find_posting(self.find_name(tenant, name)?, value)?;
        Some(&self.postings[posting as usize].refs)
    }

    fn find_name(&self, tenant: TenantId, name: u32) -> Option<u32> {
        let hash = hash_pair(self.key, tenant.0, name);
        let same = |&n: &u32| {
            let known = &self.names[n as usize];
            known.name == name && known.tenant == tenant
        };
        self.names_table.find(hash, same).copied()
    }

    /// Value symbols of a label with their series.
    pub(super) fn values(&self, tenant: TenantId, name: u32) -> impl Iterator<Item = (u32, &Refs)> {
        let first = self.find_name(tenant, name).map_or(NONE, |n| self.names[n as usize].first);
        self.chain(first)
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = (u32, &Refs)> {
        let mut at = first;
        std::iter::from_fn(move || {
            let posting = self.postings.get(at as usize)?;
            at = posting.next;
            Some((posting.value, &posting.refs))
        })
    }

    /// Name symbols of a tenant that has postings.
    pub(super) fn names(&self, tenant: TenantId) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.tenants.get(&tenant).map_or(NONE, |t| t.first_name);
        std::iter::from_fn(move || {
            let name = self.names.get(at as usize)?;
            at = name.next;
            Some(name.name)
        })
    }

    /// Memory taken.
    pub(super) fn heap_bytes(&self) -> usize {
        self.tenants.capacity() * (size_of::<TenantSeries>() + 8)
            + self.names.capacity() * size_of::<Name>()
            + self.postings.capacity() * size_of::<Posting>()
            + self.names_table.allocation_size()
            + self.postings_table.allocation_size()
            + self.postings.iter().map(|p| p.refs.heap_bytes()).sum::<usize>()
    }
}

/// A series and its value of some label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    value: u32,
    series: u32,
}

/// Groups pairs by value.
#[derive(Debug, Default)]
struct Sorter {
    /// By value: where its next series goes. All zero between two uses.
    ends: Vec<u32>,
    series: Vec<u32>,
}

impl Sorter {
    /// Calls `each` with every value and its series, which keep their order.
    fn by_value(&mut self, mut pairs: Vec<Pair>, symbols: u32, mut each: impl FnMut(u32, &[u32])) {
        self.series.clear();
        if pairs.len() < symbols as usize / 8 {
            pairs.sort_unstable();
            for run in pairs.chunk_by(|a, b| a.value == b.value) {
                self.series.clear();
                self.series.extend(run.iter().map(|pair| pair.series));
                each(run[0].value, &self.series);
            }
            return;
        }
        // Counted instead of compared: values are numbers below `symbols`.
        self.ends.resize(symbols as usize, 0);
        self.series.resize(pairs.len(), 0);
        let mut values = Vec::new();
        for pair in &pairs {
            let count = &mut self.ends[pair.value as usize];
            if *count == 0 {
                values.push(pair.value);
            }
            *count += 1;
        }
        let mut start = 0;
        for &value in &values {
            let count = std::mem::replace(&mut self.ends[value as usize], start);
            start += count;
        }
        for pair in &pairs {
            let end = &mut self.ends[pair.value as usize];
            self.series[*end as usize] = pair.series;
            *end += 1;
        }
        let mut start = 0;
        for value in values {
            let end = std::mem::take(&mut self.ends[value as usize]);
            each(value, &self.series[start as usize..end as usize]);
            start = end;
        }
    }
}
