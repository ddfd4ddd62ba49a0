//! The real disk: a directory of the operating system.
//!
//! Nothing here caches, buffers or retries: what [`Disk`] promises is one system call away.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use model::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
use rustix::fs::{FallocateFlags, FlockOperation};

/// A directory tree below one root.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// Opens a root directory and makes it if it does not exist.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        // The root's own name must be durable too, or all below it is lost with it.
        if let Some(parent) = root.parent() {
            sync_dir(parent)?;
        }
        Ok(Self { root })
    }

    /// The path below the root; refuses to leave it.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let inside =
            path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if inside {
            return Ok(self.root.join(path));
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} leaves the data directory", path.display()),
        ))
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(self.resolve(path)?)?;
        // The system opens directories for reading, too.
        if mode == OpenMode::Read && file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Box::new(OsFile(file)))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk the others go through")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.resolve(path)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.resolve(dir)?)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            // Whatever is not text was not made by us, and cannot be named in a path of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name, is_dir, bytes: if is_dir { 0 } else { metadata.len() } });
        }
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut at = self.root.clone();
        for part in self.resolve(dir)?.strip_prefix(&self.root).unwrap_or(dir).components() {
            let parent = at.clone();
            at.push(part);
            match fs::create_dir(&at) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && at.is_dir() => {}
                made => made?,
            }
            // Also if it existed: whoever made it may have died before syncing it.
            sync_dir(&parent)?;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sync_dir(&self.resolve(dir)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let path = self.resolve(path)?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            return Err(held(&file, error.into()));
        }
        // For whoever is refused; what holds is the lock of the system.
        let pid = format!("{:<19}\n", std::process::id());
        drop(file.write_all_at(pid.as_bytes(), 0));
        Ok(Box::new(OsLock { _file: file }))
    }
}

/// Names the process that holds a lock.
fn held(file: &File, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    let mut text = [0; 20];
    let read = file.read_at(&mut text, 0).unwrap_or(0);
    match std::str::from_utf8(&text[..read]).ok().and_then(|t| t.trim().parse::<u32>().ok()) {
        Some(pid) => io::Error::new(error.kind(), format!("process {pid}")),
        None => error,
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).open(dir)?.sync_all()
}

#[derive(Debug)]
struct OsFile(File);

impl DiskFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.0.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if self.bytes()? >= bytes {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            // Some file systems cannot reserve (NFS, some overlays): a longer file must do.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(bytes),
            reserved => Ok(reserved?),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// The system gives the lock back when the file is closed, also after `kill -9`.
#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl DiskLock for OsLock {}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, OsDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(&dir.path().join("a/b")).unwrap();
        (dir, disk)
    }

    #[test]
    fn a_file_reads_as_written_and_allocated_bytes_as_zero() {
        let (_dir, disk) = disk();
        let path = Path::new("x");
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        file.write_all_at(b"abc", 2).unwrap();
        file.allocate(8).unwrap();
        file.allocate(4).unwrap();
        file.sync().unwrap();
        let mut buf = [9; 16];
        let read = disk.open(path, OpenMode::Read).unwrap().read_at(&mut buf, 0).unwrap();
        assert_eq!(&buf[..read], b"\0\0abc\0\0\0");
        file.truncate(3).unwrap();
        assert_eq!(file.bytes().unwrap(), 3);
        assert_eq!(
            file.read_exact_at(&mut buf[..2], 2).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            disk.open(path, OpenMode::CreateNew).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }

    #[test]
    fn names_move_link_and_go() {
        let (_dir, disk) = disk();
        disk.create_dir_all(Path::new("d/e")).unwrap();
        disk.create_dir_all(Path::new("d/e")).unwrap();
        disk.open(Path::new("d/x"), OpenMode::CreateNew).unwrap().write_all_at(b"1", 0).unwrap();
        disk.link(Path::new("d/x"), Path::new("d/e/y")).unwrap();
        let taken = disk.link(Path::new("d/x"), Path::new("d/e/y")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        disk.rename(Path::new("d/x"), Path::new("d/z")).unwrap();
        disk.sync_dir(Path::new("d")).unwrap();
        let mut entries = disk.list(Path::new("d")).unwrap();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let expected = [("e", true, 0), ("z", false, 1)];
        assert_eq!(
            entries.iter().map(|e| (e.name.as_str(), e.is_dir, e.bytes)).collect::<Vec<_>>(),
            expected
        );
        disk.remove(Path::new("d/z")).unwrap();
        assert_eq!(disk.remove(Path::new("d/z")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn paths_stay_below_the_root() {
        let (_dir, disk) = disk();
        for path in ["../x", "/etc/passwd", "d/../../x"] {
            let refused = disk.open(Path::new(path), OpenMode::Read).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let (_dir, disk) = disk();
        let held = disk.lock(Path::new("lock")).unwrap();
        let refused = disk.lock(Path::new("lock")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let text = format!("process {}", std::process::id());
        assert_eq!(refused.to_string(), text);
        drop(held);
        disk.lock(Path::new("lock")).unwrap();
    }
}
