//! The way every write of entries takes, whatever door it came in by.
//!
//! ```text
//! door: headers ─► body (bounded) ─► inflate ─► door: take apart ─► route ─► fit ─► admission
//!   ─► EntryAppender ─► durable ─► door: answer
//! ```
//!
//! Memory for bodies and threads for work are those of [`Intake`]: one budget for all signals.

use std::sync::Arc;

use axum::body::Body;
use model::Position;
use storage::entries::{EntriesAppended, EntryOutcome, EntryReason, EntryRows, StreamRows};
use tenancy::{Routes, WriteScope};

use super::builder::{Context, Entries, EntryCaps};
use super::cache::LabelCache;
use super::fit::{self, Refusals};
use super::route::share_out;
use crate::EntryAppender;
use crate::intake::{Encoding, Inflated, Intake, Pool, Recycle, Refusal, inflate, is_small};

/// Rows kept from request to request: as many as a usual body holds.
const ROWS_KEPT_MAX: usize = 16 << 10;

/// Bytes kept beside a body.
const SPILL_KEPT_BYTES_MAX: usize = 1 << 20;

/// What a door does with a body: one value for each request.
pub(crate) trait TakeEntries: Send + 'static {
    /// Fills `out` from a body. Entries that are refused one by one are counted there; an error
    /// refuses the whole request.
    fn take_entries<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Entries<'_, 'a>,
    ) -> Result<(), Refusal>;
}

/// A write that was carried out, if only in part.
#[derive(Debug)]
pub(crate) struct WrittenEntries<P> {
    pub(crate) outcome: EntryOutcome,
    /// Entries that were refused after the door had found them, by number.
    pub(crate) refused: Vec<(u32, EntryReason)>,
    /// What took the body apart.
    pub(crate) door: P,
}

/// What all doors of entries share.
pub struct EntryIntake {
    pub(crate) intake: Arc<Intake>,
    appender: Arc<dyn EntryAppender>,
    caps: EntryCaps,
    labels: LabelCache,
    work: Pool<Work>,
}

impl std::fmt::Debug for EntryIntake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryIntake").field("caps", &self.caps).finish_non_exhaustive()
    }
}

/// What one request needs while it is taken apart.
#[derive(Debug, Default)]
struct Work {
    inflated: Inflated,
    /// Rows without a body.
    rows: EntryRows<'static>,
}

impl Recycle for Work {
    fn clear_for_reuse(&mut self) {
        self.inflated.clear();
        let rows = &mut self.rows;
        rows.streams.clear();
        rows.entries.clear();
        rows.fields.clear();
        rows.spill.clear();
        rows.batch = None;
        rows.streams.shrink_to(ROWS_KEPT_MAX);
        rows.entries.shrink_to(ROWS_KEPT_MAX);
        rows.fields.shrink_to(4 * ROWS_KEPT_MAX);
        rows.spill.shrink_to(SPILL_KEPT_BYTES_MAX);
    }
}

/// What became of entries: the store's word, and what was refused before.
#[derive(Debug, Default)]
struct Done {
    outcome: EntryOutcome,
    refused: Vec<(u32, EntryReason)>,
    position: Option<Position>,
}

impl Done {
    fn add(&mut self, appended: EntriesAppended) {
        let of = appended.outcome;
        self.outcome.entries += of.entries;
        self.outcome.bytes += of.bytes;
        self.outcome.streams_created += of.streams_created;
        self.outcome.truncated += of.truncated;
        self.add_rejected(of.rejected);
        // Positions are those of one log: what lies before the last is durable with it.
        self.position = self.position.max(appended.position);
    }

    fn add_rejected(&mut self, rejected: Vec<storage::entries::EntryRejected>) {
        for one in rejected {
            self.outcome.reject(one.reason, one.count, || one.example);
        }
    }
}

