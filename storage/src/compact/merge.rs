//! Rows of several blocks become one sequence of series, dealt out to new blocks.

use std::collections::HashSet;
use std::sync::Arc;

use model::Resolution;
use object_store::ObjectStore;
use object_store::path::Path;
use tenancy::TenantId;

use super::source::{Cursor, Row};
use super::windows::windows_of;
use crate::Error;
use crate::block::{BlockOptions, BlockSummary, BlockWriter, SeriesInput, WindowsInput};
use crate::select::{Interner, merge_samples};

/// The blocks that the series of one window go to: one for each large tenant, one for all others.
pub(super) struct Outputs {
    objects: Arc<dyn ObjectStore>,
    options: BlockOptions,
    /// Names that were taken for blocks not begun yet.
    names: Vec<String>,
    large: Arc<HashSet<TenantId>>,
    /// From when on windows of a tenant are kept, if windows are made.
    kept_from: KeptFrom,
    shared: Option<Output>,
    own: Option<(TenantId, Output)>,
    pub(super) finished: Vec<(String, BlockSummary)>,
}

/// From when on windows of a tenant are kept; `None`: none are made.
pub(super) type KeptFrom = Arc<dyn Fn(TenantId) -> Option<i64> + Send + Sync>;

struct Output {
    name: String,
    writer: BlockWriter,
}

impl Outputs {
    /// `names` must be enough for all large tenants and one block more.
    pub(super) fn new(
        objects: Arc<dyn ObjectStore>,
        options: BlockOptions,
        names: Vec<String>,
        large: Arc<HashSet<TenantId>>,
        kept_from: KeptFrom,
    ) -> Self {
        Self {
            objects,
            options,
            names,
            large,
            kept_from,
            shared: None,
            own: None,
            finished: Vec::new(),
        }
    }

    /// Opens the block that a tenant's series go to, and ends that of the large tenant before.
    pub(super) async fn turn_to(&mut self, tenant: TenantId) -> Result<(), Error> {
        if self.own.as_ref().is_some_and(|(of, _)| *of != tenant)
            && let Some((_, output)) = self.own.take()
        {
            self.finish_one(output).await?;
        }
        if self.is_open_for(tenant) {
            return Ok(());
        }
        let output = self.begin()?;
        if self.large.contains(&tenant) {
            self.own = Some((tenant, output));
        } else {
            self.shared = Some(output);
        }
        Ok(())
    }

