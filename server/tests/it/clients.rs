//! What real clients call: Grafana's and Perses' sequences as a table of our own, the same read
//! from recorded calls where those are at hand, and a client library from npm run by Node.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use model::{Clock, SystemClock};
use testkit::http::{Response, escaped};
use testkit::remote_write::Series;

use crate::process::{Program, installed, taffrail};
use crate::senders::{HEADERS, compressed};

/// A server with one series that clients ask for.
fn serving(dir: &std::path::Path) -> (Program, i64) {
    let server = taffrail(dir, "[ingest.self_scrape]\nenabled = false\n");
    let now_ms = SystemClock::default().now_ms();
    let labels = [("__name__", "up"), ("http.status", "200"), ("instance", "i"), ("job", "node")];
    let labels = labels.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
    let samples = (0..60).map(|i| (now_ms - (60 - i) * 5_000, 1.0)).collect();
    let series = Series { labels, samples, ..Series::default() };
    let metadata = model::Metadata {
        kind: model::MetricKind::Gauge,
        help: "Whether it answers.".to_owned(),
        unit: String::new(),
    };
    let body = compressed(&[series], &[("up", metadata)]);
    assert_eq!(server.call("POST", "/api/v1/write", &HEADERS, &body).status, 204);
    (server, now_ms)
}

/// Sends a call as a client would: parameters in the form of a POST, else behind the path.
fn send(server: &Program, method: &str, path: &str, parameters: &[(String, String)]) -> Response {
    let encoded: Vec<String> =
        parameters.iter().map(|(n, v)| format!("{}={}", escaped(n), escaped(v))).collect();
    let encoded = encoded.join("&");
    if method.starts_with("POST") {
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        return server.call("POST", path, &form, encoded.as_bytes());
    }
    server.call(method, &format!("{path}?{encoded}"), &[], &[])
}

/// What a client needs to find in an answer: `data` of this JSON type, not empty if marked so.
fn has_shape(answer: &serde_json::Value, shape: &str) -> bool {
    let (kind, filled) = shape.strip_suffix('+').map_or((shape, false), |kind| (kind, true));
    let data = &answer["data"];
    let (found, empty) = match kind {
        "array" => (data.is_array(), data.as_array().is_none_or(Vec::is_empty)),
        "string" => (data.is_string(), data.as_str() == Some("")),
        "object" => (data.is_object(), data.as_object().is_none_or(serde_json::Map::is_empty)),
        result => {
            let found = &data["result"];
            (data["resultType"] == result && found.is_array(), found == &serde_json::json!([]))
        }
    };
    found && !(filled && empty)
}

/// Method, path, parameters, shape of `data`. What Grafana and Perses send; `NOW`, `AGO` and their
/// milliseconds stand for times.
const CALLS: &[(&str, &str, &str, &str)] = &[
    ("POST form", "/api/v1/query", "query=1+1&time=4", "scalar+"),
    ("GET", "/api/v1/status/buildinfo", "", "object+"),
    ("POST form", "/api/v1/query", "query=up&time=NOW", "vector+"),
    ("POST form", "/api/v1/query", "query=up[1m]&time=NOW&timeout=30s", "matrix+"),
    ("POST form", "/api/v1/query", "query=\"text\"&time=NOW", "string"),
    ("POST form", "/api/v1/query_range", "query=up&start=AGO&end=NOW&step=15", "matrix+"),
    ("GET", "/api/v1/query_range", "query=up&start=AGO&end=NOW&step=15", "matrix+"),
    ("POST form", "/api/v1/query_exemplars", "query=test&start=MSAGO&end=MSNOW", "array"),
    ("POST form", "/api/v1/labels", "limit=40000&start=AGO&end=NOW", "array+"),
    ("POST form", "/api/v1/labels", "start=AGO&end=NOW&match[]={__name__!=\"\"}", "array+"),
    ("GET", "/api/v1/label/job/values", "limit=40000&start=AGO&end=NOW", "array+"),
    ("GET", "/api/v1/label/U__http_2e_status/values", "start=AGO&end=NOW", "array+"),
    ("GET", "/api/v1/label/__name__/values", "match[]={__name__=~\".*u.*\"}", "array+"),
    ("POST form", "/api/v1/series", "match[]=up&start=AGO&end=NOW&limit=40000", "array+"),
    ("GET", "/api/v1/series", "match[]=up&match[]={job=\"node\"}", "array+"),
    ("GET", "/api/v1/metadata", "limit=100&limit_per_metric=10", "object+"),
    ("GET", "/api/v1/rules", "type=alert&rule_group[]=g&file[]=f&group_limit=40", "object+"),
    ("GET", "/api/v1/alerts", "", "object+"),
    ("GET", "/api/v1/targets", "state=active", "object+"),
    ("GET", "/api/v1/targets/metadata", "metric=up&limit=5", "array"),
    ("GET", "/api/v1/alertmanagers", "", "object+"),
    ("GET", "/api/v1/status/config", "", "object+"),
    ("GET", "/api/v1/status/flags", "", "object+"),
    ("GET", "/api/v1/status/runtimeinfo", "", "object+"),
    ("GET", "/api/v1/status/tsdb", "limit=5", "object+"),
    ("GET", "/api/v1/status/walreplay", "", "object+"),
    ("GET", "/api/v1/notifications", "", "array"),
    ("GET", "/api/v1/status/tsdb/blocks", "", "object+"),
    ("POST form", "/api/v1/parse_query", "query=sum(rate(up[5m]))", "object+"),
    ("POST form", "/api/v1/format_query", "query=sum(up)by(job)", "string+"),
];

