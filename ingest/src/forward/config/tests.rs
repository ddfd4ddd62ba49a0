//! Tests of reading destinations: what Prometheus reads, and what is refused by field.

use super::*;

fn read(entry: &str) -> Result<ForwardFile, YamlError> {
    ForwardFile::parse(&format!("remote_write:\n- {{{entry}}}\n"), Path::new("/etc"))
}

#[track_caller]
fn check(entry: &str, error: &str) {
    let found = read(entry).map_or_else(|e| e.to_string(), |_| String::new());
    assert!(if error.is_empty() { found.is_empty() } else { found.contains(error) }, "{found}");
}

#[test]
fn what_prometheus_reads_is_read() {
    let text = "
global:
  scrape_interval: 15s
  external_labels: {region: eu}
scrape_configs: [{job_name: other, whatever: it says}]
remote_write:
- url: https://central/api/v1/push
  name: central
  remote_timeout: 10s
  headers: {X-Scope-OrgID: team}
  basic_auth: {username: u, password_file: p}
  tls_config: {insecure_skip_verify: true}
  protobuf_message: prometheus.WriteRequest
  send_exemplars: false
  write_relabel_configs: [{source_labels: [__name__], regex: up, action: keep}]
  queue_config: {capacity: 10, min_shards: 2, max_shards: 3, max_samples_per_send: 5, batch_send_deadline: 1s, min_backoff: 1s, max_backoff: 2s, retry_on_http_429: false, sample_age_limit: 1h}
  metadata_config: {send: false}
- url: http://other
  x-taffrail: {tenants: [a, b], org_id: 'x-{tenant}', queue_size: 100MB}
";
    let file = ForwardFile::parse(text, Path::new("/etc")).expect("a configuration");
    let [central, other] = &file.destinations[..] else { panic!("{file:?}") };
    assert_eq!(
        (central.name.as_str(), central.url.as_str(), central.shards, central.samples_per_send),
        ("central", "https://central/api/v1/push", (2, 3), 5)
    );
    assert_eq!((central.protocol, central.retry_429), (Protocol::V1, false));
    assert_eq!((central.age_max_ms, central.metadata_ms), (Some(3_600_000), None));
    assert_eq!((central.exemplars, central.histograms), (false, true));
    assert_eq!(central.external_labels, [("region".to_owned(), "eu".to_owned())]);
    assert_eq!(central.relabel.len(), 1);
    assert_eq!((other.org_id.as_str(), other.queue_bytes_max), ("x-{tenant}", 100 << 20));
    assert_eq!((other.protocol, other.retry_429), (Protocol::V2, true));
    assert_eq!(other.tenants.len(), 2);
    assert_eq!(other.name.len(), 12, "{}", other.name);
    assert_eq!(file.notes.len(), 1, "{:?}", file.notes);
}

#[test]
fn wrong_destinations_are_refused_by_field() {
    check("url: 'http://a'", "");
    check("name: a", "url: must be set");
    check("url: 'ftp://a'", "must start with http:// or https://");
    check("url: 'http://:x'", "cannot be read");
    check("url: 'http://a', name: a/b", "name: must have 1 to 64 letters");
    check("url: 'http://a', nmae: a", "field nmae not found in remote_write");
    check("url: 'http://a', sigv4: {region: a}", "sigv4 is not available");
    check("url: 'http://a', protobuf_message: v3", "unknown remote write protobuf message");
    check("url: 'http://a', remote_timeout: 0s", "remote_timeout: must be more than 0");
    check("url: 'http://a', headers: {Authorization: x}", "\"Authorization\" is not allowed");
    check("url: 'http://a', headers: {'a b': x}", "\"a b\" is not allowed");
    check("url: 'http://a', headers: {a: \"\\n\"}", "header \"a\"");
    check("url: 'http://a', queue_config: {max_shards: 0}", "max_shards: must be 1 to 200");
    check("url: 'http://a', queue_config: {min_shards: 20}", "must not be more than max_shards");
    check("url: 'http://a', queue_config: {min_backoff: 1h}", "more than max_backoff");
    check("url: 'http://a', write_relabel_configs: [{action: x}]", "action");
    check("url: 'http://a', x-taffrail: {tenants: ['a b']}", "tenants: tenant name");
    check("url: 'http://a', x-taffrail: {org_id: '{name}'}", "org_id: must be a header's value");
    check("url: 'http://a', x-taffrail: {queue_size: 1MB}", "queue_size: must be at least 64MB");
    check(
        "url: 'http://a', headers: {x-scope-orgid: a}, x-taffrail: {org_id: b}",
        "exclude each other",
    );
    check("url: 'http://a', basic_auth: {}, bearer_token: x", "at most one of basic_auth");
    check("url: 'http://a'}\n- {url: 'http://a'", "names must be unique");
}
