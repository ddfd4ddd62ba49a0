//! The listener before a store that keeps text.

use std::io::Write;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::logs::fuzz;
use crate::logs::listener::Tenant;
use crate::logs::testing::{Rig, scope};

/// `EventTime` of 2023-11-14T22:13:20Z.
const AT: &[u8] = b"\xd7\x00\x65\x53\xf1\x00\x00\x00\x00\x00";

fn text(text: &str) -> Vec<u8> {
    [&[0xd9, text.len() as u8][..], text.as_bytes()].concat()
}

/// `{"log": line, "app": "a"}`
fn record(line: &str) -> Vec<u8> {
    [&b"\x82"[..], &text("log"), &text(line), &text("app"), &text("a")].concat()
}

fn stored(line: &str) -> String {
    format!(r#"{{app="a", service_name="a"}} {line:?}"#)
}

fn option(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0x80 | pairs.len() as u8];
    pairs.iter().for_each(|(name, value)| out.extend([text(name), text(value)].concat()));
    out
}

fn packed(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| [&b"\x92"[..], AT, &record(line)].concat()).collect()
}

fn binary(bytes: &[u8]) -> Vec<u8> {
    [&[0xc5][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// A message in each of the forms, and what is stored of it.
fn messages() -> Vec<(Vec<u8>, Vec<String>)> {
    let tag = text("kube.a");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&packed(&["z1", "z2"])).expect("compresses");
    let gzip = gzip.finish().expect("compresses");
    let compressed = option(&[("compressed", "gzip")]);
    let both = |a: &str, b: &str| vec![stored(a), stored(b)];
    vec![
        ([&b"\x93"[..], &tag, AT, &record("one")].concat(), vec![stored("one")]),
        ([&b"\x93"[..], &tag, b"\xce\x65\x53\xf1\x00", &record("s")].concat(), vec![stored("s")]),
        ([&b"\x92"[..], &tag, b"\x92", &packed(&["f1", "f2"])].concat(), both("f1", "f2")),
        ([&b"\x92"[..], &tag, &binary(&packed(&["p1", "p2"]))].concat(), both("p1", "p2")),
        ([&b"\x93"[..], &tag, &binary(&gzip), &compressed].concat(), both("z1", "z2")),
        (
            [&b"\x93"[..], &tag, b"\x00", b"\x81", &text("log"), &text("x\"\n\u{e9}")].concat(),
            vec![r#"{service_name="unknown_service", tag="kube.a"} @arrival "x\"\né""#.to_owned()],
        ),
    ]
}

struct Listening {
    rig: Rig,
    stream: TcpStream,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

async fn listening() -> Listening {
    let rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopping) = watch::channel(false);
    let tenant = Tenant::new(|| Ok(scope()));
    let (config, intake) = (FluentConfig::default(), Arc::clone(&rig.intake));
    let serving = tokio::spawn(serve(listener, config, tenant, intake, stopping));
    let stream = TcpStream::connect(address).await.expect("connects");
    Listening { rig, stream, stop, serving }
}

#[tokio::test]
async fn every_form_is_stored_and_acknowledged() {
    let Listening { rig, mut stream, stop, serving } = listening().await;
    for (message, lines) in messages() {
        // The same with a chunk: the answer tells when it is stored.
        let parts = message[0] & 15;
        let has_option = message.ends_with(&option(&[("compressed", "gzip")]));
        let named = match has_option {
            true => {
                let without = &message[..message.len() - option(&[("compressed", "gzip")]).len()];
                let options = option(&[("compressed", "gzip"), ("chunk", "c1==")]);
                [without, &options].concat()
            }
            false => {
                let options = option(&[("chunk", "c1==")]);
                [&[0x90 | (parts + 1)][..], &message[1..], &options].concat()
            }
        };
        for piece in named.chunks(7) {
            stream.write_all(piece).await.expect("sends");
        }
        let mut ack = [0; 11];
        stream.read_exact(&mut ack).await.expect("an answer");
        assert_eq!(&ack, b"\x81\xa3ack\xd9\x04c1==");
        assert_eq!(rig.kept.take(), lines);
    }
    stream.write_all(&[0xc0]).await.expect("sends");
    // Two at once, of which the first asks for no answer.
    let (plain, _) = &messages()[0];
    let named = [&[0x94][..], &plain[1..], &option(&[("chunk", "x")])].concat();
    stream.write_all(&[&plain[..], &named].concat()).await.expect("sends");
    let mut ack = [0; 8];
    stream.read_exact(&mut ack).await.expect("an answer");
    assert_eq!(rig.kept.take(), [stored("one"), stored("one")]);
    stop.send_replace(true);
    serving.await.expect("ends on shutdown");
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection() {
    for wrong in [&b"\x01"[..], b"\xc1", b"\x93\xa1t\x01\x01", b"\xdd\xff\xff\xff\xff", &[0x91; 99]]
    {
        let Listening { rig, mut stream, stop, serving } = listening().await;
        stream.write_all(wrong).await.expect("sends");
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "{wrong:?}");
        assert!(rig.kept.take().is_empty());
        assert!(rig.metrics().contains("taffrail_ingest_messages_lost_total{reason=\""));
        stop.send_replace(true);
        serving.await.expect("ends on shutdown");
    }
}

#[test]
fn chunks_name_batches() {
    let (plain, _) = &messages()[3];
    assert_eq!(chunk_of(plain), None);
    let named = [&[0x93][..], &plain[1..], &option(&[("size", "2"), ("chunk", "c")])].concat();
    assert_eq!(chunk_of(&named), Some(&b"c"[..]));
    assert_eq!(chunk_of(&named[..9]), None);
}

proptest::proptest! {
    #[test]
    fn any_bytes_do_no_harm(
        bytes in proptest::collection::vec(0u8..=255, 0..60),
        which in 0..6_usize,
        at in 0..90_usize,
        byte: u8,
    ) {
        fuzz::door(fuzz::Door::Fluent, &bytes);
        let (mut message, _) = messages().swap_remove(which);
        if let Some(there) = message.get_mut(at) {
            *there = byte;
        }
        fuzz::door(fuzz::Door::Fluent, &message);
        message.truncate(at);
        fuzz::door(fuzz::Door::Fluent, &message);
    }
}
