//! Entries in: checked, dealt out to their partitions, logged and in the heads.

use std::sync::Arc;

use model::{Log, LogError, Position, RecordKind};
use tenancy::WriteScope;

use super::head::Share;
use super::partition::EntryPartition;
use super::payload::SeenBatch;
use super::prepare::{self, Context};
use super::rows::{EntriesAppended, EntryOutcome, EntryRows};
use super::tail::Record;
use crate::{Error, Storage};

impl Storage {
    /// Applies and logs what is good of a request and says what was refused. Does not wait for the
    /// disk; takes some milliseconds for a megabyte, so it belongs on the CPU pool.
    pub fn append_entries(
        &self,
        scope: &WriteScope,
        rows: &EntryRows<'_>,
    ) -> Result<EntriesAppended, Error> {
        self.log.ready().map_err(Error::Unavailable)?;
        let (mut outcome, now_ms) = (EntryOutcome::default(), self.clock.now_ms());
        let tenant = scope.tenant();
        let context = Context {
            scope,
            active: &self.entries.active,
            now_ms,
            route: &|id| self.map.route_stream(tenant, id),
            partitions: self.map.entry_partitions(),
        };
        let shares = prepare::share_out(&context, rows, &mut outcome);
        let batch = rows.batch.map(|id| SeenBatch { id, at_ms: now_ms });
        let (mut position, mut failed) = (None, None);
        for (partition, shares) in self.entries.partitions.iter().zip(&shares) {
            if shares.is_empty() {
                continue;
            }
            match self.append_shares(partition, scope, shares, batch) {
                Ok(at) => position = position.max(at),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            // What other partitions took stays: a sender that tries again is told apart by its
            // batch, or by its entries' own time.
            Some(error) => Err(error),
            // A batch that is known already may be so from a request that waits for the disk.
            None => {
                let position = position.or_else(|| self.log.not_durable());
                Ok(EntriesAppended { outcome, position })
            }
        }
    }

    fn append_shares(
        &self,
        partition: &EntryPartition,
        scope: &WriteScope,
        shares: &[Share],
        batch: Option<SeenBatch>,
    ) -> Result<Option<Position>, Error> {
        partition.check_writable()?;
        let tenant = scope.tenant();
        let mut head = partition.head.write();
        if batch.is_some_and(|b| head.batches.has(tenant, b.id, b.at_ms)) {
            return Ok(None);
        }
        self.check_entries_backlog(partition, &head)?;
        let mut last = None;
        for (i, share) in shares.iter().enumerate() {
            // All of it has to be there before it counts as known.
            let batch = batch.filter(|_| i + 1 == shares.len());
            let admitted = head.admit(tenant, share, batch);
            let admitted =
                admitted.map_err(|e| Error::Internal(format!("labels of a stream: {e}")))?;
            let kind = RecordKind::Entries;
            let position = self.log_entries(partition, tenant.0, kind, &admitted.payload)?;
            last = Some(position);
            head.note_record(position);
            head.append(share, &admitted);
            self.entries.tails.tell(tenant, || Record {
                position,
                tenant,
                streams: head.streams_of(&admitted),
                page: Arc::new(share.page.clone()),
                first_row: 0,
            });
            if let Some(batch) = batch {
                head.batches.note(tenant, batch);
            }
        }
        if self.has_enough_entries(partition, &head) {
            self.wake.notify_one();
        }
        Ok(last)
    }

    /// Logs a record of a partition of entries. `ready` was asked before, so a failure is for good.
    pub(crate) fn log_entries(
        &self,
        partition: &EntryPartition,
        tenant: u32,
        kind: RecordKind,
        payload: &[u8],
    ) -> Result<Position, Error> {
        let record = model::Record { partition: partition.number, tenant, kind, payload };
        self.log.append(record).map_err(|error: LogError| {
            partition.make_read_only(&error.to_string());
            Error::Unavailable(error)
        })
    }
}
