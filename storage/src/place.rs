//! Where series are, a head or a block, and which of them a question may see there.
//!
//! Everything that is asked goes through [`Place::visible`]: rows outside the scope are dropped
//! before anything is counted, compared with a limit or turned into labels.

use std::borrow::Cow;

use model::{Matcher, Pace, TENANT_LABEL};
use roaring::RoaringBitmap;
use tenancy::{ReadScope, TenantId, TenantRead};

use crate::Error;
use crate::block::Block;
use crate::head::Head;

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

impl Place<'_> {
    /// The rows of a tenant that match one of the selectors and that the scope may see.
    pub(crate) fn visible(
        &self,
        scope: &ReadScope,
        tenant: &TenantRead,
        selectors: Selectors<'_>,
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Error> {
        let mut found = RoaringBitmap::new();
        if selectors.is_empty() {
            found = self.select(tenant.id, &[], pace)?;
        }
        for matchers in selectors {
            if let Some(matchers) = of_tenant(scope, tenant, matchers) {
                found |= self.select(tenant.id, &matchers, pace)?;
            }
        }
        if tenant.alternatives.is_empty() || found.is_empty() {
            return Ok(found);
        }
        let mut allowed = RoaringBitmap::new();
        for matchers in tenant.alternatives.iter() {
            allowed |= self.select(tenant.id, matchers, pace)?;
        }
        Ok(found & allowed)
    }

    fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Error> {
        pace.look()?;
        match self {
            Self::Head(head) => Ok(head.select(tenant, matchers, pace)?),
            Self::Block(block) => block.select(tenant, matchers, pace),
        }
    }
}

/// What a selector asks of one tenant's series; `None` if it does not want the tenant.
/// `__tenant_id__` is not stored, so what is said about it is decided here.
fn of_tenant<'m>(
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
