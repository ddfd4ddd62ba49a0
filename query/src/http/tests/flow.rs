//! Deadlines, clients that go away, turns, compression, metrics.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::to_bytes;
use axum::http::{HeaderValue, header};

use super::{Fake, block_on, body, querier, querier_with, request, send};
use crate::Config;
use crate::http::documents::{List, Notes};
use crate::http::json::push_string;
use crate::http::reply::{Reply, success};

#[test]
fn work_ends_when_the_client_goes_away() {
    let fake: Arc<Fake> = Arc::default();
    let querier = querier(&fake);
    block_on(async {
        let asked = send(&querier, request("GET /api/v1/query?query=slow"));
        let gone = tokio::time::timeout(Duration::from_millis(20), asked).await;
        assert!(gone.is_err(), "it would have run on");
    });
    assert!(fake.cancels.lock()[0].is_set(), "the evaluation was told");
    let mut metrics = String::new();
    querier.metrics().write(&mut metrics);
    assert!(metrics.contains("requests_total{handler=\"query\",code=\"499\"} 1\n"), "{metrics}");
    assert!(metrics.contains("taffrail_query_running_queries 0\n"), "{metrics}");
}

#[test]
fn a_listing_ends_when_the_client_goes_away() {
    let fake: Arc<Fake> = Arc::default();
    let querier = querier(&fake);
    block_on(async {
        let asked = send(&querier, request("GET /api/v1/series?match[]=slow"));
        let gone = tokio::time::timeout(Duration::from_millis(20), asked).await;
        assert!(gone.is_err(), "it would have run on");
    });
    assert!(fake.cancels.lock()[0].is_set(), "the listing was told");
}

#[test]
fn regular_expressions_cost_a_bounded_part_of_memory_and_time() {
    let bomb = "match[]={a=~`%5Cw{30}`}&".repeat(40_000);
    let selectors = "match[]={a=~`%5Cw{10}`}&".repeat(1_000);
    let expression = format!("query={{{}}}", "a=~`%5Cw{10}`,".repeat(256));
    let querier = querier_with(&Arc::default(), Config::default());
    let begun = Instant::now();
    for (path, form, refused) in [
        ("series", &bomb, "at most 1000 match[], this one has 40000"),
        ("series", &selectors, "may take 16777216 bytes"),
        ("labels", &selectors, "may take 16777216 bytes"),
        ("query", &expression, "may take 16777216 bytes"),
        ("format_query", &expression, "may take 16777216 bytes"),
        ("query_exemplars", &expression, "may take 16777216 bytes"),
    ] {
        let response = block_on(send(&querier, request(&format!("POST /api/v1/{path} {form}"))));
        assert_eq!(response.status(), 400, "{path}");
        let text = block_on(body(response));
        assert!(text.contains(refused), "{path}: {}", &text[..text.len().min(500)]);
    }
    // Generous, for unoptimised code: compiled one by one they would take many minutes.
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[test]
fn work_ends_at_the_deadline_and_after_the_answer() {
    let fake: Arc<Fake> = Arc::default();
    let querier = querier(&fake);
    for line in ["GET /api/v1/query?query=slow&timeout=10ms", "GET /api/v1/query?query=up"] {
        drop(block_on(send(&querier, request(line))));
    }
    assert!(fake.cancels.lock().iter().all(crate::Cancel::is_set));
    let mut metrics = String::new();
    querier.metrics().write(&mut metrics);
    for expected in [
        "taffrail_query_requests_total{handler=\"query\",code=\"200\"} 1\n",
        "taffrail_query_requests_total{handler=\"query\",code=\"503\"} 1\n",
        "taffrail_query_samples_read_total 3\n",
        "taffrail_query_series_read_total 2\n",
    ] {
        assert!(metrics.contains(expected), "{expected} in\n{metrics}");
    }
}

#[test]
fn queries_above_the_limit_wait_for_their_turn() {
    check_waits("GET /api/v1/query?query=up&timeout=0.03");
    // Not even read before its turn.
    check_waits("GET /api/v1/query?query=)&timeout=0.03");
}

#[track_caller]
fn check_waits(line: &str) {
    let querier = querier(&Arc::default());
    block_on(async {
        let mut slow = Vec::new();
        for _ in 0..20 {
            let asked = send(&querier, request("GET /api/v1/query?query=slow"));
            slow.push(Box::pin(asked));
        }
        let all = futures::future::select_all(slow);
        let late = send(&querier, request(line));
        let late = Box::pin(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            body(late.await).await
        });
        let futures::future::Either::Right((text, _running)) =
            futures::future::select(all, late).await
        else {
            panic!("the slow ones never end");
        };
        assert!(
            text.contains("\"errorType\":\"timeout\",\"error\":\"query timed out in query queue"),
            "{text}"
        );
        assert!(text.contains("limit queries_concurrent_max"), "{text}");
    });
}

/// A document of about a megabyte.
fn large() -> Reply {
    let texts =
        (0..20_000).map(|i| format!("value number {i} of a label that has many of them")).collect();
    Reply::document(List::new(texts, Notes::truncated(true), |out, text: &String| {
        push_string(out, text)
    }))
}

