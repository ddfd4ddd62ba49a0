//! Loki's API over HTTP, before entries in memory.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, StatusCode};
use model::{Level, Signal};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::super::tests::{Fake, block_on, everybody, querier, request};
use super::{ENDPOINTS, loki_router, loki_routes};
use crate::entries::memory::{Memory, New};

/// A minute of nanoseconds.
const MINUTE: i64 = 60_000_000_000;
/// When the first entry is written: 2023-11-14T22:13:20Z.
const T0: i64 = 1_700_000_000_000_000_000;

/// Two streams of one tenant and one of another.
fn memory() -> Arc<Memory> {
    let memory = Memory::default();
    let web = [("app", "web"), ("namespace", "shop")];
    let db = [("app", "db"), ("namespace", "shop")];
    let add = |tenant, labels: &[(&str, &str)], minute, line, fields: &[(&str, &str)], level| {
        let at_ns = T0 + minute * MINUTE;
        memory.add(New { tenant, signal: Signal::Logs, labels, at_ns, line, fields, level });
    };
    add("team-a", &web, 0, "GET /cart 200", &[("trace", "t1")], Level::Info);
    add("team-a", &web, 1, "GET /pay 500 {\"code\":7}", &[("trace", "t2")], Level::Error);
    // Three at one instant: they keep the order in which they came.
    add("team-a", &db, 2, "begin", &[], Level::Info);
    add("team-a", &db, 2, "select \"x\"", &[], Level::Info);
    add("team-a", &db, 2, "commit", &[], Level::Info);
    add("team-a", &web, 3, "GET /cart 200", &[("trace", "t3")], Level::Unknown);
    add("team-b", &web, 1, "of another", &[], Level::Warn);
    let audit = [("kind", "audit")];
    memory.add(New {
        tenant: "team-a",
        signal: Signal::Audits,
        labels: &audit,
        at_ns: T0,
        line: "{}",
        fields: &[],
        level: Level::Unknown,
    });
    Arc::new(memory)
}

fn answer(request: Request<Body>) -> (StatusCode, String) {
    answer_of(memory(), request)
}

fn answer_of(memory: Arc<Memory>, mut request: Request<Body>) -> (StatusCode, String) {
    let tenant = HeaderValue::from_static("team-a");
    request.headers_mut().entry("X-Scope-OrgID").or_insert(tenant);
    block_on(async {
        let fake: Arc<Fake> = Arc::default();
        let router = loki_router(querier(&fake), memory, everybody());
        let response = router.oneshot(request).await.expect("routers do not fail");
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    })
}

/// A path with the query in it, its blanks and signs encoded.
fn get(path: &str, query: &str, rest: &str) -> Request<Body> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let separator = if path.contains('?') { '&' } else { '?' };
    request(&format!("GET {path}{separator}query={encoded}{rest}"))
}

/// Around all entries, as Grafana sends a range.
fn whole_range() -> String {
    format!("&start={T0}&end={}", T0 + 10 * MINUTE)
}

#[track_caller]
fn data(request: Request<Body>) -> Value {
    let (status, body) = answer(request);
    assert_eq!(status, StatusCode::OK, "{body}");
    let mut value: Value = serde_json::from_str(&body).expect(&body);
    if let Some(data) = value.get_mut("data").and_then(Value::as_object_mut) {
        data.remove("stats");
    }
    value
}

/// The lines of a query, in order, with the minute of each.
#[track_caller]
fn lines(query: &str, rest: &str) -> Vec<String> {
    let rest = format!("{}{rest}", whole_range());
    let value = data(get("/loki/api/v1/query_range", query, &rest));
    assert_eq!(value["data"]["resultType"], "streams", "{query}");
    let mut found = Vec::new();
    for stream in value["data"]["result"].as_array().expect("streams") {
        for entry in stream["values"].as_array().expect("values") {
            let at_ns: i64 = entry[0].as_str().expect("a time").parse().expect("a number");
            found.push(format!("{} {}", (at_ns - T0) / MINUTE, entry[1].as_str().expect("a line")));
        }
    }
    found
}

