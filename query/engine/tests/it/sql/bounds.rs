//! Limits of the tenant hold, and a statement that nobody waits for ends.

use std::time::{Duration, Instant};

use query::{Cancel, Error, Executor, SqlRequest};
use tenancy::Limits;

use super::ground::{Ground, cluster, given, request, scope_of};

#[tokio::test]
async fn limits_of_the_tenant_hold() {
    let ground = Ground::new(&cluster(), true).await;
    let many = "SELECT count(DISTINCT a.value * b.value) FROM generate_series(1, 2000) a CROSS JOIN generate_series(1, 2000) b";
    for (statement, limits, key) in [
        (
            "SELECT * FROM samples",
            Limits { query_series_max: 3, ..Limits::default() },
            "query_series_max",
        ),
        (
            "SELECT * FROM samples",
            Limits { query_samples_max: 50, ..Limits::default() },
            "query_samples_max",
        ),
        (
            "SELECT * FROM samples",
            Limits { query_bytes_max: 64, ..Limits::default() },
            "query_bytes_max",
        ),
        (
            "SELECT * FROM samples",
            Limits { query_memory_bytes_max: 2_000, ..Limits::default() },
            "query_memory_bytes_max",
        ),
        (
            many,
            Limits { query_memory_bytes_max: 1 << 20, ..Limits::default() },
            "query_memory_bytes_max",
        ),
        (
            "SELECT value FROM generate_series(1, 1000000) ORDER BY value % 1000",
            Limits { query_memory_bytes_max: 1 << 20, ..Limits::default() },
            "query_memory_bytes_max",
        ),
        (
            "SELECT count(*) FROM generate_series(1, 10000000000)",
            Limits { query_cpu_seconds_max: 0.05, ..Limits::default() },
            "query_cpu_seconds_max",
        ),
        (
            "SELECT * FROM promql('up', 0, 1800000000, 1000000)",
            Limits { query_series_max: 1, ..Limits::default() },
            "query_series_max",
        ),
    ] {
        let scope = scope_of(&[1]).limited_for_test(limits);
        let found = ground.rows(&scope, statement).await;
        assert!(found.starts_with("422 ") && found.contains(key), "{statement}: {found}");
    }
}

#[tokio::test]
async fn endless_statements_end_with_their_time() {
    let ground = Ground::new(&cluster(), false).await;
    for statement in [
        "SELECT count(*) FROM generate_series(1, 10000000000)",
        "SELECT count(*) FROM generate_series(1, 100000) a CROSS JOIN generate_series(1, 100000) b",
        "SELECT count(*) FROM generate_series(1, 100000) a JOIN generate_series(1, 100000) b ON a.value < b.value",
        "SELECT count(*) FROM (SELECT 1 UNION ALL SELECT value FROM generate_series(1, 10000000000))",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "EXPLAIN ANALYZE SELECT count(*) FROM generate_series(1, 10000000000)",
    ] {
        let timeout = Duration::from_millis(300);
        let begun = Instant::now();
        let asked = ground.ask(&scope_of(&[1]), SqlRequest { timeout, ..request(statement) }).await;
        assert!(
            matches!(asked, Err(Error::Timeout(_) | Error::Execution(_))),
            "{statement}: {asked:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "{statement}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_dropped_answer_frees_the_pool() {
    let ground = Ground::new(&cluster(), false).await;
    let scope = scope_of(&[1]);
    let endless = "SELECT value FROM generate_series(1, 10000000000)";
    for drop_after in [0, 1, 3] {
        let cancel = Cancel::default();
        let asked = SqlRequest { cancel: cancel.clone(), ..request(endless) };
        let mut pieces = ground.executor.sql(&scope, asked).await.unwrap();
        for _ in 0..drop_after {
            assert!(pieces.next().await.unwrap().is_some());
        }
        drop(pieces);
        assert!(cancel.is_set());
        let used = cancel.usage().now().cpu;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let later = cancel.usage().now().cpu;
        assert!(later - used < Duration::from_millis(50), "{used:?} {later:?}");
    }
    // Others are served at once.
    assert_eq!(ground.rows(&scope, "SELECT 1 AS one").await, "one\n1");
}

#[tokio::test]
async fn memory_is_given_back() {
    let rows: Vec<_> = (0..300)
        .map(|i| given(1, &[("__name__", "m"), ("i", &i.to_string())], vec![1.0; 200]))
        .collect();
    let ground = Ground::new(&rows, true).await;
    for statement in [
        "SELECT * FROM m",
        "SELECT i, sum(value) FROM m GROUP BY i ORDER BY 2, 1",
        "SELECT * FROM promql('m')",
        "SELECT * FROM m LIMIT 7",
    ] {
        let cancel = Cancel::default();
        let asked = SqlRequest { cancel: cancel.clone(), ..request(statement) };
        let answer = ground.ask(&scope_of(&[1]), asked).await.unwrap();
        assert!(answer.contains("\"rows\":[["), "{answer}");
        // What was read ahead is given back by its task.
        let begun = Instant::now();
        while cancel.usage().now().memory_bytes > 0 && begun.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(cancel.usage().now().memory_bytes, 0, "{statement}");
        assert!(cancel.usage().now().memory_bytes_peak > 0, "{statement}");
    }
    drop(ground.storage);
}
