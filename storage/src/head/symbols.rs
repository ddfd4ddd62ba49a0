//! Label texts, each kept once per partition and named by a number.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The texts. Numbers count up from 0 in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    key: u64,
    text: String,
    ends: Vec<u32>,
    table: HashTable<u32>,
}

/// Text one partition may hold, in bytes: ends are 32 bits.
const TEXT_BYTES_MAX: usize = u32::MAX as usize;

impl Symbols {
    /// `key` places the texts in the table.
    pub(super) fn new(key: u64) -> Self {
        Self { key, ..Self::default() }
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }

    pub(super) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Whether another `bytes` of text can be taken.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.text.len() + bytes <= TEXT_BYTES_MAX
    }

    /// The text of a number given out before.
    #[inline]
    pub(super) fn text(&self, symbol: u32) -> &str {
        &self.text[span(&self.ends, symbol)]
    }

    /// The number of a text, if it is known.
    pub(super) fn get(&self, text: &str) -> Option<u32> {
        let hash = xxh3_64_with_seed(text.as_bytes(), self.key);
        self.table.find(hash, |&s| self.text(s) == text).copied()
    }

    /// The number of a text, a new one if needed. The caller has asked [`Self::has_room`].
    pub(super) fn intern(&mut self, text: &str) -> u32 {
        let hash = xxh3_64_with_seed(text.as_bytes(), self.key);
        let (known, ends, key) = (&self.text, &self.ends, self.key);
        if let Some(&symbol) = self.table.find(hash, |&s| &known[span(ends, s)] == text) {
            return symbol;
        }
        let symbol = ends.len() as u32;
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
        let (known, ends) = (self.text.as_bytes(), &self.ends);
        self.table.insert_unique(hash, symbol, |&s| xxh3_64_with_seed(&known[span(ends, s)], key));
        symbol
    }

    /// A copy that texts can be read from, but not found in.
    pub(super) fn readable(&self) -> Self {
        let (text, ends) = (self.text.clone(), self.ends.clone());
        Self { key: self.key, text, ends, table: HashTable::new() }
    }

    /// Makes room for that many more.
    pub(super) fn reserve(&mut self, symbols: usize) {
        self.ends.reserve(symbols);
        let (known, ends, key) = (self.text.as_bytes(), &self.ends, self.key);
        self.table.reserve(symbols, |&s| xxh3_64_with_seed(&known[span(ends, s)], key));
    }

    /// Memory taken.
    pub(super) fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.table.allocation_size()
    }
}

#[inline]
fn span(ends: &[u32], symbol: u32) -> std::ops::Range<usize> {
    let at = symbol as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] as usize };
    start..ends[at] as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_numbers() {
        let mut symbols = Symbols::new(7);
        let numbers: Vec<u32> =
            ["up", "", "job", "up", "ü"].iter().map(|t| symbols.intern(t)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 3]);
        assert_eq!((symbols.text(3), symbols.get("job"), symbols.get("jo")), ("ü", Some(2), None));
        for i in 0..5_000 {
            symbols.intern(&i.to_string());
        }
        assert_eq!(symbols.get("4999").map(|s| symbols.text(s)), Some("4999"));
        assert_eq!(symbols.get("ü"), Some(3));
    }
}
