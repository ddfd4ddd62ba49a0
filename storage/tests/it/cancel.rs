//! Every look-up stops when nobody waits any more and when its time is over, wherever the rows lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::model::{Cancel, MatchOp, Matcher, Stopped, TimeRange, Watch};
use storage::{Error, ListNames, ListSeries, ListValues, Question, Select, Storage};
use tenancy::ReadScope;
use tokio::runtime::Handle;

use crate::store::{Ground, NOW_MS, Row, config, write};

/// How each kind of look-up ends.
async fn ends(storage: &Storage, scope: &ReadScope, cancel: &Cancel) -> Vec<Result<(), Error>> {
    let matchers =
        vec![Matcher::new(MatchOp::Regex, "pod", "(p|q)od-.*[0-9]").expect("a valid pattern")];
    let (selectors, all) = (vec![matchers.clone()], TimeRange::ALL);
    let ask = (storage, scope, cancel);
    vec![
        end(ask, Select { matchers, range: all }.question()).await,
        end(ask, ListSeries::new(selectors.clone(), all)).await,
        end(ask, ListSeries::new(Vec::new(), all)).await,
        end(ask, ListNames::new(selectors.clone(), all)).await,
        end(ask, ListValues::new("pod", selectors.clone(), all)).await,
        end(ask, ListValues::new("pod", Vec::new(), all)).await,
        storage.exemplars(scope, &selectors, all, cancel).await.map(drop),
    ]
}

