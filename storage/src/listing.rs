//! What there is: series, label names and values, metadata, exemplars, statistics.
//!
//! Answers are computed from the series the scope may see; those that do not come from single
//! series are refused to a restricted scope.

use std::collections::{BTreeMap, BTreeSet};

use model::Resolution;
use model::{Cancel, Exemplar, Labels, Matcher, Metadata, Pace, TENANT_LABEL, TimeRange};
use roaring::RoaringBitmap;
use tenancy::{ReadScope, TenantRead};

use crate::head::{Cardinality, Counts, Head, HeadCounts, Verdicts};
use crate::hidden::Hidden;
use crate::look_up::{InBlock, InHead, Question};
use crate::partition::Partition;
use crate::place::{Place, Selectors, visible_in_block, visible_in_head};
use crate::select::shown;
use crate::{Error, Storage};

/// A question about matching series, answered from their labels alone.
#[derive(Debug)]
pub struct Listing<G> {
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
    gathered: G,
}

/// The question which series there are.
pub type ListSeries = Listing<SeriesFound>;

/// The question which label names there are.
pub type ListNames = Listing<NamesFound>;

/// The question which values a label has.
pub type ListValues = Listing<ValuesFound>;

/// What is gathered from the matching series of one place after the other.
pub trait Gather: Send + 'static {
    /// The answer.
    type Answer: Send + 'static;

    /// How many series it takes in at a time.
    #[doc(hidden)]
    const SERIES_AT_ONCE: u64;

    /// Takes in what some rows of a place say; there is at least one.
    #[doc(hidden)]
    fn add(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        place: &Place<'_>,
        rows: &RoaringBitmap,
        pace: &mut Pace,
    ) -> Result<(), Error>;

    /// Everything was seen.
    #[doc(hidden)]
    fn finish(self, scope: &ReadScope) -> Self::Answer;
}

/// Label sets.
#[derive(Debug)]
pub struct SeriesFound(BTreeSet<Labels>);

/// Label names.
#[derive(Debug)]
pub struct NamesFound(BTreeSet<String>);

/// Values of one label.
#[derive(Debug)]
pub struct ValuesFound {
    name: String,
    values: BTreeSet<String>,
}

impl ListSeries {
    /// The label sets of series that match one of the selectors and have samples about `range`.
    pub fn new(selectors: Vec<Vec<Matcher>>, range: TimeRange) -> Self {
        Self { selectors, range, gathered: SeriesFound(BTreeSet::new()) }
    }
}

impl ListNames {
    /// The label names of series that match one of the selectors and have samples about `range`.
    pub fn new(selectors: Vec<Vec<Matcher>>, range: TimeRange) -> Self {
        Self { selectors, range, gathered: NamesFound(BTreeSet::new()) }
    }
}

impl ListValues {
    /// The values of label `name` in series that match one of the selectors and have samples
    /// about `range`.
    pub fn new(name: &str, selectors: Vec<Vec<Matcher>>, range: TimeRange) -> Self {
        let gathered = ValuesFound { name: name.to_owned(), values: BTreeSet::new() };
        Self { selectors, range, gathered }
    }
}

impl Gather for SeriesFound {
    type Answer = BTreeSet<Labels>;

    const SERIES_AT_ONCE: u64 = 256;

    fn add(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        place: &Place<'_>,
        rows: &RoaringBitmap,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        place.labels(rows, pace, &mut |labels| {
            debug_assert!(tenant.allows(&labels), "{labels} is outside the scope");
            self.0.insert(shown(scope, tenant, labels));
        })?;
        check_series(scope, self.0.len())
    }

    fn finish(self, _scope: &ReadScope) -> Self::Answer {
        self.0
    }
}

impl Gather for NamesFound {
    type Answer = BTreeSet<String>;

    // What it takes does not grow with the series.
    const SERIES_AT_ONCE: u64 = u64::MAX;

    fn add(
        &mut self,
        _scope: &ReadScope,
        tenant: &TenantRead,
        place: &Place<'_>,
        rows: &RoaringBitmap,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        place.names(tenant, rows, &mut self.0, pace)
    }

    fn finish(mut self, scope: &ReadScope) -> Self::Answer {
        if scope.is_labelled() && !self.0.is_empty() {
            self.0.insert(TENANT_LABEL.to_owned());
        }
        self.0
    }
}

impl Gather for ValuesFound {
    type Answer = BTreeSet<String>;

    // What it takes does not grow with the series.
    const SERIES_AT_ONCE: u64 = u64::MAX;

