//! Power cuts and failing calls at every operation of the store: an object is there whole or not
//! at all, and what was acknowledged stays.

use std::collections::BTreeMap;

use testkit::{Fault, FaultyDisk};

use super::*;

/// What may be found under a name: any of these (`None`: nothing).
type Allowed = BTreeMap<&'static str, Vec<Option<&'static str>>>;

#[derive(Debug, Clone, Copy)]
enum Step {
    Put(&'static str, &'static str),
    Create(&'static str, &'static str),
    Parts(&'static str, &'static str),
    Copy(&'static str, &'static str, &'static str),
    Delete(&'static str),
}

const STEPS: [Step; 9] = [
    Step::Put("a/x", "first"),
    Step::Create("a/y", "created"),
    Step::Create("a/y", "created"),
    Step::Put("a/x", "second, which is longer"),
    Step::Parts("b/c/z", "three parts, one after another"),
    Step::Copy("a/y", "b/y", "created"),
    Step::Delete("a/y"),
    Step::Put("a/x", ""),
    Step::Copy("b/y", "a/x", "created"),
];

async fn take(objects: &LocalObjects, step: Step) -> Result<()> {
    match step {
        Step::Put(path, text) => objects.put(&Path::from(path), text.into()).await.map(drop),
        Step::Create(path, text) => {
            objects.put_opts(&Path::from(path), text.into(), create()).await.map(drop)
        }
        Step::Parts(path, text) => {
            let mut upload = objects.put_multipart(&Path::from(path)).await?;
            for part in text.as_bytes().chunks(11) {
                upload.put_part(part.to_vec().into()).await?;
            }
            upload.complete().await.map(drop)
        }
        Step::Copy(from, to, _) => objects.copy(&Path::from(from), &Path::from(to)).await,
        Step::Delete(path) => objects.delete(&Path::from(path)).await,
    }
}

/// Takes all steps and says what may be found afterwards.
fn run(disk: &FaultyDisk) -> Allowed {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut allowed = Allowed::new();
    let Ok(objects) = LocalObjects::open(Arc::new(disk.clone()), DiskPath::new("objects")) else {
        return allowed;
    };
    for step in STEPS {
        let (path, after) = match step {
            Step::Put(path, text) | Step::Create(path, text) | Step::Parts(path, text) => {
                (path, Some(text))
            }
            Step::Copy(_, path, text) => (path, Some(text)),
            Step::Delete(path) => (path, None),
        };
        let entry = allowed.entry(path).or_insert_with(|| vec![None]);
        match runtime.block_on(take(&objects, step)) {
            Ok(()) => *entry = vec![after],
            Err(Error::AlreadyExists { .. }) => {}
            Err(_) => entry.push(after),
        }
    }
    allowed
}

/// Compares what a restart finds with what may be found.
fn verdict(disk: &FaultyDisk, allowed: &Allowed) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let objects = LocalObjects::open(Arc::new(disk.clone()), DiskPath::new("objects"))
        .map_err(|e| e.to_string())?;
    for (path, texts) in allowed {
        let read = async { objects.get(&Path::from(*path)).await?.bytes().await };
        let found = match runtime.block_on(read) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error.to_string()),
        };
        if !texts.iter().any(|text| text.map(str::to_owned) == found) {
            return Err(format!("{path} is {found:?}, not one of {texts:?}"));
        }
    }
    let listed: Vec<_> =
        runtime.block_on(objects.list(None).try_collect()).map_err(|e: Error| e.to_string())?;
    match listed.iter().find(|object| !allowed.contains_key(object.location.as_ref())) {
        Some(stranger) => Err(format!("{} is listed", stranger.location)),
        None => Ok(()),
    }
}

fn crash_everywhere(syncs_ignored: bool) -> Vec<String> {
    let healthy = FaultyDisk::new();
    run(&healthy);
    let mut failures = Vec::new();
    for operation in 1..=healthy.operations() {
        for seed in 0..6 {
            let disk = FaultyDisk::new();
            disk.ignore_syncs(syncs_ignored);
            disk.crash_at(operation, seed);
            let allowed = run(&disk);
            let result = verdict(&disk.after_crash(seed), &allowed);
            failures.extend(
                result
                    .err()
                    .map(|what| format!("{}, seed {seed}: {what}", healthy.describe(operation))),
            );
        }
    }
    failures
}

#[test]
fn a_power_cut_anywhere_leaves_whole_objects() {
    assert_eq!(crash_everywhere(false), [""; 0]);
    assert!(!crash_everywhere(true).is_empty(), "a disk that lies must be noticed");
}

#[test]
fn a_call_that_fails_anywhere_leaves_whole_objects() {
    let healthy = FaultyDisk::new();
    let allowed = run(&healthy);
    assert_eq!(allowed["a/x"], [Some("created")]);
    assert_eq!(allowed["b/c/z"], [Some("three parts, one after another")]);
    for operation in 1..=healthy.operations() {
        for (seed, fault) in [(0, Fault::Eio), (1, Fault::Enospc), (2, Fault::ShortWrite)] {
            let disk = FaultyDisk::new();
            disk.fail_at(operation, fault);
            let allowed = run(&disk);
            for (left, life) in
                [(disk.after_kill(), "killed"), (disk.after_crash(seed), "power cut")]
            {
                verdict(&left, &allowed)
                    .unwrap_or_else(|what| panic!("{life}, {}: {what}", disk.describe(operation)));
            }
        }
    }
}
