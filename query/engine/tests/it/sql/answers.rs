//! What statements say: rows, filters, aggregates, and the same as PromQL where both ask the same.

use std::sync::Arc;

use std::collections::BTreeMap;

use query::{Executor, SqlFormat, SqlParameter, SqlRequest, Value};

use super::ground::{Ground, NOW_MS, at_ms, cluster, request, scope_of};

/// Each statement against stores with and without blocks.
async fn check(cases: &[(&str, &str)]) {
    for with_blocks in [false, true] {
        let ground = Ground::new(&cluster(), with_blocks).await;
        let scope = scope_of(&[1]);
        for (statement, expected) in cases {
            let found = ground.rows(&scope, statement).await;
            assert_eq!(found, *expected, "{statement}, in blocks: {with_blocks}");
        }
    }
}

#[tokio::test]
async fn rows_are_samples_and_labels_are_columns() {
    check(&[
        ("SELECT count(*) AS n FROM cpu_seconds_total", "n\n164"),
        // Markers that a series has ended are no samples.
        ("SELECT host, count(*), sum(value) FROM up GROUP BY host ORDER BY host",
         "host,count(*),sum(up.value)\na,41,41\nb,40,280"),
        ("SELECT time, value, mode, host FROM cpu_seconds_total WHERE time = '2027-01-15T08:00:00Z' ORDER BY host, mode",
         "time,value,mode,host\n2027-01-15T08:00:00.000Z,405,idle,a\n2027-01-15T08:00:00.000Z,60,user,a\n\
          2027-01-15T08:00:00.000Z,129,user,b\n2027-01-15T08:00:00.000Z,11,,c"),
        ("SELECT * FROM metrics.up WHERE host = 'a' ORDER BY time LIMIT 1",
         "time,value,host,histogram\n2027-01-15T07:50:00.000Z,1,a,"),
        ("SELECT \"label_time\", \"Host\", max(value) AS m FROM taffrail.metrics.\"odd.name\" GROUP BY 1, 2",
         "label_time,Host,m\nnow,A,2"),
        ("SELECT name, labels['mode'] AS mode, count(*) AS n FROM samples WHERE labels['host'] = 'a' GROUP BY 1, 2 ORDER BY 1, 2",
         "name,mode,n\ncpu_seconds_total,idle,41\ncpu_seconds_total,user,41\nup,,41"),
        ("SELECT labels FROM samples WHERE name = 'cpu_seconds_total' AND labels['mode'] = 'idle' LIMIT 1",
         "labels\n\"{\"\"host\"\":\"\"a\"\",\"\"mode\"\":\"\"idle\"\"}\""),
        ("SELECT date_bin(INTERVAL '5 minutes', time) AS bin, avg(value) AS a FROM up WHERE host = 'a' GROUP BY bin ORDER BY bin",
         "bin,a\n2027-01-15T07:50:00.000Z,1\n2027-01-15T07:55:00.000Z,1\n2027-01-15T08:00:00.000Z,1"),
        ("SELECT count(*) AS n FROM up WHERE time > now() - INTERVAL '1 minute'", "n\n7"),
        ("WITH a AS (SELECT 1 AS x UNION ALL SELECT 2) SELECT sum(x) AS s FROM a", "s\n3"),
        ("VALUES (1, 'a'), (2, NULL)", "column1,column2\n1,a\n2,"),
        ("SELECT u.host, c.mode FROM up u JOIN cpu_seconds_total c ON u.host = c.host AND u.time = c.time WHERE u.time = '2027-01-15T08:00:00Z' ORDER BY 1, 2",
         "host,mode\na,idle\na,user"),
        ("SELECT host FROM up UNION SELECT host FROM cpu_seconds_total ORDER BY host", "host\na\nb\nc"),
    ]).await;
}

