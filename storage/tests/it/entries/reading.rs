//! Questions: which entries, in which order, for whom.

use ::model::{Cancel, Level, MatchOp, Matcher, Signal};
use storage::entries::{Direction, EntryFilter, LineCondition, LineTest, SelectEntries};
use tenancy::{Limits, ReadScope, Retention};

use super::{NOW_NS, SECOND_NS, append_as, equal, everything, line, scope, select, texts, write};
use crate::store::{Ground, write_scope};

#[tokio::test]
async fn every_byte_comes_back_as_it_went_in() {
    let storage = Ground::default().open().await.expect("a new store");
    let mut odd = line("a", NOW_NS, "");
    odd.line = vec![0xff, b'\n', 0, b'\r', 0xc3];
    odd.fields = vec![("b".into(), "2".into()), ("a".into(), "".into()), ("b".into(), "3".into())];
    odd.level = Level::Error;
    odd.has_own_time = false;
    odd.signal = Signal::Audits;
    write(&storage, 1, &[odd.clone()]).await;
    let found = select(&storage, &scope(1), &everything()).await;
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(found.line, odd.line);
    let fields = [("a".to_owned(), String::new()), ("b".to_owned(), "3".to_owned())];
    assert_eq!(found.fields, fields, "in order of names, the last one counts");
    assert_eq!((found.level, found.has_own_time, found.is_truncated), (Level::Error, false, false));
    assert_eq!((found.at_ns, found.stream.signal), (NOW_NS, Signal::Audits));
    assert_eq!(found.stream.labels.to_string(), r#"{app="a"}"#);
}

#[tokio::test]
async fn entries_come_in_order_of_time_and_as_many_as_are_asked_for() {
    let storage = Ground::default().open().await.expect("a new store");
    // Streams of all partitions, times that run backwards within each.
    let lines: Vec<_> = (0..300)
        .map(|i| line(&format!("app-{}", i % 7), NOW_NS - i * SECOND_NS, &format!("line {i}")))
        .collect();
    for part in lines.chunks(11) {
        write(&storage, 1, part).await;
    }
    let expected = |rows: &mut dyn Iterator<Item = i64>| -> Vec<String> {
        rows.map(|i| format!("line {i}")).collect()
    };
    let newest = SelectEntries { limit: 10, direction: Direction::Backward, ..everything() };
    assert_eq!(texts(&storage, &scope(1), &newest).await, expected(&mut (0..10)));
    let oldest = SelectEntries { limit: 10, ..everything() };
    assert_eq!(texts(&storage, &scope(1), &oldest).await, expected(&mut (290..300).rev()));
    let (start_ns, end_ns) = (NOW_NS - 20 * SECOND_NS, NOW_NS - 10 * SECOND_NS);
    let window = SelectEntries { start_ns, end_ns, ..everything() };
    assert_eq!(
        texts(&storage, &scope(1), &window).await,
        expected(&mut (11..21).rev()),
        "[start, end)"
    );
    assert_eq!(
        texts(&storage, &scope(1), &SelectEntries { limit: 0, ..everything() }).await.len(),
        0
    );
    let of_one = SelectEntries { selectors: vec![equal("app", "app-3")], ..everything() };
    assert_eq!(select(&storage, &scope(1), &of_one).await.len(), 43);
    let of_two = SelectEntries {
        selectors: vec![equal("app", "app-3"), equal("app", "app-4")],
        ..everything()
    };
    assert_eq!(select(&storage, &scope(1), &of_two).await.len(), 86);
}

#[tokio::test]
async fn pages_of_an_answer_follow_on_each_other() {
    let storage = Ground::default().open().await.expect("a new store");
    // Runs of equal instants, within streams and across them, some of them equal lines.
    let lines: Vec<_> = (0..60)
        .map(|i| {
            let mut one =
                line(&format!("{}", i % 3), NOW_NS - (i / 20) * SECOND_NS, &format!("{}", i % 12));
            one.has_own_time = false;
            one
        })
        .collect();
    write(&storage, 1, &lines).await;
    for direction in [Direction::Forward, Direction::Backward] {
        let whole = SelectEntries { direction, ..everything() };
        let whole = texts(&storage, &scope(1), &whole).await;
        assert_eq!(whole.len(), 60, "without a time of their own none is another");
        for limit in [1, 7, 60, 61] {
            let (mut after, mut pages) = (None, Vec::new());
            loop {
                let request = SelectEntries { direction, limit, after, ..everything() };
                let page = select(&storage, &scope(1), &request).await;
                let Some(last) = page.last() else { break };
                after = Some(last.place);
                assert!(page.len() <= limit);
                pages.extend(page.iter().map(|f| String::from_utf8_lossy(&f.line).into_owned()));
            }
            assert_eq!(pages, whole, "{direction:?}, {limit} at a time");
        }
    }
}

#[tokio::test]
async fn equal_entries_with_a_time_of_their_own_are_one() {
    let storage = Ground::default().open().await.expect("a new store");
    let one = line("a", NOW_NS, "x");
    let with_field = super::Line { fields: vec![("k".into(), "v".into())], ..one.clone() };
    let received = super::Line { has_own_time: false, ..one.clone() };
    let all = [one.clone(), line("b", NOW_NS, "x"), with_field, received.clone(), received];
    for _ in 0..2 {
        write(&storage, 1, &all).await;
    }
    let found = select(&storage, &scope(1), &everything()).await;
    // One of each that has a time of its own, four without.
    assert_eq!(found.len(), 3 + 4, "{found:?}");
    let newest = SelectEntries { limit: 3, direction: Direction::Backward, ..everything() };
    assert_eq!(select(&storage, &scope(1), &newest).await.len(), 3);
}

#[tokio::test]
async fn conditions_hold_for_what_is_found() {
    let storage = Ground::default().open().await.expect("a new store");
    let mut lines: Vec<_> =
        (0..50).map(|i| line("a", NOW_NS + i, &format!("request {i} took {}ms", i * 3))).collect();
    lines[7].level = Level::Error;
    lines[7].fields = vec![("trace".into(), "abc".into())];
    write(&storage, 1, &lines).await;
    let of = |filter: EntryFilter| SelectEntries { filter, ..everything() };
    let tests = |any: Vec<LineTest>| {
        let lines = vec![LineCondition { any, ..LineCondition::default() }];
        of(EntryFilter { lines, ..EntryFilter::default() })
    };
    let contains = tests(vec![LineTest::Contains("took 14".into())]);
    assert_eq!(
        texts(&storage, &scope(1), &contains).await,
        ["request 47 took 141ms", "request 48 took 144ms", "request 49 took 147ms"]
    );
    let words = tests(vec![LineTest::Words("request 4".into())]);
    assert_eq!(texts(&storage, &scope(1), &words).await, ["request 4 took 12ms"]);
    let regex = tests(vec![LineTest::Regex(r"(?i)REQUEST 2\d took 6[0-9]ms$".into())]);
    assert_eq!(texts(&storage, &scope(1), &regex).await.len(), 4);
    let level = of(EntryFilter { level_min: Some(Level::Warn), ..EntryFilter::default() });
    assert_eq!(texts(&storage, &scope(1), &level).await, ["request 7 took 21ms"]);
    let field = of(EntryFilter { fields: equal("trace", "abc"), ..EntryFilter::default() });
    assert_eq!(texts(&storage, &scope(1), &field).await, ["request 7 took 21ms"]);
    let wrong = tests(vec![LineTest::Regex("(".into())]);
    let refused = storage.select_entries(&scope(1), &wrong, &Cancel::default()).await;
    assert!(
        refused
            .expect_err("no pattern")
            .to_string()
            .starts_with(r#"line filter "(" cannot be used"#)
    );
}

#[tokio::test]
async fn nobody_sees_what_is_not_theirs() {
    let storage = Ground::default().open().await.expect("a new store");
    for tenant in [1, 2] {
        write(
            &storage,
            tenant,
            &[
                line("a", NOW_NS, &format!("a of {tenant}")),
                line("b", NOW_NS + 1, &format!("b of {tenant}")),
            ],
        )
        .await;
    }
    let of = async |scope: ReadScope| texts(&storage, &scope, &everything()).await.join(", ");
    assert_eq!(of(scope(1)).await, "a of 1, b of 1");
    assert_eq!(of(scope(3)).await, "");
    assert_eq!(of(scope(2).restricted_for_test(vec![equal("app", "b")])).await, "b of 2");
    let both = ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]);
    assert_eq!(of(both.clone()).await, "a of 1, a of 2, b of 1, b of 2");
    let found = select(&storage, &both, &everything()).await;
    assert_eq!(found[0].stream.labels.to_string(), r#"{__tenant_id__="team-1", app="a"}"#);
    let not = Matcher::new(MatchOp::NotEqual, "__tenant_id__", "team-1").expect("a matcher");
    let request = SelectEntries { selectors: vec![vec![not]], ..everything() };
    assert_eq!(texts(&storage, &both, &request).await, ["a of 2", "b of 2"]);
    assert_eq!(of(both.unlabelled()).await, "a of 1, a of 2, b of 1, b of 2");
}

#[tokio::test]
async fn what_is_kept_no_longer_is_not_there() {
    let storage = Ground::default().open().await.expect("a new store");
    let mut event = line("a", NOW_NS - 90 * SECOND_NS, "event");
    event.signal = Signal::Events;
    write(
        &storage,
        1,
        &[line("a", NOW_NS - 90 * SECOND_NS, "old"), line("a", NOW_NS, "new"), event],
    )
    .await;
    let kept = Retention { logs_seconds: 60, ..Retention::default() };
    let of_a_minute = scope(1).retained_for_test(kept);
    assert_eq!(texts(&storage, &of_a_minute, &everything()).await, ["event", "new"]);
}

#[tokio::test]
async fn a_question_ends_where_its_limits_are() {
    let storage = Ground::default().open().await.expect("a new store");
    let lines: Vec<_> = (0..3_000).map(|i| line("a", NOW_NS + i, &"x".repeat(100))).collect();
    let appended = append_as(&storage, &write_scope(1), &lines, None).expect("writes are taken");
    assert_eq!(appended.outcome.bytes, 300_000);
    for (limits, text) in [
        (Limits { query_bytes_max: 200_000, ..Limits::default() }, "reads more than"),
        (Limits { query_memory_bytes_max: 200_000, ..Limits::default() }, "that were found take"),
    ] {
        let limited = scope(1).limited_for_test(limits);
        let refused = storage.select_entries(&limited, &everything(), &Cancel::default()).await;
        let refused = refused.expect_err("it takes too much").to_string();
        assert!(refused.contains(text), "{refused}");
    }
    let gone = Cancel::default();
    gone.set();
    let stopped = storage.select_entries(&scope(1), &everything(), &gone).await;
    assert!(matches!(stopped, Err(storage::Error::Stopped(_))), "{stopped:?}");
}
