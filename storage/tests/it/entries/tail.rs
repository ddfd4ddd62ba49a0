//! Live tail: nothing is lost or doubled between what is stored and what comes, and what a slow
//! listener loses is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::model::{Cancel, Level, Matcher, Signal, TailId};
use storage::entries::{
    DeleteEntries, EntryFilter, EntryTail, LineCondition, LineTest, TailEntries, TailedEntry,
    WaitingMax,
};
use storage::{Extent, Storage};
use tenancy::{DeleteScope, Limits, ReadScope};

use super::{Line, NOW_NS, append_as, equal, line, reopened, scope, write};
use crate::store::{Ground, config, write_scope};

/// Everything from the beginning, without bounds that matter.
fn all() -> TailEntries {
    let waiting = WaitingMax { rows: usize::MAX, bytes: usize::MAX };
    TailEntries {
        signals: Signal::ALL.to_vec(),
        start_ns: i64::MIN,
        stored_max: usize::MAX,
        waiting,
        ..TailEntries::default()
    }
}

/// Begins; what was stored, oldest first.
async fn begin(
    storage: &Arc<Storage>,
    scope: &ReadScope,
    request: &TailEntries,
) -> (EntryTail, Vec<String>) {
    let begun = storage.tail_entries(scope, request, &Cancel::default()).await;
    let (tail, search) = begun.expect("it begins");
    let Some(mut search) = search else { return (tail, Vec::new()) };
    while search.load().await.expect("a sound disk") {
        search.scan().expect("a small search");
    }
    let mut stored: Vec<_> = search
        .finish()
        .into_iter()
        .map(|e| String::from_utf8_lossy(&e.line).into_owned())
        .collect();
    stored.reverse();
    (tail, stored)
}

/// Takes entries until there are so many.
async fn take(tail: &mut EntryTail, count: usize) -> Vec<TailedEntry> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), tail.next()).await;
        let next = next.expect("something comes").expect("a sound disk").expect("no end");
        assert_eq!(next.dropped.count, 0);
        taken.extend(next.entries);
    }
    taken
}

async fn nothing_comes(tail: &mut EntryTail) {
    let waited = tokio::time::timeout(Duration::from_millis(50), tail.next()).await;
    assert!(waited.is_err(), "{waited:?}");
}

/// Tails that have just been left still hold the store.
async fn are_let_go(storage: &Arc<Storage>) {
    while Arc::strong_count(storage) > 1 {
        tokio::task::yield_now().await;
    }
}

fn lines_of(taken: &[TailedEntry]) -> Vec<String> {
    taken.iter().map(|t| String::from_utf8_lossy(&t.entry.line).into_owned()).collect()
}

fn numbered(app: &str, from: i64, count: i64) -> Vec<Line> {
    (from..from + count).map(|i| line(app, NOW_NS + i, &format!("{app} {i}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_entry_comes_once_while_many_write_and_flush() {
    const WRITERS: i64 = 4;
    const ROUNDS: i64 = 60;
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let storage = Arc::clone(&storage);
        writers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                // Several streams a request, so that several partitions have a part of it.
                let lines: Vec<_> = (0..5)
                    .map(|s| {
                        line(
                            &format!("w{writer}-{s}"),
                            NOW_NS - round,
                            &format!("{writer} {round} {s}"),
                        )
                    })
                    .collect();
                write(&storage, 1, &lines).await;
                // Another tenant's rows are nobody's here.
                write(&storage, 2, &lines[..1]).await;
                if round % 7 == writer {
                    storage.flush_all().await.expect("a sound disk");
                }
            }
        }));
    }
    let mut tails = Vec::new();
    for wait_ms in [0, 5, 20, 60, 120] {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let (tail, stored) = begin(&storage, &scope(1), &all()).await;
        tails.push((tail, stored));
    }
    for writer in writers {
        writer.await.expect("it writes");
    }
    let mut expected: Vec<String> = (0..WRITERS)
        .flat_map(|w| (0..ROUNDS).flat_map(move |r| (0..5).map(move |s| format!("{w} {r} {s}"))))
        .collect();
    expected.sort();
    for (mut tail, stored) in tails {
        let came = take(&mut tail, expected.len() - stored.len()).await;
        assert!(came.is_sorted_by(|a, b| a.id < b.id), "in the order of the log");
        let mut seen: Vec<String> = stored.into_iter().chain(lines_of(&came)).collect();
        seen.sort();
        assert_eq!(seen, expected);
        nothing_comes(&mut tail).await;
    }
}

