//! Bloom filters: which tokens are in no row of a group.

/// Bits for each distinct token: one in a hundred that is not there seems to be.
const BITS_PER_TOKEN: usize = 10;

/// Bits that are set for each token.
const HASHES: u64 = 7;

/// A filter of so many tokens, which are given by their hashes.
pub(super) fn build(tokens: &hashbrown::HashSet<u64>) -> Vec<u8> {
    let bytes = (tokens.len() * BITS_PER_TOKEN).div_ceil(8);
    let mut filter = vec![0u8; bytes];
    for token in tokens {
        for bit in bits(*token, bytes) {
            filter[bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

/// Whether a token may be in a group.
pub(super) fn may_have(filter: &[u8], token: u64) -> bool {
    !filter.is_empty() && bits(token, filter.len()).all(|bit| filter[bit / 8] & 1 << (bit % 8) != 0)
}

/// The places of a token: the `i`th is the high half of `(h + i·g)·n`, `h` the token's hash, `g` the
/// same turned by 32 bits and made odd, `n` the number of bits.
fn bits(token: u64, bytes: usize) -> impl Iterator<Item = usize> {
    let (step, bits) = (token.rotate_left(32) | 1, bytes as u128 * 8);
    (0..HASHES).map(move |i| {
        let hash = token.wrapping_add(i.wrapping_mul(step));
        ((u128::from(hash) * bits) >> 64) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_little_else() {
        let hash = |n: u64| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes());
        for count in [0, 1, 10, 10_000] {
            let tokens = (0..count).map(hash).collect();
            let filter = build(&tokens);
            assert!(tokens.iter().all(|token| may_have(&filter, *token)));
            let wrong = (count..count + 10_000).filter(|n| may_have(&filter, hash(*n))).count();
            assert!(wrong < 250 || count == 1, "{count} tokens: {wrong} of 10,000");
        }
        assert!(!may_have(&[], 1));
    }
}
