//! What statements say of known entries.

use std::sync::Arc;

use model::{Level, Matcher};
use query::entries::{
    Entries, EntryFilter, EntrySelection, LineCondition, LineTest, SelectEntries,
};
use tenancy::Limits;

use super::super::ground::{Ground, scope_of};
use super::{EVERYWHERE, Lie, Said, given, ground, line};

/// Each statement, wherever the entries lie.
async fn check(cases: &[(&str, &str)]) {
    for lie in EVERYWHERE {
        let ground = ground(&given(), lie).await;
        for (statement, expected) in cases {
            let found = ground.rows(&scope_of(&[1]), statement).await;
            assert_eq!(found, *expected, "{statement}, {lie:?}");
        }
    }
}

#[tokio::test]
async fn entries_are_rows_and_labels_are_columns() {
    check(&[
        ("SELECT * FROM logs WHERE line LIKE 'GET%200'",
         "time,level,app,label_level,source,line,fields\n2027-01-15T06:59:10.000Z,info,web,,container,GET /cart 200,{}"),
        ("SELECT app, level, count(*) AS n FROM entries.logs GROUP BY 1, 2 ORDER BY 1, 2",
         "app,level,n\ndb,info,1\ndb,unknown,3\nweb,error,1\nweb,fatal,1\nweb,info,1\nweb,unknown,1"),
        ("SELECT time, line FROM logs ORDER BY time DESC LIMIT 2",
         "time,line\n2027-01-15T08:00:00.000Z,\"new\nest\"\n2027-01-15T07:58:20.000Z,broken \u{fffd}\u{fffd} byte"),
        ("SELECT app FROM logs ORDER BY time LIMIT 2 OFFSET 1", "app\nweb\ndb"),
        ("SELECT fields['user'] AS u, fields['verb'] AS v FROM taffrail.entries.audits ORDER BY time",
         "u,v\nann,get\nbob,delete"),
        ("SELECT namespace, fields['reason'] AS r, line FROM events",
         "namespace,r,line\nshop,BackOff,\"{\"\"reason\"\":\"\"BackOff\"\"}\""),
        ("SELECT fields FROM logs WHERE fields['trace_id'] = 'abc'",
         "fields\n\"{\"\"empty\"\":\"\"\"\",\"\"trace_id\"\":\"\"abc\"\"}\""),
        ("SELECT count(*) AS n FROM logs WHERE fields['empty'] = ''", "n\n1"),
        ("SELECT count(*) AS n FROM logs WHERE fields['empty'] IS NULL", "n\n7"),
        ("SELECT date_trunc('hour', time) AS h, count(*) AS n FROM logs GROUP BY h ORDER BY h",
         "h,n\n2027-01-15T06:00:00.000Z,2\n2027-01-15T07:00:00.000Z,5\n2027-01-15T08:00:00.000Z,1"),
        ("SELECT l.app, a.fields['user'] AS u FROM logs l JOIN audits a ON l.time > a.time ORDER BY l.time, a.time LIMIT 2",
         "app,u\nweb,ann\nweb,ann"),
        // One answer beside the samples of metrics: both in one statement.
        ("SELECT (SELECT count(*) FROM samples) AS s, count(*) AS n FROM logs", "s,n\n0,8"),
    ]).await;
}

#[tokio::test]
async fn time_is_cut_to_the_nanosecond() {
    check(&[
        ("SELECT count(*) AS n FROM logs WHERE time >= '2027-01-15T08:00:00Z'", "n\n1"),
        ("SELECT count(*) AS n FROM logs WHERE time > '2027-01-15T08:00:00Z'", "n\n0"),
        ("SELECT count(*) AS n FROM logs WHERE time > TIMESTAMP '2027-01-15T07:59:59.999999999'", "n\n1"),
        ("SELECT count(*) AS n FROM logs WHERE time = '2027-01-15T08:00:00.000000001Z'", "n\n0"),
        ("SELECT count(*) AS n FROM logs WHERE time = '2027-01-15T08:00:00Z'", "n\n1"),
        ("SELECT count(*) AS n FROM logs WHERE time > now() - INTERVAL '5 minutes'", "n\n3"),
        ("SELECT count(*) AS n FROM logs WHERE time >= to_timestamp_millis(1799999999999)", "n\n1"),
        ("SELECT count(*) AS n FROM logs WHERE time NOT BETWEEN '2027-01-15T07:00:00Z' AND '2027-01-15T09:00:00Z'", "n\n2"),
        ("SELECT count(*) AS n FROM logs WHERE time > '2027-01-15T09:00:00Z' AND time < '2027-01-15T07:00:00Z'", "n\n0"),
    ]).await;
}

