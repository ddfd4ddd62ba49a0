//! Asks the index over terms which blocks may have what a filter needs.

use std::sync::Arc;

use hashbrown::HashMap;
use memchr::memmem;
use model::Pace;
use roaring::RoaringBitmap;

use super::page::{Place, Terms, directory, unpacked};
use super::take_blocks;
use crate::Error;
use crate::block::cache::Kind;
use crate::entries::needs::{Blocks, Need, Part, Token};
use crate::entries::segment::read::{Open, SegmentHandle};

/// Pages that are read together when all are looked at: some megabytes.
const PAGES_AT_ONCE: usize = 16;

/// All terms are looked at for parts of them only where more blocks than this would be read without.
const BLOCKS_FEW: u64 = 4;

/// The directory of one segment's terms.
#[derive(Debug)]
struct Directory(Vec<Place>);

/// A page of terms, with where they are as it is stored.
#[derive(Debug)]
struct Page {
    terms: Terms,
    postings: bytes::Bytes,
    /// What that is unpacked.
    posting_bytes: u64,
}

/// The blocks of a segment that may have all of what is needed; `None`: all may.
pub(crate) async fn blocks_with(
    handle: &SegmentHandle,
    open: &Open,
    needs: &[Need],
    pace: &mut Pace,
) -> Result<Blocks, Error> {
    let (mut wanted, mut found) = (Vec::new(), HashMap::new());
    needs.iter().for_each(|need| need.visit(&mut wanted));
    wanted.retain(|need| need.is_known_of(open.index.signal));
    let reader = Reader { handle, open, all: open.index.blocks() };
    let directory = reader.directory().await?;
    for need in &wanted {
        let blocks = match need {
            Need::Field(term) => reader.exact(&directory, term).await?,
            Need::Token(Token { text, part: Part::Whole, .. }) => {
                reader.exact(&directory, text).await?
            }
            Need::Token(Token { text, part: Part::Start, .. }) => {
                reader.beginning(&directory, text, pace).await?
            }
            _ => continue,
        };
        found.insert(address(need), blocks);
    }
    let all_of = |found: &HashMap<usize, Blocks>| {
        let of = |need: &Need| {
            let same = wanted.iter().find(|known| **known == need)?;
            found.get(&address(same)).cloned().flatten()
        };
        needs.iter().filter_map(|need| need.blocks(&of)).reduce(|a, b| a & b)
    };
    let known = all_of(&found);
    let parts: Vec<&Token> = wanted.iter().filter_map(|need| part_of(need)).collect();
    if parts.is_empty() || known.as_ref().is_some_and(|blocks| blocks.len() <= BLOCKS_FEW) {
        return Ok(known);
    }
    let of_parts = reader.with_parts(&directory, &parts, pace).await?;
    let needs_of_parts = wanted.iter().filter(|need| part_of(need).is_some());
    found.extend(needs_of_parts.map(|need| address(need)).zip(of_parts));
    Ok(all_of(&found))
}

fn address(need: &Need) -> usize {
    std::ptr::from_ref(need).addr()
}

/// A part that is not at the start of its token: all terms have to be looked at.
fn part_of(need: &Need) -> Option<&Token> {
    match need {
        Need::Token(token) if matches!(token.part, Part::End | Part::Anywhere) => Some(token),
        _ => None,
    }
}

struct Reader<'a> {
    handle: &'a SegmentHandle,
    open: &'a Open,
    /// Blocks of the segment.
    all: u32,
}

