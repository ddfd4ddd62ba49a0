//! Programs under test: started on free ports with directories of their own, stopped on drop.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use testkit::S3Server;
use testkit::http::{Connection, Response, escaped};

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
    listener.local_addr().expect("a bound listener has an address")
}

/// A running program. Its output is in `<directory>/<name>.log`.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    /// Sent with every question, if set.
    pub(crate) bearer: Option<&'static str>,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; `arguments` are given the address to listen on.
    pub(crate) fn start(
        program: &Path,
        dir: &Path,
        address: SocketAddr,
        arguments: &[String],
    ) -> Self {
        fs::create_dir_all(dir).expect("create a test directory");
        let name = program.file_name().expect("a program has a name").to_string_lossy();
        let log = dir.join(format!("{name}.log"));
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("open the program's log");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", program.display()));
        Self { address, bearer: None, child, log }
    }

    /// Waits until `path` answers 200.
    pub(crate) fn wait_ready(&mut self, path: &str) {
        let address = self.address;
        self.wait(|| {
            let answer = Connection::open(address).and_then(|mut c| c.call("GET", path, &[], &[]));
            answer.is_ok_and(|a| a.status == 200)
        });
    }

    /// Waits until something holds; fails with what the program printed if it ends before.
    pub(crate) fn wait(&mut self, holds: impl Fn() -> bool) {
        let started = Instant::now();
        loop {
            if holds() {
                return;
            }
            let ended = self.child.try_wait().expect("ask for the program's state");
            assert!(
                ended.is_none() && started.elapsed() < Duration::from_secs(60),
                "not ready ({ended:?}):\n{}",
                self.output()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// One request with headers.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let answer =
            Connection::open(self.address).and_then(|mut c| c.call(method, path, headers, body));
        answer.unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.output()))
    }

    /// A JSON answer to GET; the tenant goes into the header where there is one.
    pub(crate) fn json(&self, path: &str, tenant: Option<&str>) -> serde_json::Value {
        let authorization = self.bearer.map(|token| format!("Bearer {token}"));
        let mut headers: Vec<(&str, &str)> =
            tenant.map(|t| ("X-Scope-OrgID", t)).into_iter().collect();
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        let answer = self.call("GET", path, &headers, &[]);
        serde_json::from_slice(&answer.body)
            .unwrap_or_else(|e| panic!("GET {path}: {e}: {}", answer.text()))
    }

    /// An instant query.
    pub(crate) fn instant(
        &self,
        query: &str,
        at_ms: i64,
        tenant: Option<&str>,
    ) -> serde_json::Value {
        let time = format!("{}.{:03}", at_ms / 1000, at_ms % 1000);
        self.json(&format!("/api/v1/query?query={}&time={time}", escaped(query)), tenant)
    }

    /// Asks it to end and waits; gives whether it ended by itself with status 0.
    pub(crate) fn terminate(&mut self) -> bool {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(kill.is_ok_and(|s| s.success()), "send SIGTERM");
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait().expect("ask for the program's state") {
                return status.success();
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill the program");
        self.child.wait().expect("wait for the killed program");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the built binary and waits until it is ready. `config` is TOML.
pub(crate) fn taffrail(dir: &Path, config: &str) -> Program {
    taffrail_at(dir, free_address(), config)
}

/// The same at a given address, for restarts.
pub(crate) fn taffrail_at(dir: &Path, address: SocketAddr, config: &str) -> Program {
    taffrail_started(dir, address, config, Start::Ready)
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// `/-/ready` says so.
    Ready,
    /// The port is open; what it speaks is the test's affair.
    Listening,
}

/// The same, waiting for as much as is asked.
pub(crate) fn taffrail_started(
    dir: &Path,
    address: SocketAddr,
    config: &str,
    start: Start,
) -> Program {
    fs::create_dir_all(dir).expect("create a test directory");
    let file = dir.join("taffrail.toml");
    fs::write(&file, config).expect("write the configuration");
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let arguments = [
        "serve".into(),
        "--listen".into(),
        address.to_string(),
        "--data-dir".into(),
        text(&dir.join("data")),
        "--config".into(),
        text(&file),
    ];
    let mut program = Program::start(&binary(), dir, address, &arguments);
    match start {
        Start::Ready => program.wait_ready("/-/ready"),
        Start::Listening => program.wait(|| TcpStream::connect(address).is_ok()),
    }
    program
}

/// The binary under test: the one just built, or the one that `TAFFRAIL_BINARY` names, such as an
/// optimised build.
pub(crate) fn binary() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_taffrail"));
    std::env::var_os("TAFFRAIL_BINARY").map_or_else(built, PathBuf::from)
}

/// Runs the binary under test to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let ran = Command::new(binary()).args(arguments).stdin(Stdio::null()).output();
    ran.expect("run the built binary")
}

/// The path of an installed program. `None`, said loudly, where it is missing, unless
/// `TAFFRAIL_REQUIRE_PROGRAMS` forbids that.
#[expect(clippy::print_stdout, reason = "a skipped test must be seen")]
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("TAFFRAIL_REQUIRE_PROGRAMS").is_none(), "{name} is not installed");
        println!("SKIPPED: {name} is not installed, a test beside it did not run");
    }
    found
}

/// The section of a configuration that has objects below a prefix of an S3 service.
pub(crate) fn on_s3(s3: &S3Server, prefix: &str) -> String {
    format!(
        "[storage.objects]\nkind = \"s3\"\nbucket = \"{}\"\nprefix = \"{prefix}\"\nendpoint = \"{}\"\n\
         allow_http = true\ncredentials = \"keys\"\naccess_key_id = \"a\"\nsecret_access_key = \"b\"\n",
        S3Server::BUCKET,
        s3.endpoint()
    )
}

/// A token file: each name is its own token.
pub(crate) fn token_file_of(tokens: &[(&str, &str)]) -> String {
    let entry = |(name, grant): &(&str, &str)| {
        let hash: String =
            Sha256::digest(name.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        format!("[[tokens]]\nname = {name:?}\nsha256 = {hash:?}\ngrants = [{grant}]\n")
    };
    tokens.iter().map(entry).collect()
}
