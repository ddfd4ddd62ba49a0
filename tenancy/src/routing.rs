//! Which workspace owned a namespace when: where the rows of a trusted writer belong.
//!
//! ```text
//! cluster, namespace ─► periods ─► tenant of the period that the sample's time falls into
//!         │                 └────► none: `unassigned`
//!         └─ no namespace: `system`
//! ```
//!
//! A table never changes; another one takes its place. Tenants are meant by their numbers, so that
//! a workspace that is deleted and made again does not get the rows of the one before.

mod stored;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use stored::{read_stored, write_stored};

use crate::{Authenticator, DirectoryError, NameError, TenantId, TenantName, WriteScope};

/// The tenant of what belongs to no namespace: nodes, volumes, the platform itself.
pub const SYSTEM: &str = "system";

/// The tenant of what belongs to nobody known.
pub const UNASSIGNED: &str = "unassigned";

/// Most entries of a table: 10,000 workspaces of ten namespaces, each changed hands twice. Some 200
/// bytes each.
pub const OWNERSHIPS_MAX: usize = 300_000;

/// Longest name of a cluster or namespace, bytes. Kubernetes allows 63 for namespaces.
const NAME_BYTES_MAX: usize = 253;

/// One entry: a workspace owned a namespace for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ownership {
    /// Value of the label `cluster`; left out or empty: in any cluster without an entry of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Value of the label `namespace`.
    pub namespace: String,
    /// Name of the workspace's tenant; it comes into being if there is none.
    pub tenant: String,
    /// Samples from this instant on, milliseconds since the Unix epoch; left out: all before `to_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<i64>,
    /// Samples before this instant; left out: it owns the namespace still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<i64>,
}

/// The entries as files and requests hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoutingFile {
    /// Who owned what.
    pub namespaces: Vec<Ownership>,
}

/// Why entries are no table.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum RoutingError {
    #[error("there are {0} entries, at most {OWNERSHIPS_MAX} are taken")]
    TooMany(usize),
    #[error(
        "entry {number}: {what} is {text:?}, which is empty or has more than {NAME_BYTES_MAX} bytes"
    )]
    Name { number: usize, what: &'static str, text: String },
    #[error("entry {number}: tenant")]
    Tenant { number: usize, source: NameError },
    #[error("entry {number}: to_ms {to_ms} is not after from_ms {from_ms}")]
    Empty { number: usize, from_ms: i64, to_ms: i64 },
    #[error(
        "namespace {namespace:?} of cluster {cluster:?} belongs to {first} and to {second} at {at_ms} ms: let one end before the other begins"
    )]
    Overlap { cluster: String, namespace: String, first: String, second: String, at_ms: i64 },
    #[error("tenant {tenant} could not be created")]
    Create { tenant: TenantName, source: DirectoryError },
}

/// A time during which a namespace had one owner: `[from_ms, to_ms)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Its first instant.
    pub from_ms: i64,
    /// The instant after its last.
    pub to_ms: i64,
    /// The owner.
    pub tenant: TenantId,
}

/// All entries, ready to be asked.
#[derive(Debug, Default)]
pub struct RoutingTable {
    /// Cluster → namespace → its periods in order. The empty cluster stands for any.
    clusters: HashMap<Box<[u8]>, Namespaces>,
    entries: Vec<Ownership>,
}

/// The periods of each namespace of a cluster, in order.
type Namespaces = HashMap<Box<[u8]>, Box<[Period]>>;

/// Why rows go to `unassigned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unassigned {
    /// The series has no label `cluster`, or one that no entry names.
    UnknownCluster,
    /// No entry names the namespace.
    UnknownNamespace,
    /// Entries name it, for other times.
    NotOwnedThen,
    /// The workspace was deleted.
    TenantDeleted,
}

impl Unassigned {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::UnknownCluster, Self::UnknownNamespace, Self::NotOwnedThen, Self::TenantDeleted];

    /// The label value of the counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCluster => "unknown_cluster",
            Self::UnknownNamespace => "unknown_namespace",
            Self::NotOwnedThen => "not_owned_then",
            Self::TenantDeleted => "tenant_deleted",
        }
    }
}