#[track_caller]
fn check_encoding(accept: &str, decode: impl FnOnce(&[u8]) -> String) {
    let mut asked = axum::http::HeaderMap::new();
    let plain = block_on(body(success(large(), &asked)));
    asked.insert(header::ACCEPT_ENCODING, accept.parse().expect("a header"));
    let response = success(large(), &asked);
    assert_eq!(response.headers()[header::CONTENT_ENCODING], accept);
    let encoded = block_on(to_bytes(response.into_body(), usize::MAX)).expect("a whole body");
    assert!(encoded.len() * 4 < plain.len(), "{} of {} bytes", encoded.len(), plain.len());
    assert!(decode(&encoded) == plain, "{accept} gives the document back");
    serde_json::from_str::<serde_json::Value>(&plain).expect("JSON");
}

#[test]
fn large_answers_are_sent_in_pieces_and_compressed() {
    check_encoding("gzip", |bytes| {
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("gzip");
        text
    });
    check_encoding("deflate", |bytes| {
        let mut text = String::new();
        flate2::read::ZlibDecoder::new(bytes).read_to_string(&mut text).expect("zlib");
        text
    });
    check_encoding("zstd", |bytes| {
        String::from_utf8(zstd::decode_all(bytes).expect("zstd")).expect("text")
    });
}

#[test]
fn small_answers_are_not_compressed() {
    let querier = querier(&Arc::default());
    let mut request = request("GET /api/v1/query?query=1%2B1");
    request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().expect("a header"));
    let response = block_on(send(&querier, request));
    assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
    assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
}

/// Runs a question that never ends beside `beside`, which gets the list of what runs.
#[track_caller]
pub(super) fn beside_a_slow_one(
    querier: &crate::Querier,
    beside: impl AsyncFnOnce(serde_json::Value),
) -> String {
    block_on(async {
        let line = "GET /api/v1/query_range?query=slow&start=1&end=2.5&step=1";
        let slow = async { body(send(querier, request(line)).await).await };
        let ask = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let shown = body(send(querier, request("GET /api/v1/status/queries")).await).await;
            beside(serde_json::from_str(&shown).expect("JSON")).await;
        };
        futures::join!(slow, ask).0
    })
}

#[test]
fn what_runs_is_shown_and_can_be_ended() {
    let fake: Arc<Fake> = Arc::default();
    let querier = querier(&fake);
    let ask = |line: String, tenant: &'static str| {
        let mut request = request(&line);
        request.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static(tenant));
        send(&querier, request)
    };
    let answer = beside_a_slow_one(&querier, async |shown| {
        let one = &shown["data"][0];
        assert_eq!(shown["data"].as_array().map(Vec::len), Some(1), "{shown}");
        assert_eq!(one["query"], "slow");
        assert_eq!(one["tenants"], serde_json::json!(["team-a"]));
        assert_eq!((&one["handler"], &one["state"]), (&"query_range".into(), &"running".into()));
        assert_eq!((&one["start"], &one["end"], &one["step"]), (&1.into(), &2.5.into(), &1.into()));
        fake.cancels.lock()[0].usage().add_samples(7);
        let list = "GET /api/v1/status/queries";
        let both = body(ask(list.to_owned(), "*").await).await;
        assert!(both.contains("\"samples\":7"), "an administrator sees it: {both}");
        let others = body(ask(list.to_owned(), "team-b").await).await;
        assert_eq!(others, "{\"status\":\"success\",\"data\":[]}");
        let id = one["id"].as_u64().expect("an id");
        let end = |tenant| ask(format!("DELETE /api/v1/status/queries/{id}"), tenant);
        assert_eq!(end("team-b").await.status(), 404, "it is not there for others");
        assert_eq!(ask("POST /api/v1/status/queries/x/kill".into(), "team-a").await.status(), 400);
        assert_eq!(end("team-a").await.status(), 204);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(end("team-a").await.status(), 404, "it is gone");
    });
    assert!(answer.contains("\"errorType\":\"canceled\""), "{answer}");
    assert!(answer.contains("an administrator ended it"), "{answer}");
    assert!(fake.cancels.lock()[0].is_set(), "the evaluation was told");
}

#[test]
fn administrators_end_the_questions_of_others() {
    let fake: Arc<Fake> = Arc::default();
    let querier = querier(&fake);
    let answer = beside_a_slow_one(&querier, async |shown| {
        let id = &shown["data"][0]["id"];
        let mut request = request(&format!("POST /api/v1/status/queries/{id}/kill"));
        request.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static("*"));
        assert_eq!(send(&querier, request).await.status(), 204);
    });
    assert!(answer.contains("canceled"), "{answer}");
}

#[test]
fn too_many_that_wait_are_told_when_to_come_back() {
    let querier = querier_with(&Arc::default(), Config { running_max: 1, ..Config::default() });
    block_on(async {
        let mut slow: Vec<_> = (0..201)
            .map(|_| Box::pin(send(&querier, request("GET /api/v1/query?query=slow"))))
            .collect();
        for one in &mut slow {
            assert!(futures::poll!(one).is_pending());
        }
        let refused = send(&querier, request("GET /api/v1/query?query=up")).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()[header::RETRY_AFTER]),
            (429, &"1".parse().expect("a header"))
        );
        let text = body(refused).await;
        assert!(text.contains("\"errorType\":\"too_many_requests\""), "{text}");
        assert!(text.contains("200 wait already"), "{text}");
        let mut other = request("GET /api/v1/query?query=up&timeout=0.01");
        other.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static("team-b"));
        let other = send(&querier, other).await;
        assert_eq!(other.status(), 503, "there is one place, and it is taken");
    });
}
