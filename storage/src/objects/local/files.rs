//! The blocking half of the local object store: file calls in the order that makes them durable.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path as DiskPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use model::{Disk, DiskFile, OpenMode};
use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta, PutPayload, Result};
use parking_lot::Mutex;

/// Directories remembered as made; beyond, they are made (and synced) once more.
const KNOWN_DIRS_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    temp: PathBuf,
    next_temp: AtomicU64,
    known_dirs: Mutex<HashSet<PathBuf>>,
}

/// What to do if the name is taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Over,
    IfAbsent,
}

impl Files {
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &DiskPath) -> Result<Self> {
        let files = Self::existing(disk, dir);
        let (disk, temp) = (&files.disk, &files.temp);
        for made in [dir, temp] {
            disk.create_dir_all(made)
                .map_err(|error| generic("make an object directory", error))?;
        }
        for left in disk.list(temp).map_err(|error| generic("list temporary objects", error))? {
            disk.remove(&temp.join(left.name))
                .map_err(|error| generic("remove a temporary object", error))?;
        }
        Ok(files)
    }

    /// Touches nothing.
    pub(super) fn existing(disk: Arc<dyn Disk>, dir: &DiskPath) -> Self {
        let mut temp = dir.as_os_str().to_owned();
        temp.push(".tmp");
        let (next_temp, known_dirs) = Default::default();
        Self { disk, root: dir.to_owned(), temp: PathBuf::from(temp), next_temp, known_dirs }
    }

    pub(super) fn root(&self) -> &DiskPath {
        &self.root
    }

    pub(super) fn put(&self, location: &Path, payload: &PutPayload, place: Place) -> Result<()> {
        let temp = self.temporary()?;
        let mut offset = 0;
        for bytes in payload {
            temp.write(bytes, offset)?;
            offset += bytes.len() as u64;
        }
        self.place(temp, location, place)
    }

    /// A new empty file that goes away unless it is placed.
    pub(super) fn temporary(&self) -> Result<Temporary> {
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let path = self.temp.join(number.to_string());
        let file = self.disk.open(&path, OpenMode::CreateNew);
        let file = file.map_err(|error| generic("make a temporary object", error))?;
        Ok(Temporary { file: Some(file), name: Name { disk: Arc::clone(&self.disk), path } })
    }

    /// Syncs a temporary file and gives it its name, durably.
    pub(super) fn place(&self, mut temp: Temporary, location: &Path, place: Place) -> Result<()> {
        if let Some(file) = temp.file.take() {
            file.sync().map_err(|error| generic("sync an object", error))?;
        }
        self.give_name(&temp.name, location, place)
    }

    fn give_name(&self, temp: &Name, location: &Path, place: Place) -> Result<()> {
        let to = self.path_of(location);
        let dir = to.parent().unwrap_or(&self.root);
        self.make_dir(dir)?;
        match place {
            Place::Over => self
                .disk
                .rename(&temp.path, &to)
                .map_err(|error| generic("rename an object", error))?,
            Place::IfAbsent => {
                self.disk.link(&temp.path, &to).map_err(|source| match source.kind() {
                    io::ErrorKind::AlreadyExists => {
                        Error::AlreadyExists { path: location.to_string(), source: source.into() }
                    }
                    _ => generic("link an object", source),
                })?
            }
        }
        self.disk.sync_dir(dir).map_err(|error| generic("sync an object's directory", error))
    }

    /// Objects are never changed in place, so a copy is a second name.
    pub(super) fn copy(&self, from: &Path, to: &Path, place: Place) -> Result<()> {
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let temp = Name { disk: Arc::clone(&self.disk), path: self.temp.join(number.to_string()) };
        let linked = self.disk.link(&self.path_of(from), &temp.path);
        linked.map_err(|error| missing("copy an object", from, error))?;
        self.give_name(&temp, to, place)
    }

    /// Opens an object and says what it is.
    pub(super) fn open_object(&self, location: &Path) -> Result<(Arc<dyn DiskFile>, ObjectMeta)> {
        let file = self.disk.open(&self.path_of(location), OpenMode::Read);
        let file = file.map_err(|error| missing("open an object", location, error))?;
        let bytes = file.bytes().map_err(|error| missing("open an object", location, error))?;
        Ok((file.into(), meta(location.clone(), bytes)))
    }

    /// Removes objects, then syncs each of their directories once.
    pub(super) fn delete(&self, locations: Vec<Result<Path>>) -> Vec<Result<Path>> {
        let remove = |location: Path| match self.disk.remove(&self.path_of(&location)) {
            Ok(()) => Ok(location),
            Err(error) => Err(missing("delete an object", &location, error)),
        };
        let mut done: Vec<Result<Path>> =
            locations.into_iter().map(|location| location.and_then(remove)).collect();
        let mut synced: HashSet<PathBuf> = HashSet::new();
        for result in &mut done {
            let Ok(location) = result else { continue };
            let path = self.path_of(location);
            let dir = path.parent().unwrap_or(&self.root);
            if synced.contains(dir) {
                continue;
            }
            match self.disk.sync_dir(dir) {
                Ok(()) => drop(synced.insert(dir.to_owned())),
                Err(error) => *result = Err(generic("sync a directory after deleting", error)),
            }
        }
        done
    }

    /// All objects below a prefix, by name.
    pub(super) fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        let mut dirs = vec![prefix.clone()];
        while let Some(dir) = dirs.pop() {
            for (location, is_dir, bytes) in self.entries(&dir)? {
                if is_dir {
                    dirs.push(location);
                } else {
                    found.push(meta(location, bytes));
                }
            }
        }
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// The objects right below a prefix, and the prefixes that hold more.
    pub(super) fn list_level(&self, prefix: &Path) -> Result<ListResult> {
        let (mut objects, mut common_prefixes) = (Vec::new(), Vec::new());
        for (location, is_dir, bytes) in self.entries(prefix)? {
            if !is_dir {
                objects.push(meta(location, bytes));
            } else if self.holds_objects(&location)? {
                common_prefixes.push(location);
            }
        }
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        common_prefixes.sort();
        Ok(ListResult { common_prefixes, objects })
    }

    /// A directory outlives its objects; a prefix does not.
    fn holds_objects(&self, prefix: &Path) -> Result<bool> {
        let mut dirs = vec![prefix.clone()];
        while let Some(dir) = dirs.pop() {
            for (location, is_dir, _) in self.entries(&dir)? {
                if !is_dir {
                    return Ok(true);
                }
                dirs.push(location);
            }
        }
        Ok(false)
    }

    /// Names in one directory; none if there is no such directory.
    fn entries(&self, dir: &Path) -> Result<Vec<(Path, bool, u64)>> {
        let entries = match self.disk.list(&self.path_of(dir)) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            entries => entries.map_err(|error| generic("list objects", error))?,
        };
        // A name that is no object's was not put here by us.
        let located = |name: &str| {
            Path::parse(if dir.as_ref().is_empty() {
                name.to_owned()
            } else {
                format!("{dir}/{name}")
            })
            .ok()
        };
        Ok(entries
            .into_iter()
            .filter_map(|e| Some((located(&e.name)?, e.is_dir, e.bytes)))
            .collect())
    }

    fn make_dir(&self, dir: &DiskPath) -> Result<()> {
        if self.known_dirs.lock().contains(dir) {
            return Ok(());
        }
        self.disk
            .create_dir_all(dir)
            .map_err(|error| generic("make an object's directory", error))?;
        let mut known = self.known_dirs.lock();
        if known.len() >= KNOWN_DIRS_MAX {
            known.clear();
        }
        known.insert(dir.to_owned());
        Ok(())
    }

    fn path_of(&self, location: &Path) -> PathBuf {
        if location.as_ref().is_empty() {
            self.root.clone()
        } else {
            self.root.join(location.as_ref())
        }
    }
}

