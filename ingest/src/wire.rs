//! Reading protobuf without a schema: tags, numbers, lengths, and what may be skipped.
//!
//! A reader never looks past its end, and every step either moves forward or fails, so work is
//! bounded by the bytes given. Nothing here allocates.

use std::ops::Range;

/// Bytes that are not the message they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf at byte {at}: {what}")]
pub struct WireError {
    /// Where in the decompressed body.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// A place in a message. `bytes` starts where the body starts and ends where the message ends, so
/// that places are offsets into the body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { bytes: body, at: 0 }
    }

    /// A message that lies there in the body.
    #[cfg(test)]
    pub(crate) fn of(body: &'a [u8], message: Range<usize>) -> Self {
        Self { bytes: &body[..message.end], at: message.start }
    }

    /// Offset of the next byte in the body.
    #[inline(always)]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[inline(always)]
    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[cold]
    pub(crate) fn fail(&self, what: &'static str) -> WireError {
        WireError { at: self.at, what }
    }

    /// A number of up to 64 bits.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.varint_long(),
        }
    }

    fn varint_long(&mut self) -> Result<u64, WireError> {
        let mut rest = &self.bytes[self.at.min(self.bytes.len())..];
        let before = rest.len();
        match model::varint::take(&mut rest) {
            Some(value) => {
                self.at += before - rest.len();
                Ok(value)
            }
            None => Err(self.fail("number is cut short or has more than 64 bits")),
        }
    }

    /// Where the bytes of a length-delimited field lie; moves past them.
    #[inline(always)]
    pub(crate) fn range(&mut self) -> Result<Range<usize>, WireError> {
        let length = self.varint()?;
        let start = self.at;
        if length > (self.bytes.len() - start) as u64 {
            return Err(self.fail("length reaches past the end of the message"));
        }
        self.at = start + length as usize;
        Ok(start..self.at)
    }

    /// What is left of the message.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// A nested message; moves past it.
    #[inline(always)]
    pub(crate) fn message(&mut self) -> Result<Reader<'a>, WireError> {
        let range = self.range()?;
        Ok(Reader { bytes: &self.bytes[..range.end], at: range.start })
    }

    /// The bytes of a length-delimited field; moves past them.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8], WireError> {
        let range = self.range()?;
        Ok(&self.bytes[range])
    }

    /// Eight bytes as a float.
    #[inline(always)]
    pub(crate) fn double(&mut self) -> Result<f64, WireError> {
        match self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            Some(bytes) => {
                self.at += 8;
                Ok(f64::from_le_bytes(*bytes))
            }
            None => Err(self.fail("eight-byte number is cut short")),
        }
    }

    /// Eight bytes as a number.
    #[inline(always)]
    pub(crate) fn fixed_64(&mut self) -> Result<u64, WireError> {
        self.double().map(f64::to_bits)
    }

    /// Four bytes as a number.
    pub(crate) fn fixed_32(&mut self) -> Result<u32, WireError> {
        match self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<4>) {
            Some(bytes) => {
                self.at += 4;
                Ok(u32::from_le_bytes(*bytes))
            }
            None => Err(self.fail("four-byte number is cut short")),
        }
    }

    /// A number whose sign is in its lowest bit.
    pub(crate) fn zigzag(&mut self) -> Result<i64, WireError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Moves past the value of a field that the message does not know. The tag of a `known` field
    /// only comes here with the wrong wire type, and is refused.
    #[cold]
    pub(crate) fn skip(&mut self, tag: u64, known: &[u64]) -> Result<(), WireError> {
        let field = tag >> 3;
        if field == 0 || tag > u64::from(u32::MAX) {
            return Err(self.fail("field number is out of range"));
        }
        if known.contains(&field) {
            return Err(self.fail("field has the wrong wire type"));
        }
        match tag & 7 {
            0 => self.varint().map(drop),
            1 => self.fixed(8),
            2 => self.range().map(drop),
            5 => self.fixed(4),
            3 | 4 => Err(self.fail("groups are not accepted")),
            _ => Err(self.fail("wire type does not exist")),
        }
    }

    fn fixed(&mut self, bytes: usize) -> Result<(), WireError> {
        if self.bytes.len() - self.at < bytes {
            return Err(self.fail("number is cut short"));
        }
        self.at += bytes;
        Ok(())
    }
}
