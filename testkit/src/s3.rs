//! A real S3 service, moto's, in a process of its own, with faults and delays on demand.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::http::Connection;
use crate::python;

/// The service. Ends with this value, and what it holds with it.
#[derive(Debug)]
pub struct S3Server {
    child: Child,
    address: SocketAddr,
    /// The script, where Python reads it.
    _script: Script,
}

#[derive(Debug)]
struct Script(PathBuf);

impl Drop for Script {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// How some requests fail.
#[derive(Debug, Clone, Copy)]
pub struct S3Fault {
    /// Their method.
    pub method: &'static str,
    /// What stands in their path.
    pub part: &'static str,
    /// What they are answered; 0: nothing, ever.
    pub status: u16,
    /// How many of them.
    pub times: u32,
    /// Whether they are carried out all the same.
    pub late: bool,
}

/// How the service is to behave.
#[derive(Debug, Clone, Default)]
pub struct S3Plan {
    /// Milliseconds every request waits.
    pub delay_ms: u32,
    /// Whether conditions of puts are passed over.
    pub blind: bool,
    /// Which requests fail.
    pub faults: Vec<S3Fault>,
}

impl S3Server {
    /// The bucket there is.
    pub const BUCKET: &'static str = "rows";

    /// Starts it; `None`, told on standard error, where no Python has moto.
    ///
    /// # Panics
    /// If it does not start though it is there.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let python = python(&["moto.moto_server.werkzeug_app"])?;
        let name = format!("taffrail-s3-{}-{:p}.py", std::process::id(), &python);
        let script = Script(std::env::temp_dir().join(name));
        std::fs::write(&script.0, include_str!("s3_server.py")).expect("write a script");
        let mut child = Command::new(python)
            .arg(Path::new(&script.0))
            .args(["0", Self::BUCKET])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start Python");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let port: u16 = line.trim().parse().expect("the port it listens on");
        Some(Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), _script: script })
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Behaves so from now on.
    pub fn plan(&self, plan: &S3Plan) {
        let fault = |f: &S3Fault| {
            format!(
                "{{\"method\":\"{}\",\"part\":\"{}\",\"status\":{},\"times\":{},\"late\":{}}}",
                f.method, f.part, f.status, f.times, f.late
            )
        };
        let faults: Vec<String> = plan.faults.iter().map(fault).collect();
        let json = format!(
            "{{\"delay_ms\":{},\"blind\":{},\"faults\":[{}]}}",
            plan.delay_ms,
            plan.blind,
            faults.join(",")
        );
        self.call("PUT", "/-/plan", json.as_bytes());
    }

    /// Requests since the last look: method and path.
    pub fn requests(&self) -> Vec<String> {
        self.call("GET", "/-/log", b"").lines().map(str::to_owned).collect()
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> String {
        let answer =
            Connection::open(self.address).and_then(|mut c| c.call(method, path, &[], body));
        answer.expect("the service answers").text()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
