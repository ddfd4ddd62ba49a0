//! The directory over a disk that fails: whatever happens, a name that was acknowledged keeps its
//! number, and no number is given away twice.

use std::collections::BTreeMap;
use std::path::Path;

use model::OpenMode;
use proptest::prelude::*;
use testkit::{Fault, FaultyDisk, ManualClock, SeededRandom};

use super::*;

fn name(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn suspended() -> TenantStatus {
    TenantStatus::Suspended(Suspension { reason: "unpaid".to_owned(), reads: true })
}

fn open(disk: &FaultyDisk) -> Result<Directory, DirectoryError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Directory::open(&disk, Arc::new(ManualClock::new(1_000)))
}

/// Numbers by name, aliases included.
fn names(directory: &Directory) -> BTreeMap<String, u32> {
    let all = directory.all();
    let pairs = all
        .iter()
        .flat_map(|t| t.aliases.iter().chain([&t.name]).map(|n| (n.as_str().to_owned(), t.id.0)));
    pairs.collect()
}

#[test]
fn names_are_aliases_of_numbers() {
    let disk = FaultyDisk::new();
    let directory = open(&disk).unwrap();
    let a = directory.find_or_create(&name("a"), 3).unwrap();
    let b = directory.find_or_create(&name("b"), 3).unwrap();
    assert_eq!((a.id, b.id, a.created_ms), (TenantId(1), TenantId(2), 1_000));
    assert_eq!(directory.find_or_create(&name("a"), 0).unwrap(), a, "known names need no room");
    directory.rename(a.id, &name("z")).unwrap();
    directory.set_status(b.id, suspended()).unwrap();
    let check = |directory: &Directory| {
        let z = directory.find(&name("a")).unwrap();
        assert_eq!((z.id, z.name.as_str(), z.aliases.as_slice()), (a.id, "z", &[name("a")][..]));
        assert_eq!(directory.find(&name("z")), Some(z));
        assert_eq!(directory.get(b.id).unwrap().status, suspended());
        assert_eq!(directory.len(), 2);
    };
    check(&directory);
    check(&open(&disk).unwrap());
    let taken = directory.rename(b.id, &name("a")).unwrap_err();
    assert_eq!(taken.to_string(), "the name a is or was that of another tenant");
    directory.rename(a.id, &name("a")).unwrap();
    assert_eq!(directory.find(&name("z")).unwrap().aliases, [name("z")], "renamed back");
    directory.set_status(b.id, TenantStatus::Active).unwrap();
    assert_eq!(open(&disk).unwrap().all(), directory.all());
    directory.find_or_create(&name("c"), 3).unwrap();
    let full = directory.find_or_create(&name("d"), 3).unwrap_err().to_string();
    assert!(
        full.starts_with("there are 3 tenants already, the most that may come into being"),
        "{full}"
    );
    let unknown = directory.rename(TenantId(9), &name("x")).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no tenant number 9");
}

#[test]
fn changes_that_change_nothing_are_not_written() {
    let disk = FaultyDisk::new();
    let directory = open(&disk).unwrap();
    let a = directory.find_or_create(&name("a"), 9).unwrap();
    let before = disk.operations();
    directory.find_or_create(&name("a"), 9).unwrap();
    directory.rename(a.id, &name("a")).unwrap();
    directory.set_status(a.id, TenantStatus::Active).unwrap();
    assert_eq!(disk.operations(), before);
}

/// What somebody was told.
#[derive(Default)]
struct Told {
    numbers: BTreeMap<String, u32>,
    suspended: Option<bool>,
}

fn workload(disk: &FaultyDisk, told: &mut Told) -> Result<(), DirectoryError> {
    for round in 0..3 {
        let directory = open(disk)?;
        for i in 0..3 {
            let new = format!("tenant-{round}-{}", "x".repeat(i * 40));
            let id = directory.find_or_create(&name(&new), 100)?.id;
            told.numbers.insert(new, id.0);
        }
        directory.rename(TenantId(1), &name(&format!("first-{round}")))?;
        told.numbers.insert(format!("first-{round}"), 1);
        told.suspended = None;
        let suspend = round % 2 == 0;
        let status = if suspend { suspended() } else { TenantStatus::Active };
        directory.set_status(TenantId(2), status)?;
        told.suspended = Some(suspend);
    }
    Ok(())
}

/// Opens what is left and compares it with what was told: `Some` complaint if it broke a promise.
fn broken_promise(left: &FaultyDisk, told: &Told) -> Option<String> {
    let directory = match open(left) {
        Ok(directory) => directory,
        Err(error) => return Some(format!("does not open: {error}")),
    };
    let found = names(&directory);
    if let Some((lost, id)) = told.numbers.iter().find(|(name, id)| found.get(*name) != Some(id)) {
        return Some(format!("{lost} was {id} and is {:?}", found.get(lost)));
    }
    if let Some(suspend) = told.suspended {
        let is = directory.get(TenantId(2)).map(|t| t.status == suspended());
        if is != Some(suspend) {
            return Some(format!("suspended {suspend} became {is:?}"));
        }
    }
    let fresh = directory.find_or_create(&name("fresh"), 1_000).map(|t| t.id.0);
    match fresh {
        Err(error) => Some(format!("takes no new tenant: {error}")),
        Ok(id) if told.numbers.values().any(|known| *known == id) => {
            Some(format!("number {id} was given twice"))
        }
        Ok(_) => None,
    }
}