#[track_caller]
fn refused(request: Request<Body>, status: u16, text: &str) {
    let (found, body) = answer(request);
    assert_eq!((found.as_u16(), body.trim_end()), (status, text));
}

#[test]
fn lines_are_filtered() {
    let check = |pipeline: &str, wanted: &[&str]| {
        let found = lines(&format!("{{namespace=\"shop\"}} {pipeline}"), "&direction=forward");
        let mut found: Vec<&str> = found.iter().map(String::as_str).collect();
        found.sort_by_key(|line| line.split_once(' ').map(|(minute, _)| minute.to_owned()));
        assert_eq!(found, wanted, "{pipeline}");
    };
    let (cart, pay) = ("0 GET /cart 200", "1 GET /pay 500 {\"code\":7}");
    check("", &[cart, pay, "2 begin", "2 select \"x\"", "2 commit", "3 GET /cart 200"]);
    check("|= `cart`", &[cart, "3 GET /cart 200"]);
    check("|= `cart` or `begin`", &[cart, "2 begin", "3 GET /cart 200"]);
    check("!= `cart` or `begin`", &[pay, "2 select \"x\"", "2 commit"]);
    check("|~ `(?i)get .* 5..`", &[pay]);
    check(r#"|~ `{"code":\d}`"#, &[pay]);
    check("|= `GET` !~ `200$`", &[pay]);
    check("| trace=`t2`", &[pay]);
    check("| app=`db` | detected_level=`info` |= `begin`", &["2 begin"]);
    check("| trace=`t1` or detected_level=`error`", &[cart, pay]);
    check("| trace=~`t.` and (app!=`web` or trace!=`t3`)", &[cart, pay]);
}

#[test]
fn order_and_limit_hold_over_all_streams() {
    let all = "{namespace=\"shop\"}";
    assert_eq!(lines(all, "&limit=1"), ["3 GET /cart 200"]);
    // The newest three: two streams, each newest first.
    assert_eq!(lines(all, "&limit=3"), ["2 commit", "2 select \"x\"", "3 GET /cart 200"]);
    assert_eq!(lines(all, "&limit=2&direction=FORWARD").len(), 2);
    let end = format!("&end={}", T0 + 3 * MINUTE);
    let start = format!("&start={T0}");
    let value = data(get("/loki/api/v1/query_range", all, &format!("{start}{end}")));
    assert!(!value.to_string().contains("t3"), "the end is outside");
    let value = data(get("/loki/api/v1/query_range", all, "&start=1700000000&end=1700000001"));
    assert!(value.to_string().contains("t1"), "the start is inside");
}

#[test]
fn fields_are_labels_unless_they_are_told_apart() {
    let query = "{app=\"web\"} |= `pay`";
    let at = (T0 + MINUTE).to_string();
    let line = "GET /pay 500 {\"code\":7}";
    let labels =
        json!({"app": "web", "namespace": "shop", "trace": "t2", "detected_level": "error"});
    assert_eq!(
        data(get("/loki/api/v1/query_range", query, &whole_range())),
        json!({"status": "success", "data": {"resultType": "streams", "result": [
            {"stream": labels, "values": [[at, line]]}
        ]}})
    );
    let mut asked = get("/loki/api/v1/query_range", query, &whole_range());
    let flag = HeaderValue::from_static("categorize-labels");
    asked.headers_mut().insert("X-Loki-Response-Encoding-Flags", flag);
    let fields = json!({"structuredMetadata": {"trace": "t2", "detected_level": "error"}});
    assert_eq!(
        data(asked),
        json!({"status": "success", "data": {
            "resultType": "streams",
            "encodingFlags": ["categorize-labels"],
            "result": [{
                "stream": {"app": "web", "namespace": "shop"},
                "values": [[at, line, fields]]
            }]
        }})
    );
}

#[track_caller]
fn numbers(query: &str, rest: &str, result: &Value) {
    let value = data(get("/loki/api/v1/query_range", query, rest));
    assert_eq!(value["data"]["resultType"], "matrix", "{query}");
    assert_eq!(&value["data"]["result"], result, "{query}");
}

#[test]
fn lines_are_counted() {
    // Instants at minutes 1, 2, 3; a window ends with its instant.
    let rest = format!("&start={}&end={}&step=60", T0 + MINUTE, T0 + 3 * MINUTE);
    let at = |minute: i64| (T0 / 1_000_000_000) + minute * 60;
    numbers(
        "sum by (app) (count_over_time({namespace=\"shop\"}[1m]))",
        &rest,
        &json!([
            {"metric": {"app": "db"}, "values": [[at(2), "3"]]},
            {"metric": {"app": "web"}, "values": [[at(1), "1"], [at(3), "1"]]},
        ]),
    );
    // Windows longer than the step overlap, and begin after their first nanosecond.
    numbers(
        "sum(count_over_time({app=\"web\"}[2m]))",
        &rest,
        &json!([{"metric": {}, "values": [[at(1), "2"], [at(2), "1"], [at(3), "1"]]}]),
    );
    numbers(
        "sum by (detected_level) (rate({app=\"web\"} |= `GET` [1m])) * 60 > 0",
        &rest,
        &json!([
            {"metric": {"detected_level": "error"}, "values": [[at(1), "1"]]},
            {"metric": {"detected_level": "unknown"}, "values": [[at(3), "1"]]},
        ]),
    );
    numbers(
        "max without (trace, detected_level, app) (bytes_over_time({app=\"web\"}[5m]))",
        &format!("&start={}&end={}&step=60", T0 + 3 * MINUTE, T0 + 3 * MINUTE + 1),
        &json!([{"metric": {"namespace": "shop"}, "values": [[at(3), "23"]]}]),
    );
    numbers(
        "sum(count_over_time({app=\"web\"} | trace=`t1` or trace=`t3` [10m] offset 1m))",
        &format!("&start={}&end={}&step=60", T0 + 3 * MINUTE, T0 + 4 * MINUTE),
        &json!([{"metric": {}, "values": [[at(3), "1"], [at(4), "2"]]}]),
    );
    numbers(
        "1 + 1",
        &rest,
        &json!([{"metric": {}, "values": [[at(1), "2"], [at(2), "2"], [at(3), "2"]]}]),
    );
}

#[test]
fn instant_queries_give_numbers() {
    let at = T0 + 3 * MINUTE;
    let get = |query: &str| get("/loki/api/v1/query", query, &format!("&time={at}&limit=30"));
    assert_eq!(
        data(get("sum(count_over_time({namespace=\"shop\"}[1h]))")),
        json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {}, "value": [at / 1_000_000_000, "6"]}
        ]}})
    );
    // What Grafana asks to see whether a data source works.
    let vector = self::get("/loki/api/v1/query", "vector(1)+vector(1)", "&time=4000000000");
    assert_eq!(
        data(vector)["data"]["result"],
        json!([{"metric": {}, "value": [4_000_000_000_i64, "2"]}])
    );
    assert_eq!(data(get("2 * 3"))["data"]["resultType"], "scalar");
    let text = "log queries are not supported as an instant query type, please change your query to a range query type";
    refused(get("{app=\"web\"}"), 400, text);
}