/// What the leaf of a plan tells, and whether rows are looked at again above it. Nothing is sorted.
async fn check_plan(ground: &Ground, statement: &str, told: &str, has_filter: bool) {
    let plan = ground.rows(&scope_of(&[1]), &format!("EXPLAIN {statement}")).await;
    let plan = plan.replace("\"\"", "\"");
    let leaf = plan.lines().find(|line| line.contains("EntriesExec")).unwrap_or(&plan);
    assert!(leaf.contains(told), "{statement}: {told} in {plan}");
    assert_eq!(plan.contains("FilterExec"), has_filter, "{statement}: {plan}");
    assert!(!plan.contains("SortExec"), "{statement}: {plan}");
}

/// What of a condition the store looks for, as `EXPLAIN` tells it.
#[tokio::test]
async fn explain_says_what_is_looked_for() {
    let ground = ground(&given(), Lie::Flushed).await;
    for (statement, told, has_filter) in [
        ("SELECT line FROM logs WHERE line LIKE '%timeout%'", "lines=[\"timeout\"]", false),
        ("SELECT line FROM logs WHERE line NOT LIKE '%timeout%'", "lines=[not \"timeout\"]", false),
        ("SELECT line FROM logs WHERE line ILIKE '%timeout%'", "lines=[\"timeout\"i]", true),
        ("SELECT line FROM logs WHERE strpos(line, 'pay') > 0", "lines=[\"pay\"]", false),
        ("SELECT line FROM logs WHERE contains(line, 'pay')", "lines=[\"pay\"]", false),
        ("SELECT line FROM logs WHERE line LIKE 'GET%cart%'", "lines=[\"GET\", \"cart\"]", true),
        (
            "SELECT line FROM logs WHERE line ~ 'wrote [0-9]+ buffers'",
            "lines=[\" buffers\", \"wrote \"]",
            true,
        ),
        ("SELECT line FROM logs WHERE line ~* 'WROTE [0-9]+'", "lines=[\"WROTE \"i]", true),
        (
            "SELECT line FROM logs WHERE regexp_like(line, 'wrote [0-9]+')",
            "lines=[\"wrote \"]",
            true,
        ),
        (
            "SELECT line FROM logs WHERE line LIKE '%a%' OR line LIKE '%b%'",
            "lines=[\"a\" or \"b\"]",
            false,
        ),
        ("SELECT line FROM logs WHERE line = 'odd'", "lines=[\"odd\"]", true),
        ("SELECT line FROM audits WHERE fields['verb'] = 'get'", "fields=[verb=\"get\"]", false),
        (
            "SELECT line FROM audits WHERE fields['verb'] IN ('get', 'list')",
            "fields=[verb=~\"get|list\"]",
            false,
        ),
        ("SELECT line FROM logs WHERE level IN ('error', 'fatal')", "level>=error", true),
        (
            "SELECT line FROM logs WHERE app = 'web' AND line LIKE '%x%'",
            "labels=[app=\"web\"], lines=[\"x\"]",
            false,
        ),
        (
            "SELECT line FROM logs WHERE time >= '2027-01-15T08:00:00.000000001Z'",
            "time=[2027-01-15T08:00:00.000000001Z, ]",
            false,
        ),
        (
            "SELECT line FROM logs ORDER BY time DESC LIMIT 3",
            "newest first, columns=[time, line], limit=3",
            false,
        ),
        (
            "SELECT line FROM logs WHERE line LIKE '%x%' ORDER BY time LIMIT 3",
            "oldest first, columns=[time, line], limit=3",
            false,
        ),
        (
            "SELECT line FROM logs WHERE line ~ 'x+y' ORDER BY time DESC LIMIT 3",
            "newest first",
            true,
        ),
        ("SELECT line FROM logs LIMIT 3", "oldest first, columns=[line], limit=3", false),
    ] {
        check_plan(&ground, statement, told, has_filter).await;
    }
    let analyzed =
        ground.rows(&scope_of(&[1]), "EXPLAIN ANALYZE SELECT * FROM logs WHERE app = 'web'").await;
    assert!(analyzed.contains("output_rows=4") && analyzed.contains("bytes_found="), "{analyzed}");
}