impl RoutingTable {
    /// Checks entries; `tenant_of` gives the number of a tenant.
    pub(crate) fn new(
        entries: Vec<Ownership>,
        mut tenant_of: impl FnMut(&TenantName) -> Result<TenantId, DirectoryError>,
    ) -> Result<Self, RoutingError> {
        if entries.len() > OWNERSHIPS_MAX {
            return Err(RoutingError::TooMany(entries.len()));
        }
        // All is checked before a tenant comes into being for it.
        let mut names = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            names.push(entry.check(i + 1)?);
        }
        no_overlap(&entries)?;
        let mut building: HashMap<&str, HashMap<&str, Vec<Period>>> = HashMap::new();
        for (entry, name) in entries.iter().zip(names) {
            let tenant =
                tenant_of(&name).map_err(|source| RoutingError::Create { tenant: name, source })?;
            let (from_ms, to_ms) = entry.range();
            let cluster = building.entry(&entry.cluster).or_default();
            let periods = cluster.entry(&entry.namespace).or_default();
            periods.push(Period { from_ms, to_ms, tenant });
        }
        let bytes = |text: &str| Box::<[u8]>::from(text.as_bytes());
        let of_namespace = |(namespace, mut periods): (&str, Vec<Period>)| {
            periods.sort_by_key(|period| period.from_ms);
            (bytes(namespace), periods.into_boxed_slice())
        };
        let of_cluster = |(cluster, namespaces): (&str, HashMap<&str, Vec<Period>>)| {
            (bytes(cluster), namespaces.into_iter().map(of_namespace).collect())
        };
        let clusters = building.into_iter().map(of_cluster).collect();
        Ok(Self { clusters, entries })
    }

    /// What it was made from.
    pub fn entries(&self) -> &[Ownership] {
        &self.entries
    }

    /// When a namespace had which owner, in order of time.
    pub fn periods(&self, cluster: &[u8], namespace: &[u8]) -> Result<&[Period], Unassigned> {
        let (named, any) = (self.clusters.get(cluster), self.clusters.get(&b""[..]));
        for namespaces in [named, any].into_iter().flatten() {
            if let Some(periods) = namespaces.get(namespace) {
                return Ok(periods);
            }
        }
        Err(match named.or(any) {
            Some(_) => Unassigned::UnknownNamespace,
            None => Unassigned::UnknownCluster,
        })
    }
}

impl Ownership {
    fn range(&self) -> (i64, i64) {
        (self.from_ms.unwrap_or(i64::MIN), self.to_ms.unwrap_or(i64::MAX))
    }

    fn check(&self, number: usize) -> Result<TenantName, RoutingError> {
        let wrong = |what, text: &String| {
            let text = text.chars().take(60).collect();
            Err(RoutingError::Name { number, what, text })
        };
        if self.cluster.len() > NAME_BYTES_MAX {
            return wrong("cluster", &self.cluster);
        }
        if self.namespace.is_empty() || self.namespace.len() > NAME_BYTES_MAX {
            return wrong("namespace", &self.namespace);
        }
        let (from_ms, to_ms) = self.range();
        if from_ms >= to_ms {
            return Err(RoutingError::Empty { number, from_ms, to_ms });
        }
        TenantName::new(&self.tenant).map_err(|source| RoutingError::Tenant { number, source })
    }
}

fn no_overlap(entries: &[Ownership]) -> Result<(), RoutingError> {
    let mut sorted: Vec<&Ownership> = entries.iter().collect();
    sorted.sort_by_key(|e| (&e.cluster, &e.namespace, e.range().0));
    for pair in sorted.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let same = first.cluster == second.cluster && first.namespace == second.namespace;
        if same && second.range().0 < first.range().1 {
            return Err(RoutingError::Overlap {
                cluster: first.cluster.clone(),
                namespace: first.namespace.clone(),
                first: first.tenant.clone(),
                second: second.tenant.clone(),
                at_ms: second.range().0,
            });
        }
    }
    Ok(())
}

/// Where the rows of one routed request may go. Held by its [`WriteScope`].
#[derive(Debug, Clone)]
pub struct Routes {
    table: Arc<RoutingTable>,
    authenticator: Arc<Authenticator>,
    system: TenantId,
    unassigned: TenantId,
}

/// Why one destination of a routed request takes no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is suspended.
    Suspended,
    /// It is no more.
    Deleted,
}

