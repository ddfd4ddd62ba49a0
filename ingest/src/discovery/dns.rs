//! DNS discovery: A, AAAA, SRV, MX and NS records of names, asked again and again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{self, RData};
use tracing::warn;

use super::{ADDRESS, Group, Pairs, Provider, Running, Updates};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordType {
    A,
    Aaaa,
    Srv,
    Mx,
    Ns,
}

const TYPES: [(RecordType, &str, rr::RecordType); 5] = [
    (RecordType::A, "A", rr::RecordType::A),
    (RecordType::Aaaa, "AAAA", rr::RecordType::AAAA),
    (RecordType::Srv, "SRV", rr::RecordType::SRV),
    (RecordType::Mx, "MX", rr::RecordType::MX),
    (RecordType::Ns, "NS", rr::RecordType::NS),
];

impl RecordType {
    /// From the word.
    pub(crate) fn of(word: &str) -> Option<Self> {
        TYPES.iter().find(|(_, known, _)| *known == word).map(|(kind, ..)| *kind)
    }

    fn wire(self) -> rr::RecordType {
        let found = TYPES.iter().find(|(kind, ..)| *kind == self);
        found.map_or(rr::RecordType::A, |(_, _, wire)| *wire)
    }
}

/// Who is asked; made anew for each round, so that a changed system configuration counts.
type MakeResolver = Arc<dyn Fn() -> Result<TokioResolver, NetError> + Send + Sync>;

/// Names to ask for.
pub(crate) struct Dns {
    names: Vec<String>,
    refresh: Duration,
    kind: RecordType,
    port: u16,
    resolver: MakeResolver,
}

impl Dns {
    pub(crate) fn new(names: Vec<String>, refresh: Duration, kind: RecordType, port: u16) -> Self {
        let resolver = Arc::new(|| TokioResolver::builder_tokio()?.build());
        Self { names, refresh, kind, port, resolver }
    }

    /// The same, asking somebody else than the system does.
    #[cfg(test)]
    pub(super) fn asking(self, resolver: MakeResolver) -> Self {
        Self { resolver, ..self }
    }

    /// The targets behind one name; none if there is no such name.
    async fn ask(&self, resolver: &TokioResolver, name: &str) -> Result<Group, NetError> {
        let records = match resolver.lookup(name, self.kind.wire()).await {
            Ok(lookup) => lookup.answers().iter().map(|r| r.data.clone()).collect(),
            Err(error) if error.is_no_records_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        let targets = records.iter().filter_map(|record| target(record, name, self.port)).collect();
        Ok(Group { source: name.to_owned(), targets, labels: Vec::new() })
    }
}

impl Provider for Dns {
    fn run(self: Arc<Self>, updates: Updates) -> Running {
        Box::pin(async move {
            loop {
                match (self.resolver)() {
                    Ok(resolver) => {
                        for name in &self.names {
                            match self.ask(&resolver, name).await {
                                Ok(group) => {
                                    if updates.send(vec![group]).await.is_err() {
                                        return;
                                    }
                                }
                                Err(error) => {
                                    let error = &error as &dyn std::error::Error;
                                    warn!(name, error, "ask for records of targets");
                                }
                            }
                        }
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        warn!(error, "read the system's configuration of name servers");
                    }
                }
                tokio::time::sleep(self.refresh).await;
                if updates.is_closed() {
                    return;
                }
            }
        })
    }
}

/// The labels of one record's target; `None` for records of other types.
fn target(record: &RData, name: &str, port: u16) -> Option<Pairs> {
    let bare = |name: &rr::Name| name.to_utf8().trim_end_matches('.').to_owned();
    let (address, more): (String, Vec<(&str, String)>) = match record {
        RData::A(a) => (joined(&IpAddr::V4(a.0).to_string(), port), vec![]),
        RData::AAAA(aaaa) => (joined(&IpAddr::V6(aaaa.0).to_string(), port), vec![]),
        RData::SRV(srv) => (
            joined(&bare(&srv.target), srv.port),
            vec![
                ("__meta_dns_srv_record_target", srv.target.to_utf8()),
                ("__meta_dns_srv_record_port", srv.port.to_string()),
            ],
        ),
        RData::MX(mx) => (
            joined(&bare(&mx.exchange), port),
            vec![("__meta_dns_mx_record_target", mx.exchange.to_utf8())],
        ),
        RData::NS(ns) => {
            (joined(&bare(&ns.0), port), vec![("__meta_dns_ns_record_target", ns.0.to_utf8())])
        }
        _ => return None,
    };
    let mut labels =
        vec![(ADDRESS.to_owned(), address), ("__meta_dns_name".to_owned(), name.to_owned())];
    labels.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Some(labels)
}

/// Host and port; an IPv6 address goes between brackets.
fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
