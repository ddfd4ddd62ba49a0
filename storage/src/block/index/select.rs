//! Matchers against the value dictionary: literals by look-up, patterns by how their values begin,
//! whatever is left by walking the label's values; a few candidates by their own labels.

use std::sync::Arc;

use fst::{IntoStreamer, Streamer};
use hashbrown::{HashMap, HashSet};
use model::{Beginning, MatchOp, Matcher, Pace, varint};
use roaring::RoaringBitmap;
use tenancy::TenantId;

use super::{
    Index, RUN_LENGTH_BITS, RowCursor, SEPARATOR, TAG_BITMAP, TAG_ROW, TAG_RUN, TAG_SHIFT,
    TenantRows,
};
use crate::Error;

/// Up to this many candidates their labels are compared one by one instead of walking the values
/// of a label, of which there may be a hundred thousand. Reading a row is some ten times quicker
/// than a step in the dictionary with the postings behind it.
const CANDIDATES_FEW: u64 = 4_096;

/// Up to this many rows are read to see which names or values they have. Others intersect the
/// postings of each with the rows.
const ROWS_FEW: u64 = 16_384;

/// Candidates for each value that may be walked instead of comparing them one by one.
const CANDIDATES_A_VALUE: u64 = 8;

/// Rows by pattern, found once for many questions: a block never changes.
pub(in crate::block) trait Lists {
    /// The rows whose label is there and matches the pattern of a matcher, negated or not, as they
    /// are known or as `find` finds them.
    fn rows(
        &self,
        tenant: TenantId,
        matcher: &Matcher,
        find: &mut dyn FnMut() -> Result<RoaringBitmap, Error>,
    ) -> Result<Arc<RoaringBitmap>, Error>;
}

/// Nothing is known, or kept.
pub(in crate::block) struct Unlisted;

impl Lists for Unlisted {
    fn rows(
        &self,
        _: TenantId,
        _: &Matcher,
        find: &mut dyn FnMut() -> Result<RoaringBitmap, Error>,
    ) -> Result<Arc<RoaringBitmap>, Error> {
        find().map(Arc::new)
    }
}

impl Index {
    /// Series rows of a tenant that satisfy all matchers.
    pub(in crate::block) fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        lists: &dyn Lists,
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Error> {
        let Some(rows) = self.tenant(tenant) else { return Ok(RoaringBitmap::new()) };
        let mut found = RoaringBitmap::new();
        found.insert_range(rows.series.clone());
        // Look-ups first: they leave little for the costly ones.
        let mut ordered: Vec<&Matcher> = matchers.iter().collect();
        ordered.sort_by_key(|m| {
            (m.op() != MatchOp::Equal || m.value().is_empty(), m.op() == MatchOp::Regex)
        });
        for matcher in ordered {
            if found.is_empty() {
                break;
            }
            if !matches!(matcher.op(), MatchOp::Regex | MatchOp::NotRegex) {
                self.look_up(&mut found, tenant, matcher)?;
                continue;
            }
            if found.len() > CANDIDATES_FEW {
                let mut all = || self.rows_matching(tenant, matcher, u64::MAX, pace);
                let find = &mut || all().map(Option::unwrap_or_default);
                let matching = lists.rows(tenant, matcher, find)?;
                self.restrict(&mut found, rows, matcher, &matching)?;
                continue;
            }
            let values_max = found.len() / CANDIDATES_A_VALUE;
            match self.rows_matching(tenant, matcher, values_max, pace)? {
                Some(matching) => self.restrict(&mut found, rows, matcher, &matching)?,
                None => self.filter(&mut found, matcher, pace)?,
            }
        }
        Ok(found)
    }

    fn filter(
        &self,
        rows: &mut RoaringBitmap,
        matcher: &Matcher,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        let mut cursor = RowCursor::default();
        let mut kept = RoaringBitmap::new();
        let mut label = LabelSymbol::new(self, matcher.name());
        let mut verdicts: HashMap<Option<u32>, bool> = HashMap::new();
        for row in rows.iter() {
            pace.work(10)?;
            let value = label.value(self.pairs(row, &mut cursor)?);
            let holds = match verdicts.get(&value) {
                Some(known) => *known,
                None => {
                    let text = value.and_then(|value| self.symbol(value)).unwrap_or("");
                    let holds = matcher.matches_at(text, pace)?;
                    verdicts.insert(value, holds);
                    holds
                }
            };
            if holds {
                kept.insert(row);
            }
        }
        *rows = kept;
        Ok(())
    }

    fn look_up(
        &self,
        found: &mut RoaringBitmap,
        tenant: TenantId,
        matcher: &Matcher,
    ) -> Result<(), Error> {
        let rows = self.rows_with(tenant, matcher.name(), matcher.value())?;
        // The empty value stands for presence, which is the opposite of what it says.
        match (matcher.op() == MatchOp::Equal) != matcher.value().is_empty() {
            true => *found &= rows,
            false => *found -= rows,
        }
        Ok(())
    }

