//! Files in, jobs or the place of what is wrong out.

use super::{Protocol, ScrapeFile};
use crate::discovery::Discovery;
use crate::http_client::Credentials;
use crate::relabel::NameScheme;

fn read(text: &str) -> ScrapeFile {
    ScrapeFile::parse(text).expect("a configuration")
}

#[track_caller]
fn check_wrong(text: &str, error: &str) {
    let found = ScrapeFile::parse(text).expect_err("refused").to_string();
    assert_eq!(found, error);
}

#[test]
fn defaults_are_those_of_prometheus() {
    let file =
        read("scrape_configs: [{job_name: a, static_configs: [{targets: ['h:1', 'h:2']}]}]\n");
    let job = &file.jobs[0];
    assert_eq!((job.interval_ms, job.timeout_ms), (60_000, 10_000));
    assert!(!job.honor_labels && job.honor_timestamps && !job.track_timestamps_staleness);
    assert!(job.enable_compression && job.http.follow_redirects && job.http.enable_http2);
    assert_eq!((job.metrics_path.as_str(), job.scheme.as_str()), ("/metrics", "http"));
    assert_eq!(job.protocols(false), Protocol::DEFAULT);
    assert_eq!((job.fallback_protocol, job.names), (None, NameScheme::Utf8));
    let [Discovery::Static(groups)] = &job.discovery[..] else { panic!("{:?}", job.discovery) };
    assert_eq!(groups[0].targets.len(), 2);
    assert_eq!(file.notes, Vec::<String>::new());
    assert_eq!(read("").jobs.len(), 0);
}

#[test]
fn jobs_take_from_global_what_they_do_not_say() {
    let file = read(
        "global: {scrape_interval: 15s, scrape_timeout: 5s, sample_limit: 7, body_size_limit: 1MB, external_labels: {a: b}}
rule_files: [x.yml]
scrape_configs:
- {job_name: a}
- {job_name: b, scrape_interval: 3s, sample_limit: 9}
- {job_name: c, scrape_interval: 30s, scrape_timeout: 20s, scrape_native_histograms: true}
",
    );
    let times: Vec<_> = file.jobs.iter().map(|job| (job.interval_ms, job.timeout_ms)).collect();
    assert_eq!(times, [(15_000, 5_000), (3_000, 3_000), (30_000, 20_000)]);
    let limits: Vec<_> = file.jobs.iter().map(|job| job.limits.samples).collect();
    assert_eq!(limits, [7, 9, 7]);
    assert_eq!(file.jobs[0].limits.body_bytes, 1 << 20);
    assert_eq!(file.jobs[2].protocols(true)[0], Protocol::Proto);
    assert_eq!(
        file.notes,
        [
            "global.external_labels is passed over: it is not about scraping",
            "rule_files is passed over: it is not about scraping"
        ]
    );
}

