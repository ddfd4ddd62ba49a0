//! The tree of names and files: what running programs see, and what a power failure would leave.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use model::DirEntry;

use super::fate::Fates;
use super::image::{Change, Image};

/// A name, taken apart: its directory and its last part.
pub(super) type Name = (PathBuf, String);

/// Directories by path, each with its names.
type Names = BTreeMap<PathBuf, BTreeMap<String, Node>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

/// A change of names that is not yet durable. Removals name the file they meant, so that one that
/// is applied late does not hit a younger file of the same name.
#[derive(Debug, Clone)]
enum NameChange {
    Set { at: Name, node: Node },
    Remove { at: Name, file: u64 },
    Rename { from: Name, to: Name, file: u64 },
}

#[derive(Debug, Clone, Default)]
struct File {
    seen: Image,
    durable: Image,
    changes: Vec<Change>,
    /// Names and open handles; at zero the space is free again.
    names: u32,
    handles: u32,
}

/// All files and names. Every method is one step that either happens or fails without effect.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    seen: Names,
    durable: Names,
    changes: Vec<NameChange>,
    files: BTreeMap<u64, File>,
    next_file: u64,
    /// Bytes of all files that have a name or a handle.
    used_bytes: u64,
    capacity_bytes: u64,
}

impl Tree {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let root: Names = [(PathBuf::new(), BTreeMap::new())].into();
        Self {
            seen: root.clone(),
            durable: root,
            changes: Vec::new(),
            files: BTreeMap::new(),
            next_file: 1,
            used_bytes: 0,
            capacity_bytes,
        }
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes)
    }

    pub(super) fn set_free_bytes(&mut self, free: u64) {
        self.capacity_bytes = self.used_bytes.saturating_add(free);
    }

    fn node(&self, at: &Name) -> io::Result<Option<Node>> {
        let dir = self.seen.get(&at.0).ok_or(io::ErrorKind::NotFound)?;
        Ok(dir.get(&at.1).copied())
    }

    fn file_at(&self, at: &Name) -> io::Result<u64> {
        match self.node(at)? {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&mut self, file: u64) -> &mut File {
        self.files.get_mut(&file).expect("a file lives as long as its names and handles")
    }

    // ── files ───────────────────────────────────────────────────────────────────────────────

    pub(super) fn open(&mut self, at: &Name) -> io::Result<u64> {
        let file = self.file_at(at)?;
        self.file(file).handles += 1;
        Ok(file)
    }

    pub(super) fn create(&mut self, at: Name) -> io::Result<u64> {
        if self.node(&at)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, File { handles: 1, ..File::default() });
        self.set(at, Node::File(file));
        Ok(file)
    }

    pub(super) fn release(&mut self, file: u64) {
        if let Some(open) = self.files.get_mut(&file) {
            open.handles = open.handles.saturating_sub(1);
        }
        self.forget_if_unused(file);
    }

    pub(super) fn read(&self, file: u64) -> &Image {
        &self.files[&file].seen
    }

    pub(super) fn write(&mut self, file: u64, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        let grown = end.saturating_sub(self.read(file).bytes());
        if grown > self.free_bytes() {
            // As the kernel does: what fits is written, then the call fails.
            let fits = (data.len() as u64 + self.free_bytes()).saturating_sub(grown) as usize;
            self.change(file, Change::Write { offset, data: data[..fits].to_vec() });
            return Err(super::Fault::Enospc.error());
        }
        self.change(file, Change::Write { offset, data: data.to_vec() });
        Ok(())
    }

    pub(super) fn allocate(&mut self, file: u64, bytes: u64) -> io::Result<()> {
        let grown = bytes.saturating_sub(self.read(file).bytes());
        if grown > self.free_bytes() {
            return Err(super::Fault::Enospc.error());
        }
        if grown > 0 {
            self.change(file, Change::Length(bytes));
        }
        Ok(())
    }

    /// Sets the length. Growing this way takes space like writing zeros.
    pub(super) fn truncate(&mut self, file: u64, bytes: u64) -> io::Result<()> {
        self.allocate(file, bytes)?;
        if bytes < self.read(file).bytes() {
            self.change(file, Change::Length(bytes));
        }
        Ok(())
    }

    fn change(&mut self, file: u64, change: Change) {
        let target = self.file(file);
        let before = target.seen.bytes();
        target.seen.apply(&change);
        let after = target.seen.bytes();
        target.changes.push(change);
        self.used_bytes = self.used_bytes + after - before;
    }

    pub(super) fn sync(&mut self, file: u64) {
        let target = self.file(file);
        for change in std::mem::take(&mut target.changes) {
            target.durable.apply(&change);
        }
    }

    /// A sync that fails settles what becomes of the changes before it: the kernel marks the pages
    /// clean, later syncs succeed without them, and readers still see them until a restart
    /// (Rebello et al., "Can applications recover from fsync failures?", 2020).
    pub(super) fn sync_fails(&mut self, file: u64, fates: &Fates) {
        let target = self.file(file);
        let changes = std::mem::take(&mut target.changes);
        fates.settle(&mut target.durable, &changes);
    }

    /// Changes stored bytes behind the program's back, as rot does.
    pub(super) fn tamper(
        &mut self,
        at: &Name,
        tamper: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let file = self.file_at(at)?;
        let target = self.file(file);
        let mut content = target.seen.to_vec();
        let before = target.seen.bytes();
        tamper(&mut content);
        let mut image = Image::default();
        image.write_at(&content, 0);
        let after = image.bytes();
        (target.seen, target.durable) = (image.clone(), image);
        target.changes.clear();
        self.used_bytes = self.used_bytes + after - before;
        Ok(())
    }

    // ── names ───────────────────────────────────────────────────────────────────────────────

    fn set(&mut self, at: Name, node: Node) {
        let change = NameChange::Set { at, node };
        apply(&mut self.seen, &change);
        self.changes.push(change);
        if let Node::File(file) = node {
            self.file(file).names += 1;
        }
    }

    pub(super) fn rename(&mut self, from: Name, to: Name) -> io::Result<()> {
        let file = self.file_at(&from)?;
        let replaced = match self.node(&to)? {
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(same)) if same == file => return Ok(()),
            Some(Node::File(other)) => Some(other),
            None => None,
        };
        let change = NameChange::Rename { from, to, file };
        apply(&mut self.seen, &change);
        self.changes.push(change);
        if let Some(other) = replaced {
            self.unname(other);
        }
        Ok(())
    }

    pub(super) fn link(&mut self, from: &Name, to: Name) -> io::Result<()> {
        let file = self.file_at(from)?;
        if self.node(&to)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.set(to, Node::File(file));
        Ok(())
    }

    pub(super) fn remove(&mut self, at: Name) -> io::Result<()> {
        let file = self.file_at(&at)?;
        let change = NameChange::Remove { at, file };
        apply(&mut self.seen, &change);
        self.changes.push(change);
        self.unname(file);
        Ok(())
    }

    fn unname(&mut self, file: u64) {
        let target = self.file(file);
        target.names -= 1;
        self.forget_if_unused(file);
    }

    /// Gives the space back. The content itself stays while a power failure could bring the name
    /// back.
    fn forget_if_unused(&mut self, file: u64) {
        let Some(target) = self.files.get(&file) else { return };
        if target.names > 0 || target.handles > 0 {
            return;
        }
        self.used_bytes -= target.seen.bytes();
        let named =
            |names: &Names| names.values().any(|dir| dir.values().any(|n| *n == Node::File(file)));
        if self.changes.is_empty() && !named(&self.durable) {
            self.files.remove(&file);
        } else {
            self.file(file).seen = Image::default();
        }
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let names = self.seen.get(dir).ok_or(io::ErrorKind::NotFound)?;
        let entry = |(name, node): (&String, &Node)| match node {
            Node::Dir => DirEntry { name: name.clone(), is_dir: true, bytes: 0 },
            Node::File(file) => {
                DirEntry { name: name.clone(), is_dir: false, bytes: self.read(*file).bytes() }
            }
        };
        Ok(names.iter().map(entry).collect())
    }

    /// Makes a directory and its parents. They are durable in the end if `synced`.
    pub(super) fn create_dir_all(&mut self, dir: &Path, synced: bool) -> io::Result<()> {
        let mut parent = PathBuf::new();
        for part in dir.iter().map(|p| p.to_string_lossy().into_owned()) {
            let path = parent.join(&part);
            let at = (parent, part);
            match self.node(&at)? {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => self.set(at, Node::Dir),
            }
            parent = path;
        }
        if synced {
            let wanted = |change: &NameChange| matches!(change, NameChange::Set { at, node: Node::Dir } if dir.starts_with(at.0.join(&at.1)));
            self.settle_names(wanted);
        }
        Ok(())
    }

    /// Makes the names of a directory durable. A rename between two directories happens whole as
    /// soon as one of them is synced, as in a file system with a journal.
    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        if !self.seen.contains_key(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.settle_names(|change| match change {
            NameChange::Set { at, .. } | NameChange::Remove { at, .. } => at.0 == dir,
            NameChange::Rename { from, to, .. } => from.0 == dir || to.0 == dir,
        });
        Ok(())
    }

    fn settle_names(&mut self, wanted: impl Fn(&NameChange) -> bool) {
        let (settled, rest): (Vec<_>, Vec<_>) = self.changes.drain(..).partition(|c| wanted(c));
        self.changes = rest;
        settled.iter().for_each(|change| apply(&mut self.durable, change));
        if self.changes.is_empty() {
            self.drop_unreachable();
        }
    }

    /// Forgets the content of files that neither a program nor a power failure can reach.
    fn drop_unreachable(&mut self) {
        let unused: Vec<u64> = self
            .files
            .iter()
            .filter(|(_, f)| f.names == 0 && f.handles == 0)
            .map(|(id, _)| *id)
            .collect();
        for file in unused {
            let named =
                self.durable.values().any(|dir| dir.values().any(|n| *n == Node::File(file)));
            if !named {
                self.files.remove(&file);
            }
        }
    }

    // ── the end of a process ────────────────────────────────────────────────────────────────

    /// What a power failure leaves.
    pub(super) fn after_power_failure(&self, fates: &Fates) -> Self {
        let mut names = self.durable.clone();
        let kept = fates.keep(self.changes.len());
        for (change, _) in self.changes.iter().zip(kept).filter(|(_, kept)| *kept) {
            apply(&mut names, change);
        }
        let mut left = Self::new(self.capacity_bytes);
        left.durable = reachable(&names);
        left.seen = left.durable.clone();
        left.next_file = self.next_file;
        left.count_names(|file| {
            let old = &self.files[&file];
            let mut image = old.durable.clone();
            fates.settle(&mut image, &old.changes);
            File { seen: image.clone(), durable: image, ..File::default() }
        });
        left
    }

    /// What the next process finds when only this one died: all that was written, synced or not.
    pub(super) fn after_kill(&self) -> Self {
        let mut left = self.clone();
        left.files.values_mut().for_each(|file| file.handles = 0);
        let all: Vec<u64> = left.files.keys().copied().collect();
        all.into_iter().for_each(|file| left.forget_if_unused_after_kill(file));
        left
    }

    fn forget_if_unused_after_kill(&mut self, file: u64) {
        // Files that had a handle and no name still count as used; others were counted before.
        if self.files[&file].names == 0 && self.files[&file].seen.bytes() > 0 {
            self.forget_if_unused(file);
        }
    }

    fn count_names(&mut self, make: impl Fn(u64) -> File) {
        for node in self.seen.values().flat_map(|dir| dir.values()) {
            if let Node::File(file) = node {
                self.files.entry(*file).or_insert_with(|| make(*file)).names += 1;
            }
        }
        self.used_bytes = self.files.values().map(|file| file.seen.bytes()).sum();
    }
}

fn apply(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Set { at, node } => {
            names.entry(at.0.clone()).or_default().insert(at.1.clone(), *node);
            if *node == Node::Dir {
                names.entry(at.0.join(&at.1)).or_default();
            }
        }
        NameChange::Remove { at, file } => unset(names, at, *file),
        NameChange::Rename { from, to, file } => {
            names.entry(to.0.clone()).or_default().insert(to.1.clone(), Node::File(*file));
            unset(names, from, *file);
        }
    }
}

fn unset(names: &mut Names, at: &Name, file: u64) {
    if let Some(dir) = names.get_mut(&at.0)
        && dir.get(&at.1) == Some(&Node::File(file))
    {
        dir.remove(&at.1);
    }
}

/// The names that can be reached from the root: a directory that was lost takes its content along.
fn reachable(names: &Names) -> Names {
    let mut found = Names::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let content = names.get(&dir).cloned().unwrap_or_default();
        let below =
            content.iter().filter(|(_, node)| **node == Node::Dir).map(|(name, _)| dir.join(name));
        open.extend(below);
        found.insert(dir, content);
    }
    found
}