/// The port that LogQL and the search service ask says the same.
#[tokio::test]
async fn sql_finds_what_searches_find() {
    for lie in EVERYWHERE {
        let ground = ground(&given(), lie).await;
        for (condition, tests, ignores_case) in [
            ("line LIKE '%GET%'", vec!["GET"], false),
            ("line ILIKE '%timeout%'", vec!["timeout"], true),
            ("line LIKE '%cart%' OR line LIKE '%pay%'", vec!["cart", "pay"], false),
        ] {
            let statement = format!("SELECT line FROM logs WHERE {condition} ORDER BY time DESC");
            let found = ground.values(&scope_of(&[1]), &statement).await;
            let any = tests.iter().map(|text| LineTest::Contains((*text).to_owned())).collect();
            let lines = vec![LineCondition { any, is_negative: false, ignores_case }];
            let selection = EntrySelection {
                start_ns: i64::MIN,
                end_ns: i64::MAX,
                filter: EntryFilter { lines, ..EntryFilter::default() },
                ..EntrySelection::default()
            };
            let entries =
                engine::StorageEntries::new(Arc::clone(&ground.storage), engine::Pool::new(1));
            let asked = SelectEntries { selection, ..SelectEntries::default() };
            let mut batches = entries.select(&scope_of(&[1]), asked).await.unwrap();
            let mut expected = Vec::new();
            while let Some(rows) = batches.next().await.unwrap() {
                expected
                    .extend(rows.iter().map(|row| String::from_utf8(row.line.to_vec()).unwrap()));
            }
            assert!(expected.len() > 1, "{condition}");
            assert_eq!(found, expected, "{condition}, {lie:?}");
        }
    }
}

#[tokio::test]
async fn nobody_sees_what_is_not_theirs() {
    let mut all = given();
    all.push(Said { tenant: 2, labels: vec![("only_of_2", "x")], ..line("", 30, "secret too") });
    for lie in EVERYWHERE {
        let ground = ground(&all, lie).await;
        let statements = [
            "SELECT * FROM logs",
            "SELECT * FROM logs ORDER BY time DESC",
            "SELECT * FROM entries.events",
            "SELECT * FROM audits",
            "SELECT * FROM information_schema.columns",
            "SHOW COLUMNS FROM logs",
            "SELECT count(*) AS n, max(line) FROM logs WHERE line LIKE '%secret%' OR 1 = 1",
        ];
        for statement in statements {
            let found = ground.rows(&scope_of(&[1]), statement).await;
            assert!(found.contains('\n'), "{statement}: {found}");
            assert!(
                !found.contains("secret") && !found.contains("only_of_2"),
                "{statement}: {found}"
            );
        }
        let restricted = vec![vec![Matcher::equal("app", "web")]];
        let scope = scope_of(&[1]).restricted_for_test(restricted);
        for statement in statements {
            let found = ground.rows(&scope, statement).await;
            for hidden in ["db", "label_level", "cluster", "namespace", "BackOff"] {
                assert!(!found.contains(hidden), "{statement}: {hidden} in {found}");
            }
        }
        assert_eq!(ground.values(&scope, "SELECT count(*) FROM logs").await, ["4"]);
        let both = scope_of(&[1, 2]);
        let by_tenant = "SELECT __tenant_id__ AS t, count(*) AS n FROM logs GROUP BY t ORDER BY t";
        assert_eq!(ground.values(&both, by_tenant).await, ["team-1,8", "team-2,2"]);
        let one = "SELECT line FROM logs WHERE __tenant_id__ = 'team-2' ORDER BY time";
        assert_eq!(ground.values(&both, one).await, ["secret of team 2", "secret too"]);
        let merged = ground.values(&both.unlabelled(), "SELECT count(*) FROM logs").await;
        assert_eq!(merged, ["10"]);
    }
}

