//! Any bytes as `terms.bin`, for fuzzers.

use model::varint;

use super::page::{Place, Terms, directory, packed, unpacked};
use super::{Builder, take_blocks};

/// Any bytes as a directory and as a page, and the lines in them as rows: no panic, and what was
/// built is found to be what it is.
pub(crate) fn decode_any(data: &[u8]) {
    for place in directory(data, data.len() as u64).unwrap_or_default() {
        assert!(place.at <= data.len() as u64, "a page behind the directory");
    }
    let mut from = data;
    let sizes = (varint::take(&mut from), varint::take(&mut from), varint::take(&mut from));
    if let (Some(terms), Some(blocks), Some(middle)) = sizes {
        let middle = usize::try_from(middle).unwrap_or(usize::MAX).min(from.len());
        page(terms as u32, blocks as u32, from.split_at(middle));
    }
    build(data);
}

/// Checksums and compression are made right, so that what lies behind them is reached.
fn page(terms: u32, blocks: u32, (text, postings): (&[u8], &[u8])) {
    let Ok(stored) = packed(text) else { return };
    let sizes = (stored.len() as u64, text.len() as u64);
    let place = Place { first: Vec::new(), terms, at: 0, text: sizes, postings: (0, 0) };
    if let Some(read) = Terms::decode(&place, &stored) {
        assert_eq!(read.ends.len(), terms as usize, "terms of a page");
        for at in 0..read.ends.len() {
            let found = read.before(read.term(at));
            assert!(found <= read.ends.len(), "a place in the page");
        }
    }
    assert_eq!(unpacked(&stored, sizes.1).as_deref(), Some(text), "what was packed");
    let mut from = postings;
    while !from.is_empty() {
        if take_blocks(&mut from, blocks, |block| assert!(block < blocks)).is_none() {
            return;
        }
    }
}

fn build(text: &[u8]) {
    let (mut builder, mut again) = (Builder::new(), Builder::new());
    for block in text.chunks(64) {
        for line in block.split(|byte| *byte == b'\n') {
            for builder in [&mut builder, &mut again] {
                builder.add_text(line);
            }
        }
        for builder in [&mut builder, &mut again] {
            builder.end_block().expect("a small table");
        }
    }
    let (object, sum) = builder.finish().expect("it is written in memory");
    let differs = again.differs(&object, sum.tail_start).expect("it is read");
    assert_eq!(differs, None, "the same rows give the same terms");
}

#[cfg(test)]
mod tests {
    use testkit::SeededRandom;

    use super::*;

    #[test]
    fn any_bytes_are_read_or_refused() {
        let random = SeededRandom::new(3);
        for length in 0..2_000 {
            let letters = random.below(255) + 1;
            let data: Vec<u8> = (0..length % 300).map(|_| random.below(letters) as u8).collect();
            decode_any(&data);
        }
    }
}
