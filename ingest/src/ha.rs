//! Pairs of senders: two Prometheus that scrape the same targets write the same samples, told apart
//! by a replica label. One of a cluster's replicas is elected, its rows are stored without that
//! label, those of the others are answered as if they were. When the elected one falls silent for
//! a while, the next to write takes its place.
//!
//! As in Mimir, with one difference: each series is looked at, so a request may carry several
//! clusters. A request whose first series has no replica label is not looked at further.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use storage::{AppendOutcome, MetricRows, Reason, SeriesRows};
use tenancy::TenantId;

use crate::build::put_label;
use crate::wire::Reader;

/// How replicas are told apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HaConfig {
    /// Whether replicas are elected. Else their label is one like any other.
    pub enabled: bool,
    /// The label that names the pair.
    pub cluster_label: String,
    /// The label that tells the replicas of a pair apart; it is not stored.
    pub replica_label: String,
    /// Seconds of silence after which another replica is elected.
    pub failover_seconds: u64,
    /// Pairs of one tenant.
    pub clusters_max: usize,
}

impl Default for HaConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            cluster_label: "cluster".to_owned(),
            replica_label: "__replica__".to_owned(),
            failover_seconds: 30,
            clusters_max: 100,
        }
    }
}

/// Pairs that were silent for so many times the failover are forgotten where room is needed.
const FORGOTTEN_AFTER: u32 = 20;

/// Longest name of a cluster or replica that is kept, bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// Which replica counts, for each pair of each tenant.
#[derive(Debug)]
pub(crate) struct Elections {
    config: RwLock<Arc<HaConfig>>,
    tenants: Mutex<HashMap<TenantId, HashMap<String, Elected>>>,
}

#[derive(Debug)]
struct Elected {
    replica: String,
    /// Monotonic time of its last rows.
    heard: Duration,
}

/// What becomes of the rows of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Stored,
    /// The elected replica writes the same.
    Dropped,
    /// There are too many pairs.
    Refused,
}

/// Rows that another replica writes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Dropped {
    pub(crate) samples: u64,
    pub(crate) histograms: u64,
    pub(crate) exemplars: u64,
}

impl Elections {
    pub(crate) fn new(config: HaConfig) -> Self {
        Self { config: RwLock::new(Arc::new(config)), tenants: Mutex::default() }
    }

    /// Goes on under other settings; who is elected stays so.
    pub(crate) fn reconfigure(&self, config: HaConfig) {
        *self.config.write() = Arc::new(config);
    }

    fn decide(
        &self,
        config: &HaConfig,
        tenant: TenantId,
        (cluster, replica): (&str, &str),
        now: Duration,
    ) -> Decision {
        let failover = Duration::from_secs(config.failover_seconds);
        let mut tenants = self.tenants.lock();
        let clusters = tenants.entry(tenant).or_default();
        if let Some(elected) = clusters.get_mut(cluster) {
            if elected.replica != replica {
                if now.saturating_sub(elected.heard) <= failover {
                    return Decision::Dropped;
                }
                tracing::info!(
                    cluster,
                    from = elected.replica,
                    to = replica,
                    "elected another replica"
                );
                replica.clone_into(&mut elected.replica);
            }
            elected.heard = now;
            return Decision::Stored;
        }
        if clusters.len() >= config.clusters_max {
            clusters.retain(|_, e| now.saturating_sub(e.heard) < failover * FORGOTTEN_AFTER);
            if clusters.len() >= config.clusters_max {
                return Decision::Refused;
            }
        }
        clusters.insert(cluster.to_owned(), Elected { replica: replica.to_owned(), heard: now });
        Decision::Stored
    }