impl Routes {
    pub(crate) fn new(
        table: Arc<RoutingTable>,
        authenticator: Arc<Authenticator>,
        [system, unassigned]: [TenantId; 2],
    ) -> Self {
        Self { table, authenticator, system, unassigned }
    }

    /// Who owned which namespace.
    pub fn table(&self) -> &RoutingTable {
        &self.table
    }

    /// The tenant of what belongs to no namespace.
    pub fn system(&self) -> TenantId {
        self.system
    }

    /// The tenant of what belongs to nobody known.
    pub fn unassigned(&self) -> TenantId {
        self.unassigned
    }

    /// A scope to write to one of the destinations.
    pub fn scope_of(&self, tenant: TenantId) -> Result<WriteScope, Closed> {
        match self.authenticator.write_scope_of(tenant) {
            Ok(Some(scope)) => Ok(scope),
            Ok(None) => Err(Closed::Suspended),
            Err(_) => Err(Closed::Deleted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Ownership {
        let mut parts = text.split(' ');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (path, tenant, times) = (next(), next(), next());
        let (cluster, namespace) = path.split_once('/').unwrap_or(("", &path));
        let (from, to) = times.split_once("..").unwrap_or(("", ""));
        Ownership {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            tenant,
            from_ms: from.parse().ok(),
            to_ms: to.parse().ok(),
        }
    }

    fn table(entries: &[&str]) -> Result<RoutingTable, RoutingError> {
        let number = |name: &TenantName| Ok(TenantId(u32::from(name.as_str().as_bytes()[0])));
        RoutingTable::new(entries.iter().copied().map(entry).collect(), number)
    }

    #[track_caller]
    fn check(entries: &[&str], cluster: &str, namespace: &str, expected: Result<&str, Unassigned>) {
        let table = table(entries).expect("a table");
        let periods = table.periods(cluster.as_bytes(), namespace.as_bytes());
        let shown = periods.map(|periods| {
            let one = |p: &Period| {
                let instant = |ms: i64| match ms {
                    i64::MIN | i64::MAX => String::new(),
                    ms => ms.to_string(),
                };
                let tenant = char::from(p.tenant.0 as u8);
                format!("{tenant}:{}..{}", instant(p.from_ms), instant(p.to_ms))
            };
            periods.iter().map(one).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(shown.as_deref().map_err(|why| *why), expected, "{cluster}/{namespace}");
    }

    #[test]
    fn namespaces_have_owners_for_a_time() {
        use Unassigned::{UnknownCluster, UnknownNamespace};
        let one = &["c/shop a 100..", "c/shop b ..100", "c/till a", "pub z", "d/pub y"];
        check(one, "c", "shop", Ok("b:..100 a:100.."));
        check(one, "c", "till", Ok("a:.."));
        check(one, "c", "pub", Ok("z:.."));
        check(one, "d", "pub", Ok("y:.."));
        check(one, "elsewhere", "pub", Ok("z:.."));
        check(one, "c", "other", Err(UnknownNamespace));
        check(one, "elsewhere", "shop", Err(UnknownNamespace));
        check(&["c/shop a"], "elsewhere", "shop", Err(UnknownCluster));
        check(&["c/shop a"], "", "shop", Err(UnknownCluster));
        check(&[], "c", "shop", Err(UnknownCluster));
    }

    #[test]
    fn what_is_no_table_is_refused_by_entry() {
        let long = format!("c/{} a", "n".repeat(254));
        for (entries, text) in [
            (vec!["c/shop a", "c/ b"], "entry 2: namespace is \"\""),
            (vec![long.as_str()], "entry 1: namespace is \"nnn"),
            (vec!["c/shop a/b"], "entry 1: tenant"),
            (vec!["c/shop a 5..5"], "entry 1: to_ms 5 is not after from_ms 5"),
            (
                vec!["c/shop a ..10", "d/shop x", "c/shop b 9.."],
                "namespace \"shop\" of cluster \"c\" belongs to a and to b at 9 ms",
            ),
            (vec!["c/shop a", "c/shop a"], "belongs to a and to a"),
        ] {
            let error = table(&entries).expect_err(text).to_string();
            assert!(error.starts_with(text) || error.contains(text), "{error}");
        }
        assert!(table(&["c/shop a ..10", "c/shop b 10..20", "c/shop a 20.."]).is_ok());
    }
}