    fn add(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        place: &Place<'_>,
        rows: &RoaringBitmap,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        if scope.is_labelled() && self.name == TENANT_LABEL {
            self.values.insert(tenant.name.as_str().to_owned());
            return Ok(());
        }
        place.values(tenant, &self.name, rows, &mut self.values, pace)
    }

    fn finish(self, _scope: &ReadScope) -> Self::Answer {
        self.values
    }
}

impl<G: Gather> Question for Listing<G> {
    type Answer = G::Answer;

    fn range(&self) -> TimeRange {
        self.range
    }

    fn selectors(&self) -> Selectors<'_> {
        &self.selectors
    }

    fn concerns(&self, counts: &HeadCounts) -> bool {
        let here = |counts: &Counts| {
            counts.time_range().is_some_and(|held| held.start_ms <= self.range.end_ms)
        };
        // What is not buffered any more lies in blocks, which say from when to when.
        here(&counts.open) || here(&counts.frozen)
    }

    fn series_at_once(&self) -> u64 {
        G::SERIES_AT_ONCE
    }

    fn found(&self, _scope: &ReadScope, _series: u64) -> Result<(), Error> {
        Ok(())
    }

    fn head(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        InHead { head, series }: InHead<'_>,
        oldest_ms: i64,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        pace.work(series.len() as usize)?;
        let from_ms = self.range.start_ms.max(oldest_ms);
        let rows = series.into_iter().filter(|&n| was_active(head, n, from_ms)).collect();
        self.add(scope, tenant, &Place::Head(head), &rows, pace)
    }

    fn block(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        InBlock { block, series, .. }: InBlock<'_>,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        self.add(scope, tenant, &Place::Block(block), &series, pace)
    }

    fn finish(self, scope: &ReadScope, _pace: &mut Pace) -> Result<Self::Answer, Error> {
        Ok(self.gathered.finish(scope))
    }
}

impl<G: Gather> Listing<G> {
    fn add(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        place: &Place<'_>,
        rows: &RoaringBitmap,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        if rows.is_empty() { Ok(()) } else { self.gathered.add(scope, tenant, place, rows, pace) }
    }
}

impl Storage {
    /// The label sets of matching series that have samples about `range`, sorted.
    pub async fn series(
        &self,
        scope: &ReadScope,
        selectors: Selectors<'_>,
        range: TimeRange,
    ) -> Result<BTreeSet<Labels>, Error> {
        self.answer(scope, ListSeries::new(selectors.to_vec(), range)).await
    }

    /// Names of labels of matching series, sorted.
    pub async fn label_names(
        &self,
        scope: &ReadScope,
        selectors: Selectors<'_>,
        range: TimeRange,
    ) -> Result<BTreeSet<String>, Error> {
        self.answer(scope, ListNames::new(selectors.to_vec(), range)).await
    }

    /// Values of one label of matching series, sorted.
    pub async fn label_values(
        &self,
        scope: &ReadScope,
        name: &str,
        selectors: Selectors<'_>,
        range: TimeRange,
    ) -> Result<BTreeSet<String>, Error> {
        self.answer(scope, ListValues::new(name, selectors.to_vec(), range)).await
    }

