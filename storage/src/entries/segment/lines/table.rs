//! Lines by template.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::split::{MARK, Span, split};

/// Templates that are looked for. Lines of any more are kept as they are.
const TEMPLATES_MAX: usize = 4_096;

/// Rows from which on a template pays: with fewer, heads of columns take more than they save.
const TEMPLATE_ROWS_MIN: usize = 4;

/// Which lines are of one template, and where their variables lie.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Texts of templates one after the other, and where each ends.
    texts: Vec<u8>,
    ends: Vec<usize>,
    /// Rows of each.
    counts: Vec<usize>,
    /// Template of each row; none for lines that are kept as they are.
    of_rows: Vec<Option<u32>>,
    /// Variables of all rows, and where those of each row begin.
    variables: Vec<Span>,
    first_variables: Vec<usize>,
}

/// A template, and the rows it has.
#[derive(Debug)]
pub(super) struct Template<'t> {
    pub(super) text: &'t [u8],
    pub(super) variables: usize,
    pub(super) rows: Vec<usize>,
}

/// Templates that pay, those with most rows first, and the rows that have none.
#[derive(Debug)]
pub(super) struct Kept<'t> {
    pub(super) templates: Vec<Template<'t>>,
    pub(super) plain_rows: Vec<usize>,
}

impl Table {
    pub(super) fn of(lines: &[&[u8]]) -> Self {
        let mut table = Self::default();
        let mut places = HashTable::new();
        for line in lines {
            let (text, variable) = (table.texts.len(), table.variables.len());
            table.first_variables.push(variable);
            let is_split = split(line, &mut table.texts, &mut table.variables);
            let template = if is_split { table.template(&mut places, text) } else { None };
            match template {
                Some(template) => table.counts[template as usize] += 1,
                None => table.variables.truncate(variable),
            }
            // Only the text of a template that was met for the first time stays.
            table.texts.truncate(table.ends.last().copied().unwrap_or_default());
            table.of_rows.push(template);
        }
        table
    }

    /// The template whose text is what stands from `start` on; none if there are enough others.
    fn template(&mut self, places: &mut HashTable<u32>, start: usize) -> Option<u32> {
        let (texts, ends) = (&self.texts, &self.ends);
        let text = |place: &u32| text_of(texts, ends, *place as usize);
        let own = &texts[start..];
        let hash = xxh3_64(own);
        if let Some(place) = places.find(hash, |place| text(place) == own) {
            return Some(*place);
        }
        if ends.len() == TEMPLATES_MAX {
            return None;
        }
        let place = ends.len() as u32;
        places.insert_unique(hash, place, |place| xxh3_64(text(place)));
        self.ends.push(self.texts.len());
        self.counts.push(0);
        Some(place)
    }

    pub(super) fn kept(&self) -> Kept<'_> {
        let all = 0..self.counts.len();
        let mut kept: Vec<usize> = all.filter(|t| self.counts[*t] >= TEMPLATE_ROWS_MIN).collect();
        kept.sort_by_key(|template| std::cmp::Reverse(self.counts[*template]));
        let mut numbers = vec![None; self.counts.len()];
        kept.iter().enumerate().for_each(|(number, template)| numbers[*template] = Some(number));
        let template = |template: &usize| {
            let text = text_of(&self.texts, &self.ends, *template);
            let rows = Vec::with_capacity(self.counts[*template]);
            Template { text, variables: memchr::memchr_iter(MARK, text).count(), rows }
        };
        let mut templates: Vec<Template<'_>> = kept.iter().map(template).collect();
        let mut plain_rows = Vec::new();
        for (row, template) in self.of_rows.iter().enumerate() {
            match template.and_then(|template| numbers[template as usize]) {
                Some(number) => templates[number].rows.push(row),
                None => plain_rows.push(row),
            }
        }
        Kept { templates, plain_rows }
    }

    /// The value that a row has for a variable of its template.
    pub(super) fn value<'l>(&self, lines: &[&'l [u8]], row: usize, variable: usize) -> &'l [u8] {
        let Span { start, end } = self.variables[self.first_variables[row] + variable];
        &lines[row][start as usize..end as usize]
    }
}

fn text_of<'t>(texts: &'t [u8], ends: &[usize], place: usize) -> &'t [u8] {
    let start = if place == 0 { 0 } else { ends[place - 1] };
    &texts[start..ends[place]]
}
