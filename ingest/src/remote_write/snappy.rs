//! Snappy in block format, distrusted: what a body claims to hold is checked before room is made.

use snap::raw::{Decoder, decompress_len};

/// Copies of 64 bytes are written in 3: no block can grow by more than 64/3.
const RATIO_MAX: usize = 22;

/// How a stream in framed format begins (`framing_format.txt`, stream identifier).
const FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// Why a body was not inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnappyError {
    /// The other snappy format.
    #[error("body is in snappy's framed format; remote write uses the block format")]
    Framed,
    /// Larger than allowed.
    #[error(
        "body declares {declared} bytes decompressed, the limit is {limit} bytes (body_decompressed_bytes_max)"
    )]
    TooLarge {
        /// What the body says.
        declared: usize,
        /// The limit.
        limit: usize,
    },
    /// Claims more than its bytes can hold.
    #[error(
        "body of {bytes} bytes declares {declared} bytes decompressed, which snappy cannot reach"
    )]
    Implausible {
        /// Compressed length.
        bytes: usize,
        /// What the body says.
        declared: usize,
    },
    /// Not snappy.
    #[error("body is not snappy in block format: {0}")]
    Broken(String),
}

/// What a body says its decompressed length is. Inflating it never gives more.
pub(super) fn declared(compressed: &[u8]) -> Option<usize> {
    decompress_len(compressed).ok()
}

/// Inflates into `buffer`, which only grows, and gives the part that was filled.
pub(super) fn inflate<'b>(
    compressed: &[u8],
    limit: usize,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], SnappyError> {
    if compressed.starts_with(FRAMED) {
        return Err(SnappyError::Framed);
    }
    let declared =
        decompress_len(compressed).map_err(|why| SnappyError::Broken(why.to_string()))?;
    if declared > limit {
        return Err(SnappyError::TooLarge { declared, limit });
    }
    if declared > compressed.len().saturating_mul(RATIO_MAX) {
        return Err(SnappyError::Implausible { bytes: compressed.len(), declared });
    }
    if buffer.len() < declared {
        buffer.resize(declared, 0);
    }
    let filled = Decoder::new()
        .decompress(compressed, &mut buffer[..declared])
        .map_err(|why| SnappyError::Broken(why.to_string()))?;
    Ok(&buffer[..filled])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(compressed: &[u8], limit: usize, result: &str) {
        let mut buffer = vec![7; 3];
        let shown = match inflate(compressed, limit, &mut buffer) {
            Ok(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Err(why) => why.to_string(),
        };
        assert_eq!(shown, result);
        assert!(buffer.capacity() <= limit.max(3) + 64, "no room is made for a refused body");
    }

    #[test]
    fn bodies_are_inflated_or_refused() {
        let packed =
            |text: &[u8]| snap::raw::Encoder::new().compress_vec(text).expect("small enough");
        let declares = |length: u64, rest: &[u8]| {
            let mut body = Vec::new();
            model::varint::put(&mut body, length);
            body.extend_from_slice(rest);
            body
        };
        check(&packed(b"hello"), 5, "hello");
        check(&packed(b""), 5, "");
        check(
            &packed(b"hello!"),
            5,
            "body declares 6 bytes decompressed, the limit is 5 bytes (body_decompressed_bytes_max)",
        );
        check(
            &declares(u64::from(u32::MAX), b"x"),
            1000,
            "body declares 4294967295 bytes decompressed, the limit is 1000 bytes (body_decompressed_bytes_max)",
        );
        check(
            &declares(900, b"x"),
            1000,
            "body of 3 bytes declares 900 bytes decompressed, which snappy cannot reach",
        );
        check(
            b"\xff\x06\x00\x00sNaPpY\x01",
            9,
            "body is in snappy's framed format; remote write uses the block format",
        );
        assert!(matches!(inflate(b"", 9, &mut Vec::new()), Err(SnappyError::Broken(_)) | Ok([])));
        assert!(matches!(
            inflate(&declares(5, b"\x10hell"), 9, &mut Vec::new()),
            Err(SnappyError::Broken(_))
        ));
        assert!(matches!(inflate(&[0xff; 11], 9, &mut Vec::new()), Err(SnappyError::Broken(_))));
    }

    #[test]
    fn the_densest_block_is_plausible() {
        let zeros = vec![0; 1 << 20];
        let packed = snap::raw::Encoder::new().compress_vec(&zeros).expect("compresses");
        assert_eq!(
            inflate(&packed, zeros.len(), &mut Vec::new()).expect("inflates").len(),
            zeros.len()
        );
    }
}
