//! Objects that are JSON behind a small checked header: manifests of partitions and of backups.
//!
//! ```text
//! magic 8 | version u32 | length of the JSON u32 | feature bits u64 | CRC-32C of the JSON u32
//!         | CRC-32C of the 28 bytes before u32 | JSON
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

const HEADER_BYTES: usize = 32;

/// What kind of object it is and what this build knows of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    /// Feature bits this build knows: an object with another one is not read.
    pub(crate) features_known: u64,
}

impl Kind {
    /// The bytes of an object; `what` names it in an error.
    pub(crate) fn encode(
        self,
        content: &impl Serialize,
        features: u64,
        what: impl Fn() -> String,
    ) -> Result<Vec<u8>, Error> {
        let corrupt = |reason| Error::Corrupt { what: what(), reason };
        let json = serde_json::to_vec(content).map_err(|error| corrupt(error.to_string()))?;
        let length = u32::try_from(json.len())
            .map_err(|_| corrupt(format!("{} bytes are too many", json.len())))?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + json.len());
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&features.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
        let header = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&header.to_le_bytes());
        bytes.extend_from_slice(&json);
        Ok(bytes)
    }

    /// What an object holds, if every checksum is right and nothing in it is newer than this build.
    pub(crate) fn decode<T: DeserializeOwned>(
        self,
        bytes: &[u8],
        what: impl Fn() -> String,
    ) -> Result<T, Error> {
        let corrupt = |reason: String| Error::Corrupt { what: what(), reason };
        let unsupported = |feature| Error::Unsupported { what: what(), feature };
        let Some((header, json)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt("it is shorter than its header".to_owned()));
        };
        if header[..8] != self.magic {
            return Err(corrupt(format!("it does not start with {}", self.magic.escape_ascii())));
        }
        if u32_at(header, 28) != crc32c::crc32c(&header[..28]) {
            return Err(corrupt("the checksum of its header is wrong".to_owned()));
        }
        let (version, features) = version_and_features(bytes);
        if version != self.version {
            return Err(unsupported(format!("format version {version}")));
        }
        let unknown = features & !self.features_known;
        if unknown != 0 {
            return Err(unsupported(format!("feature bit {}", unknown.trailing_zeros())));
        }
        if u32_at(header, 12) as usize != json.len() {
            return Err(corrupt("its length is not what its header says".to_owned()));
        }
        if u32_at(header, 24) != crc32c::crc32c(json) {
            return Err(corrupt("its checksum is wrong".to_owned()));
        }
        serde_json::from_slice(json).map_err(|error| corrupt(error.to_string()))
    }
}

/// What the header of an object that was read says of its format.
pub(crate) fn version_and_features(bytes: &[u8]) -> (u32, u64) {
    bytes.first_chunk::<HEADER_BYTES>().map_or((0, 0), |header| {
        (u32_at(header, 8), u64::from(u32_at(header, 16)) | u64::from(u32_at(header, 20)) << 32)
    })
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}
