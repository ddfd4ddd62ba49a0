//! Expositions that are posted become samples.

use std::io::Write;
use std::sync::Arc;

use super::Import;
use crate::Config;
use crate::testing::{self, Answer, NOW_MS, Rig, scope};

/// One body: status, text, and what was stored.
async fn send(path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, Vec<String>) {
    let rig = Rig::new(&Config::default());
    let import = Import::new(Arc::clone(&rig.intake));
    let request = testing::request("POST", path, headers, body.to_vec());
    let answer = Answer::of(import.handle(0, scope(), request).await).await;
    (answer.status, answer.text(), rig.kept.take())
}

async fn check(path: &str, headers: &[(&str, &str)], body: &str, lines: &[&str]) {
    let (status, text, kept) = send(path, headers, body.as_bytes()).await;
    assert_eq!((status, text.as_str()), (204, ""));
    assert_eq!(kept, lines);
}

const PATH: &str = "/api/v1/import/prometheus";
const OPEN_METRICS: &[(&str, &str)] =
    &[("content-type", "application/openmetrics-text; version=1.0.0")];

#[tokio::test]
async fn expositions_become_samples() {
    let now = format!(r#"{{__name__="a", b="1"}} 2 @{NOW_MS}"#);
    check(PATH, &[], "a{b=\"1\"} 2", &[&now]).await;
    check(PATH, &[("content-type", "text/plain; version=0.0.4")], "a{b=\"1\"} 2\n", &[&now]).await;
    check(
        PATH,
        &[("content-type", "application/x-www-form-urlencoded")],
        "a{b=\"1\"} 2\n",
        &[&now],
    )
    .await;
    check(
        PATH,
        &[],
        "# TYPE h histogram\n# HELP h how long\nh_bucket{le=\"1\"} 2 5\nh_bucket{le=\"+Inf\"} NaN 5\n",
        &[
            r#"{__name__="h_bucket", le="1.0"} 2 @5"#,
            r#"{__name__="h_bucket", le="+Inf"} NaN @5"#,
            r#"h: histogram "how long" """#,
        ],
    )
    .await;
    check(
        PATH,
        OPEN_METRICS,
        "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 3 1.5 # {id=\"x\"} 0.5 1.25\n# EOF\n",
        &[
            r#"{__name__="a_seconds_total"} 3 @1500"#,
            r#"{__name__="a_seconds_total"} exemplar {id="x"} 0.5 @1250"#,
            r#"a_seconds: counter "" "seconds""#,
        ],
    )
    .await;
    let added = r#"{__name__="a", dc="x=y", host="h"} 1 @7"#;
    check(
        &format!("{PATH}?extra_label=dc=x%3Dy&extra_label=host=h&timestamp=7"),
        &[],
        "a{dc=\"own\"} 1",
        &[added],
    )
    .await;
}

#[tokio::test]
async fn compressed_bodies_and_wrong_ones() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"a 1 5\n").expect("compresses");
    let gzip = gzip.finish().expect("compresses");
    let (status, _, kept) = send(PATH, &[("content-encoding", "gzip")], &gzip).await;
    assert_eq!((status, kept.len()), (204, 1));
    for (path, headers, body, status, told) in [
        (PATH, &[][..], "a 1\nb{\n", 400, "line 2: expected a label name: \"b{\""),
        (PATH, OPEN_METRICS, "a 1\n", 400, "line 2: exposition does not end with # EOF: \"\""),
        (
            PATH,
            &[("content-type", "text/html")],
            "a 1",
            415,
            "content type \"text/html\" is not accepted",
        ),
        (
            PATH,
            &[("content-encoding", "br")],
            "a 1",
            415,
            "content encoding \"br\" is not accepted",
        ),
        ("/x?extra_label=a", &[], "a 1", 400, "extra_label=\"a\" is not name=value"),
        ("/x?timestamp=now", &[], "a 1", 400, "timestamp=\"now\" is not a number of milliseconds"),
        (PATH, &[], "a 1\nbad 2\n", 400, "1 rows refused, 1 stored"),
        (
            PATH,
            &[],
            "a{b=\"1\",b=\"2\"} 1\n",
            400,
            "1 rows refused, 0 stored\n1 invalid_labels: label name \"b\" occurs twice",
        ),
    ] {
        let (code, text, _) = send(path, headers, body.as_bytes()).await;
        assert_eq!(code, status, "{text}");
        assert!(text.starts_with(told), "{text}");
    }
}