impl Reader<'_> {
    fn damaged(&self) -> Error {
        self.open.tokens.damaged("a page of terms is malformed")
    }

    async fn directory(&self) -> Result<Arc<Directory>, Error> {
        let key = self.handle.key_of(Kind::SegmentTermsDirectory, 0);
        if let Some(known) = self.handle.cache.get(key) {
            return Ok(known);
        }
        let sum = &self.open.tokens.sum;
        let tail = self.open.tokens.read(std::slice::from_ref(&(sum.tail_start..sum.size))).await?;
        let tail = tail.into_iter().next().unwrap_or_default();
        let all = directory(&tail, sum.tail_start).ok_or_else(|| self.damaged())?;
        let bytes = all.iter().map(|place| place.first.len() + size_of::<Place>()).sum();
        let directory = Arc::new(Directory(all));
        self.handle.cache.put(key, Arc::clone(&directory), bytes);
        Ok(directory)
    }

    /// Pages, from the cache or the store.
    async fn pages(
        &self,
        directory: &Directory,
        pages: std::ops::Range<usize>,
    ) -> Result<Vec<Arc<Page>>, Error> {
        let key = |at: usize| self.handle.key_of(Kind::SegmentTerms, at as u32);
        let known: Vec<Option<Arc<Page>>> =
            pages.clone().map(|at| self.handle.cache.get(key(at))).collect();
        let places = pages.clone().map(|at| &directory.0[at]);
        let missing = places.clone().zip(&known).filter(|(_, known)| known.is_none());
        let ranges: Vec<_> = missing
            .map(|(place, _)| place.at..place.at + place.text.0 + place.postings.0)
            .collect();
        let mut read = if ranges.is_empty() {
            Vec::new().into_iter()
        } else {
            self.open.tokens.read(&ranges).await?.into_iter()
        };
        let mut all = Vec::with_capacity(pages.len());
        for ((at, place), known) in pages.zip(places).zip(known) {
            let page = match known {
                Some(page) => page,
                None => {
                    let stored = read.next().unwrap_or_default();
                    let page = Arc::new(self.page(place, &stored)?);
                    let bytes = page.terms.heap_bytes() + page.postings.len();
                    self.handle.cache.put(key(at), Arc::clone(&page), bytes);
                    page
                }
            };
            all.push(page);
        }
        Ok(all)
    }

    fn page(&self, place: &Place, stored: &bytes::Bytes) -> Result<Page, Error> {
        let middle = place.text.0 as usize;
        let terms = stored.get(..middle).and_then(|text| Terms::decode(place, text));
        let terms = terms.ok_or_else(|| self.damaged())?;
        // A copy: the whole read would be kept otherwise.
        let postings = bytes::Bytes::copy_from_slice(&stored[middle..]);
        Ok(Page { terms, postings, posting_bytes: place.postings.1 })
    }

    /// Adds the blocks of some terms of a page, given in order, to a set.
    fn add(&self, page: &Page, terms: &[u32], to: &mut Blocks) -> Result<(), Error> {
        let raw = unpacked(&page.postings, page.posting_bytes).ok_or_else(|| self.damaged())?;
        let (mut from, mut terms) = (raw.as_slice(), terms.iter().peekable());
        for at in 0..page.terms.ends.len() as u32 {
            if terms.peek().is_none() {
                break;
            }
            let is_wanted = terms.next_if(|wanted| **wanted == at).is_some();
            let visit = |block| {
                if let Some(to) = to.as_mut().filter(|_| is_wanted) {
                    to.insert(block);
                }
            };
            let is_everywhere = take_blocks(&mut from, self.all, visit);
            if is_everywhere.ok_or_else(|| self.damaged())? && is_wanted {
                *to = None;
                return Ok(());
            }
        }
        Ok(())
    }

    async fn exact(&self, directory: &Directory, term: &[u8]) -> Result<Blocks, Error> {
        let mut found = Some(RoaringBitmap::new());
        let behind = directory.0.partition_point(|place| place.first.as_slice() <= term);
        let Some(at) = behind.checked_sub(1) else { return Ok(found) };
        let pages = self.pages(directory, at..behind).await?;
        let Some(page) = pages.first() else { return Ok(found) };
        let place = page.terms.before(term);
        if place < page.terms.ends.len() && page.terms.term(place) == term {
            self.add(page, &[place as u32], &mut found)?;
        }
        Ok(found)
    }

    async fn beginning(
        &self,
        directory: &Directory,
        start: &[u8],
        pace: &mut Pace,
    ) -> Result<Blocks, Error> {
        let mut found = Some(RoaringBitmap::new());
        let first = directory.0.partition_point(|place| place.first.as_slice() <= start);
        for at in first.saturating_sub(1)..directory.0.len() {
            let place = &directory.0[at];
            let is_past = place.first.as_slice() > start && !place.first.starts_with(start);
            if found.is_none() || is_past {
                break;
            }
            for page in self.pages(directory, at..at + 1).await? {
                pace.work(page.terms.ends.len())?;
                let from = page.terms.before(start);
                let has = |at: &usize| page.terms.term(*at).starts_with(start);
                let terms: Vec<u32> =
                    (from..page.terms.ends.len()).take_while(has).map(|at| at as u32).collect();
                self.add(&page, &terms, &mut found)?;
            }
        }
        Ok(found)
    }

    /// The blocks that have terms of which these are parts, for each.
    async fn with_parts(
        &self,
        directory: &Directory,
        parts: &[&Token],
        pace: &mut Pace,
    ) -> Result<Vec<Blocks>, Error> {
        let mut found: Vec<Blocks> = vec![Some(RoaringBitmap::new()); parts.len()];
        let finders: Vec<_> = parts.iter().map(|part| memmem::Finder::new(&part.text)).collect();
        let count = directory.0.len();
        for start in (0..count).step_by(PAGES_AT_ONCE) {
            let pages = self.pages(directory, start..(start + PAGES_AT_ONCE).min(count)).await?;
            for page in pages {
                for ((part, finder), found) in parts.iter().zip(&finders).zip(&mut found) {
                    pace.work(1 + page.terms.text.len() / 64)?;
                    if found.as_ref().is_none_or(|found| found.len() >= u64::from(self.all)) {
                        *found = None;
                        continue;
                    }
                    let terms = terms_with(&page.terms, finder, part.part == Part::End);
                    if !terms.is_empty() {
                        self.add(&page, &terms, found)?;
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The terms of a page that have a part, in order; where they were cut, nobody knows.
fn terms_with(terms: &Terms, finder: &memmem::Finder<'_>, is_end: bool) -> Vec<u32> {
    let (text, length) = (&terms.text, finder.needle().len());
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(hit) = finder.find(&text[at..]) {
        let (start, end) = (at + hit, at + hit + length);
        let term = terms.at(start);
        if !is_end || terms.ends[term] as usize == end {
            found.push(term as u32);
            at = terms.ends[term] as usize + 1;
        } else {
            at = start + 1;
        }
    }
    let cut = terms.cut.iter().copied();
    found.extend(cut);
    found.sort_unstable();
    found.dedup();
    found
}
