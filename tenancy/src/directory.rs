//! Who exists: names of tenants and the numbers their rows are stored under, in one file.
//!
//! Invariants: a number is durable before anything is stored under it, and is never used for
//! another tenant; a name, once known, never comes to mean another tenant as long as its own
//! exists. After a renaming the old name stays an alias, so that senders that still use it do not
//! bring a second tenant to life. Only the end of a tenant frees its names; its number stays known
//! as that of a deleted one.

mod file;
mod tables;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use model::{Clock, Disk, SystemClock};
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use tracing::warn;

use crate::{TenantId, TenantName};

use file::{Content, Kind, Record, RecordFile};
use tables::Tables;

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
    /// The limits it was given by an administrator, over those of the configuration.
    pub limits: Map<String, Value>,
}

/// Whether a tenant may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantStatus {
    /// It reads and writes.
    Active,
    /// Its writes are refused.
    Suspended(Suspension),
}

/// How a tenant is suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Why, for whoever is refused; may be empty.
    pub reason: String,
    /// Whether it can still be read: who has not paid must be able to see why, and what is stored
    /// is still theirs.
    pub reads: bool,
}

/// A tenant that is no more. Its rows go with the next compactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTenant {
    /// The number it had, which nobody else gets.
    pub id: TenantId,
    /// The name it had.
    pub name: TenantName,
    /// When it was deleted, milliseconds since the Unix epoch.
    pub deleted_ms: i64,
}

/// Longest reason of a suspension, in bytes.
const REASON_BYTES_MAX: usize = 500;

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
    #[error("{what} has {bytes} bytes, the limit is {limit}")]
    TooLong { what: &'static str, bytes: usize, limit: usize },
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

    /// Whether there is a directory. Blocks.
    pub fn is_stored(disk: &Arc<dyn Disk>) -> bool {
        let found = disk.open(std::path::Path::new(file::PATH), model::OpenMode::Read);
        !matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Reads the directory, if there is one, and changes nothing; for tools. Blocks.
    pub fn check(disk: &Arc<dyn Disk>) -> Result<(), DirectoryError> {
        match file::read(disk)? {
            Some(content) => Tables::replay(&content).map(drop),
            None => Ok(()),
        }
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
            Ok(Some(Record::new(Kind::Created, id, at_ms).named(name)))
        })?;
        Ok(self.find(name).expect("a name that was just created is known"))
    }

    /// A new tenant of this name. Returns once that is durable. Blocks.
    pub fn create(&self, name: &TenantName) -> Result<Arc<Tenant>, DirectoryError> {
        self.change(|tables, at_ms| {
            if tables.by_name.contains_key(name) {
                return Err(DirectoryError::NameTaken(name.clone()));
            }
            if tables.next_id == u32::MAX {
                return Err(DirectoryError::Full(tables.by_id.len()));
            }
            let id = TenantId(tables.next_id);
            Ok(Some(Record::new(Kind::Created, id, at_ms).named(name)))
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
            Ok((tenant.name != *name).then(|| Record::new(Kind::Named, id, at_ms).named(name)))
        })
    }

    /// Suspends a tenant or lets it write again. Returns once that is durable. Blocks.
    pub fn set_status(&self, id: TenantId, status: TenantStatus) -> Result<(), DirectoryError> {
        self.change(|tables, at_ms| {
            let tenant = tables.by_id.get(&id).ok_or(DirectoryError::Unknown(id))?;
            if tenant.status == status {
                return Ok(None);
            }
            let TenantStatus::Suspended(suspension) = &status else {
                return Ok(Some(Record::new(Kind::Resumed, id, at_ms)));
            };
            let bytes = suspension.reason.len();
            if bytes > REASON_BYTES_MAX {
                let (what, limit) = ("the reason of the suspension", REASON_BYTES_MAX);
                return Err(DirectoryError::TooLong { what, bytes, limit });
            }
            Ok(Some(Record::new(Kind::Suspended, id, at_ms).saying(suspension.to_text())))
        })
    }

    /// Gives a tenant limits of its own, instead of those it was given before. Their sense is
    /// checked by whoever knows the configuration they stand over. Returns once that is durable.
    /// Blocks.
    pub(crate) fn set_limits(
        &self,
        id: TenantId,
        limits: &Map<String, Value>,
    ) -> Result<(), DirectoryError> {
        self.change(|tables, at_ms| {
            let tenant = tables.by_id.get(&id).ok_or(DirectoryError::Unknown(id))?;
            let text = serde_json::to_string(limits).unwrap_or_default();
            if text.len() > file::TEXT_BYTES_MAX {
                let (what, bytes, limit) =
                    ("the JSON text of a tenant's limits", text.len(), file::TEXT_BYTES_MAX);
                return Err(DirectoryError::TooLong { what, bytes, limit });
            }
            let record = || Record::new(Kind::Limits, id, at_ms).saying(text);
            Ok((tenant.limits != *limits).then(record))
        })
    }

    /// Ends a tenant: its names mean nobody any more and may come to mean another tenant, with
    /// another number. Returns once that is durable. Blocks.
    pub fn delete(&self, id: TenantId) -> Result<(), DirectoryError> {
        self.change(|tables, at_ms| {
            let tenant = tables.by_id.get(&id).ok_or(DirectoryError::Unknown(id))?;
            Ok(Some(Record::new(Kind::Deleted, id, at_ms).named(&tenant.name)))
        })
    }

    /// Whether there was a tenant of this number that is no more.
    pub fn is_deleted(&self, id: TenantId) -> bool {
        self.tables.read().deleted.contains_key(&id)
    }

    /// Tenants that are no more, in order of their numbers.
    pub fn deleted(&self) -> Vec<DeletedTenant> {
        self.tables.read().deleted.values().cloned().collect()
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

/// What is half-written may have been whole records that were acknowledged and rotted since, so
/// the numbers they would have given away are left out.
fn skip_torn(
    mut tables: Tables,
    file: &mut RecordFile,
    content: &Content,
) -> Result<Tables, DirectoryError> {
    warn!(bytes = content.torn_bytes, "cut a half-written record off the tenant directory");
    let id = TenantId(tables.next_id.saturating_add(file::records_in(content.torn_bytes)));
    let record = Record::new(Kind::NextId, id, 0);
    file.append(&record)?;
    file.cut()?;
    tables.apply(&record)?;
    Ok(tables)
}

impl Suspension {
    fn to_text(&self) -> String {
        format!("{}{}", if self.reads { 'r' } else { '-' }, self.reason)
    }

    /// An empty text says nothing of reading: it can be read.
    fn of_text(text: &str) -> Self {
        match text.strip_prefix('-') {
            Some(reason) => Self { reason: reason.to_owned(), reads: false },
            None => {
                let reason = text.strip_prefix('r').unwrap_or(text).to_owned();
                Self { reason, reads: true }
            }
        }
    }
}