    /// Opens the block of all small tenants, if it is not: it will be there even if it is empty.
    pub(super) fn begin_shared(&mut self) -> Result<(), Error> {
        if self.shared.is_none() && self.finished.is_empty() && self.own.is_none() {
            self.shared = Some(self.begin()?);
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Output, Error> {
        let name = self.names.pop();
        let name = name.ok_or_else(|| Error::Internal("a merge ran out of names".to_owned()))?;
        let prefix = Path::from(name.as_str());
        let writer = BlockWriter::new(Arc::clone(&self.objects), prefix, self.options.clone())?;
        Ok(Output { name, writer })
    }

    fn is_open_for(&self, tenant: TenantId) -> bool {
        match &self.own {
            Some((of, _)) => *of == tenant,
            None => !self.large.contains(&tenant) && self.shared.is_some(),
        }
    }

    fn writer(&mut self) -> Option<&mut BlockWriter> {
        match &mut self.own {
            Some((_, output)) => Some(&mut output.writer),
            None => self.shared.as_mut().map(|output| &mut output.writer),
        }
    }

    /// Sends what fills whole parts.
    pub(super) async fn send_ready(&mut self) -> Result<(), Error> {
        match self.writer() {
            Some(writer) => writer.send_ready().await,
            None => Ok(()),
        }
    }

    async fn finish_one(&mut self, output: Output) -> Result<(), Error> {
        let summary = output.writer.finish().await?;
        self.finished.push((output.name, summary));
        Ok(())
    }

    /// Ends all blocks. They may be named in a manifest after this.
    pub(super) async fn finish(&mut self) -> Result<(), Error> {
        let rest = [self.own.take().map(|(_, output)| output), self.shared.take()];
        for output in rest.into_iter().flatten() {
            self.finish_one(output).await?;
        }
        Ok(())
    }

    /// Gives up what was begun: uploads end, so that the store can let go of their parts.
    pub(super) async fn abandon(&mut self) {
        let rest = [self.own.take().map(|(_, output)| output), self.shared.take()];
        for output in rest.into_iter().flatten() {
            output.writer.abandon().await;
        }
    }
}

/// The tenant whose series come next.
pub(super) fn next_tenant(cursors: &[Cursor]) -> Option<TenantId> {
    cursors.iter().filter_map(|c| c.ready.front()).map(|row| row.tenant).min()
}

/// Merges series into the open block until a cursor runs dry or a series belongs elsewhere. The
/// cursors are in order of log positions: of two samples at one instant that of the first stays.
pub(super) fn merge(cursors: &mut [Cursor], outputs: &mut Outputs) -> Result<u64, Error> {
    let (interner, mut samples) = (Interner::default(), 0);
    while !cursors.iter().any(Cursor::is_dry) {
        let first = first_in_order(cursors);
        let tenant = first.first().and_then(|at| cursors[*at].ready.front()).map(|row| row.tenant);
        if !tenant.is_some_and(|tenant| outputs.is_open_for(tenant)) {
            break;
        }
        let rows = first.into_iter().filter_map(|at| cursors[at].ready.pop_front());
        samples += add(rows.collect(), &interner, outputs)?;
    }
    Ok(samples)
}

/// Adds the windows of one series; says how many samples they were made from.
fn add_windows(rows: Vec<Row>, interner: &Interner, outputs: &mut Outputs) -> Result<u64, Error> {
    let Some((tenant, id, labels)) = rows.first().map(|r| (r.tenant, r.id, r.labels.clone()))
    else {
        return Ok(0);
    };
    let samples: usize =
        rows.iter().map(|r| r.samples.values.len() + r.samples.histograms.len()).sum();
    let resolution = outputs.options.resolution;
    let windows = windows_of(rows, interner, resolution, |tenant| (outputs.kept_from)(tenant));
    if let Some(writer) = outputs.writer().filter(|_| !windows.is_empty()) {
        writer.add_windows(&WindowsInput { tenant, id, labels, windows: &windows })?;
    }
    Ok(samples as u64)
}

/// Adds what the blocks have of one series; says how many samples that is.
fn add(rows: Vec<Row>, interner: &Interner, outputs: &mut Outputs) -> Result<u64, Error> {
    if outputs.options.resolution != Resolution::Raw {
        return add_windows(rows, interner, outputs);
    }
    let mut rows = rows.into_iter();
    let Some(Row { tenant, id, labels, samples, mut exemplars, .. }) = rows.next() else {
        return Ok(0);
    };
    let mut parts = vec![samples];
    for row in rows {
        parts.push(row.samples);
        exemplars.extend(row.exemplars);
    }
    let merged = merge_samples(parts, interner);
    exemplars.sort_by_key(|e| e.timestamp_ms);
    exemplars.dedup();
    let Some(writer) = outputs.writer() else { return Ok(0) };
    writer.add(&SeriesInput {
        tenant,
        id,
        labels,
        timestamps: &merged.timestamps,
        values: &merged.values,
        histograms: &merged.histograms,
        starts: &merged.starts,
        exemplars: &exemplars,
    })?;
    Ok((merged.values.len() + merged.histograms.len()) as u64)
}

/// Which cursors have the series that comes first.
fn first_in_order(cursors: &[Cursor]) -> Vec<usize> {
    let mut first: Vec<usize> = Vec::new();
    for (at, cursor) in cursors.iter().enumerate() {
        let Some(row) = cursor.ready.front() else { continue };
        let best = first.first().and_then(|f| cursors[*f].ready.front());
        match best.map(|best| row.order(best)) {
            Some(std::cmp::Ordering::Greater) => {}
            Some(std::cmp::Ordering::Equal) => first.push(at),
            _ => first = vec![at],
        }
    }
    first
}
