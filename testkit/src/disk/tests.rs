//! The faulty disk against what it promises: it must lose what may be lost, and nothing else.

use std::collections::BTreeSet;

use super::*;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn write(disk: &FaultyDisk, at: &str, content: &[u8], synced: bool) {
    let file = disk.open(path(at), OpenMode::CreateNew).unwrap();
    file.write_all_at(content, 0).unwrap();
    if synced {
        file.sync().unwrap();
    }
}

/// The content of a file; `None` if it is not there.
fn content(disk: &FaultyDisk, at: &str) -> Option<Vec<u8>> {
    let file = disk.open(path(at), OpenMode::Read).ok()?;
    let mut all = vec![0; file.bytes().unwrap() as usize];
    file.read_exact_at(&mut all, 0).unwrap();
    Some(all)
}

/// Everything that power failures with 200 seeds make of what `prepare` did, as `shown`.
fn outcomes<T: Ord>(
    prepare: impl Fn(&FaultyDisk),
    shown: impl Fn(&FaultyDisk) -> T,
) -> BTreeSet<T> {
    let disk = FaultyDisk::new();
    disk.create_dir_all(path("d")).unwrap();
    prepare(&disk);
    (0..200).map(|seed| shown(&disk.after_crash(seed))).collect()
}

#[test]
fn what_is_synced_survives_and_the_rest_may_not() {
    let file = |disk: &FaultyDisk| content(disk, "d/f");
    let synced = |disk: &FaultyDisk| {
        write(disk, "d/f", b"abc", true);
        disk.sync_dir(path("d")).unwrap();
    };
    assert_eq!(outcomes(synced, file), [Some(b"abc".to_vec())].into());
    let name_not_synced = |disk: &FaultyDisk| write(disk, "d/f", b"abc", true);
    assert_eq!(outcomes(name_not_synced, file), [None, Some(b"abc".to_vec())].into());
    let content_not_synced = |disk: &FaultyDisk| {
        write(disk, "d/f", b"abc", false);
        disk.sync_dir(path("d")).unwrap();
    };
    let expected = [Some(b"".to_vec()), Some(b"\0\0\0".to_vec()), Some(b"abc".to_vec())];
    assert_eq!(outcomes(content_not_synced, file), expected.into());
    let lying = |disk: &FaultyDisk| {
        disk.ignore_syncs(true);
        synced(disk);
    };
    assert!(outcomes(lying, file).len() > 2, "the negative control must lose something");
}

#[test]
fn later_writes_do_not_harm_what_was_synced() {
    let prepare = |disk: &FaultyDisk| {
        write(disk, "d/f", &[1; 2048], true);
        disk.sync_dir(path("d")).unwrap();
        let file = disk.open(path("d/f"), OpenMode::Write).unwrap();
        file.write_all_at(&[2; 1024], 512).unwrap();
        file.allocate(4096).unwrap();
    };
    let sectors = |disk: &FaultyDisk| {
        let all = content(disk, "d/f").unwrap();
        all.chunks(512)
            .map(|s| if s.iter().all(|b| *b == s[0]) { s[0] } else { 9 })
            .collect::<Vec<u8>>()
    };
    let found = outcomes(prepare, sectors);
    assert!(found.iter().all(|s| s[0] == 1 && s[3] == 1), "untouched sectors stay: {found:?}");
    assert!(found.iter().all(|s| !s.contains(&9)), "a sector is written whole or not at all");
    let middles: BTreeSet<_> = found.iter().map(|s| (s[1], s[2])).collect();
    assert_eq!(
        middles,
        [(1, 1), (1, 2), (2, 1), (2, 2)].into(),
        "torn out of order, kept, dropped"
    );
    assert_eq!(found.iter().map(Vec::len).collect::<BTreeSet<_>>(), [4, 8].into());
}

#[test]
fn a_rename_happens_whole_or_not_at_all() {
    let prepare = |disk: &FaultyDisk| {
        write(disk, "d/old", b"old", true);
        write(disk, "d/new", b"new", true);
        disk.sync_dir(path("d")).unwrap();
        disk.rename(path("d/new"), path("d/old")).unwrap();
    };
    let shown = |disk: &FaultyDisk| (content(disk, "d/old"), content(disk, "d/new"));
    let before = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    let after = (Some(b"new".to_vec()), None);
    assert_eq!(outcomes(prepare, shown), [before, after.clone()].into());
    let synced = |disk: &FaultyDisk| {
        prepare(disk);
        disk.sync_dir(path("d")).unwrap();
    };
    assert_eq!(outcomes(synced, shown), [after].into());
}