#[tokio::test]
async fn filters_narrow_what_is_read_and_change_no_answer() {
    let ground = Ground::new(&cluster(), true).await;
    let scope = scope_of(&[1]);
    // The condition, and the series of cpu_seconds_total that it picks, by host and mode.
    for (condition, picked) in [
        ("host = 'a'", "a/idle a/user"),
        ("'a' = host", "a/idle a/user"),
        ("host <> 'a'", "b/user c/"),
        ("mode <> 'idle'", "a/user b/user"),
        ("host IN ('b', 'c', '')", "b/user c/"),
        ("host NOT IN ('b', 'c')", "a/idle a/user"),
        ("mode IS NULL", "c/"),
        ("mode IS NOT NULL", "a/idle a/user b/user"),
        ("mode = ''", ""),
        ("mode <> ''", "a/idle a/user b/user"),
        ("mode LIKE 'us%'", "a/user b/user"),
        ("mode NOT LIKE 'us%'", "a/idle"),
        ("mode ILIKE 'US_R'", "a/user b/user"),
        ("mode LIKE '%'", "a/idle a/user b/user"),
        ("mode ~ 's.r'", "a/user b/user"),
        ("mode ~ '^us$|le$'", "a/idle"),
        ("mode ~* 'IDL'", "a/idle"),
        ("mode !~ 'dl'", "a/user b/user"),
        ("mode !~* 'DL'", "a/user b/user"),
        ("host = 'a' OR mode = 'user'", "a/idle a/user b/user"),
        ("host = 'a' AND (mode = 'idle' OR value > 1e9)", "a/idle"),
        ("NOT (host = 'a')", "b/user c/"),
        ("host > 'a'", "b/user c/"),
        ("upper(host) = 'A'", "a/idle a/user"),
        ("host = 'a' AND host = 'b'", ""),
        ("coalesce(mode, 'none') = 'none'", "c/"),
    ] {
        let statement = format!(
            "SELECT DISTINCT host || '/' || coalesce(mode, '') AS s FROM cpu_seconds_total WHERE {condition} ORDER BY s"
        );
        let found = ground.values(&scope, &statement).await.join(" ");
        assert_eq!(found, picked, "{condition}");
    }
}

#[tokio::test]
async fn time_is_cut_to_the_millisecond() {
    let ground = Ground::new(&cluster(), true).await;
    let scope = scope_of(&[1]);
    // Samples lie at 07:50:00 to 08:00:00, one each 15 s.
    for (condition, count) in [
        ("time >= '2027-01-15T08:00:00Z'", 1),
        ("time > '2027-01-15T08:00:00Z'", 0),
        ("time >= TIMESTAMP '2027-01-15T07:59:45.001'", 1),
        ("time >= TIMESTAMP '2027-01-15T07:59:45'", 2),
        ("time < '2027-01-15T07:50:00.001Z'", 1),
        ("time < '2027-01-15T07:50:00Z'", 0),
        ("time <= '2027-01-15T07:50:00Z'", 1),
        ("'2027-01-15T07:50:30Z' >= time", 3),
        ("time BETWEEN '2027-01-15T07:50:00Z' AND '2027-01-15T07:50:30Z'", 3),
        ("time NOT BETWEEN '2027-01-15T07:50:00Z' AND '2027-01-15T07:50:30Z'", 38),
        ("time <> '2027-01-15T07:50:00Z'", 40),
        ("date_trunc('minute', time) = '2027-01-15T07:50:00Z'", 4),
        ("time >= to_timestamp_millis(1800000000000)", 1),
        ("time > '2027-01-15T07:55:00Z' AND time < '2027-01-15T07:50:00Z'", 0),
    ] {
        let statement = format!("SELECT count(*) AS n FROM up WHERE host = 'a' AND {condition}");
        assert_eq!(ground.rows(&scope, &statement).await, format!("n\n{count}"), "{condition}");
    }
}