#[test]
fn listings_say_what_there_is() {
    let range = whole_range();
    let list = |path: &str, rest: &str| data(request(&format!("GET {path}?x=1{range}{rest}")));
    let names = json!({"status": "success", "data": ["app", "namespace"]});
    assert_eq!(list("/loki/api/v1/labels", ""), names);
    assert_eq!(list("/loki/api/v1/label", ""), names);
    assert_eq!(list("/loki/api/v1/label/app/values", "")["data"], json!(["db", "web"]));
    assert_eq!(list("/loki/api/v1/label/app/values", "&query={app=\"db\"}")["data"], json!(["db"]));
    assert_eq!(list("/api/prom/label", ""), json!({"values": ["app", "namespace"]}));
    assert_eq!(list("/api/prom/label/app/values", ""), json!({"values": ["db", "web"]}));
    let web = json!([{"app": "web", "namespace": "shop"}]);
    for name in ["match[]", "match"] {
        let found = list("/loki/api/v1/series", &format!("&{name}={{app=\"web\"}}"));
        assert_eq!(found["data"], web, "{name}");
    }
    assert_eq!(
        list("/loki/api/v1/detected_labels", ""),
        json!({"detectedLabels": [
            {"label": "app", "cardinality": 2}, {"label": "namespace", "cardinality": 1}
        ]})
    );
}

