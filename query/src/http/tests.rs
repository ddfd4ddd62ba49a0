//! Every endpoint and error over HTTP, before an executor that answers from a table.

mod documents;
mod fake;
mod flow;
mod search;
mod tokens;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use model::Labels;
use tenancy::{Authenticator, TenantName};
use testkit::ManualClock;
use tower::ServiceExt;

use super::{ROUTES, router};
use crate::{About, Config, Querier};
pub(super) use fake::Fake;

/// 2026-11-21T12:32:17.053Z
const NOW_MS: i64 = 1_795_264_337_053;

pub(super) fn querier(fake: &Arc<Fake>) -> Querier {
    querier_with(fake, small())
}

/// Limits that tests reach.
fn small() -> Config {
    // Nobody listens live: an answer that has no end is not compared with one that was written down.
    let notification_listeners_max = 0;
    Config {
        form_bytes_max: 4096,
        expression_bytes_max: 1024,
        notification_listeners_max,
        ..Config::default()
    }
}

pub(super) fn querier_with(fake: &Arc<Fake>, config: Config) -> Querier {
    let about = About {
        version: "0.1.0".to_owned(),
        revision: "abc123".to_owned(),
        built: "2026-11-20".to_owned(),
        started_ms: NOW_MS - 60_000,
    };
    let clock = Arc::new(ManualClock::new(NOW_MS));
    Querier::new(Arc::clone(fake) as _, clock, config, about)
}

/// A request as a line: method, path with query, and a form if there is one.
pub(super) fn request(line: &str) -> Request<Body> {
    let mut words = line.split(' ');
    let method: Method = words.next().and_then(|m| m.parse().ok()).expect("a method");
    let uri =
        words.next().expect("a path").replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    let mut builder = Request::builder().method(method).uri(uri);
    let body = match words.next() {
        Some(form) => {
            builder = builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            Body::from(form.to_owned())
        }
        None => Body::empty(),
    };
    builder.body(body).expect("a request")
}

/// Who asks in tests: one tenant, unless the request names others.
pub(super) fn everybody() -> Arc<Authenticator> {
    let authenticator = Authenticator::for_test();
    for name in ["team-a", "team-b"] {
        let name = TenantName::new(name).expect("a name");
        authenticator.directory().find_or_create(&name, 9).expect("a directory in memory");
    }
    Arc::new(authenticator)
}

pub(super) async fn send(querier: &Querier, mut request: Request<Body>) -> Response {
    let tenant = HeaderValue::from_static("team-a");
    request.headers_mut().entry("X-Scope-OrgID").or_insert(tenant);
    let router = router(querier.clone(), everybody());
    router.oneshot(request).await.expect("routers do not fail")
}

async fn body(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
    String::from_utf8(bytes.to_vec()).expect("a body that is text")
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// The answers to some requests as a text.
#[track_caller]
fn golden(name: &str, requests: &str) {
    golden_with(name, small(), requests);
}

/// The same under other settings.
#[track_caller]
fn golden_with(name: &str, config: Config, requests: &str) {
    let querier = querier_with(&Arc::default(), config);
    let mut shown = String::new();
    for line in requests.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let response = block_on(send(&querier, request(line)));
        let status = response.status().as_u16();
        let kind = response
            .headers()
            .get(header::CONTENT_TYPE)
            .map_or("", |v| v.to_str().expect("text"))
            .to_owned();
        let text = block_on(body(response));
        if kind == "application/json" {
            serde_json::from_str::<serde_json::Value>(&text)
                .unwrap_or_else(|e| panic!("{line}: {e}: {text}"));
        }
        shown.push_str(&format!("> {line}\n{status} {kind}\n{}\n\n", text.trim_end()));
    }
    testkit::golden::check(format!("tests/golden/http/{name}.txt"), &shown);
}

#[test]
fn instant_queries() {
    golden(
        "query",
        r#"
        POST /api/v1/query query=1%2B1&time=4
        GET /api/v1/query?query=1%2B1&time=4
        GET /api/v1/query?query=1%2B1
        GET /api/v1/query?query=1%2B1&time=2015-07-01T20:10:51.781Z
        POST /api/v1/query?time=9 query=1%2B1&time=3
        GET /api/v1/query?query="text"
        GET /api/v1/query?query=up
        GET /api/v1/query?query=up&limit=1
        GET /api/v1/query?query=up&limit=2
        GET /api/v1/query?query=up&limit=0
        GET /api/v1/query?query=up[5m]
        GET /api/v1/query?query=latency
        GET /api/v1/query?query=nothing
        GET /api/v1/query?query=noisy
        GET /api/v1/query?query=up&stats=true
        GET /api/v1/query?query=up&time=1.5&stats=all
        GET /api/v1/query?query=up&stats=yes
        GET /api/v1/query?query=up&profile=1
        GET /api/v1/query?query=up&profile=maybe
        GET /api/v1/query?query=echo&time=-5
        GET /api/v1/query?query=echo&time=1e15&timeout=30&lookback_delta=1m&merge_tenants=true
        GET /api/v1/query?query=echo&timeout=1h&lookback_delta=0
        GET /api/v1/query?query=echo&time=-292273086-05-16T16:47:06Z
        GET /api/v1/query?query=echo&time=292277025-08-18T07:12:54.999999999Z
        "#,
    );
}

