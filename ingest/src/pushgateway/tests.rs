//! Pushes are kept, replaced, deleted, written again, and there after a restart.

use std::sync::Arc;

use tenancy::DirectoryError;
use testkit::{Fault, FaultyDisk};

use super::{Pushgateway, PushgatewayConfig, ScopeOfTenant};
use crate::Config;
use crate::testing::{self, Answer, NOW_MS, Rig, scope};

struct Setup {
    rig: Rig,
    disk: FaultyDisk,
    gateway: Arc<Pushgateway>,
}

fn setup_on(disk: FaultyDisk, config: PushgatewayConfig) -> Setup {
    let rig = Rig::new(&Config::default());
    let opened = Pushgateway::open(Arc::clone(&rig.intake), Arc::new(disk.clone()), config);
    Setup { rig, disk, gateway: Arc::new(opened.expect("opens")) }
}

fn setup() -> Setup {
    setup_on(FaultyDisk::new(), PushgatewayConfig::default())
}

impl Setup {
    /// Status, text, and what was stored, without the time of the push.
    async fn send(&self, method: &str, path: &str, body: &str) -> (u16, String, Vec<String>) {
        let request = testing::request(method, path, &[], body.to_owned());
        let answer = Answer::of(self.gateway.handle(0, scope(), request).await).await;
        (answer.status, answer.text(), self.stored())
    }

    fn stored(&self) -> Vec<String> {
        let at = format!(" @{NOW_MS}");
        let told = |line: &String| !line.contains("push_time_seconds");
        let lines = self.rig.kept.take();
        lines
            .iter()
            .filter(|l| told(l) && !l.contains("push_failure"))
            .map(|l| l.replace(&at, ""))
            .collect()
    }

    /// One tick.
    fn tick(&self) -> Vec<String> {
        self.tick_as(Arc::new(|_| Ok(Some(scope()))))
    }

    fn tick_as(&self, scope_of: ScopeOfTenant) -> Vec<String> {
        self.gateway.write_all(&scope_of);
        let mut stored = self.stored();
        stored.sort();
        stored
    }
}

const PATH: &str = "/metrics/job/backup/instance/a";

