//! Who listens, and what waits to be looked through for each of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::Position;
use parking_lot::{Mutex, RwLock};
use tenancy::{Limits, ReadScope, TenantId};
use tokio::sync::Notify;

use crate::Error;
use crate::entries::page::Page;
use crate::entries::streams::Stream;

/// Bytes of records that wait for one listener to be looked through. They do so while the disk
/// syncs; records are shared by all who listen to a tenant.
const INTAKE_BYTES_MAX: usize = 32 << 20;

/// Rows of one tenant that one record of the log brought.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) position: Position,
    pub(crate) tenant: TenantId,
    /// By the numbers that the page's rows have.
    pub(crate) streams: Arc<[Arc<Stream>]>,
    pub(crate) page: Arc<Page>,
    /// Rows before are known to whoever listens.
    pub(crate) first_row: u32,
}

/// All who listen.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    all: RwLock<Vec<Arc<Listener>>>,
    count: AtomicUsize,
}

impl Tails {
    /// Lists one more, if its tenants and the process have room for it.
    pub(super) fn add(
        &self,
        listener: &Arc<Listener>,
        limits: &Limits,
        all_max: usize,
    ) -> Result<(), Error> {
        let mut all = self.all.write();
        let limit = limits.entry_tails_max;
        for tenant in &listener.tenants {
            let count = all.iter().filter(|one| one.hears(*tenant)).count() + 1;
            if count > limit {
                // In Loki's words: its clients show them.
                return Err(Error::TooManyTails(format!(
                    "max concurrent tail requests limit exceeded, count > limit ({count} > {limit})"
                )));
            }
        }
        if all.len() >= all_max {
            return Err(Error::TooManyTails(format!(
                "{all_max} tails run already, which is all that storage.entries.tails_max allows"
            )));
        }
        all.push(Arc::clone(listener));
        self.count.store(all.len(), Ordering::Release);
        Ok(())
    }

    pub(super) fn remove(&self, listener: &Arc<Listener>) {
        let mut all = self.all.write();
        all.retain(|one| !Arc::ptr_eq(one, listener));
        self.count.store(all.len(), Ordering::Release);
        drop(all);
        listener.leave(Left::Gone);
    }

    /// Lets all go.
    pub(super) fn end(&self) {
        self.all.read().iter().for_each(|one| one.leave(Left::Ended));
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Tells of a record that was appended, while its head is held; it is made only if somebody
    /// listens to that tenant.
    pub(crate) fn tell(&self, tenant: TenantId, record: impl FnOnce() -> Record) {
        if self.count() == 0 {
            return;
        }
        let all = self.all.read();
        let mut hearing = all.iter().filter(|one| one.hears(tenant)).peekable();
        if hearing.peek().is_none() {
            return;
        }
        let record = Arc::new(record());
        hearing.for_each(|one| one.offer(&record));
    }
}

/// Why nobody listens any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The client is gone.
    Gone,
    /// The process is to end.
    Ended,
}

/// One who listens.
#[derive(Debug)]
pub(crate) struct Listener {
    tenants: Box<[TenantId]>,
    intake: Mutex<Intake>,
    pub(super) bell: Notify,
}

#[derive(Debug, Default)]
struct Intake {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// Rows for which there was no room.
    dropped: u64,
    left: Option<Left>,
}

impl Listener {
    pub(super) fn new(scope: &ReadScope) -> Self {
        let tenants = scope.tenants().iter().map(|tenant| tenant.id).collect();
        Self { tenants, intake: Mutex::default(), bell: Notify::new() }
    }

    fn hears(&self, tenant: TenantId) -> bool {
        self.tenants.binary_search(&tenant).is_ok()
    }

    /// Takes a record in, or counts what is lost of it.
    pub(super) fn offer(&self, record: &Arc<Record>) {
        let mut intake = self.intake.lock();
        let bytes = record.page.heap_bytes();
        if intake.bytes + bytes > INTAKE_BYTES_MAX && !intake.records.is_empty() {
            intake.dropped += record.page.rows() as u64;
        } else {
            intake.bytes += bytes;
            intake.records.push_back(Arc::clone(record));
        }
        drop(intake);
        self.bell.notify_one();
    }

    fn leave(&self, why: Left) {
        self.intake.lock().left.get_or_insert(why);
        self.bell.notify_one();
    }

    /// Why nobody listens any more.
    pub(super) fn left(&self) -> Option<Left> {
        self.intake.lock().left
    }

    /// The last position of what waits.
    pub(super) fn last(&self) -> Option<Position> {
        self.intake.lock().records.iter().map(|record| record.position).max()
    }

    /// What waits up to a position, in the order of the log, and how many rows were lost.
    pub(super) fn take(&self, upto: Position) -> (Vec<Arc<Record>>, u64) {
        let mut intake = self.intake.lock();
        let waiting = std::mem::take(&mut intake.records);
        let (taken, later): (VecDeque<_>, VecDeque<_>) =
            waiting.into_iter().partition(|record| record.position <= upto);
        let mut taken = Vec::from(taken);
        intake.bytes = later.iter().map(|record| record.page.heap_bytes()).sum();
        intake.records = later;
        taken.sort_by_key(|record| record.position);
        (taken, std::mem::take(&mut intake.dropped))
    }
}
