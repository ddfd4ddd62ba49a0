//! Which series of a tenant satisfy matchers, and which label names and values they have.
//!
//! Labels are never put together for it: matchers work on symbols, and a pattern is tried once
//! for each distinct value.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use model::{MatchOp, Matcher, Pace, Stopped};
use roaring::RoaringBitmap;
use tenancy::TenantId;

use super::Head;
use super::refs::{Refs, union};
use super::verdicts::Compare;

/// Up to so many candidates are looked at one by one rather than intersected further: a label may
/// have a hundred thousand values, and finding a candidate's takes some nanoseconds.
const ONE_BY_ONE_MAX: u64 = 4_096;

/// Candidates for each value that is walked instead of looking at them one by one.
const CANDIDATES_A_VALUE: usize = 8;

/// Up to so many series are looked at one by one to see which values of a label they have.
const VALUES_ONE_BY_ONE_MAX: u64 = 16_384;

impl Head {
    /// The series of a tenant that satisfy all matchers and were not deleted. An absent label has
    /// the empty value.
    pub fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Stopped> {
        self.select_by(tenant, matchers, &mut Compare::AtOnce, pace)
    }

    pub(super) fn select_by(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        compare: &mut Compare<'_>,
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Stopped> {
        let mut found = self.matching(tenant, matchers, compare, pace)?;
        if !self.hidden.is_empty() {
            found -= &self.hidden;
        }
        Ok(found)
    }

    fn matching(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        compare: &mut Compare<'_>,
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Stopped> {
        let Some(all) = self.index.tenants.get(&tenant) else { return Ok(RoaringBitmap::new()) };
        if !self.index.is_indexed(tenant) {
            let matchers: Vec<&Matcher> = matchers.iter().collect();
            return self.filter(&all.refs.to_bitmap(), &matchers, compare, pace);
        }
        let (equal, others): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| m.op() == MatchOp::Equal && !m.matches_empty());
        let Some(mut found) = self.having(tenant, &equal, &all.refs) else {
            return Ok(RoaringBitmap::new());
        };
        for matcher in others {
            if found.is_empty() {
                break;
            }
            if found.len() <= ONE_BY_ONE_MAX && !self.has_few_values(tenant, matcher, found.len()) {
                found = self.filter(&found, &[matcher], compare, pace)?;
                continue;
            }
            if !self.restrict(&mut found, tenant, matcher, (compare, pace))? {
                return Ok(RoaringBitmap::new());
            }
        }
        Ok(found)
    }

    /// Whether a label has so few values that walking them takes less than finding those of so many
    /// candidates.
    fn has_few_values(&self, tenant: TenantId, matcher: &Matcher, candidates: u64) -> bool {
        let Some(name) = self.labels.symbols.get(matcher.name()) else { return true };
        let few = candidates as usize / CANDIDATES_A_VALUE;
        self.index.values(tenant, name).take(few + 1).count() <= few
    }

    /// The series that have all these label values; the rarest first.
    fn having(&self, tenant: TenantId, equal: &[&Matcher], all: &Refs) -> Option<RoaringBitmap> {
        let posting = |m: &&Matcher| {
            let symbols = &self.labels.symbols;
            self.index.posting(tenant, symbols.get(m.name())?, symbols.get(m.value())?)
        };
        let mut sets: Vec<&Refs> = equal.iter().map(posting).collect::<Option<_>>()?;
        sets.sort_by_key(|refs| refs.len());
        let (first, rest) = match sets.split_first() {
            Some((first, rest)) => (*first, rest),
            None => (all, &[][..]),
        };
        let mut found = first.to_bitmap();
        rest.iter().for_each(|refs| refs.keep_in(&mut found));
        Some(found)
    }

    /// Drops the series that do not satisfy a matcher; says whether enough is known to tell.
    fn restrict(
        &self,
        found: &mut RoaringBitmap,
        tenant: TenantId,
        matcher: &Matcher,
        (compare, pace): (&mut Compare<'_>, &mut Pace),
    ) -> Result<bool, Stopped> {
        let matches_empty = matcher.matches_empty();
        let symbols = &self.labels.symbols;
        let Some(name) = symbols.get(matcher.name()) else {
            if !matches_empty {
                found.clear();
            }
            return Ok(true);
        };
        if matcher.op() == MatchOp::NotEqual && matches_empty {
            let value = symbols.get(matcher.value());
            let refs = value.and_then(|value| self.index.posting(tenant, name, value));
            refs.into_iter().for_each(|refs| refs.take_from(found));
            return Ok(true);
        }
        // Whichever side the absent label is not on: those values can be listed.
        let keep = |found: &mut RoaringBitmap, listed: &RoaringBitmap| match matches_empty {
            true => *found -= listed,
            false => *found &= listed,
        };
        let mut comparing = compare.with(matcher);
        if let Some(listed) = comparing.listed(name) {
            keep(found, listed);
            return Ok(true);
        }
        let mut sets: Vec<&Refs> = Vec::new();
        for (value, refs) in self.index.values(tenant, name) {
            let holds = comparing.holds(value, symbols.text(value), pace)?;
            if holds.is_some_and(|holds| holds != matches_empty) {
                sets.push(refs);
            }
        }
        if comparing.lacks_some() {
            return Ok(false);
        }
        if matches_empty && sets.len() <= 4 {
            sets.iter().for_each(|refs| refs.take_from(found));
            return Ok(true);
        }
        let listed = union(&sets, pace)?;
        keep(found, &listed);
        comparing.list(name, listed);
        Ok(true)
    }

    /// Those of `candidates` that satisfy all matchers, looked at one by one.
    fn filter(
        &self,
        candidates: &RoaringBitmap,
        matchers: &[&Matcher],
        compare: &mut Compare<'_>,
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Stopped> {
        let mut found = candidates.clone();
        for matcher in matchers {
            let Some(name) = self.labels.symbols.get(matcher.name()) else {
                if matcher.matches_empty() {
                    continue;
                }
                return Ok(RoaringBitmap::new());
            };
            let mut verdicts: HashMap<u32, bool> = HashMap::new();
            let matches_empty = matcher.matches_empty();
            let mut comparing = compare.with(matcher);
            let mut kept = RoaringBitmap::new();
            for series in &found {
                pace.work(2)?;
                let holds = match self.labels.value_of(series, name) {
                    None => matches_empty,
                    Some(value) => match verdicts.get(&value) {
                        Some(known) => *known,
                        None => {
                            let text = self.labels.symbols.text(value);
                            // What is not known yet passes, so that other matchers ask for theirs.
                            let holds = comparing.holds(value, text, pace)?.unwrap_or(true);
                            verdicts.insert(value, holds);
                            holds
                        }
                    },
                };
                if holds {
                    kept.insert(series);
                }
            }
            found = kept;
        }
        Ok(found)
    }

    /// All series of a tenant that were not deleted.
    pub fn all(&self, tenant: TenantId) -> RoaringBitmap {
        let all = self.index.tenants.get(&tenant).map(|t| t.refs.to_bitmap()).unwrap_or_default();
        if self.hidden.is_empty() { all } else { all - &self.hidden }
    }

    /// Whether the postings of a tenant tell of no deleted series.
    fn is_told_by_postings(&self, tenant: TenantId) -> bool {
        self.index.is_indexed(tenant) && self.hidden_series(tenant) == 0
    }

    /// Series of a tenant that were deleted and not dropped yet.
    pub(super) fn hidden_series(&self, tenant: TenantId) -> u64 {
        if self.hidden.is_empty() {
            return 0;
        }
        self.index.tenants.get(&tenant).map_or(0, |t| t.refs.shared_with(&self.hidden))
    }

    /// Label names of a tenant's series, or of those `within`.
    pub fn label_names(
        &self,
        tenant: TenantId,
        within: Option<&RoaringBitmap>,
        pace: &mut Pace,
    ) -> Result<BTreeSet<&str>, Stopped> {
        let text = |name: u32| self.labels.symbols.text(name);
        if within.is_none() && self.is_told_by_postings(tenant) {
            return Ok(self.index.names(tenant).map(text).collect());
        }
        let all;
        let within = match within {
            Some(within) => within,
            None => {
                all = self.all(tenant);
                &all
            }
        };
        let mut shapes: BTreeSet<u32> = BTreeSet::new();
        for series in within {
            pace.work(2)?;
            shapes.insert(self.labels.at[series as usize].shape);
        }
        let mut names = BTreeSet::new();
        for shape in shapes {
            let of_shape = self.labels.shapes.names(shape);
            pace.work(4 * of_shape.len())?;
            names.extend(of_shape.iter().map(|&name| text(name)));
        }
        Ok(names)
    }

    /// Values of a label over a tenant's series, or over those `within`.
    pub fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        within: Option<&RoaringBitmap>,
        pace: &mut Pace,
    ) -> Result<BTreeSet<&str>, Stopped> {
        let mut values = BTreeSet::new();
        self.for_each_value(tenant, name, within, pace, |value, _| {
            values.insert(value);
        })?;
        Ok(values)
    }

    /// Calls `each` with every value of a label and how many series of the tenant, or of those
    /// `within`, have it. Each value once, in no order.
    pub fn for_each_value<'a>(
        &'a self,
        tenant: TenantId,
        name: &str,
        within: Option<&RoaringBitmap>,
        pace: &mut Pace,
        mut each: impl FnMut(&'a str, u64),
    ) -> Result<(), Stopped> {
        let Some(name) = self.labels.symbols.get(name) else { return Ok(()) };
        let few = within.is_some_and(|w| w.len() <= VALUES_ONE_BY_ONE_MAX);
        let told = if within.is_some() {
            self.index.is_indexed(tenant)
        } else {
            self.is_told_by_postings(tenant)
        };
        if told && !few {
            for (value, refs) in self.index.values(tenant, name) {
                pace.work(20 + refs.len() as usize / 64)?;
                let count = within.map_or_else(|| refs.len(), |within| refs.shared_with(within));
                if count > 0 {
                    each(self.labels.symbols.text(value), count);
                }
            }
            return Ok(());
        }
        let mut counts: HashMap<u32, u64> = HashMap::new();
        let all;
        let within = match within {
            Some(within) => within,
            None => {
                all = self.all(tenant);
                &all
            }
        };
        for series in within {
            pace.work(4)?;
            if let Some(value) = self.labels.value_of(series, name) {
                *counts.entry(value).or_default() += 1;
            }
        }
        for (value, count) in counts {
            pace.work(20)?;
            each(self.labels.symbols.text(value), count);
        }
        Ok(())
    }

    /// One label of all series, to group many series by it without putting labels together.
    pub fn label_column(&self, name: &str) -> LabelColumn<'_> {
        let name = self.labels.symbols.get(name);
        let shapes = &self.labels.shapes;
        let position = |shape| {
            let name = name?;
            shapes.names(shape).iter().position(|&n| n == name).map(|at| at as u32)
        };
        LabelColumn { head: self, positions: (0..shapes.len()).map(position).collect() }
    }

    /// The text of a symbol from a [`LabelColumn`].
    pub fn symbol_text(&self, symbol: u32) -> &str {
        self.labels.symbols.text(symbol)
    }

    /// Symbols are numbers below this: a plain array can be indexed by them.
    pub fn symbol_count(&self) -> u32 {
        self.labels.symbols.len()
    }
}

/// The values of one label, by series.
#[derive(Debug)]
pub struct LabelColumn<'a> {
    head: &'a Head,
    /// Where the label stands, by shape.
    positions: Vec<Option<u32>>,
}

impl LabelColumn<'_> {
    /// The symbol of the series' value; `None` if it does not have the label.
    #[inline]
    pub fn symbol(&self, series: u32) -> Option<u32> {
        let at = self.head.labels.at[series as usize];
        let position = self.positions[at.shape as usize]?;
        Some(self.head.labels.values[(at.start + position) as usize])
    }
}