#[test]
fn volumes_are_told() {
    let range = whole_range();
    let shop = "{namespace=\"shop\"}";
    assert_eq!(
        data(get("/loki/api/v1/index/stats", "{app=\"db\"}", &range)),
        json!({"streams": 1, "chunks": 1, "bytes": 5 + 10 + 6, "entries": 3})
    );
    let volume = |rest: &str| {
        data(get("/loki/api/v1/index/volume", shop, &format!("{range}{rest}")))["data"]["result"]
            .clone()
    };
    let at = (T0 + 10 * MINUTE) / 1_000_000_000;
    // Lines and fields: 13 + 7 twice, 23 + 7, and 21 of the other.
    assert_eq!(volume(""), json!([{"metric": {"namespace": "shop"}, "value": [at, "91"]}]));
    assert_eq!(
        volume("&targetLabels=app"),
        json!([
            {"metric": {"app": "web"}, "value": [at, "70"]},
            {"metric": {"app": "db"}, "value": [at, "21"]},
        ])
    );
    assert_eq!(volume("&targetLabels=app&limit=1").as_array().map(Vec::len), Some(1));
    let ranged = get("/loki/api/v1/index/volume_range", shop, &format!("{range}&step=120"));
    let seconds = T0 / 1_000_000_000;
    assert_eq!(
        data(ranged)["data"]["result"],
        json!([{"metric": {"namespace": "shop"},
            "values": [[seconds, "36"], [seconds + 120, "34"]]}])
    );
}

#[test]
fn several_tenants_are_told_apart() {
    let mut asked =
        get("/loki/api/v1/query_range", "{app=\"web\"} |= `of another`", &whole_range());
    asked.headers_mut().insert("X-Scope-OrgID", HeaderValue::from_static("team-a|team-b"));
    assert_eq!(data(asked)["data"]["result"][0]["stream"]["__tenant_id__"], "team-b");
    assert!(lines("{app=\"web\"} |= `of another`", "").is_empty(), "one tenant sees its own");
}

