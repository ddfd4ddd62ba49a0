//! Tests of sharing out: by namespace, by time, under each tenant's own limits.

use std::sync::Arc;

use model::{Signal, SourceKind};
use storage::entries::Entry;

use super::*;
use crate::logs::jsonline::JsonLines;
use crate::logs::labels::{Around, StreamLabels};
use crate::logs::testing::Rig;
use crate::testing::{Answer, request, routed_scope};

#[tokio::test]
async fn a_stream_is_parted_by_the_time_of_its_entries() {
    let scope = routed_scope().await;
    let mut rows = EntryRows::default();
    for (namespace, times_ms) in [
        ("shop", &[50, 99, 100, 199, 200, 201][..]),
        ("till", &[7, 500]),
        ("", &[1]),
        ("new", &[2]),
    ] {
        let around = Around { signal: Signal::Logs, kind: SourceKind::Other, cluster: "c" };
        let mut pairs = vec![("namespace", namespace), ("app", "x")];
        let labels = StreamLabels::of(&mut pairs, around).expect("labels");
        let labels = rows.put(&labels.encoded).expect("room");
        let from = rows.entries.len() as u32;
        let at = |ms: &i64| Entry { at_ns: ms * 1_000_000 + 999_999, ..Entry::default() };
        rows.entries.extend(times_ms.iter().map(at));
        let entries = from..rows.entries.len() as u32;
        rows.streams.push(StreamRows { labels, entries, ..StreamRows::default() });
    }
    let routes = scope.routes().expect("a routed scope");
    let (shares, counts) = share_out(routes, &RoutingConfig::default(), &mut rows);
    let one = |share: &Share| {
        let name = share.scope.as_ref().expect("open").name().to_string();
        let streams = share.streams.iter().map(|stream| {
            let entries = &rows.entries[stream.entries.start as usize..stream.entries.end as usize];
            let times = entries.iter().map(|entry| (entry.at_ns / 1_000_000).to_string());
            times.collect::<Vec<_>>().join(",")
        });
        format!("{name}: {}", streams.collect::<Vec<_>>().join(" "))
    };
    let mut shown: Vec<String> = shares.iter().map(one).collect();
    shown.sort();
    assert_eq!(shown, ["a: 50,99 7,500", "b: 200,201", "system: 1", "unassigned: 100,199 2"]);
    let unassigned = [0, 1, 2, 0];
    assert_eq!(counts, Shared { workspaces: 6, system: 1, unassigned });
}

#[tokio::test]
async fn a_trusted_writer_is_told_of_all_tenants_together() {
    let (rig, scope) = (Rig::new(), routed_scope().await);
    let door = JsonLines::new(Arc::clone(&rig.intake));
    let body = r#"{"cluster":"c","namespace":"till","_msg":"one","app":"x"}
{"cluster":"c","namespace":"till","_msg":"two","app":"many"}
{"cluster":"c","namespace":"shop","_msg":"three","app":"x"}
{"_msg":"four","app":"x"}"#;
    let request = request("POST", "/insert/jsonline", &[], body);
    let answer = Answer::of(door.handle(0, scope.clone(), request).await).await;
    assert_eq!(answer.status, 400, "one tenant's limit makes nobody repeat what is stored");
    assert!(answer.text().ends_with("1 entries refused, 3 stored"), "{}", answer.text());
    let kept = rig.kept.take();
    let mut words: Vec<_> =
        kept.iter().map(|line| line.rsplit(' ').next().expect("a line")).collect();
    words.sort_unstable();
    assert_eq!(words, [r#""four""#, r#""one""#, r#""three""#]);
    let routes = scope.routes().expect("a routed scope");
    let till = routes.table().periods(b"c", b"till").expect("an owner")[0].tenant;
    let refusals = rig.intake.intake.admission.refusals(till);
    assert_eq!(refusals, [("active_stream_limit", 1)]);
    assert!(rig.metrics().contains(r#"taffrail_ingest_routed_rows_total{to="workspace"} 3"#));
}
