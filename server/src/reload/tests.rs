//! Tests of reloading: whole or not at all.

use std::path::PathBuf;

use parking_lot::Mutex as Lock;
use tenancy::Directory;
use testkit::ManualClock;

use super::*;

/// A configuration file, two parts that note what they took over, and a reloader of both.
struct Rig {
    file: PathBuf,
    _dir: tempfile::TempDir,
    reloader: Arc<Reloader>,
    clock: Arc<ManualClock>,
    taken: Arc<Lock<Vec<String>>>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("taffrail.toml");
        std::fs::write(&file, "").expect("an empty file");
        let arguments = Serve {
            config: Some(file.clone()),
            data_dir: None,
            listen: None,
            allow_anyone: false,
            take_over: false,
        };
        let config = Config::of(&arguments).expect("the default configuration");
        let clock = Arc::new(ManualClock::new(1_000));
        let who = Arc::new(
            Authenticator::new(
                &config.tenancy,
                &tenancy::TokenFile::default(),
                Arc::new(Directory::for_test()),
                Arc::clone(&clock) as Arc<dyn Clock>,
            )
            .expect("the default configuration"),
        );
        let of_reloader = Arc::clone(&clock) as Arc<dyn Clock>;
        let reloads = Arc::new(Reloads::started(clock.now_ms(), 0));
        let reloader = Reloader::new(arguments, &config, who, of_reloader, reloads);
        let reloader = reloader.expect("a reloader");
        let (reloader, taken) = (Arc::new(reloader), Arc::<Lock<Vec<String>>>::default());
        let notes = Arc::clone(&taken);
        reloader.add(Part::new(&["tenancy", "ingest.cluster"], move |config: &Config| {
            let (notes, cluster) = (Arc::clone(&notes), config.ingest.cluster.clone());
            Ok(Box::new(move || notes.lock().push(cluster)))
        }));
        reloader.add(Part::new(&[], |config: &Config| {
            anyhow::ensure!(config.ingest.cluster != "bad", "ingest.cluster is \"bad\"");
            Ok(Box::new(|| {}))
        }));
        Self { file, _dir: dir, reloader, clock, taken }
    }

    /// A reload of this text: changed and waiting keys, or why it was refused.
    async fn reload(&self, text: &str) -> Result<(String, String), String> {
        std::fs::write(&self.file, text).expect("write the configuration");
        self.clock.advance(std::time::Duration::from_secs(1));
        let reloaded = self.reloader.reload(Actor::operator("test")).await;
        let reloaded = reloaded.map_err(|e| format!("{e:#}"))?;
        Ok((reloaded.changed.join(" "), reloaded.waiting.join(" ")))
    }
}

fn told(changed: &str, waiting: &str) -> Result<(String, String), String> {
    Ok((changed.to_owned(), waiting.to_owned()))
}

#[tokio::test]
async fn what_changed_and_what_waits_is_told() {
    let rig = Rig::new();
    assert_eq!(rig.reload("").await, told("", ""));
    let text = "shutdown_seconds = 5\n[ingest]\ncluster = \"c\"\n[tenancy.limits.tenants.a]\nlabels_max = 3\n";
    let live = "ingest.cluster tenancy.limits.tenants.a.labels_max";
    assert_eq!(rig.reload(text).await, told(live, "shutdown_seconds"));
    assert_eq!(rig.reload(text).await, told("", "shutdown_seconds"), "it still waits");
    assert_eq!(rig.reload("").await, told(live, ""), "all as at the start");
    assert_eq!(*rig.taken.lock(), ["", "c", "c", ""]);
}

impl Rig {
    /// Whether the last reload was taken over, and when one last was, seconds since the Unix epoch.
    fn state(&self) -> (bool, f64) {
        let reloads = &self.reloader.reloads;
        (reloads.failed_ms().is_none(), reloads.taken_over_ms() as f64 / 1e3)
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_whole() {
    let rig = Rig::new();
    rig.reload("ingest.cluster = \"c\"").await.expect("good");
    let (good, at) = rig.state();
    assert_eq!((good, at), (true, 2.0));
    for (text, parts) in [
        ("ingest.cluster = \"x\"\nlisten = 5", vec!["taffrail.toml is wrong", "line 2", "listen"]),
        ("ingest.clutter = \"x\"", vec!["unknown field `clutter`"]),
        ("shutdown_seconds = 0", vec!["shutdown_seconds must be 1 to 3600, it is 0"]),
        ("listen = \"0.0.0.0:1\"", vec!["consent twice"]),
        ("ingest.cluster = \"bad\"", vec!["ingest.cluster is \"bad\""]),
    ] {
        let refused = rig.reload(text).await.expect_err(text);
        assert!(parts.iter().all(|part| refused.contains(part)), "{text}: {refused}");
        assert_eq!(rig.state(), (false, 2.0), "{text}");
    }
    assert_eq!(*rig.taken.lock(), ["c"], "no part took anything over");
    assert_eq!(rig.reload("").await, told("ingest.cluster", ""), "compared with what is in force");
    assert_eq!(rig.state(), (true, 8.0));
}
