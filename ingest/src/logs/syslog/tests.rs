//! Listeners before a store that keeps text.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use super::*;
use crate::logs::listener::Tenant;
use crate::logs::testing::{Rig, scope};

fn tenant() -> Tenant {
    Tenant::new(|| Ok(scope()))
}

/// Waits until so many lines are stored.
async fn kept(rig: &Rig, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..500 {
        lines.append(&mut rig.kept.take());
        if lines.len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lines
}

const FIRST: &str = "<34>1 2023-11-14T22:13:20Z h su 77 ID47 [a@1 x.y=\"1\\\"\"] failed";
const FIRST_STORED: &str = concat!(
    r#"{app="su", facility="auth", host="h", service_name="su", source="syslog"} (syslog) critical "failed" "#,
    "severity=crit proc_id=77 msg_id=ID47 a_1_x_y=1\""
);
const SECOND: &str = "<13>Nov 14 22:13:20 h app: plain ERROR";
const SECOND_STORED: &str = concat!(
    r#"{app="app", facility="user", host="h", service_name="app", source="syslog"} (syslog) info "#,
    r#""plain ERROR" severity=notice"#
);

#[tokio::test]
async fn streams_are_stored() {
    let rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopping) = watch::channel(false);
    let config = SyslogConfig { connections_max: 1, ..SyslogConfig::default() };
    let serving =
        tokio::spawn(serve_tcp(listener, config, tenant(), Arc::clone(&rig.intake), stopping));
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let counted = format!("{} {FIRST}{SECOND}\n{}", FIRST.len(), &SECOND[..10]);
    stream.write_all(counted.as_bytes()).await.expect("sends");
    assert_eq!(kept(&rig, 2).await, [FIRST_STORED, SECOND_STORED]);
    let mut second = TcpStream::connect(address).await.expect("connects");
    let mut end = [0; 1];
    let read = tokio::io::AsyncReadExt::read(&mut second, &mut end).await;
    assert_eq!(read.unwrap_or(0), 0, "one connection too many is closed");
    stream.write_all(&SECOND.as_bytes()[10..]).await.expect("sends");
    stream.shutdown().await.expect("ends");
    assert_eq!(kept(&rig, 1).await, [SECOND_STORED], "the last needs no line feed");
    stop.send_replace(true);
    serving.await.expect("ends on shutdown");
    assert!(rig.metrics().contains("taffrail_ingest_log_connections_refused_total 1"));
}

#[tokio::test]
async fn datagrams_are_stored() {
    let rig = Rig::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let (stop, stopping) = watch::channel(false);
    let config = SyslogConfig { message_bytes_max: 480, ..SyslogConfig::default() };
    let serving =
        tokio::spawn(serve_udp(socket, config, tenant(), Arc::clone(&rig.intake), stopping));
    let sender = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for message in [FIRST, &"x".repeat(481), SECOND] {
        sender.send_to(message.as_bytes(), address).await.expect("sends");
    }
    assert_eq!(kept(&rig, 2).await, [FIRST_STORED, SECOND_STORED]);
    stop.send_replace(true);
    serving.await.expect("ends on shutdown");
    let lost = r#"taffrail_ingest_messages_lost_total{reason="malformed"} 1"#;
    assert!(rig.metrics().contains(lost));
}

#[test]
fn settings_are_checked() {
    assert_eq!(SyslogConfig::default().check(), Ok(()));
    let wrong = SyslogConfig { message_bytes_max: 10, ..SyslogConfig::default() };
    let told = "logs.syslog.message_bytes_max must be 480 to 1048576";
    assert_eq!(wrong.check(), Err(told.to_owned()));
}
