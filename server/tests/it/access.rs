//! Every route × every kind of credential. `access.txt` is the reviewed table: a route without a
//! row fails, and so does a row without a route.

use std::collections::BTreeMap;
use std::process::Command;

use crate::process::{taffrail, token_file_of};

/// Tokens of the test's server; the tenants `a` and `b` exist.
const TOKENS: &[(&str, &str)] = &[
    ("reader-a", r#"{ tenant = "a", access = "read" }"#),
    ("writer-a", r#"{ tenant = "a", access = "write" }"#),
    ("restricted-a", r#"{ tenant = "a", access = "read", alternatives = [["namespace='ns1'"]] }"#),
    ("admin-a", r#"{ tenant = "a", access = "admin" }"#),
    ("platform", r#"{ tenant = "*", access = "admin" }"#),
];

/// Columns of the table: a credential and a tenant asked for.
const COLUMNS: &[(&str, Option<&str>)] = &[
    ("", Some("a")),
    ("unknown-token", Some("a")),
    ("reader-a", None),
    ("reader-a", Some("b")),
    ("writer-a", None),
    ("restricted-a", None),
    ("admin-a", None),
    ("platform", Some("a")),
];

#[test]
fn every_route_is_checked_for_every_credential() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let token_file = dir.path().join("tokens.toml");
    std::fs::write(&token_file, token_file_of(TOKENS)).expect("write the token file");
    let config = format!(
        "token_file = {token_file:?}\n[tenancy]\nmode = \"token\"\n[ingest.self_scrape]\nenabled = false\n\
         [query]\nnotification_listeners_max = 0\n\
         [tenancy.limits.default]\nentry_tails_max = 0\n"
    );
    let mut server = taffrail(&dir.path().join("server"), &config);

    // The tenant comes into being: a tenant that is not there yet is empty and hides nothing.
    assert_eq!(server.remote_write(&[("Authorization", "Bearer admin-a")], &[]).status, 204);

    let mut found = BTreeMap::new();
    for (method, path) in routes() {
        let target = request_of(&path);
        let statuses: Vec<String> = COLUMNS
            .iter()
            .map(|(token, tenant)| {
                let bearer = format!("Bearer {token}");
                let mut headers = vec![("Content-Type", content_type(&path))];
                headers.extend((!token.is_empty()).then_some(("Authorization", bearer.as_str())));
                headers.extend(tenant.map(|t| ("X-Scope-OrgID", t)));
                server.call(&method, &target, &headers, &[]).status.to_string()
            })
            .collect();
        found.insert(format!("{method} {path}"), statuses.join(" "));
    }
    let expected: BTreeMap<String, String> = include_str!("access.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.rsplit_once(" | ").expect("`METHOD PATH | statuses`"))
        .map(|(route, statuses)| (route.trim().to_owned(), statuses.to_owned()))
        .collect();
    let lines = |table: &BTreeMap<String, String>| {
        table
            .iter()
            .map(|(route, statuses)| format!("{route:<45} | {statuses}\n"))
            .collect::<String>()
    };
    assert!(found == expected, "found:\n{}\nexpected:\n{}", lines(&found), lines(&expected));
    assert!(server.terminate(), "SIGTERM ends it in order");
}

fn routes() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_taffrail")).args(["tool", "routes"]).output();
    let text = String::from_utf8(output.expect("run taffrail").stdout).expect("routes are text");
    let routes = text.lines().filter_map(|line| line.split_once(' '));
    routes.map(|(method, path)| (method.to_owned(), path.to_owned())).collect()
}

/// A request that would be fine if it were allowed.
fn request_of(path: &str) -> String {
    let is_of_loki = path.starts_with("/loki/") || path.starts_with("/api/prom/");
    let parameters = match path.rsplit('/').next().unwrap_or("") {
        "query" if path.starts_with("/loki/") => "?query=count_over_time(%7Ba=%22b%22%7D%5B1m%5D)",
        _ if is_of_loki => "?query=%7Ba=%22b%22%7D",
        "query" | "format_query" | "parse_query" => "?query=up",
        "query_range" => "?query=up&start=0&end=1&step=1",
        "query_exemplars" => "?query=up&start=0&end=1",
        "series" => "?match[]=up",
        _ => "",
    };
    let path = path.replace("{name}", "job").replace("{id}", "1");
    let path = path.replace("{*path}", "_license");
    path.replace("{*grouping}", "job/x") + parameters
}

fn content_type(path: &str) -> &'static str {
    if path.ends_with("/write")
        || path.ends_with("/push")
        || path.ends_with("/v1/metrics")
        || path.ends_with("/v1/logs")
    {
        "application/x-protobuf"
    } else {
        "application/x-www-form-urlencoded"
    }
}
