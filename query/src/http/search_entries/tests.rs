//! The search of entries over HTTP, before entries in memory.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::http::HeaderValue;
use futures::StreamExt;
use model::{Level, Signal};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::super::tests::{Fake, block_on, everybody, querier, request};
use super::search_entries_router;
use crate::entries::memory::{Memory, New};

/// A second of nanoseconds.
const SECOND: i64 = 1_000_000_000;
/// When the first entry is written: 2023-11-14T22:13:20Z.
const T0: i64 = 1_700_000_000 * SECOND;

fn memory() -> Arc<Memory> {
    let memory = Memory::default();
    for (at, line) in
        ["start cart", "GET /cart ok", "GET /cart failed", "Cart stops"].iter().enumerate()
    {
        for pod in ["web-1", "web-2"] {
            memory.add(New {
                tenant: "team-a",
                signal: Signal::Logs,
                labels: &[("namespace", "shop"), ("pod", pod), ("container", "web")],
                at_ns: T0 + at as i64 * SECOND,
                line,
                fields: &[("trace", "t1")],
                level: if at == 2 { Level::Error } else { Level::Info },
            });
        }
    }
    let events: [(&str, &[(&str, &str)]); 2] = [
        (
            "Normal",
            &[
                ("involvedObject_kind", "Pod"),
                ("involvedObject_uid", "u1"),
                ("reason", "Pulled"),
                ("type", "Normal"),
            ],
        ),
        (
            "Warning",
            &[
                ("involvedObject_kind", "Pod"),
                ("involvedObject_uid", "u1"),
                ("reason", "BackOff"),
                ("type", "Warning"),
            ],
        ),
    ];
    for (line, fields) in events {
        let (tenant, signal, level) = ("team-a", Signal::Events, Level::Unknown);
        let labels = &[("namespace", "shop"), ("source", "events")];
        memory.add(New { tenant, signal, labels, at_ns: T0, line, fields, level });
    }
    memory.add(New {
        tenant: "team-a",
        signal: Signal::Audits,
        labels: &[("source", "audit")],
        at_ns: T0,
        line: "{}",
        fields: &[("verb", "delete"), ("user_username", "anna"), ("responseStatus_code", "403")],
        level: Level::Warn,
    });
    Arc::new(memory)
}

/// Status and body of a search of the whole minute.
fn ask(path: &str, rest: &str) -> (u16, String) {
    let (start, end) = (T0 / SECOND, T0 / SECOND + 60);
    let mut request = request(&format!("GET /api/v1/search/{path}?start={start}&end={end}&{rest}"));
    request.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static("team-a"));
    block_on(async {
        let fake: Arc<Fake> = Arc::default();
        let router = search_entries_router(querier(&fake), memory(), everybody());
        let response = router.oneshot(request).await.expect("routers do not fail");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    })
}

#[track_caller]
fn data(path: &str, rest: &str) -> Value {
    let (status, body) = ask(path, rest);
    assert_eq!(status, 200, "{rest}: {body}");
    let value: Value = serde_json::from_str(&body).expect(&body);
    value["data"].clone()
}

/// How many entries a search finds.
#[track_caller]
fn check(path: &str, conditions: &str, entries: u64) {
    let found = data(path, &format!("operation=statistics&{conditions}"));
    assert_eq!(found["entries"], entries, "{conditions}");
    let listed = data(path, &format!("size=1000&{conditions}"));
    assert_eq!(listed["entries"].as_array().map(Vec::len), Some(entries as usize), "{conditions}");
}

#[test]
fn conditions_find_what_they_say() {
    check("logs", "", 8);
    check("logs", "must=cart", 8);
    check("logs", "must=cart&case=exact", 6);
    check("logs", "must=cart&must=get", 4);
    check("logs", "should=stops&should=failed", 4);
    check("logs", "must=cart&must_not=failed&must_not=ok", 4);
    check("logs", "must=car&match=words", 0);
    check("logs", "must=G.T&match=regex", 4);
    check("logs", "pods=web-1", 4);
    check("logs", "pods=web-1,web-2&namespaces=shop", 8);
    check("logs", "pods=web", 0);
    check("logs", "pods_like=WEB", 8);
    check("logs", "level=error", 2);
    check("logs", "level=error,info", 8);
    check("logs", "level_min=warn", 2);
    check("logs", "field=trace:t1,t2&field_like=pod:-2", 4);
    check("logs", "query={pod=%22web-1%22}|=%60ca%60&namespaces=shop&must=get", 2);
    check("logs", "query={pod=%22web-1%22}|detected_level=%22error%22", 1);
    check("events", "", 2);
    check("events", "reason=BackOff&involved_object_kind=Pod", 1);
    check("events", "reason_like=back&type=Warning&namespaces=shop", 1);
    check("audits", "verb=delete&user=anna&response_code=403", 1);
    check("audits", "verb=get,list", 0);
}

