//! Segments and manifests that cannot be read are given up: the partition answers and takes writes
//! again, everything else is still there, and what can be read is not given up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::model::Disk;
use serde_json::Value;
use storage::{Carry, Config, Extent, GivenUp, Sheet, give_up, inspect, verify};

use super::{NOW_NS, SECOND_NS, everything, line, scope, texts, write};
use crate::facts::text_of;
use crate::store::{Ground, config};

const HOUR_NS: i64 = 3_600 * SECOND_NS;

fn one_partition() -> Config {
    let mut config = Config { log_segment_bytes: 4_096, ..config() };
    config.entries.partitions = 1;
    config
}

/// Two hours merged into a segment of a day, two segments after it, and a line in the log. Each
/// line says where it lies.
async fn lived() -> Ground {
    let ground = Ground::default();
    let storage = ground.open_with(one_partition()).await.expect("a new store");
    for (hours, text) in [(-30, "day"), (-29, "day"), (-3, "one"), (-2, "two")] {
        for tenant in [1, 2] {
            let mut one = line("a", NOW_NS + hours * HOUR_NS, text);
            // More than a segment of the log: it is cut behind what the manifests cover.
            one.fields = vec![("filling".to_owned(), "x".repeat(5_000))];
            write(&storage, tenant, &[one]).await;
        }
        storage.flush_all().await.expect("a sound disk");
        if hours == -29 {
            storage.compact(Extent::Everything).await.expect("a sound disk");
            storage.remove_merged().await;
        }
    }
    write(&storage, 1, &[line("a", NOW_NS - HOUR_NS, "log")]).await;
    ground
}

fn objects(ground: &Ground, dir: &str, end: &str) -> Vec<PathBuf> {
    let inside = |path: &PathBuf| path.starts_with(dir) && path.to_string_lossy().ends_with(end);
    ground.disk.files().into_iter().filter(inside).collect()
}

fn spoil(ground: &Ground, path: &Path) {
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    };
    ground.disk.tamper(path, flip).expect("an existing file");
}

async fn asked(ground: &Ground, name: &str, carry: Carry) -> Result<Vec<GivenUp>, String> {
    let disk = Arc::new(ground.disk.clone());
    let given_up = give_up(disk, one_partition(), &[name.to_owned()], carry).await;
    given_up.map_err(|error| text_of(&error))
}

