//! Line protocol becomes samples, and senders are answered as by InfluxDB.

use std::sync::Arc;

use super::Influx;
use crate::Config;
use crate::testing::{self, Answer, NOW_MS, Rig, scope};

/// One body posted to a path: status, text, and what was stored.
async fn send(path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, Vec<String>) {
    let rig = Rig::new(&Config::default());
    let influx = Influx::new(Arc::clone(&rig.intake));
    let request = testing::request("POST", path, headers, body.to_vec());
    let answer = Answer::of(influx.handle(0, scope(), request).await).await;
    (answer.status, answer.text(), rig.kept.take())
}

async fn check(path: &str, body: &str, lines: &[&str]) {
    let (status, text, kept) = send(path, &[], body.as_bytes()).await;
    assert_eq!((status, text.as_str()), (204, ""));
    assert_eq!(kept, lines);
}

#[tokio::test]
async fn fields_become_samples() {
    let now = format!(r#"{{__name__="cpu_user", host="a"}} 1.5 @{NOW_MS}"#);
    check("/write", "cpu,host=a user=1.5,name=\"x\"", &[&now]).await;
    let two = [
        r#"{__name__="cpu_user", db="d", host="a"} 1 @5"#,
        r#"{__name__="cpu_sys", db="d", host="a"} 2 @5"#,
    ];
    check("/write?db=d&precision=ms", "cpu,host=a user=1i,sys=2u 5", &two).await;
    check("/api/v2/write?org=o&bucket=d&precision=ms", "cpu,host=a user=1,sys=2 5", &two).await;
    check("/write?db=d", "cpu,db=own v=t 5999999", &[r#"{__name__="cpu_v", db="own"} 1 @5"#]).await;
    for (precision, at_ms) in [
        ("n", 0),
        ("ns", 0),
        ("us", 5),
        ("u", 5),
        ("ms", 5_000),
        ("s", 5_000_000),
        ("m", 300_000_000),
        ("h", 18_000_000_000_i64),
    ] {
        let line = format!(r#"{{__name__="a_b"}} 1 @{at_ms}"#);
        check(&format!("/write?precision={precision}"), "a b=1 5000", &[&line]).await;
    }
    check("/write", "", &[]).await;
    check("/write", "a s=\"only text\"", &[]).await;
}

#[tokio::test]
async fn wrong_lines_are_a_partial_write() {
    let (status, text, kept) = send("/write", &[], b"a v=1 5000000\nb\na v=2 6000000").await;
    let told = "partial write: 1 lines could not be read: fields are missing: \\\"b\\\"";
    assert_eq!((status, kept.len()), (400, 2));
    assert_eq!(text, format!(r#"{{"code":"invalid","error":"{told}","message":"{told}"}}"#));
    let (status, text, _) = send("/write?precision=d", &[], b"a v=1").await;
    assert_eq!(status, 400);
    assert!(text.contains("is none of ns, us, ms, s, m, h"), "{text}");
    let (status, ..) = send("/write", &[("content-encoding", "br")], b"a v=1").await;
    assert_eq!(status, 415);
    let wide = (0..70).map(|i| format!(",t{i}=v")).collect::<String>();
    let (status, text, kept) = send("/write", &[], format!("a{wide} v=1\nb v=2").as_bytes()).await;
    assert_eq!((status, kept.len()), (400, 1));
    assert!(text.contains("series a_v has 72 labels, the limit is 64"), "{text}");
    let (status, text, kept) = send("/write", &[], b"a,t=1,t=2 v=1\nb v=2").await;
    assert_eq!((status, kept.len()), (400, 1));
    assert!(text.contains(r#"label name \"t\" occurs twice"#), "{text}");
}