#[test]
fn pages_give_every_entry_once() {
    for sort in ["asc", "desc"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = data("logs", &format!("size=3&sort={sort}&cursor={cursor}"));
            for entry in page["entries"].as_array().expect("entries") {
                seen.push((entry["time_ns"].to_string(), entry["place"].to_string()));
            }
            match page["cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        let mut times: Vec<_> = seen.iter().map(|(time, _)| time.clone()).collect();
        if sort == "desc" {
            times.reverse();
        }
        assert!(times.is_sorted(), "{sort}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 8, "{sort}");
    }
}

#[test]
fn counts_are_told_by_interval_and_subject() {
    assert_eq!(data("logs", "operation=statistics"), json!({"entries": 8, "containers": 2}));
    assert_eq!(data("events", "operation=statistics"), json!({"entries": 2, "resources": 1}));
    let found = data("logs", "operation=histogram&interval=30s&by=pod&must=get");
    let buckets = json!([
        {"time": T0 / 1_000_000, "count": 2},
        {"time": T0 / 1_000_000 + 30_000, "count": 0},
    ]);
    assert_eq!(
        found,
        json!({"total": 4, "histograms": [
            {"by": {"pod": "web-1"}, "buckets": buckets},
            {"by": {"pod": "web-2"}, "buckets": buckets},
        ]})
    );
}

#[test]
fn exports_end_with_a_mark() {
    let (status, body) = ask("logs", "operation=export&sort=asc&pods=web-1");
    let lines: Vec<Value> =
        body.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!((status, lines.len()), (200, 5));
    assert_eq!(lines[0]["line"], "start cart");
    assert_eq!(lines[4], json!({"end": {"complete": true, "entries": 4}}));
    let (_, body) = ask("logs", "operation=export&format=text&must=stops&pods=web-2");
    assert_eq!(body, "Cart stops\n# complete; entries: 1\n");
}

#[test]
fn context_is_of_the_same_stream() {
    let found = data("logs", "pods=web-2&must=failed");
    let place = found["entries"][0]["place"].as_str().expect("a place").to_owned();
    let found = data("logs", &format!("operation=context&before=1&after=5&place={place}"));
    let lines = found["entries"].as_array().expect("entries");
    let lines: Vec<_> =
        lines.iter().map(|entry| (&entry["line"], &entry["labels"]["pod"])).collect();
    let (before, here, after) =
        (json!("GET /cart ok"), json!("GET /cart failed"), json!("Cart stops"));
    let pod = json!("web-2");
    assert_eq!(lines, [(&before, &pod), (&here, &pod), (&after, &pod)]);
    assert_eq!(found["at"], 1);
}

#[test]
fn sources_are_told() {
    let mut asked = request("GET /api/v1/search/sources");
    asked.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static("team-b"));
    let answer = block_on(async {
        let fake: Arc<Fake> = Arc::default();
        let router = search_entries_router(querier(&fake), memory(), everybody());
        let response = router.oneshot(asked).await.expect("routers do not fail");
        to_bytes(response.into_body(), usize::MAX).await.expect("a whole body")
    });
    assert_eq!(&answer[..], br#"{"status":"success","data":[]}"#, "another tenant sees nothing");
    let found = data("sources", "");
    let signals: Vec<_> =
        found.as_array().expect("sources").iter().map(|source| source["signal"].clone()).collect();
    assert_eq!(signals, ["logs", "events", "audits"]);
    assert_eq!(found[0]["last"], "2023-11-14T22:13:23.000000000Z");
}

#[test]
fn what_is_wrong_is_named() {
    let refused = |rest: &str, status: u16, part: &str| {
        let (found, body) = ask("logs", rest);
        assert!(found == status && body.contains(part), "{rest}: {found} {body}");
    };
    refused("reason=BackOff", 400, r#"invalid parameter \"reason\": there is no such parameter"#);
    refused("operation=guess", 400, "it is one of query, statistics");
    refused("size=6000", 400, "at most 5000");
    refused("cursor=x", 400, "it is no place");
    refused("level=loud", 400, "it is one of unknown");
    refused("must=(&match=regex", 400, r#"invalid parameter \"must\""#);
    refused("operation=histogram&interval=1ms", 400, "choose a longer one");
    refused("field=x", 400, "write NAME:VALUE");
    refused("operation=context&place=1.2.3", 404, "no entry at this place");
    refused("query={", 400, r#"invalid parameter \"query\": parse error"#);
    refused("query=rate({a=%22b%22}[1m])", 400, "it gives numbers");
    refused("query={a=%22b%22}|c=%22d%22%20or%20e=%22f%22", 400, "with `or` are not searched");
}

/// The first pieces of a tail's body, until `enough` says so of all that came.
async fn first_of(
    router: axum::Router,
    asked: axum::http::Request<axum::body::Body>,
    enough: impl Fn(&str) -> bool,
    meanwhile: impl FnOnce(),
) -> String {
    let response = router.oneshot(asked).await.expect("routers do not fail");
    assert_eq!(response.status().as_u16(), 200);
    meanwhile();
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while !enough(&text) {
        let piece = tokio::time::timeout(std::time::Duration::from_secs(30), body.next()).await;
        let piece = piece.expect("it comes").expect("no end").expect("a sound body");
        text += std::str::from_utf8(&piece).expect("text");
    }
    text
}

#[test]
fn a_tail_gives_what_is_stored_and_then_what_comes() {
    let memory = memory();
    let news = |line: &str| {
        let (tenant, signal, level) = ("team-a", Signal::Logs, Level::Warn);
        let (labels, fields) = (&[("pod", "web-1")][..], &[][..]);
        memory.add(New { tenant, signal, labels, at_ns: T0 - SECOND, line, fields, level });
    };
    let tail = |rest: &str, accept: &'static str| {
        let mut asked =
            request(&format!("GET /api/v1/search/logs/tail?start={}&{rest}", T0 / SECOND));
        asked.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static("team-a"));
        asked.headers_mut().insert("Accept", HeaderValue::from_static(accept));
        let fake: Arc<Fake> = Arc::default();
        (search_entries_router(querier(&fake), Arc::clone(&memory) as _, everybody()), asked)
    };
    block_on(async {
        let (router, asked) = tail("pods=web-1&must_not=start&size=2", "*/*");
        let text = first_of(router, asked, |text| text.contains("news"), || news("old news")).await;
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let told: Vec<_> = lines.iter().map(|line| line["entry"]["line"].as_str()).collect();
        assert_eq!(told, [Some("GET /cart failed"), Some("Cart stops"), None, Some("old news")]);
        assert_eq!(lines[2]["stored"], json!({ "entries": 2, "repeats": false }));
        assert!(lines[0].get("id").is_none() && lines[2]["id"].is_string());
        assert_eq!(lines[3]["id"], "1.0.0");

        let (router, asked) = tail("must=news&size=0", "text/event-stream");
        let text =
            first_of(router, asked, |text| text.contains("more"), || news("more news")).await;
        let mut events = text.split("\n\n");
        let stored = "event: stored\nid: 0.0.0\ndata: {\"entries\":0,\"repeats\":false}";
        assert_eq!(events.next(), Some(stored));
        let entry = events.next().expect("an entry");
        let data = entry.strip_prefix("id: 1.0.0\ndata: ").expect(entry);
        let entry: Value = serde_json::from_str(data).expect("one line of JSON");
        assert_eq!((&entry["line"], &entry["level"]), (&json!("more news"), &json!("warn")));
    });
}

#[test]
fn tails_refuse_what_they_cannot_do() {
    let refused = |rest: &str, part: &str| {
        let (found, body) = ask("logs/tail", rest);
        assert!(found == 400 && body.contains(part), "{rest}: {found} {body}");
    };
    refused("", "a tail has none: it gives what comes");
    let mut asked = request("GET /api/v1/search/logs/tail?last_event_id=x");
    asked.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static("team-a"));
    let answer = block_on(async {
        let fake: Arc<Fake> = Arc::default();
        let router = search_entries_router(querier(&fake), memory(), everybody());
        let response = router.oneshot(asked).await.expect("routers do not fail");
        to_bytes(response.into_body(), usize::MAX).await.expect("a whole body")
    });
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("it is no id of an entry of a tail"), "{text}");
}