#[tokio::test]
async fn promql_in_sql_is_what_the_engine_answers() {
    let ground = Ground::new(&cluster(), true).await;
    let scope = scope_of(&[1]);
    for text in [
        "up",
        "rate(cpu_seconds_total[2m])",
        "sum by (mode) (rate(cpu_seconds_total[2m]))",
        "topk(1, cpu_seconds_total)",
        "vector(1)",
        "scalar(sum(up))",
        "absent(nothing_of_that_name)",
        "nothing_of_that_name",
        "label_replace(up, 'value', '$1', 'host', '(.*)')",
    ] {
        let (start_ms, step_ms) = (NOW_MS - 600_000, 60_000);
        let expr = query::promql::parse(text).unwrap();
        let evaluation =
            query::Evaluation { end_ms: NOW_MS, step_ms, ..engine::instant(expr, start_ms) };
        let answer = ground.executor.evaluate(&scope, evaluation).await.unwrap();
        let Value::Matrix(series) = answer.value else { panic!("a matrix") };
        let mut expected = Vec::new();
        for one in &series {
            let labels: BTreeMap<&str, &str> = one.labels.iter().collect();
            for (at_ms, value) in &one.floats {
                let value = query::number::value_text(*value);
                expected.push(format!("{} {value} {labels:?}", query::http::rfc3339_text(*at_ms)));
            }
        }
        let statement = format!(
            "SELECT * FROM promql('{}', to_timestamp_millis({start_ms}), now(), INTERVAL '1 minute')",
            text.replace('\'', "''")
        );
        let found = labelled_rows(&ground, &statement).await;
        assert!(!found.is_empty() || text == "nothing_of_that_name", "{text}: {found:?}");
        assert_eq!(found, expected, "{text}");
    }
}

/// Rows of a table of samples as texts: time, value, and the labels that are there.
async fn labelled_rows(ground: &Ground, statement: &str) -> Vec<String> {
    let json = ground.ask(&scope_of(&[1]), request(statement)).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let columns = json["data"]["columns"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[1], names.last()), ("time", "value", Some(&"histogram")));
    let row = |row: &serde_json::Value| {
        let labels = 2..names.len() - 1;
        let labels: BTreeMap<&str, &str> = labels
            .filter_map(|i| {
                let renamed = names[i].strip_prefix("label_");
                let renamed = renamed.filter(|name| ["time", "value", "histogram"].contains(name));
                Some((renamed.unwrap_or(names[i]), row[i].as_str()?))
            })
            .collect();
        format!("{labels:?}")
    };
    // Numbers of JSON go through a parser that is not exact to the last bit.
    let exact = ground.values(&scope_of(&[1]), statement).await;
    let exact = exact.iter().map(|line| line.splitn(3, ',').take(2).collect::<Vec<_>>().join(" "));
    let labels = json["data"]["rows"].as_array().unwrap().iter().map(row);
    exact.zip(labels).map(|(exact, labels)| format!("{exact} {labels}")).collect()
}

#[tokio::test]
async fn sql_and_promql_agree() {
    for with_blocks in [false, true] {
        let ground = Ground::new(&cluster(), with_blocks).await;
        let scope = scope_of(&[1]);
        for (label, sql, promql) in [
            (
                "host",
                "SELECT host, max(value) FROM up WHERE time > now() - INTERVAL '5 minutes' GROUP BY host",
                "max by (host) (max_over_time(up[5m]))",
            ),
            (
                "mode",
                "SELECT mode, sum(value) FROM cpu_seconds_total WHERE time = now() GROUP BY mode",
                "sum by (mode) (cpu_seconds_total)",
            ),
            (
                "host",
                "SELECT host, count(*) FROM cpu_seconds_total WHERE time > now() - INTERVAL '5 minutes' GROUP BY host",
                "sum by (host) (count_over_time(cpu_seconds_total[5m]))",
            ),
            (
                "host",
                "SELECT host, avg(value) FROM cpu_seconds_total WHERE mode = 'user' AND time > now() - INTERVAL '150 seconds' GROUP BY host",
                "avg by (host) (avg_over_time(cpu_seconds_total{mode=\"user\"}[150s]))",
            ),
            (
                "host",
                "SELECT host, last_value(value ORDER BY time) FROM cpu_seconds_total WHERE mode IS NULL GROUP BY host",
                "sum by (host) (last_over_time(cpu_seconds_total{mode=\"\"}[1h]))",
            ),
        ] {
            let mut own = ground.values(&scope, sql).await;
            let asked = format!("SELECT {label}, value FROM promql('{promql}')");
            let mut other = ground.values(&scope, &asked).await;
            own.sort();
            other.sort();
            assert!(!own.is_empty(), "{sql}");
            assert_eq!(own, other, "{sql}");
        }
    }
}

