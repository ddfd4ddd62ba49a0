//! Where series are, a head or a block, and which of them a question may see there.
//!
//! Everything that is asked goes through [`visible`]: rows outside the scope are dropped
//! before anything is counted, compared with a limit or turned into labels.

use std::borrow::Cow;

use model::{Matcher, Pace, TENANT_LABEL};
use parking_lot::{RwLock, RwLockReadGuard};
use roaring::RoaringBitmap;
use tenancy::{ReadScope, TenantRead};

use crate::Error;
use crate::block::Block;
use crate::head::{Head, Verdicts};

/// Selectors of a listing: series that match one of them; without any, all series.
pub(crate) type Selectors<'a> = &'a [Vec<Matcher>];

/// Somewhere series are.
#[derive(Debug)]
pub enum Place<'a> {
    /// The head of a partition.
    Head(&'a Head),
    /// A block.
    Block(&'a Block),
}

/// The rows of one place that match one of the selectors and that the scope may see; `select` finds
/// rows there by matchers.
fn visible(
    scope: &ReadScope,
    tenant: &TenantRead,
    selectors: Selectors<'_>,
    mut select: impl FnMut(&[Matcher]) -> Result<RoaringBitmap, Error>,
) -> Result<RoaringBitmap, Error> {
    let mut found = RoaringBitmap::new();
    if selectors.is_empty() {
        found = select(&[])?;
    }
    for matchers in selectors {
        if let Some(matchers) = of_tenant(scope, tenant, matchers) {
            found |= select(&matchers)?;
        }
    }
    if tenant.alternatives.is_empty() || found.is_empty() {
        return Ok(found);
    }
    let mut allowed = RoaringBitmap::new();
    for matchers in tenant.alternatives.iter() {
        allowed |= select(matchers)?;
    }
    Ok(found & allowed)
}

/// The same of a tenant's rows in a block.
pub(crate) fn visible_in_block(
    block: &Block,
    scope: &ReadScope,
    tenant: &TenantRead,
    selectors: Selectors<'_>,
    pace: &mut Pace,
) -> Result<RoaringBitmap, Error> {
    visible(scope, tenant, selectors, |matchers| {
        pace.look()?;
        block.select(tenant.id, matchers, pace)
    })
}

/// The same of a tenant's rows in a head, with the lock under which they were found. While patterns
/// are compared with values the lock is not held: writers get through. `verdicts` are those of this
/// head, whatever they were found for.
pub(crate) fn visible_in_head<'p>(
    head: &'p RwLock<Head>,
    scope: &ReadScope,
    tenant: &TenantRead,
    selectors: Selectors<'_>,
    (verdicts, pace): (&mut Verdicts, &mut Pace),
) -> Result<(RwLockReadGuard<'p, Head>, RoaringBitmap), Error> {
    loop {
        pace.look()?;
        let held = head.read();
        let found = visible(scope, tenant, selectors, |matchers| {
            Ok(held.select_known(tenant.id, matchers, verdicts, pace)?)
        })?;
        if verdicts.are_complete() {
            return Ok((held, found));
        }
        drop(held);
        verdicts.compare(pace)?;
    }
}

/// What a selector asks of one tenant's series; `None` if it does not want the tenant.
/// `__tenant_id__` is not stored, so what is said about it is decided here.
pub(crate) fn of_tenant<'m>(
    scope: &ReadScope,
    tenant: &TenantRead,
    matchers: &'m [Matcher],
) -> Option<Cow<'m, [Matcher]>> {
    let about_tenant = |m: &&Matcher| m.name() == TENANT_LABEL;
    if !scope.is_labelled() || !matchers.iter().any(|m| about_tenant(&m)) {
        return Some(Cow::Borrowed(matchers));
    }
    let wanted = matchers.iter().filter(about_tenant).all(|m| m.matches(tenant.name.as_str()));
    wanted.then(|| matchers.iter().filter(|m| !about_tenant(m)).cloned().collect())
}
