//! Which series `limit_ratio` takes: a share of all by the hash of their labels, so that it is the
//! same at every step and in every query. Hash and layout are those of Prometheus' releases
//! (`model/labels/labels_stringlabels.go`), which choose the same series.

use model::Labels;

/// Where a series lies between 0 and 1.
pub(crate) fn place(labels: &Labels) -> f64 {
    hash(&laid_out(labels)) as f64 / u64::MAX as f64
}

/// Whether a place belongs to the share `ratio` of all or, if it is negative, to the rest.
pub(crate) fn is_sampled(ratio: f64, place: f64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    if ratio >= 0.0 { place < ratio || ratio == 1.0 } else { place >= 1.0 + ratio }
}

/// Names and values in order, each behind its length.
fn laid_out(labels: &Labels) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |text: &str| {
        match u8::try_from(text.len()) {
            Ok(length) if length < u8::MAX => bytes.push(length),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    };
    for (name, value) in labels.iter() {
        put(name);
        put(value);
    }
    bytes
}

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

fn round(sum: u64, input: u64) -> u64 {
    sum.wrapping_add(input.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// xxHash64 with seed 0 (`github.com/Cyan4973/xxHash`, `doc/xxhash_spec.md`).
fn hash(bytes: &[u8]) -> u64 {
    let stripes = bytes.chunks_exact(32);
    let mut rest = stripes.remainder();
    let mut sum = if bytes.len() < 32 { PRIMES[4] } else { of_stripes(stripes) };
    sum = sum.wrapping_add(bytes.len() as u64);
    while let Some((word, after)) = rest.split_at_checked(8) {
        sum = (sum ^ round(0, little_endian(word))).rotate_left(27);
        sum = sum.wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
        rest = after;
    }
    if let Some((half, after)) = rest.split_at_checked(4) {
        sum = (sum ^ little_endian(half).wrapping_mul(PRIMES[0])).rotate_left(23);
        sum = sum.wrapping_mul(PRIMES[1]).wrapping_add(PRIMES[2]);
        rest = after;
    }
    for byte in rest {
        sum = (sum ^ u64::from(*byte).wrapping_mul(PRIMES[4])).rotate_left(11);
        sum = sum.wrapping_mul(PRIMES[0]);
    }
    sum = (sum ^ sum >> 33).wrapping_mul(PRIMES[1]);
    sum = (sum ^ sum >> 29).wrapping_mul(PRIMES[2]);
    sum ^ sum >> 32
}

fn of_stripes<'a>(stripes: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u64.wrapping_sub(PRIMES[0])];
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
            *lane = round(*lane, little_endian(word));
        }
    }
    let rotated = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
    let sum = rotated.fold(0u64, u64::wrapping_add);
    lanes.iter().fold(sum, |sum, lane| {
        (sum ^ round(0, *lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        for (text, expected) in [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            ("Nobody inspects the spammish repetition", 0xfbce_a83c_8a37_8bf1),
        ] {
            assert_eq!(hash(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn labels_are_laid_out_by_their_lengths() {
        let long = "v".repeat(300);
        let labels = Labels::from_pairs([("a", "xyz"), ("b", &long)]);
        let mut expected = b"\x01a\x03xyz\x01b\xff\x2c\x01\x00".to_vec();
        expected.extend_from_slice(long.as_bytes());
        assert_eq!(laid_out(&labels), expected);
    }

    #[test]
    fn a_share_and_the_rest_are_everything() {
        for i in 0..200 {
            let place = place(&Labels::from_pairs([("i", i.to_string())]));
            for ratio in [0.1, 0.5, 0.9, 1.0] {
                assert!(is_sampled(ratio, place) != is_sampled(ratio - 1.0, place), "{i} {ratio}");
            }
            assert!(is_sampled(-1.0, place) && is_sampled(2.0, place) && !is_sampled(0.0, place));
        }
    }
}
