//! Who exists: names of tenants and the numbers their rows are stored under, in one file.
//!
//! Invariants: a number is durable before anything is stored under it, and is never used for
//! another tenant; a name, once known, never comes to mean another tenant. After a renaming the
//! old name stays an alias, so that senders that still use it do not bring a second tenant to
//! life.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use model::{Clock, Disk, SystemClock};
use parking_lot::{Mutex, RwLock};
use tracing::warn;

use crate::{TenantId, TenantName};

use file::{Content, Kind, Record, RecordFile};

/// Files smaller than this are not worth compacting. Bytes.
const COMPACTION_BYTES_MIN: u64 = 64 << 10;

/// A tenant as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its number.
    pub id: TenantId,
    /// Its name now.
    pub name: TenantName,
    /// Names it had before. They still mean this tenant.
    pub aliases: Vec<TenantName>,
    /// Whether it may write.
    pub status: TenantStatus,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// Whether a tenant may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantStatus {
    /// It reads and writes.
    Active,
    /// Its writes are refused. It can still be read: who has not paid must be able to see why,
    /// and what is stored is still theirs.
    Suspended,
}

/// What can go wrong with the directory.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum DirectoryError {
    #[error("{doing}")]
    Disk { doing: String, source: io::Error },
    #[error("put the new {} in place", file::PATH)]
    Placing { source: io::Error },
    #[error("the directory of tenants takes no changes until restart: {0}")]
    ReadOnly(String),
    #[error("{} is damaged: {_0}", file::PATH)]
    Damaged(String),
    #[error("{} needs {_0}, which this version does not know", file::PATH)]
    Unsupported(String),
    #[error(
        "there are {0} tenants already, the most that may come into being by writing; raise tenants_max"
    )]
    Full(usize),
    #[error("the name {0} is or was that of another tenant")]
    NameTaken(TenantName),
    #[error("there is no tenant number {0}")]
    Unknown(TenantId),
}

/// All tenants. Look-ups take a read lock for as long as a hash look-up; changes wait for the disk
/// outside of it, one at a time.
#[derive(Debug)]
pub struct Directory {
    tables: RwLock<Tables>,
    /// `None` in tests of other crates.
    file: Mutex<Option<RecordFile>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Tables {
    by_name: HashMap<TenantName, Arc<Tenant>>,
    by_id: BTreeMap<TenantId, Arc<Tenant>>,
    next_id: u32,
    /// Grows with each change.
    version: u64,
}

impl Directory {
    /// Reads the directory, or begins an empty one. Blocks.
    pub fn open(disk: &Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Self, DirectoryError> {
        let (mut file, content) = RecordFile::open(disk)?;
        let tables = Tables::replay(&content)?;
        let directory = |tables, file| Self {
            tables: RwLock::new(tables),
            file: Mutex::new(Some(file)),
            clock,
        };
        if content.torn_bytes > 0 {
            let tables = skip_torn(tables, &mut file, &content)?;
            return Ok(directory(tables, file));
        }
        let records = tables.records();
        let compacted_bytes = file::encoded_bytes(&records);
        if file.bytes() > COMPACTION_BYTES_MIN.max(2 * compacted_bytes) {
            match RecordFile::replace(disk, &records) {
                Ok(new) => file = new,
                // Nobody knows which of the two files a restart would find.
                Err(placing @ DirectoryError::Placing { .. }) => return Err(placing),
                Err(error) => {
                    warn!(%error, source = ?std::error::Error::source(&error), "kept the tenant directory uncompacted")
                }
            }
        }
        Ok(directory(tables, file))
    }

    /// A directory that is not stored; for tests of other crates.
    pub fn for_test() -> Self {
        let clock = Arc::new(SystemClock::default());
        Self { tables: RwLock::new(Tables::new()), file: Mutex::new(None), clock }
    }

    /// The tenant a name means, or meant before a renaming.
    pub fn find(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        self.tables.read().by_name.get(name).cloned()
    }

    /// The tenant of a number.
    pub fn get(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.tables.read().by_id.get(&id).cloned()
    }

    /// All tenants in order of their numbers.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        self.tables.read().by_id.values().cloned().collect()
    }

    /// Changes with every change of the directory.
    pub(crate) fn version(&self) -> u64 {
        self.tables.read().version
    }