/// Gives it up, and finds what is left of tenant 1 and that all goes on.
async fn check(ground: &Ground, name: &str, left: &[&str]) -> GivenUp {
    let before = ground.disk.files();
    let preview = asked(ground, name, Carry::Preview).await.expect("it cannot be read");
    assert_eq!(ground.disk.files(), before, "{name}: a preview changes nothing");
    let done = asked(ground, name, Carry::Out).await.expect("it cannot be read");
    assert_eq!(done, preview, "{name}");
    assert!(!objects(ground, "objects/quarantine", "").is_empty(), "{name}: a copy of it");
    let storage = ground.open_with(one_partition()).await.expect("whole again");
    assert_eq!(storage.incomplete(), [], "{name}");
    assert_eq!(texts(&storage, &scope(1), &everything()).await, left, "{name}");
    write(&storage, 1, &[line("a", NOW_NS, "new")]).await;
    storage.flush_all().await.expect("a sound disk");
    storage.compact(Extent::Everything).await.expect("a sound disk");
    drop(storage);
    let verified = verify(Arc::new(ground.disk.after_kill()), None, &mut |_| {}).await;
    let verified = verified.expect("a directory");
    assert!(verified.is_sound(), "{name}: {:#?}", verified.findings);
    let storage = ground.open_with(one_partition()).await.expect("whole again");
    let all = [left, &["new"]].concat();
    assert_eq!(texts(&storage, &scope(1), &everything()).await, all, "{name}");
    done.into_iter().next().expect("one thing")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_goes_with_its_entries_alone() {
    for (number, object, entries, left) in [
        (0, "entries.parquet", 4, vec!["one", "two", "log"]),
        (0, "terms.bin", 4, vec!["one", "two", "log"]),
        (1, "bloom.bin", 2, vec!["day", "day", "two", "log"]),
        (1, "streams.bin", 2, vec!["day", "day", "two", "log"]),
    ] {
        let ground = lived().await;
        let path = objects(&ground, "objects/segments", "streams.bin").remove(number);
        let path = path.with_file_name(object);
        spoil(&ground, &path);
        let given_up = check(&ground, &path.to_string_lossy(), &left).await;
        assert_eq!((given_up.kind, given_up.partition), ("segment", 16_384));
        let [lost] = given_up.segments.as_slice() else { panic!("{given_up:?}") };
        assert_eq!(lost.entries, Some(entries), "{lost:?}");
        let tenants = (object != "streams.bin").then(|| vec![1, 2]);
        assert_eq!(lost.tenants, tenants, "{lost:?}");
    }
    let ground = lived().await;
    let path = objects(&ground, "objects/segments", "terms.bin").remove(0);
    ground.disk.remove(&path).expect("an existing file");
    check(&ground, &path.to_string_lossy(), &["one", "two", "log"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_go_with_the_segments_that_only_they_named() {
    let ground = lived().await;
    let paths = objects(&ground, "objects/manifest/16384", "");
    paths.iter().rev().take(4).for_each(|path| spoil(&ground, path));
    let storage = ground.open_with(one_partition()).await.expect("the others");
    assert!(storage.incomplete()[0].1.contains("manifest/16384"), "{:?}", storage.incomplete());
    drop(storage);
    // The segment of the day goes; what is in the log as well comes back from there.
    let given_up = check(&ground, "manifest/16384", &["one", "two", "log"]).await;
    let has_day = given_up.segments.iter().any(|segment| segment.entries == Some(4));
    assert!(given_up.kind == "manifest" && has_day, "{given_up:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_is_not_given_up() {
    let ground = lived().await;
    let segment = objects(&ground, "objects/segments", "terms.bin").remove(0);
    for (name, reason) in [
        (segment.to_string_lossy().as_ref(), "can be read: there is nothing to give up"),
        ("manifest/16384", "is known: there is nothing to give up"),
        ("segments/16384/000000999999", "no manifest names segments/16384/000000999999"),
    ] {
        let refused = asked(&ground, name, Carry::Out).await.expect_err("sound");
        assert!(refused.contains(reason), "{refused}");
    }
    let storage = ground.open_with(one_partition()).await.expect("untouched");
    let all = ["day", "day", "one", "two", "log"];
    assert_eq!(texts(&storage, &scope(1), &everything()).await, all);
}

/// A fact or a table of a sheet.
fn told(sheet: &Sheet, name: &str) -> Value {
    sheet.to_json().get(name).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_and_their_manifests_tell_what_they_hold() {
    let ground = lived().await;
    let disk: Arc<dyn Disk> = Arc::new(ground.disk.clone());
    let look = |path: &Path| inspect(&disk, path, 10).expect("a sound file");
    let of_segments = objects(&ground, "objects/segments", "streams.bin");
    for (path, entries, tokens, features) in
        [(&of_segments[0], 4, "terms.bin", 3), (&of_segments[1], 2, "bloom.bin", 0)]
    {
        let sheet = look(path);
        assert_eq!(look(path.parent().expect("a directory")), sheet, "by its directory as well");
        assert_eq!(sheet.kind, "segment");
        assert_eq!(told(&sheet, "entries"), entries);
        assert_eq!(told(&sheet, "signal"), "logs");
        assert_eq!(told(&sheet, "required_features"), features);
        let tenants = told(&sheet, "tenants");
        assert_eq!(tenants[1]["tenant"], 2);
        assert_eq!(tenants[1]["entries"], entries / 2);
        assert_eq!(told(&sheet, "streams")[0]["labels"], r#"{app="a"}"#);
        let objects = told(&sheet, "objects");
        let names: Vec<&Value> = (0..3).map(|at| &objects[at]["object"]).collect();
        assert_eq!(names, ["entries.parquet", tokens, "streams.bin"]);
        for at in 0..3 {
            assert_eq!(objects[at]["bytes"], objects[at]["expected_bytes"], "{objects}");
        }
    }
    let manifests = objects(&ground, "objects/manifest/16384", "");
    let last = look(manifests.last().expect("a manifest"));
    let added = told(&last, "added_segments");
    assert_eq!(
        (&added[0]["entries"], &added[0]["signal"]),
        (&2.into(), &"logs".into()),
        "{last:?}"
    );
    spoil(&ground, &of_segments[0]);
    let refused = inspect(&disk, &of_segments[0], 10).expect_err("damaged");
    assert!(text_of(&refused).contains("streams.bin"), "{}", text_of(&refused));
}