fn with_times(text: &str, now_ms: i64) -> String {
    let ago_ms = now_ms - 1_800_000;
    text.replace("MSNOW", &now_ms.to_string())
        .replace("MSAGO", &ago_ms.to_string())
        .replace("NOW", &format!("{:.3}", now_ms as f64 / 1e3))
        .replace("AGO", &format!("{:.3}", ago_ms as f64 / 1e3))
}

#[test]
fn calls_of_clients_are_answered() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, now_ms) = serving(dir.path());
    for (method, path, parameters, shape) in CALLS {
        let pairs: Vec<(String, String)> = parameters
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), with_times(value, now_ms)))
            .collect();
        for prefix in ["", "/prometheus"] {
            let answer = send(&server, method, &format!("{prefix}{path}"), &pairs);
            let shown = format!("{method} {prefix}{path} {parameters}: {}", answer.text());
            assert_eq!(answer.status, 200, "{shown}");
            let json: serde_json::Value = serde_json::from_slice(&answer.body).expect(&shown);
            assert_eq!(json["status"], "success", "{shown}");
            // A string is a result and a plain text.
            let is_right = has_shape(&json, shape)
                || *shape == "string" && json["data"]["resultType"] == "string";
            assert!(is_right, "{shown} is no {shape}");
        }
    }
    grafana_tells_us_from_mimir(&server);
    clients_that_post_where_they_should_not_fall_back(&server);
}

/// With `features` in it Grafana would look for Mimir's rulers.
fn grafana_tells_us_from_mimir(server: &Program) {
    let about = server.json("/api/v1/status/buildinfo", None);
    assert!(about["data"]["features"].is_null(), "{about}");
    assert!(about["data"]["version"].as_str().is_some_and(|v| v.starts_with("3.")), "{about}");
}

/// Grafana sends what was refused with 400 or 405 again by GET.
fn clients_that_post_where_they_should_not_fall_back(server: &Program) {
    for path in ["/api/v1/label/job/values", "/api/v1/metadata", "/api/v1/rules"] {
        assert_eq!(send(server, "POST form", path, &[]).status, 405, "{path}");
        assert_eq!(send(server, "GET", path, &[]).status, 200, "{path}");
    }
}

/// A path of the recorded calls: `{a,b}` stands for several, `{name}` for one.
fn paths(pattern: &str) -> Vec<String> {
    let several = pattern.split_once('{').and_then(|(before, rest)| {
        let (inside, after) = rest.split_once('}')?;
        inside.contains(',').then_some((before, inside, after))
    });
    match several {
        Some((before, inside, after)) => {
            inside.split(',').map(|one| format!("{before}{one}{after}")).collect()
        }
        None => vec![pattern.replace("{name}", "job")],
    }
}

