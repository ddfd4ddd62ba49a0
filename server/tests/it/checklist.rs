//! The HTTP API from outside: methods, forms, statuses, types and texts as Prometheus has them.

use testkit::http::Response;

use crate::process::taffrail;

/// A request (method, path and a form, if there is one), and how the answer begins: the status, the
/// type if it is not JSON, and a part of the body.
const CHECKLIST: &[(&str, &str, &str)] = &[
    // Expressions, by GET and by form.
    ("GET /api/v1/query?query=1%2B1&time=4", "200", r#""result":[4,"2"]"#),
    ("POST /api/v1/query query=1%2B1&time=4", "200", r#""result":[4,"2"]"#),
    ("GET /api/v1/query", "400", "parse error: no expression found in input"),
    ("GET /api/v1/query?query=up%7B", "400", r#"invalid parameter \"query\": 1:4: parse error: "#),
    ("GET /api/v1/query?query=1&time=x", "400", r#"cannot parse \"x\" to a valid timestamp"#),
    ("GET /api/v1/query?query=1&timeout=x", "400", r#"cannot parse \"x\" to a valid duration"#),
    ("GET /api/v1/query?query=1&limit=-1", "400", "limit must be non-negative"),
    ("GET /api/v1/query?query=1&stats=all", "200", "totalQueryableSamplesPerStep"),
    ("POST /api/v1/query_range query=1&start=1&end=2&step=1", "200", r#"[[1,"1"],[2,"1"]]"#),
    ("GET /api/v1/query_range?query=no&start=1&end=2&step=1", "200", r#""result":[]"#),
    ("GET /api/v1/query_range?query=1", "400", r#"invalid parameter \"start\""#),
    ("GET /api/v1/query_range?query=1&start=2&end=1&step=1", "400", "must not be before start"),
    ("GET /api/v1/query_range?query=1&start=1&end=2&step=0", "400", "zero or negative"),
    ("GET /api/v1/query_range?query=1&start=1&end=20000&step=1", "400", "11,000 points"),
    ("GET /api/v1/query_range?query=up%5B5m%5D&start=1&end=2&step=1", "400", "range vector"),
    ("POST /api/v1/query_exemplars query=up&start=1&end=2", "200", r#""data":[]"#),
    ("GET /api/v1/query_exemplars?query=1&start=1&end=2", "204", ""),
    ("POST /api/v1/format_query query=a%2Fb", "200", r#""data":"a / b""#),
    ("POST /api/v1/parse_query query=sum(a)", "200", r#""type":"aggregation""#),
    // Lists.
    ("GET /api/v1/series", "400", "no match[] parameter provided"),
    ("GET /api/v1/series?match[]=%7B%7D", "400", "at least one non-empty matcher"),
    ("POST /api/v1/series match[]=a&match[]=b", "200", r#""data":[]"#),
    ("POST /api/v1/labels limit=1&match[]=a", "200", r#""data":[]"#),
    ("GET /api/v1/label/a-b/values", "200", r#""data":[]"#),
    ("POST /api/v1/label/job/values", "405 text/plain", "Method Not Allowed"),
    ("GET /api/v1/metadata?limit=x", "400", "limit must be a number"),
    ("GET /api/v1/targets?state=any", "200", r#""activeTargets":[]"#),
    ("GET /api/v1/targets/metadata?match_target=%7B", "400", r#"parameter \"match_target\": 1:2"#),
    ("GET /api/v1/targets/relabel_steps", "400", "no scrapePool parameter provided"),
    ("GET /api/v1/scrape_pools", "200", r#""scrapePools":[]"#),
    ("GET /api/v1/alertmanagers", "200", r#""droppedAlertmanagers":[]"#),
    ("GET /api/v1/rules?type=x", "400", r#"not supported value \"x\""#),
    ("GET /api/v1/rules?group_next_token=x", "400", "group_limit needs to be present"),
    ("GET /api/v1/alerts", "200", r#""alerts":[]"#),
    ("GET /api/v1/search/metric_names", "503", "search API disabled"),
    ("POST /api/v1/search/label_names search[]=a", "503", r#""errorType":"unavailable""#),
    ("GET /api/v1/search/label_values?label=job", "503", "search API disabled"),
    // About the server.
    ("GET /api/v1/status/config", "200", r#""yaml":"#),
    ("GET /api/v1/status/flags", "200", r#""query.lookback-delta":"5m""#),
    ("GET /api/v1/status/runtimeinfo", "200", r#""startTime":"#),
    ("GET /api/v1/status/buildinfo", "200", r#""version":"3."#),
    ("GET /api/v1/status/walreplay", "200", r#"{"min":0,"max":0,"current":0}"#),
    ("GET /api/v1/status/tsdb?limit=0", "400", "limit must be a positive number"),
    ("GET /api/v1/status/tsdb/blocks", "200", r#""blocks":[]"#),
    (
        "GET /api/v1/status/self_metrics?metric_name_pattern=taffrail_build_.*",
        "200",
        r#"[{"name":"taffrail_build_info","#,
    ),
    ("GET /api/v1/status/self_metrics?metric_name_pattern=%28", "400", "metric_name_pattern"),
    ("GET /api/v1/features", "200", r#""promql":{"#),
    ("GET /api/v1/notifications", "200", r#""data":[]"#),
    ("GET /api/v1/openapi.yaml", "200 application/yaml", "openapi: 3."),
    ("GET /-/healthy", "200 text/plain", "healthy"),
    ("HEAD /-/ready", "200 text/plain", ""),
    // Other doors, and what is not there.
    ("GET /federate", "200 text/plain; version=0.0.4", ""),
    ("GET /federate?match[]=up%7B", "400 text/plain", "1:4: parse error: "),
    ("POST /api/v1/read", "400 text/plain", "snappy"),
    ("GET /api/v1/sql?query=SELECT+1+AS+n", "200", r#""rows":[[1]]"#),
    (
        "POST /api/v1/sql query=SELECT%201%20AS%20n&format=csv",
        "200 text/csv; charset=utf-8; header=present",
        "n\r\n1\r\n",
    ),
    ("GET /api/v1/sql?query=SELECT+x", "400", r#""position":{"line":1,"column":8}"#),
    ("GET /api/v1/write", "405 text/plain", "Method Not Allowed"),
    ("PUT /api/v1/query", "405 text/plain", "Method Not Allowed"),
    ("HEAD /api/v1/query?query=1", "405 text/plain", ""),
    ("OPTIONS /api/v1/query", "204", ""),
    ("OPTIONS /api/v1/write", "204", ""),
    ("OPTIONS /api/v1/nothing", "204", ""),
    ("GET /api/v1/nothing", "404 text/plain", "404 page not found"),
    ("GET /nothing", "404 text/plain", "404 page not found"),
];

/// The status, and the type if it is not JSON.
fn kind(answer: &Response) -> String {
    match answer.header("content-type") {
        None | Some("application/json") => answer.status.to_string(),
        Some(kind) => format!("{} {kind}", answer.status),
    }
}

#[test]
fn the_api_is_as_prometheus_has_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(
        dir.path(),
        "[ingest.self_scrape]\nenabled = false\n[storage]\ndisk_reserve_bytes = 0\n",
    );
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let mut wrong = Vec::new();
    for prefix in ["", "/prometheus"] {
        for (request, begins, contains) in CHECKLIST {
            let mut words = request.splitn(3, ' ');
            let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            if !prefix.is_empty() && path.starts_with("/-/") {
                continue;
            }
            let body = words.next();
            let headers = if body.is_some() { &form[..] } else { &[] };
            let path = format!("{prefix}{path}");
            let answer = server.call(method, &path, headers, body.unwrap_or("").as_bytes());
            let (kind, text) = (kind(&answer), answer.text());
            if !kind.starts_with(begins) || !text.contains(contains) {
                wrong.push(format!("{method} {path}: {kind}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let allowed = |path: &str| {
        let answer = server.call("DELETE", path, &[], &[]);
        answer.header("allow").unwrap_or_default().replace(' ', "")
    };
    assert_eq!(allowed("/api/v1/query"), "GET,OPTIONS,POST");
    assert_eq!(allowed("/api/v1/write"), "POST");
}
