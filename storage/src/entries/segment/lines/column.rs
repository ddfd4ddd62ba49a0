//! Columns in the making: the values of one variable of a template, stored in the smallest way.

use hashbrown::HashTable;
use model::varint;
use xxhash_rust::xxh3::xxh3_64;

use super::number::{Layout, Numbers, entropy_bytes};
use super::sections::{Section, Sections};
use super::word::{Recent, Words};

/// All values are the same.
pub(super) const CONSTANT: u8 = 0;
pub(super) const NUMBERS: u8 = 1;
pub(super) const DIFFERENCES: u8 = 2;
/// Every row has a word of its own.
pub(super) const WORDS_NEW: u8 = 3;
/// A row says which word by its place among the column's words.
pub(super) const WORDS_PLACE: u8 = 4;
/// A row says which word by how many others came since it came last.
pub(super) const WORDS_RECENT: u8 = 5;
/// Set beside the kind of words: some are words of columns before.
pub(super) const HAS_SHARED: u8 = 8;

/// What a byte of text takes when it is compressed: between digits (3.4 bits) and letters.
const TEXT_BYTE_COST: f32 = 0.5;

/// What the place of a word from farther back takes: two bytes, the upper one seldom full.
const FAR_COST: f32 = 1.6;

/// Words that a byte can say the place of.
const PLACES_MAX: usize = 256;

/// Makes columns.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    pub(super) sections: Sections,
    /// Words of all columns so far, and where to find them.
    known: Vec<&'a [u8]>,
    places: HashTable<u32>,
    numbers: Numbers,
    words: Words,
}

impl<'a> Columns<'a> {
    /// Adds a column. Takes from the values what they all begin and end with.
    pub(super) fn add(&mut self, values: &mut [&'a [u8]]) {
        let Some(&first) = values.first() else { return };
        if values.iter().all(|value| *value == first) {
            self.sections.of(Section::Heads).push(CONSTANT);
            self.put_text(first);
            return;
        }
        let (prefix, suffix) = affixes(values);
        let affixes = [&first[..prefix], &first[first.len() - suffix..]];
        for value in values.iter_mut() {
            *value = &value[prefix..value.len() - suffix];
        }
        self.words.gather(values);
        let recent = self.words.recent();
        let (kind, words_cost) = self.words_kind(values, &recent);
        if self.numbers.parse(values) {
            let layout = Layout::choose(&self.numbers.values);
            if layout.cost <= words_cost {
                self.put_numbers(affixes, &layout);
                return;
            }
        }
        self.put_words(kind, affixes, values, &recent);
    }

    /// The smallest way to say which word each row has, and what it takes with the words.
    fn words_kind(&self, values: &[&[u8]], recent: &Recent) -> (u8, f32) {
        let distinct = self.words.firsts.len();
        let texts: usize = self.words.firsts.iter().map(|row| values[*row as usize].len()).sum();
        let texts_cost = texts as f32 * TEXT_BYTE_COST;
        if distinct == values.len() {
            return (WORDS_NEW, texts_cost);
        }
        let far_cost = recent.far.len() as f32 * FAR_COST;
        let recent_cost = entropy_bytes(recent.codes.iter().copied()) + far_cost;
        if distinct <= PLACES_MAX {
            let place_cost = entropy_bytes(self.words.of_rows.iter().map(|word| *word as u8));
            if place_cost <= recent_cost {
                return (WORDS_PLACE, texts_cost + place_cost);
            }
        }
        (WORDS_RECENT, texts_cost + recent_cost)
    }

    fn put_numbers(&mut self, affixes: [&[u8]; 2], layout: &Layout) {
        let kind = if layout.are_differences { DIFFERENCES } else { NUMBERS };
        self.sections.of(Section::Heads).push(kind);
        affixes.iter().for_each(|affix| self.put_text(affix));
        self.sections.of(Section::Heads).push(self.numbers.digits as u8);
        layout.put(&mut self.sections);
    }

    fn put_words(&mut self, kind: u8, affixes: [&[u8]; 2], values: &[&'a [u8]], recent: &Recent) {
        let texts: Vec<&'a [u8]> =
            self.words.firsts.iter().map(|row| values[*row as usize]).collect();
        // For each word one more than its place among those of columns before; 0 for new ones.
        let places: Vec<u64> = texts.iter().map(|text| self.known_place(text)).collect();
        let has_shared = places.iter().any(|place| *place > 0);
        let flag = if has_shared { HAS_SHARED } else { 0 };
        self.sections.of(Section::Heads).push(kind | flag);
        affixes.iter().for_each(|affix| self.put_text(affix));
        self.sections.put_head(texts.len());
        if has_shared {
            let out = self.sections.of(Section::Shared);
            places.iter().for_each(|place| varint::put(out, *place));
        }
        let fresh = || texts.iter().zip(&places).filter(|(_, place)| **place == 0).map(|(t, _)| t);
        let length = fresh().next().map_or(0, |text| text.len());
        let is_even = fresh().all(|text| text.len() == length);
        // One more than the length that all have; 0 if they differ.
        self.sections.put_head(if is_even { length + 1 } else { 0 });
        for text in fresh() {
            if !is_even {
                varint::put(self.sections.of(Section::Lengths), text.len() as u64);
            }
            self.sections.of(Section::Texts).extend_from_slice(text);
        }
        match kind {
            WORDS_PLACE => {
                let places = self.words.of_rows.iter().map(|word| *word as u8);
                self.sections.of(Section::Codes).extend(places);
            }
            WORDS_RECENT => {
                self.sections.of(Section::Codes).extend_from_slice(&recent.codes);
                let out = self.sections.of(Section::Far);
                out.extend(recent.far.iter().map(|word| *word as u8));
                out.extend(recent.far.iter().map(|word| (*word >> 8) as u8));
            }
            _ => {}
        }
    }

    /// One more than the place of a known word; 0 if it was not, and now is.
    fn known_place(&mut self, text: &'a [u8]) -> u64 {
        let hash = xxh3_64(text);
        let known = &self.known;
        if let Some(place) = self.places.find(hash, |place| known[*place as usize] == text) {
            return u64::from(*place) + 1;
        }
        let place = known.len() as u32;
        self.places.insert_unique(hash, place, |place| xxh3_64(known[*place as usize]));
        self.known.push(text);
        0
    }

    fn put_text(&mut self, text: &[u8]) {
        self.sections.put_head(text.len());
        self.sections.of(Section::Texts).extend_from_slice(text);
    }
}

/// How many bytes all values begin and end with, as far as those are no digits of a number.
fn affixes(values: &[&[u8]]) -> (usize, usize) {
    let Some((first, rest)) = values.split_first() else { return (0, 0) };
    let (mut prefix, mut suffix, mut shortest) = (first.len(), first.len(), first.len());
    for value in rest {
        let same = first.iter().zip(*value).take(prefix);
        prefix = same.take_while(|(a, b)| a == b).count();
        let same = first.iter().rev().zip(value.iter().rev()).take(suffix);
        suffix = same.take_while(|(a, b)| a == b).count();
        shortest = shortest.min(value.len());
    }
    while prefix > 0 && first[prefix - 1].is_ascii_digit() {
        prefix -= 1;
    }
    suffix = suffix.min(shortest - prefix);
    while suffix > 0 && first[first.len() - suffix].is_ascii_digit() {
        suffix -= 1;
    }
    (prefix, suffix)
}
