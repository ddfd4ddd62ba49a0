//! Other programs beside ours, and what senders do: a Prometheus with a configuration, requests of
//! remote write.

use std::net::SocketAddr;
use std::path::Path;

use model::Metadata;
use testkit::http::Response;
use testkit::remote_write::{self, Series};

use crate::process::{Program, free_address};

/// What remote write 1.0 says of its body.
pub(crate) const HEADERS: [(&str, &str); 2] =
    [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];

/// A Prometheus that is ready, with a configuration and more flags than every one has.
pub(crate) fn start_prometheus(
    program: &Path,
    dir: &Path,
    config: &str,
    flags: &[&str],
) -> Program {
    start_prometheus_at(free_address(), program, dir, config, flags)
}

/// The same at a given address, for configurations that name it.
pub(crate) fn start_prometheus_at(
    address: SocketAddr,
    program: &Path,
    dir: &Path,
    config: &str,
    flags: &[&str],
) -> Program {
    std::fs::create_dir_all(dir).expect("create a directory");
    std::fs::write(dir.join("prometheus.yml"), config).expect("write the configuration");
    let mut arguments = vec![
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address={address}"),
        "--log.level=warn".to_owned(),
    ];
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    let mut prometheus = Program::start(program, dir, address, &arguments);
    prometheus.wait_ready("/-/ready");
    prometheus
}

/// The body of a request of remote write 1.0 as it goes over the wire.
pub(crate) fn compressed(series: &[Series], metadata: &[(&str, Metadata)]) -> Vec<u8> {
    let body = remote_write::body(series, metadata);
    snap::raw::Encoder::new().compress_vec(&body).expect("a body below 4 GiB")
}

impl Program {
    /// A request of remote write 1.0 with more headers than every one has.
    pub(crate) fn remote_write(&self, headers: &[(&str, &str)], series: &[Series]) -> Response {
        let headers = [HEADERS.as_slice(), headers].concat();
        self.call("POST", "/api/v1/write", &headers, &compressed(series, &[]))
    }

    /// The same, for a tenant if one is named; it must be taken.
    #[track_caller]
    pub(crate) fn write(&self, tenant: Option<&str>, series: &[Series]) {
        let tenant: Vec<(&str, &str)> = tenant.map(|t| ("X-Scope-OrgID", t)).into_iter().collect();
        let answer = self.remote_write(&tenant, series);
        assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
    }
}
