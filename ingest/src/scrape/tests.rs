//! The scraper with real targets on real sockets, before a storage that keeps text.

use std::sync::Arc;
use std::time::Duration;

use model::{Clock, SystemClock};
use tenancy::{Limits, TenantName, WriteScope};
use tokio::sync::watch;

use super::{Defaults, Health, RowsOf, ScopeOfRows, ScrapeFile, Scraper};
use crate::testing::Kept;
use crate::testing::server::{Answer, Server};
use crate::{Appender, Config, Intake, Metrics};

/// A scraper at work.
struct Rig {
    kept: Arc<Kept>,
    scraper: Arc<Scraper>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn new(config: &str) -> Self {
        let kept = Arc::new(Kept::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let intake = Intake::new(
            Arc::clone(&kept) as Arc<dyn Appender>,
            Arc::default(),
            Arc::new(Metrics::default()),
            clock,
            &Config::default(),
        );
        let scope_of: ScopeOfRows = Arc::new(|whose| {
            let RowsOf::Tenant(name) = whose else { panic!("no job is routed") };
            let id = if name.as_str() == "team-b" { 2 } else { 1 };
            Ok(Some(WriteScope::for_test(id, name.as_str(), Limits::default())))
        });
        let scraper = Arc::new(Scraper::new(Arc::new(intake), scope_of));
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&scraper).run(stopped));
        let rig = Self { kept, scraper, stop, running };
        rig.configure(config);
        rig
    }

    fn configure(&self, config: &str) {
        let file = ScrapeFile::parse(config).expect("a configuration");
        let tenant = TenantName::new("team-a").expect("a name");
        let defaults = Defaults { tenant, cluster: String::new() };
        let prepared = self.scraper.prepare(&file, &defaults).expect("usable");
        self.scraper.take_over(prepared);
    }

    /// What is stored from now on until `is_enough` says so.
    async fn until(&self, is_enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..1_000 {
            lines.extend(self.kept.take());
            if is_enough(&lines) {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not enough: {lines:#?}");
    }

    async fn end(self) {
        self.stop.send(true).expect("runs");
        let ended = tokio::time::timeout(Duration::from_secs(5), self.running).await;
        ended.expect("ends in time").expect("without panic");
    }
}

fn has(lines: &[String], start: &str) -> bool {
    lines.iter().any(|line| line.starts_with(start))
}

/// How often something begins so.
fn count(lines: &[String], start: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(start)).count()
}

const FAST: &str = "global: {scrape_interval: 100ms, scrape_timeout: 100ms}\nscrape_configs:\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_are_scraped_with_headers_and_labels() {
    let server = Server::start(|_| Answer::text("a{job=\"x\"} 1\n")).await;
    let rig = Rig::new(&format!(
        "{FAST}- job_name: j
  basic_auth: {{username: u, password: p}}
  http_headers: {{X-One: {{values: [a]}}}}
  params: {{q: [1 2]}}
  static_configs: [{{targets: ['{}'], labels: {{team: t}}}}]
",
        server.address
    ));
    let at = server.address.to_string();
    let sample =
        format!(r#"{{__name__="a", exported_job="x", instance="{at}", job="j", team="t"}} 1 @"#);
    let up = format!(r#"{{__name__="up", instance="{at}", job="j", team="t"}} 1 @"#);
    let lines = rig.until(|lines| count(lines, &sample) >= 3).await;
    assert!(has(&lines, &up), "{lines:#?}");
    let request = server.requests().remove(0);
    for header in [
        "GET /metrics?q=1+2 HTTP/1.1",
        "authorization: Basic dTpw",
        "x-one: a",
        "accept-encoding: gzip",
        "x-prometheus-scrape-timeout-seconds: 0.1",
        "accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,",
        "user-agent: Taffrail/",
    ] {
        assert!(request.contains(header), "{header} in {request}");
    }
    let targets = rig.scraper.targets("", |_, _| true);
    assert_eq!((targets.len(), targets[0].health), (1, Health::Up));
    assert_eq!(targets[0].url, format!("http://{at}/metrics?q=1+2"));
    assert_eq!(rig.scraper.pool_names(|_| true), ["j"]);
    assert!(rig.scraper.targets("", |_, _| false).is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_scrapes_say_why_and_end_series() {
    let server = Server::start(|n| match n {
        0..=1 => Answer::text("a 1\n"),
        2 => Answer { status: "503 Service Unavailable", ..Answer::text("") },
        3 => Answer::text("a 1\na{\n"),
        4 => Answer { content_type: "text/html", ..Answer::text("a 1\n") },
        _ => Answer::text("a 1\n"),
    })
    .await;
    let rig = Rig::new(&format!(
        "{FAST}- {{job_name: j, static_configs: [{{targets: ['{}']}}]}}\n",
        server.address
    ));
    let at = server.address.to_string();
    let of = |name: &str, value: &str| {
        format!(r#"{{__name__="{name}", instance="{at}", job="j"}} {value} @"#)
    };
    let lines = rig.until(|lines| count(lines, &of("up", "1")) >= 4).await;
    assert_eq!(count(&lines, &of("up", "0")), 3, "{lines:#?}");
    assert_eq!(count(&lines, &of("a", "stale")), 1, "ended once: {lines:#?}");
    assert!(count(&lines, &of("a", "1")) >= 4);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_and_limited_bodies() {
    let server = Server::start(|_| Answer::gzip("a 1\nb 2\n")).await;
    let address = server.address;
    let job = |name: &str, fields: &str| {
        format!("- {{job_name: {name}, {fields}, static_configs: [{{targets: ['{address}']}}]}}\n")
    };
    let rig = Rig::new(&format!(
        "{FAST}{}{}{}{}{}",
        job("gzip", "honor_labels: false"),
        job("body", "body_size_limit: 5B, extra_scrape_metrics: true"),
        job("samples", "sample_limit: 1"),
        job("labels", "label_value_length_limit: 3"),
        job("targets", "target_limit: 1, file_sd_configs: []")
            .replace("targets: ['", "targets: ['localhost:1', '"),
    ));
    rig.until(|lines| {
        ["gzip", "body", "samples", "labels", "targets"].iter().all(|job| {
            lines.iter().any(|l| l.contains("\"up\"") && l.contains(&format!("job=\"{job}\"")))
        })
    })
    .await;
    // Of two targets one may not have been scraped yet.
    let of = |job: &str| {
        let targets = rig.scraper.targets(job, |_, _| true);
        targets.into_iter().map(|target| target.last_error).max().expect("a target")
    };
    assert_eq!(of("gzip"), "");
    assert_eq!(of("body"), "body size limit exceeded: more than 5 bytes");
    assert_eq!(of("samples"), "sample limit exceeded: more than 1 samples");
    assert!(
        of("labels")
            .starts_with("label_value_length_limit exceeded (metric: a, label name: instance")
    );
    assert_eq!(of("targets"), "target_limit exceeded (number of targets: 2, limit: 1)");
    let lines = rig.until(|lines| has(lines, "{__name__=\"scrape_body_size_bytes\"")).await;
    let size = lines.iter().find(|l| l.contains("scrape_body_size_bytes")).expect("told");
    assert!(size.contains("} -1 @"), "{size}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_configuration_leaves_running_targets_alone() {
    let server = Server::start(|n| Answer::text(&format!("n {n}\nm 1\n"))).await;
    let other = Server::start(|_| Answer::text("o 1\n")).await;
    let targets = format!("static_configs: [{{targets: ['{}']}}]", server.address);
    let more =
        format!("- {{job_name: other, static_configs: [{{targets: ['{}']}}]}}\n", other.address);
    let rig = Rig::new(&format!("{FAST}- {{job_name: j, {targets}}}\n{more}"));
    rig.until(|lines| has(lines, "{__name__=\"n\"") && has(lines, "{__name__=\"o\"")).await;
    // The same job with other rules: what it does not store any more ends, the rest goes on.
    let drop_m = "metric_relabel_configs: [{source_labels: [__name__], regex: m, action: drop}]";
    rig.configure(&format!("{FAST}- {{job_name: j, {targets}, {drop_m}}}\n"));
    let at = server.address.to_string();
    let m_ended = format!(r#"{{__name__="m", instance="{at}", job="j"}} stale"#);
    let o_ended = r#"{__name__="o""#;
    let is_ended =
        |lines: &[String]| lines.iter().any(|l| l.starts_with(o_ended) && l.contains(" stale "));
    let of_n = r#"{__name__="n""#;
    let lines =
        rig.until(|lines| has(lines, &m_ended) && is_ended(lines) && count(lines, of_n) > 1).await;
    let n_ended = format!(r#"{{__name__="n", instance="{at}", job="j"}} stale"#);
    assert!(!has(&lines, &n_ended), "{lines:#?}");
    assert_eq!(rig.scraper.pool_names(|_| true), ["j"]);
    // Rows come in order, and each scrape was stored once.
    let times: Vec<i64> = lines
        .iter()
        .filter(|l| l.starts_with(of_n))
        .filter_map(|l| l.rsplit('@').next()?.parse().ok())
        .collect();
    assert!(times.len() > 1 && times.is_sorted_by(|a, b| a < b), "{times:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_targets_are_read_again_when_they_change() {
    let server = Server::start(|_| Answer::text("a 1\n")).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("targets.json");
    let write = |text: &str| std::fs::write(&file, text).expect("write targets");
    write("[]");
    let rig = Rig::new(&format!(
        "{FAST}- {{job_name: j, x-taffrail: {{tenant: team-b}}, file_sd_configs: [{{files: ['{}'], refresh_interval: 200ms}}]}}\n",
        file.display()
    ));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(rig.scraper.targets("j", |_, _| true).is_empty());
    write(&format!(r#"[{{"targets": ["{}"], "labels": {{"x": "1"}}}}]"#, server.address));
    rig.until(|lines| has(lines, "{__name__=\"a\"")).await;
    let target = &rig.scraper.targets("j", |tenant, _| tenant.0 == 2)[0];
    assert_eq!(target.discovered.get("__meta_filepath"), file.to_str());
    assert_eq!(target.labels.get("x"), Some("1"));
    assert!(rig.scraper.targets("j", |tenant, _| tenant.0 == 1).is_empty(), "tenants are apart");
    // What is no list leaves the targets as they are; an empty one ends them.
    write("{");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(rig.scraper.targets("j", |_, _| true).len(), 1);
    write("[]");
    let is_ended = |lines: &[String]| {
        lines.iter().any(|l| l.starts_with("{__name__=\"up\"") && l.contains(" stale "))
    };
    rig.until(is_ended).await;
    assert!(rig.scraper.targets("j", |_, _| true).is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histograms_are_stored_in_the_forms_a_job_wants() {
    let openmetrics2 = |body: &str| Answer {
        content_type: "application/openmetrics-text; version=2.0.0; charset=utf-8",
        ..Answer::text(body)
    };
    let classic =
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n";
    let text = Server::start(move |_| Answer::text(classic)).await;
    let lines = "# TYPE h histogram\nh {count:3,sum:4,bucket:[1:1,+Inf:3]} st@5\n# EOF\n";
    let composite = Server::start(move |_| openmetrics2(lines)).await;
    // A count that the buckets do not have: Prometheus refuses the scrape.
    let wrong =
        "# TYPE h histogram\nh {count:9,sum:4,schema:0,zero_threshold:0,zero_count:1}\n# EOF\n";
    let wrong = Server::start(move |_| openmetrics2(wrong)).await;
    let job = |name: &str, server: &Server, fields: &str| {
        let targets = format!("static_configs: [{{targets: ['{}']}}]", server.address);
        format!("- {{job_name: {name}, {targets}, {fields}}}\n")
    };
    let convert = "convert_classic_histograms_to_nhcb: true";
    let relabelled = "relabel_configs: [{target_label: __convert_classic_histograms_to_nhcb__, replacement: 'true'}]";
    let rig = Rig::new(&format!(
        "{FAST}{}{}{}{}{}{}",
        job("plain", &composite, "honor_labels: true"),
        job("native", &composite, convert),
        job("text", &text, convert),
        job("target", &text, relabelled),
        job("both", &text, &format!("{convert}, always_scrape_classic_histograms: true")),
        job("wrong", &wrong, "scrape_native_histograms: true"),
    ));
    let of = |lines: &[String], name: &str, job: &str| {
        let found = lines.iter().find(|line| {
            line.starts_with(&format!("{{__name__=\"{name}\""))
                && line.contains(&format!("job=\"{job}\""))
        });
        found.and_then(|line| line.split_once("} ")?.1.split(" @").next().map(str::to_owned))
    };
    let jobs = ["plain", "native", "text", "target", "both", "wrong"];
    let lines = rig.until(|lines| jobs.iter().all(|job| of(lines, "up", job).is_some())).await;
    let custom = Some("histogram schema -53 sum 4".to_owned());
    for (job, native, count, samples) in [
        ("plain", None, Some("3"), "4"),
        ("native", custom.clone(), None, "1"),
        ("text", custom.clone(), None, "1"),
        ("target", custom.clone(), None, "1"),
        ("both", custom, Some("3"), "5"),
        ("wrong", None, None, "0"),
    ] {
        assert_eq!(of(&lines, "h", job), native, "{job}");
        assert_eq!(of(&lines, "h_count", job).as_deref(), count, "{job}");
        let scraped = of(&lines, "scrape_samples_post_metric_relabeling", job);
        assert_eq!(scraped.as_deref(), Some(samples), "{job}");
    }
    assert!(of(&lines, "h_bucket", "native").is_none(), "{lines:#?}");
    let error = &rig.scraper.targets("wrong", |_, _| true)[0].last_error;
    assert!(error.starts_with("invalid native histogram: the buckets hold 1 "), "{error}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_histograms_and_families_are_told() {
    let help = "# HELP a one\n# TYPE a gauge\na 1\n";
    let server = Server::start(move |_| Answer::text(help)).await;
    let rig = Rig::new(&format!(
        "{FAST}- {{job_name: j, relabel_configs: [{{source_labels: [__address__], regex: 'gone.*', action: drop}}], static_configs: [{{targets: ['{}', 'gone:1']}}]}}\n",
        server.address
    ));
    rig.until(|lines| has(lines, "a: gauge \"one\"")).await;
    let families = rig.scraper.families("", 10, |_, _| true);
    assert_eq!((families.len(), families[0].help.as_str()), (1, "one"));
    assert!(rig.scraper.families("b", 10, |_, _| true).is_empty());
    let (dropped, counts) = rig.scraper.dropped("", |_| true);
    assert_eq!(dropped[0].discovered.get("__address__"), Some("gone:1"));
    assert_eq!(counts, [("j".to_owned(), 1)]);
    let labels = model::Labels::from_pairs([("__address__", "gone:1")]);
    let kept = rig.scraper.relabel_steps("j", &labels, |_| true, |steps| steps[0].is_kept);
    assert_eq!(kept, Some(false));
    rig.end().await;
}
