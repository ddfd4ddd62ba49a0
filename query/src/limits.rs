//! Turns: how many queries of one tenant run and wait at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tenancy::{ReadScope, TenantId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;

/// Gives turns to queries. Questions over the same tenants stand in one line: an administrator's
/// overview takes no tenant's turns, a reader of two tenants takes none of the overview's, and
/// whoever names a tenant that does not exist waits only for others who do.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// By tenants, in order; only those with a query running or waiting are here.
    lines: Mutex<HashMap<Arc<[TenantId]>, Arc<Line>>>,
}

#[derive(Debug)]
struct Line {
    places: Arc<Semaphore>,
    /// Queries that run or wait.
    inside: AtomicUsize,
}

/// A query's turn; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

/// A place in a line, running or waiting.
#[derive(Debug)]
struct Place {
    turns: Arc<Turns>,
    tenants: Arc<[TenantId]>,
    line: Arc<Line>,
}

impl Turns {
    /// Waits for a turn, at most as long as the query may take.
    pub(crate) async fn take(
        self: &Arc<Self>,
        scope: &ReadScope,
        queue_max: usize,
        timeout: Duration,
    ) -> Result<Turn, Error> {
        let running_max = scope.limits().queries_concurrent_max.max(1);
        let place = self.enter(scope, running_max, queue_max)?;
        let wait = Arc::clone(&place.line.places).acquire_owned();
        match tokio::time::timeout(timeout, wait).await {
            Ok(Ok(permit)) => Ok(Turn { _permit: permit, _place: place }),
            Ok(Err(_)) | Err(_) => Err(Error::Timeout(format!(
                "query timed out in query queue: {running_max} queries of this tenant run at a time \
                 (limit queries_concurrent_max) and none ended within {}; ask for less at a time",
                seconds(timeout)
            ))),
        }
    }

    fn enter(
        self: &Arc<Self>,
        scope: &ReadScope,
        running_max: usize,
        queue_max: usize,
    ) -> Result<Place, Error> {
        let tenants: Arc<[TenantId]> = scope.tenants().iter().map(|tenant| tenant.id).collect();
        let mut lines = self.lines.lock();
        let line = lines.entry(Arc::clone(&tenants)).or_insert_with(|| {
            Arc::new(Line {
                places: Arc::new(Semaphore::new(running_max)),
                inside: AtomicUsize::new(0),
            })
        });
        if line.inside.load(Ordering::Relaxed) >= running_max.saturating_add(queue_max) {
            return Err(Error::Unavailable(format!(
                "{queue_max} queries of this tenant wait already (limit queue_max of the query API) while \
                 {running_max} run (limit queries_concurrent_max); try again later or ask for less at a time"
            )));
        }
        line.inside.fetch_add(1, Ordering::Relaxed);
        Ok(Place { turns: Arc::clone(self), tenants, line: Arc::clone(line) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.turns.lines.lock();
        if self.line.inside.fetch_sub(1, Ordering::Relaxed) == 1 {
            lines.remove(&self.tenants);
        }
    }
}

/// A duration as a person writes it: `120s`, `0.5s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{}s", crate::number::value_text(duration.as_millis() as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(id: u32, name: &str) -> ReadScope {
        ReadScope::for_test(&[(id, name)])
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn a_tenant_waits_for_its_own_queries_only() {
        runtime().block_on(async {
            let turns = Arc::new(Turns::default());
            let (a, b) = (scope(1, "a"), scope(2, "b"));
            let soon = Duration::from_millis(5);
            let mut running = Vec::new();
            for _ in 0..a.limits().queries_concurrent_max {
                running.push(turns.take(&a, 1, soon).await.expect("a turn"));
            }
            let late = turns.take(&a, 1, soon).await.expect_err("all turns are taken");
            assert_eq!(late.kind(), "timeout");
            assert!(
                late.to_string().starts_with("query timed out in query queue: 20 queries"),
                "{late}"
            );
            turns.take(&b, 1, soon).await.expect("another tenant has its own turns");
            running.pop();
            running.push(turns.take(&a, 1, soon).await.expect("one turn is free again"));

            let full = turns.take(&a, 0, soon).await.expect_err("nobody may wait");
            assert_eq!(full.kind(), "unavailable");
            running.clear();
            assert!(turns.lines.lock().is_empty(), "idle tenants take no memory");
        });
    }

    #[test]
    fn a_line_is_shared_only_by_those_who_ask_for_the_same_tenants() {
        runtime().block_on(async {
            let turns = Arc::new(Turns::default());
            let scopes: [&[(u32, &str)]; 4] =
                [&[], &[(1, "a")], &[(1, "a"), (2, "b")], &[(1, "a"), (2, "b"), (3, "c")]];
            let mut running = Vec::new();
            for tenants in scopes {
                let scope = ReadScope::for_test(tenants);
                for _ in 0..scope.limits().queries_concurrent_max {
                    let turn = turns.take(&scope, 0, Duration::from_secs(5)).await;
                    running.push(turn.expect("nobody else has taken this line's turns"));
                }
                turns.take(&scope, 0, Duration::from_secs(5)).await.expect_err("the line is full");
            }
            running.clear();
            assert!(turns.lines.lock().is_empty());
        });
    }

    #[test]
    fn a_waiting_query_runs_when_one_ends() {
        runtime().block_on(async {
            let turns = Arc::new(Turns::default());
            let a = scope(1, "a");
            let mut running = Vec::new();
            for _ in 0..a.limits().queries_concurrent_max {
                running.push(turns.take(&a, 9, Duration::from_secs(5)).await.expect("a turn"));
            }
            let waiting = turns.take(&a, 9, Duration::from_secs(5));
            let ending = async { drop(running.pop()) };
            let (turn, ()) = tokio::join!(waiting, ending);
            turn.expect("the turn of the one that ended");
        });
    }
}
