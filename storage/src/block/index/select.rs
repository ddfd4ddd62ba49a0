//! Matchers against the value dictionary: literals by look-up, patterns by their literal prefixes,
//! whatever is left by walking the label's values.

use fst::{IntoStreamer, Streamer};
use model::{MatchOp, Matcher, Pace, varint};
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use roaring::RoaringBitmap;
use tenancy::TenantId;

use super::{
    Index, RUN_LENGTH_BITS, RowCursor, SEPARATOR, TAG_BITMAP, TAG_ROW, TAG_RUN, TAG_SHIFT,
};
use crate::Error;

/// Up to this many candidates their labels are compared one by one instead of walking the values
/// of a label, of which there may be a hundred thousand.
const CANDIDATES_FEW: u64 = 256;

/// Most literals taken from a pattern; beyond it a walk is as good.
const LITERALS_MAX: usize = 512;

impl Index {
    /// Series rows of a tenant that satisfy all matchers.
    pub(in crate::block) fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Error> {
        let Some(rows) = self.tenant(tenant) else { return Ok(RoaringBitmap::new()) };
        let mut found = RoaringBitmap::new();
        found.insert_range(rows.series.clone());
        let all = found.clone();
        // Look-ups first: they leave little for the costly ones.
        let mut ordered: Vec<&Matcher> = matchers.iter().collect();
        ordered.sort_by_key(|m| {
            (m.op() != MatchOp::Equal || m.value().is_empty(), m.op() == MatchOp::Regex)
        });
        for matcher in ordered {
            if found.is_empty() {
                break;
            }
            let is_look_up = matches!(matcher.op(), MatchOp::Equal | MatchOp::NotEqual);
            if !is_look_up && found.len() <= CANDIDATES_FEW {
                self.filter(&mut found, matcher, pace)?;
            } else {
                self.apply(&mut found, tenant, &all, matcher, pace)?;
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
        for row in rows.iter() {
            let pairs = self.pairs(row, &mut cursor)?;
            let value = pairs.iter().find(|(name, _)| self.symbol(*name) == Some(matcher.name()));
            let value = value.and_then(|(_, value)| self.symbol(*value)).unwrap_or("");
            if matcher.matches_at(value, pace)? {
                kept.insert(row);
            }
        }
        *rows = kept;
        Ok(())
    }

    fn apply(
        &self,
        found: &mut RoaringBitmap,
        tenant: TenantId,
        all: &RoaringBitmap,
        matcher: &Matcher,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        let (name, value) = (matcher.name(), matcher.value());
        match matcher.op() {
            MatchOp::Equal if value.is_empty() => *found -= self.rows_with(tenant, name, "")?,
            MatchOp::Equal => *found &= self.rows_with(tenant, name, value)?,
            MatchOp::NotEqual if value.is_empty() => *found &= self.rows_with(tenant, name, "")?,
            MatchOp::NotEqual => *found -= self.rows_with(tenant, name, value)?,
            MatchOp::Regex | MatchOp::NotRegex => {
                let mut matching = self.rows_matching(tenant, matcher, pace)?;
                let is_negated = matcher.op() == MatchOp::NotRegex;
                if matcher.matches_empty() != is_negated {
                    matching |= all - self.rows_with(tenant, name, "")?;
                }
                if is_negated {
                    *found -= matching;
                } else {
                    *found &= matching;
                }
            }
        }
        Ok(())
    }

    /// Rows whose label is there and matches the pattern of a regex matcher, negated or not.
    fn rows_matching(
        &self,
        tenant: TenantId,
        matcher: &Matcher,
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Error> {
        let name = matcher.name();
        if matches!(matcher.value(), ".*" | ".+") {
            return self.rows_with(tenant, name, "");
        }
        let is_negated = matcher.op() == MatchOp::NotRegex;
        let mut union = Union::default();
        for (literal, is_whole) in literals(matcher.value()) {
            let prefix = key(tenant, name, &literal);
            if is_whole {
                let is_match = match std::str::from_utf8(&literal) {
                    Ok(value) if !value.is_empty() => {
                        matcher.matches_at(value, pace)? != is_negated
                    }
                    _ => false,
                };
                if let Some(postings) = self.fst.get(&prefix).filter(|_| is_match) {
                    self.add_postings(postings, &mut union)?;
                }
                continue;
            }
            self.walk(&prefix, key(tenant, name, b"").len(), |value, postings| {
                if matcher.matches_at(value, pace)? != is_negated {
                    pace.work(20)?;
                    self.add_postings(postings, &mut union)
                } else {
                    Ok(())
                }
            })?;
        }
        Ok(union.into_bitmap())
    }

    /// Calls `each` with every value whose key starts with `prefix`; the value starts at
    /// `value_at` in the key. The empty value stands for presence and is left out.
    fn walk(
        &self,
        prefix: &[u8],
        value_at: usize,
        mut each: impl FnMut(&str, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut stream = self.fst.range().ge(prefix).into_stream();
        while let Some((key, postings)) = stream.next() {
            if !key.starts_with(prefix) {
                break;
            }
            let value = key.get(value_at..).and_then(|v| std::str::from_utf8(v).ok());
            let value = value.ok_or_else(|| self.damaged("a label value is not text"))?;
            if !value.is_empty() {
                each(value, postings)?;
            }
        }
        Ok(())
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
        if let Some(rows) = rows.filter(|r| r.len() <= CANDIDATES_FEW) {
            self.for_each_pair(rows, |n, v| {
                if n == name {
                    values.push(v.to_owned());
                }
            })?;
            values.sort_unstable();
            values.dedup();
            return Ok(values);
        }
        let prefix = key(tenant, name, b"");
        self.walk(&prefix, prefix.len(), |value, postings| {
            pace.work(50)?;
            if self.touches(postings, rows)? {
                values.push(value.to_owned());
            }
            Ok(())
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
        if let Some(rows) = rows.filter(|r| r.len() <= CANDIDATES_FEW) {
            self.for_each_pair(rows, |n, _| names.push(n.to_owned()))?;
            names.sort_unstable();
            names.dedup();
            return Ok(names);
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

    fn for_each_pair(
        &self,
        rows: &RoaringBitmap,
        mut each: impl FnMut(&str, &str),
    ) -> Result<(), Error> {
        let mut cursor = RowCursor::default();
        for row in rows {
            for (name, value) in self.pairs(row, &mut cursor)? {
                each(self.symbol(*name).unwrap_or(""), self.symbol(*value).unwrap_or(""));
            }
        }
        Ok(())
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

/// Literals such that every text the pattern matches is one of them (true) or starts with one
/// (false). They only narrow the search: each value is still matched.
fn literals(pattern: &str) -> Vec<(Vec<u8>, bool)> {
    let everything = vec![(Vec::new(), false)];
    let Ok(hir) = regex_syntax::parse(&format!("(?s:{pattern})")) else { return everything };
    let mut extractor = Extractor::new();
    extractor.kind(ExtractKind::Prefix).limit_total(LITERALS_MAX);
    let sequence = extractor.extract(&hir);
    let Some(found) = sequence.literals() else { return everything };
    let mut found: Vec<_> = found.iter().map(|l| (l.as_bytes().to_vec(), l.is_exact())).collect();
    // A prefix makes everything that starts with it superfluous; prefixes sort before these.
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut kept: Vec<(Vec<u8>, bool)> = Vec::new();
    for (literal, is_whole) in found {
        let covered = kept.iter().rev().any(|(k, whole)| {
            if *whole { *k == literal && is_whole } else { literal.starts_with(k) }
        });
        if !covered {
            kept.push((literal, is_whole));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: &[(&str, bool)]) {
        let found = literals(pattern);
        let found: Vec<_> =
            found.iter().map(|(l, w)| (std::str::from_utf8(l).expect("text"), *w)).collect();
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn patterns_give_their_literals() {
        check("a|b", &[("a", true), ("b", true)]);
        check("node-.*", &[("node-", false)]);
        check("5..", &[("5", false)]);
        check(".*x", &[("", false)]);
        check("api|api-.+", &[("api", true), ("api-", false)]);
        check("(web|db)-[a-z]+", &[("db-", false), ("web-", false)]);
    }
}
