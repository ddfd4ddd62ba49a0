//! Reads a blob.

use super::build::{Lines, Piece, Template, build};
use super::column::{CONSTANT, DIFFERENCES, HAS_SHARED, NUMBERS};
use super::sections::{Bytes, Section, Unpacked, WRONG};
use super::split::MARK;
use super::values::Values;
use super::{Damaged, number};

/// Decodes what [`encode`](super::encode) made of so many lines.
///
/// # Errors
/// If it did not make this.
pub fn decode(blob: &[u8], rows: usize) -> Result<Lines, Damaged> {
    let mut unpacked = Unpacked::of(blob)?;
    if unpacked.rows != rows {
        return Err(Damaged("lines are of another number of rows"));
    }
    let texts = unpacked.take_texts();
    let mut reader = Reader {
        heads: unpacked.section(Section::Heads),
        numbers: unpacked.section(Section::Numbers),
        values: Values::new(&unpacked, texts),
        literals: Vec::new(),
        values_left: unpacked.text_bytes,
        decoded: Vec::new(),
    };
    let mut texts = unpacked.section(Section::Templates);
    let count = reader.heads.count(rows)?;
    let lengths: Result<Vec<usize>, Damaged> =
        (0..count).map(|_| reader.heads.count(texts.len())).collect();
    let ids = ids(unpacked.section(Section::Ids), rows, count)?;
    let mut rows_of = vec![0; count + 1];
    ids.iter().for_each(|id| rows_of[usize::from(*id)] += 1);
    let mut templates = vec![Template::default()];
    for (length, rows) in lengths?.into_iter().zip(&rows_of[1..]) {
        templates.push(reader.template(texts.take(length)?, *rows)?);
    }
    templates[0] = reader.values.plain(rows_of[0])?;
    texts.end()?;
    reader.heads.end()?;
    reader.numbers.end()?;
    let pool = reader.values.into_pool()?;
    build(&ids, &templates, reader.literals, pool, unpacked.text_bytes)
}

/// Which template each row is of.
fn ids(mut bytes: Bytes<'_>, rows: usize, templates: usize) -> Result<Vec<u16>, Damaged> {
    let low = bytes.take(rows)?;
    let mut ids: Vec<u16> = low.iter().map(|byte| u16::from(*byte)).collect();
    if templates > usize::from(u8::MAX) {
        let high = bytes.take(rows)?;
        ids.iter_mut().zip(high).for_each(|(id, byte)| *id |= u16::from(*byte) << 8);
    }
    bytes.end()?;
    if ids.iter().any(|id| usize::from(*id) > templates) {
        return Err(WRONG);
    }
    Ok(ids)
}

/// Reads templates.
struct Reader<'a> {
    heads: Bytes<'a>,
    numbers: Bytes<'a>,
    values: Values<'a>,
    /// What templates have between variables, with what all values of a variable have in common.
    literals: Vec<u8>,
    /// How many values there may still be: each has a byte or more.
    values_left: usize,
    decoded: Vec<u64>,
}

impl Reader<'_> {
    fn template(&mut self, text: &[u8], rows: usize) -> Result<Template, Damaged> {
        let variables = memchr::memchr_iter(MARK, text).count();
        let count = rows.checked_mul(variables).ok_or(WRONG)?;
        self.values_left = self.values_left.checked_sub(count).ok_or(WRONG)?;
        let mut template = Template { rows, ..Template::default() };
        let mut start = self.literals.len();
        for (i, part) in text.split(|byte| *byte == MARK).enumerate() {
            self.literals.extend_from_slice(part);
            if i == variables {
                break;
            }
            let kind = self.heads.byte()?;
            self.values.text(&mut self.heads, &mut self.literals)?;
            if kind == CONSTANT {
                continue;
            }
            template.literals.push(Piece::between(start, self.literals.len()));
            start = self.literals.len();
            self.values.text(&mut self.heads, &mut self.literals)?;
            self.column(kind, rows, &mut template.values)?;
        }
        template.literals.push(Piece::between(start, self.literals.len()));
        Ok(template)
    }

    /// Appends the values of a column.
    fn column(&mut self, kind: u8, rows: usize, out: &mut Vec<Piece>) -> Result<(), Damaged> {
        if kind == NUMBERS || kind == DIFFERENCES {
            let digits = usize::from(self.heads.byte()?);
            self.decoded.resize(rows, 0);
            let (heads, numbers) = (&mut self.heads, &mut self.numbers);
            number::take(kind == DIFFERENCES, heads, numbers, &mut self.decoded)?;
            return self.values.numbers(&self.decoded, digits, out);
        }
        let words = self.heads.count(rows)?;
        self.values.gather(&mut self.heads, words, kind & HAS_SHARED != 0)?;
        self.values.words(kind & !HAS_SHARED, rows, out)
    }
}