#[test]
fn power_may_fail_at_every_operation() {
    let clean = FaultyDisk::new();
    workload(&clean, &mut Told::default()).unwrap();
    let broken = |lying: bool| {
        let mut complaints = Vec::new();
        for n in 1..=clean.operations() {
            for seed in 0..12 {
                let (disk, mut told) = (FaultyDisk::new(), Told::default());
                disk.ignore_syncs(lying);
                disk.crash_at(n, seed);
                assert!(workload(&disk, &mut told).is_err(), "{}", clean.describe(n));
                let complaint = broken_promise(&disk.after_crash(seed), &told);
                complaints
                    .extend(complaint.map(|c| format!("{} seed {seed}: {c}", clean.describe(n))));
            }
        }
        complaints
    };
    assert_eq!(broken(false), Vec::<String>::new());
    assert!(broken(true).len() > 50, "a disk that lies must be caught");
}

#[test]
fn every_operation_may_fail() {
    let clean = FaultyDisk::new();
    workload(&clean, &mut Told::default()).unwrap();
    for n in 1..=clean.operations() {
        for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
            for lasting in [false, true] {
                let (disk, mut told) = (FaultyDisk::new(), Told::default());
                if lasting {
                    disk.fail_from(n, fault)
                } else {
                    disk.fail_at(n, fault)
                }
                let _may_fail = workload(&disk, &mut told);
                disk.heal();
                for seed in 0..4 {
                    assert_eq!(
                        broken_promise(&disk.after_crash(seed), &told),
                        None,
                        "{} {fault:?}",
                        clean.describe(n)
                    );
                }
                assert_eq!(
                    broken_promise(&disk.after_kill(), &told),
                    None,
                    "{} {fault:?}",
                    clean.describe(n)
                );
            }
        }
    }
}

#[test]
fn after_a_failed_write_it_goes_on_and_after_a_failed_sync_it_does_not() {
    let disk = FaultyDisk::new();
    let directory = open(&disk).unwrap();
    let create = |text: &str| {
        directory.find_or_create(&name(text), 9).map(|t| t.id.0).map_err(|e| e.to_string())
    };
    assert_eq!(create("a"), Ok(1));
    disk.fail_at(disk.operations() + 1, Fault::ShortWrite);
    assert_eq!(create("a-rather-long-name"), Err("write tenants/directory.log".to_owned()));
    assert_eq!(create("b"), Ok(2));
    assert_eq!(
        names(&open(&disk.after_kill()).unwrap()),
        [("a".into(), 1), ("b".into(), 2)].into()
    );
    disk.fail_at(disk.operations() + 2, Fault::Eio);
    assert_eq!(create("c"), Err("sync tenants/directory.log".to_owned()));
    let read_only = create("d").unwrap_err();
    assert!(
        read_only.starts_with("the directory of tenants takes no changes until restart"),
        "{read_only}"
    );
    assert_eq!(create("b"), Ok(2), "what is known stays known");
}

#[test]
fn rot_is_refused_or_harmless() {
    let disk = FaultyDisk::new();
    let directory = open(&disk).unwrap();
    let texts: Vec<String> = (0..12).map(|i| format!("t{i}{}", "y".repeat(i * 7))).collect();
    texts.iter().for_each(|t| drop(directory.find_or_create(&name(t), 99).unwrap()));
    directory.rename(TenantId(3), &name("renamed")).unwrap();
    let (before, known) = (names(&directory), directory.len() as u32);
    let bytes = disk.open(Path::new(file::PATH), OpenMode::Read).unwrap().bytes().unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for bit in 0..bytes * 8 {
        let rotten = disk.after_kill();
        rotten.tamper(file::PATH, |content| content[(bit / 8) as usize] ^= 1 << (bit % 8)).unwrap();
        let Ok(directory) = open(&rotten) else {
            refused += 1;
            continue;
        };
        harmless += 1;
        assert!(
            names(&directory).iter().all(|(name, id)| before.get(name) == Some(id)),
            "bit {bit}"
        );
        let fresh = directory.find_or_create(&name("fresh"), 99).unwrap();
        assert!(fresh.id.0 > known, "bit {bit}: number {} was in use", fresh.id);
        // Once cut it stays as it is: nothing is lost with the next start.
        assert_eq!(open(&rotten).unwrap().all(), directory.all());
    }
    assert!(refused > 1_000 && harmless > 100, "{refused} refused, {harmless} harmless");
}

