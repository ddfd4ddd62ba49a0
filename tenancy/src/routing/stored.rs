//! The table that administrators put: one file, written anew with each change and moved over the
//! one before (docs/formats/tenants.md).

use std::io;
use std::path::Path;

use model::{Disk, OpenMode};
use serde::{Deserialize, Serialize};

use super::{OWNERSHIPS_MAX, RoutingFile};

const DIR: &str = "routing";
const PATH: &str = "routing/namespaces.json";
const NEW_PATH: &str = "routing/namespaces.new";
const FORMAT: &str = "taffrail-routing";
const VERSION: u32 = 1;

/// Largest file that is read, bytes: every entry with the longest names.
const FILE_BYTES_MAX: u64 = 1_024 * OWNERSHIPS_MAX as u64;

/// Checksum in hexadecimal and a blank, as in the records of changes.
const PREFIX_BYTES: usize = 9;

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    version: u32,
    #[serde(flatten)]
    file: RoutingFile,
}

/// Reads the table; `None` if nobody put one. Blocks.
pub fn read_stored(disk: &dyn Disk) -> io::Result<Option<RoutingFile>> {
    let file = match disk.open(Path::new(PATH), OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let damaged =
        |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{PATH} {what}"));
    let length = file.bytes()?;
    if length > FILE_BYTES_MAX {
        return Err(damaged(format!("has {length} bytes, at most {FILE_BYTES_MAX} are read")));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let (sum, json) = bytes.split_at_checked(PREFIX_BYTES).unwrap_or((&[], &bytes));
    if sum != format!("{:08x} ", crc32c::crc32c(json)).as_bytes() {
        return Err(damaged("is damaged: its checksum is not that of its content".to_owned()));
    }
    let head: Head =
        serde_json::from_slice(json).map_err(|e| damaged(format!("is damaged: {e}")))?;
    if head.format != FORMAT || head.version != VERSION {
        let (format, version) = (head.format, head.version);
        return Err(damaged(format!(
            "is {format} version {version}, which this version does not know"
        )));
    }
    let stored: Stored =
        serde_json::from_slice(json).map_err(|e| damaged(format!("is damaged: {e}")))?;
    Ok(Some(stored.file))
}

/// What is asked before the rest is read.
#[derive(Debug, Deserialize)]
struct Head {
    format: String,
    version: u32,
}

/// Puts a table in the place of the one before. Durable when this returns; after an error either of
/// the two may be found. Blocks.
pub fn write_stored(disk: &dyn Disk, file: &RoutingFile) -> io::Result<()> {
    let stored = Stored { format: FORMAT.to_owned(), version: VERSION, file: file.clone() };
    let json = serde_json::to_vec(&stored).map_err(io::Error::other)?;
    let mut bytes = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    bytes.extend(json);
    disk.create_dir_all(Path::new(DIR))?;
    match disk.remove(Path::new(NEW_PATH)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let new = disk.open(Path::new(NEW_PATH), OpenMode::CreateNew)?;
    new.write_all_at(&bytes, 0)?;
    new.sync()?;
    disk.rename(Path::new(NEW_PATH), Path::new(PATH))?;
    disk.sync_dir(Path::new(DIR))
}

#[cfg(test)]
mod tests {
    use testkit::{Fault, FaultyDisk};

    use super::*;
    use crate::Ownership;

    fn table(tenant: &str) -> RoutingFile {
        let namespaces = vec![Ownership {
            cluster: "c".to_owned(),
            namespace: "shop".to_owned(),
            tenant: tenant.to_owned(),
            from_ms: Some(5),
            to_ms: None,
        }];
        RoutingFile { namespaces }
    }

    #[test]
    fn a_table_is_there_whole_or_not_at_all() {
        let disk = FaultyDisk::new();
        assert_eq!(read_stored(&disk).unwrap(), None);
        write_stored(&disk, &table("a")).unwrap();
        assert_eq!(read_stored(&disk).unwrap(), Some(table("a")));
        for fault_at in 1..8 {
            disk.fail_at(disk.operations() + fault_at, Fault::Eio);
            let written = write_stored(&disk, &table("b"));
            disk.heal();
            let found = read_stored(&disk).unwrap();
            let expected =
                if written.is_ok() { vec![table("b")] } else { vec![table("a"), table("b")] };
            assert!(expected.into_iter().any(|t| found == Some(t)), "operation {fault_at}");
            write_stored(&disk, &table("a")).unwrap();
        }
    }

    #[test]
    fn what_is_damaged_or_newer_is_refused() {
        let disk = FaultyDisk::new();
        write_stored(&disk, &table("a")).unwrap();
        disk.tamper(PATH, |bytes| bytes[30] ^= 1).unwrap();
        assert!(read_stored(&disk).unwrap_err().to_string().contains("checksum"));
        let newer = br#"{"format":"taffrail-routing","version":2,"namespaces":{}}"#;
        let whole = format!("{:08x} ", crc32c::crc32c(newer)).into_bytes();
        disk.tamper(PATH, |bytes| *bytes = [whole, newer.to_vec()].concat()).unwrap();
        let told = read_stored(&disk).unwrap_err().to_string();
        assert!(told.contains("version 2, which this version does not know"), "{told}");
    }
}
