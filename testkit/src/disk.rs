//! A disk in memory that fails like a real one.
//!
//! Every opening or changing call is an *operation* with a number, from 1. A test runs its
//! workload once, reads [`FaultyDisk::operations`], and then runs it again for each number with
//! that operation failing ([`FaultyDisk::fail_at`]) or the power going out there
//! ([`FaultyDisk::crash_at`], [`FaultyDisk::after_crash`]).
//!
//! After a power failure, synced content and synced names are exactly there. Each write that was
//! not synced was kept, dropped or torn into sectors; each change of names was kept or dropped,
//! renames whole; a file whose directory was not synced may be gone.

mod fate;
mod image;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use model::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
use parking_lot::Mutex;

use fate::Fates;
use tree::{Name, Tree};

/// How much an empty disk takes unless told otherwise: 1 TiB, more than any test writes.
const CAPACITY_BYTES: u64 = 1 << 40;

/// A disk in memory; clones are the same disk.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device failed; nothing was done. A failed sync also settles, by chance, which of the
    /// writes before it are ever durable, and later syncs do not repair that.
    Eio,
    /// No space left; nothing was done.
    Enospc,
    /// Half of a write was done, then the device failed. Other operations fail as with `Eio`.
    ShortWrite,
}

impl Fault {
    fn error(self) -> io::Error {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        io::Error::from_raw_os_error(if self == Self::Enospc { ENOSPC } else { EIO })
    }
}

