//! Rows in: a request's series are dealt out to their partitions, each of which applies and logs
//! its share under its own lock.

use std::cell::RefCell;

use model::{Labels, Log, LogError, Position, Record, RecordKind, SeriesId};
use tenancy::{Retention, WriteScope};

use crate::head::{Append, Payloads};
use crate::partition::Partition;
use crate::{AppendOutcome, Error, MetricRows, Storage};

/// Rows that are in the head and in the log, but not necessarily on disk yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Appended {
    /// What became of the rows.
    pub outcome: AppendOutcome,
    /// Wait for it with [`Storage::durable`] before telling the sender; `None` if there is nothing
    /// to wait for.
    pub position: Option<Position>,
}

/// Series of one request for one partition: the id and the place in the request.
type Batch = Vec<(SeriesId, u32)>;

/// Memory of one thread, used again for each request.
#[derive(Debug, Default)]
struct Scratch {
    batches: Vec<Batch>,
    misplaced: Vec<(Labels, u32)>,
    payloads: Payloads,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Storage {
    /// Applies and logs what is good of a request and says what was refused. Does not wait for
    /// the disk; takes about a millisecond for 2,000 series, so it belongs on the CPU pool.
    pub fn append(&self, scope: &WriteScope, rows: &MetricRows<'_>) -> Result<Appended, Error> {
        self.log.ready().map_err(Error::Unavailable)?;
        SCRATCH.with_borrow_mut(|scratch| self.append_with(scratch, scope, rows))
    }

    /// Returns once everything up to `position` is on disk.
    pub async fn durable(&self, position: Position) -> Result<(), Error> {
        self.log.wait(position).await.map_err(Error::Unavailable)
    }

    fn append_with(
        &self,
        scratch: &mut Scratch,
        scope: &WriteScope,
        rows: &MetricRows<'_>,
    ) -> Result<Appended, Error> {
        let tenant = scope.tenant();
        scratch.batches.resize_with(self.partitions.len(), Batch::new);
        scratch.batches.iter_mut().for_each(Vec::clear);
        scratch.misplaced.clear();
        for (at, series) in rows.series.iter().enumerate() {
            let labels = rows.labels_of(series);
            let id = SeriesId::of_encoded(labels);
            let partition = self.map.route(tenant, id, labels);
            scratch.batches[usize::from(partition)].push((id, at as u32));
        }
        let mut done = Done::default();
        self.append_batches(scratch, scope, rows, &mut done);
        if !scratch.misplaced.is_empty() {
            scratch.batches.iter_mut().for_each(Vec::clear);
            for (labels, at) in std::mem::take(&mut scratch.misplaced) {
                let partition = self.map.route_labels(tenant, &labels);
                scratch.batches[usize::from(partition)].push((labels.series_id(), at));
            }
            self.append_batches(scratch, scope, rows, &mut done);
        }
        if !rows.metadata.is_empty() {
            self.append_metadata(scratch, scope, rows, &mut done);
        }
        match done.failed {
            // What other partitions took stays: a sender that tries again finds it there.
            Some(error) => Err(error),
            // Rows that are known already may be so from a request that still waits for the disk.
            None => {
                let position = done.position.or_else(|| self.log.not_durable());
                Ok(Appended { outcome: done.outcome, position })
            }
        }
    }

    fn append_batches(
        &self,
        scratch: &mut Scratch,
        scope: &WriteScope,
        rows: &MetricRows<'_>,
        done: &mut Done,
    ) {
        let now_ms = self.clock.now_ms();
        let limits = scope.limits();
        let millis = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let usage = self.usage.of(scope.tenant());
        let Scratch { batches, misplaced, payloads } = scratch;
        for (partition, batch) in self.partitions.iter().zip(batches.iter()) {
            if batch.is_empty() {
                continue;
            }
            let mut request = Append {
                tenant: scope.tenant(),
                limits,
                rows,
                batch,
                oldest_ms: now_ms
                    .saturating_sub(millis(limits.age_seconds_max))
                    .max(Retention::oldest_ms(limits.metrics_raw_retention_seconds, now_ms)),
                newest_ms: now_ms.saturating_add(millis(limits.future_seconds_max)),
                admit_series: &mut |_| self.usage.admit(&usage, limits),
                owns: &|labels| self.map.route_labels(scope.tenant(), labels) == partition.number,
                misplaced,
                payloads,
                outcome: &mut done.outcome,
            };
            let appended = partition.check_writable().and_then(|()| {
                let mut head = partition.head.write();
                self.check_backlog(partition, &head)?;
                head.append(&mut request);
                if let Some(lowest_ms) = rows.lowest_ms(batch, request.oldest_ms) {
                    self.changes.note(scope.tenant(), lowest_ms);
                }
                let logged = self.log_payloads(partition, scope, request.payloads);
                self.wake_if_full(partition, &head);
                logged
            });
            done.note(appended);
        }
    }

    fn append_metadata(
        &self,
        scratch: &mut Scratch,
        scope: &WriteScope,
        rows: &MetricRows<'_>,
        done: &mut Done,
    ) {
        for family in &rows.metadata {
            let partition =
                &self.partitions[usize::from(self.map.route_family(scope.tenant(), &family.0))];
            let appended = partition.check_writable().and_then(|()| {
                let mut head = partition.head.write();
                self.check_backlog(partition, &head)?;
                head.append_metadata(
                    scope.tenant(),
                    [family],
                    &mut scratch.payloads,
                    &mut done.outcome,
                );
                partition.note_metadata(&scratch.payloads);
                let logged = self.log_payloads(partition, scope, &scratch.payloads);
                self.wake_if_full(partition, &head);
                logged
            });
            done.note(appended);
        }
    }

    /// Logs what a head applied, while its lock is held: the order of the log is the order of the
    /// head. `ready` was asked before, so a failure is for good, and the head is ahead of the log.
    fn log_payloads(
        &self,
        partition: &Partition,
        scope: &WriteScope,
        payloads: &Payloads,
    ) -> Result<Option<Position>, Error> {
        let mut last = None;
        for (kind, payload) in payloads.records() {
            last = Some(self.log_one(partition, scope.tenant().0, kind, payload)?);
        }
        Ok(last)
    }

    pub(crate) fn log_one(
        &self,
        partition: &Partition,
        tenant: u32,
        kind: RecordKind,
        payload: &[u8],
    ) -> Result<Position, Error> {
        let record = Record { partition: partition.number, tenant, kind, payload };
        self.log.append(record).map_err(|error: LogError| {
            partition.make_read_only(&error.to_string());
            Error::Unavailable(error)
        })
    }
}

/// What the partitions made of a request so far.
#[derive(Debug, Default)]
struct Done {
    outcome: AppendOutcome,
    position: Option<Position>,
    failed: Option<Error>,
}

impl Done {
    fn note(&mut self, appended: Result<Option<Position>, Error>) {
        match appended {
            Ok(position) => self.position = self.position.max(position),
            Err(error) => self.failed = Some(error),
        }
    }
}