#[test]
fn other_formats_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let disk = FaultyDisk::new();
        open(&disk).unwrap();
        disk.tamper(file::PATH, |content| {
            change(content);
            if content.len() >= 32 {
                let crc = crc32c::crc32c(&content[..28]);
                content[28..32].copy_from_slice(&crc.to_le_bytes());
            }
        })
        .unwrap();
        open(&disk).unwrap_err().to_string()
    };
    let needs = "tenants/directory.log needs";
    assert_eq!(
        refused(&|c| c[8] = 2),
        format!("{needs} format version 2, which this version does not know")
    );
    assert_eq!(
        refused(&|c| c[17] = 2),
        format!("{needs} feature bit 9, which this version does not know")
    );
    assert_eq!(
        refused(&|c| c[0] = b'X'),
        "tenants/directory.log is damaged: it does not start with TAFFRTEN"
    );
    assert_eq!(
        refused(&|c| c.truncate(9)),
        "tenants/directory.log is damaged: it is shorter than its header"
    );
    let future = |content: &mut Vec<u8>| {
        let mut record = Vec::new();
        Record::new(Kind::NextId, TenantId(1), 0).encode(&mut record);
        record[8] = 77;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..]);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        content.extend(record);
    };
    assert_eq!(
        refused(&future),
        format!("{needs} record kind 77, which this version does not know")
    );
}

#[test]
fn ten_thousand_tenants_are_cheap_and_long_histories_are_compacted() {
    let disk = FaultyDisk::new();
    let directory = open(&disk).unwrap();
    for i in 0..10_000 {
        directory.find_or_create(&name(&format!("tenant-{i:05}")), 10_000).unwrap();
    }
    for i in 0..40_000_u32 {
        let status = if i % 2 == 0 { suspended() } else { TenantStatus::Active };
        directory.set_status(TenantId(i / 2 % 10_000 + 1), status).unwrap();
    }
    assert_eq!(disk.files(), [Path::new(file::PATH)], "one file for all");
    let bytes = |disk: &FaultyDisk| {
        disk.open(Path::new(file::PATH), OpenMode::Read).unwrap().bytes().unwrap()
    };
    let before = bytes(&disk);
    let all = directory.all();
    // The disk fails while the file is written anew: the old one stays in use.
    let failing = disk.after_kill();
    failing.fail_at(4, Fault::Enospc);
    assert_eq!(open(&failing).unwrap().all(), all);
    assert_eq!(bytes(&failing), before);
    let reopened = open(&disk).unwrap();
    assert!(bytes(&disk) * 2 < before, "{before} became {}", bytes(&disk));
    assert_eq!(reopened.all(), all);
    assert_eq!(reopened.find_or_create(&name("next"), 99_999).unwrap().id, TenantId(10_001));
    assert_eq!(open(&disk.after_crash(3)).unwrap().len(), 10_001);
}

#[test]
fn a_compaction_loses_nothing_when_the_power_fails() {
    let disk = FaultyDisk::new();
    let directory = open(&disk).unwrap();
    let a = directory.find_or_create(&name("a"), 9).unwrap();
    for i in 0..2_000_u32 {
        let status = if i % 2 == 0 { suspended() } else { TenantStatus::Active };
        directory.set_status(a.id, status).unwrap();
    }
    directory.rename(a.id, &name("b")).unwrap();
    let all = directory.all();
    for n in 1..=8 {
        for seed in 0..20 {
            let again = disk.after_crash(0);
            again.crash_at(n, seed);
            let opened = open(&again).and_then(|d| d.find_or_create(&name("c"), 9));
            let left = open(&again.after_crash(seed)).unwrap();
            assert_eq!(left.all()[..1], all[..], "operation {n} seed {seed}");
            assert!(opened.is_err() || left.find(&name("c")).is_some());
        }
    }
}

#[test]
fn many_threads_agree_on_numbers() {
    let directory = Arc::new(open(&FaultyDisk::new()).unwrap());
    let create = |seed: u64| {
        let directory = Arc::clone(&directory);
        std::thread::spawn(move || {
            let random = SeededRandom::new(seed);
            let one = |_| {
                let text = format!("t{}", random.below(50));
                let id = directory.find_or_create(&name(&text), 99).unwrap().id.0;
                (text, id)
            };
            (0..300).map(one).collect::<Vec<_>>()
        })
    };
    let threads: Vec<_> = (0..4).map(create).collect();
    let given: Vec<(String, u32)> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    let known = names(&directory);
    assert!(given.iter().all(|(name, id)| known[name] == *id));
    assert_eq!(known.len(), directory.len());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), good in any::<bool>()) {
        if good && bytes.len() > 32 {
            let disk = FaultyDisk::new();
            open(&disk).unwrap();
            let mut header = vec![0; 32];
            disk.open(Path::new(file::PATH), OpenMode::Read).unwrap().read_exact_at(&mut header, 0).unwrap();
            bytes[..32].copy_from_slice(&header);
        }
        if let Ok(content) = file::parse(&bytes) {
            prop_assert!(content.end + content.torn_bytes == bytes.len() as u64);
        }
    }
}
