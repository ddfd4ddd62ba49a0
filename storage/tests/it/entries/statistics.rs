//! Streams and their counts, from tables of streams alone.

use ::model::{Cancel, Signal};
use storage::Storage;
use storage::entries::{SelectStreams, StreamVolume};
use tenancy::{Limits, ReadScope, Retention};

use super::{Line, NOW_NS, line, scope, write};
use crate::store::Ground;

const HOUR_NS: i64 = 3_600_000_000_000;

fn all() -> SelectStreams {
    let signals = Signal::ALL.to_vec();
    SelectStreams { signals, start_ns: i64::MIN, end_ns: i64::MAX, ..SelectStreams::default() }
}

async fn streams(
    storage: &Storage,
    scope: &ReadScope,
    request: &SelectStreams,
) -> Vec<StreamVolume> {
    storage.entry_streams(scope, request, &Cancel::default()).await.expect("an answer")
}

fn told(streams: &[StreamVolume]) -> Vec<String> {
    let of_hour = |h: &storage::entries::HourVolume| {
        format!(
            "{}h: {} entries, {} bytes",
            (h.start_ns - NOW_NS).div_euclid(HOUR_NS),
            h.entries,
            h.bytes
        )
    };
    let one = |s: &StreamVolume| {
        let hours: Vec<String> = s.hours.iter().map(of_hour).collect();
        format!("{} {} {}", s.stream.signal, s.stream.labels, hours.join(", "))
    };
    streams.iter().map(one).collect()
}

/// Lines of two streams over three hours, and an audit record.
fn lines() -> Vec<Line> {
    let mut audit = line("b", NOW_NS, "audit");
    audit.signal = Signal::Audits;
    vec![
        line("a", NOW_NS, "12345"),
        line("a", NOW_NS - 1, "1"),
        line("a", NOW_NS - 2 * HOUR_NS, "123"),
        line("b", NOW_NS - HOUR_NS, "x"),
        audit,
    ]
}

#[tokio::test]
async fn counts_do_not_depend_on_where_entries_lie() {
    let storage = Ground::default().open().await.expect("a new store");
    let mut answers = Vec::new();
    for round in 0..3 {
        match round {
            0 => drop(write(&storage, 1, &lines()).await),
            1 => storage.flush_all().await.expect("a sound disk"),
            _ => drop(write(&storage, 1, &[line("a", NOW_NS, "x")]).await),
        }
        answers.push(told(&streams(&storage, &scope(1), &all()).await));
    }
    // The clock of tests stands at a full hour.
    let expected = [
        r#"logs {app="a"} -2h: 1 entries, 3 bytes, -1h: 1 entries, 1 bytes, 0h: 1 entries, 5 bytes"#,
        r#"logs {app="b"} -1h: 1 entries, 1 bytes"#,
        r#"audits {app="b"} 0h: 1 entries, 5 bytes"#,
    ];
    assert_eq!(answers[0], expected);
    assert_eq!(answers[1], expected);
    assert_eq!(
        answers[2][0],
        r#"logs {app="a"} -2h: 1 entries, 3 bytes, -1h: 1 entries, 1 bytes, 0h: 2 entries, 6 bytes"#
    );
}

#[tokio::test]
async fn labels_are_those_of_streams_that_may_be_seen() {
    let storage = Ground::default().open().await.expect("a new store");
    write(&storage, 1, &lines()).await;
    storage.flush_all().await.expect("a sound disk");
    write(
        &storage,
        2,
        &[Line { labels: vec![("zone".into(), "z".into())], ..line("", NOW_NS, "x") }],
    )
    .await;
    let both = ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]);
    let names = async |scope: &ReadScope, request: &SelectStreams| {
        storage
            .entry_label_names(scope, request, &Cancel::default())
            .await
            .expect("names")
            .join(",")
    };
    assert_eq!(names(&scope(1), &all()).await, "app");
    assert_eq!(names(&scope(2), &all()).await, "zone");
    assert_eq!(names(&both, &all()).await, "__tenant_id__,app,zone");
    assert_eq!(names(&scope(3), &all()).await, "");
    let values = async |scope: &ReadScope, request: &SelectStreams| {
        let found = storage.entry_label_values(scope, "app", request, &Cancel::default()).await;
        found.expect("values").join(",")
    };
    assert_eq!(values(&scope(1), &all()).await, "a,b");
    let restricted = scope(1).restricted_for_test(vec![super::equal("app", "b")]);
    assert_eq!(values(&restricted, &all()).await, "b");
    let audits = SelectStreams { signals: vec![Signal::Audits], ..all() };
    assert_eq!(values(&scope(1), &audits).await, "b");
    let of_an_hour = SelectStreams { start_ns: NOW_NS - 10, ..all() };
    assert_eq!(values(&scope(1), &of_an_hour).await, "a,b");
    let before = SelectStreams { end_ns: NOW_NS - HOUR_NS - 1, ..all() };
    assert_eq!(values(&scope(1), &before).await, "a");
    let kept = Retention { logs_seconds: 1_800, ..Retention::default() };
    let of_half_an_hour = scope(1).retained_for_test(kept);
    assert_eq!(
        told(&streams(&storage, &of_half_an_hour, &all()).await).len(),
        2,
        "the logs of b are over"
    );
    let few = scope(1).limited_for_test(Limits { query_series_max: 2, ..Limits::default() });
    let refused = storage.entry_streams(&few, &all(), &Cancel::default()).await;
    let text = refused.expect_err("three streams").to_string();
    assert_eq!(
        text,
        "the question is about more than 2 streams, which is the limit; ask for fewer"
    );
}

#[tokio::test]
async fn sources_say_who_has_spoken_and_when() {
    let storage = Ground::default().open().await.expect("a new store");
    let of = |cluster: &str, pod: &str, at_ns| Line {
        labels: vec![("cluster".into(), cluster.into()), ("pod".into(), pod.into())],
        ..line("", at_ns, "xyz")
    };
    let spoken =
        [of("east", "1", NOW_NS), of("east", "2", NOW_NS - HOUR_NS), of("west", "1", NOW_NS - 5)];
    write(&storage, 1, &spoken[..1]).await;
    storage.flush_all().await.expect("a sound disk");
    write(&storage, 1, &spoken[1..]).await;
    let sources = storage.entry_sources(&scope(1), &all(), &Cancel::default()).await;
    let sources: Vec<String> = sources
        .expect("sources")
        .iter()
        .map(|s| {
            let (first, last) = (NOW_NS - s.first_ns, NOW_NS - s.last_ns);
            format!(
                "{} {} {}: {} streams, {first} to {last} ns ago, {} entries, {} bytes",
                s.signal, s.cluster, s.kind, s.streams, s.entries, s.bytes
            )
        })
        .collect();
    assert_eq!(
        sources,
        [
            "logs east container: 2 streams, 3600000000000 to 0 ns ago, 2 entries, 6 bytes",
            "logs west container: 1 streams, 5 to 5 ns ago, 1 entries, 3 bytes",
        ]
    );
}