#[derive(Debug)]
struct State {
    tree: Tree,
    operations: Vec<(&'static str, PathBuf)>,
    reads: u64,
    faults: Vec<Planned>,
    read_faults: Vec<Planned>,
    crash_at: Option<(u64, u64)>,
    powered_off: bool,
    syncs_ignored: bool,
    locks: BTreeSet<PathBuf>,
}

/// A fault for the operations from `first` to `last`.
#[derive(Debug, Clone, Copy)]
struct Planned {
    first: u64,
    last: u64,
    fault: Fault,
}

/// What to do with an operation that was just counted.
enum Verdict {
    Run,
    Fail(Fault),
    /// The power fails now; the operation may still have reached the page cache.
    PowerFails {
        applied: bool,
    },
}

impl Default for FaultyDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultyDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::with(Tree::new(CAPACITY_BYTES), false)
    }

    fn with(tree: Tree, syncs_ignored: bool) -> Self {
        let state = State {
            tree,
            operations: Vec::new(),
            reads: 0,
            faults: Vec::new(),
            read_faults: Vec::new(),
            crash_at: None,
            powered_off: false,
            syncs_ignored,
            locks: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// How many operations there were: the last one has this number.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations.len() as u64
    }

    /// What operation `n` was, for the message of a test that fails there.
    pub fn describe(&self, n: u64) -> String {
        let state = self.state.lock();
        match usize::try_from(n)
            .ok()
            .and_then(|n| n.checked_sub(1))
            .and_then(|i| state.operations.get(i))
        {
            Some((kind, path)) => format!("operation {n}: {kind} {}", path.display()),
            None => format!("operation {n} of {}", state.operations.len()),
        }
    }

    /// Operation `n` fails, once.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.state.lock().faults.push(Planned { first: n, last: n, fault });
    }

    /// Operation `n` and all later ones fail, until [`FaultyDisk::heal`].
    pub fn fail_from(&self, n: u64, fault: Fault) {
        self.state.lock().faults.push(Planned { first: n, last: u64::MAX, fault });
    }

    /// How many reads of file content there were. They have numbers of their own, from 1.
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// Read `n` fails with an I/O error, once.
    pub fn fail_read_at(&self, n: u64) {
        self.state.lock().read_faults.push(Planned { first: n, last: n, fault: Fault::Eio });
    }

    /// Takes back all planned faults. A crash stays.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.read_faults.clear();
    }

    /// At operation `n` the power fails: that call and all later ones, reads included, give an
    /// error. Whether the operation still reached the page cache follows from the seed.
    pub fn crash_at(&self, n: u64, seed: u64) {
        self.state.lock().crash_at = Some((n, seed));
    }

    /// The power fails now.
    pub fn crash(&self) {
        self.state.lock().powered_off = true;
    }

    /// Whether the power has failed.
    pub fn has_crashed(&self) -> bool {
        self.state.lock().powered_off
    }

    /// The disk as found after a power failure at this moment: another disk, without faults or
    /// locks; this one is left as it is. Different seeds give different losses.
    #[must_use]
    pub fn after_crash(&self, seed: u64) -> Self {
        let state = self.state.lock();
        Self::with(state.tree.after_power_failure(&Fates::new(seed)), state.syncs_ignored)
    }

    /// The disk as the next process finds it when only this process died (`kill -9`): all that
    /// was written is there, though not yet durable; locks are free.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let state = self.state.lock();
        Self::with(state.tree.after_kill(), state.syncs_ignored)
    }

    /// Negative control: syncs answer at once and do nothing, like a disk that lies. A crash test
    /// that still passes proves nothing.
    pub fn ignore_syncs(&self, ignored: bool) {
        self.state.lock().syncs_ignored = ignored;
    }

    /// Sets how much may still be written; beyond that, writes find the disk full.
    pub fn set_free_bytes(&self, free: u64) {
        self.state.lock().tree.set_free_bytes(free);
    }

    /// Changes a file's stored bytes behind everyone's back, as rot does.
    pub fn tamper(
        &self,
        path: impl AsRef<Path>,
        tamper: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let at = name(path.as_ref())?;
        self.state.lock().tree.tamper(&at, tamper)
    }

    /// All files with their directories, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let (mut open, mut found) = (vec![PathBuf::new()], Vec::new());
        while let Some(dir) = open.pop() {
            for entry in state.tree.list(&dir).unwrap_or_default() {
                let path = dir.join(&entry.name);
                if entry.is_dir { open.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    fn run<T>(
        &self,
        kind: &'static str,
        path: &Path,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        match state.begin(kind, path)? {
            Verdict::Run => act(&mut state),
            Verdict::Fail(fault) => Err(fault.error()),
            Verdict::PowerFails { applied } => {
                if applied {
                    drop(act(&mut state));
                }
                Err(power_is_off())
            }
        }
    }
}

impl State {
    fn begin(&mut self, kind: &'static str, path: &Path) -> io::Result<Verdict> {
        self.powered()?;
        self.operations.push((kind, path.to_owned()));
        let n = self.operations.len() as u64;
        if let Some((_, seed)) = self.crash_at.filter(|(at, _)| *at == n) {
            self.powered_off = true;
            return Ok(Verdict::PowerFails { applied: seed % 2 == 1 });
        }
        Ok(planned(&self.faults, n).map_or(Verdict::Run, Verdict::Fail))
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered_off { Err(power_is_off()) } else { Ok(()) }
    }

    /// Fates for a failing sync: they follow from its number.
    fn fates(&self) -> Fates {
        Fates::new(self.operations.len() as u64)
    }
}

fn planned(faults: &[Planned], n: u64) -> Option<Fault> {
    faults.iter().find(|p| (p.first..=p.last).contains(&n)).map(|p| p.fault)
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

/// The parts of a path below the root.
fn directory(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(clean)
}

fn name(path: &Path) -> io::Result<Name> {
    let clean = directory(path)?;
    let last = clean.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    Ok((clean.parent().unwrap_or(Path::new("")).to_owned(), last))
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let at = name(path)?;
        let kind = if mode == OpenMode::CreateNew { "create" } else { "open" };
        let file = self.run(kind, path, |state| match mode {
            OpenMode::CreateNew => state.tree.create(at),
            OpenMode::Read | OpenMode::Write => state.tree.open(&at),
        })?;
        let (disk, path, writable) = (self.clone(), path.to_owned(), mode != OpenMode::Read);
        Ok(Box::new(FaultyFile { disk, file, path, writable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (name(from)?, name(to)?);
        self.run("rename", to, |state| state.tree.rename(source, target))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (name(from)?, name(to)?);
        self.run("link", to, |state| state.tree.link(&source, target))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let at = name(path)?;
        self.run("remove", path, |state| state.tree.remove(at))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = directory(dir)?;
        let state = self.state.lock();
        state.powered()?;
        state.tree.list(&dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let clean = directory(dir)?;
        self.run("create directory", dir, |state| {
            let synced = !state.syncs_ignored && !state.powered_off;
            state.tree.create_dir_all(&clean, synced)
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let clean = directory(dir)?;
        self.run("sync directory", dir, |state| {
            if state.syncs_ignored { Ok(()) } else { state.tree.sync_dir(&clean) }
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.powered()?;
        Ok(state.tree.free_bytes())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let path = directory(path)?;
        let mut state = self.state.lock();
        state.powered()?;
        if !state.locks.insert(path.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        Ok(Box::new(FaultyLock { disk: self.clone(), path }))
    }
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("FaultyDisk")
            .field("operations", &state.operations.len())
            .field("powered_off", &state.powered_off)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    file: u64,
    path: PathBuf,
    writable: bool,
}

impl FaultyFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        state.powered()?;
        state.reads += 1;
        if let Some(fault) = planned(&state.read_faults, state.reads) {
            return Err(fault.error());
        }
        Ok(state.tree.read(self.file).read_at(buf, offset))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.disk.state.lock();
        let half = &buf[..buf.len() / 2];
        match state.begin("write", &self.path)? {
            Verdict::Run => state.tree.write(self.file, buf, offset),
            Verdict::Fail(fault) => {
                if fault == Fault::ShortWrite {
                    state.tree.write(self.file, half, offset)?;
                }
                Err(fault.error())
            }
            Verdict::PowerFails { applied } => {
                if applied {
                    state.tree.write(self.file, buf, offset)?;
                }
                Err(power_is_off())
            }
        }
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.run("allocate", &self.path, |state| state.tree.allocate(self.file, bytes))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.run("truncate", &self.path, |state| state.tree.truncate(self.file, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        match state.begin("sync", &self.path)? {
            Verdict::Run if state.syncs_ignored => Ok(()),
            Verdict::Run => {
                state.tree.sync(self.file);
                Ok(())
            }
            Verdict::Fail(fault) => {
                let fates = state.fates();
                state.tree.sync_fails(self.file, &fates);
                Err(fault.error())
            }
            // How much of it got through is what the seed of `after_crash` decides.
            Verdict::PowerFails { .. } => Err(power_is_off()),
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        let state = self.disk.state.lock();
        state.powered()?;
        Ok(state.tree.read(self.file).bytes())
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.disk.state.lock().tree.release(self.file);
    }
}

#[derive(Debug)]
struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl DiskLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}
