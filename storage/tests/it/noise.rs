//! Bytes of anybody's making for every decoder: nothing panics. What `fuzz/` does for hours, for a
//! moment and on every machine.

use storage::fuzz;

/// Bytes that are mostly small, as lengths and counts are, so that decoders go on for a while.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..length).map(|_| if next() % 4 == 0 { next() } else { next() % 5 }).collect()
}

#[test]
fn decoders_survive_noise() {
    // A right header: magic, version 1, no features.
    let mut snapshot = b"TFRLHEAD\x01".to_vec();
    snapshot.resize(16, 0);
    for seed in 0..4_000 {
        let bytes = noise(seed, 1 + seed as usize % 300);
        fuzz::log_records(&bytes);
        fuzz::snapshot(&bytes);
        fuzz::snapshot(&[&snapshot, &*bytes].concat());
        fuzz::index(&bytes);
        let text: String =
            bytes.iter().map(|b| char::from(b"{}[]:,\"0a"[usize::from(b % 9)])).collect();
        fuzz::manifest(text.as_bytes());
    }
}
