//! Label fields in canonical encoding, put together from names and values of a few bytes each.
//!
//! A request of 2,000 series has some 40,000 of them; asking for room and copying byte by byte for each
//! would cost more than the rest of a walk. So they are copied in steps of fixed length, past their
//! ends, into room that is there already: what is too much is written over by the next.

use crate::build::varint_bytes;

/// Bytes of a name that are copied in one step, its length included.
pub(crate) const NAME_STEP: usize = 32;

/// Bytes of a value, likewise.
pub(crate) const VALUE_STEP: usize = 64;

/// Tags, the length of the field, and both steps.
const FIELD_STEP: usize = 4 + NAME_STEP + VALUE_STEP;

/// A text with its length before it, and what lies behind it, which may be copied along.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    from: &'a [u8],
    length: usize,
}

impl<'a> Piece<'a> {
    /// Bytes `start` to `end` of `whole`. `None` if they do not lie in it.
    #[inline(always)]
    pub(crate) fn of(whole: &'a [u8], start: usize, end: usize) -> Option<Self> {
        let length = end.checked_sub(start).filter(|_| end <= whole.len())?;
        Some(Self { from: whole.get(start..)?, length })
    }

    #[inline(always)]
    pub(crate) fn bytes(self) -> &'a [u8] {
        &self.from[..self.length]
    }
}

/// The label fields of one series.
#[derive(Debug)]
pub(crate) struct LabelFields {
    /// Never shortened: zeroed once and not for each series.
    room: Vec<u8>,
    length: usize,
    /// What is longer is cut off after some label: it will be refused.
    bytes_max: usize,
}

impl LabelFields {
    /// Room for the labels of one series after the other, which may have so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { room: vec![0; 1_024], length: 0, bytes_max }
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }

    /// Adds a label; name and value come with their lengths before them.
    #[inline(always)]
    pub(crate) fn put(&mut self, name: Piece<'_>, value: Piece<'_>) {
        let to = self.room.get_mut(self.length..).and_then(<[u8]>::first_chunk_mut::<FIELD_STEP>);
        if let Some(to) = to
            && let Some(name_step) = name.from.first_chunk::<NAME_STEP>()
            && let Some(value_step) = value.from.first_chunk::<VALUE_STEP>()
            && name.length <= NAME_STEP
            && value.length <= VALUE_STEP
        {
            to[0] = 0x0a;
            to[1] = (2 + name.length + value.length) as u8;
            to[2] = 0x0a;
            to[3..3 + NAME_STEP].copy_from_slice(name_step);
            to[3 + name.length] = 0x12;
            to[4 + name.length..4 + name.length + VALUE_STEP].copy_from_slice(value_step);
            self.length += 4 + name.length + value.length;
        } else {
            self.put_long(name.bytes(), value.bytes());
        }
    }

    /// What is longer than a step, or lies at the end of its buffer.
    #[cold]
    fn put_long(&mut self, name: &[u8], value: &[u8]) {
        if self.length > self.bytes_max {
            return;
        }
        self.append(&[0x0a]);
        self.append_length(2 + name.len() + value.len());
        for part in [&[0x0a], name, &[0x12], value] {
            self.append(part);
        }
    }

    /// Adds a label whose value comes in two parts.
    pub(crate) fn put_text(&mut self, name: &str, value: [&str; 2]) {
        let value_length = value[0].len() + value[1].len();
        let of_lengths = varint_bytes(name.len()) + varint_bytes(value_length);
        self.append(&[0x0a]);
        self.append_length(2 + of_lengths + name.len() + value_length);
        self.append(&[0x0a]);
        self.append_length(name.len());
        self.append(name.as_bytes());
        self.append(&[0x12]);
        self.append_length(value_length);
        self.append(value[0].as_bytes());
        self.append(value[1].as_bytes());
    }

    /// Adds whole label fields.
    #[inline]
    pub(crate) fn append(&mut self, fields: &[u8]) {
        let end = self.length + fields.len();
        if self.room.len() < end + FIELD_STEP {
            self.room.resize(2 * (end + FIELD_STEP), 0);
        }
        self.room[self.length..end].copy_from_slice(fields);
        self.length = end;
    }

    fn append_length(&mut self, mut length: usize) {
        while length >= 0x80 {
            self.append(&[length as u8 | 0x80]);
            length >>= 7;
        }
        self.append(&[length as u8]);
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    /// Names and values of these lengths, in a buffer that ends so many bytes behind them.
    #[track_caller]
    fn check(lengths: &[(usize, usize)], behind: usize) {
        let text = |length: usize| "x".repeat(length);
        let pairs: Vec<_> = lengths
            .iter()
            .enumerate()
            .map(|(i, (name, value))| (format!("{i:02}{}", text(*name)), text(*value)))
            .collect();
        let mut expected = Vec::new();
        Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v))).encode(&mut expected);
        let (mut whole, mut places) = (Vec::new(), Vec::new());
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            let start = whole.len();
            model::varint::put(&mut whole, text.len() as u64);
            whole.extend_from_slice(text.as_bytes());
            places.push((start, whole.len()));
        }
        whole.resize(whole.len() + behind, 0xff);
        let piece = |(start, end)| Piece::of(&whole, start, end).expect("lies in it");
        let mut fields = LabelFields::new(1 << 20);
        for _ in 0..2 {
            fields.clear();
            places.chunks_exact(2).for_each(|at| fields.put(piece(at[0]), piece(at[1])));
            assert_eq!(fields.bytes(), expected, "{lengths:?}");
        }
        fields.clear();
        pairs.iter().for_each(|(n, v)| fields.put_text(n, [&v[..v.len() / 2], &v[v.len() / 2..]]));
        assert_eq!(fields.bytes(), expected, "{lengths:?}");
    }

    #[test]
    fn labels_of_all_lengths_are_in_canonical_encoding() {
        for behind in [0, 1, 31, 32, 63, 64, 200] {
            for length in [1, 2, 28, 29, 30, 31, 62, 63, 64, 65, 126, 127, 128, 129, 16_383, 16_384]
            {
                check(&[(length, 1)], behind);
                check(&[(1, length)], behind);
                check(&[(3, 5), (length, length), (7, 64), (29, 63), (40, 2)], behind);
            }
        }
        check(&[(5, 60); 90], 100);
    }

    #[test]
    fn what_will_be_refused_takes_no_more_room() {
        let whole = [&[0xff, 0xff, 0x03][..], &[b'x'; 0xffff]].concat();
        let long = Piece::of(&whole, 0, whole.len()).expect("lies in it");
        let mut fields = LabelFields::new(1_000);
        (0..100).for_each(|_| fields.put(long, long));
        assert!(fields.bytes().len() < 3 * whole.len(), "{}", fields.bytes().len());
        assert!(Labels::from_wire(fields.bytes()).is_ok(), "cut off between labels");
        assert!(
            Piece::of(&whole, 4, 3).is_none() && Piece::of(&whole, 0, whole.len() + 1).is_none()
        );
    }
}
