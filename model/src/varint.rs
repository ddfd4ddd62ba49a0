//! Base-128 variable-length integers, as protobuf and our own formats write them.

/// Appends `value`, seven bits a byte, lowest first.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number so that small magnitudes stay short.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Takes one number off the front of `bytes`; `None` if it is cut short or longer than 64 bits.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Takes one signed number off the front of `bytes`.
#[inline]
pub fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    take(bytes).map(|v| (v >> 1) as i64 ^ -((v & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: u64, length: usize) {
        let mut bytes = Vec::new();
        put(&mut bytes, value);
        assert_eq!(bytes.len(), length);
        let mut rest = bytes.as_slice();
        assert_eq!(take(&mut rest), Some(value));
        assert!(rest.is_empty());
        assert_eq!(take(&mut &bytes[..length - 1]), None, "cut short");
        let mut signed = Vec::new();
        put_signed(&mut signed, value as i64);
        assert_eq!(take_signed(&mut signed.as_slice()), Some(value as i64));
    }

    #[test]
    fn numbers_survive() {
        check(0, 1);
        check(127, 1);
        check(128, 2);
        check(u64::from(u32::MAX), 5);
        check(u64::MAX, 10);
        assert_eq!(take(&mut &[0xff; 11][..]), None, "more than 64 bits");
    }
}
