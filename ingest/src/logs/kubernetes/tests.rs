//! Events and audit records: what is stored of them.

use std::sync::Arc;

use axum::response::Response;

use super::*;
use crate::logs::fuzz;
use crate::logs::testing::{Rig, scope};
use crate::testing::{Answer, request};

async fn send(rig: &Rig, path: &str, body: &str) -> Answer {
    let door = KubernetesObjects::new(Arc::clone(&rig.intake));
    let request = request("POST", path, &[], body.to_owned());
    let response: Response = door.handle(0, scope(), request).await;
    Answer::of(response).await
}

const CORE: &str = r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":"web.17","namespace":"shop","uid":"u-1","resourceVersion":"99","creationTimestamp":"2023-11-14T20:00:00Z"},"involvedObject":{"kind":"Pod","namespace":"shop","name":"web-1","uid":"u-2","apiVersion":"v1","fieldPath":"spec.containers{web}"},"reason":"BackOff","message":"Back-off \"restarting\"","source":{"component":"kubelet","host":"node-1"},"firstTimestamp":"2023-11-14T20:00:00Z","lastTimestamp":"2023-11-14T22:13:20Z","count":7,"type":"Warning","eventTime":null,"reportingComponent":"","reportingInstance":""}"#;

const CORE_STORED: &str = concat!(
    r#"{namespace="shop", source="events"} events (events) warn LINE involvedObject_kind=Pod "#,
    "involvedObject_namespace=shop involvedObject_name=web-1 involvedObject_uid=u-2 involvedObject_apiVersion=v1 ",
    "involvedObject_fieldPath=spec.containers{web} reason=BackOff type=Warning message=Back-off \"restarting\" ",
    "count=7 source_component=kubelet source_host=node-1 metadata_name=web.17 metadata_uid=u-1 ",
    "metadata_resourceVersion=99"
);

/// What is stored of an object, with the line as it came.
fn stored(pattern: &str, line: &str) -> String {
    pattern.replace("LINE", &format!("{line:?}"))
}

#[tokio::test]
async fn events_are_stored_however_they_come() {
    let rig = Rig::new();
    let one = stored(CORE_STORED, CORE);
    let path = "/api/v1/ingest/events";
    for body in [
        CORE.to_owned(),
        format!("{CORE}\n{CORE}\n"),
        format!("[{CORE},{CORE}]"),
        format!(r#"{{"kind":"EventList","apiVersion":"v1","items":[{CORE},{CORE}]}}"#),
        format!(r#"{{"type":"ADDED","object":{CORE}}}"#),
    ] {
        let answer = send(&rig, path, &body).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{body}");
        let kept = rig.kept.take();
        assert_eq!(kept, vec![one.clone(); kept.len().max(1)], "{body}");
    }
    let newer = r#"{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"namespace":"default"},"regarding":{"kind":"Node","name":"n-1"},"note":"hi","reason":"R","type":"Normal","eventTime":"2023-11-14T22:13:20.000000Z","deprecatedCount":2,"series":{"count":5,"lastObservedTime":"2023-11-14T22:13:20.5Z"},"reportingController":"c","deprecatedSource":{"component":"d"}}"#;
    assert_eq!(send(&rig, path, newer).await.status, 200);
    let pattern = concat!(
        r#"{source="events"} events (events) @2023-11-14T22:13:20.5Z info LINE involvedObject_kind=Node "#,
        "involvedObject_name=n-1 reason=R type=Normal message=hi count=2 count=5 source_component=d reportingComponent=c"
    );
    assert_eq!(rig.kept.take(), [stored(pattern, newer)]);
}

#[tokio::test]
async fn audit_records_are_stored_however_they_come() {
    let rig = Rig::new();
    let record = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"id-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/pods","verb":"create","user":{"username":"jane","groups":["dev","system:authenticated"]},"sourceIPs":["10.0.0.1","10.0.0.2"],"userAgent":"kubectl","objectRef":{"resource":"pods","namespace":"shop","name":"web","apiVersion":"v1"},"responseStatus":{"metadata":{},"status":"Failure","code":403},"requestReceivedTimestamp":"2023-11-14T22:13:20.000000Z","stageTimestamp":"2023-11-14T22:13:21.000000Z","annotations":{"authorization.k8s.io/decision":"forbid"}}"#;
    let pattern = concat!(
        r#"{namespace="shop", source="audit"} audits (audit) warn LINE auditID=id-1 stage=ResponseComplete "#,
        "level=Metadata verb=create requestURI=/api/v1/namespaces/shop/pods userAgent=kubectl ",
        "sourceIPs=10.0.0.1,10.0.0.2 user_username=jane user_groups=dev,system:authenticated objectRef_resource=pods ",
        "objectRef_namespace=shop objectRef_name=web objectRef_apiVersion=v1 responseStatus_code=403 ",
        "responseStatus_status=Failure authorization_decision=forbid"
    );
    let list = format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{record}]}}"#
    );
    for path in ["/api/v1/ingest/audit", "/audit/webhook/event"] {
        assert_eq!(send(&rig, path, &list).await.status, 200);
        assert_eq!(rig.kept.take(), [stored(pattern, record)]);
    }
    let platform = r#"{"Devops":"","Workspace":"red","Cluster":"east","Message":"m","Level":"Metadata","AuditID":"id-2","Stage":"ResponseComplete","Verb":"delete","User":{"Username":"admin","Groups":null},"ObjectRef":{"Resource":"devops","Namespace":"p","Name":"x"},"ResponseStatus":{"code":500},"RequestReceivedTimestamp":"2023-11-14T22:13:20Z"}"#;
    let pattern = concat!(
        r#"{cluster="east", namespace="p", source="platform_audit"} audits (platform_audit) error LINE auditID=id-2 "#,
        "stage=ResponseComplete level=Metadata verb=delete user_username=admin objectRef_resource=devops ",
        "objectRef_namespace=p objectRef_name=x responseStatus_code=500 workspace=red message=m"
    );
    let body = format!(r#"{{"Items":[{platform}]}}"#);
    assert_eq!(send(&rig, "/audit/webhook/event", &body).await.status, 200);
    assert_eq!(rig.kept.take(), [stored(pattern, platform)]);
}