#[test]
fn every_field_of_a_job_is_read() {
    let file = read(
        "scrape_configs:
- job_name: all
  x-taffrail: {tenant: team-a, dcgm: false}
  honor_labels: yes
  honor_timestamps: false
  track_timestamps_staleness: true
  params: {module: [http_2xx, other]}
  scrape_interval: 1m
  scrape_timeout: 30s
  scrape_protocols: [PrometheusText0.0.4, OpenMetricsText2.0.0]
  fallback_scrape_protocol: PrometheusText0.0.4
  scrape_native_histograms: true
  scrape_classic_histograms: true
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: true
  extra_scrape_metrics: true
  scrape_failure_log_file: /tmp/x
  metrics_path: /probe
  scheme: https
  enable_compression: false
  body_size_limit: 10MB
  sample_limit: 1
  target_limit: 2
  label_limit: 3
  label_name_length_limit: 4
  label_value_length_limit: 5
  keep_dropped_targets: 6
  native_histogram_bucket_limit: 7
  native_histogram_min_bucket_factor: 1.1
  metric_name_validation_scheme: legacy
  metric_name_escaping_scheme: underscores
  basic_auth: {username: u, password_file: secret}
  tls_config: {ca_file: ca.pem, cert_file: c.pem, key_file: k.pem, server_name: s, insecure_skip_verify: true, min_version: TLS12, max_version: TLS13}
  follow_redirects: false
  enable_http2: false
  proxy_url: http://proxy:3128
  no_proxy: 10.0.0.0/8
  proxy_connect_header: {X-A: [b]}
  http_headers: {X-Tenant: {values: [a], secrets: [b], files: [c]}}
  static_configs: [{targets: ['a:1'], labels: {x: 1}}]
  file_sd_configs: [{files: ['t/*.json'], refresh_interval: 1m}]
  http_sd_configs: [{url: 'http://h/sd', authorization: {credentials: x}}]
  dns_sd_configs: [{names: [a.b], type: a, port: 80}]
  relabel_configs: [{source_labels: [a], target_label: b}]
  metric_relabel_configs: [{regex: x, action: labeldrop}]
",
    );
    let job = &file.jobs[0];
    assert_eq!(job.tenant.as_ref().map(ToString::to_string).as_deref(), Some("team-a"));
    assert!(!job.dcgm && job.honor_labels && !job.honor_timestamps && job.extra_metrics);
    assert!(job.histograms.native && job.histograms.classic_too && job.histograms.convert_classic);
    assert_eq!(
        job.params,
        [("module".to_owned(), vec!["http_2xx".to_owned(), "other".to_owned()])]
    );
    let limits = job.limits;
    assert_eq!(
        (limits.body_bytes, limits.samples, limits.targets, limits.labels),
        (10 << 20, 1, 2, 3)
    );
    assert_eq!((limits.label_name_bytes, limits.label_value_bytes), (4, 5));
    assert_eq!((limits.dropped_targets, job.histogram_buckets), (6, 7));
    assert!(matches!(job.http.credentials, Credentials::Basic { .. }));
    assert_eq!(job.discovery.len(), 4);
    assert_eq!((job.relabel.len(), job.metric_relabel.len()), (1, 1));
    assert!(!format!("{job:?}").contains("\"b\", \"c\""), "secrets are not shown");
}

/// What is said of a job with one wrong field, which stands in line 3.
#[track_caller]
fn check(field: &str, error: &str) {
    check_wrong(&format!("scrape_configs:\n- job_name: a\n  {field}\n"), error);
}

#[test]
fn what_is_wrong_with_a_job_is_told_with_its_place() {
    check(
        "scrape_intervall: 1s",
        "line 3, column 3: field scrape_intervall not found in scrape_config",
    );
    check(
        "scrape_interval: 1",
        "line 3, column 20: scrape_interval: not a valid duration string: \"1\"",
    );
    check("scrape_interval: 0s", "line 3, column 20: scrape_interval: must be more than 0");
    check(
        "honor_labels: maybe",
        "line 3, column 17: honor_labels: expected true or false, found \"maybe\"",
    );
    check(
        "sample_limit: -1",
        "line 3, column 17: sample_limit: expected a whole number from 0, found \"-1\"",
    );
    check(
        "relabel_configs: [{action: flip}]",
        "line 3, column 21: unknown relabel action \"flip\"",
    );
    check(
        "relabel_configs: [{regexp: x}]",
        "line 3, column 22: field regexp not found in relabel_config",
    );
    check("relabel_configs: [null]", "line 3, column 21: empty or null relabeling rule");
    check(
        "static_configs: [{targets: ['http://a/metrics']}]",
        "line 3, column 20: \"http://a/metrics\" is not a valid hostname",
    );
    check(
        "consul_sd_configs: []",
        "line 3, column 3: consul_sd_configs is not available; there are static_configs, file_sd_configs, http_sd_configs and dns_sd_configs",
    );
    check("{scrape_interval: 5s}", "line 3, column 3: not YAML: simple key expected ':'");
}