#[test]
fn range_queries() {
    golden(
        "query_range",
        r#"
        GET /api/v1/query_range?query=up&start=1435781430.781&end=1435781460.781&step=15s
        POST /api/v1/query_range query=up&start=0&end=2&step=2&limit=1
        GET /api/v1/query_range?query=nothing&start=0&end=2&step=1
        GET /api/v1/query_range?query=latency&start=0&end=1&step=1
        GET /api/v1/query_range?query=echo&start=1970-01-01T00:00:10Z&end=20&step=1m30s
        GET /api/v1/query_range?query=echo&start=0&end=11000&step=1
        GET /api/v1/query_range?query=echo&start=0&end=11001&step=1
        GET /api/v1/query_range?query=up
        GET /api/v1/query_range?query=up&start=1&end=x
        GET /api/v1/query_range?query=up&start=10&end=5&step=1
        GET /api/v1/query_range?query=up&start=1&end=5
        GET /api/v1/query_range?query=up&start=1&end=5&step=x
        GET /api/v1/query_range?query=up&start=1&end=5&step=1e30
        GET /api/v1/query_range?query=up&start=1&end=5&step=0
        GET /api/v1/query_range?query=up&start=1&end=5&step=-1
        GET /api/v1/query_range?query=up&start=1&end=5&step=0.0001
        GET /api/v1/query_range?query=up[5m]&start=0&end=10&step=1
        GET /api/v1/query_range?query="a"&start=0&end=10&step=1
        GET /api/v1/query_range?query=up(&start=0&end=3&step=2
        GET /api/v1/query_range?query=up&start=-1e30&end=3&step=2
        "#,
    );
}

#[test]
fn wrong_questions() {
    golden(
        "errors",
        r#"
        GET /api/v1/query
        GET /api/v1/query?query=up(
        GET /api/v1/query?query=1%2B1&time=x
        GET /api/v1/query?query=1%2B1&time=NaN
        GET /api/v1/query?query=1%2B1&time="\%0a
        GET /api/v1/query?query=up&timeout=x
        GET /api/v1/query?query=up&timeout=-1
        GET /api/v1/query?query=up&lookback_delta=x
        GET /api/v1/query?query=up&limit=x
        GET /api/v1/query?query=up&limit=-1
        GET /api/v1/query?query=up&limit=99999999999999999999
        GET /api/v1/query?query=up&merge_tenants=maybe
        GET /api/v1/query?query=up%zz
        GET /api/v1/query?query=up%2
        GET /api/v1/query?query=%ff
        GET /api/v1/query?query=1;time=4
        GET /api/v1/query?query=fails
        GET /api/v1/query?query=breaks
        GET /api/v1/query?query=slow&timeout=0.01
        HEAD /api/v1/query?query=1
        PUT /api/v1/query?query=1
        DELETE /api/v1/labels
        POST /api/v1/label/job/values
        OPTIONS /api/v1/query
        GET /api/v1/nope
        "#,
    );
}

#[test]
fn lists() {
    golden(
        "lists",
        r#"
        GET /api/v1/series?match[]=up&match[]={job=~"a.*"}&start=1&end=2.5&limit=10
        POST /api/v1/series match[]=up&limit=1
        GET /api/v1/series
        GET /api/v1/series?match[]={}
        GET /api/v1/series?match[]={a=~".*"}
        GET /api/v1/series?match[]=up(
        GET /api/v1/series?match[]=up&start=x
        GET /api/v1/series?match[]=%zz
        POST /api/v1/labels limit=40000
        GET /api/v1/labels?match[]=up&limit=1
        GET /api/v1/labels?match[]={}
        GET /api/v1/labels?match[]=up(
        GET /api/v1/labels?start=x
        GET /api/v1/label/job/values
        GET /api/v1/label/job/values?limit=1&merge_tenants=1
        GET /api/v1/label/a-b/values
        GET /api/v1/label/U__http_2e_status/values
        GET /api/v1/label/k8s%2Fnode%20%C3%A9/values
        GET /api/v1/label/%ff/values
        GET /api/v1/label/job/values?end=x
        GET /api/v1/metadata
        GET /api/v1/metadata?metric=up
        GET /api/v1/metadata?limit=1&limit_per_metric=1
        GET /api/v1/metadata?limit=0
        GET /api/v1/metadata?limit=x
        GET /api/v1/metadata?limit_per_metric=x
        POST /api/v1/query_exemplars query=test&start=1795190000000&end=1795191800000
        GET /api/v1/query_exemplars?query=sum(rate(up[5m]))%2Blatency&start=1&end=2
        GET /api/v1/query_exemplars?query=1
        GET /api/v1/query_exemplars?query=up(
        GET /api/v1/query_exemplars?query=up&start=5&end=3
        "#,
    );
}

#[test]
fn the_server_about_itself() {
    golden(
        "status",
        r#"
        GET /api/v1/status/buildinfo
        GET /api/v1/status/flags
        GET /api/v1/status/tsdb
        GET /api/v1/status/tsdb?limit=1
        GET /api/v1/status/tsdb?limit=0
        GET /api/v1/status/tsdb?limit=x
        GET /api/v1/status/tsdb?limit=10001
        GET /api/v1/rules
        GET /api/v1/rules?type=alert
        GET /api/v1/rules?type=x
        GET /api/v1/rules?type=ALERT&match[]=up&exclude_alerts=true&group_limit=5
        GET /api/v1/rules?match[]={}
        GET /api/v1/rules?exclude_alerts=maybe
        GET /api/v1/rules?group_limit=x
        GET /api/v1/rules?group_limit=99999999999
        GET /api/v1/rules?group_limit=0
        GET /api/v1/rules?group_next_token=abc
        GET /api/v1/rules?group_limit=1&group_next_token=abc
        GET /api/v1/alerts
        GET /api/v1/alertmanagers
        GET /api/v1/targets
        GET /api/v1/targets?state=active
        GET /api/v1/targets?state=Dropped
        GET /api/v1/targets/metadata
        GET /api/v1/targets/metadata?limit=x
        GET /api/v1/targets/metadata?match_target={job=
        GET /api/v1/scrape_pools
        GET /api/v1/notifications
        GET /api/v1/notifications/live
        GET /api/v1/status/tsdb/blocks
        GET /api/v1/status/walreplay
        GET /api/v1/status/self_metrics
        GET /api/v1/status/self_metrics?metric_name_pattern=(
        GET /api/v1/features
        "#,
    );
    let response =
        block_on(send(&querier(&Arc::default()), request("GET /api/v1/status/runtimeinfo")));
    let shown: serde_json::Value = serde_json::from_str(&block_on(body(response))).expect("JSON");
    assert_eq!(shown["data"]["startTime"], "2026-11-21T12:31:17.053Z");
    assert!(shown["data"]["GOMAXPROCS"].as_i64() >= Some(1));
    // Not golden: whoever adds a limit need not come here.
    let config = block_on(send(&querier(&Arc::default()), request("GET /api/v1/status/config")));
    let shown: serde_json::Value = serde_json::from_str(&block_on(body(config))).expect("JSON");
    let yaml = shown["data"]["yaml"].as_str().expect("a text");
    assert!(yaml.starts_with("query:\n  "), "{yaml}");
    assert!(
        yaml.contains("limits:\n  ") && yaml.contains("\n  query_series_max: 500000\n"),
        "{yaml}"
    );
}

#[test]
fn newest_values_are_exposed() {
    golden(
        "federate",
        r#"
        GET /federate
        GET /federate?match[]=newest
        GET /federate?match[]=nothing
        GET /federate?match[]={}
        GET /federate?match[]=up(
        GET /federate?match[]=fails
        "#,
    );
    let ask = |accept: &str| {
        let mut request = request("GET /federate?match[]=newest");
        request.headers_mut().insert(header::ACCEPT, accept.parse().expect("a header"));
        let response = block_on(send(&querier(&Arc::default()), request));
        let kind = response.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned();
        (kind, block_on(to_bytes(response.into_body(), usize::MAX)).expect("a whole body"))
    };
    let (kind, text) = ask("text/plain;version=1.0.0;escaping=allow-utf-8");
    assert_eq!(kind, "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8");
    let text = String::from_utf8_lossy(&text);
    let line = "{\"http.status\",\"k8s.node\"=\"é\",instance=\"\"} 2 1795264337048\n";
    assert!(text.contains(line), "{text}");
    let (kind, families) = ask(
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    );
    assert!(kind.starts_with("application/vnd.google.protobuf;"), "{kind}");
    let mut rest = &families[..];
    let mut names = Vec::new();
    while !rest.is_empty() {
        let length = model::varint::take(&mut rest).expect("a length") as usize;
        let (family, after) = rest.split_at(length);
        rest = after;
        let name = usize::from(family[1]);
        let kind = &family[2 + name..4 + name];
        names.push((String::from_utf8_lossy(&family[2..2 + name]).into_owned(), kind.to_vec()));
    }
    let of = |name: &str, kind: u8| (name.to_owned(), vec![3 << 3, kind]);
    assert_eq!(names, [of("http_status", 3), of("latency", 4), of("up", 3)]);
}

#[test]
fn texts_about_texts() {
    golden(
        "syntax",
        r#"
        GET /api/v1/format_query?query=foo/bar
        GET /api/v1/format_query?query=foo(
        GET /api/v1/format_query
        GET /api/v1/parse_query
        GET /api/v1/parse_query?query=foo(
        POST /api/v1/parse_query query=foo/bar
        POST /api/v1/parse_query query=sum+by(a,b)(rate(foo{a%3D~"x.*",b!%3D"y"}[5m]+offset+1m))
        POST /api/v1/parse_query query=topk+without(a)(5,foo+@+start())
        POST /api/v1/parse_query query=foo*on(a)group_left(b)bar
        POST /api/v1/parse_query query=foo>bool+1
        POST /api/v1/parse_query query=foo+and+ignoring(a)bar
        POST /api/v1/parse_query query=max_over_time(foo[1h:5m]+@+1609746000.5+offset+-1m)
        POST /api/v1/parse_query query=-foo[1h:]+@+end()
        POST /api/v1/parse_query query=-(1e300)
        POST /api/v1/parse_query query=label_join(foo,"a","b\\n","c")
        POST /api/v1/parse_query query={"http.status"}[step()]
        POST /api/v1/parse_query query=NaN
        "#,
    );
}

/// A path of the API with its variable part filled.
fn example(path: &str) -> String {
    path.replace("{name}", "job").replace("{id}", "1")
}

#[test]
fn tenants_are_merged_on_demand() {
    let querier = querier(&Arc::default());
    let ask = |parameter: &str| {
        let line = format!("GET /api/v1/query?query=echo{parameter}");
        let mut request = request(&line);
        request.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static("team-b|team-a"));
        block_on(body(block_on(send(&querier, request))))
    };
    assert!(ask("").contains(r#"[\"team-a\", \"team-b\"] labelled=true"#), "{}", ask(""));
    let merged = ask("&merge_tenants=true");
    assert!(merged.contains(r#"[\"team-a\", \"team-b\"] labelled=false"#), "{merged}");
}

#[test]
fn other_methods_are_told_which_are_allowed() {
    let querier = querier(&Arc::default());
    let allow = |line: &str| {
        let response = block_on(send(&querier, request(line)));
        let allow =
            response.headers().get(header::ALLOW).map(|v| v.to_str().expect("text").to_owned());
        (response.status().as_u16(), allow.unwrap_or_default())
    };
    assert_eq!(allow("PUT /api/v1/query"), (405, "GET, OPTIONS, POST".to_owned()));
    assert_eq!(allow("POST /api/v1/metadata"), (405, "GET, OPTIONS".to_owned()));
    for route in ROUTES {
        let path = example(route.path);
        assert_eq!(allow(&format!("PATCH {path}")).0, 405, "{path}");
        assert_eq!(allow(&format!("OPTIONS {path}")).0, 204, "{path}");
    }
}

#[test]
fn bombs_are_refused() {
    let querier = querier(&Arc::default());
    let check = |form: String, told: &str| {
        let response = block_on(send(&querier, request(&format!("POST /api/v1/query {form}"))));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let text = block_on(body(response));
        assert!(text.contains(told), "{text}");
    };
    check(format!("query={}", "%2B1".repeat(300_000)), "form_bytes_max");
    check(format!("query=1{}", "%2B1".repeat(900)), "expression has 1801 bytes, the limit is 1024");
    for nested in ["(", "-", "sum(", "abs(", "1^"] {
        check(format!("query={}1", nested.repeat(1000 / nested.len())), "parse error");
    }
}

#[test]
fn pages_of_other_origins_need_permission() {
    let fake = Arc::default();
    let ask = |querier: &Querier| {
        let mut request = request("GET /api/v1/query?query=1%2B1");
        request.headers_mut().insert(header::ORIGIN, "http://elsewhere".parse().expect("a header"));
        let headers: HeaderMap = block_on(send(querier, request)).headers().clone();
        headers
            .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)
            .map(|v| v.to_str().expect("text").to_owned())
    };
    let closed = querier(&fake);
    assert_eq!(ask(&closed), None);
    for (cors_origin, allowed) in
        [("*", Some("*")), ("http://else.*", Some("http://elsewhere")), ("http://else", None)]
    {
        let config = Config { cors_origin: cors_origin.to_owned(), ..Config::default() };
        let found = ask(&querier_with(&fake, config));
        assert_eq!(found.as_deref(), allowed, "{cors_origin}");
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}