#[tokio::test]
async fn secrets_never_reach_the_store() {
    let rig = Rig::new();
    let record = r#"{"auditID":"1","verb":"create","objectRef":{"resource":"secrets","name":"s"},"requestObject":{"data":{"key":"c2VjcmV0"}},"requestReceivedTimestamp":"2023-11-14T22:13:20Z"}"#;
    assert_eq!(send(&rig, "/api/v1/ingest/audit", record).await.status, 200);
    let kept = rig.kept.take().join("");
    assert!(kept.contains("***") && !kept.contains("c2VjcmV0"), "{kept}");
    assert!(rig.metrics().contains("taffrail_ingest_audits_masked_total 1"));
}

#[tokio::test]
async fn what_is_no_object_is_told() {
    let rig = Rig::new();
    let check = async |path: &str, body: &str, part: &str| {
        let answer = send(&rig, path, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(part), "{}", answer.text());
        assert!(rig.kept.take().is_empty());
    };
    let (events, audit) = ("/api/v1/ingest/events", "/api/v1/ingest/audit");
    check(events, "{", "malformed JSON at byte 1").await;
    check(events, "7", "what came is no object (invalid_entry: 1 entries)").await;
    check(events, r#"{"kind":"Pod"}"#, "it says neither involvedObject nor regarding").await;
    check(audit, r#"{"items":[{"auditID":"1"},5]}"#, "2 entries refused, 0 stored").await;
    check(audit, &format!(r#"{{"items":{}"#, "[".repeat(100_000)), "nested too deeply").await;
    assert_eq!(send(&rig, events, "").await.status, 200, "nothing is nothing");
}

#[test]
fn workloads_are_known_by_generated_names() {
    for (pod, workload) in [
        ("web-6d4cf56db6-x7k2v", Some("web")),
        ("my-app-web-7b9c4d5f6b-2xkzp", Some("my-app-web")),
        ("node-exporter-x7k2v", Some("node-exporter")),
        ("db-0", Some("db")),
        ("backup-28391040-x7k2v", Some("backup")),
        ("kube-apiserver-master", None),
        ("plain", None),
        ("-0", None),
        ("web-", None),
        ("a-aeiou", None),
    ] {
        assert_eq!(workload_of_pod(pod), workload, "{pod}");
    }
}

#[test]
fn real_audit_records_are_taken() {
    let Some(path) = testkit::reference("logs/audit/k8s_audit.jsonl") else { return };
    let records = std::fs::read(path).expect("readable");
    let lines = records.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(fuzz::entries(fuzz::Door::Audits, &records, 1), Some(lines));
}

proptest::proptest! {
    #[test]
    fn any_body_does_no_harm(
        at in 0..CORE.len(),
        byte: u8,
        record in "\\{\"(auditID|AuditID|verb|requestObject|user)\":(\"[^\"]{0,5}\"|\\{\"[a-z]{0,3}\":\\[1\\]\\}),\"auditID\":\"1\",\"verb\":\"x\\\\\"\"\\}",
    ) {
        let mut event = CORE.as_bytes().to_vec();
        event[at] = byte;
        fuzz::door(fuzz::Door::Events, &event);
        fuzz::door(fuzz::Door::Events, &event[..at]);
        fuzz::door(fuzz::Door::Audits, record.as_bytes());
    }
}
