//! Deleting lines as Loki's clients do: gone at once, for one tenant, and after a crash as well.

use model::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::http::escaped;

use crate::process::{Program, free_address, taffrail_at};

const CONFIG: &str = "[ingest.self_scrape]\nenabled = false\n[storage]\ndisk_reserve_bytes = 0\n";

fn push(server: &Program, tenant: &str, lines: &[(i64, &str)]) {
    let values: Vec<Value> = lines.iter().map(|(at, line)| json!([at.to_string(), line])).collect();
    let body = json!({ "streams": [{ "stream": { "app": "web" }, "values": values }] }).to_string();
    let headers = [("Content-Type", "application/json"), ("X-Scope-OrgID", tenant)];
    let answer = server.call("POST", "/loki/api/v1/push", &headers, body.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn lines(server: &Program, tenant: &str) -> Vec<String> {
    let path = format!(
        "/loki/api/v1/query_range?query={}&since=2h&direction=forward",
        escaped(r#"{app="web"}"#)
    );
    let answer = server.json(&path, Some(tenant));
    let streams = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let values = streams.iter().filter_map(|stream| stream["values"].as_array()).flatten();
    values.filter_map(|value| value[1].as_str().map(str::to_owned)).collect()
}

/// Status and text of a request to delete.
fn delete(server: &Program, tenant: &str, query: &str, more: &str) -> (u16, String) {
    let path = format!("/loki/api/v1/delete?query={}{more}", escaped(query));
    let answer = server.call("POST", &path, &[("X-Scope-OrgID", tenant)], &[]);
    (answer.status, answer.text())
}

#[test]
fn deleted_lines_are_gone_for_their_tenant_and_for_good() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let mut server = taffrail_at(dir.path(), address, CONFIG);
    let now_ns = SystemClock::default().now_ms() * 1_000_000 - 600_000_000_000;
    for tenant in ["a", "b"] {
        push(&server, tenant, &[(now_ns, "card 4111"), (now_ns + 1, "fine")]);
    }
    assert_eq!(server.call("POST", "/api/v1/admin/flush", &[], &[]).status, 204);
    for tenant in ["a", "b"] {
        push(&server, tenant, &[(now_ns + 2, "card 4222"), (now_ns + 3, "fine too")]);
    }

    let (status, text) = delete(&server, "a", r#"{app="web"} |~ "card \\d+" | json"#, "");
    assert_eq!((status, text.contains("not supported yet")), (400, true), "{text}");
    assert_eq!(lines(&server, "a").len(), 4);
    let query = r#"{app="web"} |~ "card \\d+""#;
    assert_eq!(delete(&server, "a", query, ""), (204, String::new()));
    let kept = ["fine", "fine too"];
    assert_eq!(lines(&server, "a"), kept);

    server.kill();
    server = taffrail_at(dir.path(), address, CONFIG);
    assert_eq!(lines(&server, "a"), kept);
    assert_eq!(server.call("POST", "/api/v1/admin/flush", &[], &[]).status, 204);
    assert_eq!(lines(&server, "a"), kept);
    assert_eq!(lines(&server, "b").len(), 4);

    let list = |tenant| server.json("/loki/api/v1/delete", Some(tenant));
    assert_eq!(list("b"), json!([]));
    let listed = list("a");
    assert_eq!((&listed[0]["query"], &listed[0]["status"]), (&json!(query), &json!("received")));
    let id = listed[0]["request_id"].as_str().unwrap_or_default();
    let path = format!("/loki/api/v1/delete?request_id={id}");
    let cancelled = server.call("DELETE", &path, &[("X-Scope-OrgID", "a")], &[]);
    assert_eq!(cancelled.status, 400, "{}", cancelled.text());
    // It is on record who deleted what.
    let audit = server.json("/api/v1/admin/audit", None).to_string();
    assert!(audit.contains("entries.delete") && audit.contains("card"), "{audit}");
    assert!(server.terminate(), "SIGTERM ends it in order");
}