#[tokio::test]
async fn tables_are_listed_and_names_are_kept_apart() {
    let ground = ground(&given(), Lie::Head).await;
    let scope = scope_of(&[1]);
    let tables = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1, 2";
    assert_eq!(
        ground.values(&scope, tables).await,
        ["entries,audits", "entries,events", "entries,logs", "metrics,samples"]
    );
    let schemas = "SELECT schema_name FROM information_schema.schemata ORDER BY 1";
    assert_eq!(ground.values(&scope, schemas).await, ["entries", "information_schema", "metrics"]);
    let columns = "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = 'entries' AND table_name = 'audits'";
    assert_eq!(
        ground.values(&scope, columns).await,
        [
            "time,timestamp with time zone,NO",
            "level,text,NO",
            "cluster,text,YES",
            "source,text,NO",
            "line,text,NO",
            "fields,map,NO",
        ]
    );
    // A metric of such a name is read from the table of all samples, and listed nowhere else.
    let taken = super::super::ground::given(1, &[("__name__", "events")], vec![1.0, 2.0]);
    let metrics = Ground::new(&[taken], true).await;
    assert_eq!(metrics.values(&scope, "SELECT count(*) FROM events").await, ["0"]);
    let samples = "SELECT count(*) FROM samples WHERE name = 'events'";
    assert_eq!(metrics.values(&scope, samples).await, ["2"]);
    let listed = "SELECT table_schema FROM information_schema.tables WHERE table_name = 'events'";
    assert_eq!(metrics.values(&scope, listed).await, ["entries"]);
}

#[tokio::test]
async fn limits_and_errors_are_told() {
    let mut all = given();
    for i in 0..40 {
        all.push(Said { level: Level::Debug, ..line("bulk", 10 + i, "x") });
    }
    let ground = ground(&all, Lie::Flushed).await;
    for (statement, limits, key) in [
        (
            "SELECT * FROM logs",
            Limits { query_samples_max: 20, ..Limits::default() },
            "query_samples_max",
        ),
        (
            "SELECT * FROM logs",
            Limits { query_memory_bytes_max: 900, ..Limits::default() },
            "limit is 900",
        ),
        ("SELECT * FROM logs", Limits { query_bytes_max: 64, ..Limits::default() }, "limit is 64"),
        (
            "SELECT * FROM logs",
            Limits { query_series_max: 1, ..Limits::default() },
            "more than 1 streams",
        ),
    ] {
        let found = ground.rows(&scope_of(&[1]).limited_for_test(limits), statement).await;
        assert!(found.starts_with("422 ") && found.contains(key), "{statement}: {found}");
    }
    // What is enough is read, and no more.
    let few = Limits { query_samples_max: 5, ..Limits::default() };
    let newest = "SELECT line FROM logs ORDER BY time DESC LIMIT 1";
    let scope = scope_of(&[1]).limited_for_test(few);
    assert_eq!(ground.rows(&scope, newest).await, "line\n\"new\nest\"");
    for (statement, told) in [
        ("SELECT\n nothing FROM logs", "at 2:2"),
        (
            "SELECT * FROM logs WHERE line ~ '('",
            "400 a regular expression cannot be read: regex parse",
        ),
        (
            "SELECT * FROM logs WHERE line ~ '(x{1000}){1000}'",
            "422 Compute error: Regular expression did not compile",
        ),
        ("SELECT * FROM entries.nothing", "table 'taffrail.entries.nothing' not found at 1:15"),
        ("DELETE FROM logs", "DELETE FROM is refused"),
    ] {
        let found = ground.rows(&scope_of(&[1]), statement).await;
        assert!(found.contains(told), "{statement}: {found}");
    }
}