    /// Metadata by metric family. It belongs to no single series, so a restricted scope gets none.
    pub fn metadata(
        &self,
        scope: &ReadScope,
        metric: Option<&str>,
        cancel: &Cancel,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, Error> {
        if scope.is_restricted() {
            return Err(Error::Restricted("metadata"));
        }
        let mut pace = Pace::new(cancel);
        let mut all: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
        for partition in &self.partitions {
            let head = partition.head.read();
            for tenant in scope.tenants() {
                let wanted = head
                    .metadata(tenant.id)
                    .filter(|(family, _)| metric.is_none_or(|m| m == *family));
                for (family, metadata) in wanted {
                    pace.work(50)?;
                    let known = all.entry(family.to_owned()).or_default();
                    if !known.contains(metadata) {
                        known.push(metadata.clone());
                    }
                }
            }
        }
        Ok(all)
    }

    /// Exemplars of matching series in a range, by series.
    pub async fn exemplars(
        &self,
        scope: &ReadScope,
        selectors: Selectors<'_>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<BTreeMap<Labels, Vec<Exemplar>>, Error> {
        let mut pace = Pace::new(cancel);
        let mut all: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        for (partition, tenant) in
            self.partitions.iter().flat_map(|p| scope.tenants().iter().map(move |t| (p, t)))
        {
            partition.check_blocks(range, Resolution::Raw)?;
            let oldest_ms = tenant.oldest_ms(Resolution::Raw, self.retention_now_ms());
            let range = TimeRange { start_ms: range.start_ms.max(oldest_ms), ..range };
            exemplars_of_head(partition, scope, tenant, selectors, range, &mut pace, &mut all)?;
            let tombstones = partition.tombstones();
            for stored in partition.blocks().iter().filter(|b| b.meta.range.overlaps(range)) {
                let block = stored.block.open().await?;
                let tombstones = tombstones.of_block_in(&stored.meta, scope);
                let hidden = Hidden::of(&block, tenant.id, &tombstones, oldest_ms).await?;
                let rows = visible_in_block(&block, scope, tenant, selectors, &mut pace)?;
                for found in block.exemplars(&rows, range, &mut pace).await? {
                    if hidden.is_hidden(found.row, found.exemplar.timestamp_ms) {
                        continue;
                    }
                    let labels = shown(scope, tenant, block.labels(found.row)?);
                    all.entry(labels).or_default().push(found.exemplar);
                }
            }
        }
        for exemplars in all.values_mut() {
            exemplars.sort_by_key(|e| e.timestamp_ms);
            exemplars.dedup();
        }
        Ok(all)
    }

    /// Cardinality of the heads' series, for `/api/v1/status/tsdb`.
    pub fn cardinality(&self, scope: &ReadScope, cancel: &Cancel) -> Result<Cardinality, Error> {
        if scope.is_restricted() {
            return Err(Error::Restricted("statistics"));
        }
        let mut pace = Pace::new(cancel);
        let mut sum = Cardinality::default();
        for partition in &self.partitions {
            let head = partition.head.read();
            for tenant in scope.tenants() {
                head.add_cardinality(tenant.id, &mut sum, &mut pace)?;
            }
        }
        Ok(sum)
    }
}

impl Place<'_> {
    fn labels(
        &self,
        rows: &RoaringBitmap,
        pace: &mut Pace,
        each: &mut dyn FnMut(Labels),
    ) -> Result<(), Error> {
        match self {
            Self::Head(head) => {
                for number in rows {
                    pace.work(100)?;
                    each(head.labels(number));
                }
            }
            Self::Block(block) => block.for_each_series(rows, pace, |_, _, labels| each(labels))?,
        }
        Ok(())
    }

    fn names(
        &self,
        tenant: &TenantRead,
        rows: &RoaringBitmap,
        names: &mut BTreeSet<String>,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        match self {
            Self::Head(head) => {
                let found = head.label_names(tenant.id, Some(rows), pace)?;
                names.extend(found.into_iter().map(str::to_owned));
            }
            Self::Block(block) => names.extend(block.label_names(tenant.id, Some(rows), pace)?),
        }
        Ok(())
    }

    fn values(
        &self,
        tenant: &TenantRead,
        name: &str,
        rows: &RoaringBitmap,
        values: &mut BTreeSet<String>,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        match self {
            Self::Head(head) => {
                for value in head.label_values(tenant.id, name, Some(rows), pace)? {
                    pace.work(50)?;
                    values.insert(value.to_owned());
                }
            }
            Self::Block(block) => {
                for value in block.label_values(tenant.id, name, Some(rows), pace)? {
                    pace.work(50)?;
                    values.insert(value);
                }
            }
        }
        Ok(())
    }
}

/// Whether a series of the head may have samples from an instant on: its last one is not before.
/// After a restart the last one may be unknown; then blocks tell.
fn was_active(head: &Head, number: u32, from_ms: i64) -> bool {
    head.last_ms(number).is_some_and(|last| last >= from_ms)
}

fn exemplars_of_head(
    partition: &Partition,
    scope: &ReadScope,
    tenant: &TenantRead,
    selectors: Selectors<'_>,
    range: TimeRange,
    pace: &mut Pace,
    all: &mut BTreeMap<Labels, Vec<Exemplar>>,
) -> Result<(), Error> {
    let mut verdicts = Verdicts::default();
    let by = (&mut verdicts, &mut *pace);
    let (head, found) = visible_in_head(&partition.head, scope, tenant, selectors, by)?;
    for number in found {
        pace.work(10)?;
        let exemplars = head.exemplars(number, range);
        if !exemplars.is_empty() {
            let labels = shown(scope, tenant, head.labels(number));
            all.entry(labels).or_default().extend(exemplars);
        }
    }
    Ok(())
}

fn check_series(scope: &ReadScope, found: usize) -> Result<(), Error> {
    let limit = scope.limits().query_series_max;
    if found > limit {
        return Err(Error::Limit(format!(
            "more than {limit} series match, the limit query_series_max; use narrower matchers"
        )));
    }
    Ok(())
}