    /// How many tenants there are.
    pub fn len(&self) -> usize {
        self.tables.read().by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tenant of this name; it comes into being if there is none and fewer than `tenants_max`
    /// exist. Returns once that is durable. Blocks.
    pub fn find_or_create(
        &self,
        name: &TenantName,
        tenants_max: usize,
    ) -> Result<Arc<Tenant>, DirectoryError> {
        if let Some(known) = self.find(name) {
            return Ok(known);
        }
        self.change(|tables, at_ms| {
            if tables.by_name.contains_key(name) {
                return Ok(None);
            }
            if tables.by_id.len() >= tenants_max || tables.next_id == u32::MAX {
                return Err(DirectoryError::Full(tables.by_id.len()));
            }
            let id = TenantId(tables.next_id);
            Ok(Some(Record { kind: Kind::Created, id, at_ms, name: Some(name.clone()) }))
        })?;
        Ok(self.find(name).expect("a name that was just created is known"))
    }

    /// Gives a tenant another name. Returns once that is durable. Blocks.
    pub fn rename(&self, id: TenantId, name: &TenantName) -> Result<(), DirectoryError> {
        self.change(|tables, at_ms| {
            let tenant = tables.by_id.get(&id).ok_or(DirectoryError::Unknown(id))?;
            if tables.by_name.get(name).is_some_and(|other| other.id != id) {
                return Err(DirectoryError::NameTaken(name.clone()));
            }
            let record = Record { kind: Kind::Named, id, at_ms, name: Some(name.clone()) };
            Ok((tenant.name != *name).then_some(record))
        })
    }

    /// Suspends a tenant or lets it write again. Returns once that is durable. Blocks.
    pub fn set_status(&self, id: TenantId, status: TenantStatus) -> Result<(), DirectoryError> {
        self.change(|tables, at_ms| {
            let tenant = tables.by_id.get(&id).ok_or(DirectoryError::Unknown(id))?;
            let kind = match status {
                TenantStatus::Active => Kind::Resumed,
                TenantStatus::Suspended => Kind::Suspended,
            };
            Ok((tenant.status != status).then_some(Record { kind, id, at_ms, name: None }))
        })
    }

    /// One change: decided, written, synced, and only then seen. Changes exclude each other;
    /// look-ups go on meanwhile.
    fn change(
        &self,
        decide: impl FnOnce(&Tables, i64) -> Result<Option<Record>, DirectoryError>,
    ) -> Result<(), DirectoryError> {
        let mut file = self.file.lock();
        let Some(record) = decide(&self.tables.read(), self.clock.now_ms())? else { return Ok(()) };
        if let Some(file) = &mut *file {
            file.append(&record)?;
        }
        self.tables.write().apply(&record)
    }
}

/// The half-written record may have been a whole one that was acknowledged and rotted since, so
/// the number it would have given away is left out.
fn skip_torn(
    mut tables: Tables,
    file: &mut RecordFile,
    content: &Content,
) -> Result<Tables, DirectoryError> {
    warn!(bytes = content.torn_bytes, "cut a half-written record off the tenant directory");
    let id = TenantId(tables.next_id.saturating_add(1));
    let record = Record { kind: Kind::NextId, id, at_ms: 0, name: None };
    file.append(&record)?;
    file.cut()?;
    tables.apply(&record)?;
    Ok(tables)
}

impl Tables {
    fn new() -> Self {
        // 0 is nobody.
        Self { next_id: 1, ..Self::default() }
    }

    fn replay(content: &Content) -> Result<Self, DirectoryError> {
        let mut tables = Self::new();
        for record in &content.records {
            tables.apply(record)?;
        }
        Ok(tables)
    }

    fn apply(&mut self, record: &Record) -> Result<(), DirectoryError> {
        let Record { kind, id, at_ms, name } = record;
        self.version += 1;
        match (kind, name) {
            (Kind::NextId, _) => self.next_id = self.next_id.max(id.0),
            (Kind::Created, Some(name)) => {
                if id.0 == 0 || self.by_id.contains_key(id) {
                    return Err(DirectoryError::Damaged(format!(
                        "tenant number {id} is given away twice"
                    )));
                }
                self.next_id = self.next_id.max(id.0.saturating_add(1));
                let (id, created_ms, status) = (*id, *at_ms, TenantStatus::Active);
                self.put(Tenant {
                    id,
                    name: name.clone(),
                    aliases: Vec::new(),
                    status,
                    created_ms,
                })?;
            }
            (kind, name) => {
                let known = self.by_id.get(id).ok_or_else(|| {
                    DirectoryError::Damaged(format!(
                        "tenant number {id} is changed before it exists"
                    ))
                })?;
                let mut tenant = Tenant::clone(known);
                match (kind, name) {
                    (Kind::Named, Some(name)) => tenant.take_name(name.clone()),
                    (Kind::Suspended, _) => tenant.status = TenantStatus::Suspended,
                    (Kind::Resumed, _) => tenant.status = TenantStatus::Active,
                    _ => return Err(DirectoryError::Damaged("a record has no name".to_owned())),
                }
                self.put(tenant)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, tenant: Tenant) -> Result<(), DirectoryError> {
        let tenant = Arc::new(tenant);
        for name in tenant.aliases.iter().chain([&tenant.name]) {
            let before = self.by_name.insert(name.clone(), Arc::clone(&tenant));
            if before.is_some_and(|other| other.id != tenant.id) {
                return Err(DirectoryError::Damaged(format!("name {name} is given away twice")));
            }
        }
        self.by_id.insert(tenant.id, tenant);
        Ok(())
    }

    /// The shortest records that say all this.
    fn records(&self) -> Vec<Record> {
        let next = Record { kind: Kind::NextId, id: TenantId(self.next_id), at_ms: 0, name: None };
        let mut records = vec![next];
        for tenant in self.by_id.values() {
            let (id, at_ms) = (tenant.id, tenant.created_ms);
            for (i, name) in tenant.aliases.iter().chain([&tenant.name]).enumerate() {
                let kind = if i == 0 { Kind::Created } else { Kind::Named };
                records.push(Record { kind, id, at_ms, name: Some(name.clone()) });
            }
            if tenant.status == TenantStatus::Suspended {
                records.push(Record { kind: Kind::Suspended, id, at_ms, name: None });
            }
        }
        records
    }
}

impl Tenant {
    /// The name before becomes an alias; a name it had before is no longer one.
    fn take_name(&mut self, name: TenantName) {
        let before = std::mem::replace(&mut self.name, name);
        self.aliases.retain(|alias| *alias != self.name);
        if before != self.name {
            self.aliases.push(before);
        }
    }
}
