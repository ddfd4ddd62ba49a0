//! What is refused, cut, or not stored again.

use storage::Storage;
use storage::entries::EntryOutcome;
use tenancy::{Limits, WriteScope};

use super::{Line, NOW_NS, SECOND_NS, append_as, everything, limited, line, scope, select};
use crate::store::{Ground, config, write_scope};

fn told(outcome: &EntryOutcome) -> Vec<String> {
    let one =
        |r: &storage::entries::EntryRejected| format!("{} {}: {}", r.count, r.reason, r.example);
    outcome.rejected.iter().map(one).collect()
}

/// A tenant that may have little.
fn few() -> WriteScope {
    let limits = Limits {
        stream_labels_max: 1,
        label_name_bytes_max: 6,
        label_value_bytes_max: 5,
        entry_fields_max: 2,
        entry_fields_bytes_max: 10,
        logs_retention_seconds: 3_600,
        active_streams_max: 3,
        ..Limits::default()
    };
    limited(1, limits)
}

#[track_caller]
fn check(storage: &Storage, one: Line, text: &str) {
    let outcome = append_as(storage, &few(), &[one], None).expect("an answer").outcome;
    assert_eq!(told(&outcome).join("; "), text);
    assert_eq!(outcome.entries, u64::from(text.is_empty()));
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

#[tokio::test]
async fn streams_that_break_a_limit_are_refused_with_the_reason() {
    let storage = Ground::default().open().await.expect("a new store");
    let labels = |all: &[(&str, &str)]| Line { labels: pairs(all), ..line("", NOW_NS, "x") };
    check(&storage, labels(&[]), "1 invalid_labels: a stream has no labels");
    check(
        &storage,
        labels(&[("a", "1"), ("b", "1")]),
        r#"1 too_many_labels: stream {a="1", b="1"} has 2 labels, the limit is 1"#,
    );
    check(
        &storage,
        labels(&[("abcdefg", "1")]),
        r#"1 label_name_too_long: label name "abcdefg" has 7 bytes, the limit is 6"#,
    );
    check(
        &storage,
        labels(&[("a", "123456")]),
        r#"1 label_value_too_long: value "123456" of label "a" has 6 bytes, the limit is 5"#,
    );
    check(
        &storage,
        labels(&[("__tenant_id__", "x")]),
        r#"1 invalid_labels: label __tenant_id__ of stream {__tenant_id__="x"} is reserved: it names the tenant in answers"#,
    );
    check(&storage, line("a", NOW_NS, "x"), "");
    check(&storage, line("b", NOW_NS, "x"), "");
    check(&storage, line("c", NOW_NS, "x"), "");
    check(
        &storage,
        line("d", NOW_NS, "x"),
        "1 active_stream_limit: the tenant has 3 active streams, which is the limit",
    );
}

#[tokio::test]
async fn entries_that_break_a_limit_are_refused_with_the_reason() {
    let storage = Ground::default().open().await.expect("a new store");
    let fields = |all: &[(&str, &str)]| Line { fields: pairs(all), ..line("a", NOW_NS, "x") };
    check(&storage, fields(&[("a", "1"), ("b", "1")]), "");
    check(
        &storage,
        fields(&[("a", "1"), ("b", "1"), ("c", "1")]),
        r#"1 too_many_fields: 3 fields, the limit is 2, in stream {app="a"}"#,
    );
    check(
        &storage,
        fields(&[("a", "1234567890")]),
        r#"1 fields_too_long: fields of 11 bytes, the limit is 10, in stream {app="a"}"#,
    );
    check(
        &storage,
        fields(&[("", "1")]),
        r#"1 invalid_field: a field has no name, in stream {app="a"}"#,
    );
    check(&storage, line("a", NOW_NS - 3_600 * SECOND_NS, "x"), "");
    let old = NOW_NS - 3_600 * SECOND_NS - 1;
    check(
        &storage,
        line("a", old, "x"),
        &format!(
            r#"1 too_old: {old} ns is older than what is kept, from {} ns on, in stream {{app="a"}}"#,
            old + 1
        ),
    );
    let ahead = NOW_NS + 600 * SECOND_NS + 1;
    check(
        &storage,
        line("a", ahead, "x"),
        &format!(
            r#"1 too_far_in_future: {ahead} ns lies further ahead than {} ns, in stream {{app="a"}}"#,
            ahead - 1
        ),
    );
}

#[tokio::test]
async fn long_lines_are_cut_and_marked() {
    let storage = Ground::default().open().await.expect("a new store");
    let write = limited(1, Limits { entry_line_bytes_max: 6, ..Limits::default() });
    let outcome = append_as(&storage, &write, &[line("a", NOW_NS, "grüße an alle")], None);
    let outcome = outcome.expect("an answer").outcome;
    assert_eq!((outcome.entries, outcome.truncated, outcome.bytes), (1, 1, 6));
    let found = select(&storage, &scope(1), &everything()).await;
    assert_eq!((found[0].line.as_slice(), found[0].is_truncated), ("grüß".as_bytes(), true));
}

#[tokio::test]
async fn a_batch_that_comes_again_is_not_stored_again() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    let lines: Vec<Line> = (0..20)
        .map(|i| Line { has_own_time: false, ..line(&format!("app-{i}"), NOW_NS, "x") })
        .collect();
    let send = |storage: &storage::Storage, tenant, batch| {
        let appended = append_as(storage, &write_scope(tenant), &lines, Some(batch));
        appended.expect("writes are taken")
    };
    let stored = async |storage: &storage::Storage, tenant| {
        select(storage, &scope(tenant), &everything()).await.len()
    };
    for _ in 0..3 {
        assert_eq!(send(&storage, 1, 5).outcome.entries, 20, "it counts as stored");
    }
    assert_eq!(stored(&storage, 1).await, 20);
    send(&storage, 1, 6);
    send(&storage, 2, 5);
    assert_eq!((stored(&storage, 1).await, stored(&storage, 2).await), (40, 20));
    let position = storage.append_entries(&write_scope(1), &Default::default()).expect("nothing");
    if let Some(position) = position.position {
        storage.durable(position).await.expect("a sound disk");
    }
    let storage = super::reopened(&ground, storage).await;
    send(&storage, 1, 5);
    assert_eq!(stored(&storage, 1).await, 40, "known after a restart as well");
    ground.clock.advance(std::time::Duration::from_secs(601));
    send(&storage, 1, 5);
    assert_eq!(stored(&storage, 1).await, 60, "after ten minutes it is another");
}

#[tokio::test]
async fn too_much_that_waits_is_refused() {
    let mut config = config();
    config.entries.partitions = 1;
    config.entries.flush_bytes = 1_000;
    let storage = Ground::default().open_with(config).await.expect("a new store");
    let lines = [line("a", NOW_NS, &"x".repeat(500))];
    let mut taken = 0;
    let refused = loop {
        match append_as(&storage, &write_scope(1), &lines, None) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(taken, 8);
    assert_eq!(
        refused.to_string(),
        "partition 16384 has 4000 bytes of entries that are not flushed yet, the limit is 4000; try again later"
    );
}