/// The parameters a recorded call names, optional ones (marked `?`) if wanted.
fn parameters(text: &str, optional: bool, now_ms: i64) -> Vec<(String, String)> {
    let in_ms = text.contains("MILLISECONDS");
    let mut without_remarks = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if depth == 0 => without_remarks.push(c),
            _ => {}
        }
    }
    let mut pairs = Vec::new();
    for word in without_remarks.split([',', '&', ' ']).filter(|word| !word.is_empty()) {
        let is_optional = word.ends_with('?');
        if is_optional && !optional {
            continue;
        }
        let word = word.trim_end_matches('?');
        let (name, given) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
        let value = match (given, name) {
            (Some(given), _) => given.to_owned(),
            (None, "query") => "up".to_owned(),
            (None, "match[]") => "{job=\"node\"}".to_owned(),
            (None, "time") => with_times("NOW", now_ms),
            (None, "start") => with_times(if in_ms { "MSAGO" } else { "AGO" }, now_ms),
            (None, "end") => with_times(if in_ms { "MSNOW" } else { "NOW" }, now_ms),
            (None, "step") => "15".to_owned(),
            (None, "type") => "alert".to_owned(),
            (None, "timeout") => "30s".to_owned(),
            (None, name) if name.contains("limit") => "40".to_owned(),
            // A token is one of an answer before; the rest names something.
            (None, "group_next_token") => continue,
            (None, _) => "x".to_owned(),
        };
        pairs.push((name.to_owned(), value));
    }
    pairs
}

#[test]
fn recorded_calls_are_answered() {
    let Some(file) = testkit::reference("kubesphere/client-http-calls.tsv") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, now_ms) = serving(dir.path());
    let text = std::fs::read_to_string(&file).expect("read the recorded calls");
    let mut replayed = BTreeSet::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [client, purpose, method, pattern, named, expected, ..] = fields[..] else { continue };
        let ours = client == "grafana-prometheus"
            || client == "perses" && purpose.starts_with("prometheus");
        if !ours || !pattern.starts_with('/') {
            continue;
        }
        // What is posted is asked again by GET where the first answer was 400 or 405.
        let again = method.starts_with("POST").then_some("GET");
        for (path, method) in paths(pattern).into_iter().flat_map(|path| {
            [Some(method), again].into_iter().flatten().map(move |m| (path.clone(), m))
        }) {
            for optional in [false, true] {
                let pairs = parameters(named, optional, now_ms);
                let answer = send(&server, method, &path, &pairs);
                let missing = expected.contains("404") && answer.status == 404;
                check(&format!("{method} {path} {pairs:?}"), &path, &answer, missing);
            }
            replayed.insert(format!("{method} {path}"));
        }
    }
    assert!(replayed.len() >= 25, "only {} calls were replayed: {replayed:?}", replayed.len());
}

#[track_caller]
fn check(call: &str, path: &str, answer: &Response, may_be_missing: bool) {
    let shown = format!("{call}: {} {}", answer.status, answer.text());
    assert!(answer.status == 200 || may_be_missing, "{shown}");
    if path.starts_with("/api/") && !may_be_missing {
        let json: serde_json::Value = serde_json::from_slice(&answer.body).expect(&shown);
        assert_eq!(json["status"], "success", "{shown}");
    }
}

/// Where `.ci/run` installs client libraries from npm, this one among them; skipped loudly where it is not.
pub(crate) fn libraries(package: &str) -> Option<PathBuf> {
    let of_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(of_home)?;
    let dir = cache.join("taffrail-ci/clients");
    if dir.join("node_modules").join(package).is_dir() {
        return Some(dir);
    }
    let required = std::env::var_os("TAFFRAIL_REQUIRE_PROGRAMS").is_some();
    assert!(!required, "no {package} in {}", dir.display());
    println!("SKIPPED: no {package} in {}; .ci/run installs it", dir.display());
    None
}

#[test]
fn an_independent_client_library_works() {
    let (Some(node), Some(libraries)) = (installed("node"), libraries("prometheus-query")) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, now_ms) = serving(&dir.path().join("server"));
    let script = dir.path().join("client.cjs");
    std::fs::write(&script, include_str!("client.cjs")).expect("write the script");
    for path in ["", "/prometheus"] {
        let output = Command::new(&node)
            .arg(&script)
            .arg(format!("http://{}", server.address))
            .arg(format!("{path}/api/v1"))
            .arg(now_ms.to_string())
            .env("NODE_PATH", libraries.join("node_modules"))
            .env("NO_PROXY", "*")
            .output()
            .expect("run node");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && text.ends_with("18 calls\n"), "{text}");
    }
}
