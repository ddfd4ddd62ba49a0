//! Patterns are compared with label values while nobody waits: not under the head's lock.
//!
//! ```text
//! select_known (lock): sets, and the values that patterns were not compared with yet
//!   ─► compare (no lock) ─► select_known again … until nothing is unknown
//! ```
//!
//! One matcher after the other waits for its values, so that only those are compared that matter;
//! sets that are complete are kept. What writers add meanwhile came after the question: series and texts that are new since its
//! first look are left out, so that it comes to an end however much is written.

use hashbrown::HashMap;
use model::{Matcher, Pace, Stopped};
use roaring::RoaringBitmap;
use tenancy::TenantId;

use super::Head;

/// Text copied under one hold of the lock. Bytes; a fraction of a millisecond.
const SLICE_BYTES: usize = 1 << 20;

/// Values copied under one hold of the lock: about a millisecond, most of it finding them.
const SLICE_VALUES: usize = 64 << 10;

/// What the patterns of one question say of the values of one head, whichever tenants' they are.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// The numbering they were made in; none before the first look.
    epoch: Option<u64>,
    /// Series and symbols from these numbers on came after the question.
    series_end: u32,
    symbols_end: u32,
    patterns: Vec<Known>,
    /// By text of the pattern.
    by_text: HashMap<String, usize>,
    /// By symbol of a label's name and pattern: the series of the tenant asked about whose values are
    /// those, of the matching and the others, that an absent label is not among.
    listed: HashMap<(u32, usize), RoaringBitmap>,
    /// Whose series are listed.
    tenant: Option<TenantId>,
    wanted: Vec<Wanted>,
    text: String,
}

/// The values a pattern was compared with, by symbol.
#[derive(Debug)]
struct Known {
    matcher: Matcher,
    compared: RoaringBitmap,
    matching: RoaringBitmap,
}

/// A value that is not known yet: which pattern's, and where its text ends.
#[derive(Debug)]
struct Wanted {
    pattern: usize,
    symbol: u32,
    text_end: usize,
}

impl Verdicts {
    /// The question looks at the head; what it knows of another numbering is void.
    fn look_at(&mut self, head: &Head, tenant: TenantId) {
        if self.tenant.replace(tenant) != Some(tenant) {
            self.listed.clear();
        }
        if self.epoch == Some(head.epoch) {
            return;
        }
        let (series_end, symbols_end) = (head.series_count(), head.symbol_count());
        let (epoch, tenant) = (Some(head.epoch), Some(tenant));
        *self = Self { epoch, tenant, series_end, symbols_end, ..Self::default() };
    }

    /// Whether all that was asked since the last comparing is known: then what was found is right.
    pub(crate) fn are_complete(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Compares the values that were missing. Belongs outside the lock.
    pub(crate) fn compare(&mut self, pace: &mut Pace) -> Result<(), Stopped> {
        let mut start = 0;
        for Wanted { pattern, symbol, text_end } in self.wanted.drain(..) {
            let known = &mut self.patterns[pattern];
            if known.compared.insert(symbol)
                && known.matcher.pattern_matches_at(&self.text[start..text_end], pace)?
            {
                known.matching.insert(symbol);
            }
            start = text_end;
        }
        self.text.clear();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.wanted.len() >= SLICE_VALUES || self.text.len() >= SLICE_BYTES
    }

    fn pattern(&mut self, matcher: &Matcher) -> usize {
        if let Some(&at) = self.by_text.get(matcher.value()) {
            return at;
        }
        let at = self.patterns.len();
        let (compared, matching) = (RoaringBitmap::new(), RoaringBitmap::new());
        self.patterns.push(Known { matcher: matcher.clone(), compared, matching });
        self.by_text.insert(matcher.value().to_owned(), at);
        at
    }

    /// Whether the pattern matches a value; of one not compared yet it makes a note.
    fn known(&mut self, pattern: usize, symbol: u32, text: &str) -> Option<bool> {
        if symbol >= self.symbols_end {
            return Some(false);
        }
        let known = &self.patterns[pattern];
        if known.compared.contains(symbol) {
            return Some(known.matching.contains(symbol));
        }
        if !self.is_full() {
            self.text.push_str(text);
            self.wanted.push(Wanted { pattern, symbol, text_end: self.text.len() });
        }
        None
    }
}

/// How a selection compares patterns with values.
pub(super) enum Compare<'v> {
    /// As it meets them.
    AtOnce,
    /// As is known.
    Known(&'v mut Verdicts),
}

impl Compare<'_> {
    /// The matcher, ready to be asked about many values.
    pub(super) fn with<'m>(&mut self, matcher: &'m Matcher) -> Comparing<'_, 'm> {
        match self {
            Self::Known(verdicts) if matcher.is_costly() => {
                let pattern = verdicts.pattern(matcher);
                Comparing { matcher, known: Some((verdicts, pattern)), lacks_some: false }
            }
            _ => Comparing { matcher, known: None, lacks_some: false },
        }
    }
}

/// One matcher on its way over many values.
pub(super) struct Comparing<'v, 'm> {
    matcher: &'m Matcher,
    known: Option<(&'v mut Verdicts, usize)>,
    lacks_some: bool,
}

impl Comparing<'_, '_> {
    /// Whether it was asked about a value that is not known yet.
    pub(super) fn lacks_some(&self) -> bool {
        self.lacks_some
    }

    /// The series once found for the matcher by values of this label.
    pub(super) fn listed(&self, name: u32) -> Option<&RoaringBitmap> {
        let (verdicts, pattern) = self.known.as_ref()?;
        verdicts.listed.get(&(name, *pattern))
    }

    /// Keeps what was found, for when the same is asked again.
    pub(super) fn list(&mut self, name: u32, series: RoaringBitmap) {
        if let Some((verdicts, pattern)) = &mut self.known {
            verdicts.listed.insert((name, *pattern), series);
        }
    }

    /// Whether a value satisfies the matcher; `None` if that is not known yet.
    #[inline]
    pub(super) fn holds(
        &mut self,
        symbol: u32,
        text: &str,
        pace: &mut Pace,
    ) -> Result<Option<bool>, Stopped> {
        match &mut self.known {
            None => self.matcher.matches_at(text, pace).map(Some),
            Some((verdicts, pattern)) => {
                pace.work(4)?;
                let found = verdicts.known(*pattern, symbol, text);
                self.lacks_some |= found.is_none();
                Ok(found.map(|found| found != self.matcher.is_negative()))
            }
        }
    }
}

impl Head {
    /// [`Head::select`] as far as is known. If [`Verdicts::are_complete`] afterwards, it is the
    /// answer; otherwise it is to be asked again once the rest was compared.
    pub(crate) fn select_known(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        verdicts: &mut Verdicts,
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Stopped> {
        verdicts.look_at(self, tenant);
        if verdicts.is_full() {
            return Ok(RoaringBitmap::new());
        }
        let series_end = verdicts.series_end;
        let mut found = self.select_by(tenant, matchers, &mut Compare::Known(verdicts), pace)?;
        found.remove_range(series_end..);
        Ok(found)
    }
}