/// Flushes, merges and deletes until it is told to end; then all that is doomed once more.
async fn maintain(storage: Arc<Storage>, ends: Arc<AtomicBool>) {
    let scope = DeleteScope::for_test(1, "team-1", Limits::default());
    let doomed = DeleteEntries {
        text: "the doomed".to_owned(),
        signals: vec![Signal::Logs],
        selectors: vec![equal("app", "doomed")],
        start_ns: i64::MIN,
        end_ns: i64::MAX,
        ..DeleteEntries::default()
    };
    for round in 0.. {
        let is_last = ends.load(Ordering::SeqCst);
        storage.flush_all().await.expect("a sound disk");
        if is_last || round % 4 == 1 {
            storage.delete_entries(&scope, doomed.clone()).await.expect("a sound disk");
        }
        if is_last || round % 3 == 2 {
            storage.compact(Extent::Everything).await.expect("a sound disk");
        }
        if is_last || round % 8 == 7 {
            storage.clean_tombstones().await.expect("a sound disk");
            storage.remove_merged().await;
        }
        if is_last {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_entry_comes_once_while_segments_are_merged_and_entries_deleted() {
    const ROUNDS: i64 = 150;
    let storage = Ground::default().open().await.expect("a new store");
    let ends = Arc::new(AtomicBool::new(false));
    let maintaining = tokio::spawn(maintain(Arc::clone(&storage), Arc::clone(&ends)));
    let writing = tokio::spawn({
        let storage = Arc::clone(&storage);
        async move {
            for round in 0..ROUNDS {
                let of = |app: &str| line(app, NOW_NS - round, &format!("{app} {round}"));
                write(&storage, 1, &[of("a"), of("doomed"), of("b"), of("c")]).await;
            }
        }
    });
    let mut tails = Vec::new();
    while !writing.is_finished() {
        tails.push(begin(&storage, &scope(1), &all()).await);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    writing.await.expect("it writes");
    ends.store(true, Ordering::SeqCst);
    maintaining.await.expect("it merges");
    assert!(storage.compaction().entry_merges.iter().sum::<u64>() > 0, "something was merged");
    tails.push(begin(&storage, &scope(1), &all()).await);
    let mut expected: Vec<String> =
        ["a", "b", "c"].iter().flat_map(|a| (0..ROUNDS).map(move |n| format!("{a} {n}"))).collect();
    expected.sort();
    let begun = tails.len();
    for (nth, (mut tail, stored)) in tails.into_iter().enumerate() {
        let mut seen = stored;
        let is_kept = |text: &&String| !text.starts_with("doomed");
        while seen.iter().filter(is_kept).count() < expected.len() {
            seen.extend(lines_of(&take(&mut tail, 1).await));
        }
        // Doomed ones of the last record may still come, and others a second time.
        while let Ok(next) = tokio::time::timeout(Duration::from_millis(50), tail.next()).await {
            let next = next.expect("a sound disk").expect("no end");
            seen.extend(lines_of(&next.entries));
        }
        seen.sort();
        let (kept, doomed): (Vec<String>, Vec<String>) =
            seen.into_iter().partition(|t| is_kept(&t));
        assert_eq!(kept, expected, "tail {nth}");
        assert!(doomed.windows(2).all(|pair| pair[0] != pair[1]), "tail {nth}: {doomed:?}");
        assert!(nth + 1 < begun || doomed.is_empty(), "{doomed:?}");
    }
}

#[tokio::test]
async fn what_is_stored_comes_oldest_first_and_only_the_newest_of_it() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    write(&storage, 1, &numbered("a", 0, 6)).await;
    storage.flush_all().await.expect("a sound disk");
    write(&storage, 1, &numbered("a", 6, 4)).await;
    let request = TailEntries { stored_max: 3, ..all() };
    let (_tail, stored) = begin(&storage, &scope(1), &request).await;
    assert_eq!(stored, ["a 7", "a 8", "a 9"]);
    let request = TailEntries { start_ns: NOW_NS + 5, ..all() };
    let (mut tail, stored) = begin(&storage, &scope(1), &request).await;
    assert_eq!(stored, ["a 5", "a 6", "a 7", "a 8", "a 9"]);
    // What is late is not from before.
    write(&storage, 1, &[line("a", NOW_NS - 5_000, "late")]).await;
    assert_eq!(lines_of(&take(&mut tail, 1).await), ["late"]);
}

#[tokio::test]
async fn only_what_is_asked_for_and_allowed_comes() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    let only = |request: TailEntries, scope: ReadScope, expected: &'static [&'static str]| {
        let storage = Arc::clone(&storage);
        async move {
            let (mut tail, stored) = begin(&storage, &scope, &request).await;
            assert_eq!(stored, Vec::<String>::new());
            let mut error = line("b", NOW_NS, "an error");
            error.level = Level::Error;
            error.fields = vec![("pod".to_owned(), "p-1".to_owned())];
            let event = Line { signal: Signal::Events, ..line("c", NOW_NS, "an event") };
            write(&storage, 1, &[line("a", NOW_NS, "fine"), error, event]).await;
            write(&storage, 2, &[line("a", NOW_NS, "of others")]).await;
            assert_eq!(lines_of(&take(&mut tail, expected.len()).await), expected);
            nothing_comes(&mut tail).await;
        }
    };
    let live = TailEntries { start_ns: i64::MAX, stored_max: 0, ..all() };
    let of = |name: &str, value: &str| vec![vec![Matcher::equal(name, value)]];
    let logs = TailEntries { signals: vec![Signal::Logs], ..live.clone() };
    only(logs, scope(1), &["fine", "an error"]).await;
    let stream = TailEntries { selectors: of("app", "b"), ..live.clone() };
    only(stream, scope(1), &["an error"]).await;
    let any = vec![LineTest::Contains("ERR".to_owned()), LineTest::Regex("^f".to_owned())];
    let words = LineCondition { any, is_negative: false, ignores_case: true };
    let filter = EntryFilter { lines: vec![words], ..EntryFilter::default() };
    only(TailEntries { filter, ..live.clone() }, scope(1), &["fine", "an error"]).await;
    let named = vec![Matcher::equal("pod", "p-1")];
    let filter = EntryFilter { named, level_min: Some(Level::Warn), ..EntryFilter::default() };
    only(TailEntries { filter, ..live.clone() }, scope(1), &["an error"]).await;
    let part = scope(1).restricted_for_test(of("app", "a"));
    only(live.clone(), part, &["fine"]).await;
    let both = ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]);
    let logs = TailEntries { signals: vec![Signal::Logs], selectors: of("app", "a"), ..live };
    only(logs, both, &["fine", "of others"]).await;
}