#[test]
fn what_is_wrong_with_access_and_discovery_is_told_with_its_place() {
    check(
        "bearer_token: x\n  basic_auth: {username: u}",
        "line 2, column 3: at most one of basic_auth, oauth2, authorization, bearer_token & bearer_token_file must be configured",
    );
    check(
        "tls_config: {cert_file: x}",
        "line 3, column 15: tls_config: exactly one of key or key_file must be configured when a client certificate is configured",
    );
    check(
        "http_headers: {Authorization: {values: [x]}}",
        "line 3, column 18: http_headers: setting header \"Authorization\" is not allowed",
    );
    check(
        "no_proxy: a",
        "line 2, column 3: if no_proxy is configured, proxy_url must also be configured",
    );
    check(
        "dns_sd_configs: [{names: [a], type: A}]",
        "line 3, column 20: dns_sd_configs: a port is required in DNS-SD configs for all record types except SRV",
    );
    check(
        "file_sd_configs: [{files: ['a.txt']}]",
        "line 3, column 21: file_sd_configs: path name \"a.txt\" is not valid for file discovery",
    );
    check(
        "http_sd_configs: [{url: 'ftp://x'}]",
        "line 3, column 21: http_sd_configs: URL scheme must be 'http' or 'https'",
    );
    check(
        "scrape_protocols: [Proto]",
        "line 3, column 22: scrape_protocols: unknown scrape protocol \"Proto\", supported: PrometheusProto, PrometheusText0.0.4, PrometheusText1.0.0, OpenMetricsText0.0.1, OpenMetricsText1.0.0, OpenMetricsText2.0.0",
    );
    check(
        "x-taffrail: {tenant: a, routed: true}",
        "line 3, column 15: x-taffrail: tenant and routed exclude each other",
    );
    check(
        "x-taffrail: {tenant: 'a/b'}",
        "line 3, column 24: x-taffrail: tenant: tenant name \"a/b\" contains '/'; allowed are letters, digits and !-_.*'()",
    );
    check(
        "oauth2: {client_id: a, client_secret: b}",
        "line 3, column 11: oauth2: oauth2 token_url must be configured",
    );
}

#[test]
fn what_is_wrong_with_tls_is_told_with_its_place() {
    for (fields, column, what) in [
        ("min_version: TLS14", 29, "min_version: unknown TLS version: TLS14"),
        ("max_version: tls12", 29, "max_version: unknown TLS version: tls12"),
        (
            "min_version: TLS10",
            29,
            "min_version: TLS10 and TLS11 are not spoken any more; use TLS12 or TLS13",
        ),
        (
            "min_version: TLS13, max_version: TLS12",
            15,
            "tls_config.max_version must be greater than or equal to tls_config.min_version",
        ),
        ("ca: x, ca_file: y", 15, "at most one of ca & ca_file must be configured"),
        ("cert: x, cert_file: y, key: z", 15, "at most one of cert & cert_file must be configured"),
        ("key: x, key_file: y, cert: z", 15, "at most one of key & key_file must be configured"),
        (
            "key: x",
            15,
            "exactly one of cert or cert_file must be configured when a client key is configured",
        ),
        (
            "insecure_skip_verify: maybe",
            38,
            "insecure_skip_verify: expected true or false, found \"maybe\"",
        ),
        ("verify: false", 16, "field verify not found in tls_config"),
    ] {
        let shown = if what.starts_with("field ") {
            what.to_owned()
        } else {
            format!("tls_config: {what}")
        };
        check(&format!("tls_config: {{{fields}}}"), &format!("line 3, column {column}: {shown}"));
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place() {
    check_wrong(
        "scrape_config: []",
        "line 1, column 1: field scrape_config not found in the configuration",
    );
    check_wrong("scrape_configs: [{}]", "line 1, column 18: job_name is empty");
    check_wrong("scrape_configs: [null]", "line 1, column 18: empty or null scrape config section");
    check_wrong(
        "scrape_configs: [{job_name: a}, {job_name: a}]",
        "line 1, column 33: found multiple scrape configs with job name \"a\"; names must be unique",
    );
    check_wrong(
        "global: {scrape_interval: 5s, scrape_timeout: 10s}",
        "line 1, column 9: global scrape timeout greater than scrape interval",
    );
}
