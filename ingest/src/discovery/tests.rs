//! What providers tell: of files in `scrape::tests`, of HTTP and DNS here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::dns::{Dns, RecordType};
use super::http::Http;
use super::{Group, Provider, Updates, whole};
use crate::http_client::{Clients, HttpConfig};
use crate::testing::server::{Answer, Server};

/// The first updates that a provider tells, each as text: labels of its targets.
async fn told(provider: Arc<dyn Provider>, updates: usize) -> Vec<String> {
    let (sender, mut receiver) = mpsc::channel(8);
    let running = tokio::spawn(provider.run(Updates { provider: 0, sender }));
    let mut lines = Vec::new();
    for _ in 0..updates {
        let next = tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await;
        let (_, update) = next.expect("told in time").expect("a provider goes on");
        lines.push(update.iter().map(shown).collect::<Vec<_>>().join(" | "));
    }
    running.abort();
    lines
}

fn shown(group: &Group) -> String {
    let pairs = |pairs: &[(String, String)]| {
        pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(",")
    };
    let targets = group.targets.iter().map(|target| pairs(target)).collect::<Vec<_>>().join(" ");
    format!("[{targets}] {}", pairs(&group.labels)).trim().to_owned()
}

#[tokio::test]
async fn http_discovery_asks_again_and_keeps_what_it_had() {
    let server = Server::start(|n| match n {
        0 => Answer::json(r#"[{"targets":["a:1","b:2"],"labels":{"x":"1"}},{"targets":["c:3"]}]"#),
        1 => Answer { status: "500 Internal Server Error", ..Answer::json("[]") },
        2 => Answer::text("[]"),
        3 => Answer::json("{}"),
        _ => Answer::json(r#"[{"targets":["a:1"]}]"#),
    })
    .await;
    let url = format!("http://{}/sd", server.address);
    let client = Clients::default().client(HttpConfig::default()).expect("a client");
    let provider = Arc::new(Http::new(url.clone(), Duration::from_millis(50), client));
    let meta = format!("__meta_url={url}");
    assert_eq!(
        told(provider, 2).await,
        [
            format!("[__address__=a:1 __address__=b:2] x=1,{meta} | [__address__=c:3] {meta}"),
            format!("[] | [__address__=a:1] {meta}"),
        ]
    );
    let request = server.requests().remove(0);
    assert!(request.contains("accept: application/json"), "{request}");
    assert!(request.contains("x-prometheus-refresh-interval-seconds: 0.05"), "{request}");
}

/// A name server that knows some names; all others do not exist.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let answer = answer_of(&buffer[..length]);
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

/// RFC 1035, by hand: the question again, and what is known about it.
fn answer_of(question: &[u8]) -> Vec<u8> {
    let (mut at, mut name) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        name.push(String::from_utf8_lossy(&question[at + 1..at + 1 + length]).into_owned());
        at += length + 1;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let target = b"\x01n\x04test\x00".to_vec();
    let data: Option<Vec<u8>> = match (name.join(".").as_str(), kind) {
        ("one.test", 1) => Some(vec![10, 0, 0, 1]),
        ("one.test", 28) => Some([[0; 15].as_slice(), &[1]].concat()),
        ("_m._tcp.test", 33) => Some([&[0, 1, 0, 2, 0x23, 0x8c], &target[..]].concat()),
        ("one.test", 15) => Some([&[0, 10], &target[..]].concat()),
        ("one.test", 2) => Some(target),
        _ => None,
    };
    let code = if data.is_some() { 0 } else { 3 };
    let mut answer = question[..2].to_vec();
    answer.extend([0x84, 0x80 | code, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    answer.extend_from_slice(&question[12..at + 5]);
    if let Some(data) = data {
        answer.extend([0xc0, 12]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 5]);
        answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    answer
}

#[tokio::test]
async fn records_become_targets() {
    let server = name_server().await;
    let resolver = move || {
        let mut udp = ConnectionConfig::udp();
        udp.port = server.port();
        let name_server = NameServerConfig::new(server.ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, vec![], vec![name_server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
    };
    let resolver = Arc::new(resolver);
    for (name, kind, expected) in [
        ("one.test.", RecordType::A, "[__address__=10.0.0.1:80,__meta_dns_name=one.test.]"),
        ("one.test.", RecordType::Aaaa, "[__address__=[::1]:80,__meta_dns_name=one.test.]"),
        (
            "_m._tcp.test.",
            RecordType::Srv,
            "[__address__=n.test:9100,__meta_dns_name=_m._tcp.test.,__meta_dns_srv_record_target=n.test.,__meta_dns_srv_record_port=9100]",
        ),
        (
            "one.test.",
            RecordType::Mx,
            "[__address__=n.test:80,__meta_dns_name=one.test.,__meta_dns_mx_record_target=n.test.]",
        ),
        (
            "one.test.",
            RecordType::Ns,
            "[__address__=n.test:80,__meta_dns_name=one.test.,__meta_dns_ns_record_target=n.test.]",
        ),
        ("none.test.", RecordType::A, "[]"),
    ] {
        let dns = Dns::new(vec![name.to_owned()], Duration::from_secs(60), kind, 80);
        let provider = Arc::new(dns.asking(Arc::clone(&resolver) as Arc<_>));
        assert_eq!(told(provider, 1).await, [expected], "{name} {kind:?}");
    }
}

#[test]
fn sources_that_are_gone_are_told_so() {
    let group = |source: &str| Group::of(vec!["a".into()], vec![], source.into());
    let mut before = Vec::new();
    assert_eq!(whole(vec![group("1"), group("2")], &mut before).len(), 2);
    let update = whole(vec![group("2")], &mut before);
    let shown: Vec<_> = update.iter().map(|g| (g.source.as_str(), g.targets.len())).collect();
    assert_eq!(shown, [("1", 0), ("2", 1)]);
}
