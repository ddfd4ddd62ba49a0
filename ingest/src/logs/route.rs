//! The entries of a trusted writer go to the tenants they belong to: each stream to the workspace
//! that owned its namespace at the time of its entries.

use std::collections::HashMap;

use storage::entries::{EntryRows, StreamRows};
use tenancy::{Closed, Routes, TenantId, Unassigned, WriteScope};

use crate::RoutingConfig;
use crate::intake::Shared;
use crate::intake::route::{Destination, Owner, Place, owner_of, runs};

/// What goes to one tenant.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) scope: Result<WriteScope, Closed>,
    pub(super) tenant: TenantId,
    pub(super) streams: Vec<StreamRows>,
}

/// Deals streams out to shares.
struct Dealer<'r> {
    routes: &'r Routes,
    /// Places of shares.
    places: HashMap<TenantId, usize>,
    shares: Vec<Share>,
    shared: Shared,
}

/// Takes the streams off the rows and shares them out.
pub(super) fn share_out(
    routes: &Routes,
    config: &RoutingConfig,
    rows: &mut EntryRows<'_>,
) -> (Vec<Share>, Shared) {
    let streams = std::mem::take(&mut rows.streams);
    let rows = &*rows;
    let (places, shares, shared) = (HashMap::new(), Vec::new(), Shared::default());
    let mut dealer = Dealer { routes, places, shares, shared };
    // Neighbours are mostly of one namespace.
    let mut known: Option<(Place<'_>, Owner<'_>)> = None;
    for stream in streams {
        let place = Place::of(rows.bytes(&stream.labels), config);
        let same = known.filter(|(before, _)| {
            before.cluster == place.cluster && before.namespace == place.namespace
        });
        let owner = same.map_or_else(|| owner_of(routes, place), |(_, owner)| owner);
        known = Some((place, owner));
        dealer.deal(rows, stream, owner);
    }
    (dealer.shares, dealer.shared)
}

impl Dealer<'_> {
    fn place_of(&mut self, tenant: TenantId) -> usize {
        if let Some(place) = self.places.get(&tenant) {
            return *place;
        }
        let (scope, place) = (self.routes.scope_of(tenant), self.shares.len());
        self.shares.push(Share { scope, tenant, streams: Vec::new() });
        self.places.insert(tenant, place);
        place
    }

    /// The share of a destination; counts entries that go to it.
    fn share(&mut self, to: Destination, entries: u64) -> usize {
        let why = match to {
            Destination::System => {
                self.shared.system += entries;
                return self.place_of(self.routes.system());
            }
            Destination::Workspace(tenant) => {
                let place = self.place_of(tenant);
                if !matches!(self.shares[place].scope, Err(Closed::Deleted)) {
                    self.shared.workspaces += entries;
                    return place;
                }
                Unassigned::TenantDeleted
            }
            Destination::Unassigned(why) => why,
        };
        self.shared.unassigned[why as usize] += entries;
        self.place_of(self.routes.unassigned())
    }

    fn deal(&mut self, rows: &EntryRows<'_>, stream: StreamRows, owner: Owner<'_>) {
        if let Some(to) = owner.always() {
            let place = self.share(to, stream.entries.len() as u64);
            self.shares[place].streams.push(stream);
            return;
        }
        let at = |i: usize| owner.at(rows.entries[i].at_ns.div_euclid(1_000_000));
        for (to, entries) in runs(&stream.entries, at) {
            let place = self.share(to, entries.len() as u64);
            self.shares[place].streams.push(StreamRows { entries, ..stream.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
