//! Words of a column: each once, in the order in which they come, and for each row which one it is.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Words a column remembers as recent.
pub(super) const RECENT_MAX: usize = 254;
/// A word that is none of the recent ones.
pub(super) const FAR: u8 = 254;
/// The column's next word.
pub(super) const NEW: u8 = 255;

/// Words of a column.
#[derive(Debug, Default)]
pub(super) struct Words {
    places: HashTable<u32>,
    /// For each word the row that has it first.
    pub(super) firsts: Vec<u32>,
    /// For each row the place of its word.
    pub(super) of_rows: Vec<u32>,
}

/// Which word each row has, by how many others came since it came last.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pub(super) codes: Vec<u8>,
    /// Places of words that are none of the recent ones.
    pub(super) far: Vec<u32>,
}

impl Words {
    /// Takes the values of a column.
    pub(super) fn gather(&mut self, values: &[&[u8]]) {
        self.places.clear();
        self.firsts.clear();
        self.of_rows.clear();
        let mut last: Option<(&[u8], u32)> = None;
        for (row, value) in values.iter().enumerate() {
            let word = match last {
                Some((text, word)) if text == *value => word,
                _ => self.place(values, row),
            };
            self.of_rows.push(word);
            last = Some((value, word));
        }
    }

    /// The place of the word that a row has.
    fn place(&mut self, values: &[&[u8]], row: usize) -> u32 {
        let firsts = &self.firsts;
        let text = |word: &u32| values[firsts[*word as usize] as usize];
        let hash = xxh3_64(values[row]);
        if let Some(word) = self.places.find(hash, |word| text(word) == values[row]) {
            return *word;
        }
        let word = firsts.len() as u32;
        self.places.insert_unique(hash, word, |word| xxh3_64(text(word)));
        self.firsts.push(row as u32);
        word
    }

    pub(super) fn recent(&self) -> Recent {
        let mut recent: Vec<u32> = Vec::with_capacity(RECENT_MAX);
        let mut out = Recent::default();
        let mut known = 0;
        for &word in &self.of_rows {
            let rank = if word == known {
                known += 1;
                out.codes.push(NEW);
                None
            } else {
                let rank = recent.iter().position(|recent| *recent == word);
                out.codes.push(rank.map_or(FAR, |rank| rank as u8));
                if rank.is_none() {
                    out.far.push(word);
                }
                rank
            };
            if rank.is_none() && recent.len() < RECENT_MAX {
                recent.push(word);
            }
            // What was in front of it goes back by one; a full list loses its last.
            let rank = rank.unwrap_or(recent.len() - 1);
            recent.copy_within(..rank, 1);
            recent[0] = word;
        }
        out
    }
}
