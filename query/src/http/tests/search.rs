//! The search for names and values over HTTP, switched on and off, and who may ask.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header;

use super::{Fake, block_on, body, golden_with, querier_with, request, send};
use crate::{Cancel, Config};

fn on() -> Config {
    Config { search_api: true, ..Config::default() }
}

#[test]
fn names_are_searched() {
    golden_with(
        "search",
        on(),
        r#"
        GET /api/v1/search/metric_names
        POST /api/v1/search/metric_names search[]=up&include_score=true
        GET /api/v1/search/metric_names?include_metadata=1
        GET /api/v1/search/metric_names?match[]=up&match[]={job="a"}&start=1&end=2.5
        GET /api/v1/search/label_names
        GET /api/v1/search/label_names?search[]=JOB&case_sensitive=false&include_score=T
        GET /api/v1/search/label_names?search[]=jxb&fuzz_alg=jarowinkler
        GET /api/v1/search/label_names?search[]=jxb&fuzz_alg=jarowinkler&fuzz_threshold=70
        GET /api/v1/search/label_names?search[]=o&search[]=_n&sort_by=score&include_score=1
        GET /api/v1/search/label_names?sort_by=alpha&sort_dir=dsc&batch_size=1
        GET /api/v1/search/label_names?limit=2&batch_size=1
        GET /api/v1/search/label_names?limit=2&match[]=up
        GET /api/v1/search/label_names?search[]=nothing_like_it
        POST /api/v1/search/label_values label=job&search[]=z
        GET /api/v1/search/label_values?label=job&start=5&end=5
        GET /api/v1/search/label_values
        GET /api/v1/search/label_values?label=job&sort_by=age
        GET /api/v1/search/metric_names?sort_by=age
        GET /api/v1/search/label_names?sort_by=age
        GET /api/v1/search/label_names?sort_dir=asc
        GET /api/v1/search/label_names?sort_by=alpha&sort_dir=up
        GET /api/v1/search/label_names?sort_by=score
        GET /api/v1/search/label_names?sort_by=score&sort_dir=asc&search[]=a
        GET /api/v1/search/label_names?limit=0
        GET /api/v1/search/label_names?limit=-1
        GET /api/v1/search/label_names?limit=10001
        GET /api/v1/search/label_names?batch_size=x
        GET /api/v1/search/label_names?batch_size=10001
        GET /api/v1/search/label_names?fuzz_threshold=101
        GET /api/v1/search/label_names?fuzz_threshold=x
        GET /api/v1/search/label_names?fuzz_alg=soundex
        GET /api/v1/search/label_names?case_sensitive=maybe
        GET /api/v1/search/label_names?include_score=maybe
        GET /api/v1/search/metric_names?include_metadata=maybe
        GET /api/v1/search/label_names?start=x
        GET /api/v1/search/label_names?start=2&end=1
        GET /api/v1/search/label_names?match[]=up(
        GET /api/v1/search/label_names?match[]={}
        "#,
    );
}

#[test]
fn nothing_is_searched_unless_switched_on() {
    for path in ["metric_names", "label_names", "label_values?label=job"] {
        let line = format!("GET /api/v1/search/{path}");
        let response =
            block_on(send(&querier_with(&Arc::default(), Config::default()), request(&line)));
        assert_eq!(response.status(), 503, "{path}");
        assert!(!response.headers().contains_key(header::RETRY_AFTER), "it stays off");
        let text = block_on(body(response));
        let expected =
            r#"{"status":"error","errorType":"unavailable","error":"search API disabled"}"#;
        assert_eq!(text, expected, "{path}");
    }
}

#[test]
fn terms_are_bounded() {
    let check = |form: String, told: &str| {
        let line = format!("POST /api/v1/search/label_names {form}");
        let response = block_on(send(&querier_with(&Arc::default(), on()), request(&line)));
        let text = block_on(body(response));
        assert!(text.contains(told), "{text}");
    };
    check("search[]=a&".repeat(32), r#""status":"success""#);
    check("search[]=a&".repeat(33), "too many search[] terms: got 33, maximum is 32");
    check(format!("search[]={}", "a".repeat(1_024)), r#""status":"success""#);
    check(format!("search[]={}", "a".repeat(1_025)), "has 1025 bytes, the limit is 1024");
}

#[test]
fn a_search_ends_when_the_client_goes_away() {
    let fake: Arc<Fake> = Arc::default();
    let querier = querier_with(&fake, on());
    block_on(async {
        let asked = send(&querier, request("GET /api/v1/search/label_names?match[]=slow"));
        let gone = tokio::time::timeout(Duration::from_millis(20), asked).await;
        assert!(gone.is_err(), "it would have run on");
    });
    assert!(fake.cancels.lock().iter().all(Cancel::is_set) && !fake.cancels.lock().is_empty());
}
