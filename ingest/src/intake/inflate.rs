//! Decompression, distrusted: what a body claims to hold is checked before room is made, and what
//! it turns out to hold is counted while it is unpacked.

use std::io::Read;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use snap::raw::{Decoder, decompress_len};

use super::inflated::Inflated;

/// Copies of 64 bytes are written in 3: no block can grow by more than 64/3.
const RATIO_MAX: usize = 22;

/// How a stream in framed format begins (`framing_format.txt`, stream identifier).
const FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// Largest window of a zstd frame: twice the largest decompressed body that any tenant may send.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

/// Bytes unpacked at a time where the length is not known beforehand.
const STEP_BYTES: usize = 64 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not at all.
    Identity,
    /// Snappy in block format.
    Snappy,
    /// Zstandard.
    Zstd,
    /// Gzip.
    Gzip,
    /// Deflate, with zlib's header or without one: senders disagree on what the word means.
    Deflate,
    /// One gRPC message, not compressed.
    GrpcIdentity,
    /// One gRPC message, in gzip if it says so.
    GrpcGzip,
    /// One gRPC message, in Zstandard if it says so.
    GrpcZstd,
}

impl Encoding {
    /// The encoding that a request names among those of a door; `None` if it names another.
    /// Without a name it is the door's first.
    pub(crate) fn of(headers: &HeaderMap, of_door: &[Self]) -> Option<Self> {
        let first = of_door.first().copied();
        let Some(named) = headers.get(CONTENT_ENCODING).filter(|v| !v.is_empty()) else {
            return first;
        };
        let named = named.as_bytes().trim_ascii();
        of_door.iter().copied().find(|e| named.eq_ignore_ascii_case(e.as_str().as_bytes()))
    }

    /// The word in `Content-Encoding`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Identity | Self::GrpcIdentity => "identity",
            Self::Snappy => "snappy",
            Self::Zstd | Self::GrpcZstd => "zstd",
            Self::Gzip | Self::GrpcGzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// How long a body is when unpacked, as far as it says so itself and cannot give more.
    pub(crate) fn declared(self, compressed: &[u8]) -> Option<usize> {
        match self {
            Self::Identity | Self::GrpcIdentity => Some(compressed.len()),
            Self::Snappy => decompress_len(compressed).ok(),
            Self::Zstd | Self::Gzip | Self::Deflate | Self::GrpcZstd | Self::GrpcGzip => None,
        }
    }
}

/// Why a body was not inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The other snappy format.
    #[error("body is in snappy's framed format; remote write uses the block format")]
    Framed,
    /// Larger than allowed, and says so.
    #[error(
        "body declares {declared} bytes decompressed, the limit is {limit} bytes (body_decompressed_bytes_max)"
    )]
    TooLarge {
        /// What the body says.
        declared: usize,
        /// The limit.
        limit: usize,
    },
    /// Larger than allowed, as was found out.
    #[error("body has more than {limit} bytes decompressed (body_decompressed_bytes_max)")]
    Grows {
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
    /// Not what it is said to be.
    #[error("body is not {what}: {why}")]
    Broken {
        /// What it should be.
        what: &'static str,
        /// What the decoder says.
        why: String,
    },
}

/// Unpacks into `buffer` and gives the part that was filled.
pub(crate) fn inflate<'b>(
    encoding: Encoding,
    compressed: &'b [u8],
    limit: usize,
    buffer: &'b mut Inflated,
) -> Result<&'b [u8], InflateError> {
    match encoding {
        Encoding::Identity if compressed.len() > limit => Err(InflateError::Grows { limit }),
        Encoding::Identity => Ok(compressed),
        Encoding::Snappy => snappy(compressed, limit, buffer),
        Encoding::Zstd => {
            let broken = |why: std::io::Error| broken("zstd", &why);
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(compressed).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            stream("zstd", decoder, limit, buffer)
        }
        Encoding::GrpcIdentity => grpc(Encoding::Identity, compressed, limit, buffer),
        Encoding::GrpcZstd => grpc(Encoding::Zstd, compressed, limit, buffer),
        Encoding::GrpcGzip => grpc(Encoding::Gzip, compressed, limit, buffer),
        Encoding::Gzip => {
            stream("gzip", flate2::bufread::MultiGzDecoder::new(compressed), limit, buffer)
        }
        Encoding::Deflate if has_zlib_header(compressed) => {
            stream("zlib", flate2::bufread::ZlibDecoder::new(compressed), limit, buffer)
        }
        Encoding::Deflate => {
            stream("deflate", flate2::bufread::DeflateDecoder::new(compressed), limit, buffer)
        }
    }
}

