//! What there is: series, label names and values, metadata, exemplars, statistics.
//!
//! Answers are computed from the series the scope may see; those that do not come from single
//! series are refused to a restricted scope.

use std::collections::{BTreeMap, BTreeSet};

use model::{Exemplar, Labels, Metadata, TENANT_LABEL, TimeRange};
use roaring::RoaringBitmap;
use tenancy::{ReadScope, TenantRead};

use crate::head::{Cardinality, Head};
use crate::partition::Partition;
use crate::place::{Place, Selectors};
use crate::select::shown;
use crate::{Error, Storage};

impl Storage {
    /// The label sets of matching series that have samples about `range`, sorted.
    pub fn series(
        &self,
        scope: &ReadScope,
        selectors: Selectors<'_>,
        range: TimeRange,
    ) -> Result<BTreeSet<Labels>, Error> {
        let mut found = BTreeSet::new();
        self.visit(scope, selectors, range, &mut |tenant, place, rows| {
            place.labels(rows, &mut |labels| {
                debug_assert!(tenant.allows(&labels), "{labels} is outside the scope");
                found.insert(shown(scope, tenant, labels));
            })?;
            check_series(scope, found.len())
        })?;
        Ok(found)
    }

    /// Names of labels of matching series, sorted.
    pub fn label_names(
        &self,
        scope: &ReadScope,
        selectors: Selectors<'_>,
        range: TimeRange,
    ) -> Result<BTreeSet<String>, Error> {
        let mut names = BTreeSet::new();
        self.visit(scope, selectors, range, &mut |tenant, place, rows| {
            place.names(tenant, rows, &mut names)
        })?;
        if scope.is_labelled() && !names.is_empty() {
            names.insert(TENANT_LABEL.to_owned());
        }
        Ok(names)
    }

    /// Values of one label of matching series, sorted.
    pub fn label_values(
        &self,
        scope: &ReadScope,
        name: &str,
        selectors: Selectors<'_>,
        range: TimeRange,
    ) -> Result<BTreeSet<String>, Error> {
        let mut values = BTreeSet::new();
        let of_tenants = scope.is_labelled() && name == TENANT_LABEL;
        self.visit(scope, selectors, range, &mut |tenant, place, rows| {
            if of_tenants {
                values.insert(tenant.name.as_str().to_owned());
                return Ok(());
            }
            place.values(tenant, name, rows, &mut values)
        })?;
        Ok(values)
    }

    /// Metadata by metric family. It belongs to no single series, so a restricted scope gets none.
    pub fn metadata(
        &self,
        scope: &ReadScope,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, Error> {
        if scope.is_restricted() {
            return Err(Error::Restricted("metadata"));
        }
        let mut all: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
        for partition in &self.partitions {
            let head = partition.head.read();
            for tenant in scope.tenants() {
                let wanted = head
                    .metadata(tenant.id)
                    .filter(|(family, _)| metric.is_none_or(|m| m == *family));
                for (family, metadata) in wanted {
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
    ) -> Result<BTreeMap<Labels, Vec<Exemplar>>, Error> {
        let mut all: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        for (partition, tenant) in
            self.partitions.iter().flat_map(|p| scope.tenants().iter().map(move |t| (p, t)))
        {
            partition.check_blocks(range)?;
            exemplars_of_head(partition, scope, tenant, selectors, range, &mut all)?;
            for stored in partition.blocks().iter().filter(|b| b.meta.range.overlaps(range)) {
                let rows = Place::Block(stored).visible(scope, tenant, selectors)?;
                for found in stored.block.exemplars(&rows, range).await? {
                    let labels = shown(scope, tenant, stored.block.labels(found.row)?);
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
    pub fn cardinality(&self, scope: &ReadScope) -> Result<Cardinality, Error> {
        if scope.is_restricted() {
            return Err(Error::Restricted("statistics"));
        }
        let mut sum = Cardinality::default();
        for partition in &self.partitions {
            let head = partition.head.read();
            scope.tenants().iter().for_each(|tenant| head.add_cardinality(tenant.id, &mut sum));
        }
        Ok(sum)
    }

    /// Calls `each` with every place that has matching series, and with the rows there that the
    /// scope may see: at least one.
    fn visit(
        &self,
        scope: &ReadScope,
        selectors: Selectors<'_>,
        range: TimeRange,
        each: &mut dyn FnMut(&TenantRead, &Place<'_>, &RoaringBitmap) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for partition in &self.partitions {
            partition.check_blocks(range)?;
            for tenant in scope.tenants() {
                let head = partition.head.read();
                let place = Place::Head(&head);
                let rows = place.visible(scope, tenant, selectors)?;
                let rows = rows
                    .into_iter()
                    .filter(|&n| was_active(&head, n, range))
                    .collect::<RoaringBitmap>();
                if !rows.is_empty() {
                    each(tenant, &place, &rows)?;
                }
            }
            for stored in partition.blocks().iter().filter(|b| b.meta.range.overlaps(range)) {
                for tenant in scope.tenants() {
                    let place = Place::Block(stored);
                    let rows = place.visible(scope, tenant, selectors)?;
                    if !rows.is_empty() {
                        each(tenant, &place, &rows)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Place<'_> {
    fn labels(&self, rows: &RoaringBitmap, each: &mut dyn FnMut(Labels)) -> Result<(), Error> {
        match self {
            Self::Head(head) => rows.iter().for_each(|n| each(head.labels(n))),
            Self::Block(stored) => {
                stored.block.for_each_series(rows, |_, _, labels| each(labels))?
            }
        }
        Ok(())
    }

    fn names(
        &self,
        tenant: &TenantRead,
        rows: &RoaringBitmap,
        names: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        match self {
            Self::Head(head) => {
                names.extend(head.label_names(tenant.id, Some(rows)).into_iter().map(str::to_owned))
            }
            Self::Block(stored) => names.extend(stored.block.label_names(tenant.id, Some(rows))?),
        }
        Ok(())
    }

    fn values(
        &self,
        tenant: &TenantRead,
        name: &str,
        rows: &RoaringBitmap,
        values: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        match self {
            Self::Head(head) => values.extend(
                head.label_values(tenant.id, name, Some(rows)).into_iter().map(str::to_owned),
            ),
            Self::Block(stored) => {
                values.extend(stored.block.label_values(tenant.id, name, Some(rows))?)
            }
        }
        Ok(())
    }
}

/// Whether a series of the head may have samples in a range: its last one is not before. After a
/// restart the last one may be unknown; then blocks tell.
fn was_active(head: &Head, number: u32, range: TimeRange) -> bool {
    head.last_ms(number).is_some_and(|last| last >= range.start_ms)
}

fn exemplars_of_head(
    partition: &Partition,
    scope: &ReadScope,
    tenant: &TenantRead,
    selectors: Selectors<'_>,
    range: TimeRange,
    all: &mut BTreeMap<Labels, Vec<Exemplar>>,
) -> Result<(), Error> {
    let head = partition.head.read();
    for number in Place::Head(&head).visible(scope, tenant, selectors)? {
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
