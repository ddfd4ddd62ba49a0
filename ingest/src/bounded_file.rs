//! Files that others write for us, read with a bound: what a length says before reading does not
//! hold for a pipe, a device or a file that grows.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Largest configuration, token or secret file that is read, bytes.
pub const TEXT_BYTES_MAX: u64 = 64 << 20;

/// A file's content, at most `bytes_max` of it.
///
/// # Errors
/// The file cannot be read, or it is longer.
#[expect(clippy::disallowed_methods, reason = "a file of others, not of the data directory")]
pub fn read(file: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let what = format!("it has more than {bytes_max} bytes, the most that are read");
        return Err(Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// A text file's content, at most [`TEXT_BYTES_MAX`] of it.
///
/// # Errors
/// The file cannot be read, it is longer, or it is not UTF-8.
pub fn read_text(file: &Path) -> Result<String> {
    String::from_utf8(read(file, TEXT_BYTES_MAX)?)
        .map_err(|error| Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &Path, bytes_max: u64, expected: std::result::Result<&[u8], ErrorKind>) {
        let found = read(file, bytes_max).map_err(|error| error.kind());
        assert_eq!(found.as_deref().map_err(|kind| *kind), expected, "{}", file.display());
    }

    #[test]
    fn no_more_than_the_bound_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "four").expect("written");
        check(&file, 4, Ok(b"four"));
        check(&file, 3, Err(ErrorKind::FileTooLarge));
        check(&dir.path().join("none"), 4, Err(ErrorKind::NotFound));
        // A device without an end, whose length is said to be nothing.
        check(Path::new("/dev/zero"), 1 << 20, Err(ErrorKind::FileTooLarge));
        std::fs::write(&file, [0xff]).expect("written");
        assert_eq!(read_text(&file).map_err(|e| e.kind()), Err(ErrorKind::InvalidData));
    }
}
