//! Whole requests: what is stored of bulk bodies, what is told of each item, what probes hear.

use std::sync::Arc;

use serde_json::{Value, json};
use tenancy::Limits;

use super::*;
use crate::logs::fuzz;
use crate::logs::testing::{Rig, scope, scope_of};
use crate::testing::{Answer, request};

struct Setup {
    rig: Rig,
    scope: WriteScope,
}

impl Setup {
    fn new() -> Self {
        Self { rig: Rig::new(), scope: scope() }
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let door = Elasticsearch::new(Arc::clone(&self.rig.intake));
        let request = request(method, &format!("/elasticsearch{path}"), &[], body.to_owned());
        Answer::of(door.handle(0, self.scope.clone(), request).await).await
    }

    /// Sends a bulk body; the answer without what changes.
    async fn bulk(&self, path: &str, lines: &[&str]) -> Value {
        let answer = self.send("POST", path, &lines.join("\n")).await;
        assert_eq!(answer.header("x-elastic-product"), "Elasticsearch");
        assert_eq!(answer.header("content-type"), "application/json");
        let mut told: Value = serde_json::from_slice(&answer.body).expect("JSON");
        told["http"] = answer.status.into();
        told
    }

    #[track_caller]
    fn kept(&self, expected: &[&str]) {
        assert_eq!(self.rig.kept.take(), expected);
    }
}

fn statuses(told: &Value) -> Vec<(String, u64)> {
    let items = told["items"].as_array().expect("items");
    let status = |item: &Value| {
        let (action, told) = item.as_object().and_then(|o| o.iter().next()).expect("an action");
        (action.clone(), told["status"].as_u64().expect("a status"))
    };
    items.iter().map(status).collect()
}