#[tokio::test]
async fn parameters_are_values_and_nothing_else() {
    let ground = Ground::new(&cluster(), false).await;
    let scope = scope_of(&[1]);
    let ask = async |text: &str, parameters: &[(&str, SqlParameter)]| {
        let parameters = parameters.iter().map(|(n, p)| ((*n).to_owned(), p.clone())).collect();
        let request = SqlRequest { parameters, format: SqlFormat::Csv, ..request(text) };
        ground.ask(&scope, request).await.unwrap_or_else(|e| e.to_string())
    };
    let text = |text: &str| SqlParameter::Text(text.to_owned());
    let count = "SELECT count(*) AS n FROM up WHERE host = $host AND time >= $2";
    let time = text("2027-01-15T08:00:00Z");
    let found = ask(count, &[("host", text("a")), ("2", time.clone())]).await;
    assert_eq!(found, "n\r\n1\r\n");
    let found = ask(count, &[("host", text("a' OR 'a' = 'a")), ("2", time)]).await;
    assert_eq!(found, "n\r\n0\r\n");
    let number = SqlParameter::Number("-2.5".to_owned());
    let found = ask(
        "SELECT $1 AS a, $2 AS b, $3 AS c",
        &[("1", number), ("2", SqlParameter::Null), ("3", SqlParameter::Boolean(true))],
    )
    .await;
    assert_eq!(found, "a,b,c\r\n-2.5,,true\r\n");
    let found = ask("SELECT value FROM promql($1)", &[("1", text("sum(up{host='a'})"))]).await;
    assert_eq!(found, "value\r\n1\r\n");
    let found = ask(count, &[("host", text("a"))]).await;
    assert!(found.contains("no parameter $2") && found.contains("given were $host"), "{found}");
}

#[tokio::test]
async fn plans_show_what_was_pushed_down() {
    let ground = Ground::new(&cluster(), true).await;
    let scope = scope_of(&[1]);
    let statement = "SELECT time, value FROM cpu_seconds_total WHERE host = 'a' AND mode IN ('user', 'x') \
         AND time >= '2027-01-15T07:59:00Z' LIMIT 3";
    let plan = ground.rows(&scope, &format!("EXPLAIN {statement}")).await;
    let scan = "SamplesExec: metric=cpu_seconds_total, labels=[host=\"\"a\"\", mode=~\"\"user|x\"\"], \
         time=[2027-01-15T07:59:00.000Z, ], columns=[time, value], limit=3";
    assert!(plan.contains(scan), "{plan}");
    assert!(!plan.contains("FilterExec"), "nothing is left to filter: {plan}");
    let told = ground.rows(&scope, &format!("EXPLAIN ANALYZE {statement}")).await;
    for part in ["series=1", "samples=5", "output_rows=3", "bytes_read="] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let roughly = "EXPLAIN SELECT value FROM cpu_seconds_total WHERE host LIKE 'a%' AND value > 3";
    let plan = ground.rows(&scope, roughly).await;
    assert!(plan.contains("FilterExec") && plan.contains("host=~"), "{plan}");
}

#[tokio::test]
async fn json_and_arrow_have_the_same_rows() {
    let ground = Ground::new(&cluster(), true).await;
    let scope = scope_of(&[1]);
    let statement = "SELECT time, host, mode, value, histogram FROM cpu_seconds_total ORDER BY time, host, mode";
    let json = ground.ask(&scope, request(statement)).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"], "success");
    let columns: Vec<&str> = json["data"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["timestamp with time zone", "text", "text", "double", "struct"]);
    assert_eq!(json["data"]["rows"].as_array().unwrap().len(), 164);
    assert_eq!(json["data"]["stats"]["samples"], 164);
    assert_eq!(json["data"]["stats"]["series"], 4);

    let mut pieces = ground
        .executor
        .sql(&scope, SqlRequest { format: SqlFormat::Arrow, ..request(statement) })
        .await
        .unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    let batches = arrow_ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let mut row = 0;
    for batch in batches {
        let batch = batch.unwrap();
        let times = Arc::clone(batch.column(0));
        let times = arrow_array::cast::AsArray::as_primitive::<
            arrow_array::types::TimestampMillisecondType,
        >(&times)
        .values()
        .to_vec();
        for at in times {
            let expected = json["data"]["rows"][row][0].as_str().unwrap();
            assert_eq!(query::http::rfc3339_text(at), expected);
            row += 1;
        }
    }
    assert_eq!(row, 164);
    assert_eq!(at_ms(40, 41), NOW_MS);
}
