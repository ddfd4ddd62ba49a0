//! What the records of the directory amount to: names, numbers, and who is no more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::file::{Content, Kind, Record};
use super::{DeletedTenant, DirectoryError, Suspension, Tenant, TenantStatus};
use crate::{TenantId, TenantName};

/// All tenants, by name and by number.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) by_name: HashMap<TenantName, Arc<Tenant>>,
    pub(super) by_id: BTreeMap<TenantId, Arc<Tenant>>,
    pub(super) deleted: BTreeMap<TenantId, DeletedTenant>,
    pub(super) next_id: u32,
    /// Grows with each change.
    pub(super) version: u64,
}

impl Tables {
    pub(super) fn new() -> Self {
        // 0 is nobody.
        Self { next_id: 1, ..Self::default() }
    }

    pub(super) fn replay(content: &Content) -> Result<Self, DirectoryError> {
        let mut tables = Self::new();
        for record in &content.records {
            tables.apply(record)?;
        }
        Ok(tables)
    }

    pub(super) fn apply(&mut self, record: &Record) -> Result<(), DirectoryError> {
        self.version += 1;
        match (record.kind, &record.name) {
            (Kind::NextId, _) => self.next_id = self.next_id.max(record.id.0),
            (Kind::Created, Some(name)) => self.create(record, name)?,
            (Kind::Deleted, Some(name)) => self.delete(record, name)?,
            _ => self.alter(record)?,
        }
        Ok(())
    }

    fn create(&mut self, record: &Record, name: &TenantName) -> Result<(), DirectoryError> {
        let id = record.id;
        if id.0 == 0 || self.by_id.contains_key(&id) || self.deleted.contains_key(&id) {
            return Err(damaged(format!("tenant number {id} is given away twice")));
        }
        self.next_id = self.next_id.max(id.0.saturating_add(1));
        self.put(Tenant {
            id,
            name: name.clone(),
            aliases: Vec::new(),
            status: TenantStatus::Active,
            created_ms: record.at_ms,
            limits: Map::new(),
        })
    }

    /// After a compaction of the file nothing else is left of a tenant that was deleted.
    fn delete(&mut self, record: &Record, name: &TenantName) -> Result<(), DirectoryError> {
        let id = record.id;
        if let Some(tenant) = self.by_id.remove(&id) {
            for name in tenant.aliases.iter().chain([&tenant.name]) {
                self.by_name.remove(name);
            }
        }
        self.next_id = self.next_id.max(id.0.saturating_add(1));
        let deleted = DeletedTenant { id, name: name.clone(), deleted_ms: record.at_ms };
        match self.deleted.insert(id, deleted) {
            None => Ok(()),
            Some(_) => Err(damaged(format!("tenant number {id} is deleted twice"))),
        }
    }

    fn alter(&mut self, record: &Record) -> Result<(), DirectoryError> {
        let known = self.by_id.get(&record.id).ok_or_else(|| {
            damaged(format!("tenant number {} is changed while it does not exist", record.id))
        })?;
        let mut tenant = Tenant::clone(known);
        match (record.kind, &record.name) {
            (Kind::Named, Some(name)) => tenant.take_name(name.clone()),
            (Kind::Suspended, _) => {
                tenant.status = TenantStatus::Suspended(Suspension::of_text(&record.text));
            }
            (Kind::Resumed, _) => tenant.status = TenantStatus::Active,
            (Kind::Limits, _) => {
                let limits = serde_json::from_str::<Map<String, Value>>(&record.text);
                tenant.limits = limits.map_err(|e| {
                    damaged(format!("the limits of tenant number {}: {e}", record.id))
                })?;
            }
            _ => return Err(damaged("a record has no name".to_owned())),
        }
        self.put(tenant)
    }

    fn put(&mut self, tenant: Tenant) -> Result<(), DirectoryError> {
        let tenant = Arc::new(tenant);
        for name in tenant.aliases.iter().chain([&tenant.name]) {
            let before = self.by_name.insert(name.clone(), Arc::clone(&tenant));
            if before.is_some_and(|other| other.id != tenant.id) {
                return Err(damaged(format!("name {name} is given away twice")));
            }
        }
        self.by_id.insert(tenant.id, tenant);
        Ok(())
    }

    /// The shortest records that say all this.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = vec![Record::new(Kind::NextId, TenantId(self.next_id), 0)];
        for gone in self.deleted.values() {
            records.push(Record::new(Kind::Deleted, gone.id, gone.deleted_ms).named(&gone.name));
        }
        for tenant in self.by_id.values() {
            let (id, at_ms) = (tenant.id, tenant.created_ms);
            for (i, name) in tenant.aliases.iter().chain([&tenant.name]).enumerate() {
                let kind = if i == 0 { Kind::Created } else { Kind::Named };
                records.push(Record::new(kind, id, at_ms).named(name));
            }
            if let TenantStatus::Suspended(suspension) = &tenant.status {
                let record = Record::new(Kind::Suspended, id, at_ms);
                records.push(record.saying(suspension.to_text()));
            }
            if !tenant.limits.is_empty() {
                let text = serde_json::to_string(&tenant.limits).unwrap_or_default();
                records.push(Record::new(Kind::Limits, id, at_ms).saying(text));
            }
        }
        records
    }
}

impl Tenant {
    /// Whether those who may read it get to.
    pub fn can_be_read(&self) -> bool {
        match &self.status {
            TenantStatus::Active => true,
            TenantStatus::Suspended(suspension) => suspension.reads,
        }
    }

    /// The name before becomes an alias; a name it had before is no longer one.
    fn take_name(&mut self, name: TenantName) {
        let before = std::mem::replace(&mut self.name, name);
        self.aliases.retain(|alias| *alias != self.name);
        if before != self.name {
            self.aliases.push(before);
        }
    }
}

fn damaged(reason: String) -> DirectoryError {
    DirectoryError::Damaged(reason)
}