#[tokio::test]
async fn what_fluent_bit_sends_is_stored() {
    let setup = Setup::new();
    let document = r#"{"@timestamp":"2023-11-14T22:13:20.000Z","log":"GET / 200\n","stream":"stdout","kubernetes":{"pod_name":"web-6d4cf56db6-x7k2v","namespace_name":"shop","container_name":"web","host":"node-1","labels":{"app":"web","app.kubernetes.io/part-of":"shop"},"docker_id":"abc","annotations":null}}"#;
    let told = setup
        .bulk(
            "/_bulk",
            &[r#"{"create":{"_index":"fluentbit-2026.11.21","_type":"_doc"}}"#, document, ""],
        )
        .await;
    assert_eq!((&told["errors"], &told["http"]), (&json!(false), &json!(200)));
    let item = &told["items"][0]["create"];
    assert_eq!((&item["status"], &item["_index"]), (&json!(201), &json!("fluentbit-2026.11.21")));
    setup.kept(&[concat!(
        r#"{app="web", container="web", namespace="shop", node="node-1", pod="web-6d4cf56db6-x7k2v", "#,
        r#"service_name="web", stream="stdout", workload="web"} (container) "GET / 200\n" "#,
        "kubernetes_labels_app_kubernetes_io_part_of=shop kubernetes_docker_id=abc"
    )]);
}

#[tokio::test]
async fn documents_of_others_are_stored() {
    let setup = Setup::new();
    let check = async |document: &str, stored: &str| {
        // CRLF, and no line feed at the end.
        let body = format!("{{\"index\":{{}}}}\r\n{document}");
        let told = setup.bulk("/logs-app-2026.11.21/_bulk", &[&body]).await;
        assert_eq!(statuses(&told), [("index".to_owned(), 201)], "{told}");
        setup.kept(&[stored]);
    };
    check(
        r#"{"timestamp":1700000000.5,"message":"hello","level":"ERROR","n":1.50,"ok":true,"list":[1,"a"],"none":null,"empty":""}"#,
        r#"{index="logs-app", service_name="unknown_service"} @2023-11-14T22:13:20.5Z error "hello" level=ERROR n=1.50 ok=true list=[1,"a"]"#,
    )
    .await;
    check(
        r#"{"log":{"level":"warn","file":{"path":"/x"}},"message":"m","service":{"name":"s"},"host":{"name":"h"},"@timestamp":"2023-11-14T22:13:20Z"}"#,
        r#"{host="h", service_name="s"} warn "m" log_level=warn log_file_path=/x"#,
    )
    .await;
    check(
        r#"{"kubernetes":{"pod_namespace":"ns","pod_name":"db-0","pod_labels":{"app":"db"}},"message":"x"}"#,
        r#"{app="db", namespace="ns", pod="db-0", service_name="db", workload="db"} @arrival "x""#,
    )
    .await;
    check(
        r#"{"time":"not a time","@timestamp":"neither","a":{"b":{"c":"d"}}}"#,
        concat!(
            r#"{index="logs-app", service_name="unknown_service"} @arrival "{\"time\":\"not a time\",\"@timestamp\":\"neither\","#,
            r#"\"a\":{\"b\":{\"c\":\"d\"}}}" time=not a time _timestamp=neither a_b_c=d"#
        ),
    )
    .await;
    let deep = format!("{}1{}", r#"{"a":"#.repeat(12), "}".repeat(12));
    let name = ["a"; 9].join("_");
    let document = format!(r#"{{"msg":"deep","x":{deep}}}"#);
    let stored = format!(
        r#"{{index="logs-app", service_name="unknown_service"}} @arrival "deep" x_{}={}"#,
        &name[2..],
        format_args!("{}1{}", r#"{"a":"#.repeat(4), "}".repeat(4))
    );
    check(&document, &stored).await;
}

#[tokio::test]
async fn each_item_is_told() {
    let mut setup = Setup::new();
    let good = r#"{"message":"good","app":"a"}"#;
    let fields: Vec<_> = (0..10_000).map(|i| format!("\"f{i}\":1")).collect();
    let many = format!("{{\"message\":\"many\",\"app\":\"a\",{}}}", fields.join(","));
    let told = setup
        .bulk(
            "/_bulk",
            &[
                r#"{"create":{"_index":"i","_id":"7"}}"#,
                good,
                r#"{"delete":{"_index":"i","_id":"7"}}"#,
                r#"{"update":{"_index":"i","_id":"7"}}"#,
                r#"{"doc":{}}"#,
                r#"{"index":{"_index":"i"}}"#,
                "{not JSON}",
                r#"{"index":{"_index":"i"}}"#,
                r#"{"message":"old","app":"a","@timestamp":"2001-01-01T00:00:00Z"}"#,
                r#"{"index":{"_index":"i"}}"#,
                &many,
                r#"{"index":{"_index":"i"}}"#,
                good,
                "",
            ],
        )
        .await;
    assert_eq!(told["errors"], json!(true));
    let expected =
        [("create", 201), ("delete", 400), ("update", 400), ("index", 400), ("index", 400)];
    let expected = expected.into_iter().chain([("index", 400), ("index", 201)]);
    let expected: Vec<_> = expected.map(|(action, status)| (action.to_owned(), status)).collect();
    assert_eq!(statuses(&told), expected);
    assert_eq!(told["items"][0]["create"]["_id"], json!("7"));
    let reason = |n: usize, action: &str| {
        told["items"][n][action]["error"]["reason"].as_str().expect("a reason").to_owned()
    };
    assert!(reason(3, "index").starts_with("invalid_entry: malformed JSON at byte 1"));
    assert!(reason(4, "index").starts_with("too_old: entry for stream"));
    assert!(reason(5, "index").starts_with("too_many_fields: "));
    setup.kept(&[
        r#"{app="a", service_name="a"} @arrival "good""#,
        r#"{app="a", service_name="a"} @arrival "good""#,
    ]);
    let lines = [
        r#"{"index":{"_index":"i"}}"#,
        r#"{"message":"m","app":"many"}"#,
        r#"{"index":{}}"#,
        good,
        "",
    ];
    let told = setup.bulk("/_bulk", &lines).await;
    let statuses_of_items = statuses(&told);
    assert!(
        statuses_of_items.iter().all(|(_, status)| *status == 429),
        "any may be the one: {told}"
    );
    setup.rig.kept.take();
    let limits = Limits { entry_bytes_burst: 3.0, ..Limits::default() };
    setup.scope = scope_of(limits);
    let told = setup.bulk("/_bulk", &[r#"{"index":{"_index":"i"}}"#, good]).await;
    assert_eq!(told["status"], json!(413), "{told}");
}

#[tokio::test]
async fn bodies_that_are_no_bulk_are_refused() {
    let setup = Setup::new();
    let check = async |lines: &[&str], part: &str| {
        let told = setup.bulk("/_bulk", lines).await;
        assert_eq!(told["http"], json!(400), "{told}");
        assert!(told["error"]["reason"].as_str().is_some_and(|r| r.contains(part)), "{told}");
        assert_eq!(told["error"]["root_cause"][0]["type"], json!("illegal_argument_exception"));
        setup.kept(&[]);
    };
    check(&["[]", "{}"], "Malformed action/metadata line [1]").await;
    check(&[r#"{"create":{}}"#, "{}", r#"{"drop":{}}"#, "{}"], "action/metadata line [3]").await;
    check(&[r#"{"create":{},"index":{}}"#, "{}"], "line [1]").await;
    check(&[r#"{"create":{}}"#], "the last action has no document").await;
}

#[tokio::test]
async fn single_documents_are_stored() {
    let setup = Setup::new();
    for path in ["/i/_doc", "/i/_doc/7", "/i/_create/7"] {
        let answer = setup.send("POST", path, r#"{"message":"x"}"#).await;
        let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((answer.status, &told["result"]), (201, &json!("created")), "{path}");
        setup.kept(&[r#"{index="i", service_name="unknown_service"} @arrival "x""#]);
    }
    let answer = setup.send("PUT", "/i/_doc/7", "[]").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn parameters_name_the_fields() {
    let setup = Setup::new();
    let path = "/_bulk?_time_field=t&_msg_field=text.en&_stream_fields=team,shop.id&ignore_fields=x&extra_fields=a=b";
    let document =
        r#"{"t":"1700000000","text":{"en":"hi"},"team":"red","shop":{"id":5},"x":1,"y":2}"#;
    let told = setup.bulk(path, &[r#"{"create":{}}"#, document]).await;
    assert_eq!(told["errors"], json!(false), "{told}");
    setup.kept(&[r#"{service_name="unknown_service", shop_id="5", team="red"} "hi" y=2 a=b"#]);
    let told = setup.bulk(path, &[r#"{"create":{}}"#, r#"{"t":"soon","team":"red"}"#]).await;
    let reason = told["items"][0]["create"]["error"]["reason"].as_str().expect("a reason");
    assert_eq!(reason, "invalid_timestamp: time \"soon\" is neither RFC 3339 nor a number");
}

#[tokio::test]
async fn events_and_audits_are_known_by_their_content() {
    let setup = Setup::new();
    let event = r#"{"involvedObject":{"kind":"Pod","name":"p","namespace":"ns"},"reason":"Failed","type":"Warning","lastTimestamp":"2023-11-14T22:13:20Z"}"#;
    let audit = r#"{"AuditID":"1","Verb":"get","Workspace":"w","RequestReceivedTimestamp":"2023-11-14T22:13:20Z"}"#;
    let action = r#"{"create":{"_index":"ks-logstash-auditing-2026.11.21"}}"#;
    let told = setup.bulk("/_bulk", &[action, event, action, audit]).await;
    assert_eq!(told["errors"], json!(false), "{told}");
    let kept = setup.rig.kept.take();
    assert!(
        kept[0].starts_with(r#"{namespace="ns", source="events"} events (events) warn"#),
        "{kept:?}"
    );
    assert!(
        kept[1].starts_with(r#"{source="platform_audit"} audits (platform_audit) info"#),
        "{kept:?}"
    );
}

#[tokio::test]
async fn probes_are_answered() {
    let setup = Setup::new();
    let check = async |method: &str, path: &str, status: u16, part: &str| {
        let answer = setup.send(method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("x-elastic-product"), "Elasticsearch");
        assert!(answer.text().contains(part), "{method} {path}: {}", answer.text());
    };
    check("GET", "", 200, r#""number":"8.17.0""#).await;
    check("GET", "/", 200, "You Know, for Search").await;
    check("GET", "/_license", 200, r#""status":"active""#).await;
    check("GET", "/_xpack", 200, "license").await;
    check("GET", "/_cluster/health", 200, "green").await;
    check("GET", "/_nodes/http", 200, "_nodes").await;
    check("GET", "/_ilm/policy/filebeat", 200, "{}").await;
    check("PUT", "/_ilm/policy/filebeat", 200, "acknowledged").await;
    check("HEAD", "/_index_template/x", 200, "").await;
    check("PUT", "/_template/x", 200, "acknowledged").await;
    check("GET", "/_ingest/pipeline/x", 200, "{}").await;
    check("GET", "/_data_stream/x", 200, "data_streams").await;
    check("GET", "/_cat/templates/x", 200, "").await;
    check("HEAD", "/logs", 200, "").await;
    check("PUT", "/logs", 200, "acknowledged").await;
    check("POST", "/logs/_search", 404, "is not served").await;
    check("GET", "/_tasks", 404, "GET /_tasks is not served").await;
}

#[test]
fn dates_of_indexes_are_known() {
    for (index, family) in [
        ("fluentbit-2026.11.21", "fluentbit"),
        ("logs-2026-11", "logs"),
        ("logs-20261121", "logs"),
        ("logs-v2", "logs-v2"),
        ("app-1.2", "app-1.2"),
        ("2026.11.21", ""),
    ] {
        assert_eq!(super::bulk::without_date(index), family);
    }
    assert_eq!(decoded("%3Clogs-%7Bnow%2Fd%7D%3E%"), "<logs-{now/d}>%");
}

proptest::proptest! {
    #[test]
    fn any_body_does_no_harm(
        documents in proptest::collection::vec("(\\{\"[a-z.@]{0,9}\":(\"[^\"]{0,9}\"|[0-9]{1,19}|\\{\"a\":\\[\\]\\})\\}|.{0,20})", 0..6),
    ) {
        let lines: Vec<_> = documents.iter().flat_map(|d| [r#"{"create":{}}"#, d]).collect();
        let body = lines.join("\n");
        fuzz::door(fuzz::Door::Elasticsearch, body.as_bytes());
        fuzz::door(fuzz::Door::JsonLines, body.as_bytes());
    }
}