    /// Takes the replica label off the rows that are to be stored, and the others away.
    pub(crate) fn apply(
        &self,
        tenant: TenantId,
        rows: &mut MetricRows<'_>,
        now: Duration,
        refused: &mut AppendOutcome,
    ) -> Dropped {
        let config = Arc::clone(&self.config.read());
        let mut dropped = Dropped::default();
        let has_replica = |rows: &MetricRows<'_>, series: &SeriesRows| {
            find(rows.labels_of(series), &config.replica_label).is_some()
        };
        if !config.enabled || !rows.series.first().is_some_and(|first| has_replica(rows, first)) {
            return dropped;
        }
        let mut known: Option<(String, String, Decision)> = None;
        let (mut kept, mut wire) = (Vec::with_capacity(rows.series.len()), Vec::new());
        for mut series in std::mem::take(&mut rows.series) {
            let labels = rows.labels_of(&series);
            let pair = (find(labels, &config.cluster_label), find(labels, &config.replica_label));
            let (Some(cluster), Some(replica)) = pair else {
                // Half a pair is none: the label is one like any other.
                kept.push(series);
                continue;
            };
            let same = known.as_ref().filter(|(c, r, _)| c == cluster && r == replica);
            let decision = match same {
                Some((_, _, decision)) => *decision,
                None if cluster.len().max(replica.len()) > NAME_BYTES_MAX => Decision::Refused,
                None => {
                    let decision = self.decide(&config, tenant, (cluster, replica), now);
                    known = Some((cluster.to_owned(), replica.to_owned(), decision));
                    decision
                }
            };
            if decision == Decision::Stored {
                wire.clear();
                without(labels, &config.replica_label, &mut wire);
                series.labels = spilled(rows, &wire);
                kept.push(series);
                continue;
            }
            let counts = [series.samples.len(), series.histograms.len(), series.exemplars.len()];
            let [samples, histograms, exemplars] = counts.map(|count| count as u64);
            if decision == Decision::Refused {
                refused.reject(Reason::ActiveSeriesLimit, samples + histograms + exemplars, || {
                    format!(
                        "replicas of a new pair write and the limit of {} pairs is reached (ha.clusters_max)",
                        config.clusters_max
                    )
                });
            } else {
                dropped.samples += samples;
                dropped.histograms += histograms;
                dropped.exemplars += exemplars;
            }
        }
        rows.series = kept;
        dropped
    }
}

/// Adds a label to all series that do not have it.
pub(crate) fn add_label(rows: &mut MetricRows<'_>, name: &str, value: &str) {
    let mut wire = Vec::new();
    for i in 0..rows.series.len() {
        let labels = rows.labels_of(&rows.series[i]);
        if find(labels, name).is_none() {
            wire.clear();
            with(labels, name, value, &mut wire);
            rows.series[i].labels = spilled(rows, &wire);
        }
    }
}

fn spilled(rows: &mut MetricRows<'_>, wire: &[u8]) -> std::ops::Range<u32> {
    let start = (rows.body.len() + rows.spill.len()) as u32;
    rows.spill.extend_from_slice(wire);
    start..start + wire.len() as u32
}

/// The label fields of a series: each with its bytes, name and value. Ends at what is malformed;
/// that is refused where it is stored.
pub(crate) fn fields(wire: &[u8]) -> impl Iterator<Item = (&[u8], &str, &str)> {
    let mut reader = Reader::new(wire);
    std::iter::from_fn(move || {
        let start = reader.at();
        if reader.is_at_end() || reader.varint().ok()? != 0x0a {
            return None;
        }
        let mut label = reader.message().ok()?;
        let (mut name, mut value) = ("", "");
        while !label.is_at_end() {
            match label.varint().ok()? {
                0x0a => name = std::str::from_utf8(label.slice().ok()?).ok()?,
                0x12 => value = std::str::from_utf8(label.slice().ok()?).ok()?,
                tag => label.skip(tag, &[1, 2]).ok()?,
            }
        }
        Some((&wire[start..reader.at()], name, value))
    })
}

fn find<'w>(wire: &'w [u8], name: &str) -> Option<&'w str> {
    let found = fields(wire).find(|(_, known, _)| *known == name);
    found.map(|(_, _, value)| value).filter(|value| !value.is_empty())
}

fn without(wire: &[u8], name: &str, out: &mut Vec<u8>) {
    let mut rest = wire;
    for (field, known, _) in fields(wire) {
        if known != name {
            out.extend_from_slice(field);
        }
        rest = &rest[field.len()..];
    }
    // What could not be read is left to be refused.
    out.extend_from_slice(rest);
}