    /// Keeps what satisfies a pattern, by the rows it matches where the label is there.
    fn restrict(
        &self,
        found: &mut RoaringBitmap,
        of: &TenantRows,
        matcher: &Matcher,
        matching: &RoaringBitmap,
    ) -> Result<(), Error> {
        let is_negated = matcher.op() == MatchOp::NotRegex;
        if matcher.matches_empty() == is_negated {
            match is_negated {
                true => *found -= matching,
                false => *found &= matching,
            }
            return Ok(());
        }
        let mut matching = matching.clone();
        let mut without = RoaringBitmap::new();
        without.insert_range(of.series.clone());
        without -= self.rows_with(of.tenant, matcher.name(), "")?;
        matching |= without;
        match is_negated {
            true => *found -= matching,
            false => *found &= matching,
        }
        Ok(())
    }

    /// Rows whose label is there and matches the pattern of a regex matcher, negated or not; `None` if
    /// more values than `values_max` would have to be looked at.
    fn rows_matching(
        &self,
        tenant: TenantId,
        matcher: &Matcher,
        values_max: u64,
        pace: &mut Pace,
    ) -> Result<Option<RoaringBitmap>, Error> {
        let name = matcher.name();
        if matches!(matcher.value(), ".*" | ".+") {
            return self.rows_with(tenant, name, "").map(Some);
        }
        let beginnings = matcher.beginnings();
        if beginnings.len() as u64 > values_max {
            return Ok(None);
        }
        let (mut union, mut looked_at) = (Union::default(), 0);
        for Beginning { text, is_whole } in beginnings {
            let prefix = key(tenant, name, text);
            if is_whole {
                looked_at += 1;
                let postings = self.fst.get(&prefix).filter(|_| !text.is_empty());
                let Some((postings, value)) = postings.zip(std::str::from_utf8(text).ok()) else {
                    continue;
                };
                if matcher.pattern_matches_at(value, pace)? {
                    self.add_postings(postings, &mut union)?;
                }
                continue;
            }
            let is_through =
                self.walk(&prefix, key(tenant, name, b"").len(), |value, postings| {
                    looked_at += 1;
                    if looked_at > values_max {
                        return Ok(false);
                    }
                    if matcher.pattern_matches_at(value, pace)? {
                        pace.work(20)?;
                        self.add_postings(postings, &mut union)?;
                    }
                    Ok(true)
                })?;
            if !is_through {
                return Ok(None);
            }
        }
        Ok(Some(union.into_bitmap()))
    }

    /// Calls `each` with every value whose key starts with `prefix`, as long as it wants more, and
    /// says whether it did to the end; the value starts at `value_at` in the key. The empty value
    /// stands for presence and is left out.
    fn walk(
        &self,
        prefix: &[u8],
        value_at: usize,
        mut each: impl FnMut(&str, u64) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let mut stream = self.fst.range().ge(prefix).into_stream();
        while let Some((key, postings)) = stream.next() {
            if !key.starts_with(prefix) {
                break;
            }
            let value = key.get(value_at..).and_then(|v| std::str::from_utf8(v).ok());
            let value = value.ok_or_else(|| self.damaged("a label value is not text"))?;
            if !value.is_empty() && !each(value, postings)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows with one value; the empty value stands for any.
    fn rows_with(&self, tenant: TenantId, name: &str, value: &str) -> Result<RoaringBitmap, Error> {
        let mut union = Union::default();
        if let Some(postings) = self.fst.get(key(tenant, name, value.as_bytes())) {
            self.add_postings(postings, &mut union)?;
        }
        Ok(union.into_bitmap())
    }

    fn add_postings(&self, postings: u64, union: &mut Union) -> Result<(), Error> {
        match postings >> TAG_SHIFT {
            TAG_ROW => union.rows.push(postings as u32),
            TAG_RUN => {
                let length = postings & ((1 << RUN_LENGTH_BITS) - 1);
                let first = postings >> RUN_LENGTH_BITS & u64::from(u32::MAX);
                if first + length > self.meta.series {
                    return Err(self.damaged("postings beyond the last series"));
                }
                union.bitmap.insert_range(first as u32..(first + length) as u32);
            }
            TAG_BITMAP => {
                let offset = (postings & ((1 << TAG_SHIFT) - 1)) as usize;
                let mut bytes = self.postings.get(offset..).unwrap_or_default();
                let length = varint::take(&mut bytes).and_then(|l| usize::try_from(l).ok());
                let bytes = length
                    .and_then(|l| bytes.get(..l))
                    .ok_or_else(|| self.damaged("postings cut short"))?;
                let bitmap = RoaringBitmap::deserialize_from(bytes)
                    .map_err(|_| self.damaged("malformed postings"))?;
                union.bitmap |= bitmap;
            }
            _ => return Err(self.damaged("unknown form of postings")),
        }
        Ok(())
    }

    /// Values of a label in byte order, among `rows` if given.
    pub(in crate::block) fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        rows: Option<&RoaringBitmap>,
        pace: &mut Pace,
    ) -> Result<Vec<String>, Error> {
        let mut values = Vec::new();
        if let Some(rows) = rows.filter(|r| r.len() <= ROWS_FEW) {
            let mut label = LabelSymbol::new(self, name);
            let mut found: HashSet<u32> = HashSet::new();
            self.for_each_row(rows, pace, |pairs| found.extend(label.value(pairs)))?;
            return Ok(self.texts_in_order(found));
        }
        let prefix = key(tenant, name, b"");
        self.walk(&prefix, prefix.len(), |value, postings| {
            pace.work(50)?;
            if self.touches(postings, rows)? {
                values.push(value.to_owned());
            }
            Ok(true)
        })?;
        Ok(values)
    }

    /// Label names in byte order, among `rows` if given.
    pub(in crate::block) fn label_names(
        &self,
        tenant: TenantId,
        rows: Option<&RoaringBitmap>,
        pace: &mut Pace,
    ) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        if let Some(rows) = rows.filter(|r| r.len() <= ROWS_FEW) {
            let mut found: HashSet<u32> = HashSet::new();
            let each = |pairs: &[(u32, u32)]| found.extend(pairs.iter().map(|(name, _)| *name));
            self.for_each_row(rows, pace, each)?;
            return Ok(self.texts_in_order(found));
        }
        let tenant = tenant.0.to_be_bytes();
        let mut from = tenant.to_vec();
        loop {
            let mut stream = self.fst.range().ge(&from).into_stream();
            let Some((key, postings)) = stream.next() else { break };
            let Some(rest) = key.strip_prefix(tenant.as_slice()) else { break };
            let end = rest
                .iter()
                .position(|b| *b == SEPARATOR)
                .ok_or_else(|| self.damaged("malformed dictionary key"))?;
            let name = std::str::from_utf8(&rest[..end])
                .map_err(|_| self.damaged("a label name is not text"))?;
            // The first key of a name is the one for presence.
            pace.work(200)?;
            if self.touches(postings, rows)? {
                names.push(name.to_owned());
            }
            from.truncate(tenant.len());
            from.extend_from_slice(name.as_bytes());
            from.extend_from_slice(&[SEPARATOR, SEPARATOR]);
        }
        // Keys sort a name after those it is a prefix of.
        names.sort_unstable();
        Ok(names)
    }

