//! Builds the index over terms while a segment is written: a table of the terms of some blocks,
//! sorted into a run when it has grown large, and all runs merged in the end.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use model::Signal;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::page::{Pages, Stored};
use super::runs::{Run, merge};
use super::{TERM_BYTES_MAX, field_term, put_blocks};
use crate::Error;
use crate::block::object::Sum;
use crate::entries::page::{Fields, Row};
use crate::entries::tokens;

/// Memory of a table at which it becomes a run. Bytes.
const TABLE_BYTES_MAX: usize = 24 << 20;

/// Terms of the blocks so far.
pub(in crate::entries::segment) struct Builder {
    /// Guards the table against senders who choose what collides.
    seed: u64,
    table: HashTable<u32>,
    terms: Vec<Term>,
    text: Vec<u8>,
    /// Terms and blocks, in order of blocks.
    pairs: Vec<(u32, u32)>,
    block: u32,
    runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    start: u32,
    length: u16,
    /// The last block it was seen in.
    last: u32,
    blocks: u32,
}

impl Term {
    fn text(self, all: &[u8]) -> &[u8] {
        &all[self.start as usize..self.start as usize + usize::from(self.length)]
    }
}

impl Builder {
    pub(in crate::entries::segment) fn new() -> Self {
        Self {
            seed: RandomState::new().hash_one(0),
            table: HashTable::new(),
            terms: Vec::new(),
            text: Vec::new(),
            pairs: Vec::new(),
            block: 0,
            runs: Vec::new(),
        }
    }

    /// Adds the terms of a row to the block.
    pub(in crate::entries::segment) fn add_row(&mut self, row: &Row<'_>, signal: Signal) {
        self.add_text(row.line);
        for (name, value) in Fields(row.fields) {
            self.add_text(value.as_bytes());
            if signal != Signal::Logs {
                self.add_field(name, value);
            }
        }
    }

    /// Adds the tokens of a text to the block.
    pub(super) fn add_text(&mut self, text: &[u8]) {
        let mut small = [0; TERM_BYTES_MAX];
        for place in tokens::places(text) {
            let length = place.len().min(TERM_BYTES_MAX);
            let small = &mut small[..length];
            small.copy_from_slice(&text[place.start..place.start + length]);
            small.make_ascii_lowercase();
            self.add(small);
        }
    }

    /// Adds the name and the value of a field to the block.
    fn add_field(&mut self, name: &str, value: &str) {
        if let Some(term) = field_term(name, value) {
            self.add(&term);
        }
    }

    fn add(&mut self, term: &[u8]) {
        let (terms, text, seed) = (&self.terms, &self.text, self.seed);
        let hash = xxh3_64_with_seed(term, seed);
        let is_same = |at: &u32| terms[*at as usize].text(text) == term;
        let at = match self.table.find(hash, is_same) {
            Some(at) => *at,
            None => {
                let at = self.terms.len() as u32;
                // A table ends long before four gigabytes.
                let (start, length) = (self.text.len() as u32, term.len() as u16);
                self.text.extend_from_slice(term);
                self.terms.push(Term { start, length, last: u32::MAX, blocks: 0 });
                let (terms, text) = (&self.terms, &self.text);
                let again = |at: &u32| xxh3_64_with_seed(terms[*at as usize].text(text), seed);
                self.table.insert_unique(hash, at, again);
                at
            }
        };
        let term = &mut self.terms[at as usize];
        if term.last != self.block {
            term.last = self.block;
            term.blocks += 1;
            self.pairs.push((at, self.block));
        }
    }

    /// What follows is of the next block.
    pub(in crate::entries::segment) fn end_block(&mut self) -> Result<(), Error> {
        self.block += 1;
        let bytes = self.text.len()
            + self.terms.len() * (size_of::<Term>() + 8)
            + self.pairs.len() * size_of::<(u32, u32)>();
        if bytes >= TABLE_BYTES_MAX { self.end_run() } else { Ok(()) }
    }

    /// Sorts the table into a run and begins another.
    fn end_run(&mut self) -> Result<(), Error> {
        let mut run = Run::writer()?;
        self.table.clear();
        let (terms, text) = (std::mem::take(&mut self.terms), std::mem::take(&mut self.text));
        let pairs = std::mem::take(&mut self.pairs);
        let mut order: Vec<u32> = (0..terms.len() as u32).collect();
        order.sort_unstable_by_key(|at| terms[*at as usize].text(&text));
        // Where the blocks of each term begin.
        let mut places = vec![0u32; terms.len()];
        let mut end = 0;
        for at in &order {
            places[*at as usize] = end;
            end += terms[*at as usize].blocks;
        }
        let mut blocks = vec![0u32; pairs.len()];
        for (term, block) in pairs {
            let place = &mut places[term as usize];
            blocks[*place as usize] = block;
            *place += 1;
        }
        for at in order {
            let term = terms[at as usize];
            let end = places[at as usize] as usize;
            run.add(term.text(&text), &blocks[end - term.blocks as usize..end])?;
        }
        self.runs.push(run.finish()?);
        Ok(())
    }

    /// Compares an object with what this would have written; says in what it differs.
    pub(in crate::entries::segment) fn differs(
        mut self,
        object: &[u8],
        tail_start: u64,
    ) -> Result<Option<&'static str>, Error> {
        self.end_run()?;
        let mut stored = Stored::new(object, tail_start);
        let (all, mut posting, mut is_same) = (self.block, Vec::new(), true);
        merge(&self.runs, |term, blocks| {
            posting.clear();
            put_blocks(&mut posting, blocks, all);
            is_same = is_same && stored.next_is(term, &posting) == Some(true);
            Ok(())
        })?;
        Ok(if !is_same {
            Some("its terms are not those of its rows")
        } else if stored.has_more() {
            Some("it has terms that no row has")
        } else {
            None
        })
    }

    /// The object, and what a reader must know of it.
    pub(in crate::entries::segment) fn finish(mut self) -> Result<(Vec<u8>, Sum), Error> {
        self.end_run()?;
        let (all, mut pages, mut posting) = (self.block, Pages::default(), Vec::new());
        merge(&self.runs, |term, blocks| {
            posting.clear();
            put_blocks(&mut posting, blocks, all);
            pages.add(term, &posting)
        })?;
        pages.finish()
    }
}