#[test]
fn links_and_removals_need_a_sync_of_their_directory() {
    let prepare = |disk: &FaultyDisk| {
        write(disk, "d/a", b"x", true);
        disk.sync_dir(path("d")).unwrap();
        disk.link(path("d/a"), path("d/b")).unwrap();
        assert_eq!(
            disk.link(path("d/a"), path("d/b")).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        disk.remove(path("d/a")).unwrap();
    };
    let shown =
        |disk: &FaultyDisk| (content(disk, "d/a").is_some(), content(disk, "d/b").is_some());
    let all = [(false, false), (false, true), (true, false), (true, true)];
    assert_eq!(outcomes(prepare, shown), all.into());
}

#[test]
fn directories_are_durable_once_made_unless_syncs_lie() {
    let shown = |disk: &FaultyDisk| disk.list(path("d/e/f")).is_ok();
    let make = |disk: &FaultyDisk| disk.create_dir_all(path("d/e/f")).unwrap();
    assert_eq!(outcomes(make, shown), [true].into());
    let lying = |disk: &FaultyDisk| {
        disk.ignore_syncs(true);
        make(disk);
    };
    assert_eq!(outcomes(lying, shown), [false, true].into());
}

#[test]
fn a_failed_sync_is_not_repaired_by_the_next() {
    let prepare = |n: u8| {
        move |disk: &FaultyDisk| {
            let file = disk.open(path("d/f"), OpenMode::CreateNew).unwrap();
            disk.sync_dir(path("d")).unwrap();
            // What is lost follows from the operation's number.
            (0..n).for_each(|_| disk.sync_dir(path("d")).unwrap());
            file.write_all_at(&[1; 2048], 0).unwrap();
            disk.fail_at(disk.operations() + 1, Fault::Eio);
            file.sync().unwrap_err();
            file.sync().unwrap();
            assert_eq!(content(disk, "d/f"), Some(vec![1; 2048]), "readers still see it");
        }
    };
    let lost = (1..20).filter(|n| {
        let found = outcomes(prepare(*n), |disk| content(disk, "d/f"));
        assert_eq!(found.len(), 1, "settled by the failed sync");
        found != [Some(vec![1; 2048])].into()
    });
    assert!(lost.count() > 3);
}

/// A workload that touches every kind of operation; errors end it.
fn workload(disk: &FaultyDisk) -> io::Result<()> {
    disk.create_dir_all(path("w/x"))?;
    let file = disk.open(path("w/tmp"), OpenMode::CreateNew)?;
    file.allocate(4096)?;
    file.write_all_at(&[7; 1000], 0)?;
    file.truncate(1000)?;
    file.sync()?;
    disk.link(path("w/tmp"), path("w/linked"))?;
    disk.rename(path("w/tmp"), path("w/f"))?;
    disk.remove(path("w/linked"))?;
    disk.sync_dir(path("w"))?;
    drop(disk.open(path("w/f"), OpenMode::Read)?);
    Ok(())
}

#[test]
fn every_operation_can_fail_once_or_for_good() {
    let clean = FaultyDisk::new();
    workload(&clean).unwrap();
    assert_eq!(clean.operations(), 11);
    for n in 1..=clean.operations() {
        for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
            let disk = FaultyDisk::new();
            disk.fail_at(n, fault);
            let error = workload(&disk).expect_err(&clean.describe(n));
            assert_eq!(error.kind() == io::ErrorKind::StorageFull, fault == Fault::Enospc);
            assert_eq!(disk.operations(), n, "the workload stopped there");
            assert!(disk.list(path("")).is_ok(), "one-shot");
        }
        let disk = FaultyDisk::new();
        disk.fail_from(n, Fault::Eio);
        workload(&disk).unwrap_err();
        disk.create_dir_all(path("again")).unwrap_err();
        disk.heal();
        disk.create_dir_all(path("again")).unwrap();
    }
}

#[test]
fn the_power_can_fail_at_every_operation() {
    let clean = FaultyDisk::new();
    workload(&clean).unwrap();
    for n in 1..=clean.operations() {
        for seed in 0..50 {
            let disk = FaultyDisk::new();
            disk.crash_at(n, seed);
            workload(&disk).expect_err(&clean.describe(n));
            assert!(
                disk.has_crashed() && disk.list(path("")).is_err() && disk.lock(path("l")).is_err()
            );
            let found = disk.after_crash(seed);
            // The sync (6) came before the names, so a name never shows less than all bytes...
            if let Some(bytes) = content(&found, "w/f") {
                assert_eq!(bytes, vec![7; 1000], "{}", clean.describe(n));
            }
            // ...and after the directory's sync (10) the name is there.
            assert!(n <= 10 || content(&found, "w/f").is_some());
        }
    }
}

