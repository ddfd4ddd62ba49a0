//! Who runs, who waits, who is refused, and who is next.

use std::task::{Context, Poll};

use super::*;

const SOON: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(5);

/// A scope that may run so many questions at a time and let so many wait.
fn scope(tenants: &[(u32, &str)], running: usize, waiting: usize) -> ReadScope {
    let (queries_concurrent_max, queries_waiting_max) = (running, waiting);
    ReadScope::for_test(tenants).limited_for_test(Limits {
        queries_concurrent_max,
        queries_waiting_max,
        ..Limits::default()
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

async fn fill(turns: &Arc<Turns>, scope: &ReadScope, count: usize) -> Vec<Turn> {
    let mut running = Vec::new();
    for _ in 0..count {
        running.push(turns.take(scope, SOON).await.expect("a free turn"));
    }
    running
}

#[test]
fn a_tenant_waits_for_its_own_questions_only() {
    block_on(async {
        let turns = Arc::new(Turns::new(100));
        let (a, b) = (scope(&[(1, "a")], 20, 1), scope(&[(2, "b")], 20, 1));
        let mut running = fill(&turns, &a, 20).await;
        let late = turns.take(&a, SOON).await.expect_err("all turns are taken");
        assert_eq!(late.kind(), "timeout");
        let text = late.to_string();
        assert!(text.starts_with("query timed out in query queue: 20 queries"), "{text}");
        turns.take(&b, SOON).await.expect("another tenant has its own turns");
        running.pop();
        running.push(turns.take(&a, SOON).await.expect("one turn is free again"));
        running.clear();
        assert!(turns.state.lock().lines.is_empty(), "idle tenants take no memory");
        assert_eq!(turns.state.lock().running, 0);
    });
}

#[test]
fn too_many_that_wait_are_refused() {
    block_on(async {
        let turns = Arc::new(Turns::new(100));
        let a = scope(&[(1, "a")], 1, 2);
        let running = fill(&turns, &a, 1).await;
        let waiting = [turns.take(&a, LATE), turns.take(&a, LATE)];
        let mut waiting: Vec<_> = waiting.into_iter().map(Box::pin).collect();
        for wait in &mut waiting {
            assert!(futures::poll!(wait).is_pending());
        }
        let full = turns.take(&a, LATE).await.expect_err("two wait already");
        assert_eq!((full.kind(), full.status()), ("too_many_requests", 429));
        let text = full.to_string();
        assert!(text.contains("1 queries of this tenant run and 2 wait already"), "{text}");
        assert!(text.contains("at most 2 may wait (limit queries_waiting_max), 1 more"), "{text}");
        drop(waiting.pop());
        let mut third = Box::pin(turns.take(&a, LATE));
        assert!(futures::poll!(&mut third).is_pending(), "who left made room");
        drop((running, waiting, third));
        assert!(turns.state.lock().lines.is_empty());
    });
}

#[test]
fn a_line_is_shared_only_by_those_who_ask_for_the_same_tenants() {
    block_on(async {
        let turns = Arc::new(Turns::new(1000));
        let scopes: [&[(u32, &str)]; 4] =
            [&[], &[(1, "a")], &[(1, "a"), (2, "b")], &[(1, "a"), (2, "b"), (3, "c")]];
        let mut running = Vec::new();
        for tenants in scopes {
            let scope = scope(tenants, 20, 0);
            running.extend(fill(&turns, &scope, 20).await);
            turns.take(&scope, LATE).await.expect_err("the line is full");
        }
        running.clear();
        assert!(turns.state.lock().lines.is_empty());
    });
}

#[test]
fn the_last_places_are_for_those_who_run_nothing() {
    block_on(async {
        let turns = Arc::new(Turns::new(8));
        let greedy = scope(&[(1, "greedy")], 100, 100);
        let _running = fill(&turns, &greedy, 6).await;
        let error = turns.take(&greedy, SOON).await.expect_err("two places are kept");
        assert_eq!(error.kind(), "timeout");
        let _small = fill(&turns, &scope(&[(2, "small")], 100, 100), 1).await;
        let _other = fill(&turns, &scope(&[(3, "other")], 100, 100), 1).await;
        turns.take(&scope(&[(4, "late")], 9, 9), SOON).await.expect_err("all places are taken");
    });
}

/// Tenants in the order in which they get the one place, each name standing for one question.
#[track_caller]
fn check_order(arrive: &str, served: &str) {
    block_on(async {
        let turns = Arc::new(Turns::new(1));
        let of = |name: char| scope(&[(name as u32, name.encode_utf8(&mut [0; 4]))], 100, 100);
        let mut turn = Some(fill(&turns, &of('-'), 1).await);
        let mut waiting: Vec<_> = arrive
            .chars()
            .map(|name| {
                let (turns, scope) = (Arc::clone(&turns), of(name));
                let take = async move { turns.take(&scope, LATE).await.expect("a turn") };
                (name, Box::pin(take))
            })
            .collect();
        let mut poll_all = |order: &mut String| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            let mut got = None;
            waiting.retain_mut(|(name, take)| match take.as_mut().poll(&mut context) {
                Poll::Ready(turn) => {
                    order.push(*name);
                    got = Some(vec![turn]);
                    false
                }
                Poll::Pending => true,
            });
            got
        };
        let mut order = String::new();
        assert!(poll_all(&mut order).is_none());
        while turn.take().is_some() {
            turn = poll_all(&mut order);
        }
        assert_eq!(order, served, "{arrive}");
    });
}

#[test]
fn tenants_take_turns() {
    check_order("ab", "ab");
    check_order("aaaabb", "ababaa");
    check_order("aaaaaaaab", "abaaaaaaa");
    check_order("aaabbbccc", "abcabcabc");
}

#[test]
fn who_is_gone_takes_no_turn() {
    block_on(async {
        let turns = Arc::new(Turns::new(1));
        let (a, b) = (scope(&[(1, "a")], 9, 9), scope(&[(2, "b")], 9, 9));
        let running = fill(&turns, &a, 1).await;
        let mut gone = Box::pin(turns.take(&b, LATE));
        let mut waits = Box::pin(turns.take(&a, LATE));
        assert!(futures::poll!(&mut gone).is_pending() && futures::poll!(&mut waits).is_pending());
        // The turn is on its way to `gone`, which never looks.
        drop(running);
        assert!(futures::poll!(&mut waits).is_pending());
        drop(gone);
        waits.await.expect("the turn went on");
        assert_eq!(turns.state.lock().running, 0);
        assert!(turns.state.lock().lines.is_empty());
    });
}