/// Method 8 and a check sum (RFC 1950, 2.2); a first block of deflate seldom looks like it.
fn has_zlib_header(bytes: &[u8]) -> bool {
    matches!(bytes, [first, second, ..] if first & 0x0f == 8
        && first >> 4 <= 7
        && u16::from_be_bytes([*first, *second]) % 31 == 0)
}

/// A message behind a byte that says whether it is compressed and its length in four.
fn grpc<'b>(
    encoding: Encoding,
    framed: &'b [u8],
    limit: usize,
    buffer: &'b mut Inflated,
) -> Result<&'b [u8], InflateError> {
    let wrong = |why: &str| broken("one gRPC message", &why);
    let (prefix, message) =
        framed.split_first_chunk::<5>().ok_or_else(|| wrong("it is cut short"))?;
    let [flag, length @ ..] = *prefix;
    if u32::from_be_bytes(length) as usize != message.len() {
        return Err(wrong("its length is not that of the body"));
    }
    match flag {
        0 => inflate(Encoding::Identity, message, limit, buffer),
        1 if encoding != Encoding::Identity => inflate(encoding, message, limit, buffer),
        _ => Err(wrong("it is compressed in a way that grpc-encoding does not name")),
    }
}

fn snappy<'b>(
    compressed: &[u8],
    limit: usize,
    buffer: &'b mut Inflated,
) -> Result<&'b [u8], InflateError> {
    if compressed.starts_with(FRAMED) {
        return Err(InflateError::Framed);
    }
    let broken = |why: snap::Error| broken("snappy in block format", &why);
    let declared = decompress_len(compressed).map_err(broken)?;
    if declared > limit {
        return Err(InflateError::TooLarge { declared, limit });
    }
    if declared > compressed.len().saturating_mul(RATIO_MAX) {
        return Err(InflateError::Implausible { bytes: compressed.len(), declared });
    }
    let room = &mut buffer.room(declared, 0, declared)[..declared];
    let filled = Decoder::new().decompress(compressed, room).map_err(broken)?;
    Ok(buffer.filled(filled))
}

/// Formats that do not say how much they hold: unpacked step by step up to the limit.
fn stream<'b>(
    what: &'static str,
    mut decoder: impl Read,
    limit: usize,
    buffer: &'b mut Inflated,
) -> Result<&'b [u8], InflateError> {
    let mut filled = 0;
    loop {
        // One byte more than allowed tells a body that is too long from one that just fits.
        let most = limit.saturating_add(1);
        let end = (filled + STEP_BYTES).min(most);
        let room = &mut buffer.room(end, filled, most)[filled..end];
        match decoder.read(room) {
            Ok(0) => return Ok(buffer.filled(filled)),
            Ok(read) => filled += read,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(why) => return Err(broken(what, &why)),
        }
        if filled > limit {
            return Err(InflateError::Grows { limit });
        }
    }
}