    fn for_each_row(
        &self,
        rows: &RoaringBitmap,
        pace: &mut Pace,
        mut each: impl FnMut(&[(u32, u32)]),
    ) -> Result<(), Error> {
        let mut cursor = RowCursor::default();
        for row in rows {
            pace.work(10)?;
            each(self.pairs(row, &mut cursor)?);
        }
        Ok(())
    }

    fn texts_in_order(&self, symbols: HashSet<u32>) -> Vec<String> {
        let texts = symbols.into_iter().filter_map(|symbol| self.symbol(symbol));
        let mut texts: Vec<String> = texts.map(str::to_owned).collect();
        texts.sort_unstable();
        texts
    }

    fn touches(&self, postings: u64, rows: Option<&RoaringBitmap>) -> Result<bool, Error> {
        let Some(rows) = rows else { return Ok(true) };
        if postings >> TAG_SHIFT == TAG_ROW {
            return Ok(rows.contains(postings as u32));
        }
        let mut union = Union::default();
        self.add_postings(postings, &mut union)?;
        Ok(!union.into_bitmap().is_disjoint(rows))
    }
}

/// A label as rows have it: by the number of its name, once that was met.
struct LabelSymbol<'a> {
    index: &'a Index,
    name: &'a str,
    symbol: Option<u32>,
}

impl<'a> LabelSymbol<'a> {
    fn new(index: &'a Index, name: &'a str) -> Self {
        Self { index, name, symbol: None }
    }

    /// The number of a row's value.
    fn value(&mut self, pairs: &[(u32, u32)]) -> Option<u32> {
        if let Some(symbol) = self.symbol {
            return pairs.iter().find(|(name, _)| *name == symbol).map(|(_, value)| *value);
        }
        let is_it = |name: u32| self.index.symbol(name) == Some(self.name);
        let (name, value) = pairs.iter().find(|(name, _)| is_it(*name))?;
        self.symbol = Some(*name);
        Some(*value)
    }
}

/// Rows gathered from many postings.
#[derive(Default)]
struct Union {
    rows: Vec<u32>,
    bitmap: RoaringBitmap,
}

impl Union {
    fn into_bitmap(mut self) -> RoaringBitmap {
        self.rows.sort_unstable();
        self.rows.dedup();
        if let Ok(rows) = RoaringBitmap::from_sorted_iter(self.rows) {
            self.bitmap |= rows;
        }
        self.bitmap
    }
}

fn key(tenant: TenantId, name: &str, value: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + name.len() + value.len());
    key.extend_from_slice(&tenant.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key.push(SEPARATOR);
    key.extend_from_slice(value);
    key
}