#[tokio::test]
async fn whoever_is_slow_loses_what_is_counted() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    let waiting = WaitingMax { rows: 10, bytes: usize::MAX };
    let filter = EntryFilter {
        lines: vec![LineCondition {
            any: vec![LineTest::Contains("odd".to_owned())],
            ..LineCondition::default()
        }],
        ..EntryFilter::default()
    };
    let request = TailEntries { waiting, filter, ..all() };
    let (mut tail, _) = begin(&storage, &scope(1), &request).await;
    for i in 0..50_i64 {
        let text = if i % 2 == 1 { format!("odd {i}") } else { format!("even {i}") };
        write(&storage, 1, &[line("a", NOW_NS + i, &text)]).await;
    }
    // All of it was looked through.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let next = tail.next().await.expect("a sound disk").expect("no end");
    let odd: Vec<String> = (0..10).map(|i| format!("odd {}", 2 * i + 1)).collect();
    assert_eq!(lines_of(&next.entries), odd);
    assert_eq!(next.dropped.count, 15);
    let instants: Vec<i64> = next.dropped.first.iter().map(|(_, at_ns)| at_ns - NOW_NS).collect();
    assert_eq!(instants, (10..25).map(|i| 2 * i + 1).collect::<Vec<i64>>());
    assert_eq!(next.dropped.first[0].0.labels.get("app"), Some("a"));
    // From now on there is room again; and what was lost is to be had behind the last that came.
    write(&storage, 1, &[line("a", NOW_NS + 100, "odd 100")]).await;
    assert_eq!(lines_of(&take(&mut tail, 1).await), ["odd 100"]);
    let after = next.entries.last().map(|entry| entry.id);
    let again = TailEntries { after, ..request };
    let (mut tail, _) = begin(&storage, &scope(1), &again).await;
    let mut came = Vec::new();
    while came.len() < 16 {
        // More than may wait: what was there already waits for its turn.
        came.extend(lines_of(&take(&mut tail, 1).await));
    }
    assert_eq!((came[0].as_str(), came[15].as_str()), ("odd 21", "odd 100"));
}

