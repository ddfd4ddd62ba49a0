//! Which streams a question is about and may see.

use model::{Matcher, Pace, Signal};
use tenancy::{ReadScope, TenantId, TenantRead};

use super::streams::Stream;
use crate::Error;
use crate::place::of_tenant;

/// What is asked of streams, worked out for each tenant of a scope.
pub(crate) struct StreamMatcher<'a> {
    signals: &'a [Signal],
    tenants: Vec<(&'a TenantRead, Vec<Vec<Matcher>>)>,
}

impl<'a> StreamMatcher<'a> {
    /// Streams of these signals that match one of the selectors, all of them without selectors.
    pub(crate) fn new(
        scope: &'a ReadScope,
        signals: &'a [Signal],
        selectors: &[Vec<Matcher>],
    ) -> Self {
        let of = |tenant: &'a TenantRead| {
            let wanted = selectors.iter().filter_map(|s| of_tenant(scope, tenant, s));
            let wanted: Vec<Vec<Matcher>> = wanted.map(|s| s.into_owned()).collect();
            let is_asked = selectors.is_empty() || !wanted.is_empty();
            is_asked.then_some((tenant, wanted))
        };
        Self { signals, tenants: scope.tenants().iter().filter_map(of).collect() }
    }

    /// The tenant of a stream, if the question is about it and may see it.
    pub(crate) fn tenant_of(
        &self,
        stream: &Stream,
        pace: &mut Pace,
    ) -> Result<Option<&'a TenantRead>, Error> {
        if !self.signals.contains(&stream.signal) {
            return Ok(None);
        }
        let Some((tenant, selectors)) = self.of(stream.tenant) else { return Ok(None) };
        let is_picked = selectors.is_empty() || any_holds(selectors, stream, pace)?;
        let alternatives = &tenant.alternatives;
        let may = is_picked && (alternatives.is_empty() || any_holds(alternatives, stream, pace)?);
        Ok(may.then_some(*tenant))
    }

    fn of(&self, tenant: TenantId) -> Option<&(&'a TenantRead, Vec<Vec<Matcher>>)> {
        let at = self.tenants.binary_search_by_key(&tenant, |(read, _)| read.id).ok()?;
        self.tenants.get(at)
    }
}

/// Whether all matchers of one list hold.
fn any_holds(lists: &[Vec<Matcher>], stream: &Stream, pace: &mut Pace) -> Result<bool, Error> {
    'lists: for matchers in lists {
        for matcher in matchers {
            let value = stream.labels.get(matcher.name()).unwrap_or("");
            if !matcher.matches_at(value, pace)? {
                continue 'lists;
            }
        }
        return Ok(true);
    }
    Ok(false)
}
