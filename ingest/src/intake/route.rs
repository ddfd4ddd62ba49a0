//! The rows of a trusted writer go to the tenants they belong to: each series to the workspace that
//! owned its namespace at the time of its samples.
//!
//! Limits, pairs of senders and refusals are those of each destination. One that takes nothing, or
//! has used up its rate, costs the others nothing: its rows are refused and told, theirs are stored.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::{AppendOutcome, Appended, MetricRows, Reason, SeriesRows};
use tenancy::{Closed, Period, Routes, TenantId, Unassigned, WriteScope};

use super::{Intake, Origin, Refusal};
use crate::ha::Dropped;
use crate::wire::Reader;

/// Which labels say where a series belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoutingConfig {
    /// The label that names the cluster.
    pub cluster_label: String,
    /// The label that names the namespace.
    pub namespace_label: String,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self { cluster_label: "cluster".to_owned(), namespace_label: "namespace".to_owned() }
    }
}

/// What goes to one tenant.
#[derive(Debug)]
struct Share {
    scope: Result<WriteScope, Closed>,
    tenant: TenantId,
    series: Vec<SeriesRows>,
    /// Families of its series that the request has metadata of, by their place.
    families: Vec<u32>,
}

/// What went where, in rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) workspaces: u64,
    pub(crate) system: u64,
    /// In the order of [`Unassigned::ALL`].
    pub(crate) unassigned: [u64; Unassigned::ALL.len()],
}

/// Deals series out to shares.
struct Dealer<'r, 'm> {
    routes: &'r Routes,
    /// Places of shares.
    places: HashMap<TenantId, usize>,
    shares: Vec<Share>,
    shared: Shared,
    /// Places of the families the request has metadata of.
    families: HashMap<&'m str, u32>,
}

/// What the labels of a series say.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place<'w> {
    pub(crate) cluster: &'w [u8],
    pub(crate) namespace: &'w [u8],
    name: &'w [u8],
}

impl<'w> Place<'w> {
    /// Ends at what is malformed; that is refused where it is stored.
    pub(crate) fn of(wire: &'w [u8], config: &RoutingConfig) -> Self {
        let mut place = Self::default();
        let mut reader = Reader::new(wire);
        while !reader.is_at_end() && reader.varint() == Ok(0x0a) {
            let Ok(mut label) = reader.message() else { break };
            let (mut name, mut value) = (&b""[..], &b""[..]);
            while !label.is_at_end() {
                let read = match label.varint() {
                    Ok(0x0a) => label.slice().map(|text| name = text),
                    Ok(0x12) => label.slice().map(|text| value = text),
                    Ok(tag) => label.skip(tag, &[1, 2]),
                    Err(error) => Err(error),
                };
                if read.is_err() {
                    return place;
                }
            }
            if name == config.namespace_label.as_bytes() {
                place.namespace = value;
            } else if name == config.cluster_label.as_bytes() {
                place.cluster = value;
            } else if name == model::METRIC_NAME.as_bytes() {
                place.name = value;
            }
        }
        place
    }
}

/// Who owns a series.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'t> {
    System,
    Nobody(Unassigned),
    /// In order of time.
    Workspaces(&'t [Period]),
}

/// To whom rows of one time go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    System,
    Unassigned(Unassigned),
    Workspace(TenantId),
}

impl Owner<'_> {
    pub(crate) fn at(self, time_ms: i64) -> Destination {
        match self {
            Self::System => Destination::System,
            Self::Nobody(why) => Destination::Unassigned(why),
            Self::Workspaces(periods) => {
                let after = periods.partition_point(|period| period.from_ms <= time_ms);
                let then = after.checked_sub(1).map(|i| periods[i]).filter(|p| time_ms < p.to_ms);
                then.map_or(Destination::Unassigned(Unassigned::NotOwnedThen), |period| {
                    Destination::Workspace(period.tenant)
                })
            }
        }
    }

    /// The destination of all times, if there is but one.
    pub(crate) fn always(self) -> Option<Destination> {
        match self {
            Self::Workspaces([Period { from_ms: i64::MIN, to_ms: i64::MAX, tenant }]) => {
                Some(Destination::Workspace(*tenant))
            }
            Self::Workspaces(_) => None,
            other => Some(other.at(0)),
        }
    }
}

impl Dealer<'_, '_> {
    fn place_of(&mut self, tenant: TenantId) -> usize {
        if let Some(place) = self.places.get(&tenant) {
            return *place;
        }
        let scope = self.routes.scope_of(tenant);
        let place = self.shares.len();
        self.shares.push(Share { scope, tenant, series: Vec::new(), families: Vec::new() });
        self.places.insert(tenant, place);
        place
    }