/// A file that has no object's name yet.
#[derive(Debug)]
pub(super) struct Temporary {
    file: Option<Box<dyn DiskFile>>,
    name: Name,
}

impl Temporary {
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write_all_at(bytes, offset).map_err(|error| generic("write an object", error))
    }
}

/// A temporary name, given up when dropped. If that fails, the next open clears it away.
#[derive(Debug)]
struct Name {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Drop for Name {
    fn drop(&mut self) {
        drop(self.disk.remove(&self.path));
    }
}

/// Reads a part of an object whole.
pub(super) fn read(file: &dyn DiskFile, range: Range<u64>, location: &Path) -> Result<Bytes> {
    let length = usize::try_from(range.end.saturating_sub(range.start))
        .map_err(|error| generic("read an object", error))?;
    if length == 0 {
        return Ok(Bytes::new());
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)
        .map_err(|error| missing("read an object", location, error))?;
    Ok(bytes.into())
}

fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None }
}

/// Whether an error means that no object has this name.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

fn missing(doing: &'static str, location: &Path, source: io::Error) -> Error {
    if is_missing(&source) {
        return Error::NotFound { path: location.to_string(), source: source.into() };
    }
    generic(doing, Failed { location: location.to_string(), source })
}

#[derive(Debug, thiserror::Error)]
#[error("{location}")]
struct Failed {
    location: String,
    source: io::Error,
}

/// Any failure that means nothing special to callers.
pub(super) fn generic(
    doing: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Generic {
        store: "local objects",
        source: Box::new(Doing { doing, source: Box::new(source) }),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
struct Doing {
    doing: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}
