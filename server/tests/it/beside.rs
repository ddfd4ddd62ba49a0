//! The query API beside a real Prometheus with the same samples: what it says to wrong questions,
//! and how it counts samples.

use model::{Clock, SystemClock};
use testkit::http::escaped;
use testkit::remote_write::Series;

use crate::process::{Program, installed, taffrail};
use crate::senders::start_prometheus;

fn fill(server: &Program, now_ms: i64) {
    let series: Vec<Series> = ["a", "b", "c"]
        .iter()
        .map(|job| Series {
            labels: [("__name__", "m"), ("job", job)]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .to_vec(),
            samples: (0..60).map(|i| (now_ms - (60 - i) * 10_000, i as f64)).collect(),
            ..Series::default()
        })
        .collect();
    server.write(None, &series);
}

/// Wrong questions to which both say the same, word for word. Where newer versions say something
/// else, ours do as well; those are in the crate's golden files.
const WRONG: &[&str] = &[
    "GET /api/v1/query?query=up&time=x",
    "GET /api/v1/query?query=up&timeout=x",
    "GET /api/v1/query?query=up(",
    "GET /api/v1/query?query=sum(up",
    "GET /api/v1/query?query=foo{a=}",
    "GET /api/v1/query?query=rate(up)",
    "GET /api/v1/query?query=nosuch(up)",
    "GET /api/v1/query?query={}",
    "GET /api/v1/query_range?query=up",
    "GET /api/v1/query_range?query=up&start=1",
    "GET /api/v1/query_range?query=up&start=1&end=x",
    "GET /api/v1/query_range?query=up&start=1&end=2",
    "GET /api/v1/query_range?query=up&start=1&end=2&step=x",
    "GET /api/v1/query_range?query=up&start=1&end=2&step=0",
    "GET /api/v1/query_range?query=up&start=1&end=2&step=-1",
    "GET /api/v1/query_range?query=up&start=2&end=1&step=1",
    "GET /api/v1/query_range?query=up&start=0&end=11001&step=1",
    "GET /api/v1/query_range?query=up&start=0&end=10&step=1&timeout=x",
    "GET /api/v1/query_exemplars?query=up(",
    "GET /api/v1/query_exemplars?query=up&start=5&end=3",
    "GET /api/v1/query_exemplars?query=up&start=x",
    "GET /api/v1/format_query?query=up(",
    "GET /api/v1/series",
    "GET /api/v1/series?match[]=up(",
    "GET /api/v1/series?match[]={}",
    "GET /api/v1/series?match[]=up&start=x",
    "GET /api/v1/labels?match[]=up(",
    "GET /api/v1/labels?match[]={}",
    "GET /api/v1/labels?start=x",
    "GET /api/v1/label/job/values?match[]={}",
    "GET /api/v1/label/job/values?end=x",
    "GET /api/v1/metadata?limit=x",
    "GET /api/v1/rules?type=x",
    "GET /api/v1/targets/metadata",
    "GET /api/v1/targets/metadata?limit=x",
    "GET /api/v1/alerts",
    "GET /api/v1/rules",
    "GET /api/v1/alertmanagers",
    "GET /api/v1/nope",
    "PUT /api/v1/query",
    "DELETE /api/v1/labels",
    "POST /api/v1/label/job/values",
    "POST /api/v1/rules",
    "OPTIONS /api/v1/query",
    "GET /nope",
];

fn check_wrong(prometheus: &Program, taffrail: &Program, line: &str) -> Result<(), String> {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let path = path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    let ask = |server: &Program| {
        let answer = server.call(method, &path, &[], &[]);
        let kind = answer.header("content-type").unwrap_or("").to_owned();
        // Written with a small letter since 3.0.
        let text = answer.text().replace("Invalid time value", "invalid time value");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or(text.trim().into());
        (answer.status, kind, json)
    };
    let (theirs, ours) = (ask(prometheus), ask(taffrail));
    if theirs == ours {
        return Ok(());
    }
    Err(format!("{line}\n  Prometheus {theirs:?}\n  Taffrail   {ours:?}"))
}

#[test]
fn prometheus_and_we_speak_alike() {
    let Some(program) = installed("prometheus") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let quiet = "[ingest.self_scrape]\nenabled = false\n";
    let taffrail = taffrail(&dir.path().join("taffrail"), quiet);
    let prometheus = start_prometheus(
        &program,
        &dir.path().join("prometheus"),
        "{}\n",
        &["--web.enable-remote-write-receiver", "--enable-feature=promql-per-step-stats"],
    );
    let now_ms = SystemClock::default().now_ms();
    fill(&taffrail, now_ms);
    fill(&prometheus, now_ms);
    let differ: Vec<String> =
        WRONG.iter().filter_map(|line| check_wrong(&prometheus, &taffrail, line).err()).collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));

    // Off the samples' times, since newer ranges are open on the left.
    let (end, start) = (now_ms - 3_700, now_ms - 123_700);
    for query in [
        "m",
        "sum(m)",
        "m{job=\"a\"} + on() group_left() m{job=\"b\"}",
        "rate(m[1m])",
        "m offset 1m",
        "max_over_time(m[1m:7s])",
        "sum_over_time(rate(m[1m])[1m:7s])",
        "absent(nothing)",
        "1 + 1",
    ] {
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step=30&stats=all",
            escaped(query),
            start as f64 / 1e3,
            end as f64 / 1e3
        );
        let samples = |server: &Program| {
            let mut answer = server.json(&path, None);
            answer["data"]["stats"]["samples"].take()
        };
        let (theirs, ours) = (samples(&prometheus), samples(&taffrail));
        for count in ["totalQueryableSamples", "totalQueryableSamplesPerStep"] {
            assert!(!theirs[count].is_null(), "{query}: {theirs}");
            assert_eq!(theirs[count], ours[count], "{query}: {count}");
        }
    }
}