    /// The share of a destination; counts rows that go to it.
    fn share(&mut self, to: Destination, rows: u64) -> usize {
        let why = match to {
            Destination::System => {
                self.shared.system += rows;
                return self.place_of(self.routes.system());
            }
            Destination::Workspace(tenant) => {
                let place = self.place_of(tenant);
                if !matches!(self.shares[place].scope, Err(Closed::Deleted)) {
                    self.shared.workspaces += rows;
                    return place;
                }
                Unassigned::TenantDeleted
            }
            Destination::Unassigned(why) => why,
        };
        self.shared.unassigned[why as usize] += rows;
        self.place_of(self.routes.unassigned())
    }

    fn deal(&mut self, rows: &MetricRows<'_>, series: SeriesRows, owner: Owner<'_>, name: &[u8]) {
        let family = self.family_of(name);
        let give = |dealer: &mut Self, to, series: SeriesRows| {
            let place = dealer.share(to, rows_of(&series));
            let share = &mut dealer.shares[place];
            if let Some(family) = family
                && share.families.last() != Some(&family)
            {
                share.families.push(family);
            }
            share.series.push(series);
        };
        if let Some(to) = owner.always() {
            return give(self, to, series);
        }
        let times = (
            runs(&series.samples, |i| owner.at(rows.samples[i].timestamp_ms)),
            runs(&series.histograms, |i| owner.at(rows.histograms[i].0)),
            runs(&series.exemplars, |i| owner.at(rows.exemplars[i].timestamp_ms)),
        );
        let labels = series.labels.clone();
        let mut all = times.0.iter().chain(&times.1).chain(&times.2).map(|(to, _)| *to);
        let first = all.next();
        if let Some(to) = first.filter(|to| all.all(|other| other == *to)) {
            return give(self, to, series);
        }
        let part = || SeriesRows { labels: labels.clone(), ..SeriesRows::default() };
        for (to, samples) in times.0 {
            give(self, to, SeriesRows { samples, ..part() });
        }
        for (to, histograms) in times.1 {
            give(self, to, SeriesRows { histograms, ..part() });
        }
        for (to, exemplars) in times.2 {
            give(self, to, SeriesRows { exemplars, ..part() });
        }
    }