#[test]
fn requests_that_are_wrong_are_told_so_in_plain_text() {
    let range = whole_range();
    let ask = |query: &str, rest: &str| get("/loki/api/v1/query_range", query, rest);
    refused(
        ask("{app=\"web\"", &range),
        400,
        "parse error at line 1, col 11: syntax error: unexpected $end, expecting } or ,",
    );
    refused(ask("{a=\"b\"}", "&limit=0"), 400, "limit must be a positive value");
    let text =
        "max entries limit per query exceeded, limit > max_entries_limit_per_query (9999 > 5000)";
    refused(ask("{a=\"b\"}", "&limit=9999"), 400, text);
    let text = "end timestamp must not be before or equal to start time";
    refused(ask("{a=\"b\"}", "&start=5&end=5"), 400, text);
    refused(ask("{a=\"b\"}", "&direction=up"), 400, "invalid direction 'up'");
    let text =
        "zero or negative query resolution step widths are not accepted. Try a positive integer";
    refused(ask("rate({a=\"b\"}[1m])", "&step=0"), 400, text);
    let text = "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter";
    refused(ask("rate({a=\"b\"}[1m])", "&start=0&end=20000&step=1"), 400, text);
    let unsupported = [
        ("{a=\"b\"} |= `c`\n | json", "not supported yet at line 2, col 2: the parser json"),
        (
            "{a=\"b\"} | c > 5",
            "not supported yet at line 1, col 9: a label filter that compares numbers, durations, sizes or addresses",
        ),
        ("topk(3, rate({a=\"b\"}[1m]))", "not supported yet at line 1, col 1: topk"),
        (
            "sum(rate({a=\"b\"} | unwrap c [1m]))",
            "not supported yet at line 1, col 5: rate of unwrapped values",
        ),
    ];
    for (query, text) in unsupported {
        refused(ask(query, &range), 400, text);
    }
    let (status, _) = answer(request("DELETE /loki/api/v1/query"));
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn odds_and_ends_answer_as_clients_expect() {
    let (status, body) =
        answer(get("/loki/api/v1/format_query", "sum(rate({ a = `b` }[1m]))by(c)", ""));
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, r#"{"status":"success","data":"sum by (c)(rate({a=\"b\"}[1m]))"}"#);
    let (status, body) = answer(get("/loki/api/v1/format_query", "{", ""));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body.starts_with(r#"{"status":"invalid-query","error":"parse error at line 1"#),
        "{body}"
    );
    assert_eq!(data(request("GET /loki/api/v1/status/buildinfo"))["version"], "3.5.0");
    assert_eq!(answer(request("GET /loki/ready")).1, "ready\n");
    // A form works as a query string does.
    let form = format!("query=%7Bapp%3D%22db%22%7D&start={T0}&end={}", T0 + 10 * MINUTE);
    let value = data(request(&format!("POST /loki/api/v1/query_range {form}")));
    assert!(value.to_string().contains("commit"), "{value}");
    let value = data(request(&format!("GET /api/prom/query?{form}&direction=forward")));
    assert_eq!(
        value["streams"][0]["entries"][0],
        json!({"ts": "2023-11-14T22:15:20.000000000Z", "line": "begin"})
    );
}

#[test]
fn tails_are_refused_before_they_begin_as_loki_refuses_them() {
    let tail = |query: &str, rest: &str| get("/loki/api/v1/tail", query, rest);
    refused(tail("rate({a=\"b\"}[1m])", ""), 400, "only log selector is supported");
    refused(tail("{a=\"b\"}", "&delay_for=6"), 400, "delay_for can't be greater than 5");
    let text = "could not parse 'delay_for' parameter: \"soon\" is no number of seconds";
    refused(tail("{a=\"b\"}", "&delay_for=soon"), 400, text);
    refused(tail("{a=\"b\"}", "&limit=0"), 400, "limit must be a positive value");
    let parser = "not supported yet at line 1, col 9: the parser json";
    refused(tail("{a=\"b\"} | json", ""), 400, parser);
    let (status, _) = answer(tail("{a=\"b\"}", ""));
    assert_eq!(status, StatusCode::BAD_REQUEST, "no WebSocket is asked for");
    let mut page = tail("{a=\"b\"}", "");
    page.headers_mut().insert("Origin", HeaderValue::from_static("http://evil.example"));
    let (status, _) = answer(page);
    assert_eq!(status, StatusCode::BAD_REQUEST, "a tenant is named, which no page can");
}

#[test]
fn every_path_is_listed_and_answers() {
    assert_eq!(loki_routes().count(), 2 * ENDPOINTS.len());
    for (method, path) in loki_routes() {
        let path = path.replace("{name}", "app");
        let (status, body) = answer(request(&format!("{method} {path}")));
        assert!(status != StatusCode::NOT_FOUND && !status.is_server_error(), "{path}: {body}");
    }
}