impl EntryIntake {
    /// An intake that hands entries to `appender` and shares budgets and settings with `intake`.
    pub fn new(intake: Arc<Intake>, appender: Arc<dyn EntryAppender>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            intake,
            appender,
            caps: EntryCaps::default(),
            labels: LabelCache::default(),
            work: Pool::new(cores + 1, usize::MAX),
        }
    }

    /// Carries out one write and counts what became of it.
    pub(crate) async fn write<P: TakeEntries>(
        self: &Arc<Self>,
        scope: &WriteScope,
        encoding: Encoding,
        body: Body,
        door: P,
    ) -> Result<WrittenEntries<P>, Refusal> {
        let written = self.carry_out(scope, encoding, body, door).await;
        written.map_err(|refusal| self.intake.refused(scope, refusal))
    }

    /// Carries out a write of bytes that came otherwise than by HTTP.
    pub(crate) async fn write_bytes<P: TakeEntries>(
        self: &Arc<Self>,
        scope: &WriteScope,
        bytes: Vec<u8>,
        door: P,
    ) -> Result<WrittenEntries<P>, Refusal> {
        let (this, of) = (Arc::clone(self), scope.clone());
        let store = move || this.store(&of, Encoding::Identity, &bytes, door);
        let written = match self.intake.apart(store).await {
            Ok((done, door)) => self.finish(scope, done, door).await,
            Err(refusal) => Err(refusal),
        };
        written.map_err(|refusal| self.intake.refused(scope, refusal))
    }

    async fn carry_out<P: TakeEntries>(
        self: &Arc<Self>,
        scope: &WriteScope,
        encoding: Encoding,
        body: Body,
        door: P,
    ) -> Result<WrittenEntries<P>, Refusal> {
        let received = self.intake.receive(body, scope.limits().body_bytes_max).await?;
        let (done, door) = if is_small(encoding, received.bytes()) {
            self.store(scope, encoding, received.bytes(), door)?
        } else {
            let (this, scope) = (Arc::clone(self), scope.clone());
            let store = move || this.store(&scope, encoding, received.bytes(), door);
            self.intake.apart(store).await?
        };
        self.finish(scope, done, door).await
    }

    async fn finish<P>(
        &self,
        scope: &WriteScope,
        done: Done,
        door: P,
    ) -> Result<WrittenEntries<P>, Refusal> {
        if let Some(position) = done.position {
            self.appender.durable(position).await?;
        }
        self.intake.metrics.entries.appended(&done.outcome);
        if scope.routes().is_none() {
            self.intake.admission.entries_rejected(scope.tenant(), &done.outcome);
        }
        Ok(WrittenEntries { outcome: done.outcome, refused: done.refused, door })
    }

    /// Inflates, takes apart, admits and appends one body.
    fn store<P: TakeEntries>(
        &self,
        scope: &WriteScope,
        encoding: Encoding,
        compressed: &[u8],
        door: P,
    ) -> Result<(Done, P), Refusal> {
        let mut work = self.work.take();
        let result = self.store_with(scope, encoding, compressed, door, &mut work);
        self.work.put(work);
        result
    }

    fn store_with<P: TakeEntries>(
        &self,
        scope: &WriteScope,
        encoding: Encoding,
        compressed: &[u8],
        mut door: P,
        work: &mut Work,
    ) -> Result<(Done, P), Refusal> {
        let limit = scope.limits().body_decompressed_bytes_max;
        let body = inflate(encoding, compressed, limit, &mut work.inflated)?;
        self.intake.metrics.body(compressed.len(), body.len());
        let context = self.context(scope);
        let mut rows = EntryRows { body, ..std::mem::take(&mut work.rows) };
        let mut entries = Entries::new(&mut rows, &context);
        let taken = door.take_entries(body, &mut entries);
        let (refused, masked) = (entries.refused, entries.masked);
        self.intake.metrics.entries.masked(masked);
        let result = taken.and_then(|()| self.append(scope, refused, &mut rows, context.now_ns));
        work.rows = EntryRows { body: &[], ..rows };
        Ok((result?, door))
    }

    fn context(&self, scope: &WriteScope) -> Context {
        Context {
            limits: Arc::clone(scope.limits()),
            cluster: self.intake.cluster(),
            now_ns: self.intake.clock.now_ms().saturating_mul(1_000_000),
            caps: self.caps.clone(),
            known: self.labels.of(scope.tenant()),
        }
    }

    fn append(
        &self,
        scope: &WriteScope,
        refused: EntryOutcome,
        rows: &mut EntryRows<'_>,
        now_ns: i64,
    ) -> Result<Done, Refusal> {
        let mut done = Done { outcome: refused, ..Done::default() };
        match scope.routes() {
            Some(routes) => self.append_routed(routes, rows, now_ns, &mut done)?,
            None => {
                let streams = std::mem::take(&mut rows.streams);
                self.append_to(scope, rows, streams, now_ns, &mut done)?;
            }
        }
        Ok(done)
    }

    /// Appends entries of one tenant.
    fn append_to(
        &self,
        scope: &WriteScope,
        rows: &mut EntryRows<'_>,
        streams: Vec<StreamRows>,
        now_ns: i64,
        done: &mut Done,
    ) -> Result<EntryOutcome, Refusal> {
        let mut refusals = Refusals::default();
        rows.streams = fit::fit(rows, streams, scope.limits(), now_ns, &mut refusals);
        let mut outcome = refusals.outcome;
        done.refused.append(&mut refusals.numbers);
        if !rows.streams.is_empty() {
            let priced = fit::priced(rows, &rows.streams);
            let now = self.intake.clock.monotonic();
            self.intake.admission.admit_entries(scope, priced, now)?;
            let appended = self.appender.append_entries(scope, rows)?;
            for rejected in &appended.outcome.rejected {
                outcome.reject(rejected.reason, rejected.count, || rejected.example.clone());
            }
            let of_store = EntryOutcome { rejected: Vec::new(), ..appended.outcome };
            done.add(EntriesAppended { outcome: of_store, position: appended.position });
        }
        done.add_rejected(outcome.rejected.clone());
        Ok(outcome)
    }

    /// Appends the entries of a trusted writer, each part under the limits of the tenant it belongs
    /// to. One that takes nothing, or has used up its rate, costs the others nothing.
    fn append_routed(
        &self,
        routes: &Routes,
        rows: &mut EntryRows<'_>,
        now_ns: i64,
        done: &mut Done,
    ) -> Result<(), Refusal> {
        let admission = &self.intake.admission;
        admission.entries_rejected(routes.system(), &done.outcome);
        let (shares, shared) = share_out(routes, &self.intake.routing(), rows);
        self.intake.metrics.routed(&shared);
        for share in shares {
            let entries = share.streams.iter().map(|s| s.entries.len() as u64).sum();
            if entries == 0 {
                // Of a tenant that is no more: its entries went to `unassigned`.
                continue;
            }
            let numbers: Vec<_> = share.streams.iter().flat_map(|s| s.entries.clone()).collect();
            let (reason, text) = match share.scope {
                Ok(scope) => match self.append_to(&scope, rows, share.streams, now_ns, done) {
                    Ok(outcome) => {
                        admission.entries_rejected(share.tenant, &outcome);
                        continue;
                    }
                    Err(Refusal::EntryRate(why)) => (EntryReason::EntriesRate, why.to_string()),
                    Err(other) => return Err(other),
                },
                Err(_) => {
                    let text = format!("tenant {} is suspended", share.tenant);
                    (EntryReason::TenantSuspended, text)
                }
            };
            let mut one = EntryOutcome::default();
            one.reject(reason, entries, || text);
            admission.entries_rejected(share.tenant, &one);
            done.refused.extend(numbers.into_iter().map(|number| (number, reason)));
            done.add_rejected(one.rejected);
        }
        Ok(())
    }
}