/// The label goes where a sorted sender would have put it.
fn with(wire: &[u8], name: &str, value: &str, out: &mut Vec<u8>) {
    let mut rest = wire;
    let mut is_there = false;
    for (field, known, told) in fields(wire) {
        if !is_there && known > name {
            put_label(out, name, [value, ""]);
            is_there = true;
        }
        // An empty one of this name is none.
        if known != name || !told.is_empty() {
            out.extend_from_slice(field);
        }
        rest = &rest[field.len()..];
    }
    if !is_there {
        put_label(out, name, [value, ""]);
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use model::Labels;
    use testkit::remote_write::{Series, body};

    use super::*;
    use crate::Caps;

    /// Rows of series with these labels, one sample each.
    fn rows(series: &[&[(&str, &str)]]) -> MetricRows<'static> {
        let series: Vec<Series> = series
            .iter()
            .map(|pairs| Series::new(&Labels::from_pairs(pairs.iter().copied()), &[(1, 1.0)]))
            .collect();
        let body = Vec::leak(body(&series, &[]));
        let mut rows = MetricRows::default();
        crate::remote_write::walk(body, &tenancy::Limits::default(), &Caps::default(), &mut rows)
            .expect("valid");
        rows
    }

    fn shown(rows: &MetricRows<'_>) -> Vec<String> {
        let one = |series: &SeriesRows| {
            let wire = rows.labels_of(series);
            let labels = Labels::from_wire(wire).expect("labels");
            let mut canonical = Vec::new();
            labels.encode(&mut canonical);
            assert_eq!(wire, canonical, "still in canonical encoding");
            labels.to_string()
        };
        rows.series.iter().map(one).collect()
    }

    /// A request of one series of a replica at a second: whether it is stored.
    #[track_caller]
    fn check(
        elections: &Elections,
        (tenant, cluster, replica): (u32, &str, &str),
        second: u64,
        stored: bool,
    ) {
        let labels: &[(&str, &str)] =
            &[("__name__", "up"), ("__replica__", replica), ("cluster", cluster)];
        let (mut rows, mut refused) = (rows(&[labels]), AppendOutcome::default());
        let dropped =
            elections.apply(TenantId(tenant), &mut rows, Duration::from_secs(second), &mut refused);
        assert_eq!(refused, AppendOutcome::default());
        let expected = if stored {
            vec![format!("{{__name__=\"up\", cluster=\"{cluster}\"}}")]
        } else {
            vec![]
        };
        assert_eq!((shown(&rows), dropped.samples), (expected, u64::from(!stored)));
    }

    #[test]
    fn one_replica_is_elected_until_it_falls_silent() {
        let elections = Elections::new(HaConfig::default());
        check(&elections, (1, "c", "a"), 0, true);
        check(&elections, (1, "c", "b"), 1, false);
        check(&elections, (1, "c", "a"), 15, true);
        check(&elections, (1, "c", "b"), 45, false);
        check(&elections, (1, "c", "b"), 46, true);
        check(&elections, (1, "c", "a"), 47, false);
        check(&elections, (1, "d", "a"), 47, true);
        check(&elections, (2, "c", "a"), 47, true);
    }

    #[test]
    fn series_are_looked_at_one_by_one() {
        let elections = Elections::new(HaConfig { clusters_max: 2, ..HaConfig::default() });
        let mut refused = AppendOutcome::default();
        let now = Duration::ZERO;
        let apply = |rows: &mut MetricRows<'_>, refused: &mut AppendOutcome| {
            elections.apply(TenantId(1), rows, now, refused)
        };
        let mut first = rows(&[
            &[("__name__", "a"), ("__replica__", "1"), ("cluster", "x")],
            &[("__name__", "b"), ("cluster", "x")],
            &[("__name__", "c"), ("__replica__", "1")],
            &[("__name__", "d"), ("__replica__", "2"), ("cluster", "x")],
            &[("__name__", "e"), ("__replica__", "2"), ("cluster", "y")],
            &[("__name__", "f"), ("__replica__", "2"), ("cluster", "z")],
        ]);
        let dropped = apply(&mut first, &mut refused);
        assert_eq!(dropped.samples, 1);
        assert_eq!(
            shown(&first),
            [
                r#"{__name__="a", cluster="x"}"#,
                r#"{__name__="b", cluster="x"}"#,
                r#"{__name__="c", __replica__="1"}"#,
                r#"{__name__="e", cluster="y"}"#,
            ]
        );
        assert_eq!((refused.rejected.len(), refused.rejected[0].count), (1, 1));
        let mut plain = rows(&[
            &[("__name__", "b")],
            &[("__name__", "a"), ("__replica__", "1"), ("cluster", "x")],
        ]);
        apply(&mut plain, &mut refused);
        assert_eq!(shown(&plain).len(), 2);
        assert!(shown(&plain)[1].contains("__replica__"), "not looked at");
        let off = Elections::new(HaConfig { enabled: false, ..HaConfig::default() });
        let mut same = rows(&[&[("__name__", "a"), ("__replica__", "1"), ("cluster", "x")]]);
        off.apply(TenantId(1), &mut same, now, &mut refused);
        assert_eq!(shown(&same), [r#"{__name__="a", __replica__="1", cluster="x"}"#]);
    }

    #[test]
    fn silent_pairs_make_room() {
        let elections = Elections::new(HaConfig { clusters_max: 1, ..HaConfig::default() });
        check(&elections, (1, "c", "a"), 0, true);
        check(&elections, (1, "d", "a"), 600, true);
    }

    #[test]
    fn a_label_is_added_where_it_is_missing() {
        let mut all = rows(&[
            &[("__name__", "a"), ("z", "1")],
            &[("__name__", "a"), ("cluster", "own")],
            &[("A", "1")],
        ]);
        add_label(&mut all, "cluster", "here");
        assert_eq!(
            shown(&all),
            [
                r#"{__name__="a", cluster="here", z="1"}"#,
                r#"{__name__="a", cluster="own"}"#,
                r#"{A="1", cluster="here"}"#,
            ]
        );
    }
}