    /// The family of a series that the request has metadata of.
    fn family_of(&self, name: &[u8]) -> Option<u32> {
        if self.families.is_empty() {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        let whole = self.families.get(name);
        let parts = ["_bucket", "_count", "_sum", "_total", "_gcount", "_gsum", "_info"];
        let of_part = || parts.iter().find_map(|part| self.families.get(name.strip_suffix(part)?));
        whole.or_else(of_part).copied()
    }
}

fn rows_of(series: &SeriesRows) -> u64 {
    (series.samples.len() + series.histograms.len() + series.exemplars.len()) as u64
}

/// Neighbours that go to the same destination.
pub(crate) fn runs(
    places: &Range<u32>,
    destination: impl Fn(usize) -> Destination,
) -> Vec<(Destination, Range<u32>)> {
    let mut runs: Vec<(Destination, Range<u32>)> = Vec::new();
    for i in places.clone() {
        let to = destination(i as usize);
        match runs.last_mut() {
            Some((same, run)) if *same == to => run.end = i + 1,
            _ => runs.push((to, i..i + 1)),
        }
    }
    runs
}

/// Takes the series off the rows and shares them out.
fn share_out(
    routes: &Routes,
    config: &RoutingConfig,
    rows: &mut MetricRows<'_>,
    metadata: &[(String, model::Metadata)],
) -> (Vec<Share>, Shared) {
    let families = metadata.iter().zip(0..).map(|((family, _), place)| (family.as_str(), place));
    let mut dealer = Dealer {
        routes,
        places: HashMap::new(),
        shares: Vec::new(),
        shared: Shared::default(),
        families: families.collect(),
    };
    let all = std::mem::take(&mut rows.series);
    let rows = &*rows;
    // Neighbours are mostly of one namespace.
    let mut known: Option<(Place<'_>, Owner<'_>)> = None;
    for series in &all {
        let place = Place::of(rows.labels_of(series), config);
        let same = known.filter(|(before, _)| {
            before.cluster == place.cluster && before.namespace == place.namespace
        });
        let owner = same.map_or_else(|| owner_of(routes, place), |(_, owner)| owner);
        known = Some((place, owner));
        dealer.deal(rows, series.clone(), owner, place.name);
    }
    // Metadata that came alone: nobody knows whose it is.
    if all.is_empty() && !metadata.is_empty() {
        let place = dealer.place_of(routes.system());
        dealer.shares[place].families = (0..metadata.len() as u32).collect();
    }
    (dealer.shares, dealer.shared)
}

pub(crate) fn owner_of<'t>(routes: &'t Routes, place: Place<'_>) -> Owner<'t> {
    if place.namespace.is_empty() {
        return Owner::System;
    }
    match routes.table().periods(place.cluster, place.namespace) {
        Ok(periods) => Owner::Workspaces(periods),
        Err(why) => Owner::Nobody(why),
    }
}

/// What all destinations together did.
#[derive(Default)]
struct Together {
    appended: Option<Appended>,
    dropped: Dropped,
    outcome: AppendOutcome,
}

impl Together {
    fn add(&mut self, (appended, dropped): (Appended, Dropped)) {
        let of = appended.outcome.clone();
        self.outcome.samples += of.samples;
        self.outcome.histograms += of.histograms;
        self.outcome.exemplars += of.exemplars;
        self.outcome.series_created += of.series_created;
        for rejected in of.rejected {
            self.outcome.reject(rejected.reason, rejected.count, || rejected.example);
        }
        self.dropped.samples += dropped.samples;
        self.dropped.histograms += dropped.histograms;
        self.dropped.exemplars += dropped.exemplars;
        // Positions are those of one log: what lies before the last is durable with it.
        let before = self.appended.as_ref().and_then(|a| a.position);
        let position = before.max(appended.position);
        self.appended = Some(Appended { position, ..appended });
    }
}

impl Intake {
    /// Admits and appends rows, each part under the limits of the tenant it belongs to.
    pub(super) fn append_routed(
        &self,
        routes: &Routes,
        from: Origin,
        refused: AppendOutcome,
        rows: &mut MetricRows<'_>,
    ) -> Result<(Appended, Dropped), Refusal> {
        let config = Arc::clone(&self.routing.read());
        let metadata = std::mem::take(&mut rows.metadata);
        let (shares, shared) = share_out(routes, &config, rows, &metadata);
        self.metrics.routed(&shared);
        self.admission.rejected(routes.system(), &refused);
        let mut together = Together { outcome: refused, ..Together::default() };
        for share in shares {
            if share.series.is_empty() && share.families.is_empty() {
                // Of a tenant that is no more: its rows went to `unassigned`.
                continue;
            }
            rows.series = share.series;
            let count: u64 = rows.series.iter().map(rows_of).sum();
            let (text, reason) = match share.scope {
                Ok(scope) => {
                    rows.metadata = self.news_of(&scope, &share.families, &metadata);
                    match self.append_to(&scope, from, AppendOutcome::default(), rows) {
                        Ok(done) => {
                            self.admission.rejected(share.tenant, &done.0.outcome);
                            together.add(done);
                            continue;
                        }
                        Err(Refusal::Rate(why)) => {
                            self.families.forget(scope.tenant());
                            let never = why.is_too_large();
                            let reason =
                                if never { Reason::TenantLimit } else { Reason::SamplesRate };
                            (why.to_string(), reason)
                        }
                        Err(other) => {
                            self.families.forget(scope.tenant());
                            return Err(other);
                        }
                    }
                }
                Err(_) => {
                    (format!("tenant {} is suspended", share.tenant), Reason::TenantSuspended)
                }
            };
            let mut one = AppendOutcome::default();
            one.reject(reason, count, || text);
            self.admission.rejected(share.tenant, &one);
            together.add((Appended { outcome: one, position: None }, Dropped::default()));
        }
        let position = together.appended.and_then(|appended| appended.position);
        Ok((Appended { outcome: together.outcome, position }, together.dropped))
    }

    fn news_of(
        &self,
        scope: &WriteScope,
        families: &[u32],
        metadata: &[(String, model::Metadata)],
    ) -> Vec<(String, model::Metadata)> {
        let told = families.iter().filter_map(|place| metadata.get(*place as usize));
        let news = told.filter(|(family, is)| {
            let is = (is.kind, is.help.as_str(), is.unit.as_str());
            self.families.is_news(scope.tenant(), family, is)
        });
        news.cloned().collect()
    }
}

/// After a routed write that stored something: limits that one tenant has reached must not make the
/// sender repeat the rows of all others, over and over, until that tenant may write again.
pub(super) fn keep_going(outcome: &mut AppendOutcome) {
    if outcome.samples + outcome.histograms + outcome.exemplars == 0 {
        return;
    }
    for rejected in std::mem::take(&mut outcome.rejected) {
        let reason = if rejected.reason.is_rate() { Reason::TenantLimit } else { rejected.reason };
        outcome.reject(reason, rejected.count, || rejected.example);
    }
}

#[cfg(test)]
mod tests;
