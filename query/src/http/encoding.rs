//! Compression of bodies, by what the client accepts.

use std::io::Write;

use axum::http::{HeaderMap, header};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    /// zlib's format, which is what HTTP calls deflate.
    Deflate,
    Zstd,
}

impl Encoding {
    /// Bodies below this length are sent as they are: one packet either way.
    pub(super) const WORTH_BYTES: usize = 1024;

    /// The best one that a request accepts.
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::Identity);
        for value in headers.get_all(header::ACCEPT_ENCODING) {
            for entry in value.to_str().unwrap_or("").split(',') {
                let (name, quality) = accepted(entry);
                let encoding = match name {
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "zstd" => Self::Zstd,
                    _ => continue,
                };
                // Of equally welcome ones zstd: smaller for less work.
                let as_welcome = quality > 0.0 && quality == best.0 && encoding == Self::Zstd;
                if quality > best.0 || as_welcome {
                    best = (quality, encoding);
                }
            }
        }
        best.1
    }

    /// The value of `Content-Encoding`.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// `gzip;q=0.5` is gzip with quality 0.5; without a quality it is 1.
fn accepted(entry: &str) -> (&str, f64) {
    let mut parts = entry.split(';').map(str::trim);
    let name = parts.next().unwrap_or("");
    let quality =
        parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
    (name, quality.unwrap_or(0.0))
}

/// The fastest level there is no loss in asking for.
const ZSTD_LEVEL: i32 = 1;

/// Encodes a body piece by piece.
pub(super) enum Encoder {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    pub(super) fn new(encoding: Encoding) -> Self {
        // The fastest level: JSON of numbers gains little from more, and a core is dearer.
        let level = Compression::fast();
        match encoding {
            Encoding::Identity => Self::Identity,
            Encoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), level)),
            Encoding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), level)),
            Encoding::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL);
                Self::Zstd(encoder.expect("level 1 exists"))
            }
        }
    }

    /// What is ready to be sent after one more piece; everything after the last.
    pub(super) fn encode(&mut self, piece: Vec<u8>, last: bool) -> Vec<u8> {
        let never = "a Vec takes everything";
        match self {
            Self::Identity => piece,
            Self::Gzip(encoder) => {
                encoder.write_all(&piece).expect(never);
                if last {
                    encoder.try_finish().expect(never);
                }
                std::mem::take(encoder.get_mut())
            }
            Self::Deflate(encoder) => {
                encoder.write_all(&piece).expect(never);
                if last {
                    encoder.try_finish().expect(never);
                }
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&piece).expect(never);
                if last {
                    encoder.do_finish().expect(never);
                }
                std::mem::take(encoder.get_mut())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, encoding: Encoding) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, accept.parse().expect("a header"));
        assert_eq!(Encoding::of_request(&headers), encoding, "{accept}");
    }

    #[test]
    fn clients_choose() {
        check("", Encoding::Identity);
        check("gzip", Encoding::Gzip);
        check("gzip, deflate, br", Encoding::Gzip);
        check("deflate, gzip;q=0.5", Encoding::Deflate);
        check("gzip;q=0", Encoding::Identity);
        check("br", Encoding::Identity);
        check("gzip;q=x", Encoding::Identity);
        check("gzip, deflate, br, zstd", Encoding::Zstd);
        check("zstd, gzip", Encoding::Zstd);
        check("gzip, zstd;q=0.5", Encoding::Gzip);
        check("zstd;q=0", Encoding::Identity);
    }
}