#[tokio::test]
async fn a_broken_tail_goes_on_behind_what_it_gave() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    write(&storage, 1, &numbered("a", 0, 3)).await;
    let (mut tail, stored) = begin(&storage, &scope(1), &all()).await;
    assert_eq!(stored.len(), 3);
    let upto = tail.upto();
    // Of one record the first two, then a break.
    write(&storage, 1, &numbered("a", 10, 4)).await;
    let came = take(&mut tail, 4).await;
    drop(tail);
    write(&storage, 1, &[line("b", NOW_NS - 1_000, "late")]).await;
    write(&storage, 2, &numbered("a", 50, 3)).await;
    let goes_on = |after: TailId| TailEntries { after: Some(after), ..all() };
    let check = async |storage: &Arc<Storage>, after, expected: &[&str]| {
        let (mut tail, stored) = begin(storage, &scope(1), &goes_on(after)).await;
        assert!(!tail.repeats() && stored.is_empty());
        assert_eq!(lines_of(&take(&mut tail, expected.len()).await), expected);
        nothing_comes(&mut tail).await;
    };
    check(&storage, came[1].id, &["a 12", "a 13", "late"]).await;
    check(&storage, came[3].id, &["late"]).await;
    check(&storage, upto, &["a 10", "a 11", "a 12", "a 13", "late"]).await;
    // It is in the log, which a restart reads back.
    let copied = came[1].id.to_string().parse().expect("an id");
    are_let_go(&storage).await;
    drop(storage);
    let storage = ground.open().await.expect("it opens again");
    check(&storage, copied, &["a 12", "a 13", "late"]).await;
    are_let_go(&storage).await;
    // What was all there is not given again, wherever it lies.
    storage.flush_all().await.expect("a sound disk");
    let (tail, _) = begin(&storage, &scope(1), &all()).await;
    let upto = tail.upto();
    drop(tail);
    check(&storage, upto, &[]).await;
    // In segments nobody knows what came after what: a minute is given again, and said to be.
    are_let_go(&storage).await;
    let storage = reopened(&ground, storage).await;
    write(&storage, 1, &numbered("a", 20, 1)).await;
    let (mut tail, stored) = begin(&storage, &scope(1), &goes_on(came[1].id)).await;
    assert!(tail.repeats());
    let all = ["late", "a 0", "a 1", "a 2", "a 10", "a 11", "a 12", "a 13", "a 20"];
    assert_eq!(stored, all);
    nothing_comes(&mut tail).await;
}

#[tokio::test]
async fn tails_are_counted_by_tenant_and_all_together() {
    let ground = Ground::default();
    let mut settings = config();
    settings.entries.tails_max = 3;
    let storage = ground.open_with(settings).await.expect("a new store");
    let limits = Limits { entry_tails_max: 2, ..Limits::default() };
    let of = |tenant: u32| scope(tenant).limited_for_test(limits.clone());
    let (first, _) = begin(&storage, &of(1), &all()).await;
    let (_second, _) = begin(&storage, &of(1), &all()).await;
    let refused = async |tenant| {
        let begun = storage.tail_entries(&of(tenant), &all(), &Cancel::default()).await;
        begun.map(|_| ()).expect_err("there are enough").to_string()
    };
    assert_eq!(
        refused(1).await,
        "max concurrent tail requests limit exceeded, count > limit (3 > 2)"
    );
    let (_third, _) = begin(&storage, &of(2), &all()).await;
    assert!(refused(3).await.contains("storage.entries.tails_max"));
    assert_eq!(storage.tails(), 3);
    drop(first);
    let (_again, _) = begin(&storage, &of(1), &all()).await;
    assert_eq!(storage.tails(), 3);
}

#[tokio::test]
async fn the_end_of_the_process_ends_tails_after_what_was_written() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    let (mut tail, _) = begin(&storage, &scope(1), &all()).await;
    append_as(&storage, &write_scope(1), &numbered("a", 0, 2), None).expect("writes are taken");
    storage.end_tails();
    assert_eq!(lines_of(&take(&mut tail, 2).await), ["a 0", "a 1"]);
    let end = tokio::time::timeout(Duration::from_secs(30), tail.next()).await;
    assert!(end.expect("it ends").expect("a sound disk").is_none());
}