fn line(name: &str, value: &str) -> String {
    format!(r#"{{__name__="{name}", instance="a", job="backup"}} {value}"#)
}

#[tokio::test]
async fn put_replaces_all_and_post_the_same_families() {
    let setup = setup();
    let put = setup.send("PUT", PATH, "a 1\nb{job=\"own\"} 2\n").await;
    assert_eq!(put, (200, String::new(), vec![line("a", "1"), line("b", "2")]));
    assert_eq!(setup.tick(), [line("a", "1"), line("b", "2")]);
    let post = setup.send("POST", PATH, "b 3\nc 4\n").await;
    assert_eq!(post, (200, String::new(), vec![line("b", "3"), line("c", "4")]));
    assert_eq!(setup.tick(), [line("a", "1"), line("b", "3"), line("c", "4")]);
    let put = setup.send("PUT", PATH, "c 5\n").await;
    assert_eq!(put.2, [line("c", "5"), line("a", "stale"), line("b", "stale")]);
    let other = setup.send("PUT", "/metrics/job/other", "a 7\n").await;
    assert_eq!(other.2, [r#"{__name__="a", job="other"} 7"#]);
    let gone = setup.send("DELETE", PATH, "").await;
    assert_eq!(gone, (202, String::new(), vec![line("c", "stale")]));
    assert_eq!(setup.tick(), [r#"{__name__="a", job="other"} 7"#]);
    assert_eq!(setup.send("DELETE", "/metrics/job/unknown", "").await.0, 202);
}

#[tokio::test]
async fn families_are_replaced_with_all_their_series() {
    let setup = setup();
    let histogram =
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    assert_eq!(setup.send("PUT", PATH, histogram).await.2.len(), 4);
    let post = setup.send("POST", PATH, "# TYPE h histogram\nh_sum 9\n").await;
    let ended = |rest: &str| {
        format!(r#"{{__name__="h_bucket", instance="a", job="backup", le="{rest}"}} stale"#)
    };
    assert_eq!(post.2, [line("h_sum", "9"), ended("1.0"), ended("+Inf"), line("h_count", "stale")]);
}

#[tokio::test]
async fn composite_values_are_one_family() {
    let setup = setup();
    let push = async |value: &str| {
        let body = format!("# TYPE h gaugehistogram\nh {value}\n# EOF\n");
        let headers = [("content-type", "application/openmetrics-text; version=2.0.0")];
        let request = testing::request("POST", PATH, &headers, body);
        let answer = Answer::of(setup.gateway.handle(0, scope(), request).await).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        setup.stored()
    };
    let bucket = |le: &str, value: &str| {
        format!(r#"{{__name__="h_bucket", instance="a", job="backup", le="{le}"}} {value}"#)
    };
    assert_eq!(push("{gcount:2,gsum:3,bucket:[1:1,+Inf:2]}").await.len(), 4);
    let again = push("{gcount:1,gsum:4,bucket:[+Inf:1]}").await;
    let now = [line("h_gcount", "1"), line("h_gsum", "4"), bucket("+Inf", "1")];
    assert_eq!(again, [&now[..], &[bucket("1.0", "stale")]].concat());
    // The file tells the format.
    let restarted = setup_on(setup.disk.after_kill(), PushgatewayConfig::default());
    let mut now = now.to_vec();
    now.sort();
    assert_eq!(restarted.tick(), now);
}

#[tokio::test]
async fn the_time_of_a_push_is_told() {
    let setup = setup();
    let request = testing::request("PUT", PATH, &[], "a 1\n");
    setup.gateway.handle(0, scope(), request).await;
    let seconds = NOW_MS as f64 / 1e3;
    let told = |name: &str, value: &str| format!("{} @{NOW_MS}", line(name, value));
    let pushed = told("push_time_seconds", &seconds.to_string());
    let stored = setup.rig.kept.take();
    assert_eq!(stored[1..], [pushed.clone(), told("push_failure_time_seconds", "0")]);
    let (status, text, _) = setup.send("PUT", PATH, "a{ 1\n").await;
    assert_eq!((status, text.as_str()), (400, "line 1: expected a label name: \"a{ 1\""));
    setup.tick();
    let scope_of: ScopeOfTenant = Arc::new(|_| Ok(Some(scope())));
    setup.gateway.write_all(&scope_of);
    let stored = setup.rig.kept.take();
    assert_eq!(
        stored,
        [told("a", "1"), pushed, told("push_failure_time_seconds", &seconds.to_string())]
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let setup = setup();
    setup.send("PUT", PATH, "a 1\n").await;
    for (path, body, status, told) in [
        (PATH, "a 1 5\n", 400, "pushed metrics must not have timestamps"),
        (
            PATH,
            "a 1\na 2\n",
            400,
            r#"series {__name__="a", instance="a", job="backup"} comes twice in the push"#,
        ),
        ("/metrics/jobs/x", "a 1\n", 400, "path must begin with job, it begins with \"jobs\""),
        (PATH, "bad 1\n", 400, "1 rows refused, 3 stored"),
        (PATH, "many 1\n", 429, "1 rows refused, 3 stored"),
    ] {
        let (code, text, _) = setup.send("PUT", path, body).await;
        assert_eq!(code, status, "{text}");
        assert!(text.starts_with(told), "{text}");
        assert_eq!(setup.tick(), [line("a", "1")], "as before");
    }
}

#[tokio::test]
async fn groups_are_there_after_a_restart() {
    let setup = setup();
    setup.send("PUT", PATH, "a 1\n").await;
    setup.send("POST", PATH, "b 2\n").await;
    setup.send("PUT", "/metrics/job/gone", "c 3\n").await;
    setup.send("DELETE", "/metrics/job/gone", "").await;
    let again = setup_on(setup.disk.after_kill(), PushgatewayConfig::default());
    assert_eq!(again.tick(), [line("a", "1"), line("b", "2")]);
}

#[tokio::test]
async fn a_failing_disk_is_told() {
    let setup = setup();
    setup.disk.fail_from(setup.disk.operations() + 1, Fault::Eio);
    let (status, text, _) = setup.send("PUT", PATH, "a 1\n").await;
    assert_eq!((status, text.as_str()), (503, "write pushgateway/groups.log"));
}

#[tokio::test]
async fn groups_are_bounded_in_number_and_bytes() {
    let config =
        PushgatewayConfig { groups_max: 2, bytes_max: 1_024, ..PushgatewayConfig::default() };
    let setup = setup_on(FaultyDisk::new(), config);
    assert_eq!(setup.send("PUT", "/metrics/job/a", "a 1\n").await.0, 200);
    assert_eq!(setup.send("PUT", "/metrics/job/b", "a 1\n").await.0, 200);
    let (status, text, _) = setup.send("PUT", "/metrics/job/c", "a 1\n").await;
    assert_eq!(
        (status, text.as_str()),
        (429, "2 groups are pushed and the limit is 2 (pushgateway.groups_max)")
    );
    let large = format!("# {}\na 1\n", "x".repeat(1_000));
    let (status, text, _) = setup.send("PUT", "/metrics/job/b", &large).await;
    assert_eq!(status, 429);
    assert!(text.contains("the limit is 1024 (pushgateway.bytes_max)"), "{text}");
    assert_eq!(setup.send("DELETE", "/metrics/job/b", "").await.0, 202);
    assert_eq!(setup.send("PUT", "/metrics/job/c", "a 1\n").await.0, 200);
}

#[tokio::test]
async fn groups_follow_their_tenant() {
    let setup = setup();
    setup.send("PUT", PATH, "a 1\n").await;
    assert!(setup.tick_as(Arc::new(|_| Ok(None))).is_empty(), "suspended");
    assert_eq!(setup.tick(), [line("a", "1")], "resumed");
    assert!(setup.tick_as(Arc::new(|id| Err(DirectoryError::Unknown(id)))).is_empty(), "deleted");
    assert!(setup.tick().is_empty(), "and forgotten");
    let again = setup_on(setup.disk.after_kill(), PushgatewayConfig::default());
    assert!(again.tick().is_empty(), "for good");
}

#[tokio::test]
async fn groups_are_listed_by_family() {
    use super::Part;
    use model::MetricKind;

    let setup = setup();
    let body = "# HELP a What it is.\n# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2\n\
                # TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 2.5\nh_count 3\n\
                # TYPE s summary\ns{quantile=\"0.9\"} 1.5\ns_sum 4\ns_count 2\n# TYPE le gauge\nle{le=\"x\"} 7\n";
    setup.send("PUT", PATH, body).await;
    setup.send("POST", PATH, "a 9\nuntyped_sum 1\n").await;
    setup.send("PUT", "/metrics/job/other/empty@base64/=", "z 1\n").await;
    let groups = setup.gateway.groups(scope().tenant());
    let labels = |group: usize| {
        let pairs = groups[group].labels.iter().map(|(n, v)| format!("{n}={v}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    assert_eq!([labels(0), labels(1)], ["empty= job=other", "instance=a job=backup"]);
    assert_eq!((groups[1].pushed_ms, groups[1].failed_ms), (NOW_MS, 0));
    let families = &groups[1].families;
    let names: Vec<&str> = families.keys().map(String::as_str).collect();
    let all =
        ["a", "h", "le", "push_failure_time_seconds", "push_time_seconds", "s", "untyped_sum"];
    assert_eq!(names, all);
    let parts = |family: &str| {
        let metrics = families[family].metrics.values().flatten();
        (families[family].kind, metrics.cloned().collect::<Vec<_>>())
    };
    // The later push took the family away from the earlier one, type and help too.
    assert_eq!(parts("a"), (MetricKind::Unknown, vec![(Part::Value, 9.0)]));
    let histogram = [
        (Part::Of(0.5), 1.0),
        (Part::Of(f64::INFINITY), 3.0),
        (Part::Sum, 2.5),
        (Part::Count, 3.0),
    ];
    assert_eq!(parts("h"), (MetricKind::Histogram, histogram.to_vec()));
    let summary = [(Part::Of(0.9), 1.5), (Part::Sum, 4.0), (Part::Count, 2.0)];
    assert_eq!(parts("s"), (MetricKind::Summary, summary.to_vec()));
    assert_eq!(parts("le"), (MetricKind::Gauge, vec![(Part::Value, 7.0)]));
    assert_eq!(parts("untyped_sum"), (MetricKind::Unknown, vec![(Part::Value, 1.0)]));
    assert_eq!(parts("push_failure_time_seconds"), (MetricKind::Gauge, vec![(Part::Value, 0.0)]));
    assert!(setup.gateway.groups(tenancy::TenantId(77)).is_empty(), "of another tenant");
}
