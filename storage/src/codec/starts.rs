//! Start timestamps of the samples of one chunk, in front of its values.
//!
//! The number of runs of equal ones; if there are several, the lengths of all but the last as a
//! stream; then the start of each as a stream.

use model::varint;

use super::values::{put_integers, take_integers};
use super::{Damaged, Decoder, Encoder, take_varint};

/// Appends the starts of a chunk's samples, at least one.
pub fn encode(starts: &[i64], encoder: &mut Encoder, out: &mut Vec<u8>) {
    let runs: Vec<&[i64]> = starts.chunk_by(|a, b| a == b).collect();
    varint::put(out, runs.len() as u64);
    let mut lengths: Vec<i64> = runs.iter().map(|run| run.len() as i64).collect();
    lengths.pop();
    if !lengths.is_empty() {
        put_integers(&lengths, encoder, out);
    }
    let firsts: Vec<i64> = runs.iter().map(|run| run[0]).collect();
    put_integers(&firsts, encoder, out);
}

/// Takes the starts of `count` samples off the front.
pub fn decode(bytes: &mut &[u8], count: usize, decoder: &mut Decoder) -> Result<Vec<i64>, Damaged> {
    let runs = usize::try_from(take_varint(bytes)?).unwrap_or(usize::MAX);
    if runs == 0 || runs > count {
        return Err(Damaged("runs of start timestamps do not fit the count"));
    }
    let mut lengths = vec![0; runs - 1];
    if !lengths.is_empty() {
        take_integers(bytes, decoder, &mut lengths)?;
    }
    let mut firsts = vec![0; runs];
    take_integers(bytes, decoder, &mut firsts)?;
    let mut starts = Vec::with_capacity(count);
    for (length, start) in lengths.into_iter().zip(&firsts) {
        // The last run has one at least.
        let room = count - 1 - starts.len();
        let length = usize::try_from(length).ok().filter(|length| (1..=room).contains(length));
        let length = length.ok_or(Damaged("runs of start timestamps do not fit the count"))?;
        starts.extend(std::iter::repeat_n(*start, length));
    }
    starts.resize(count, firsts[runs - 1]);
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(starts: &[i64]) -> usize {
        let mut encoded = Vec::new();
        encode(starts, &mut Encoder::default(), &mut encoded);
        let bytes = encoded.len();
        encoded.extend_from_slice(b"values");
        let mut rest = encoded.as_slice();
        let decoded = decode(&mut rest, starts.len(), &mut Decoder::default());
        assert_eq!(decoded.as_deref(), Ok(starts));
        assert_eq!(rest, b"values");
        for cut in 0..bytes {
            let damaged = decode(&mut &encoded[..cut], starts.len(), &mut Decoder::default());
            assert!(damaged.is_err(), "cut at {cut}");
        }
        bytes
    }

    #[test]
    fn starts_survive_and_take_little() {
        let began = 1_795_000_000_000;
        assert!(check(&[began; 1024]) <= 12, "one start for all");
        assert!(check(&[vec![0; 100], vec![began; 900]].concat()) <= 24);
        // Each sample counts since the one before.
        let deltas: Vec<i64> = (0..1024).map(|i| began + i * 15_000).collect();
        assert!(check(&deltas) <= 80, "{}", check(&deltas));
        check(&[0]);
        check(&[i64::MIN, i64::MAX, 0, -1, -1]);
    }

    #[test]
    fn counts_that_do_not_fit_are_damage() {
        let mut encoded = Vec::new();
        encode(&[1, 1, 1, 2, 3], &mut Encoder::default(), &mut encoded);
        for count in [0, 1, 2, 3, 4] {
            let decoded = decode(&mut encoded.as_slice(), count, &mut Decoder::default());
            assert!(decoded.is_err(), "{count}");
        }
        let longer = decode(&mut encoded.as_slice(), 9, &mut Decoder::default());
        assert_eq!(longer.as_deref(), Ok(&[1, 1, 1, 2, 3, 3, 3, 3, 3][..]));
    }
}