#[test]
fn a_short_write_leaves_half() {
    let disk = FaultyDisk::new();
    let file = disk.open(path("f"), OpenMode::CreateNew).unwrap();
    disk.fail_at(2, Fault::ShortWrite);
    file.write_all_at(b"abcdef", 0).unwrap_err();
    assert_eq!(content(&disk, "f"), Some(b"abc".to_vec()));
}

#[test]
fn a_full_disk_takes_what_fits_and_recovers() {
    let disk = FaultyDisk::new();
    write(&disk, "a", &[1; 100], true);
    disk.set_free_bytes(10);
    let file = disk.open(path("b"), OpenMode::CreateNew).unwrap();
    let full =
        |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    full(file.write_all_at(&[2; 15], 0));
    assert_eq!((content(&disk, "b").map(|b| b.len()), disk.free_bytes().unwrap()), (Some(10), 0));
    file.write_all_at(&[3; 10], 0).unwrap();
    full(file.allocate(11));
    let open = disk.open(path("a"), OpenMode::Read).unwrap();
    disk.remove(path("a")).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 0, "an open file keeps its space");
    drop(open);
    assert_eq!(disk.free_bytes().unwrap(), 100);
    file.truncate(4).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 106);
    assert_eq!(disk.after_crash(0).free_bytes().unwrap() + disk.after_crash(0).used(), 110);
}

impl FaultyDisk {
    fn used(&self) -> u64 {
        self.files().iter().filter_map(|f| content(self, f.to_str()?)).map(|c| c.len() as u64).sum()
    }
}

#[test]
fn locks_hold_until_dropped_and_do_not_outlive_the_process() {
    let disk = FaultyDisk::new();
    let lock = disk.lock(path("lock")).unwrap();
    assert_eq!(disk.clone().lock(path("lock")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(disk.after_kill().lock(path("lock")).is_ok());
    assert!(disk.after_crash(1).lock(path("lock")).is_ok());
    drop(lock);
    assert!(disk.lock(path("lock")).is_ok());
}

#[test]
fn a_kill_loses_nothing_that_was_written() {
    let disk = FaultyDisk::new();
    write(&disk, "f", b"abc", false);
    let file = disk.open(path("f"), OpenMode::Read).unwrap();
    disk.rename(path("f"), path("g")).unwrap();
    let killed = disk.after_kill();
    assert_eq!(content(&killed, "g"), Some(b"abc".to_vec()));
    assert!((0..50).any(|seed| killed.after_crash(seed).files().is_empty()), "still not durable");
    assert_eq!(file.bytes().unwrap(), 3, "the first process goes on");
}

#[test]
fn paths_stay_below_the_root_and_modes_are_kept() {
    let disk = FaultyDisk::new();
    for wrong in ["/etc/passwd", "../up", "a/../../b", ""] {
        assert!(disk.open(path(wrong), OpenMode::CreateNew).is_err(), "{wrong}");
    }
    assert_eq!(
        disk.open(path("no/f"), OpenMode::CreateNew).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    write(&disk, "./f", b"abc", true);
    let kind = |mode| disk.open(path("f"), mode).unwrap_err().kind();
    assert_eq!(kind(OpenMode::CreateNew), io::ErrorKind::AlreadyExists);
    let read_only = disk.open(path("f"), OpenMode::Read).unwrap();
    assert!(read_only.write_all_at(b"x", 0).is_err() && read_only.truncate(0).is_err());
    disk.fail_read_at(disk.reads() + 1);
    assert!(read_only.read_at(&mut [0; 1], 0).is_err());
    let mut end = [9; 4];
    assert_eq!(read_only.read_at(&mut end, 1).unwrap(), 2);
    assert_eq!(
        read_only.read_exact_at(&mut end, 1).unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
    disk.tamper("f", |bytes| bytes[1] ^= 1).unwrap();
    assert_eq!(content(&disk, "f"), Some(b"acc".to_vec()));
    disk.sync_dir(path("")).unwrap();
    assert_eq!(disk.after_crash(3).files(), disk.files());
}
