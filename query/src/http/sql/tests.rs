//! How a statement comes in and its answer goes out, before an executor that tells what it was asked.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use futures::StreamExt;

use crate::http::tests::{Fake, block_on, querier, send};

struct Told {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

fn ask(path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Told {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let request = builder.body(Body::from(body.unwrap_or_default().to_owned())).expect("a request");
    block_on(async {
        let response = send(&querier(&Arc::new(Fake::default())), request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        Told { status, headers, body: String::from_utf8_lossy(&bytes).into_owned() }
    })
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

#[track_caller]
fn check(path: &str, headers: &[(&str, &str)], body: Option<&str>, expected: &str) {
    let told = ask(path, headers, body);
    assert!(told.body.contains(expected), "{path} {headers:?} {body:?}: {}", told.body);
    assert_eq!(told.status.is_success(), expected.contains("1795264337053"), "{}", told.body);
}

#[test]
fn statements_come_in_every_way() {
    let asked = "SELECT 1 {} Json 1795264337053 [\"team-a\"]\nend";
    check("/api/v1/sql?query=SELECT+1", &[], None, asked);
    check("/api/v1/sql", &[FORM], Some("query=SELECT+1"), asked);
    check("/api/v1/sql", &[("content-type", "application/sql")], Some("SELECT 1"), asked);
    check("/api/v1/sql", &[("content-type", "text/plain; charset=utf-8")], Some("SELECT 1"), asked);
    check("/api/v1/sql", &[], Some("SELECT 1"), asked);
    check("/api/v1/sql", &[JSON], Some("{\"query\": \"SELECT 1\"}"), asked);
    let with = "SELECT 1 {\"a\": Text(\"x\"), \"b\": Text(\"\")} Csv 1795264337053";
    check("/api/v1/sql?query=SELECT+1&param_a=x&param_b=&format=csv", &[], None, with);
    let body = r#"{"query":"SELECT 1","format":"arrow","parameters":[null,true,1.50,"t"]}"#;
    let with = "SELECT 1 {\"1\": Null, \"2\": Boolean(true), \"3\": Number(\"1.5\"), \"4\": Text(\"t\")} Arrow 1795264337053";
    check("/api/v1/sql", &[JSON], Some(body), with);
    let body = r#"{"query":"SELECT 1","parameters":{"n":9007199254740993}}"#;
    check(
        "/api/v1/sql",
        &[JSON],
        Some(body),
        "{\"n\": Number(\"9007199254740993\")} Json 1795264337053",
    );
}

#[test]
fn what_is_wrong_is_told() {
    check("/api/v1/sql", &[], None, "there is no statement");
    check("/api/v1/sql", &[FORM], Some("query=%20"), "there is no statement");
    check("/api/v1/sql?query=1&format=xml", &[], None, "none of json, csv and arrow");
    check("/api/v1/sql", &[JSON], Some("{\"query\":1}"), "the body is no question in JSON");
    check("/api/v1/sql", &[JSON], Some("{\"query\":\"1\",\"q\":1}"), "unknown field");
    let nested = "{\"query\":\"1\",\"parameters\":{\"a\":[1]}}";
    check("/api/v1/sql", &[JSON], Some(nested), "a is neither a text nor a number");
    check("/api/v1/sql", &[("content-type", "application/xml")], Some("1"), "is not read");
    check("/api/v1/sql?query=1", &[("accept", "image/png")], None, "none of image/png can be had");
    let long = format!("SELECT {}", "1".repeat(2_000));
    check("/api/v1/sql", &[], Some(&long), "the limit is 1024 (expression_bytes_max)");
    let told = ask("/api/v1/sql?query=wrong", &[], None);
    assert_eq!(told.status, StatusCode::BAD_REQUEST);
    let expected = r#"{"status":"error","errorType":"bad_data","error":"no column \"x\"","position":{"line":2,"column":7}}"#;
    assert_eq!(told.body, expected);
}

#[test]
fn clients_choose_the_form() {
    for (accept, word, kind) in [
        ("*/*", "Json", "application/json"),
        ("application/json", "Json", "application/json"),
        ("text/csv", "Csv", "text/csv; charset=utf-8; header=present"),
        ("image/png, text/csv;q=0.5", "Csv", "text/csv; charset=utf-8; header=present"),
        ("application/vnd.apache.arrow.stream", "Arrow", "application/vnd.apache.arrow.stream"),
    ] {
        let told = ask("/api/v1/sql?query=1", &[("accept", accept)], None);
        assert!(told.body.contains(word), "{accept}: {}", told.body);
        assert_eq!(told.headers[header::CONTENT_TYPE], kind, "{accept}");
    }
    let told = ask("/api/v1/sql?query=1&format=csv", &[("accept", "application/json")], None);
    assert!(told.body.contains("Csv"), "a parameter goes before the header");
}

#[test]
fn answers_are_compressed_whole() {
    let plain = ask("/api/v1/sql?query=long", &[], None);
    assert_eq!(plain.body.len(), 40 * 25_000);
    let request = Request::builder()
        .uri("/api/v1/sql?query=long")
        .header("accept-encoding", "zstd")
        .body(Body::empty())
        .expect("a request");
    block_on(async {
        let response = send(&querier(&Arc::new(Fake::default())), request).await;
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "zstd");
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        let whole = zstd::decode_all(&*bytes).expect("a whole frame");
        assert_eq!(whole, plain.body.as_bytes());
        assert!(bytes.len() < 10_000);
    });
}

#[test]
fn an_answer_that_breaks_off_is_no_whole_one() {
    block_on(async {
        let fake = Arc::new(Fake::default());
        let request = Request::builder().uri("/api/v1/sql?query=breaks").body(Body::empty());
        let response = send(&querier(&fake), request.expect("a request")).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body().into_data_stream();
        assert!(body.next().await.expect("a piece").is_ok());
        let error = body.next().await.expect("an end").expect_err("no whole answer");
        assert!(error.to_string().contains("too much"), "{error}");
        assert!(fake.cancels.lock()[0].is_set());
    });
}

#[test]
fn a_client_that_is_gone_ends_the_work() {
    block_on(async {
        let fake = Arc::new(Fake::default());
        let querier = querier(&fake);
        let request = Request::builder().uri("/api/v1/sql?query=slow").body(Body::empty());
        let asked = send(&querier, request.expect("a request"));
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), asked).await;
        assert!(waited.is_err(), "it is slow");
        for _ in 0..100 {
            if fake.cancels.lock().first().is_some_and(crate::Cancel::is_set) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("nobody told the executor");
    });
}