async fn end<Q: Question>(
    (storage, scope, cancel): (&Storage, &ReadScope, &Cancel),
    question: Q,
) -> Result<(), Error> {
    let mut looking = storage.begin(scope, question, cancel);
    loop {
        while !looking.go_on(storage)? {}
        if !looking.open_next().await? {
            return looking.finish().map(drop);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn look_ups_stop_in_heads_and_blocks() {
    let storage = Ground::default().open().await.expect("a new store");
    let rows: Vec<Row> = (0..400).map(|series| (series, NOW_MS, 1.0)).collect();
    write(&storage, 1, &rows).await.expect("a good write");
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    for place in ["head", "block"] {
        let waiting = Cancel::default();
        for (i, end) in ends(&storage, &scope, &waiting).await.into_iter().enumerate() {
            assert!(end.is_ok(), "{place}, look-up {i}: {end:?}");
        }
        let late = waiting.until(Instant::now());
        let gone = Cancel::default();
        gone.set();
        for (cancel, why) in [(late, Stopped::Late), (gone, Stopped::Canceled)] {
            for (i, end) in ends(&storage, &scope, &cancel).await.into_iter().enumerate() {
                assert!(
                    matches!(&end, Err(Error::Stopped(found)) if *found == why),
                    "{place}, look-up {i}, {why}: {end:?}"
                );
            }
        }
        storage.flush_all().await.expect("a good flush");
    }
}

/// Only catches what does not stop at all; the figure is printed.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_in_many_series_stops_soon() {
    let storage = Ground::default().open().await.expect("a new store");
    for chunk in 0..4 {
        let rows: Vec<Row> =
            (chunk * 5_000..(chunk + 1) * 5_000).map(|series| (series, NOW_MS, 1.0)).collect();
        write(&storage, 1, &rows).await.expect("a good write");
    }
    let matchers =
        vec![Matcher::new(MatchOp::Regex, "pod", "(p|q)od-.*[0-9]").expect("a valid pattern")];
    for place in ["head", "block"] {
        let mut longest = Duration::ZERO;
        for round in 0..20 {
            let cancel = Cancel::default();
            let (storage, matchers, asked) =
                (Arc::clone(&storage), matchers.clone(), cancel.clone());
            let asking = tokio::spawn(async move {
                let scope = ReadScope::for_test(&[(1, "team-1")]);
                let ask = (&*storage, &scope, &asked);
                loop {
                    let select = Select { matchers: matchers.clone(), range: TimeRange::ALL };
                    if let Err(stopped) = end(ask, select.question()).await {
                        return stopped;
                    }
                }
            });
            tokio::time::sleep(Duration::from_millis(20 + 7 * round)).await;
            let cancelled = Instant::now();
            cancel.set();
            let stopped = asking.await.expect("no panic");
            longest = longest.max(cancelled.elapsed());
            assert!(matches!(stopped, Error::Stopped(Stopped::Canceled)), "{place}: {stopped}");
        }
        println!("{place}: at most {longest:?} from the flag to the end of the look-up");
        assert!(longest < STOPPED_WITHIN, "{place}: {longest:?}");
        storage.flush_all().await.expect("a good flush");
    }
}

/// Writes a series at every look of a question, on another thread, and waits for it a while.
#[derive(Debug)]
struct Writer {
    storage: Arc<Storage>,
    looks: AtomicU32,
    written: AtomicU32,
}

impl Watch for Writer {
    fn check(&self) -> Result<(), Stopped> {
        let series = 10_000 + self.looks.fetch_add(1, Ordering::Relaxed);
        let (storage, tokio) = (Arc::clone(&self.storage), Handle::current());
        let writing = thread::spawn(move || {
            let rows = [(series, NOW_MS, 1.0)];
            tokio.block_on(write(&storage, 1, &rows)).expect("a good write");
        });
        let begun = Instant::now();
        while !writing.is_finished() && begun.elapsed() < Duration::from_millis(50) {
            thread::sleep(Duration::from_millis(1));
        }
        self.written.fetch_add(u32::from(writing.is_finished()), Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_get_through_while_patterns_are_compared() {
    let one = storage::Config { partitions: 1, ..config() };
    let storage = Ground::default().open_with(one).await.expect("a new store");
    for chunk in 0..2 {
        let rows: Vec<Row> =
            (chunk * 5_000..(chunk + 1) * 5_000).map(|series| (series, NOW_MS, 1.0)).collect();
        write(&storage, 1, &rows).await.expect("a good write");
    }
    let (looks, written) = (AtomicU32::new(0), AtomicU32::new(0));
    let writer = Arc::new(Writer { storage: Arc::clone(&storage), looks, written });
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    let pod = |value: &str| Matcher::new(MatchOp::Regex, "pod", value).expect("a valid pattern");
    let mut matchers: Vec<Matcher> =
        (1..10).map(|n| pod(&format!("(p|q)od-[0-9]{{1,{n}}}.*"))).collect();
    // Few are left: what is done with them happens under the lock.
    matchers.push(pod("[a-p]od-.."));
    let question = ListSeries::new(vec![matchers], TimeRange::ALL);
    let cancel = Cancel::default().watched(Arc::clone(&writer) as Arc<dyn Watch>);
    let mut looking = storage.begin(&scope, question, &cancel);
    while !looking.go_on(&storage).expect("a look into the heads") {}
    let found = looking.finish().expect("no blocks");
    let (looks, written) =
        (writer.looks.load(Ordering::Relaxed), writer.written.load(Ordering::Relaxed));
    println!("at {written} of {looks} looks of the question a write got through");
    // If they were compared under the lock, it would be one for each pattern: an eighth.
    assert!(looks > 50 && written * 4 > looks, "{written} of {looks}");
    assert_eq!(found.len(), 90);
}

/// Between stretches of a question its rows go from the head to a block, and those that stay are
/// numbered anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_finds_much_lets_others_work_and_misses_nothing() {
    let some_series = 6_000;
    let config = storage::Config { partitions: 1, idle_seconds: 60, ..config() };
    let ground = Ground::default();
    let storage = ground.open_with(config).await.expect("a new store");
    let series = |range: std::ops::Range<u32>, at_ms: i64| -> Vec<Row> {
        range.map(|series| (series, at_ms, 1.0)).collect()
    };
    write(&storage, 1, &series(0..some_series, NOW_MS)).await.expect("a good write");
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    let question = Select { matchers: Vec::new(), range: TimeRange::ALL }.question();
    let mut looking = storage.begin(&scope, question, &Cancel::default());
    let mut stretches = 0;
    loop {
        while !looking.go_on(&storage).expect("a look into memory") {
            stretches += 1;
            match stretches {
                // The even ones go on; the others are idle by then.
                1 => {
                    let later_ms = NOW_MS + 3_600_000;
                    ground.clock.jump_to(later_ms);
                    let even = (0..some_series).step_by(2).map(|n| (n, later_ms, 2.0));
                    write(&storage, 1, &even.collect::<Vec<Row>>()).await.expect("a good write");
                    storage.flush_all().await.expect("a flush");
                }
                2 => storage.flush_all().await.expect("a flush that finds idle series"),
                _ => {
                    let new = some_series + stretches;
                    write(&storage, 1, &series(new..new + 1, NOW_MS)).await.expect("a good write");
                }
            }
        }
        if !looking.open_next().await.expect("blocks that are there") {
            break;
        }
    }
    assert!(stretches > 3, "{stretches} stretches: it is not taken in pieces");
    let selected = looking.finish().expect("an answer");
    let every = selected.fetch(0..selected.len()).await.expect("blocks that are there");
    let samples = every.decode().expect("what was written");
    let first = samples.iter().filter(|s| s.values.contains(&1.0)).count();
    assert!(first >= some_series as usize, "{first} of {some_series} series have their sample");
}
