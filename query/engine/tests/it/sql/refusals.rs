//! What is refused, and how it is told.

use super::ground::{Ground, cluster, scope_of};

#[tokio::test]
async fn statements_only_read() {
    let ground = Ground::new(&cluster(), false).await;
    for (statement, part) in [
        ("INSERT INTO up VALUES (1)", "INSERT INTO is refused"),
        ("UPDATE up SET value = 1", "UPDATE is refused"),
        ("DELETE FROM up", "DELETE FROM is refused"),
        ("DROP TABLE up", "DROP TABLE is refused"),
        ("TRUNCATE TABLE up", "TRUNCATE TABLE is refused"),
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE is refused"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW is refused"),
        ("CREATE SCHEMA s", "CREATE SCHEMA is refused"),
        (
            "CREATE EXTERNAL TABLE t (a INT) STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE EXTERNAL TABLE is refused",
        ),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", "COPY is refused"),
        ("COPY up TO '/tmp/x.csv'", "COPY is refused"),
        ("SET datafusion.execution.batch_size = 1", "SET is refused"),
        ("RESET datafusion.execution.batch_size", "RESET is refused"),
        ("SHOW ALL", "SHOW ALL is refused"),
        ("SHOW datafusion.execution.batch_size", "SHOW is refused"),
        ("SHOW FUNCTIONS", "SHOW FUNCTIONS is refused"),
        ("PREPARE p AS SELECT 1", "PREPARE is refused"),
        ("EXECUTE p", "EXECUTE is refused"),
        ("BEGIN", "BEGIN"),
        ("COMMIT", "COMMIT is refused"),
        ("USE metrics", "USE is refused"),
        ("ANALYZE up", "ANALYZE"),
        ("EXPLAIN INSERT INTO up VALUES (1)", "INSERT INTO is refused"),
        ("EXPLAIN ANALYZE DELETE FROM up", "DELETE FROM is refused"),
        ("EXPLAIN COPY up TO '/tmp/x'", "COPY is refused"),
        ("WITH x AS (INSERT INTO up VALUES (1)) SELECT 1", "INSERT"),
        ("SELECT * INTO t FROM up", "SELECT INTO is refused"),
        ("SELECT * FROM up FOR UPDATE", "FOR UPDATE is refused"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("", "there is no statement"),
        ("-- nothing", "there is no statement"),
        ("SELECT * FROM '/etc/passwd'", "not found"),
        ("SELECT * FROM read_csv('/etc/passwd')", "'read_csv' not found"),
        ("SELECT * FROM \"file:///etc/passwd\"", "not found"),
        ("SELECT repeat('a', 1000000000)", "repeat"),
        ("SELECT rpad('a', 1000000000)", "rpad"),
        ("SELECT array_repeat(1, 1000000000)", "array_repeat"),
    ] {
        let found = ground.rows(&scope_of(&[1]), statement).await;
        assert!(found.contains(part), "{statement}: {found}");
        assert!(!found.contains("root:"), "{statement}: {found}");
    }
}

#[tokio::test]
async fn errors_have_their_place() {
    let ground = Ground::new(&cluster(), false).await;
    for (statement, expected) in [
        ("SELECT\n  nothing FROM up", "at 2:3"),
        ("SELECT *\nFROM nothing_there", "table 'taffrail.metrics.nothing_there' not found at 2:6"),
        ("SELEC 1", "at 1:1"),
        ("SELECT 1 FROM up WHERE", "Expected: an expression, found: EOF"),
        ("SELECT 'open", "Unterminated string literal at 1:8"),
        ("SELECT up.nothing FROM up", "at 1:8"),
        ("SELECT host, value FROM up GROUP BY host", "at 1:14"),
        ("SELECT nofunction(1)", "nofunction"),
        ("SELECT 1 / 0", "422 Divide by zero"),
        (
            "SELECT * FROM promql('sum(')",
            "400 promql(): 1:5: parse error: unclosed left parenthesis",
        ),
        ("SELECT * FROM promql('up', 1, 2)", "there are 3 arguments"),
        ("SELECT * FROM promql('up', 2, 1, 1)", "the end is before the start"),
        ("SELECT * FROM promql('up', 1, 2, '0s')", "step must be a duration above 0"),
        ("SELECT * FROM promql('up', 0, 12000, 1)", "more than 11000 steps"),
        ("SELECT * FROM promql('\"text\"')", "a string is no table"),
        ("SELECT * FROM promql('up[5m]', 0, 10, 1)", "is no table"),
    ] {
        let found = ground.rows(&scope_of(&[1]), statement).await;
        assert!(found.contains(expected), "{statement}: {found}");
    }
}

#[tokio::test]
async fn deep_and_long_statements_end_in_an_answer() {
    let ground = Ground::new(&cluster(), false).await;
    let scope = scope_of(&[1]);
    let chain = |operator: &str, count: usize| vec!["1"; count].join(operator);
    let found = ground.rows(&scope, &format!("SELECT {} AS s", chain(" + ", 290))).await;
    assert_eq!(found, "s\n290");
    let found = ground.rows(&scope, &format!("SELECT {}", chain(" + ", 20_000))).await;
    assert!(found.contains("20000 operators, 300 are allowed"), "{found}");
    let ors = vec!["host = 'a'"; 20_000].join(" OR ");
    let found = ground.rows(&scope, &format!("SELECT 1 FROM up WHERE {ors}")).await;
    assert!(found.contains("300 are allowed"), "{found}");
    let nested = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(ground.rows(&scope, &nested).await.contains("nested too deeply"));
    let negated = format!("SELECT {}1", "- ".repeat(10_000));
    assert!(ground.rows(&scope, &negated).await.contains("allowed"));
    let many: Vec<String> = (0..5_000).map(|i| format!("'h{i}'")).collect();
    let statement =
        format!("SELECT count(*) AS n FROM up WHERE host IN ('a', {})", many.join(", "));
    assert_eq!(ground.rows(&scope, &statement).await, "n\n41");
}