fn broken(what: &'static str, why: &dyn std::fmt::Display) -> InflateError {
    InflateError::Broken { what, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(compressed: &[u8], limit: usize, result: &str) {
        let mut buffer = Inflated::default();
        let shown = match inflate(Encoding::Snappy, compressed, limit, &mut buffer) {
            Ok(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Err(why) => why.to_string(),
        };
        assert_eq!(shown, result);
        assert!(buffer.len() <= limit, "no room is made for a refused body");
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
        assert!(matches!(
            snappy(b"", 9, &mut Inflated::default()),
            Err(InflateError::Broken { .. }) | Ok([])
        ));
        assert!(matches!(
            snappy(&declares(5, b"\x10hell"), 9, &mut Inflated::default()),
            Err(InflateError::Broken { .. })
        ));
        assert!(matches!(
            snappy(&[0xff; 11], 9, &mut Inflated::default()),
            Err(InflateError::Broken { .. })
        ));
    }

    #[test]
    fn the_densest_block_is_plausible() {
        let zeros = vec![0; 1 << 20];
        let packed = snap::raw::Encoder::new().compress_vec(&zeros).expect("compresses");
        assert_eq!(
            snappy(&packed, zeros.len(), &mut Inflated::default()).expect("inflates").len(),
            zeros.len()
        );
    }

    /// A body in each of the formats that do not declare a length.
    fn both(text: &[u8]) -> [(Encoding, Vec<u8>); 2] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, text).expect("compresses");
        let zstd = zstd::bulk::compress(text, 1).expect("compresses");
        [(Encoding::Gzip, gzip.finish().expect("compresses")), (Encoding::Zstd, zstd)]
    }

    #[test]
    fn streams_are_unpacked_up_to_the_limit() {
        for length in [0, 1, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 200_000] {
            let text: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            for (encoding, packed) in both(&text) {
                let mut buffer = Inflated::default();
                assert_eq!(inflate(encoding, &packed, length, &mut buffer), Ok(&text[..]));
                let mut buffer = Inflated::default();
                if length > 0 {
                    let limit = length - 1;
                    let refused = inflate(encoding, &packed, limit, &mut buffer);
                    assert_eq!(refused, Err(InflateError::Grows { limit }));
                    assert!(buffer.len() <= length, "no more room than the limit");
                }
                for cut in [1, packed.len() / 2, packed.len() - 1] {
                    let cut = inflate(encoding, &packed[..cut], 1 << 20, &mut buffer);
                    assert!(matches!(cut, Err(InflateError::Broken { .. })), "{cut:?}");
                }
            }
        }
        let [(_, gzip), (_, zstd)] = both(&vec![0; 64 << 20]);
        for (encoding, bomb) in [(Encoding::Gzip, gzip), (Encoding::Zstd, zstd)] {
            let mut buffer = Inflated::default();
            assert!(inflate(encoding, &bomb, 1 << 20, &mut buffer).is_err());
            assert!(buffer.len() <= (1 << 20) + 1, "a bomb takes no more than its limit");
        }
        assert!(inflate(Encoding::Identity, b"abc", 2, &mut Inflated::default()).is_err());
        assert_eq!(
            inflate(Encoding::Identity, b"abc", 3, &mut Inflated::default()),
            Ok(&b"abc"[..])
        );
    }

    #[test]
    fn deflate_comes_with_a_header_or_without() {
        use flate2::write::{DeflateEncoder, ZlibEncoder};
        let level = flate2::Compression::fast();
        let (mut bare, mut headed) =
            (DeflateEncoder::new(Vec::new(), level), ZlibEncoder::new(Vec::new(), level));
        std::io::Write::write_all(&mut bare, b"hello hello").expect("compresses");
        std::io::Write::write_all(&mut headed, b"hello hello").expect("compresses");
        let packed = [bare.finish().expect("compresses"), headed.finish().expect("compresses")];
        for packed in packed {
            let mut buffer = Inflated::default();
            let inflated = inflate(Encoding::Deflate, &packed, 11, &mut buffer);
            assert_eq!(inflated, Ok(&b"hello hello"[..]));
            let mut buffer = Inflated::default();
            assert!(inflate(Encoding::Deflate, &packed, 10, &mut buffer).is_err());
        }
    }

    #[test]
    fn grpc_messages_are_unframed() {
        let framed = |flag: u8, message: &[u8]| {
            [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
        };
        let mut buffer = Inflated::default();
        let mut check = |encoding, body: &[u8], shown: &str| {
            let read = inflate(encoding, body, 9, &mut buffer).map(String::from_utf8_lossy);
            assert_eq!(read.map_or_else(|e| e.to_string(), |text| text.into_owned()), shown);
        };
        let [(_, gzip), (_, zstd)] = both(b"hello");
        check(Encoding::GrpcIdentity, &framed(0, b"hello"), "hello");
        check(Encoding::GrpcGzip, &framed(0, b"hello"), "hello");
        check(Encoding::GrpcGzip, &framed(1, &gzip), "hello");
        check(Encoding::GrpcZstd, &framed(1, &zstd), "hello");
        check(Encoding::GrpcIdentity, &framed(0, b""), "");
        check(Encoding::GrpcIdentity, b"", "body is not one gRPC message: it is cut short");
        let two = [framed(0, b"a"), framed(0, b"b")].concat();
        let wrong = "body is not one gRPC message: its length is not that of the body";
        check(Encoding::GrpcIdentity, &two, wrong);
        let wrong = "body is not one gRPC message: it is compressed in a way that grpc-encoding does not name";
        check(Encoding::GrpcIdentity, &framed(1, &gzip), wrong);
        check(Encoding::GrpcGzip, &framed(7, &gzip), wrong);
        let large = "body has more than 9 bytes decompressed (body_decompressed_bytes_max)";
        check(Encoding::GrpcIdentity, &framed(0, b"0123456789"), large);
    }
}
