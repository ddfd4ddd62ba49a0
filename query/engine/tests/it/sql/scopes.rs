//! Nobody sees what the scope does not allow, by no way of asking.

use model::Matcher;

use super::ground::{Ground, cluster, scope_of};

/// Ways to ask for everything there is.
const EVERYTHING: [&str; 9] = [
    "SELECT * FROM samples",
    "SELECT * FROM up",
    "SELECT * FROM only_of_team_2",
    "SELECT DISTINCT name FROM samples ORDER BY 1",
    "SELECT table_name FROM information_schema.tables",
    "SELECT * FROM information_schema.columns",
    "SHOW TABLES",
    "DESCRIBE up",
    "SELECT * FROM promql('{__name__=~\".+\"}')",
];

#[tokio::test]
async fn a_tenant_sees_its_own() {
    let ground = Ground::new(&cluster(), true).await;
    for statement in EVERYTHING {
        let found = ground.rows(&scope_of(&[1]), statement).await;
        for foreign in ["secret", "s2", "only_of_team_2,", "team-2"] {
            assert!(!found.contains(foreign), "{statement}: {found}");
        }
        let nothing = ground.rows(&scope_of(&[3]), statement).await;
        assert!(
            !nothing.contains("host") && !nothing.contains("cpu_seconds"),
            "{statement}: {nothing}"
        );
    }
    let names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'metrics' ORDER BY 1";
    let found = ground.values(&scope_of(&[1]), names).await;
    assert_eq!(found, ["cpu_seconds_total", "odd.name", "samples", "up"]);
    let found = ground.values(&scope_of(&[2]), names).await;
    assert_eq!(found, ["only_of_team_2", "samples", "up"]);
    let found = ground.rows(&scope_of(&[1]), "SELECT * FROM only_of_team_2").await;
    assert_eq!(found, "table 'taffrail.metrics.only_of_team_2' not found at 1:15");
}

#[tokio::test]
async fn a_restricted_scope_sees_a_part() {
    let ground = Ground::new(&cluster(), true).await;
    let scope = scope_of(&[1]).restricted_for_test(vec![vec![Matcher::equal("host", "b")]]);
    for statement in EVERYTHING {
        let found = ground.rows(&scope, statement).await;
        for hidden in ["idle", ",a,", "\"a\"", "odd.name", "secret"] {
            assert!(!found.contains(hidden), "{statement}: {found}");
        }
    }
    let hosts = "SELECT DISTINCT name, labels['host'] AS h FROM samples ORDER BY 1";
    assert_eq!(ground.values(&scope, hosts).await, ["cpu_seconds_total,b", "up,b"]);
    let wider = "SELECT DISTINCT host FROM up WHERE host = 'a' OR host IN ('a', 'b') OR 1 = 1";
    assert_eq!(ground.values(&scope, wider).await, ["b"]);
}

#[tokio::test]
async fn several_tenants_are_told_apart() {
    for with_blocks in [false, true] {
        let ground = Ground::new(&cluster(), with_blocks).await;
        let both = scope_of(&[1, 2]);
        let by_tenant = "SELECT __tenant_id__, host, sum(value) AS s FROM up WHERE time = now() - INTERVAL '15 seconds' GROUP BY 1, 2 ORDER BY 1, 2";
        let found = ground.values(&both, by_tenant).await;
        assert_eq!(found, ["team-1,a,1", "team-1,b,7", "team-2,a,3"]);
        let one = "SELECT DISTINCT host FROM up WHERE __tenant_id__ = 'team-2'";
        assert_eq!(ground.values(&both, one).await, ["a"]);
        let map = "SELECT count(*) AS n FROM samples WHERE labels['__tenant_id__'] = 'team-2' AND name = 'up'";
        assert_eq!(ground.values(&both, map).await, ["41"]);
        let columns = "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'up'";
        let found = ground.values(&both, columns).await;
        assert_eq!(
            found,
            [
                "time,timestamp with time zone,NO",
                "value,double,YES",
                "__tenant_id__,text,YES",
                "host,text,YES",
                "secret,text,YES",
                "histogram,struct,YES",
            ]
        );
        let merged = ground.rows(&both.clone().unlabelled(), "SELECT count(*) FROM up").await;
        assert_eq!(merged, "count(*)\n122", "a label more tells them apart");
    }
}
